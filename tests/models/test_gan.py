"""What is special to the GAN: two networks that leave each other alone, bounds on the critic, classes, sizes."""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intarsia.errors import DataError, UsageError
from intarsia.losses.adversarial import critic_loss
from intarsia.models.generative.gan import GAN, GANConfig
from intarsia.records import IGNORE, Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, batches_a_step, prepare, train
from intarsia.training.machine import make_fabric

TINY: dict[str, Any] = {"size": (12, 16), "width": 4, "latent": 6, "channels": 2}
PLAIN = {key.removeprefix("train."): value for key, value in GAN.recommended.items()}


def made(seed: int = 0, **options: Any) -> GAN:
    torch.manual_seed(seed)
    return GAN(GANConfig(**{**TINY, **options}))


def pictures(number: int = 0, count: int = 6, classes: int = 2, size: tuple[int, int] = (12, 16)) -> Batch:
    """Noise about a level of the class: dark are the pictures of class 0, brighter those of the next."""
    random = torch.Generator().manual_seed(number)
    categories = torch.randint(0, classes, (count,), generator=random)
    levels = 0.15 + 0.6 * categories / (classes - 1)
    images = levels[:, None, None, None] + 0.2 * torch.rand(count, 2, *size, generator=random)
    return Batch(images, categories=categories)


def forever(start: int = 0, **options: Any) -> Iterator[Batch]:
    return (pictures(number, **options) for number in itertools.count(start))


def trained(model: GAN, steps: int, state: dict[str, Any] | None = None, **options: Any) -> Training:
    config = TrainConfig(**{**PLAIN, "precision": "32-true", "threads": 1, **options})
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model, config, 5, fabric)
    if state is not None:
        training.load_state(state)
    start = training.progress.step * batches_a_step(model)
    height, width = model.config.size
    train(training, wrapped, fabric, forever(start, size=(height, width)), steps)
    return training


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("body", ["dcgan", "residual"])
@pytest.mark.parametrize("turn", ["critic", "generator"])
def test_a_turn_leaves_the_other_part_as_it_was_with_its_statistics(body: str, turn: str) -> None:
    model = made(body=body).train()
    before = {name: copied(part) for name, part in model.parts().items()}
    optimizer = torch.optim.Adam(model.parts()[turn].parameters())
    model.loss(pictures(), turn)["total"].backward()
    optimizer.step()
    for name, part in model.parts().items():
        assert same(before[name], copied(part)) is (name != turn), name


def test_the_critic_sees_pictures_drawn_as_in_the_generator_s_own_turn() -> None:
    """With the batch's statistics, not with the running ones, which at the start are far from true."""
    model, batch = made().train(), pictures()
    torch.manual_seed(3)
    found = model.loss(batch, "critic")["game"]
    torch.manual_seed(3)
    drawn = model.generator(torch.randn(6, 6), None)
    expected = critic_loss("non_saturating", model.critic(2 * batch.images - 1, None), model.critic(drawn, None))
    torch.testing.assert_close(found, expected)


def test_the_generator_s_turn_follows_the_critic_s_slope_uphill() -> None:
    model, batch = made(game="hinge").train(), pictures()
    optimizer = torch.optim.SGD(model.generator.parameters(), 0.01)
    scores = []
    for _ in range(8):
        torch.manual_seed(1)
        losses = model.loss(batch, "generator")
        scores.append(losses["score"].item())
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert scores == sorted(scores) and scores[-1] > scores[0]


def test_turns_are_counted() -> None:
    model = made(critic_steps=3)
    assert model.turns() == ("critic", "critic", "critic", "generator")
    assert batches_a_step(model) == 3


@pytest.mark.parametrize("option", [{"gradient_penalty": 10.0}, {"r1": 1.0}, {"spectral_norm": True}])
def test_a_bounded_critic_judges_each_picture_by_itself(option: dict[str, Any]) -> None:
    images = torch.rand(5, 2, 12, 16)

    def alone(model: GAN) -> bool:
        with torch.no_grad():
            model.eval()
            return torch.allclose(model.critic(images, None)[:2], model.critic(images[:2], None), atol=1e-5)

    assert alone(made(**option))
    assert not alone(made())  # with batch normalisation it does not


def test_a_weight_of_the_penalties_is_what_they_are_added_with() -> None:
    model = made(gradient_penalty=3.0, r1=0.5).train()
    losses = model.loss(pictures(), "critic")
    expected = losses["game"] + 3 * losses["penalty"] + 0.5 * losses["r1"]
    torch.testing.assert_close(losses["total"], expected)
    assert losses["penalty"] > 0 and losses["r1"] > 0


@pytest.mark.parametrize("body", ["dcgan", "residual"])
def test_spectral_norm_holds_in_every_layer_after_training_and_in_its_average(body: str) -> None:
    model = made(body=body, game="hinge", spectral_norm=True, condition="class", classes=2)
    training = trained(model, 6, learning_rate=2e-3)
    layers = [m for m in model.critic.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) == (4 if body == "dcgan" else 11)

    def norms() -> list[float]:
        return [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]

    assert norms() == pytest.approx([1.0] * len(layers), abs=0.03)
    with training.average.applied(model):
        assert norms() == pytest.approx([1.0] * len(layers), abs=0.03)


