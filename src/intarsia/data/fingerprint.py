"""What a set of pictures is like, in a few numbers: what a plan for training is made from.

The idea of a fingerprint is Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation, Nature Methods 2021. The numbers are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import find_objects

from ..records import IGNORE, Instances, Mask, Sample
from .classes import ClassTable

SMALLEST_OBJECT = 4  # pixels; what is smaller is taken for specks of a brush, and not measured


@dataclass(frozen=True)
class Fingerprint:
    """Sizes, channels, classes and objects of a set of pictures. Sizes and diameters are in pixels.

    An object is a connected component of a class's pixels, its size the diameter of the disk with the same area. The
    objects are weighted by their area, since a mask has many more specks than objects that anybody cares for. Where
    labels tell objects apart, these are what is measured, and in `objects` and the numbers below each counts as one.
    """

    pictures: int
    labelled: int
    smallest: tuple[int, int]  # height and width of the picture of smallest area
    median: tuple[int, int]  # … of median area
    largest: tuple[int, int]
    channels: int  # of most pictures
    dtype: str  # of most pictures: "uint8", "uint16" or "float32"
    mean: tuple[float, ...]  # a channel, of the pictures with that many channels, in [0, 1]
    deviation: tuple[float, ...]  # standard deviation of the pixels, likewise
    class_pixels: tuple[int, ...]  # a class, over all masks
    class_pictures: tuple[int, ...]  # in how many pictures each class is seen
    ignore_share: float  # share of the masks' pixels that nobody labelled, in [0, 1]
    diameters: tuple[
        float | None, ...
    ]  # a class: median over its objects of the disk's diameter that has the same area
    small_diameters: tuple[float | None, ...]  # likewise, the 10th percentile; None: no objects
    objects: int = 0  # told apart in all masks; 0 as well where objects were not asked for
    objects_median: float | None = None  # … in a labelled picture; None: objects were not asked for
    objects_most: int = 0
    object_side: float | None = None  # the longer side of an object's box: median over all objects
    object_sides: tuple[float, float] | None = None  # … its 5th and 95th percentile
    labelled_in: dict[str, int] = field(default_factory=dict)  # labelled pictures of each list ("train", "val", "test")

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of the labelled pixels, in [0, 1]; zeros where nothing is labelled."""
        total = sum(self.class_pixels)
        return tuple(pixels / total if total else 0.0 for pixels in self.class_pixels)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shares": self.shares}


@dataclass(frozen=True)
class Measures:
    """The same of one picture, so that pictures can be measured in any order and in threads."""

    name: str
    size: tuple[int, int]
    dtype: str
    mean: np.ndarray  # (C,) float64 in [0, 1]
    variance: np.ndarray  # (C,) float64
    constant: bool  # every pixel has the same value
    class_pixels: np.ndarray | None = None  # (K,) int64; None: unlabelled
    ignored: int = 0  # pixels of the mask that nobody labelled
    diameters: tuple[np.ndarray, ...] = ()  # a class: (objects,) float64
    objects: np.ndarray | None = None  # (N, 2) int64: height and width of each object's box; None: not asked for


def fingerprint(samples: Iterable[Sample], table: ClassTable) -> Fingerprint:
    """The fingerprint of the samples; each is looked at once and let go."""
    return combine((measure(sample, len(table.classes)) for sample in samples), len(table.classes))


def measure(sample: Sample, classes: int) -> Measures:
    """One picture's numbers. `classes`: how many there are."""
    image = sample.image
    full = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    statistics = [cv2.meanStdDev(image[..., channel]) for channel in range(image.shape[2])]
    mean = np.array([each.item() for each, _ in statistics]) / full
    variance = np.array([each.item() for _, each in statistics]) ** 2 / full**2
    constant = bool((image == image[0, 0]).all())
    known: dict[str, Any] = {}
    if sample.labels is not None:
        planes = [plane == 1 for plane in sample.labels]
        known = {"class_pixels": np.array([int(plane.sum()) for plane in planes], np.int64)}
        known["ignored"] = int((sample.labels == IGNORE).all(axis=0).sum())
        known["diameters"] = tuple(object_diameters(plane) for plane in planes)
    elif sample.mask is not None:
        counts = class_counts(sample.mask, classes)
        known = {"class_pixels": counts, "ignored": int((sample.mask == IGNORE).sum())}
        known["diameters"] = tuple(
            object_diameters(sample.mask == k) if counts[k] else np.empty(0) for k in range(classes)
        )
    if sample.instances is not None:
        known["objects"] = object_boxes(sample.instances.label_image)
        known["diameters"] = _told_apart(sample.instances, known["diameters"])
    return Measures(sample.name, sample.size, str(image.dtype), mean, variance, constant, **known)


