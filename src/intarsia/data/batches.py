"""Batches of augmented crops, the same ones in the same order for the same seed, from any position.

The i-th picture handed out is number i % n of the permutation that (seed, i // n) gives, and its augmentation is drawn
from (seed, i // n, picture): nothing depends on threads or on how often training was stopped, so the position
of a run is one number. Threads, not processes: OpenCV, decoding and NumPy let go of the interpreter's lock, there is no
shared memory to run out of, and no worker that can die.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Protocol

import cv2
import numpy as np
import torch

from ..records import IGNORE, Batch, Sample
from .augment import AugmentConfig, augment, mix
from .copy_paste import copy_paste
from .stack import Stack

QUICK = 1e-3  # seconds; a batch of 64 small pictures in memory takes a third of it


class Samples(Protocol):
    """Anything that hands out samples by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class Cached:
    """Samples that are decoded once and kept while they fit into `megabytes`; beyond, they are read each time."""

    def __init__(self, samples: Samples, megabytes: float = 4096) -> None:
        self.samples = samples
        self.left = megabytes * 1e6
        self.kept: dict[int, Sample] = {}
        self.counting = Lock()  # two threads may read the same sample at once, but keep one of it

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        if index in self.kept:
            return self.kept[index]
        sample = self.samples[index]
        objects = None if sample.instances is None else sample.instances.label_image
        arrays = (sample.image, sample.mask, sample.labels, objects, *sample.raters)
        size = sum(a.nbytes for a in arrays if a is not None)
        with self.counting:
            if index not in self.kept and size <= self.left:
                self.left -= size
                self.kept[index] = sample
        return sample


@dataclass(frozen=True)
class Stream:
    """Pictures that join each batch, after those that it is named for: unlabelled ones, or made pairs."""

    samples: Samples
    size: int  # pictures in each batch
    config: AugmentConfig
    rarity: np.ndarray | None = None


def batches(
    samples: Samples,
    config: AugmentConfig,
    size: int,
    seed: int,
    start: int = 0,
    workers: int = 1,
    rarity: np.ndarray | None = None,
    memory_format: torch.memory_format = torch.channels_last,
    beside: Sequence[Stream] = (),
) -> Generator[Batch, None, None]:
    """Endless batches of `size` augmented samples, from batch number `start` on, prepared `workers` batches ahead.

    workers = 0 prepares each batch when it is asked for, as is done where that takes less than QUICK: a thread would
    only wait for the interpreter's lock, and the model for the thread. The batches are the same. From the first batch
    on, OpenCV uses no threads of its own in this process: they would fight torch's for the cores.
    """
    cv2.setNumThreads(0)
    number, quickest = start, math.inf
    while workers == 0 or quickest < QUICK or number < start + 3:
        begin = time.perf_counter()
        batch = make_batch(samples, config, size, seed, number, rarity, memory_format, beside)
        quickest = min(quickest, time.perf_counter() - begin)
        yield batch
        number += 1
    with ThreadPoolExecutor(workers, thread_name_prefix="intarsia-data") as pool:
        ahead: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(ahead) < workers + 1:
                    wanted = (samples, config, size, seed, number, rarity, memory_format, beside)
                    ahead.append(pool.submit(make_batch, *wanted))
                    number += 1
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def make_batch(
    samples: Samples,
    config: AugmentConfig,
    size: int,
    seed: int,
    number: int,
    rarity: np.ndarray | None = None,
    memory_format: torch.memory_format = torch.channels_last,
    beside: Sequence[Stream] = (),
) -> Batch:
    """Batch number `number` of the endless sequence that `seed` gives."""
    source = samples.samples if isinstance(samples, Cached) else samples
    quick = changes_nothing(config) and isinstance(source, Stack) and source.images.shape[1:3] == config.crop
    if quick and isinstance(source, Stack) and not beside:
        return _as_they_are(source, [index for _, index in _drawn(len(samples), size, seed, number)], memory_format)
    crops = _crops(samples, config, size, seed, number, rarity)
    for place, stream in enumerate(beside, start=1):  # each stream has an order of its own
        crops += _crops(stream.samples, stream.config, stream.size, seed + place * 2**32, number, stream.rarity)
    if config.copy_paste:  # a place of its own, so that the numbers of `mix` do not depend on it
        crops = copy_paste(crops, config, np.random.default_rng((seed, number, 2**31 + 1)), rarity)
    if config.mix != "none":
        crops = mix(crops, config, np.random.default_rng((seed, number, 2**31)))
    return collate(crops, memory_format)


def _drawn(count: int, size: int, seed: int, number: int) -> list[tuple[int, int]]:
    """The epoch and the index of each picture of a batch."""
    places = [divmod(place, count) for place in range(number * size, (number + 1) * size)]
    return [(epoch, int(permutation(count, seed, epoch)[place])) for epoch, place in places]


