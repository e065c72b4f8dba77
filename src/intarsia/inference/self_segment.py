"""One picture divided by a small network that is trained on it alone, without a mask.

Kim, Kanezaki, Tanaka: Unsupervised Learning of Image Segmentation Based on Differentiable Feature Clustering, 2020,
https://arxiv.org/abs/2007.09990

Where we differ: the picture is reduced first, and the network is narrower, since nearly all the time goes into two
convolutions; borders are mirrored, not padded with zeros, which would draw a frame; it stops before a step that would
leave fewer regions than wished, and not after it; where every region is scribbled, the network answers for those only;
where any is, a third of the iterations pass before it is asked to be sure, lest it be sure of what nobody said.

C channels, h x w pixels of the reduced picture, Q labels to begin with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ..data.read import LIMIT_PIXELS, RawMask, read_mask, to_float
from ..errors import DataError, UsageError
from ..records import IGNORE, Image, Mask
from .clustering import by_size, labels_at, reduced
from .predictor import device_named


class SelfSegmentConfig(BaseModel):
    """How one picture is divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regions: int | None = Field(None, ge=1)  # it stops at so many; None: those of the scribbles, else 4
    iterations: int = Field(200, ge=1)  # at most
    labels: int = Field(48, ge=2, le=1024)  # Q, labels to begin with
    width: int = Field(48, ge=1)  # channels of the network
    layers: int = Field(2, ge=1)  # 3x3 convolutions
    similarity: float = Field(1.0, ge=0)  # weight of: each pixel is surely of its likeliest label
    continuity: float = Field(5.0, ge=0)  # weight of: neighbours have the same answer; higher: fewer, larger regions
    scribbled: float = Field(1.0, ge=0)  # weight of: scribbled pixels are what somebody said
    learning_rate: float = Field(0.1, gt=0)  # of gradient descent with a momentum of 0.9
    side: int = Field(256, ge=8)  # pixels that the longer side is reduced to; time grows with its square
    seed: int = Field(0, ge=0)  # of the network's first weights


@dataclass(frozen=True)
class SelfSegmentation:
    """What came of a picture."""

    regions: Mask  # (H, W) int16: 0.. the largest first; of scribbles, their numbers first
    count: int  # regions
    iterations: int  # done


class FeatureNetwork(nn.Module):
    """A picture to normalised responses for Q labels.

    x (1, C, h, w) ── layers: 3x3 convolution, ReLU, normalised; … ──► (1, width, h, w)
                                                                         │
                      response (1, Q, h, w) ◄── normalised ── 1x1 ◄──────┘
    """

    def __init__(self, channels: int, config: SelfSegmentConfig, labels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(config.layers):
            inputs = config.width if number else channels
            layers += [
                nn.Conv2d(inputs, config.width, 3, padding=1, padding_mode="replicate"),
                nn.ReLU(),
                nn.BatchNorm2d(config.width),
            ]
        self.layers = nn.Sequential(*layers)
        self.response = nn.Sequential(nn.Conv2d(config.width, labels, 1), nn.BatchNorm2d(labels))

    def forward(self, x: Tensor) -> Tensor:
        return self.response(self.layers(x))  # 1 Q h w


def self_segment(
    image: Image,
    config: SelfSegmentConfig | None = None,
    scribbles: Mask | None = None,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> SelfSegmentation:
    """The regions of one picture (H, W, C) uint8, uint16 or float32 in [0, 1], the same for the same seed and machine.

    scribbles: (H, W), 0..N-1 where somebody said which region it is, IGNORE elsewhere. Those numbers are kept, and
    where `config.regions` is None, or N, every pixel is of one of them. progress: takes how many iterations are done,
    and at most how many there will be.

    Raises DataError for scribbles of another size or without any, UsageError for fewer regions than scribbles.
    """
    config = config or SelfSegmentConfig()
    size = (image.shape[0], image.shape[1])
    said = _check_scribbles(scribbles, size)
    wanted = config.regions or (max(said, 2) if said else 4)  # what is not the one scribble is something else
    if wanted < said:
        raise UsageError(f"{wanted} regions are asked for, but {said} are scribbled; give {said} or more, or none.")
    labels = said if 0 < said == wanted else max(config.labels, said, wanted)
    if size == (1, 1):
        return SelfSegmentation(np.zeros(size, np.int16), 1, 0)
    place = device_named(device)
    picture = torch.from_numpy(np.ascontiguousarray(reduced(to_float(image), config.side)))
    x = picture.permute(2, 0, 1)[None].to(place)  # 1 C h w
    x = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.std(dim=(2, 3), keepdim=True, correction=0) + 1e-3)
    target = None if scribbles is None else _reduced_scribbles(scribbles, x.shape[2], x.shape[3]).to(place)

    with torch.random.fork_rng(devices=[]):  # whoever calls keeps the state of chance
        torch.manual_seed(config.seed)
        network = FeatureNetwork(image.shape[2], config, labels).to(place).train()
    optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.9)
    kept, done = None, 0
    begun = config.model_copy(update={"similarity": 0.0})
    with torch.enable_grad():
        for done in range(1, config.iterations + 1):
            response = network(x)
            likeliest = response.detach().argmax(dim=1)
            count = len(likeliest.unique())
            if count < wanted and kept is not None:
                break  # what was before has more regions than wished, but this has fewer
            kept = response.detach()
            if progress is not None:
                progress(done, config.iterations)
            if count <= wanted and labels > wanted:
                break
            optimizer.zero_grad()
            listening = target is not None and 3 * done <= config.iterations
            objective(response, likeliest, target, begun if listening else config).backward()
            optimizer.step()
    assert kept is not None
    planes = kept[0].cpu().numpy()
    return _finished(planes, size, said, done)


