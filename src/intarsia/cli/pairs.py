"""The commands for pairs that nobody drew: made by a generator, labelled by a segmenter, looked through by a person."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DeviceOption, OutOption, OverwriteOption, RunArgument, console
from .progress import work_bar

if TYPE_CHECKING:
    from ..inference.pairs import Summary

app = typer.Typer()

SHOWN = 12  # pictures that `review` lists


@app.command()
def synthesize(
    run: Annotated[
        Path, typer.Argument(help="Run of a generator of pictures for masks: pix2pix, diffusion, pair_gan.")
    ],
    out: OutOption,
    count: Annotated[int, typer.Option(help="Pairs to draw; what the filter throws away is not replaced.")] = 500,
    masks: Annotated[
        str, typer.Option("--masks", help="real: of the run's labelled training pictures; drawn; or a folder of masks.")
    ] = "real",
    mask_run: Annotated[
        Path | None, typer.Option("--mask-run", help="With --masks drawn: run of a shape_prior, or of a vae of masks.")
    ] = None,
    filter_: Annotated[
        Path | None, typer.Option("--filter", help="Run of a segmenter that has to recognise the mask in the picture.")
    ] = None,
    agree: Annotated[float, typer.Option(help="Least mean IoU of the filter's answer with a pair's mask.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Each seed has pairs of its own, numbered from 0.")] = 0,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Draw pictures for masks: a folder of pairs to learn from beside real ones; resumes where it stopped."""
    from ..fitting.pairs import synthesize as synthesize_

    with work_bar("drawing pairs") as step:
        summary = synthesize_(
            run, out, count, masks=masks, mask_run=mask_run, filter_run=filter_, agree=agree, seed=seed, device=device,
            overwrite=overwrite, progress=step,
        )  # fmt: skip
    _tell(summary, f"Look at {out / 'sheet.png'} first." if summary.kept else "")


@app.command("pseudo-label")
def pseudo_label(
    run: RunArgument,
    out: OutOption,
    pictures: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders or patterns; by default the run's own training pictures without a mask."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Pixels that are less certain are left open.")] = 0.9,
    keep_share: Annotated[float, typer.Option(help="Share of the pictures, the most certain, to learn from.")] = 1.0,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Label pictures by a segmenter, for you to look through and to learn from; takes no decision of yours back."""
    from ..fitting.pairs import pseudo_label as pseudo_label_

    with work_bar("labelling") as step:
        summary = pseudo_label_(
            run, out, pictures or None, confidence=confidence, keep_share=keep_share, device=device,
            overwrite=overwrite, progress=step,
        )  # fmt: skip
    _tell(summary, f"Look through {out / 'review.html'}, then: intarsia review {out}")
    if summary.failed:
        raise typer.Exit(3)


@app.command()
def review(
    folder: Annotated[Path, typer.Argument(help="What `pseudo-label` made.")],
    accept: Annotated[list[str] | None, typer.Option("--accept", help="This picture's mask is right (repeat).")] = None,
    reject: Annotated[
        list[str] | None, typer.Option("--reject", help="Do not learn from this picture (repeat).")
    ] = None,
    accept_all: Annotated[bool, typer.Option("--accept-all", help="All that nobody decided of are right.")] = False,
) -> None:
    """Decide which masks are learnt from; corrected, changed and rejected ones in review.csv are seen to as well."""
    from ..fitting.pairs import review as review_

    rows = review_(folder, accept or (), reject or (), accept_all)
    shown = console()
    counts = Counter(each.status for each in rows)
    shown.print(
        f"{len(rows)} pictures: " + ", ".join(f"{count} {status}" for status, count in counts.items()), markup=False
    )
    for each in [each for each in rows if each.status == "new"][:SHOWN]:
        shown.print(f"  {each.confidence:6.1%} certain, {each.labelled:6.1%} labelled  {each.name}", markup=False)
    shown.print(f"Learn from them with:\n  intarsia fit FOLDER --set data.generated={folder}", markup=False)


def _tell(summary: Summary, then: str) -> None:
    shown = console()
    skipped = f" ({summary.skipped} were done before)" if summary.skipped else ""
    shown.print(f"{summary.words}\n{summary.seconds:.1f} s{skipped}: {summary.out}", markup=False)
    for path, reason in summary.failed:
        shown.print(f"  {reason}" if reason.startswith(str(path)) else f"  {path}: {reason}", markup=False)
    if then:
        shown.print(then, markup=False)
    if summary.kept:
        shown.print(f"Learn from them with:\n  intarsia fit FOLDER --set data.generated={summary.out}", markup=False)
