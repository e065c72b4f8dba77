"""Bars in a terminal; plain lines, now and then, where there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ..training.loop import Training
    from ..training.watchers import Show

LINE_SECONDS = 30.0  # between two lines of a log


@contextmanager
def work_bar(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """`step(done, total)` moves a bar on stderr, so that what is printed can be piped."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def pictures_bar(what: str) -> Iterator[PicturesBar]:
    """A bar on stderr that moves within huge pictures, too. Where there is no terminal, a line about them each
    LINE_SECONDS."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield PicturesBar(console, bar)


class PicturesBar:
    """What `predict_files` takes as `progress` and `within`."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self.console, self.bar, self.task = console, bar, bar.add_task("", total=None)
        self.last = time.monotonic()  # a line was printed

    def progress(self, done: int, total: int, name: str) -> None:
        self.bar.update(self.task, completed=done, total=total, description="")

    def within(self, name: str, rows: int, height: int, done: int, total: int) -> None:
        words = f"{name}: {rows:,} of {height:,} rows"
        self.bar.update(self.task, completed=done + rows / height, total=total, description=words)
        if not self.console.is_terminal and time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            self.console.print(words, markup=False)


@contextmanager
def training_bar(console: Console) -> Iterator[Show]:
    """Shows share done, time left, pictures a second, loss and the scores so far."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from ..models.contract import SemanticModel

    columns = (
        TextColumn("training"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0, visible=False)
        last = 0.0

        def show(training: Training, losses: dict[str, float], speed: float) -> None:
            nonlocal last
            progress = training.progress
            share = progress.share
            known = share > 0 and progress.step > 3  # the first steps take longer than any other
            left = f"{duration(progress.seconds * (1 - share) / share)} left · " if known else ""
            name = "mean IoU" if isinstance(training.model, SemanticModel) else "best score"
            best = f" · {name} {progress.best:.3f}" if math.isfinite(progress.best) else ""
            words = f"{left}step {progress.step} · {speed:.1f} pictures/s · {_totals(losses)}{best}"
            bar.update(task, completed=share, description=words, visible=True)
            if not console.is_terminal and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                console.print(f"{share:4.0%} {words}")

        yield show


def _totals(losses: dict[str, float]) -> str:
    """{"train/total": 0.2} -> "loss 0.200"; of a model with several parts, each part's."""
    if "train/total" in losses:
        return f"loss {losses['train/total']:.3f}"
    parts = {key.split("/")[1]: value for key, value in losses.items() if key.endswith("/total")}
    return " · ".join(f"{part} {value:.3f}" for part, value in parts.items())


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
