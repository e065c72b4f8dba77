"""`intarsia predict` of huge pictures as the real command: killed and gone on with, damaged places, full disks."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from shell import Shell, draw, options

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
HUGE = ["--huge", 0.01, "--tile", 128, "--overlay"]


@pytest.fixture(scope="module")
def room(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `run` of two steps, and `in` with two huge pictures."""
    room = tmp_path_factory.mktemp("huge")
    draw(room / "pictures")
    assert shell.run(room, "fit", "pictures", "--run", "run", "--no-report", "--steps", 2, *options()).code == 0
    (room / "in").mkdir()
    for number, name in enumerate(("slide", "zlide")):
        values = np.random.default_rng(number).integers(0, 256, (600, 280, 3)).astype(np.uint8)
        tifffile.imwrite(room / f"in/{name}.tif", values, tile=(64, 64), compression="zlib", photometric="rgb")
    return room


@pytest.fixture(scope="module")
def undisturbed(shell: Shell, room: Path) -> dict[str, bytes]:
    done = shell.run(room, "predict", "run", "in", "--out", "undisturbed", *HUGE)
    assert done.code == 0 and done.err == "" and "2 pictures in" in done.out, done.err
    return answers(room / "undisturbed")


def answers(out: Path) -> dict[str, bytes]:
    """All files but the record and the lock."""
    files = [each for each in out.rglob("*") if each.is_file() and each.suffix == ".tif"]
    return {each.relative_to(out).as_posix(): each.read_bytes() for each in files}


def finished(out: Path) -> int:
    """Rows of tiles that the journal of the one unfinished picture tells of."""
    (journal,) = (out / ".unfinished").glob("*/journal")
    return journal.read_text().count("\n") - 1


#: the process kills itself as soon as so many rows of tiles are on the disk, before the journal says so (or after)
KILL = """
import os, intarsia.inference.huge as h
count, add = 0, h.append
def killed(path, content):
    global count
    count += 1
    if count == {number}:
        {what}
        os.kill(os.getpid(), 9)
    add(path, content)
h.append = killed
"""
KILL_AT_THE_END = """
import os, intarsia.inference.huge as h
h.forget = lambda state: os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("number", "what", "rows"),
    [(2, "pass", 1), (3, "add(path, content[:7])", 2), (6, "add(path, content)", 3)],
)
def test_killed_and_begun_again_the_files_are_the_same_to_the_byte(
    number: int, what: str, rows: int, shell: Shell, room: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", "run", "in", "--out", out, *HUGE]
    done = shell.run(room, *command, before=KILL.format(number=number, what=what))
    assert done.code == -signal.SIGKILL, done.err
    assert finished(out) == rows
    done = shell.run(room, *command)
    assert done.code == 0 and done.err == "", done.err
    assert answers(out) == undisturbed and not (out / ".unfinished").exists()


def test_killed_in_the_last_instant_it_tidies_up(
    shell: Shell, room: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", "run", "in", "--out", out, *HUGE]
    assert shell.run(room, *command, before=KILL_AT_THE_END).code == -signal.SIGKILL
    assert (out / ".unfinished").exists()
    assert shell.run(room, *command).code == 0
    assert answers(out) == undisturbed and not (out / ".unfinished").exists()


def test_a_damaged_tile_is_said_and_the_rest_goes_on(
    shell: Shell, room: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    shutil.copytree(room / "in", tmp_path / "in")
    path, out = tmp_path / "in/slide.tif", tmp_path / "out"
    with tifffile.TiffFile(path) as file:
        place, count = file.pages[0].dataoffsets[8 * 5 + 2], file.pages[0].databytecounts[8 * 5 + 2]
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\xff" * count)
    command = ["predict", room / "run", "in", "--out", out, *HUGE]
    done = shell.run(tmp_path, *command)
    assert done.code == 3 and "slide.tif is damaged at rows 512 to 576, columns 128 to 192" in done.out, done.out
    assert finished(out) == 1, "its finished rows stay"
    assert answers(out).keys() == {"masks/zlide.tif", "overlays/zlide.tif"}
    assert all(undisturbed[name] == data for name, data in answers(out).items())


def test_a_full_disk_is_said_and_gone_on_with(
    shell: Shell, room: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", "run", "in", "--out", out, *HUGE]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, resource.RLIM_INFINITY))"
    for most in (100_000, 400_000):  # too little for what waits; for the finished tiles of an overlay
        done = shell.run(room, *command, before=limit.format(most))
        assert done.code == 6 and "can't be written" in done.err and "Traceback" not in done.err, done.err
        assert not list(out.glob("masks/*"))
    assert shell.run(room, *command).code == 0
    assert answers(out) == undisturbed


def test_other_kinds_of_files(shell: Shell, room: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("pyvips")
    zarr = pytest.importorskip("zarr")
    from PIL import Image as Pillow

    (tmp_path / "in").mkdir()
    Pillow.fromarray(tifffile.imread(room / "in/slide.tif")).save(tmp_path / "in/slide.png")
    command = ["predict", room / "run", "in", "--out", "out", *HUGE, "--huge-format", "zarr"]
    done = shell.run(tmp_path, *command)
    assert done.code == 0 and done.err == "", done.err
    for kind in ("masks", "overlays"):
        values = zarr.open_group(str(tmp_path / f"out/{kind}/slide.ome.zarr"), mode="r")["0"][:]
        expected = tifffile.imread(room / f"undisturbed/{kind}/slide.tif")
        assert np.array_equal(values if values.ndim == 2 else np.moveaxis(values, 0, -1), expected)
