"""What several commands share: arguments, options, and how they say what came of many files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from ..inference.folder import PredictionSummary

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, as `fit` made it.")]
RunOrFileArgument = Annotated[Path, typer.Argument(help="Folder of a run, or a file that `export` made.")]
PicturesArgument = Annotated[list[str], typer.Argument(help="Files, folders or patterns such as 'scans/**/*.tif'.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the answers.")]
OverwriteOption = Annotated[bool, typer.Option(help="Replace the answers of another model or other settings.")]
LimitOption = Annotated[float, typer.Option(help="Megapixels beyond which a file is refused.")]
HugeOption = Annotated[
    float | None,
    typer.Option(min=0, help="Megapixels beyond which pictures are read in windows and written in tiles; default 64."),
]
HugeFormatOption = Annotated[
    Literal["tiff", "zarr"], typer.Option("--huge-format", help="How: tiled BigTIFF, or folders of OME-Zarr 0.5.")
]
PlainOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Of these: take tiles for plain that differ by this share of the range; default 0."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="What to compute on.")]
WeightsOption = Annotated[Literal["best", "last"], typer.Option("--weights", help="Best at validation, or last.")]


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def pixels(limit: float) -> int:
    """Of so many megapixels. Raises UsageError for none, or no end of them."""
    if not 0 < limit < math.inf:
        raise UsageError(f"--limit {limit:g} lets no picture through, or any; give a number of megapixels above 0.")
    return int(limit * 1e6)


def huge_pixels(huge: float | None) -> int:
    """Of so many megapixels; None: the default."""
    from ..inference.huge import HUGE_PIXELS

    return HUGE_PIXELS if huge is None else int(huge * 1e6)


def tell(summary: PredictionSummary, out: Path, shown: Console) -> None:
    """Says what came of many files; where some failed, lists them and ends with exit code 3."""
    skipped = f", {summary.skipped} were there already" if summary.skipped else ""
    shown.print(
        f"{summary.done} picture{'s' * (summary.done != 1)} in {summary.seconds:.1f} s{skipped}: {out}", markup=False
    )
    if summary.failed:
        shown.print(f"{len(summary.failed)} failed:", style="red")
        for path, reason in summary.failed:
            shown.print(f"  {reason}" if reason.startswith(str(path)) else f"  {path}: {reason}", markup=False)
        raise typer.Exit(3)
