"""The nouns that travel through the program, and their shapes.

B pictures in a batch, C channels, H x W pixels, K classes, N objects in one picture.

On the CPU a picture is an array as it was read, channels last, `uint8`, `uint16` or `float32`: one byte a value
while it is kept and augmented, not four. In a batch it is float32 in [0, 1], channels first (`Batch.images`).
A mask holds class numbers 0..K-1, and IGNORE where nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .errors import DataError

if TYPE_CHECKING:  # a shell that only reads or checks files never pays for torch
    import torch
    from torch import Tensor

IGNORE = -1  #: a pixel nobody labelled; 255 in 8-bit mask files, 65535 in 16-bit ones

Image = np.ndarray  #: (H, W, C) uint8, uint16 or float32 in [0, 1]
Mask = np.ndarray  #: (H, W) int16, 0..K-1 or IGNORE
Labels = np.ndarray  #: (K, H, W) int8, 1 where the class is, 0 where not, IGNORE where unknown


@dataclass(frozen=True)
class Classes:
    """What a mask's numbers mean: one name and one colour a class, and whether classes may overlap."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # red, green, blue, 0..255
    overlapping: bool = False  # True: multi-label, a pixel may be of several classes or of none

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colours):
            raise DataError(
                f"{len(self.names)} class names but {len(self.colours)} colours; give each class one of each."
            )
        if len(set(self.names)) != len(self.names):
            raise DataError(
                f"class names must differ from each other, but they are {list(self.names)}; rename the doubles."
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def named(cls, names: Sequence[str], overlapping: bool = False) -> Self:
        """Classes with colours of our choosing: well apart, background (the first, if so named) black."""
        return cls(tuple(names), tuple(default_colours(len(names))), overlapping)

    def palette(self) -> list[int]:
        """768 numbers for an 8-bit palette picture: each class's colour, IGNORE (255) white."""
        flat = [value for colour in self.colours[:255] for value in colour]
        return flat + [0] * (765 - len(flat)) + [255, 255, 255]


def default_colours(count: int) -> list[tuple[int, int, int]]:
    """`count` colours, black first; the next well apart in hue and lightness (golden-angle hues)."""
    import colorsys

    colours = [(0, 0, 0)]
    for i in range(count - 1):
        red, green, blue = colorsys.hls_to_rgb((0.03 + i * 0.618034) % 1, (0.5, 0.62, 0.4)[i % 3], 0.75)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours[:count]


@dataclass(frozen=True)
class Instances:
    """The N objects of one picture, best score first where there are scores. Class 0 is the background, so that objects
    are of class 1..K-1 of the list of classes."""

    label_image: np.ndarray  # (H, W) int32, 0 = background, 1..N = the objects, IGNORE where nobody knows
    classes: np.ndarray  # (N,) int16, 1..K-1
    scores: np.ndarray | None = None  # (N,) float32 in [0, 1]; None for ground truth
    #: (N,) arrays (R,) int64: pixels outside, inside, outside, ... column by column, as in COCO, of each whole object,
    #: where objects overlap; None: the label image shows each whole
    runs: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def mask(self) -> Mask:
        """(H, W) int16: the class of each pixel's object, 0 where there is none, IGNORE where nobody knows."""
        of_number = np.concatenate([[0], self.classes, [IGNORE]]).astype(np.int16)  # -1 finds the last
        return of_number[self.label_image]


@dataclass(frozen=True)
class Detections:
    """N objects of one picture that were found one by one, and may overlap; nothing is a mask of the whole picture."""

    size: tuple[int, int]  # height and width of the picture, pixels
    boxes: np.ndarray  # (N, 4) int64: left, top, right, bottom in pixels; right and bottom are outside; in the picture
    classes: np.ndarray  # (N,) int16, 1..K-1
    scores: np.ndarray  # (N,) float32 in [0, 1]
    masks: tuple[np.ndarray, ...]  # (N,) arrays (bottom - top, right - left) bool: where in its box the object is

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Sample:
    """One picture on the CPU at its own size, and what is known about it."""

    name: str
    image: Image
    mask: Mask | None = None  # None: unlabelled (or `labels` is given, where classes overlap)
    labels: Labels | None = None
    instances: Instances | None = None
    raters: tuple[Mask, ...] = ()  # several people's masks of the same picture
    category: int | None = None  # what the picture as a whole shows, 0..; None: nobody said

    @property
    def labelled(self) -> bool:
        return self.mask is not None or self.labels is not None or self.instances is not None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def without_labels(self) -> Sample:
        return Sample(self.name, self.image, category=self.category)


@dataclass(frozen=True)
class Batch:
    """B pictures of one size as tensors. An unlabelled picture is one whose mask is all IGNORE."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    masks: Tensor | None = None  # (B, H, W) int64, 0..K-1 or IGNORE; None where classes overlap
    labels: Tensor | None = None  # (B, K, H, W) float32, 0, 1 or IGNORE; None where classes exclude each other
    labelled: Tensor | None = None  # (B,) bool: which pictures have a mask
    categories: Tensor | None = None  # (B,) int64: what each picture as a whole shows, or IGNORE
    names: tuple[str, ...] = ()
    objects: Tensor | None = None  # (B, H, W) int64: label images, 0 = background, 1..N = objects, IGNORE = unknown
    object_classes: tuple[Tensor, ...] = ()  # B of (N,) int64: the class of each object, 1..K-1

    def __len__(self) -> int:
        return len(self.images)

    def select(self, which: Tensor) -> Batch:
        """Those of the pictures for which `which` (B,) bool is True, in their order."""
        numbers = which.nonzero().flatten()
        parts = (self.masks, self.labels, self.labelled, self.categories, self.objects)
        masks, labels, labelled, categories, objects = (None if part is None else part[numbers] for part in parts)
        names = tuple(self.names[number] for number in numbers.tolist()) if self.names else ()
        classes = tuple(self.object_classes[number] for number in numbers.tolist()) if self.object_classes else ()
        return Batch(self.images[numbers], masks, labels, labelled, categories, names, objects, classes)

    def to(self, device: torch.device | str) -> Batch:
        moved: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "object_classes":
                value = tuple(classes.to(device, non_blocking=True) for classes in value)
            moved[each.name] = value.to(device, non_blocking=True) if hasattr(value, "to") else value
        return replace(self, **moved)


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture, at the picture's own size. It can draw and save itself."""

    name: str
    image: Image = field(repr=False)
    classes: Classes = field(repr=False)
    probabilities: np.ndarray = field(repr=False)  # (K, H, W) float32 in [0, 1]; exclusive classes sum to 1

    @cached_property
    def mask(self) -> Mask:
        """(H, W) int16: the likeliest class of each pixel; where classes overlap, the likeliest of those above 0.5,
        and IGNORE where there is none."""
        best = self.probabilities.argmax(axis=0).astype(np.int16)
        if self.classes.overlapping:
            best[self.probabilities.max(axis=0) <= 0.5] = IGNORE
        return best

    @cached_property
    def labels(self) -> Labels:
        """(K, H, W) int8: 1 where a class is said to be."""
        if self.classes.overlapping:
            return (self.probabilities > 0.5).astype(np.int8)
        return (self.mask[None] == np.arange(len(self.classes))[:, None, None]).astype(np.int8)

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]: the entropy of the classes over its largest possible value; where classes
        overlap, the largest of the classes' own."""
        p = np.clip(self.probabilities, 1e-12, 1)
        if self.classes.overlapping or len(p) == 1:
            q = np.clip(1 - self.probabilities, 1e-12, 1)
            return (-(p * np.log2(p) + q * np.log2(q))).max(axis=0).astype(np.float32)
        return (-(p * np.log(p)).sum(axis=0) / np.log(len(p))).clip(0, 1).astype(np.float32)

    def share(self) -> dict[str, float]:
        """Each class's share of the picture's pixels, in [0, 1]."""
        return {name: float(plane.mean()) for name, plane in zip(self.classes.names, self.labels, strict=True)}

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """(H, W, 3) uint8: the picture with the classes laid over it in their colours, their borders drawn."""
        from .drawing import overlay

        return overlay(self.image, self.mask, self.classes, opacity)

    def save(self, path: str | Path) -> Path:
        """Write the mask as a palette PNG (16-bit above 255 classes; IGNORE is 255 or 65535). Returns the path."""
        from .drawing import write_mask

        return write_mask(Path(path), self.mask, self.classes)

    def _repr_png_(self) -> bytes:
        from .drawing import encode_png

        return encode_png(self.overlay())


