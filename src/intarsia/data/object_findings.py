"""What the data doctor may find where labels tell objects apart: the traps of label images and of outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .classes import ClassTable
from .examine import Examined
from .findings import Finding, Level, _count, _shown
from .folder import Folder
from .object_facts import SHAPED, ObjectFacts

SPECK = 4  # pixels: what is smaller is no object that anybody drew
SMALL = 0.01  # of the median area of all objects: likewise
DENTED = 0.2  # less convex than the median object by this: perhaps several objects that touch
LARGE = 1.5  # … and larger than the median object by this factor
SIXTEEN = 65535  # what 16 bits can number
NAMED = 5  # objects that are named for each picture

Which = Callable[[ObjectFacts], Sequence[str]]


def object_findings(folder: Folder, seen: Sequence[Examined]) -> Iterator[Finding]:
    """All that is to be said of the objects, where they were looked at."""
    pictures = [(each, each.objects) for each in seen if each.objects is not None]
    if not pictures:
        return
    areas = np.concatenate([facts.areas for _, facts in pictures])
    convexities = np.concatenate([facts.convexities for _, facts in pictures])
    if not len(areas):
        message = "No picture shows an object."
        yield Finding("warning", "no-objects", message, "Number some, or check that the labels are the right ones.")
        return
    yield from _merged(folder, pictures, float(np.median(areas)), convexities)
    yield from _faulty(folder, pictures, float(np.median(areas)))
    yield from _numbers(folder, pictures)
    empty = [each.entry.image for each, facts in pictures if not len(facts.areas)]
    if empty:
        message = f"No object is in {_count(empty, 'labelled picture')}."
        advice = "Nothing to do where that is true: they teach what is none. Delete the labels of what is not finished."
        yield Finding("info", "without-objects", message, advice, _shown(empty, folder))


Pictures = Sequence[tuple[Examined, ObjectFacts]]


def _merged(folder: Folder, pictures: Pictures, usual: float, convexities: np.ndarray) -> Iterator[Finding]:
    """Objects that touch, or do not even touch, under one number."""
    several = _of_each(folder, pictures, lambda facts: _chosen(facts, facts.parts > 1))
    if several.count:
        message = f"In several separate parts: {_count(several.count, 'object')}."
        advice = (
            "If the parts are objects of their own, number them apart, or set split = true in classes.toml, which does "
            "so for every object; the parts of one thing that another hides are fine."
        )
        yield several.finding("info" if folder.drawings else "warning", "object-in-parts", message, advice)
    known = convexities[~np.isnan(convexities)]
    if len(known) < 10:
        return
    limit = float(np.median(known)) - DENTED
    dented = _of_each(
        folder,
        pictures,
        lambda facts: _chosen(
            facts,
            (np.nan_to_num(facts.convexities, nan=1) < limit) & (facts.areas > LARGE * usual) & (facts.parts == 1),
        ),
    )
    if dented.count and dented.count < 0.1 * len(known):
        message = f"Larger and far less convex than the rest: {_count(dented.count, 'object')}."
        advice = "Look at them: objects that touch are easily given one number, and would be learnt as one."
        yield dented.finding("info", "object-dented", message, advice)


def _faulty(folder: Folder, pictures: Pictures, usual: float) -> Iterator[Finding]:
    """Specks, holes, objects nobody sees, objects twice, outlines beyond the edge."""
    limit = max(SPECK, SMALL * usual)
    specks = _of_each(folder, pictures, lambda facts: _chosen(facts, facts.areas < limit))
    if specks.count:
        message = f"Of fewer than {limit:.0f} pixels: {_count(specks.count, 'object')} (the median has {usual:.0f})."
        advice = "Delete what a brush left behind: each speck counts as an object as much as any other."
        yield specks.finding("warning", "object-specks", message, advice)
    holes = _of_each(folder, pictures, lambda facts: _chosen(facts, facts.holes & (facts.areas >= SHAPED)))
    if holes.count:
        message = f"With holes in them: {_count(holes.count, 'object')}."
        advice = "Fill them, unless what you label has holes."
        yield holes.finding("info", "object-holes", message, advice)
    doubles = _of_each(folder, pictures, lambda facts: [f"{one} and {two}" for one, two in facts.found.doubles])
    if doubles.count:
        message = f"Of exactly the same pixels: {_count(doubles.count, 'pair')} of objects."
        yield doubles.finding("warning", "object-twice", message, "Delete one of each: only the later one is seen.")
    twice = {id(facts): {name for pair in facts.found.doubles for name in pair} for _, facts in pictures}
    hidden = _of_each(folder, pictures, lambda facts: [n for n in facts.found.hidden if n not in twice[id(facts)]])
    if hidden.count:
        message = f"Without a visible pixel: {_count(hidden.count, 'object')}, which are left out."
        advice = "Delete what is empty; of objects over each other the smaller one is on top."
        yield hidden.finding("warning", "object-hidden", message, advice)
    outside = _of_each(folder, pictures, lambda facts: facts.outside)
    if outside.count:
        message = f"With points or a box outside of the picture: {_count(outside.count, 'object')}."
        advice = "They are cut at its edge. If there are many, the annotations are of another size than the pictures."
        yield outside.finding("warning", "object-outside", message, advice)


def _numbers(folder: Folder, pictures: Pictures) -> Iterator[Finding]:
    """Numbers that are left out, and too large ones; only of label images, where a number is a value of pixels."""
    if folder.drawings or any(each.entry.parts is not None for each, _ in pictures):
        return
    found = [(each, facts, _whole(facts.found.names)) for each, facts in pictures]
    wide = [each.entry.image for each, _, numbers in found if numbers.max(initial=0) > SIXTEEN]
    if wide and folder.table.divisor is None:
        message = f"Numbers above {SIXTEEN} are in {_count(wide, 'picture')}."
        advice = "They are read and counted anew; keep such files as TIFF of 32 bits, since 16 bits would lose them."
        yield Finding("info", "object-numbers-large", message, advice, _shown(wide, folder))
    jumps = [(each, numbers) for each, facts, numbers in found if _jumps(numbers, folder.table)]
    if jumps:
        message = f"Numbers are left out between the objects of {_count(jumps, 'picture')}."
        advice = (
            "Nothing to do where objects were deleted: they are counted anew. If a label image was resized with "
            "smoothing, or saved by a lossy program, such numbers are invented: export it again."
        )
        details = tuple(f"{len(numbers)} objects, the largest number is {numbers.max()}" for _, numbers in jumps)
        yield Finding(
            "info", "object-numbers-jump", message, advice, _shown((e.entry.image for e, _ in jumps), folder), details
        )


def _whole(names: Sequence[str]) -> np.ndarray:
    return np.array([int(name) for name in names if name.isdecimal()], np.int64)


def _jumps(numbers: np.ndarray, table: ClassTable) -> bool:
    several = table.divisor is not None or table.split or len(table.classes) > 2  # numbers of other classes between
    return bool(len(numbers)) and not several and int(numbers.max()) > len(np.unique(numbers))


class _Named:
    """Objects by picture, for a finding."""

    def __init__(self, files: tuple[str, ...], names: list[Sequence[str]]):
        self.files, self.names = files, names
        self.count = sum(map(len, names))

    def finding(self, level: Level, code: str, message: str, advice: str) -> Finding:
        details = (
            ", ".join(each[:NAMED]) + (f" and {len(each) - NAMED} more" if len(each) > NAMED else "")
            for each in self.names
        )
        return Finding(level, code, message, advice, self.files, tuple(details))


def _of_each(folder: Folder, pictures: Pictures, which: Which) -> _Named:
    found = [(each.entry.image, names) for each, facts in pictures if (names := which(facts))]
    return _Named(_shown((path for path, _ in found), folder), [names for _, names in found])


def _chosen(facts: ObjectFacts, where: np.ndarray) -> list[str]:
    """The names of those objects for which `where` (N,) bool is True."""
    return [facts.found.names[number] for number in np.flatnonzero(where)]
