"""The command that makes one file of a run, and the part of `predict` that asks such a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import objects
from .options import RunArgument, WeightsOption, console, huge_pixels, tell
from .progress import pictures_bar, work_bar

if TYPE_CHECKING:
    from ..inference.engines import Engine

app = typer.Typer()

EngineOption = Annotated[
    Literal["default", "auto", "torch", "onnxruntime", "openvino"],
    typer.Option("--engine", help="What computes; auto measures which is fastest here, once. By default PyTorch for a "
                 "run, and for an exported file what can run it."),
]  # fmt: skip


@app.command()
def export(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; by default RUN/NAME_PRECISION.onnx (.xml, .pt2).")
    ] = None,
    format_: Annotated[
        Literal["onnx", "openvino", "torch"], typer.Option("--format", help="torch can't be opened by `predict`.")
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="int8 is refused where it costs a point of mean IoU or AP50."),
    ] = "fp32",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="A second output: each class's probability. Not of objects.")
    ] = False,
    bits: Annotated[
        Literal["auto", "8", "16"],
        typer.Option(help="Of the pictures' numbers; 16 takes both. auto: as the run's own."),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Take int8 whatever it costs.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that stands there.")] = False,
    weights: WeightsOption = "best",
) -> None:
    """Write a run as one file that runs without PyTorch, compared with it on the run's own pictures."""
    from ..fitting.exporting import export_run

    with work_bar("exporting"):
        done = export_run(
            run, out, format=format_, precision=precision, probabilities=probabilities,
            bits=None if bits == "auto" else int(bits), weights=weights, force=force, overwrite=overwrite,
        )  # fmt: skip
    shown = console()
    if done.drop is not None:
        shown.print(f"{done.drop}.", markup=False)
    elif precision == "int8":
        shown.print("No labelled pictures are there to measure on what int8 costs.")
    made = done.export
    shown.print(f"{made.parity} ({done.source}).", markup=False)
    shown.print(f"{made.path} ({made.size / 1e6:.1f} MB, {made.metadata.bits}-bit pictures).", markup=False)
    if format_ != "torch":
        shown.print(f"Predict with:\n  intarsia predict {made.path} PICTURES --out DIR", markup=False)


def predict_by_engine(
    engine: Engine,
    pictures: Sequence[str],
    out: Path,
    *,
    overlay: bool,
    probabilities: bool,
    uncertainty: bool,
    tile: int | None,
    overwrite: bool,
    limit: int,
    huge: float | None = None,
    huge_format: Literal["tiff", "zarr"] = "tiff",
    plain: float | None = None,
    coco: bool = False,
    table: bool | None = None,
    score: float | None = None,
    threshold: Sequence[str] | None = None,
) -> None:
    """`predict` by an exported file; nothing here loads PyTorch."""
    if engine.metadata.grouping:
        semantic = {"--probabilities": probabilities, "--uncertainty": uncertainty, "--plain": plain is not None}
        objects.refuse({**semantic, "--huge-format": huge_format != "tiff"}, "of a model of objects", "file")
        from ..inference.exported_objects import ExportedObjectPredictor

        thresholds = objects.thresholds_of(threshold, score)
        finder = ExportedObjectPredictor(engine, tile=tile, limit=limit, thresholds=thresholds)
        objects.write_objects(
            finder, pictures, out, overlay=overlay, table=table is not False, coco=coco, overwrite=overwrite,
            huge=huge_pixels(huge),
        )  # fmt: skip
        return
    instance = {"--coco": coco, "--table": table is not None, "--score": score is not None, "--threshold": threshold}
    objects.refuse(instance, "of a segmenter, not of a model of objects", "file")
    from ..inference.exported import ExportedPredictor
    from ..inference.folder import predict_files

    predictor = ExportedPredictor(engine, tile=tile, limit=limit, plain=plain or 0.0)
    shown = console()
    with pictures_bar("predicting") as bar:
        summary = predict_files(
            predictor, pictures, out, overlay=overlay, probabilities=probabilities, uncertainty=uncertainty,
            overwrite=overwrite, huge=huge_pixels(huge), huge_format=huge_format, progress=bar.progress,
            within=bar.within, say=partial(shown.print, markup=False),
        )  # fmt: skip
    tell(summary, out, shown)


def engine_for(
    run: Path, engine: str, pictures: Sequence[str], weights: Literal["best", "last"], say: Callable[[str], object]
) -> Engine | None:
    """What computes where `run` is an exported file, or another engine than PyTorch was asked for; else None."""
    from ..inference.engines import is_exported, load_exported

    if is_exported(run):
        return load_exported(run, "auto" if engine in ("default", "auto") else engine)  # type: ignore[arg-type]
    if engine in ("default", "torch"):
        return None
    from ..fitting.exporting import engine_of
    from ..inference.inputs import find_inputs

    first = find_inputs(pictures)[0].path
    return engine_of(run, engine, first, weights=weights, say=say)


def refuse(given: dict[str, object]) -> None:
    """Raises UsageError for options that only PyTorch can follow."""
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} can't be had of an exported file, nor of another engine than PyTorch; leave it out, or "
                "predict by the run without --engine."
            )
