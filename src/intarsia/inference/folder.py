"""Files in, files out: a folder of answers that can be stopped at any moment and gone on with.

    OUT/prediction.json           the model's fingerprint, the settings, and which answer is of which picture
    OUT/masks/NAME.png            class numbers with a palette; 255 where classes overlap and none is there
    OUT/labels/CLASS/NAME.png     where classes overlap: 255 where the class is
    OUT/overlays/NAME.png         on request: the picture with the classes laid over it
    OUT/uncertainty/NAME.png      on request: 16-bit, value / 65535
    OUT/probabilities/NAME.tif    on request: 16-bit, a page a class, value / 65535
    OUT/samples/NAME_s00.png      on request: several plausible answers, _s00, _s01, ...; all others are of their mean

NAME is the picture's path without its suffix, below the folder that was given; for pictures given one by one or by a
pattern, below the deepest folder that they share. Where that name is another picture's, the suffix joins it
(`x.png` -> x, `x.jpg` -> x_jpg), and then a number. A picture keeps the name it got, as long as it exists.

Each file is written whole or not at all, and a picture's mask is its last: a picture whose files are all there is done.
"""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import drawing
from ..drawing import encode_png, file_names, to_uint16, write_grey16, write_labels, write_mask, write_probabilities
from ..errors import UsageError
from ..files import make_folder, remove_file, write_atomically
from ..records import Classes, Image, Labels, Mask, Prediction
from .inputs import Input, find_inputs, give_names
from .predictor import Failure, Predictor, ahead, attempt, mean_of
from .record import Record, writing

MASKS, LABELS, OVERLAYS, UNCERTAINTY, PROBABILITIES = "masks", "labels", "overlays", "uncertainty", "probabilities"
SAMPLES = "samples"


@dataclass(frozen=True)
class PredictionSummary:
    """What came of a folder of pictures."""

    done: int  # pictures answered now
    skipped: int  # pictures whose answers stood there already
    failed: tuple[tuple[Path, str], ...]  # pictures that could not be read or predicted, and why
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """Which files are written for each picture."""

    out: Path
    classes: Classes
    overlay: bool
    uncertainty: bool
    probabilities: bool
    samples: int = 0  # plausible answers for each picture; 0: one answer, and no folder of several
    seed: int = 0  # of these

    def file(self, folder: str, name: str) -> Path:
        return self.out / folder / f"{name}.{'tif' if folder == PROBABILITIES else 'png'}"

    def files(self, name: str) -> list[Path]:
        """The files of a picture that is done."""
        asked = {OVERLAYS: self.overlay, UNCERTAINTY: self.uncertainty, PROBABILITIES: self.probabilities, MASKS: True}
        folders = [folder for folder, wanted in asked.items() if wanted]
        if self.classes.overlapping:
            folders += [f"{LABELS}/{each}" for each in file_names(self.classes)]
        several = [self.file(SAMPLES, f"{name}_s{number:02d}") for number in range(self.samples)]
        return several + [self.file(folder, name) for folder in folders]


@dataclass(frozen=True)
class Answer:
    """What is to be written for one picture; None: not wanted."""

    image: Image
    mask: Mask
    labels: Labels | None  # (K, H, W) int8
    uncertainty: np.ndarray | None  # (H, W) uint16
    probabilities: np.ndarray | None  # (K, H, W) uint16
    samples: np.ndarray  # (S, H, W) int16; S = 0: none


