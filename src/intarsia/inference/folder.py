"""Files in, files out: a folder of answers that can be stopped at any moment and gone on with.

    OUT/prediction.json           the model's fingerprint, the settings, and which answer is of which picture
    OUT/masks/NAME.png            class numbers with a palette; 255 where classes overlap and none is there
    OUT/labels/CLASS/NAME.png     where classes overlap: 255 where the class is
    OUT/overlays/NAME.png         on request: the picture with the classes laid over it
    OUT/uncertainty/NAME.png      on request: 16-bit, value / 65535
    OUT/probabilities/NAME.tif    on request: 16-bit, a page a class, value / 65535
    OUT/samples/NAME_s00.png      on request: several plausible answers, _s00, _s01, ...; all others are of their mean

Of pictures of more than 64 million pixels the masks, labels, overlays and uncertainty are .tif: tiled BigTIFF files
with smaller copies of themselves, or on request OME-Zarr folders, .ome.zarr. They are made by `huge.py`, which holds a
few tiles of such a picture and goes on in its middle. While it is at work, OUT/.unfinished holds what is finished.

NAME is the picture's path without its suffix, below the folder that was given; for pictures given one by one or by a
pattern, below the deepest folder that they share. Where that name is another picture's, the suffix joins it
(`x.png` -> x, `x.jpg` -> x_jpg), and then a number. A picture keeps the name it got, as long as it exists.

Each file is written whole or not at all, and a picture's mask is its last: a picture whose files are all there is done.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from .. import drawing
from ..data.rasters import RASTERS, WANTED, vips
from ..data.read import read_header
from ..data.windows import Windows
from ..data.zarr_pyramids import remove_folder, require_zarr
from ..drawing import encode_png, file_names, to_uint16, write_grey16, write_labels, write_mask, write_probabilities
from ..errors import UsageError
from ..files import make_folder, remove_file, write_atomically
from ..records import Classes, Image, Labels, Mask, Prediction
from .huge import HUGE_PIXELS, PROBABILITIES, UNCERTAINTY, UNFINISHED, BlockAnswerer, answer_huge, forget, state_of
from .huge import LABELS as LABELS
from .huge import MASKS as MASKS
from .huge import OVERLAYS as OVERLAYS
from .huge import Strip as Strip
from .inputs import Input, find_inputs, give_names
from .record import Record, writing
from .working import Failure, ahead, attempt, lanes_for, large_alone, mean_of

SAMPLES = "samples"
TILED = {"tiff": "tif", "zarr": "ome.zarr"}  # how the answers of huge pictures are written: what their names end with

HugeFormat = Literal["tiff", "zarr"]
Within = Callable[[str, int, int, int, int], None]

Given = TypeVar("Given")
Made = TypeVar("Made")


class Answerer(BlockAnswerer, Protocol):
    """Who can be asked for a folder of pictures: a `Predictor`, or an exported file (`ExportedPredictor`)."""

    @property
    def gives_probabilities(self) -> bool: ...
    def read(self, picture: Path, /) -> Image: ...
    def strips(self, image: Image, name: str, /) -> Iterator[Strip]: ...
    def share(self, lanes: int, /) -> int: ...
    def ambiguous(self) -> object: ...
    def sample_strips(self, image: Image, name: str, count: int, seed: int, /) -> Iterator[tuple[Prediction, ...]]: ...


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
    huge: int = HUGE_PIXELS  # more pixels than that: windows in, tiled files out
    huge_format: HugeFormat = "tiff"

    def file(self, folder: str, name: str) -> Path:
        return self.out / folder / f"{name}.{'tif' if folder == PROBABILITIES else 'png'}"

    def tiled(self, folder: str, name: str) -> Path:
        """The same, of a huge picture."""
        return self.out / folder / f"{name}.{TILED[self.huge_format]}"

    def others(self, folder: str, name: str) -> list[Path]:
        """Whatever else this file may be called, of an earlier call with other ideas."""
        return [
            path for path in self._all(folder, name) if path not in (self.file(folder, name), self.tiled(folder, name))
        ]

    def _all(self, folder: str, name: str) -> list[Path]:
        return [self.file(folder, name), *(self.out / folder / f"{name}.{end}" for end in TILED.values())]

    def there(self, folder: str, name: str) -> Path:
        """A file that tells that the answer is there: of a zarr folder the one that is there last."""
        every = [path / "zarr.json" if path.suffix == ".zarr" else path for path in self._all(folder, name)]
        return next((path for path in every if os.path.isfile(path)), every[0])  # which a name too long is not

    def of_huge(self, name: str) -> dict[str, Path]:
        """What `answer_huge` is to write for a picture."""
        asked = {OVERLAYS: self.overlay, UNCERTAINTY: self.uncertainty, MASKS: True}
        files = {folder: self.tiled(folder, name) for folder, wanted in asked.items() if wanted}
        if self.classes.overlapping:
            files |= {
                f"{LABELS}/{i}": self.tiled(f"{LABELS}/{each}", name) for i, each in enumerate(file_names(self.classes))
            }
        return files

    def files(self, name: str) -> list[Path]:
        """The files of a picture that is done."""
        asked = {OVERLAYS: self.overlay, UNCERTAINTY: self.uncertainty, PROBABILITIES: self.probabilities, MASKS: True}
        folders = [folder for folder, wanted in asked.items() if wanted]
        if self.classes.overlapping:
            folders += [f"{LABELS}/{each}" for each in file_names(self.classes)]
        several = [self.file(SAMPLES, f"{name}_s{number:02d}") for number in range(self.samples)]
        return several + [self.there(folder, name) for folder in folders]


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
    predictor: Answerer,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overlay: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    samples: int = 0,
    seed: int = 0,
    overwrite: bool = False,
    huge: int = HUGE_PIXELS,
    huge_format: HugeFormat = "tiff",
    progress: Callable[[int, int, str], None] | None = None,
    within: Within = lambda name, rows, height, done, total: None,
    say: Callable[[str], object] = lambda words: None,
) -> PredictionSummary:
    """Write the answers for files, folders (with those below) and patterns such as `scans/**/*.tif` into `out`.

    The same call again does what is missing, and what has changed since: another picture in the same place. Answers of
    another model or other settings are refused unless `overwrite`, which takes their place. A picture that can't be
    read or predicted is listed, and the rest go on. While one picture is computed, the next is read and the last
    is written; small ones are computed side by side where the predictor can (`share`). `progress` gets the pictures
    finished, those in all, and the name of the last one.

    samples: so many plausible answers for each picture as well, the other files being of their mean, with the
    uncertainty; 0: one answer. They depend on `seed` and the picture's name in `out`, not on the other pictures.

    huge: pixels beyond which a picture is read in windows and its answers are tiled files with smaller copies, TIFF or
    OME-Zarr (`huge.py`); with probabilities or samples it is read whole all the same. `within` gets such a picture's
    name, its finished rows of pixels, and all of them, then the pictures finished and those in all; `say` gets a
    sentence where what is installed can't read in windows.

    Raises DataError where there are no pictures, UsageError for answers of another model and for samples of a model
    that has one answer only, DiskError where `out` can't be written or is being written by another process.
    """
    began = time.monotonic()
    if samples < 0 or seed < 0:
        raise UsageError(f"samples = {samples} with seed {seed} were asked for; give whole numbers of 0 or more.")
    if samples:
        predictor.ambiguous()
    if (probabilities or uncertainty) and not predictor.gives_probabilities:
        raise UsageError(
            "this exported file gives class numbers only, no probabilities and no uncertainty; export the run again, "
            "with --probabilities."
        )
    if huge_format == "zarr":
        require_zarr()
    out = Path(out)
    found = find_inputs(inputs, out)
    unsure = uncertainty or samples > 0
    wanted = Wanted(out, predictor.classes, overlay, unsure, probabilities, samples, seed, huge, huge_format)
    with writing(out):
        waiting = _prepare(predictor, found, wanted, overwrite)
        skipped, order = len(found) - len(waiting), {name: number for number, name in enumerate(waiting)}

        def told(name: str, rows: int, height: int) -> None:
            within(name, rows, height, skipped + order[name], len(found))

        answer, write = large_alone(partial(_answer, predictor, wanted, told)), partial(_write, wanted=wanted)
        lanes = lanes_for(waiting.values(), predictor.limit, predictor.share)
        results = worked_off(waiting, partial(_read, predictor, wanted, say), answer, write, lanes)
        return summed_up(results, began, skipped, len(found), progress)


def _prepare(predictor: Answerer, found: list[Input], wanted: Wanted, overwrite: bool) -> dict[str, Path]:
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
    if (wanted.out / UNFINISHED).is_dir():
        for name in record.pictures.keys() - set(waiting):  # finished in the last instant of a killed process
            forget(state_of(wanted.out, name))
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
        for path in (wanted.file(folder, name), wanted.tiled(folder, name), *wanted.others(folder, name)):
            _take_away(path)
    forget(state_of(wanted.out, name))
    first = wanted.file(SAMPLES, name)
    for file in first.parent.glob(f"{glob.escape(first.stem)}_s*.png"):  # however many there were
        if re.fullmatch(re.escape(first.stem) + r"_s\d+\.png", file.name):
            remove_file(file)


def _take_away(path: Path) -> None:
    (remove_folder if path.suffix == ".zarr" else remove_file)(path)


def worked_off(
    waiting: Mapping[str, Path],
    read: Callable[[Path], Given],
    answer: Callable[[str, Given], Made],
    write: Callable[[str, Made], object],
    lanes: int = 1,
) -> Iterator[tuple[str, Failure | None]]:
    """Each picture's name once its files are written, or its failure: three pictures at a time, one a stage, and in the
    middle stage as many as there are lanes."""

    def reading(item: tuple[str, Path]) -> tuple[str, Path, Given | Failure]:
        name, path = item
        return name, path, attempt(path, lambda: read(path))

    def computing(item: tuple[str, Path, Given | Failure]) -> tuple[str, Made | Failure]:
        name, path, image = item
        return name, image if isinstance(image, Failure) else attempt(path, partial(answer, name, image))

    def writing(item: tuple[str, Made | Failure]) -> tuple[str, Failure | None]:
        name, made = item
        if isinstance(made, Failure):
            return name, made
        write(name, made)
        return name, None

    given = ahead(reading, waiting.items())
    return ahead(writing, map(computing, given) if lanes == 1 else ahead(computing, given, lanes, lanes))


def summed_up(
    results: Iterable[tuple[str, Failure | None]],
    began: float,
    skipped: int,
    count: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> PredictionSummary:
    """What comes of the pictures that are worked off, of `count` in all, of which `skipped` were there already, since
    `began` by the monotonic clock."""
    done, failed = 0, list[tuple[Path, str]]()
    for name, failure in results:
        done += 1
        if failure is not None:
            failed.append((failure.path, str(failure.error)))
        if progress is not None:
            progress(skipped + done, count, name)
    return PredictionSummary(done - len(failed), skipped, tuple(failed), time.monotonic() - began)


def _read(predictor: Answerer, wanted: Wanted, say: Callable[[str], object], path: Path) -> Image | Windows:
    """The picture; a huge one to be read in windows, where its file can be."""
    header = None if wanted.probabilities or wanted.samples else read_header(path, predictor.limit)
    if header is not None and header.height * header.width > wanted.huge:
        windows = predictor.windows(path, wanted.out)
        if windows is not None:
            return windows
        if header.kind in RASTERS and vips() is None:
            say(f"{path} is read whole; to read it in parts, in little memory: {WANTED}")
    return predictor.read(path)


def _answer(
    predictor: Answerer, wanted: Wanted, within: Callable[[str, int, int], None], name: str, image: Image | Windows
) -> Answer | None:
    """The answer put together strip by strip: a picture's probabilities, 4 bytes a class and pixel, are never whole.
    None of a huge picture, whose answer is then written."""
    if isinstance(image, Windows):
        with image:
            entry, height = Input(image.path, name).entry(), image.shape[0]
            state, tell = state_of(wanted.out, name), lambda rows: within(name, rows, height)
            answer_huge(predictor, image, name, wanted.of_huge(name), state, entry, tell)
        return None
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
    predictor: Answerer, name: str, image: Image, wanted: Wanted
) -> Iterator[tuple[Strip, tuple[Prediction, ...]]]:
    """The answer in strips, and where several are wanted these, of which it is then the mean."""
    if not wanted.samples:
        yield from ((strip, ()) for strip in predictor.strips(image, name))
        return
    for several in predictor.sample_strips(image, name, wanted.samples, wanted.seed):
        yield mean_of(several), several


def _write(name: str, answer: Answer | None, wanted: Wanted) -> None:
    for folder in wanted.of_huge(name):  # the answer of the other kind, of an earlier call with another idea of huge
        place = f"{LABELS}/{file_names(wanted.classes)[int(folder[7:])]}" if folder.startswith(LABELS) else folder
        for path in wanted.others(place, name):
            _take_away(path)
        _take_away(wanted.file(place, name) if answer is None else wanted.tiled(place, name))
    if answer is None:
        return
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
