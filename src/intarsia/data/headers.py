"""What a picture file's header says, read without decoding a pixel and without trusting the file's name.

Only formats on the list below are ever opened. A picture library that guesses would hand an EPS named .png to an
interpreter, and would believe a header that claims 60000 x 60000 pixels. TIFF is in `tiff.py`, NumPy in `arrays.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile

from ..errors import DataError, UnsafeFileError

LIMIT_PIXELS = 300_000_000  #: height times width; a header that says more is refused before anything is decoded
BYTES_A_PIXEL = 16  # the limit in bytes is this times the limit in pixels: RGBA as float32, or 8 bands of 16 bit

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type: grey, RGB, palette, grey + alpha, RGBA

SIGNATURES = (
    (PNG_SIGNATURE, "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
)
NOT_READ = (
    (b"GIF8", "a GIF"),
    (b"%!PS", "an EPS or PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "an EPS program"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML text (perhaps an SVG drawing)"),
    (b"<", "a web page or XML text"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
)


@dataclass(frozen=True)
class Header:
    """What a file's header says, in the displayed frame (EXIF orientation applied)."""

    height: int
    width: int
    channels: int  # as `read_image` gives them: palette and CMYK are 3, alpha is not counted
    dtype: str  # of the stored values: "bool", "uint8", "uint16", "float32", "int32", ...
    pages: int  # 1 but for multi-page TIFF
    kind: str  # "png", "jpeg", "tiff", "webp", "bmp", "npy", "npz" or "zarr"
    orientation: int = 1  # EXIF, 1..8, already applied to height and width; 1: stored as displayed

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the array in the file, before EXIF orientation."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def displayed(
    height: int, width: int, channels: int, dtype: str, kind: str, pages: int = 1, orientation: int = 1
) -> Header:
    """A header from the stored height and width: orientations 5 to 8 swap them."""
    if orientation >= 5:
        height, width = width, height
    return Header(height, width, channels, dtype, pages, kind, orientation)


def file_kind(path: Path) -> str:
    """The kind of a file by its first bytes. DataError for anything that is not on the list, UnsafeFileError for
    a pickle."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder where a picture file was expected; name a file in it.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise DataError(f"{path} can't be opened ({error}); check the path and its permissions.") from None
    if not start:
        raise DataError(f"{path} is empty (0 bytes); copy or export it again.")
    for signature, kind in SIGNATURES:
        if start.startswith(signature):
            return kind
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UnsafeFileError(
            f"{path} is a Python pickle, which can run code when opened, and was refused; "
            "save the array again with np.save(..., allow_pickle=False) or as PNG or TIFF."
        )
    raise DataError(
        f"{path} is {_other_kind(start)}, whatever its name says; expected PNG, JPEG, TIFF, WebP, BMP, .npy or .npz: "
        "convert it to one of these."
    )


def _other_kind(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \r\n")  # a byte order mark or blanks before a text
    for signature, words in NOT_READ:
        if text.startswith(signature):
            return words
    return "a HEIC or AVIF picture" if start[4:8] == b"ftyp" else f"no picture we know (it starts with {start[:8]!r})"


def check_size(path: Path, header: Header, limit: int, item_bytes: int = 1) -> None:
    """UnsafeFileError for a header that claims more than `limit` pixels, DataError for one that claims none."""
    if header.height < 1 or header.width < 1 or header.channels < 1:
        raise DataError(
            f"{path} says it holds {header.width} x {header.height} pixels with {header.channels} channels; "
            "a picture has at least one of each: export it again."
        )
    pixels = header.height * header.width
    if pixels > limit or pixels * header.channels * item_bytes > limit * BYTES_A_PIXEL:
        raise UnsafeFileError(
            f"{path} says it holds {header.width} x {header.height} pixels with {header.channels} channel(s), more "
            f"than the limit of {limit:,} pixels; if you trust the file, raise the limit or cut it into smaller ones."
        )


def raster_header(path: Path, kind: str) -> Header:
    """The header of a PNG, JPEG, WebP or BMP file."""
    readers = {"png": _png_header, "jpeg": _jpeg_header, "webp": _webp_header, "bmp": _bmp_header}
    with path.open("rb") as stream:
        return readers[kind](stream)


def _png_header(stream: BinaryIO) -> Header:
    orientation, pixels_follow = 1, False
    height = width = depth = colour = 0
    for name, length in png_chunks(stream):
        if name == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", stream.read(10))
        elif name == b"eXIf" and length <= 1 << 20:
            orientation = exif_orientation(stream.read(length))
        pixels_follow = pixels_follow or name == b"IDAT"
    if colour not in PNG_CHANNELS or depth not in (1, 2, 4, 8, 16) or not pixels_follow:
        raise ValueError("it ends before its pixels, or its header makes no sense")
    dtype = "uint16" if depth == 16 else "bool" if (depth, colour) == (1, 0) else "uint8"
    return displayed(height, width, PNG_CHANNELS[colour], dtype, "png", orientation=orientation)


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk up to the end, the stream standing at the chunk's data. Names may repeat."""
    position = len(PNG_SIGNATURE)
    while True:
        stream.seek(position)
        start = stream.read(8)
        if len(start) < 8:
            return
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        yield name, length
        if name == b"IEND":
            return
        position += 12 + length  # length and name before the data, a checksum after


