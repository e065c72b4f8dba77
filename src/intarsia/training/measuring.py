"""What is measured on a generative model, one quantity a function. `generation.py` decides what is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from ..data.batches import Samples, collate
from ..data.pictures import Whole
from ..errors import DataError
from ..metrics.feature_distance import nearest
from ..models.contract import Bounded, Draws, GenerativeModel, Mends, Reconstructs
from ..models.generative.autoencoder import Autoencoder
from ..models.generative.pix2pix import Pix2Pix
from ..models.sampling import draw
from ..networks.corruptions import centre_known, damaged
from ..records import IGNORE, Batch, Sample, default_colours
from .features import shrunk, within
from .verdicts import ACTIVE

BATCH = 32
SMALL = 32  # pixels, the longer side at which pictures are compared with all training pictures
NEIGHBOURS = 50  # of a drawn picture, that say how far training pictures are from there at all
HOLE = 0.25  # share of a picture's pixels in the hole that is to be filled, where the model says nothing else

Told = Callable[[int], Tensor]


class Gathered:
    """Pictures in memory at a model's size."""

    def __init__(self, samples: Samples, model: GenerativeModel, most: int, *, told: bool = True) -> None:
        """At most so many of the samples, evenly spread; with `told` only those that show what the model is told."""
        whole, size = Whole(samples, model.config.size), model.config.size
        self.condition: str = getattr(model.config, "condition", "none")
        self.classes, self.channels, self.size = model.config.classes, model.config.channels, size
        chosen = np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int)
        self.samples = [cut(whole[int(number)], size) for number in chosen]
        if told and self.condition != "none":
            self.samples = [each for each in self.samples if self._is_told(each)]
        for sample in self.samples:
            if sample.image.shape[2] != model.config.channels:
                raise DataError(
                    f"{sample.name} has {sample.image.shape[2]} channels, but the model learnt from pictures with "
                    f"{model.config.channels}; give pictures like those."
                )

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.samples), BATCH):
            yield collate(self.samples[start : start + BATCH])

    def images(self) -> Tensor:
        """(N, C, H, W) float32 in [0, 1]."""
        nothing = torch.empty(0, self.channels, *self.size)
        return torch.cat([nothing, *(batch.images for batch in self)])

    def first(self, count: int) -> Batch:
        return collate(self.samples[:count])

    def tell(self, batch: Batch) -> Tensor | None:
        """What the model is told of the batch's pictures."""
        match self.condition:
            case "class":
                return batch.categories
            case "mask":
                assert batch.masks is not None
                known = F.one_hot(batch.masks.clamp(min=0), self.classes) * (batch.masks != IGNORE)[..., None]
                return known.movedim(-1, 1).float()
        return None

    def told(self, seed: int) -> Told | None:
        """Conditions for drawn pictures, by number: those of these pictures in a random order, over and over."""
        if self.condition == "none":
            return None
        if not self.samples:
            raise DataError(
                f"the model is told each picture's {self.condition}, but no picture to evaluate it on has one; give "
                "pictures like those that it learnt from."
            )
        order = np.random.default_rng((seed, len(self))).permutation(len(self))

        def condition(number: int) -> Tensor:
            told = self.tell(collate([self.samples[int(order[number % len(order)])]]))
            assert told is not None
            return told[0]

        return condition

    def _is_told(self, sample: Sample) -> bool:
        return sample.category is not None if self.condition == "class" else sample.mask is not None


