"""Random changes of a training picture, made to picture and mask together.

One affine map holds flip, scale, rotation and crop, so a pixel is interpolated once. OpenCV counts pixel centres:
centre i of a row lies at i, and scaling by s sends x to (x + 0.5) * s - 0.5. Picture (bilinear) and mask (nearest)
go through the same map, so neither moves against the other. Light and colour follow as one 3x4 matrix and one gamma.
Everything drawn comes from the generator handed in; the same generator state gives the same crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..records import IGNORE, Image, Instances, Sample
from .objects import laid_over, numbered

Range = tuple[float, float]
Pixels = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0)]


class AugmentConfig(BaseModel):
    """What may happen to a training picture. A probability of 0 or an empty range switches a change off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crop: tuple[Pixels, Pixels] = (256, 256)  # height and width of what the net sees; smaller pictures are padded
    scale: tuple[Factor, Factor] = (0.75, 1.5)  # of the picture, drawn evenly in its logarithm; 1 = as it is
    stretch: float = Field(0.0, ge=0, lt=1)  # width against height: up to 1 ± this
    rotate: float = Field(0.0, ge=0, le=180)  # degrees, up to, both ways
    flip_horizontal: float = Field(0.5, ge=0, le=1)  # probability
    flip_vertical: float = Field(0.0, ge=0, le=1)  # probability
    transpose: float = Field(0.0, ge=0, le=1)  # probability of exchanging x and y: with both flips, all 8 of a square
    rare_crops: float = Field(0.0, ge=0, le=1)  # probability that a crop is centred on a class drawn by rarity
    brightness: float = Field(0.2, ge=0)  # added, up to ± this share of the full range
    contrast: float = Field(0.25, ge=0, lt=1)  # factor 1 ± this, about the middle grey
    saturation: float = Field(0.3, ge=0)  # factor 1 ± this; three-channel pictures only
    hue: float = Field(0.03, ge=0, le=0.5)  # turns of the colour circle, ±; three-channel pictures only
    gamma: float = Field(0.2, ge=0)  # exponent exp(± this)
    tint: float = Field(0.0, ge=0, lt=1)  # a factor 1 ± this for each channel on its own: the colour of the light
    shadow: float = Field(0.0, ge=0, le=1)  # probability of a darker or lighter half with a soft, straight border
    blur: float = Field(0.1, ge=0, le=1)  # probability of a Gaussian blur of 0.3 to 1.5 pixels
    noise: float = Field(0.1, ge=0, le=1)  # probability of Gaussian noise
    noise_deviation: float = Field(0.04, ge=0)  # its largest standard deviation, as a share of the full range
    cutout: float = Field(0.0, ge=0, le=1)  # probability of a grey rectangle; its mask is left as it is
    rater: Literal["majority", "random"] = (
        "majority"  # of several raters' masks: what most say; or any one's, each time
    )
    mix: Literal["none", "cutmix", "classmix"] = "none"  # paste from another picture of the batch, mask and all
    mix_probability: float = Field(0.5, ge=0, le=1)
    copy_paste: float = Field(0.0, ge=0, le=1)  # probability that regions of rare classes of others are laid on it
    copy_paste_regions: int = Field(3, ge=1)  # at most so many, one at least
    copy_paste_scale: tuple[Factor, Factor] = (0.8, 1.25)  # of a region, drawn evenly in its logarithm; 1 = as it is
    copy_paste_shift: float = Field(0.25, ge=0, le=1)  # from where it was, up to this share of the sides; 0 = there
    copy_paste_soft: float = Field(0.7, ge=0)  # deviation of its soft edge, in pixels of the crop; 0 = a hard edge

    def geometry(self) -> AugmentConfig:
        """The same crops, scaled, turned and mirrored, but with the picture's own light and colour, and nothing mixed
        in: what a teacher sees."""
        off = ("brightness", "contrast", "saturation", "hue", "gamma", "tint", "shadow", "blur", "noise", "cutout",
               "rare_crops", "copy_paste")  # fmt: skip
        return self.model_copy(update={**{name: 0.0 for name in off if name in type(self).model_fields}, "mix": "none"})

    @field_validator("scale", "copy_paste_scale")
    @classmethod
    def _smallest_first(cls, scale: Range) -> Range:
        if scale[0] > scale[1]:
            raise ValueError(f"the smallest factor comes first: [{scale[1]:g}, {scale[0]:g}].")
        return scale


