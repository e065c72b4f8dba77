"""The class of each object by name, and the class table that objects are read by."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..records import Classes
from .classes import ClassTable
from .layout import resolve

OBJECTS_FILE = "objects.csv"
MOST_NAMED = 5  # lines that a problem names


@dataclass(frozen=True)
class NamedObjects:
    """What `objects.csv` says."""

    classes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # picture -> object -> class
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order in which they first occur."""
        return tuple(dict.fromkeys(name for objects in self.classes.values() for name in objects.values()))


def read_named_objects(root: Path, by_tail: Mapping[str, set[str]]) -> NamedObjects:
    """The classes of objects that a folder's `objects.csv` gives: a line `name,id,class` an object, in any order and
    with any further columns. by_tail: which pictures a name may mean. Lines that make no sense are left out, and
    counted; DataError where the columns are missing. Nothing where there is no such file."""
    path = root / OBJECTS_FILE
    if not path.is_file():
        return NamedObjects()
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its permissions.") from None
    rows = csv.DictReader(io.StringIO(text.replace("\0", "")))
    missing = [column for column in ("name", "id", "class") if column not in (rows.fieldnames or ())]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; expected name,id,class in its first line.")
    found: dict[str, dict[str, str]] = defaultdict(dict)
    dropped: list[str] = []
    try:
        for number, row in enumerate(rows, start=2):
            name, object_, class_ = ((row[column] or "").strip() for column in ("name", "id", "class"))
            picture = resolve(name, by_tail) if name else None
            if picture is None:
                dropped.append(f"line {number}: no picture is called {name[:60]!r}, or several are")
            elif not object_ or not class_:
                dropped.append(f"line {number}: {'its class' if object_ else 'the id'} is missing")
            elif found[picture].setdefault(object_, class_) != class_:
                dropped.append(f"line {number}: object {object_[:60]} of {name[:60]} has a class already")
    except csv.Error as error:
        raise DataError(f"{path} is no table of name,id,class ({error}); save it as CSV again.") from None
    if not dropped:
        return NamedObjects(dict(found))
    more = f"; and {len(dropped) - MOST_NAMED} more" if len(dropped) > MOST_NAMED else ""
    several = f"{path}: {len(dropped)} line(s) were left out: {'; '.join(dropped[:MOST_NAMED])}{more}."
    return NamedObjects(dict(found), (several,))


def counts_objects(table: ClassTable) -> bool:
    """Whether a folder's labels tell objects apart: numbers or files for each, or outlines."""
    return table.coding in ("objects", "shapes") or table.split or (table.coding, table.match) == ("binary", "nonzero")


def object_table(table: ClassTable, where: str) -> ClassTable:
    """The table by which objects are read, of one that may be written for masks of classes; the background is first.
    DataError where it says that masks hold no objects; `where` is what it is called there."""
    if table.coding == "files":
        names = [name for name in table.classes.names if name != "background"]
        colours = [table.classes.colours[table.classes.names.index(name)] for name in names]
        classes = Classes(("background", *names), ((0, 0, 0), *colours))
        return ClassTable(classes, ignore=table.ignore, coding="objects", split=table.split)
    if counts_objects(table) or table.coding == "none":
        return table
    raise DataError(
        f'{where} says coding = "{table.coding}", so masks hold classes, and nothing says which pixels are one object. '
        'If each number is one object, write coding = "objects" and no values there; if each connected region of a '
        "class is one object, add split = true above its classes."
    )
