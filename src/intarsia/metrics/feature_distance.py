"""How far apart two sets of pictures are, seen as points: real (N, D) and drawn (M, D) features.

Distances say how far; precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) say in
which way: drawn pictures that are unlike the real ones, or real ones that are never drawn. Each depends on how many
pictures there are, so no result goes without its counts. Float64; N x M distances are made a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import NumericError, UsageError
from .scores import Score, Scores

PRECISION_K = 3  # Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, section 3
DENSITY_K = 5  # Naeem et al. 2020, https://arxiv.org/abs/2002.09797, section 3.3: coverage of equal sets is then 97 %
SUBSET = 1000  # pictures in a subset of the kernel distance, Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401
BLOCK = 2**22  # distances that are in memory at once: 32 MB
SAME = 1e-12  # squared distances below it, relative to the largest squared norm, are rounding


@dataclass(frozen=True)
class KernelDistance:
    """The squared maximum mean discrepancy under (x·y / D + 1)³, unbiased: below 0 by chance where sets are equal."""

    mean: float  # over the subsets
    spread: float  # standard deviation over the subsets
    subsets: int
    size: int  # pictures of each set in a subset


@dataclass(frozen=True)
class Manifold:
    """What balls around points say, each reaching to its k-th nearest neighbour in its own set."""

    precision: float  # share of the drawn in a ball around a real one, k = PRECISION_K
    recall: float  # share of the real in a ball around a drawn one, k = PRECISION_K
    density: float  # real balls that a drawn one is in, over k = DENSITY_K; about 1 for equal sets, no upper bound
    coverage: float  # share of the real whose ball holds a drawn one, k = DENSITY_K


def frechet_distance(real: np.ndarray, drawn: np.ndarray) -> float:
    """|μ - ν|² + tr(Σ + Τ - 2 (Σ Τ)^½) of Gaussians with the sets' means and covariances (Heusel et al. 2017,
    https://arxiv.org/abs/1706.08500). It falls with the number of pictures: compare equal numbers only.

    tr (Σ Τ)^½ is the sum of the singular values of Σ^½ Τ^½, so that neither a root of a matrix that is not symmetric is
    taken, nor anything added to the diagonal where there are fewer pictures than features. NaN for sets of one.
    """
    real, drawn = _checked(real, drawn)
    if min(len(real), len(drawn)) < 2:
        return math.nan
    shift = real.mean(axis=0) - drawn.mean(axis=0)
    one, other = _covariance(real), _covariance(drawn)
    shared = np.linalg.svd(_root(one) @ _root(other), compute_uv=False).sum()
    return float(max(0.0, shift @ shift + np.trace(one) + np.trace(other) - 2 * shared))


def kernel_distance(
    real: np.ndarray, drawn: np.ndarray, *, subsets: int = 100, size: int = SUBSET, seed: int = 0
) -> KernelDistance:
    """The mean over random subsets (Bińkowski et al. 2018, section 4): of `size` pictures of each set, or of half of
    the smaller set where that is less, so that the spread says something. NaN for sets of fewer than 4."""
    real, drawn = _checked(real, drawn)
    size = min(size, min(len(real), len(drawn)) // 2)
    if size < 2:
        return KernelDistance(math.nan, math.nan, 0, size)
    generator = np.random.default_rng(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        x = real[generator.choice(len(real), size, replace=False)]
        y = drawn[generator.choice(len(drawn), size, replace=False)]
        xx, yy = _kernel(x, x), _kernel(y, y)
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        values[i] = within - 2 * _kernel(x, y).mean()
    return KernelDistance(float(values.mean()), float(values.std()), subsets, size)


def manifold(real: np.ndarray, drawn: np.ndarray, *, k: int = PRECISION_K, density_k: int = DENSITY_K) -> Manifold:
    """Precision, recall, density, coverage; NaN where a set has no k neighbours."""
    real, drawn = _checked(real, drawn)
    most = max(k, density_k)
    if min(len(real), len(drawn)) <= most:
        return Manifold(math.nan, math.nan, math.nan, math.nan)
    real_reach = _reach(real, (k, density_k))
    drawn_reach = _reach(drawn, (k,))
    within = inside = covered = recalled = 0
    for _, squares in _blocks(drawn, real):  # (block, N)
        within += int((squares <= real_reach[0]).any(axis=1).sum())
        inside += int((squares <= real_reach[1]).sum())
    for rows, squares in _blocks(real, drawn):  # (block, M)
        recalled += int((squares <= drawn_reach[0]).any(axis=1).sum())
        covered += int((squares.min(axis=1) <= real_reach[1][rows]).sum())
    return Manifold(
        precision=within / len(drawn),
        recall=recalled / len(real),
        density=inside / (density_k * len(drawn)),
        coverage=covered / len(real),
    )


def nearest(queries: np.ndarray, points: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices (Q, k) int64 and Euclidean distances (Q, k) of the nearest points of each query, nearest first; k is
    cut to the number of points. Both may be uint8: they are compared as float32, the distances found again exactly."""
    k = min(k, len(points))
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    rows = max(1, BLOCK // max(1, len(points)))
    norms = np.concatenate(
        [np.square(points[i : i + 4096].astype(np.float32)).sum(axis=1) for i in range(0, len(points), 4096)]
    )
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows].astype(np.float32)
        products = np.concatenate(
            [some @ points[i : i + 4096].astype(np.float32).T for i in range(0, len(points), 4096)], axis=1
        )
        scores = norms - 2 * products  # the square of the distance but for the query's own norm
        found = np.argpartition(scores, k - 1, axis=1)[:, :k]
        for i, index in enumerate(found):
            exact = np.linalg.norm(points[index].astype(np.float64) - queries[start + i].astype(np.float64), axis=1)
            order = np.argsort(exact, kind="stable")
            indices[start + i], distances[start + i] = index[order], exact[order]
    return indices, distances


