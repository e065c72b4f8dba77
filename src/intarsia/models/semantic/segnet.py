"""SegNet.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
2017, https://arxiv.org/abs/1511.00561

Where we differ: no local contrast normalisation of the pictures (they are standardised); any width; dropout after the
coarser blocks of either side, an idea of Bayesian SegNet (Kendall et al., 2015, https://arxiv.org/abs/1511.02680), off
by default. The paper's own size is width 64 (29 M parameters; basic 1.4 M).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...networks.blocks import conv_block
from ..contract import SemanticConfig, SemanticModel


class SegNetConfig(SemanticConfig):
    """What builds a SegNet."""

    name: Literal["segnet"] = "segnet"
    variant: Literal["full", "basic"] = "full"  # full: VGG-16's 13 convolutions and their mirror; basic: 4 of 7x7
    width: int = Field(64, ge=1)  # channels at full size; VGG's 1, 2, 4, 8, 8 times it below (basic: 1 everywhere)
    dropout: float = Field(0.0, ge=0, lt=1)  # share of features zeroed after the coarser blocks; 0 = none


FULL = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (times the width, convolutions) of each block, finest first
BASIC = ((1, 1), (1, 1), (1, 1), (1, 1))
DROPPED = 3  # so many of the coarsest blocks on either side are followed by dropout


def down_block(inputs: int, outputs: int, convolutions: int, kernel: int) -> nn.Sequential:
    """Convolutions to `outputs` channels, size kept."""
    first = conv_block(inputs, outputs, kernel)
    return nn.Sequential(first, *(conv_block(outputs, outputs, kernel) for _ in range(convolutions - 1)))


def up_block(inputs: int, outputs: int, convolutions: int, kernel: int, rectified: bool) -> nn.Sequential:
    """The mirror of `down_block`: only the last convolution changes the number of channels."""
    blocks = [conv_block(inputs, inputs, kernel) for _ in range(convolutions - 1)]
    blocks.append(conv_block(inputs, outputs, kernel))
    return nn.Sequential(*(block if rectified else block[:2] for block in blocks))


class SegNet(SemanticModel):
    """An encoder that remembers where in each 2x2 its largest value stood, and a decoder that puts values back there.

        x (B, C, H, W)                                        (B, K, H, W)
        │                                                       ▲ classifier 3x3
        down.0 ─ pool ─┬──────── indices.0 ──────── unpool ─ up.4 (B, width, H, W)
                     down.1 ─ pool ─┬─ indices.1 ─ unpool ─ up.3
                                   ...            ...
                                 down.4 ─ pool ─ unpool ─ up.0           (B, 8 * width, H/32, W/32) in between

    basic: four blocks, one 7x7 convolution each, and no ReLU in the decoder (section 3.1); its classifier is 1x1.
    """

    Config = SegNetConfig

    def __init__(self, config: SegNetConfig) -> None:
        super().__init__(config)
        full = config.variant == "full"
        blocks, kernel = (FULL, 3) if full else (BASIC, 7)
        self.stride = 2 ** len(blocks)
        down, up = [], []
        inputs = config.channels
        for level, (times, convolutions) in enumerate(blocks):
            width = times * config.width
            above = blocks[max(level - 1, 0)][0] * config.width
            down.append(down_block(inputs, width, convolutions, kernel))
            mirrored = 1 if level == 0 else convolutions  # at full size the mirror's last convolution is the classifier
            up.append(up_block(width, above, mirrored, kernel, rectified=full))
            inputs = width
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList(reversed(up))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Conv2d(config.width, config.classes, 3 if full else 1, padding=1 if full else 0)

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        remembered = []
        for level, block in enumerate(self.down):
            x, indices = F.max_pool2d(block(x), 2, return_indices=True)  # B . H/2 W/2
            remembered.append(indices)
            if level >= len(self.down) - DROPPED:
                x = self.dropout(x)
        for level, block in enumerate(self.up):
            x = block(F.max_unpool2d(x, remembered.pop(), (2, 2)))  # B . 2H 2W
            if level < DROPPED:
                x = self.dropout(x)
        return (self.classifier(x),)  # B K H W
