"""Whole files, stale parts, locks: with real processes, real kills and a really full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from intarsia.errors import DiskError
from intarsia.files import Lock, remove_parts, require_writable, write_atomically

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals and limits")


def parts(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.suffix == ".part"]


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(program: str, *arguments: object) -> str:
    process = start(program, *arguments)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_bytes_and_functions_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "ä picture with spaces.bin"
    assert write_atomically(path, b"first") == path
    assert path.read_bytes() == b"first"

    def seeking(file) -> None:  # type: ignore[no-untyped-def]
        file.write(b"????second")
        file.seek(0)
        file.write(b"the ")

    write_atomically(path, seeking)
    assert path.read_bytes() == b"the second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"1")
    assert path.read_bytes() == b"1"
    with pytest.raises(DiskError, match="name too long"):
        write_atomically(tmp_path / ("n" * 256), b"1")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no such mask"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file_and_its_own_error(tmp_path: Path, error: BaseException) -> None:
    path = write_atomically(tmp_path / "weights", b"old")

    def fails(file) -> None:  # type: ignore[no-untyped-def]
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert parts(tmp_path) == []


def test_a_missing_folder_and_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="no such file or directory"):
        write_atomically(tmp_path / "missing" / "a", b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="folder can't be written"):
        write_atomically(tmp_path / "folder", b"1")
    assert parts(tmp_path) == []


TOO_LARGE = """
import resource, sys
from intarsia.errors import DiskError
from intarsia.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def wraps(file):
    try:
        for _ in range(300):
            file.write(b"x" * 1000)
        file.flush()
    except OSError as error:
        raise RuntimeError("a writer that makes the disk's error its own")
for content in (b"x" * 300_000, wraps):
    try:
        write_atomically(sys.argv[1], content)
    except DiskError as error:
        print(error)
"""


@posix
def test_no_room_keeps_the_old_file_and_says_needed_and_free(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "weights", b"old")
    first, second = run(TOO_LARGE, path).splitlines()
    assert "at least 300,000 bytes" in first and "bytes are free" in first
    assert "bytes are free" in second
    assert path.read_bytes() == b"old"
    assert parts(tmp_path) == []


FULL_DISK = """
import sys
from pathlib import Path
from intarsia.errors import DiskError
from intarsia.files import Lock, write_atomically
path = Path(sys.argv[1]) / "weights"
write_atomically(path, b"old" * 1000)
(path.parent / "filler").write_bytes(b"x" * 40_000)
try:
    write_atomically(path, b"new" * 10_000)
except DiskError as error:
    print(error)
print(path.read_bytes() == b"old" * 1000, sorted(each.name for each in path.parent.iterdir()))
"""


@posix
def test_a_full_disk(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=64k none "{tmp_path}"'
    within = ["unshare", "-rm", "sh", "-c"]
    if subprocess.run([*within, mount], capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    command = [*within, f'{mount} && exec "$0" -c "$1" "{tmp_path}"', sys.executable, FULL_DISK]
    sentence, state = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "at least 30,000 bytes" in sentence
    free = int(sentence.split(", and ")[1].split()[0].replace(",", ""))
    assert 0 < free < 30_000
    assert state == "True ['filler', 'weights']"


NOT_ALLOWED = """
import os, sys
from intarsia.errors import DiskError
from intarsia.files import Lock, require_writable, write_atomically
if os.getuid() == 0:
    os.setuid(65534)
for attempt in (
    lambda: write_atomically(sys.argv[1] + "/a", b"1"),
    lambda: require_writable(sys.argv[1]),
    lambda: Lock(sys.argv[1] + "/.lock").__enter__(),
):
    try:
        attempt()
    except DiskError as error:
        print(error)
