"""Objects as numbers in a label image, and as three classes, which any segmenter can learn: background, inside, border.

The border keeps neighbours apart: without it two that touch would be one. Caicedo et al.: Evaluation of Deep Learning
Strategies for Nucleus Segmentation in Fluorescence Images, Cytometry A 2019, https://doi.org/10.1002/cyto.a.23863; it
is also the U-Net that StarDist (Schmidt et al. 2018, https://arxiv.org/abs/1806.03535) and DenoiSeg compare with.
Where we differ: the border is the object's own outermost pixels, so that the three classes give the objects back
whole; there it lies outside, and takes pixels from the background.
"""

from __future__ import annotations

import numpy as np
from skimage.measure import label
from skimage.segmentation import expand_labels, find_boundaries

from ..errors import DataError
from ..records import IGNORE, Classes, Instances

BACKGROUND, INSIDE, BORDER = 0, 1, 2
THREE_CLASSES = Classes(("background", "inside", "border"), ((0, 0, 0), (60, 180, 75), (230, 60, 60)))
WIDTH = 1.5  # pixels that `objects_of` grows: the border's one, also across corners


def numbered(label_image: np.ndarray, classes: np.ndarray, smallest: int = 1) -> Instances:
    """The objects that a label image (H, W) shows, numbered 1..N in the order of their numbers there, and without
    those of fewer than `smallest` pixels.

    classes: (M,) of object 1..M; numbers above M must not occur. IGNORE stays.
    """
    counts = np.bincount(np.maximum(label_image, 0).ravel(), minlength=len(classes) + 1)
    kept = counts >= max(1, smallest)
    kept[0] = False
    table = np.append(np.where(kept, np.cumsum(kept), 0), IGNORE).astype(np.int32)  # IGNORE, as -1, finds the last
    return Instances(table[label_image], np.asarray(classes)[kept[1:]].astype(np.int16))


def laid_over(lower: Instances, upper: Instances, where: np.ndarray) -> Instances:
    """Two pictures' objects in one: `upper` where (H, W) bool is True, `lower` elsewhere; what is hidden is gone."""
    shifted = np.where(upper.label_image > 0, upper.label_image + len(lower), upper.label_image)
    return numbered(np.where(where, shifted, lower.label_image), np.concatenate([lower.classes, upper.classes]))


def three_classes(label_image: np.ndarray) -> np.ndarray:
    """(H, W) int16: BACKGROUND, INSIDE, or BORDER, for a label image (H, W), 0 = background.

    Of the border are the object's pixels of which one of the four neighbours is background or another object; the
    picture's own edge is no border. Numbers below 0 become IGNORE. Raises DataError for numbers that are no whole ones.
    """
    if label_image.ndim != 2 or label_image.dtype.kind not in "iu":
        raise DataError(
            f"a label image has two axes and whole numbers, this one {label_image.ndim} axes of {label_image.dtype}."
        )
    labels = label_image.astype(np.int64)
    mask = (labels > 0).astype(np.int16)
    mask[find_boundaries(labels, connectivity=1, mode="inner") & (labels > 0)] = BORDER
    mask[labels < 0] = IGNORE
    return mask


def objects_of(answer: np.ndarray, threshold: float = 0.5, smallest: int = 1) -> np.ndarray:
    """(H, W) int32: a label image, 0 = background, for a mask (H, W) of the three classes or their probabilities
    (3, H, W) in [0, 1].

    An object is what hangs together of the inside, over the four neighbours: of a mask its INSIDE, of probabilities
    where that of INSIDE is above `threshold`. Then it grows by the border's width, WIDTH, where the likeliest class is
    not the background; a pixel goes to the nearest. Objects of fewer than `smallest` pixels are left out. So
    `objects_of(three_classes(x))` is x for objects whose inside hangs together, numbers aside.
    """
    if answer.ndim == 3 and len(answer) == 3:
        inside, not_background = answer[INSIDE] > threshold, answer.argmax(axis=0) != BACKGROUND
    elif answer.ndim == 2:
        inside, not_background = answer == INSIDE, (answer == INSIDE) | (answer == BORDER)
    else:
        raise DataError(f"a mask (H, W) or probabilities (3, H, W) of three classes was expected, got {answer.shape}.")
    seeds = label(inside, connectivity=1)
    grown = np.where(inside | not_background, expand_labels(seeds, WIDTH), 0).astype(np.int32)
    if smallest <= 1:
        return grown
    kept = np.bincount(grown.ravel()) >= smallest
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(numbers[grown])
