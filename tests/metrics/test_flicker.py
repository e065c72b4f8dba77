"""Flicker and J on drawn films."""

from __future__ import annotations

import math

import numpy as np
import pytest

from intarsia.metrics.flicker import FlickerScore, enlarged, followed, grey_of, jaccard

TEXTURE = np.random.default_rng(0).integers(0, 255, (30, 50, 3)).astype(np.uint8).repeat(3, 0).repeat(3, 1)


def view(left: int) -> np.ndarray:
    """A window (60, 90) on a larger picture, as a camera that turns sees it."""
    return TEXTURE[10:70, left : left + 90]


def test_jaccard_by_hand() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert jaccard(a, b) == 1
    a[:2], b[1:3] = True, True
    assert jaccard(a, b) == pytest.approx(4 / 12)
    assert jaccard(a, ~a) == 0


def test_a_turning_camera_is_followed() -> None:
    flow, sure = followed(view(10), view(12))  # what was 2 pixels to the right ... now stands further left by -2
    assert sure[10:-10, 10:-10].mean() > 0.8
    assert np.median(flow[sure][:, 0]) == pytest.approx(-2, abs=0.3)
    assert np.median(flow[sure][:, 1]) == pytest.approx(0, abs=0.3)


def test_an_answer_that_moves_along_does_not_flicker() -> None:
    still, wrong = FlickerScore(), FlickerScore()
    for left in range(10, 22, 2):
        where = followed(view(left + 2), view(left))
        masks = [(np.arange(90)[None] + each > 60).repeat(60, 0).astype(np.int16) for each in (left + 2, left)]
        still.add(*masks, *where)
        wrong.add(masks[0], 1 - masks[1], *where)
    assert still.points == wrong.points > 10_000
    assert still.share < 0.01
    assert wrong.share > 0.9


def test_what_flickers_is_counted() -> None:
    """On a still picture all points are followed; a block of 20 x 20 comes, goes, and moves by a pixel."""
    mask, other = np.zeros((60, 90), np.int16), np.zeros((60, 90), np.int16)
    other[20:40, 30:50] = 1
    score = FlickerScore()
    score.add(other, mask, *followed(view(0), view(0)))
    assert score.points == 60 * 90 and score.changed == 400
    score = FlickerScore()
    score.add(mask, other, *followed(view(0), view(0)))
    assert score.changed == 18 * 18  # of the background, a ring had background beside it
    shifted = np.roll(other, 1, axis=0)
    score = FlickerScore()
    score.add(shifted, other, *followed(view(0), view(0)))
    assert score.changed == 0


def test_after_a_cut_nothing_is_followed() -> None:
    dark, light = np.full((40, 40, 3), 10, np.uint8), np.full((40, 40, 3), 240, np.uint8)
    assert not followed(dark, light)[1].any()
    score = FlickerScore()
    score.add(np.zeros((40, 40), int), np.ones((40, 40), int), *followed(dark, light))
    assert math.isnan(score.share)
    both = score + FlickerScore(10, 3)
    assert both.share == pytest.approx(0.3) and both.scores()[0].value == pytest.approx(0.3)


def test_all_kinds_of_numbers_have_a_brightness() -> None:
    grey = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20, 1)
    eight = np.rint(grey * 255).astype(np.uint8)
    deep = np.rint(grey * 65535).astype(np.uint16)
    for picture in (grey, deep, eight, eight.repeat(3, 2), eight.repeat(4, 2)):
        assert np.abs(grey_of(picture, 64).astype(int) - grey_of(eight, 64)).max() <= 1
    assert grey_of(eight, 64).shape == (40, 40)
    assert grey_of(np.zeros((1, 300, 1), np.uint8), 100).shape == (40, 100)


def test_a_flow_grows_with_its_picture() -> None:
    flow = np.ones((10, 20, 2), np.float32)
    larger = enlarged(flow, (40, 60))
    assert larger.shape == (40, 60, 2)
    assert np.allclose(larger[..., 0], 3) and np.allclose(larger[..., 1], 4)
