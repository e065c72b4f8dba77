"""Active contours: a line that moves until it lies well.

T. Chan, L. Vese, "Active Contours Without Edges", 2001, doi.org/10.1109/83.902291; V. Caselles, R. Kimmel, G. Sapiro,
"Geodesic Active Contours", 1997, doi.org/10.1023/A:1007979827043; both also as small morphological steps, P.
Márquez-Neila, L. Baumela, L. Alvarez, "A Morphological Approach to Curvature-Based Evolution of Curves and Surfaces",
2014, doi.org/10.1109/TPAMI.2013.106. All are scikit-image's. Where we differ: which side is the object is not left to
chance; without edges it is the brighter or the darker one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from .pictures import ClassicalConfig, brightness, checked_seeds, smoothed, two_sides


class ChanVeseConfig(ClassicalConfig):
    """Settings of `chan_vese`."""

    length: float = Field(0.25, ge=0, allow_inf_nan=False)  # cost of the border's length: larger is smoother
    inside: float = Field(1.0, gt=0, allow_inf_nan=False)  # weight of the differences inside of the contour
    outside: float = Field(1.0, gt=0, allow_inf_nan=False)  # likewise outside
    steps: int = Field(500, ge=1)  # at most
    step: float = Field(0.5, gt=0, allow_inf_nan=False)  # how far each goes: larger is faster, and may not settle
    tolerance: float = Field(1e-3, gt=0, allow_inf_nan=False)  # it ends when the level set moves less
    objects: Literal["bright", "dark"] = "bright"  # which side is label 1
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


class MorphologicalChanVeseConfig(ClassicalConfig):
    """Settings of `morphological_chan_vese`."""

    steps: int = Field(100, ge=1)  # of the contour, about a pixel each
    smoothing: int = Field(1, ge=0)  # rounds of smoothing the contour after each step; 0 = none
    inside: float = Field(1.0, gt=0, allow_inf_nan=False)  # weight of the differences inside of the contour
    outside: float = Field(1.0, gt=0, allow_inf_nan=False)  # likewise outside
    objects: Literal["bright", "dark"] = "bright"  # which side is label 1
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


class GeodesicContourConfig(ClassicalConfig):
    """Settings of `geodesic_contour`."""

    steps: int = Field(200, ge=1)  # of the contour, about a pixel each
    balloon: Literal[-1, 0, 1] = -1  # where no edge is, the contour: -1 shrinks, 1 grows, 0 stays
    smoothing: int = Field(1, ge=0)  # rounds of smoothing the contour after each step; 0 = none
    sharpness: float = Field(1000.0, gt=0, allow_inf_nan=False)  # larger: fainter edges hold the contour
    edge_smooth: float = Field(2.0, gt=0, allow_inf_nan=False)  # pixels: sigma of the blur that edges are looked for in
    threshold: float = Field(0.3, gt=0, le=1)  # the contour stops where the edge map, 1 = no edge, is below it


def chan_vese(image: np.ndarray, config: ChanVeseConfig | None = None) -> np.ndarray:
    """(H, W) int32: 1 on the brighter (or darker) of two sides that are each of one brightness, with a short border.

    image: (H, W) or (H, W, C), any kind of number; of several channels the brightness counts. The contour begins as a
    checkerboard, everywhere at once. Raises DataError for what is no picture.
    """
    from skimage.segmentation import chan_vese as evolve

    config = config or ChanVeseConfig()
    levels = smoothed(brightness(image), config.smooth)
    if levels.min() == levels.max():
        return np.zeros(levels.shape, np.int32)
    inside = evolve(
        _thick(levels), mu=config.length, lambda1=config.inside, lambda2=config.outside, tol=config.tolerance,
        max_num_iter=config.steps, dt=config.step, init_level_set="checkerboard",
    )  # fmt: skip
    return two_sides(_thin(np.asarray(inside, dtype=bool), levels), levels, config.objects)


def morphological_chan_vese(
    image: np.ndarray, seeds: np.ndarray | None = None, config: MorphologicalChanVeseConfig | None = None
) -> np.ndarray:
    """(H, W) int32: as `chan_vese`, by steps that add or take away a pixel's width, so that it never gets unstable.

    seeds: (H, W), where the contour begins, as what is not 0; None: as a checkerboard. Raises DataError for what is no
    picture, and for seeds of another size or without any.
    """
    from skimage.segmentation import morphological_chan_vese as evolve

    config = config or MorphologicalChanVeseConfig()
    levels = smoothed(brightness(image), config.smooth)
    start = None if seeds is None else checked_seeds(seeds, levels.shape) > 0
    if levels.min() == levels.max():
        return np.zeros(levels.shape, np.int32)
    begun = "checkerboard" if start is None else _thick(start).astype(np.int8)
    inside = evolve(
        _thick(levels), config.steps, begun, smoothing=config.smoothing, lambda1=config.inside, lambda2=config.outside
    )
    return two_sides(_thin(np.asarray(inside) == 1, levels), levels, config.objects)


def geodesic_contour(
    image: np.ndarray, seeds: np.ndarray | None = None, config: GeodesicContourConfig | None = None
) -> np.ndarray:
    """(H, W) int32: 1 inside of a contour that shrinks (or grows) until edges hold it, else 0.

    image: (H, W) or (H, W, C), any kind of number; of several channels the brightness counts. seeds: (H, W), what is
    inside at first, as what is not 0; None: all but the picture's rim. Raises DataError for what is no picture, and for
    seeds of another size or without any.
    """
    from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

    config = config or GeodesicContourConfig()
    levels = brightness(image)
    if seeds is None:
        start = np.zeros(levels.shape, np.int8)
        start[1:-1, 1:-1] = 1
    else:
        start = (checked_seeds(seeds, levels.shape) > 0).astype(np.int8)
    if min(levels.shape) < 2:
        return start.astype(np.int32)  # no edge fits in there
    flat = inverse_gaussian_gradient(levels, config.sharpness, config.edge_smooth)
    inside = morphological_geodesic_active_contour(
        flat, config.steps, start, smoothing=config.smoothing, threshold=config.threshold, balloon=config.balloon
    )
    return np.asarray(inside).astype(np.int32)


def _thick(values: np.ndarray) -> np.ndarray:
    """(H, W) with a row or a column of one pixel doubled: slopes need a neighbour."""
    return np.pad(values, ((0, values.shape[0] == 1), (0, values.shape[1] == 1)), mode="edge")


def _thin(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The part that was there before `_thick`."""
    return values[: like.shape[0], : like.shape[1]]
