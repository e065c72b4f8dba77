"""`intarsia export` and `predict` by what it made, as the real command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from shell import TINY, Done, Shell, draw, options

from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.models.instance import MaskRCNN, MaskRCNNConfig
from intarsia.runs import Run

pytest.importorskip("onnxscript")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")


@pytest.fixture(scope="module")
def room(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`, a `run` on them and its export `run/run_fp32.onnx`."""
    room = tmp_path_factory.mktemp("export")
    draw(room / "pictures")
    command = ["fit", "pictures", "--run", "run", "--no-report", "--steps", 4, *options(model__depth=1)]
    done = shell.run(room, *command)
    assert done.code == 0, done.err
    done = shell.run(room, "export", "run")
    assert done.code == 0, done.err
    for words in ("same class as PyTorch at", "2 of the run's own (validation) and one of noise", "run/run_fp32.onnx"):
        assert words in done.out
    return room


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").iterdir())}


def test_a_file_answers_as_its_run(room: Path, shell: Shell) -> None:
    for what, out in (("run", "by-run"), ("run/run_fp32.onnx", "by-file")):
        done = shell.run(room, "predict", what, "pictures/images", "--out", out)
        assert done.code == 0 and "12 pictures in" in done.out, done.err
    ours, theirs = masks(room / "by-run"), masks(room / "by-file")
    assert ours.keys() == theirs.keys() and len(ours) == 12
    assert np.mean([(ours[name] == theirs[name]).mean() for name in ours]) > 0.999


def test_what_a_file_can_not_do_is_said(room: Path, shell: Shell) -> None:
    def said(*words: object) -> Done:
        return shell.run(room, "predict", "run/run_fp32.onnx", "pictures/images", "--out", "refused", *words)

    for option in (["--flips"], ["--samples", 3], ["--scale", 0.5], ["--uncertainty"], ["--probabilities"]):
        done = said(*option)
        assert done.code == 2, done.err
        assert option[0] in done.err or "no probabilities" in done.err
    assert not (room / "refused").exists()
    done = shell.run(room, "export", "run")
    assert done.code == 2 and "stands there already" in done.err
    done = shell.run(room, "export", "run", "--format", "torch", "--precision", "int8")
    assert done.code == 2 and "int8" in done.err
    done = shell.run(room, "predict", "none.onnx", "pictures/images", "--out", "refused")
    assert done.code == 3 and "does not exist" in done.err


def test_int8_is_measured_and_refused(room: Path, shell: Shell) -> None:
    pytest.importorskip("nncf")
    done = shell.run(room, "export", "run", "--precision", "int8", "--format", "openvino", "--force")
    assert done.code == 0 and "mean IoU" in done.out and "2 pictures (validation)" in done.out, done.err
    assert (room / "run" / "run_int8.bin").is_file()


def test_without_its_pictures_a_run_is_compared_on_noise(room: Path, shell: Shell) -> None:
    shutil.copytree(room / "run", room / "alone", ignore=shutil.ignore_patterns("*.onnx", "*.xml", "*.bin"))
    config = room / "alone" / "config.toml"
    config.write_text(config.read_text().replace("/pictures", "/gone"))
    done = shell.run(room, "export", "alone", "--out", "alone.onnx")
    assert done.code == 0 and "noise: the run's own are gone" in done.out, done.err
    done = shell.run(room, "export", "alone", "--out", "alone8.onnx", "--precision", "int8")
    assert done.code == 3 and "not there any more" in done.err and not (room / "alone8.onnx").exists()


def test_the_fastest_engine_is_measured_once(room: Path, shell: Shell) -> None:
    command = ["predict", "run", "pictures/images", "--engine", "auto", "--out"]
    done = shell.run(room, *command, "first")
    assert done.code == 0 and "64 x 48" in done.out and "is taken from now on" in done.out, done.err
    chosen = json.loads((room / "run" / "engines" / "measured.json").read_text())
    assert len(chosen) == 1 and set(chosen.values()) <= {"torch", "onnxruntime", "openvino"}
    done = shell.run(room, *command, "second")
    assert done.code == 0 and "taken" not in done.out, done.err
    assert masks(room / "first").keys() == masks(room / "second").keys()


