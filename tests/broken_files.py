"""Picture files of every kind we read, and the ways in which they arrive broken or hostile."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as Pillow

NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3)).astype(np.uint8)


def with_pillow(kind: str, values: np.ndarray = NOISE, mode: str | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = Pillow.fromarray(values)
    (picture.convert(mode) if mode else picture).save(stream, kind, **options)
    return stream.getvalue()


def with_tifffile(values: np.ndarray = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def with_numpy(values: np.ndarray, archive: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if archive else np.save)(stream, values)
    return stream.getvalue()


EXIF = Pillow.Exif()
EXIF[0x0112] = 6

WHOLE: dict[str, Callable[[], bytes]] = {
    "rgb.png": lambda: with_pillow("png"),
    "palette.png": lambda: with_pillow("png", mode="P"),
    "bilevel.png": lambda: with_pillow("png", mode="1"),
    "deep.png": lambda: imagecodecs.png_encode(NOISE.astype(np.uint16) * 257),
    "exif.jpg": lambda: with_pillow("jpeg", exif=EXIF),
    "progressive.jpg": lambda: with_pillow("jpeg", progressive=True),
    "cmyk.jpg": lambda: with_pillow("jpeg", mode="CMYK"),
    "lossy.webp": lambda: with_pillow("webp", exif=EXIF),
    "lossless.webp": lambda: with_pillow("webp", lossless=True),
    "rgb.bmp": lambda: with_pillow("bmp"),
    "palette.bmp": lambda: with_pillow("bmp", mode="P"),
    "plain.tif": lambda: with_tifffile(photometric="rgb"),
    "tiled.tif": lambda: with_tifffile(tile=(16, 16), compression="deflate", photometric="rgb"),
    "lzw.tif": lambda: with_tifffile(compression="lzw", predictor=True, photometric="rgb"),
    "big.tif": lambda: with_tifffile(bigtiff=True, photometric="rgb"),
    "pages.tif": lambda: with_tifffile(NOISE.transpose(2, 0, 1), photometric="minisblack"),
    "jpeg.tif": lambda: with_tifffile(compression="jpeg", photometric="rgb"),
    "bytes.npy": lambda: with_numpy(NOISE),
    "floats.npy": lambda: with_numpy(NOISE / 255),
    "bytes.npz": lambda: with_numpy(NOISE, archive=True),
}


def damaged(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """The file cut at many places, with bytes changed at many, with parts doubled, zeroed and shuffled."""
    random = np.random.default_rng(seed)
    for length in sorted({0, 1, 3, 8, 11, 16, 25, 33, 50, *(len(data) * np.arange(1, 10) // 10), len(data) - 1}):
        yield f"cut at {length}", data[:length]
    for place in range(2, min(len(data), 60), 5):
        yield f"byte {place} is 255", data[:place] + b"\xff" + data[place + 1 :]
    for number in range(10):
        flipped = bytearray(data)
        for place in random.integers(0, len(data), 1 + number):
            flipped[place] ^= 1 << random.integers(0, 8)
        yield f"{number + 1} bits flipped", bytes(flipped)
    middle = len(data) // 2
    yield "middle zeroed", data[:middle] + bytes(20) + data[middle + 20 :]
    yield "middle doubled", data[:middle] + data[middle - 30 :]
    yield "halves exchanged", data[middle:] + data[:middle]
    yield "rubbish behind", data + b"rubbish" * 9


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(side: int = 60_000) -> bytes:
    rows = zlib.compress(bytes(1 << 20), 9) * 4
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff_bomb(side: int = 300_000) -> bytes:
    tags = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, side), (279, 100)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + zlib.compress(bytes(1000))


def small_tiff_with_a_huge_strip() -> bytes:
    """A header of 8 x 8 pixels whose strip inflates to 200 MB."""
    squeezer = zlib.compressobj(9)
    strip = b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(200)) + squeezer.flush()
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 8)]
    tags.append((279, len(strip)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip


def npy_bomb(shape: tuple[int, ...] = (300_000, 300_000)) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header


def npz_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy_bomb() + bytes(10_000_000))
    return stream.getvalue()


def bmp_bomb(side: int = 100_000) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def webp_bomb() -> bytes:
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\xff" * 2
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def jpeg_bomb() -> bytes:
    data = bytearray(with_pillow("jpeg"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


BOMBS = {
    "a.png": png_bomb, "a.tif": tiff_bomb, "a.npy": npy_bomb, "a.npz": npz_bomb, "a.bmp": bmp_bomb, "a.webp": webp_bomb,
    "a.jpg": jpeg_bomb,
}  # fmt: skip

RUBBISH = [
    b"\0" * 99, b"\xff" * 99, b"BM" + b"\0" * 99, b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0", b"PK\x03\x04", b"\x93NUMPY",
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"%!PS-Adobe", b"<svg/>", b"GIF89a", b"%PDF-1.7", b"{}", b"a,b\n1,2",
    pickle.dumps([1]), bytes(range(256)),
]  # fmt: skip
