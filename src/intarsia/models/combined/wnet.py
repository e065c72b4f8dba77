"""W-Net: regions found without any mask, because they cut a picture well and because it can be painted from them.

Xia, Kulis: W-Net: A Deep Model for Fully Unsupervised Image Segmentation, 2017, https://arxiv.org/abs/1711.08506
The cut: Shi, Malik: Normalized Cuts and Image Segmentation, 2000, https://doi.org/10.1109/34.868688

Where we differ: the paper takes two steps in turn, one for the cut and one for the reconstruction, of which the second
trains both halves; here both are terms of one loss. To first order the sum is the same move, it needs one pass through
the first half where the turns need two, and an optimizer with momentum keeps one memory of its weights, not two that
pull at each other. The cut is divided by the number of regions and the squared error by the variance of the pictures,
so that each lies in about [0, 1] and neither grows with K or with contrast; colours are compared by their mean square
difference over the channels, theirs by the sum; the cut is computed on pictures made smaller (`cut_side`). Any
segmenter may be the first half. Labelled pixels are learnt too where there are any: then this is for few labels.
Not here: the paper's conditional random field and its merging of regions by outlines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...records import Batch
from ..contract import Losses
from ..semantic import UNet, UNetConfig
from .combination import Combination, CombinationConfig

Place = tuple[slice, ...]  # where in (B, K, H, W)


class WNetConfig(CombinationConfig):
    """What builds a W-Net. `classes` is the number of regions, whose meaning nobody knows before."""

    name: Literal["wnet"] = "wnet"
    cut: float = Field(1.0, ge=0)  # weight of the soft normalised cut, which lies in [0, 1]
    reconstruction: float = Field(1.0, ge=0)  # weight of the share of the pictures' variance that is not painted again
    cut_side: int = Field(96, ge=8)  # pixels; the cut is computed on pictures whose longer side is at most that
    radius: int = Field(5, ge=1)  # pixels of those; two that are farther apart have nothing to do with each other
    colour_spread: float = Field(0.1, gt=0)  # of [0, 1]: colours that far apart are alike by exp(-1)
    place_spread: float = Field(4.0, gt=0)  # pixels of those: places that far apart are alike by exp(-1)
    decoder_width: int = Field(16, ge=1)  # channels of the second U-Net at full size
    decoder_depth: int = Field(3, ge=1, le=8)  # halvings in it


class WNet(Combination):
    """A segmenter, and a U-Net that paints the picture again from its soft regions (figure 2).

        images (B, C, H, W) ─┬─ segmenter ── softmax ──► regions (B, K, H, W) ─┬─ reconstructor ──► images again
                             │                                                 │                    │
                             ├─────────────────────── likeness of near pixels ─┴─ cut               │
                             └──────────────────────────────────────────────────── squared error ───┘

    Where classes overlap, each divides the pictures in two, what is of it and what is not, and the cut is the mean of
    those.
    """

    Config = WNetConfig
    config: WNetConfig
    learns_from_unlabelled = True
    needs_masks = False

    def __init__(self, config: WNetConfig) -> None:
        super().__init__(config)
        painter = UNetConfig(
            channels=config.classes,
            classes=config.channels,
            mean=(1 / config.classes,),
            deviation=(0.5,),
            width=config.decoder_width,
            depth=config.decoder_depth,
        )
        self.reconstructor = UNet(painter)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """The terms of the masks; `cut` in [0, 1]; `reconstruction`, the share of the variance that is missed."""
        config, images = self.config, batch.images
        logits = self.logits(images, auxiliary=True)
        supervised = self.judged(logits, batch)
        main = logits[0].float()
        regions = main.sigmoid() if self.overlapping else main.softmax(dim=1)  # B K H W
        painted = self.reconstructor(regions).float().sigmoid()  # B C H W
        variance = images.var(dim=(2, 3), correction=0).mean()
        reconstruction = (painted - images).square().mean() / (variance + 1e-3)  # of blank pictures too
        with torch.autocast(images.device.type, enabled=False):
            cut = self.cut(regions, images.float())
        total = supervised["total"] + config.cut * cut + config.reconstruction * reconstruction
        return {**supervised, "cut": cut, "reconstruction": reconstruction, "total": total}

    def cut(self, regions: Tensor, images: Tensor) -> Tensor:
        """() the soft normalised cut of soft regions (B, K, H, W) in [0, 1] through pictures (B, C, H, W)."""
        config = self.config
        scale = max(1.0, max(images.shape[2:]) / config.cut_side)
        if scale > 1:
            size = (max(1, math.floor(images.shape[2] / scale)), max(1, math.floor(images.shape[3] / scale)))
            images, regions = F.adaptive_avg_pool2d(images, size), F.adaptive_avg_pool2d(regions, size)
        if self.overlapping:
            regions = torch.stack([regions, 1 - regions], dim=2).flatten(0, 1)  # B*K 2 h w
            images = images.repeat_interleave(config.classes, dim=0)
        return soft_normalised_cut(regions, images, config.radius, config.colour_spread, config.place_spread)


def soft_normalised_cut(regions: Tensor, images: Tensor, radius: int, colour: float, place: float) -> Tensor:
    """() the paper's soft cut over K: 1 - the mean over regions of association within over association with all, in
    [0, 1]; the mean over pictures. (K - 1) / K where every pixel is of every region alike.

    regions: (B, K, H, W) in [0, 1]. images: (B, C, H, W) in [0, 1]. radius and place are in pixels. No gradient goes to
    the pictures.

    Association within is the quadratic form p' W p, whose gradient is 2 W p: W p is computed once, without a graph of
    all neighbours, and put in where its value and its gradient are right.
    """
    with torch.no_grad():
        near, degree = associated(regions, images, radius, colour, place)
    within = 2 * (regions * near).sum(dim=(2, 3)) - (regions.detach() * near).sum(dim=(2, 3))  # B K
    with_all = (regions * degree).sum(dim=(2, 3))  # B K
    return (1 - within / with_all.clamp(min=1e-6)).mean()


def associated(regions: Tensor, images: Tensor, radius: int, colour: float, place: float) -> tuple[Tensor, Tensor]:
    """W p (B, K, H, W) for soft regions p, and W 1 (B, 1, H, W), with the likeness of pixels i and j

        w_ij = exp(-mean over channels of (I_i - I_j)^2 / colour^2 - |x_i - x_j|^2 / place^2), 0 beyond `radius`.

    Each pair is visited once: the neighbours below and to the right, whose likeness holds both ways.
    """
    near = regions.clone()  # w_ii = 1
    degree = torch.ones_like(images[:, :1])
    for (dy, dx), here, there in _pairs(images.shape[2], images.shape[3], radius):
        difference = (images[here] - images[there]).square().mean(dim=1, keepdim=True)
        likeness = torch.exp(-difference / colour**2 - (dy * dy + dx * dx) / place**2)  # B 1 H-dy W-|dx|
        near[here] += likeness * regions[there]
        near[there] += likeness * regions[here]
        degree[here] += likeness
        degree[there] += likeness
    return near, degree


def _pairs(
    height: int, width: int, radius: int
) -> Iterator[tuple[tuple[int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Each offset of half a disc, and where its two ends lie: `there` is `here` moved by (dy, dx)."""
    every = slice(None)
    for dy in range(min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if dy * dy + dx * dx > radius * radius or (dy == 0 and dx <= 0):
                continue
            here = (every, every, slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
            there = (every, every, slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
            yield (dy, dx), here, there
