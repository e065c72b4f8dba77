"""COCO JSON (polygons, run lengths, crowds) -> drawings of each picture. What is damaged is dropped and named.

The format is described at https://cocodataset.org/#format-data. Compressed run lengths are text: each number in
groups of five bits, lowest first, 48 added to each group, 32 where another follows; from the fourth number on, the
difference to the last but one. A crowd is a region of its class like any other; for objects nobody knows what is in it.
A picture that the file lists without objects is all background.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .shapes import Drawing, Shape, checked_ring, ring_area


@dataclass(frozen=True)
class Annotations:
    """What one or several annotation files hold."""

    categories: dict[int, str]  # number -> name
    drawings: dict[str, Drawing]  # the picture's file name as written -> its objects
    problems: tuple[str, ...]


def is_coco(path: Path) -> bool:
    """Whether a JSON file speaks of pictures, annotations and categories. Never raises."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return all(f'"{key}"' in text for key in ("images", "annotations", "categories"))


def read_coco(path: str | Path) -> Annotations:
    """Drawings by the file names that the JSON gives, and a sentence on what was dropped. DataError where the file
    is no JSON or no COCO."""
    path = Path(path)
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
        images, annotations, categories = tree["images"], tree["annotations"], tree["categories"]
        names = {int(each["id"]): str(each["name"]) for each in categories}
        pictures = {each["id"]: (str(each["file_name"]), _size(each)) for each in images}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} can't be read as COCO JSON ({type(error).__name__}: {error}); expected images, annotations and "
            "categories, each with ids: export it again."
        ) from None
    shapes: dict[Any, list[Shape]] = defaultdict(list)
    dropped: list[str] = []
    for number, each in enumerate(annotations if isinstance(annotations, list) else []):
        try:
            file_name, size = pictures[each["image_id"]]
        except (KeyError, TypeError):
            dropped.append(f"annotation {_id(each, number)}: of a picture that is not listed")
            continue
        try:
            shapes[each["image_id"]].append(_shape(each, size, names))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            dropped.append(f"annotation {_id(each, number)} ({file_name}): {reason}")
    drawings = {file_name: Drawing(tuple(shapes[key]), size) for key, (file_name, size) in pictures.items()}
    return Annotations(names, drawings, dropped_words(path, dropped))


def dropped_words(path: Path, dropped: list[str]) -> tuple[str, ...]:
    """One sentence on the shapes of a file that were left out, none where there are none."""
    if not dropped:
        return ()
    more = f"; and {len(dropped) - 5} more" if len(dropped) > 5 else ""
    return (f"{path}: {len(dropped)} shape(s) could not be read and were left out: {'; '.join(dropped[:5])}{more}.",)


def _size(image: dict[str, Any]) -> tuple[int, int]:
    height, width = int(image["height"]), int(image["width"])
    if height < 1 or width < 1:
        raise ValueError(f"picture {image['id']} has the size {width} x {height}")
    return height, width


def _id(annotation: Any, number: int) -> object:
    return annotation.get("id", f"number {number}") if isinstance(annotation, dict) else f"number {number}"


def _shape(annotation: dict[str, Any], size: tuple[int, int], names: dict[int, str]) -> Shape:
    category = int(annotation["category_id"])
    if category not in names:
        raise ValueError(f"category {category} is not listed")
    outline = annotation["segmentation"]
    more: dict[str, Any] = {"name": str(annotation.get("id", "")), "crowd": annotation.get("iscrowd") == 1}
    more["box"] = _box(annotation.get("bbox"))
    if isinstance(outline, dict):
        runs = _runs(outline, size)
        return Shape(category, runs=runs, area=float(runs[1::2].sum()), **more)
    if not outline:
        raise ValueError("it has a box but no outline" if "bbox" in annotation else "it has no outline")
    rings = tuple(checked_ring(each) for each in outline)
    return Shape(category, rings, area=sum(ring_area(each) for each in rings), **more)


def _box(numbers: Any) -> tuple[float, float, float, float] | None:
    """Left, top, width and height; None for anything else, since the outline is what counts."""
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(type(each) in (int, float) for each in numbers):
        return None
    left, top, width, height = map(float, numbers)
    return (left, top, width, height) if np.isfinite([left, top, width, height]).all() else None


def _runs(outline: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """(R,) int64 run lengths that fill the picture exactly; ValueError where they do not."""
    counts = outline["counts"]
    if tuple(outline["size"]) != size:
        raise ValueError(f"run lengths for {outline['size']}, but the picture is {list(size)} (height, width)")
    numbers = decode_counts(counts) if isinstance(counts, str) else [int(each) for each in counts]
    if any(each < 0 for each in numbers) or sum(numbers) != math.prod(size):
        raise ValueError(f"run lengths that sum to {sum(numbers)}, but the picture has {math.prod(size)} pixels")
    return np.array(numbers, np.int64)


def decode_counts(text: str) -> list[int]:
    """The run lengths in compressed text; ValueError where it is cut off or holds other characters."""
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 30:
            raise ValueError(f"run lengths with the character {character!r}, which is none of theirs")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return numbers
