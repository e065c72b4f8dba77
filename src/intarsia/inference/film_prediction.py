"""Films in, films of answers out.

    OUT/prediction.json         the model's fingerprint, the settings, and which answer is of which film
    OUT/masks/NAME.mov          class numbers as grey, without loss; 255 where classes overlap and none is there
    OUT/overlays/NAME.mp4       on request: the film with the classes laid over it
    OUT/films/NAME.json         frames, broken and dropped ones, frames a second, latency
  or, as single frames,
    OUT/masks/NAME/000000.png   class numbers with a palette; NAME/times.csv: the time of each, written last
    OUT/overlays/NAME/000000.png

A film is whole or not there: one that is stopped in the middle begins anew. A camera has no end, so stopping it is its
end. A folder of frames answered as single frames goes on where it stopped, as any folder of pictures does: its answers
keep the frames' names (OUT/masks/NAME.png), and smoothing is warmed up on the frames before.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np

from ..data.read import LIMIT_PIXELS
from ..drawing import encode_png, overlay, write_mask
from ..errors import DataError, OutOfMemoryError, UsageError
from ..files import make_folder, remove_file, write_atomically
from ..records import Classes, Image, Mask, Prediction
from .film import CAMERA, SUFFIXES, FilmWriter, Frame, FrameFolder, Source, open_source, require_av
from .folder import MASKS, OVERLAYS, Strip
from .inputs import Input, find_inputs, give_names
from .live import Newest, Pace, read_ahead
from .record import Entry, Record, writing
from .smoothing import Smoother, SmoothingConfig
from .working import ahead

FILMS, TIMES = "films", "times.csv"
ENDS = (".mov", ".mp4")  # of films of masks and of overlays
Progress = Callable[[int, int, str], None]  # takes the frames done, those in all as far as known, and the film's name


class Answerer(Protocol):
    """Who can be asked for a film: a `Predictor`, or an exported file."""

    @property
    def classes(self) -> Classes: ...
    @property
    def gives_probabilities(self) -> bool: ...
    def settings(self) -> dict[str, Any]: ...
    def read(self, picture: Image, /) -> Image: ...
    def strips(self, image: Image, name: str, /) -> Iterator[Strip]: ...


@dataclass(frozen=True)
class FilmDone:
    """What came of one film."""

    name: str
    frames: int  # answered
    broken: int  # frames that could not be read
    dropped: int  # frames that came while another was computed; in real time only
    seconds: float
    frames_per_second: float
    latency_p50: float  # seconds from when a frame was there to when its answer was written
    latency_p99: float


@dataclass(frozen=True)
class FilmSummary:
    """What came of several films."""

    done: tuple[FilmDone, ...]
    skipped: int  # films, or frames of a folder, whose answers stood there already
    failed: tuple[tuple[str, str], ...]  # films that could not be read or predicted, and why


@dataclass(frozen=True)
class Wish:
    """What is made of each film."""

    out: Path
    overlay: bool = False  # also the film with the classes laid over
    single: bool = False  # answers as single pictures, not as films
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    realtime: bool = False  # drop frames instead of lagging behind
    rate: float = 25.0  # frames a second of folders of frames
    seconds: float | None = None  # of cameras; None: until stopped
    limit: int = LIMIT_PIXELS  # pixels beyond which a film or frame is refused

    def settings(self) -> dict[str, Any]:
        paced = {"realtime": True} if self.realtime else {}
        return {"film": True, "single": self.single, "smoothing": self.smoothing.model_dump(), **paced}


class OfFrame(Protocol):
    """An answer that knows its frame."""

    @property
    def frame(self) -> Frame: ...


@dataclass(frozen=True)
class _Answer:
    frame: Frame
    mask: Mask


Answered = TypeVar("Answered", bound=OfFrame)
Work = Callable[[Callable[[Answered], object]], None]  # works a film off, and gives each answer to what it is given


def predict_films(
    predictor: Answerer,
    inputs: Sequence[str | Path],
    wish: Wish,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FilmSummary:
    """Write the answers for films into `wish.out`: files, patterns, folders of frames, and cameras ("camera:0").

    The same call again does the films that are missing or have changed. A film that can't be read or predicted is
    listed, and the rest go on. `progress` gets the frames done, those in all as far as the film says (else those done),
    and the film's name.

    Raises UsageError without PyAV, for answers of another model and for smoothing of what gives no probabilities,
    DataError where there are no films, DiskError where `out` can't be written.
    """
    _check(predictor, wish)
    if not (wish.single and all(Path(each).is_dir() for each in inputs)):
        require_av()

    def answer(source: Source, name: str) -> FilmDone:
        def write(work: Work[_Answer]) -> None:
            if wish.single:
                _as_pictures(work, predictor.classes, source.time_base, name, wish)
            else:
                _as_films(work, predictor.classes, source, name, wish)

        answers = partial(_answers, predictor, time_base=source.time_base, smoothing=wish.smoothing)
        return film_answered(source, name, wish, answers, write, progress)

    settings = predictor.settings() | wish.settings()
    folders = [MASKS, *[OVERLAYS] * wish.overlay] if wish.single else []
    return films_answered(inputs, wish, settings, _files, _remove, answer, folders, overwrite)


def films_answered(
    inputs: Sequence[str | Path],
    wish: Wish,
    settings: Mapping[str, Any],
    files: Callable[[Wish, str], list[Path]],
    remove: Callable[[Wish, str, bool], None],
    answer: Callable[[Source, str], FilmDone],
    folders: Sequence[str],
    overwrite: bool,
) -> FilmSummary:
    """`answer` for each film that is not done yet: whose `files` are not there. remove: takes the files of a film away,
    and whether they are from here. folders: those in which a film's single pictures get a folder of their own."""
    named = _named(inputs, wish)
    done, failed = list[FilmDone](), list[tuple[str, str]]()
    with writing(wish.out):
        record = Record(wish.out / "prediction.json", overwrite)
        names = give_names([each for each in named if not CAMERA.fullmatch(str(each.path))], record.sources())
        entries: dict[str, Entry] = {name: each.entry() for name, each in names.items()}
        sources: dict[str, Path] = {name: each.path for name, each in names.items()}
        for each in named:
            if CAMERA.fullmatch(str(each.path)):
                entries[each.name], sources[each.name] = {"source": str(each.path)}, each.path
        if not overwrite:
            _require_empty(
                [wish.out / each / name for name in entries if name not in record.pictures for each in folders]
            )
        known = frozenset(record.pictures)
        waiting = record.begin(
            dict(settings), entries, partial(files, wish), lambda name: remove(wish, name, name in known)
        )
        for name in waiting:
            try:
                with open_source(sources[name], wish.rate, wish.seconds, wish.limit) as source:
                    done.append(answer(source, name))
            except (DataError, OutOfMemoryError) as error:
                failed.append((str(sources[name]), str(error)))
    return FilmSummary(tuple(done), len(entries) - len(waiting), tuple(failed))


