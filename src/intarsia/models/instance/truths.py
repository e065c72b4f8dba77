"""What is known about a picture, as boxes are judged by it: objects, background, and what nobody labelled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...records import IGNORE
from .boxes import boxes_of, paired, shares


class Truth(NamedTuple):
    """What is known about one picture."""

    label_image: Tensor  # (H, W) int64
    boxes: Tensor  # (N, 4) as the network sees them
    classes: Tensor  # (N,) int64
    numbers: Tensor  # (N,) int64: theirs in the label image
    unknown: Tensor | None  # (H, W) bool; None: all is known


def truth_of(label_image: Tensor, classes: Tensor, scale: Tensor) -> Truth:
    """What is known about a picture: its objects that show a pixel at least."""
    boxes = boxes_of(label_image, len(classes))
    there = (boxes[:, 2] > 0).nonzero().flatten()
    unknown = label_image == IGNORE
    hidden = unknown if bool(unknown.any()) else None
    return Truth(label_image, boxes[there] * scale, classes[there], there + 1, hidden)


def labels_of(truth: Truth, boxes: Tensor, low: float, high: float, each: bool, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(A,) 1 where a box is an object's, 0 where it is background, -1 where neither, and (A,) whose it is.

    An object's are those of IoU `high` and more with it, and, where `each`, those that are nearest to it. Background is
    below `low`, unless half of it or more is what nobody labelled.
    """
    if len(truth.boxes):
        pairs = paired(truth.boxes, boxes)
        best, positive, negative = pairs.best, pairs.iou >= high, pairs.iou < low
        if each:
            positive = positive | pairs.chosen
    else:
        best = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        positive, negative = torch.zeros_like(best) > 0, torch.ones_like(best) > 0
    if truth.unknown is not None:
        negative &= shares(boxes / scale, truth.unknown) < 0.5
    return torch.where(positive, 1, torch.where(negative, 0, -1)), best
