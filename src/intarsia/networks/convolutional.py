"""Bricks of networks that halve and double pictures by convolution, the same whatever else is in the batch.

Group normalisation: Wu, He, Group Normalization, 2018, https://arxiv.org/abs/1803.08494. Kernels of 4 x 4 at strides of
2 touch every pixel equally often (Odena et al., Deconvolution and Checkerboard Artifacts, 2016).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 16  # channels that are normalised together, about


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation of any number of channels: the groups have about GROUP of them, all the same number."""
    return nn.GroupNorm(math.gcd(channels, max(1, channels // GROUP)), channels)


def halving(inputs: int, outputs: int, normalised: bool = True) -> nn.Sequential:
    """Convolution, normalisation, leaky ReLU: (B, inputs, H, W) to (B, outputs, H/2, W/2), rounded down."""
    conv = nn.Conv2d(inputs, outputs, 4, 2, 1)
    return nn.Sequential(conv, *([group_norm(outputs)] if normalised else []), nn.LeakyReLU(0.2))


def doubling(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed convolution, normalisation, ReLU: (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), group_norm(outputs), nn.ReLU())


def padded(x: Tensor, stride: int) -> Tensor:
    """x (B, C, H, W) with its last row and column repeated until both sides are multiples of the stride."""
    return F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride), mode="replicate")
