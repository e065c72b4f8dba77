"""`intarsia export` and `predict` by what it made, as the real command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from shell import Done, Shell, draw, options

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
