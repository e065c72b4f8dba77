"""Every command of the shell, a function each; the work is done by the rooms below."""

from __future__ import annotations

import errno
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import IntarsiaError, UsageError
from . import classical, compare, convert, export, film, generative, objects, pairs, unsupervised
from .options import (
    DeviceOption,
    HugeFormatOption,
    HugeOption,
    JsonOption,
    LimitOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    PlainOption,
    RunArgument,
    RunOrFileArgument,
    WeightsOption,
    huge_pixels,
    pixels,
    tell,
)
from .options import console as _console
from .progress import pictures_bar, training_bar, work_bar

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs import Run

app = typer.Typer(
    name="intarsia",
    help="Image segmentation and image generation in one tool: from a folder of pictures and few masks to a segmenter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 fine · 2 usage · 3 data · 4 unsafe file · 5 out of memory · 6 disk · 7 not a number · "
    "75 stopped, resumable. --debug shows where an error came from.",
)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of pictures and masks, such as images/ and masks/.")]
ClassesOption = Annotated[Path | None, typer.Option("--classes", help="Another classes.toml than the folder's own.")]
OF_OBJECTS = "For models of objects"
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as in config.toml: train.batch=4 (may be repeated).")
]


@app.command()
def check(
    folder: FolderArgument,
    classes: ClassesOption = None,
    objects: Annotated[bool, typer.Option("--objects", help="The labels number objects: look at each.")] = False,
    json_: JsonOption = False,
) -> None:
    """Look for everything that is wrong with a folder of pictures and masks, before any training."""
    from ..data.check import check_folder
    from ..data.check_table import print_report

    with work_bar("reading", quiet=json_) as step:
        report = check_folder(folder, classes, progress=step, objects=True if objects else None)
    if json_:
        print(json.dumps(report.to_json(), indent=1))
    else:
        print_report(report, _console())
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    folder: FolderArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there instead of printing it.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train, instead of minutes.")] = None,
    model: Annotated[str | None, typer.Option(help="One of `intarsia models`.")] = None,
    labelled: Annotated[int | None, typer.Option(help="Use so many masks; the rest count as unlabelled.")] = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    seed: int = 0,
) -> None:
    """Recommend a model, its size, loss and schedule for a folder, each choice with its reason, as a config.toml."""
    from ..config import Config, read_config
    from ..files import require_writable, write_atomically
    from ..fitting import open_for, suited
    from ..plan import make_plan
    from ..training.machine import tune_allocator

    if minutes is not None and not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} is no time to train in; give more than 0.")
    if out is not None:
        require_writable(out.parent)  # said before anything is read and measured
    tune_allocator()
    given = {"data.folder": str(folder), "data.labelled": labelled, "data.classes": classes and str(classes)}
    given |= {"model.name": model, "seed": seed}
    asked = read_config(None, {key: value for key, value in given.items() if value is not None}, Config())
    sets = open_for(asked if model else suited(asked))
    planned = make_plan(sets, asked.data, minutes, steps, device, model, seed)
    if out is None:
        print(planned.to_toml())
        return
    write_atomically(out, planned.to_toml().encode())
    _console().print(f"Wrote {out}. Train with:\n  intarsia fit {folder} --config {out}", markup=False)


@app.command()
def fit(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of pictures and masks; for generative models, of pictures.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run's folder; by default runs/NAME of the pictures'.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A config.toml; by default what `plan` says.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget by the clock.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Budget in times each picture is seen.")] = None,
    model: Annotated[str | None, typer.Option(help="One of `intarsia models`.")] = None,
    labelled: Annotated[int | None, typer.Option(help="Use so many masks; the rest count as unlabelled.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    classes: ClassesOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole configuration and stop.")] = False,
    report: Annotated[bool, typer.Option(help="Evaluate at the end and write report.html.")] = True,
) -> None:
    """Train a segmenter or a generative model; the same command again goes on where it stopped."""
    from ..fitting import completed, configured, overrides_of
    from ..fitting import fit as fit_

    settings = _settings(set_) | ({"data.classes": str(classes)} if classes else {})
    if dry_run:
        from ..config import to_toml

        wishes = overrides_of(folder, settings, minutes, steps, epochs, model, labelled, seed)
        wished, reasons, sets = configured(run, config, wishes, lambda line: None)
        print(to_toml(completed(wished, sets), reasons))
        return
    console = _console()
    with training_bar(console) as show:
        fitted = fit_(
            folder, run=run, config=config, settings=settings, minutes=minutes, steps=steps, epochs=epochs, model=model,
            labelled=labelled, seed=seed, show=show, say=partial(console.print, markup=False),
        )  # fmt: skip
    if report and not fitted.measurable:
        console.print("No picture was held back, so there is nothing to measure on: evaluate --data takes others.")
    elif report and fitted.news:
        _evaluate(fitted.run.folder, console=console)
    elif report:
        console.print(f"Evaluated before: {fitted.run.report_path}", markup=False)
    console.print(_next_step(fitted.run), markup=False)


