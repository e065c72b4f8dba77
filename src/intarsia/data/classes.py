"""Which numbers or colours in mask files mean which class: `classes.toml`, and a mask's numbers -> class numbers.

    coding     what a mask file holds                          match = "exact"      "nonzero"        "nearest"
    index      one number a class                              a listed value       -                the nearest one
    binary     two numbers, such as 0 and 255                  0 or the other one   all but 0 is 1   the nearer one
    colour     one colour a class                              a listed colour      -                the nearest one
    files      one file a class, so classes may overlap        (a file: where it is not 0; in a JPEG, above the middle)
    shapes     COCO or YOLO polygons, by category number
    objects    one number an object; or one binary file an object
    none       there are no labels yet

"nonzero" is for label images that number objects, where only the foreground counts; "nearest" for masks saved as JPEG
or resized with smoothing. How objects are read is in `object_reading.py`. What the masks of a folder seem to hold is
worked out in `infer.py`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from ..errors import DataError
from ..files import write_atomically
from ..records import IGNORE, Classes, Mask, default_colours
from .read import RawMask

Coding = Literal["index", "colour", "binary", "files", "shapes", "objects", "none"]
Match = Literal["exact", "nonzero", "nearest"]
Colour = tuple[int, int, int]
Value = int | Colour  #: what a mask file holds at a pixel: a number or a colour

UNKNOWN = -2  # marks, while decoding, what the table does not list
NO_SHAPE = -1  # the `value` of the class that lies where no polygon is


@dataclass(frozen=True)
class ClassTable:
    """The classes, and how mask files write them down."""

    classes: Classes
    values: tuple[int, ...] = ()  # the number of each class in mask files, in class order; empty: 0, 1, 2, ...
    ignore: tuple[int, ...] = ()  # numbers in mask files that mean: nobody labelled this pixel
    ignore_colours: tuple[Colour, ...] = ()  # likewise, of colour-coded masks
    coding: Coding = "index"
    match: Match = "exact"
    divisor: int | None = None  # of coding "objects": number = value of the class * divisor + object; None: all objects
    background: tuple[int, ...] = ()  # with a divisor: further numbers that are the first class, such as road and sky
    split: bool = False  # where objects are wanted: each connected region of a class (or of a number) is one

    def __post_init__(self) -> None:
        if self.values and len(self.values) != len(self.classes):
            raise DataError(f"{len(self.values)} values for {len(self.classes)} classes; give each class one value.")
        written = self.classes.colours if self.coding == "colour" else self.values
        doubles = sorted({each for each in written if written.count(each) > 1})
        if doubles:
            raise DataError(f"two classes share the value {doubles[0]} in mask files; give each class its own.")
        both = {*written} & {*(self.ignore_colours if self.coding == "colour" else self.ignore)}
        if both:
            raise DataError(f"{both.pop()} is the value of a class and also in ignore; leave it in one of the two.")
        if self.coding == "binary" and len(self.classes) != 2:
            raise DataError(f'{len(self.classes)} classes with coding = "binary", which has two; use coding = "index".')
        if self.match == "nonzero" and self.coding != "binary":
            raise DataError(f'match = "nonzero" goes with coding = "binary", not "{self.coding}".')
        if self.classes.overlapping != (self.coding == "files"):
            raise DataError('overlapping = true goes with coding = "files" (one mask file a class), and only with it.')
        self._check_objects()

    def _check_objects(self) -> None:
        if (self.divisor is not None or self.background) and self.coding != "objects":
            raise DataError(f'divisor and background go with coding = "objects", not "{self.coding}".')
        if self.coding != "objects":
            return
        if len(self.classes) < 2:
            raise DataError('coding = "objects" takes two classes or more: the background, and what is counted.')
        if (self.divisor is None) != (not self.values) or (self.background and self.divisor is None):
            raise DataError('with coding = "objects", values and background go with a divisor, and it with them.')
        if self.divisor is not None and not 2 <= self.divisor <= 2**31:
            raise DataError(f"divisor = {self.divisor}; expected a whole number of 2 or more, such as 1000.")
        if self.divisor is not None and min(self.values) < 0:
            raise DataError(f"with a divisor no class may have the value {min(self.values)}; use 0 or more.")
        both = {*self.background} & {*self.values, *self.ignore}
        if both:
            raise DataError(f"{both.pop()} is in background and also a class or in ignore; leave it in one of them.")

    def numbers(self) -> tuple[int, ...]:
        """The number of each class in mask files, in class order."""
        return self.values or tuple(range(len(self.classes)))


def read_class_table(path: str | Path) -> ClassTable:
    """The table of a `classes.toml`. DataError, naming the file and the key, where it makes no sense."""
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} can't be read as a class table: {error}. Mend it, or delete it.") from None
    try:
        return _table(tree)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _table(tree: dict[str, Any]) -> ClassTable:
    keys = ("coding", "match", "overlapping", "ignore", "divisor", "background", "split", "class")
    for key in tree:
        if key not in keys:
            raise DataError(f"there is no key {key!r}; known are {', '.join(keys)}.")
    coding = _one_of(tree.get("coding", "index"), get_args(Coding), "coding")
    match = _one_of(tree.get("match", "exact"), get_args(Match), "match")
    listed = tree.get("class", [])
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise DataError("it lists no classes; write a [[class]] section with name, colour and value for each.")
    names, colours, values = [], [], []
    for number, (each, colour) in enumerate(zip(listed, default_colours(len(listed)), strict=True)):
        where = f"class {number} ({each.get('name', 'without a name')})"
        for key in each:
            if key not in ("name", "colour", "color", "value"):
                raise DataError(f"{where} has an unknown key {key!r}; known are name, colour and value.")
        if not isinstance(each.get("name"), str) or not each["name"]:
            raise DataError(f'class {number} has no name; write name = "...".')
        names.append(each["name"])
        colours.append(_colour(each.get("colour", each.get("color", colour)), where))
        values.append(_whole(each.get("value", number), where))
    ignore = tree.get("ignore", [])
    if not isinstance(ignore, list):
        raise DataError(f"ignore is {ignore!r}; expected a list of numbers, or of colours, such as [255].")
    overlapping = tree.get("overlapping", coding == "files")
    if not isinstance(overlapping, bool):
        raise DataError(f"overlapping is {overlapping!r}; expected true or false.")
    divisor, background, split = tree.get("divisor"), tree.get("background", []), tree.get("split", False)
    if not isinstance(background, list):
        raise DataError(f"background is {background!r}; expected a list of numbers, such as [7, 8].")
    if not isinstance(split, bool):
        raise DataError(f"split is {split!r}; expected true or false.")
    unnumbered = coding in ("colour", "files") or (coding == "objects" and divisor is None)
    return ClassTable(
        Classes(tuple(names), tuple(colours), overlapping),
        () if unnumbered else tuple(values),
        tuple(_whole(each, "ignore") for each in ignore if isinstance(each, int)),
        tuple(_colour(each, "ignore") for each in ignore if not isinstance(each, int)),
        cast(Coding, coding),
        cast(Match, match),
        None if divisor is None else _whole(divisor, "divisor"),
        tuple(_whole(each, "background") for each in background),
        split,
    )


def _one_of(given: object, known: tuple[str, ...], key: str) -> str:
    if given not in known:
        raise DataError(f"{key} is {given!r}; expected one of {', '.join(known)}.")
    return str(given)


def _whole(given: object, where: str) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise DataError(f"{where} has the value {given!r}; expected a whole number.")
    return given


def _colour(given: object, where: str) -> Colour:
    """Three numbers 0..255, or "#rrggbb"."""
    if isinstance(given, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", given):
        given = list(bytes.fromhex(given[1:]))
    if isinstance(given, list | tuple) and len(given) == 3 and all(type(v) is int and 0 <= v <= 255 for v in given):
        return given[0], given[1], given[2]
    raise DataError(f'{where} has the colour {given!r}; expected [red, green, blue], each 0 to 255, or "#rrggbb".')


def write_class_table(path: str | Path, table: ClassTable, comment: str = "") -> Path:
    """Write `classes.toml` for a human to edit, whole or not at all; `comment` goes to its top. Returns the path."""
    lines = [
        "# What the masks of this folder mean: the classes, and the number or colour that each has in mask files.",
        *(f"# {line}" for line in comment.splitlines()),
        "# Edit it freely: rename classes, choose colours, set ignore; it is never overwritten.",
        "",
        f'coding = "{table.coding}"  # {" | ".join(get_args(Coding))}',
        f'match = "{table.match}"  # exact | nonzero: all but 0 is the second class | nearest: the nearest value',
        f"overlapping = {str(table.classes.overlapping).lower()}",
        f"ignore = {[*table.ignore, *map(list, table.ignore_colours)]}  # in mask files: a pixel that nobody labelled",
    ]
    if table.divisor is not None:
        lines.append(
            f"divisor = {table.divisor}  # a number is the value of a class * divisor + the object's own number"
        )
        lines.append(f"background = {list(table.background)}  # further numbers without objects, such as road and sky")
    if table.split or table.coding == "objects":
        lines.append(f"split = {str(table.split).lower()}  # true: each connected region is an object of its own")
    numbers = table.numbers()
    for number, (name, colour) in enumerate(zip(table.classes.names, table.classes.colours, strict=True)):
        lines += ["", "[[class]]", f"name = {_quoted(name)}", f"colour = {list(colour)}"]
        if table.values or table.coding not in ("colour", "files", "objects"):
            lines.append(f"value = {numbers[number]}")
    return write_atomically(Path(path), ("\n".join(lines) + "\n").encode())


def _quoted(name: str) -> str:
    name = name.encode("utf-8", "replace").decode().replace("\x7f", "?")  # TOML allows neither in a text
    return json.dumps(name, ensure_ascii=False)


def decode(raw: RawMask, table: ClassTable, name: str) -> Mask:
    """Class numbers (H, W) int16, IGNORE where nobody labelled. DataError, with the share of each value that the
    table does not list and what to do about it, or where the file is of another coding. `name` is for the message."""
    codes = _codes(raw, table, name)
    mask = _translated(codes, lambda values: _classes_of(values, table))
    if (mask == UNKNOWN).any():
        raise DataError(_advice(Counter(_counted(codes[mask == UNKNOWN], table)), codes.size, raw, table, name))
    return mask


def decode_plane(raw: RawMask, ignore: tuple[int, ...] = ()) -> np.ndarray:
    """(H, W) int8 of one class's own file: 1 where it is not 0 (in a lossy file, above 127), IGNORE where it holds
    one of the numbers in `ignore`."""
    values = raw.values if raw.values.ndim == 2 else raw.values.max(axis=-1)
    plane = (values > 127).astype(np.int8) if raw.lossy else (values != 0).astype(np.int8)
    plane[np.isin(values, ignore)] = IGNORE
    return plane


def unknown_values(raw: RawMask, table: ClassTable, name: str = "the mask") -> Counter[Value]:
    """How many pixels hold each number or colour that the table lists neither as a class nor as ignored. DataError
    where the file is of another coding."""
    codes = _codes(raw, table, name)
    mask = _translated(codes, lambda values: _classes_of(values, table))
    return _counted(codes[mask == UNKNOWN], table)


def pack(colours: np.ndarray) -> np.ndarray:
    """One int32 a colour: (..., 3) uint8 -> (...), red * 65536 + green * 256 + blue."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def unpack(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def is_grey(colours: np.ndarray, tolerance: int = 0) -> bool:
    """Whether red, green and blue differ nowhere by more than `tolerance`; (..., 3) uint8."""
    if tolerance == 0:
        return bool((colours[..., :1] == colours[..., 1:]).all())
    return int((colours.max(axis=-1) - colours.min(axis=-1)).max(initial=0)) <= tolerance


