"""Files that are whole or not there, and folders with one writer.

A file is written under a temporary name beside its place, brought to the disk, and only then given its name: a kill,
a crash or a full disk leaves the old file as it was. What a killed writer leaves behind is a hidden `.….part`,
which carries its writer's process in its name, so that the next start can tell what is stale.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from .errors import DiskError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\.[0-9a-f]{8}-(?P<pid>\d+)-(?P<start>\d+)-(?P<host>[\w.-]+)\.part")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_ORPHANS = 10.0  # seconds; a killed trainer's data workers still hold its lock until they notice, torch's within 5 s


def write_atomically(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """The path, once the whole content stands there, on the disk; until then, what stood there before.

    `content` is the bytes, or a function that writes them into the open file it is given (which can seek).
    Raises DiskError where that is not possible; the old file is then whole, and nothing else is left behind.
    """
    path = Path(path)
    part = path.parent / _part_name()
    try:
        file = _Remembering(part, "xb+")
    except OSError as error:
        raise disk_error(path, error, None) from error
    try:
        with file, io.BufferedRandom(file) as buffered:  # type: ignore[type-var]
            if isinstance(content, bytes):
                file.needed = len(content)
                buffered.write(content)
            else:
                content(cast(BinaryIO, buffered))
            buffered.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # Writers in C++ (torch.save) turn a full disk into an error of their own: what the disk said is what counts.
        reason = file.error or error
        if isinstance(reason, OSError) and isinstance(error, Exception):
            raise disk_error(path, reason, file.needed) from error
        raise
    return path


def append(path: str | Path, content: bytes) -> None:
    """Add the content to the end of a file. Raises DiskError; the file may then end with a part of the content."""
    try:
        with Path(path).open("ab") as file:
            file.write(content)
    except OSError as error:
        raise disk_error(Path(path), error, len(content)) from error


def remove_parts(folder: str | Path, *, alone: bool = False) -> int:
    """How many parts of dead writers were removed from the folder (not from folders inside it).

    A part whose process lives is kept. One from another machine is kept too, since nobody here can say whether its
    writer lives, unless `alone`: the caller holds the folder's Lock, hence there is no such writer.
    """
    folder = Path(folder)
    removed = 0
    for part in folder.glob(".*.part"):
        match = _PART.fullmatch(part.name)
        if match is None:
            continue
        writer = _Process(match["host"], int(match["pid"]), int(match["start"]))
        if writer.lives() or (not writer.is_here() and not alone):
            continue
        try:
            part.unlink(missing_ok=True)
            removed += 1
        except OSError:
            continue  # somebody else's file; it takes room and does no harm
    return removed


def require_writable(folder: str | Path) -> Path:
    """The folder, made where it was missing, after a file was really written in it. Raises DiskError otherwise."""
    folder = Path(folder)
    probe = folder / _part_name()
    make_folder(folder)
    try:
        with probe.open("xb") as file:
            file.write(b"writable")
    except OSError as error:
        raise disk_error(folder, error, None) from error
    finally:
        probe.unlink(missing_ok=True)
    return folder


def make_folder(folder: str | Path) -> Path:
    """The folder, made with all above it where it was missing. Raises DiskError where that is not possible."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error, None) from error
    return folder


