"""Regions without any mask: pixels whose features are alike, by k-means; and what is done with maps of regions.

Features are those of a trained network, or colour, place and texture. The clusters are fitted to pixels of all pictures
together, so that region 3 means the same in each, or to one picture alone.

k-means: Lloyd, Least Squares Quantization in PCM, 1982, begun as in Arthur, Vassilvitskii: k-means++, 2007, by OpenCV.
Features of several kinds are brought to one scale first: those of a kind have a variance of its weight together.

H x W pixels of a picture, h x w places of its features, F features, D of them after the reduction, K clusters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..data.read import as_channels, to_float
from ..errors import DataError, UsageError
from ..models.combined import Combination
from ..models.contract import EncoderDecoder, Encodes, Model, SemanticModel
from ..records import IGNORE, Image, Mask
from .predictor import device_named, fingerprint

SAMPLES = 60_000  # pixels that clusters are fitted to
DIMENSIONS = 32  # principal components that are kept of more features
STRIDE = 4  # pixels a side for which a network's features are one place


class Features(ABC):
    """Takes a picture to features at places: kinds of features, each with its number and its weight."""

    groups: tuple[tuple[int, float], ...]  # of each kind: how many features, and the variance they have together

    @abstractmethod
    def __call__(self, image: Image) -> np.ndarray:
        """(h, w, F) float32 for a picture (H, W, C) uint8, uint16 or float32 in [0, 1]."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """All that the features depend on beside the picture, fit for JSON."""


class ColourFeatures(Features):
    """Colour (CIELAB where there are three channels), place, and texture: how much the brightness varies around."""

    def __init__(
        self,
        channels: int = 3,  # of the pictures
        colour: float = 1.0,  # weight
        place: float = 0.3,  # weight; 0: regions may be anywhere, 1: they are about round
        texture: float = 0.4,  # weight
        scales: tuple[float, ...] = (1.0, 3.0),  # pixels of the reduced picture: sizes of what is texture
        side: int = 384,  # pixels that the longer side is reduced to
    ) -> None:
        self.channels, self.side, self.scales = channels, side, scales
        self.weights = (colour, place, texture)
        self.groups = ((channels, colour), (2, place), (len(scales), texture))

    def __call__(self, image: Image) -> np.ndarray:
        picture = reduced(to_float(as_channels(image, self.channels)), self.side)
        height, width = picture.shape[:2]
        colours = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) / 100 if self.channels == 3 else picture
        colours = cv2.GaussianBlur(colours, (0, 0), 1.0).reshape(height, width, -1)
        y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
        light = colours[..., 0] if self.channels == 3 else picture.mean(axis=2)
        textures = [_deviation(light, scale) for scale in self.scales]
        return np.dstack([colours, y, x, *textures]).astype(np.float32)

    def settings(self) -> dict[str, object]:
        return {"features": "colours", "weights": list(self.weights), "scales": list(self.scales), "side": self.side}


class NetworkFeatures(Features):
    """The maps of a segmenter's encoder, all brought to a quarter of the picture's size; or the latent of a generative
    model that has one for every place."""

    def __init__(
        self,
        model: Model,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        side: int = 1024,  # pixels; larger pictures are reduced to it
    ) -> None:
        """Raises UsageError for a model that has no features of places."""
        self.device, self.side = device_named(device), side
        self.source = _source(model).to(self.device).eval()
        self.channels = _channels(self.source)
        maps = self._maps(torch.zeros(1, self.channels, *_blank_size(self.source), device=self.device))
        if any(each.ndim != 4 for each in maps):
            raise UsageError(
                f"the latent of a {type(model).__name__} is of the whole picture and knows no places; take a run of a "
                "segmenter with an encoder (unet, fcn, deeplab), of an autoencoder or of a vqvae, or 'colours'."
            )
        self.groups = tuple((each.shape[1], 1.0) for each in maps)

    @torch.inference_mode()
    def __call__(self, image: Image) -> np.ndarray:
        picture = reduced(to_float(as_channels(image, self.channels)), self.side)
        x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].to(self.device)
        size = [-(-side // STRIDE) for side in x.shape[2:]]
        maps = [_at(each.float(), size) for each in self._maps(x)]
        return torch.cat(maps, dim=1)[0].permute(1, 2, 0).cpu().numpy()

    def settings(self) -> dict[str, object]:
        return {"features": type(self.source).__name__, "weights": fingerprint(self.source), "side": self.side}

    @torch.inference_mode()
    def _maps(self, images: Tensor) -> list[Tensor]:
        """Each (1, F_i, h_i, w_i), of the picture and nothing beside it."""
        source = self.source
        if isinstance(source, Encodes):
            return [source.encode(images)]
        assert isinstance(source, EncoderDecoder)
        x = (images - source.mean) / source.deviation
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % source.stride, 0, -height % source.stride), mode="replicate")
        maps = source.encoder(x)
        return [
            each[:, :, : -(-height // reduction), : -(-width // reduction)]
            for each, reduction in zip(maps, source.encoder.reductions, strict=True)
        ]


@dataclass(frozen=True)
class Clusters:
    """K centres in the space of scaled and reduced features; the largest cluster first."""

    mean: np.ndarray  # (F,) float32
    basis: np.ndarray  # (F, D) float32: scales and rotates
    centres: np.ndarray  # (K, D) float32

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(K, h, w) float32: squared distances of features (h, w, F) to each centre."""
        flat = (features.reshape(-1, features.shape[-1]) - self.mean) @ self.basis  # hw D
        squares = np.square(flat).sum(1)[None] + np.square(self.centres).sum(1)[:, None] - 2 * self.centres @ flat.T
        return squares.reshape(len(self.centres), *features.shape[:2])

    def regions(self, features: np.ndarray, size: tuple[int, int]) -> Mask:
        """(H, W) int16: the nearest cluster of each pixel of a picture of that size (height, width)."""
        return labels_at(-self.distances(features), size)


