"""Anchors: the boxes of known size and shape, at every place of every map, that proposals are told apart from.

Ren, He, Girshick, Sun: Faster R-CNN, 2015, https://arxiv.org/abs/1506.01497 (anchors)
Lin et al.: Feature Pyramid Networks, 2017, https://arxiv.org/abs/1612.03144 (one size a level, doubled from level to
level)
Redmon, Farhadi: YOLO9000, 2017, https://arxiv.org/abs/1612.08242 (shapes are judged by their IoU, centres laid on each
other, and taken from the data)

Where we differ: not k-means, whose sizes belong to no level. The finest level's size is a quantile of the objects', and
the levels double it, so that an anchor is never wider than suits its level's grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...errors import DataError

Sizes = tuple[tuple[float, ...], ...]  #: for each level, finest first, the sides of its anchors in pixels

STRIDES = (4, 8, 16, 32, 64)  # pixels between two places of each level
USUAL = 8.0  # strides that an anchor is wide where nothing is known: 32 pixels at stride 4 (Lin et al., section 4.1)
NARROWEST, WIDEST = 1.0, USUAL  # strides: narrower ones leave gaps, wider ones need not be of the finest level
SMALL = 0.1  # quantile of the objects' sizes that the finest level is for
FAR, GAIN = 0.65, 0.05  # mean IoU with the nearest anchor below which a level gets two sizes, if that adds so much
RATIOS = (0.1, 0.5, 0.9)  # quantiles of the objects' height over width
SAME = 1.25  # ratios that differ by less than this factor are one


class Anchors(NamedTuple):
    """What `MaskRCNNConfig` wants to know about anchors."""

    sizes: Sizes
    ratios: tuple[float, ...]  # height over width, rising
    iou: float  # in [0, 1]: mean IoU of the objects with the anchor most like each, centres laid on each other


def usual_anchors(strides: Sequence[int] = STRIDES) -> Sizes:
    """One size a level, 8 strides: what COCO's objects in pictures of 800 pixels were given."""
    return tuple((USUAL * stride,) for stride in strides)


def fit_anchors(sizes: np.ndarray, strides: Sequence[int] = STRIDES) -> Anchors:
    """Anchors for objects of these heights and widths (N, 2) in pixels of the picture as the network sees it.

    sizes: one a level, doubled from level to level, the finest such that a tenth of the objects are smaller; two a
    level, a factor of sqrt(2) apart, where that fits clearly better and one a level does not fit well.
    ratios: the 10 %, 50 % and 90 % quantiles of height over width, those that hardly differ joined.

    No objects: what is usual. Raises DataError for sizes that are not (N, 2), or not above 0.
    """
    sizes = np.asarray(sizes, np.float64)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise DataError(f"sizes of objects are (N, 2) heights and widths above 0 pixels, these are {sizes.shape}.")
    if not len(sizes):
        return Anchors(usual_anchors(strides), (0.5, 1.0, 2.0), 0.0)
    ratios = _apart(np.quantile(sizes[:, 0] / sizes[:, 1], RATIOS))
    side = float(np.quantile(np.sqrt(sizes.prod(axis=1)), SMALL))
    side = min(max(side, NARROWEST * strides[0]), WIDEST * strides[0])
    levels = [side * stride / strides[0] for stride in strides]
    single: Sizes = tuple((round(each, 1),) for each in levels)
    double: Sizes = tuple((round(each, 1), round(each * math.sqrt(2), 1)) for each in levels)
    few, many = (shape_iou(sizes, each, ratios) for each in (single, double))
    if few < FAR and many >= few + GAIN:
        return Anchors(double, ratios, many)
    return Anchors(single, ratios, few)


def shape_iou(sizes: np.ndarray, anchors: Sizes, ratios: Sequence[float]) -> float:
    """Mean IoU in [0, 1] of objects of these heights and widths (N, 2) with the anchor most like each, centres laid on
    each other."""
    sides = np.array([side for level in anchors for side in level])[:, None]
    root = np.sqrt(np.asarray(ratios))[None]
    heights, widths = (sides * root).ravel(), (sides / root).ravel()  # A
    best = np.zeros(len(sizes))
    for height, width in zip(heights, widths, strict=True):
        shared = np.minimum(sizes[:, 0], height) * np.minimum(sizes[:, 1], width)
        best = np.maximum(best, shared / (sizes.prod(axis=1) + height * width - shared))
    return float(best.mean())


def _apart(ratios: np.ndarray) -> tuple[float, ...]:
    """Rising ratios without those that hardly differ; the middle one stays."""
    low, middle, high = (float(each) for each in ratios)
    kept = [middle]
    if middle / low >= SAME:
        kept.insert(0, low)
    if high / middle >= SAME:
        kept.append(high)
    return tuple(round(min(max(each, 0.1), 10.0), 2) for each in kept)