def remove_file(path: str | Path) -> None:
    """Remove a file; fine where there is none. Raises DiskError where that is not possible."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(Path(path), error, None) from error


class Lock:
    """One writer at a time: `with Lock(folder / ".lock"):` raises DiskError, naming the holder, while another holds it.

    The system's own file lock (flock) decides where there is one: it ends with its process, however that dies. Where
    there is none (Windows, some network folders), what the holder wrote into the file decides, and a holder that no
    longer lives on this machine is passed over; two that start in the same instant are then not told apart.
    The file stays when the lock is released, empty; deleting it could take it from under the next one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        make_folder(self.path.parent)
        try:
            file = cast(BinaryIO, os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b"))
        except OSError as error:
            raise disk_error(self.path, error, None) from error
        try:
            self._take(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            _rewrite(self._file, b"")
            self._file.close()  # the system's lock goes with it
            self._file = None

    def _take(self, file: BinaryIO) -> None:
        patience = time.monotonic() + _ORPHANS
        while (taken := _flock(file)) is False:
            holder = _Holder.read(file)
            if holder is None or holder.process.lives() or not holder.process.is_here() or time.monotonic() > patience:
                raise self._refusal(holder)
            time.sleep(0.05)  # the holder was killed, and its child processes are about to end
        holder = _Holder.read(file)
        if taken is None and holder is not None and (holder.process.lives() or not holder.process.is_here()):
            raise self._refusal(holder)
        try:
            _rewrite(file, _Holder.now().json())
        except OSError as error:
            raise disk_error(self.path, error, None) from error

    def _refusal(self, holder: _Holder | None) -> DiskError:
        folder = self.path.parent
        if holder is None:  # it took the lock this instant and has not written its name yet
            return DiskError(f"{folder} is in use by another process; wait for its end, or write to another folder.")
        who = f"process {holder.process.pid} on {holder.process.host}, since {holder.since}"
        if holder.process.is_here():
            return DiskError(f"{folder} is in use by {who}; wait for it, stop it, or write to another folder.")
        return DiskError(f"{folder} is in use by {who}; if that has ended, delete {self.path} and start again.")


@dataclass(frozen=True)
class _Process:
    """A process that can be told from another which got the same number later."""

    host: str
    pid: int
    start: int  # clock ticks from the machine's start to the process's; 0 where the system does not say

    @classmethod
    def this(cls) -> Self:
        return cls(_host(), os.getpid(), _start_of(os.getpid()) or 0)

    def is_here(self) -> bool:
        return self.host == _host()

    def lives(self) -> bool:
        """Whether the process runs on this machine; where this system can't say, True."""
        if not self.is_here():
            return False
        if os.name == "nt":  # no signal 0 there: os.kill would end the process
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it runs, as another user
        start = _start_of(self.pid)
        return start is None or self.start in (0, start)


@dataclass(frozen=True)
class _Holder:
    process: _Process
    since: str  # for people to read: clocks jump, so nothing is decided by it

    @classmethod
    def now(cls) -> Self:
        return cls(_Process.this(), datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"))

    def json(self) -> bytes:
        return json.dumps({**asdict(self.process), "since": self.since}).encode()

    @classmethod
    def read(cls, file: BinaryIO) -> Self | None:
        """The holder named in the file; None where it names nobody, or was cut off in the middle."""
        file.seek(0)
        try:
            entry = json.loads(file.read() or b"null")
            return cls(_Process(str(entry["host"]), int(entry["pid"]), int(entry["start"])), str(entry["since"]))
        except (ValueError, TypeError, KeyError):
            return None


class _Remembering(io.FileIO):
    """A file that keeps the system's error and how many bytes were wanted, whatever its user makes of them."""

    error: OSError | None = None
    needed: int = 0

    def write(self, data: Any, /) -> int:
        try:
            self.needed = max(self.needed, self.tell() + len(memoryview(data).cast("B")))
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def _flock(file: BinaryIO) -> bool | None:
    """True: taken. False: another has it. None: there are no such locks on this system or in this folder."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _rewrite(file: BinaryIO, content: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(content)
    file.flush()


def _part_name() -> str:
    me = _Process.this()
    return f".{secrets.token_hex(4)}-{me.pid}-{me.start}-{me.host}.part"


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())[:63] or "localhost"


def _start_of(pid: int) -> int | None:
    """When the process started, in clock ticks since the machine did (proc(5), field 22); None without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # the name before the bracket may hold spaces
    except (OSError, ValueError, IndexError):
        return None


def _sync_folder(folder: Path) -> None:
    """Brings the new name to the disk; a system that can't do this for a folder does it in its own time."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: OSError, needed: int | None = None) -> DiskError:
    """What to say where the system could not write a file. needed: bytes, where that is known."""
    if error.errno in _NO_ROOM:
        want = f"it needs at least {needed:,} bytes, and " if needed else ""
        why = {errno.EDQUOT: " (your quota is used up)", errno.EFBIG: " (files here may not be that large)"}
        return DiskError(
            f"{path} can't be written: {want}{_free(path)} bytes are free{why.get(error.errno, '')}; "
            "make room or choose another folder, then run the same command again. What was there before is unharmed."
        )
    if error.errno in _NO_RIGHT:
        return DiskError(f"{path} can't be written: {_reason(error)}; choose a folder that you may write to.")
    return DiskError(f"{path} can't be written: {_reason(error)}; check the path and the disk, then try again.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,}"
    except OSError:
        return "an unknown number of"