def sampled(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n, F), n <= count: features (h, w, F) at places drawn at random, each at most once."""
    flat = features.reshape(-1, features.shape[-1])
    if len(flat) <= count:
        return flat
    return flat[np.random.default_rng(seed).choice(len(flat), count, replace=False)]


def fit_clusters(
    samples: np.ndarray, groups: Sequence[tuple[int, float]], count: int, seed: int = 0, attempts: int = 3
) -> Clusters:
    """At most `count` clusters of features (N, F), the best of several attempts; fewer where fewer features differ.

    groups: as in `Features`. The same seed gives the same clusters. Raises UsageError for less than one cluster,
    DataError where there are no features.
    """
    if count < 1:
        raise UsageError(f"{count} clusters are none; give 1 or more.")
    if not len(samples):
        raise DataError("there is no pixel to find clusters in; give at least one picture that can be read.")
    mean = samples.mean(axis=0)
    centred = (samples - mean).astype(np.float64)
    spread, first = np.zeros(samples.shape[1]), 0
    for number, weight in groups:
        kind = slice(first, first + number)
        variance = np.square(centred[:, kind]).mean(axis=0).sum()
        spread[kind] = np.sqrt(weight / variance) if variance > 1e-12 else 0.0
        first += number
    scaled = centred * spread
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    largest = np.argsort(values)[::-1][:DIMENSIONS]
    basis = spread[:, None] * vectors[:, largest]  # F D
    points = np.ascontiguousarray(centred @ basis, dtype=np.float32)
    count = min(count, len(np.unique(points, axis=0)))
    cv2.setRNGSeed(seed % 2**31)
    ends = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    _, labels, centres = cv2.kmeans(points, count, None, ends, attempts, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    sizes = np.bincount(labels.ravel(), minlength=count)
    order = np.argsort(-sizes, kind="stable")
    return Clusters(mean.astype(np.float32), basis.astype(np.float32), np.asarray(centres)[order])


def regions_of(image: Image, features: Features, count: int, seed: int = 0) -> Mask:
    """(H, W) int16: `count` regions at most of one picture, by clusters of its own pixels."""
    found = features(image)
    clusters = fit_clusters(sampled(found, SAMPLES, seed), features.groups, count, seed)
    return clusters.regions(found, (image.shape[0], image.shape[1]))


def labels_at(planes: np.ndarray, size: tuple[int, int]) -> Mask:
    """(H, W) int16: the highest of planes (K, h, w) at each pixel, each plane first brought to `size` (height, width)
    between its places, so that outlines are smooth. Never more than three planes of that size are held at once."""
    height, width = size
    best = np.full(size, -np.inf, np.float32)
    labels = np.zeros(size, np.int16)
    for number, plane in enumerate(planes):
        grown = cv2.resize(np.ascontiguousarray(plane, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        better = grown > best
        best[better], labels[better] = grown[better], number
    return labels


def connected(labels: np.ndarray) -> np.ndarray:
    """(H, W) int32: a map (H, W) in which regions that hang together by sides, not corners, have a number each, 0.. in
    the order of their first pixels. IGNORE stays IGNORE."""
    height, width = labels.shape
    places = np.arange(height * width).reshape(height, width)
    right, below = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    first = np.concatenate([places[:, :-1][right], places[:-1][below]])
    second = np.concatenate([places[:, 1:][right], places[1:][below]])
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(places.size, places.size))
    pieces = connected_components(graph, directed=False)[1].reshape(height, width)
    return _in_order(pieces, labels)


def absorbed(labels: np.ndarray, smallest: int) -> np.ndarray:
    """The map (H, W) with each connected piece of less than `smallest` pixels given to the pieces around it, pixel by
    pixel to the nearest; the largest piece stays whatever its size."""
    pieces = connected(labels)
    known = pieces != IGNORE
    sizes = np.bincount(pieces[known]) if known.any() else np.zeros(1, int)
    small = sizes < smallest
    small[sizes.argmax()] = False
    lost = known & small[pieces]
    if not lost.any():
        return labels
    rows, columns = distance_transform_edt(lost | ~known, return_distances=False, return_indices=True)
    return np.where(lost, labels[rows, columns], labels)


def by_size(labels: np.ndarray) -> Mask:
    """The map (H, W) with its regions numbered from 0, the largest first; IGNORE stays."""
    known = labels != IGNORE
    values, inverse, sizes = np.unique(labels[known], return_inverse=True, return_counts=True)
    rank = np.empty(len(values), np.int16)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(values), dtype=np.int16)
    ordered = np.full(labels.shape, IGNORE, np.int16)
    ordered[known] = rank[inverse.ravel()]
    return ordered


def reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture (H, W, C) float32 with its longer side at most `side` pixels, each the mean of what it stands for."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    planes = [cv2.resize(picture[..., i], size, interpolation=cv2.INTER_AREA) for i in range(picture.shape[2])]
    return np.dstack(planes)


def _deviation(light: np.ndarray, scale: float) -> np.ndarray:
    """(H, W) standard deviation of (H, W) around each pixel, by a Gaussian of twice that many pixels."""
    fine = light - cv2.GaussianBlur(light, (0, 0), scale)
    return np.sqrt(cv2.GaussianBlur(np.square(fine), (0, 0), 2 * scale))


def _source(model: Model) -> EncoderDecoder | Encodes:
    if isinstance(model, Combination):
        return model.in_halves()
    if isinstance(model, EncoderDecoder | Encodes):
        return model
    kind = "segmenter without an encoder of its own" if isinstance(model, SemanticModel) else "model without a latent"
    raise UsageError(
        f"{type(model).__name__} is a {kind}, so it has no features to cluster; take a run of unet, fcn, deeplab, "
        "autoencoder or vqvae, or 'colours' for colour, place and texture."
    )


def _channels(source: EncoderDecoder | Encodes) -> int:
    return source.config.channels if isinstance(source, Encodes) else int(source.get_buffer("mean").numel())


def _blank_size(source: EncoderDecoder | Encodes) -> tuple[int, int]:
    return source.config.size if isinstance(source, Encodes) else (source.stride, source.stride)


def _at(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(1, F, h, w) at `size`: means where there were more places, between places where there were fewer."""
    if maps.shape[2] > size[0] or maps.shape[3] > size[1]:
        maps = F.adaptive_avg_pool2d(maps, (min(maps.shape[2], size[0]), min(maps.shape[3], size[1])))
    if list(maps.shape[2:]) != list(size):
        maps = F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
    return maps


def _in_order(pieces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = labels != IGNORE
    values, first, inverse = np.unique(pieces[known], return_index=True, return_inverse=True)
    rank = np.empty(len(values), np.int32)
    rank[np.argsort(first)] = np.arange(len(values), dtype=np.int32)
    ordered = np.full(labels.shape, IGNORE, np.int32)
    ordered[known] = rank[inverse.ravel()]
    return ordered
