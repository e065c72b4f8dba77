"""The whole way with the real command: from a folder of pictures to masks, for every kind of folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from shell import Shell, draw, options

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")


def real(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "intarsia", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def strict(text: str) -> Any:
    """JSON, and not what Python also takes for it."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_from_pictures_to_masks_with_the_real_command(tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    done = real(tmp_path, "check", "pictures")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "12 readable, 12 of them with a mask" in done.stdout and "\x1b" not in done.stdout

    done = real(tmp_path, "fit", "pictures", "--run", "run", "--steps", 4, *options())
    assert done.returncode == 0 and done.stderr == "", done.stderr
    for words in (
        "10 labelled pictures of 10, 2 for validation; 4 steps",
        "done: 4 steps",
        "run/report.html",
        "predict run",
    ):
        assert words in done.stdout
    expected = {
        "config.toml", "classes.json", "data.json", "weights.safetensors", "best.safetensors", "state.pt",
        "metrics.jsonl", "samples", "report.html", "evaluation.json", "temperature.json",
    }  # fmt: skip
    assert expected <= names(tmp_path / "run")
    assert any(name.startswith("events.out.tfevents") for name in names(tmp_path / "run"))
    assert strict((tmp_path / "run/evaluation.json").read_text())["split"] == "validation"

    command = ["predict", "run", "pictures/images", "--out", "answers", "--overlay", "--probabilities", "--uncertainty"]
    done = real(tmp_path, *command)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    masks = [np.asarray(Pillow.open(path)) for path in sorted((tmp_path / "answers/masks").iterdir())]
    assert len(masks) == 12 and all(mask.shape == (48, 64) and mask.max() < 5 for mask in masks)
    assert tifffile.imread(tmp_path / "answers/probabilities/scene_0000.tif").shape == (5, 48, 64)
    assert len(names(tmp_path / "answers/overlays")) == len(names(tmp_path / "answers/uncertainty")) == 12


