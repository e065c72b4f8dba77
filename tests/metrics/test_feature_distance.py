"""Distances between sets whose distance is known, and other people's numbers for ours to equal."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

import intarsia.metrics.feature_distance as module
from intarsia.errors import NumericError, UsageError
from intarsia.metrics.feature_distance import (
    feature_scores,
    frechet_distance,
    kernel_distance,
    manifold,
    nearest,
)


def gaussian(count: int, dimension: int = 4, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((count, dimension))


def whitened(points: np.ndarray) -> np.ndarray:
    """The points with mean exactly 0 and covariance exactly 1."""
    centred = points - points.mean(axis=0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T


def test_the_distance_of_two_known_gaussians_is_exact() -> None:
    points = whitened(gaussian(500))
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(points, points + np.array([3, 0, 4, 0])) == pytest.approx(25)
    # for Σ = I and Τ = diag(s²): sum of (1 - s)²
    scales = np.array([2.0, 0.5, 3.0, 1.0])
    assert frechet_distance(points, points * scales) == pytest.approx(np.square(1 - scales).sum())


def test_covariances_that_do_not_commute() -> None:
    """Wasserstein distance of N(0, A) and N(0, B): tr A + tr B - 2 tr (A^½ B A^½)^½, by the eigenvalues of A B."""
    random = np.random.default_rng(1)
    a, b = random.standard_normal((2, 4, 4))
    points = whitened(gaussian(300))
    one, other = points @ a.T, points @ b.T
    first, second = a @ a.T, b @ b.T
    expected = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    assert frechet_distance(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("count", [20, 200])  # fewer pictures than features, and more
def test_the_frechet_distance_equals_that_of_torch_fidelity(count: int) -> None:
    one, other = gaussian(count, 32, 1), gaussian(count + 7, 32, 2, shift=0.3, scale=1.5)
    statistics = [fid_features_to_statistics(torch.from_numpy(points)) for points in (one, other)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    assert frechet_distance(one, other) == pytest.approx(theirs, rel=1e-6)


def test_constant_features_and_single_pictures() -> None:
    constant = np.ones((10, 3))
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, constant + 2) == pytest.approx(12)
    assert math.isnan(frechet_distance(constant[:1], constant))
    assert math.isnan(kernel_distance(constant[:3], constant).mean)
    assert math.isnan(manifold(constant[:5], constant).coverage)


def test_the_kernel_distance_equals_that_of_torch_fidelity() -> None:
    """Both draw their own subsets: of the same sets the means agree within a few standard errors."""
    one, other = gaussian(400, 8, 1), gaussian(400, 8, 2, shift=0.5)
    ours = kernel_distance(one, other, subsets=100, size=100)
    theirs = kid_features_to_metric(
        torch.from_numpy(one), torch.from_numpy(other), kid_subsets=100, kid_subset_size=100, verbose=False,
        rng_seed=0,
    )[KEY_METRIC_KID_MEAN]  # fmt: skip
    assert abs(ours.mean - theirs) < 4 * ours.spread * math.sqrt(2 / 100)
    assert ours.mean > 5 * ours.spread / math.sqrt(100)


def test_the_kernel_distance_is_unbiased_and_says_its_size() -> None:
    values = [kernel_distance(gaussian(60, 3, 2 * i), gaussian(60, 3, 2 * i + 1), subsets=10).mean for i in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(40)
    assert min(values) < 0 < max(values)
    found = kernel_distance(gaussian(60), gaussian(80), subsets=7)
    assert (found.subsets, found.size) == (7, 30)


def test_the_kernel_distance_by_hand() -> None:
    """Two pictures a set: the subsets are half of a set of four, so take points that do not differ."""
    real, drawn = np.zeros((4, 1)), np.ones((4, 1))  # k(0, ·) = 1, k(1, 1) = 8
    assert kernel_distance(real, drawn).mean == pytest.approx(1 + 8 - 2)


def test_precision_and_recall_equal_those_of_torch_fidelity() -> None:
    real, drawn = gaussian(300, 6, 1), gaussian(250, 6, 2, shift=0.4, scale=0.7)
    ours = manifold(real, drawn)
    theirs = prc_features_to_metric(
        torch.from_numpy(drawn), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=False,
        verbose=False,
    )  # fmt: skip
    assert ours.precision == pytest.approx(theirs[KEY_METRIC_PRECISION])
    assert ours.recall == pytest.approx(theirs[KEY_METRIC_RECALL])
    assert 0 < ours.recall < ours.precision < 1


def test_identical_sets_and_sets_far_apart() -> None:
    points = gaussian(200)
    same = manifold(points, points)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = manifold(points, points + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_equal_distributions_have_the_coverage_that_the_paper_says() -> None:
    """1 - (M - 1)…(M - k) / ((2M - 1)…(2M - k)), about 1 - 2^-k (Naeem et al. 2020, lemma 2)."""
    found = np.mean([manifold(gaussian(400, 3, 2 * i), gaussian(400, 3, 2 * i + 1)).coverage for i in range(5)])
    assert found == pytest.approx(1 - 0.5**5, abs=0.015)
    density = np.mean([manifold(gaussian(400, 3, 2 * i), gaussian(400, 3, 2 * i + 1)).density for i in range(5)])
    assert density == pytest.approx(1, abs=0.06)


def test_half_of_the_modes_missing_halves_recall_and_coverage_and_leaves_precision() -> None:
    real = np.concatenate([gaussian(200, 3, 1), gaussian(200, 3, 2, shift=50)])
    drawn = gaussian(400, 3, 3)
    found = manifold(real, drawn)
    assert found.coverage == pytest.approx(0.5, abs=0.02)
    assert found.recall == pytest.approx(0.5, abs=0.02)
    assert found.precision > 0.9
    other_way = manifold(drawn, real)  # half of what is drawn is like nothing real
    assert other_way.precision == pytest.approx(0.5, abs=0.03) and other_way.recall > 0.9


def test_one_outlier_swells_precision_but_not_density() -> None:
    """The reason for density: a real outlier's ball takes in everything (Naeem et al. 2020, figure 1)."""
    real = np.concatenate([gaussian(99, 2, 1), [[30.0, 30.0]]])
    drawn = gaussian(100, 2, 2, shift=10)
    found = manifold(real, drawn)
    assert found.precision > 0.9 and found.density < 0.35


