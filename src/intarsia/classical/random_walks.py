"""The random walker: a pixel gets the label whose seed a walker from there is likeliest to meet first.

L. Grady, "Random Walks for Image Segmentation", 2006, doi.org/10.1109/TPAMI.2006.233. The solution is scikit-image's.
Where we differ: not in the method; a picture of one colour is solved as if edges did not matter.
"""

from __future__ import annotations

import warnings

import numpy as np
from pydantic import Field

from ..errors import DataError
from .pictures import ClassicalConfig, checked_seeds, in_unit_range, smoothed


class RandomWalkerConfig(ClassicalConfig):
    """Settings of `random_walker`."""

    beta: float = Field(130.0, ge=0, allow_inf_nan=False)  # how much a walker shuns edges; 0 = not at all
    tolerance: float = Field(1e-3, gt=0, lt=1)  # of the linear system's solution
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


def random_walker(image: np.ndarray, seeds: np.ndarray, config: RandomWalkerConfig | None = None) -> np.ndarray:
    """(H, W) int32: the label of each pixel; seeds keep theirs.

    image: (H, W) or (H, W, C), any kind of number. seeds: (H, W), 0 where nobody knows, else a label 1, 2, …. Time and
    memory grow with pixels times labels. Raises DataError for what is no picture, and for seeds of another size or
    without any label.
    """
    from skimage.segmentation import random_walker as walk

    config = config or RandomWalkerConfig()
    picture = smoothed(in_unit_range(image), config.smooth)
    labels = checked_seeds(seeds, picture.shape[:2])
    names, places = np.unique(labels, return_inverse=True)
    if names[0] != 0:
        return labels
    if len(names) == 2:  # one label for all
        return np.full_like(labels, names[1])
    if np.ptp(picture) == 0:
        picture, beta = np.arange(picture.size, dtype=np.float64).reshape(picture.shape), 0.0
    else:
        beta = config.beta
    # scikit-image loses the answer's shape and its labels in pictures one pixel thin: two equal rows have none
    height, width = labels.shape
    thick = (2 if height == 1 else 1, 2 if width == 1 else 1)
    numbers = np.tile(places.reshape(labels.shape), thick).astype(np.int32)
    try:
        with warnings.catch_warnings():  # probabilities a tolerance above 1: their order is what counts
            warnings.filterwarnings("ignore", "The probability range", UserWarning)
            found = walk(
                np.tile(picture, (*thick, 1)), numbers, beta=beta, mode="cg_j", tol=config.tolerance, channel_axis=-1
            )
    except ValueError as error:
        raise DataError(f"the random walker can't divide this picture: {error}.") from error
    return names[np.asarray(found)[:height, :width]].astype(np.int32)
