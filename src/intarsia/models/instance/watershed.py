"""A segmenter of insides and borders, and a watershed: the floor that models of objects stand on.

Caicedo et al.: Evaluation of Deep Learning Strategies for Nucleus Segmentation in Fluorescence Images, Cytometry A
2019, https://doi.org/10.1002/cyto.a.23863 (background, inside, border as classes of any segmenter)
Meyer: Topographic distance and watershed lines, 1994, https://doi.org/10.1016/0165-1684(94)90060-4

Where we differ: with K - 1 classes of objects there are as many insides, and one border for all of them. Basins are
flooded from the insides by how unlikely an inside is, where the likeliest class is not the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...losses import LossConfig, SegmentationLoss
from ...records import IGNORE, Batch
from ..contract import InstanceConfig, Losses
from ..semantic import HoldsSegmenter, UNetConfig, build_segmenter
from ..semantic.holding import AnySegmenter
from .instance_segnet import targets_of
from .map_model import MapModel


class WatershedConfig(HoldsSegmenter, InstanceConfig):
    """What builds the floor: a segmenter and its loss."""

    name: Literal["watershed"] = "watershed"
    segmenter: AnySegmenter = UNetConfig(encoder="small", width=16)  # of K + 1 classes: the last is the border
    loss: LossConfig = LossConfig(terms={"cross_entropy": 1.0, "dice": 0.5})
    border_weight: float = Field(3.0, gt=0)  # of the border's pixels in the cross entropy, which are few


class Watershed(MapModel):
    """A segmenter of K + 1 classes: background, the insides of objects of K - 1 classes, border.

    x (B, C, H, W) ── segmenter ──► (B, K + 1, H, W) ── softmax ── seeds ── watershed ──► objects
    """

    Config = WatershedConfig
    config: WatershedConfig
    grouping = "insides"
    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "inside": (0.5, 0.3, 0.4, 0.6, 0.7, 0.8),  # probability of being inside, of any class, from which seeds grow
        "foreground": (0.5, 0.3, 0.4, 0.6, 0.7),  # probability of not being background, as far as they are flooded
        "score": (0.3, 0.0, 0.4, 0.5, 0.6),  # objects below it are left out
        "smallest": (10.0, 4.0, 20.0, 40.0),  # pixels of an object
    }

    def __init__(self, config: WatershedConfig) -> None:
        super().__init__(config)
        self.count = config.classes + 1
        self.segmenter = build_segmenter(config.segmenter, config, self.count)
        self.stride = self.segmenter.stride
        weights = (1.0,) * config.classes + (config.border_weight,)
        loss = config.loss.model_copy(update={"weights": config.loss.weights or weights})
        self.criterion = SegmentationLoss(loss, config.classes + 1, overlapping=False)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """The criterion's terms; all are 0, with gradients of 0, where nothing is labelled."""
        targets = targets_of(batch).to(batch.images.device)
        masks = targets[:, 0].long()
        masks = torch.where((targets[:, 2] > 0) & (masks != IGNORE), self.config.classes, masks)  # B H W
        terms: Losses = self.criterion(self(batch.images), masks)
        return terms

    def maps(self, raw: Tensor) -> Tensor:
        """(B, K + 1, H, W) in [0, 1]: the probabilities of the classes and of the border."""
        return raw.softmax(dim=1)

    def mirrored(self, maps: np.ndarray) -> np.ndarray:
        """The maps of the picture, from those of its mirror image (left to right)."""
        return maps[:, :, ::-1].copy()
