"""`intarsia.evaluate` of a run of a model of objects: on its own pictures, on others', and on other classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import intarsia
from intarsia.data.scenes import CLASSES, SceneConfig, write_scenes
from intarsia.errors import DataError, UsageError
from intarsia.training.object_evaluation import ObjectEvaluation

SETTINGS = {
    "model.name": "watershed", "model.segmenter.name": "unet", "model.segmenter.encoder": "plain",
    "model.segmenter.width": 4, "model.segmenter.depth": 2, "augment.crop": [32, 32], "train.batch": 2,
    "train.threads": 1, "train.precision": "32-true", "train.device": "cpu", "train.validate_every": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pictures` of four classes of objects, and a `run` on them."""
    room = tmp_path_factory.mktemp("objects")
    write_scenes(room / "pictures", 8, SceneConfig(height=40, width=48), objects=True)
    intarsia.fit(room / "pictures", run=room / "run", settings=SETTINGS, steps=4)
    return room


def plain(folder: Path, source: Path) -> Path:
    """The same pictures with label images that tell no classes: numbers 1..N, and no class table."""
    shutil.copytree(source, folder)
    (folder / "classes.toml").unlink()
    for path in (folder / "masks").glob("*.png"):
        numbers = np.unique(np.asarray(Pillow.open(path)), return_inverse=True)[1]
        shape = np.asarray(Pillow.open(path)).shape
        Pillow.fromarray(numbers.reshape(shape).astype(np.uint16)).save(path)
    return folder


def test_a_run_is_measured_on_its_validation_pictures(room: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = intarsia.evaluate(room / "run", progress=lambda done, of: steps.append((done, of)))
    assert isinstance(found.evaluation, ObjectEvaluation)
    assert (found.split, found.pictures, steps) == ("validation", 1, [(1, 1)])
    assert found.evaluation.objects >= 3
    assert found.evaluation.scores.classes == CLASSES.names[1:]
    told = json.loads((room / "run" / "evaluation.json").read_text())
    assert told["split"] == "validation" and "TP / (TP + FP + FN)" in told["overall"]["AP50"]["definition"]
    report = found.report.read_text(encoding="utf-8")
    assert "tuned on these pictures" in report and "Thresholds, tuned" in report
    assert found.evaluation.remarks


def test_another_folder_of_the_same_classes(room: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "others", 4, SceneConfig(height=40, width=48, seed=3), objects=True)
    found = intarsia.evaluate(room / "run", tmp_path / "others")
    assert isinstance(found.evaluation, ObjectEvaluation)
    assert (found.pictures, found.evaluation.remarks) == (4, ())
    one = intarsia.evaluate(room / "run", tmp_path / "others", names=["scene_0001"])
    assert one.pictures == 1
    assert len({one.report, found.report, room / "run" / "report.html"}) == 3


def test_pictures_that_tell_no_classes_are_compared_without(room: Path, tmp_path: Path) -> None:
    found = intarsia.evaluate(room / "run", plain(tmp_path / "plain", room / "pictures"))
    assert isinstance(found.evaluation, ObjectEvaluation)
    assert found.evaluation.scores.classes == ("object",)
    assert "compared without their classes" in found.evaluation.remarks[0]
    assert not (tmp_path / "plain" / "classes.toml").exists(), "the folder is left as it was"


def test_other_classes_are_refused(room: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "others", 3, SceneConfig(height=40, width=48), objects=True)
    table = tmp_path / "others" / "classes.toml"
    text = table.read_text()
    table.write_text(text.replace(f'"{CLASSES.names[1]}"', '"something else"'))
    with pytest.raises(DataError, match="something else"):
        intarsia.evaluate(room / "run", tmp_path / "others")


def test_what_makes_no_sense_is_refused(room: Path) -> None:
    with pytest.raises(UsageError, match="measured on a folder"):
        intarsia.evaluate(room / "run", np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="choose train"):
        intarsia.evaluate(room / "run", split="some")