def _codes(raw: RawMask, table: ClassTable, name: str) -> np.ndarray:
    """(H, W) integers that the table speaks of: numbers, or packed colours."""
    if table.coding in ("files", "shapes", "objects", "none"):
        raise DataError(f'{name} is a mask file, but the class table says coding = "{table.coding}"; mend that.')
    if table.coding != "colour":
        return raw.values if raw.values.ndim == 2 else _as_grey(raw.values, name, 24 if raw.lossy else 0)
    if raw.values.ndim == 3:
        return pack(raw.values)
    if raw.palette is not None:
        colours = np.zeros((max(len(raw.palette), int(raw.values.max(initial=0)) + 1), 3), np.uint8)
        colours[: len(raw.palette)] = raw.palette
        return pack(colours)[raw.values]
    if raw.values.dtype != np.uint8:
        raise DataError(f"{name} holds {raw.values.dtype} numbers, but the class table says that masks hold colours.")
    return raw.values.astype(np.int32) * 0x010101


def _as_grey(colours: np.ndarray, name: str, tolerance: int) -> np.ndarray:
    """One band of a mask saved as RGB though it holds numbers."""
    if not is_grey(colours, tolerance):
        raise DataError(
            f"{name} holds colours, but the class table says that masks hold numbers; if colours mean classes, set "
            'coding = "colour" and each class\'s colour in classes.toml, or delete it to have it written anew.'
        )
    return np.ascontiguousarray(colours[..., 1])


