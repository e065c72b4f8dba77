"""The parts of a folder that a training uses, as samples that are read when they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DataError
from ..records import Classes, Sample
from .classes import ClassTable
from .fingerprint import Measures, measure
from .folder import CLASSES_FILE, Entry, Folder, open_folder
from .levels import stretched
from .read import as_channels
from .shapes import Drawing
from .split import Splits, choose_labelled, group_of, split


class Readable:
    """Samples of a folder's entries, read from the disk at each access, all with the same number of channels.

    levels: "picture" stretches each between its own darkest and brightest pixels.
    """

    def __init__(
        self,
        folder: Folder,
        entries: Sequence[Entry],
        channels: int,
        hidden: frozenset[str] = frozenset(),
        levels: Literal["as_is", "picture"] = "as_is",
    ) -> None:
        self.folder, self.entries, self.channels, self.hidden = folder, tuple(entries), channels, hidden
        self.levels = levels

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        sample = self.folder.read(entry)
        try:
            image = as_channels(sample.image, self.channels)
        except DataError as error:
            raise DataError(f"{entry.image}: {error}") from error
        if self.levels == "picture":
            image = stretched(image)
        if entry.name in self.hidden:
            return Sample(sample.name, image)
        return Sample(sample.name, image, sample.mask, sample.labels, sample.instances, sample.raters)

    def __iter__(self) -> Iterator[Sample]:
        """In order, the next ones read while one is used."""
        with ThreadPoolExecutor(2) as pool:
            ahead = []
            for index in range(len(self)):
                ahead.append(pool.submit(self.__getitem__, index))
                if len(ahead) > 3:
                    yield ahead.pop(0).result()
            for waiting in ahead:
                yield waiting.result()

    def labelled(self) -> Readable:
        """Only those whose mask is there and not hidden."""
        known = [e for e in self.entries if self.folder.labelled(e) and e.name not in self.hidden]
        return Readable(self.folder, known, self.channels, levels=self.levels)

    def unlabelled(self) -> Readable:
        """All of them, their masks neither read nor shown."""
        return Readable(self.folder, [entry.bare() for entry in self.entries], self.channels)


@dataclass(frozen=True)
class Sets:
    """What a folder offers to a training."""

    folder: Folder
    splits: Splits
    train: Readable
    validation: Readable
    test: Readable
    measures: tuple[Measures, ...]  # of the labelled training pictures, in their order
    generated: Readable | None = None  # made pairs, learnt from beside the others; None: there are none

    @property
    def table(self) -> ClassTable:
        return self.folder.table

    @property
    def classes(self) -> Classes:
        return self.folder.table.classes

    def fingerprint(self) -> str:
        """A digest of which files are in which part: it changes where a file is added, removed, or changes its size,
        where an outline is drawn otherwise, and where an object is given another class."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test, *([self.generated] if self.generated else [])):
            for entry in part.entries:
                files = [entry.image, *entry.mask_files]
                sizes = [path.stat().st_size for path in files if Path(path).is_file()]
                digest.update(f"{entry.name} {sizes} {entry.name in part.hidden}\n".encode(errors="surrogateescape"))
                if entry.annotation is not None:
                    _digest_drawing(digest, self.folder.drawings[entry.annotation], self.folder.objects)
                if self.folder.objects:
                    classes = sorted(part.folder.named.get(entry.name, {}).items())
                    digest.update(f"objects {classes} {self.table.split}\n".encode(errors="surrogateescape"))
            digest.update(b"--\n")
        return digest.hexdigest()[:16]


def open_sets(
    root: str | Path,
    classes: str | Path | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    leave_out: Sequence[str] = (),
    labelled: int | None = None,
    seed: int = 0,
    channels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    generated: str | Path | None = None,
    split_seed: int | None = None,
    regions: int | None = None,
    objects: bool = False,
) -> Sets:
    """A folder's pictures in their parts, the labelled training ones measured.

    leave_out: groups (drives, patients, slides: what names begin with) of the training part that become the
    validation part instead of the usual one, to see what another drive or patient would give.
    seed: of the masks that are kept, and of the division where `split_seed` is None.
    generated: a folder of made pairs of the same classes, of which none may be called as a picture that is held back.
    regions: of a model that finds its own; then a folder without any mask is all training part, with as many classes.
    objects: whether samples come with their objects; see `open_folder`.
    channels: of every picture; None: what all can be shown with, else of most. `progress(done, total)` is called while
    pictures are read.
    Raises DataError where there is nothing to learn from.
    """
    folder = open_folder(root, classes, objects=objects)
    if regions is not None and not any(folder.labelled(entry) for entry in folder.entries):
        return _bare(folder, regions, channels, progress)
    parts = split(folder, validation, test, seed if split_seed is None else split_seed)
    if leave_out:
        parts = _without_groups(parts, leave_out, {entry.name for entry in folder.entries if folder.labelled(entry)})
    by_name = {entry.name: entry for entry in folder.entries}
    none: frozenset[str] = frozenset()

    train = [by_name[name] for name in parts.train if folder.labelled(by_name[name])]
    measures = _measured(folder, train, progress)
    if not measures:
        raise DataError(
            f"{folder.root} has no training picture with a mask ({folder.layout}); draw masks for a few pictures, "
            "or name the folders images/ and masks/ with the same file names in both. `intarsia check` lists what is "
            "there."
        )
    if labelled is not None:
        counts = {m.name: m.class_pixels for m in measures if m.class_pixels is not None}
        chosen = set(choose_labelled([m.name for m in measures], labelled, counts, seed))
        hidden = frozenset(m.name for m in measures if m.name not in chosen)
        parts = Splits(parts.train, parts.validation, parts.test, hidden, parts.reason)
        measures = tuple(m for m in measures if m.name in chosen)
    if channels is None:
        channels = common_channels([len(m.mean) for m in measures])
    train_part, validation_part, test_part = (
        Readable(folder, [by_name[name] for name in names], channels, hidden)
        for names, hidden in ((parts.train, parts.hidden), (parts.validation, none), (parts.test, none))
    )
    pairs = None if generated is None else _pairs(generated, folder, parts, channels)
    return Sets(folder, parts, train_part, validation_part, test_part, measures, pairs)


