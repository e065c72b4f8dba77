"""Clusters of colours, by k-means.

S. P. Lloyd, "Least squares quantization in PCM", 1982, doi.org/10.1109/TIT.1982.1056489; starts after D. Arthur,
S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007. Lloyd's steps are OpenCV's. Where we differ: the
centres are found on a sample of the pixels, and the clusters are numbered by brightness, so that a number means
something in another picture too.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from .pictures import GREY_WEIGHTS, ClassicalConfig, in_unit_range, smoothed


class KMeansConfig(ClassicalConfig):
    """Settings of `k_means`."""

    clusters: int = Field(4, ge=1, le=1000)  # how many labels
    smooth: float = Field(1.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    place: float = Field(0.0, ge=0, allow_inf_nan=False)  # weight of a pixel's place beside its colour; 0 = colour only
    starts: int = Field(4, ge=1)  # from so many beginnings; the tightest clusters are taken
    steps: int = Field(50, ge=1)  # of Lloyd's algorithm at most, from each beginning
    sample: int = Field(50_000, ge=1)  # pixels that the centres are found on
    seed: int = Field(0, ge=0)  # of the sample and the beginnings


def k_means(image: np.ndarray, config: KMeansConfig | None = None) -> np.ndarray:
    """(H, W) int32: the number of the nearest cluster of colours, 0 (darkest) to clusters - 1 (brightest).

    image: (H, W) or (H, W, C), any kind of number. The same picture and settings give the same labels. A picture with
    fewer colours than clusters has a label for each colour. Raises DataError for what is no picture.
    """
    config = config or KMeansConfig()
    points = _points(smoothed(in_unit_range(image), config.smooth), config.place)  # (H, W, C or C + 2)
    channels = checked_channels(points, config.place)
    flat = points.reshape(-1, points.shape[2])
    random = np.random.default_rng(config.seed)
    few = flat if len(flat) <= config.sample else flat[random.choice(len(flat), config.sample, replace=False)]
    centres = _centres(few, config, random)
    grey = GREY_WEIGHTS if channels == 3 else np.full(channels, 1 / channels)
    centres = centres[np.argsort(centres[:, :channels] @ grey, kind="stable")]
    return _nearest(flat, centres).reshape(points.shape[:2])


def checked_channels(points: np.ndarray, place: float) -> int:
    """How many of the points' numbers are colour."""
    return points.shape[2] - (2 if place > 0 else 0)


def _points(picture: np.ndarray, place: float) -> np.ndarray:
    """Each pixel's colour, and its place if that counts: the longer side of the picture is `place` long."""
    if place == 0:
        return picture.astype(np.float32)
    height, width = picture.shape[:2]
    grid = np.moveaxis(np.indices((height, width)), 0, -1) * (place / max(height, width))
    return np.concatenate([picture, grid], axis=2).astype(np.float32)


def _centres(points: np.ndarray, config: KMeansConfig, random: np.random.Generator) -> np.ndarray:
    """(K, C) float32: the centres of the tightest clusters of points (N, C); fewer where there are fewer points."""
    import cv2

    distinct = np.unique(points[: 64 * config.clusters], axis=0)
    if len(distinct) <= config.clusters:
        distinct = np.unique(points, axis=0)
    if len(distinct) <= config.clusters:
        return distinct
    best: tuple[float, np.ndarray] | None = None
    ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, config.steps, 1e-5)
    for _ in range(config.starts):
        # Lloyd's steps from given labels draw no numbers of their own: OpenCV's generator is left as it is
        labels = _nearest(points, _start(points, config.clusters, random))[:, None]
        found = cv2.kmeans(points, config.clusters, labels, ends, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        spread, centres = float(found[0]), np.asarray(found[2])
        if best is None or spread < best[0]:
            best = spread, centres
    assert best is not None
    return best[1]


def _start(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """(K, C): points drawn one by one, each by its squared distance to those drawn before (k-means++)."""
    chosen = [points[random.integers(len(points))]]
    distances = ((points - chosen[0]) ** 2).sum(axis=1, dtype=np.float64)
    while len(chosen) < count and distances.sum() > 0:
        chosen.append(points[random.choice(len(points), p=distances / distances.sum())])
        np.minimum(distances, ((points - chosen[-1]) ** 2).sum(axis=1), out=distances)
    return np.stack(chosen)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N,) int32: the number of the nearest of K centres (K, C) to each of N points (N, C)."""
    best = np.full(len(points), np.inf, np.float32)
    labels = np.zeros(len(points), np.int32)
    for number, centre in enumerate(centres):
        distances = ((points - centre) ** 2).sum(axis=1)
        nearer = distances < best
        best[nearer], labels[nearer] = distances[nearer], number
    return labels
