"""What every method here does first: look at the picture and the seeds, and refuse what is neither."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..errors import DataError

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601, section 2.5.1


class ClassicalConfig(BaseModel):
    """The settings of one method."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked_picture(image: np.ndarray) -> np.ndarray:
    """The picture as (H, W, C), its numbers untouched; bool becomes 0 and 1.

    image: (H, W) or (H, W, C) of bool, whole or floating numbers. Raises DataError for other shapes, for other kinds of
    number, and for what is not a number or infinite.
    """
    picture = np.asarray(image)
    picture = picture[..., None] if picture.ndim == 2 else picture
    if picture.ndim != 3 or picture.size == 0:
        raise DataError(f"a picture has the shape (H, W) or (H, W, C), but the array has {np.shape(image)}.")
    if picture.dtype.kind == "b":
        return picture.astype(np.uint8)
    if picture.dtype.kind not in "iuf":
        raise DataError(f"a picture holds whole or floating numbers, but the array is {picture.dtype}; convert it.")
    if picture.dtype.kind == "f" and not np.isfinite(picture).all():
        share = 1 - np.isfinite(picture).mean()
        raise DataError(
            f"the picture holds NaN or infinite values ({share:.2%} of them); replace them with numbers first."
        )
    return picture


def in_unit_range(image: np.ndarray) -> np.ndarray:
    """The picture (H, W, C) as float64 in [0, 1].

    uint8 is divided by 255 and uint16 by 65535; floats in [0, 1] and bool stay. Any other picture is stretched so that
    its smallest number becomes 0 and its largest 1 (a constant one becomes 0).
    """
    picture = checked_picture(image)
    if np.asarray(image).dtype.kind == "b":
        return picture.astype(np.float64)
    if picture.dtype in (np.uint8, np.uint16):
        return picture / float(np.iinfo(picture.dtype).max)
    values = picture.astype(np.float64)
    low, high = values.min(), values.max()
    if picture.dtype.kind == "f" and low >= 0 and high <= 1:
        return values
    half = high / 2 - low / 2  # the whole span of floats would overflow
    return (values / 2 - low / 2) / half if half > 0 else np.zeros_like(values)


def brightness(image: np.ndarray) -> np.ndarray:
    """(H, W) float64 in [0, 1]: red, green and blue by the weights of ITU-R BT.601; the mean of any other number of
    channels. The range is that of `in_unit_range`."""
    picture = in_unit_range(image)
    if picture.shape[2] == 3:
        return np.asarray(picture @ GREY_WEIGHTS)
    return np.asarray(picture.mean(axis=2))


def smoothed(picture: np.ndarray, sigma: float) -> np.ndarray:
    """The picture (H, W) or (H, W, C) blurred by a Gauss of `sigma` pixels, each channel by itself; 0: as it is."""
    from scipy import ndimage

    if sigma == 0:
        return picture
    return np.asarray(ndimage.gaussian_filter(picture, (sigma, sigma, 0)[: picture.ndim], mode="nearest"))


def checked_seeds(seeds: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The seeds as (H, W) int32: 0 where nobody said anything, else the label, 1 or more.

    Raises DataError for another size than the picture's (height, width), for numbers below 0 or that are not whole,
    and for seeds of which none is set.
    """
    given = np.asarray(seeds)
    given = given[..., 0] if given.ndim == 3 and given.shape[2] == 1 else given
    if given.shape != size:
        raise DataError(
            f"the seeds are {_by(given.shape)}, but their picture is {_by(size)} (height x width); draw the seeds on "
            "the picture itself, one number a pixel."
        )
    if given.dtype.kind not in "iubf" or (given.dtype.kind == "f" and not (given == np.rint(given)).all()):
        raise DataError(f"seeds are whole numbers, 0 where nobody knows, but these are {given.dtype}; convert them.")
    low, high = int(given.min()), int(given.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        raise DataError(f"seeds are 0 where nobody knows, else 1 or more, but these hold {low}..{high}; number them.")
    if high == 0:
        raise DataError(
            "the seeds are 0 everywhere, so there is nothing to grow from; mark some pixels of each region with 1, 2, …"
        )
    return given.astype(np.int32)


def in_order(labels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The labels 0..count-1 numbered anew, so that the mean of `values` rises with them; a label without pixels goes
    to the end. Both (H, W)."""
    sizes = np.bincount(labels.ravel(), minlength=count)
    sums = np.bincount(labels.ravel(), weights=values.ravel(), minlength=count)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    rank = np.empty(count, np.int32)
    rank[np.argsort(means, kind="stable")] = np.arange(count, dtype=np.int32)
    return rank[labels]


def two_sides(inside: np.ndarray, values: np.ndarray, objects: str) -> np.ndarray:
    """(H, W) int32: 1 for the side of a division (H, W) bool whose mean of `values` is higher (`objects` "bright") or
    lower ("dark"), 0 for the other; all 0 where there is only one side."""
    if inside.all() or not inside.any():
        return np.zeros(inside.shape, np.int32)
    is_brighter = values[inside].mean() > values[~inside].mean()
    return np.asarray(inside == (is_brighter == (objects == "bright"))).astype(np.int32)


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(str(each) for each in size)
