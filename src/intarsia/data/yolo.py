"""YOLO segmentation labels: one text file a picture, one polygon a line -> drawings. Damaged lines are dropped.

A line is `class x1 y1 x2 y2 ...`, x as a share of the picture's width, y of its height, both in [0, 1]. An empty file
says that the picture holds no object; a picture without a file is unlabelled. Names are in data.yaml or classes.txt.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from .coco import Annotations, dropped_words
from .shapes import Drawing, Shape, checked_ring, ring_area


def read_yolo(texts: Mapping[str, Path], files: Sequence[Path]) -> Annotations:
    """Drawings by key, of one text file a key. `files`: all files of the folder, among which the names are found.
    DataError where the files hold boxes, but not one polygon."""
    names = next((read_names(path) for path in _name_files(files)), {})
    drawings: dict[str, Drawing] = {}
    problems: list[str] = []
    polygons = boxes = 0
    for key, path in texts.items():
        shapes, dropped = [], []
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror}); check its permissions.") from None
        for number, line in enumerate(lines, start=1):
            numbers = line.split()
            if not numbers:
                continue
            if len(numbers) == 5:
                boxes += 1
                dropped.append(f"line {number}: a box without outline")
                continue
            try:
                shapes.append(_shape(numbers, f"line {number}"))
            except (ValueError, OverflowError) as error:
                dropped.append(f"line {number}: {error}")
        polygons += len(shapes)
        drawings[key] = Drawing(tuple(shapes))
        problems += dropped_words(path, dropped)
    if boxes and not polygons:
        raise DataError(
            f"{next(iter(texts.values())).parent} holds {boxes} YOLO boxes but no polygon; masks need outlines: export "
            "the labels for segmentation (class x1 y1 x2 y2 x3 y3 ... a line)."
        )
    used = {shape.category for drawing in drawings.values() for shape in drawing.shapes}
    categories = {number: names.get(number, f"class_{number}") for number in sorted(used | names.keys())}
    return Annotations(categories, drawings, tuple(problems))


def _shape(numbers: Sequence[str], name: str) -> Shape:
    category = int(numbers[0])
    if category < 0:
        raise ValueError(f"class {category}; classes count from 0")
    ring = checked_ring([float(each) for each in numbers[1:]])
    if ring.min() < -0.05 or ring.max() > 1.05:
        raise ValueError("a polygon outside of [0, 1]; coordinates are shares of the picture's width and height")
    return Shape(category, (ring,), area=ring_area(ring), name=name)


def looks_like_yolo(path: Path) -> bool:
    """Whether the first line of a text is a class and coordinates; an empty file may be one. Never raises."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            first = stream.readline(100_000)
    except OSError:
        return False
    return not first.strip() or re.fullmatch(r"\d+(\s+-?\d+(\.\d*)?([eE][-+]?\d+)?){4,}\s*", first) is not None


def _name_files(files: Sequence[Path]) -> list[Path]:
    named = [path for path in files if path.name.lower() in ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")]
    return sorted(named, key=lambda path: (path.suffix == ".txt", len(path.parts)))


def read_names(path: Path) -> dict[int, str]:
    """Class names by number: a name a line, or the `names` of a YAML file, as [a, b], as a list of "- a" or as
    lines of "0: a". (Only that much of YAML.)"""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix == ".txt":
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]
    start = next((number for number, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return {}
    first = lines[start].split(":", 1)[1].strip()
    below = list(itertools.takewhile(lambda line: not line or line[0] in " \t-", lines[start + 1 :]))
    if first.startswith(("[", "{")):
        parts = re.split(r"[\]}]", " ".join([first[1:], *lines[start + 1 :]]))[0].split(",")
    else:
        parts = below
    names: dict[int, str] = {}
    for part in parts:
        part = part.strip().removeprefix("- ").strip()
        numbered = re.fullmatch(r"[\"']?(\d+)[\"']?\s*:\s*(.+)", part)
        name = _unquoted(numbered[2] if numbered else part)
        if name:
            names[int(numbered[1]) if numbered else len(names)] = name
    return names


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
    return text
