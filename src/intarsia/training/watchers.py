"""What looks on while a model trains: functions `(training, losses)`, called after each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from ..errors import NumericError, Stopped
from ..files import write_atomically
from ..models.contract import Losses
from ..runs import Run
from .events import Events
from .loop import Training, Watcher

FEWEST = 20  # steps between two validations that are not asked for step by step
Scores = dict[str, float]  # "mean_iou": 0.61, "iou/Road": 0.94, …


class Show(Protocol):
    """Where progress is shown: a bar in a terminal, a line in a log."""

    def __call__(self, training: Training, losses: dict[str, float], speed: float) -> None: ...


class Log:
    """Writes metrics.jsonl and TensorBoard events every `every` steps: mean losses since the last row, rate, speed."""

    def __init__(self, run: Run, pictures: int, every: int = 20, show: Show | None = None) -> None:
        self.run, self.pictures, self.every, self.show = run, pictures, every, show
        self.events = Events(run.folder)
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.since = time.perf_counter()

    def __call__(self, training: Training, losses: dict[str, Losses]) -> None:
        progress = training.progress
        for part, terms in losses.items():
            for term, value in terms.items():
                key = f"train/{term}" if len(losses) == 1 else f"train/{part}/{term}"
                self.sums[key] = self.sums.get(key, torch.zeros((), device=value.device)) + value
        self.count += 1
        if progress.step % self.every and progress.step > 3:
            return
        speed = self.pictures * self.count / max(1e-9, time.perf_counter() - self.since)
        means = {key: float(value) / self.count for key, value in self.sums.items()}
        self.sums, self.count, self.since = {}, 0, time.perf_counter()
        row = {"learning_rate": progress.rate, "pictures_per_second": speed, **means}
        self.write(training, row)
        if self.show:
            self.show(training, means, speed)

    def write(self, training: Training, row: Scores) -> None:
        """One row, without the values that are not finite: JSON has no word for them."""
        step, seconds = training.progress.step, round(training.progress.seconds, 2)
        known = {key: float(f"{value:.6g}") for key, value in row.items() if math.isfinite(value)}
        self.run.append_metrics({"step": step, "time": seconds, **known})
        self.events.write(step, known)


class Validate:
    """Every `every` steps (None: each twentieth of the training), and at the end: scores of the averaged weights; the
    best are kept; stops where `patience` ends. `then` is called after each, for pictures of the same moment."""

    def __init__(
        self, run: Run, log: Log, every: int | None, score: Callable[[Training], Scores], then: Watcher | None = None,
        criterion: str = "mean_iou",
    ) -> None:  # fmt: skip
        self.run, self.log, self.every, self.score, self.then, self.criterion = run, log, every, score, then, criterion
        self.last: Scores = {}

    def __call__(self, training: Training, losses: dict[str, Losses]) -> None:
        if self.due(training):
            self.now(training)
            if self.then:
                self.then(training, losses)

    def due(self, training: Training) -> bool:
        """Whether a validation is to be made after the step just done and was not yet."""
        progress = training.progress
        if progress.validated == progress.step:
            return False
        if self.every:
            return progress.step % self.every == 0
        return progress.share - progress.validated_share >= 0.05 and progress.step - progress.validated >= FEWEST

    def now(self, training: Training) -> None:
        progress = training.progress
        if progress.validated == progress.step:
            return
        require_finite(training)
        begin = time.perf_counter()
        with training.average.applied(training.model):
            self.last = self.score(training)
        took = time.perf_counter() - begin
        progress.validated, progress.validated_share = progress.step, progress.share
        self.log.since += took  # validation is no training time
        self.log.write(
            training, {f"validation/{key}": value for key, value in self.last.items()} | {"validation_seconds": took}
        )
        value = self.last.get(self.criterion, float("nan"))
        better = value > progress.best  # never true of NaN
        progress.stale = 0 if better else progress.stale + 1
        if better or value == progress.best == 0:  # of those that find nothing yet, the later has learnt more
            progress.best, progress.best_step = value, progress.step
            self.run.write_weights(training.average.tensors, "best", progress.step)
        if training.config.patience and progress.stale >= training.config.patience:
            progress.finished = True


class Checkpoint:
    """Saves state and weights when `seconds` have gone by, and when a stop was asked for; then raises Stopped."""

    def __init__(self, run: Run, seconds: float, stop_asked: Callable[[], bool]) -> None:
        self.run, self.seconds, self.stop_asked = run, seconds, stop_asked
        self.saved = time.perf_counter()

    def __call__(self, training: Training, losses: dict[str, Losses]) -> None:
        stop = self.stop_asked()
        if stop or time.perf_counter() - self.saved >= self.seconds:
            self.now(training)
        if stop:
            raise Stopped(
                f"stopped at step {training.progress.step}, everything is saved in {self.run.folder}; "
                "the same command again goes on from here."
            )

    def now(self, training: Training) -> None:
        """The state goes last: once it says that the training has ended, the weights of its end are there."""
        require_finite(training)
        self.run.write_weights(training.average.tensors, "last", training.progress.step)
        self.run.write_state(training.state())
        self.saved = time.perf_counter()


def require_finite(training: Training) -> None:
    """Raises NumericError where a weight is not a finite number: such weights are neither scored nor saved."""
    for name, tensor in training.average.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NumericError(
                f"the weights {name} stopped being finite numbers at step {training.progress.step}; what was saved "
                f"before is unharmed. Try a train.learning_rate of {training.config.learning_rate / 3:.2g}, "
                "a train.clip of 1, or train.precision = '32-true'."
            )


class Pictures:
    """A picture of the answers so far to the same questions, each `every`-th time it is called: samples/STEP.png."""

    def __init__(self, folder: Path, draw: Callable[[Training], bytes], every: int = 4) -> None:
        self.folder, self.draw, self.every, self.calls = folder, draw, every, 0

    def __call__(self, training: Training, losses: dict[str, Losses]) -> None:
        self.calls += 1
        if (self.calls - 1) % self.every == 0:
            self.now(training)

    def now(self, training: Training) -> None:
        path = self.folder / f"{training.progress.step:07d}.png"
        if path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with training.average.applied(training.model):
            write_atomically(path, self.draw(training))


__all__ = ["Checkpoint", "Log", "Pictures", "Scores", "Show", "Validate", "Watcher"]