def _translated(codes: np.ndarray, classes_of: Callable[[np.ndarray], np.ndarray]) -> Mask:
    """Each code through `classes_of`, which is asked once a distinct code: by a table of 256 or 65536 entries, or
    by sorting where codes are wider."""
    if codes.dtype in (np.uint8, np.uint16):
        counts = np.bincount(codes.ravel())
        present = np.flatnonzero(counts)
        lookup = np.zeros(len(counts), np.int16)
        lookup[present] = classes_of(present)
        return lookup[codes]
    present, places = np.unique(codes, return_inverse=True)
    return classes_of(present)[places].reshape(codes.shape)


def _classes_of(codes: np.ndarray, table: ClassTable) -> np.ndarray:
    """(N,) int16: the class, IGNORE or UNKNOWN of each of (N,) codes."""
    if table.coding == "colour":
        listed: np.ndarray = np.array([*table.classes.colours, *table.ignore_colours], np.uint8).reshape(-1, 3)
        known = pack(listed).astype(np.int64)
    else:
        listed = np.array([*table.numbers(), *table.ignore], np.int64).reshape(-1, 1)
        known = listed[:, 0]
    results = np.full(len(known), IGNORE, np.int16)
    results[: len(table.classes)] = np.arange(len(table.classes))
    if table.match == "nonzero":
        return np.where(np.isin(codes, table.ignore), IGNORE, codes != 0).astype(np.int16)
    if table.match == "nearest":
        points = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1) if listed.shape[1] == 3 else codes[:, None]
        steps = points[:, None].astype(np.int64) - listed[None].astype(np.int64)  # (N, listed, 1 or 3)
        return results[(steps**2).sum(axis=-1).argmin(axis=1)]
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    return np.where(known[order][places] == codes, results[order][places], UNKNOWN).astype(np.int16)


