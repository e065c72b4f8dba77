"""Pictures that are read where they are looked at, as (H, W, C) like `read.py`: TIFF, zarr, .npy, PNG, JPEG, WebP.

A file is sliced like an array, `picture[rows, columns]`, and gives what `read_image` would give there. Of tiled and
striped TIFF, BigTIFF and OME-TIFF only the segments under the slice are decoded, and as many are kept as one slice
touched or 64 MB hold: of tiles a few, of strips, which are as wide as the picture, those of a row of windows. The same
goes for the chunks of a zarr folder. What is stored without compression is mapped for as long as it takes to copy the
slice. PNG, JPEG and WebP can only be decoded from the top: that is done once, into a file without a name.

Where numbers can't be told from a part (`read_image` makes of wide integers, and of floats above 1, the type that holds
the largest), a file is not read in windows.
"""

from __future__ import annotations

import itertools
import tempfile
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import tifffile

from ..errors import DataError, IntarsiaError
from ..files import disk_error
from ..records import Image
from .headers import LIMIT_PIXELS, Header
from .pixels import Stored
from .rasters import RASTERS, decode_into, vips
from .read import as_picture, read_header, rotate
from .tiff import JPEG_IN_TIFF, opened_tiff, page_header, require_whole, stored_kind
from .zarrs import Level, open_level, stored_numbers

KEPT_BYTES = 1 << 26  # of decoded segments, where a slice touched fewer
SMALLEST_CELL = 256  # pixels a side: smaller chunks are read several at a time
STEPPED_ROWS = 512  # rows at a time where a slice leaves rows out
KINDS = ("bool", "uint8", "uint16", "float32", "float16", "float64")  # of numbers that a part of them tells apart


