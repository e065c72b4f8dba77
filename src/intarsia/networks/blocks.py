"""Bricks that several networks are built of. B pictures, C channels, H x W pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU: (B, inputs, H, W) to (B, outputs, H/stride, W/stride), rounded up."""
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def fcn_head(inputs: int, classes: int, dropout: float) -> nn.Sequential:
    """A 3x3 convolution to a quarter of the channels, then a score a class: (B, inputs, H, W) to (B, classes, H, W)."""
    width = max(inputs // 4, 1)
    return nn.Sequential(*conv_block(inputs, width), nn.Dropout(dropout), nn.Conv2d(width, classes, 1))


class ResidualBlock(nn.Module):
    """relu(x + conv(conv(x))), size and channels kept (He et al., 2016, figure 2, identity shortcut)."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv_block(channels, channels, dilation=dilation)
        self.second = conv_block(channels, channels, dilation=dilation)[:2]  # its ReLU comes after the sum
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.first(x)))


class ImagePooling(nn.Module):
    """The mean of the whole map through a 1x1 convolution, spread over the map again: (B, inputs, H, W) to
    (B, outputs, H, W). Liu et al., ParseNet, 2015.

    Batch statistics of one picture are those of a single number a channel, so a training batch of one picture is
    normalised with the running statistics.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv(x.mean(dim=(2, 3), keepdim=True))  # B outputs 1 1
        norm = self.norm
        if self.training and len(x) == 1:
            pooled = F.batch_norm(pooled, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            pooled = norm(pooled)
        return F.relu(pooled).expand(-1, -1, x.shape[2], x.shape[3])  # B outputs H W


def resized(x: Tensor, like: Tensor) -> Tensor:
    """x (B, C, h, w) at the height and width of `like`, bilinear: (B, C, H, W)."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def doubled(x: Tensor) -> Tensor:
    """x (B, C, H, W) at twice its height and width, bilinear: (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
