"""`intarsia compare`: which ways to learn from few masks help on a folder, and how surely."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .options import console
from .progress import duration, training_bar

if TYPE_CHECKING:
    from rich.console import Console

    from ..comparing import Compared
    from ..comparing.asked import Prepared
    from ..comparing.queue import Forecast

app = typer.Typer()


@app.command()
def compare(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures and masks.")],
    labels: Annotated[str, typer.Option(help="Numbers of masks to learn from.")] = "5,10,20,40",
    methods: Annotated[
        str, typer.Option(help="Some of them, such as mean_teacher,fixmatch; the control is always there.")
    ] = "all",
    minutes: Annotated[float | None, typer.Option(help="Time of one control training.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every training, instead of minutes.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each, with seeds 0, 1, ...")] = 3,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="By default compare/NAME of the pictures'.")] = None,
    split: Annotated[str, typer.Option(help="validation or test: the pictures that are judged on.")] = "validation",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting for all alike: model.width=16 (may be repeated).")
    ] = None,
    imbalance: Annotated[
        bool, typer.Option("--imbalance", help="Compare measures for rare classes, by the mean IoU of these.")
    ] = False,
    objects: Annotated[
        bool, typer.Option("--objects", help="Compare ways to find objects, by AP50; the control is a watershed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which trainings it takes, and how long.")] = False,
) -> None:
    """Train with 5, 10, 20, ... masks by every method alike, and say which helps; the same command again goes on."""
    from ..comparing import ask, forecast
    from ..comparing import compare as compare_

    settings = {}
    for pair in set_ or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {pair} has no value; write it as --set model.width=16.")
        settings[key.strip()] = value.strip()
    shown = console()
    say = partial(shown.print, markup=False)
    if dry_run:
        asked = ask(
            folder, labels, methods, seeds=seeds, minutes=minutes, steps=steps, split=split, imbalance=imbalance,
            settings=settings, objects=objects,
        )  # fmt: skip
        _print_forecast(*forecast(asked, out, say), shown)
        return
    with training_bar(shown) as show:
        compared = compare_(
            folder, labels, methods, seeds=seeds, minutes=minutes, steps=steps, out=out, split=split,
            imbalance=imbalance, settings=settings, objects=objects, say=say, show=show,
        )  # fmt: skip
    _print(compared, shown)


def _print_forecast(prepared: Prepared, told: Forecast, shown: Console) -> None:
    from rich.table import Table

    from ..comparing.methods import EQUAL_TIME

    asked = prepared.asked
    table = Table(box=None, pad_edge=False)
    for column in ("method", "trainings", "each takes", "what it is"):
        table.add_column(column, justify="left" if column in ("method", "what it is") else "right")
    what = {name: method.what for name, method in asked.methods.items()}
    if any(job.method == EQUAL_TIME for job in told.jobs):
        what[EQUAL_TIME] = "the control, given the time of the slowest method"
    for name in what:
        count = sum(job.method == name for job in told.jobs)
        seconds = told.seconds[name]
        table.add_row(name, str(count), duration(seconds) if seconds == seconds else "not known", what[name])
    shown.print(table)
    done = f"; {told.finished} are finished" if told.finished else ""
    trainings = f"{len(told.jobs)} training{'s' * (len(told.jobs) != 1)}"
    drawn = f"with {', '.join(map(str, asked.labels))} labels and {asked.seeds} seed{'s' * (asked.seeds != 1)}"
    shown.print(
        f"{trainings} {drawn}{done}; each of {prepared.steps} steps, but for a control that is given the time of the "
        f"slowest method. In all about {duration(told.total)}.",
        markup=False,
    )


def _print(compared: Compared, shown: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    judgement = compared.judgement
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column(f"{judgement.criterion.score} in %, gain in points")
    for labels in judgement.labels:
        table.add_column(f"{labels} labels", justify="right")
    table.add_column("a training takes", justify="right")
    for method in judgement.methods:
        cells = [judgement.cell(method, labels) for labels in judgement.labels]
        took = [cell.seconds for cell in cells if cell]
        words = []
        for cell in cells:
            if cell is None:
                words.append("failed")
            elif cell.gain is None:
                words.append(f"{100 * cell.score:.1f}")
            else:
                words.append(f"{100 * cell.score:.1f}  {100 * cell.gain.interval.mean:+.1f} {cell.gain.verdict}")
        table.add_row(method, *words, duration(sum(took) / len(took)) if took else "")
    shown.print(table)
    for sentence in (*compared.verdicts, "", *compared.headline, "", compared.advice):
        shown.print(sentence, markup=False)
    shown.print(f"The whole story: {compared.report}", markup=False)
