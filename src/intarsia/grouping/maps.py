"""Maps (M, H, W) -> objects, by a few thresholds. How ways are gathered is told in `gathering.py`.

Meyer: Topographic distance and watershed lines, 1994, https://doi.org/10.1016/0165-1684(94)90060-4 (where maps are
flooded)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from skimage.measure import label
from skimage.segmentation import watershed

from ..records import Instances
from .gathering import gathered, tidied


def by_ways(maps: np.ndarray, at: Mapping[str, float]) -> Instances:
    """The objects of maps (K + 4, H, W): class probabilities, depth and border in [0, 1], the way to the centre (down,
    right) in pixels. at: `foreground`, `core`, `ways`, `score`, `smallest`, as `InstanceSegNet` describes them."""
    likely = 1 - maps[0]
    depth, border, down, right = maps[-4:]
    foreground = likely > at["foreground"]
    core = foreground & (depth * (1 - border) > at["core"])
    if at["ways"] >= 0.5:
        objects = gathered(foreground, core, down, right)
    else:  # the ways are learnt last: early in a training, and from few pictures, the depth alone tells more
        objects = watershed(-depth, label(core, connectivity=1), mask=foreground).astype(np.int32)
    return scored(tidied(objects, int(at["smallest"])), maps[:-4], at["score"])


def from_insides(maps: np.ndarray, at: Mapping[str, float]) -> Instances:
    """The objects of maps (K + 1, H, W): probabilities of the classes, whose insides these are, and of the border.
    at: `inside`, `foreground`, `score`, `smallest`, as `Watershed` describes them."""
    inside = maps[1:-1].sum(axis=0)
    seeds = label(inside > at["inside"], connectivity=1)
    basins = watershed(-inside, seeds, mask=(1 - maps[0] > at["foreground"]) | (seeds > 0))
    probabilities = maps[:-1].copy()
    if len(probabilities) == 2:  # one class of objects: the border is as much of it as the inside
        probabilities[1] += maps[-1]
    return scored(tidied(basins.astype(np.int32), int(at["smallest"])), probabilities, at["score"])


#: by the name that stands in an exported file: what makes objects of its maps, by thresholds
GROUPINGS: dict[str, Callable[[np.ndarray, Mapping[str, float]], Instances]] = {
    "ways": by_ways,
    "insides": from_insides,
}


def scored(label_image: np.ndarray, probabilities: np.ndarray, least: float) -> Instances:
    """The objects of a label image (H, W), best first, by the probabilities (K, H, W) of their pixels: the class is the
    likeliest but the background, the score the mean probability of not being background; below `least` they are out."""
    count = int(label_image.max(initial=0))
    there = label_image > 0
    numbers = label_image[there]
    areas = np.bincount(numbers, minlength=count + 1)[1:]
    sums = np.stack([np.bincount(numbers, plane[there], count + 1)[1:] for plane in probabilities])  # K N
    scores = (1 - sums[0] / np.maximum(areas, 1)).clip(0, 1).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    table = np.zeros(count + 1, np.int32)
    table[order + 1] = np.arange(1, len(order) + 1)
    classes = (1 + sums[1:].argmax(axis=0))[order].astype(np.int16)
    return Instances(table[label_image], classes, scores[order])
