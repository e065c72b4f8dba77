"""What goes wrong on real machines: kills, signals, full disks, strangers' files. Nothing is lost, and it is said."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken_files import BOMBS, RUBBISH, WHOLE, damaged, with_pillow
from PIL import Image as Pillow
from shell import Command, Done, Shell, draw, options

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and POSIX signals")
STEPS = 12


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`."""
    room = tmp_path_factory.mktemp("faults")
    draw(room / "pictures")
    return room


def fit_command(run: str, steps: int = STEPS, **settings: Any) -> list[str]:
    return ["fit", "pictures", "--run", run, "--no-report", "--steps", str(steps), *options(**settings)]


def weights(room: Path, run: str, which: str = "weights") -> bytes:
    return (room / run / f"{which}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(shell: Shell, room: Path) -> bytes:
    """The weights of a training that nobody disturbed, as their file."""
    assert shell.run(room, *fit_command("uninterrupted")).code == 0
    return weights(room, "uninterrupted")


def said(done: Done, code: int, *words: str) -> None:
    """The command ended with the code and one message, which holds the words and is no traceback."""
    assert done.code == code, done.err
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err and done.err.count("\n") == 1, done.err


def until(command: Command, condition: Callable[[Command], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition(command):
        assert time.monotonic() < end, f"it never came to that: {command.out} {command.err}"
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------ kills


#: kills the process in the middle of the n-th checkpoint file, when half of it is written
KILL_WHILE_WRITING = """
import os, intarsia.runs as runs
write, count = runs.write_atomically, 0
def half(path, content):
    global count
    if path.suffix in (".pt", ".safetensors"):
        count += 1
        if count == {number}:
            def content(file):
                file.write(b"half a checkpoint" * 1000)
                file.flush()
                os.kill(os.getpid(), 9)
    return write(path, content)
runs.write_atomically = half
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_while_writing_and_begun_again_it_ends_with_the_same_weights(
    shell: Shell, room: Path, uninterrupted: bytes, workers: int
) -> None:
    run = f"killed{workers}"
    command = fit_command(run, train__workers=workers)
    for number in (1, 2, 5, 6):  # weights and state in turn, and the best weights now and then
        done = shell.run(room, *command, before=KILL_WHILE_WRITING.format(number=number))
        assert done.code == -signal.SIGKILL, done.err
        assert list((room / run).glob(".*.part"))
    assert shell.run(room, *command).code == 0
    assert weights(room, run) == uninterrupted
    assert weights(room, run, "best") == weights(room, "uninterrupted", "best")
    assert not list((room / run).rglob(".*.part"))
    rows = [json.loads(line) for line in (room / run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation/mean_iou" in row] == [3, 6, 9, 12]


def test_killed_at_random_moments_it_ends_with_the_same_weights(shell: Shell, room: Path, uninterrupted: bytes) -> None:
    command = fit_command("random")
    moment = random.Random(0)
    for _ in range(6):
        started = shell.start(room, *command)
        until(started, lambda it: "M parameters" in it.out or "is finished" in it.out)
        time.sleep(moment.uniform(0, 0.4))
        started.send(signal.SIGKILL)
        assert started.wait().code in (-signal.SIGKILL, 0)
    assert shell.run(room, *command).code == 0
    assert weights(room, "random") == uninterrupted


#: kills the process before it writes the weights for the n-th time, or once validation has begun at a step
KILL_AT_THE_END = {
    "before the last weights": "w.Checkpoint.now = lambda self, t: old(self, t) if t.progress.step < 12 else die()",
    "before the last validation": "import intarsia.fitting.segmenters as f; "
    "f.score = lambda *a: die() if a[0].progress.step > 11 else score(*a)",
}


@pytest.mark.parametrize("moment", KILL_AT_THE_END)
def test_killed_at_the_very_end_nothing_is_left_out(
    shell: Shell, room: Path, uninterrupted: bytes, moment: str
) -> None:
    start = """
import os, intarsia.training.watchers as w
from intarsia.fitting.segmenters import score
old = w.Checkpoint.now
die = lambda: os.kill(os.getpid(), 9)
"""
    run = f"end{len(moment)}"
    command = fit_command(run, train__validate_every=5)
    assert shell.run(room, *command, before=start + KILL_AT_THE_END[moment]).code == -signal.SIGKILL
    assert shell.run(room, *command).code == 0
    assert weights(room, run) == uninterrupted
    rows = [json.loads(line) for line in (room / run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation/mean_iou" in row] == [5, 10, 12]


# ------------------------------------------------------------------------------------------ signals

SLOW = "import time, intarsia.training.loop as l; turn = l._turn; l._turn = lambda *a: (time.sleep({0}), turn(*a))[1]"
SLOW_SCORE = """
import time, intarsia.fitting.segmenters as f
score = f.score
def slow(*arguments):
    print("SCORING", flush=True)
    time.sleep(0.5)
    return score(*arguments)
f.score = slow
"""


@pytest.mark.parametrize(
    ("number", "before", "sign"),
    [
        (signal.SIGTERM, SLOW.format(0.05), "step 1 "),
        (signal.SIGINT, SLOW.format(0.06), "step 1 "),
        (signal.SIGTERM, SLOW_SCORE, "SCORING"),
        (signal.SIGTERM, SLOW.format(0.5), "M parameters"),  # before the first step
    ],
)
def test_asked_to_stop_it_saves_and_goes_on(
    shell: Shell, room: Path, uninterrupted: bytes, number: int, before: str, sign: str
) -> None:
    run = f"stopped{number}{len(before)}"
    command = shell.start(room, *fit_command(run), before=before)
    until(command, lambda it: sign in it.out)
    if sign == "M parameters":
        time.sleep(0.1)  # the handlers are set once the line was said
    command.send(number)
    said(command.wait(), 75, "saved", "the same command again")
    assert (room / run / "state.pt").is_file()
    done = shell.run(room, *fit_command(run))
    assert done.code == 0 and "going on from step" in done.out
    assert weights(room, run) == uninterrupted


def test_a_second_signal_ends_it_at_once(shell: Shell, room: Path) -> None:
    command = shell.start(room, *fit_command("twice"), before=SLOW.format(60))
    until(command, lambda it: "M parameters" in it.out)
    time.sleep(0.2)
    command.send(signal.SIGTERM)
    time.sleep(0.1)
    command.send(signal.SIGTERM)
    assert command.wait(10).code == 75


def test_a_signal_while_it_still_reads(shell: Shell, room: Path) -> None:
    slow = "lambda *a, **k: (print('READ', flush=True), time.sleep(60))"
    before = f"import time, intarsia.fitting.wishes as f; f.open_sets_for = {slow}"
    command = shell.start(room, *fit_command("early"), before=before)
    until(command, lambda it: "READ" in it.out)
    command.send(signal.SIGTERM)
    said(command.wait(10), 75, "stopped")


# ------------------------------------------------------------------------------------------ one writer


def test_a_second_process_is_refused_and_told_who_is_there(shell: Shell, room: Path) -> None:
    first = shell.start(room, *fit_command("shared", 1000), before=SLOW.format(0.1))
    until(first, lambda it: (room / "shared" / "weights.safetensors").exists())
    said(shell.run(room, *fit_command("shared", 1000)), 6, "shared", "in use", f"process {first.pid} ")
    assert shell.run(room, "predict", "shared", "pictures/images", "--out", "meanwhile").code == 0, "reading is free"
    first.send(signal.SIGKILL)
    first.wait()
    third = shell.start(room, *fit_command("shared", 1000))
    until(third, lambda it: "going on from step" in it.out)  # the dead one's lock is no lock
    third.send(signal.SIGKILL)
    third.wait()


# ------------------------------------------------------------------------------------------ numbers


def test_a_loss_that_is_no_number_stops_it_and_names_the_batch(shell: Shell, room: Path) -> None:
    done = shell.run(room, *fit_command("diverged", train__learning_rate=1e30, train__clip=0))
    said(done, 7, "stopped being a finite number", "scene_", "learning_rate")
    assert not (room / "diverged" / "best.safetensors").exists()
    assert all(torch.isfinite(tensor).all() for tensor in tensors(room / "diverged" / "weights.safetensors"))


def test_weights_that_are_no_numbers_are_neither_saved_nor_the_best(
    shell: Shell, room: Path, uninterrupted: bytes
) -> None:
    run = "poisoned"
    stop = "import os, intarsia.training.watchers as w; old = w.Checkpoint.now\n"
    stop += "w.Checkpoint.now = lambda self, t: (old(self, t), t.progress.step == 4 and os._exit(9))"
    assert shell.run(room, *fit_command(run), before=stop).code == 9
    kept = {path.name: path.read_bytes() for path in (room / run).glob("*.*t*s*") if "tfevents" not in path.name}
    poison = """
import torch, intarsia.training.averaging as a
old = a.MovingAverage.update
def update(self, model):
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    old(self, model)
a.MovingAverage.update = update
"""
    said(shell.run(room, *fit_command(run), before=poison), 7, "stopped being finite numbers", "unharmed")
    assert kept and kept.items() <= {p.name: p.read_bytes() for p in (room / run).iterdir() if p.is_file()}.items()
    assert shell.run(room, *fit_command(run)).code == 0
    assert weights(room, run) == uninterrupted


def tensors(path: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(path).values())


# ------------------------------------------------------------------------------------------ disks


def test_a_folder_that_can_t_be_written_to_is_an_error_before_the_first_step(shell: Shell, room: Path) -> None:
    (room / "file").write_text("in the way")
    for run in ("file", "file/below"):
        done = shell.run(room, *fit_command(run))
        said(done, 6, run, "can't be written")
        assert "M parameters" not in done.out


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
@pytest.mark.parametrize("kilobytes", [16, 300])  # full at the first row of the metrics; at the second state
def test_a_full_disk(shell: Shell, room: Path, uninterrupted: bytes, kilobytes: int) -> None:
    with small_disk(room / f"disk{kilobytes}", kilobytes) as disk:
        command = fit_command(f"{disk.name}/run")
        said(shell.run(room, *command), 6, "bytes are free", "make room")
        state = disk / "run" / "state.pt"
        before = state.read_bytes() if state.exists() else b""
        assert bool(before) == (kilobytes > 100)
        said(shell.run(room, *command), 6, "make room")
        assert before == (state.read_bytes() if before else b"")
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert shell.run(room, *command).code == 0
        assert weights(room, f"{disk.name}/run") == uninterrupted


def test_a_limit_on_the_size_of_files(shell: Shell, room: Path, uninterrupted: bytes) -> None:
    limit = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))"  # weights fit, a state does not
    )
    stop = "import os, intarsia.training.watchers as w; old = w.Checkpoint.now\n"
    stop += "w.Checkpoint.now = lambda self, t: (old(self, t), t.progress.step == 4 and os._exit(9))"
    assert shell.run(room, *fit_command("limited"), before=stop).code == 9
    state = (room / "limited" / "state.pt").read_bytes()
    said(shell.run(room, *fit_command("limited"), before=limit), 6, "state.pt", "files here may not be that large")
    assert (room / "limited" / "state.pt").read_bytes() == state
    assert shell.run(room, *fit_command("limited")).code == 0
    assert weights(room, "limited") == uninterrupted


# ------------------------------------------------------------------------------------------ strangers' files


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_strangers_checkpoint_is_refused_unopened(
    shell: Shell, room: Path, uninterrupted: bytes, tmp_path: Path
) -> None:
    shutil.copytree(room / "uninterrupted", tmp_path / "run")
    shutil.copytree(room / "pictures", tmp_path / "pictures")
    target = tmp_path / "code was run"
    torch.save({"model": Payload(target)}, tmp_path / "zip")
    hostile = [pickle.dumps(Payload(target), protocol) for protocol in (0, 2, 4)] + [(tmp_path / "zip").read_bytes()]
    for name, command in (
        ("best.safetensors", ["predict", "run", "pictures/images", "--out", "out"]),
        ("state.pt", ["fit", "pictures", "--run", "run"]),
    ):
        whole = (tmp_path / "run" / name).read_bytes()
        for content in hostile:
            (tmp_path / "run" / name).write_bytes(content)
            said(shell.run(tmp_path, *command), 4, name, "could run code")
        for content in (b"", whole[:-100], b"\0" * 100):
            (tmp_path / "run" / name).write_bytes(content)
            said(shell.run(tmp_path, *command), 3, name, "damaged")
        (tmp_path / "run" / name).write_bytes(whole)
    assert not target.exists()
    torch.save({"model": {}}, tmp_path / "run" / "state.pt")
    said(shell.run(tmp_path, "fit", "pictures", "--run", "run"), 2, "state.pt does not fit")


@pytest.mark.parametrize(
    ("name", "content", "command", "code", "words"),
    [
        ("config.toml", b"", "predict", 2, "config.toml has no [model]"),
        ("config.toml", b"\xff\xfe", "fit", 2, "config.toml is not valid TOML"),
        ("config.toml", b'[model]\nname = "os.system"', "predict", 2, "config.toml describes no model of ours"),
        ("config.toml", b'[model]\nname = "unet"\nwidth = 1000000000', "predict", 5, "memory"),
        ("classes.json", b"[]", "predict", 2, "classes.json can't be read"),
        ("classes.json", b'{"names": ["a"], "colours": [[1, 2, 3]], "overlapping": false}', "predict", 2, "5 classes"),
        ("data.json", b"{", "fit", 0, ""),
        ("metrics.jsonl", b'[1]\n{"step": "x"}\nnull\n{"step": 1, "time": "long"}\n\xff', "evaluate", 0, ""),
        ("temperature.json", b'{"temperature": NaN}', "predict", 0, ""),
    ],
)
def test_damaged_files_of_a_run(
    shell: Shell, room: Path, uninterrupted: bytes, tmp_path: Path, name: str, content: bytes, command: str, code: int,
    words: str,
) -> None:  # fmt: skip
    shutil.copytree(room / "uninterrupted", tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    arguments = {
        "predict": ["predict", "run", room / "pictures/images", "--out", "out"],
        "fit": ["fit", room / "pictures", "--run", "run", "--no-report"],
        "evaluate": ["evaluate", "run"],
    }
    done = shell.run(tmp_path, *arguments[command])
    if code:
        said(done, code, words)
    else:
        assert done.code == 0 and done.err == "", done.err


# ------------------------------------------------------------------------------------------ broken pictures


def test_prediction_goes_on_past_hundreds_of_broken_files(
    shell: Shell, room: Path, uninterrupted: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    broken = 0
    for name, make in WHOLE.items():
        data = make()
        for number, (_, content) in enumerate(damaged(data, seed=len(name))):
            if number % 3 == 0:
                (folder / f"{broken:03d}-{name}").write_bytes(content)
                broken += 1
    rubbish = [(content, suffix) for content in RUBBISH for suffix in ("png", "jpg", "tif", "webp", "npy")]
    for number, (content, suffix) in enumerate(rubbish):
        (folder / f"rubbish{number}.{suffix}").write_bytes(content)
    for name, make in BOMBS.items():
        (folder / f"bomb-{name}").write_bytes(make())
    good = {f"good{number}": with_pillow("png") for number in range(3)}
    good["dot"] = with_pillow("png", np.zeros((1, 1, 3), np.uint8))
    good["line"] = with_pillow("png", np.zeros((1, 2000, 3), np.uint8))
    for name, content in good.items():
        (folder / f"{name}.png").write_bytes(content)
    assert broken + len(rubbish) + len(BOMBS) > 200

    command = ["predict", room / "uninterrupted", "in", "--out", "out", "--overlay", "--uncertainty", "--probabilities"]
    done = shell.run(tmp_path, *command)
    assert done.code == 3 and done.err == ""
    listed = [line for line in done.out.splitlines() if line.startswith("  in/")]
    answered = {path.stem for path in (tmp_path / "out" / "masks").iterdir()}
    assert f"{len(answered)} pictures in" in done.out and f"{len(listed)} failed" in done.out
    assert len(answered) + len(listed) == len(list(folder.iterdir()))
    assert len({line.split()[0].rstrip(":") for line in listed}) == len(listed) > 200
    assert good.keys() <= answered
    for kind in ("masks", "overlays", "uncertainty", "probabilities"):
        assert {path.stem for path in (tmp_path / "out" / kind).iterdir()} == answered, "none has half an answer"
    assert {path.name for path in (tmp_path / "out").rglob(".*")} == {".lock"}
    assert Pillow.open(tmp_path / "out/masks/dot.png").size == (1, 1)
    again = shell.run(tmp_path, *command)
    assert again.code == 3 and f"{len(answered)} were there already" in again.out


def test_stopped_while_predicting_it_leaves_whole_files_and_goes_on(
    shell: Shell, room: Path, uninterrupted: bytes, tmp_path: Path
) -> None:
    command = ["predict", room / "uninterrupted", room / "pictures/images", "--out", "out", "--overlay"]
    slow = "import time, intarsia.inference.folder as f; old = f._answer\n"
    slow += "f._answer = lambda *a: (time.sleep(0.1), old(*a))[1]"
    started = shell.start(tmp_path, *command, before=slow)
    until(started, lambda it: (tmp_path / "out" / "masks" / "scene_0002.png").exists())
    started.send(signal.SIGTERM)
    said(started.wait(), 75, "stopped")
    done = {path.name for path in (tmp_path / "out" / "masks").iterdir()}
    assert 3 <= len(done) < 12
    assert all(Pillow.open(tmp_path / "out" / "masks" / name).size == (64, 48) for name in done)
    assert not list((tmp_path / "out").rglob(".*.part"))
    assert f"{len(done)} were there already" in shell.run(tmp_path, *command).out


# ------------------------------------------------------------------------------------------ places


def test_names_that_are_hard_to_print(shell: Shell, room: Path, uninterrupted: bytes, tmp_path: Path) -> None:
    deep = tmp_path / "ein Ordner [red] ä 日本 [/x] %s{}'" / ("l" * 200) / ("m" * 200) / ("n" * 200)
    shutil.copytree(room / "pictures", deep / "Bilder [/x]")
    images = deep / "Bilder [/x]" / "images"
    shutil.copy(images / "scene_0000.png", images / f"{'x' * 251}.png")
    done = shell.run(deep, "fit", "Bilder [/x]", "--run", "Lauf [b]", *options(train__steps=2))
    assert done.code == 0, done.err
    assert "Lauf [b]/report.html" in done.out, "brackets are no markup"
    assert (deep / "Lauf [b]" / "report.html").is_file()
    done = shell.run(tmp_path, "predict", deep / "Lauf [b]", images, "--out", deep / "aus gabe")
    assert done.code == 0 and f"{deep}/aus gabe" in done.out
    assert len(list((deep / "aus gabe" / "masks").iterdir())) == 13

    odd = tmp_path / "odd"
    odd.mkdir()
    whole = (images / "scene_0000.png").read_bytes()
    for name in (b"no\xff\xfetext.png", b"two\nlines.png", b"-dash.png", b"*.png", b"[a].png"):
        (odd / os.fsdecode(name)).write_bytes(whole)
    (odd / os.fsdecode(b"cut\xff.png")).write_bytes(whole[:100])
    done = shell.run(tmp_path, "predict", deep / "Lauf [b]", "odd", "--out", "answers")
    assert done.code == 3 and done.err == "" and "1 failed" in done.out
    assert len(list((tmp_path / "answers" / "masks").iterdir())) == 5


def test_no_home_no_locale_no_terminal(room: Path, uninterrupted: bytes, tmp_path: Path) -> None:
    (tmp_path / "ä ü").mkdir()
    shutil.copy(room / "pictures/images/scene_0000.png", tmp_path / "ä ü" / "ö.png")
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "intarsia", "predict", str(room / "uninterrupted"), "ä ü", "--out", "ö ä"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=bare | {"HOME": "/nonexistent", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b"" and b"\x1b" not in done.stdout
    assert (tmp_path / "ö ä" / "masks" / "ö.png").is_file()
