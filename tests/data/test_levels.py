"""Pictures stretched between their own darkest and brightest pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.data.levels import Stretched, limits, stretched


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_dark_picture_becomes_as_bright_as_any(kind: type) -> None:
    full = 1.0 if kind == np.float32 else np.iinfo(kind).max
    dark = (np.linspace(0.01, 0.06, 64 * 64).reshape(64, 64, 1) * full).astype(kind)
    bright = stretched(dark)
    assert bright.dtype == dark.dtype and bright.shape == dark.shape
    assert bright.min() == 0 and bright.max() == pytest.approx(full)
    assert (np.diff(bright[32, :, 0].astype(float)) >= 0).all()


def test_colours_stay_and_one_value_stays() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[5:15, 5:15] = (10, 20, 40)
    result = stretched(picture)[8, 8].astype(float)
    np.testing.assert_allclose(result / result.max(), [0.25, 0.5, 1.0], atol=0.01)
    constant = np.full((5, 5, 1), 7, np.uint8)
    assert (stretched(constant) == constant).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 3))))
def test_twice_is_once_but_for_rounding(image: np.ndarray) -> None:
    once = stretched(image)
    difference = np.abs(stretched(once).astype(int) - once.astype(int))
    low, high = limits(once)
    assert difference.max(initial=0) <= 1 + 255 * max(0.0, (low + 255 - high) / max(high - low, 1))


def test_a_part_is_stretched_as_the_whole() -> None:
    image = np.random.default_rng(0).integers(0, 90, (40, 50, 3), np.uint8)
    lazy = Stretched(image)
    assert lazy.shape == image.shape
    np.testing.assert_array_equal(lazy[10:20, 5:9], stretched(image)[10:20, 5:9])
