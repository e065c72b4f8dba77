"""Whether an exported file answers as PyTorch does, on pictures.

Two programs that add the same numbers in another order differ in the last bits, and where two classes are equally
likely that decides. So a pixel counts against a file only where PyTorch's own likeliest class is ahead by MARGIN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import NumericError
from ..records import Image
from .exported import ExportedPredictor
from .predictor import Predictor

MARGIN = 0.01  # of probability, by which the likeliest class is ahead of the next (where classes overlap: of 1/2)
LEAST = {"fp32": 0.9999, "fp16": 0.99}  # share of the clear pixels that must agree, by precision


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


def margin(probabilities: np.ndarray, overlapping: bool) -> np.ndarray:
    """(H, W): by how much the likeliest class of (K, H, W) is ahead; where classes overlap also of 1/2."""
    ordered = np.sort(probabilities, axis=0)
    ahead = ordered[-1] - ordered[-2] if len(ordered) > 1 else np.ones(probabilities.shape[1:], np.float32)
    if overlapping:
        undecided = np.abs(ordered[-1] - 0.5)
        return np.where(ordered[-1] > 0.5, np.minimum(ahead, undecided), undecided)
    return ahead
