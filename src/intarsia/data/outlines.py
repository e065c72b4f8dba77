"""An object's outline as polygons along the edges of its pixels, so that drawing them gives the same pixels back.

Corners lie at whole coordinates, counted as in `shapes.py`: the pixel (row r, column c) covers x from c to c + 1 and y
from r to r + 1. No pixel's centre lies on such an outline, so that any rule of what is inside gives the same answer.
Pixels that touch at a corner only are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MOST_COMPARED = 2048, 16  # points of two rings between which the shortest seam is looked for, evenly spread where more


@dataclass(frozen=True)
class Outline:
    """One connected part of an object."""

    outer: np.ndarray  # (P, 2) float64: x, y in pixels, clockwise as seen
    holes: tuple[np.ndarray, ...] = ()  # likewise each, anticlockwise: either rule of filling leaves them out

    @property
    def rings(self) -> tuple[np.ndarray, ...]:
        return (self.outer, *self.holes)


def outlines(mask: np.ndarray, left: int = 0, top: int = 0, tolerance: float = 0.0) -> tuple[Outline, ...]:
    """The parts of an object, from a mask (h, w) bool whose first pixel is at column `left`, row `top` of the picture.

    tolerance: by how many pixels the outline may leave the pixels' edges, so that it needs fewer points (Douglas and
    Peucker 1973); 0: drawing it gives the mask back exactly.
    """
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for ring, is_hole in _rings(mask):
        shifted = simplified(ring + np.array([left, top], np.float64), tolerance)
        (holes if is_hole else outer).append(shifted)
    if not holes:
        return tuple(Outline(each) for each in outer)
    owners = _owners(outer, holes)
    return tuple(
        Outline(ring, tuple(hole for hole, owner in zip(holes, owners, strict=True) if owner == number))
        for number, ring in enumerate(outer)
    )


def joined(parts: Sequence[Outline]) -> np.ndarray:
    """(P, 2) float64: all parts and holes as one polygon, for formats that have one for each object.

    They hang together by seams of no width, each gone along there and back: by the even-odd rule, and by that of
    windings, they change nothing. Seams run along rows and columns, where no pixel has its centre.
    """
    rings = [ring for part in parts for ring in part.rings]
    whole = rings[0]
    for ring in rings[1:]:
        step, other = 1 + len(whole) // MOST_COMPARED[0], 1 + len(ring) // MOST_COMPARED[1]
        distances = np.abs(whole[::step, None] - ring[None, ::other]).sum(axis=2)
        here, there = (int(each) for each in np.unravel_index(int(distances.argmin()), distances.shape))
        here *= step
        turned = np.roll(ring, -there * other, axis=0)
        bend = np.array([[turned[0, 0], whole[here, 1]]])
        seamed = [whole[: here + 1], bend, turned, turned[:1], bend, whole[here:]]
        whole = np.concatenate(seamed)
    return whole


def simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """The ring (P, 2) with fewer points, nowhere further than `tolerance` pixels away; the ring itself where less than
    three would stay."""
    if tolerance <= 0:
        return ring
    corner = ring.min(axis=0)  # OpenCV computes in 32 bits: exact only near 0
    fewer = cv2.approxPolyDP((ring - corner).astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)
    return fewer + corner if len(fewer) >= 3 else ring


def _rings(mask: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Closed lines between the mask's pixels and others, by their corners, and whether each is a hole.

    In each row of corners the first is joined to the second, the third to the fourth and so on, and so they are in each
    column: between them run the edges.
    """
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    padded[1:-1, 1:-1] = mask
    above, below = padded[:-1], padded[1:]
    turn = (above[:, :-1] ^ above[:, 1:]) ^ (below[:, :-1] ^ below[:, 1:])
    falling = above[:, :-1] & below[:, 1:] & ~above[:, 1:] & ~below[:, :-1]  # two pixels that touch at this corner
    rising = above[:, 1:] & below[:, :-1] & ~above[:, :-1] & ~below[:, 1:]
    copies = turn + 2 * (falling | rising).astype(np.int64)  # such a corner is passed twice
    y, x = np.nonzero(copies)
    times = copies[y, x]
    y, x = np.repeat(y, times), np.repeat(x, times)  # in reading order: along a row neighbours make a pair
    if not len(y):
        return []
    # Of the two copies the first has the edge to the left, the second that to the right. The one whose pixel lies above
    # has the edge upwards: where the pixels rise, that is the second.
    second = np.zeros(len(y), bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    swapped = np.where(rising[y, x], ~second, second)
    down = np.lexsort((swapped, y, x))
    across = np.arange(len(y)) ^ 1
    along = np.empty(len(y), np.int64)
    along[down[0::2]], along[down[1::2]] = down[1::2], down[0::2]
    return [
        (np.stack([x[ring], y[ring]], axis=1).astype(np.float64), hole)
        for ring, hole in _followed(across.tolist(), along.tolist(), padded[y + 1, x + 1].tolist())
    ]


def _followed(across: list[int], along: list[int], inside: list[bool]) -> list[tuple[list[int], bool]]:
    """The closed lines as numbers of corners: along a row, along a column, in turns. The first corner of each is its
    topmost and of these the leftmost, so that the line is a hole where the pixel below and right of it is none."""
    found = []
    seen = [False] * len(across)
    for start in range(len(across)):
        if seen[start]:
            continue
        ring, here = [], start
        while not seen[here]:
            there = across[here]
            seen[here] = seen[there] = True
            ring += [here, there]
            here = along[there]
        hole = not inside[start]
        found.append((ring[::-1] if hole else ring, hole))
    return found


def _owners(outer: Sequence[np.ndarray], holes: Sequence[np.ndarray]) -> list[int]:
    """Which of the outer rings each hole is in: of those around it the smallest."""
    if len(outer) == 1:
        return [0] * len(holes)
    contours = [ring.astype(np.float32)[:, None] for ring in outer]
    by_area = sorted(range(len(outer)), key=lambda number: cv2.contourArea(contours[number]))
    owners = []
    for hole in holes:
        place = tuple(map(float, (hole[0] + hole[1]) / 2))
        owners.append(
            next((each for each in by_area if cv2.pointPolygonTest(contours[each], place, False) > 0), by_area[-1])
        )
    return owners