def predict_files(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overlay: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    samples: int = 0,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> PredictionSummary:
    """Write the answers for files, folders (with those below) and patterns such as `scans/**/*.tif` into `out`.

    The same call again does what is missing, and what has changed since: another picture in the same place. Answers of
    another model or other settings are refused unless `overwrite`, which takes their place. A picture that can't be
    read or predicted is listed, and the rest go on. While one picture is computed, the next is read and the last
    is written. `progress` gets the pictures finished, those in all, and the name of the last one.

    samples: so many plausible answers for each picture as well, the other files being of their mean, with the
    uncertainty; 0: one answer. They depend on `seed` and the picture's name in `out`, not on the other pictures.

    Raises DataError where there are no pictures, UsageError for answers of another model and for samples of a model
    that has one answer only, DiskError where `out` can't
    be written or is being written by another process.
    """
    began = time.monotonic()
    if samples < 0 or seed < 0:
        raise UsageError(f"samples = {samples} with seed {seed} were asked for; give whole numbers of 0 or more.")
    if samples:
        predictor.ambiguous()
    out = Path(out)
    found = find_inputs(inputs, out)
    wanted = Wanted(out, predictor.classes, overlay, uncertainty or samples > 0, probabilities, samples, seed)
    with writing(out):
        waiting = _prepare(predictor, found, wanted, overwrite)
        skipped = len(found) - len(waiting)
        failed: list[tuple[Path, str]] = []
        for count, (name, failure) in enumerate(_work(predictor, waiting, wanted), start=1):
            if failure is not None:
                failed.append((failure.path, str(failure.error)))
            if progress is not None:
                progress(skipped + count, len(found), name)
    return PredictionSummary(len(waiting) - len(failed), skipped, tuple(failed), time.monotonic() - began)


def _prepare(predictor: Predictor, found: list[Input], wanted: Wanted, overwrite: bool) -> dict[str, Path]:
    """The pictures still to do, by name, after `prediction.json` says what stands in the folder from now on."""
    record = Record(wanted.out / "prediction.json", overwrite)
    names = give_names(found, record.sources())
    several = {"samples": wanted.samples, "seed": wanted.seed} if wanted.samples else {}
    waiting = record.begin(
        predictor.settings() | several,
        {name: picture.entry() for name, picture in names.items()},
        wanted.files,
        partial(_remove, wanted),
    )
    return {name: names[name].path for name in waiting}


def _remove(wanted: Wanted, name: str) -> None:
    """The mask goes first: what is left of a picture without one is not taken for done."""
    folders = [
        MASKS,
        OVERLAYS,
        UNCERTAINTY,
        PROBABILITIES,
        *(f"{LABELS}/{each}" for each in file_names(wanted.classes)),
    ]
    for folder in folders:
        remove_file(wanted.file(folder, name))
    first = wanted.file(SAMPLES, name)
    for file in first.parent.glob(f"{glob.escape(first.stem)}_s*.png"):  # however many there were
        if re.fullmatch(re.escape(first.stem) + r"_s\d+\.png", file.name):
            remove_file(file)


def _work(predictor: Predictor, waiting: dict[str, Path], wanted: Wanted) -> Iterator[tuple[str, Failure | None]]:
    """Each picture's name once its files are written, or its failure: three pictures at a time, one a stage."""

    def read(item: tuple[str, Path]) -> tuple[str, Path, Image | Failure]:
        name, path = item
        return name, path, attempt(path, lambda: predictor.read(path))

    def compute(items: Iterable[tuple[str, Path, Image | Failure]]) -> Iterator[tuple[str, Answer | Failure]]:
        for name, path, image in items:
            if isinstance(image, Failure):
                yield name, image
            else:
                yield name, attempt(path, partial(_answer, predictor, name, image, wanted))

    def write(item: tuple[str, Answer | Failure]) -> tuple[str, Failure | None]:
        name, answer = item
        if isinstance(answer, Failure):
            return name, answer
        _write(name, answer, wanted)
        return name, None

    return ahead(write, compute(ahead(read, waiting.items())))


def _answer(predictor: Predictor, name: str, image: Image, wanted: Wanted) -> Answer:
    """The answer put together strip by strip: a picture's probabilities, 4 bytes a class and pixel, are never whole."""
    size, count = image.shape[:2], len(wanted.classes)
    mask = np.empty(size, np.int16)
    labels = np.empty((count, *size), np.int8) if wanted.classes.overlapping else None
    uncertainty = np.empty(size, np.uint16) if wanted.uncertainty else None
    probabilities = np.empty((count, *size), np.uint16) if wanted.probabilities else None
    samples = np.empty((wanted.samples, *size), np.int16)
    top = 0
    for strip, several in _strips(predictor, name, image, wanted):
        rows = slice(top, top + strip.image.shape[0])
        for plane, each in zip(samples, several, strict=True):
            plane[rows] = each.mask
        mask[rows] = strip.mask
        if labels is not None:
            labels[:, rows] = strip.labels
        if uncertainty is not None:
            uncertainty[rows] = to_uint16(strip.uncertainty)
        if probabilities is not None:
            probabilities[:, rows] = to_uint16(strip.probabilities)
        top = rows.stop
    return Answer(image, mask, labels, uncertainty, probabilities, samples)


def _strips(
    predictor: Predictor, name: str, image: Image, wanted: Wanted
) -> Iterator[tuple[Prediction, tuple[Prediction, ...]]]:
    """The answer in strips, and where several are wanted these, of which it is then the mean."""
    if not wanted.samples:
        yield from ((strip, ()) for strip in predictor.strips(image, name))
        return
    for several in predictor.sample_strips(image, name, wanted.samples, wanted.seed):
        yield mean_of(several), several


def _write(name: str, answer: Answer, wanted: Wanted) -> None:
    for file in wanted.files(name):
        make_folder(file.parent)
    if wanted.overlay:
        picture = drawing.overlay(answer.image, answer.mask, wanted.classes)
        write_atomically(wanted.file(OVERLAYS, name), encode_png(picture))
    if answer.uncertainty is not None:
        write_grey16(wanted.file(UNCERTAINTY, name), answer.uncertainty)
    if answer.probabilities is not None:
        write_probabilities(wanted.file(PROBABILITIES, name), answer.probabilities, wanted.classes)
    for number, mask in enumerate(answer.samples):
        write_mask(wanted.file(SAMPLES, f"{name}_s{number:02d}"), mask, wanted.classes)
    if answer.labels is not None:
        write_labels(wanted.out / LABELS, name, answer.labels, wanted.classes)
    write_mask(wanted.file(MASKS, name), answer.mask, wanted.classes)
