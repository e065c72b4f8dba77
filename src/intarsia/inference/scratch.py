"""The last rows of an array that is too wide to hold, in a file without a name: it is gone with its process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ..files import disk_error


class Scratch:
    """`rows` rows of `width` numbers on the disk; row y takes the place of row y - `rows`. What was never written is 0.

    A mapping would do the same and count as this process's memory.
    """

    def __init__(self, folder: Path, rows: int, width: int, dtype: type[np.generic] | np.dtype) -> None:
        self.folder, self.rows, self.width, self.dtype = folder, rows, width, np.dtype(dtype)
        try:
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
            self.file.truncate(rows * width * self.dtype.itemsize)
        except OSError as error:
            raise disk_error(folder, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    def write(self, top: int, left: int, block: np.ndarray) -> None:
        """Put a block (h, w) at its place. Raises DiskError."""
        try:
            for y, row in enumerate(np.ascontiguousarray(block, self.dtype), top):
                self._seek(y, left)
                data = memoryview(row).cast("B")
                while data:  # a disk that gets full takes a part first
                    data = data[self.file.write(data) :]
        except OSError as error:
            raise disk_error(self.folder, error, block.size * self.dtype.itemsize) from error

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """(h, w): what stands there."""
        block = np.empty((bottom - top, right - left), self.dtype)
        for y, row in enumerate(block, top):
            self._seek(y, left)
            data = memoryview(row).cast("B")
            while data:
                data = data[self.file.readinto(data) :]  # type: ignore[attr-defined]
        return block

    def _seek(self, y: int, x: int) -> None:
        self.file.seek((y % self.rows * self.width + x) * self.dtype.itemsize)
