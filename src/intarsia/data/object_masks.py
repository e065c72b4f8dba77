"""Objects painted one after the other into one label image; from N binary masks, without ever holding all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Instances


@dataclass(frozen=True)
class Layered:
    """The visible objects of one picture, and what became of those that were given."""

    instances: Instances
    names: tuple[str, ...]  # (N,) what each object is called in its file: its number, its annotation's id, its file
    covered: int = 0  # pixels that more than one object claims; the later one has them
    hidden: tuple[str, ...] = ()  # names of objects without a visible pixel, which are left out
    doubles: tuple[tuple[str, str], ...] = ()  # names of two objects of exactly the same pixels
    pending: int = 0  # pixels of a class without an object: a crowd, or a number that is only a class


class Layers:
    """A label image (H, W) that grows object by object: a later one lies over the earlier ones."""

    def __init__(self, size: tuple[int, int]):
        self.label_image = np.zeros(size, np.int32)
        self.pending = 0
        self._classes: list[int] = []
        self._names: list[str] = []
        self._covered = 0
        self._digests: dict[bytes, str] = {}
        self._doubles: list[tuple[str, str]] = []

    def unknown(self, inside: np.ndarray, top: int = 0, left: int = 0) -> None:
        """Mark as IGNORE what `inside` (h, w) bool covers at (top, left), where there is no object yet."""
        window = self._window(inside, top, left)
        window[inside & (window == 0)] = IGNORE
        self.pending += int(np.count_nonzero(inside))

    def add(self, inside: np.ndarray, class_: int, name: str, top: int = 0, left: int = 0) -> None:
        """Lay an object of `class_`, 1..K-1, on top: `inside` (h, w) bool at (top, left), within the picture."""
        window = self._window(inside, top, left)
        self._covered += int(np.count_nonzero(window[inside] > 0))
        self._classes.append(class_)
        self._names.append(name)
        window[inside] = len(self._classes)
        if inside.any():
            where = f"{top} {left} {inside.shape}".encode()
            digest = hashlib.blake2b(where + np.packbits(inside).tobytes(), digest_size=16).digest()
            first = self._digests.setdefault(digest, name)
            if first != name:
                self._doubles.append((first, name))

    def result(self) -> Layered:
        """What is visible, numbered 1..N in the order of adding."""
        from .objects import numbered  # scikit-image, half a second that only folders of objects need pay

        counts = np.bincount(np.maximum(self.label_image, 0).ravel(), minlength=len(self._classes) + 1)[1:]
        instances = numbered(self.label_image, np.array(self._classes, np.int16))
        shown = tuple(name for name, count in zip(self._names, counts, strict=True) if count)
        hidden = tuple(name for name, count in zip(self._names, counts, strict=True) if not count)
        return Layered(instances, shown, self._covered, hidden, tuple(self._doubles), self.pending)

    def _window(self, inside: np.ndarray, top: int, left: int) -> np.ndarray:
        height, width = inside.shape
        window = self.label_image[top : top + height, left : left + width]
        if window.shape != inside.shape:
            size = self.label_image.shape
            raise DataError(
                f"an object of {width} x {height} pixels at ({left}, {top}) leaves its picture of {size[1]} x "
                f"{size[0]} pixels (width x height); cut it at the picture's edge."
            )
        return window


def objects_from_masks(masks: np.ndarray | Iterable[np.ndarray], classes: Sequence[int] | None = None) -> Instances:
    """The objects of N binary masks of one picture: an array (N, H, W), or (H, W) arrays one after the other, of bool
    or of numbers that are 0 outside.

    A later mask lies over the earlier ones, and an object of which no pixel stays visible is left out; `layered` says
    how many. classes: (N,) in 1..K-1; None: all are of class 1. Raises DataError for masks of several sizes, for no
    mask at all (whose size nobody knows; an array (0, H, W) is a picture without objects), and where there is not one
    class a mask.

        >>> objects_from_masks(np.array([[[1, 1, 0]], [[0, 1, 1]]])).label_image.tolist()
        [[1, 2, 2]]
    """
    return layered(masks, classes).instances


def layered(masks: np.ndarray | Iterable[np.ndarray], classes: Sequence[int] | None = None) -> Layered:
    """As `objects_from_masks`, with the pixels that several claim and the objects that nobody sees; called 1..N."""
    layers: Layers | None = None
    if isinstance(masks, np.ndarray):
        if masks.ndim != 3:
            raise DataError(f"masks of one picture are an array (N, H, W), this one is of shape {masks.shape}.")
        layers = Layers((masks.shape[1], masks.shape[2]))
    count = 0
    for mask in masks:
        if mask.ndim != 2 or mask.dtype.kind not in "biuf":
            raise DataError(
                f"a binary mask is (H, W) of bool or numbers, mask {count} is {mask.shape} of {mask.dtype}."
            )
        layers = layers or Layers((mask.shape[0], mask.shape[1]))
        if mask.shape != layers.label_image.shape:
            raise DataError(f"masks of one picture have one size, but {layers.label_image.shape} and {mask.shape}.")
        if classes is not None and (count >= len(classes) or classes[count] < 1):
            raise DataError(f"mask {count} needs a class of 1 or more; {len(classes)} classes were given: {classes!r}.")
        box, inside = cropped(mask != 0)
        layers.add(inside, 1 if classes is None else int(classes[count]), str(count + 1), *box)
        count += 1
    if layers is None:
        raise DataError("there is no mask, so the picture's size is not known; give an array of shape (0, H, W).")
    if classes is not None and len(classes) != count:
        raise DataError(f"{len(classes)} classes were given for {count} masks; give one a mask.")
    return layers.result()


def cropped(plane: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """((top, left), the part) of a plane (H, W) bool that holds all that is True; of shape (0, 0) where nothing is."""
    rows = np.flatnonzero(plane.any(axis=1))
    if not len(rows):
        return (0, 0), plane[:0, :0]
    columns = np.flatnonzero(plane[rows[0] : rows[-1] + 1].any(axis=0))
    return (int(rows[0]), int(columns[0])), plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
