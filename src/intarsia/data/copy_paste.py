"""Copy-paste: regions of rare classes, cut from one labelled picture of a batch and laid on another, mask and all.

Ghiasi, Cui, Srinivas, Qian, Lin, Cubuk, Le, Zoph: Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation, 2021, https://arxiv.org/abs/2012.07177

Where we differ: where masks have no objects, a connected region of a class takes an object's place; its class is drawn
by rarity, where the paper takes any objects; it keeps about its size and its place, since what stands on the pavement
seldom flies; and never is it so large that it hides most of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects

from ..records import IGNORE, Instances, Sample
from .augment import AugmentConfig, warp
from .objects import laid_over

SMALLEST = 4  # pixels of a region
LARGEST = 0.25  # share of the picture: a region, not a background


class Region(NamedTuple):
    """A connected region of one class."""

    pixels: np.ndarray  # (H, W) bool
    centre: np.ndarray  # (2,) x and y of the middle of its bounding box, pixels; the first pixel lies at 0.5


def copy_paste(
    samples: Sequence[Sample],
    config: AugmentConfig,
    generator: np.random.Generator,
    rarity: np.ndarray | None = None,
) -> list[Sample]:
    """The samples (all of one size), each with probability `config.copy_paste` with up to `copy_paste_regions` regions
    of others laid on it. Only labelled pictures give and take, and only to pictures of their own type.

    rarity: (K,) odds of each class to be drawn, among those that the others show; None: all classes alike.
    """
    labelled = [number for number, sample in enumerate(samples) if sample.labelled]
    if not config.copy_paste or len(labelled) < 2:
        return list(samples)

    @cache
    def regions(number: int, kind: int) -> tuple[Region, ...]:
        instances = samples[number].instances
        return _regions(_plane(samples[number], kind)) if instances is None else _objects(instances, kind)

    shown = {number: _present(samples[number]) for number in labelled}
    result = list(samples)
    for number in labelled:
        if generator.random() >= config.copy_paste:
            continue
        taker = samples[number]
        givers = [other for other in labelled if other != number and _alike(samples[other], taker)]
        for _ in range(generator.integers(1, config.copy_paste_regions + 1)):
            kinds = np.unique(np.concatenate([np.empty(0, int), *(shown[other] for other in givers)]))
            for kind in _by_rarity(kinds, generator, rarity):
                found = [(other, each) for other in givers if kind in shown[other] for each in regions(other, kind)]
                if found:
                    giver, region = found[generator.integers(len(found))]
                    taker = _pasted(taker, samples[giver], region, kind, config, generator)
                    break
        result[number] = taker
    return result


def _by_rarity(kinds: np.ndarray, generator: np.random.Generator, rarity: np.ndarray | None) -> list[int]:
    """The classes in a random order, the likelier first the higher their odds; those of no odds are left out."""
    odds = np.ones(len(kinds)) if rarity is None else np.asarray(rarity, float)[kinds]
    kinds, odds = kinds[odds > 0], odds[odds > 0]
    order = np.argsort(generator.exponential(size=len(kinds)) / odds)  # the first of racing clocks
    return [int(kind) for kind in kinds[order]]


def _present(sample: Sample) -> np.ndarray:
    """The classes in a labelled sample."""
    if sample.labels is not None:
        return np.flatnonzero((sample.labels == 1).any(axis=(1, 2)))
    assert sample.mask is not None
    return np.flatnonzero(np.bincount(sample.mask[sample.mask != IGNORE], minlength=1))


def _plane(sample: Sample, kind: int) -> np.ndarray:
    """(H, W) bool: where a class is."""
    if sample.labels is not None:
        return sample.labels[kind] == 1
    return np.asarray(sample.mask == kind)


def _regions(plane: np.ndarray) -> tuple[Region, ...]:
    """The connected regions of a plane that are neither too small nor too large to be laid on another picture."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(plane.astype(np.uint8), connectivity=8)
    found = []
    for number, (left, top, width, height, area) in enumerate(stats):
        if number and SMALLEST <= area <= LARGEST * plane.size:
            found.append(Region(numbers == number, np.array([left + width / 2, top + height / 2])))
    return tuple(found)


def _objects(instances: Instances, kind: int) -> tuple[Region, ...]:
    """Likewise the objects of a class."""
    found = []
    for number, box in enumerate(find_objects(np.maximum(instances.label_image, 0)), start=1):
        if box is None or instances.classes[number - 1] != kind or kind == 0:
            continue
        pixels = instances.label_image == number
        if SMALLEST <= pixels.sum() <= LARGEST * pixels.size:
            found.append(Region(pixels, np.array([(box[1].start + box[1].stop) / 2, (box[0].start + box[0].stop) / 2])))
    return tuple(found)


def _alike(one: Sample, other: Sample) -> bool:
    same = one.size == other.size and one.image.dtype == other.image.dtype
    return same and one.image.shape[2] == other.image.shape[2] and (one.mask is None) == (other.mask is None)


def _pasted(
    taker: Sample, giver: Sample, region: Region, kind: int, config: AugmentConfig, generator: np.random.Generator
) -> Sample:
    """The taker with the giver's region laid on it: a little larger, smaller, beside its place or mirrored."""
    height, width = taker.size
    scale = np.exp(generator.uniform(*np.log(config.copy_paste_scale)))
    mirrored = -1.0 if generator.random() < config.flip_horizontal else 1.0
    sides = np.array([width, height])
    shift = np.round(generator.uniform(-1, 1, 2) * config.copy_paste_shift * sides)
    shift = np.clip(shift, -np.floor(region.centre), np.floor(sides - region.centre))  # half of it stays inside
    linear = np.diag([mirrored / scale, 1 / scale])  # from the taker's pixels to the giver's
    offset = region.centre - 0.5 + linear @ (0.5 - (region.centre + shift))

    marks = region.pixels[None].astype(np.int8)
    planes = marks if giver.labels is None else np.concatenate([giver.labels, marks])
    image, _, moved = warp(
        Sample(giver.name, giver.image, labels=planes), np.column_stack([linear, offset]), (height, width)
    )
    assert moved is not None
    inside = moved[-1] == 1
    share = inside.astype(np.float32)
    if config.copy_paste_soft:
        share = cv2.GaussianBlur(share, (0, 0), config.copy_paste_soft)
    blended = (1 - share[..., None]) * taker.image + share[..., None] * image
    if taker.image.dtype != np.float32:
        blended = blended.round().astype(taker.image.dtype)
    if taker.labels is not None:
        return replace(taker, image=blended, labels=np.where(inside, moved[:-1], taker.labels))
    if taker.instances is not None:
        one = Instances(inside.astype(np.int32), np.array([kind], np.int16))
        instances = laid_over(taker.instances, one, inside)
        return replace(taker, image=blended, mask=instances.mask, instances=instances)
    assert taker.mask is not None
    return replace(taker, image=blended, mask=np.where(inside, np.int16(kind), taker.mask))
