"""How well several answers match several people: do they say what the people say, as differently and as often?

Kohl et al., "A Probabilistic U-Net for Segmentation of Ambiguous Images", 2018, arxiv.org/abs/1806.05034, section 3:
the squared generalised energy distance with 1 - IoU (after Székely, Rizzo, "Energy statistics", 2013). Kohl et al., "A
Hierarchical Probabilistic U-Net", 2019, arxiv.org/abs/1905.13077: Hungarian-matched IoU.

S answers and R raters of one picture, each a mask (H, W) of classes 0..K-1 or IGNORE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..drawing import has_background
from ..errors import DataError, UsageError
from ..records import IGNORE, Classes
from .calibration import Reliability
from .confusion import Confusion
from .scores import Score, Scores, ratio

ANSWERS = 16  # of a picture that are compared with its raters, as in the paper's tables
BLOCK = 1 << 16  # pixels that are counted at once: S or R rows of them stay within a processor's caches


def distances(first: np.ndarray, second: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """(A, B) float64: 1 - IoU of each of the masks (A, H, W) with each of the masks (B, H, W), in [0, 1].

    The IoU of two masks is the mean over those of `classes` that at least one of them shows, over the pixels that both
    label; where neither shows any of them, it is 1: both say that there is nothing.

        >>> nothing, left, both = np.array([[0, 0]]), np.array([[1, 0]]), np.array([[1, 1]])
        >>> distances(np.stack([nothing, left]), np.stack([nothing, left, both]), classes=[1]).tolist()
        [[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]]
    """
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise DataError(
            f"masks (A, H, W) and (B, H, W) of one size are compared, but got {first.shape}, {second.shape}."
        )
    if not len(classes):
        raise UsageError("no class is left to compare masks by; give at least one.")
    ours, theirs = first.reshape(len(first), -1), second.reshape(len(second), -1)
    shape = (len(classes), len(ours), len(theirs))
    shared, of_ours, of_theirs = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for start in range(0, ours.shape[1], BLOCK):
        a, b = ours[:, start : start + BLOCK], theirs[:, start : start + BLOCK]
        a_known, b_known = ((each != IGNORE).astype(np.float32) for each in (a, b))
        for k, value in enumerate(classes):
            a_is, b_is = ((each == value).astype(np.float32) for each in (a, b))
            shared[k] += a_is @ b_is.T  # whole numbers up to BLOCK, exact in float32
            of_ours[k] += a_is @ b_known.T
            of_theirs[k] += a_known @ b_is.T
    union = of_ours + of_theirs - shared
    seen = union > 0
    iou = ratio(shared, union)
    mean = ratio(np.where(seen, iou, 0).sum(axis=0), seen.sum(axis=0))
    return 1 - np.where(seen.any(axis=0), mean, 1.0)


def energy_distance(between: np.ndarray, answers: np.ndarray, raters: np.ndarray, unbiased: bool = False) -> float:
    """The squared generalised energy distance, 2 E d(answer, rater) - E d(answer, answer') - E d(rater, rater')
    (Kohl et al. 2018, section 3); 0 where the answers are distributed as the raters, in [0, 2].

    between: (S, R) distances of answers and raters; answers (S, S), raters (R, R) those among themselves. Means are
    over all ordered pairs, each with itself included, as its authors count: of one class never negative, and too high
    by E d(answer, answer') / S for answers of an ideal model, so that S must be told. unbiased: over pairs of
    different ones.
    """
    if unbiased:
        return float(2 * between.mean() - _of_different(answers) - _of_different(raters))
    return float(2 * between.mean() - answers.mean() - raters.mean())


def best_match(between: np.ndarray) -> float:
    """The mean over raters of the IoU of the answer that is nearest to them, in [0, 1]. between: (S, R) distances."""
    return float(1 - between.min(axis=0).mean())


def matched(between: np.ndarray) -> float:
    """The mean IoU where answers and raters are paired one to one as well as they can be, in [0, 1]: both are repeated
    until they are equally many (Kohl et al. 2019). between: (S, R) distances."""
    answers, raters = between.shape
    count = math.lcm(answers, raters)
    cost = between.repeat(count // answers, axis=0).repeat(count // raters, axis=1)
    return float(1 - cost[linear_sum_assignment(cost)].mean())


def _of_different(among: np.ndarray) -> float:
    """The mean distance of pairs of different ones; NaN where there is only one."""
    count = len(among)
    return float((among.sum() - np.trace(among)) / (count * (count - 1))) if count > 1 else math.nan


def compared(classes: Classes) -> tuple[int, ...]:
    """The classes by which masks are compared: all but the first where that is called background."""
    first = 1 if len(classes) > 1 and has_background(classes) else 0
    return tuple(range(first, len(classes)))


@dataclass
class Agreement:
    """Sums over pictures of how well answers and raters agree. Pictures without raters are left out by who adds."""

    classes: Classes
    overlap: Confusion  # of each rater (truth) by the one answer
    people: Confusion  # of each rater by each other
    reliability: Reliability  # of the one answer's probabilities, or the mean of several, against each rater
    pictures: int = 0
    raters: int = 0
    people_distances: list[float] = field(default_factory=list)  # of each picture with two raters or more
    energies: list[float] = field(default_factory=list)  # of each picture with several answers
    diversities: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    paired: list[float] = field(default_factory=list)
    answers: int = 0  # that were given for each picture; 0: one answer only

    @classmethod
    def zeros(cls, classes: Classes) -> Agreement:
        """Nothing counted yet. Raises UsageError for classes that overlap, which raters' masks can't show."""
        if classes.overlapping:
            raise UsageError("raters are compared by masks of classes that exclude each other, but these overlap.")
        count = len(classes)
        return cls(classes, Confusion.zeros(count), Confusion.zeros(count), Reliability.zeros(count))

    def add(
        self,
        raters: Sequence[np.ndarray],
        mask: np.ndarray,
        probabilities: np.ndarray,
        answers: Sequence[np.ndarray] = (),
    ) -> None:
        """Count one picture: the raters' masks (H, W), the one answer's mask (H, W), the probabilities (K, H, W) that
        are held against the raters, and the masks of several answers, where there are."""
        self.pictures += 1
        self.raters += len(raters)
        for number, rater in enumerate(raters):
            self.overlap.add(rater, mask)
            self.reliability.add(probabilities, rater)
            for other in (*raters[:number], *raters[number + 1 :]):
                known = np.where(other == IGNORE, IGNORE, rater)
                self.people.add(known, np.where(other == IGNORE, 0, other))
        people, by = np.stack(raters), compared(self.classes)
        among = distances(people, people, by)
        if len(raters) > 1:
            self.people_distances.append(_of_different(among))
        if not len(answers):
            return
        if self.answers not in (0, len(answers)):
            raise UsageError(
                f"{len(answers)} answers follow {self.answers} of other pictures; give equally many of each."
            )
        self.answers = len(answers)
        given = np.stack(answers)
        between, own = distances(given, people, by), distances(given, given, by)
        self.energies.append(energy_distance(between, own, among))
        self.best.append(best_match(between))
        self.paired.append(matched(between))
        if len(given) > 1:
            self.diversities.append(_of_different(own))

    def scores(self) -> Scores:
        """Every number with its definition; none where no picture had raters."""
        names = self.classes.names
        if not self.pictures:
            return Scores(names, ())
        by = f"one confusion matrix of {self.pictures} pictures, pooled over"
        raters, people = (
            f"{by} each of their raters' masks ({self.raters} in all)",
            f"{by} all ordered pairs of their raters",
        )
        whose = f"of the mean of {self.answers} answers" if self.answers else "of the answer"
        each = f"{whose}, each rater's mask in turn the truth"
        told = (
            Score("mean_rater_iou", self.overlap.mean_iou, f"mean over classes of the answer's IoU: {raters}"),
            Score("mean_rater_dice", self.overlap.mean_dice, f"mean over classes of the answer's Dice: {raters}"),
            Score(
                "mean_people_iou", self.people.mean_iou, f"mean over classes of raters' IoU with each other: {people}"
            ),
            Score("mean_people_dice", self.people.mean_dice, f"likewise, Dice: {people}"),
            self._distance("people_diversity", self.people_distances, "mean distance of two different raters"),
            Score(
                "rater_calibration_error",
                self.reliability.expected_calibration_error,
                f"expected calibration error of the probabilities {each}",
            ),
            Score("rater_brier", self.reliability.brier, f"Brier score of the probabilities {each}"),
        )
        columns = {
            "rater_dice": tuple(map(float, self.overlap.dice)),
            "people_dice": tuple(map(float, self.people.dice)),
        }
        definitions = {"rater_dice": f"the answer's Dice: {raters}", "people_dice": f"raters' Dice: {people}"}
        return Scores(names, told + self._of_answers(), columns, definitions)

    def _of_answers(self) -> tuple[Score, ...]:
        if not self.answers:
            return ()
        count = f"{self.answers} answers"
        energy = (
            f"squared generalised energy distance of {count} and the raters, 2 E d(answer, rater) "
            "- E d(answer, answer') - E d(rater, rater') over all ordered pairs, each with itself included"
        )
        pairs = f"IoU where {count} and the raters, repeated until equally many, are paired as well as they can be"
        return (
            self._distance("energy_distance", self.energies, energy),
            self._distance("answer_diversity", self.diversities, f"mean distance of two different of {count}"),
            self._distance("best_match_iou", self.best, f"mean over raters of the IoU of the nearest of {count}"),
            self._distance("matched_iou", self.paired, pairs),
        )

    def _distance(self, name: str, values: Sequence[float], what: str) -> Score:
        left_out = "" if compared(self.classes)[0] == 0 else f" but {self.classes.names[0]}"
        iou = f"IoU: the mean over the classes{left_out} that either of two masks shows, 1 where neither shows any"
        return Score(name, _mean(values), f"mean over pictures of the {what}; distance: 1 - IoU; {iou}")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