def test_any_engine_runs_a_file(room: Path, shell: Shell) -> None:
    command = ["predict", "run/run_fp32.onnx", "pictures/images", "--engine"]
    for engine in ("onnxruntime", "openvino"):
        done = shell.run(room, *command, engine, "--out", engine)
        assert done.code == 0, done.err
    ours, theirs = masks(room / "onnxruntime"), masks(room / "openvino")
    assert len(ours) == 12 and np.mean([(ours[name] == theirs[name]).mean() for name in ours]) > 0.999
    done = shell.run(room, *command, "torch", "--out", "by-torch")
    assert done.code == 2 and "can't run run_fp32.onnx; choose onnxruntime or openvino" in done.err


@pytest.fixture(scope="module")
def objects(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures` of objects, a `run` on them and its export `objects.onnx`."""
    room = tmp_path_factory.mktemp("objects")
    write_scenes(room / "pictures", 6, SceneConfig(height=40, width=56), objects=True)
    settings = {key: value for key, value in TINY.items() if not key.startswith("model.")}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    words += ["--set", 'model.segmenter={name = "unet", encoder = "plain", width = 4, depth = 1}']
    done = shell.run(
        room, "fit", "pictures", "--model", "watershed", "--run", "run", "--no-report", "--steps", 4, *words
    )
    assert done.code == 0, done.err
    done = shell.run(room, "export", "run", "--out", "objects.onnx")
    assert done.code == 0 and "same object as PyTorch at" in done.out and "and one of noise" in done.out, done.err
    return room


def test_a_file_finds_the_objects_of_its_run(objects: Path, shell: Shell) -> None:
    asked = ["--overlay", "--coco", "--score", 0, "--threshold", "inside=0.2", "--threshold", "foreground=0.2"]
    for what, out in (("run", "by-run"), ("objects.onnx", "by-file")):
        done = shell.run(objects, "predict", what, "pictures/images", "--out", out, *asked)
        assert done.code == 0 and "6 pictures in" in done.out, done.err
    found = {}
    for out in ("by-run", "by-file"):
        assert (objects / out / "objects.json").is_file() and len(list((objects / out / "overlays").iterdir())) == 6
        files = sorted((objects / out / "labels").iterdir())
        found[out] = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files])
    assert found["by-run"].max() > 0
    assert ((found["by-run"] > 0) == (found["by-file"] > 0)).mean() > 0.99
    done = shell.run(
        objects, "predict", "objects.onnx", "pictures/images", "--out", "no", "--probabilities", "--plain", 0
    )
    assert done.code == 2 and "--probabilities, --plain can't be had: this file is of a model of objects" in done.err
    done = shell.run(objects, "predict", "objects.onnx", "pictures/images", "--out", "no", "--threshold", "kernel=1")
    assert done.code == 2 and "it has inside, foreground, score, smallest" in done.err
    assert not (objects / "no").exists()


def test_an_engine_for_a_run_of_objects(objects: Path, shell: Shell) -> None:
    command = ["predict", "run", "pictures/images", "--engine", "auto", "--out", "fastest"]
    done = shell.run(objects, *command)
    assert done.code == 0 and "56 x 40" in done.out and "is taken from now on" in done.out, done.err
    assert (objects / "fastest" / "objects.csv").is_file()


def test_what_int8_costs_of_objects_is_measured(objects: Path, shell: Shell) -> None:
    pytest.importorskip("nncf")
    done = shell.run(objects, "export", "run", "--precision", "int8", "--format", "openvino", "--force")
    assert done.code == 0 and "AP50" in done.out and "(validation)" in done.out, done.err


def test_models_that_are_not_exported_are_named(room: Path, shell: Shell) -> None:
    config = MaskRCNNConfig(encoder="tiny", classes=5)
    other = Run(room / "boxes")
    shutil.copytree(room / "run", other.folder, ignore=shutil.ignore_patterns("engines", "*.onnx", "*.safetensors"))
    text = other.config_path.read_text()
    start, end = text.index("[model]"), text.index("[augment]")
    other.config_path.write_text(
        text[:start] + '[model]\nname = "mask_rcnn"\nencoder = "tiny"\nclasses = 5\n\n' + text[end:]
    )
    other.write_weights(dict(MaskRCNN(config).state_dict()), "best", 1)
    done = shell.run(room, "export", "boxes")
    assert done.code == 2 and "instance_segnet and watershed are exported" in done.err, done.err
