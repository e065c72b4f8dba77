"""The command that makes one file of a run, and the part of `predict` that asks such a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from .options import RunArgument, WeightsOption, console, huge_pixels, tell
from .progress import work_bar

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
        Literal["fp32", "fp16", "int8"], typer.Option(help="int8 is refused where it costs a point of mean IoU.")
    ] = "fp32",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="A second output: each class's probability.")
    ] = False,
    bits: Annotated[
        Literal["auto", "8", "16"],
        typer.Option(help="Of the pictures' numbers; 16 takes both. auto: as the run's own."),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Take int8 whatever it costs.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that stands there.")] = False,
    weights: WeightsOption = "best",
) -> None:
    """Write a segmenter as one file that runs without PyTorch, compared with it on the run's own pictures."""
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
    plain: float | None = None,
) -> None:
    """`predict` by an exported file; nothing here loads PyTorch."""
    from ..inference.exported import ExportedPredictor
    from ..inference.folder import predict_files

    predictor = ExportedPredictor(engine, tile=tile, limit=limit, plain=plain or 0.0)
    with work_bar("predicting") as step:
        summary = predict_files(
            predictor, pictures, out, overlay=overlay, probabilities=probabilities, uncertainty=uncertainty,
            overwrite=overwrite, huge=huge_pixels(huge), progress=lambda done, total, name: step(done, total),
        )  # fmt: skip
    tell(summary, out, console())


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
