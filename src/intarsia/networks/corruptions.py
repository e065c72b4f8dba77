"""Damage done to pictures, for models that learn to undo it, and a first guess at what is missing.

All pictures are (B, C, H, W) in [0, 1]; `known` is (B, 1, H, W) float32, 1 where a pixel is there and 0 where it is
missing. Every picture of a batch is damaged on its own. Chance is torch's global generator of the pictures' device,
and nothing else.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in luminance, ITU-R BT.601
PIECES = 24  # rectangles or strokes that are tried for each picture's missing region
LEVELS = 6  # halvings over which `filled` looks for known pixels: 64 pixels, then the mean of all

Deviation = Annotated[float, Field(ge=0, le=2)]
Pixels = Annotated[float, Field(ge=0, le=64)]


class CorruptionConfig(BaseModel):
    """What is done to a picture, in this order: grey, blur, noise, holes. As it stands, nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    grey: bool = False  # every channel becomes the luminance: the colours have to be guessed
    blur: tuple[Pixels, Pixels] = (0.0, 0.0)  # Gaussian: deviation from, to, pixels; drawn evenly for each picture
    noise: tuple[Deviation, Deviation] = (0.0, 0.0)  # Gaussian: deviation from, to, as a share of the full range
    holes: float = Field(0.0, ge=0, le=0.9)  # the largest share of a picture's pixels that goes missing; 0 = none
    shapes: Literal["mixed", "rectangles", "strokes"] = "mixed"  # of holes; mixed: each picture has one or the other

    @model_validator(mode="after")
    def _smallest_first(self) -> Self:
        for name, (low, high) in (("blur", self.blur), ("noise", self.noise)):
            if low > high:
                raise ValueError(f"the smallest deviation of {name} comes first: [{high:g}, {low:g}].")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of what is done."""
        done = {"grey": self.grey, "blur": self.blur[1] > 0, "noise": self.noise[1] > 0, "holes": self.holes > 0}
        return tuple(name for name, is_done in done.items() if is_done)


def damaged(images: Tensor, config: CorruptionConfig) -> tuple[Tensor, Tensor]:
    """The pictures after all that the configuration asks for, in [0, 1] and 0 where missing; and `known`."""
    count, _, height, width = images.shape
    if config.grey:
        images = grey(images)
    if config.blur[1] > 0:
        images = blurred(images, _evenly(images, config.blur))
    if config.noise[1] > 0:
        images = noisy(images, _evenly(images, config.noise))
    if config.holes > 0:
        known = random_known(count, height, width, config.holes, config.shapes, images.device)
        return images * known, known
    return images, torch.ones(count, 1, height, width, device=images.device)


def grey(images: Tensor) -> Tensor:
    """The luminance in every channel; the channels' mean where they are not red, green and blue."""
    channels = images.shape[1]
    shares = GREY_WEIGHTS if channels == 3 else (1 / channels,) * channels
    weights = torch.tensor(shares, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand(-1, channels, -1, -1)


def noisy(images: Tensor, deviation: Tensor) -> Tensor:
    """The pictures with Gaussian noise of deviation (B,), cut to [0, 1] as a camera's numbers are."""
    return (images + deviation.view(-1, 1, 1, 1) * torch.randn_like(images)).clamp(0, 1)


def blurred(images: Tensor, deviation: Tensor) -> Tensor:
    """Each picture under a Gaussian of its own deviation (B,) in pixels, cut off at three of the largest; 0 = as it is.
    Beyond the border the last pixel goes on."""
    count, channels, height, width = images.shape
    reach = math.ceil(3 * float(deviation.max()))
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / deviation.clamp(min=1e-3)[:, None]) ** 2)  # B 2*reach+1
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(images.dtype).repeat_interleave(channels, dim=0)
    x = images.reshape(1, count * channels, height, width)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernels[:, None, None, :], groups=len(kernels))
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernels[:, None, :, None], groups=len(kernels))
    return x.view(count, channels, height, width)


