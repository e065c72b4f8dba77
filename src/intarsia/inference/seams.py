"""Objects that are seen window by window -> objects of the whole picture, in numbers: which views are of one object.

Windows overlap; at the seam, in the middle of what they share, the say goes from one to the other. What the two see in
a band along the seam, away from their borders, is compared as in `joining.py`, in label images: a piece is what hangs
together there of one number. Two pieces that lie at the seam and agree, IoU above AGREEMENT, are of one object, and so
are views that are joined by others: an object of any length. Only at the seam is there something to join, and there
both windows see all of what is no larger than half of the strip. The best agreements of a seam are joined first; a view
that its window sees whole, away from the window's inner borders, is never joined with another view of that window.

Views are numbered from 1 as they come, and are remembered as numbers, some 12 bytes each; those of objects that are
seen more than once as sets as well, until no further window can see the object. No pixel is kept.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

import numpy as np
from skimage.measure import label

from .joining import AGREEMENT


class Seams:
    """The views of all windows, and which are joined."""

    def __init__(self) -> None:
        self.roots = array("I", [0])  # of each view one of its group, the group's first at last; 0 is the background
        self.kinds = array("h", [0])  # classes, 1..K-1
        self.scores = array("f", [0])  # in [0, 1]; 1 where the model gives none
        self.cut = bytearray(1)  # 1: the view reaches a border of its window inside the picture
        self.there = bytearray(1)  # 1: some pixel of the picture is the view's
        self.firsts: list[int] = []  # the first view of each window
        self.members: dict[int, set[int]] = {}  # of a group's first view: the windows that see the object
        self.whole: dict[int, set[int]] = {}  # and those that see it whole

    def __len__(self) -> int:
        """How many views there are."""
        return len(self.roots) - 1

    def add(self, classes: np.ndarray, scores: np.ndarray | None, cut: np.ndarray) -> int:
        """Take in the objects 1..N of the next window: classes, scores and whether they are cut, (N,) each. Returns the
        number of the view before the first of them: object n is view n plus that."""
        before, count = len(self), len(classes)
        self.firsts.append(before + 1)
        self.roots.frombytes(np.arange(before + 1, before + count + 1, dtype=np.uint32).tobytes())
        self.kinds.frombytes(np.asarray(classes, np.int16).tobytes())
        self.scores.frombytes(np.asarray(np.ones(count) if scores is None else scores, np.float32).tobytes())
        self.cut.extend(np.asarray(cut, np.uint8).tobytes())
        self.there.extend(bytes(count))
        return before

    def join(self, one: np.ndarray, other: np.ndarray, line: int) -> None:
        """Join the views of two windows that agree at the seam above row `line` of the band that both see: (h, w)
        numbers of views, 0 = nothing. Of windows side by side the bands are transposed."""
        for first, second in agreements(one, other, line):
            self._unite(first, second)

    def mark(self, views: np.ndarray) -> None:
        """Say of views that they have pixels of the picture."""
        np.frombuffer(self.there, np.uint8)[views] = 1

    def settle(self, window: int) -> None:
        """Forget who sees the objects that no window from that number on, 0, 1, ..., has seen: they are complete."""
        self.members = {root: seen for root, seen in self.members.items() if max(seen) >= window}
        self.whole = {root: self.whole[root] for root in self.members}

    def numbers(self) -> np.ndarray:
        """(views + 1,) uint32: the object of each view, numbered 1..N in the order of their first views; 0 for those
        of which no pixel is left."""
        roots = np.frombuffer(self.roots, np.uint32)
        while (further := roots[roots]).tobytes() != roots.tobytes():
            roots = further
        kept = np.zeros(len(roots), bool)
        kept[roots[np.frombuffer(self.there, np.uint8) > 0]] = True
        kept[0] = False
        return np.where(kept, np.cumsum(kept, dtype=np.uint32), np.uint32(0))[roots]

    def _unite(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        if first == second:
            return
        (seen, fully), (seen_too, fully_too) = self._windows(first), self._windows(second)
        if fully & seen_too or fully_too & seen:
            return
        self.members[first], self.whole[first] = seen | seen_too, fully | fully_too
        self.members.pop(second, None)
        self.whole.pop(second, None)
        self.roots[second] = first

    def _root(self, view: int) -> int:
        while self.roots[view] != view:
            self.roots[view] = view = self.roots[self.roots[view]]
        return view

    def _windows(self, root: int) -> tuple[set[int], set[int]]:
        """The windows that see a group, and those that see it whole."""
        if root in self.members:
            return self.members[root], self.whole[root]
        window = bisect_right(self.firsts, root) - 1
        return {window}, set() if self.cut[root] else {window}


def agreements(one: np.ndarray, other: np.ndarray, line: int) -> list[tuple[int, int]]:
    """The numbers in each of two label images (h, w), 0 = nothing, whose pieces agree, of the pieces next to the seam
    above row `line`; the best first.

    >>> agreements(np.array([[1, 0, 2], [1, 0, 2], [0, 3, 0]]), np.array([[5, 0, 0], [5, 0, 6], [0, 7, 0]]), 1)
    [(1, 5)]
    """
    pieces, others = (label(each, connectivity=1, background=0) for each in (one, other))
    seam = np.s_[max(0, line - 1) : line + 1]
    at_seam, others_at_seam = (
        np.bincount(each[seam].ravel(), minlength=each.max() + 1) > 0 for each in (pieces, others)
    )
    shared = (pieces > 0) & (others > 0) & (at_seam[pieces] | others_at_seam[others])
    if not shared.any():
        return []
    areas, other_areas = np.bincount(pieces.ravel()), np.bincount(others.ravel())
    pairs, places, common = np.unique(
        pieces[shared].astype(np.int64) * len(other_areas) + others[shared], return_index=True, return_counts=True
    )
    ious = common / (areas[pairs // len(other_areas)] + other_areas[pairs % len(other_areas)] - common)
    best = np.argsort(-ious, kind="stable")
    best = best[ious[best] > AGREEMENT]
    numbers, other_numbers = one[shared][places[best]].tolist(), other[shared][places[best]].tolist()
    return list(zip(numbers, other_numbers, strict=True))
