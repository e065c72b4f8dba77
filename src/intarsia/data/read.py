"""Any picture file -> an array that is displayed, any mask file -> the numbers it stores.

Every failure is a DataError that names the file and says what to do. A file is opened by what it is, not by its
name; it is refused from its header where that claims too many pixels; it is decoded in full, so a cut file is found.

How pictures are brought to (H, W, C) uint8, uint16 or float32 in [0, 1]:

    1 bit               0 and 255
    2, 4, 10, 12 bits   spread over the full range of 8 or 16 bits
    8, 16 bits          as stored; 16-bit RGB keeps its 16 bits
    palette, CMYK       RGB
    alpha               dropped: the colour under it is kept. Only where the file says that a band is alpha; a
                        four-band TIFF without such a tag keeps four channels
    float               float32, if all values are within [0, 1]
    float that holds whole numbers, and integers of other widths
                        uint8 if the largest is at most 255, uint16 if at most 65535. Where pictures of one set
                        could fall on both sides of 255, store them as uint16 in the first place
    any other           an error that names the range: how to scale it is the user's knowledge, not ours
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DataError, IntarsiaError, OutOfMemoryError
from ..records import Image
from .arrays import array_header, plane_stack, read_array, read_plane_stack
from .headers import LIMIT_PIXELS, Header, check_size, file_kind, raster_header
from .pixels import Stored, read_raster
from .tiff import read_tiff, read_tiff_pages, tiff_header
from .zarrs import is_zarr, read_zarr, zarr_header

__all__ = [
    "LIMIT_PIXELS", "Header", "RawMask", "as_channels", "plane_shape", "read_header", "read_image", "read_mask",
    "read_planes", "rotate", "to_float",
]  # fmt: skip

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601, section 2.5.1

Result = TypeVar("Result")


@dataclass(frozen=True)
class RawMask:
    """A mask file's own numbers, not yet class numbers."""

    values: np.ndarray  # (H, W) uint8, uint16, int32 or int64 as stored (1-bit: 0 and 1), or (H, W, 3) uint8 colours
    palette: tuple[tuple[int, int, int], ...] | None = None  # the colour of each number, of a palette file
    lossy: bool = False  # a JPEG or a lossy WebP: values near edges are invented

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values.shape[0], self.values.shape[1]


def read_header(path: str | Path, limit: int = LIMIT_PIXELS) -> Header:
    """Size, channels and kind of a picture or mask file from its header alone, by content and not by suffix.

    Nothing is decoded, so a damaged file may have a fine header. `limit`: height times width in pixels; a header
    that claims more is an UnsafeFileError, before any memory is taken.
    """
    path = Path(path)
    header = _guarded(path, lambda: _header(path, 0))
    check_size(path, header, limit, _item_bytes(header))
    return header


def read_image(
    path: str | Path, limit: int = LIMIT_PIXELS, page: int | None = None, pages_as_channels: bool = False
) -> Image:
    """A picture file, decoded in full: (H, W, C) uint8, uint16, or float32 in [0, 1], as it is displayed (EXIF).

    `page`: of a multi-page TIFF, from 0; None is page 0, which in a pyramid is the full size. `pages_as_channels`:
    all pages of a TIFF, alike and of one sample each, become the channels. Numpy arrays are (H, W) or (H, W, C).
    Raises DataError for files that are damaged, of another format or hold NaN, UnsafeFileError for pickles and
    for headers that claim more than `limit` pixels.
    """
    path = Path(path)
    header = _guarded(path, lambda: _header(path, page or 0))
    check_size(path, header, limit, _item_bytes(header))
    if pages_as_channels and header.kind == "tiff":
        all_pages = Header(header.height, header.width, header.pages, header.dtype, header.pages, "tiff")
        check_size(path, all_pages, limit, _item_bytes(header))
        stored = _guarded(path, lambda: read_tiff_pages(path))
    else:
        stored = _guarded(path, lambda: _stored(path, header, page or 0))
    return rotate(_guarded(path, lambda: as_picture(path, stored)), header.orientation)


