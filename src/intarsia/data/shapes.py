"""Outlines -> a mask. A pixel is inside where its centre is; coordinates count from the picture's upper left corner,
so pixel (row r, column c) covers x from c to c + 1 and y from r to r + 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Mask
from .classes import NO_SHAPE, ClassTable


@dataclass(frozen=True)
class Shape:
    """One object: rings whose union it is, or runs of pixels."""

    category: int
    rings: tuple[np.ndarray, ...] = ()  # each (N, 2) float64: x, y in pixels, or in [0, 1] if the Drawing has no size
    runs: np.ndarray | None = None  # (R,) int64: pixels outside, inside, outside, ... column by column
    area: float = 0.0  # for the order only: large ones lie below small ones
    name: str = ""  # what its file calls it: the annotation's id, the line's number
    crowd: bool = False  # a region of several objects that nobody told apart
    box: tuple[float, float, float, float] | None = None  # left, top, width, height as its file says, pixels


@dataclass(frozen=True)
class Drawing:
    """The objects of one picture."""

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None  # height and width; None: coordinates are shares of the picture's


def rasterise(drawing: Drawing, size: tuple[int, int], table: ClassTable, name: str) -> Mask:
    """The mask (H, W) int16 of a drawing at `size`, which is the drawing's own where it has one: the class whose
    value is NO_SHAPE where no shape is, small shapes over large ones, IGNORE for categories to ignore. DataError for
    a category that the table does not list. `name` is for the message."""
    class_of = {value: number for number, value in enumerate(table.numbers())} | dict.fromkeys(table.ignore, IGNORE)
    mask = np.full(size, class_of.get(NO_SHAPE, IGNORE), np.int16)
    scale = np.array([size[1], size[0]], float) if drawing.size is None else np.ones(2)
    for shape in sorted(drawing.shapes, key=lambda each: -each.area):
        if shape.category not in class_of:
            raise DataError(
                f"{name} has a shape of category {shape.category}, which classes.toml does not list; add it there as "
                f"a [[class]] with value = {shape.category}, or to ignore."
            )
        for top, left, inside in pixels_of(shape, size, scale):
            mask[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = class_of[shape.category]
    return mask


def pixels_of(shape: Shape, size: tuple[int, int], scale: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Top, left and (h, w) bool of each part of a shape: of each ring, times `scale` (x, y), and of its runs. What is
    outside of a picture of `size` is cut off."""
    for ring in shape.rings:
        part = _inside(ring * scale, size)
        if part is not None:
            yield part
    if shape.runs is not None and len(shape.runs) > 1:
        yield _unrolled(shape.runs, size)


def _inside(ring: np.ndarray, size: tuple[int, int]) -> tuple[int, int, np.ndarray] | None:
    """The pixels whose centres are inside the ring, by the even-odd rule; None where there is none. For each row of
    centres, each edge that crosses it flips inside and outside from the crossing on."""
    height, width = size
    x0, y0 = ring.T
    x1, y1 = np.roll(ring, -1, axis=0).T
    first = np.ceil(np.minimum(y0, y1) - 0.5).clip(0, height).astype(np.int64)  # the rows that an edge crosses
    after = np.ceil(np.maximum(y0, y1) - 0.5).clip(0, height).astype(np.int64)
    counts = after - first
    if not counts.any():
        return None
    edge = np.repeat(np.arange(len(ring)), counts)
    row = first[edge] + np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    x = x0[edge] + (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)
    top, bottom, left, right = row.min(), row.max() + 1, column.min(), column.max()
    flips = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(flips, (row - top, column - left), 1)
    inside = flips.cumsum(axis=1) % 2 == 1
    return int(top), int(left), inside[:, :-1]


def _unrolled(runs: np.ndarray, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Only the box of the runs is unrolled: 5000 objects would be 5000 times the picture's own pixels otherwise."""
    ends = runs.cumsum()
    seen = runs[1::2] > 0
    first, after = ends[::2][: len(seen)][seen], ends[1::2][seen]  # of each run inside
    if not len(first):
        return 0, 0, np.zeros((0, 0), bool)
    height = size[0]
    left, right = int(first[0]) // height, (int(after[-1]) - 1) // height + 1
    column = first // height - left
    if (column != (after - 1) // height - left).any():  # a run over the end of a column: the box is of full height
        whole = np.zeros((right - left) * height, bool)
        whole[first[0] - left * height : after[-1] - left * height] = np.repeat(
            np.arange(2 * len(first) - 1) % 2 == 0, np.diff(np.stack([first, after], 1).ravel())
        )
        return 0, left, whole.reshape(right - left, height).T
    row, below = first % height, (after - 1) % height + 1
    top, bottom = int(row.min()), int(below.max())
    flips = np.zeros((right - left, bottom - top + 1), np.int32)
    np.add.at(flips, (column, row - top), 1)
    np.add.at(flips, (column, below - top), -1)
    return top, left, flips.cumsum(axis=1)[:, :-1].T > 0


def checked_ring(numbers: Sequence[float]) -> np.ndarray:
    """(N, 2) float64 from x, y, x, y, ...; ValueError that says what is wrong."""
    if len(numbers) % 2 or len(numbers) < 6:
        raise ValueError(f"a polygon of {len(numbers)} numbers; it takes at least three points of x and y")
    ring = np.array(numbers, np.float64).reshape(-1, 2)
    if not np.isfinite(ring).all() or np.abs(ring).max() > 1e7:
        raise ValueError("a polygon with coordinates that are no places in a picture")
    return ring


def ring_area(ring: np.ndarray) -> float:
    """The area inside a ring that does not cross itself (the shoelace formula)."""
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