def _crops(
    samples: Samples, config: AugmentConfig, size: int, seed: int, number: int, rarity: np.ndarray | None
) -> list[Sample]:
    still, crops = changes_nothing(config), []
    for epoch, index in _drawn(len(samples), size, seed, number):
        sample = samples[index]
        if not (still and sample.size == config.crop):  # `augment` would draw numbers and warp for nothing
            sample = augment(sample, config, np.random.default_rng((seed, epoch, index)), rarity)
        crops.append(sample)
    return crops


def _as_they_are(stack: Stack, indices: list[int], memory_format: torch.memory_format) -> Batch:
    """What `collate` gives for these samples of a stack, in a quarter of the time: small models wait for their data."""
    numbers = stack.numbers[indices]
    values = torch.from_numpy(_unit(stack.images[numbers])).permute(0, 3, 1, 2)
    unknown = torch.full((len(numbers),), IGNORE)
    categories = unknown if stack.categories is None else torch.from_numpy(stack.categories[numbers]).long()
    return Batch(
        values.contiguous(memory_format=memory_format),
        masks=torch.full((len(numbers), *stack.images.shape[1:3]), IGNORE),
        labelled=torch.zeros(len(numbers), dtype=torch.bool),
        categories=categories.clamp(min=IGNORE),
        names=tuple([f"picture {number}" for number in numbers.tolist()]),
    )


@lru_cache(maxsize=12)  # asked for each picture; batches prepared ahead may lie in two epochs, of each stream
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) the order of the samples in an epoch, not to be written to."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=4)
def changes_nothing(config: AugmentConfig) -> bool:
    """Whether a picture of the crop's size always comes out of `augment` as it went in."""
    off = ("stretch", "rotate", "flip_horizontal", "flip_vertical", "transpose", "brightness", "contrast", "saturation",
           "hue", "gamma", "tint", "shadow", "blur", "noise", "cutout")  # fmt: skip
    return config.scale == (1.0, 1.0) and config.rater == "majority" and not any(getattr(config, name) for name in off)


def collate(samples: Sequence[Sample], memory_format: torch.memory_format = torch.contiguous_format) -> Batch:
    """One batch of samples of one size; samples without a mask get one of IGNORE."""
    images = _images(samples).contiguous(memory_format=memory_format)
    names = tuple(sample.name for sample in samples)
    labelled = torch.tensor([sample.labelled for sample in samples])
    categories = torch.tensor([IGNORE if sample.category is None else sample.category for sample in samples])
    planes = next((len(sample.labels) for sample in samples if sample.labels is not None), None)
    if planes is not None:
        empty = np.full((planes, *samples[0].size), IGNORE, np.int8)
        stacked = np.stack([empty if sample.labels is None else sample.labels for sample in samples])
        labels = torch.from_numpy(stacked).float()
        return Batch(images, labels=labels, labelled=labelled, categories=categories, names=names)
    if all(sample.mask is None for sample in samples):
        long = torch.full((len(samples), *samples[0].size), IGNORE)
    else:
        blank = np.full(samples[0].size, IGNORE, np.int16)
        masks = np.stack([blank if sample.mask is None else sample.mask for sample in samples])
        long = torch.from_numpy(masks).long()
    objects, classes = _objects(samples)
    return Batch(
        images, masks=long, labelled=labelled, categories=categories, names=names, objects=objects,
        object_classes=classes,
    )  # fmt: skip


def _objects(samples: Sequence[Sample]) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
    """(B, H, W) int64 label images, of IGNORE where a sample has none, and the classes of each one's objects; nothing
    where no sample has any."""
    if all(sample.instances is None for sample in samples):
        return None, ()
    blank, nothing = np.full(samples[0].size, IGNORE, np.int32), np.zeros(0, np.int16)
    found = [(blank, nothing) if (each := sample.instances) is None else (each.label_image, each.classes)
             for sample in samples]  # fmt: skip
    images = torch.from_numpy(np.stack([image for image, _ in found])).long()
    return images, tuple(torch.from_numpy(classes.astype(np.int64)) for _, classes in found)


def to_tensor(sample: Sample) -> torch.Tensor:
    """(C, H, W) float32 in [0, 1], a view with channels last."""
    return torch.from_numpy(_unit(np.ascontiguousarray(sample.image))).permute(2, 0, 1)


def _images(samples: Sequence[Sample]) -> torch.Tensor:
    """(B, C, H, W) float32 in [0, 1], a view with channels last; at once where they are of one type."""
    if len({sample.image.dtype for sample in samples}) > 1:
        return torch.stack([to_tensor(sample) for sample in samples])
    return torch.from_numpy(_unit(np.stack([sample.image for sample in samples]))).permute(0, 3, 1, 2)


def _unit(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        return values
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
