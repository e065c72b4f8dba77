"""Files in, maps of regions out: what divides one picture, done with many; stopped at any moment and gone on with.

OUT/VERB.json             with which settings, and which map is of which picture
OUT/NAME.png              a region's number from 0 for every pixel, in colours; 255 where it is of none
OUT/overlays/NAME.png     on request: the picture with the regions laid over it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.read import LIMIT_PIXELS, read_image, read_mask
from ..drawing import encode_mask, encode_png, overlay
from ..errors import DataError, UsageError
from ..files import make_folder, write_atomically
from ..records import IGNORE, Classes, Image, Mask, default_colours
from .clustering import SAMPLES, Clusters, Features, absorbed, fit_clusters, sampled
from .folder import PredictionSummary
from .inputs import Input, find_inputs
from .predictor import Failure, attempt
from .record import Record
from .self_segment import SelfSegmentConfig, read_scribbles, self_segment
from .works import Step, Work, work_files

OVERLAYS = "overlays"


def segment_one_files(
    inputs: Sequence[str | Path],
    out: str | Path,
    config: SelfSegmentConfig,
    *,
    scribbles: str | Path | None = None,
    smallest: int = 0,
    with_overlay: bool = False,
    overwrite: bool = False,
    device: Any = "auto",
    limit: int = LIMIT_PIXELS,
    progress: Step | None = None,
    iterating: Step | None = None,
) -> PredictionSummary:
    """Divide pictures, each by a network of its own (see `self_segment`), and write their maps into `out`.

    scribbles: a file drawn on the one picture. smallest: pixels; smaller pieces go to their neighbours, but for what is
    scribbled. iterating: takes how many iterations of the picture at hand are done, and how many there are at most.
    The rest, and what is raised, is as with `work_files`; UsageError also for scribbles on several pictures.
    """
    found = find_inputs(inputs, Path(out))
    if scribbles is not None and len(found) > 1:
        raise UsageError(f"the scribbles {scribbles} belong to one picture, but {len(found)} are given; give that one.")
    if scribbles is not None and not Path(scribbles).is_file():
        raise UsageError(f"{scribbles} is no file of scribbles; give a PNG of the picture's size.")

    def divide(image: Image) -> Mask:
        said = None if scribbles is None else read_scribbles(scribbles, (image.shape[0], image.shape[1]), limit)
        regions = self_segment(image, config, said, device=device, progress=iterating).regions
        return absorbed(regions, smallest) if said is None else np.where(said >= 0, said, absorbed(regions, smallest))

    settings = {**config.model_dump(), "smallest": smallest}
    beside = {} if scribbles is None else {f"scribbles {k}": v for k, v in Input(Path(scribbles), "").entry().items()}
    return _write("segment-one", settings, divide, inputs, out, None, with_overlay, overwrite, limit, progress, beside)


def cluster_files(
    features: Callable[[int], Features],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    clusters: int = 8,
    alone: bool = False,
    smallest: int = 0,
    with_overlay: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    limit: int = LIMIT_PIXELS,
    progress: Step | None = None,
) -> PredictionSummary:
    """Divide pictures by clusters of their features, found in all of them together, and write their maps into `out`.

    features: takes the channels of the first picture. alone: clusters of each picture's own, whose numbers say nothing
    of other pictures. smallest: pixels; smaller pieces go to their neighbours. progress counts each picture twice, but
    once where it is alone. The rest, and what is raised, is as with `work_files`.
    """
    if not 1 <= clusters <= 1024:
        raise UsageError(f"{clusters} clusters; give 1 to 1024.")
    found = find_inputs(inputs, Path(out))
    extract = features(_channels(found, limit))
    settings = {**extract.settings(), "clusters": clusters, "seed": seed, "alone": alone, "smallest": smallest}
    rounds = 1 if alone else 2

    def step(done: int, total: int) -> None:
        if progress is not None:
            progress((rounds - 1) * len(found) + done, rounds * len(found))

    def look(each: Input) -> np.ndarray:
        return extract(read_image(each.path, limit))

    @cache
    def shared() -> Clusters:
        """Found when the first map is wanted: not at all where all stand there."""
        samples, share = [], max(256, SAMPLES // len(found))
        for number, each in enumerate(found):
            taken = attempt(each.path, partial(look, each))
            if not isinstance(taken, Failure):
                samples.append(sampled(taken, share, seed + number))
            if progress is not None:
                progress(number + 1, rounds * len(found))
        if not samples:
            raise DataError("none of the pictures can be read, so there is nothing to find clusters in.")
        return fit_clusters(np.concatenate(samples), extract.groups, clusters, seed)

    def divide(image: Image) -> Mask:
        values = extract(image)
        fitted = fit_clusters(sampled(values, SAMPLES, seed), extract.groups, clusters, seed) if alone else shared()
        return absorbed(fitted.regions(values, (image.shape[0], image.shape[1])), smallest)

    if not alone:
        told = repr([each.entry() for each in found]).encode(errors="surrogateescape")
        settings["pictures"] = hashlib.blake2b(told, digest_size=8).hexdigest()
    return _write("regions", settings, divide, inputs, out, clusters, with_overlay, overwrite, limit, step, {})


def region_classes(count: int) -> Classes:
    """Region 1 to `count` with a colour each, none black."""
    names = tuple(f"region {number + 1}" for number in range(count))
    return Classes(names, tuple(default_colours(count + 1)[1:]))


def _write(
    verb: str,
    settings: dict[str, Any],
    divide: Callable[[Image], Mask],
    inputs: Sequence[str | Path],
    out: str | Path,
    count: int | None,  # of regions; None: each picture's own
    with_overlay: bool,
    overwrite: bool,
    limit: int,
    progress: Step | None,
    beside: Mapping[str, str | int],
) -> PredictionSummary:
    out = Path(out)

    def read(each: Input) -> Image:
        return read_image(each.path, limit)

    def answer(image: Image) -> bytes:
        regions = divide(image)
        return encode_mask(regions, region_classes(count or int(regions.max()) + 1))

    work = Work(verb, settings, read, answer, ".png", beside=lambda each: beside)
    summary = work_files(work, inputs, out, overwrite=overwrite, progress=progress)
    if with_overlay:
        _draw_overlays(out, Record(out / f"{verb}.json", False), count, limit)
    return summary


def _draw_overlays(out: Path, record: Record, count: int | None, limit: int) -> None:
    """For every picture whose map stands there, unless its overlay is newer than it."""
    for name, source in record.sources().items():
        made, drawn = out / f"{name}.png", out / OVERLAYS / f"{name}.png"
        if not made.is_file() or (drawn.is_file() and drawn.stat().st_mtime_ns >= made.stat().st_mtime_ns):
            continue
        image = attempt(Path(source), partial(read_image, source, limit))
        if isinstance(image, Failure):  # it is in the summary
            continue
        regions = _read_map(made, limit)
        make_folder(drawn.parent)
        picture = overlay(image, regions, region_classes(count or int(regions.max()) + 1))
        write_atomically(drawn, encode_png(picture))


def _read_map(path: Path, limit: int) -> Mask:
    values = read_mask(path, limit).values
    unknown = 255 if values.dtype == np.uint8 else 65535
    return np.where(values == unknown, IGNORE, values.astype(np.int32)).astype(np.int16)


def _channels(found: Sequence[Input], limit: int) -> int:
    """Of the first picture that can be read; 3 where none can."""
    for each in found:
        image = attempt(each.path, partial(read_image, each.path, limit))
        if not isinstance(image, Failure):
            return int(image.shape[2])
    return 3
