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
    from ..inference.object_films import Finder

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
TrackOption = Annotated[
    bool | None,
    typer.Option("--track/--no-track", help="Objects keep their numbers from frame to frame (the default), or not.",
                 rich_help_panel=FOR_FILMS),
]  # fmt: skip


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
    of_objects: Mapping[str, object],
    of_classes: Mapping[str, object],
    thresholds: Mapping[str, float],
) -> tuple[Answerer | None, Finder | None]:
    """Who answers, one of the two: a run, or an exported file, which loads no PyTorch. surplus: options that films do
    not have; of_objects, of_classes: that only films of objects have, and only others."""
    from ..inference.engines import is_exported, load_exported

    given = [name for name, value in surplus.items() if value not in (None, 0, False)]
    if given:
        raise UsageError(f"{', '.join(given)} can't be had of a film; leave that out, or predict its single frames.")
    if is_exported(run):
        export.refuse({"--flips": flips, "--scale": scale, "--device cuda": device == "cuda"})
        loaded = load_exported(run, "auto" if engine == "default" else engine)  # type: ignore[arg-type]
        if loaded.metadata.grouping:
            from ..inference.exported_objects import ExportedObjectPredictor

            objects.refuse(of_classes, "of a model of objects", "file")
            return None, ExportedObjectPredictor(loaded, tile=tile, limit=limit, thresholds=thresholds)
        from ..inference.exported import ExportedPredictor

        objects.refuse(of_objects, "of a segmenter, not of a model of objects", "file")
        return ExportedPredictor(loaded, tile=tile, limit=limit), None
    if engine not in ("default", "torch"):
        raise UsageError(
            f"--engine {engine} answers for a film by an exported file: intarsia export {run}, and give that file."
        )
    from ..api import load
    from ..inference.objects import ObjectPredictor
    from ..inference.predictor import Predictor

    if objects.holds_objects(run):
        objects.refuse({**of_classes, "--scale": scale}, "of a model of objects")
        found = load(run, weights=weights, device=device, flips=flips, tile=tile, limit=limit, thresholds=thresholds)
        assert isinstance(found, ObjectPredictor)
        return None, found
    objects.refuse(of_objects, "of a segmenter, not of a model of objects")
    predictor = load(
        run, weights=weights, device=device, flips=flips, scales=tuple(scale or (1.0,)), tile=tile, limit=limit
    )
    assert isinstance(predictor, Predictor)
    return predictor, None


def predict_film(
    predictor: Answerer | None,
    finder: Finder | None,
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
    table: bool,
    track: bool,
) -> None:
    """`predict` for films, by the one of the two that there is."""
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

        def tell(done: int, total: int, _: str) -> None:
            step(done, total)

        if finder is not None:
            from ..inference.object_films import predict_object_films

            summary = predict_object_films(
                finder, pictures, wish, track=track, table=table, overwrite=overwrite, progress=tell
            )
        else:
            assert predictor is not None
            summary = (
                predict_frames(predictor, folders[0], wish, overwrite=overwrite, progress=tell)
                if resumable
                else predict_films(predictor, pictures, wish, overwrite=overwrite, progress=tell)
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
