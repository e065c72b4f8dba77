"""Models of objects whose answers are known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor, nn

from intarsia.data.objects import numbered
from intarsia.models.contract import InstanceConfig, InstanceModel, Losses
from intarsia.records import Batch, Classes, Detections, Instances

EIGHT = np.ones((3, 3), bool)


class Numbers(InstanceModel[Detections]):
    """Detects what hangs together of one number in an 8-bit picture: 0 is background, number n is of class
    1 + n % (K - 1), its score is the share of the picture that it covers. With `whole` each number is one object, in
    however many parts."""

    stride = 1
    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {"score": (0.0, 0.5)}
    whole = False
    most_rows = 1_000_000

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": batch.images.sum() * 0}

    def answers(self, images: Tensor) -> Sequence[Detections]:
        if images.shape[2] > self.most_rows:
            torch.empty(2**60)
        pictures = (images[:, 0] * 255).round().cpu().numpy().astype(int)
        return [self.seen(each) for each in pictures]

    def seen(self, picture: np.ndarray) -> Detections:
        boxes, classes, scores, masks = [], [], [], []
        for number in np.unique(picture[picture > 0]):
            parts = (picture == number).astype(int) if self.whole else label(picture == number, EIGHT)[0]
            for part, (y, x) in enumerate(find_objects(parts), start=1):
                boxes.append((x.start, y.start, x.stop, y.stop))
                classes.append(1 + number % (self.classes - 1))
                masks.append(parts[y, x] == part)
                scores.append(masks[-1].sum() / picture.size)
        return Detections(
            (picture.shape[0], picture.shape[1]), np.array(boxes, np.int64).reshape(-1, 4),
            np.array(classes, np.int16), np.array(scores, np.float32), tuple(masks),
        )  # fmt: skip

    def objects(self, answer: Detections, thresholds: Mapping[str, float] | None = None) -> Instances:
        at = {**self.thresholds, **(thresholds or {})}
        painted = np.zeros(answer.size, np.int32)
        for i in reversed(range(len(answer))):
            left, top, right, bottom = answer.boxes[i]
            if answer.scores[i] >= at["score"]:
                painted[top:bottom, left:right][answer.masks[i]] = i + 1
        kept = np.isin(np.arange(1, len(answer) + 1), painted)
        found = numbered(painted, answer.classes)
        return Instances(found.label_image, found.classes, answer.scores[kept])


class Bright(InstanceModel[np.ndarray]):
    """Objects are what hangs together above a brightness: its one map is the first channel, as it is."""

    stride = 1
    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {"brightness": (0.5, 0.25), "smallest": (1.0, 5.0)}

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": batch.images.sum() * 0}

    def maps(self, images: Tensor) -> Tensor:
        return images[:, :1]

    def answers(self, images: Tensor) -> Sequence[np.ndarray]:
        return list(self.maps(images).float().cpu().numpy())

    def objects(self, answer: np.ndarray, thresholds: Mapping[str, float] | None = None) -> Instances:
        at = {**self.thresholds, **(thresholds or {})}
        parts, count = label(answer[0] > at["brightness"])
        return numbered(parts.astype(np.int32), np.ones(count, np.int16), int(at["smallest"]))


class Filtered(Bright):
    """The same after two random convolutions of 3 x 3: it sees 2 pixels to each side. Its second map points right."""

    def __init__(self, config: InstanceConfig) -> None:
        super().__init__(config)
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(config.channels, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

    def maps(self, images: Tensor) -> Tensor:
        return 4 * self.second(self.first(images - 0.5).relu()) + 0.5

    def mirrored(self, maps: np.ndarray) -> np.ndarray:
        flipped = maps[:, :, ::-1].copy()
        flipped[1] *= -1
        return flipped


def object_config(channels: int = 1, classes: int = 2) -> InstanceConfig:
    return InstanceConfig(channels=channels, classes=classes, mean=(0.0,), deviation=(1.0,))


def object_classes(count: int = 2) -> Classes:
    return Classes.named(["background", *(f"kind {i}" for i in range(1, count))])


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images are the same up to the numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    alone = all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
    return alone and bool(((pairs[0] == 0) == (pairs[1] == 0)).all())