@dataclass(frozen=True)
class ObjectPrediction:
    """The objects of one picture, at the picture's own size. It can draw and save itself."""

    name: str
    image: Image = field(repr=False)
    classes: Classes = field(repr=False)  # the background first
    instances: Instances = field(repr=False)

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self.instances)

    @cached_property
    def mask(self) -> Mask:
        """(H, W) int16: the class of each pixel's object, 0 where there is none."""
        return self.instances.mask

    def count(self) -> dict[str, int]:
        """How many objects there are of each class."""
        counts = np.bincount(self.instances.classes, minlength=len(self.classes))
        return {name: int(counts[number]) for number, name in enumerate(self.classes.names) if number > 0}

    def overlay(self, opacity: float = 0.35) -> np.ndarray:
        """(H, W, 3) uint8: the picture with each object outlined and tinted in a colour of its own."""
        from .drawing import object_overlay

        return object_overlay(self.image, self.instances.label_image, opacity)

    def save(self, path: str | Path) -> Path:
        """Write the label image as PNG or TIFF, 0 = background: 16 bits up to 65535 objects, 32 (TIFF) beyond. Returns
        the path."""
        from .drawing import write_label_image

        return write_label_image(Path(path), self.instances.label_image)

    def _repr_png_(self) -> bytes:
        from .drawing import encode_png

        return encode_png(self.overlay())
