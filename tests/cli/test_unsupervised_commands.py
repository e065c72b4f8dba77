"""The commands that need no masks, as a user types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from PIL import Image as Pillow
from shell import Shell

from intarsia.models import build
from intarsia.models.semantic import SegNetConfig, UNetConfig
from intarsia.records import Classes
from intarsia.runs import Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

QUICK = ("--iterations", 4, "--side", 24)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pictures` of three stripes, one of them broken; a `scribbles.png`; a `run` with an encoder and one without."""
    room = tmp_path_factory.mktemp("unsupervised")
    (room / "pictures" / "below").mkdir(parents=True)
    colours = np.array([[220, 60, 50], [60, 190, 70], [50, 70, 230]], np.uint8)
    stripes = colours.repeat(10, axis=0)[None].repeat(24, axis=0)
    for number, name in enumerate(("a", "b", "below/c d")):
        noise = np.random.default_rng(number).integers(0, 20, stripes.shape, np.uint8)
        Pillow.fromarray(stripes + noise).save(room / "pictures" / f"{name}.png")
    (room / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    scribbles = np.zeros((24, 30), np.uint8)
    scribbles[2:20, 4], scribbles[2:20, 15] = 1, 2
    Pillow.fromarray(scribbles).save(room / "scribbles.png")
    for name, config in (("run", UNetConfig(width=4, depth=2)), ("blind", SegNetConfig(width=4))):
        torch.manual_seed(0)
        run = Run(room / name)
        run.folder.mkdir()
        run.write_config(tomlkit.dumps({"model": config.model_dump(mode="json", exclude_none=True)}))
        run.write_classes(Classes.named(["a", "b"]))
        run.write_weights(build(config).state_dict(), "last", 1)
    return room


def read(path: Path) -> np.ndarray:
    return np.asarray(Pillow.open(path))


def test_a_picture_is_divided_and_the_same_again_does_nothing(shell: Shell, room: Path, tmp_path: Path) -> None:
    command = ["segment-one", room / "pictures/a.png", "--out", "out", "--overlay", *QUICK]
    done = shell.run(tmp_path, *command)
    assert done.code == 0 and done.err == "", done.err
    regions = read(tmp_path / "out/a.png")
    assert regions.shape == (24, 30) and len(np.unique(regions)) >= 2
    assert read(tmp_path / "out/overlays/a.png").shape == (24, 30, 3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    again = shell.run(tmp_path, *command)
    assert again.code == 0 and "1 were there already" in again.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == before
    other = shell.run(tmp_path, *command, "--seed", 1)
    assert other.code == 2 and "other seed" in other.err
    assert shell.run(tmp_path, *command, "--seed", 1, "--overwrite").code == 0
    assert json.loads((tmp_path / "out/segment-one.json").read_text())["settings"]["seed"] == 1


def test_scribbles_decide_where_they_are(shell: Shell, room: Path, tmp_path: Path) -> None:
    command = ["segment-one", room / "pictures/a.png", "--out", "out", "--scribbles", room / "scribbles.png", *QUICK]
    done = shell.run(tmp_path, *command)
    assert done.code == 0 and done.err == "", done.err
    regions = read(tmp_path / "out/a.png")
    assert set(np.unique(regions)) == {0, 1}
    assert (regions[2:20, 4] == 0).all() and (regions[2:20, 15] == 1).all()


def test_features_of_a_run_and_colours_divide_a_folder(shell: Shell, room: Path, tmp_path: Path) -> None:
    for source in ("run", "colours"):
        command = ["regions", source, "pictures", "--clusters", 3, "--out", tmp_path / source, "--overlay"]
        done = shell.run(room, *command)
        assert done.code == 3 and "broken.png" in done.out and "3 pictures" in done.out, done.out + done.err
        maps = [read(tmp_path / source / f"{name}.png") for name in ("a", "b", "below/c d")]
        assert all(each.shape == (24, 30) and each.max() <= 2 for each in maps)
        assert (tmp_path / source / "overlays/below/c d.png").is_file()
        again = shell.run(room, *command)
        assert again.code == 3 and "0 pictures" in again.out and "3 were there already" in again.out
    stripes = np.repeat([0, 1, 2], 10)[None].repeat(24, 0)
    pairs = np.stack(maps).astype(int).ravel() * 3 + np.stack([stripes] * 3).ravel()
    joint = np.bincount(pairs, minlength=9)
    assert np.sort(joint)[-3:].sum() > 0.8 * 3 * 24 * 30, "a cluster of all pictures is the same stripe in each"


def test_alone_and_smallest(shell: Shell, room: Path, tmp_path: Path) -> None:
    command = ["regions", "colours", room / "pictures/a.png", "--out", "out", "--alone", "--smallest", 100000]
    assert shell.run(tmp_path, *command).code == 0
    assert len(np.unique(read(tmp_path / "out/a.png"))) == 1


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("segment-one nowhere.png --out out", 3, "no pictures were found"),
        ("segment-one pictures/broken.png --out out", 3, ""),
        ("segment-one pictures/a.png --out out --iterations 0", 2, "--iterations 0"),
        ("segment-one pictures/a.png --out out --scribbles none.png", 2, "no file of scribbles"),
        ("segment-one pictures/a.png pictures/b.png --out out --scribbles scribbles.png", 2, "belong to one picture"),
        ("regions blind pictures --out out", 2, "without an encoder"),
        ("regions nowhere pictures --out out", 2, "nowhere is not a run"),
        ("regions colours pictures --out out --clusters 0", 2, "0 clusters"),
        ("regions colours pictures --out out --side 2", 2, "--side 2"),
        ("regions colours nowhere --out out", 3, "no pictures were found"),
    ],
)
def test_an_error_is_a_sentence_and_a_code(shell: Shell, room: Path, command: str, code: int, words: str) -> None:
    done = shell.run(room, *command.split())
    assert done.code == code and words in done.err and "Traceback" not in done.err, done.err
