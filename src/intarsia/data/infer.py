"""What the numbers in mask files seem to mean, from the files themselves: the class table nobody wrote.

Each rule is a guess that its sentence states, so that the user can correct it in `classes.toml`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..records import Classes, default_colours
from .classes import ClassTable, Colour, Match, is_grey, pack, unpack
from .read import RawMask

MOST_COLOURS = 256  # more are no colour coding but a photograph or a JPEG
MANY_NUMBERS = 32  # more than this in whole runs 1..N a file are objects, not classes


@dataclass(frozen=True)
class _Seen:
    """The distinct codes of one mask and how many pixels have each."""

    pixels: Counter[int]
    coloured: bool  # codes are packed colours, not numbers
    palette: tuple[Colour, ...] | None
    lossy: bool


def infer_class_table(raws: Iterable[RawMask], source: str = "the masks") -> tuple[ClassTable, str]:
    """The table that the masks' contents suggest, and one or two sentences that say why (for the file's comment).

    `source` names the masks in errors. DataError where they look like photographs, or like JPEGs of many colours.
    """
    seen = [_look(raw) for raw in raws]
    if not seen:
        return ClassTable(Classes((), ()), coding="none"), "There are no masks yet."
    lossy = any(each.lossy for each in seen)
    if any(each.coloured for each in seen) or _palettes_differ(seen):
        return _colour_table(seen, lossy, source)
    pixels = sum((each.pixels for each in seen), Counter[int]())
    values = sorted(pixels)
    if (len(values) == 2 and values[0] == 0) or values in ([1], [255]):
        return _two(0, values[-1], "exact", seen), f"The masks hold 0 and {values[-1]}: background and foreground."
    if _smeared(pixels, lossy):
        reason = (
            f"The masks hold {len(values)} numbers, nearly all close to 0 or 255: 0/255 masks that were saved as JPEG "
            'or resized with smoothing. match = "nearest" takes the nearer of the two; masks kept as PNG are exact.'
        )
        return _two(0, 255, "nearest", seen), reason
    if lossy and len(values) > MANY_NUMBERS:
        raise DataError(
            f"{source} are JPEG or lossy WebP files with {len(values)} different numbers, most of them invented by the "
            'compression; save them as PNG, or write a classes.toml with the true values and match = "nearest".'
        )
    if 0 in pixels and _counts_objects(seen, values):
        reason = (
            f"The masks hold numbers up to {values[-1]} that count the objects of a picture. "
            "Every number but 0 is taken as foreground."
        )
        return _two(0, 1, "nonzero", seen), reason
    return _index_table(values, seen, source)


def _look(raw: RawMask) -> _Seen:
    if raw.values.ndim == 3:
        if is_grey(raw.values, 24 if raw.lossy else 0):  # numbers saved as RGB, as many programs do
            return _Seen(_count(raw.values[..., 1]), False, None, raw.lossy)
        return _Seen(_count(pack(raw.values)), True, None, raw.lossy)
    return _Seen(_count(raw.values), False, raw.palette, raw.lossy)


def _count(codes: np.ndarray) -> Counter[int]:
    if codes.dtype in (np.uint8, np.uint16):
        counts = np.bincount(codes.ravel())
        present = np.flatnonzero(counts)
        return Counter(dict(zip(present.tolist(), counts[present].tolist(), strict=True)))
    present, counts = np.unique(codes, return_counts=True)
    return Counter(dict(zip(present.tolist(), counts.tolist(), strict=True)))


def _palettes_differ(seen: list[_Seen]) -> bool:
    """Whether one number has different colours in different files: then the colour is what means something."""
    colour_of: dict[int, Colour] = {}
    for each in seen:
        for value in each.pixels:
            if each.palette is not None and value < len(each.palette):
                colour = each.palette[value]
                if colour_of.setdefault(value, colour) != colour:
                    return True
    return False


def _colour_table(seen: list[_Seen], lossy: bool, source: str) -> tuple[ClassTable, str]:
    found: set[int] = set()
    for each in seen:
        if each.coloured:
            found |= each.pixels.keys()
        elif each.palette is not None:
            inside = [value for value in each.pixels if value < len(each.palette)]
            found |= {(r << 16) | (g << 8) | b for r, g, b in (each.palette[value] for value in inside)}
        else:
            found |= {value * 0x010101 for value in each.pixels if 0 <= value <= 255}
    if len(found) > MOST_COLOURS:
        cause = (
            "JPEG or lossy WebP files invent colours" if lossy else "they may be photographs, or smoothed by resizing"
        )
        raise DataError(
            f"{source} hold {len(found)} different colours, too many to be classes: {cause}. Save them as PNG with one "
            'colour a class, or write a classes.toml with the true colours, coding = "colour" and match = "nearest".'
        )
    colours = tuple(unpack(code) for code in sorted(found))
    names = tuple("class_{:02x}{:02x}{:02x}".format(*colour) for colour in colours)
    reason = f"The masks hold {len(colours)} colours: one class each, named by its colour. Give them their names."
    return ClassTable(Classes(names, colours), coding="colour"), reason


def _two(background: int, foreground: int, match: Match, seen: list[_Seen]) -> ClassTable:
    values = (background, foreground)
    classes = Classes(("background", "foreground"), _colours(values, seen))
    return ClassTable(classes, values, coding="binary", match=match)


def _smeared(pixels: Counter[int], lossy: bool) -> bool:
    """Whether numbers between 0 and 255 are only the seam between the two. Few numbers in a lossless file are
    levels that somebody meant, such as 0, 128 and 255."""
    if min(pixels) < 0 or max(pixels) > 255 or (len(pixels) <= MANY_NUMBERS and not lossy):
        return False
    low = sum(count for value, count in pixels.items() if value < 16)
    high = sum(count for value, count in pixels.items() if value >= 240)
    between = sum(pixels.values()) - low - high
    return high > 0 and between <= 2 * high and between <= (low + high) / 3


def _counts_objects(seen: list[_Seen], values: list[int]) -> bool:
    if len(values) > MOST_COLOURS:
        return True
    runs = [sorted(each.pixels) for each in seen]
    whole = sum(run[-1] == len(run) - 1 for run in runs if run[0] == 0)
    return len(values) > MANY_NUMBERS and whole >= 0.9 * len(runs)


def _index_table(values: list[int], seen: list[_Seen], source: str) -> tuple[ClassTable, str]:
    ignore = [-1] if -1 in values else []
    for mark in (255, 65535):
        if mark in values and _are_indices([value for value in values if 0 <= value < mark]):
            ignore.append(mark)
    classes = [value for value in values if value not in ignore]
    if len(classes) > MOST_COLOURS:
        raise DataError(
            f"{source} hold {len(classes)} different numbers and no 0, too many to be classes; if they number regions, "
            "there are no classes to learn here, else write a classes.toml that lists the values."
        )
    if _are_indices(classes):  # a class that the looked-at masks lack is still a class
        classes = list(range(max(classes) + 1))
    reason = f"The masks hold the numbers {_listed(values)}: one class each, named by number. Give them their names."
    if ignore:
        reason += f" {' and '.join(map(str, ignore))} is taken as: nobody labelled this pixel."
    names = tuple(f"class_{value}" for value in classes)
    colours = _colours(tuple(classes), seen)
    return ClassTable(Classes(names, colours), tuple(classes), tuple(ignore)), reason


def _are_indices(values: list[int]) -> bool:
    """Whether more than half of 0..max is there."""
    return bool(values) and values[0] >= 0 and len(values) > (values[-1] + 1) / 2


def _colours(values: tuple[int, ...], seen: list[_Seen]) -> tuple[Colour, ...]:
    """The palette's colours where it has a different one for each value, else well-apart ones of ours."""
    palette = next((each.palette for each in seen if each.palette is not None), ())
    if palette and max(values) < len(palette):
        colours = tuple(palette[value] for value in values)
        if len(set(colours)) == len(colours):
            return colours
    return tuple(default_colours(len(values)))


def _listed(values: list[int]) -> str:
    if len(values) <= 12:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[:6]))}, ... {values[-1]}"
