"""The commands that need no masks: one picture by a network of its own, many by features that are alike. The work is
done in `inference/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

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
    from ..inference.clustering import Features

app = typer.Typer()

COLOURS = "colours"

OverlayOption = Annotated[bool, typer.Option("--overlay", help="Also the pictures with the regions laid over.")]
SmallestOption = Annotated[int, typer.Option(min=0, help="Pixels; smaller pieces go to their neighbours.")]


@app.command("segment-one")
def segment_one(
    pictures: Annotated[list[str], typer.Argument(help="A picture, or several: each is divided on its own.")],
    out: OutOption,
    scribbles: Annotated[
        Path | None, typer.Option("--scribbles", help="A PNG of the picture's size: a number or colour a region.")
    ] = None,
    regions: Annotated[
        int | None, typer.Option(help="Stop at so many regions; by default those scribbled, else 4.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="At most.")] = 200,
    continuity: Annotated[float, typer.Option(help="Higher: fewer, larger regions.")] = 5.0,
    side: Annotated[int, typer.Option(help="Pixels that the longer side is reduced to.")] = 256,
    smallest: SmallestOption = 0,
    seed: Annotated[int, typer.Option(help="Of the network's first weights.")] = 0,
    overlay: OverlayOption = False,
    overwrite: OverwriteOption = False,
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Divide a picture into regions, by a small network that is trained on it alone. Needs no masks and no run."""
    from ..inference.region_files import segment_one_files
    from ..inference.self_segment import SelfSegmentConfig

    most = pixels(limit)
    try:
        config = SelfSegmentConfig(
            regions=regions, iterations=iterations, continuity=continuity, side=side, seed=seed
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]} {first['input']}: {first['msg'].lower()}.") from error
    with work_bar("dividing") as step:
        summary = segment_one_files(
            pictures, out, config, scribbles=scribbles, smallest=smallest, with_overlay=overlay, overwrite=overwrite,
            device=device, limit=most, iterating=step,
        )  # fmt: skip
    tell(summary, out, console())


@app.command()
def regions(
    run: Annotated[str, typer.Argument(help=f"Folder of a run; or '{COLOURS}': colour, place and texture.")],
    pictures: PicturesArgument,
    out: OutOption,
    clusters: Annotated[int, typer.Option(help="Regions that are told apart.")] = 8,
    alone: Annotated[bool, typer.Option("--alone", help="Clusters of each picture's own.")] = False,
    side: Annotated[
        int | None, typer.Option(help="Pixels that larger pictures are reduced to; by default 1024, for colours 384.")
    ] = None,
    smallest: SmallestOption = 0,
    seed: Annotated[int, typer.Option(help="Of the clusters' beginnings.")] = 0,
    overlay: OverlayOption = False,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = "best",
    limit: LimitOption = 300,
    device: DeviceOption = "auto",
) -> None:
    """Divide pictures into regions that look alike to a trained network, which need not know them. Needs no masks."""
    from ..inference.clustering import ColourFeatures, NetworkFeatures
    from ..inference.region_files import cluster_files
    from ..runs import Run

    most = pixels(limit)
    if side is not None and side < 8:
        raise UsageError(f"--side {side}: give 8 pixels or more.")
    if run == COLOURS and not Path(run).is_dir():

        def features(channels: int) -> Features:
            return ColourFeatures(channels, side=side or 384)
    else:
        network = NetworkFeatures(Run(run).load_model(weights), device, side or 1024)

        def features(channels: int) -> Features:
            return network

    with work_bar("dividing") as step:
        summary = cluster_files(
            features, pictures, out, clusters=clusters, alone=alone, smallest=smallest, with_overlay=overlay,
            overwrite=overwrite, seed=seed, limit=most, progress=step,
        )  # fmt: skip
    tell(summary, out, console())
