"""Region growing: pixels join the region beside them whose colour they have.

R. Adams, L. Bischof, "Seeded Region Growing", 1994, doi.org/10.1109/34.295913; regions without seeds are quasi-flat
zones (F. Meyer, P. Maragos, "Nonlinear Scale-Space Representation with Morphological Levelings", 2000). Where we
differ: the paper compares a pixel with the running mean of a region, so the answer depends on the order of the pixels;
here it is compared with its neighbour, or with the mean of the seeds, and there is no such order.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from .graphs import STEP, nearest_seeds, pixel_graph
from .pictures import ClassicalConfig, checked_seeds, in_unit_range, smoothed


class RegionGrowingConfig(ClassicalConfig):
    """Settings of `region_growing`."""

    tolerance: float = Field(0.05, ge=0, allow_inf_nan=False)  # largest distance of colours, 1 = black to white
    compare: Literal["neighbour", "seeds"] = "neighbour"  # with the pixel next to it, or with the mean of the seeds
    smooth: float = Field(1.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none
    neighbours: Literal[4, 8] = 4  # of a pixel: those beside it, or those at its corners too
    smallest: int = Field(64, ge=1)  # without seeds: pixels of the smallest region
    fill: bool = True  # without seeds: what belongs to no such region joins the nearest one


def region_growing(
    image: np.ndarray, seeds: np.ndarray | None = None, config: RegionGrowingConfig | None = None
) -> np.ndarray:
    """(H, W) int32: the region of each pixel, 1, 2, …; 0 where none grew to.

    image: (H, W) or (H, W, C), any kind of number. seeds: (H, W), 0 where nobody knows, else a label, which is that of
    its region; a pixel that two labels reach goes to the one with the smaller sum of differences on the way (compare
    = "neighbour") or with the nearer mean ("seeds"). None: each pixel begins a region, and those whose
    pixels side by side differ by no more than the tolerance are one; from the first row to the last they are
    numbered. Raises DataError for what is no picture, and for seeds of another size or without any label.
    """
    config = config or RegionGrowingConfig()
    picture = smoothed(in_unit_range(image), config.smooth)
    size = picture.shape[:2]
    limit = config.tolerance * np.sqrt(picture.shape[2])  # black to white is 1, whatever the number of channels
    if seeds is None:
        return _flat_zones(picture, limit, config)
    labels = checked_seeds(seeds, size)
    if config.compare == "seeds":
        return _like_the_seeds(picture, labels, limit, config.neighbours)
    graph = pixel_graph(picture, lambda d: np.where(d <= limit, d + STEP, np.inf), config.neighbours)
    return nearest_seeds(graph, labels.ravel())[0].reshape(size)


def _flat_zones(picture: np.ndarray, limit: float, config: RegionGrowingConfig) -> np.ndarray:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    size = picture.shape[:2]
    graph = pixel_graph(picture, lambda distances: distances + STEP, config.neighbours)
    joined = graph.weights <= limit + STEP
    ends = np.concatenate([[0], np.cumsum(joined.sum(axis=1))]).astype(np.int32)
    edges = csr_matrix((np.ones(ends[-1], bool), graph.targets[joined], ends), shape=(size[0] * size[1],) * 2)
    zones = connected_components(edges, directed=False)[1]
    sizes = np.bincount(zones)
    large = sizes >= min(config.smallest, sizes.max())  # a picture smaller than the smallest region is one
    numbers = np.where(large, np.cumsum(large), 0).astype(np.int32)
    labels = numbers[zones]
    if config.fill and not large.all():
        labels = nearest_seeds(graph, labels)[0]
    return labels.reshape(size)


def _like_the_seeds(picture: np.ndarray, seeds: np.ndarray, limit: float, neighbours: int) -> np.ndarray:
    """Pixels whose nearest mean of seeds is within the limit, and which such pixels connect with a seed of it."""
    from scipy import ndimage

    best = np.full(seeds.shape, np.inf)
    nearest = np.zeros(seeds.shape, np.int32)
    names = np.unique(seeds[seeds > 0])
    for name in names:
        distances = np.linalg.norm(picture - picture[seeds == name].mean(axis=0), axis=2)
        nearer = (distances < best) & (distances <= limit)
        best[nearer], nearest[nearer] = distances[nearer], name
    nearest[seeds > 0] = seeds[seeds > 0]
    shape = np.ones((3, 3)) if neighbours == 8 else None
    grown = np.zeros_like(seeds)
    for name in names:
        parts, count = ndimage.label(nearest == name, shape)
        begun = np.zeros(count + 1, bool)
        begun[parts[seeds == name]] = True
        grown[begun[parts]] = name
    return grown