def read_mask(path: str | Path, limit: int = LIMIT_PIXELS) -> RawMask:
    """A mask file's numbers (or colours) as stored, decoded in full, in the displayed frame.

    Alpha is dropped. Of a multi-page TIFF the first page is read. Raises as `read_image` does, and DataError for
    values that are not whole numbers.
    """
    path = Path(path)
    header = _guarded(path, lambda: _header(path, 0))
    check_size(path, header, limit, _item_bytes(header))
    stored = _guarded(path, lambda: _stored(path, header, 0))
    values = _guarded(path, lambda: _as_numbers(path, stored))
    palette = None
    if stored.palette is not None:
        palette = tuple((int(red), int(green), int(blue)) for red, green, blue in stored.palette)
    return RawMask(rotate(values, header.orientation), palette, stored.lossy)


def plane_shape(path: str | Path) -> tuple[int, int, int] | None:
    """(N, H, W) of an .npy or .npz file with an array of three axes, without reading its numbers; None for others."""
    path = Path(path)
    return _guarded(path, lambda: plane_stack(path))


def read_planes(path: str | Path) -> Iterator[np.ndarray]:
    """The N binary masks (H, W) bool of an array file (N, H, W), one at a time. Raises DataError for a damaged file
    and for floats, UnsafeFileError for pickles and for more than 4.8e9 values."""
    path = Path(path)
    planes = read_plane_stack(path)
    while (plane := _guarded(path, lambda: next(planes, None))) is not None:
        yield plane


def rotate(values: np.ndarray, orientation: int) -> np.ndarray:
    """An array (H, W) or (H, W, C) turned from the stored to the displayed frame by an EXIF orientation 1..8."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],  # mirrored left to right
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],  # mirrored top to bottom
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),  # clockwise
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation](values)
    return np.ascontiguousarray(turned)


def as_channels(image: Image, channels: int) -> Image:
    """The picture (H, W, C) with `channels` channels: grey is repeated, RGB becomes grey by the weights of ITU-R
    BT.601, RGBA loses its alpha. DataError, naming both, where no such rule holds."""
    given = image.shape[2]
    if given == channels:
        return image
    if given == 1:
        return np.repeat(image, channels, axis=2)
    if given == 3 and channels == 1:
        grey = image.astype(np.float32) @ GREY_WEIGHTS
        return (grey if image.dtype == np.float32 else np.rint(grey).astype(image.dtype))[..., None]
    if given == 4 and channels == 3:
        return image[..., :3]
    raise DataError(
        f"the picture has {given} channels where {channels} are wanted, and no rule makes one from the other; "
        f"save pictures with {channels} channels, or train with {given}."
    )


def to_float(image: Image) -> np.ndarray:
    """The picture as float32 in [0, 1]: uint8 over 255, uint16 over 65535, float32 unchanged."""
    if image.dtype == np.float32:
        return image
    return np.divide(image, np.float32(np.iinfo(image.dtype).max), dtype=np.float32)


def _guarded(path: Path, read: Callable[[], Result]) -> Result:
    """What `read` gives; whatever else a decoder raises on a damaged file becomes one sentence."""
    try:
        return read()
    except IntarsiaError:
        raise
    except MemoryError:
        raise OutOfMemoryError(f"{path} does not fit into memory; cut it into smaller pictures.") from None
    except Exception as error:  # decoders of damaged files raise nearly every class there is
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is damaged or incomplete: {said}. Copy or export it again, or take it out.") from error


def _header(path: Path, page: int) -> Header:
    if is_zarr(path):
        return zarr_header(path)
    kind = file_kind(path)
    if kind == "tiff":
        return tiff_header(path, page)
    if kind in ("npy", "npz"):
        return array_header(path, kind)
    return raster_header(path, kind)


def _stored(path: Path, header: Header, page: int) -> Stored:
    if header.kind == "zarr":
        return read_zarr(path)
    if header.kind == "tiff":
        return read_tiff(path, page)
    if header.kind in ("npy", "npz"):
        return read_array(path, header)
    return read_raster(path, header)


def _item_bytes(header: Header) -> int:
    return np.dtype(header.dtype).itemsize


def as_picture(path: Path, stored: Stored) -> Image:
    """Stored numbers, those of a whole file or of a part, as (H, W, C) by the table at the top, not yet turned."""
    values = stored.values
    if stored.palette is not None:
        return _coloured(stored)
    values = values[..., None] if values.ndim == 2 else values
    if stored.alpha:
        values = values[..., :-1]
    values = _scaled(path, values, stored.bits)
    if stored.inverted:
        values = (1 if values.dtype == np.float32 else np.iinfo(values.dtype).max) - values
    if stored.cmyk:
        if values.shape[2] < 4 or values.dtype == np.float32:
            raise DataError(f"{path} has {values.shape[2]} inks of type {values.dtype}; expected CMYK: save it as RGB.")
        full = np.iinfo(values.dtype).max
        light = full - values[..., :4].astype(np.float32)
        values = np.rint(light[..., :3] * light[..., 3:] / full).astype(values.dtype)
    return np.ascontiguousarray(values)


def _coloured(stored: Stored) -> np.ndarray:
    """(H, W, 3) uint8; a number beyond the palette's end is black, as viewers show it."""
    assert stored.palette is not None
    colours = np.zeros((max(int(stored.values.max()) + 1, len(stored.palette)), 3), np.uint8)
    colours[: len(stored.palette)] = stored.palette
    return colours[stored.values]


