"""Zarr folders are pictures, in windows as in whole; those that are written are what the specification says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarsia.data.pyramids import SIDE, Plane, TileFile, majority
from intarsia.data.read import read_header, read_image
from intarsia.data.windows import Chunks, open_windows
from intarsia.data.zarr_pyramids import write_zarr_pyramid
from intarsia.errors import DataError, DiskError, UnsafeFileError

zarr = pytest.importorskip("zarr")


def colours(height: int = 300, width: int = 410) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def bare(path: Path, values: np.ndarray, **options: Any) -> Any:
    array = zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, **options)
    array[:] = values
    return array


def multiscale(path: Path, axes: str, values: np.ndarray, version: str, **options: Any) -> None:
    about = {
        "multiscales": [{"axes": [{"name": each} for each in axes], "datasets": [{"path": "full"}, {"path": "1"}]}]
    }
    attributes = {"ome": about | {"version": version}} if version == "0.5" else about
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2, attributes=attributes)
    array = group.create_array("full", shape=values.shape, dtype=values.dtype, **options)
    array[:] = values
    group.create_array("1", shape=(1, 1), dtype="u1")


def save(path: Path, kind: str) -> np.ndarray:
    """Writes a picture, and gives it as it should be read."""
    image = colours()
    first = np.moveaxis(image, -1, 0)
    if kind == "array":
        bare(path, image, chunks=(100, 90, 3))
    elif kind == "array, version 2":
        bare(path, image[..., 0].astype(np.uint16) * 200, chunks=(64, 64), zarr_format=2)
        return image[..., :1].astype(np.uint16) * 200
    elif kind == "array with named axes":
        bare(path, first, chunks=(1, 128, 128), dimension_names=["c", "y", "x"])
    elif kind == "bool":
        bare(path, image[..., 0] > 99, chunks=(64, 410))
        return (image[..., :1] > 99).astype(np.uint8) * 255
    elif kind == "0.4":
        multiscale(path, "tczyx", first[None, :, None].astype(">u2"), "0.4", chunks=(1, 1, 1, 128, 128))
        return image.astype(np.uint16)
    elif kind == "0.5, shards":
        multiscale(path, "cyx", first, "0.5", chunks=(3, 64, 64), shards=(3, 256, 256))
    elif kind == "first of several":
        zarr.create_group(str(path), zarr_format=2, attributes={"bioformats2raw.layout": 3})
        multiscale(path / "0", "yx", image[..., 1], "0.4")
        return image[..., 1:2]
    return image


KINDS = "array", "array, version 2", "array with named axes", "bool", "0.4", "0.5, shards", "first of several"


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_a_part_of_the_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    image = save(path, kind)
    header, whole = read_header(path), read_image(path)
    assert (header.height, header.width, header.channels, header.kind) == (*image.shape, "zarr")
    assert whole.dtype == image.dtype and np.array_equal(whole, image)
    with open_windows(path) as windows:  # type: ignore[union-attr]
        assert isinstance(windows, Chunks) and windows.shape == image.shape and windows.dtype == image.dtype
        for top, bottom, left, right in ((0, 300, 0, 410), (255, 257, 99, 100), (299, 300, 409, 410), (5, 290, 7, 300)):
            assert np.array_equal(windows[top:bottom, left:right], image[top:bottom, left:right])
        assert np.array_equal(windows[::7, ::5], image[::7, ::5])


def test_damage_is_said_where_it_is_and_a_missing_chunk_is_the_fill_value(tmp_path: Path) -> None:
    path, image = tmp_path / "a.zarr", colours(600, 800)[..., 0]
    bare(path, image, chunks=(300, 400), fill_value=7)
    (path / "c/0/0").unlink()
    (path / "c/1/1").write_bytes(b"\xff" * 100)
    with open_windows(path) as windows:  # type: ignore[union-attr]
        assert (windows[:300, :400] == 7).all() and np.array_equal(windows[:300, 400:][..., 0], image[:300, 400:])
        with pytest.raises(DataError, match=r"a\.zarr is damaged at rows 300 to 600, columns 400 to 800"):
            windows[250:350, 350:450]
        assert np.array_equal(windows[300:, :400][..., 0], image[300:, :400])
    with pytest.raises(DataError, match="damaged"):
        read_image(path)


def described(path: Path, **changes: Any) -> None:
    """Other words in an array's description."""
    file = next(path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("codec", ["pickle", "base64"])
def test_what_could_run_a_stranger_s_code_is_not_opened(codec: str, tmp_path: Path) -> None:
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        bare(path, colours()[..., 0], zarr_format=version)
        packed: dict[str, Any] = {"compressor": {"id": codec}}
        if version == 3:
            packed = {"codecs": [{"name": "bytes"}, {"name": f"numcodecs.{codec}", "configuration": {}}]}
        described(path, **packed)
        with pytest.raises(DataError) as said:
            read_image(path)
        if (version, codec) == (2, "base64"):  # the others zarr refuses itself
            assert isinstance(said.value, UnsafeFileError) and "'base64'" in str(said.value)


def test_what_is_no_flat_picture_is_refused(tmp_path: Path) -> None:
    multiscale(tmp_path / "stack.zarr", "zyx", colours(), "0.5")
    with pytest.raises(DataError, match="along axes zyx"):
        read_header(tmp_path / "stack.zarr")
    zarr.create_group(str(tmp_path / "plate.zarr"), attributes={"ome": {"version": "0.5", "plate": {}}})
    with pytest.raises(DataError, match="plate"):
        read_header(tmp_path / "plate.zarr")
    multiscale(tmp_path / "out.zarr", "yx", colours()[..., 0], "0.4")
    words = (tmp_path / "out.zarr/.zattrs").read_text()
    (tmp_path / "out.zarr/.zattrs").write_text(words.replace('"full"', '"../../secret"'))
    with pytest.raises(UnsafeFileError, match="outside"):
        read_header(tmp_path / "out.zarr")
    bare(tmp_path / "large.zarr", colours())
    with pytest.raises(UnsafeFileError, match="limit"):
        read_image(tmp_path / "large.zarr", limit=1000)


def tiles_of(values: np.ndarray, plane: Plane, path: Path) -> TileFile:
    tiles = TileFile(path, plane)
    for top in range(0, plane.height, SIDE):
        lefts = range(0, plane.width, SIDE)
        tiles.append(plane.filled(values[top : top + SIDE, left : left + SIDE]) for left in lefts)
    return tiles


def test_class_numbers_are_written_as_a_labelled_pyramid(tmp_path: Path) -> None:
    mask = np.zeros((2300, 530), np.uint8)  # more than a shard
    mask[100:2200, 100:400] = np.random.default_rng(0).integers(0, 3, (2100, 300))
    tiles = tiles_of(mask, Plane(*mask.shape, "uint8", kind="classes"), tmp_path / "0.tiles")
    place = tmp_path / "a.ome.zarr"
    for _ in range(2):  # the second takes the place of the first
        assert (
            write_zarr_pyramid(place, tiles, [("ground", (0, 0, 0)), ("cell", (1, 2, 3)), ("core", (9, 9, 9))]) == place
        )
    assert {each.name for each in tmp_path.iterdir()} == {"0.tiles", "a.ome.zarr"}
    group = zarr.open_group(str(place), mode="r")
    about = group.attrs["ome"]
    (scales,) = about["multiscales"]
    assert about["version"] == "0.5" and group.metadata.zarr_format == 3 and scales["name"] == "a"
    assert [each["name"] for each in scales["axes"]] == ["y", "x"] and {e["type"] for e in scales["axes"]} == {"space"}
    sizes = [group[each["path"]].shape for each in scales["datasets"]]
    assert sizes == [(2300, 530), (1150, 265), (575, 133), (288, 67), (144, 34)]
    ways = scales["datasets"][2]["coordinateTransformations"]
    assert ways == [{"type": "scale", "scale": [4, 4]}, {"type": "translation", "translation": [1.5, 1.5]}]
    assert about["image-label"]["colors"][1] == {"label-value": 1, "rgba": [1, 2, 3, 255]}
    assert about["image-label"]["properties"][2] == {"label-value": 2, "name": "core"}
    assert np.array_equal(group["0"][:], mask) and group["0"].metadata.dimension_names == ("y", "x")
    assert np.array_equal(group["1"][:, :264], majority(mask[:, :528, None])[..., 0])
    assert np.array_equal(read_image(place)[..., 0], mask), "what we write we read"


def test_colours_are_written_with_an_axis_of_their_own(tmp_path: Path) -> None:
    image = colours()
    tiles = tiles_of(image, Plane(300, 410, "uint8", 3), tmp_path / "0.tiles")
    write_zarr_pyramid(tmp_path / "a.ome.zarr", tiles)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    about = group.attrs["ome"]
    assert [each["name"] for each in about["multiscales"][0]["axes"]] == ["c", "y", "x"]
    assert [each["color"] for each in about["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert np.array_equal(np.moveaxis(group["0"][:], 0, -1), image) and group["1"].shape == (3, 150, 205)
    assert np.array_equal(read_image(tmp_path / "a.ome.zarr"), image)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    tiles = tiles_of(colours(), Plane(300, 410, "uint8", 3), tmp_path / "0.tiles")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DiskError, match="can't be written"):
            write_zarr_pyramid(tmp_path / "a.ome.zarr", tiles)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.name for each in tmp_path.iterdir()] == ["0.tiles"]