def test_copies_of_copies_have_balls_of_no_size_that_hold_them() -> None:
    points = np.repeat(gaussian(5, 6) * 1e3, 12, axis=0)
    found = manifold(points, points + 0.0)
    assert (found.precision, found.coverage) == (1, 1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = gaussian(150, 5, 1), gaussian(130, 5, 2, scale=0.8)
    whole = manifold(real, drawn), [each.tolist() for each in nearest(drawn, real, 3)]
    monkeypatch.setattr(module, "BLOCK", 1000)
    assert (manifold(real, drawn), [each.tolist() for each in nearest(drawn, real, 3)]) == whole


def test_the_nearest_points_are_those_that_a_plain_search_finds() -> None:
    points = np.random.default_rng(0).integers(0, 256, (120, 30), dtype=np.uint8)
    queries = np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8)
    queries[3] = points[77]
    indices, distances = nearest(queries, points, 4)
    plain = np.linalg.norm(queries[:, None].astype(float) - points[None], axis=2)
    np.testing.assert_array_equal(np.sort(plain, axis=1)[:, :4], distances)
    assert indices[3, 0] == 77 and distances[3, 0] == 0
    assert nearest(queries, points[:2], 5)[0].shape == (20, 2)


def test_scores_carry_their_counts_and_the_name_of_the_features() -> None:
    scores = feature_scores(gaussian(50), gaussian(40, seed=1), features="a test")
    assert scores["frechet_distance"] == frechet_distance(gaussian(50), gaussian(40, seed=1))
    counted = [score.definition for score in scores.overall if score.name != "kernel_distance_spread"]
    assert all("40 drawn" in text and "50 real" in text and "a test" in text for text in counted)
    names = {score.name for score in feature_scores(gaussian(9), gaussian(9), features="x", frechet="fid").overall}
    assert {"fid", "kid", "kid_spread"} <= names


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="same extractor"):
        frechet_distance(gaussian(5, 3), gaussian(5, 4))
    bad = SimpleNamespace(points=gaussian(5))
    bad.points[2, 1] = np.nan
    with pytest.raises(NumericError, match="drawn"):
        manifold(gaussian(5), bad.points)
