"""Differentiable augmentation of what a critic sees, real or drawn, so that a few pictures can't be learnt by heart.

Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training, 2020,
https://arxiv.org/abs/2006.10738

Where we differ: pictures may have any number of channels; colour shifts all of them together. Every picture draws its
own numbers, from torch's global generator. Pictures are in [-1, 1], where 0, which fills what is moved or cut out, is
grey; colours may leave that range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["colour", "translation", "cutout"]

SHIFT = 1 / 8  # translation: of the side, at most
HOLE = 1 / 2  # cutout: of the side


def diff_augment(images: Tensor, kinds: Sequence[Kind]) -> Tensor:
    """The pictures (B, C, H, W), each changed at random in the given ways, one after the other."""
    for kind in kinds:
        images = _CHANGES[kind](images)
    return images


def colour(images: Tensor) -> Tensor:
    """Brightness + [-1/2, 1/2], then saturation x [0, 2], then contrast x [1/2, 3/2], each uniform."""
    images = images + (_uniform(images) - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * 2 * _uniform(images)
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return level + (images - level) * (_uniform(images) + 0.5)


def translation(images: Tensor) -> Tensor:
    """Moved by whole pixels, up to an eighth of the side each way; 0 comes in where the picture ends."""
    for axis in (2, 3):
        length = images.shape[axis]
        most = round(length * SHIFT)
        shift = torch.randint(-most, most + 1, (len(images), 1), device=images.device)
        source = torch.arange(length, device=images.device) + shift  # (B, length)
        inside = (source >= 0) & (source < length)
        shape = (len(images), 1, length, 1) if axis == 2 else (len(images), 1, 1, length)
        index = source.clamp(0, length - 1).view(shape).expand_as(images)
        images = images.gather(axis, index) * inside.view(shape)
    return images


def cutout(images: Tensor) -> Tensor:
    """A rectangle of half the height and half the width set to 0. Its middle may be any pixel: it can hang over."""
    holes = []
    for axis in (2, 3):
        length = images.shape[axis]
        side = round(length * HOLE)
        first = torch.randint(0, length + 1 - side % 2, (len(images), 1), device=images.device) - side // 2
        place = torch.arange(length, device=images.device)
        holes.append((place >= first) & (place < first + side))  # (B, length)
    rows, columns = holes
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _uniform(images: Tensor) -> Tensor:
    """(B, 1, 1, 1) in [0, 1), a number for each picture."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)


_CHANGES = {"colour": colour, "translation": translation, "cutout": cutout}
