"""Large answers as TIFF files that viewers open at once: tiled, compressed, with smaller copies of themselves.

The tiles are collected in a file, one row of tiles after the other, as they are finished (`TileFile`); it can be cut
back to any row and gone on with. `write_pyramid` makes of it a BigTIFF with OME metadata: the smaller copies, each half
as high and wide as the one before, down to a single tile, are the picture's SubIFDs, as OME-TIFF 6 prescribes
(https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html#sub-resolutions).

Of class numbers a smaller pixel is what most of its four say, so that no class appears that was not there; of other
numbers it is their mean.
"""

from __future__ import annotations

import hashlib
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..errors import DiskError
from ..files import disk_error, remove_file, write_atomically

SIDE = 256  # pixels of a tile's sides
LEVEL = 1  # of zlib's 0..9


@dataclass(frozen=True)
class Plane:
    """What is written for a picture: (H, W) or (H, W, S) of one type of number."""

    height: int
    width: int
    dtype: str  # "uint8", "uint16" or "uint32"
    samples: int = 1  # 1 or 3
    kind: Literal["classes", "values"] = "values"  # whether numbers are names, or can be averaged

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // SIDE), -(-self.width // SIDE)

    @property
    def half(self) -> Plane:
        """The next smaller copy."""
        return Plane(-(-self.height // 2), -(-self.width // 2), self.dtype, self.samples, self.kind)

    def filled(self, part: np.ndarray) -> np.ndarray:
        """A whole tile (SIDE, SIDE, S) of a part (h, w) or (h, w, S) of one; what lies beyond the picture repeats its
        border, so that it changes nothing in the smaller copies."""
        part = part.reshape(*part.shape[:2], self.samples)
        missing = [(0, SIDE - part.shape[0]), (0, SIDE - part.shape[1]), (0, 0)]
        return np.pad(part, missing, mode="edge")

    def encoded(self, tile: np.ndarray) -> bytes:
        """A tile (SIDE, SIDE, S) as TIFF has it: zlib, of values the differences to the left neighbour."""
        values = tile.astype(np.dtype(self.dtype).newbyteorder("<"))
        if self.kind == "values":
            values[:, 1:] = values[:, 1:] - values[:, :-1]
        return zlib.compress(values.tobytes(), LEVEL)

    def decoded(self, data: bytes) -> np.ndarray:
        values = np.frombuffer(zlib.decompress(data), np.dtype(self.dtype).newbyteorder("<"))
        values = values.reshape(SIDE, SIDE, self.samples).astype(self.dtype)
        return np.cumsum(values, axis=1, dtype=values.dtype) if self.kind == "values" else values


class TileFile:
    """The encoded tiles of a plane, of which whole rows are there. `lengths`: bytes of each tile, row by row."""

    def __init__(self, path: Path, plane: Plane, lengths: Iterable[Sequence[int]] = ()) -> None:
        """The file is cut back to the rows of `lengths`. Raises DiskError where it can't be, or is shorter."""
        self.path, self.plane = path, plane
        self.offsets: list[list[int]] = []
        self.lengths: list[list[int]] = []
        self.bytes = 0
        for row in lengths:
            self._count(row)
        try:
            with path.open("r+b" if self.bytes else "wb") as file:
                if file.seek(0, os.SEEK_END) < self.bytes:
                    raise DiskError(f"{path} is shorter than it was; delete its folder and start again.")
                file.truncate(self.bytes)
        except OSError as error:
            raise disk_error(path, error) from error

    def append(self, tiles: Iterable[np.ndarray]) -> list[int]:
        """Bytes of each tile of the next row, once they are on the disk. Raises DiskError."""
        row = []
        try:
            with self.path.open("r+b") as file:
                file.seek(self.bytes)  # a row that was begun and failed is written over
                for tile in tiles:
                    row.append(file.write(self.plane.encoded(tile)))
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.path, error, sum(row)) from error
        self._count(row)
        return row

    def encoded_tiles(self) -> Iterator[bytes]:
        """All tiles as they are written, row by row."""
        with self.path.open("rb") as file:
            for row in self.lengths:
                yield from (file.read(length) for length in row)

    def tile(self, file: BinaryIO, row: int, column: int) -> np.ndarray:
        """(SIDE, SIDE, S), read from the opened file; beyond the last row or column the tile beside it."""
        row, column = min(row, len(self.lengths) - 1), min(column, len(self.lengths[0]) - 1)
        file.seek(self.offsets[row][column])
        return self.plane.decoded(file.read(self.lengths[row][column]))

    def identity(self) -> uuid.UUID:
        """A number for the content: the same tiles are the same file, to the byte."""
        with self.path.open("rb") as file:
            return uuid.UUID(bytes=hashlib.file_digest(file, "blake2b").digest()[:16], version=5)

    def halved(self, path: Path) -> TileFile:
        """The next smaller copy, in a file of its own; a few tiles are in memory."""
        small = TileFile(path, self.plane.half)
        rows, columns = small.plane.grid
        with self.path.open("rb") as file:
            for row in range(rows):
                small.append(self._quarter(file, row, column) for column in range(columns))
        return small

    def _quarter(self, file: BinaryIO, row: int, column: int) -> np.ndarray:
        """(SIDE, SIDE, S): the tile of the next smaller copy at that place, of four tiles."""
        shrink = majority if self.plane.kind == "classes" else mean
        halves = [[shrink(self.tile(file, 2 * row + y, 2 * column + x)) for x in (0, 1)] for y in (0, 1)]
        whole, small = np.concatenate([np.concatenate(each, axis=1) for each in halves]), self.plane.half
        return small.filled(whole[: small.height - row * SIDE, : small.width - column * SIDE])

    def _count(self, row: Sequence[int]) -> None:
        self.offsets.append([self.bytes + sum(row[:i]) for i in range(len(row))])
        self.lengths.append(list(row))
        self.bytes += sum(row)


def majority(tile: np.ndarray) -> np.ndarray:
    """(H / 2, W / 2, S): what most of two by two pixels say; of two and two, or all different, what comes first.

    >>> majority(np.array([[1, 2], [2, 3]])[..., None])[..., 0]
    array([[2]])
    """
    a, b, c, d = tile[::2, ::2], tile[::2, 1::2], tile[1::2, ::2], tile[1::2, 1::2]
    first = (a == b) | (a == c) | (a == d)
    second = (b == c) | (b == d)
    return np.where(first, a, np.where(second, b, np.where(c == d, c, a)))


def mean(tile: np.ndarray) -> np.ndarray:
    """(H / 2, W / 2, S): the rounded mean of two by two pixels, of the same type."""
    a, b, c, d = (tile[y::2, x::2].astype(np.uint32) for y in (0, 1) for x in (0, 1))
    return ((a + b + c + d + 2) // 4).astype(tile.dtype)


def write_pyramid(
    path: Path,
    tiles: TileFile,
    *,
    palette: np.ndarray | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write the tiles of a whole plane as a BigTIFF with its smaller copies. Returns the path.

    palette: (3, 256) uint16, the colours of the numbers of a plane of uint8. notes: words that go with the picture, as
    OME's MapAnnotation. The smaller copies are made in files beside the tiles and taken away afterwards. The file is
    whole or not there. Raises DiskError.
    """
    import tifffile

    with all_levels(tiles) as levels:
        about = {"UUID": str(tiles.identity()), **_metadata(tiles.plane, notes or {})}

        def write(file: BinaryIO) -> None:
            with tifffile.TiffWriter(file, bigtiff=True, ome=True) as writer:
                for number, each in enumerate(levels):
                    of_first = {"subifds": len(levels) - 1, "metadata": about}
                    writer.write(
                        each.encoded_tiles(),
                        shape=(each.plane.height, each.plane.width, *[each.plane.samples] * (each.plane.samples > 1)),
                        dtype=each.plane.dtype,
                        tile=(SIDE, SIDE),
                        compression="adobe_deflate",
                        predictor=each.plane.kind == "values",
                        photometric=_photometric(each.plane, palette),
                        colormap=palette,
                        **({"subfiletype": 1, "metadata": None} if number else of_first),
                    )

        return write_atomically(path, write)


@contextmanager
def all_levels(tiles: TileFile) -> Iterator[list[TileFile]]:
    """The tiles and their smaller copies, down to a single tile, in files beside them that are gone afterwards."""
    levels, files = [tiles], list[Path]()
    try:
        while max(levels[-1].plane.grid) > 1:
            files.append(tiles.path.with_name(f"{tiles.path.name}.{len(levels)}"))
            levels.append(levels[-1].halved(files[-1]))
        yield levels
    finally:
        for each in files:
            remove_file(each)


def _metadata(plane: Plane, notes: Mapping[str, str]) -> dict[str, object]:
    axes: dict[str, object] = {"axes": "YX" if plane.samples == 1 else "YXS"}
    return axes | ({"MapAnnotation": dict(notes)} if notes else {})


def _photometric(plane: Plane, palette: np.ndarray | None) -> str:
    if palette is not None:
        return "palette"
    return "minisblack" if plane.samples == 1 else "rgb"
