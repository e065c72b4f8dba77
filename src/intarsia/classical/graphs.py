"""A picture as a graph: a node a pixel, an edge to each neighbour, and the shortest way to each pixel from any seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import DataError

#: Added to each edge's weight: of ways equally short, the one with fewer steps. Far below any difference that counts,
#: and far above what adding up some thousand weights rounds off.
STEP = 1e-12

_HALF = {4: ((0, 1), (1, 0)), 8: ((0, 1), (1, 0), (1, 1), (1, -1))}  # (down, right); the other half is its opposite
_MOST_EDGES = 2**31 - 1  # SciPy counts them in 32 bits


@dataclass(frozen=True)
class PixelGraph:
    """The edges of a picture's N pixels, D a pixel, in the order of its rows."""

    weights: np.ndarray  # (N, D) float64, >= 0; inf: no edge
    targets: np.ndarray  # (N, D) int32: the pixel at the other end; where there is none, any pixel


def pixel_graph(picture: np.ndarray, weigh: Callable[[np.ndarray], np.ndarray], neighbours: int) -> PixelGraph:
    """The graph of a picture (H, W, C) float64 whose pixels have 4 or 8 neighbours.

    `weigh` takes the Euclidean distances between the colours of neighbours, and gives the weights of their edges.
    Raises DataError for a picture with more edges than 2^31.
    """
    height, width = picture.shape[:2]
    if height * width * neighbours > _MOST_EDGES:
        raise DataError(
            f"a picture of {height * width:,} pixels has more than {_MOST_EDGES:,} pairs of neighbours; cut it, or "
            "take it smaller."
        )
    weights = np.full((height, width, neighbours), np.inf)
    offsets = np.empty(neighbours, np.int32)
    planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0))  # (C, H, W): three times as fast to subtract
    for k, (down, right) in enumerate(_HALF[neighbours]):
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        there = slice(down, height), slice(max(0, right), width + min(0, right))
        squares = np.zeros(weights[here].shape[:2])
        for plane in planes:
            squares += (plane[here] - plane[there]) ** 2
        weights[(*here, 2 * k)] = weights[(*there, 2 * k + 1)] = weigh(np.sqrt(squares))
        offsets[2 * k : 2 * k + 2] = down * width + right, -down * width - right
    targets = np.arange(height * width, dtype=np.int32)[:, None] + offsets
    np.clip(targets, 0, height * width - 1, out=targets)
    return PixelGraph(weights.reshape(-1, neighbours), targets)


def nearest_seeds(
    graph: PixelGraph, seeds: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each of the N pixels, the label of the nearest seed (N,) int32 and the length of the way (N,) float64.

    Where no way leads, 0 and inf. seeds: (N,), 0 where there is none, else its label, 1 or more. start: (N,), what the
    way from each seed costs before its first step, >= 0; None: nothing. A seed that starts at 0 keeps its label.

    By Dijkstra's algorithm, from all seeds at once (SciPy's): N log N.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    count = len(seeds)
    places = np.flatnonzero(seeds)
    at_once = places if start is None else places[start[places] == 0]
    later = places[:0] if start is None else places[(start[places] > 0) & np.isfinite(start[places])]
    # a node more for each label whose seeds have a way before their first step: it leads to them, and nothing to it
    later = later[np.argsort(seeds[later], kind="stable")]
    roots, sizes = np.unique(seeds[later], return_counts=True)
    entry = np.empty(0) if start is None else start[later]
    edges = graph.weights.size
    ends = np.concatenate([np.arange(count + 1, dtype=np.int64) * graph.weights.shape[1], edges + np.cumsum(sizes)])
    matrix = csr_matrix(
        (
            np.concatenate([graph.weights.ravel(), entry]),
            np.concatenate([graph.targets.ravel(), later.astype(np.int32)]),
            ends.astype(np.int32),
        ),
        shape=(count + len(roots), count + len(roots)),
    )
    beginnings = np.concatenate([at_once, count + np.arange(len(roots))])
    longest = np.finfo(np.float64).max  # an edge of inf is none
    lengths, _, origins = dijkstra(matrix, indices=beginnings, min_only=True, return_predecessors=True, limit=longest)
    lengths, origins = lengths[:count], origins[:count]
    known = np.isfinite(lengths)
    labels = np.zeros(count, np.int32)
    labels[known] = np.concatenate([seeds, roots])[origins[known]]
    return labels, lengths
