"""`intarsia predict` for films, as the real command."""

from __future__ import annotations

import json
import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from shell import Shell, draw, options

from intarsia.files import write_atomically
from intarsia.inference.film import FilmFile, FilmWriter

pytest.importorskip("av")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
TICKS = [0, 3600, 9000, 10_800]


def film(path: Path, ticks: list[int], pictures: list[np.ndarray]) -> None:
    def content(file: object) -> None:
        with FilmWriter(file, pictures[0].shape[:2], Fraction(1, 90_000)) as writer:  # type: ignore[arg-type]
            for number, each in enumerate(ticks):
                writer.add(pictures[number % len(pictures)], each)

    write_atomically(path, content)


@pytest.fixture(scope="module")
def room(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`, a `run` on them, `a.mp4` of four of them, and `long.mp4` of 600."""
    room = tmp_path_factory.mktemp("film")
    draw(room / "pictures")
    done = shell.run(room, "fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options(model__depth=1))
    assert done.code == 0, done.err
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted((room / "pictures/images").iterdir())[:4]]
    film(room / "a.mp4", TICKS, pictures)
    film(room / "long.mp4", [3600 * number for number in range(600)], pictures)
    return room


def test_a_film_and_its_frames(room: Path, shell: Shell) -> None:
    done = shell.run(room, "predict", "run", "a.mp4", "--out", "out", "--overlay", "--smooth", "flow")
    assert done.code == 0 and "a: 4 frames in" in done.out and "latency p50" in done.out, done.err
    for file in ("out/masks/a.mov", "out/overlays/a.mp4"):
        with FilmFile(room / file) as source:
            assert [frame.ticks * source.time_base for frame in source] == [Fraction(t, 90_000) for t in TICKS]
    assert json.loads((room / "out/films/a.json").read_text())["frames"] == 4
    done = shell.run(room, "predict", "run", "a.mp4", "--out", "out", "--overlay", "--smooth", "flow")
    assert done.code == 0 and "1 were there already" in done.out
    for _ in range(2):
        done = shell.run(room, "predict", "run", "pictures/images", "--film", "--out", "frames", "--rate", 10)
        assert done.code == 0, done.err
    assert "12 were there already" in done.out and len(list((room / "frames/masks").iterdir())) == 12


def test_what_makes_no_sense_is_said(room: Path, shell: Shell) -> None:
    for words, said in (
        (["a.mp4", "pictures/images"], "in one go"),
        (["pictures/images", "--smooth", "flow"], "--smooth is for films"),
        (["a.mp4", "--uncertainty"], "--uncertainty can't be had of a film"),
        (["a.mp4", "--memory", 0], "--memory 0"),
        (["a.mp4", "--no-track", "--score", 0], "--track, --score can't be had: this run is of a segmenter"),
        (["a.mp4", "--engine", "onnxruntime"], "intarsia export run"),
        (["a.mp4", "--seconds", 0], "give more than 0"),
    ):
        done = shell.run(room, "predict", "run", *words, "--out", "refused")
        assert done.code == 2 and said in done.err, done.err
    assert not (room / "refused").exists()
    (room / "broken.mp4").write_bytes((room / "a.mp4").read_bytes()[:500])
    done = shell.run(room, "predict", "run", "broken.mp4", "a.mp4", "--out", "some")
    assert done.code == 3 and "1 failed" in done.out and "broken.mp4" in done.out and "a: 4 frames" in done.out


def test_a_film_that_is_stopped_is_not_there(room: Path, shell: Shell) -> None:
    command = shell.start(room, "predict", "run", "long.mp4", "--out", "stopped", "--realtime")
    deadline = time.monotonic() + 60
    folder = room / "stopped/masks"  # a file that grows in it: frames are being answered
    while not any(each.stat().st_size for each in folder.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 75 and "stopped" in done.err, f"code {done.code}, {done.out}"
    assert [each.name for each in (room / "stopped/masks").iterdir()] == []
