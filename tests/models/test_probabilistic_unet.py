"""What is special to the Probabilistic U-Net: its bound, its prior, and answers that differ as people do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from intarsia.models.semantic import ProbabilisticUNet, ProbabilisticUNetConfig
from intarsia.records import IGNORE, Batch


def made(seed: int = 0, **options: Any) -> ProbabilisticUNet:
    torch.manual_seed(seed)
    return ProbabilisticUNet(ProbabilisticUNetConfig(**{"channels": 1, "width": 4, "depth": 2, "latent": 3} | options))


def squares(count: int, generator: torch.Generator, size: int = 16) -> tuple[Batch, Tensor]:
    """One bright square a picture, and where it is (B, H, W); half of the masks call it class 1, half nothing."""
    images = 0.2 * torch.rand(count, 1, size, size, generator=generator)
    masks, there = torch.zeros(count, size, size, dtype=torch.int64), torch.zeros(count, size, size, dtype=torch.bool)
    for i in range(count):
        y, x = torch.randint(0, size - 8, (2,), generator=generator).tolist()
        there[i, y : y + 8, x : x + 8] = True
        if torch.rand(1, generator=generator) < 0.5:
            masks[i][there[i]] = 1
    images[:, 0][there] += 0.7
    return Batch(images, masks), there


def batch(count: int = 3) -> Batch:
    return squares(count, torch.Generator().manual_seed(1))[0]


@pytest.mark.parametrize("overlapping", [False, True])
def test_pictures_without_labels_have_exactly_no_loss_and_no_gradient(overlapping: bool) -> None:
    model = made(overlapping=overlapping).train()
    images = batch().images
    unknown = torch.full((3, 2, 16, 16) if overlapping else (3, 16, 16), IGNORE)
    losses = model.loss(Batch(images, labels=unknown.float()) if overlapping else Batch(images, unknown))
    losses["total"].backward()
    assert all(term.item() == 0 for term in losses.values())
    assert all(not each.grad.any() for each in model.parameters() if each.grad is not None)


def test_an_unlabelled_picture_beside_others_adds_nothing() -> None:
    model = made().eval()
    alone = batch(1)
    assert alone.masks is not None
    both = Batch(
        torch.cat([alone.images, torch.rand(1, 1, 16, 16)]), torch.cat([alone.masks, alone.masks * 0 + IGNORE])
    )
    results = []
    for each in (alone, both):
        torch.manual_seed(5)
        results.append(model.loss(each))
    for name, term in results[0].items():
        torch.testing.assert_close(results[1][name], term, rtol=1e-4, atol=1e-6, msg=name)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    model, seen = made().eval(), batch()
    losses = model.loss(seen)
    assert seen.masks is not None
    x = model.standardised(seen.images)
    planes = torch.nn.functional.one_hot(seen.masks, 2).movedim(-1, 1) - 0.5
    (mean, log_variance), (prior_mean, prior_log_variance) = model.posterior(torch.cat([x, planes], 1)), model.prior(x)
    posterior, prior = (
        Independent(Normal(m, (v / 2).exp()), 1) for m, v in ((mean, log_variance), (prior_mean, prior_log_variance))
    )
    torch.testing.assert_close(losses["kl"], kl_divergence(posterior, prior).mean())
    # with three quarters of the pixels labelled the divergence weighs four thirds as much beside a mean over them
    torch.testing.assert_close(losses["total"], losses["cross_entropy"] + 3 * losses["kl"] / seen.masks.numel())
    fewer = seen.masks.clone()
    fewer[:, :4] = IGNORE
    losses = model.loss(Batch(seen.images, fewer))
    torch.testing.assert_close(losses["total"], losses["cross_entropy"] + 3 * losses["kl"] / (3 * 12 * 16))


def test_beta_weighs_the_divergence() -> None:
    model, seen = made(beta=0.0), batch()
    losses = model.eval().loss(seen)
    assert losses["kl"] > 0
    torch.testing.assert_close(losses["total"], losses["cross_entropy"])


def test_what_nobody_labelled_is_hidden_from_the_posterior() -> None:
    """Two masks that differ only where a third says IGNORE: shown the third, the posterior knows neither."""
    model, x = made(), torch.zeros(1, 1, 16, 16)
    masks = torch.zeros(1, 16, 16, dtype=torch.int64)
    masks[:, :4] = IGNORE
    shown = model._shown(masks, x)
    assert shown.shape == (1, 2, 16, 16)
    assert (shown[:, :, :4] == 0).all()
    assert (shown[:, 0, 4:] == 0.5).all() and (shown[:, 1, 4:] == -0.5).all()
    labels = torch.tensor([1.0, 0.0, IGNORE]).view(1, 1, 1, 3).expand(1, 2, 4, 3)
    overlapping = made(overlapping=True)._shown(labels, torch.zeros(1, 1, 4, 4))
    assert overlapping[0, 0, 0].tolist() == [0.5, -0.5, 0, 0]  # the last is padding


def test_forward_answers_for_the_mean_of_the_prior() -> None:
    model, images = made().eval(), torch.rand(2, 1, 21, 13)
    mean, _ = model.prior_of(images)
    torch.testing.assert_close(model(images), model.answers(images, mean[None])[0])


def test_answers_are_encoded_once_and_the_same_whatever_else_is_asked_for() -> None:
    model, images = made().eval(), torch.rand(2, 1, 16, 16)
    encoded = []
    model.unet.register_forward_pre_hook(lambda *_: encoded.append(1))
    model.unet.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    latents = torch.randn(5, 2, 3)
    with torch.no_grad():
        many = model.answers(images, latents)
        assert len(encoded) == 1
        few = model.answers(images, latents[:2])
    assert many.shape == (5, 2, 2, 16, 16)
    assert torch.equal(many[:2], few)


@pytest.mark.parametrize("overlapping", [False, True])
def test_samples_are_probabilities_that_a_generator_repeats(overlapping: bool) -> None:
    model, images = made(overlapping=overlapping, classes=3).eval(), torch.rand(2, 1, 19, 33)
    first, again, other = (model.sample(images, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (4, 2, 3, 19, 33)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1
    if not overlapping:
        torch.testing.assert_close(first.sum(dim=2), torch.ones(4, 2, 19, 33))


class Cells(torch.nn.Module):
    """An encoder that sees no further than 8 x 8 pixels: the mean of each, in as many channels as the head takes."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.nn.functional.avg_pool2d(x, 8).expand(-1, 96, -1, -1)]


