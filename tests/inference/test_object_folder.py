"""Folders of objects: whole files, resumed where they stopped, tables that never say less than what stands there."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from object_models import Bright, Numbers, object_classes, object_config
from PIL import Image as PillowImage

from intarsia.data.coco import read_coco
from intarsia.data.run_lengths import label_image_of
from intarsia.errors import DataError, UsageError
from intarsia.inference import object_folder
from intarsia.inference.object_folder import predict_objects
from intarsia.inference.objects import ObjectPredictor
from intarsia.metrics.object_measurements import parquet_is_installed

TWO = np.zeros((12, 20), np.uint8)
TWO[1:5, 2:8], TWO[6:11, 12:19] = 1, 2  # of class 2 and of class 1
EACH = {"labels/a.png", "measurements/a.csv"}
TOGETHER = {"objects.csv", "pictures.csv", ".lock", "prediction.json", *["objects.parquet"] * parquet_is_installed()}


def predictor(**options: object) -> ObjectPredictor:
    return ObjectPredictor(Numbers(object_config(classes=3)), object_classes(3), device="cpu", **options)  # type: ignore[arg-type]


def save(path: Path, picture: np.ndarray = TWO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(picture).save(path)
    return path


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labels(out: Path, name: str) -> np.ndarray:
    return np.asarray(PillowImage.open(out / "labels" / f"{name}.png"))


def counts(out: Path) -> dict[str, list[int]]:
    """Of each picture: objects, and those of each class."""
    return {row.pop("name"): list(map(int, row.values())) for row in rows(out / "pictures.csv")}


def test_a_folder_becomes_label_images_and_tables(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/deep/er/b ü.png", TWO[:5])
    save(tmp_path / "in/none.png", TWO * 0)
    out, calls = tmp_path / "out", list[tuple[int, int, str]]()
    summary = predict_objects(predictor(), [tmp_path / "in"], out, progress=lambda *each: calls.append(each))
    assert (summary.done, summary.skipped, summary.failed, summary.objects) == (3, 0, (), 3)
    assert calls == [(1, 3, "a"), (2, 3, "deep/er/b ü"), (3, 3, "none")]
    each = {f"{folder}/{name}" for name in ("a", "deep/er/b ü", "none") for folder in ("labels", "measurements")}
    assert {path.rsplit(".", 1)[0] for path in files(out) - TOGETHER} == each and files(out) >= TOGETHER
    assert labels(out, "a").dtype == np.uint16 and np.array_equal(labels(out, "a") > 0, TWO > 0)
    assert not labels(out, "none").any() and labels(out, "none").shape == TWO.shape

    assert counts(out) == {"a": [2, 1, 1], "deep/er/b ü": [1, 0, 1], "none": [0, 0, 0]}
    lines = rows(out / "objects.csv")
    assert [(line["name"], line["id"], line["class"]) for line in lines] == [
        ("a", "1", "kind 1"), ("a", "2", "kind 2"), ("deep/er/b ü", "1", "kind 2"),
    ]  # fmt: skip
    assert [int(line["area"]) for line in lines] == [35, 24, 24] and float(lines[0]["score"]) > float(lines[1]["score"])
    assert lines[0]["left"] == "12" and float(lines[0]["mean_0"]) == 2
    assert [{"name": "a", **row} for row in rows(out / "measurements/a.csv")] == lines[:2]
    assert rows(out / "measurements/none.csv") == []


def test_parquet_says_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    save(tmp_path / "in/007.png")
    predict_objects(predictor(), [tmp_path / "in"], tmp_path / "out")
    table = parquet.read_table(tmp_path / "out/objects.parquet").to_pydict()
    assert table["name"] == ["007", "007"] and table["class"] == ["kind 1", "kind 2"] and table["area"] == [35, 24]


def test_everything_on_request(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/sub/none.png", TWO * 0)
    out, asked = tmp_path / "out", predictor()
    predict_objects(asked, [tmp_path / "in"], out, overlay=True, coco=True, table=False)
    whole = asked.predict(tmp_path / "in/a.png")
    assert np.array_equal(np.asarray(PillowImage.open(out / "overlays/a.png")), whole.overlay())
    assert list(rows(out / "objects.csv")[0]) == ["name", "id", "class", "score"], "nothing was measured"
    for path, names in ((out / "coco/a.json", ["a.png"]), (out / "objects.json", ["a.png", "sub/none.png"])):
        read = read_coco(path)
        assert not read.problems and read.categories == {1: "kind 1", 2: "kind 2"} and list(read.drawings) == names
        shapes = read.drawings["a.png"].shapes
        runs = [shape.runs for shape in shapes if shape.runs is not None]
        assert np.array_equal(label_image_of(runs, (12, 20)), labels(out, "a"))
        assert [shape.category for shape in shapes] == [1, 2]
    tree = json.loads((out / "objects.json").read_text())
    assert [each["score"] for each in tree["annotations"]] == pytest.approx([35 / 240, 24 / 240], abs=1e-5)
    assert [each["id"] for each in tree["annotations"]] == [1, 2]


def test_pictures_of_different_channels_stand_in_one_table(tmp_path: Path) -> None:
    save(tmp_path / "in/grey.png")
    save(tmp_path / "in/rgb.png", np.repeat(TWO[..., None], 3, axis=2))
    asked = ObjectPredictor(Numbers(object_config(3, 3)), object_classes(3), device="cpu")
    predict_objects(asked, [tmp_path / "in"], tmp_path / "out")
    grey, *_, rgb = rows(tmp_path / "out/objects.csv")
    assert grey["mean_0"] == "2" and grey["mean_2"] == "" and rgb["mean_2"] == "1"


def test_more_objects_than_a_png_can_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:520, :520]
    save(tmp_path / "many.png", np.where((y % 2 == 0) & (x % 2 == 0), 255, 0).astype(np.uint8))  # 67600 dots
    asked, out = ObjectPredictor(Bright(object_config()), object_classes(), device="cpu"), tmp_path / "out"
    assert predict_objects(asked, [tmp_path / "many.png"], out, table=False).objects == 67600
    assert tifffile.imread(out / "labels/many.tif").max() == 67600 and not (out / "labels/many.png").exists()
    assert predict_objects(asked, [tmp_path / "many.png"], out, table=False).skipped == 1
    save(tmp_path / "many.png", TWO * 100)  # fewer now
    assert predict_objects(asked, [tmp_path / "many.png"], out, table=False).objects == 1
    assert files(out / "labels") == {"many.png"}


def test_broken_files_are_listed_and_stand_in_no_table(tmp_path: Path) -> None:
    good = save(tmp_path / "in/a.png").read_bytes()
    (tmp_path / "in/cut.png").write_bytes(good[:-20])
    (tmp_path / "in/text.tif").write_text("hello")
    out = tmp_path / "out"
    summary = predict_objects(predictor(), [tmp_path / "in"], out)
    assert summary.done == 1 and {path.name for path, _ in summary.failed} == {"cut.png", "text.tif"}
    assert list(counts(out)) == ["a"]
    save(tmp_path / "in/cut.png")
    again = predict_objects(predictor(), [tmp_path / "in"], out)
    assert (again.done, again.skipped, len(again.failed), again.objects) == (1, 1, 1, 4)
    with pytest.raises(DataError, match="no pictures were found"):
        predict_objects(predictor(), [tmp_path / "nowhere"], out)


def test_only_what_is_missing_or_changed_is_done_again(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"in/{name}.png")
    out, inputs = tmp_path / "out", [tmp_path / "in"]
    predict_objects(predictor(), inputs, out)
    made = (out / "objects.csv").stat().st_mtime_ns
    assert predict_objects(predictor(), inputs, out).skipped == 3
    assert (out / "objects.csv").stat().st_mtime_ns == made, "nothing is new"
    (out / "pictures.csv").unlink()
    assert predict_objects(predictor(), inputs, out).objects == 6, "made again from what each picture has"
    (out / "labels/b.png").unlink()
    save(tmp_path / "in/c.png", TWO[:5])
    assert predict_objects(predictor(), inputs, out).done == 2
    assert counts(out) == {"a": [2, 1, 1], "b": [2, 1, 1], "c": [1, 0, 1]}
    assert predict_objects(predictor(), inputs, out, coco=True).done == 3, "what was not asked for before is missing"
    save(tmp_path / "in/d.png")
    assert predict_objects(predictor(), inputs, out).done == 1
    assert not (out / "objects.json").exists(), "it would not know the new picture"
    save(tmp_path / "e.png")
    assert predict_objects(predictor(), [tmp_path / "e.png"], out).objects == 9, "with those done before"


def test_pictures_without_the_files_asked_for_now_stay_in_the_tables(tmp_path: Path) -> None:
    out, one, other = tmp_path / "out", save(tmp_path / "a.png"), save(tmp_path / "b.png", TWO[:5])
    predict_objects(predictor(), [one], out)
    assert predict_objects(predictor(), [other], out, overlay=True, coco=True).objects == 3
    assert counts(out) == {"a": [2, 1, 1], "b": [1, 0, 1]} and len(rows(out / "objects.csv")) == 3
    assert list(read_coco(out / "objects.json").drawings) == ["b.png"]


def test_answers_by_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    out, both = tmp_path / "out", [tmp_path / "a.png", tmp_path / "b.png"]
    predict_objects(predictor(), both, out, overlay=True, coco=True)
    for other, words in ((predictor(thresholds={"score": 0.12}), "thresholds"), (predictor(tile=8), "tile")):
        with pytest.raises(UsageError, match=f"other settings .other {words}"):
            predict_objects(other, both, out)
    with pytest.raises(UsageError, match="other measured"):
        predict_objects(predictor(), both, out, table=False)
    stricter = predictor(thresholds={"score": 0.12})
    assert predict_objects(stricter, [tmp_path / "a.png"], out, overwrite=True).objects == 1
    assert files(out) == EACH | TOGETHER, "nothing of the other settings is left"


def test_files_from_elsewhere_are_not_overwritten(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    stranger = save(tmp_path / "out/labels/a.png", TWO * 0).read_bytes()
    with pytest.raises(UsageError, match="stands there already"):
        predict_objects(predictor(), [tmp_path / "a.png"], tmp_path / "out")
    assert (tmp_path / "out/labels/a.png").read_bytes() == stranger
    predict_objects(predictor(), [tmp_path / "a.png"], tmp_path / "out", overwrite=True)
    assert labels(tmp_path / "out", "a").max() == 2


def test_a_table_that_somebody_broke_is_named(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    out = tmp_path / "out"
    predict_objects(predictor(), [tmp_path / "in"], out)
    (out / "measurements/a.csv").write_text('id,class\n1,"kind')
    (out / "pictures.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv can't be read as a table"):
        predict_objects(predictor(), [tmp_path / "in"], out)
    (out / "measurements/a.csv").unlink()
    assert predict_objects(predictor(), [tmp_path / "in"], out).objects == 2


STOPPED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from test_object_folder import predictor, predict_objects
def progress(done, total, name):
    print(name, flush=True)
    sys.stdin.readline()
predict_objects(predictor(), [sys.argv[3]], Path(sys.argv[4]), coco=True, progress=progress)
"""


def tables_of(out: Path, names: Iterable[str]) -> set[str]:
    return {name for name in names if (out / name).exists()}


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_midway_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / f"in/{i}.png")
    out = tmp_path / "out"
    predict_objects(predictor(), [tmp_path / "in/0.png"], out, coco=True)
    assert (out / "objects.json").exists()
    here = Path(__file__).parent
    command = [sys.executable, "-c", STOPPED, str(here), str(here.parent), str(tmp_path / "in"), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "2\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    standing = files(out / "labels")
    assert {"0.png", "1.png", "2.png"} <= standing and len(standing) <= 5
    assert not tables_of(out, [object_folder.ALL_OBJECTS, object_folder.ALL_COCO]), "rather none than old ones"
    summary = predict_objects(predictor(), [tmp_path / "in"], out, coco=True)
    assert (summary.skipped, summary.done, summary.objects) == (len(standing), 6 - len(standing), 12)
    assert len(json.loads((out / "objects.json").read_text())["annotations"]) == 12
    assert len(rows(out / "objects.csv")) == 12