def augment(
    sample: Sample, config: AugmentConfig, generator: np.random.Generator, rarity: np.ndarray | None = None
) -> Sample:
    """The sample as a random crop of `config.crop` pixels with its mask, labels or instances; raters are left out.
    Instances are numbered anew, and the mask follows from them.

    `rarity` (K,) are the odds of each class to be the centre of a rare crop; None: all classes alike.
    What lies outside the picture is mirrored in the picture and IGNORE in the mask.
    """
    if config.rater == "random" and sample.raters:  # no number is drawn otherwise: old runs see the crops they saw
        sample = replace(sample, mask=sample.raters[int(generator.integers(len(sample.raters)))])
    matrix = _affine(sample, config, generator, rarity)
    instances = None
    if sample.instances is not None:
        instances = warp_objects(sample.instances, matrix, config.crop)
        sample = replace(sample, mask=None)
    image, mask, labels = warp(sample, matrix, config.crop)
    image = _recolour(image, config, generator)
    if generator.random() < config.blur:
        image = _with_channels(cv2.GaussianBlur(image, (0, 0), generator.uniform(0.3, 1.5)))
    if generator.random() < config.noise:
        image = _noisy(image, config.noise_deviation, generator)
    if generator.random() < config.cutout:
        image = _cut_out(image, generator)
    mask = mask if instances is None else instances.mask
    return Sample(sample.name, image, mask, labels, instances, category=sample.category)


def mix(samples: Sequence[Sample], config: AugmentConfig, generator: np.random.Generator) -> list[Sample]:
    """The samples (all of one size), each with probability `mix_probability` with a part of the next pasted in.

    CutMix (Yun 2019, arXiv:1905.04899): a rectangle of 10 to 50 % of the area. ClassMix (Olsson 2021,
    arXiv:2007.07936): the pixels of half of the next picture's classes. Only labelled pictures give and take.
    """
    if config.mix == "none" or len(samples) < 2:
        return list(samples)
    mixed = []
    for taker, giver in zip(samples, [*samples[1:], samples[0]], strict=True):
        if generator.random() >= config.mix_probability or not (taker.labelled and giver.labelled):
            mixed.append(taker)
            continue
        region = _rectangle(taker.size, generator) if config.mix == "cutmix" else _half_the_classes(giver, generator)
        image = np.where(region[..., None], giver.image, taker.image)
        if taker.instances is not None and giver.instances is not None:
            instances = laid_over(taker.instances, giver.instances, region)
            mixed.append(replace(taker, image=image, mask=instances.mask, instances=instances))
        elif taker.mask is not None and giver.mask is not None:
            mixed.append(replace(taker, image=image, mask=np.where(region, giver.mask, taker.mask)))
        elif taker.labels is not None and giver.labels is not None:
            mixed.append(replace(taker, image=image, labels=np.where(region, giver.labels, taker.labels)))
    return mixed


def _affine(
    sample: Sample, config: AugmentConfig, generator: np.random.Generator, rarity: np.ndarray | None
) -> np.ndarray:
    """The map (2, 3) from the crop's pixels to the picture's, in OpenCV's coordinates of pixel centres."""
    (height, width), (crop_height, crop_width) = sample.size, config.crop
    scale = np.exp(generator.uniform(np.log(config.scale[0]), np.log(config.scale[1])))
    ratio = np.exp(generator.uniform(-1, 1) * np.log1p(config.stretch))
    angle = np.deg2rad(generator.uniform(-config.rotate, config.rotate))
    across, down = scale * np.sqrt(ratio), scale / np.sqrt(ratio)  # size on the crop of one pixel of the picture
    flip_x = -1.0 if generator.random() < config.flip_horizontal else 1.0
    flip_y = -1.0 if generator.random() < config.flip_vertical else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag([flip_x / across, flip_y / down]) @ turn  # crop -> picture
    if generator.random() < config.transpose:
        linear = linear[:, ::-1]

    half = np.array([crop_width, crop_height]) / 2
    reach = np.abs(linear) @ half  # of the crop's corners from its centre, on the picture
    rare = _rare_pixel(sample, generator, rarity) if generator.random() < config.rare_crops else None
    if rare is None:  # anywhere such that as little as possible of the crop lies outside
        centre = np.array([_within(side, r, generator) for side, r in zip((width, height), reach, strict=True)])
    else:  # the rare pixel anywhere in the inner half of the crop, but the crop inside the picture where it can be
        pixel = np.array(rare) + 0.5
        wanted = pixel + linear @ (generator.uniform(-0.5, 0.5, 2) * half)
        centre = np.array([
            np.clip(w, r, side - r) if side > 2 * r else side / 2
            for w, r, side in zip(wanted, reach, (width, height), strict=True)
        ])  # fmt: skip
        if np.any(np.abs(np.linalg.solve(linear, pixel - centre)) > half - 1):
            centre = wanted  # the pixel is in a corner of the picture that a turned crop inside it can't reach
    if any(np.allclose(np.abs(linear), each) for each in (np.eye(2), np.eye(2)[::-1])):  # neither scaled nor turned
        centre = np.round(centre - reach) + reach  # stay on whole pixels
    # continuous coordinates: source = linear (target - half) + centre; pixel centres lie half a pixel further
    offset = centre - linear @ (half - 0.5) - 0.5
    return np.column_stack([linear, offset])


