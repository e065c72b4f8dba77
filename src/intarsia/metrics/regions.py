"""How well a picture was divided, where regions have no class: against several people's maps of the same picture.

    covering   how much of each person's region one region of ours covers          [0, 1], 1 is best
    VI         variation of information: what one map does not tell of the other    nats, 0 is best
    PRI        probabilistic Rand index: are two pixels together, as people say?    [0, 1], 1 is best
    boundary   precision, recall and F of outlines within a tolerance               [0, 1], 1 is best

Arbelaez, Maire, Fowlkes, Malik: Contour Detection and Hierarchical Image Segmentation, 2011, section 3,
https://doi.org/10.1109/TPAMI.2010.161 (which quotes the others). Where we differ: VI is in nats, theirs in bits (divide
by ln 2); each picture and each person counts alike, where they weigh coverings by pixels; an outline's pixel is right
where any of theirs is within the tolerance, without their one-to-one matching, which lets several pixels of ours
share one of theirs and so gives a little more.

A map is (H, W) of whole numbers whose values mean nothing but who belongs together; IGNORE is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from ..errors import DataError, UsageError
from ..records import IGNORE, Classes
from .boundary import TOLERANCE
from .confusion import Confusion
from .scores import Score, Scores

_SQUARE = np.ones((3, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Overlaps:
    """The pixels that a region of one map shares with a region of another, for the M pairs that share any."""

    shared: np.ndarray  # (M,) float64, pixels
    first: np.ndarray  # (M,) which region of the first map, 0..
    second: np.ndarray  # (M,) which region of the second map, 0..
    first_sizes: np.ndarray  # pixels of each region of the first map
    second_sizes: np.ndarray  # likewise of the second

    @property
    def pixels(self) -> float:
        return float(self.shared.sum())


def overlaps(first: np.ndarray, second: np.ndarray) -> Overlaps:
    """Which regions of two maps (H, W) overlap, and by how much; pixels that are IGNORE in either are left out."""
    if first.shape != second.shape:
        raise DataError(f"maps of one picture must be of one size, but these are {first.shape} and {second.shape}.")
    known = (first != IGNORE) & (second != IGNORE)
    _, a = np.unique(first[known], return_inverse=True)
    _, b = np.unique(second[known], return_inverse=True)
    width = int(b.max()) + 1 if b.size else 1
    pairs, shared = np.unique(a.astype(np.int64) * width + b, return_counts=True)
    sizes = [np.bincount(each.ravel()).astype(np.float64) for each in (a, b)]
    return Overlaps(shared.astype(np.float64), pairs // width, pairs % width, *sizes)


def covering(true: np.ndarray, regions: np.ndarray) -> float:
    """The mean over true pixels of the IoU between the true region and that of ours which fits it best, [0, 1].

    Not symmetric: many small regions of ours are punished, as no one covers much; NaN where nothing is known.
    """
    table = overlaps(true, regions)
    if not table.pixels:
        return math.nan
    union = table.first_sizes[table.first] + table.second_sizes[table.second] - table.shared
    best = np.zeros(len(table.first_sizes))
    np.maximum.at(best, table.first, table.shared / union)
    return float((table.first_sizes * best).sum() / table.pixels)


def conditional_entropies(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """H(second | first) and H(first | second) in nats: how much the second map splits the first one's regions, and how
    much it merges them. Each is >= 0 and at most the logarithm of the number of regions; NaN where nothing is known.
    """
    table = overlaps(first, second)
    if not table.pixels:
        return math.nan, math.nan
    joint = table.shared / table.pixels
    splits = -(joint * np.log(table.shared / table.first_sizes[table.first])).sum()
    merges = -(joint * np.log(table.shared / table.second_sizes[table.second])).sum()
    return max(0.0, float(splits)), max(0.0, float(merges))


def variation_of_information(first: np.ndarray, second: np.ndarray) -> float:
    """H(first | second) + H(second | first) in nats, a metric: 0 for the same regions, symmetric, and no detour over a
    third map is shorter. Divide by ln 2 for bits. Meila, Comparing Clusterings, 2005."""
    return sum(conditional_entropies(first, second))


def rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """The share of all pairs of pixels on which two maps agree, that they are together or that they are apart, [0, 1];
    NaN for fewer than two pixels. The mean over people is the probabilistic Rand index (Unnikrishnan et al., 2007)."""
    table = overlaps(first, second)
    pairs = table.pixels * (table.pixels - 1) / 2
    if not pairs:
        return math.nan
    apart = (np.square(table.first_sizes).sum() + np.square(table.second_sizes).sum()) / 2
    return float(1 - (apart - np.square(table.shared).sum()) / pairs)


def region_boundary(regions: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour is of another region; an outline one pixel wide.

    Where the neighbour is IGNORE, nobody knows, and there is none.
    """
    line = np.zeros(regions.shape, dtype=bool)
    known = regions != IGNORE
    line[:, :-1] |= (regions[:, :-1] != regions[:, 1:]) & known[:, :-1] & known[:, 1:]
    line[:-1] |= (regions[:-1] != regions[1:]) & known[:-1] & known[1:]
    return line


