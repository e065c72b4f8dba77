"""Diffusion: the solver and the preconditioning against what is exact, and that it learns."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from intarsia.errors import UsageError
from intarsia.models.generative.diffusion import (
    Diffusion,
    DiffusionConfig,
    noise_estimate,
    noise_levels,
    random_known,
    solve,
)
from intarsia.records import IGNORE, Batch
from intarsia.training.averaging import MovingAverage


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small(**options: object) -> Diffusion:
    """A tiny model whose last convolution is no longer 0, so that everything put in changes what comes out."""
    wished = {"channels": 1, "size": (12, 10), "width": 8, "depth": 1, "steps": 3, "mend_steps": 3, **options}
    model = Diffusion(DiffusionConfig.model_validate(wished)).eval()
    with torch.no_grad():
        for parameter in model.unet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def test_levels_fall_from_the_most_to_the_least_and_to_nothing() -> None:
    levels = noise_levels(80, 0.002, 30)
    assert levels[0] == pytest.approx(80) and levels[-2] == pytest.approx(0.002) and levels[-1] == 0
    assert all(a > b for a, b in pairwise(levels))
    assert len(levels) == 31


def gaussian_flow(steps: int, mean: float, deviation: float) -> tuple[Tensor, Tensor]:
    """What the solver makes of noise for N(mean, deviation^2), whose best denoiser is known, and the exact end."""
    noise = torch.randn(10_000, dtype=torch.float64)

    def denoise(x: Tensor, level: float) -> Tensor:
        return mean + deviation**2 / (deviation**2 + level**2) * (x - mean)

    exact = mean + deviation / math.sqrt(deviation**2 + 80**2) * (80 * noise - mean)
    return solve(denoise, noise, noise_levels(80, 0.002, steps)), exact


@pytest.mark.parametrize("deviation", [0.1, 0.5, 2.0])
def test_the_exact_denoiser_of_a_gaussian_gives_that_gaussian(deviation: float) -> None:
    drawn, exact = gaussian_flow(30, 0.3, deviation)
    assert (drawn - exact).square().mean().sqrt() < 0.04 * deviation
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.05 * deviation)
    assert drawn.std().item() == pytest.approx(deviation, rel=0.05)


def test_the_solver_is_of_second_order() -> None:
    errors = [(drawn - exact).abs().max() for drawn, exact in (gaussian_flow(n, 0.3, 0.5) for n in (20, 40, 80))]
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3  # 4 in the limit; 2 for a first-order one


def test_one_step_is_the_expected_picture() -> None:
    drawn, _ = gaussian_flow(1, 0.3, 0.5)
    torch.testing.assert_close(drawn, torch.full_like(drawn, 0.3), rtol=0, atol=0.02)


def test_without_noise_the_denoiser_is_the_identity() -> None:
    model, x = small(), torch.rand(2, 1, 12, 10)
    torch.testing.assert_close(model.denoise(x, torch.full((2,), 1e-6), None), x, rtol=0, atol=1e-4)


def test_what_goes_into_the_network_and_is_asked_of_it_has_variance_one() -> None:
    model = small(deviation=0.7)
    picture, noise = 0.7 * torch.randn(1, 1, 300, 300), torch.randn(1, 1, 300, 300)
    for level in (0.01, 0.7, 50.0):
        skip, out, into = model._scales(torch.tensor([level]))
        x = picture + level * noise
        assert (into * x).var().item() == pytest.approx(1, abs=0.05)
        assert ((picture - skip * x) / out).var().item() == pytest.approx(1, abs=0.05)


def test_a_fresh_model_is_as_wrong_as_the_pictures_vary() -> None:
    """Its answer is 0, and what is asked of it has variance 1 where pictures have the stated deviation, so loss = 1."""
    model = Diffusion(DiffusionConfig(channels=1, size=(32, 32), width=8, depth=1, deviation=0.5))
    images = 0.5 + 0.25 * torch.randn(64, 1, 32, 32)
    assert model.loss(Batch(images))["total"].item() == pytest.approx(1, abs=0.05)


def test_guidance_of_one_is_none_and_of_nought_is_deafness() -> None:
    torch.manual_seed(1)
    state = small(condition="class", classes=3).state_dict()
    noise, classes = torch.randn(3, 1, 12, 10), torch.tensor([0, 1, 2])

    def drawn(guidance: float, condition: Tensor | None) -> Tensor:
        model = small(condition="class", classes=3, guidance=guidance)
        model.load_state_dict(state)
        with torch.no_grad():
            return model(noise, condition)

    plain, free = drawn(1.0, classes), drawn(1.0, None)
    assert not torch.allclose(plain, free, atol=1e-4)
    torch.testing.assert_close(drawn(1.0 + 1e-9, classes), plain, rtol=0, atol=1e-4)  # the guided path, at no guidance
    torch.testing.assert_close(drawn(0.0, classes), free, rtol=0, atol=1e-4)


def test_what_nobody_labelled_is_told_as_nothing() -> None:
    images = torch.rand(2, 1, 12, 10)
    by_class = small(condition="class", classes=3)
    told = by_class._told(Batch(images, categories=torch.tensor([1, IGNORE])))
    assert told is not None and told.tolist() == [1, 3]
    assert torch.equal(by_class._told(Batch(images)), torch.tensor([3, 3]))  # type: ignore[arg-type]

    by_mask = small(condition="mask", classes=2)
    masks = torch.full((2, 12, 10), IGNORE)
    masks[0, 0, 0], masks[0, 0, 1] = 0, 1
    told = by_mask._told(Batch(images, masks))
    assert told is not None and told.shape == (2, 2, 12, 10)
    assert told.sum() == 2 and told[0, 0, 0, 0] == told[0, 1, 0, 1] == 1
    assert by_mask._told(Batch(images)).count_nonzero() == 0  # type: ignore[union-attr]


def test_the_stated_share_of_conditions_is_withheld_in_training_only() -> None:
    model = small(condition="class", classes=3, unconditional=0.25)
    batch = Batch(torch.rand(4000, 1, 12, 10), categories=torch.zeros(4000, dtype=torch.int64))
    assert (model.train()._told(batch) == 3).float().mean().item() == pytest.approx(0.25, abs=0.03)  # type: ignore[union-attr]
    assert (model.eval()._told(batch) == 3).sum() == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("holes", [0.0, 0.5])
def test_mending_keeps_known_pixels_and_is_the_same_each_time_and_in_any_batch(holes: float) -> None:
    model = small(holes=holes)
    images, known = torch.rand(3, 1, 13, 17), (torch.rand(3, 1, 13, 17) < 0.7).float()
    mended = model.mend(images, known)
    assert torch.equal(mended[known == 1], images[known == 1])
    assert torch.equal(mended, model.mend(images, known))
    torch.testing.assert_close(model.mend(images[1:2], known[1:2]), mended[1:2], rtol=0, atol=1e-4)
    unseen = torch.where(known == 1, images, 0.123)
    assert torch.equal(model.mend(unseen, known), mended)  # what lies in a hole is not looked at


def test_the_noise_of_a_smooth_picture_is_estimated() -> None:
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    for level in (0.02, 0.1):
        noisy = ramp + level * torch.randn(1, 3, 64, 64)
        assert noise_estimate(noisy).item() == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_noise_that_was_cut_off_at_black_is_estimated_too(share: float) -> None:
    picture = torch.full((1, 1, 128, 128), 0.5)
    picture[..., : int(128 * share)] = 0
    noisy = (picture + 0.15 * torch.randn(1, 1, 128, 128)).clamp(0, 1)
    assert noise_estimate(noisy).item() == pytest.approx(0.15, rel=0.1)
    assert noise_estimate(picture).item() == 0


def test_holes_of_all_sizes_come() -> None:
    share = 1 - torch.cat([random_known(torch.zeros(16, 3, 40, 28)) for _ in range(40)]).mean(dim=(1, 2, 3))
    assert share.min() < 0.05 and share.max() > 0.8 and 0.2 < share.mean() < 0.6


def test_shown_pixels_cost_nothing() -> None:
    """A network that answers 0 errs more the brighter a picture is, but not by pixels that it was shown."""
    model = Diffusion(DiffusionConfig(channels=1, size=(12, 10), width=8, depth=1, holes=0.999))

    def loss(images: Tensor) -> float:
        torch.manual_seed(3)
        return model.loss(Batch(images))["total"].item()

    grey = torch.full((1, 1, 12, 10), 0.5)
    torch.manual_seed(3)
    _ = torch.rand(1), torch.randn(1, 1, 12, 10), torch.rand(1)  # what `loss` draws before the holes
    known = random_known(grey)
    assert 10 < known.sum() < 110
    assert loss(grey + 9 * known) == pytest.approx(loss(grey), rel=1e-4)
    assert loss(grey + 90 * (1 - known)) > 2 * loss(grey)


def test_a_condition_without_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.classes is 0"):
        Diffusion(DiffusionConfig(condition="class"))  # the configuration alone is read before the data are
    with pytest.raises(ValidationError, match="noise_least"):
        DiffusionConfig(noise_least=90)


def test_it_learns_pictures_that_are_black_or_white_and_draws_and_completes_both() -> None:
    """All 64 pixels say the same, so the choice falls at a high noise level, and training must look there."""
    wished = {"channels": 1, "size": (8, 8), "width": 16, "depth": 1, "noise_mean": 1.0}
    model = Diffusion(DiffusionConfig(**wished, steps=12, mend_steps=12, deviation=1.0))
    optimizer, average = torch.optim.Adam(model.parameters(), 5e-3), MovingAverage(model, 0.95)
    for _ in range(120):
        images = (torch.rand(32, 1, 1, 1) < 0.5).float().expand(32, 1, 8, 8)
        optimizer.zero_grad()
        model.loss(Batch(images))["total"].backward()
        optimizer.step()
        average.update(model)
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    known = torch.zeros(2, 1, 8, 8)
    known[:, :, :3] = 1
    with average.applied(model), torch.no_grad():
        drawn = model(torch.randn(64, 1, 8, 8)).mean(dim=(1, 2, 3))
        filled = model.mend(ends, known).mean(dim=(1, 2, 3))
        clean = model.mend(ends + 0.2 * torch.randn(2, 1, 8, 8)).mean(dim=(1, 2, 3))
    assert ((drawn < 0.25) | (drawn > 0.75)).float().mean() > 0.85  # each all of one
    assert 0.15 < (drawn > 0.5).float().mean() < 0.85  # and both
    assert filled[0] < 0.25 and filled[1] > 0.75
    assert clean[0] < 0.25 and clean[1] > 0.75
