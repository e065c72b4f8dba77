"""Many pictures worked off, each with its answer or what went wrong; nothing here knows a network or loads PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DataError, IntarsiaError, OutOfMemoryError
from ..records import Prediction

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read or predicted, and why."""

    path: Path
    error: IntarsiaError


def ahead(function: Callable[[Item], Result], items: Iterable[Item], count: int = 1) -> Iterator[Result]:
    """`map(function, items)`, worked off in a thread of its own, up to `count` results ahead of their use."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="intarsia-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def attempt(path: Path, work: Callable[[], Result]) -> Result | Failure:
    """What `work` gives, or the Failure of this file; other errors than a file's own are raised."""
    try:
        return work()
    except (DataError, OutOfMemoryError) as error:
        return Failure(path, error)
    except MemoryError:
        return Failure(path, OutOfMemoryError(f"{path} does not fit into memory; cut it into smaller pictures."))


def mean_of(answers: Sequence[Prediction]) -> Prediction:
    """The mean of several answers for one picture: what share of them says so at each pixel, weighed by how sure each
    is. Its mask is the majority's, its uncertainty high where the answers differ or none of them knows."""
    first = answers[0]
    total = np.zeros_like(first.probabilities)
    for each in answers:
        total += each.probabilities
    return Prediction(first.name, first.image, first.classes, total / len(answers))
