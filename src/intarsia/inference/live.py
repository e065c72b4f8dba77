"""Frames in time: read ahead of their use, or, where that must not lag, only the newest."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import repeat

import numpy as np

from .film import Frame
from .working import ahead


def read_ahead(frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    """The frames, decoded in a thread of its own, one ahead of its use."""
    iterator = iter(frames)
    for frame in ahead(lambda _: next(iterator, None), repeat(None)):
        if frame is None:
            return
        yield frame


class Newest:
    """The newest frame at each time one asks; those that nobody asked for in time are dropped.

    A thread reads on whether anybody asks or not: a camera at its own pace, a film at that of its timestamps, as if it
    were played.
    """

    def __init__(self, frames: Iterable[Frame], time_base: Fraction, paced: bool) -> None:
        """paced: hold each frame back until its time; of a film, not of a camera."""
        self.frames, self.time_base, self.paced = frames, time_base, paced
        self.dropped = 0
        self._next: Frame | None = None
        self._error: BaseException | None = None
        self._ended = self._stopped = False
        self._changed = threading.Condition()

    def __iter__(self) -> Generator[Frame, None, None]:
        reader = threading.Thread(target=self._read, name="intarsia-newest", daemon=True)
        reader.start()
        try:
            while True:
                with self._changed:
                    while self._next is None and not self._ended:
                        self._changed.wait()
                    frame, self._next = self._next, None
                if frame is None:
                    break
                yield frame
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            reader.join()
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            began: tuple[float, int] | None = None  # the clock, and the ticks, of the first frame
            for frame in self.frames:
                now = time.perf_counter()
                began = began or (now, frame.ticks)
                due = began[0] + float((frame.ticks - began[1]) * self.time_base) if self.paced else now
                with self._changed:
                    while not self._stopped and (wait := due - time.perf_counter()) > 0:
                        self._changed.wait(wait)
                    if self._stopped:
                        return
                    self.dropped += self._next is not None
                    self._next = replace(frame, arrived=time.perf_counter())
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


class Pace:
    """How fast frames are answered: `pace.done(frame)` when a frame's answer is written."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.latencies: list[float] = []  # seconds from when a frame was there to when its answer was written

    def done(self, frame: Frame) -> None:
        self.latencies.append(time.perf_counter() - frame.arrived)

    @property
    def frames_per_second(self) -> float:
        """Of answers, by the clock, since the first frame was asked for; 0 before there is one."""
        return len(self.latencies) / max(time.perf_counter() - self.began, 1e-9)

    def latency(self, percent: float) -> float:
        """Seconds within which so many percent of the frames are answered; NaN where there is none."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")
