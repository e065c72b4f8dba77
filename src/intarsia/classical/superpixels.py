"""Superpixels: many small regions of one colour, to count, to measure or to label whole.

R. Achanta et al., "SLIC Superpixels Compared to State-of-the-art Superpixel Methods", 2012,
doi.org/10.1109/TPAMI.2012.120; P. Felzenszwalb, D. Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004,
doi.org/10.1023/B:VISI.0000022288.19776.77. Both are scikit-image's. Where we differ: pictures of other than three
channels are compared in their own colours, 0 to 1, not in CIE L*a*b*, 0 to 100; so of SLIC's compactness, a hundredth
counts there.
"""

from __future__ import annotations

import warnings

import numpy as np
from pydantic import Field

from .pictures import ClassicalConfig, in_unit_range


class SlicConfig(ClassicalConfig):
    """Settings of `slic`."""

    regions: int = Field(250, ge=1)  # about how many
    compactness: float = Field(
        10.0, gt=0, allow_inf_nan=False
    )  # place against colour: 0.1 follows edges, 100 = squares
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    steps: int = Field(10, ge=1)  # of the clustering


class FelzenszwalbConfig(ClassicalConfig):
    """Settings of `felzenszwalb`."""

    scale: float = Field(100.0, ge=0, allow_inf_nan=False)  # larger makes larger regions
    smooth: float = Field(0.8, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    smallest: int = Field(20, ge=1)  # pixels; smaller regions join a neighbour


def slic(image: np.ndarray, config: SlicConfig | None = None) -> np.ndarray:
    """(H, W) int32: connected superpixels of like size, 1, 2, ….

    image: (H, W) or (H, W, C), any kind of number; three channels are taken for red, green and blue. Raises DataError
    for what is no picture.
    """
    from skimage.segmentation import slic as cluster

    config = config or SlicConfig()
    picture = in_unit_range(image)
    colours = picture.shape[2] == 3
    found = cluster(
        picture, config.regions, config.compactness if colours else config.compactness / 100, config.steps,
        config.smooth, convert2lab=colours, start_label=1, channel_axis=-1,
    )  # fmt: skip
    return np.asarray(found).astype(np.int32)


def felzenszwalb(image: np.ndarray, config: FelzenszwalbConfig | None = None) -> np.ndarray:
    """(H, W) int32: regions 1, 2, … whose inner differences are smaller than those across their borders.

    image: (H, W) or (H, W, C), any kind of number. Raises DataError for what is no picture.
    """
    from skimage.segmentation import felzenszwalb as merge

    config = config or FelzenszwalbConfig()
    picture = in_unit_range(image)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got image with third dimension", RuntimeWarning)  # channels they are
        found = merge(picture, config.scale, config.smooth, config.smallest, channel_axis=-1)
    return np.asarray(found).astype(np.int32) + 1
