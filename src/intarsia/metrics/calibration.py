"""Do probabilities mean what they say, and one number that mends them.

Guo et al., "On Calibration of Modern Neural Networks", 2017, arxiv.org/abs/1706.04599: expected calibration error
(equation 3), temperature scaling (section 4.2). Brier, "Verification of Forecasts Expressed in Terms of Probability",
1950.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

from ..errors import DataError, UsageError
from ..records import IGNORE, Classes
from .scores import Score, Scores, ratio

SMALLEST = 1e-12  # a probability below it counts as this much, so that one pixel can't make the likelihood infinite
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried


class Reliability:
    """Pooled sums from which calibration error, reliability curve, Brier score and likelihood follow.

    Where classes exclude each other a pixel gives one answer: the likeliest class, with its probability as confidence.
    Where they overlap, each class of each pixel is an answer: confidence is the probability of "yes", right is "yes".
    """

    def __init__(self, bins: np.ndarray, squares: float, surprise: float, classes: int, overlapping: bool) -> None:
        self.bins = bins  # (3, number of bins) float64: answers, sum of confidences, right answers
        self.squares = squares  # sum over the answers of sum over classes of (probability - truth)^2
        self.surprise = surprise  # sum over the answers of -log(probability of the truth)
        self.classes = classes
        self.overlapping = overlapping

    @classmethod
    def zeros(cls, classes: int, overlapping: bool = False, bins: int = 15) -> Self:
        """Nothing counted yet. bins: of equal width over the confidences [0, 1]; 15 is the paper's number."""
        return cls(np.zeros((3, bins)), 0.0, 0.0, classes, overlapping)

    def add(self, probabilities: np.ndarray, target: np.ndarray) -> None:
        """Count one picture: probabilities (K, ...) in [0, 1]; mask (...), or labels (K, ...) where classes overlap."""
        p, truth = _known(probabilities, target, self.overlapping)
        if len(probabilities) != self.classes:
            raise UsageError(f"sums of {self.classes} classes do not go together with {len(probabilities)} classes.")
        if self.overlapping:
            confidence, right = p, truth
            of_truth = np.where(truth == 1, p, 1 - p)
            self.squares += float(((1 - of_truth) ** 2).sum())
        else:
            confidence, right = p.max(axis=0), p.argmax(axis=0) == truth
            of_truth = p[truth, np.arange(len(truth))]
            self.squares += float(((p**2).sum(axis=0) - 2 * of_truth + 1).sum())
        self.surprise += float(-np.log(np.maximum(of_truth, SMALLEST)).sum())
        number = self.bins.shape[1]
        place = np.clip((confidence * number).astype(np.int64), 0, number - 1)
        for sums, weights in zip(self.bins, (None, confidence, right), strict=True):
            sums += np.bincount(place, weights, minlength=number)

    def __add__(self, other: Reliability) -> Reliability:
        """The sums of both one's pictures."""
        ours, theirs = ((each.classes, each.overlapping, each.bins.shape[1]) for each in (self, other))
        if ours != theirs:
            raise UsageError(f"sums of other (classes, overlapping, bins) do not go together: {ours} and {theirs}.")
        return Reliability(
            self.bins + other.bins, self.squares + other.squares, self.surprise + other.surprise, *ours[:2]
        )

    @property
    def answers(self) -> int:
        """How many answers were counted."""
        return int(self.bins[0].sum())

    @property
    def expected_calibration_error(self) -> float:
        """The mean over answers of |confidence - accuracy| of their bin, in [0, 1]; 0 is best, NaN without answers."""
        return self._mean(np.abs(self.bins[1] - self.bins[2]).sum())

    @property
    def brier(self) -> float:
        """The mean of the sum over classes of (p - truth)^2, in [0, 2]; overlapping: of (p - truth)^2, in [0, 1]."""
        return self._mean(self.squares)

    @property
    def mean_squared_error(self) -> float:
        """The mean over answers and classes of (probability - truth)^2, in [0, 1]."""
        return self.brier if self.overlapping else self.brier / self.classes

    @property
    def negative_log_likelihood(self) -> float:
        """The mean of -log(probability of the truth), in nats."""
        return self._mean(self.surprise)

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The reliability curve, (bins,) each: of each bin the mean confidence, the accuracy, the share of all answers.

        Confidence and accuracy are NaN for an empty bin.
        """
        number, confidence, right = self.bins
        return ratio(confidence, number), ratio(right, number), ratio(number, number.sum())

    def scores(self, classes: Classes) -> Scores:
        """Every number with its definition."""
        if len(classes) != self.classes or classes.overlapping != self.overlapping:
            raise UsageError(f"sums of {self.classes} classes do not go together with the classes {classes.names}.")
        number = self.bins.shape[1]
        if self.overlapping:
            gap = f"|mean probability - share of yes| in {number} bins of probability, weighted by the answers in a bin"
            brier = "mean over labelled pairs of pixel and class of (probability - truth)^2"
            error = brier
        else:
            gap = f"|mean confidence - accuracy| in {number} bins of confidence, weighted by the pixels in a bin"
            brier = "mean over labelled pixels of the sum over classes of (probability - truth)^2"
            error = "mean over labelled pixels and classes of (probability - truth)^2"
        likelihood = "mean of -log(probability of the truth), in nats"
        return Scores(
            classes=classes.names,
            overall=(
                Score("expected_calibration_error", self.expected_calibration_error, gap),
                Score("brier", self.brier, brier),
                Score("mean_squared_error", self.mean_squared_error, error),
                Score("negative_log_likelihood", self.negative_log_likelihood, likelihood),
            ),
        )

    def _mean(self, total: float) -> float:
        return float(total) / self.answers if self.answers else math.nan


def fit_temperature(probabilities: np.ndarray, target: np.ndarray, overlapping: bool = False) -> float:
    """The T in [0.05, 20] at which `with_temperature` makes the target likeliest; 1 where nothing is labelled.

    probabilities: (K, ...) in [0, 1], of pictures the model was not trained on; 100,000 pixels are plenty.
    target: the mask (...), 0..K-1 or IGNORE; where classes overlap, labels (K, ...), 0, 1 or IGNORE.
    """
    p, truth = _known(probabilities, target, overlapping)
    if truth.size == 0 or (not overlapping and len(p) == 1):
        return 1.0
    if overlapping:
        logits = _logits(p) * np.where(truth == 1, 1.0, -1.0)

        def surprise(heat: float) -> float:
            return float(np.logaddexp(0, -logits / math.exp(heat)).mean())
    else:
        logits = np.log(np.maximum(p, SMALLEST))
        of_truth = logits[truth, np.arange(len(truth))]

        def surprise(heat: float) -> float:
            cold = math.exp(-heat)
            return float((logsumexp(logits * cold, axis=0) - of_truth * cold).mean())

    limits = (math.log(COLDEST), math.log(HOTTEST))  # on log T, where halving and doubling are the same distance
    found = minimize_scalar(surprise, bounds=limits, method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))


def with_temperature(probabilities: np.ndarray, temperature: float, overlapping: bool = False) -> np.ndarray:
    """The probabilities (K, ...) float32 that the logits divided by `temperature` would have given.

    Above 1 answers become less sure, below 1 surer; which class is likeliest stays. Exclusive classes: p^(1/T) over its
    sum over classes; overlapping ones: sigmoid(logit(p) / T).
    """
    if not temperature > 0:
        raise UsageError(f"the temperature is {temperature}, but must be above 0; 1 changes nothing.")
    if temperature == 1:
        return probabilities.astype(np.float32, copy=False)
    if overlapping:
        return expit(_logits(probabilities) / temperature).astype(np.float32)
    powers = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(powers - powers.max(axis=0))
    return (powers / powers.sum(axis=0)).astype(np.float32)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def _known(probabilities: np.ndarray, target: np.ndarray, overlapping: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is labelled, float64 and int64: exclusive (K, N) and (N,); overlapping (N,) and (N,), all classes in one."""
    expected = probabilities.shape if overlapping else probabilities.shape[1:]
    if target.shape != expected:
        raise DataError(f"probabilities {probabilities.shape} need a target {expected}, but got {target.shape}.")
    known = target != IGNORE
    truth = target[known].astype(np.int64)
    top = 1 if overlapping else len(probabilities) - 1
    if truth.size and (truth.min() < 0 or truth.max() > top):
        raise DataError(
            f"the target holds values from {truth.min()} to {truth.max()}, but only 0 to {top} and {IGNORE} "
            "(not labelled) mean something; `intarsia check` shows which files hold others."
        )
    return (probabilities[known] if overlapping else probabilities[:, known]).astype(np.float64), truth
