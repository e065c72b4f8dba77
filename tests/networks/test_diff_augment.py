"""What the critic sees of a picture, changed at random but so that the generator still learns from it."""

import math

import pytest
import torch

from intarsia.networks.diff_augment import Kind, colour, cutout, diff_augment, translation

KINDS: tuple[Kind, ...] = ("colour", "translation", "cutout")


def test_without_any_kind_nothing_changes() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert diff_augment(images, ()) is images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 1, 9, 14), (2, 3, 16, 16), (2, 5, 8, 23)])
def test_the_shape_stays_and_the_same_random_numbers_give_the_same(kind: Kind, shape: tuple[int, ...]) -> None:
    images = 2 * torch.rand(*shape) - 1
    torch.manual_seed(4)
    one = diff_augment(images, (kind,))
    torch.manual_seed(4)
    assert torch.equal(one, diff_augment(images, (kind,)))
    assert one.shape == images.shape and not torch.equal(one, images)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_picture(kind: Kind) -> None:
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)

    def changed(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return diff_augment(x, (kind,))

    step = torch.randn_like(images)
    (slope,) = torch.autograd.grad(changed(images).square().sum(), images)
    with (
        torch.no_grad()
    ):  # all three are linear in the picture but for what they add, so this is exact but for rounding
        ahead, behind = changed(images + 1e-4 * step), changed(images - 1e-4 * step)
    expected = (ahead.square().sum() - behind.square().sum()) / 2e-4
    torch.testing.assert_close((slope * step).sum(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_of_a_batch_draws_its_own_numbers(kind: Kind) -> None:
    images = torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1)
    changed = diff_augment(images, (kind,))
    assert any(not torch.equal(changed[0], other) for other in changed[1:])


def test_the_strength_of_colour() -> None:
    """Brightness moves the mean alone, by U[-1/2, 1/2]; contrast times U[1/2, 3/2]; saturation times U[0, 2]."""
    torch.manual_seed(0)
    images = (torch.rand(1, 3, 6, 6) - 0.5).expand(4000, -1, -1, -1)
    changed = colour(images)
    moved = changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    assert -0.5 <= moved.min() < -0.48 and 0.48 < moved.max() <= 0.5
    assert moved.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.05)
    grey, before = changed.mean(dim=1), images.mean(dim=1)
    contrast = grey.flatten(1).std(dim=1) / before.flatten(1).std(dim=1)
    assert 0.5 <= contrast.min() < 0.52 and 1.48 < contrast.max() <= 1.5001
    colours = (changed - grey[:, None]).flatten(1).norm(dim=1) / (images - before[:, None]).flatten(1).norm(dim=1)
    saturation = colours / contrast
    assert saturation.min() < 0.02 and 1.98 < saturation.max() <= 2.0001


def test_translation_moves_whole_pixels_up_to_an_eighth_and_fills_with_zero() -> None:
    torch.manual_seed(0)
    height, width = 16, 24
    images = torch.zeros(2000, 1, height, width)
    images[:, :, 8, 12] = 1
    found = translation(images).nonzero()
    assert len(found) == 2000  # the point is far enough from the rim to stay inside
    assert set((found[:, 2] - 8).tolist()) == set(range(-2, 3))
    assert set((found[:, 3] - 12).tolist()) == set(range(-3, 4))
    ones = translation(torch.ones(200, 1, height, width))
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    assert ones.mean(dim=(1, 2, 3)).min().item() == pytest.approx((14 / 16) * (21 / 24))


def test_cutout_takes_a_rectangle_of_half_the_sides() -> None:
    torch.manual_seed(0)
    kept = cutout(torch.ones(2000, 2, 16, 24))
    assert torch.equal(kept[:, 0], kept[:, 1])
    hole = kept[:, 0] == 0
    rows, columns = hole.any(dim=2).sum(dim=1), hole.any(dim=1).sum(dim=1)
    assert torch.equal(hole.flatten(1).sum(dim=1), rows * columns)
    assert rows.max() == 8 and columns.max() == 12
    assert rows.min() >= 4 and columns.min() >= 6  # hanging over, but with its middle inside