def random_known(
    count: int,
    height: int,
    width: int,
    share: float,
    shapes: Literal["mixed", "rectangles", "strokes"] = "mixed",
    device: torch.device | str = "cpu",
) -> Tensor:
    """`known` of `count` pictures whose missing share is at most a number drawn from [share / 4, share] for each.

    Missing are rectangles, or what a hand would paint over: strokes of one width in runs of straight pieces. Pieces
    are drawn one after another, and one that would take away too much is left out.
    """
    target = share * (0.25 + 0.75 * torch.rand(count, 1, 1, device=device))
    if shapes == "mixed":
        square = torch.rand(count, 1, 1, device=device) < 0.5
    else:
        square = torch.full((count, 1, 1), shapes == "rectangles", device=device)
    side = (target * height * width).sqrt()  # of a square of the area that may go, pixels
    rows = torch.arange(height, device=device).view(1, -1, 1) + 0.5
    columns = torch.arange(width, device=device).view(1, 1, -1) + 0.5

    missing = torch.zeros(count, height, width, dtype=torch.bool, device=device)
    radius = side * (0.05 + 0.07 * torch.rand_like(side)) + 0.5
    y, x, angle = _place(side, height), _place(side, width), _turns(side, 0.5)
    for _ in range(PIECES):
        # a rectangle of 10 to 100 % of the area, up to twice as long as wide
        area = target * height * width * (0.1 + 0.9 * torch.rand_like(side))
        stretch = torch.exp(0.69 * (torch.rand_like(side) - 0.5))
        half_height, half_width = area.sqrt() * stretch / 2, area.sqrt() / stretch / 2
        top, left = _place(side, height), _place(side, width)
        rectangle = ((rows - top).abs() < half_height) & ((columns - left).abs() < half_width)
        # a straight piece of a stroke, which begins where the last ended and turns by up to 70 degrees
        angle = angle + _turns(side, 0.2)
        length = side * (0.2 + 0.6 * torch.rand_like(side))
        to_y, to_x = y + length * angle.sin(), x + length * angle.cos()
        stroke = _distance(rows, columns, y, x, to_y, to_x) < radius
        inside = (to_y > 0) & (to_y < height) & (to_x > 0) & (to_x < width)
        y = torch.where(inside, to_y, _place(side, height))  # off the picture: lift the brush and begin elsewhere
        x = torch.where(inside, to_x, _place(side, width))

        more = missing | torch.where(square, rectangle, stroke)
        small = more.float().mean(dim=(1, 2), keepdim=True) <= target
        missing = torch.where(small, more, missing)
    return (~missing[:, None]).float()  # B 1 H W


def centre_known(
    count: int, height: int, width: int, share: float = 0.25, device: torch.device | str = "cpu"
) -> Tensor:
    """`known` with the middle missing: a rectangle of the picture's form and about that share of its area."""
    known = torch.ones(count, 1, height, width, device=device)
    tall, wide = round(height * math.sqrt(share)), round(width * math.sqrt(share))
    top, left = (height - tall) // 2, (width - wide) // 2
    known[:, :, top : top + tall, left : left + wide] = 0
    return known


def filled(images: Tensor, known: Tensor) -> Tensor:
    """The pictures with a smooth guess where pixels are missing; known pixels are as they were.

    Each missing pixel gets the mean of the known ones near it, over as small a neighbourhood as has any: means are
    taken over 2, 4, ... pixels, then the coarse ones fill the gaps of the finer. After Gortler, Grzeszczuk, Szeliski,
    Cohen: The Lumigraph, 1996, section 3.4 (pull-push). At each size a few rounds of replacing missing pixels by the
    mean of their neighbours take the squares out of it. Where nothing at all is known, 0.5.
    """
    sums, weights = [images * known], [known]
    for _ in range(LEVELS):
        height, width = sums[-1].shape[2:]
        pad = (0, width % 2, 0, height % 2)  # with pixels that nobody knows
        sums.append(F.avg_pool2d(F.pad(sums[-1], pad), 2))
        weights.append(F.avg_pool2d(F.pad(weights[-1], pad), 2))
    total = weights[-1].sum(dim=(2, 3), keepdim=True)
    mean = sums[-1].sum(dim=(2, 3), keepdim=True) / total.clamp(min=1e-12)
    guess = torch.where(total > 0, mean, 0.5)
    for level in range(LEVELS, -1, -1):
        size = sums[level].shape[2:]
        if level < LEVELS:
            below = F.interpolate(guess, scale_factor=2.0, mode="bilinear", align_corners=False)
            guess = below[:, :, : size[0], : size[1]]
        here = sums[level] / weights[level].clamp(min=1e-12)
        trust = (weights[level] * 4).clamp(max=1) if level else known  # a quarter of the pixels is enough
        guess = trust * here + (1 - trust) * guess.expand(-1, -1, *size)
        for _ in range(min(2 ** (level + 1), 8)):
            around = F.avg_pool2d(F.pad(guess, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            guess = trust * here + (1 - trust) * around
    return guess


def _evenly(images: Tensor, span: tuple[float, float]) -> Tensor:
    """(B,) numbers drawn evenly between two."""
    return span[0] + (span[1] - span[0]) * torch.rand(len(images), device=images.device)


def _place(like: Tensor, length: int) -> Tensor:
    return length * torch.rand_like(like)


def _turns(like: Tensor, most: float) -> Tensor:
    """Angles in radians of up to `most` full turns to either side."""
    return 2 * math.pi * most * (2 * torch.rand_like(like) - 1)


def _distance(rows: Tensor, columns: Tensor, y: Tensor, x: Tensor, to_y: Tensor, to_x: Tensor) -> Tensor:
    """(B, H, W) pixels from each pixel's centre to the straight piece from (y, x) to (to_y, to_x), each (B, 1, 1)."""
    along_y, along_x = to_y - y, to_x - x
    square = (along_y**2 + along_x**2).clamp(min=1e-6)
    share = (((rows - y) * along_y + (columns - x) * along_x) / square).clamp(0, 1)  # of the way to the nearest point
    return ((rows - y - share * along_y) ** 2 + (columns - x - share * along_x) ** 2).sqrt()
