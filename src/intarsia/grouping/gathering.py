"""Maps -> objects: each pixel of an object points at its centre; where pixels gather, there is an object.

Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses, 2018, https://arxiv.org/abs/1705.07115
(offsets to the centre, clustered)
Cheng et al.: Panoptic-DeepLab, 2020, https://arxiv.org/abs/1911.10194 (a pixel goes to the centre that its offset
points at)

Where we differ: centres are not peaks of a map of their own, whose width would have to suit the objects' size. The
pixels well inside of objects (`depth`, without the borders) are moved to where they point. What they cover there falls
into connected clumps, one an object: the larger an object, the wider its clump, and the further away the next. Then
every pixel of the foreground goes to the clump that is nearest to where it points. Parts of one object that something
lies across are so brought together, and neighbours that touch are kept apart.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects, label

from ..data.objects import numbered

EIGHT = np.ones((3, 3), bool)  # neighbours: also across corners


def gathered(
    foreground: np.ndarray, core: np.ndarray, down: np.ndarray, right: np.ndarray, fewest: int = 3
) -> np.ndarray:
    """(H, W) int32: a label image, 0 = background, of maps (H, W).

    foreground: bool, where objects are. core: bool, the pixels that make clumps, a part of the foreground. down, right:
    how far it is to the centre, in pixels, positive down and right. fewest: core pixels of a clump; fewer: no object.
    """
    y, x = np.nonzero(core)
    if not len(y):
        return np.zeros(foreground.shape, np.int32)
    landed = np.zeros(foreground.shape, np.int32)
    to_y, to_x = _landing(y, x, down, right)
    np.add.at(landed, (to_y, to_x), 1)
    clumps, count = label(binary_dilation(landed > 0, EIGHT), EIGHT)
    gathered_in = np.bincount(clumps[to_y, to_x], minlength=count + 1)
    kept = gathered_in >= fewest
    kept[0] = False
    if not kept.any():
        return np.zeros(foreground.shape, np.int32)
    clumps = np.where(kept, np.cumsum(kept), 0)[clumps]
    nearest = distance_transform_edt(clumps == 0, return_distances=False, return_indices=True)
    owner = clumps[nearest[0], nearest[1]].astype(np.int32)  # of each place, the clump that is nearest
    objects = np.zeros(foreground.shape, np.int32)
    y, x = np.nonzero(foreground)
    objects[y, x] = owner[_landing(y, x, down, right)]
    return objects


def _landing(y: np.ndarray, x: np.ndarray, down: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns that pixels point at, inside the picture."""
    height, width = down.shape
    rows = np.rint(y + down[y, x]).clip(0, height - 1).astype(np.int64)
    columns = np.rint(x + right[y, x]).clip(0, width - 1).astype(np.int64)
    return rows, columns


def tidied(objects: np.ndarray, smallest: int, specks: float = 0.2) -> np.ndarray:
    """(H, W) int32: the label image without parts of objects that hang apart and have less than `specks` of the area of
    the object's largest part, with holes filled that are inside of one object alone and no larger than that, and
    without objects of fewer than `smallest` pixels; numbered anew."""
    result = objects.copy()
    for number, box in enumerate(find_objects(objects), start=1):
        if box is None:
            continue
        there = objects[box] == number
        parts, count = label(there)
        if count > 1:
            areas = np.bincount(parts.ravel())[1:]
            small = np.flatnonzero(areas < specks * areas.max()) + 1
            result[box][np.isin(parts, small)] = 0
            there &= ~np.isin(parts, small)
        outside, holes = label(~np.pad(there, 1))
        if holes > 1:
            areas = np.bincount(outside.ravel())
            filled = np.flatnonzero(areas < specks * there.sum())
            filled = filled[(filled > 0) & (filled != outside[0, 0])]
            inside = np.isin(outside[1:-1, 1:-1], filled) & (result[box] == 0)
            result[box][inside] = number
    return numbered(result, np.zeros(int(objects.max(initial=0)), np.int16), smallest).label_image
