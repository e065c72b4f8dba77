"""Whether an exported file answers as PyTorch does, on pictures.

Two programs that add the same numbers in another order differ in the last bits, and where two classes are equally
likely that decides. So a pixel counts against a file only where PyTorch's own likeliest class is ahead by MARGIN.

Of objects one pixel may decide about two of them, where a bridge of it makes them one. So a pixel counts only where
PyTorch finds the same object there when its own maps are shaken by MARGIN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import NumericError
from ..metrics.matching import matched, overlaps
from ..records import Image, Instances
from .exported import ExportedPredictor
from .exported_objects import ExportedObjectPredictor
from .objects import ObjectPredictor
from .predictor import Predictor

MARGIN = 0.01  # of probability, by which the likeliest class is ahead of the next (where classes overlap: of 1/2)
LEAST = {"fp32": 0.9999, "fp16": 0.99}  # share of the clear pixels that must agree, by precision
LEAST_OF_OBJECTS = {"fp32": 0.999, "fp16": 0.98}  # likewise, of the same object: one decision is many pixels
FURTHEST = {"fp32": 1e-3, "fp16": 1e-2}  # mean difference of maps, as a share of their range


@dataclass(frozen=True)
class Parity:
    """How the answers of a file compare with PyTorch's."""

    pictures: int
    pixels: int
    agreement: float  # share of all pixels with the same class, [0, 1]
    clear: float  # the same among pixels where PyTorch is not undecided; 1 where there is none
    largest: float | None  # difference of two probabilities; None: the file gives none

    def require(self, precision: str) -> None:
        """Raises NumericError where the answers differ by more than rounding."""
        if self.clear < LEAST[precision]:
            raise NumericError(
                f"the exported file gives another class than PyTorch at {1 - self.clear:.3%} of the pixels where "
                f"PyTorch is sure ({1 - LEAST[precision]:.3%} may differ in {precision}); nothing was written. Please "
                "report it, or try another --format."
            )

    def __str__(self) -> str:
        more = "" if self.largest is None else f"; probabilities differ by at most {self.largest:.2g}"
        return (
            f"same class as PyTorch at {self.agreement:.4%} of {self.pixels:,} pixels in {self.pictures} "
            f"picture{'s' * (self.pictures != 1)}{more}"
        )


def compared(reference: Predictor, exported: ExportedPredictor, pictures: Sequence[Image]) -> Parity:
    """Both asked for the same pictures (H, W, C), each of any kind of number that the file takes."""
    pixels = same = clear = clear_same = 0
    largest = 0.0 if exported.gives_probabilities else None
    for image in pictures:
        ours, theirs = reference.predict(image), exported.predict(image)
        equal = ours.mask == theirs.mask
        sure = margin(ours.probabilities, ours.classes.overlapping) >= MARGIN
        pixels, same = pixels + equal.size, same + int(equal.sum())
        clear, clear_same = clear + int(sure.sum()), clear_same + int(equal[sure].sum())
        if largest is not None:
            largest = max(largest, float(np.abs(ours.probabilities - theirs.probabilities).max()))
    return Parity(len(pictures), pixels, same / max(pixels, 1), clear_same / clear if clear else 1.0, largest)


@dataclass(frozen=True)
class ObjectParity:
    """How the objects of a file compare with PyTorch's."""

    pictures: int
    pixels: int
    objects: int  # that PyTorch finds
    found: int  # of these, by the file: of the same class, with an IoU of 1/2 and more
    agreement: float  # share of all pixels with the same object, or with none in both, [0, 1]
    clear: float  # the same among pixels where PyTorch is not undecided; 1 where there is none
    off: float  # mean difference of the maps, as a share of their range (of at least 1)

    def require(self, precision: str) -> None:
        """Raises NumericError where the answers differ by more than rounding."""
        if self.clear < LEAST_OF_OBJECTS[precision] or not self.off <= FURTHEST[precision]:
            raise NumericError(
                f"the exported file gives another object than PyTorch at {1 - self.clear:.3%} of the pixels where "
                f"PyTorch is sure ({1 - LEAST_OF_OBJECTS[precision]:.3%} may differ in {precision}), and maps that are "
                f"off by {self.off:.2g} in the mean ({FURTHEST[precision]:g} may be); nothing was written. Please "
                "report it, or try another --format."
            )

    def __str__(self) -> str:
        return (
            f"same object as PyTorch at {self.agreement:.4%} of {self.pixels:,} pixels in {self.pictures} "
            f"picture{'s' * (self.pictures != 1)}, {self.found:,} of {self.objects:,} objects; maps differ by "
            f"{self.off:.2g} of their range in the mean"
        )


def compared_objects(
    reference: ObjectPredictor, exported: ExportedObjectPredictor, pictures: Sequence[Image]
) -> ObjectParity:
    """Both asked for the objects of the same pictures (H, W, C), each of any kind of number that the file takes."""
    pixels = same = clear = clear_same = objects = found = 0
    off = 0.0
    random = np.random.default_rng(0)
    for image in pictures:
        maps, others = reference.answer(image), exported.answer(image)
        assert isinstance(maps, np.ndarray)
        ranges = np.abs(maps).max(axis=(1, 2), keepdims=True).clip(1)  # M 1 1
        ours = reference.model.objects(maps, reference.thresholds)
        theirs = exported.objects_of_maps(others)
        equal, partners = same_object(ours, theirs)
        shake = (MARGIN * ranges * random.uniform(-1, 1, maps.shape)).astype(np.float32)
        sure = np.ones(equal.shape, bool)
        for shaken in (maps + shake, maps - shake):  # what stands on an edge falls to one of the sides
            sure &= same_object(ours, reference.model.objects(shaken, reference.thresholds))[0]
        pixels, same = pixels + equal.size, same + int(equal.sum())
        clear, clear_same = clear + int(sure.sum()), clear_same + int(equal[sure].sum())
        objects, found = objects + len(ours), found + partners
        off += float((np.abs(maps - others) / ranges).mean()) / len(pictures)
    share = clear_same / clear if clear else 1.0
    return ObjectParity(len(pictures), pixels, objects, found, same / max(pixels, 1), share, off)


def same_object(ours: Instances, theirs: Instances) -> tuple[np.ndarray, int]:
    """(H, W) bool: where both have the same object, or both none; and how many objects both have.

    Two are the same if they are of one class and their IoU is 1/2 and more, each being the same as one at most.
    """
    pairs = overlaps(ours.label_image, theirs.label_image)
    chosen = pairs.pairs[matched(pairs)]
    mine, its = pairs.true[chosen[:, 0]], pairs.predicted[chosen[:, 1]]
    alike = ours.classes[mine - 1] == theirs.classes[its - 1]
    partner = np.full(int(ours.label_image.max(initial=0)) + 1, -1)
    partner[0] = 0
    partner[mine[alike]] = its[alike]
    return partner[ours.label_image] == theirs.label_image, int(alike.sum())


def margin(probabilities: np.ndarray, overlapping: bool) -> np.ndarray:
    """(H, W): by how much the likeliest class of (K, H, W) is ahead; where classes overlap also of 1/2."""
    ordered = np.sort(probabilities, axis=0)
    ahead = ordered[-1] - ordered[-2] if len(ordered) > 1 else np.ones(probabilities.shape[1:], np.float32)
    if overlapping:
        undecided = np.abs(ordered[-1] - 0.5)
        return np.where(ordered[-1] > 0.5, np.minimum(ahead, undecided), undecided)
    return ahead
