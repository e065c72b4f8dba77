"""A number is never printed without its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError


@dataclass(frozen=True)
class Score:
    """One number, what it is called, and how it is computed. NaN: not defined for these pictures."""

    name: str
    value: float
    definition: str


@dataclass(frozen=True)
class Scores:
    """Numbers for all classes together, and columns with one number a class."""

    classes: tuple[str, ...]
    overall: tuple[Score, ...]
    per_class: dict[str, tuple[float, ...]] = field(default_factory=dict)  # name -> (K,); NaN: not defined
    definitions: dict[str, str] = field(default_factory=dict)  # of the columns of `per_class`
    absent: tuple[str, ...] = ()  # classes that the truth never shows; left out of every mean over classes

    def __getitem__(self, name: str) -> float:
        """The overall score of that name. KeyError where there is none."""
        for score in self.overall:
            if score.name == name:
                return score.value
        raise KeyError(f"no score is called {name!r}; there are {[score.name for score in self.overall]}.")

    def joined(self, other: Scores) -> Scores:
        """Both scores' numbers of the same classes and pictures in one, ours first."""
        if self.classes != other.classes:
            raise UsageError(f"scores of different classes cannot be joined: {self.classes} and {other.classes}.")
        return Scores(
            self.classes,
            self.overall + other.overall,
            {**self.per_class, **other.per_class},
            {**self.definitions, **other.definitions},
            tuple(name for name in self.classes if name in self.absent or name in other.absent),
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON's types; NaN, which JSON does not know, becomes None."""
        return {
            "classes": list(self.classes),
            "overall": {
                score.name: {"value": _or_none(score.value), "definition": score.definition} for score in self.overall
            },
            "per_class": {
                name: {"values": [_or_none(each) for each in column], "definition": self.definitions.get(name, "")}
                for name, column in self.per_class.items()
            },
            "absent": list(self.absent),
        }


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole in float64, NaN where the whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def mean_where(values: np.ndarray, chosen: np.ndarray) -> float:
    """The mean of the chosen values, NaN where none is chosen."""
    return float(values[chosen].mean()) if chosen.any() else math.nan


def column(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def names_where(names: Sequence[str], chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(names, chosen, strict=True) if yes)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
