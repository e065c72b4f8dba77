"""Films in, objects of every frame out, which keep their numbers from frame to frame.

    OUT/prediction.json                the model's fingerprint, the settings, and which answer is of which film
    OUT/labels/NAME/000000.png         0 = background, else the object's number; .tif of 32 bits beyond 65534
    OUT/labels/NAME/times.csv          the time of each frame, written last
    OUT/measurements/NAME.csv          a line an object and frame: `frame`, its number (id), class, score, and more
    OUT/overlays/NAME.mp4              on request: the film with each object outlined; or NAME/000000.png
    OUT/films/NAME.json                frames, broken and dropped ones, frames a second, latency

A film is whole or not there: one that is stopped in the middle begins anew. A camera has no end, so stopping it is its
end.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from ..drawing import encode_png, object_overlay, write_label_image
from ..errors import UsageError
from ..files import make_folder, remove_file, write_atomically
from ..metrics.matching import matched, overlaps
from ..metrics.object_measurements import words
from ..records import Classes, Image, Instances, ObjectPrediction
from .film import FilmWriter, Frame, Source, require_av
from .film_prediction import FILMS, TIMES, FilmDone, FilmSummary, Progress, Wish, Work, film_answered, films_answered
from .folder import LABELS, OVERLAYS
from .huge_objects import MEASUREMENTS
from .object_folder import table_of_objects

SAME = 0.3  # IoU with an object of the frame before, from which it is that object: they move, so less than a half


class Finder(Protocol):
    """Who can be asked for the objects of a frame: an `ObjectPredictor`, or an exported file."""

    @property
    def classes(self) -> Classes: ...
    def settings(self) -> dict[str, Any]: ...
    def read(self, picture: Image, /) -> Image: ...
    def predicted(self, name: str, image: Image, /) -> ObjectPrediction: ...


class Tracks:
    """The numbers of objects from frame to frame, 1, 2, ... in the order in which they appear.

    An object has the number of the one of the frame before that it is paired with: IoU of SAME and more where both are
    as they lie, unmoved; as many pairs as can be, of these the choice with the largest sum of IoU. All others are new,
    also what was missed for a single frame: nothing is remembered longer. Classes are not looked at.
    """

    def __init__(self) -> None:
        self.count = 0  # of numbers that are given
        self.before: np.ndarray | None = None  # (H, W) int32: the frame before, in these numbers

    def __call__(self, instances: Instances) -> np.ndarray:
        """(N,) int32: the numbers of the next frame's objects."""
        numbers = np.zeros(len(instances), np.int32)
        labels = np.maximum(instances.label_image, 0)
        if self.before is not None and self.before.shape == labels.shape:
            found = overlaps(self.before, labels)
            pairs = found.pairs[matched(found, SAME)]
            numbers[found.predicted[pairs[:, 1]] - 1] = found.true[pairs[:, 0]]
        new = np.flatnonzero(numbers == 0)
        numbers[new] = np.arange(self.count + 1, self.count + 1 + len(new))
        self.count += len(new)
        self.before = np.append(numbers, 0)[labels - 1]  # the background finds the last
        return numbers


@dataclass(frozen=True)
class _Answer:
    frame: Frame
    found: ObjectPrediction
    numbers: np.ndarray  # (N,) int32: of the objects, in the film

    @property
    def labels(self) -> np.ndarray:
        """(H, W) int32: the film's numbers, 0 = background."""
        return np.append(self.numbers, 0)[np.maximum(self.found.instances.label_image, 0) - 1]


