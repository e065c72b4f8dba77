"""The part of `predict` that answers for films: files, cameras, folders of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import export, objects
from .options import console
from .progress import work_bar

if TYPE_CHECKING:
    from ..inference.film_prediction import Answerer

FOR_FILMS = "For films: film.mp4, camera:0, or a folder of frames with --film"
FilmOption = Annotated[
    bool, typer.Option("--film", help="The folders are films, their pictures the frames.", rich_help_panel=FOR_FILMS)
]
SmoothOption = Annotated[
    Literal["none", "exponential", "flow"] | None,
    typer.Option("--smooth", help="Let frames agree; flow follows what moves.", rich_help_panel=FOR_FILMS),
]
MemoryOption = Annotated[
    float | None,
    typer.Option("--memory", help="Seconds after which a smoothed frame is mostly forgotten: 0.1.",
                 rich_help_panel=FOR_FILMS),
]  # fmt: skip
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="Drop frames rather than lag behind.", rich_help_panel=FOR_FILMS)
]
AsOption = Annotated[
    Literal["film", "frames"] | None,
    typer.Option("--as", help="Write films or single frames; by default as what is read.", rich_help_panel=FOR_FILMS),
]
RateOption = Annotated[
    float | None, typer.Option("--rate", help="Frames a second of a folder of frames: 25.", rich_help_panel=FOR_FILMS)
]
SecondsOption = Annotated[
    float | None, typer.Option("--seconds", help="How long to look through a camera.", rich_help_panel=FOR_FILMS)
]


def means_film(pictures: Sequence[str], film: bool, options: Mapping[str, object]) -> bool:
    """Whether these are films. Raises UsageError for films among pictures, and for options of films without any."""
    from ..inference.film import is_film

    found = [is_film(each) for each in pictures]
    if film or all(found):
        return True
    if any(found):
        raise UsageError("films and pictures can't be answered in one go; give them to two commands.")
    given = [name for name, value in options.items() if value not in (None, False)]
    if given:
        raise UsageError(
            f"{', '.join(given)} is for films; give film files, camera:0, or a folder of frames with --film."
        )
    return False


def answerer(
    run: Path,
    engine: str,
    *,
    weights: Literal["best", "last"],
    device: Literal["auto", "cpu", "cuda"],
    flips: bool,
    scale: Sequence[float] | None,
    tile: int | None,
    limit: int,
    surplus: Mapping[str, object],
) -> Answerer:
    """Who answers: a run, or an exported file, which loads no PyTorch. surplus: options that films do not have."""
    from ..inference.engines import is_exported, load_exported

    given = [name for name, value in surplus.items() if value not in (None, 0, False)]
    if given:
        raise UsageError(f"{', '.join(given)} can't be had of a film; leave that out, or predict its single frames.")
    if is_exported(run):
        from ..inference.exported import ExportedPredictor

        export.refuse({"--flips": flips, "--scale": scale, "--device cuda": device == "cuda"})
        chosen = "auto" if engine == "default" else engine
        return ExportedPredictor(load_exported(run, chosen), tile=tile, limit=limit)  # type: ignore[arg-type]
    if engine not in ("default", "torch"):
        raise UsageError(
            f"--engine {engine} answers for a film by an exported file: intarsia export {run}, and give that file."
        )
    if objects.holds_objects(run):
        raise UsageError(
            "films are answered by segmenters, and this run is of a model of objects; cut the film into pictures and "
            "predict their folder without --film."
        )
    from ..api import load
    from ..inference.predictor import Predictor

    predictor = load(
        run, weights=weights, device=device, flips=flips, scales=tuple(scale or (1.0,)), tile=tile, limit=limit
    )
    assert isinstance(predictor, Predictor)
    return predictor


def predict_film(
    predictor: Answerer,
    pictures: Sequence[str],
    out: Path,
    *,
    overlay: bool,
    overwrite: bool,
    limit: int,
    smooth: Literal["none", "exponential", "flow"] | None,
    memory: float | None,
    realtime: bool,
    as_: Literal["film", "frames"] | None,
    rate: float | None,
    seconds: float | None,
) -> None:
    """`predict` for films."""
    from ..inference.film_prediction import Wish, predict_films, predict_frames
    from ..inference.smoothing import SmoothingConfig

    if memory is not None and not 0 < memory < float("inf"):
        raise UsageError(f"--memory {memory:g} is no time to remember; give a number of seconds above 0.")
    smoothing = SmoothingConfig(kind=smooth or "none", **({} if memory is None else {"memory": memory}))
    folders = [each for each in pictures if Path(each).is_dir()]
    single = as_ == "frames" or (as_ is None and len(folders) == len(pictures))
    wish = Wish(out, overlay, single, smoothing, realtime, rate or 25.0, seconds, limit)
    resumable = single and len(pictures) == len(folders) == 1 and not realtime
    with work_bar("predicting") as step:
        summary = (
            predict_frames(predictor, folders[0], wish, overwrite=overwrite, progress=lambda d, t, _: step(d, t))
            if resumable
            else predict_films(predictor, pictures, wish, overwrite=overwrite, progress=lambda d, t, _: step(d, t))
        )
    shown = console()
    for each in summary.done:
        lost = [f"{n} {what}" for n, what in ((each.broken, "broken"), (each.dropped, "dropped")) if n]
        shown.print(
            f"{each.name}: {each.frames} frames{''.join(f', {words}' for words in lost)} in {each.seconds:.1f} s, "
            f"{each.frames_per_second:.1f} a second; latency p50 {1000 * each.latency_p50:.0f} ms, "
            f"p99 {1000 * each.latency_p99:.0f} ms",
            markup=False,
        )
    there = f", {summary.skipped} were there already" if summary.skipped else ""
    shown.print(f"Done{there}: {out}", markup=False)
    if summary.failed:
        shown.print(f"{len(summary.failed)} failed:", style="red")
        for name, reason in summary.failed:
            shown.print(f"  {reason}" if reason.startswith(name) else f"  {name}: {reason}", markup=False)
        raise typer.Exit(3)
