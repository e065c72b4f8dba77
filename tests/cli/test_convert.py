"""`intarsia convert` from the shell: what it says, its exit codes, and a kill in the middle."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from shell import Shell

from intarsia.data.classes import ClassTable, write_class_table
from intarsia.data.folder import open_folder
from intarsia.data.scenes import CLASSES, SceneConfig, draw_scenes
from intarsia.drawing import encode_png, write_label_image
from intarsia.files import make_folder
from intarsia.records import Classes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

CELLS = Classes.named(["background", "cell"])


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A room with `cells`: eight pictures with label images."""
    root = tmp_path / "cells"
    for folder in ("images", "masks"):
        make_folder(root / folder)
    for sample in draw_scenes(SceneConfig(height=32, width=48), 8):
        assert sample.instances is not None
        (root / "images" / f"{sample.name}.png").write_bytes(encode_png(sample.image))
        write_label_image(root / "masks" / f"{sample.name}.png", sample.instances.label_image)
    write_class_table(root / "classes.toml", ClassTable(CELLS, coding="objects"))
    return tmp_path


def objects(root: Path) -> list[int]:
    """How many each picture shows."""
    opened = open_folder(root, objects=True)
    return [len(instances) for entry in opened.entries if (instances := opened.read(entry).instances) is not None]


def test_there_and_back_and_the_same_again(shell: Shell, room: Path) -> None:
    count = sum(objects(room / "cells"))
    done = shell.run(room, "convert", "cells", "--to", "yolo", "--out", "yolo", "--link")
    assert done.code == 0 and done.err == "", done.err
    assert done.out.startswith(f"8 pictures with {count} objects in") and done.out.rstrip().endswith(": yolo")
    again = shell.run(room, "convert", "cells", "--to", "yolo", "--out", "yolo", "--link")
    assert again.code == 0 and "8 were there already" in again.out
    done = shell.run(room, "convert", "yolo", "--to", "coco", "--polygons", "--tolerance", "0.5", "-o", "coco")
    assert done.code == 0 and "have holes, which no polygon can say" in done.out
    done = shell.run(room, "convert", "coco", "--to", "labels", "--out", "again")
    assert objects(room / "again") == objects(room / "cells")


def test_a_damaged_file_is_listed_and_the_code_is_that_of_data(shell: Shell, room: Path) -> None:
    mask = room / "cells" / "masks" / "scene_0003.png"
    mask.write_bytes(mask.read_bytes()[:100])
    done = shell.run(room, "convert", "cells", "--to", "coco", "--out", "out")
    assert done.code == 3 and "1 failed" in done.out and "scene_0003.png" in done.out and "7 pictures" in done.out
    assert len(objects(room / "out")) == 7


def test_a_killed_conversion_is_gone_on_with(shell: Shell, room: Path) -> None:
    wanted = objects(room / "cells")
    slow = (
        "import time, intarsia.inference.conversion as c\n"
        "copy = c._Target._copy\n"
        "c._Target._copy = lambda self, entry: (time.sleep(0.3), copy(self, entry))"
    )
    for to in ("labels", "coco"):
        command = shell.start(room, "convert", "cells", "--to", to, "--out", to, before=slow)
        until = time.monotonic() + 40
        while not list((room / to).glob("images/*.png")) and time.monotonic() < until:
            time.sleep(0.01)
        command.send(signal.SIGKILL)
        assert command.wait().code == -signal.SIGKILL
        assert 0 < len(list((room / to).glob("images/*.png"))) < 8 and not (room / to / "annotations.json").exists()
        done = shell.run(room, "convert", "cells", "--to", to, "--out", to)
        assert done.code == 0, done.err
        assert ("were there already" in done.out) == (to == "labels")  # one file of all pictures is written anew
        assert objects(room / to) == wanted and not list((room / to).rglob("*.part"))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("convert cells --to labels --out cells/out", 2, "lie in one another"),
        ("convert cells --to yolo --polygons --out out", 2, "polygons are a choice of coco"),
        ("convert cells --to coco --tolerance 1 --out out", 2, "a tolerance of 1 pixels"),
        ("convert nowhere --to coco --out out", 3, "nowhere does not exist"),
        ("convert bare --to coco --out out", 3, "no objects"),
        ("convert semantic --to coco --out out", 3, "split = true"),
        ("convert cells --to coco --out taken", 2, "not from here"),
        ("convert cells --to coco --out file", 6, "file"),
    ],
)
def test_an_error_is_one_sentence_and_a_code(shell: Shell, room: Path, command: str, code: int, words: str) -> None:
    for name in ("bare", "semantic"):
        make_folder(room / name / "images")
        (room / name / "images" / "a.png").write_bytes(encode_png(np.zeros((32, 32, 3), np.uint8)))
    make_folder(room / "semantic" / "masks")
    mask = np.zeros((32, 32), np.uint8)
    mask[4:8, 4:8] = mask[20:24, 20:24] = 1
    (room / "semantic" / "masks" / "a.png").write_bytes(encode_png(mask))
    write_class_table(room / "semantic" / "classes.toml", ClassTable(CLASSES))
    make_folder(room / "taken")
    (room / "taken" / "train.txt").write_text("mine")
    (room / "file").write_text("")
    done = shell.run(room, *command.split())
    assert done.code == code, done.err
    assert done.err.startswith("intarsia: ") and done.err.count("\n") == 1 and words in done.err, done.err
    assert not (room / "out").exists() and (room / "taken" / "train.txt").read_text() == "mine"