def cut(sample: Sample, size: tuple[int, int]) -> Sample:
    """The middle of a sample that covers the size, with its mask and labels."""
    top, left = ((have - want) // 2 for have, want in zip(sample.size, size, strict=True))
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return Sample(
        sample.name,
        np.ascontiguousarray(sample.image[rows, columns]),
        None if sample.mask is None else sample.mask[rows, columns],
        None if sample.labels is None else sample.labels[:, rows, columns],
        category=sample.category,
    )


def device_of(model: GenerativeModel) -> torch.device:
    return next(model.parameters()).device


def drawn_pictures(
    model: Draws, count: int, seed: int, told: Told | None, stop: Callable[[], bool], step: Callable[[], None]
) -> Tensor:
    """(N, C, H, W) float32 on the CPU: pictures 0 … count - 1 of the seed, fewer where a stop was asked for."""
    pictures = []
    for picture in draw(model, range(count), seed, told):
        pictures.append(picture)
        step()
        if stop():
            break
    return torch.stack(pictures) if pictures else torch.empty(0, model.config.channels, *model.config.size)


def losses(model: GenerativeModel, held: Gathered) -> dict[str, list[float]]:
    """Of each batch the terms of each part's loss: {"total": …}, of several parts {"critic/total": …}. Chance must be
    fixed outside. The last batch may be smaller than the others and counts as one.

    A penalty on gradients takes gradients in validation too, so they are on where there is a game.
    """
    found: dict[str, list[float]] = {}
    device, parts = device_of(model), tuple(model.parts())
    for batch in held:
        moved = batch.to(device)
        for part in parts:
            with torch.set_grad_enabled(len(parts) > 1):
                terms = model.loss(moved, part)
            for name, value in terms.items():
                key = name if len(parts) == 1 else f"{part}/{name}"
                found.setdefault(key, []).append(float(value.detach()))
    return found


@torch.no_grad()
def bounds(model: Bounded, held: Gathered, samples: int) -> np.ndarray:
    """(N,) nats: each picture's bound by so many importance samples."""
    device = device_of(model)
    found = []
    for batch in held:
        told = held.tell(batch)
        images = batch.images.to(device)
        found.append(model.bound(images, samples, None if told is None else told.to(device)).double().cpu().numpy())
    return np.concatenate(found)


@dataclass
class Health:
    """What `GenerativeModel.health` told over all batches; None where the model has no such thing."""

    pictures: int = 0
    vectors: dict[str, np.ndarray] = field(default_factory=dict)  # added up
    scalars: dict[str, float] = field(default_factory=dict)  # means over pictures

    @property
    def kl_dimensions(self) -> np.ndarray | None:
        """(Z,) nats a picture."""
        return self.vectors["kl_dimensions"] / self.pictures if "kl_dimensions" in self.vectors else None

    @property
    def active(self) -> np.ndarray | None:
        """(Z,) bool: whose posterior means vary by more than ACTIVE."""
        if "means_sum" not in self.vectors:
            return None
        mean = self.vectors["means_sum"] / self.pictures
        return self.vectors["means_square_sum"] / self.pictures - mean**2 > ACTIVE

    @property
    def codes(self) -> np.ndarray | None:
        """(K,) how often each code was used."""
        return self.vectors["codes"].round().astype(np.int64) if "codes" in self.vectors else None


@torch.no_grad()
def health(model: GenerativeModel, held: Gathered) -> Health:
    found = Health()
    device = device_of(model)
    for batch in held:
        for name, value in model.health(batch.to(device)).items():
            if value.ndim:
                found.vectors[name] = found.vectors.get(name, np.zeros(1)) + value.double().cpu().numpy()
            else:
                found.scalars[name] = found.scalars.get(name, 0.0) + float(value) * len(batch)
        found.pictures += len(batch)
    found.scalars = {name: total / max(1, found.pictures) for name, total in found.scalars.items()}
    return found


@dataclass(frozen=True)
class Answer:
    """What a model made of pictures: reconstructed them, or mended or translated what it was given of them."""

    original: Tensor  # (B, C, H, W) in [0, 1], or a mask drawn in colours (B, 3, H, W)
    given: Tensor | None  # likewise; None: the original
    answer: Tensor  # like the original
    words: str  # "reconstructed", "a hole of 25 % filled", …
    comparable: bool = True  # whether it is pixels that were to be found again


@torch.no_grad()
def reconstructed(model: GenerativeModel, batch: Batch) -> Answer | None:
    if not isinstance(model, Reconstructs):
        return None
    images = batch.images
    return Answer(images, None, model.reconstruct(images.to(device_of(model))).float().cpu(), "reconstructed")


@torch.no_grad()
def mended(model: GenerativeModel, batch: Batch) -> Answer | None:
    """Pictures damaged as the model learnt to undo it, else with a hole in the middle; None where it mends nothing.
    Damage takes chance, which must be fixed outside."""
    if not isinstance(model, Mends):
        return None
    device, images = device_of(model), batch.images
    if isinstance(model, Pix2Pix):
        return _translated(model, batch)
    if isinstance(model, Autoencoder):
        config = model.config.corruption
        if not config.kinds:
            return None
        given, known = damaged(images, config)
        answer = model.mend(given.to(device), known.to(device) if "holes" in config.kinds else None)
        return Answer(images, given, answer.float().cpu(), f"damaged ({', '.join(config.kinds)}) and mended")
    known = centre_known(len(images), images.shape[2], images.shape[3], HOLE)
    answer = model.mend((images * known).to(device), known.to(device)).float().cpu()
    return Answer(images, images * known, torch.where(known > 0, images, answer), f"a hole of {HOLE:.0%} filled")


def _translated(model: Pix2Pix, batch: Batch) -> Answer | None:
    if model.with_masks and batch.masks is None:
        return None
    moved = batch.to(device_of(model))
    source, target = model.sources(moved), model.targets(moved)
    answer = model.translate(source).float().cpu()
    source, target = source.float().cpu(), target.float().cpu()
    match model.config.task:
        case "mask_to_picture":
            return Answer(target, _coloured(source), answer, "drawn from masks", comparable=False)
        case "picture_to_mask":
            return Answer(_coloured(target), source, _coloured(answer), "masks of pictures", comparable=False)
    return Answer(target, source, answer, model.config.task.replace("_", " "))


def _coloured(planes: Tensor) -> Tensor:
    """(B, 3, H, W): class planes (B, K, H, W) in the classes' colours, black where there is none."""
    colours = torch.tensor(default_colours(planes.shape[1])) / 255  # K 3
    return colours[planes.argmax(dim=1)].movedim(-1, 1) * (planes.sum(dim=1, keepdim=True) > 0)


def detail(images: Tensor) -> float:
    """Energy of the finest detail: mean squares of the second differences along rows and along columns, added up."""
    across = images[..., 1:-1] * 2 - images[..., :-2] - images[..., 2:]
    down = images[..., 1:-1, :] * 2 - images[..., :-2, :] - images[..., 2:, :]
    return float(across.square().mean() + down.square().mean())


def variety(images: Tensor) -> float:
    """The root mean square distance between two of the pictures (N, C, H, W), over all pairs with themselves too."""
    flat = images.flatten(1).double()
    return math.sqrt(2 * float(flat.var(dim=0, correction=0).sum()))


def small(images: Tensor) -> np.ndarray:
    """(N, D) uint8: the pictures shrunk until their longer side is SMALL, flat."""
    size = within((int(images.shape[2]), int(images.shape[3])), SMALL, least=1)
    return (shrunk(images, size) * 255).round().clamp(0, 255).to(torch.uint8).flatten(1).numpy()


def small_pictures(samples: Samples, numbers: np.ndarray, model: GenerativeModel) -> np.ndarray:
    """`small` of those samples at the model's size, which are never in memory all at once."""
    whole, size = Whole(samples, model.config.size), model.config.size
    nothing = small(torch.empty(0, model.config.channels, *size))
    return np.concatenate([nothing, *(small(collate([cut(whole[int(n)], size)]).images) for n in numbers)])


@dataclass(frozen=True)
class Copies:
    """Whether drawn pictures repeat training pictures, by the distances of pictures shrunk to 32 pixels.

    A copy is nearer to its nearest training picture than 99 % of the held-back pictures are to theirs, and so it is
    when that distance is counted in mean distances to the next 49: a blurred picture is near to many at once, and
    copies none of them.
    """

    share: float  # of the drawn pictures that are copies; 1 % or less by chance
    standard_score: float  # of the ranks of the drawn among the held-back: Meehan et al. 2020, over the whole set in
    # one cell, by distance and by counted distance, whichever alarms less; far below 0: nearer than new pictures are
    nearest: np.ndarray  # (N,) number of each drawn picture's nearest training picture
    distances: np.ndarray  # (N,) root mean square difference of the pixels, [0, 1]


def copies(drawn: np.ndarray, held: np.ndarray, train: np.ndarray) -> Copies:
    """All as `small` makes them; two or more held-back and training pictures."""
    scale = 1 / (255 * math.sqrt(train.shape[1]))
    indices, distances = nearest(drawn, train, NEIGHBOURS)
    _, reference = nearest(held, train, NEIGHBOURS)
    counted, counted_reference = _counted(distances), _counted(reference)
    is_copy = distances[:, 0] < np.quantile(reference[:, 0], 0.01)
    is_copy &= counted < np.quantile(counted_reference, 0.01)
    score = max(_standard_score(distances[:, 0], reference[:, 0]), _standard_score(counted, counted_reference))
    return Copies(float(is_copy.mean()), score, indices[:, 0], distances[:, 0] * scale)


def _counted(distances: np.ndarray) -> np.ndarray:
    """(N,): the nearest distance over the mean of the others (N, k)."""
    if distances.shape[1] < 2:
        return distances[:, 0]
    return distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-12)


def _standard_score(values: np.ndarray, reference: np.ndarray) -> float:
    """Mann and Whitney's U of the values against the reference, in standard deviations; below 0: values are smaller."""
    n, m = len(values), len(reference)
    u = rankdata(np.concatenate([values, reference]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))


def histogram(probabilities: np.ndarray) -> np.ndarray:
    """(K,) the share of pictures whose likeliest class each is, of probabilities (N, K)."""
    counts = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return counts / max(1, len(probabilities))


def eight_bits(images: Tensor) -> np.ndarray:
    """(N, H, W, C) uint8 of pictures (N, C, H, W) in [0, 1]."""
    return (images.float().cpu() * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous().numpy()


def mean_and_error(values: Iterable[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    array: Any = np.fromiter(values, float)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else math.nan
