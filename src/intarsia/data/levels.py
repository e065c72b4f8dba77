"""Pictures whose brightness says nothing: each is stretched between its own darkest and brightest pixels.

What a microscope's exposure or an MRI's gain has made dark is then as bright as the rest. Schmidt, Weigert et al.
(StarDist, 2018, https://arxiv.org/abs/1806.03535) and Stringer et al. (Cellpose, 2021,
https://doi.org/10.1038/s41592-020-01018-x) do the same. Where we differ: the limits are those of all channels together,
so that colours stay; and what lies beyond them is cut off, so that stretching twice is stretching once.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..records import Image

DARKEST, BRIGHTEST = 1.0, 99.8  # percentiles that become 0 and the full range
LOOKED_AT = 1024  # rows and columns of a picture, at most, that are counted, evenly spread


class Sliceable(Protocol):
    """An array (H, W, C), or what reads a part of itself when sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


class Stretched:
    """A picture that is stretched where it is looked at."""

    def __init__(self, image: Sliceable) -> None:
        self.image = image
        self.low, self.high = limits(image)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    def __getitem__(self, key: Any, /) -> Image:
        return stretched(np.asarray(self.image[key]), self.low, self.high)


def limits(image: Sliceable) -> tuple[float, float]:
    """The values of a picture that become the darkest and the brightest one; of at most about a million pixels."""
    rows, columns = (max(1, side // LOOKED_AT) for side in image.shape[:2])
    low, high = np.percentile(np.asarray(image[::rows, ::columns]), (DARKEST, BRIGHTEST))
    return float(low), float(high)


def stretched(image: Image, low: float | None = None, high: float | None = None) -> Image:
    """A picture (H, W, C) of the same type, `low` and what is darker 0, `high` and what is brighter the full range;
    None: its own `limits`. A picture of one value stays as it is."""
    if low is None or high is None:
        low, high = limits(image)
    if high <= low:
        return image
    full = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    if image.dtype.kind == "f":
        return ((image - np.float32(low)) * np.float32(full / (high - low))).clip(0, 1)
    levels = np.arange(int(full) + 1, dtype=np.float32)
    table = ((levels - low) * (full / (high - low))).clip(0, full).round().astype(image.dtype)
    return table[image]
