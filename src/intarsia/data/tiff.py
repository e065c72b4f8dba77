"""TIFF files of every kind: tiled, striped, planar, multi-page, BigTIFF, OME; the header, and the stored numbers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from ..errors import DataError
from .headers import Header, displayed
from .pixels import Stored

ORIENTATION = 274  # the tag's number, as in EXIF
ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
MINISWHITE, MINISBLACK, RGB, PALETTE = (tifffile.PHOTOMETRIC[n] for n in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE"))
SEPARATED, YCBCR = tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.YCBCR
JPEG_IN_TIFF = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)  # decoded to RGB where it was YCbCr


def tiff_header(path: Path, page: int = 0) -> Header:
    """The header of one page; `pages` counts them all."""
    with opened_tiff(path) as file:
        return page_header(path, file, page)


def read_tiff(path: Path, page: int = 0) -> Stored:
    """One page, decoded in full; ValueError where the file is shorter than it promises."""
    with opened_tiff(path) as file:
        header = page_header(path, file, page)
        return _stored(path, file.pages[page], header)


def read_tiff_pages(path: Path) -> Stored:
    """All pages as the channels of one picture; DataError where they differ in size or type."""
    with opened_tiff(path) as file:
        first = page_header(path, file, 0)
        planes = []
        for number in range(len(file.pages)):
            header = page_header(path, file, number)
            if (header.stored_size, header.dtype, header.channels) != (first.stored_size, first.dtype, 1):
                raise DataError(
                    f"page {number} of {path} is {header.width} x {header.height} {header.dtype} with "
                    f"{header.channels} channel(s), page 0 is {first.width} x {first.height} {first.dtype}; pages "
                    "that are read as channels must be alike, one sample each: read one page instead."
                )
            planes.append(_stored(path, file.pages[number], header))
        values = np.stack([plane.values for plane in planes], axis=-1)
        return Stored(values, planes[0].bits, inverted=planes[0].inverted)


@contextmanager
def opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """An open file; what tifffile would log about it in this thread is dropped: we raise or we read."""
    thread = threading.get_ident()

    def elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("tifffile")
    logger.addFilter(elsewhere)
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            yield file
    finally:
        logger.removeFilter(elsewhere)


def page_header(path: Path, file: tifffile.TiffFile, number: int) -> Header:
    """The header of one page of an open file."""
    pages = len(file.pages)
    if not 0 <= number < pages:
        raise DataError(f"{path} has {pages} page(s), so there is no page {number}; count from 0.")
    page = file.pages[number]
    if page.axes not in ("YX", "YXS", "SYX") or page.dtype is None:
        raise DataError(
            f"page {number} of {path} has shape {page.shape} along axes {page.axes or 'unknown'}; expected a flat "
            "picture, perhaps with channels: save each slice as a picture of its own."
        )
    samples = 1 if page.axes == "YX" else page.shape[page.axes.index("S")]
    channels = 3 if page.photometric in (PALETTE, SEPARATED) else samples - _has_alpha(page, samples)
    tag = page.tags.get(ORIENTATION)
    orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
    dtype = "bool" if page.bitspersample == 1 else page.dtype.name
    height, width = int(page.imagelength), int(page.imagewidth)  # several numbers in a damaged file
    return displayed(height, width, channels, dtype, "tiff", pages, orientation)


def _has_alpha(page: tifffile.TiffPage, samples: int) -> bool:
    return samples > 1 and bool(page.extrasamples) and page.extrasamples[-1] in ALPHA


def _stored(path: Path, page: tifffile.TiffPage, header: Header) -> Stored:
    require_whole(path, page)
    kind = stored_kind(path, page)
    values = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    if values.shape[:2] != header.stored_size:
        raise ValueError(f"its pixels have shape {values.shape}, its header says {header.stored_size}")
    return replace(kind, values=values.astype(np.uint8) if kind.bits == 1 else values)


def require_whole(path: Path, page: tifffile.TiffPage) -> None:
    """ValueError where the file ends before the page's pixels do."""
    end = path.stat().st_size
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + count > end:
            raise ValueError(f"it is cut off: its pixels end at byte {offset + count:,}, the file at {end:,}")


def stored_kind(path: Path, page: tifffile.TiffPage) -> Stored:
    """What the stored numbers of a page mean, without the numbers. DataError for colours that we don't read."""
    decoded_to_rgb = page.photometric == YCBCR and page.compression in JPEG_IN_TIFF
    if page.photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED) and not decoded_to_rgb:
        kind = getattr(page.photometric, "name", page.photometric)
        raise DataError(f"{path} stores colours as {kind}, which we don't read; save it as grey, RGB or palette.")
    samples = 1 if page.axes == "YX" else page.shape[page.axes.index("S")]
    return Stored(
        np.empty((0, 0), np.uint8),
        page.bitspersample if isinstance(page.bitspersample, int) else 8 * page.dtype.itemsize,
        palette=_palette(page) if page.photometric == PALETTE else None,
        alpha=_has_alpha(page, samples) and page.photometric != SEPARATED,
        cmyk=page.photometric == SEPARATED,
        inverted=page.photometric == MINISWHITE,
        lossy=page.compression in JPEG_IN_TIFF,
    )


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """(N, 3) uint8. The tag holds 16-bit numbers, but some programs write 8-bit ones into it."""
    if page.colormap is None:
        raise ValueError("its palette is missing")
    colours = np.asarray(page.colormap).T
    return (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)
