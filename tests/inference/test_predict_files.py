"""Folders of answers: whole files, resumed where they stopped, one name a picture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from intarsia.errors import DataError, DiskError, UsageError
from intarsia.files import Lock
from intarsia.inference import Predictor, predict_files
from intarsia.inference.inputs import find_inputs, give_names

Build = Callable[..., Predictor]
MASK = np.array([[0, 1, 2, 2], [2, 1, 0, 0]], np.int16)


def save(path: Path, mask: np.ndarray = MASK, count: int = 3) -> Path:
    """A grey picture of which the model of brightness says `mask`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.rint(mask * 255 / (count - 1)).astype(np.uint8)).save(path, lossless=True)
    return path


def answer(out: Path, name: str) -> np.ndarray:
    return np.asarray(PillowImage.open(out / "masks" / f"{name}.png"))


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def test_a_folder_becomes_a_folder_of_masks(brightness: Build, tmp_path: Path) -> None:
    for name in ("a.png", "deep/er/b.tif", "c d ü.webp"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    save(tmp_path / "in" / ".hidden" / "d.png")
    out = tmp_path / "out"
    calls: list[tuple[int, int, str]] = []
    summary = predict_files(brightness(), [tmp_path / "in"], out, progress=lambda *each: calls.append(each))
    assert (summary.done, summary.skipped, summary.failed) == (3, 0, ())
    assert calls == [(1, 3, "a"), (2, 3, "c d ü"), (3, 3, "deep/er/b")]
    assert files(out) == {"masks/a.png", "masks/deep/er/b.png", "masks/c d ü.png", "prediction.json", ".lock"}
    for name in ("a", "deep/er/b", "c d ü"):
        assert np.array_equal(answer(out, name), MASK)


def test_everything_on_request(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    out = tmp_path / "out"
    predictor = brightness(temperature=3)
    predict_files(predictor, [tmp_path / "a.png"], out, overlay=True, probabilities=True, uncertainty=True)
    whole = predictor.predict(tmp_path / "a.png")
    assert np.array_equal(np.asarray(PillowImage.open(out / "overlays/a.png")), whole.overlay())
    assert np.abs(tifffile.imread(out / "probabilities/a.tif") / 65535 - whole.probabilities).max() < 1e-5
    stored = np.asarray(PillowImage.open(out / "uncertainty/a.png")) / 65535
    assert np.abs(stored - whole.uncertainty).max() < 1e-5


def test_a_picture_in_many_tiles_gives_the_same_files(brightness: Build, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (150, 110)).astype(np.int16)
    save(tmp_path / "a.png", mask)
    for name, tile in (("whole", None), ("tiles", 32)):
        predict_files(
            brightness(tile=tile), [tmp_path / "a.png"], tmp_path / name, probabilities=True, uncertainty=True
        )
    assert np.array_equal(answer(tmp_path / "tiles", "a"), mask)
    whole, tiles = (tifffile.imread(tmp_path / each / "probabilities/a.tif").astype(int) for each in ("whole", "tiles"))
    assert np.abs(whole - tiles).max() <= 1


def test_overlapping_classes_get_a_file_each(brightness: Build, tmp_path: Path) -> None:
    PillowImage.fromarray(np.array([[0, 128, 255]], np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    predictor = brightness(classes=3, overlapping=True)
    predict_files(predictor, [tmp_path / "a.png"], out, overlay=True)
    expected = {"background": [255, 255, 255], "level_1": [0, 255, 255], "level_2": [0, 0, 255]}
    for name, row in expected.items():
        assert np.asarray(PillowImage.open(out / "labels" / name / "a.png")).tolist() == [row]
    (out / "labels" / "level_1" / "a.png").unlink()
    assert predict_files(predictor, [tmp_path / "a.png"], out, overlay=True).done == 1
    assert predict_files(predictor, [tmp_path / "a.png"], out, overlay=True).skipped == 1


def test_sixteen_bit_and_tiny_pictures(brightness: Build, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", (MASK * 32767.5).round().astype(np.uint16))
    PillowImage.fromarray(np.array([[255]], np.uint8)).save(tmp_path / "one.png")
    tifffile.imwrite(tmp_path / "float.tif", (MASK / 2).astype(np.float32))
    out = tmp_path / "out"
    assert predict_files(brightness(channels=3), [str(tmp_path / "*")], out).done == 3
    assert np.array_equal(answer(out, "deep"), MASK) and np.array_equal(answer(out, "float"), MASK)
    assert answer(out, "one").tolist() == [[2]]


def test_broken_files_are_listed_and_the_rest_goes_on(brightness: Build, tmp_path: Path) -> None:
    good = save(tmp_path / "in/a.png").read_bytes()
    save(tmp_path / "in/z.png")
    (tmp_path / "in/cut.png").write_bytes(good[:-20])
    (tmp_path / "in/empty.jpg").write_bytes(b"")
    (tmp_path / "in/text.tif").write_text("hello")
    (tmp_path / "in/nowhere.png").symlink_to(tmp_path / "gone.png")
    np.save(tmp_path / "in/six.npy", np.zeros((2, 3, 6), np.uint8))
    np.save(tmp_path / "in/objects.npy", np.array([{}], object), allow_pickle=True)
    out = tmp_path / "out"
    summary = predict_files(brightness(channels=3), [tmp_path / "in"], out)
    assert summary.done == 2
    assert {path.name for path, _ in summary.failed} == {
        "cut.png", "empty.jpg", "text.tif", "nowhere.png", "six.npy", "objects.npy",
    }  # fmt: skip
    assert all(path.name in reason and "\n" not in reason for path, reason in summary.failed)
    assert files(out / "masks") == {"a.png", "z.png"}
    save(tmp_path / "in/cut.png")
    again = predict_files(brightness(channels=3), [tmp_path / "in"], out)
    assert (again.done, again.skipped, len(again.failed)) == (1, 2, 5)


def test_names_never_collide(brightness: Build, tmp_path: Path) -> None:
    first, second = np.zeros((1, 2), np.int16), np.ones((1, 2), np.int16)
    save(tmp_path / "a/x.png", first)
    save(tmp_path / "b/x.png", second)
    save(tmp_path / "b/x.tif", first)
    out = tmp_path / "out"
    assert (
        predict_files(brightness(), [tmp_path / "a/x.png", tmp_path / "b/x.png", tmp_path / "b/x.tif"], out).done == 3
    )
    assert answer(out, "a/x").max() == 0 and answer(out, "b/x").min() == 1 and answer(out, "b/x_tif").max() == 0
    both = tmp_path / "both"
    assert predict_files(brightness(), [tmp_path / "a", tmp_path / "b"], both).done == 3
    assert files(both / "masks") == {"x.png", "x_png.png", "x_tif.png"}
    sources = json.loads((both / "prediction.json").read_text())["pictures"]
    assert sources["x_png"]["source"] == str((tmp_path / "b/x.png").resolve())


def test_a_name_once_given_stays(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "in/x.tif")
    out = tmp_path / "out"
    predict_files(brightness(), [tmp_path / "in"], out)
    save(tmp_path / "in/x.png", MASK * 0)
    save(tmp_path / "in/X.bmp", MASK * 0 + 1)
    summary = predict_files(brightness(), [tmp_path / "in"], out)
    assert (summary.done, summary.skipped) == (2, 1)
    assert (
        np.array_equal(answer(out, "x"), MASK) and answer(out, "x_png").max() == 0 and answer(out, "X_bmp").min() == 1
    )


def test_a_folder_that_was_moved_keeps_its_names(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "in/x.png")
    save(tmp_path / "in/y.png")
    out = tmp_path / "out"
    predict_files(brightness(), [tmp_path / "in"], out)
    (tmp_path / "in").rename(tmp_path / "moved")
    assert predict_files(brightness(), [tmp_path / "moved"], out).failed == ()
    assert files(out / "masks") == {"x.png", "y.png"}


def test_inputs(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.JPG", "out/masks/a.png", ".c.png", "[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    out = tmp_path / "out"

    def names(*inputs: object) -> list[str]:
        return [each.name for each in find_inputs([str(each) for each in inputs], out)]

    assert names(tmp_path) == ["[1]", "a", "sub/b"]
    assert names(tmp_path, tmp_path / "a.png", tmp_path / "sub" / ".." / "a.png") == ["[1]", "a", "sub/b"]
    assert names(tmp_path / "[1].png") == ["[1]"], "a file's name is no pattern"
    assert names(tmp_path / "**" / "*.JPG") == ["b"]
    assert names(tmp_path / "**" / "*.*") == ["[1]", "a", "sub/b"]
    assert names(tmp_path / ".c.png") == [".c"], "asked for by name"
    for missing in (tmp_path / "none.png", tmp_path / "*.webp", tmp_path / "out"):
        with pytest.raises(DataError, match="no pictures were found"):
            find_inputs([missing], out)


def test_names_on_file_systems_without_case_or_with_decomposed_letters(tmp_path: Path) -> None:
    for name in ("\u00e9.png", "e\u0301.tif", "\u00c9.bmp"):
        (tmp_path / name).write_bytes(b"")
    found = find_inputs([tmp_path], tmp_path / "out")
    if len(found) == 3:  # the file system itself tells them apart
        assert len({name.casefold() for name in give_names(found, {})}) == 3


def test_only_what_is_missing_or_changed_is_done_again(brightness: Build, tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"in/{name}.png")
    out = tmp_path / "out"
    inputs = [tmp_path / "in"]
    predict_files(brightness(), inputs, out)
    untouched = (out / "masks/a.png").stat().st_mtime_ns
    (out / "masks/b.png").unlink()
    save(tmp_path / "in/c.png", np.zeros((5, 5), np.int16))
    summary = predict_files(brightness(), inputs, out)
    assert (summary.done, summary.skipped) == (2, 1)
    assert answer(out, "c").shape == (5, 5) and (out / "masks/a.png").stat().st_mtime_ns == untouched
    assert predict_files(brightness(), inputs, out, overlay=True).done == 3, "what was not asked for before is missing"
    assert predict_files(brightness(), inputs, out).skipped == 3
    assert predict_files(brightness(), inputs, out, overwrite=True).done == 3


def test_answers_of_another_model_are_not_mixed_in(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    out = tmp_path / "out"
    predict_files(brightness(), [tmp_path / "a.png", tmp_path / "b.png"], out, overlay=True)
    other = brightness(flips=True, temperature=2)
    with pytest.raises(UsageError, match=r"other settings \(other flips, temperature\)"):
        predict_files(other, [tmp_path / "a.png"], out)
    retrained = brightness()
    retrained.model.mean += 1
    with pytest.raises(UsageError, match="weights"):
        predict_files(retrained, [tmp_path / "a.png"], out)
    assert np.array_equal(answer(out, "a"), MASK)
    assert predict_files(retrained, [tmp_path / "a.png"], out, overwrite=True).done == 1
    assert answer(out, "a").max() == 0
    assert files(out) == {"masks/a.png", "prediction.json", ".lock"}, "nothing of the old model is left"


def test_files_from_elsewhere_are_neither_taken_for_answers_nor_overwritten(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    out = tmp_path / "out"
    save(out / "masks/a.png", MASK * 0)
    with pytest.raises(UsageError, match="stands there already"):
        predict_files(brightness(), [tmp_path / "a.png"], out)
    assert answer(out, "a").max() == 0
    predict_files(brightness(), [tmp_path / "a.png"], out, overwrite=True)
    assert np.array_equal(answer(out, "a"), MASK)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {}, "pictures": {"a": {}}}', "\x00"])
def test_a_record_that_can_not_be_understood(brightness: Build, tmp_path: Path, content: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/prediction.json").write_text(content)
    with pytest.raises(DataError, match=r"prediction\.json"):
        predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "out")
    assert predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "out", overwrite=True).done == 1


def test_a_strangers_record_can_not_delete_outside_its_folder(brightness: Build, tmp_path: Path) -> None:
    precious = save(tmp_path / "precious.png")
    save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    entry = {"source": "x", "bytes": 1, "modified": 1}
    for name in ("../../precious", str(tmp_path / "precious")):
        record = {"settings": {"weights": "other"}, "pictures": {name: entry}}
        (tmp_path / "out/prediction.json").write_text(json.dumps(record))
        predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "out", overwrite=True)
        assert precious.exists()


def test_a_folder_in_use_is_refused(brightness: Build, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with Lock(tmp_path / "out" / ".lock"), pytest.raises(DiskError, match="in use by process"):
        predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "file")
    (tmp_path / "second").mkdir()
    (tmp_path / "second/masks").write_text("a file in the way")
    with pytest.raises(DiskError, match="masks"):
        predict_files(brightness(), [tmp_path / "a.png"], tmp_path / "second")


STOPPED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Brightness, config
from intarsia.inference import Predictor, predict_files
from intarsia.records import Classes
predictor = Predictor(Brightness(config(3, 1)), Classes.named(["background", "level 1", "level 2"]), device="cpu")
def progress(done, total, name):
    print(name, flush=True)
    sys.stdin.readline()
predict_files(predictor, [sys.argv[2]], Path(sys.argv[3]), overlay=True, progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_midway_it_goes_on_where_it_stopped(brightness: Build, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(np.int16)
    for i in range(8):
        save(tmp_path / f"in/{i}.png", mask)
    out = tmp_path / "out"
    command = [sys.executable, "-c", STOPPED, str(Path(__file__).parent), str(tmp_path / "in"), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    for i in range(3):
        assert process.stdout.readline() == f"{i}\n"
        if i < 2:
            process.stdin.write("\n")
            process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    standing = files(out / "masks")
    assert {"0.png", "1.png", "2.png"} <= standing and len(standing) <= 5
    for name in standing:
        assert np.array_equal(answer(out, name.removesuffix(".png")), mask), "whole, or not there"
    (out / "masks" / ".00000000-999999999-1-gone.part").write_bytes(b"half")
    summary = predict_files(brightness(), [tmp_path / "in"], out, overlay=True)
    assert (summary.skipped, summary.done) == (len(standing), 8 - len(standing))
    assert len(files(out / "masks")) == len(files(out / "overlays")) == 8
