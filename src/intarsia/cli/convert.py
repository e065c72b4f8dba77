"""The command that writes a folder's objects in another format. The work is done in `inference/conversion.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import console
from .progress import work_bar

app = typer.Typer()


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures and objects, in any layout that `fit` reads.")],
    to: Annotated[
        Literal["labels", "coco", "yolo", "binaries", "arrays"],
        typer.Option(help="Label images; COCO JSON; YOLO polygons; a PNG an object; arrays (N, H, W)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and labels.")],
    polygons: Annotated[
        bool, typer.Option("--polygons", help="With coco: polygons, but run lengths of objects with holes.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="Pixels by which polygons may leave the pixels' edges; 0: they are exact.")
    ] = 0.0,
    link: Annotated[bool, typer.Option("--link/--copy-images", help="Link to the pictures, or copy them.")] = False,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Another classes.toml than the folder's own.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another conversion, and files that are in the way.")] = False,
) -> None:
    """Write the objects of a folder in another format: label images, COCO, YOLO, binary files, arrays."""
    from ..inference.conversion import convert_folder

    with work_bar("converting") as step:
        done = convert_folder(
            folder, to, out, polygons=polygons, tolerance=tolerance, link=link, classes=classes, overwrite=overwrite,
            progress=step,
        )  # fmt: skip
    shown = console()
    skipped = f", {done.skipped} were there already" if done.skipped else ""
    shown.print(
        f"{done.done} picture{'s' * (done.done != 1)} with {done.objects} object{'s' * (done.objects != 1)} in "
        f"{done.seconds:.1f} s{skipped}: {out}",
        markup=False,
    )
    for note in done.notes:
        shown.print(f"  {note}", markup=False)
    if done.failed:
        shown.print(f"{len(done.failed)} failed:", style="red")
        for path, reason in done.failed:
            shown.print(f"  {reason}" if reason.startswith(str(path)) else f"  {path}: {reason}", markup=False)
        raise typer.Exit(3)
