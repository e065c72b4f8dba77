""".npy and .npz files: the header without the numbers, and the numbers without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError, UnsafeFileError
from .headers import BYTES_A_PIXEL, LIMIT_PIXELS, Header, file_kind
from .pixels import Stored

Layout = tuple[tuple[int, ...], np.dtype]


def array_header(path: Path, kind: str) -> Header:
    """The header of an array (H, W) or (H, W, C)."""
    if kind == "npy":
        with path.open("rb") as stream:
            shape, dtype = _layout(path, stream)
            needed = stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if path.stat().st_size < needed:
            raise ValueError(f"it is cut off: its header promises {needed:,} bytes")
    else:
        with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as member:
            shape, dtype = _layout(path, member)
    if len(shape) not in (2, 3):
        raise DataError(f"{path} is an array of shape {shape}; expected (H, W) or (H, W, C), channels last.")
    if len(shape) == 3 and shape[2] > max(4, shape[0]) and shape[0] <= 4:
        raise DataError(
            f"{path} is an array of shape {shape}, which looks like channels first; expected (H, W, C): "
            "save np.moveaxis(array, 0, -1)."
        )
    return Header(shape[0], shape[1], shape[2] if len(shape) == 3 else 1, dtype.name, 1, kind)


def read_array(path: Path, header: Header) -> Stored:
    """The numbers of an .npy file, or of an .npz file's one array, or its one called image, mask, masks or arr_0."""
    if header.kind == "npy":
        with path.open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
    else:
        with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as member:
            values = np.lib.format.read_array(member, allow_pickle=False)
    values = np.asarray(values, dtype=values.dtype.newbyteorder("="))
    if values.dtype == bool:
        return Stored(values.astype(np.uint8), 1)
    return Stored(values, 8 * values.dtype.itemsize)


def plane_stack(path: Path) -> tuple[int, int, int] | None:
    """(N, H, W) of an array file with three axes; None for any other file."""
    kind = file_kind(path)
    if kind not in ("npy", "npz"):
        return None
    with _opened(path, kind) as stream:
        shape, _ = _layout(path, stream)
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def read_plane_stack(path: Path) -> Iterator[np.ndarray]:
    """The N planes (H, W) bool of an array (N, H, W), True where it is not 0, one after the other; only one is held,
    but of arrays in Fortran's order all."""
    with _opened(path, file_kind(path)) as stream:
        start = stream.tell()
        shape, dtype = _layout(path, stream)
        if dtype.kind == "f":
            raise DataError(f"{path} holds {dtype} values; binary masks are bool or whole numbers: save array > 0.5.")
        if int(np.prod(shape, dtype=object)) > BYTES_A_PIXEL * LIMIT_PIXELS:
            raise UnsafeFileError(f"{path} claims {shape} pixels, more than is read; save a label image instead.")
        stream.seek(start)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if read(stream)[1]:
            stream.seek(start)
            yield from np.lib.format.read_array(stream, allow_pickle=False) != 0
            return
        for _ in range(shape[0]):
            data = stream.read(shape[1] * shape[2] * dtype.itemsize)
            yield np.frombuffer(data, dtype, shape[1] * shape[2]).reshape(shape[1:]) != 0


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[IO[bytes]]:
    if kind == "npy":
        with path.open("rb") as stream:
            yield stream
    else:
        with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as member:
            yield member


def _layout(path: Path, stream: IO[bytes]) -> Layout:
    """Shape and type of the array that starts here."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format version {version} is only used for records, not for pictures")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{path} holds Python objects, which can run code when opened, and was refused; "
            "save a plain array of numbers with np.save(..., allow_pickle=False)."
        )
    if dtype.kind not in "buif":
        raise DataError(
            f"{path} holds values of type {dtype}; expected integers, floats or bool: convert them with astype."
        )
    return shape, dtype


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if any(name.endswith(".pkl") for name in archive.namelist()):
        raise UnsafeFileError(
            f"{path} is an archive with a pickle in it, which can run code when opened, and was refused."
        )
    wanted = [name for name in ("image.npy", "mask.npy", "masks.npy", "arr_0.npy") if name in names]
    if len(names) == 1:
        return names[0]
    if len(wanted) == 1:
        return wanted[0]
    raise DataError(
        f"{path} is an archive of {len(names)} arrays ({', '.join(names[:5]) or 'none'}); "
        "expected one array, or one called image, mask, masks or arr_0."
    )