@pytest.mark.parametrize(
    "options",
    [
        {"augment": ("colour", "translation", "cutout"), "critic_steps": 2},
        {"game": "wasserstein", "gradient_penalty": 10.0, "critic_steps": 2},
        {"body": "residual", "game": "hinge", "spectral_norm": True, "condition": "class", "classes": 2},
    ],
)
def test_going_on_from_a_state_ends_where_no_stop_would_have(options: dict[str, Any]) -> None:
    """Bit for bit, both networks, both optimizers, the average; the steps' rates do not depend on the budget."""
    straight = trained(made(**options), 5)
    file = io.BytesIO()
    torch.save(trained(made(**options), 2).state(), file)
    file.seek(0)
    torch.rand(9)  # whatever happens in between
    resumed = trained(made(seed=1, **options), 5, torch.load(file, weights_only=True))
    assert resumed.progress.step == 5
    assert same(copied(straight.model), copied(resumed.model))
    assert same(straight.average.tensors, resumed.average.tensors)
    for name, optimizer in straight.optimizers.items():
        ours, theirs = optimizer.state_dict()["state"], resumed.optimizers[name].state_dict()["state"]
        assert all(torch.equal(ours[i][key], theirs[i][key]) for i in ours for key in ours[i])


@pytest.mark.parametrize(
    "options", [{"game": "hinge", "spectral_norm": True}, {"game": "non_saturating", "body": "residual", "r1": 0.1}]
)
def test_a_class_is_drawn_as_its_pictures_are(options: dict[str, Any]) -> None:
    """Class 1 is brighter than class 0, which nothing but the class tells. Before training it changes nothing."""
    model = made(condition="class", classes=2, size=(8, 8), width=8, **options)
    noise = torch.randn(32, 6)
    dark, bright = torch.zeros(32, dtype=torch.int64), torch.ones(32, dtype=torch.int64)
    with torch.no_grad():
        assert torch.equal(model.eval()(noise, dark), model(noise, bright))
    trained(model, 90, learning_rate=5e-3, rates={"critic": 2.0})
    with torch.no_grad():
        assert (model(noise, bright).mean() - model(noise, dark).mean()).item() > 0.15


def test_the_critic_is_told_the_class_too() -> None:
    model = made(condition="class", classes=2).eval()
    images = torch.rand(3, 2, 12, 16)
    one, other = (model.critic(images, torch.full((3,), k)) for k in range(2))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("body", ["dcgan", "residual"])
@pytest.mark.parametrize("size", [(8, 8), (11, 31), (23, 12), (28, 28), (64, 48)])
def test_sizes(body: str, size: tuple[int, int]) -> None:
    model = made(body=body, size=size).train()
    images = torch.rand(2, 2, *size)
    assert all(model.loss(Batch(images), turn)["total"].isfinite() for turn in model.turns())
    with torch.no_grad():
        drawn = model.eval()(torch.randn(3, 6))
    assert drawn.shape == (3, 2, *size) and drawn.min() >= 0 and drawn.max() <= 1


def test_health_is_of_the_critic() -> None:
    model = made().eval()
    with torch.no_grad():
        nn.init.zeros_(model.critic.score.weight)
        nn.init.constant_(model.critic.score.bias, 1.0)  # it takes everything for real
        health = model.health(pictures())
    assert {name: value.item() for name, value in health.items()} == {
        "critic_real": 1, "critic_fake": 0, "critic_gradient": pytest.approx(0, abs=1e-5),
    }  # fmt: skip
    model = made(game="hinge", spectral_norm=True)
    trained(model, 30, rates={"critic": 20.0}, learning_rate=2e-4)  # the critic wins
    with torch.no_grad():
        health = model.health(pictures(100, count=32))
    assert health["critic_real"] > 0.9 and health["critic_fake"] > 0.9 and health["critic_gradient"] > 0.05


def test_what_can_not_be_played_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"7x16.*8x8"):
        made(size=(7, 16))
    with pytest.raises(UsageError, match=r"1 classes.*2 are the least.*'none'"):
        made(condition="class", classes=1)
    with pytest.raises(UsageError, match=r"wasserstein.*model\.gradient_penalty \(10"):
        made(game="wasserstein")
    with pytest.raises(UsageError, match="say which class"):
        made(condition="class", classes=2)(torch.randn(1, 6))


@pytest.mark.parametrize("turn", ["critic", "generator"])
def test_pictures_of_no_class_are_named(turn: str) -> None:
    model = made(condition="class", classes=2)
    images = torch.rand(3, 2, 12, 16)
    unknown = Batch(images, categories=torch.tensor([0, IGNORE, IGNORE]), names=("a", "b", "c"))
    with pytest.raises(DataError, match=r"2 of the 3 pictures .* such as b, .*folder named after its class"):
        model.loss(unknown, turn)
    with pytest.raises(DataError, match="3 of the 3 pictures"):
        model.loss(Batch(images), turn)
