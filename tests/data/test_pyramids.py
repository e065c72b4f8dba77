"""Files of tiles become pyramids that other programs read; a file of tiles can be cut back and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.pyramids import SIDE, Plane, TileFile, majority, mean, write_pyramid
from intarsia.data.read import read_image, read_mask
from intarsia.errors import DiskError

PALETTE = (np.random.default_rng(0).integers(0, 256, (3, 256)) * 257).astype(np.uint16)


def rows_of(image: np.ndarray, plane: Plane) -> list[list[np.ndarray]]:
    rows, columns = plane.grid
    return [
        [
            plane.filled(image[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE])
            for x in range(columns)
        ]
        for y in range(rows)
    ]  # fmt: skip


def tile_file(path: Path, image: np.ndarray, kind: Literal["classes", "values"] = "values") -> TileFile:
    samples = image.shape[2] if image.ndim == 3 else 1
    tiles = TileFile(path, Plane(*image.shape[:2], image.dtype.name, samples, kind))
    for row in rows_of(image, tiles.plane):
        tiles.append(row)
    return tiles


def halved(image: np.ndarray, shrink: object) -> np.ndarray:
    """The rule, on the whole picture at once."""
    odd = [(0, side % 2) for side in image.shape[:2]] + [(0, 0)]
    return shrink(np.pad(image, odd, mode="edge"))  # type: ignore[operator]


@pytest.mark.parametrize("size", [(700, 515), (257, 1), (256, 512), (30, 20), (1026, 258)])
def test_a_class_map_is_read_back_with_its_pyramid(size: tuple[int, int], tmp_path: Path) -> None:
    mask = (np.random.default_rng(1).random(size) ** 4 * 7).astype(np.uint8)
    tiles = tile_file(tmp_path / "mask.tiles", mask, "classes")
    path = write_pyramid(tmp_path / "a.tif", tiles, palette=PALETTE, notes={"0": "background", "1": "Zelle ü <b>"})
    assert {each.name for each in tmp_path.iterdir()} == {"a.tif", "mask.tiles"}
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff and file.is_ome and "Zelle ü &lt;b&gt;" in str(file.ome_metadata)
        assert np.array_equal(file.pages[0].colormap, PALETTE)
        levels = [level.asarray() for level in file.series[0].levels]
    expected = mask[..., None]
    for level in levels:
        assert np.array_equal(level, expected[..., 0])
        expected = halved(expected, majority)
    assert max(levels[-1].shape) <= SIDE and (len(levels) == 1 or max(levels[-2].shape) > SIDE)
    assert np.array_equal(read_mask(path).values, mask), "and by our own reader"


@pytest.mark.parametrize(("dtype", "samples"), [(np.uint8, 3), (np.uint16, 1)])
def test_values_are_averaged(dtype: type, samples: int, tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, np.iinfo(dtype).max + 1, (300, 533, samples)).astype(dtype)
    shaped = image if samples == 3 else image[..., 0]
    path = write_pyramid(tmp_path / "a.tif", tile_file(tmp_path / "a.tiles", shaped))
    assert np.array_equal(read_image(path), image)
    with tifffile.TiffFile(path) as file:
        levels = [level.asarray().reshape(*level.shape[:2], samples) for level in file.series[0].levels]
    assert np.array_equal(levels[1], halved(image, mean)) and len(levels) == 3


def test_shrinking_by_hand() -> None:
    four = np.array([[1, 1, 4, 5, 7, 8], [2, 2, 6, 5, 9, 9]])[..., None]
    assert majority(four)[..., 0].tolist() == [[1, 5, 9]]
    assert mean(np.array([[0, 1], [1, 0]], np.uint8)[..., None]).item() == 1
    assert mean(np.full((2, 2, 1), 65535, np.uint16)).item() == 65535


@given(st.integers(0, 3), st.integers(0, 500))
@settings(deadline=None, max_examples=15)
def test_it_is_cut_back_to_whole_rows_and_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, kept: int, torn: int
) -> None:
    path = tmp_path_factory.mktemp("tiles") / "a.tiles"
    image = np.random.default_rng(3).integers(0, 9, (700, 300)).astype(np.uint8)
    tiles = tile_file(path, image, "classes")
    whole, lengths = path.read_bytes(), tiles.lengths
    end = sum(map(sum, lengths[:kept]))
    path.write_bytes(whole[: end + torn] if kept < 3 else whole)
    again = TileFile(path, tiles.plane, lengths[:kept])
    for row in rows_of(image, tiles.plane)[kept:]:
        again.append(row)
    assert path.read_bytes() == whole and again.lengths == lengths
    assert list(again.encoded_tiles()) == list(tiles.encoded_tiles())


def test_a_file_that_lost_its_end_is_not_gone_on_with(tmp_path: Path) -> None:
    tiles = tile_file(tmp_path / "a.tiles", np.zeros((300, 300), np.uint8))
    (tmp_path / "a.tiles").write_bytes(b"short")
    with pytest.raises(DiskError, match="shorter"):
        TileFile(tmp_path / "a.tiles", tiles.plane, tiles.lengths)