class Windows(ABC):
    """A picture file (H, W, C) that is sliced: uint8, uint16 or float32 in [0, 1], as it is displayed (EXIF)."""

    def __init__(self, path: Path, header: Header, kind: Stored) -> None:
        self.path, self.header, self.kind = path, header, kind
        self.shape = (header.height, header.width, header.channels)
        wide = header.dtype == "uint16" and kind.palette is None
        self.dtype = np.dtype(np.float32 if header.dtype.startswith("float") else np.uint16 if wide else np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, key: Any, /) -> Image:
        """(h, w, C) at `[rows, columns]`, slices with steps of 1 or more. Raises DataError, which names the place, for
        what can't be decoded."""
        rows, columns = (*key, slice(None))[:2] if isinstance(key, tuple) else (key, slice(None))
        top, bottom, down = rows.indices(self.shape[0])
        left, right, across = columns.indices(self.shape[1])
        if min(down, across) < 1 or top >= bottom or left >= right:
            raise IndexError(f"a picture of {self.shape[0]} x {self.shape[1]} pixels has no part [{rows}, {columns}].")
        if down == 1:
            return self._part(top, bottom, left, right)[:, ::across]
        bands = range(top, bottom, max(1, STEPPED_ROWS // down) * down)  # they begin with a row that is wanted
        parts = [self._part(y, min(y + bands.step, bottom), left, right)[::down, ::across].copy() for y in bands]
        return np.concatenate(parts)

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @abstractmethod
    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """The stored numbers (h, w) or (h, w, S) in a part of the file's own frame."""

    def _damaged(self, y: int, x: int, side: tuple[int, int], error: Exception) -> DataError:
        """What to say of a place that can't be decoded."""
        size = self.header.stored_size
        until = min(y + side[0], size[0]), min(x + side[1], size[1])
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return DataError(
            f"{self.path} is damaged at rows {y} to {until[0]}, columns {x} to {until[1]} (as stored): {said}. "
            "Copy or export it again, or take it out."
        )

    def _part(self, top: int, bottom: int, left: int, right: int) -> Image:
        """The pixels in a part of the displayed frame."""
        orientation, (height, width) = self.header.orientation, self.header.stored_size
        if orientation >= 5:  # rows and columns are swapped; the rest is that of the picture before
            top, bottom, left, right = left, right, top, bottom
        if orientation in (3, 4, 6, 7):  # bottom up: see `read.rotate`
            top, bottom = height - bottom, height - top
        if orientation in (2, 3, 7, 8):  # right to left
            left, right = width - right, width - left
        values = self._stored(top, bottom, left, right)
        stored = replace(self.kind, values=values.astype(np.uint8) if values.dtype == np.bool_ else values)
        image = as_picture(self.path, stored)
        if image.dtype != self.dtype:
            raise DataError(
                f"{self.path} holds floats beyond [0, 1], and is too large to be read whole; divide it by the largest "
                "value that your instrument gives."
            )
        return rotate(image, orientation)


class Mapped(Windows):
    """Numbers that stand in the file as they are, one after the other."""

    def __init__(
        self, path: Path, header: Header, kind: Stored, dtype: np.dtype, offset: int, shape: tuple[int, ...],
        planar: bool = False,
    ) -> None:  # fmt: skip
        """shape: (H, W) or (H, W, S) as stored; planar: (S, H, W)."""
        super().__init__(path, header, kind)
        self.stored_dtype, self.offset, self.stored_shape, self.planar = dtype, offset, shape, planar

    def close(self) -> None:
        """Nothing is open between two slices."""

    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        # Pages of a mapping count as this process's memory until it ends, so it lives for one slice.
        whole = np.memmap(self.path, self.stored_dtype, "r", self.offset, self.stored_shape)
        view = np.moveaxis(whole, 0, -1) if self.planar else whole
        return np.array(view[top:bottom, left:right], dtype=self.stored_dtype.newbyteorder("="))


class Kept:
    """What was decoded last, the last used last."""

    def __init__(self) -> None:
        self.values: OrderedDict[Any, np.ndarray] = OrderedDict()
        self.touched = 0  # bytes, since `forget`

    def get(self, key: Any, decode: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self.values:
            self.values[key] = decode()
        self.values.move_to_end(key)
        self.touched += self.values[key].nbytes
        return self.values[key]

    def forget(self) -> None:
        """All but what was touched since the last call, or KEPT_BYTES."""
        total = sum(each.nbytes for each in self.values.values())
        while total > max(KEPT_BYTES, self.touched):
            total -= self.values.popitem(last=False)[1].nbytes
        self.touched = 0


class Segments(Windows):
    """A page of a TIFF file in tiles or strips, each decoded when it is touched."""

    def __init__(self, path: Path, header: Header, page: tifffile.TiffPage) -> None:
        super().__init__(path, header, stored_kind(path, page))
        height, width = header.stored_size
        self.side = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
        self.grid = -(-height // self.side[0]), -(-width // self.side[1])
        self.samples = 1 if page.axes == "YX" else page.shape[page.axes.index("S")]
        self.planes = self.samples if page.axes == "SYX" else 1  # each with segments of its own
        self.places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if len(self.places) < self.planes * self.grid[0] * self.grid[1] or min(self.side) < 1:
            raise ValueError(f"it has {len(self.places)} tiles or strips, too few for its size")
        self.stored_dtype, self.empty = page.dtype, page.nodata
        self.arguments: dict[str, Any] = {"_fullsize": False}
        if page.compression in JPEG_IN_TIFF:
            self.arguments |= {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self.decode = page.decode
        self.kept = Kept()  # (h, w, samples of a plane)
        self.file: BinaryIO = path.open("rb")

    def close(self) -> None:
        self.file.close()
        self.kept.values.clear()

    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        height, width = self.side
        part = np.full((bottom - top, right - left, self.samples), self.empty, self.stored_dtype)
        each = self.samples // self.planes
        rows, columns = range(top // height, -(-bottom // height)), range(left // width, -(-right // width))
        for plane, row, column in itertools.product(range(self.planes), rows, columns):
            number = (plane * self.grid[0] + row) * self.grid[1] + column
            segment = self.kept.get(number, partial(self._segment, number, row, column))
            y, x = row * height, column * width
            inside = segment[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
            y, x = max(y - top, 0), max(x - left, 0)
            place = part[y : y + inside.shape[0], x : x + inside.shape[1]]
            place[..., plane * each : (plane + 1) * each] = inside
        self.kept.forget()
        return part[..., 0] if self.samples == 1 else part

    def _segment(self, number: int, row: int, column: int) -> np.ndarray:
        try:
            offset, count = self.places[number]
            self.file.seek(offset)
            data = self.file.read(count) if count else None
            if data is not None and len(data) < count:
                raise ValueError(f"it ends after {len(data):,} of {count:,} bytes")
            segment, _, shape = self.decode(data, number, **self.arguments)
        except Exception as error:  # decoders of damaged files raise nearly every class there is
            raise self._damaged(row * self.side[0], column * self.side[1], self.side, error) from error
        if segment is None:  # of a file with holes
            segment = np.full(shape, self.empty, self.stored_dtype)
        return segment[0]  # depth 1


class Chunks(Windows):
    """A zarr array, whose chunks are decoded when they are touched."""

    def __init__(self, path: Path, header: Header, level: Level) -> None:
        super().__init__(path, header, stored_numbers(level.array.dtype))
        self.level, self.kept = level, Kept()
        height, width = (-(-SMALLEST_CELL // side) * side for side in level.cell)
        self.side = min(height, header.height), min(width, header.width)

    def close(self) -> None:
        self.kept.values.clear()

    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        height, width = self.side
        rows = []
        for y in range(top // height * height, bottom, height):
            cells = []
            for x in range(left // width * width, right, width):
                cell = self.kept.get((y, x), partial(self._cell, y, x))
                cells.append(cell[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x])
            rows.append(np.concatenate(cells, axis=1))
        self.kept.forget()
        return np.concatenate(rows)

    def _cell(self, y: int, x: int) -> np.ndarray:
        try:
            return self.level.part(slice(y, y + self.side[0]), slice(x, x + self.side[1]))
        except Exception as error:  # of damaged chunks the codecs raise nearly every class there is
            raise self._damaged(y, x, self.side, error) from error


class Decoded(Windows):
    """A PNG, JPEG or WebP file, decoded into a file without a name: it is gone with its process."""

    def __init__(self, path: Path, header: Header, folder: Path) -> None:
        """Raises DataError where the picture can't be decoded, DiskError where the folder has no room for it."""
        super().__init__(path, header, Stored(np.empty((0, 0), np.uint8), 16 if header.dtype == "uint16" else 8))
        needed = header.height * header.width * header.channels * self.dtype.itemsize
        try:
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise disk_error(folder, error, needed) from error
        try:
            self.samples, self.stored_dtype = decode_into(path, header, self.file)
        except OSError as error:
            self.close()
            raise disk_error(folder, error, needed) from error
        except BaseException:
            self.close()
            raise
        self.kind = replace(self.kind, bits=8 * self.stored_dtype.itemsize, cmyk=self.samples == 4)

    def close(self) -> None:
        self.file.close()

    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        part = np.empty((bottom - top, right - left, self.samples), self.stored_dtype)
        a_pixel, width = self.samples * self.stored_dtype.itemsize, self.header.stored_size[1]
        for y, row in enumerate(part, top):
            self.file.seek((y * width + left) * a_pixel)
            data = memoryview(row).cast("B")  # type: ignore[arg-type]
            while data:
                data = data[self.file.readinto(data) :]  # type: ignore[attr-defined]
        return part


def open_windows(path: str | Path, limit: int = LIMIT_PIXELS, scratch: Path | None = None) -> Windows | None:
    """A picture file to be sliced, or None for one that can only be read whole: of another format, or of numbers that a
    part of them does not tell apart. Close it after use: `with`.

    scratch: a folder with room for all pixels of a PNG, JPEG or WebP file; without it, and without pyvips, these are
    read whole, too. Of a TIFF of several pages the first is read, which in a pyramid is the full size. Raises DataError
    for a file that is damaged or cut off, UnsafeFileError for a header that claims more than `limit` pixels, DiskError
    for a scratch folder without room.
    """
    path = Path(path)
    header = read_header(path, limit)
    if header.dtype not in KINDS:
        return None
    try:
        if header.kind == "tiff":
            return _open_tiff(path)
        if header.kind == "zarr":
            return Chunks(path, header, open_level(path))
        if header.kind in RASTERS and scratch is not None and vips() is not None:
            return Decoded(path, header, scratch)
        return _open_array(path, header) if header.kind == "npy" else None
    except IntarsiaError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is damaged or incomplete: {said}. Copy or export it again, or take it out.") from error


def _open_tiff(path: Path) -> Windows:
    with opened_tiff(path) as file:
        page = file.pages[0]
        header = page_header(path, file, 0)
        require_whole(path, page)
        if page.is_memmappable:
            kind, dtype = stored_kind(path, page), np.dtype(file.byteorder + page.dtype.char)
            return Mapped(path, header, kind, dtype, page.dataoffsets[0], page.shape, page.axes == "SYX")
        return Segments(path, header, page)


def _open_array(path: Path, header: Header) -> Windows | None:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or array.ndim not in (2, 3):
        return None
    kind = Stored(np.empty((0, 0), np.uint8), 1 if array.dtype == np.bool_ else 8 * array.dtype.itemsize)
    return Mapped(path, header, kind, array.dtype, array.offset, array.shape)
