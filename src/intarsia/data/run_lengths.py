"""Objects as run lengths, the way COCO writes them: pixels outside, inside, outside, ... column by column.

The format is described at https://cocodataset.org/#format-data; how its compressed text is read stands in `coco.py`.
All objects of a label image are found in one pass over its pixels, a strip of columns at a time: neither the time nor
the memory depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..errors import DataError

STRIP = 1 << 22  # pixels that are gone through at a time


def run_lengths(label_image: np.ndarray, count: int | None = None) -> tuple[np.ndarray, ...]:
    """The run lengths (R,) int64 of objects 1..N of a label image (H, W), N = `count`, or None: its largest number.

    They sum to H W. A number that does not occur has the one run H W. What is 0 or below is of no object. Raises
    DataError for what is no label image.
    """
    _require_label_image(label_image)
    height, width = label_image.shape
    starts, values = _runs(label_image)
    ends = np.append(starts[1:], height * width)
    inside = values > 0
    starts, ends, values = starts[inside], ends[inside], values[inside]
    count = int(values.max(initial=0)) if count is None else count
    order = np.argsort(values, kind="stable")
    order = order[: np.searchsorted(values[order], count, side="right")]
    borders = np.stack([starts[order], ends[order]], axis=1)  # (S, 2) where a run of an object begins and ends
    places = np.searchsorted(values[order], np.arange(1, count + 2))
    return tuple(_lengths(borders[first:after].ravel(), height * width) for first, after in pairwise(places))


def run_lengths_in_box(mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """The run lengths (R,) int64 in a picture of `size` (height, width) of an object whose box begins at `left`, `top`
    and holds it as `mask` (h, w) bool. Raises DataError for a box that is not within the picture."""
    height, width = mask.shape
    if min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
        raise DataError(
            f"a box of {width} x {height} pixels at ({left}, {top}) is not within a picture of {size[1]} x {size[0]}; "
            "cut it to the picture first."
        )
    padded = np.zeros((width, height + 2), bool)  # no run goes on in the next column here
    padded[:, 1:-1] = mask.T
    column, row = np.nonzero(padded[:, 1:] != padded[:, :-1])
    borders = (column + left) * size[0] + row + top
    if height == size[0] and len(borders):  # ... as it does where an object fills columns
        joined = borders[1:-1].reshape(-1, 2)
        borders = np.concatenate([borders[:1], joined[joined[:, 0] < joined[:, 1]].ravel(), borders[-1:]])
    return _lengths(borders, size[0] * size[1])


def label_image_of(runs: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(H, W) int32: object n where the n-th of `runs` is, 0 where none is; of several the last. The inverse of
    `run_lengths`. `size`: height and width. Raises DataError for runs of another size."""
    flat = np.zeros(size[0] * size[1], np.int32)
    for number, each in enumerate(runs, start=1):
        flat[_places(each, size)] = number
    return np.ascontiguousarray(flat.reshape(size[1], size[0]).T)


def box_of(runs: np.ndarray, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels, the last two outside, of the object in a picture of `height`; four 0 where
    there is no pixel of it."""
    starts, ends = _borders(runs)
    if not len(starts):
        return 0, 0, 0, 0
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height + 1)
    if (starts // height != (ends - 1) // height).any():  # a run that goes on in the next column
        return left, 0, right, height
    return left, int((starts % height).min()), right, int(((ends - 1) % height).max() + 1)


def area_of(runs: np.ndarray) -> int:
    """How many pixels the object has."""
    return int(runs[1::2].sum())


def mask_in_box(runs: np.ndarray, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Left and top of the object's box, and the mask (h, w) bool in it; (0, 0) where there is no pixel of it. `size`:
    height and width of the picture."""
    left, top, right, bottom = box_of(runs, size[0])
    mask = np.zeros((right - left, bottom - top), bool)
    column, row = np.divmod(_places(runs, size), size[0])
    mask[column - left, row - top] = True
    return left, top, np.ascontiguousarray(mask.T)


def encode_counts(runs: np.ndarray) -> str:
    """The run lengths (R,) as COCO's compressed text; `coco.decode_counts` reads it."""
    numbers = np.asarray(runs, np.int64)
    if not len(numbers):
        return ""
    numbers = np.concatenate([numbers[:3], numbers[3:] - numbers[1:-2]])
    size = np.where(numbers < 0, ~numbers, numbers)  # bits beside the sign
    groups = 1 + (size[:, None] >> (5 * np.arange(1, 8) - 1) > 0).sum(axis=1)
    place = np.arange(int(groups.max()))
    bits = (numbers[:, None] >> (5 * place)) & 31
    bits |= 32 * (place < groups[:, None] - 1)  # another group follows
    return (bits + 48)[place < groups[:, None]].astype(np.uint8).tobytes().decode("ascii")


def _require_label_image(label_image: np.ndarray) -> None:
    if label_image.ndim != 2 or label_image.dtype.kind not in "iub":
        raise DataError(
            f"a label image has two axes and whole numbers, this one {label_image.ndim} axes of {label_image.dtype}."
        )


def _runs(label_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of one number begin, column by column, and the number of each."""
    height, width = label_image.shape
    step = max(1, STRIP // max(1, height))
    starts, values = [], []
    before = None
    for column in range(0, width if height else 0, step):
        flat = label_image[:, column : column + step].T.ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if before is None or flat[0] != before:
            changes = np.insert(changes, 0, 0)
        starts.append(changes + column * height)
        values.append(flat[changes])
        before = flat[-1]
    if not starts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(starts), np.concatenate(values).astype(np.int64)


def _lengths(borders: np.ndarray, pixels: int) -> np.ndarray:
    """Run lengths from where runs inside begin and end, in turns."""
    lengths = np.diff(borders, prepend=0, append=pixels)
    return (lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths).astype(np.int64)


def _borders(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs inside begin and where they end, those of no length left out."""
    ends = np.cumsum(runs)
    inside = runs[1::2] > 0
    return (ends[1::2] - runs[1::2])[inside], ends[1::2][inside]


def _places(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(P,) the object's pixels, counted column by column."""
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise DataError(
            f"run lengths that sum to {runs.sum()} are no object of a picture of {size[1]} x {size[0]} pixels."
        )
    starts, ends = _borders(runs)
    lengths = ends - starts
    return np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
