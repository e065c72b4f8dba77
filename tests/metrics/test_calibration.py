"""Calibration: answers whose reliability is known, torchmetrics as the oracle, temperatures found again."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from intarsia.errors import DataError, UsageError
from intarsia.metrics import Reliability, fit_temperature, with_temperature
from intarsia.records import IGNORE, Classes


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def drawn(seed: int, classes: int = 4, pixels: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits (K, N), and a mask (N,) drawn from exactly their probabilities."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((classes, pixels))
    mask = (softmax(logits).cumsum(axis=0) < random.random(pixels)).sum(axis=0)
    return logits, mask.clip(max=classes - 1)


def counted(probabilities: np.ndarray, target: np.ndarray, overlapping: bool = False, bins: int = 15) -> Reliability:
    reliability = Reliability.zeros(len(probabilities), overlapping, bins)
    reliability.add(probabilities, target)
    return reliability


def test_two_pixels_by_hand() -> None:
    probabilities = np.array([[0.9, 0.4], [0.1, 0.6]])
    reliability = counted(
        probabilities, np.array([0, 0]), bins=10
    )  # the first is right at 0.9, the second wrong at 0.6
    assert reliability.expected_calibration_error == pytest.approx((0.1 + 0.6) / 2)
    assert reliability.brier == pytest.approx((2 * 0.1**2 + 2 * 0.6**2) / 2)
    assert reliability.mean_squared_error == pytest.approx((0.1**2 + 0.6**2) / 2)
    assert reliability.negative_log_likelihood == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)
    confidence, accuracy, share = reliability.curve()
    assert (confidence[9], accuracy[9], share[9]) == pytest.approx((0.9, 1, 0.5))
    assert np.isnan(confidence[0]) and share[0] == 0


def test_two_overlapping_answers_by_hand() -> None:
    reliability = counted(np.array([[0.9], [0.4]]), np.array([[0], [1]]), overlapping=True, bins=10)
    assert reliability.expected_calibration_error == pytest.approx((0.9 + 0.6) / 2)
    assert reliability.brier == reliability.mean_squared_error == pytest.approx((0.9**2 + 0.6**2) / 2)
    assert reliability.negative_log_likelihood == pytest.approx(-(math.log(0.1) + math.log(0.4)) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_agrees(seed: int) -> None:
    logits, mask = drawn(seed, pixels=3000)
    probabilities = softmax(1.7 * logits)
    mask[::7] = IGNORE
    oracle = MulticlassCalibrationError(4, n_bins=15, ignore_index=IGNORE)
    expected = oracle(torch.from_numpy(probabilities).T, torch.from_numpy(mask)).item()
    assert counted(probabilities, mask).expected_calibration_error == pytest.approx(expected, rel=1e-4)

    labels = (np.arange(4)[:, None] == mask).astype(int)
    binary = BinaryCalibrationError(n_bins=15)(torch.from_numpy(probabilities), torch.from_numpy(labels)).item()
    assert counted(probabilities, labels, True).expected_calibration_error == pytest.approx(binary, rel=1e-4)


def test_answers_drawn_from_their_probabilities_are_calibrated() -> None:
    logits, mask = drawn(0)
    assert counted(softmax(logits), mask).expected_calibration_error < 0.015
    assert counted(softmax(3 * logits), mask).expected_calibration_error > 0.1


@pytest.mark.parametrize("overlapping", [False, True])
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_sums_of_parts_are_the_sum_of_the_whole(overlapping: bool, seed: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = softmax(random.standard_normal((3, 30)))
    target = random.integers(-1, 2, (3, 30) if overlapping else 30)
    whole = counted(probabilities, target, overlapping)
    first = counted(probabilities[:, :cut], target[..., :cut], overlapping)
    both = first + counted(probabilities[:, cut:], target[..., cut:], overlapping)
    np.testing.assert_allclose(both.bins, whole.bins)
    assert both.answers == whole.answers == (target != IGNORE).sum()
    for name in ("expected_calibration_error", "brier", "mean_squared_error", "negative_log_likelihood"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name))


def test_nothing_labelled_is_not_applicable() -> None:
    reliability = counted(np.full((2, 3, 3), 0.5), np.full((3, 3), IGNORE))
    scores = reliability.scores(Classes.named(["a", "b"]))
    assert len(scores.overall) == 4
    assert all(math.isnan(score.value) and score.definition for score in scores.overall)


def test_a_sure_error_has_a_finite_likelihood() -> None:
    reliability = counted(np.array([[1.0], [0.0]], dtype=np.float32), np.array([1]))
    assert reliability.negative_log_likelihood == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(heat: float) -> None:
    logits, mask = drawn(1)
    mask[::5] = IGNORE
    assert fit_temperature(softmax(logits * heat), mask) == pytest.approx(heat, rel=0.05)

    random = np.random.default_rng(2)
    logits = 2 * random.standard_normal((3, 8_000))
    labels = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
    sharpened = 1 / (1 + np.exp(-logits * heat))
    assert fit_temperature(sharpened, labels, overlapping=True) == pytest.approx(heat, rel=0.05)


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_fitted_temperature_mends_likelihood_and_calibration(overlapping: bool) -> None:
    logits, mask = drawn(3)
    sure = softmax(3 * logits).astype(np.float32)
    target = (np.arange(4)[:, None] == mask).astype(int) if overlapping else mask
    temperature = fit_temperature(sure, target, overlapping)
    before, after = (
        counted(sure, target, overlapping),
        counted(with_temperature(sure, temperature, overlapping), target, overlapping),
    )
    assert after.negative_log_likelihood < before.negative_log_likelihood
    assert after.expected_calibration_error < before.expected_calibration_error / 2


def test_a_temperature_divides_the_logits() -> None:
    logits, _ = drawn(4, pixels=50)
    tempered = with_temperature(softmax(logits), 2.5)
    np.testing.assert_allclose(tempered, softmax(logits / 2.5), rtol=1e-5)
    assert tempered.dtype == np.float32
    np.testing.assert_array_equal(tempered.argmax(axis=0), logits.argmax(axis=0))
    sigmoid = with_temperature(1 / (1 + np.exp(-logits)), 2.5, overlapping=True)
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-logits / 2.5)), rtol=1e-5)
    np.testing.assert_array_equal(with_temperature(softmax(logits), 1), softmax(logits).astype(np.float32))


@pytest.mark.parametrize("temperature", [0.05, 20.0])
def test_certain_probabilities_stay_probabilities(temperature: float) -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(with_temperature(certain, temperature).sum(axis=0), 1, rtol=1e-6)
    assert np.isfinite(with_temperature(certain, temperature, overlapping=True)).all()


def test_without_labels_or_choice_the_temperature_is_one() -> None:
    assert fit_temperature(np.full((2, 3, 3), 0.5), np.full((3, 3), IGNORE)) == 1.0
    assert fit_temperature(np.ones((1, 3, 3)), np.zeros((3, 3), dtype=int)) == 1.0


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match=r"\(2, 3, 3\) need a target \(3, 3\)"):
        counted(np.full((2, 3, 3), 0.5), np.zeros((2, 3, 3), dtype=int))
    with pytest.raises(DataError, match="255"):
        counted(np.full((2, 1), 0.5), np.array([255]))
    with pytest.raises(UsageError, match="2 classes"):
        Reliability.zeros(2).add(np.full((3, 1), 1 / 3), np.array([0]))
    with pytest.raises(UsageError, match="go together"):
        Reliability.zeros(2) + Reliability.zeros(2, overlapping=True)
    with pytest.raises(UsageError, match="above 0"):
        with_temperature(np.full((2, 1), 0.5), 0)
