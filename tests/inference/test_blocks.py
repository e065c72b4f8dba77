"""Blocks are what strips are, in memory that does not grow with the picture; plain tiles are asked about once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intarsia.errors import UsageError
from intarsia.inference import Predictor
from intarsia.inference.blocks import PlainTiles, answer_blocks
from intarsia.inference.scratch import Scratch
from intarsia.inference.tiles import Tiling, answer_rows

Build = Callable[..., Predictor]


def picture(height: int, width: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(height * width).random((height, width, channels), dtype=np.float32)


def means(tiles: np.ndarray) -> np.ndarray:
    """An answer that depends on the whole tile, so that any other weight of a tile shows."""
    return np.moveaxis(tiles, -1, 1) + tiles.mean(axis=(1, 2))[:, :, None, None]


def put_together(blocks: object, size: tuple[int, int], start: int = 0) -> np.ndarray:
    whole: np.ndarray | None = None
    for top, left, values in blocks:  # type: ignore[attr-defined]
        whole = np.full((len(values), *size), np.nan, np.float32) if whole is None else whole
        assert np.isnan(whole[:, top : top + values.shape[1], left : left + values.shape[2]]).all(), "handed out twice"
        whole[:, top : top + values.shape[1], left : left + values.shape[2]] = values
    assert whole is not None and not np.isnan(whole[:, start:]).any()
    return whole


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(4, 40), st.floats(0, 0.8), st.integers(1, 8), st.integers(1, 3),
    st.data(),
)  # fmt: skip
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_are_the_rows_bit_by_bit_from_any_row_on(
    tmp_path: Path, height: int, width: int, tile: int, overlap: float, multiple: int, batch: int, data: st.DataObject
) -> None:
    image, tiling = picture(height, width), Tiling((tile, tile), None, overlap, multiple, batch)
    rows = np.concatenate(list(answer_rows(means, image, tiling, np.asarray)), axis=1)
    start = data.draw(st.integers(0, height - 1))
    found = put_together(answer_blocks(means, image, tiling, np.asarray, tmp_path, start=start), (height, width), start)
    assert np.array_equal(found[:, start:], rows[:, start:])
    assert not list(tmp_path.iterdir()), "what waited is gone"


def test_a_predictor_gives_in_blocks_what_it_gives_in_strips(blur: Build, tmp_path: Path) -> None:
    predictor = blur(reach=2, stride=2, tile=48)
    image = picture(150, 130, 1)
    blocks = ((top, left, each.probabilities) for top, left, each in predictor.blocks(image, tmp_path))
    strips = np.concatenate([each.probabilities for each in predictor.strips(image)], axis=1)
    assert np.array_equal(put_together(blocks, (150, 130)), strips)


def test_a_tile_that_does_not_fit_is_halved_and_the_row_begun_again(brightness: Build, tmp_path: Path) -> None:
    predictor = brightness(classes=3)
    predictor.model.most_rows = 70
    predictor.tiling = Tiling(None, 128 * 128, 0.25)
    image = np.round(picture(300, 200, 1) * 2) / 2
    mask = np.full((300, 200), -1)
    for top, left, each in predictor.blocks(image, tmp_path):
        mask[top : top + each.mask.shape[0], left : left + each.mask.shape[1]] = each.mask
    assert np.array_equal(mask, (image[..., 0] * 2).astype(int))


def test_the_network_is_asked_once_about_tiles_of_one_colour(tmp_path: Path) -> None:
    image = np.full((160, 160, 3), 0.9, np.float32)
    image[:60, :60] = picture(60, 60, 3)
    sizes = []

    def counted(tiles: np.ndarray) -> np.ndarray:
        sizes.append(len(tiles))
        return means(tiles)

    tiling = Tiling((32, 32), None, 0.25)
    found = put_together(answer_blocks(counted, image, tiling, np.asarray, tmp_path), (160, 160))
    assert sum(sizes) == 9 + 1, "nine tiles touch what was drawn, 49 - 9 are plain and of one shape"
    assert np.array_equal(found, np.concatenate(list(answer_rows(means, image, tiling, np.asarray)), axis=1))


def test_how_plain_a_plain_tile_is() -> None:
    noisy = (0.5 + 0.02 * (picture(32, 32, 3) - 0.5))[None]
    exact, loose = PlainTiles(means), PlainTiles(means, spread=0.03)
    assert np.array_equal(exact(noisy), means(noisy))
    for each in (noisy, noisy[:, ::-1], noisy[:, :, ::-1]):
        assert np.allclose(loose(each), np.rint(0.5 / 0.03) * 0.03 * 2)
        exact(each)
    assert (exact.asked, loose.asked) == (4, 1)
    dot = noisy.copy()
    dot[0, 17, 5, 1] = 1  # not among the pixels that are looked at first
    assert np.array_equal(loose(dot), means(dot))
    eight = np.full((1, 16, 16, 1), 200, np.uint8)
    eight[0, 3, 3] = 204
    assert PlainTiles(means, 0.02)(eight).std() == 0 and PlainTiles(means, 0.01)(eight).std() > 0
    with pytest.raises(UsageError, match="plain"):
        Tiling(plain=1.5)


def test_plain_tiles_are_a_setting_of_the_answer(brightness: Build) -> None:
    assert "plain" not in brightness().settings() and brightness(plain=0.1).settings()["plain"] == 0.1


def test_scratch_holds_the_last_rows(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(10, 6)
    with Scratch(tmp_path, 4, 6, np.uint16) as scratch:
        scratch.write(0, 0, values[:4])
        scratch.write(4, 2, values[4:6, 2:5])
        assert np.array_equal(scratch.read(4, 6, 2, 5), values[4:6, 2:5])
        assert np.array_equal(scratch.read(4, 5, 0, 2), values[:1, :2]), "the row that stood there before"
        assert np.array_equal(scratch.read(2, 4, 0, 6), values[2:4])
