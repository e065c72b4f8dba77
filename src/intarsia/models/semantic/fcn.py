"""Fully convolutional networks.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, 2015,
https://arxiv.org/abs/1411.4038 (variants 32s, 16s, 8s); "dilated" keeps the last map at 1/8 of the picture, after
Yu, Koltun: Multi-Scale Context Aggregation by Dilated Convolutions, 2016, https://arxiv.org/abs/1511.07122.

Where we differ: any encoder in place of VGG-16, so that no 100 pixels of zeros are padded around the picture; a 3x3
convolution to a quarter of the channels in place of fc6 and fc7; scores are enlarged by fixed bilinear interpolation,
where the paper learns all but the last enlargement; the variants are trained at once, not one from the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...networks.blocks import fcn_head, resized
from ...networks.encoders import build_encoder
from ..contract import EncoderDecoder, SemanticConfig

SKIPS = {"32s": 0, "16s": 1, "8s": 2, "dilated": 0}  # finer maps that are scored too


class FCNConfig(SemanticConfig):
    """What builds an FCN."""

    name: Literal["fcn"] = "fcn"
    encoder: str = "small"  # one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    variant: Literal["32s", "16s", "8s", "dilated"] = "8s"  # the size of the finest scores: 1/32, 1/16, 1/8, 1/8
    auxiliary: bool = False  # deep supervision: a second head on the last map but one, for the loss only
    dropout: float = Field(0.1, ge=0, lt=1)  # share of the head's features zeroed in training; 0 = none
    padded: bool = True  # False: sizes that don't divide enter as they are, which torchvision's weights are used to


class FCN(EncoderDecoder):
    """A head on the coarsest map, and a score of each finer map added to it.

        x (B, C, H, W)
        │
        encoder ─┬─ map at 1/32 ── head ──────── (B, K, H/32, W/32)            32s ends here
                 │                  │ resized
                 ├─ map at 1/16 ── scores.0 ─ + ─ (B, K, H/16, W/16)           16s ends here
                 │                            │ resized
                 └─ map at 1/8 ─── scores.1 ─ + ─ (B, K, H/8, W/8)              8s ends here

    dilated: the encoder's last map is at 1/8, and goes through `head` alone.
    auxiliary: the last map but one goes through `auxiliary_head`.
    """

    Config = FCNConfig

    def __init__(self, config: FCNConfig) -> None:
        super().__init__(config)
        output_stride: Literal[8] | None = 8 if config.variant == "dilated" else None
        self.encoder = build_encoder(config.encoder, config.channels, config.pretrained, output_stride)
        self.stride = max(self.encoder.reductions) if config.padded else 1
        channels, count = self.encoder.channels[::-1], SKIPS[config.variant]  # coarsest first
        if len(channels) <= count:
            raise UsageError(
                f'encoder "{config.encoder}" has {len(channels)} maps where FCN-{config.variant} needs {count + 1}; '
                'take another encoder, or variant = "32s".'
            )
        self.head = fcn_head(channels[0], config.classes, config.dropout)
        self.scores = nn.ModuleList(nn.Conv2d(each, config.classes, 1) for each in channels[1 : 1 + count])
        for score in self.scores:  # section 4.2: finer maps begin by saying nothing
            nn.init.zeros_(score.weight)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        self.auxiliary_head = fcn_head(channels[1], config.classes, config.dropout) if config.auxiliary else None

    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        coarsest, *finer = maps[::-1]
        logits = self.head(coarsest)  # B K H/32 W/32
        for score, each in zip(self.scores, finer, strict=False):
            own = score(each)  # B K H/16 W/16, then H/8 W/8
            logits = own + resized(logits, like=own)
        if auxiliary and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(finer[0])
        return (logits,)
