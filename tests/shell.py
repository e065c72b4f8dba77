"""The command line in tests: its folder, its signals, its exit code, without the seconds of torch's start; and what it
is given: a folder of drawn pictures, and settings with which a training takes a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intarsia.data.scenes import SceneConfig, write_scenes

#: A U-Net of a few thousand weights on one thread, the same on every machine; a state is saved after every step
TINY = {
    "model.name": "unet", "model.encoder": "plain", "model.width": 4, "model.depth": 2, "augment.crop": [32, 32],
    "train.batch": 2, "train.threads": 1, "train.precision": "32-true", "train.device": "cpu",
    "train.checkpoint_seconds": 0, "train.validate_every": 3,
}  # fmt: skip


#: kills the process after a step, before anything of it is saved
KILL_AT = """
import os, intarsia.training.watchers as watchers
log = watchers.Log.__call__
def killed(self, training, losses):
    log(self, training, losses)
    if training.progress.step == {step}:
        os.kill(os.getpid(), 9)
watchers.Log.__call__ = killed
"""


def options(**settings: Any) -> list[str]:
    """TINY as options of the command, with other settings: options(train__steps=4)."""
    named = TINY | {key.replace("__", "."): value for key, value in settings.items()}
    return [word for key, value in named.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def draw(folder: Path, count: int = 12, labelled: int | None = None) -> Path:
    """A folder of scenes of 48x64 pixels with five classes, a fifth of them for validation."""
    return write_scenes(folder, count, SceneConfig(height=48, width=64), labelled)


#: A process that has loaded everything and forks for each command: the command line itself, with its own folder,
#: environment, signals and exit code, without the seconds that importing torch takes each time, and those that learning
#: what drawn pictures are compared by does (tests/training/test_features.py has them).
WARM = """
import json, os, signal, sys, time, traceback
import intarsia.api, intarsia.cli.app, intarsia.fitting, intarsia.inference.folder
import intarsia.training.features as features
from intarsia.cli import main
features.STEPS = features.FEWEST_STEPS = 4
for line in sys.stdin:
    order = json.loads(line)
    if "pid" in order:
        until, (pid, status) = time.monotonic() + order["seconds"], (0, 0)
        while not pid and time.monotonic() < until:
            pid, status = os.waitpid(order["pid"], os.WNOHANG)
            time.sleep(0.003)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background inherits deafness to it
        os.chdir(order["folder"])
        for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(order["environment"])
        sys.argv = ["intarsia", *order["arguments"]]
        exec(order["before"])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)  # without taking torch apart, which takes seconds
    print(pid, flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int  # negative: the signal that ended it
    out: str
    err: str


@dataclass
class Command:
    """A command that was started."""

    shell: Shell
    pid: int
    place: Path
    done: Done | None = None

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> Done:
        """What came of it; after so many seconds it is killed and the test fails."""
        if self.done is None:
            code = self.shell.ask({"pid": self.pid, "seconds": seconds})
            if code is None:
                self.send(signal.SIGKILL)
                raise AssertionError(f"the command still ran after {seconds} s: {self.err}")
            self.done = Done(code, self.out, self.err)
        return self.done

    @property
    def out(self) -> str:
        return self.place.with_suffix(".out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.place.with_suffix(".err").read_text(errors="replace")


@dataclass
class Shell:
    """Runs `intarsia …` in a folder."""

    server: subprocess.Popen[str]
    logs: Path
    count: int = 0

    def ask(self, order: dict[str, Any]) -> Any:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, folder: Path, *arguments: object, before: str = "", **environment: str) -> Command:
        """`before`: Python that runs in the command's process first, such as setting a limit."""
        self.count += 1
        place = self.logs / str(self.count)
        order: dict[str, Any] = {
            "folder": str(folder), "arguments": [str(each) for each in arguments], "environment": environment,
            "before": before, "out": str(place.with_suffix(".out")), "err": str(place.with_suffix(".err")),
        }  # fmt: skip
        for name in ("out", "err"):
            Path(order[name]).touch()
        return Command(self, self.ask(order), place)

    def run(self, folder: Path, *arguments: object, before: str = "", **environment: str) -> Done:
        return self.start(folder, *arguments, before=before, **environment).wait()


@contextmanager
def open_shell(logs: Path) -> Iterator[Shell]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield Shell(server, logs)
        assert server.stdin
        server.stdin.close()
