"""The commands for runs of generative models: they draw, mend and pack. The work is done in `inference/`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import (
    DeviceOption,
    LimitOption,
    OutOption,
    OverwriteOption,
    PicturesArgument,
    WeightsOption,
    console,
    pixels,
    tell,
)
from .progress import work_bar

if TYPE_CHECKING:
    from ..inference.studio import Studio
    from ..inference.works import Work

app = typer.Typer()
edit = typer.Typer(
    no_args_is_help=True, help="Mend pictures with a trained model: inpaint, denoise, restore, translate."
)
app.add_typer(edit, name="edit")

GenerativeRun = Annotated[Path, typer.Argument(help="Folder of a generative model's run, as `fit` made it.")]
ClassOption = Annotated[str | None, typer.Option("--class", help="What the pictures show, by name or number.")]
SeedOption = Annotated[int, typer.Option(help="Each seed has pictures of its own, numbered from 0.")]


@app.command()
def generate(
    run: GenerativeRun,
    out: OutOption,
    count: Annotated[int, typer.Option(help="How many pictures.")] = 64,
    seed: SeedOption = 0,
    first: Annotated[int, typer.Option(help="Number of the first; picture i of a seed is always the same.")] = 0,
    category: ClassOption = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="A mask, or a folder of them: what is to be where, one a picture.")
    ] = None,
    grid: Annotated[Path | None, typer.Option("--grid", help="Also all of them side by side, in this PNG.")] = None,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    device: DeviceOption = "auto",
) -> None:
    """Draw new pictures, each the same whatever else is asked for with it; resumes where it stopped."""
    from ..api import studio
    from ..inference.inputs import find_inputs
    from ..inference.works import generate_files

    opened = studio(run, weights=weights, device=device)
    found = [] if masks is None else [each.path for each in find_inputs([masks], out)]
    with work_bar("drawing") as step:
        summary = generate_files(
            opened, out, count, seed=seed, first=first, category=category, masks=found, sheet=grid,
            overwrite=overwrite, progress=step,
        )  # fmt: skip
    shown = console()
    tell(summary, out, shown)
    if grid is not None:
        shown.print(f"Side by side: {grid}", markup=False)


@app.command()
def interpolate(
    run: GenerativeRun,
    a: Annotated[str, typer.Argument(help="A picture file, or the number of a picture of the seed.")],
    b: Annotated[str, typer.Argument(help="Likewise.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A strip (.png), or a walk there and back (.gif).")],
    steps: Annotated[int, typer.Option(help="Pictures on the way, both ends included.")] = 9,
    seed: SeedOption = 0,
    category: ClassOption = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="What is to be where, of a model that is told.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another file of this name.")] = False,
    weights: WeightsOption = "best",
    device: DeviceOption = "auto",
) -> None:
    """Walk from one picture to another through the model's latent space."""
    from ..api import studio
    from ..inference.walk import write_walk

    opened = studio(run, weights=weights, device=device)
    ends = [int(each) if re.fullmatch(r"\d{1,18}", each) and not Path(each).exists() else each for each in (a, b)]
    write_walk(opened, ends[0], ends[1], out, steps, seed=seed, category=category, mask=mask, overwrite=overwrite)
    console().print(f"{steps} steps: {out}", markup=False)


@app.command()
def reconstruct(
    run: GenerativeRun,
    pictures: PicturesArgument,
    out: OutOption,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Take pictures apart and put them together again: what the model keeps of them."""
    from ..inference.works import reconstructing

    _work(reconstructing, run, pictures, out, overwrite, weights, limit, device)


@edit.command()
def inpaint(
    run: GenerativeRun,
    pictures: PicturesArgument,
    out: OutOption,
    holes: Annotated[
        str,
        typer.Option(
            "--holes",
            help="What is missing: a box x0,y0,x1,y1 in pixels; a file, not black where it is; or a folder with a file "
            "named like each picture.",
        ),
    ],
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Fill in what is missing; all else stays as it is, to the last bit."""
    from ..inference.works import inpainting

    box = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", holes)
    given: Any = holes if box is None or Path(holes).exists() else tuple(int(each) for each in box.groups())
    _work(lambda opened: inpainting(opened, given), run, pictures, out, overwrite, weights, limit, device)


@edit.command()
def denoise(
    run: GenerativeRun,
    pictures: PicturesArgument,
    out: OutOption,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Take the noise out of pictures."""
    from ..inference.works import denoising

    _work(denoising, run, pictures, out, overwrite, weights, limit, device)


@edit.command()
def restore(
    run: GenerativeRun,
    pictures: PicturesArgument,
    out: OutOption,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Make pictures sharp, coloured and free of noise again, whatever of it the model has learnt."""
    from ..inference.works import restoring

    _work(restoring, run, pictures, out, overwrite, weights, limit, device)


@edit.command()
def translate(
    run: GenerativeRun,
    pictures: Annotated[list[str], typer.Argument(help="Pictures or masks: files, folders or patterns.")],
    out: OutOption,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Turn masks into pictures, pictures into masks or grey into colour, as a pix2pix model has learnt."""
    from ..inference.works import translating

    _work(translating, run, pictures, out, overwrite, weights, limit, device)


@app.command()
def compress(
    run: GenerativeRun,
    pictures: PicturesArgument,
    out: OutOption,
    quality: Annotated[
        int | None, typer.Option(help="Codebooks of the model to use, fewer for smaller files; by default all.")
    ] = None,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Pack pictures with a trained model; `decompress` needs the same run."""
    from ..inference.works import compressing

    sizes: list[tuple[int, int]] = []

    def build(opened: Studio) -> Work[Any]:
        return compressing(opened, quality, lambda count, area: sizes.append((count, area)))

    def told() -> None:
        size, area = sum(each for each, _ in sizes), sum(each for _, each in sizes)
        if area:
            console().print(f"{size:,} bytes for {area:,} pixels: {8 * size / area:.3f} bits a pixel", markup=False)

    _work(build, run, pictures, out, overwrite, weights, limit, device, told)


@app.command()
def decompress(
    run: GenerativeRun,
    files: Annotated[list[str], typer.Argument(help="What `compress` made: files, folders or patterns.")],
    out: OutOption,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    device: DeviceOption = "auto",
) -> None:
    """Unpack what `compress` packed with the same run."""
    from ..inference.works import decompressing

    _work(decompressing, run, files, out, overwrite, weights, 300, device)


def _work(
    build: Callable[[Studio], Work[Any]],
    run: Path,
    inputs: list[str],
    out: Path,
    overwrite: bool,
    weights: Any,
    limit: float,
    device: Any,
    then: Callable[[], None] = lambda: None,
) -> None:
    from ..api import studio
    from ..inference.works import work_files

    most = pixels(limit)
    work = build(studio(run, weights=weights, device=device, limit=most))
    if not inputs:
        raise UsageError("no files are given; name files, folders or patterns.")
    with work_bar(work.verb) as step:
        summary = work_files(work, inputs, out, overwrite=overwrite, progress=step)
    then()
    tell(summary, out, console())