def _scaled(path: Path, values: np.ndarray, bits: int) -> np.ndarray:
    """uint8, uint16 or float32 in [0, 1]: the table at the top of this file."""
    if values.dtype in (np.uint8, np.uint16):
        full = np.iinfo(values.dtype).max
        declared = 2**bits - 1
        return values if declared == full else np.rint(values * (full / declared)).astype(values.dtype)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        share = 1 - np.isfinite(values).mean()
        raise DataError(f"{path} holds NaN or infinite values ({share:.2%} of them); replace them with numbers.")
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32)
    if values.dtype.kind in "iuf" and low >= 0 and high <= 65535 and _whole(values):
        return values.astype(np.uint8 if high <= 255 else np.uint16)
    raise DataError(
        f"{path} holds {values.dtype} values from {low:g} to {high:g}; expected 8 or 16 bits, or floats in [0, 1]. "
        "Divide all pictures by one number, the largest value your instrument gives, and save them as float32."
    )


def _as_numbers(path: Path, stored: Stored) -> np.ndarray:
    """(H, W) integers or (H, W, 3) uint8 colours."""
    values = stored.values
    if stored.alpha:
        values = values[..., :-1]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if stored.cmyk:
        values = as_picture(path, stored)
    elif stored.inverted and values.dtype.kind == "u":
        values = np.asarray(2**stored.bits - 1 - values.astype(np.int64)).astype(values.dtype)
    if values.ndim == 3 and (values.shape[2] != 3 or values.dtype != np.uint8):
        raise DataError(
            f"{path} is a mask of {values.shape[2]} channels of type {values.dtype}; expected one channel of class "
            "numbers, or three of 8-bit colours. For overlapping classes save one file a class, in a folder a class."
        )
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or np.abs(values).max() > 2**31 - 1 or not _whole(values):
            raise DataError(
                f"{path} is a mask with values that are not whole numbers (from {np.nanmin(values):g} to "
                f"{np.nanmax(values):g}); save class numbers as 8- or 16-bit integers."
            )
        return values.astype(np.int32)
    if values.dtype == np.uint64 or values.dtype == np.uint32:
        if values.max() > 2**62:
            raise DataError(f"{path} is a mask with a value of {values.max()}; save class numbers as 16-bit integers.")
        return values.astype(np.int64)
    small = {"int8": np.int32, "int16": np.int32}.get(values.dtype.name)
    return np.ascontiguousarray(values if small is None else values.astype(small))


def _whole(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