"""


@posix
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(each.stat().st_mode | 0o055)
    lines = run(NOT_ALLOWED, folder).splitlines()
    assert len(lines) == 3 and all("permission denied; choose a folder that you may write to" in line for line in lines)
    assert list(folder.iterdir()) == []


def test_require_writable_makes_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    folder = require_writable(tmp_path / "a" / "b")
    assert folder.is_dir() and list(folder.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="file"):
        require_writable(tmp_path / "file")
    with pytest.raises(DiskError):
        require_writable(tmp_path / "file" / "folder")


WRITES_SLOWLY = """
import sys, time
from intarsia.files import write_atomically
def slowly(file):
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
write_atomically(sys.argv[1], slowly)
"""


@posix
def test_a_killed_writer_leaves_the_old_file_and_a_part_that_is_swept(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "weights", b"old")
    writer = start(WRITES_SLOWLY, path)
    assert wait_for_line(writer) == "half"
    assert remove_parts(tmp_path) == 0 and len(parts(tmp_path)) == 1, "its writer lives"
    killed(writer)
    assert path.read_bytes() == b"old"
    assert remove_parts(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_which_parts_are_stale(tmp_path: Path) -> None:
    def mine(file) -> None:  # type: ignore[no-untyped-def]
        (part,) = parts(tmp_path)
        _, pid, ticks, host = part.name.removesuffix(".part").split("-", 3)
        elsewhere = tmp_path / f".00000000-{pid}-{ticks}-elsewhere.part"
        reused = tmp_path / f".00000000-{pid}-{int(ticks) + 1}-{host}.part"
        others = tmp_path / ".somebody-elses.part"
        for each in (elsewhere, others):
            each.write_bytes(b"")
        if ticks != "0":  # the system tells a process from a later one of the same number
            reused.write_bytes(b"")
            assert remove_parts(tmp_path) == 1
        assert remove_parts(tmp_path) == 0
        assert remove_parts(tmp_path, alone=True) == 1
        assert sorted(parts(tmp_path)) == sorted([part, others])

    write_atomically(tmp_path / "a", mine)
    assert remove_parts(tmp_path / "missing") == 0


def test_many_threads_write_one_file_whole(tmp_path: Path) -> None:
    contents = [bytes([65 + i]) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=write_atomically, args=(tmp_path / "a", each)) for each in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in contents
    assert parts(tmp_path) == []


HOLDS = """
import sys, time
from intarsia.files import Lock
with Lock(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@posix
def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    holder = start(HOLDS, path)
    assert wait_for_line(holder) == "holds"
    with pytest.raises(DiskError, match=rf"run is in use by process {holder.pid} on .+, since \d{{4}}-"), Lock(path):
        pass
    killed(holder)
    with Lock(path), pytest.raises(DiskError, match=f"process {os.getpid()} on"), Lock(path):
        pass
    with Lock(path):
        assert str(os.getpid()) in path.read_text()
    assert path.read_text() == ""


HOLDS_WITH_A_CHILD = """
import os, sys, time
from intarsia.files import Lock
with Lock(sys.argv[1]):
    if os.fork() == 0:
        time.sleep(1.0)
        os._exit(0)
    print("holds", flush=True)
    time.sleep(60)
"""


@posix
def test_a_killed_holders_children_are_waited_for(tmp_path: Path) -> None:
    holder = start(HOLDS_WITH_A_CHILD, tmp_path / ".lock")
    assert wait_for_line(holder) == "holds"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    with Lock(tmp_path / ".lock"):
        assert time.monotonic() - began < 5
    holder.communicate()


def test_a_torn_lock_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"host": "half')
    with Lock(tmp_path / ".lock"):
        pass


WITHOUT_FLOCK = """
import sys
sys.modules["fcntl"] = None  # as on a system that has none
from intarsia.errors import DiskError
from intarsia.files import Lock
try:
    with Lock(sys.argv[1]):
        print("taken")
except DiskError as error:
    print(error)
"""


@posix
def test_without_system_locks_the_named_holder_decides(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = start(HOLDS, path)
    assert wait_for_line(holder) == "holds"
    assert f"process {holder.pid}" in run(WITHOUT_FLOCK, path)
    name = path.read_text()
    killed(holder)
    assert run(WITHOUT_FLOCK, path) == "taken\n"
    path.write_text(name.replace('"host": "', '"host": "not-'))
    assert f"if that has ended, delete {path}" in run(WITHOUT_FLOCK, path)