def _next_step(run: Run) -> str:
    """What the run is good for, as a command."""
    from ..models import MODELS
    from ..models.contract import Draws, GenerativeModel, Mends

    kind = MODELS[run.model_config().name]
    if issubclass(kind, Draws):
        return f"Draw with:\n  intarsia generate {run.folder} --count 64 --out DIR"
    if issubclass(kind, Mends):
        return f"Mend with:\n  intarsia edit denoise {run.folder} PICTURES --out DIR    (or inpaint, restore)"
    if issubclass(kind, GenerativeModel):
        return f"Use it with:\n  intarsia edit translate {run.folder} PICTURES --out DIR"
    return f"Predict with:\n  intarsia predict {run.folder} PICTURES --out DIR --overlay"


@app.command()
def evaluate(
    run: RunArgument,
    folder: Annotated[Path | None, typer.Option("--data", help="Another labelled folder than the run's own.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; by default test if there is one.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--list", help="A file of picture names, one a line: only these.")
    ] = None,
    flips: Annotated[bool, typer.Option(help="Also ask for the mirror image, and average.")] = False,
    weights: WeightsOption = "best",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Measure a run on pictures it did not learn from: scores, verdicts, report.html."""
    _evaluate(run, folder, split, names, flips, weights, device, json_)


def _evaluate(run: Path, *options: Any, console: Console | None = None) -> None:
    from ..api import evaluate as evaluate_

    folder, split, names, flips, weights, device, json_ = options or (None, None, None, False, "best", "auto", False)
    console = console or _console()
    with work_bar("evaluating", quiet=json_) as step:
        result = evaluate_(
            run, folder, split=split, names=names, flips=flips, weights=weights, device=device, progress=step
        )
    if json_:
        print(json.dumps(result.evaluation.to_json(), indent=1))
        return
    result.evaluation.table(console)
    number = f"{result.pictures} picture{'s' * (result.pictures != 1)}"
    console.print(f"{number} ({result.split}). The whole story: {result.report}", markup=False)


@app.command()
def predict(
    run: RunOrFileArgument,
    pictures: PicturesArgument,
    out: OutOption,
    overlay: Annotated[bool, typer.Option(help="Also the pictures with the classes laid over.")] = False,
    probabilities: Annotated[bool, typer.Option(help="Also each class's probability, 16-bit TIFF.")] = False,
    uncertainty: Annotated[bool, typer.Option(help="Also where the answer is unsure, 16-bit PNG.")] = False,
    samples: Annotated[
        int, typer.Option(min=0, help="So many plausible answers, their mean and its uncertainty; for models that can.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the plausible answers.")] = 0,
    flips: Annotated[bool, typer.Option(help="Also ask for the mirror image, and average: twice the time.")] = False,
    scale: Annotated[list[float] | None, typer.Option(help="Average over these scales, such as 0.75, 1, 1.25.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in pixels; by default whole pictures where they fit.")
    ] = None,
    huge: HugeOption = None,
    huge_format: HugeFormatOption = "tiff",
    plain: PlainOption = None,
    coco: Annotated[bool, typer.Option("--coco", help="Also COCO JSON.", rich_help_panel=OF_OBJECTS)] = False,
    table: Annotated[
        bool | None, typer.Option(help="Measure each object (the default), or not.", rich_help_panel=OF_OBJECTS)
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="Leave out objects of a lower score.", rich_help_panel=OF_OBJECTS)
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="Another threshold than the tuned one, NAME=VALUE.", rich_help_panel=OF_OBJECTS),
    ] = None,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
    engine: export.EngineOption = "default",
    frames: film.FilmOption = False,
    smooth: film.SmoothOption = None,
    memory: film.MemoryOption = None,
    realtime: film.RealtimeOption = False,
    as_: film.AsOption = None,
    rate: film.RateOption = None,
    seconds: film.SecondsOption = None,
    track: film.TrackOption = None,
) -> None:
    """Segment pictures and films of any size; goes on past broken files, and resumes where it stopped."""
    most = pixels(limit)
    console = _console()
    of_films = {"--smooth": smooth, "--memory": memory, "--realtime": realtime, "--as": as_, "--rate": rate,
                "--seconds": seconds, "--track": track}  # fmt: skip
    if film.means_film(pictures, frames, of_films):
        surplus = {"--probabilities": probabilities, "--uncertainty": uncertainty, "--samples": samples, "--coco": coco,
                   "--huge": huge,
                   "--huge-format": huge_format != "tiff", "--plain": plain}  # fmt: skip
        answerers = film.answerer(
            run, engine, weights=weights, device=device, flips=flips, scale=scale, tile=tile, limit=most,
            surplus=surplus, of_classes={"--smooth": smooth not in (None, "none"), "--memory": memory},
            of_objects={"--table": table is not None, "--track": track is not None, "--score": score is not None,
                        "--threshold": threshold},
            thresholds=objects.thresholds_of(threshold, score),
        )  # fmt: skip
        film.predict_film(
            *answerers, pictures, out, overlay=overlay, overwrite=overwrite, limit=most, smooth=smooth, memory=memory,
            realtime=realtime, as_=as_, rate=rate, seconds=seconds, table=table is not False, track=track is not False,
        )  # fmt: skip
        return
    exported = export.engine_for(run, engine, pictures, weights, partial(console.print, markup=False))
    if exported is not None:
        export.refuse({"--samples": samples, "--flips": flips, "--scale": scale, "--device cuda": device == "cuda"})
        export.predict_by_engine(
            exported, pictures, out, overlay=overlay, probabilities=probabilities, uncertainty=uncertainty, tile=tile,
            overwrite=overwrite, limit=most, huge=huge, huge_format=huge_format, plain=plain, coco=coco,
            table=table, score=score, threshold=threshold,
        )  # fmt: skip
        return
    from ..api import load
    from ..inference.folder import predict_files
    from ..inference.predictor import Predictor

    thresholds = objects.thresholds_of(threshold, score)
    if objects.holds_objects(run):
        semantic = {"--probabilities": probabilities, "--uncertainty": uncertainty, "--plain": plain is not None}
        semantic |= {"--huge-format": huge_format != "tiff"}
        objects.refuse({**semantic, "--samples": samples, "--scale": scale}, "of a model of objects")
        objects.predict_run_of_objects(
            run, pictures, out, thresholds=thresholds, overlay=overlay, table=table is not False, coco=coco,
            overwrite=overwrite, huge=huge_pixels(huge), weights=weights, device=device, tile=tile, flips=flips,
            limit=most,
        )  # fmt: skip
        return
    instance = {"--coco": coco, "--table": table is not None, "--score": score is not None, "--threshold": threshold}
    objects.refuse(instance, "of a segmenter, not of a model of objects")
    predictor = load(
        run,
        weights=weights,
        device=device,
        flips=flips,
        scales=tuple(scale or (1.0,)),
        tile=tile,
        limit=most,
        plain=plain or 0.0,
    )
    assert isinstance(predictor, Predictor)
    with pictures_bar("predicting") as bar:
        summary = predict_files(
            predictor, pictures, out, overlay=overlay, probabilities=probabilities, uncertainty=uncertainty,
            samples=samples, seed=seed, overwrite=overwrite, huge=huge_pixels(huge), huge_format=huge_format,
            progress=bar.progress, within=bar.within, say=partial(console.print, markup=False),
        )  # fmt: skip
    tell(summary, out, console)


@app.command()
def models(json_: JsonOption = False) -> None:
    """List the models, what they are and which settings each has."""
    from ..models import MODELS

    rows = [
        {"name": name, "what": (sys.modules[m.__module__].__doc__ or "").strip().splitlines()[0].rstrip("."),
         "settings": [field for field in m.Config.model_fields if field not in ("name",)]}
        for name, m in MODELS.items()
    ]  # fmt: skip
    if json_:
        print(json.dumps(rows, indent=1))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "what it is", "settings (--set model.NAME=…)"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(str(row["name"]), str(row["what"]), ", ".join(row["settings"]))
    _console().print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything it makes.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Time to train.")] = 2.0,
    seed: int = 0,
) -> None:
    """Draw pictures, train on them for two minutes, measure, predict, and say what to type next."""
    from .demo import run_demo

    console = _console()
    with training_bar(console) as show:
        run_demo(out, minutes, seed, console, show)


app.add_typer(generative.app)
app.add_typer(classical.app)
app.add_typer(pairs.app)
app.add_typer(export.app)
app.add_typer(compare.app)
app.add_typer(unsupervised.app)
app.add_typer(convert.app)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"intarsia {__version__}")
        raise typer.Exit


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for an error that reached the top."""
    if isinstance(error, IntarsiaError):
        return error.exit_code, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return 6, f"the disk is full ({error.filename or 'no file named'}); make room, then run the same command again."
    if isinstance(error, OSError) and error.errno is not None:
        place = "" if error.filename is None else f"{error.filename}: "
        return 3, f"{place}{(error.strerror or str(error)).lower()}."
    if isinstance(error, UnicodeEncodeError):
        return 3, "a name holds bytes that are no text in UTF-8; rename the file or folder."
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return 5, "the memory is full; take smaller batches, crops or tiles, or a smaller model."
    report = "Please report it, with what the same command says with --debug."
    return 1, f"an error of ours, {type(error).__name__}: {error}. {report}"


def _settings(pairs: list[str] | None) -> dict[str, str]:
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {pair} has no value; write it as --set train.batch=4.")
        settings[key.strip()] = value.strip()
    return settings
