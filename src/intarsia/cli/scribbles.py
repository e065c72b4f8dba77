"""Seeds as people draw them: label images, or strokes in colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from ..data.classes import is_grey, pack, unpack
from ..data.read import read_header, read_mask, rotate
from ..errors import DataError

MOST_COLOURS = 255  # of scribbles; a brush with soft edges draws thousands


@dataclass(frozen=True)
class Scribbles:
    """What a file of seeds says: numbers, or colours."""

    codes: np.ndarray  # (H, W) int64: 0 where nobody knows; else a label, or 1 + a packed colour
    coloured: bool


@dataclass(frozen=True)
class Legend:
    """What the labels of all pictures are."""

    colours: tuple[int, ...]  # 1 + the packed colour of label 1, 2, …; empty: no scribbles in colour
    most: int  # the largest label

    def labels(self, scribbles: Scribbles, path: Path) -> np.ndarray:
        """(H, W) int64: 0 where nobody knows, else the label. Raises DataError for what is none."""
        if not scribbles.codes.any():
            return scribbles.codes
        if not scribbles.coloured:
            if scribbles.codes.max() > self.most:
                raise DataError(f"{path} holds the label {scribbles.codes.max()}, but there are {self.most} classes.")
            return scribbles.codes
        strange = np.setdiff1d(scribbles.codes, (0, *self.colours))
        if len(strange):
            listed = ", ".join(hex_of(code) for code in strange[:5])
            raise DataError(f"{path} holds colours that are no class: {listed}; use the colours of the class table.")
        order = np.argsort(self.colours)
        places = np.searchsorted(np.asarray(self.colours)[order], scribbles.codes).clip(max=len(self.colours) - 1)
        return np.where(scribbles.codes == 0, 0, order[places] + 1)


def read_seeds(path: Path, limit: int) -> Scribbles:
    """The seeds of a label image, 0 where nobody knows; or of scribbles: each colour a label, nothing where the picture
    is transparent, or black where it has no transparency. Raises DataError for other files."""
    header = read_header(path, limit)
    raw = read_mask(path, limit)
    if raw.lossy:
        raise DataError(f"{path} is a JPEG or a lossy WebP, which invents values; save seeds as PNG.")
    opaque = _opacity(path)
    opaque = None if opaque is None or opaque.all() else rotate(opaque, header.orientation)
    values = raw.values
    if values.ndim == 3 and opaque is None and is_grey(values):  # numbers that were saved as RGB
        values = values[..., 0]
    if raw.palette is not None and opaque is not None:  # scribbles that were saved with a palette
        colours = np.zeros((max(len(raw.palette), int(values.max()) + 1), 3), np.uint8)
        colours[: len(raw.palette)] = raw.palette
        values = colours[values]
    coloured = values.ndim == 3
    codes = pack(values).astype(np.int64) + 1 if coloured else values.astype(np.int64)
    if coloured and opaque is None:
        codes[codes == 1] = 0
    if opaque is not None:
        codes[~opaque] = 0
    if codes.min() < 0:
        raise DataError(f"{path} holds the number {codes.min()}; seeds are 0 where nobody knows, else 1, 2, ….")
    if coloured and (count := len(np.unique(codes))) > MOST_COLOURS + 1:
        raise DataError(f"{path} holds {count:,} colours; draw scribbles with a hard brush, each label in one colour.")
    return Scribbles(codes, coloured)


def hex_of(code: int) -> str:
    """1 + a packed colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*unpack(int(code) - 1))


def _opacity(path: Path) -> np.ndarray | None:
    """(H, W) bool: where the file's picture is opaque, as stored; None: it has no transparency, or is no such file."""
    try:
        with PillowImage.open(path) as picture:
            if "A" not in picture.getbands() and "transparency" not in picture.info:
                return None
            return np.asarray(picture.convert("RGBA"))[..., 3] >= 128
    except PillowImage.DecompressionBombError as error:
        raise DataError(f"{path} is too large for scribbles; save a label image without transparency.") from error
    except (OSError, ValueError):  # arrays and rare TIFFs: `read_mask` has read them
        return None