def _jpeg_header(stream: BinaryIO) -> Header:
    orientation = 1
    for marker, length in jpeg_segments(stream):
        if marker == 0xE1:
            data = stream.read(length)
            if data.startswith(b"Exif\0\0"):
                orientation = exif_orientation(data)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, of any coding
            depth, height, width, components = struct.unpack(">BHHB", stream.read(6))
            channels = 1 if components == 1 else 3
            return displayed(height, width, channels, "uint8" if depth == 8 else "uint16", "jpeg", 1, orientation)
    raise ValueError("it ends before its size is said")


def jpeg_segments(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Marker and length of each segment before the pixels, the stream standing at the segment's data."""
    position = 2
    while True:
        stream.seek(position)
        start = stream.read(4)
        if len(start) < 4 or start[0] != 0xFF:
            return
        marker, length = start[1], int.from_bytes(start[2:], "big")
        if marker == 0xFF:  # a filling byte
            position += 1
            continue
        if marker in (0xD9, 0xDA):  # end of the picture, start of its pixels
            return
        yield marker, length - 2
        position += 2 + length


def _webp_header(stream: BinaryIO) -> Header:
    """The canvas of an extended file, else the picture's own size. RFC 9649, sections 2.4 to 2.7."""
    size, orientation = None, 1
    for name, length in webp_chunks(stream):
        if name == b"VP8X":
            data = stream.read(10)
            size = int.from_bytes(data[7:10], "little") + 1, int.from_bytes(data[4:7], "little") + 1
        elif name == b"VP8 " and size is None:
            data = stream.read(10)
            width, height = struct.unpack("<HH", data[6:10])
            size = height & 0x3FFF, width & 0x3FFF
        elif name == b"VP8L" and size is None:
            bits = int.from_bytes(stream.read(5)[1:], "little")
            size = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        elif name == b"EXIF" and length <= 1 << 20:
            orientation = exif_orientation(stream.read(length))
    if size is None:
        raise ValueError("it ends before its size is said")
    return displayed(*size, 3, "uint8", "webp", orientation=orientation)


def webp_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk, the stream standing at the chunk's data."""
    position = 12
    while True:
        stream.seek(position)
        start = stream.read(8)
        if len(start) < 8:
            return
        length = int.from_bytes(start[4:], "little")
        yield start[:4], length
        position += 8 + length + length % 2


def _bmp_header(stream: BinaryIO) -> Header:
    picture = BmpImageFile(stream)  # the class itself: `Image.open` would guess among fifty formats
    channels = 1 if picture.mode in ("1", "L") else 3
    return Header(picture.height, picture.width, channels, "bool" if picture.mode == "1" else "uint8", 1, "bmp")


def exif_orientation(exif: bytes) -> int:
    """The orientation 1..8 in an EXIF block, 1 where it says none or is damaged. (Exif 2.3, tag 0x0112.)"""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == 0x0112 and kind == 3:
                (value,) = struct.unpack_from(order + "H", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
