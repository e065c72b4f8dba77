"""U-Net.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015,
https://arxiv.org/abs/1505.04597

Where we differ: convolutions are padded, so that the answer has the picture's size; batch normalisation follows each;
a 2x2 up-convolution is a 1x1 convolution and bilinear doubling (no checkerboard, and faster on a processor); any
encoder may take the place of the contracting path. The paper's own size is width 64, depth 4 (29 M parameters).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...networks.blocks import conv_block, doubled
from ...networks.encoders import Encoder, build_encoder
from ..contract import EncoderDecoder, SemanticConfig


class UNetConfig(SemanticConfig):
    """What builds a U-Net."""

    name: Literal["unet"] = "unet"
    encoder: str = "plain"  # "plain": the paper's contracting path; or one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    width: int = Field(32, ge=1)  # channels at full size, doubled with each halving; 16 suits an encoder of its own
    depth: int = Field(4, ge=1, le=8)  # halvings in the plain encoder; another encoder brings its own
    finest: Literal[1, 2, 4] = 1  # where the decoder ends: full, half or quarter size; each step is 1.2-1.7x faster
    auxiliary: bool = False  # deep supervision: a head on each coarser map of the decoder, for the loss only
    dropout: float = Field(0.0, ge=0, lt=1)  # share of the coarsest map's features zeroed in training; 0 = none


class PlainEncoder(Encoder):
    """The contracting path: two 3x3 convolutions, then halving by the largest of 2x2, `depth` times."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.reductions = tuple(2**level for level in range(depth + 1))
        self.channels = tuple(width * reduction for reduction in self.reductions)
        inputs = (channels, *self.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(conv_block(before, after), conv_block(after, after))
            for before, after in zip(inputs, self.channels, strict=False)
        )
        self.halve = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.levels[0](x)]  # B width H W
        for level in self.levels[1:]:
            maps.append(level(self.halve(maps[-1])))  # B 2*width H/2 W/2, ...
        return maps


class Expansion(nn.Module):
    """One step of the expanding path: (B, inputs, h, w) and a map (B, skip, 2h, 2w) to (B, outputs, 2h, 2w)."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.merge = nn.Sequential(conv_block(outputs + skip, outputs), conv_block(outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = doubled(self.narrow(x))
        return self.merge(x if skip is None else torch.cat([x, skip], dim=1))


class UNet(EncoderDecoder):
    """An encoder, and a decoder that doubles the size back, joined at each size (figure 1).

        x (B, C, H, W)
        │
        encoder ─┬─ map at 1/1 ─────────────── steps.3 ── (B, width, H, W) ── classifier ──► (B, K, H, W)
                 ├─ map at 1/2 ───────── steps.2 ─┘
                 ├─ map at 1/4 ─── steps.1 ─┘
                 ├─ map at 1/8 ─ steps.0 ─┘          each step: (B, width * 2^i, H/2^i, W/2^i)
                 └─ map at 1/16 ── dropout ─┘

    A size at which the encoder has no map (full size, mostly, with timm's) is passed without a join.
    auxiliary: each result of `steps` but the last goes through its own of `auxiliary_heads`.
    """

    Config = UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.encoder = (
            PlainEncoder(config.channels, config.width, config.depth)
            if config.encoder == "plain"
            else build_encoder(config.encoder, config.channels, config.pretrained)
        )
        self.stride = max(self.encoder.reductions)
        last_at = {reduction: index for index, reduction in enumerate(self.encoder.reductions)}  # the deepest of a size
        inputs = self.encoder.channels[-1]
        self.dropout = nn.Dropout(config.dropout)

        steps, widths, joined = [], [], []
        reduction = self.stride // 2
        while reduction >= config.finest:
            index, outputs = last_at.get(reduction), config.width * reduction
            steps.append(Expansion(inputs, 0 if index is None else self.encoder.channels[index], outputs))
            widths.append(outputs)
            joined.append(index)
            inputs, reduction = outputs, reduction // 2
        self.steps = nn.ModuleList(steps)
        self.joined = tuple(joined)  # which of the encoder's maps each step takes

        self.classifier = nn.Conv2d(inputs, config.classes, 1)
        supervised = widths[:-1] if config.auxiliary else []
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(width, config.classes, 1) for width in supervised)

    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        y = self.dropout(maps[-1])
        results = []
        for step, index in zip(self.steps, self.joined, strict=True):
            y = step(y, None if index is None else maps[index])
            results.append(y)  # B width*2^i H/2^i W/2^i
        logits = self.classifier(y)
        if auxiliary:
            return logits, *(head(each) for head, each in zip(self.auxiliary_heads, results, strict=False))
        return (logits,)
