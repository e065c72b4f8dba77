"""Pictures read in windows give what they give when read whole, at any place, of any kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.read import read_image
from intarsia.data.windows import Segments, open_windows
from intarsia.errors import DataError, UnsafeFileError

KINDS: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "strips": {"rowsperstrip": 7, "compression": "lzw"},
    "one strip": {"compression": "zlib"},
    "raw": {},
    "raw tiles": {"tile": (16, 16)},
    "big": {"bigtiff": True, "tile": (32, 32), "compression": "zstd", "predictor": True},
    "planes": {"tile": (32, 32), "planarconfig": "separate", "compression": "zlib"},
    "raw planes": {"planarconfig": "separate"},
    "big-endian": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 10},
    "big-endian, raw": {"byteorder": ">"},
    "jpeg": {"tile": (32, 32), "compression": "jpeg"},
    "alpha": {"tile": (32, 32), "extrasamples": ["unassalpha"], "compression": "zlib"},
    "ome": {"ome": True, "tile": (32, 32), "compression": "zlib", "metadata": {"axes": "YXS"}},
}


def picture(height: int, width: int, channels: int, dtype: type = np.uint8) -> np.ndarray:
    numbers = np.random.default_rng(height * width + channels).integers(0, 256, (height, width, channels))
    return numbers.astype(np.uint8) if dtype is np.uint8 else (numbers * 257).astype(dtype)


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    values = np.moveaxis(image, -1, 0) if options.get("planarconfig") == "separate" else image
    writer = {key: options.pop(key) for key in ("bigtiff", "byteorder", "ome") if key in options}
    with tifffile.TiffWriter(path, **writer) as file:
        file.write(values, photometric="rgb", **({"metadata": None} | options))
    return path


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_window_is_a_part_of_the_whole(name: str, dtype: type, tmp_path: Path) -> None:
    if (name, dtype) == ("jpeg", np.uint16):
        pytest.skip("a JPEG holds 8 bits")
    path = save(tmp_path / "a.tif", picture(101, 77, 4 if name == "alpha" else 3, dtype), **KINDS[name])
    whole = read_image(path)
    with open_windows(path) as windows:  # type: ignore[union-attr]
        assert windows.shape == whole.shape and windows.dtype == whole.dtype
        for top, bottom, left, right in ((0, 101, 0, 77), (31, 33, 47, 49), (100, 101, 76, 77), (5, 70, 3, 50)):
            assert np.array_equal(windows[top:bottom, left:right], whole[top:bottom, left:right])
        assert np.array_equal(windows[40:60], whole[40:60])
        assert np.array_equal(windows[::3, ::2], whole[::3, ::2])


@given(st.integers(1, 8), st.data())
@settings(deadline=None, max_examples=40)
def test_a_turned_picture_is_cut_as_it_is_displayed(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("turned") / "a.tif"
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(place, picture(37, 53, 1)[..., 0], tile=(16, 16), compression="zlib", extratags=tag)
    whole = read_image(place)
    top, left = data.draw(st.integers(0, whole.shape[0] - 1)), data.draw(st.integers(0, whole.shape[1] - 1))
    bottom = data.draw(st.integers(top + 1, whole.shape[0]))
    right = data.draw(st.integers(left + 1, whole.shape[1]))
    with open_windows(place) as windows:  # type: ignore[union-attr]
        assert np.array_equal(windows[top:bottom, left:right], whole[top:bottom, left:right])


@pytest.mark.parametrize("kind", ["palette", "1 bit", "inverted", "float"])
def test_other_kinds_of_numbers(kind: str, tmp_path: Path) -> None:
    grey = picture(50, 40, 1)[..., 0]
    options: dict[str, Any] = {"tile": (16, 16), "compression": "zlib"}
    if kind == "palette":
        colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
        options |= {"photometric": "palette", "colormap": colours}
    values = {"1 bit": grey > 99, "float": grey.astype(np.float32) / 255}.get(kind, grey)
    if kind == "inverted":
        options["photometric"] = "miniswhite"
    if kind == "1 bit":
        options = {"rowsperstrip": 8, "compression": "packbits"}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    whole = read_image(tmp_path / "a.tif")
    with open_windows(tmp_path / "a.tif") as windows:  # type: ignore[union-attr]
        assert windows.shape == whole.shape and windows.dtype == whole.dtype
        assert np.array_equal(windows[9:33, 7:39], whole[9:33, 7:39])


@pytest.mark.parametrize("values", [picture(30, 20, 3), picture(30, 20, 1)[..., 0] > 99], ids=["colour", "bool"])
def test_an_array_file(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with open_windows(tmp_path / "a.npy") as windows:  # type: ignore[union-attr]
        assert np.array_equal(windows[5:25, 3:9], read_image(tmp_path / "a.npy")[5:25, 3:9])


def test_what_a_part_does_not_tell_is_not_read_in_parts(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "wide.tif", np.full((20, 20), 300, np.int32))
    assert open_windows(tmp_path / "wide.tif") is None
    tifffile.imwrite(tmp_path / "float.tif", np.full((20, 20), 200, np.float32))
    with open_windows(tmp_path / "float.tif") as windows, pytest.raises(DataError, match="floats beyond"):  # type: ignore[union-attr]
        windows[:5]


def test_memory_is_that_of_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.tif", picture(512, 512, 3), tile=(32, 32), compression="zlib")
    with open_windows(path) as windows:
        assert isinstance(windows, Segments)
        for top in range(0, 512, 64):
            windows[top : top + 64, 64:128]
        assert len(windows.kept.values) == 8 * 2 * 2
        monkeypatch.setattr("intarsia.data.windows.KEPT_BYTES", 3 * 32 * 32 * 3)
        windows[:32, :32]
        assert len(windows.kept.values) == 3
        windows[:64, :64]
        assert len(windows.kept.values) == 4, "what a slice touches is kept, however much it is"


def test_damage_in_the_middle_is_found_where_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(128, 96, 3), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[7], file.pages[0].databytecounts[7]  # row 2, column 1 of 4 x 3
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * count)
    with open_windows(path) as windows:  # type: ignore[union-attr]
        assert windows[:64].any()
        with pytest.raises(DataError, match=r"a\.tif is damaged at rows 64 to 96, columns 32 to 64"):
            windows[60:70, 20:40]
        assert windows[96:].any()


def test_a_cut_file_and_one_beyond_the_limit_are_refused_at_once(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(128, 96, 3), tile=(32, 32))
    with pytest.raises(UnsafeFileError, match="limit of 12,000"):
        open_windows(path, limit=12_000)
    image = np.zeros((64, 64), np.uint8)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(image, tile=(32, 32), metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        last = max(file.pages[0].dataoffsets)
    (tmp_path / "b.tif").write_bytes((tmp_path / "b.tif").read_bytes()[: last + 10])
    with pytest.raises(DataError, match=r"b\.tif"):
        open_windows(tmp_path / "b.tif")
