"""Pictures in folders: OME-Zarr (https://ngff.openmicroscopy.org, versions 0.1 to 0.5) and plain zarr arrays.

Of a multiscale picture the full size is read; axes but c, y and x must have a single place. A plain array is (Y, X) or
(Y, X, C), unless it names its axes. A chunk that is not there holds the fill value, as zarr has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError, UnsafeFileError
from .headers import Header, displayed
from .pixels import Stored

ENTRIES = ("zarr.json", ".zgroup", ".zarray")  # one of them is in the folder
PIXEL_TYPES = "biuf"
#: what may stand between a chunk's bytes and its numbers. Others, such as pickle, could run what a stranger wrote
CODECS = frozenset({
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "cast_value", "crc32", "crc32c", "delta", "endian",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "quantize", "scale_offset",
    "sharding_indexed", "shuffle", "transpose", "zlib", "zstd",
})  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A zarr array that is a picture."""

    array: Any  # zarr.Array
    axes: str  # a letter for each axis: y and x, perhaps c, and others with a single place

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        return sizes["y"], sizes["x"], sizes.get("c", 1)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a chunk."""
        sizes = dict(zip(self.axes, self.array.chunks, strict=True))
        return sizes["y"], sizes["x"]

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        """(h, w) or (h, w, C): the numbers as stored, in this machine's order of bytes."""
        places: dict[str, slice | int] = {"y": rows, "x": columns, "c": slice(None)}
        values = np.asarray(self.array[tuple(places.get(axis, 0) for axis in self.axes)])
        kept = [axis for axis in self.axes if axis in places]
        values = values.transpose([kept.index(axis) for axis in "yxc" if axis in kept])
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that zarr has made."""
    return any((path / entry).is_file() for entry in ENTRIES)


def open_level(path: Path) -> Level:
    """The picture in the folder. Raises DataError where it is none, UnsafeFileError for an unknown way of packing."""
    try:
        import zarr
    except ImportError:
        raise DataError(
            f"{path} is a zarr folder, which takes zarr to be read: pip install 'intarsia[huge]'."
        ) from None
    found: Any = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Group) and "bioformats2raw.layout" in found.attrs and "0" in found:
        found = found["0"]  # the first picture of several
    axes: str | None = None
    if isinstance(found, zarr.Group):
        about: Any = found.attrs.asdict()
        about = about.get("ome", about)
        scales = about.get("multiscales")
        if not scales:
            kind = "a plate of many pictures" if "plate" in about else "a zarr group without `multiscales`"
            raise DataError(f"{path} is {kind}, no OME-Zarr picture; name the folder of one picture or array in it.")
        name = str(scales[0]["datasets"][0]["path"])
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnsafeFileError(f"{path} says that its picture is in {name}, outside of itself, and was refused.")
        named = scales[0].get("axes", list("tczyx"))
        axes = "".join(str(each["name"] if isinstance(each, dict) else each).lower()[:1] for each in named)
        found = found[name]
    if not isinstance(found, zarr.Array):
        raise DataError(f"{path} holds no array where its full size should be; export it again.")
    return Level(found, _checked(path, found, axes))


def zarr_header(path: Path) -> Header:
    """The header of a zarr folder's picture."""
    level = open_level(path)
    dtype = "bool" if level.array.dtype == np.bool_ else np.dtype(level.array.dtype).name
    return displayed(*level.size, dtype, "zarr")


def read_zarr(path: Path) -> Stored:
    """The whole picture."""
    level = open_level(path)
    values = level.part(slice(None), slice(None))
    kind = stored_numbers(level.array.dtype)
    return Stored(values.astype(np.uint8) if values.dtype == np.bool_ else values, kind.bits)


def stored_numbers(dtype: np.dtype) -> Stored:
    """What the stored numbers of an array mean, without the numbers."""
    return Stored(np.empty((0, 0), np.uint8), 1 if dtype == np.bool_ else 8 * dtype.itemsize)


def content_stamp(path: Path) -> tuple[int, int]:
    """Bytes of all files in the folder, and the latest change of one in nanoseconds."""
    states = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(each.st_size for each in states), max((each.st_mtime_ns for each in states), default=0)


def _checked(path: Path, array: Any, axes: str | None) -> str:
    if axes is None:
        names = getattr(array.metadata, "dimension_names", None) or ()
        given = "".join(str(name).lower()[:1] for name in names)
        axes = given if {"y", "x"} <= set(given) else {2: "yx", 3: "yxc"}.get(array.ndim, "?" * array.ndim)
    sizes = dict(zip(axes, array.shape, strict=False))
    many = [f"{count} along {axis}" for axis, count in sizes.items() if axis not in "yxc" and count != 1]
    if len(sizes) != array.ndim or len(axes) != array.ndim or not {"y", "x"} <= sizes.keys() or many:
        raise DataError(
            f"{path} has shape {tuple(array.shape)} along axes {axes}; expected a flat picture, perhaps with channels "
            "(c): save each slice as a picture of its own."
        )
    if array.dtype.kind not in PIXEL_TYPES:
        raise DataError(f"{path} holds {array.dtype} values; expected numbers: save it as 8 or 16 bits.")
    described = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    for name in _codecs([described.get(key) for key in ("codecs", "filters", "compressor")]):
        if name.removeprefix("numcodecs.") not in CODECS:
            raise UnsafeFileError(
                f"{path} is packed by {name!r}, which we don't open; save it again with blosc, zstd or gzip."
            )
    return axes


def _codecs(described: Any) -> Iterator[str]:
    """The names of all codecs in a description, also of those within a shard."""
    if isinstance(described, list):
        for each in described:
            yield from _codecs(each)
    elif isinstance(described, dict):
        yield str(described.get("name", described.get("id")))
        settings = described.get("configuration")
        if isinstance(settings, dict):
            yield from _codecs([settings.get("codecs"), settings.get("index_codecs")])
