"""A small classifier of pixels on the maps of an encoder that stays as it is.

Hariharan, Arbeláez, Girshick, Malik: Hypercolumns for Object Segmentation and Fine-grained Localization, 2015,
https://arxiv.org/abs/1411.5752 (all maps at one size, stacked above each pixel)
Alain, Bengio: Understanding intermediate layers using linear classifier probes, 2016,
https://arxiv.org/abs/1610.01644 (a classifier on features that it cannot change)

Where we differ: the classifier is a perceptron for each pixel, not one for each cell of a grid; its first layer works
on each map at the map's own size, and the sums are resized, which is the same as resizing the maps first and takes a
fraction of the memory; maps are standardised by the statistics of the training pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...records import Batch
from ..contract import EncoderDecoder, Losses, SemanticConfig
from .combination import Combination, CombinationConfig


class FrozenFeaturesConfig(CombinationConfig):
    """What builds a classifier of frozen features. Of `segmenter` there is only the encoder."""

    name: Literal["frozen_features"] = "frozen_features"
    width: int = Field(64, ge=1)  # of the perceptron's hidden layers
    layers: int = Field(1, ge=0, le=4)  # hidden layers after the first; 0 = one hidden layer in all
    finest: Literal[1, 2, 4, 8] = 1  # maps finer than 1/this of the pictures' size are left out


class PixelClassifier(nn.Module):
    """A perceptron for each pixel of the hypercolumn.

    maps.i (B, channels[i], H/r, W/r) ── norms.i ── first.i, 1x1 ── resized ─┐ sum over i, ReLU
    scores ◄── last, 1x1 ◄── hidden, 1x1, ReLU ◄─────────────────────────────┘ (B, width, h, w)
    """

    def __init__(self, channels: Sequence[int], width: int, layers: int, classes: int) -> None:
        super().__init__()
        # the mean of all batches so far; weights of the norm's own would do what those of `first` do
        self.norms = nn.ModuleList(nn.BatchNorm2d(each, affine=False, momentum=None) for each in channels)
        self.first = nn.ModuleList(nn.Conv2d(each, width, 1, bias=i == 0) for i, each in enumerate(channels))
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Scores (B, classes, h, w) at the size of the first map, the finest."""
        total = self.first[0](self.norms[0](maps[0]))  # B width h w
        for norm, layer, each in zip(self.norms[1:], self.first[1:], maps[1:], strict=True):
            added = layer(norm(each))
            same = added.shape[2:] == total.shape[2:]
            total = total + (added if same else F.interpolate(added, size=total.shape[2:], mode="bilinear"))
        y = F.relu(total)
        for layer in self.hidden:
            y = F.relu(layer(y))
        scores: Tensor = self.last(y)
        return scores


class Hypercolumns(EncoderDecoder):
    """A segmenter of which only the encoder is left, frozen and in eval mode; a classifier of pixels decodes its maps.

    images ── encoder (frozen) ── maps from 1/finest on ── classifier ──► (B, K, h, w)
    """

    def __init__(self, segmenter: EncoderDecoder, config: FrozenFeaturesConfig) -> None:
        assert isinstance(segmenter.config, SemanticConfig)
        super().__init__(segmenter.config)
        self.stride = segmenter.stride
        self.encoder = segmenter.encoder.requires_grad_(False).eval()
        reductions = self.encoder.reductions
        self.used = [i for i, each in enumerate(reductions) if each >= config.finest] or [len(reductions) - 1]
        channels = [self.encoder.channels[i] for i in self.used]
        self.classifier = PixelClassifier(channels, config.width, config.layers, config.classes)

    def train(self, mode: bool = True) -> Hypercolumns:
        super().train(mode)
        self.encoder.eval()
        return self

    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        return (self.classifier([maps[i] for i in self.used]),)


class FrozenFeatures(Combination):
    """An encoder that was trained before (`train.start`, or timm's weights), and a classifier that is trained now."""

    Config = FrozenFeaturesConfig
    config: FrozenFeaturesConfig
    segmenter: Hypercolumns

    def __init__(self, config: FrozenFeaturesConfig) -> None:
        super().__init__(config)
        self.segmenter = Hypercolumns(self.in_halves(), config)

    def parts(self) -> dict[str, nn.Module]:
        return {"model": self.segmenter.classifier}

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return self.supervised(batch)
