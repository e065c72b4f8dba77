""".npy and .npz files: the header without the numbers, and the numbers without pickles."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError, UnsafeFileError
from .headers import Header
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
    """The numbers of an .npy file, or of the one array (or the one called image, mask or arr_0) of an .npz file."""
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
    wanted = [name for name in ("image.npy", "mask.npy", "arr_0.npy") if name in names]
    if len(names) == 1:
        return names[0]
    if len(wanted) == 1:
        return wanted[0]
    raise DataError(
        f"{path} is an archive of {len(names)} arrays ({', '.join(names[:5]) or 'none'}); "
        "expected one array, or one called image, mask or arr_0."
    )
