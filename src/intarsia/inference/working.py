"""Many pictures worked off, each with its answer or what went wrong; nothing here knows a network or loads PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from ..data.read import read_header
from ..errors import DataError, IntarsiaError, OutOfMemoryError
from ..records import Prediction

Item = TypeVar("Item")
Result = TypeVar("Result")

LANES = 4  # small pictures computed side by side at most; each takes memory of its own
LARGE = 4_000_000  # pixels, beyond which one picture keeps all threads busy by itself


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read or predicted, and why."""

    path: Path
    error: IntarsiaError


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], count: int = 1, threads: int = 1
) -> Iterator[Result]:
    """`map(function, items)`, worked off in threads of its own, up to `count` results ahead of their use."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="intarsia-ahead") as pool:
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


def lanes_for(paths: Iterable[Path], limit: int, share: Callable[[int], int]) -> int:
    """How many of the pictures are computed side by side: as many as `share` (`Engine.share`) allows, where there are
    several and the first of them are small. `limit`: pixels beyond which a file is refused."""
    some = list(islice(paths, 2 * LANES))
    if len(some) <= LANES:
        return 1
    for path in some:
        try:
            header = read_header(path, limit)
        except IntarsiaError:
            continue  # who reads it will say so
        if header.height * header.width > LARGE:
            return 1
    return share(LANES)


def large_alone(answer: Callable[[str, Any], Result]) -> Callable[[str, Any], Result]:
    """`answer(name, image)`, with one large image at a time, from however many threads it is called."""
    one = Lock()

    def answered(name: str, image: Any) -> Result:
        with one if image.shape[0] * image.shape[1] > LARGE else nullcontext():
            return answer(name, image)

    return answered


def mean_of(answers: Sequence[Prediction]) -> Prediction:
    """The mean of several answers for one picture: what share of them says so at each pixel, weighed by how sure each
    is. Its mask is the majority's, its uncertainty high where the answers differ or none of them knows."""
    first = answers[0]
    total = np.zeros_like(first.probabilities)
    for each in answers:
        total += each.probabilities
    return Prediction(first.name, first.image, first.classes, total / len(answers))
