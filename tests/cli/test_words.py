"""What the command says: help at once, errors in one sentence, each with its code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell import Shell, draw, options

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")


@pytest.fixture(scope="module")
def room(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`, a `run` on them, an `empty` folder and a `file`."""
    room = tmp_path_factory.mktemp("words")
    draw(room / "pictures")
    (room / "empty").mkdir()
    (room / "file").write_text("")
    command = ["fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options()]
    assert shell.run(room, *command).code == 0
    return room


def test_help_and_check_do_without_torch() -> None:
    """Help in each form and a whole check, in one process: torch alone would take seconds."""
    code = """
import sys, tempfile
from pathlib import Path
from intarsia.cli import main
from intarsia.data.scenes import SceneConfig, write_scenes
folder = write_scenes(tempfile.mkdtemp(), 4, SceneConfig(height=32, width=32))
commands = ("check", "plan", "fit", "evaluate", "predict", "models", "demo",
            "generate", "interpolate", "reconstruct", "edit", "compress", "decompress",
            "compare", "synthesize", "pseudo-label", "review", "classical", "segment-one", "regions",
            "convert", "export")
for arguments in ([], ["--help"], ["--version"], *([each, "--help"] for each in commands), ["check", str(folder)]):
    sys.argv = ["intarsia", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == (2 if not arguments else 0), (arguments, end.code)
heavy = {"torch", "lightning", "timm", "torchvision"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for words in ("Usage: intarsia", "--labelled", "--overlay", "Exit codes", "intarsia 0."):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        # settings
        ("fit pictures --set train.batch", 2, "--set train.batch=4"),
        ("fit pictures --set train.bach=4", 2, "did you mean 'batch'"),
        ("fit pictures --steps 2 --set train.batch=0", 2, "train.batch = 0"),
        ("fit pictures --set seed=abc", 2, "seed = 'abc'"),
        ("fit pictures --set model.name=unett", 2, "did you mean 'unet'"),
        ("fit pictures --steps 2 --set model=5", 2, "model = 5"),
        ("fit pictures --steps 2 --minutes 1", 2, "one budget"),
        ("fit pictures --steps -2", 2, "train.steps = -2"),
        ("fit pictures --minutes nan", 2, "train.minutes = nan"),
        ("fit pictures --labelled 0", 2, "data.labelled = 0"),
        ("fit pictures --labelled 99", 2, "the training part has 10"),
        ("fit pictures --config nothing.toml", 2, "nothing.toml does not exist"),
        ("fit pictures --classes nothing.toml", 3, "nothing.toml"),
        ("fit pictures --steps 2 --set train.device=cuda", 2, "cuda"),
        ("fit", 2, "give a folder"),
        # folders
        ("fit nowhere", 3, "nowhere is not a folder"),
        ("fit file", 3, "file is not a folder"),
        ("fit empty", 3, "empty holds no pictures"),
        ("check nowhere", 3, "nowhere does not exist"),
        ("check empty", 3, "empty holds no pictures"),
        ("plan empty", 3, "empty holds no pictures"),
        ("plan pictures --steps 0", 2, "train.steps = 0"),
        ("plan pictures --minutes 0", 2, "more than 0"),
        ("plan pictures --model unett", 2, "did you mean 'unet'"),
        ("plan pictures --steps 2 --out file/plan.toml", 6, "file can't be written"),
        ("demo --out file --minutes 0.01", 6, "can't be written"),
        # runs
        ("evaluate nowhere", 2, "nowhere is not a run"),
        ("evaluate empty", 2, "empty is not a run"),
        ("evaluate run --split most", 2, "train, validation or test"),
        ("evaluate run --split test", 3, "no labelled pictures"),
        ("evaluate run --list nothing.txt", 2, "nothing.txt"),
        ("evaluate run --data empty", 3, "empty holds no pictures"),
        ("predict nowhere pictures/images --out out", 2, "nowhere is not a run"),
        ("predict run nowhere --out out", 3, "no pictures were found in nowhere"),
        ("predict run empty --out out", 3, "no pictures were found in the folder empty"),
        ("predict run *.gif --out out", 3, "no pictures were found in *.gif"),
        ("predict run pictures/images --out file", 6, "file can't be written"),
        ("predict run pictures/images --out out --tile 0", 2, "a tile of 0"),
        ("predict run pictures/images --out out --scale 0", 2, "above 0"),
        ("predict run pictures/images --out out --coco --no-table", 2, "--coco, --table can't be had"),
        ("predict run pictures/images --out out --score 0", 2, "of a segmenter"),
        ("predict run pictures/images --out out --limit nan", 2, "--limit nan"),
        ("predict run pictures/images --out out --device cuda", 2, "no GPU"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_a_code(shell: Shell, room: Path, command: str, code: int, words: str) -> None:
    if "cuda" in command:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    done = shell.run(room, *command.split())
    assert done.code == code, done.err
    assert done.err.startswith("intarsia: ") and done.err.count("\n") == 1 and words in done.err, done.err


def test_what_typer_refuses_has_the_code_of_usage(shell: Shell, room: Path) -> None:
    for command in ("frobnicate", "fit pictures --steps many", "predict run", "evaluate run --weights worst"):
        done = shell.run(room, *command.split())
        assert done.code == 2 and "Usage" in done.err and "Traceback" not in done.err


def test_debug_shows_where_it_came_from_with_the_same_code(shell: Shell, room: Path) -> None:
    done = shell.run(room, "predict", "nowhere", "pictures", "--out", "out", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err and done.err.splitlines()[-1].startswith("intarsia: nowhere is not a run")


def test_an_error_of_ours_asks_to_be_reported(shell: Shell, room: Path) -> None:
    broken = "import intarsia.api as a; a.load = None"
    done = shell.run(room, "predict", "run", "pictures/images", "--out", "out", before=broken)
    assert done.code == 1 and "report it" in done.err and "Traceback" not in done.err


def test_a_reader_that_leaves_early_is_no_error(room: Path) -> None:
    command = f"{sys.executable} -m intarsia check pictures | head -1"
    done = subprocess.run(command, shell=True, cwd=room, capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.startswith("folder")
