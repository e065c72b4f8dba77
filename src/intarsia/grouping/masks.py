"""Masks in boxes -> pixels, and detections that overlap -> one label image.

A box is left, top, right, bottom in pixels: 0 <= left < right <= W, and a pixel i reaches from i to i + 1. N objects,
H x W pixels, M x M values of a mask in its box.
"""

from __future__ import annotations

import numpy as np

from ..data.run_lengths import run_lengths_in_box
from ..records import Detections, Instances

PIXELS = 1 << 22  # of a mask that are computed at a time


def pixel_boxes(boxes: np.ndarray, size: tuple[int, int], centre: float) -> np.ndarray:
    """(N, 4) int64: the pixels whose centres are in the boxes (N, 4), at least one, within a picture of that height and
    width."""
    limits = np.array([size[1], size[0]])
    low = np.ceil(boxes[:, :2] - centre).astype(np.int64)
    high = np.ceil(boxes[:, 2:] - centre).astype(np.int64)
    middle = np.floor(boxes.reshape(-1, 2, 2).mean(axis=1)).astype(np.int64)
    low = np.where(high > low, low, middle).clip(0, limits - 1)
    return np.concatenate([low, high.clip(low + 1, limits)], axis=1)


def laid_on_pixels(values: np.ndarray, box: np.ndarray, pixels: np.ndarray, centre: float, least: float) -> np.ndarray:
    """(bottom - top, right - left) bool: where the values (M, M) of a mask in its box (4,), interpolated bilinearly at
    the pixels' centres, are above `least`.

    pixels: (4,) int64, those of the box. Interpolating is done on one axis after the other, as two products of
    matrices; up to the box's border the outermost values hold, so that a mask can fill its box.
    """
    left, top, right, bottom = (int(each) for each in pixels)
    across = _weights(left, right, float(box[0]), float(box[2]), len(values), centre)
    lines = values @ across.T  # M w
    mask = np.empty((bottom - top, right - left), bool)
    step = max(1, PIXELS // (right - left))
    for first in range(top, bottom, step):
        last = min(first + step, bottom)
        down = _weights(first, last, float(box[1]), float(box[3]), len(values), centre)
        np.greater(down @ lines, least, out=mask[first - top : last - top])
    return mask


def _weights(first: int, last: int, low: float, high: float, count: int, centre: float) -> np.ndarray:
    """(last - first, M) float32: how much each value of an axis counts at each of the pixels."""
    at = (np.arange(first, last, dtype=np.float32) + centre - low) * (count / max(high - low, 1e-6)) - 0.5
    at = at.clip(0, count - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count, dtype=np.float32))).astype(np.float32)


def in_one(answer: Detections, score: float, overlap: float) -> Instances:
    """The detections of one picture in one label image, best first: where several are, the best has the pixel.

    Left out are those below `score`, and those of which better ones hide more than the share `overlap`, or all. Where
    some overlap, `runs` says each whole.
    """
    label_image = np.zeros(answer.size, np.int32)
    kept: list[int] = []
    overlapping = False
    for place in np.argsort(-answer.scores, kind="stable"):
        if answer.scores[place] < score:
            break
        left, top, right, bottom = answer.boxes[place]
        region, mask = label_image[top:bottom, left:right], answer.masks[place]
        free = mask & (region == 0)
        area, visible = np.count_nonzero(mask), np.count_nonzero(free)
        if visible == 0 or area - visible > overlap * area:
            continue
        overlapping = overlapping or bool(visible < area)
        kept.append(int(place))
        region[free] = len(kept)
    runs = None
    if overlapping:
        whole = [(answer.masks[place], int(answer.boxes[place, 0]), int(answer.boxes[place, 1])) for place in kept]
        runs = tuple(run_lengths_in_box(mask, left, top, answer.size) for mask, left, top in whole)
    return Instances(label_image, answer.classes[kept], answer.scores[kept], runs)
