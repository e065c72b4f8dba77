"""Weights and maps in 8 bits, by NNCF (https://github.com/openvinotoolkit/nncf), from a finished training.

Each map gets a range from what it held on calibration pictures, each weight one a channel: Jacob et al., Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018, https://arxiv.org/abs/1712.05877.
What it costs is measured on labelled pictures, in points of mean IoU, or of objects in points of AP50.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from ..metrics.confusion import Confusion, LabelConfusion
from ..metrics.objects import ObjectScore
from ..records import IGNORE, Classes, Instances, Mask, Sample
from .engines import PICTURES
from .folder import Strip

MOST_LOSS = 0.01  # of mean IoU, or AP50, that int8 may cost
CALIBRATION = 64  # pictures that are shown; more change the ranges by less than their last bit


@dataclass(frozen=True)
class Drop:
    """What int8 costs on labelled pictures."""

    before: float  # in fp32, [0, 1]
    after: float
    pictures: int
    part: str  # of the run's pictures: "validation", or "train" where none was held back
    score: str = "mean IoU"  # what is measured; of objects "AP50" = TP / (TP + FP + FN) at IoU >= 0.5

    @property
    def loss(self) -> float:
        return self.before - self.after

    def require(self, force: bool) -> None:
        """Raises UsageError where int8 costs more than MOST_LOSS, unless forced."""
        if not force and not self.loss <= MOST_LOSS:  # what is not a number speaks for nothing
            raise UsageError(
                f"{self}: more than the {100 * MOST_LOSS:g} point that int8 may cost, so nothing was written. Take "
                "--precision fp16 or fp32, or --force it."
            )

    def __str__(self) -> str:
        pictures = f"{self.pictures} picture{'s' * (self.pictures != 1)}"
        return (
            f"{self.score} {self.before:.4f} in fp32, {self.after:.4f} in int8 on {pictures} ({self.part}): "
            f"{100 * self.loss:+.2f} points lost"
        )


def quantised_onnx(proto: Any, pictures: Sequence[np.ndarray]) -> Any:
    """An onnx.ModelProto in 8 bits. pictures: (H, W, C) as the graph takes them."""
    import nncf

    batches = [{PICTURES: each[None]} for each in pictures]
    return nncf.quantize(proto, nncf.Dataset(batches), subset_size=len(batches))


def quantised_openvino(network: Any, pictures: Sequence[np.ndarray]) -> Any:
    """An openvino.Model in 8 bits. pictures: (H, W, C) as the graph takes them."""
    import nncf

    batches = [each[None] for each in pictures]
    return nncf.quantize(network, nncf.Dataset(batches), subset_size=len(batches))


def mean_iou(answer: Callable[[Sample], Strip], samples: Iterable[Sample], classes: Classes) -> tuple[float, int]:
    """The mean IoU of answers to labelled samples, pooled as `evaluate` does, and how many samples were labelled."""
    counts = (LabelConfusion if classes.overlapping else Confusion).zeros(len(classes))
    labelled = 0
    for sample in samples:
        truth = sample.labels if classes.overlapping else sample.mask
        if truth is None or not (truth != IGNORE).any():
            continue
        made = answer(sample)
        found: Mask = made.labels if classes.overlapping else made.mask
        counts.add(truth, found)
        labelled += 1
    return (counts.mean_iou if labelled else math.nan), labelled


def average_precision(
    answer: Callable[[Sample], Instances], samples: Iterable[Sample], classes: Classes
) -> tuple[float, int]:
    """AP50 = TP / (TP + FP + FN) of objects found in labelled samples, pooled as `evaluate` does, and how many samples
    were labelled; NaN where there is nothing in truth and answer."""
    score = ObjectScore.zeros(classes)
    for sample in samples:
        if sample.instances is not None and (sample.instances.label_image != IGNORE).any():
            score.add(sample.instances, answer(sample))
    return score.matching.at("average_precision"), score.pictures