def outline_counts(people: Sequence[np.ndarray], regions: np.ndarray, tolerance: float | None = None) -> np.ndarray:
    """Pixels (4,) int64: on our outlines, those of them near anybody's; on people's outlines, one after the other,
    those of them near ours.

    tolerance: in pixels, >= 0; near is at this Euclidean distance or less; None: 0.75 % of the diagonal, at least 1.
    """
    reach = max(1.0, TOLERANCE * math.hypot(*regions.shape)) if tolerance is None else tolerance
    ours = region_boundary(regions)
    near_ours = _near(ours, reach)
    near_theirs, counts = np.zeros(regions.shape, dtype=bool), np.zeros(4, dtype=np.int64)
    clear = np.zeros(regions.shape, dtype=bool)
    for each in people:
        theirs, known = region_boundary(each), _clear(each)
        near_theirs |= _near(theirs, reach)
        clear |= known
        counted = theirs & _clear(regions)
        counts[2:] += counted.sum(), (counted & near_ours).sum()
    counted = ours & clear  # where at least one person knows
    counts[:2] = counted.sum(), (counted & near_theirs).sum()
    return counts


def boundary_f(counts: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F = 2 PR / (P + R) of counts as in `outline_counts`, each in [0, 1].

    Of nothing said, the precision is NaN, and so is the recall of nothing there; F is then 0, and NaN where both are.
    """
    said, right, there, found = (int(each) for each in counts)
    precision, recall = (right / said if said else math.nan), (found / there if there else math.nan)
    if not said and not there:
        return precision, recall, math.nan
    known = not math.isnan(precision) and not math.isnan(recall) and precision + recall > 0
    return precision, recall, 2 * precision * recall / (precision + recall) if known else 0.0


@dataclass(frozen=True)
class Agreement:
    """How one map agrees with those of people, for one picture."""

    covering: float  # [0, 1], mean over people
    variation_of_information: float  # nats, mean over people
    rand_index: float  # [0, 1], mean over people: the probabilistic Rand index
    outlines: np.ndarray = field(repr=False)  # (4,) int64, as in `outline_counts`
    regions: int = 0  # of our map


def agreement(people: Sequence[np.ndarray], regions: np.ndarray, tolerance: float | None = None) -> Agreement:
    """How a map (H, W) agrees with people's maps of the same picture. `tolerance` as in `outline_counts`.

    Raises DataError for maps of different sizes, UsageError for nobody's.
    """
    if not people:
        raise UsageError("regions are judged by people's maps of the same picture, but none is given.")
    return Agreement(
        float(np.mean([covering(each, regions) for each in people])),
        float(np.mean([variation_of_information(each, regions) for each in people])),
        float(np.mean([rand_index(each, regions) for each in people])),
        outline_counts(people, regions, tolerance),
        len(np.unique(regions[regions != IGNORE])),
    )


def human_agreement(people: Sequence[np.ndarray], tolerance: float | None = None) -> list[Agreement]:
    """How each person agrees with all others: what a program can hope for. Raises UsageError for fewer than two."""
    if len(people) < 2:
        raise UsageError(f"people are compared with each other, but there is {len(people)}; give two or more maps.")
    return [agreement([*people[:i], *people[i + 1 :]], each, tolerance) for i, each in enumerate(people)]


DEFINITIONS = {
    "covering": "mean over pixels of the IoU between the person's region and ours that fits it best; mean over people "
    "and pictures",
    "variation_of_information": "H(A|B) + H(B|A) in nats (divide by ln 2 = 0.693 for bits); mean over people and "
    "pictures; 0 is best",
    "rand_index": "share of pairs of pixels that both maps join or both part (probabilistic Rand index); mean over "
    "people and pictures",
    "boundary_f": "2 PR / (P + R), with P the share of our outlines' pixels within the tolerance of anybody's outline, "
    "R the share of everybody's within it of ours, pooled over pictures",
}


class RegionScore:
    """The agreements of pictures, each divided with the same S settings of a method (1 where nothing is swept)."""

    def __init__(self) -> None:
        self.pictures: list[tuple[Agreement, ...]] = []

    def add(self, *settings: Agreement) -> None:
        """One picture, by each setting in the same order. Raises UsageError for another number of settings."""
        if not settings or (self.pictures and len(settings) != len(self.pictures[0])):
            expected = len(self.pictures[0]) if self.pictures else "1 or more"
            raise UsageError(f"a picture with {len(settings)} settings, where {expected} are expected.")
        self.pictures.append(settings)

    def by_setting(self, name: str) -> list[float]:
        """(S,) the score of each setting over all pictures, by its name in DEFINITIONS."""
        return [self._score(name, [each[setting] for each in self.pictures]) for setting in range(self._settings())]

    def best_setting(self, name: str) -> int:
        """Which setting is best for all pictures together (optimal dataset scale)."""
        return _best(name, self.by_setting(name))

    def dataset_scale(self, name: str) -> float:
        """ODS: the score with the one setting that is best for all pictures together."""
        return self.by_setting(name)[self.best_setting(name)]

    def image_scale(self, name: str) -> float:
        """OIS: the score where each picture has the setting that is best for it: an oracle chooses."""
        chosen = []
        for settings in self.pictures:
            values = [self._score(name, [each]) for each in settings]
            if name == "boundary_f":  # nothing said where nothing is: no setting could do better
                values = [1.0 if math.isnan(value) else value for value in values]
            chosen.append(settings[_best(name, values)])
        return self._score(name, chosen)

    def scores(self) -> Scores:
        """Every number with its definition; of a sweep the best for all pictures (…_ods) and for each (…_ois)."""
        swept = self._settings() > 1
        ways = {"_ods": "with the one best setting for all pictures", "_ois": "with each picture's best setting"}
        found = []
        for name, definition in DEFINITIONS.items():
            if not swept:
                found.append(Score(name, self.dataset_scale(name), definition))
                continue
            for way, words in ways.items():
                value = self.dataset_scale(name) if way == "_ods" else self.image_scale(name)
                found.append(Score(name + way, value, f"{definition}; {words} of {self._settings()}"))
        return Scores(classes=(), overall=tuple(found))

    def _settings(self) -> int:
        if not self.pictures:
            raise UsageError("no picture has been added, so there is nothing to score.")
        return len(self.pictures[0])

    @staticmethod
    def _score(name: str, chosen: Sequence[Agreement]) -> float:
        if name == "boundary_f":
            return boundary_f(np.sum([each.outlines for each in chosen], axis=0))[2]
        values = np.array([getattr(each, name) for each in chosen])
        return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


class ClusterTable:
    """Pooled counts of clusters without a name against classes: which cluster is which class, and how well.

    All pixels of all pictures go into one table, and one matching is made for the whole set, so that a cluster is the
    same class in every picture.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts  # (C, K + 1) int64: true class, cluster; the last column: no cluster

    @classmethod
    def zeros(cls, classes: int, clusters: int) -> Self:
        return cls(np.zeros((classes, clusters + 1), dtype=np.int64))

    def add(self, mask_true: np.ndarray, clusters: np.ndarray) -> None:
        """Count a picture: classes 0..C-1 or IGNORE (left out), clusters 0..K-1 or IGNORE (none), both (H, W)."""
        if mask_true.shape != clusters.shape:
            raise DataError(f"truth {mask_true.shape} and clusters {clusters.shape} must be of one shape.")
        count, width = self.counts.shape
        known = mask_true != IGNORE
        true, cluster = mask_true[known].astype(np.int64), clusters[known].astype(np.int64)
        for values, top, what in ((true, count - 1, "classes"), (cluster, width - 2, "clusters")):
            if values.size and (values.min() < IGNORE or values.max() > top):
                raise DataError(f"{what} from {values.min()} to {values.max()}, where 0 to {top} are expected.")
        cluster[cluster == IGNORE] = width - 1
        self.counts += np.bincount(true * width + cluster, minlength=count * width).reshape(count, width)

    def __add__(self, other: ClusterTable) -> ClusterTable:
        """The counts of both one's pictures."""
        if self.counts.shape != other.counts.shape:
            raise UsageError(f"tables of {self.counts.shape} and {other.counts.shape} do not go together.")
        return ClusterTable(self.counts + other.counts)

    @property
    def matched(self) -> np.ndarray:
        """(K,) the class of each cluster, one to one, so that most pixels are right (Kuhn, 1955); IGNORE for those left
        over where there are more clusters than classes."""
        table = self.counts[:, :-1]
        rows, columns = linear_sum_assignment(table, maximize=True)
        classes = np.full(table.shape[1], IGNORE)
        classes[columns] = rows
        return classes

    @property
    def majority(self) -> np.ndarray:
        """(K,) the class that most of each cluster's pixels are of; several clusters may be one class. It is the kinder
        the more clusters there are: a cluster a pixel would be perfect."""
        table = self.counts[:, :-1]
        return np.where(table.any(axis=0), table.argmax(axis=0), IGNORE)

    def confusion(self, classes: np.ndarray) -> Confusion:
        """The confusion matrix of the classes when each cluster (K,) is called by its class, or IGNORE."""
        confusion = Confusion.zeros(len(self.counts))
        for cluster, each in enumerate([*classes, IGNORE]):
            confusion.counts[:, each] += self.counts[:, cluster]  # IGNORE is -1, the column of no class
        return confusion

    def scores(self, classes: Classes) -> Scores:
        """Accuracy and mean IoU of both ways to name clusters, and the columns of `Confusion` for the first."""
        if len(classes) != len(self.counts):
            raise UsageError(f"a table of {len(self.counts)} classes does not go together with {len(classes)} classes.")
        one, many = self.confusion(self.matched), self.confusion(self.majority)
        number = f"{self.counts.shape[1] - 1} clusters"
        ways = {
            "matched": f"{number} named one to one so that most pixels of the whole set are right",
            "majority": f"{number}, each named by the class of most of its pixels in the whole set",
        }
        overall = []
        for way, table in (("matched", one), ("majority", many)):
            for name in ("accuracy", "mean_iou"):
                base = next(each for each in table.scores(classes).overall if each.name == name)
                overall.append(Score(f"{way}_{name}", base.value, f"{base.definition}; {ways[way]}"))
        named = one.scores(classes)
        return Scores(classes.names, tuple(overall), named.per_class, named.definitions, named.absent)


def _best(name: str, values: Sequence[float]) -> int:
    if np.isnan(values).all():
        return 0
    return int(np.nanargmin(values) if name == "variation_of_information" else np.nanargmax(values))


def _near(line: np.ndarray, reach: float) -> np.ndarray:
    """(H, W) bool: pixels within `reach` of a pixel of `line` (H, W) bool."""
    if not line.any():
        return np.zeros(line.shape, dtype=bool)
    return cv2.distanceTransform((~line).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach


def _clear(regions: np.ndarray) -> np.ndarray:
    """(H, W) bool: known pixels that touch no unknown one."""
    return cv2.dilate((regions == IGNORE).astype(np.uint8), _SQUARE) == 0
