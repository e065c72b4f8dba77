"""PNG, JPEG and WebP files decoded from top to bottom into a file, a few rows at a time, by libvips (https://www.libvips.org).

What is written is what `pixels.py` reads of the whole file, palettes as colours, without alpha. Interlaced PNG,
progressive JPEG and WebP have no rows to begin with: libvips holds such a picture whole while it is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError, UnsafeFileError
from .headers import Header

RASTERS = ("png", "jpeg", "webp")
WANTED = "pip install 'intarsia[huge]'"
MOST = 1 << 20  # of pixels a side: more is no file of these kinds


def vips() -> Any | None:
    """The module pyvips, None where it or its library is not installed."""
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: the module without the library
        return None
    return pyvips


def decode_into(path: Path, header: Header, file: BinaryIO) -> tuple[int, np.dtype]:
    """Write the pixels (H, W, S), in the file's own frame and this machine's order of bytes, to an open, empty file
    without a buffer. Returns S, which is 1, 3, or 4 inks of which 255 is full, and uint8 or uint16. Needs `vips`.
    Raises DataError, which names the rows, where they can't be decoded; OSError where there is no room."""
    pyvips = vips()
    assert pyvips is not None
    height, width = header.stored_size
    if max(height, width) > MOST:
        raise UnsafeFileError(f"{path} says it is {width} x {height} pixels, which no {header.kind.upper()} file is.")
    a_row = 0
    # An open file, not a name: libvips takes names apart at brackets, and takes no bytes that are not UTF-8.
    with path.open("rb") as stored:
        try:
            source = pyvips.Source.new_from_descriptor(stored.fileno())
            load = getattr(pyvips.Image, f"{header.kind}load_source")
            picture = load(source, access="sequential", fail_on="error", revalidate=True)
            if (picture.height, picture.width) != (height, width) or picture.format not in ("uchar", "ushort"):
                raise ValueError(f"its pixels are {picture.width} x {picture.height} {picture.format}")
            if picture.bands in (2, 4) and picture.interpretation != "cmyk":
                picture = picture.extract_band(0, n=picture.bands - 1)
            dtype = np.dtype(np.uint8 if picture.format == "uchar" else np.uint16)
            a_row = width * picture.bands * dtype.itemsize
            reserve(file, a_row * height)
            picture.rawsave_target(pyvips.Target.new_to_descriptor(file.fileno()))
        except (pyvips.Error, ValueError) as error:
            done = min(file.tell() // a_row if a_row else 0, height - 1)
            said = " ".join(str(getattr(error, "detail", "") or error).split())[:200]
            raise DataError(
                f"{path} is damaged somewhere below row {done} of {height} (as stored): {said}. "
                "Copy or export it again, or take it out."
            ) from error
    if file.tell() != a_row * height:
        raise DataError(f"{path} gave {file.tell():,} bytes where {a_row * height:,} were expected; export it again.")
    return picture.bands, dtype


def reserve(file: BinaryIO, size: int) -> None:
    """Make sure that an empty file can grow to so many bytes. Raises OSError where the disk has no room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