def predict_frames(
    predictor: Answerer,
    folder: str | Path,
    wish: Wish,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FilmSummary:
    """Write an answer for each picture of a folder, taken as the frames of a film in natural order.

    The same call again does what is missing. Where frames are smoothed, each depends on those before: a frame that has
    changed makes all after it anew, and the smoothing is warmed up on the frames before the first that is missing, far
    enough that nothing else shows. Raises as `predict_films` does.
    """
    _check(predictor, wish)
    with FrameFolder(folder, wish.rate, wish.limit) as source, writing(wish.out):
        record = Record(wish.out / "prediction.json", overwrite)
        given = [Input(file, file.stem) for file in source.files]
        named = give_names(given, record.sources())  # in the order of `given`
        entries = dict(_linked({name: each.entry() for name, each in named.items()}, wish.smoothing))
        settings = predictor.settings() | wish.settings() | {"rate": wish.rate}
        waiting = set(
            record.begin(
                settings, entries, partial(_frame_files, wish), partial(_remove_frame, wish),
            )
        )  # fmt: skip
        names = list(named)
        missing = [number for number, name in enumerate(names) if name in waiting]
        if not missing:
            return FilmSummary((), len(names), ())
        source.start = max(0, missing[0] - int(np.ceil(wish.smoothing.settling * wish.rate)))
        pace = Pace()
        skipped = len(names) - len(missing)

        def write(answer: _Answer) -> Frame:
            name = names[answer.frame.number]
            if name in waiting:
                for each in _frame_files(wish, name):
                    make_folder(each.parent)
                if wish.overlay:
                    _write_overlay(wish.out / OVERLAYS / f"{name}.png", answer, predictor.classes)
                write_mask(wish.out / MASKS / f"{name}.png", answer.mask, predictor.classes)
            return answer.frame

        frames = _until(read_ahead(source), missing[-1])
        written = set[int]()
        for frame in ahead(write, _answers(predictor, frames, source.time_base, wish.smoothing)):
            if names[frame.number] in waiting:
                written.add(frame.number)
                pace.done(frame)
                if progress:
                    progress(skipped + len(written), len(names), Path(folder).name)
    broken = [str(source.files[number]) for number in missing if number not in written]
    height, width = source.size
    failed = tuple((file, f"{file} can't be read, or is not of {width} x {height} pixels.") for file in broken)
    return FilmSummary((_measured(Path(folder).name, pace, len(broken), 0),), skipped, failed)


def _check(predictor: Answerer, wish: Wish) -> None:
    if wish.smoothing.kind != "none" and not predictor.gives_probabilities:
        raise UsageError(
            "frames are smoothed by their probabilities, and this exported file gives class numbers only; export the "
            "run again with --probabilities, or leave --smooth out."
        )
    if len(predictor.classes) > 255 and not wish.single:
        raise UsageError(
            f"a film of masks holds 255 classes at most, and the model has {len(predictor.classes)}; write single "
            "frames (--as frames)."
        )
    if wish.seconds is not None and not wish.seconds > 0:
        raise UsageError(f"{wish.seconds:g} seconds of a camera are no film; give more than 0.")


def _named(inputs: Sequence[str | Path], wish: Wish) -> list[Input]:
    """The films and what their answers would like to be called; a camera's by when it began."""
    found, files = list[Input](), list[str | Path]()
    for each in inputs:
        if CAMERA.fullmatch(str(each)):
            found.append(Input(Path(each), f"{each}_{time.strftime('%Y%m%d-%H%M%S')}".replace(":", "_")))
        elif Path(each).is_dir():
            found.append(Input(Path(each), Path(each).resolve().name))
        else:
            files.append(each)
    return found + (find_inputs(files, wish.out, SUFFIXES) if files else [])


def film_answered(
    source: Source,
    name: str,
    wish: Wish,
    answers: Callable[[Iterable[Frame]], Iterator[Answered]],
    write: Callable[[Work[Answered]], None],
    progress: Progress | None,
) -> FilmDone:
    """One film, from its first frame to its last. write: gets what works the film off, and calls it with what is to be
    done with each answer."""
    live = wish.realtime or source.live
    newest = Newest(source, source.time_base, paced=not source.live) if live else None
    frames = read_ahead(source) if newest is None else iter(newest)
    pace = Pace()

    def work(take: Callable[[Answered], object]) -> None:
        def taken(answer: Answered) -> None:
            take(answer)
            pace.done(answer.frame)

        try:
            for done, _ in enumerate(ahead(taken, answers(frames)), start=1):
                if progress:
                    progress(done, max(source.count or 0, done), name)
        except KeyboardInterrupt:
            if not source.live:
                raise
        if not pace.latencies:
            raise DataError(f"{name} gave no frame.")

    with closing(frames):  # before the source is: a thread may be reading it
        write(work)
    done = _measured(name, pace, source.broken, 0 if newest is None else newest.dropped)
    make_folder((wish.out / FILMS / name).parent)
    write_atomically(wish.out / FILMS / f"{name}.json", json.dumps(asdict(done), indent=1).encode())
    return done


def _as_films(work: Work[_Answer], classes: Classes, source: Source, name: str, wish: Wish) -> None:
    """The masks' file gets its name last: a film whose mask is there is done."""
    mask_file, overlay_file = (
        wish.out / f"{folder}/{name}{end}" for folder, end in zip((MASKS, OVERLAYS), ENDS, strict=True)
    )
    make_folder(mask_file.parent)

    def all_of_it(masks: BinaryIO, overlays: BinaryIO | None) -> None:
        with ExitStack() as stack:
            writer = stack.enter_context(FilmWriter(masks, source.size, source.time_base, "mask"))
            shown = overlays and stack.enter_context(FilmWriter(overlays, source.size, source.time_base))

            def write(answer: _Answer) -> None:
                writer.add(answer.mask.astype(np.uint8), answer.frame.ticks)  # IGNORE, -1, becomes 255
                if shown:
                    shown.add(overlay(answer.frame.image, answer.mask, classes), answer.frame.ticks)

            work(write)

    if wish.overlay:
        make_folder(overlay_file.parent)
        write_atomically(
            mask_file, lambda masks: write_atomically(overlay_file, lambda overlays: all_of_it(masks, overlays))
        )
    else:
        write_atomically(mask_file, lambda masks: all_of_it(masks, None))


def _as_pictures(work: Work[_Answer], classes: Classes, time_base: Fraction, name: str, wish: Wish) -> None:
    """`times.csv` is written last: a film that has one is done."""
    times = ["frame,seconds"]

    def write(answer: _Answer) -> None:
        number = f"{len(times) - 1:06d}"
        if wish.overlay:
            _write_overlay(wish.out / OVERLAYS / name / f"{number}.png", answer, classes)
        write_mask(wish.out / MASKS / name / f"{number}.png", answer.mask, classes)
        times.append(f"{number},{float(answer.frame.ticks * time_base):.12g}")

    for folder in (MASKS, OVERLAYS)[: 1 + wish.overlay]:
        make_folder(wish.out / folder / name)
    work(write)
    write_atomically(wish.out / MASKS / name / TIMES, ("\n".join(times) + "\n").encode())


def _answers(
    predictor: Answerer, frames: Iterable[Frame], time_base: Fraction, smoothing: SmoothingConfig
) -> Iterator[_Answer]:
    """The frames' masks, in their order."""
    smoother = Smoother(smoothing)
    for frame in frames:
        image = predictor.read(frame.image)
        strips = list(predictor.strips(image, str(frame.number)))
        if smoothing.kind == "none":
            yield _Answer(frame, np.concatenate([strip.mask for strip in strips]))
            continue
        whole = np.concatenate([strip.probabilities for strip in strips], axis=1)  # K H W
        smooth = smoother(image, whole, float(frame.ticks * time_base))
        yield _Answer(frame, Prediction(str(frame.number), image, predictor.classes, smooth).mask)


def _measured(name: str, pace: Pace, broken: int, dropped: int) -> FilmDone:
    return FilmDone(
        name, len(pace.latencies), broken, dropped, time.perf_counter() - pace.began, pace.frames_per_second,
        pace.latency(50), pace.latency(99),
    )  # fmt: skip


def _until(frames: Iterable[Frame], last: int) -> Iterator[Frame]:
    """The frames up to number `last`."""
    for frame in frames:
        if frame.number <= last:
            yield frame
        if frame.number >= last:
            return


def _linked(entries: Mapping[str, Entry], smoothing: SmoothingConfig) -> Iterator[tuple[str, Entry]]:
    """Each frame's entry; where frames are smoothed, with a digest of all before it."""
    digest = blake2b(digest_size=8)
    for name, entry in entries.items():
        yield name, entry if smoothing.kind == "none" else {**entry, "before": digest.hexdigest()}
        digest.update(json.dumps(entry, sort_keys=True).encode())


def _files(wish: Wish, name: str) -> list[Path]:
    """The files of a film that is done."""
    if wish.single:
        return [wish.out / MASKS / name / TIMES]
    return [wish.out / MASKS / f"{name}.mov", *([wish.out / OVERLAYS / f"{name}.mp4"] if wish.overlay else [])]


def _remove(wish: Wish, name: str, ours: bool) -> None:
    """The files of a film, what says that it is done first. ours: it was answered here before, perhaps as single
    frames where now it is a film, or the other way round; then these go as well."""
    folders = [wish.out / folder / name for folder in (MASKS, OVERLAYS)]
    files = [*_files(wish, name), wish.out / FILMS / f"{name}.json"]
    if ours:
        files += [
            folders[0] / TIMES,
            *(folder.with_name(f"{folder.name}{end}") for folder, end in zip(folders, ENDS, strict=True)),
        ]
    for file in files:
        remove_file(file)
    for folder in folders if ours else ():
        for file in folder.glob("*.png"):
            if re.fullmatch(r"\d{6,}\.png", file.name):
                remove_file(file)


def _require_empty(folders: Iterable[Path]) -> None:
    """Raises UsageError where single frames would come among files that are not from here."""
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} stands there already and is not from here; choose another folder, or overwrite it."
            )


def _frame_files(wish: Wish, name: str) -> list[Path]:
    """The files of a frame that is done."""
    return [wish.out / folder / f"{name}.png" for folder in (MASKS, OVERLAYS)[: 1 + wish.overlay]]


def _remove_frame(wish: Wish, name: str) -> None:
    for folder in (MASKS, OVERLAYS):
        remove_file(wish.out / folder / f"{name}.png")


def _write_overlay(path: Path, answer: _Answer, classes: Classes) -> None:
    write_atomically(path, encode_png(overlay(answer.frame.image, answer.mask, classes)))
