"""Huge pictures: windows in, tiled TIFF out, the same answers as of the whole, and gone on with in the middle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from scipy.ndimage import uniform_filter

from intarsia.data.pyramids import SIDE
from intarsia.data.read import read_image, read_mask, to_float
from intarsia.data.windows import Windows
from intarsia.errors import DiskError
from intarsia.inference.blocks import answer_blocks
from intarsia.inference.folder import predict_files
from intarsia.inference.huge import state_of
from intarsia.inference.reading import read_picture, read_windows
from intarsia.inference.tiles import Tiling, answer_rows
from intarsia.records import Classes, Prediction

SMALL = 10_000  # pixels beyond which a picture is huge in these tests


def save(path: Path, height: int = 600, width: int = 300, **options: Any) -> np.ndarray:
    """A tiled TIFF of grey noise, half of it black."""
    image = np.random.default_rng(height).integers(0, 256, (height, width)).astype(np.uint8)
    image[:, width // 2 :] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, **({"tile": (64, 64), "compression": "zlib"} | options))
    return image


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()} - {".lock"}


class Answerer:
    """Answers computed with NumPy, in tiles of 64 pixels. It stops as by Ctrl-C after so many blocks, and remembers the
    rows from which on it was asked."""

    gives_probabilities, limit = True, 10**9

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray], classes: Classes, blocks: int, plain: float) -> None:
        self.answer, self.classes, self.blocks_left = answer, classes, blocks
        self.tiling = Tiling((64, 64), None, 0.25, 2, plain=plain)
        self.started: tuple[int, ...] = ()

    def settings(self) -> dict[str, Any]:
        return {"classes": len(self.classes), "plain": self.tiling.plain}

    def share(self, lanes: int) -> int:
        return 1

    def read(self, picture: Path) -> np.ndarray:
        return read_picture(picture, 1)

    def windows(self, path: Path, scratch: Path | None = None) -> Windows | None:
        return read_windows(path, 1, scratch=scratch)

    def strips(self, image: Any, name: str) -> Iterator[Prediction]:
        top = 0
        for rows in answer_rows(self.answer, image, self.tiling, to_float):
            yield Prediction(name, image[top : top + rows.shape[1]], self.classes, rows)
            top += rows.shape[1]

    def blocks(self, image: Any, scratch: Path, name: str, start: int) -> Iterator[tuple[int, int, Prediction]]:
        self.started += (start,)
        for top, left, values in answer_blocks(self.answer, image, self.tiling, to_float, scratch, start=start):
            if self.blocks_left == 0:
                raise KeyboardInterrupt
            self.blocks_left -= 1
            part = image[top : top + values.shape[1], left : left + values.shape[2]]
            yield top, left, Prediction(name, part, self.classes, values)

    def ambiguous(self) -> NoReturn:
        raise AssertionError("it has one answer")

    def sample_strips(self, image: Any, name: str, count: int, seed: int) -> NoReturn:
        raise AssertionError("it has one answer")


def smooth(blocks: int = 10**9) -> Answerer:
    """Two classes by the mean over five by five pixels: neighbours count."""

    def answer(tiles: np.ndarray) -> np.ndarray:
        mean = uniform_filter(tiles[..., 0], (0, 5, 5), mode="nearest")
        return np.stack([mean, 1 - mean], axis=1)

    return Answerer(answer, Classes.named(["a", "b"]), blocks, 0.0)


def levels(count: int = 3, overlapping: bool = False) -> Answerer:
    """Class k where the picture is nearest to k / (K - 1); where classes overlap, each up to its brightness."""
    steps = np.linspace(0, 1, count, dtype=np.float32).reshape(1, -1, 1, 1)

    def answer(tiles: np.ndarray) -> np.ndarray:
        grey = tiles[:, None, :, :, 0]
        return (grey > steps - 0.1).astype(np.float32) if overlapping else 1 - np.abs(grey - steps)

    names = ["background", *(f"level {i}" for i in range(1, count))]
    return Answerer(answer, Classes.named(names, overlapping), 10**9, 0.0)


def test_the_files_are_those_of_the_whole_picture(tmp_path: Path) -> None:
    save(tmp_path / "in/deep/a.tif")
    predictor = smooth()
    options: dict[str, bool] = {"overlay": True, "uncertainty": True}
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "huge", huge=SMALL, **options)
    assert (summary.done, summary.failed) == (1, ())
    predict_files(predictor, [tmp_path / "in"], tmp_path / "whole", **options)
    assert files(tmp_path / "huge") == {f"{kind}/deep/a.tif" for kind in ("masks", "overlays", "uncertainty")} | {
        "prediction.json"
    }
    assert np.array_equal(
        read_mask(tmp_path / "huge/masks/deep/a.tif").values, read_mask(tmp_path / "whole/masks/deep/a.png").values
    )
    assert np.array_equal(
        read_image(tmp_path / "huge/uncertainty/deep/a.tif"), read_image(tmp_path / "whole/uncertainty/deep/a.png")
    )
    ours, theirs = (read_image(tmp_path / out) for out in ("huge/overlays/deep/a.tif", "whole/overlays/deep/a.png"))
    assert np.array_equal(ours, theirs)


def test_a_network_of_single_pixels_changes_nothing(tmp_path: Path) -> None:
    image = save(tmp_path / "a.tif", 530, 290)
    predict_files(levels(256), [tmp_path / "a.tif"], tmp_path / "out", huge=SMALL)
    with tifffile.TiffFile(tmp_path / "out/masks/a.tif") as file:
        assert np.array_equal(file.asarray(), image) and file.pages[0].dtype == np.uint16, "above 255 classes 16 bits"
        assert [level.shape for level in file.series[0].levels] == [(530, 290), (265, 145), (133, 73)]
        assert json.dumps(file.ome_metadata).count("level ") == 255


def test_where_classes_overlap_each_has_a_file(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", 300, 280)
    predictor = levels(3, overlapping=True)
    for out, huge in (("huge", SMALL), ("whole", 10**9)):
        predict_files(predictor, [tmp_path / "a.tif"], tmp_path / out, huge=huge)
    for place in ("masks", "labels/background", "labels/level_1", "labels/level_2"):
        ours, theirs = tmp_path / f"huge/{place}/a.tif", tmp_path / f"whole/{place}/a.png"
        assert np.array_equal(read_mask(ours).values, read_mask(theirs).values)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_more_than_eight_bits_are_shown_alike_everywhere(dtype: type, tmp_path: Path) -> None:
    ramp = np.linspace(0.1, 0.4, 300 * 300, dtype=np.float32).reshape(300, 300)
    values = (ramp * 65535).astype(np.uint16) if dtype is np.uint16 else ramp
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64), compression="zlib")
    predictor = levels(2)
    for out, huge in (("huge", SMALL), ("whole", 10**9)):
        predict_files(predictor, [tmp_path / "a.tif"], tmp_path / out, huge=huge, overlay=True)
    ours, theirs = (read_image(tmp_path / each) for each in ("huge/overlays/a.tif", "whole/overlays/a.png"))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("blocks", [0, 14, 30, 59])
def test_a_stopped_prediction_goes_on_below_its_last_row_of_tiles(blocks: int, tmp_path: Path) -> None:
    save(tmp_path / "a.tif")
    whole = smooth()
    predict_files(whole, [tmp_path / "a.tif"], tmp_path / "whole", huge=SMALL, uncertainty=True)
    out = tmp_path / "out"
    first = smooth(blocks)
    with pytest.raises(KeyboardInterrupt):
        predict_files(first, [tmp_path / "a.tif"], out, huge=SMALL, uncertainty=True)
    assert not any(each.startswith(("masks", "uncertainty")) for each in files(out))
    again = smooth()
    predict_files(again, [tmp_path / "a.tif"], out, huge=SMALL, uncertainty=True)
    rows = blocks // 6 * 48  # six blocks a row, each some 48 pixels high
    assert again.started[0] in (rows // SIDE * SIDE, (rows + 4 * blocks) // SIDE * SIDE)
    for kind in ("masks", "uncertainty"):
        assert (out / kind / "a.tif").read_bytes() == (tmp_path / "whole" / kind / "a.tif").read_bytes()
    assert not (out / ".unfinished").exists()
    third = smooth()
    assert predict_files(third, [tmp_path / "a.tif"], out, huge=SMALL, uncertainty=True).skipped == 1
    assert not third.started


def test_what_was_finished_is_not_taken_for_that_of_another_picture_or_other_files(tmp_path: Path) -> None:
    save(tmp_path / "a.tif")
    for change in ("picture", "files"):
        out = tmp_path / change
        with pytest.raises(KeyboardInterrupt):
            predict_files(smooth(50), [tmp_path / "a.tif"], out, huge=SMALL)
        assert len((state_of(out, "a") / "journal").read_text().splitlines()) == 2, "the stamp and a row"
        if change == "picture":
            save(tmp_path / "a.tif", 600, 310)
        again = smooth()
        predict_files(again, [tmp_path / "a.tif"], out, huge=SMALL, overlay=change == "files")
        assert again.started == (0,)
        assert read_image(out / "masks/a.tif").shape[:2] == read_image(tmp_path / "a.tif").shape[:2]


def test_a_torn_journal_and_torn_tiles_are_cut_back(tmp_path: Path) -> None:
    save(tmp_path / "a.tif")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_files(smooth(76), [tmp_path / "a.tif"], out, huge=SMALL)
    state = state_of(out, "a")
    lines = (state / "journal").read_text().splitlines(keepends=True)
    assert len(lines) == 3
    (state / "journal").write_text("".join(lines[:2]) + lines[2][:-5])
    with (state / "0.tiles").open("ab") as file:
        file.write(b"half a row")
    again = smooth()
    predict_files(again, [tmp_path / "a.tif"], out, huge=SMALL)
    predict_files(smooth(), [tmp_path / "a.tif"], tmp_path / "whole", huge=SMALL)
    assert again.started == (SIDE,)
    assert np.array_equal(read_image(out / "masks/a.tif"), read_image(tmp_path / "whole/masks/a.tif"))


def test_damage_in_the_middle_fails_that_picture_alone_and_keeps_what_is_done(tmp_path: Path) -> None:
    save(tmp_path / "in/a.tif")
    save(tmp_path / "in/b.tif", 320, 300)
    with tifffile.TiffFile(tmp_path / "in/a.tif") as file:
        place, count = file.pages[0].dataoffsets[7 * 5 + 2], file.pages[0].databytecounts[7 * 5 + 2]
    with (tmp_path / "in/a.tif").open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\xff" * count)
    out = tmp_path / "out"
    summary = predict_files(smooth(), [tmp_path / "in"], out, huge=SMALL)
    assert summary.done == 1 and (out / "masks/b.tif").is_file() and not (out / "masks/a.tif").exists()
    ((path, said),) = summary.failed
    assert path.name == "a.tif" and "rows 448 to 512, columns 128 to 192" in said
    assert len((state_of(out, "a") / "journal").read_text().splitlines()) == 2


def test_a_full_disk_is_said_and_nothing_half_written_is_taken_for_done(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    save(tmp_path / "a.tif")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    for most in (100, 200_000):  # too little for the record; for the rows that wait
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(DiskError, match="can't be written"):
                predict_files(smooth(), [tmp_path / "a.tif"], out, huge=SMALL, overlay=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not [each for each in files(out) if each.endswith((".tif", ".png"))]
    predict_files(smooth(), [tmp_path / "a.tif"], out, huge=SMALL, overlay=True)
    assert files(out) == {"masks/a.tif", "overlays/a.tif", "prediction.json"}


def test_what_is_huge_can_change(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", 300, 300)
    out = tmp_path / "out"
    predict_files(levels(), [tmp_path / "a.tif"], out, huge=SMALL)
    assert predict_files(levels(), [tmp_path / "a.tif"], out).skipped == 1
    predict_files(levels(), [tmp_path / "a.tif"], out, overlay=True)
    assert files(out) == {"masks/a.png", "overlays/a.png", "prediction.json"}
    predict_files(levels(), [tmp_path / "a.tif"], out, huge=SMALL, overwrite=True)
    assert files(out) == {"masks/a.tif", "prediction.json"}


def test_what_can_only_be_read_whole_is(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "wide.tif", np.full((200, 200), 255, np.int32))
    save(tmp_path / "a.tif", 200, 200)
    summary = predict_files(levels(), [tmp_path], tmp_path / "out", huge=SMALL, probabilities=True)
    assert summary.done == 2 and not summary.failed
    summary = predict_files(levels(), [tmp_path / "wide.tif"], tmp_path / "two", huge=SMALL)
    assert files(tmp_path / "two") == {"masks/wide.png", "prediction.json"}


def test_a_png_is_read_in_windows_where_that_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyvips")
    Pillow.fromarray(save(tmp_path / "b.tif", 300, 280)).save(tmp_path / "a.png")
    said: list[str] = []
    predict_files(smooth(), [tmp_path / "a.png"], tmp_path / "huge", huge=SMALL, say=said.append)
    assert files(tmp_path / "huge") == {"masks/a.tif", "prediction.json"} and not said
    monkeypatch.setitem(sys.modules, "pyvips", None)  # as if it were not installed
    predict_files(smooth(), [tmp_path / "a.png"], tmp_path / "whole", huge=SMALL, say=said.append)
    assert files(tmp_path / "whole") == {"masks/a.png", "prediction.json"}
    assert len(said) == 1 and "a.png is read whole" in said[0] and "pip install 'intarsia[huge]'" in said[0]
    ours, theirs = (read_mask(tmp_path / each).values for each in ("huge/masks/a.tif", "whole/masks/a.png"))
    assert np.array_equal(ours, theirs)


def test_zarr_in_and_out(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    image = save(tmp_path / "same.tif", 600, 300)
    array = zarr.create_array(str(tmp_path / "in/deep/a.ome.zarr"), shape=image.shape, chunks=(90, 80), dtype="u1")
    array[:] = image
    save(tmp_path / "in/b.tif", 300, 300)
    out = tmp_path / "out"
    options: dict[str, Any] = {"huge": SMALL, "huge_format": "zarr", "overlay": True, "uncertainty": True}
    with pytest.raises(KeyboardInterrupt):
        predict_files(smooth(40), [tmp_path / "in"], out, **options)
    assert not list(out.glob("masks/**/a.ome.zarr"))
    summary = predict_files(smooth(), [tmp_path / "in"], out, **options)
    assert (summary.done, summary.failed) == (1 if (out / "masks/b.ome.zarr").exists() and summary.skipped else 2, ())
    for kind in ("masks", "overlays", "uncertainty"):
        assert {each.name for each in (out / kind).iterdir()} == {"deep", "b.ome.zarr"}
        assert [each.name for each in (out / kind / "deep").iterdir()] == ["a.ome.zarr"]
    assert predict_files(smooth(), [tmp_path / "in"], out, **options).skipped == 2
    predict_files(smooth(), [tmp_path / "same.tif"], tmp_path / "tiff", huge=SMALL, overlay=True, uncertainty=True)
    for kind in ("masks", "overlays", "uncertainty"):
        ours = read_image(out / kind / "deep/a.ome.zarr")
        theirs = read_mask(tmp_path / "tiff" / kind / "same.tif").values
        assert np.array_equal(ours, theirs[..., None] if theirs.ndim == 2 else theirs)
    about = zarr.open_group(str(out / "masks/deep/a.ome.zarr"), mode="r").attrs["ome"]
    assert [each["name"] for each in about["image-label"]["properties"]] == ["a", "b"]
    again = predict_files(smooth(), [tmp_path / "in/b.tif"], out, huge=SMALL, overwrite=True)
    assert again.done == 1 and {each.name for each in (out / "masks").iterdir()} == {"deep", "b.tif"}
    (tmp_path / "in/deep/a.ome.zarr/c/0/0").write_bytes(b"rubbish")
    summary = predict_files(smooth(), [tmp_path / "in/deep"], tmp_path / "broken", huge=SMALL)
    ((path, words),) = summary.failed
    assert path.name == "a.ome.zarr" and "damaged at rows 0 to" in words


def test_progress_is_told_within_a_picture(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"in/{name}.tif")
    calls: list[tuple[str, int, int, int, int]] = []
    predict_files(smooth(), [tmp_path / "in"], tmp_path / "out", huge=SMALL, within=lambda *each: calls.append(each))
    for number, name in enumerate("ab"):
        rows = [call[1] for call in calls if call[0] == name]
        assert rows == sorted(set(rows)) and len(rows) > 5 and rows[-1] == 600
        assert {call[2:] for call in calls if call[0] == name} == {(600, number, 2)}