def _counted(codes: np.ndarray, table: ClassTable) -> Counter[Value]:
    values, counts = np.unique(codes, return_counts=True)
    colours = table.coding == "colour"
    return Counter({unpack(int(v)) if colours else int(v): int(n) for v, n in zip(values, counts, strict=True)})


def _advice(unknown: Counter[Value], pixels: int, raw: RawMask, table: ClassTable, name: str) -> str:
    """What is in the file, what the table lists, and what to change."""
    shares = ", ".join(f"{value} ({count / pixels:.2%})" for value, count in unknown.most_common(5))
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    listed: list[Any] = list(table.classes.colours if table.coding == "colour" else table.numbers())
    known = ", ".join(map(str, listed[:8])) + (f", ... {listed[-1]}" if len(listed) > 8 else "")
    return (
        f"{name} holds values that are no class: {shares}{more} of its pixels; the class table lists {known}. "
        + _proposal(set(unknown), raw, table)
    )


def _proposal(unknown: set[Value], raw: RawMask, table: ClassTable) -> str:
    whole_file = set(np.unique(raw.values).tolist()) if raw.values.ndim == 2 else set()
    if raw.lossy:
        return 'It is a JPEG or a lossy WebP, which invents values: save masks as PNG, or set match = "nearest".'
    if unknown == {255} and not whole_file <= {0, 255}:
        return "If 255 marks what nobody labelled, as it often does, set ignore = [255] in classes.toml."
    if unknown == {65535}:
        return "If 65535 marks what nobody labelled, set ignore = [65535] in classes.toml."
    if whole_file <= {0, 255} and whole_file:
        return 'It is a 0/255 mask: set coding = "binary" with the values 0 and 255 in classes.toml.'
    if len(unknown) > 32 and table.coding != "colour":
        return (
            'If its numbers count objects, set coding = "binary", match = "nonzero" and two classes in classes.toml; '
            'if it was resized with smoothing, set match = "nearest".'
        )
    key = "colour" if table.coding == "colour" else "value"
    return f"Add each {key} to classes.toml, as a [[class]] or in ignore, or delete that file to have it written anew."
