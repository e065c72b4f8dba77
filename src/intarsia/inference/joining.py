"""Detections of overlapping tiles -> those of the whole picture: an object that a tile's border cuts is one object.

    tile A ├───────────────┤
                  ├───────────────┤ tile B
                ██│███│█             one object: A sees its left part, B its right one, and both what is in the strip
                  strip

What two tiles find in the strip that both see is compared piece by piece, a piece being what hangs together there.
Detections of one class that agree in a piece (IoU above AGREEMENT) are of one object, and so are those that are joined
by others: an object of any length. Pieces, and not all that a detection has in the strip: of an object like a comb, one
tile sees the teeth apart that the other sees as one.

Two tiles may contradict each other. What a tile sees whole, away from its inner borders, is an object of its own: it is
never joined with another detection of the same tile, whatever a neighbour says, that sees it cut. The best agreements
are joined first. Then, what no tile sees whole and other objects mostly cover is left out: it is those again, poorly
seen.

The joined mask is the union. The score is the highest: of the views of an object the best counts, as where detections
suppress each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.ndimage import find_objects, label

from ..records import Detections
from .reading import Box

AGREEMENT = 0.5  # IoU above which two pieces are the same: then none of them can be the same as a third
REACH = 2  # pixels from a tile's border within which a box reaches it: networks are not exact there
COVERED = 0.7  # share of a cut object's pixels in others from which it is left out
EIGHT = np.ones((3, 3), bool)  # neighbours: also across corners


@dataclass(frozen=True)
class Tile:
    """A part of the picture, and what is found in it."""

    left: int
    top: int
    right: int  # outside
    bottom: int  # outside
    found: Detections  # in the tile's own pixels

    @property
    def box(self) -> Box:
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class Piece:
    """Pixels of an object."""

    box: Box
    mask: np.ndarray  # (bottom - top, right - left) bool

    @cached_property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class View:
    """An object as one tile sees it."""

    tile: int
    piece: Piece
    category: int
    score: float
    cut: bool  # it reaches a border of its tile inside the picture


def joined(tiles: Sequence[Tile], size: tuple[int, int]) -> Detections:
    """The detections of a picture of `size` (height, width), best score first, of those of the tiles that cover it.

    Each tile shares at least a pixel with its neighbours, or nothing can be joined there. Time and memory grow with
    the detections at the borders of tiles; no mask is larger than its object's box.
    """
    if len(tiles) == 1:
        return _by_score(tiles[0].found)
    views = [view for number in range(len(tiles)) for view in _views(tiles, number, size)]
    groups = _grouped(views, [tile.box for tile in tiles])
    kept = _without_poor_views([_united([views[number] for number in group]) for group in groups])
    return _by_score(
        Detections(
            size,
            np.array([each.piece.box for each in kept], np.int64).reshape(-1, 4),
            np.array([each.category for each in kept], np.int16),
            np.array([each.score for each in kept], np.float32),
            tuple(each.piece.mask for each in kept),
        )
    )


def _by_score(found: Detections) -> Detections:
    """The same, best score first."""
    order = np.argsort(-found.scores, kind="stable")
    masks = tuple(found.masks[number] for number in order)
    return Detections(found.size, found.boxes[order], found.classes[order], found.scores[order], masks)


def _views(tiles: Sequence[Tile], number: int, size: tuple[int, int]) -> Iterator[View]:
    """What one tile sees; a mask without a pixel is nothing."""
    tile, found = tiles[number], tiles[number].found
    inner = (
        tile.left + REACH if tile.left else 0,
        tile.top + REACH if tile.top else 0,
        tile.right - REACH if tile.right < size[1] else size[1],
        tile.bottom - REACH if tile.bottom < size[0] else size[0],
    )
    for box, mask, category, score in zip(found.boxes.tolist(), found.masks, found.classes, found.scores, strict=True):
        if mask.any():
            left, top, right, bottom = box[0] + tile.left, box[1] + tile.top, box[2] + tile.left, box[3] + tile.top
            cut = left < inner[0] or top < inner[1] or right > inner[2] or bottom > inner[3]
            yield View(number, Piece((left, top, right, bottom), mask), int(category), float(score), cut)


def _grouped(views: Sequence[View], boxes: Sequence[Box]) -> list[list[int]]:
    """The numbers of the views, those of one object together."""
    of_tile: list[list[int]] = [[] for _ in boxes]
    for number, view in enumerate(views):
        of_tile[view.tile].append(number)
    agreements: list[tuple[float, int, int]] = []
    for one, other in combinations(range(len(boxes)), 2):
        strip = _shared(boxes[one], boxes[other])
        if strip is not None:
            agreements += _agreements(views, of_tile[one], of_tile[other], strip)
    root = list(range(len(views)))  # a forest: each view points at another of its group, the first at itself
    members = [{view.tile} for view in views]  # of a group, at its root: the tiles that see it
    whole: list[set[int]] = [set() if view.cut else {view.tile} for view in views]  # and those that see it whole

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = number = root[root[number]]
        return number

    for _, first, second in sorted(agreements, reverse=True):
        a, b = find(first), find(second)
        if a == b or whole[a] & members[b] or whole[b] & members[a]:
            continue
        root[b] = a
        members[a] |= members[b]
        whole[a] |= whole[b]
    groups: dict[int, list[int]] = {}
    for number in range(len(views)):
        groups.setdefault(find(number), []).append(number)
    return list(groups.values())


def _agreements(
    views: Sequence[View], ones: Sequence[int], others: Sequence[int], strip: Box
) -> Iterator[tuple[float, int, int]]:
    """(IoU, view of one tile, view of the other) for the pieces in the strip that are the same."""
    second = [(number, piece) for number in others for piece in _pieces(views[number], strip)]
    boxes = np.array([piece.box for _, piece in second], np.int64).reshape(-1, 4)
    categories = np.array([views[number].category for number, _ in second], np.int64)
    for number in ones:
        for piece in _pieces(views[number], strip):
            for place in np.flatnonzero(_crossing(piece.box, boxes) & (categories == views[number].category)):
                other, twin = second[place]
                common = _common(piece, twin)
                iou = common / (piece.area + twin.area - common)
                if iou > AGREEMENT:
                    yield iou, number, other


def _pieces(view: View, strip: Box) -> Iterator[Piece]:
    """What hangs together of a view within a strip."""
    inside = _shared(view.piece.box, strip)
    if inside is None:
        return
    parts, _ = label(_cut_out(view.piece, inside), EIGHT)
    for number, (y, x) in enumerate(find_objects(parts), start=1):
        place = (inside[0] + x.start, inside[1] + y.start, inside[0] + x.stop, inside[1] + y.stop)
        yield Piece(place, parts[y, x] == number)


def _united(views: Sequence[View]) -> View:
    """The views of an object as one of the whole picture."""
    first = views[0]
    if len(views) == 1:
        return first
    boxes = [view.piece.box for view in views]
    left, top = (min(box[side] for box in boxes) for side in (0, 1))
    right, bottom = (max(box[side] for box in boxes) for side in (2, 3))
    whole = left, top, right, bottom
    mask = np.zeros((bottom - top, right - left), bool)
    for view in views:
        _within(mask, whole, view.piece.box)[...] |= view.piece.mask
    score, cut = max(view.score for view in views), all(view.cut for view in views)
    return View(first.tile, Piece(whole, mask), first.category, score, cut)


def _without_poor_views(objects: Sequence[View]) -> list[View]:
    """Those that some tile sees whole, or that others do not mostly cover; the smallest are looked at first."""
    boxes = np.array([each.piece.box for each in objects], np.int64).reshape(-1, 4)
    kept = np.ones(len(objects), bool)
    cut = [number for number, each in enumerate(objects) if each.cut]
    for number in sorted(cut, key=lambda each: objects[each].piece.area):
        piece = objects[number].piece
        covered = np.zeros(piece.mask.shape, bool)
        for other in np.flatnonzero(kept & _crossing(piece.box, boxes)).tolist():
            box = _shared(piece.box, objects[other].piece.box)
            if other != number and box is not None:
                _within(covered, piece.box, box)[...] |= _cut_out(objects[other].piece, box)
        kept[number] = np.count_nonzero(covered & piece.mask) < COVERED * piece.area
    return [each for each, keep in zip(objects, kept, strict=True) if keep]


def _common(one: Piece, other: Piece) -> int:
    """How many pixels both have."""
    box = _shared(one.box, other.box)
    return 0 if box is None else int(np.count_nonzero(_cut_out(one, box) & _cut_out(other, box)))


def _cut_out(piece: Piece, box: Box) -> np.ndarray:
    """Its mask within a box that lies in its own."""
    return _within(piece.mask, piece.box, box)


def _within(pixels: np.ndarray, of: Box, box: Box) -> np.ndarray:
    """Those of the pixels of one box that lie in another, a view of them."""
    return pixels[box[1] - of[1] : box[3] - of[1], box[0] - of[0] : box[2] - of[0]]


def _shared(one: Box, other: Box) -> Box | None:
    """The box in which two overlap; None where they don't."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _crossing(box: Box, boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: which of the boxes (N, 4) overlap with one."""
    left, top, right, bottom = boxes.T
    return (left < box[2]) & (right > box[0]) & (top < box[3]) & (bottom > box[1])