def test_plan_then_fit_then_the_same_again(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    done = shell.run(tmp_path, "plan", "pictures", "--steps", 3, "--out", "plan.toml")
    assert done.code == 0 and "fit pictures --config plan.toml" in done.out
    assert "\nbatch = 8 # " in (tmp_path / "plan.toml").read_text(), "each choice has its reason"
    command = ["fit", "pictures", "--config", "plan.toml", "--run", "run", *options()]
    assert shell.run(tmp_path, *command).code == 0
    report = (tmp_path / "run/report.html").stat().st_mtime_ns
    done = shell.run(tmp_path, *command)
    assert done.code == 0 and "is finished (3 steps)" in done.out
    assert (tmp_path / "run/report.html").stat().st_mtime_ns == report, "nothing is new"
    (tmp_path / "run/report.html").unlink()
    assert shell.run(tmp_path, *command).code == 0
    assert (tmp_path / "run/report.html").is_file()


def test_json_is_json(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "pictures", labelled=5)  # no mask shows each class: scores that are not defined
    assert shell.run(tmp_path, "fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options()).code == 0
    checked = shell.run(tmp_path, "check", "pictures", "--json")
    assert strict(checked.out)["exit_code"] == checked.code == 0
    evaluated = shell.run(tmp_path, "evaluate", "run", "--json")
    assert strict(evaluated.out)["pictures"]["value"] == 2
    models = shell.run(tmp_path, "models", "--json")
    assert {"unet", "fcn", "segnet", "deeplab"} <= {row["name"] for row in strict(models.out)}
    assert checked.err == evaluated.err == models.err == ""


def test_a_dry_run_prints_the_whole_configuration_and_makes_nothing(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    before = names(tmp_path)
    done = shell.run(tmp_path, "fit", "pictures", "--steps", 7, "--set", "train.batch=3", "--dry-run")
    assert done.code == 0 and "steps = 7" in done.out and "batch = 3" in done.out and "classes = 5" in done.out
    assert names(tmp_path) == before
    (tmp_path / "dry.toml").write_text(done.out)
    again = shell.run(tmp_path, "fit", "--config", "dry.toml", "--run", "run", "--dry-run")
    assert [line.split("#")[0].strip() for line in again.out.splitlines()] == [
        line.split("#")[0].strip() for line in done.out.splitlines()
    ]


def test_few_labels_and_pictures_without(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "few", labelled=3)
    done = shell.run(tmp_path, "fit", "few", "--run", "run", "--no-report", "--steps", 2, *options())
    assert done.code == 0 and "3 labelled pictures of 10, 2 for validation" in done.out
    draw(tmp_path / "pictures")
    for number in range(2):  # the same choice each time
        command = ["fit", "pictures", "--run", f"k{number}", "--no-report", "--labelled", 4, "--steps", 2, *options()]
        done = shell.run(tmp_path, *command)
        assert done.code == 0 and "4 labelled pictures of 10" in done.out
    assert (tmp_path / "k0/weights.safetensors").read_bytes() == (tmp_path / "k1/weights.safetensors").read_bytes()


def test_a_group_left_out_and_names_from_a_list(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "drawn")
    for kind in ("images", "masks"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((tmp_path / "drawn" / kind).iterdir())):
            shutil.copy(path, tmp_path / "pictures" / kind / f"drive{'ABC'[number % 3]}_{number:04d}.png")
    shutil.copy(tmp_path / "drawn/classes.toml", tmp_path / "pictures")
    command = ["fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options()]
    done = shell.run(tmp_path, *command, "--set", 'data.leave_out=["driveB"]')
    assert done.code == 0, done.err
    evaluated = shell.run(tmp_path, "evaluate", "run", "--json")
    assert {each["name"][:6] for each in strict(evaluated.out)["examples"]["value"]} == {"driveB"}

    (tmp_path / "list.txt").write_text("driveA_0000\r\ndriveB_0001\r\n")
    listed = strict(shell.run(tmp_path, "evaluate", "run", "--list", "list.txt", "--json").out)
    assert {each["name"] for each in listed["examples"]["value"]} == {"driveA_0000", "driveB_0001"}
    other = shell.run(tmp_path, "evaluate", "run", "--list", "list.txt", "--split", "validation")
    assert other.code == 3 and "driveA_0000" in other.err
    wrong = shell.run(tmp_path, *command[:2], "--run", "other", *command[4:], "--set", 'data.leave_out=["driveZ"]')
    assert wrong.code == 3 and "driveZ" in wrong.err and "driveA" in wrong.err


def blobs(folder: Path, channels: int, kind: type, top: float, count: int = 6) -> None:
    """TIFFs with a bright disk each, and 0/255 masks of it."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    y, x = np.mgrid[:48, :64]
    for number in range(count):
        disk = np.hypot(y - 24, x - 16 - 6 * number) < 12
        image = (random.random((48, 64, channels)) * 0.3 + 0.6 * disk[..., None]) * top
        shape = {"photometric": "minisblack", **({"planarconfig": "contig"} if channels > 1 else {})}
        tifffile.imwrite(folder / "images" / f"p{number}.tif", image.astype(kind).squeeze(), **shape)
        Pillow.fromarray(disk.astype(np.uint8) * 255).save(folder / "masks" / f"p{number}.png")


@pytest.mark.parametrize(("channels", "kind", "top"), [(1, np.uint16, 65535), (5, np.uint16, 4000), (5, np.float32, 1)])
def test_deep_pictures_of_many_channels(shell: Shell, tmp_path: Path, channels: int, kind: type, top: float) -> None:
    blobs(tmp_path / "pictures", channels, kind, top)
    assert shell.run(tmp_path, "check", "pictures").code == 0
    done = shell.run(tmp_path, "fit", "pictures", "--run", "run", "--steps", 3, *options())
    assert done.code == 0, done.err
    assert f"channels = {channels}" in (tmp_path / "run/config.toml").read_text()
    done = shell.run(tmp_path, "predict", "run", "pictures/images", "--out", "out", "--overlay", "--uncertainty")
    assert done.code == 0 and len(names(tmp_path / "out/masks")) == len(names(tmp_path / "out/overlays")) == 6
    overlay = cv2.imread(str(tmp_path / "out/overlays/p0.png"))
    assert overlay is not None and overlay.shape == (48, 64, 3)


def test_classes_that_overlap(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    blobs(folder, 3, np.uint8, 255)
    for name, radius in (("cell", 15), ("core", 6)):
        (folder / "masks" / name).mkdir()
        for number in range(6):
            y, x = np.mgrid[:48, :64]
            disk = np.hypot(y - 24, x - 16 - 6 * number) < radius
            if name == "cell" or number != 2:  # one picture has no core
                Pillow.fromarray(disk.astype(np.uint8) * 255).save(folder / "masks" / name / f"p{number}.png")
    for number in range(6):
        (folder / "masks" / f"p{number}.png").unlink()
    assert shell.run(tmp_path, "check", "pictures").code == 0
    done = shell.run(tmp_path, "fit", "pictures", "--run", "run", "--steps", 3, *options())
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/classes.json").read_text())["overlapping"] is True
    done = shell.run(tmp_path, "predict", "run", "pictures/images", "--out", "out", "--overlay")
    assert done.code == 0, done.err
    assert names(tmp_path / "out/labels") == {"cell", "core"}
    assert len(names(tmp_path / "out/labels/core")) == len(names(tmp_path / "out/overlays")) == 6


def test_one_class_only(shell: Shell, tmp_path: Path) -> None:
    blobs(tmp_path / "pictures", 3, np.uint8, 255)
    for path in (tmp_path / "pictures/masks").iterdir():
        Pillow.fromarray(np.zeros((48, 64), np.uint8)).save(path)
    done = shell.run(tmp_path, "check", "pictures")
    assert done.code == 0 and "one-class" in done.out
    done = shell.run(tmp_path, "fit", "pictures", "--run", "run", "--steps", 2, *options())
    assert done.code == 0, done.err
    assert shell.run(tmp_path, "predict", "run", "pictures/images", "--out", "out").code == 0


def test_no_picture_held_back(shell: Shell, tmp_path: Path) -> None:
    blobs(tmp_path / "pictures", 3, np.uint8, 255)
    done = shell.run(
        tmp_path, "fit", "pictures", "--run", "run", "--steps", 2, "--set", "data.validation=0", *options()
    )
    assert done.code == 0 and "nothing to measure on" in done.out, done.err
    assert not (tmp_path / "run/best.safetensors").exists()
    assert shell.run(tmp_path, "predict", "run", "pictures/images", "--out", "out").code == 0
    done = shell.run(tmp_path, "evaluate", "run")
    assert done.code == 3 and "no labelled pictures" in done.err
    assert shell.run(tmp_path, "evaluate", "run", "--split", "train").code == 0


def test_a_run_is_known_in_any_folder_and_its_pictures_may_move(shell: Shell, tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    command = ["fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options()]
    assert shell.run(tmp_path, *command).code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    draw(elsewhere / "pictures", count=6)  # other pictures under the same name
    scores = strict(shell.run(tmp_path, "evaluate", "run", "--json").out)
    again = strict(shell.run(elsewhere, "evaluate", "../run", "--json").out)
    assert again["overall"] == scores["overall"]

    (tmp_path / "pictures").rename(tmp_path / "moved")
    lost = shell.run(elsewhere, "evaluate", "../run")
    assert lost.code == 3 and "is not there any more" in lost.err and "--data" in lost.err
    found = strict(
        shell.run(elsewhere, "evaluate", "../run", "--data", "../moved", "--split", "validation", "--json").out
    )
    assert found["overall"] == scores["overall"]
    everything = strict(shell.run(elsewhere, "evaluate", "../run", "--data", "../moved", "--json").out)
    assert everything["pictures"]["value"] == 12
    assert shell.run(elsewhere, "fit", "../moved", "--run", "../run", "--no-report").code == 0
    assert shell.run(elsewhere, "evaluate", "../run").code == 0, "the run has learnt the new place"
    other = shell.run(elsewhere, "fit", "pictures", "--run", "../run")
    assert other.code == 2 and "other pictures" in other.err


def test_the_demo(shell: Shell, tmp_path: Path) -> None:
    done = shell.run(tmp_path, "demo", "--minutes", 0.02)
    assert done.code == 0, done.err
    for words in ("Drew 160 pictures", "mean IoU", "demo/run/report.html", "intarsia fit FOLDER"):
        assert words in done.out
    assert len(names(tmp_path / "demo/answers/masks")) == len(names(tmp_path / "demo/answers/overlays")) == 160
    assert (tmp_path / "demo/run/report.html").is_file()
