"""What all combinations share: a segmenter that is taught by more than its labelled pixels.

Outside, a combination is a segmenter like any other: it predicts, is evaluated and exported as one. Inside it holds
one, and whatever teaches it: a moving average of itself, a picture decoder, a critic.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ...errors import UsageError
from ...records import IGNORE, Batch
from ..contract import EncoderDecoder, Losses, SemanticConfig, SemanticModel
from ..semantic import HoldsSegmenter, build_segmenter


class CombinationConfig(HoldsSegmenter, SemanticConfig):
    """What every combination needs to know: about pictures and classes, and which segmenter it teaches."""


class Combination(SemanticModel):
    """A segmenter, and what teaches it. A model writes `loss`, and `parts` where it has several players or something
    that no optimizer may touch."""

    config: CombinationConfig
    segmenter: SemanticModel

    def __init__(self, config: CombinationConfig) -> None:
        super().__init__(config)
        self.segmenter = build_segmenter(config.segmenter, config)
        self.stride = self.segmenter.stride

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        return self.segmenter.heads(x, auxiliary)

    @abstractmethod
    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """Named scalars: those of `supervised`, and what the rest of the batch teaches; `total` is descended."""

    def in_halves(self) -> EncoderDecoder:
        """The segmenter, where it has an encoder that can be shared. Raises UsageError where it has none."""
        if not isinstance(self.segmenter, EncoderDecoder):
            raise UsageError(
                f"a {type(self).__name__} shares the encoder of its segmenter, and {self.config.segmenter.name} has "
                "none that can be shared; set model.segmenter.name = 'unet', 'fcn' or 'deeplab'."
            )
        return self.segmenter

    def nothing(self) -> Tensor:
        """A scalar 0 on which every parameter's gradient is 0."""
        return torch.stack([parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum() * 0


def with_mask(batch: Batch) -> Tensor:
    """(B,) bool: which pictures have a labelled pixel."""
    if batch.labelled is not None:
        return batch.labelled
    target = batch.masks if batch.masks is not None else batch.labels
    if target is None:
        return torch.zeros(len(batch), dtype=torch.bool, device=batch.images.device)
    return (target != IGNORE).flatten(1).any(dim=1)
