"""Pictures that are all but the same picture: re-encoded, resized, a little brighter, or the next frame of a film.

Each picture is shrunk to a thumbnail, and two pictures are near-duplicates if their thumbnails correlate, both as they
are and in their fine detail. The second is what keeps apart microscope fields that share nothing but their vignette,
and is why this is no perceptual hash: a hash's bits of a plain region are noise, or equal for all plain pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 24  # pixels of a thumbnail's side
ALIKE = 0.96  # least correlation of two near-duplicates' thumbnails
DETAIL_ALIKE = 0.90  # least correlation of what is left of them without their 5 x 5 means
PLAIN = 0.0005  # of the full range: a thumbnail whose detail deviates less shows too little to be told from others
NEIGHBOURS = 20  # most partners kept for one picture, so that a still film costs no quadratic memory


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) float32: the picture's brightness, shrunk by area; in units of its type's full range."""
    full = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    grey = image.mean(axis=2, dtype=np.float32)  # as floats, since in 8 bits a dark picture would lose its few levels
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / np.float32(full)


def near_duplicates(thumbnails: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """Groups of two or more near-duplicates, as positions in `thumbnails`, each sorted, first pictures first.

    A group is all that hangs together: the first and the last frame of a slow film may be in one.
    """
    stack = np.array(thumbnails, np.float32).reshape(-1, SIDE, SIDE)
    detail = np.array([each - cv2.blur(each, (5, 5)) for each in stack]).reshape(-1, SIDE, SIDE)
    shows = np.flatnonzero(detail.std(axis=(1, 2)) > PLAIN)
    if len(shows) < 2:
        return []
    whole, fine = _normalised(stack[shows]), _normalised(detail[shows])
    firsts, seconds = [], []
    for start in range(0, len(shows), 512):
        rows = slice(start, start + 512)
        similar = (whole[rows] @ whole.T >= ALIKE) & (fine[rows] @ fine.T >= DETAIL_ALIKE)
        for row, partners in enumerate(similar, start=start):
            later = np.flatnonzero(partners[row + 1 :])[:NEIGHBOURS] + row + 1
            firsts.append(np.full(len(later), row))
            seconds.append(later)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    return grouped(shows[first], shows[second], len(thumbnails))


def grouped(first: np.ndarray, second: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """The groups of two or more that the pairs (first[i], second[i]) of numbers below `count` link together."""
    links = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return sorted(tuple(int(i) for i in sorted(group)) for group in groups if len(group) > 1)


def _normalised(stack: np.ndarray) -> np.ndarray:
    """(N, SIDE * SIDE) float32: mean 0, length 1, so that a product of two rows is their correlation."""
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
