"""Models of objects with the real command: planned, trained on few pictures, killed, gone on with, measured, predicted
with, used on pictures of other classes."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shell import KILL_AT, Shell

import intarsia
from intarsia.data.folder import open_folder
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.drawing import write_label_image
from intarsia.models import MODELS, InstanceModel
from intarsia.runs import Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
STEPS = 6
OBJECTS = sorted(name for name, model in MODELS.items() if issubclass(model, InstanceModel))
SEGMENTER = {"model.segmenter.encoder": "plain", "model.segmenter.width": 4, "model.segmenter.depth": 2}
SMALL: dict[str, dict[str, Any]] = {
    "instance_segnet": SEGMENTER,
    "watershed": SEGMENTER,
    "mask_rcnn": {"model.encoder": "tiny"},
}


def command(model: str, run: str | None = None, steps: int = STEPS, **more: Any) -> list[str]:
    settings = {**SMALL[model], "augment.crop": [48, 48], "train.batch": 2, "train.threads": 1, "train.device": "cpu"}
    settings |= {"train.precision": "32-true", "train.checkpoint_seconds": 0, "train.validate_every": 3}
    settings |= {key.replace("__", "."): value for key, value in more.items()}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return ["fit", "pictures", "--model", model, "--run", run or model, "--steps", str(steps), "--no-report", *words]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`: 10 drawn scenes with label images, of which 8 are trained on."""
    room = tmp_path_factory.mktemp("objects")
    write_scenes(room / "pictures", 10, SceneConfig(height=48, width=64, objects=(3, 6)), objects=True)
    return room


@pytest.mark.parametrize("model", OBJECTS)
def test_every_model_trains_and_goes_on_after_a_kill_to_the_same_weights(shell: Shell, room: Path, model: str) -> None:
    done = shell.run(room, *command(model))
    assert done.code == 0, done.err
    assert "8 labelled pictures of 8, 2 for validation" in done.out
    killed = shell.run(room, *command(model, run=f"{model}-killed"), before=KILL_AT.format(step=4))
    assert killed.code == -signal.SIGKILL
    done = shell.run(room, *command(model, run=f"{model}-killed"))
    assert done.code == 0, done.err
    for name in ("weights.safetensors", "thresholds.json"):
        assert (room / model / name).read_bytes() == (room / f"{model}-killed" / name).read_bytes()
    tuned = Run(room / model).thresholds()
    assert tuned.keys() == MODELS[model].candidates.keys()  # type: ignore[attr-defined]
    again = shell.run(room, *command(model))
    assert again.code == 0 and "is finished" in again.out


@pytest.mark.parametrize("model", OBJECTS)
def test_it_is_measured_and_predicted_with(shell: Shell, room: Path, model: str) -> None:
    if not (room / model).exists():
        assert shell.run(room, *command(model)).code == 0
    done = shell.run(room, "evaluate", model)
    assert done.code == 0, done.err
    assert (room / model / "report.html").is_file()
    told = json.loads((room / model / "evaluation.json").read_text())
    assert "AP50" in told["overall"] and "coco_AP" in told["overall"]
    out = f"answers-{model}"
    done = shell.run(room, "predict", model, "pictures/images", "--out", out, "--overlay", "--coco")
    assert done.code == 0, done.err
    assert len(list((room / out / "overlays").rglob("*.png"))) == 10
    assert json.loads((room / out / "objects.json").read_text())["images"]
    found = intarsia.load(room / model).predict(next((room / "pictures" / "images").iterdir()))
    assert sum(found.count().values()) == len(found)  # type: ignore[union-attr]


def test_thresholds_that_a_kill_prevented_are_tuned_when_the_command_is_given_again(shell: Shell, room: Path) -> None:
    assert shell.run(room, *command("watershed", run="untuned")).code == 0
    before = (room / "untuned" / "thresholds.json").read_bytes()
    (room / "untuned" / "thresholds.json").unlink()
    done = shell.run(room, *command("watershed", run="untuned"))
    assert done.code == 0, done.err
    assert (room / "untuned" / "thresholds.json").read_bytes() == before