def _within(side: int, half: float, generator: np.random.Generator) -> float:
    low, high = sorted((half, side - half))
    return float(generator.uniform(low, high))


def _rare_pixel(sample: Sample, generator: np.random.Generator, rarity: np.ndarray | None) -> list[float] | None:
    """The x and y of a random pixel of a class drawn by rarity among those in the picture; None where there is none."""
    if sample.mask is not None:
        known = sample.mask[sample.mask != IGNORE]
        present = np.flatnonzero(np.bincount(known, minlength=1)) if known.size else np.empty(0, int)
    elif sample.labels is not None:
        present = np.flatnonzero((sample.labels == 1).any(axis=(1, 2)))
    else:
        return None
    if not present.size:
        return None
    odds = np.ones(present.size) if rarity is None else rarity[present].astype(float)
    if odds.sum() <= 0:
        return None
    chosen = generator.choice(present, p=odds / odds.sum())
    plane = sample.mask == chosen if sample.mask is not None else sample.labels[chosen] == 1  # type: ignore[index]
    pixels = np.flatnonzero(plane)
    y, x = divmod(int(generator.choice(pixels)), plane.shape[1])
    return [float(x), float(y)]


def warp(
    sample: Sample, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[Image, np.ndarray | None, np.ndarray | None]:
    """Picture, mask and labels at height and width `size`, seen through the map (2, 3) from their pixels to the
    sample's, in OpenCV's coordinates of pixel centres; outside, the picture is mirrored and the rest is IGNORE."""
    flags = cv2.WARP_INVERSE_MAP
    height, width = size
    rows, columns = _seen(sample.size, matrix, size)  # all that matters: OpenCV takes no side above 32,766
    matrix = matrix - [[0, 0, columns.start], [0, 0, rows.start]]
    picture = sample.image[rows, columns]

    def warped(plane: np.ndarray, interpolation: int, border: int, value: int) -> np.ndarray:
        return cv2.warpAffine(
            plane, matrix, (width, height), flags=flags | interpolation, borderMode=border, borderValue=value
        )

    nearest = cv2.INTER_NEAREST
    # OpenCV warps at most four channels at once
    parts = [
        _with_channels(
            warped(np.ascontiguousarray(picture[..., i : i + 4]), cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0)
        )
        for i in range(0, picture.shape[2], 4)
    ]
    image = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    mask = None if sample.mask is None else warped(sample.mask[rows, columns], nearest, cv2.BORDER_CONSTANT, IGNORE)
    if sample.labels is None:
        return image, mask, None
    planes = sample.labels[:, rows, columns].astype(np.int16)
    labels = np.stack([warped(plane, nearest, cv2.BORDER_CONSTANT, IGNORE) for plane in planes])
    return image, mask, labels.astype(np.int8)


def warp_objects(instances: Instances, matrix: np.ndarray, size: tuple[int, int]) -> Instances:
    """The objects as `warp` shows their picture: numbered anew, IGNORE outside; each pixel is the nearest one's."""
    rows, columns = _seen(instances.label_image.shape[:2], matrix, size)
    matrix = matrix - [[0, 0, columns.start], [0, 0, rows.start]]
    numbers = instances.label_image[rows, columns].astype(np.float32)  # exact to 2**24; OpenCV warps no int32
    height, width = size
    moved = cv2.warpAffine(
        numbers, matrix, (width, height), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE,
    )  # fmt: skip
    return numbered(moved.astype(np.int32), instances.classes)


def _seen(picture: tuple[int, ...], matrix: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of a picture of that height and width that a crop shows, or shows mirrored."""
    corners = matrix @ [[0, size[1], 0, size[1]], [0, 0, size[0], size[0]], [1, 1, 1, 1]]  # x above y
    found = []
    for side, places in zip(picture, corners[::-1], strict=True):
        low, high = math.floor(places.min()) - 2, math.ceil(places.max()) + 2
        low, high = min(low, 2 * side - high), max(high, -low)  # what lies beyond a border is mirrored in it
        found.append(slice(min(max(low, 0), side - 1), max(min(high, side), 1)))
    return found[0], found[1]


def _recolour(image: Image, config: AugmentConfig, generator: np.random.Generator) -> Image:
    """Brightness, contrast, saturation, hue and tint as one matrix, then gamma; every draw is made whether used or not,
    so that the numbers after them do not depend on the channels."""
    channels = image.shape[2]
    added, gain, saturation, hue, exponent = generator.uniform(-1, 1, 5) * (
        config.brightness, config.contrast, config.saturation, config.hue, config.gamma
    )  # fmt: skip
    tint = 1 + config.tint * generator.uniform(-1, 1, channels)
    shadow = generator.random() < config.shadow
    top = _full_range(image)
    matrix = np.diag((1 + gain) * tint)
    if channels == 3 and (saturation or hue):
        matrix = matrix @ _saturation_and_hue(max(0.0, 1 + saturation), hue)
    shift = np.full(channels, (added - 0.5 * gain) * top)
    identity = np.allclose(matrix, np.eye(channels)) and np.allclose(shift, 0) and not exponent
    if identity and not shadow:
        return image
    if image.dtype == np.uint8 and channels == 3:
        image = cv2.transform(image, np.column_stack([matrix, shift]))
        table = (255 * (np.arange(256) / 255) ** np.exp(exponent)).round().astype(np.uint8)
        image = cv2.LUT(image, table)
        return _shaded(image, generator) if shadow else image
    values = image.astype(np.float32) @ matrix.T.astype(np.float32) + shift.astype(np.float32)
    values = np.clip(values / top, 0, 1) ** np.exp(exponent)
    result = _back_to(image.dtype, values, top)
    return _shaded(result, generator) if shadow else result


def _saturation_and_hue(saturation: float, turns: float) -> np.ndarray:
    """The 3x3 matrix that turns RGB about the grey axis and moves it towards (0) or away from (> 1) grey."""
    grey = np.full((3, 3), 1 / 3)
    cosine, sine = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # Rodrigues' formula about (1, 1, 1)
    turned = cosine * np.eye(3) + sine * cross + (1 - cosine) * grey
    return grey + saturation * (turned - grey)


def _shaded(image: Image, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    angle, offset, soft = generator.uniform(0, 2 * np.pi), generator.uniform(-0.3, 0.3), generator.uniform(0.02, 0.3)
    factor = np.exp(generator.uniform(-0.8, 0.5))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    ramp = np.clip((np.cos(angle) * x + np.sin(angle) * y - offset) / soft + 0.5, 0, 1)
    shade = (1 + (factor - 1) * ramp)[..., None]
    top = _full_range(image)
    return _back_to(image.dtype, np.clip(image.astype(np.float32) * (shade / top), 0, 1), top)


def _noisy(image: Image, deviation: float, generator: np.random.Generator) -> Image:
    top = _full_range(image)
    spread = generator.uniform(0, deviation)
    noise = generator.standard_normal(image.shape, dtype=np.float32)
    return _back_to(image.dtype, np.clip(image.astype(np.float32) / top + spread * noise, 0, 1), top)


def _cut_out(image: Image, generator: np.random.Generator) -> Image:
    """A rectangle of 2 to 15 % of the area in the crop's mean colour. DeVries 2017, arXiv:1708.04552."""
    region = _rectangle(image.shape[:2], generator, (0.02, 0.15))
    return np.where(region[..., None], image.mean(axis=(0, 1)).astype(image.dtype), image)


def _rectangle(size: tuple[int, ...], generator: np.random.Generator, share: Range = (0.1, 0.5)) -> np.ndarray:
    height, width = size[:2]
    area, ratio = generator.uniform(*share), np.exp(generator.uniform(-0.7, 0.7))
    tall = int(np.clip(round(height * np.sqrt(area * ratio)), 1, height))
    wide = int(np.clip(round(width * np.sqrt(area / ratio)), 1, width))
    y, x = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
    region = np.zeros((height, width), bool)
    region[y : y + tall, x : x + wide] = True
    return region


def _half_the_classes(sample: Sample, generator: np.random.Generator) -> np.ndarray:
    """(H, W) bool: where half of the classes in the sample are, rounded up."""
    if sample.labels is not None:
        there = sample.labels == 1
        present = np.flatnonzero(there.any(axis=(1, 2)))
        return there[generator.permutation(present)[: (present.size + 1) // 2]].any(axis=0)
    assert sample.mask is not None
    present = np.unique(sample.mask[sample.mask != IGNORE])
    return np.isin(sample.mask, generator.permutation(present)[: (present.size + 1) // 2])


def _full_range(image: Image) -> float:
    return 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)


def _back_to(dtype: np.dtype, values: np.ndarray, top: float) -> Image:
    values = values.astype(np.float32)
    return values if dtype == np.float32 else (values * top + 0.5).astype(dtype)


def _with_channels(image: np.ndarray) -> Image:
    return image if image.ndim == 3 else image[..., None]
