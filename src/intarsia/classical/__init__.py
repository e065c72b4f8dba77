"""Segmentation without training: an array in, a label image out. On scikit-image, SciPy and OpenCV where they have it.

    from intarsia import classical

    labels = classical.grow_cut(image, seeds)                      # (H, W) int32
    labels = classical.METHODS["otsu"](image)                      # the same by name
    labels = classical.multi_otsu(image, classical.MultiOtsuConfig(classes=4))

Pictures are (H, W) or (H, W, C) of any kind of number. Seeds are label images: 0 where nobody knows, else 1, 2, ….
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import UsageError
from .clusters import KMeansConfig, k_means
from .contours import (
    ChanVeseConfig,
    GeodesicContourConfig,
    MorphologicalChanVeseConfig,
    chan_vese,
    geodesic_contour,
    morphological_chan_vese,
)
from .edges import WatershedConfig, gradient, watershed
from .grow_cut import Conquest, GrowCutConfig, conquer, grow_cut
from .growing import RegionGrowingConfig, region_growing
from .pictures import ClassicalConfig
from .random_walks import RandomWalkerConfig, random_walker
from .superpixels import FelzenszwalbConfig, SlicConfig, felzenszwalb, slic
from .thresholds import LocalThresholdConfig, MultiOtsuConfig, OtsuConfig, local_threshold, multi_otsu, otsu

__all__ = [
    "METHODS", "ChanVeseConfig", "ClassicalConfig", "Conquest", "FelzenszwalbConfig", "GeodesicContourConfig",
    "GrowCutConfig", "KMeansConfig", "LocalThresholdConfig", "Method", "MorphologicalChanVeseConfig", "MultiOtsuConfig",
    "OtsuConfig", "RandomWalkerConfig", "RegionGrowingConfig", "SlicConfig", "WatershedConfig", "chan_vese", "conquer",
    "felzenszwalb", "geodesic_contour", "gradient", "grow_cut", "k_means", "local_threshold",
    "morphological_chan_vese", "multi_otsu", "otsu", "random_walker", "region_growing", "slic", "watershed",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A way to divide a picture, as a function of the picture, its seeds and the method's settings."""

    function: Callable[..., np.ndarray]  # (image, config) without seeds, else (image, seeds, config)
    Config: type[ClassicalConfig]
    seeds: Literal["none", "optional", "required"]
    labels: Literal["classes", "regions"]  # 0, 1, …: what a pixel is; or 1, 2, …: which region it is in, 0 for none
    what: str  # in a line

    @property
    def needs_seeds(self) -> bool:
        return self.seeds == "required"

    def __call__(self, image: np.ndarray, seeds: np.ndarray | None = None, config: Any = None) -> np.ndarray:
        """(H, W) int32: the picture's labels. Raises UsageError for missing seeds, or for seeds where none are used."""
        name = self.function.__name__
        if seeds is None and self.needs_seeds:
            raise UsageError(f"{name} grows from seeds, and none are given; give a label image, 0 where nobody knows.")
        if seeds is not None and self.seeds == "none":
            raise UsageError(f"{name} takes no seeds; leave them out, or use another method.")
        return self.function(image, config) if self.seeds == "none" else self.function(image, seeds, config)


METHODS: dict[str, Method] = {
    "otsu": Method(otsu, OtsuConfig, "none", "classes", "two classes by the best threshold of brightness"),
    "multi_otsu": Method(multi_otsu, MultiOtsuConfig, "none", "classes", "several classes by the best thresholds"),
    "local_threshold": Method(
        local_threshold, LocalThresholdConfig, "none", "classes", "two classes by the neighbourhood, for uneven light"
    ),
    "k_means": Method(k_means, KMeansConfig, "none", "classes", "clusters of colours, numbered by brightness"),
    "chan_vese": Method(
        chan_vese, ChanVeseConfig, "none", "classes", "two classes of even brightness with a short border"
    ),
    "morphological_chan_vese": Method(
        morphological_chan_vese, MorphologicalChanVeseConfig, "optional", "classes", "as chan_vese, in steps of a pixel"
    ),
    "geodesic_contour": Method(
        geodesic_contour, GeodesicContourConfig, "optional", "classes", "a contour that shrinks or grows to edges"
    ),
    "grow_cut": Method(grow_cut, GrowCutConfig, "required", "regions", "labels that conquer the picture from seeds"),
    "random_walker": Method(
        random_walker, RandomWalkerConfig, "required", "regions", "the likeliest of the seeds; slow, smooth borders"
    ),
    "region_growing": Method(
        region_growing, RegionGrowingConfig, "optional", "regions", "pixels join the region whose colour they have"
    ),
    "watershed": Method(
        watershed, WatershedConfig, "optional", "regions", "basins between edges; takes touching objects apart"
    ),
    "slic": Method(slic, SlicConfig, "none", "regions", "superpixels of like size"),
    "felzenszwalb": Method(
        felzenszwalb, FelzenszwalbConfig, "none", "regions", "regions that differ more outside than within"
    ),
}
