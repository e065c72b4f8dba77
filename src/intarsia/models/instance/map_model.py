"""What models of objects share whose network is a segmenter: its logits are made maps of, and objects of the maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...grouping import GROUPINGS
from ...records import Instances
from ..contract import InstanceConfig, InstanceModel, SemanticModel


class MapModel(InstanceModel[np.ndarray]):
    """x (B, C, H, W) ── segmenter ──► raw (B, M, H, W) ── maps ──► numbers with a meaning ── grouping ──► objects"""

    grouping: ClassVar[str]  # what makes objects of the maps, by its name in GROUPINGS
    segmenter: SemanticModel
    count: int  # M: maps, the first of the segmenter's logits

    def __init__(self, config: InstanceConfig) -> None:
        super().__init__(config)

    @abstractmethod
    def maps(self, raw: Tensor) -> Tensor:
        """(B, M, H, W) float32 that the grouping understands, of the network's answer (B, M, H, W) float32."""

    def forward(self, images: Tensor) -> Tensor:
        """The network's answer (B, M, H, W) for pictures (B, C, H, W) in [0, 1]."""
        return self.segmenter(images)[:, : self.count]

    @torch.inference_mode()
    def answers(self, images: Tensor) -> Sequence[np.ndarray]:
        """The maps (M, H, W) float32 of each picture."""
        return list(self.maps(self(images).float()).cpu().numpy())

    def objects(self, answer: np.ndarray, thresholds: Mapping[str, float] | None = None) -> Instances:
        return GROUPINGS[self.grouping](answer, {**self.thresholds, **(thresholds or {})})