def combine(measures: Iterable[Measures], classes: int) -> Fingerprint:
    """The fingerprint of pictures that were measured one by one. `classes`: how many there are."""
    every = list(measures)
    known = [each for each in every if each.class_pixels is not None]
    sizes = sorted((each.size for each in every), key=lambda size: (size[0] * size[1], size)) or [(0, 0)]
    channels = _most_common([len(each.mean) for each in every], 0)
    alike = [each for each in every if len(each.mean) == channels]
    mean, deviation = _pooled(alike, channels)
    counts = np.array([each.class_pixels for each in known], np.int64).reshape(len(known), classes)
    objects = [np.concatenate([each.diameters[k] for each in known] or [np.empty(0)]) for k in range(classes)]
    area = sum(each.size[0] * each.size[1] for each in known)
    told = [each.objects for each in every if each.objects is not None]
    sides = np.concatenate([np.empty(0), *(boxes.max(axis=1) for boxes in told if len(boxes))])
    return Fingerprint(
        pictures=len(every),
        labelled=len(known),
        smallest=sizes[0],
        median=sizes[len(sizes) // 2],
        largest=sizes[-1],
        channels=channels,
        dtype=_most_common([each.dtype for each in every], "uint8"),
        mean=tuple(float(value) for value in mean),
        deviation=tuple(float(value) for value in deviation),
        class_pixels=tuple(int(value) for value in counts.sum(axis=0)),
        class_pictures=tuple(int(value) for value in (counts > 0).sum(axis=0)),
        ignore_share=sum(each.ignored for each in known) / area if area else 0.0,
        diameters=tuple(size_at(each, 0.5) for each in objects),
        small_diameters=tuple(size_at(each, 0.1) for each in objects),
        objects=len(sides),
        objects_median=float(np.median([len(boxes) for boxes in told])) if told else None,
        objects_most=max(map(len, told), default=0),
        object_side=float(np.median(sides)) if len(sides) else None,
        object_sides=(float(np.quantile(sides, 0.05)), float(np.quantile(sides, 0.95))) if len(sides) else None,
    )


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A mean or deviation for each of `channels`, or one for all: grey pictures among RGB ones are measured as grey,
    whose one number then stands for every channel; RGBA pictures among RGB ones go without their alpha."""
    return values[:channels] if len(values) >= channels else (float(np.mean(values)),)


def class_counts(mask: Mask, classes: int) -> np.ndarray:
    """(K,) int64: how many pixels of the mask are of each class; IGNORE is not counted."""
    return np.bincount(mask[mask >= 0].ravel(), minlength=classes)[:classes]


def object_diameters(plane: np.ndarray) -> np.ndarray:
    """(objects,) float64: diameters in pixels of the disks with the areas of the plane's connected components.

    `plane` (H, W) bool; pixels that touch at a corner are connected; components below SMALLEST_OBJECT are left out.
    """
    there = plane.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(there)
    if not width:
        return np.empty(0)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(there[y : y + height, x : x + width], connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA].astype(np.float64)
    return np.sqrt(4 / np.pi * areas[areas >= SMALLEST_OBJECT])


def _told_apart(instances: Instances, regions: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The diameters of each class's objects, of those that touch too, which its regions (a class) hold as one."""
    areas = np.bincount(np.maximum(instances.label_image, 0).ravel(), minlength=len(instances) + 1)[1:]
    diameters = np.sqrt(4 / np.pi * areas.astype(np.float64))
    large = areas >= SMALLEST_OBJECT
    return (*regions[:1], *(diameters[large & (instances.classes == k)] for k in range(1, len(regions))))


def object_boxes(label_image: np.ndarray) -> np.ndarray:
    """(N, 2) int64: height and width of the box around each object of a label image (H, W), in pixels."""
    found = [box for box in find_objects(np.maximum(label_image, 0)) if box is not None]
    boxes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in found]
    return np.array(boxes, np.int64).reshape(-1, 2)


def size_at(diameters: np.ndarray, share: float) -> float | None:
    """The diameter up to which the objects hold `share` of all objects' area; None where there are none."""
    if not diameters.size:
        return None
    ordered = np.sort(diameters)
    areas = np.cumsum(ordered**2)
    return float(ordered[np.searchsorted(areas, share * areas[-1])])


def _pooled(measures: list[Measures], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) over all pixels of all pictures: the variance within and between them."""
    if not measures:
        return np.zeros(channels), np.zeros(channels)
    weights = np.array([each.size[0] * each.size[1] for each in measures], np.float64)
    means = np.stack([each.mean for each in measures])
    mean = np.average(means, axis=0, weights=weights)
    within = np.average(np.stack([each.variance for each in measures]), axis=0, weights=weights)
    return mean, np.sqrt(within + np.average((means - mean) ** 2, axis=0, weights=weights))


def _most_common(values: list[Any], otherwise: Any) -> Any:
    return Counter(values).most_common(1)[0][0] if values else otherwise
