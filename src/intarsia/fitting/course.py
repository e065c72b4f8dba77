"""What `train` needs to know beyond the model: the part that families of models differ in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.batches import Samples, Stream
from ..records import Sample
from ..runs import Run
from ..training.loop import Training
from ..training.watchers import Scores


@dataclass(frozen=True)
class Course:
    """The pictures that a model learns from, and how it is looked at while it learns."""

    learnt: Samples
    looked_at: int  # pictures that `score` looks at; 0: there is nothing to validate on
    rarity: np.ndarray | None  # (K,) odds of each class to be the centre of a rare crop
    score: Callable[[Training], Scores]  # called with the averaged weights in place
    draw: Callable[[Training], bytes] | None  # a PNG of the answers so far
    criterion: str  # the score by which the best weights are chosen: higher is better
    words: str  # what it learns from, for the user
    beside: tuple[Stream, ...] = ()  # what joins each batch: made pairs, unlabelled pictures
    close: Callable[[Run], None] | None = None  # what is done with the best weights when the training has ended


class Some:
    """Some of the samples, by number."""

    def __init__(self, samples: Samples, numbers: Sequence[int]) -> None:
        self.samples, self.numbers = samples, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.numbers[index]]


def some(samples: Samples, most: int) -> Samples:
    """At most so many of the samples, evenly spread over them."""
    if len(samples) <= most:
        return samples
    return Some(samples, [int(number) for number in np.linspace(0, len(samples) - 1, most)])
