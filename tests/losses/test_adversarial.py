"""Games and penalties on scores and critics whose answers can be worked out on paper."""

import math

import pytest
import torch
from torch import Tensor, nn

from intarsia.losses.adversarial import (
    Game,
    between,
    critic_loss,
    generator_loss,
    gradient_norms,
    gradient_penalty,
    r1_penalty,
    recognised,
)

GAMES: tuple[Game, ...] = ("non_saturating", "least_squares", "hinge", "wasserstein")


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("game", "critic", "generator"),
    [
        ("non_saturating", (softplus(-3) + softplus(0.5)) / 2 + (softplus(-2) + softplus(1)) / 2, None),
        ("least_squares", ((3 - 1) ** 2 + (-0.5 - 1) ** 2 + 2**2 + 1**2) / 4, ((-2 - 1) ** 2 + 0) / 4),
        ("hinge", (0 + 1.5) / 2 + (0 + 2) / 2, 0.5),
        ("wasserstein", (-2 + 1) / 2 - (3 - 0.5) / 2, 0.5),
    ],
)
def test_values_by_hand(game: Game, critic: float, generator: float | None) -> None:
    real, drawn = torch.tensor([3.0, -0.5]), torch.tensor([-2.0, 1.0])
    wanted = (softplus(2) + softplus(-1)) / 2 if generator is None else generator
    assert critic_loss(game, real, drawn).item() == pytest.approx(critic, rel=1e-5)
    assert generator_loss(game, drawn).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("game", GAMES)
def test_both_sides_pull_the_scores_of_drawn_pictures_apart(game: Game) -> None:
    scores = torch.zeros(4, requires_grad=True)
    (down,) = torch.autograd.grad(critic_loss(game, torch.zeros(4), scores + 0.1), scores)
    (up,) = torch.autograd.grad(generator_loss(game, scores + 0.1), scores)
    assert (down > 0).all() and (up < 0).all()


@pytest.mark.parametrize("game", GAMES)
def test_sixteen_bit_scores_are_computed_with_in_thirty_two(game: Game) -> None:
    scores = torch.randn(8).bfloat16()
    assert critic_loss(game, scores, scores).dtype == torch.float32
    assert torch.equal(generator_loss(game, scores), generator_loss(game, scores.float()))


@pytest.mark.parametrize(
    ("game", "real", "drawn"),
    [("non_saturating", 0.75, 0.5), ("hinge", 0.75, 0.5), ("least_squares", 0.5, 0.75), ("wasserstein", 0.75, 0.75)],
)
def test_shares_that_the_critic_recognises(game: Game, real: float, drawn: float) -> None:
    """The means are 0.5 and 0, so a Wasserstein critic's threshold is 0.25."""
    found = recognised(game, torch.tensor([-0.3, 0.3, 0.9, 1.1]), torch.tensor([-2.0, -0.4, 0.2, 2.2]))
    assert [share.item() for share in found] == [real, drawn]


class Linear(nn.Module):
    """A critic whose gradient is the same for all pictures: `weight`, of norm 5."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(3, 4, 4)
        weight[0, 1, 2], weight[2, 3, 3] = 3.0, 4.0
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return (self.weight * images).sum(dim=(1, 2, 3))


def test_a_linear_critic_s_penalties_are_known() -> None:
    critic, real, drawn = Linear(), torch.rand(6, 3, 4, 4), torch.rand(6, 3, 4, 4)
    torch.testing.assert_close(gradient_norms(critic, real), torch.full((6,), 5.0))
    assert gradient_penalty(critic, real, drawn).item() == pytest.approx((5 - 1) ** 2)
    assert gradient_penalty(critic, real, drawn, aim=0.0).item() == pytest.approx(25)
    assert r1_penalty(critic, real).item() == pytest.approx(25 / 2)


def test_penalties_can_be_descended() -> None:
    """d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|, and d |w|^2 / 2 / dw = w."""
    critic, images = Linear(), torch.rand(6, 3, 4, 4)
    (slope,) = torch.autograd.grad(gradient_penalty(critic, images, images), critic.weight)
    torch.testing.assert_close(slope, 2 * (5 - 1) * critic.weight.detach() / 5)
    (slope,) = torch.autograd.grad(r1_penalty(critic, images), critic.weight)
    torch.testing.assert_close(slope, critic.weight.detach())


def quadratic(images: Tensor) -> Tensor:
    """Its gradient is the picture itself: each picture has a norm of its own."""
    return images.square().sum(dim=(1, 2, 3)) / 2


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_penalty_does_not_depend_on_the_batch_size(count: int) -> None:
    """Where real and drawn are the same picture, the place between them is that picture, whatever the share."""
    images = torch.randn(14, 3, 4, 4)
    expected = (images.flatten(1).norm(dim=1) - 1).square().mean()
    parts = [gradient_penalty(quadratic, part, part) for part in images.split(count)]
    torch.testing.assert_close(torch.stack(parts).mean(), expected)
    parts = [r1_penalty(quadratic, part) for part in images.split(count)]
    torch.testing.assert_close(torch.stack(parts).mean(), images.flatten(1).square().sum(1).mean() / 2)


def test_one_picture_more_changes_no_other_s_norm() -> None:
    images = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(gradient_norms(quadratic, images)[:4], gradient_norms(quadratic, images[:4]))


def test_each_pair_has_a_share_of_its_own_and_all_its_pixels_have_the_same() -> None:
    mixed = between(torch.ones(500, 2, 3, 3), torch.zeros(500, 2, 3, 3)).flatten(1)
    assert torch.equal(mixed, mixed[:, :1].expand_as(mixed))
    shares = mixed[:, 0]
    assert len(shares.unique()) > 490 and shares.min() >= 0 and shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.03)


def test_a_critic_without_slope_has_a_finite_penalty_and_gradient() -> None:
    critic = Linear()
    nn.init.zeros_(critic.weight)
    penalty = gradient_penalty(critic, torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4))
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert critic.weight.grad is not None and critic.weight.grad.isfinite().all()


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_norms_are_measured_where_gradients_are_off(off: type[torch.no_grad]) -> None:
    critic = Linear()
    with off():
        norms = gradient_norms(critic, torch.rand(2, 3, 4, 4))
    torch.testing.assert_close(norms, torch.full((2,), 5.0))
    assert not norms.requires_grad
