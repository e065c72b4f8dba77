"""One picture and its masks, read in full: what the data doctor learns from them.

Nothing here raises for a bad file; what is wrong with it is written down. Files are decoded to the end, since a header
says nothing about a truncated body.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, IntarsiaError
from ..records import Sample
from .classes import Value, decode, unknown_values
from .duplicates import thumbnail
from .entry import Entry, SizeError
from .fingerprint import Measures, measure
from .folder import Folder
from .object_facts import ObjectFacts, object_facts
from .read import RawMask, read_header, read_image, read_mask, rotate

ONE_FILE = ("index", "colour", "binary")  # codings with one mask file a picture


@dataclass(frozen=True)
class Trouble:
    """A file and what is wrong with it, in words."""

    path: Path
    words: str


@dataclass(frozen=True)
class MaskFacts:
    """What one mask file holds, before it is read as classes."""

    path: Path
    lossy: bool
    values: frozenset[int]  # the numbers in it; empty for colours
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # the palette's, of these numbers
    unknown: Counter[Value] = field(default_factory=Counter)  # pixels of each value that the class table doesn't have


@dataclass(frozen=True)
class Examined:
    """One picture of a folder, and its masks."""

    entry: Entry
    labelled: bool  # whether it has a mask at all, readable or not
    measures: Measures | None = None  # None: the picture could not be read
    orientation: int = 1  # EXIF, 1..8
    thumbnail: np.ndarray | None = None
    digest: bytes = b""  # equal for pictures with equal pixels
    mask_digest: bytes = b""  # equal for equal masks; empty without one
    masks: tuple[MaskFacts, ...] = ()
    broken: tuple[Trouble, ...] = ()  # files that could not be read
    misfits: tuple[Trouble, ...] = ()  # masks whose size is not the picture's
    objects: ObjectFacts | None = None  # None: its labels tell none apart, or they were not looked at


def examine(folder: Folder, entry: Entry, objects: bool = False) -> Examined:
    """All that reading the entry's files to the end shows. `objects`: of its objects too, where labels tell them
    apart."""
    labelled = folder.labelled(entry)
    numbered = folder.objects or folder.table.coding == "objects"
    raws, broken = ([], []) if numbered else _read_masks(entry)
    try:
        header = read_header(entry.image)
        sample = Sample(entry.name, read_image(entry.image))
    except (IntarsiaError, OSError, MemoryError) as error:
        masks = tuple(_facts(path, raw) for path, raw in raws)
        return Examined(entry, labelled, masks=masks, broken=(Trouble(entry.image, _words(error)), *broken))

    fitting: list[tuple[Path, RawMask]] = []
    misfits: list[Trouble] = []
    for path, raw in raws:
        if raw.size == sample.size:
            fitting.append((path, raw))
        elif header.orientation != 1 and raw.size == header.stored_size:  # drawn on the picture before it was turned
            fitting.append((path, replace(raw, values=rotate(raw.values, header.orientation))))
        else:
            (height, width), (high, wide) = raw.size, sample.size
            misfits.append(Trouble(path, f"{width} x {height} pixels, its picture {wide} x {high}"))

    masks = tuple(_facts(path, raw) for path, raw in fitting)
    if labelled and not broken and not misfits:
        source = fitting[0][0] if fitting else (*entry.mask_files, entry.image)[0]
        try:
            if numbered:
                found = folder.read_objects(entry, sample.image)
                sample = replace(sample, mask=found.instances.mask, instances=found.instances)
            elif folder.table.coding in ONE_FILE and fitting:
                strange = [unknown_values(raw, folder.table, path.name) for path, raw in fitting]
                masks = tuple(replace(mask, unknown=unknown) for mask, unknown in zip(masks, strange, strict=True))
                if not any(strange):
                    decoded = [decode(raw, folder.table, path.name) for path, raw in fitting]
                    sample = replace(sample, mask=decoded[0] if len(decoded) == 1 else folder.read(entry).mask)
            else:
                sample = folder.read(entry)
        except SizeError as error:
            misfits.append(Trouble(source, _words(error)))
        except DataError as error:
            broken.append(Trouble(source, _words(error)))
    told: ObjectFacts | None = None
    if labelled and not broken and not misfits and (objects or folder.objects):
        with suppress(DataError):  # where objects were asked for, it was raised above
            found = found if numbered else folder.read_objects(entry, sample.image)
            told = object_facts(found, folder.drawings.get(entry.annotation or ""))
            sample = replace(sample, instances=found.instances)
    known = sample.labels if sample.labels is not None else sample.mask
    return Examined(
        entry,
        labelled,
        measure(sample, len(folder.classes)),
        header.orientation,
        thumbnail(sample.image),
        _digest(sample.image),
        b"" if known is None else _digest(known),
        masks,
        tuple(broken),
        tuple(misfits),
        told,
    )


def _read_masks(entry: Entry) -> tuple[list[tuple[Path, RawMask]], list[Trouble]]:
    raws: list[tuple[Path, RawMask]] = []
    broken: list[Trouble] = []
    for path in entry.mask_files:
        try:
            raws.append((path, read_mask(path)))
        except (IntarsiaError, OSError, MemoryError) as error:
            broken.append(Trouble(path, _words(error)))
    return raws, broken


def _facts(path: Path, raw: RawMask) -> MaskFacts:
    if raw.values.ndim == 3:
        return MaskFacts(path, raw.lossy, frozenset())
    values = frozenset(int(value) for value in np.unique(raw.values))
    palette = raw.palette or ()
    return MaskFacts(
        path, raw.lossy, values, {each: palette[each] for each in sorted(values) if 0 <= each < len(palette)}
    )


def _digest(array: np.ndarray) -> bytes:
    head = f"{array.shape} {array.dtype}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
