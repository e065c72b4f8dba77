"""What the evaluations share: pictures to look at, the worst and the best of them, and scores as a table."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Collection
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np

from ..drawing import to_rgb8
from ..metrics.scores import Scores

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE_SIDE = 640  # pixels, the longer side of a kept picture

T = TypeVar("T")


class Extremes(Generic[T]):
    """The worst and the best of many: `keep` of each, and no more of them in memory."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._ranked: list[tuple[float, int, T]] = []  # the number keeps equal scores from comparing what they rank
        self._seen = 0

    def add(self, score: float, example: T) -> None:
        """Rank one; one whose score is NaN is passed over."""
        if not self.keep or math.isnan(score):
            return
        insort(self._ranked, (score, self._seen, example))
        self._seen += 1
        if len(self._ranked) > 2 * self.keep:
            del self._ranked[self.keep]  # with `keep` below it and above it, it is among neither

    def ranked(self) -> tuple[T, ...]:
        """Worst first."""
        return tuple(example for _, _, example in self._ranked)


def worst_of(ranked: tuple[T, ...]) -> tuple[T, ...]:
    """The worse half of examples, worst first."""
    return ranked[: len(ranked) // 2]


def best_of(ranked: tuple[T, ...]) -> tuple[T, ...]:
    """The better half of examples, best first; a single one is here."""
    return ranked[len(ranked) // 2 :][::-1]


def example_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height at which a picture of this height and width is kept: no side above EXAMPLE_SIDE."""
    height, width = size
    factor = min(1.0, EXAMPLE_SIDE / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8: the picture to look at, at `size` (width, height)."""
    return cv2.resize(to_rgb8(image), size, interpolation=cv2.INTER_AREA)


def sampled(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (..., H, W) at `size` (width, height), each pixel the nearest one: classes can't be mixed."""
    height, width = labels.shape[-2:]
    rows = ((np.arange(size[1]) + 0.5) * (height / size[1])).astype(np.int64)
    columns = ((np.arange(size[0]) + 0.5) * (width / size[0])).astype(np.int64)
    return labels[..., rows[:, None], columns]


def print_scores(
    console: Console,
    scores: Scores,
    units: Collection[str],
    columns: Collection[str] | None = None,
    counts: Collection[str] = (),
) -> None:
    """Print the classes' scores and the overall ones, with their definitions.

    units: scores that are no shares. columns: those that are printed of each class; None: all. counts: columns of whole
    numbers.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    def shown(name: str, value: float) -> str:
        if name in counts:
            return f"{value:,.0f}"
        return f"{value:.2f}" if name in units else percent(value)

    shown_columns = {key: values for key, values in scores.per_class.items() if columns is None or key in columns}
    by_class = Table(box=SIMPLE_HEAD, show_edge=False)
    by_class.add_column("class, in %")
    for name in shown_columns:
        by_class.add_column(spaced(name), justify="right")
    for i, name in enumerate(scores.classes):
        by_class.add_row(escape(name), *(shown(key, values[i]) for key, values in shown_columns.items()))
    if shown_columns:
        console.print(by_class)

    overall = Table.grid(padding=(0, 2, 0, 0))
    overall.add_column(no_wrap=True)
    overall.add_column(justify="right", no_wrap=True)
    overall.add_column(style="dim")
    for score in scores.overall:
        value = f"{score.value:.4f}" if score.name in units else f"{percent(score.value)} %"
        value = "n/a" if math.isnan(score.value) else value
        overall.add_row(spaced(score.name), value, escape(score.definition))
    console.print(overall)


def spaced(name: str) -> str:
    return name.replace("_", " ")


def percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.1f}"
