"""The stored numbers of PNG, JPEG, WebP and BMP files, and what they mean. What is made of them is in `read.py`."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from .headers import BYTES_A_PIXEL, PNG_SIGNATURE, Header, jpeg_segments, png_chunks, webp_chunks


@dataclass(frozen=True)
class Stored:
    """Pixels exactly as a file stores them, in its own frame."""

    values: np.ndarray  # (H, W) or (H, W, C)
    bits: int  # used of each integer: 1 to 16, or the width of the type; 1 bit has the values 0 and 1
    palette: np.ndarray | None = None  # (N, 3) uint8: `values` are its rows
    alpha: bool = False  # the last channel is opacity
    cmyk: bool = False  # the channels are ink, 255 = full
    inverted: bool = False  # 0 is white
    lossy: bool = False


def read_raster(path: Path, header: Header) -> Stored:
    """A PNG, JPEG, WebP or BMP file, decoded to its last pixel. Raises whatever the decoder does on damage."""
    data = path.read_bytes()
    if len(data) > (1 << 26) + BYTES_A_PIXEL * header.height * header.width:
        raise ValueError("it is far longer than its size in pixels explains")
    readers = {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp, "bmp": _read_bmp}
    return readers[header.kind](data)


def _read_png(data: bytes) -> Stored:
    """Decoders get only the chunks that hold pixels: no texts, profiles or animations that could be bombs."""
    kept, palette = [PNG_SIGNATURE], None
    stream, ended = io.BytesIO(data), False
    for name, length in png_chunks(stream):
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            start = stream.tell()
            if zlib.crc32(data[start - 4 : start + length]) != int.from_bytes(data[start + length :][:4], "big"):
                raise ValueError(f"its {name.decode()} part is damaged or cut off: the checksum differs")
            kept.append(data[start - 8 : start + length + 4])
            if name == b"PLTE":
                palette = np.frombuffer(data[start : start + length], np.uint8).reshape(-1, 3)
            ended = name == b"IEND"
    if not ended:
        raise ValueError("it is cut off: the end mark is missing")
    clean = b"".join(kept)
    bits, colour = data[24], data[25]
    if bits == 16:  # Pillow would keep 8 bits of 16-bit RGB
        return Stored(imagecodecs.png_decode(clean), 16, alpha=colour in (4, 6))
    values = _decoded(PngImageFile(io.BytesIO(clean)))
    if colour == 3:
        if palette is None:
            raise ValueError("its palette is missing")
        return Stored(values, bits, palette)
    if colour == 0 and bits in (2, 4):
        values //= 255 // (2**bits - 1)  # Pillow spreads few-bit greys over 0..255; a mask wants the numbers
    return Stored(values, bits, alpha=colour in (4, 6))


def _read_jpeg(data: bytes) -> Stored:
    stream = io.BytesIO(data)
    exif = []  # Pillow warns about damaged EXIF; ours is read in `headers.py`
    for marker, length in jpeg_segments(stream):
        start = stream.tell()
        if marker == 0xE1:
            exif.append((start - 4, start + length))
    for start, end in reversed(exif):
        data = data[:start] + data[end:]
    picture = JpegImageFile(io.BytesIO(data))
    return Stored(_decoded(picture), 8, cmyk=picture.mode == "CMYK", lossy=True)


def _read_webp(data: bytes) -> Stored:
    values = imagecodecs.webp_decode(data)
    lossy = any(name in (b"VP8 ", b"ANMF") for name, _ in webp_chunks(io.BytesIO(data)))
    return Stored(values, 8, alpha=values.shape[-1] == 4, lossy=lossy)


def _read_bmp(data: bytes) -> Stored:
    picture = BmpImageFile(io.BytesIO(data))
    values = _decoded(picture)
    if picture.mode == "P":
        colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return Stored(values, 8, colours)
    return Stored(values, 1 if picture.mode == "1" else 8, alpha=picture.mode == "RGBA")


def _decoded(picture: ImageFile) -> np.ndarray:
    """All pixels (H, W) or (H, W, C) uint8; raises OSError where the data end early."""
    picture.load()
    values = np.array(picture)
    if values.dtype == bool:  # Pillow's true is the byte 255
        return (values.view(np.uint8) != 0).astype(np.uint8)
    return values
