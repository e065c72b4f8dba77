"""Damage whose amount is known, and a first guess whose answer is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from intarsia.networks.corruptions import (
    CorruptionConfig,
    blurred,
    centre_known,
    damaged,
    filled,
    grey,
    noisy,
    random_known,
)


def test_as_it_stands_nothing_is_done() -> None:
    images = torch.rand(2, 3, 9, 11)
    result, known = damaged(images, CorruptionConfig())
    assert torch.equal(result, images)
    assert torch.equal(known, torch.ones(2, 1, 9, 11))
    assert CorruptionConfig().kinds == ()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_all_together_stays_in_range_and_missing_pixels_are_zero(channels: int) -> None:
    config = CorruptionConfig(grey=True, blur=(0, 2), noise=(0, 0.5), holes=0.5)
    assert config.kinds == ("grey", "blur", "noise", "holes")
    torch.manual_seed(0)
    images = torch.rand(6, channels, 21, 34)
    before = images.clone()
    result, known = damaged(images, config)
    assert result.shape == images.shape and known.shape == (6, 1, 21, 34)
    assert result.min() >= 0 and result.max() <= 1
    assert set(known.unique().tolist()) == {0.0, 1.0}
    assert not (result * (1 - known)).any()
    assert torch.equal(images, before), "the pictures handed in are left alone"


def test_chance_is_torchs_alone() -> None:
    config = CorruptionConfig(noise=(0, 0.2), blur=(0, 2), holes=0.3)
    images = torch.rand(3, 3, 16, 16)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(damaged(images, config)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_noise_has_the_deviation_asked_for_in_each_picture() -> None:
    torch.manual_seed(0)
    images = torch.full((3, 1, 100, 100), 0.5)
    found = (noisy(images, torch.tensor([0.0, 0.05, 0.1])) - images).std(dim=(1, 2, 3))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.05, 0.1]), rtol=0.05, atol=1e-6)


def test_a_point_blurred_has_the_variance_of_the_gaussian_and_the_same_sum() -> None:
    images = torch.zeros(3, 2, 41, 41)
    images[:, :, 20, 20] = 1
    result = blurred(images, torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(result.sum(dim=(2, 3)), torch.ones(3, 2))
    offsets = torch.arange(41.0) - 20
    variance = (result.sum(dim=2) * offsets**2).sum(dim=2)  # along a row
    torch.testing.assert_close(variance[:, 0], torch.tensor([0.0, 1.0, 4.0]), rtol=0.03, atol=1e-4)
    assert torch.equal(result[0], images[0])
    flat = blurred(torch.full((1, 1, 3, 2), 0.3), torch.tensor([5.0]))
    torch.testing.assert_close(flat, torch.full((1, 1, 3, 2), 0.3))  # smaller than the Gaussian


def test_grey_by_hand() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(grey(red), torch.full((1, 3, 1, 1), 0.299))
    two = torch.tensor([0.2, 0.6]).view(1, 2, 1, 1)
    torch.testing.assert_close(grey(two), torch.full((1, 2, 1, 1), 0.4))


@pytest.mark.parametrize("shapes", ["mixed", "rectangles", "strokes"])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (64, 96)])
def test_holes_take_away_something_but_never_too_much(shapes: Any, height: int, width: int) -> None:
    torch.manual_seed(0)
    missing = 1 - random_known(40, height, width, 0.3, shapes).mean(dim=(1, 2, 3))
    assert missing.max() <= 0.3
    assert (missing > 0.02).float().mean() > 0.95
    assert missing.max() - missing.min() > 0.1, "pictures differ"


def test_a_rectangle_is_all_that_its_rows_and_columns_span() -> None:
    torch.manual_seed(3)
    known = random_known(200, 24, 24, 0.2, "rectangles")
    alone = 0
    for missing in known[:, 0] == 0:
        rows, columns = missing.any(dim=1), missing.any(dim=0)
        alone += bool(missing.any() and torch.equal(missing, rows[:, None] & columns[None]))
    assert alone > 5, "in some pictures there is room for one only"


def test_the_centre_by_hand() -> None:
    known = centre_known(1, 4, 8)
    expected = torch.ones(4, 8)
    expected[1:3, 2:6] = 0
    assert torch.equal(known[0, 0], expected)


def test_filling_keeps_what_is_known_and_continues_a_constant() -> None:
    torch.manual_seed(0)
    images, known = torch.rand(2, 3, 30, 41), random_known(2, 30, 41, 0.5)
    result = filled(images * known, known)
    assert torch.equal(result * known, images * known)
    low, high = (images * known).max(), 0
    assert high <= result.min() and result.max() <= low, "means lie between what they are means of"
    flat = torch.full((2, 3, 30, 41), 0.3)
    torch.testing.assert_close(filled(flat * known, known), flat)


def test_filling_a_ramp_stays_near_it_and_nothing_known_is_half() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    known = centre_known(1, 32, 32, 0.1)
    assert (filled(ramp * known, known) - ramp).abs().max() < 0.12
    empty = torch.zeros(1, 2, 7, 100)
    assert torch.equal(filled(empty, empty[:, :1]), empty + 0.5)


def test_filling_takes_each_picture_alone() -> None:
    torch.manual_seed(0)
    images, known = torch.rand(3, 1, 20, 20), random_known(3, 20, 20, 0.4)
    together = filled(images, known)
    torch.testing.assert_close(filled(images[1:2], known[1:2]), together[1:2])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"noise": (0.3, 0.1)}, "smallest"),
        ({"blur": (2, 1)}, "smallest"),
        ({"holes": 1}, "0.9"),
        ({"hole": 0.1}, "hole"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CorruptionConfig(**wrong)
