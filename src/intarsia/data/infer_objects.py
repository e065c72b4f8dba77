"""Whether label images number objects or classes, and what the objects are called: the class table nobody wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..errors import DataError
from ..records import IGNORE, Classes
from .classes import ClassTable, is_grey, pack
from .read import RawMask

DIVISOR = 1000  # Cityscapes'
MANY_NUMBERS = 32  # more distinct numbers than this are no classes
SEVERAL = 0.2  # share of the numbers with several separate regions above which few numbers are classes
LOOKED_AT = 64  # numbers a mask whose regions are counted
SPLIT_ADVICE = (
    'If each number is one object, write a classes.toml with coding = "objects" and two classes, background and '
    "object; if each connected region is one, let `intarsia check` write classes.toml, and add split = true to it."
)


@dataclass
class _Seen:
    """What a number of label images hold."""

    masks: int = 0
    numbers: set[int] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    shown: int = 0  # numbers of all masks that were looked at
    several: int = 0  # those of several separate regions

    def look(self, raw: RawMask) -> None:
        values = raw.values
        if values.ndim == 3:
            values = values[..., 0] if is_grey(values) else pack(values)
        present = np.unique(values)
        self.masks += 1
        self.kinds.add(raw.values.dtype.name)
        self.numbers |= set(present.tolist())
        if len(self.numbers) > MANY_NUMBERS + 2:
            return  # no classes, whatever their regions look like
        marks = (0, IGNORE, 255 if values.dtype == np.uint8 else 65535)
        for number in present[~np.isin(present, marks)][:LOOKED_AT].tolist():
            self.shown += 1
            self.several += cv2.connectedComponents((values == number).astype(np.uint8), connectivity=8)[0] > 2


def are_classes(raws: Iterable[RawMask]) -> bool:
    """Whether masks hold classes: few numbers, and many of them in several separate places of one picture."""
    return _classes(_looked(raws))


def infer_object_table(
    raws: Iterable[RawMask], names: Sequence[str] = (), divided: bool = False, source: str = "the masks"
) -> tuple[ClassTable, str]:
    """The table of label images, and one or two sentences that say why.

    names: of the classes of objects, where folders or a table of objects give them; none: there is one, "object".
    divided: the files are called as Cityscapes' are, whose numbers are class * 1000 + object. Raises DataError where
    the masks look like masks of classes, and says what to do.
    """
    seen = _looked(raws)
    if divided:
        return _divided(seen)
    if _classes(seen):
        held = ", ".join(map(str, sorted(seen.numbers)[:8]))
        raise DataError(
            f"{source} hold few numbers ({held}), and many of them in several separate places of one picture, as masks "
            f"of classes do, so they are not taken for numbers of objects. {SPLIT_ADVICE}"
        )
    ignore = [mark for mark, kind in ((255, "uint8"), (65535, "uint16")) if seen.kinds == {kind} and _marks(seen, mark)]
    names = tuple(names) or ("object",)
    table = ClassTable(Classes.named(("background", *names)), ignore=tuple(ignore), coding="objects")
    reason = "Every number but 0 is taken as an object of a picture, counted anew in each."
    if ignore:
        reason += f" {ignore[0]} is taken as: nobody labelled this pixel."
    return table, reason


def _looked(raws: Iterable[RawMask]) -> _Seen:
    seen = _Seen()
    for raw in raws:
        seen.look(raw)
    return seen


def _classes(seen: _Seen) -> bool:
    if seen.numbers <= {0, 255} and 255 in seen.numbers and seen.kinds == {"uint8"}:
        return True  # no program writes a single object as 255, every one writes masks so
    return len(seen.numbers) <= MANY_NUMBERS and seen.several > SEVERAL * seen.shown


def _marks(seen: _Seen, mark: int) -> bool:
    """Whether a number is a mark and no object: it is there, and those just below are not."""
    return mark in seen.numbers and not seen.numbers & set(range(mark - 9, mark))


def _divided(seen: _Seen) -> tuple[ClassTable, str]:
    known = {number for number in seen.numbers if number > 0}
    values = sorted({number // DIVISOR for number in known if number >= DIVISOR})
    regions = sorted(number for number in known if number < DIVISOR and number not in values)
    if not values:
        raise DataError(f"no number in instanceIds reaches {DIVISOR}, so no object is there; take the labelIds.")
    names = ("background", *(f"class_{value}" for value in values))
    table = ClassTable(
        Classes.named(names), (0, *values), (), coding="objects", divisor=DIVISOR, background=tuple(regions)
    )
    reason = (
        f"A number is class * {DIVISOR} + object. Classes that were never seen with an object are background. The "
        "number of another class alone is a group of objects: unknown where objects are learnt. Give the classes names."
    )
    return table, reason