def test_the_prior_of_a_picture_is_the_mean_of_its_parts() -> None:
    """Exactly so where no part sees beyond its border: what is read is linear in the mean over the map."""
    model = made().eval()
    model.prior.encoder = Cells()  # type: ignore[assignment]
    whole = torch.rand(1, 1, 32, 48)
    parts = torch.cat([part for row in whole.split(16, dim=2) for part in row.split(16, dim=3)])
    for of_whole, of_parts in zip(model.prior_of(whole), model.prior_of(parts), strict=True):
        torch.testing.assert_close(of_whole[0], of_parts.mean(dim=0))


def test_it_learns_both_readings_of_a_picture() -> None:
    """Half of the raters see a lesion and half see nothing: so do its answers, each whole."""
    model = made(width=8).train()
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        seen, _ = squares(8, generator)
        optimizer.zero_grad()
        model.loss(seen)["total"].backward()
        optimizer.step()
    model.eval()
    seen, there = squares(8, torch.Generator().manual_seed(9))
    answers = model.sample(seen.images, 32, torch.Generator().manual_seed(3))[:, :, 1]  # S B H W
    shares = torch.stack([answers[:, i][:, there[i]].mean(dim=1) for i in range(8)], dim=1)  # of the square, S B
    lesion = (shares > 0.5).float().mean()
    assert 0.15 < lesion < 0.85
    decided = ((shares < 0.25) | (shares > 0.75)).float().mean()
    assert decided > 0.4  # pixel by pixel, each would say one half
    elsewhere = torch.stack([answers[:, i][:, ~there[i]].mean() for i in range(8)])
    assert elsewhere.max() < 0.1
