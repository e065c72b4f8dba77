"""FC-DenseNet, the hundred layers tiramisu.

Jégou, Drozdzal, Vazquez, Romero, Bengio: The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic
Segmentation, 2017, https://arxiv.org/abs/1611.09326

Where we differ: convolutions before a batch normalisation have no bias, which it would remove; layers and growth may be
chosen freely.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ..contract import SemanticConfig, SemanticModel


class Size(NamedTuple):
    """Table 2 of the paper and section 4.1."""

    growth: int  # maps that each layer adds
    layers: tuple[int, ...]  # of each dense block on the way down, the bottleneck last; the way up mirrors them


SIZES = {
    "56": Size(12, (4, 4, 4, 4, 4, 4)),  # 1.4 M parameters (1.5 in the paper, which its own recipe does not give)
    "67": Size(16, (5, 5, 5, 5, 5, 5)),  # 3.5 M
    "103": Size(16, (4, 5, 7, 10, 12, 15)),  # 9.3 M
}


class FCDenseNetConfig(SemanticConfig):
    """What builds an FC-DenseNet."""

    name: Literal["fc_densenet"] = "fc_densenet"
    variant: Literal["56", "67", "103"] = "56"  # the paper's three sizes, by their number of layers
    growth: int | None = Field(None, ge=1)  # maps that each layer adds; None: the variant's
    layers: tuple[int, ...] | None = Field(None, min_length=2)  # down, bottleneck last; None: the variant's
    stem: int = Field(48, ge=1)  # channels of the first convolution
    dropout: float = Field(0.2, ge=0, lt=1)  # share of each layer's new features zeroed in training; 0 = none


def layer(inputs: int, outputs: int, kernel: int, dropout: float) -> nn.Sequential:
    """Table 1: batch normalisation, ReLU, convolution, dropout."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")  # section 4.1
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv, nn.Dropout(dropout))


class DenseBlock(nn.Module):
    """The new maps (B, count * growth, H, W) of x (B, inputs, H, W): each layer sees x and all layers before it."""

    def __init__(self, inputs: int, growth: int, count: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(inputs + i * growth, growth, 3, dropout) for i in range(count))

    def forward(self, x: Tensor) -> Tensor:
        new: list[Tensor] = []
        for each in self.layers:
            new.append(each(torch.cat([x, *new], dim=1)))
        return torch.cat(new, dim=1)


class FCDenseNet(SemanticModel):
    """Dense blocks down and up, joined at each size (figure 1).

        x (B, C, H, W)
        stem 3x3                                                    classifier 1x1 ──► (B, K, H, W)
        │                                                             ▲
        down.0 ── & x ──┬──────────────────────────────── & ─── up.4 ─┘
                    halve.0                            enlarge.4
                        │                                 ▲
                      down.1 ── & ──┬─────────────── & ── up.3
                                halve.1           enlarge.3
                                   ...               ...
                                    └─── bottleneck ─┘

    & concatenates. On the way up only a block's new maps go on, or their number would explode (section 3.2).
    """

    Config = FCDenseNetConfig

    def __init__(self, config: FCDenseNetConfig) -> None:
        super().__init__(config)
        size = SIZES[config.variant]
        growth, layers = config.growth or size.growth, config.layers or size.layers
        *counts, bottom = layers
        self.stride = 2 ** len(counts)
        self.stem = nn.Conv2d(config.channels, config.stem, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(self.stem.weight, nonlinearity="relu")

        channels, joined = config.stem, []
        down, halve = [], []
        for count in counts:
            down.append(DenseBlock(channels, growth, count, config.dropout))
            channels += count * growth
            joined.append(channels)
            halve.append(nn.Sequential(layer(channels, channels, 1, config.dropout), nn.MaxPool2d(2)))
        self.down, self.halve = nn.ModuleList(down), nn.ModuleList(halve)

        self.bottleneck = DenseBlock(channels, growth, bottom, config.dropout)
        new = bottom * growth
        enlarge, up = [], []
        for count, skip in zip(reversed(counts), reversed(joined), strict=True):
            enlarge.append(nn.ConvTranspose2d(new, new, 3, stride=2, padding=1, output_padding=1))
            up.append(DenseBlock(new + skip, growth, count, config.dropout))
            channels = new + skip + count * growth
            new = count * growth
        self.enlarge, self.up = nn.ModuleList(enlarge), nn.ModuleList(up)
        self.classifier = nn.Conv2d(channels, config.classes, 1)

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        x = self.stem(x)  # B stem H W
        joined = []
        for block, halve in zip(self.down, self.halve, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            joined.append(x)
            x = halve(x)  # B . H/2 W/2
        new = self.bottleneck(x)  # B bottom*growth H/32 W/32
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = torch.cat([enlarge(new), joined.pop()], dim=1)  # B . 2H 2W
            new = block(x)
        return (self.classifier(torch.cat([x, new], dim=1)),)  # B K H W