def test_pictures_without_objects_known_are_learnt_from_by_reconstruction(shell: Shell, room: Path) -> None:
    given = command("instance_segnet", run="half", model__alpha=0.3, data__labelled=4)
    done = shell.run(room, *given)
    assert done.code == 0, done.err
    assert "4 labelled pictures of 8" in done.out and "2 of 8 without their masks" in done.out
    rows = Run(room / "half").read_metrics()
    assert any("train/reconstruction" in row for row in rows)
    done = shell.run(room, *command("instance_segnet", run="no", train__unlabelled=2))
    assert done.code == 2 and "with model.alpha above 0" in done.err
    done = shell.run(room, *command("watershed", run="no", train__unlabelled=2))
    assert done.code == 2 and "learns from labelled pictures alone" in done.err


def test_a_folder_of_label_images_is_planned_for_objects(shell: Shell, tmp_path: Path) -> None:
    """Without a word of ours: many numbers, others in each picture, are objects."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "cells" / part).mkdir(parents=True)
    for number in range(6):
        labels = np.zeros((64, 64), np.uint16)
        for each in range(1, 50):
            y, x = np.add(divmod(each, 8), generator.uniform(0, 0.4, 2)) * 8
            labels[int(y) : int(y) + 4, int(x) : int(x) + 4] = each
        image = (labels > 0) * 90 + generator.integers(0, 40, labels.shape)
        tifffile.imwrite(tmp_path / "cells" / "images" / f"{number}.tif", image.astype(np.uint8))
        tifffile.imwrite(tmp_path / "cells" / "masks" / f"{number}.tif", labels)
    done = shell.run(tmp_path, "plan", "cells", "--steps", "5", "--out", "plan.toml")
    assert done.code == 0, done.err
    planned = tomllib.loads((tmp_path / "plan.toml").read_text())
    assert planned["model"]["name"] == "instance_segnet"
    assert planned["model"]["unit"] == pytest.approx(2.0, abs=1.0)


def test_masks_without_a_single_object_are_learnt_from_only_with_a_word(shell: Shell, tmp_path: Path) -> None:
    write_scenes(tmp_path / "pictures", 3, SceneConfig(height=48, width=64), objects=True)
    for path in (tmp_path / "pictures/masks").iterdir():
        write_label_image(path, np.zeros((48, 64), np.int32))
    done = shell.run(tmp_path, *command("watershed", steps=1))
    assert done.code == 0, done.err
    assert "none of the labelled shows an object" in " ".join(done.out.split())


def test_a_run_is_not_measured_on_other_classes(shell: Shell, room: Path) -> None:
    if not (room / "watershed").exists():
        assert shell.run(room, *command("watershed")).code == 0
    other = write_scenes(room / "other", 5, SceneConfig(height=48, width=64), objects=True)
    table = (other / "classes.toml").read_text()
    (other / "classes.toml").write_text(table.replace('"ring"', '"wheel"'))
    done = shell.run(room, "evaluate", "watershed", "--data", "other")
    assert done.code == 3 and "wheel" in done.err and "ring" in done.err
    done = shell.run(room, "fit", "other", "--model", "watershed", "--run", "watershed", "--steps", str(STEPS))
    assert done.code == 2
    done = shell.run(room, *command("instance_segnet", run="watershed"))
    assert done.code == 2 and "model.name: watershed -> instance_segnet" in " ".join(done.err.split())


def test_settings_of_the_model_that_the_masks_ask_for_need_no_model(shell: Shell, room: Path) -> None:
    """Nobody says --model: what the masks hold decides which settings there are."""
    done = shell.run(room, "fit", "pictures", "--run", "asked", "--dry-run", "--set", "model.unit=7.5", "--steps", "1")
    assert done.code == 0 and 'name = "instance_segnet"' in done.out and "unit = 7.5" in done.out, done.err
    done = shell.run(room, "fit", "pictures", "--run", "asked", "--dry-run", "--set", "model.unti=7.5", "--steps", "1")
    assert done.code == 2 and "'unit'" in done.err


def test_a_semantic_model_still_learns_classes_from_the_same_folder(room: Path) -> None:
    sample = open_folder(room / "pictures", write_classes=False)
    read = sample.read(sample.entries[0])
    assert read.instances is None and read.mask is not None and read.mask.max() < len(sample.classes)
