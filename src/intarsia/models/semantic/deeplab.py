"""DeepLab v3 and v3+.

v3   Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation, 2017,
     https://arxiv.org/abs/1706.05587
v3+  Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with Atrous Separable Convolution for Semantic Image
     Segmentation, 2018, https://arxiv.org/abs/1802.02611

Where we differ: any encoder that dilates; plain 3x3 convolutions throughout, where v3+ separates them into depthwise
and pointwise ones (which reach a quarter of a processor's arithmetic); no multi-grid inside the last stage; v3 ends
with a 3x3 convolution before the scores, as in torchvision, whose weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...networks.blocks import ImagePooling, conv_block, fcn_head, resized
from ...networks.encoders import build_encoder
from ..contract import EncoderDecoder, SemanticConfig


class DeepLabConfig(SemanticConfig):
    """What builds a DeepLab."""

    name: Literal["deeplab"] = "deeplab"
    encoder: str = "small"  # one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    version: Literal["v3", "v3+"] = "v3+"  # v3+ adds a decoder at 1/4 of the picture's size
    output_stride: Literal[8, 16] = 16  # the encoder's last map is H/16 or H/8; 8 is finer, and 1.5-2.4x slower
    rates: tuple[int, ...] = (6, 12, 18)  # dilations of ASPP at output stride 16; doubled at 8
    width: int = Field(256, ge=1)  # channels of ASPP and of the decoder
    auxiliary: bool = False  # deep supervision: a second head on the last map but one, for the loss only
    dropout: float = Field(0.1, ge=0, lt=1)  # share of ASPP's features zeroed in training; 0 = none
    padded: bool = True  # False: sizes that don't divide enter as they are, which torchvision's weights are used to


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (v3, figure 5).

    One map seen with several fields of view:

        x (B, inputs, h, w)
        ├─ branches.0   1x1 ──────────────────┐
        ├─ branches.i   3x3, dilation rate i ─┤
        └─ pooling      mean of the map ──────┴─ project 1x1 ─ dropout ──► (B, width, h, w)
    """

    def __init__(self, inputs: int, width: int, rates: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        dilated = (conv_block(inputs, width, dilation=rate) for rate in rates)
        self.branches = nn.ModuleList([conv_block(inputs, width, kernel=1), *dilated])
        self.pooling = ImagePooling(inputs, width)
        self.project = conv_block((len(rates) + 2) * width, width, kernel=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        views = [branch(x) for branch in self.branches]
        return self.dropout(self.project(torch.cat([*views, self.pooling(x)], dim=1)))


class DeepLab(EncoderDecoder):
    """A dilated encoder and ASPP; v3+ sharpens the result with an early map of the encoder.

        x (B, C, H, W)
        │
        encoder ─┬─ last map (B, ., H/16, W/16) ── aspp ── (B, width, H/16, W/16)
                 │                                          │ resized (v3+)
                 └─ map at 1/4 ── lateral ───────────────── concatenate    v3+ only, (B, width + 48, H/4, W/4)
                                                            │
                                                            refine ── classifier ──► (B, K, H/16 or H/4, ...)

    auxiliary: the last map but one goes through `auxiliary_head`.
    """

    Config = DeepLabConfig

    def __init__(self, config: DeepLabConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder, config.channels, config.pretrained, config.output_stride)
        self.stride = max(self.encoder.reductions) if config.padded else 1
        channels, width = self.encoder.channels, config.width
        rates = tuple(rate * 16 // config.output_stride for rate in config.rates)
        self.aspp = ASPP(channels[-1], width, rates, config.dropout)
        if config.version == "v3+":
            if 4 not in self.encoder.reductions:
                raise UsageError(
                    f'encoder "{config.encoder}" has no map at 1/4 of the picture\'s size, which DeepLab v3+ needs; '
                    'take another encoder, or version = "v3".'
                )
            self.early = self.encoder.reductions.index(4)
            narrow = max(48 * width // 256, 1)  # v3+, table 1: 48 where width is 256, so that aspp keeps the upper hand
            self.lateral: nn.Sequential | None = conv_block(channels[self.early], narrow, kernel=1)
            self.refine = nn.Sequential(conv_block(width + narrow, width), conv_block(width, width))  # v3+, table 2
        else:
            self.lateral = None
            self.refine = conv_block(width, width)
        self.classifier = nn.Conv2d(width, config.classes, 1)
        self.auxiliary_head = fcn_head(channels[-2], config.classes, 0.1) if config.auxiliary else None

    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        y = self.aspp(maps[-1])  # B width H/16 W/16
        if self.lateral is not None:
            lateral = self.lateral(maps[self.early])  # B 48 H/4 W/4
            y = torch.cat([resized(y, like=lateral), lateral], dim=1)  # B width+48 H/4 W/4
        logits = self.classifier(self.refine(y))
        if auxiliary and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(maps[-2])
        return (logits,)