def predict_object_films(
    predictor: Finder,
    inputs: Sequence[str | Path],
    wish: Wish,
    *,
    track: bool = True,
    table: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FilmSummary:
    """Find the objects of films and write them into `wish.out`: files, patterns, folders of frames, and cameras.

    track: objects keep their numbers (`Tracks`); False: each frame's are 1..N. table: measure each object; False: the
    tables hold frame, number, class and score only. The rest, and what is raised, is as with `predict_films`; objects
    are not smoothed.
    """
    if wish.smoothing.kind != "none":
        raise UsageError("frames are smoothed by probabilities of classes, which objects do not have; leave that out.")
    if wish.seconds is not None and not wish.seconds > 0:
        raise UsageError(f"{wish.seconds:g} seconds of a camera are no film; give more than 0.")
    if not all(Path(each).is_dir() for each in inputs) or (wish.overlay and not wish.single):
        require_av()

    def answer(source: Source, name: str) -> FilmDone:
        answers = partial(_answers, predictor, tracks=Tracks() if track else None)
        write = partial(_write, classes=predictor.classes, source=source, name=name, wish=wish, measured=table)
        return film_answered(source, name, wish, answers, write, progress)

    settings = predictor.settings() | wish.settings() | {"objects": True, "measured": table, "track": track}
    folders = [LABELS, *[OVERLAYS] * (wish.overlay and wish.single)]
    return films_answered(inputs, wish, settings, _files, _remove, answer, folders, overwrite)


def _answers(predictor: Finder, frames: Iterable[Frame], tracks: Tracks | None) -> Iterator[_Answer]:
    for frame in frames:
        found = predictor.predicted(str(frame.number), predictor.read(frame.image))
        numbers = np.arange(1, len(found) + 1, dtype=np.int32) if tracks is None else tracks(found.instances)
        yield _Answer(frame, found, numbers)


def _write(work: Work[_Answer], classes: Classes, source: Source, name: str, wish: Wish, measured: bool) -> None:
    """`times.csv` is written last: a film that has one is done."""
    times = ["frame,seconds"]
    labels, overlays = wish.out / LABELS / name, wish.out / OVERLAYS / name
    film, table = overlays.with_name(f"{overlays.name}.mp4"), wish.out / MEASUREMENTS / f"{name}.csv"
    for folder in (labels, table.parent, *[overlays if wish.single else film.parent] * wish.overlay):
        make_folder(folder)

    def all_of_it(lines: BinaryIO, shown: BinaryIO | None) -> None:
        with ExitStack() as stack:
            drawn = shown and stack.enter_context(FilmWriter(shown, source.size, source.time_base))

            def write(answer: _Answer) -> None:
                number = len(times) - 1
                wide = int(answer.numbers.max(initial=0)) > 65534
                write_label_image(labels / f"{number:06d}{'.tif' if wide else '.png'}", answer.labels)
                lines.write(_lines(answer, number, measured))
                if wish.overlay:
                    picture = object_overlay(answer.frame.image, answer.labels)
                    if drawn:
                        drawn.add(picture, answer.frame.ticks)
                    else:
                        write_atomically(overlays / f"{number:06d}.png", encode_png(picture))
                times.append(f"{number:06d},{float(answer.frame.ticks * source.time_base):.12g}")

            work(write)

    if wish.overlay and not wish.single:
        write_atomically(table, lambda lines: write_atomically(film, lambda shown: all_of_it(lines, shown)))
    else:
        write_atomically(table, lambda lines: all_of_it(lines, None))
    write_atomically(labels / TIMES, ("\n".join(times) + "\n").encode())


def _lines(answer: _Answer, number: int, measured: bool) -> bytes:
    """A frame's lines of the table; those of the first begin with the columns' names."""
    columns = table_of_objects(answer.found, measured)
    order = np.argsort(answer.numbers[columns["id"] - 1], kind="stable")
    columns = {"frame": np.full(len(order), number), **columns, "id": answer.numbers[columns["id"] - 1]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if number == 0:
        writer.writerow(columns)
    writer.writerows(zip(*(words(column[order]) for column in columns.values()), strict=True))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _files(wish: Wish, name: str) -> list[Path]:
    """The files of a film that is done."""
    film = wish.out / OVERLAYS / f"{name}.mp4"
    table = wish.out / MEASUREMENTS / f"{name}.csv"
    return [wish.out / LABELS / name / TIMES, table, *[film] * (wish.overlay and not wish.single)]


def _remove(wish: Wish, name: str, ours: bool) -> None:
    """The files of a film, what says that it is done first. ours: it was answered here before, so that whatever bears
    its name goes."""
    files = [*_files(wish, name), wish.out / FILMS / f"{name}.json"]
    for file in [*files, *[wish.out / OVERLAYS / f"{name}.mp4"] * ours]:
        remove_file(file)
    for folder in (LABELS, OVERLAYS) if ours else ():
        for file in (wish.out / folder / name).glob("*"):
            if re.fullmatch(r"\d{6,}\.(png|tif)", file.name):
                remove_file(file)