def _bare(folder: Folder, regions: int, channels: int | None, progress: Callable[[int, int], None] | None) -> Sets:
    """A folder without masks, all of it to learn from, for a model that finds regions of its own."""
    classes = Classes.named([f"region {number + 1}" for number in range(regions)])
    folder = replace(folder, table=ClassTable(classes, values=tuple(range(regions))))
    measures = _measured(folder, folder.entries, progress)
    channels = channels or common_channels([len(each.mean) for each in measures])
    names = tuple(entry.name for entry in folder.entries)
    reason = "No picture has a mask: all are learnt from, and there is nothing to measure on."
    train, nothing = Readable(folder, folder.entries, channels), Readable(folder, (), channels)
    return Sets(folder, Splits(names, (), (), frozenset(), reason), train, nothing, nothing, measures)


def _pairs(root: str | Path, folder: Folder, parts: Splits, channels: int) -> Readable:
    """The made pairs of a folder, which must be of the same classes and of none of the pictures held back."""
    own = Path(root) / CLASSES_FILE
    table = own if own.is_file() else folder.root / CLASSES_FILE
    made = open_folder(root, table, write_classes=False, objects=folder.objects)
    if made.classes.names != folder.classes.names or made.classes.overlapping != folder.classes.overlapping:
        raise DataError(
            f"{made.root} has the classes {', '.join(made.classes.names)}, {folder.root} has "
            f"{', '.join(folder.classes.names)}; pairs to learn from beside it need the same classes in one order."
        )
    held_back = {*parts.validation, *parts.test}
    leaked = sorted(entry.name for entry in made.entries if entry.name in held_back)
    if leaked:
        raise DataError(
            f"{len(leaked)} pictures of {made.root}, such as {leaked[0]}, are called as pictures that {folder.root} "
            "holds back to measure on; learning from them would flatter the score, so take them out."
        )
    seen = sorted(held_back & _learnt_from(made.root))
    if seen:
        raise DataError(
            f"what made the pairs of {made.root} had learnt from {len(seen)} of the pictures that are held back here, "
            f"such as {seen[0]}; make them with a run of the same division (data.split_seed, data.validation)."
        )
    known = [entry for entry in made.entries if made.labelled(entry)]
    if not known:
        raise DataError(f"{made.root} has no picture with a mask; make pairs with `intarsia synthesize`.")
    return Readable(made, known, channels)


def _learnt_from(made: Path) -> set[str]:
    """The pictures whose masks were known to what made the pairs of a folder, as it wrote down itself."""
    names: set[str] = set()
    for record in ("synthesis.json", "pseudo_labels.json"):
        with suppress(OSError, ValueError, AttributeError, TypeError):
            names |= set(json.loads((made / record).read_text(encoding="utf-8")).get("learnt_from", []))
    return names


def _measured(
    folder: Folder, entries: Sequence[Entry], progress: Callable[[int, int], None] | None
) -> tuple[Measures, ...]:
    def one(entry: Entry) -> Measures:
        return measure(folder.read(entry), len(folder.classes))

    measures = []
    with ThreadPoolExecutor(2) as pool:
        for done, each in enumerate(pool.map(one, entries), start=1):
            measures.append(each)
            if progress:
                progress(done, len(entries))
    return tuple(measures)


def common_channels(found: Sequence[int]) -> int:
    """What all pictures can be shown with: grey ones among coloured ones get the others' channels, rather than the
    colours be thrown away, and RGB beside RGBA goes without the alpha. Where there is no such number, that of most."""
    coloured = set(found) - {1}
    if 3 in coloured and coloured <= {3, 4}:
        return 3
    if len(coloured) == 1:
        return coloured.pop()
    return max(set(found), key=lambda c: (found.count(c), c))


def _digest_drawing(digest: hashlib._Hash, drawing: Drawing, objects: bool) -> None:
    digest.update(f"{drawing.size}\n".encode())
    for shape in drawing.shapes:
        digest.update(f"{shape.category}{' crowd' if objects and shape.crowd else ''}\n".encode())
        for points in (*shape.rings, *([] if shape.runs is None else [shape.runs])):
            digest.update(np.ascontiguousarray(points).tobytes())


def _without_groups(parts: Splits, groups: Sequence[str], labelled: set[str]) -> Splits:
    """The groups taken out of the training part; those of their pictures that are labelled are the validation part."""
    known = sorted({group_of(name) for name in parts.train} | {group_of(name, coarse=True) for name in parts.train})
    for group in groups:
        if group not in known:
            raise DataError(
                f"leave_out names {group!r}, which is no group of the training pictures; "
                f"there are {', '.join(known[:20])}."
            )
    left_out = tuple(name for name in parts.train if group_of(name) in groups or group_of(name, coarse=True) in groups)
    train = tuple(name for name in parts.train if name not in set(left_out))
    validation = tuple(name for name in left_out if name in labelled)
    if not validation:
        raise DataError(
            f"leave_out names {', '.join(groups)}, of which no picture with a mask is there to validate on; "
            "leave out another group, or draw masks for some of its pictures."
        )
    reason = f"the groups {', '.join(groups)} are left out of training and are what is validated on."
    return Splits(train, validation, parts.test, parts.hidden, reason)
