"""The U-Net of segmentation_models.pytorch on a ResNet-18, as a model that can be exported: one network for all.

https://github.com/qubvel-org/segmentation_models.pytorch. Weights are random, drawn from seed 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from intarsia.models.contract import SemanticConfig, SemanticModel
from intarsia.records import Classes

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, as the library prescribes


def peer_unet(classes: int) -> Any:
    """The library's own network, in evaluation."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, classes=classes).eval()


class PeerUNet(SemanticModel):
    """The same network under our contract."""

    def __init__(self, classes: int) -> None:
        super().__init__(SemanticConfig(channels=3, classes=classes, mean=MEAN, deviation=DEVIATION))
        self.net = peer_unet(classes)

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        return (self.net(x),)


def names(classes: int) -> Classes:
    return Classes.named([f"class {i}" for i in range(classes)])


def drawn(number: int, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: smooth shapes of random colours under a little noise, which a PNG packs like a photograph."""
    import cv2

    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
