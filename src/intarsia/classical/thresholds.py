"""Thresholds: pixels divided by brightness alone.

N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979, doi.org/10.1109/TSMC.1979.4310076;
P.-S. Liao, T.-S. Chen, P.-C. Chung, "A Fast Algorithm for Multilevel Thresholding", 2001 (several thresholds);
J. Sauvola, M. Pietikäinen, "Adaptive document image binarization", 2000, doi.org/10.1016/S0031-3203(99)00055-2.
The searches are scikit-image's. Where we differ: a picture with fewer values than classes has a class for each value.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ..errors import UsageError
from .pictures import ClassicalConfig, brightness, smoothed

ROUNDING = 1e-9  # the mean of equal numbers differs from them in the last bits
LEVELS = {2: 4096, 3: 512, 4: 256, 5: 128}  # bins of the histogram; the search costs levels ** (classes - 1)


class OtsuConfig(ClassicalConfig):
    """Settings of `otsu`."""

    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    objects: Literal["bright", "dark"] = "bright"  # which side of the threshold is label 1


class MultiOtsuConfig(ClassicalConfig):
    """Settings of `multi_otsu`."""

    classes: int = Field(3, ge=2, le=5)  # how many; each one more costs a hundred times the search
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


class LocalThresholdConfig(ClassicalConfig):
    """Settings of `local_threshold`."""

    window: int = Field(51, ge=3)  # pixels, odd: side of the neighbourhood that a pixel is compared with
    rule: Literal["gaussian", "mean", "median", "sauvola"] = "gaussian"  # how the neighbourhood becomes a threshold
    offset: float = Field(0.0, ge=-1, le=1, allow_inf_nan=False)  # by how much an object must stand out, of [0, 1]
    sauvola_k: float = Field(0.2, allow_inf_nan=False)  # of rule sauvola: how far low contrast lowers the threshold
    objects: Literal["bright", "dark"] = "bright"  # which side of the threshold is label 1
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


def otsu(image: np.ndarray, config: OtsuConfig | None = None) -> np.ndarray:
    """(H, W) int32: 1 where the picture is brighter (or darker) than the one threshold that divides it best, else 0.

    image: (H, W) or (H, W, C), any kind of number; of several channels the brightness counts. Best is the largest
    variance between the two sides. A constant picture is all 0. Raises DataError for what is no picture.
    """
    config = config or OtsuConfig()
    levels = smoothed(brightness(image), config.smooth)
    bright = _divided(levels, 2) == 1
    if levels.min() == levels.max():
        return np.zeros(levels.shape, np.int32)
    return np.asarray(bright == (config.objects == "bright")).astype(np.int32)


def multi_otsu(image: np.ndarray, config: MultiOtsuConfig | None = None) -> np.ndarray:
    """(H, W) int32: 0 (darkest) to classes - 1 (brightest), by the thresholds that divide the picture best.

    image: (H, W) or (H, W, C), any kind of number; of several channels the brightness counts. With fewer values than
    classes, each value is a class. Raises DataError for what is no picture.
    """
    config = config or MultiOtsuConfig()
    return _divided(smoothed(brightness(image), config.smooth), config.classes)


def local_threshold(image: np.ndarray, config: LocalThresholdConfig | None = None) -> np.ndarray:
    """(H, W) int32: 1 where the picture is brighter (or darker) than its neighbourhood by more than `offset`, else 0.

    image: (H, W) or (H, W, C), any kind of number; of several channels the brightness counts. For uneven light.
    Raises DataError for what is no picture, UsageError for an even window.
    """
    from skimage import filters

    config = config or LocalThresholdConfig()
    if config.window % 2 == 0:
        raise UsageError(f"window = {config.window}: a window has a middle pixel; give an odd number of pixels.")
    levels = smoothed(brightness(image), config.smooth)
    if config.objects == "bright":
        levels = 1 - levels  # from here on objects are dark: Sauvola's rule is for ink on paper
    if config.rule == "sauvola":
        threshold = filters.threshold_sauvola(levels, config.window, config.sauvola_k, r=0.5)
    else:
        threshold = filters.threshold_local(levels, config.window, config.rule)
    return np.asarray(levels < threshold - config.offset - ROUNDING).astype(np.int32)


def _divided(levels: np.ndarray, classes: int) -> np.ndarray:
    """(H, W) int32, 0..classes - 1, of brightness (H, W)."""
    from skimage import filters

    low, high = levels.min(), levels.max()
    if low == high:
        return np.zeros(levels.shape, np.int32)
    bins = LEVELS[classes]
    steps = np.rint((levels - low) * ((bins - 1) / (high - low))).astype(np.int64)  # 0..bins - 1
    counts = np.bincount(steps.ravel(), minlength=bins)
    present = np.flatnonzero(counts)
    if len(present) <= classes:
        return np.searchsorted(present, steps).astype(np.int32)
    if classes == 2:
        thresholds = [filters.threshold_otsu(hist=(counts, np.arange(bins)))]
    else:
        thresholds = filters.threshold_multiotsu(hist=(counts, np.arange(bins)), classes=classes)
    return np.digitize(steps, np.asarray(thresholds), right=True).astype(np.int32)