def objective(response: Tensor, likeliest: Tensor, scribbles: Tensor | None, config: SelfSegmentConfig) -> Tensor:
    """() similarity, continuity and scribbles of responses (1, Q, h, w), each by its weight.

    likeliest: (1, h, w) the label of the highest response. scribbles: (1, h, w), IGNORE where none is, or None.
    """
    if scribbles is not None:
        free = torch.where(scribbles == IGNORE, likeliest, torch.full_like(likeliest, IGNORE))
        anywhere = (free != IGNORE).any()
        similarity = F.cross_entropy(response, free, ignore_index=IGNORE) if anywhere else response.sum() * 0
        said = F.cross_entropy(response, scribbles, ignore_index=IGNORE)
    else:
        similarity, said = F.cross_entropy(response, likeliest), response.new_zeros(())
    down = (response[:, :, 1:] - response[:, :, :-1]).abs()
    across = (response[:, :, :, 1:] - response[:, :, :, :-1]).abs()
    continuity = sum((each.mean() for each in (down, across) if each.numel()), response.new_zeros(()))
    return config.similarity * similarity + config.continuity * continuity + config.scribbled * said


def read_scribbles(path: str | Path, size: tuple[int, int], limit: int = LIMIT_PIXELS) -> Mask:
    """(H, W) int16 of a file drawn on a picture of that size (height, width): 0..N-1 where scribbled, else IGNORE.

    In a file of numbers, nothing is drawn where it is 255 (65535 in 16 bits) or, where there is no such pixel, where it
    is 0; in one of colours, where it is black, or where there is no black, white. Each other number or colour is a
    region, in the order of numbers (of colours: of red, green, blue). Raises DataError for other sizes and empty ones.
    """
    raw = read_mask(path, limit)
    if raw.size != size:
        raise DataError(
            f"{path} is {raw.size[1]} x {raw.size[0]} pixels, but its picture {size[1]} x {size[0]} (width x height); "
            "scribble on the picture itself."
        )
    if raw.lossy:
        raise DataError(f"{path} is a JPEG or alike, which blurs what was drawn; save the scribbles as a PNG.")
    numbers, nothing = _numbers(raw)
    values = [each for each in np.unique(numbers).tolist() if each != nothing]
    if not values:
        raise DataError(f"{path} holds no scribble: all pixels are the same; draw a stroke in each region.")
    if len(values) > 255:
        raise DataError(f"{path} holds {len(values)} different scribbles; draw with at most 255 plain colours.")
    scribbles = np.full(size, IGNORE, np.int16)
    for number, value in enumerate(values):
        scribbles[numbers == value] = number
    return scribbles


def _numbers(raw: RawMask) -> tuple[np.ndarray, int]:
    """(H, W) int64 and the number that means nothing drawn."""
    if raw.values.ndim == 3:
        red, green, blue = np.moveaxis(raw.values.astype(np.int64), 2, 0)
        numbers = (red << 16) + (green << 8) + blue
        return numbers, 0 if (numbers == 0).any() else 0xFFFFFF
    numbers = raw.values.astype(np.int64)
    unknown = 65535 if raw.values.dtype == np.uint16 else 255
    return numbers, unknown if (numbers == unknown).any() else 0


def _check_scribbles(scribbles: Mask | None, size: tuple[int, int]) -> int:
    """N; 0 without scribbles."""
    if scribbles is None:
        return 0
    if scribbles.shape != size:
        raise DataError(f"scribbles {scribbles.shape} are drawn on a picture of {size} (height, width).")
    if scribbles.max() == IGNORE:
        raise DataError("the scribbles say nothing: every pixel is IGNORE; draw a stroke in each region.")
    return int(scribbles.max()) + 1


def _reduced_scribbles(scribbles: Mask, height: int, width: int) -> Tensor:
    """(1, height, width) int64: each scribbled pixel at its place, so that no thin stroke is lost; the highest number
    where several meet."""
    rows, columns = np.nonzero(scribbles != IGNORE)
    small = np.full((height, width), IGNORE, np.int64)
    places = rows * height // scribbles.shape[0], columns * width // scribbles.shape[1]
    np.maximum.at(small, places, scribbles[rows, columns].astype(np.int64))
    return torch.from_numpy(small)[None]


def _finished(planes: np.ndarray, size: tuple[int, int], said: int, iterations: int) -> SelfSegmentation:
    """Only labels that some pixel of the reduced picture has are asked at full size."""
    used = np.unique(planes.argmax(axis=0))
    used = np.unique(np.concatenate([np.arange(said), used]))
    labels = used[labels_at(planes[used], size)]
    if said:
        others = by_size(np.where(labels < said, IGNORE, labels))
        regions = np.where(labels < said, labels, others + said).astype(np.int16)
    else:
        regions = by_size(labels)
    return SelfSegmentation(regions, len(np.unique(regions)), iterations)
