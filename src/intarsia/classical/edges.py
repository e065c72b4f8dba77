"""Edges and the watershed: regions are basins, and edges the ridges between them.

I. Sobel, G. Feldman, 1968 (the gradient); J. Canny, "A Computational Approach to Edge Detection", 1986,
doi.org/10.1109/TPAMI.1986.4767851; L. Vincent, P. Soille, "Watersheds in Digital Spaces", 1991,
doi.org/10.1109/34.87344; shallow basins after P. Soille, "Morphological Image Analysis", 1999, section 6.3.3 (extended
minima). The flooding is scikit-image's. Where we differ: of several channels, the steepest one is a pixel's gradient.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from .pictures import ClassicalConfig, brightness, checked_seeds, in_unit_range, smoothed
from .thresholds import OtsuConfig, otsu


class WatershedConfig(ClassicalConfig):
    """Settings of `watershed`."""

    surface: Literal["sobel", "canny", "distance"] = "sobel"  # flooded: the gradient; how near a Canny edge is; objects
    smooth: float = Field(1.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    depth: float = Field(
        0.05, ge=0, le=1
    )  # without seeds: of a basin, as a share of the surface's range; less is noise
    canny_low: float = Field(0.05, ge=0, le=1)  # of surface canny: gradient where a line that has begun may go on
    canny_high: float = Field(0.1, ge=0, le=1)  # of surface canny: gradient where a line begins, [canny_low, 1]
    objects: Literal["bright", "dark"] = "bright"  # of surface distance: which side of Otsu's threshold they are
    lines: bool = False  # whether pixels on the ridges belong to no region (0)


def watershed(image: np.ndarray, seeds: np.ndarray | None = None, config: WatershedConfig | None = None) -> np.ndarray:
    """(H, W) int32: the basin of each pixel, 1, 2, …, or its seed's label; 0 on ridges and outside of objects.

    image: (H, W) or (H, W, C), any kind of number. seeds: (H, W), 0 where nobody knows, else a label, which floods from
    there; None: basins begin at the surface's minima that are deeper than `depth`. With surface = "distance" the
    picture is divided by Otsu's threshold first, and only objects are flooded, from their middles: it takes touching
    round objects apart. Raises DataError for what is no picture, and for seeds of another size or without any label.
    """
    from skimage.segmentation import watershed as flood

    config = config or WatershedConfig()
    levels = brightness(image)
    markers = None if seeds is None else checked_seeds(seeds, levels.shape)
    inside = None
    if config.surface == "distance":
        inside = otsu(image, OtsuConfig(smooth=config.smooth, objects=config.objects)) == 1
        if not inside.any():
            return np.zeros(levels.shape, np.int32)
        surface = -_distance(inside)
    elif config.surface == "canny":
        surface = -_distance(~_canny(levels, config))
    else:
        surface = gradient(image, config.smooth)
    if markers is None:
        markers = _basins(surface, config.depth, inside)
    return np.asarray(flood(surface, markers, mask=inside, watershed_line=config.lines)).astype(np.int32)


def gradient(image: np.ndarray, smooth: float = 0.0) -> np.ndarray:
    """(H, W) float64: how steep the picture (H, W) or (H, W, C) is, in brightness [0, 1] a pixel, by Sobel's masks;
    of several channels the steepest. smooth: sigma in pixels of the blur before."""
    from skimage.filters import sobel

    planes = smoothed(in_unit_range(image), smooth)
    steepest = np.max([sobel(planes[..., k], mode="nearest") for k in range(planes.shape[2])], axis=0)
    return np.asarray(steepest / np.sqrt(2))  # scikit-image's of a ramp is its slope times that


def _canny(levels: np.ndarray, config: WatershedConfig) -> np.ndarray:
    from skimage.feature import canny

    high = max(config.canny_low, config.canny_high)
    found = canny(levels, max(config.smooth, 1e-3), config.canny_low, high, mode="nearest")
    return np.asarray(found, dtype=bool)


def _distance(inside: np.ndarray) -> np.ndarray:
    """(H, W) float64: pixels to the nearest that is not inside; without such a one, to beyond the picture's border."""
    from scipy import ndimage

    if not inside.all():
        return np.asarray(ndimage.distance_transform_edt(inside))
    return np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]


def _basins(surface: np.ndarray, depth: float, inside: np.ndarray | None) -> np.ndarray:
    """(H, W) int32: a number for each of the surface's minima that are deep enough."""
    from scipy import ndimage
    from skimage.morphology import h_minima, local_minima

    span = float(np.ptp(surface))
    if span == 0:
        return np.ones(surface.shape, np.int32)
    minima = h_minima(surface, depth * span) if depth > 0 else local_minima(surface)
    if inside is not None:
        minima = np.where(inside, minima, 0)
    return np.asarray(ndimage.label(minima, np.ones((3, 3)))[0], dtype=np.int32)