def feature_scores(
    real: np.ndarray, drawn: np.ndarray, *, features: str, frechet: str = "frechet_distance", seed: int = 0
) -> Scores:
    """All of the above with their definitions. features: what the features are, in words; frechet: the score's name."""
    kernel = kernel_distance(real, drawn, seed=seed)
    shares = manifold(real, drawn)
    counts = f"{len(drawn):,} drawn against {len(real):,} real pictures, in the features of {features}"
    kernel_name = frechet.replace("frechet", "kernel").replace("fid", "kid")
    near = f"each ball reaching to its {PRECISION_K} nearest neighbours"
    dense = f"each ball reaching to its {DENSITY_K} nearest neighbours"
    return Scores(
        (),
        (
            Score(frechet, frechet_distance(real, drawn), f"Fréchet distance; {counts}; lower is better"),
            Score(
                kernel_name,
                kernel.mean,
                f"squared MMD, kernel (x·y/D + 1)³, unbiased, mean of {kernel.subsets} subsets of {kernel.size}; "
                + counts,
            ),
            Score(f"{kernel_name}_spread", kernel.spread, "standard deviation of the kernel distance over its subsets"),
            Score("precision", shares.precision, f"share of the drawn in a ball around a real one, {near}; {counts}"),
            Score("recall", shares.recall, f"share of the real in a ball around a drawn one, {near}; {counts}"),
            Score("density", shares.density, f"real balls around a drawn one, over {DENSITY_K}, {dense}; {counts}"),
            Score("coverage", shares.coverage, f"share of the real whose ball holds a drawn one, {dense}; {counts}"),
        ),
    )


def _checked(real: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if real.ndim != 2 or drawn.ndim != 2 or real.shape[1] != drawn.shape[1]:
        raise UsageError(
            f"features have the shapes (N, D) and (M, D), but these have {real.shape} and {drawn.shape}; take both "
            "from the same extractor."
        )
    for name, points in (("real", real), ("drawn", drawn)):
        if not np.isfinite(points).all():
            raise NumericError(f"the features of the {name} pictures are not all finite numbers; are the pictures?")
    return real.astype(np.float64), drawn.astype(np.float64)


def _covariance(points: np.ndarray) -> np.ndarray:
    """(D, D), divided by N - 1, as in the paper's own code."""
    centred = points - points.mean(axis=0)
    return centred.T @ centred / (len(points) - 1)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    values = x @ y.T / x.shape[1] + 1
    return values * values * values  # a power of 3 takes ten times as long


def _reach(points: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """For each k the squared distance (N,) of every point to its k-th nearest other point."""
    found = np.empty((len(ks), len(points)))
    for rows, squares in _blocks(points, points):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf  # none is its own neighbour
        nearest_first = np.partition(squares, [k - 1 for k in ks], axis=1)
        for i, k in enumerate(ks):
            found[i, rows] = nearest_first[:, k - 1]
    return list(found)


def _blocks(points: np.ndarray, others: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of `points`, and their squared distances (rows, len(others)); those that are only rounding are 0."""
    middle = others.mean(axis=0)  # nearer to the origin less is lost in the difference of squares
    points, others = points - middle, others - middle
    point_norms, norms = np.square(points).sum(axis=1), np.square(others).sum(axis=1)
    floor = SAME * max(point_norms.max(initial=0), norms.max(initial=0))
    step = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(points), step):
        rows = slice(start, min(start + step, len(points)))
        squares = point_norms[rows, None] + norms - 2 * (points[rows] @ others.T)
        squares[squares < floor] = 0
        yield rows, squares
