"""Files in, files out, for a Studio: what is done with one picture, done with many, stopped at any moment and gone on.

    OUT/denoise.json        of which model, with which settings, and which answer is of which picture
    OUT/NAME.png            the answer; .tif where a PNG can't hold its channels

NAME is given as `predict` gives it (see `folder.py`). Each file is written whole or not at all. What is not from here
stays, unless it is to be overwritten.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..data.read import read_image
from ..drawing import encode_mask, encode_png, grid, to_uint16
from ..errors import DataError, UsageError
from ..files import make_folder, remove_file, require_writable, write_atomically
from .compression import SUFFIX
from .folder import PredictionSummary
from .inputs import SUFFIXES, Input, find_inputs, give_names
from .predictor import Failure, ahead, attempt
from .reading import Hole
from .record import Record, writing
from .studio import Category, Studio

MOST_IN_GRID = 1024  # pictures

Read = TypeVar("Read")
Step = Callable[[int, int], None]  # takes how many are done, and how many there are in all


@dataclass(frozen=True)
class Work(Generic[Read]):
    """What is done with each file."""

    verb: str  # names the record: OUT/VERB.json
    settings: dict[str, Any]  # all that the answers depend on beside the files, fit for JSON
    read: Callable[[Input], Read]
    answer: Callable[[Read], bytes]  # the answer's file
    suffix: str  # of the answer's file, with its dot
    known: frozenset[str] = SUFFIXES  # suffixes of the files that are looked for in folders
    beside: Callable[[Input], Mapping[str, str | int]] = field(default=lambda each: {})  # what else an answer is of


def work_files(
    work: Work[Read],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Step | None = None,
) -> PredictionSummary:
    """Write what `work` makes of files, folders (with those below) and patterns into `out`.

    The same call again does what is missing, and what has changed since. A file that can't be read or answered is
    listed, and the rest go on. Raises DataError where there are no files, UsageError for answers by other settings and
    for files that are not from here (unless `overwrite`), DiskError where `out` can't be written or is in use.
    """
    began = time.monotonic()
    out = Path(out)
    found = find_inputs(inputs, out, work.known)
    with writing(out):
        record = Record(out / f"{work.verb}.json", overwrite)
        names = give_names(found, record.sources())
        files = partial(_answer_files, out, work.suffix)
        entries = {name: {**each.entry(), **work.beside(each)} for name, each in names.items()}
        waiting = record.begin(work.settings, entries, files, lambda name: remove_file(files(name)[0]))
        skipped = len(found) - len(waiting)
        failed: list[tuple[Path, str]] = []
        results = _answered(work, [(files(name)[0], names[name]) for name in waiting])
        for count, failure in enumerate(results, start=1):
            if failure is not None:
                failed.append((failure.path, str(failure.error)))
            if progress is not None:
                progress(skipped + count, len(found))
    return PredictionSummary(len(waiting) - len(failed), skipped, tuple(failed), time.monotonic() - began)


def generate_files(
    studio: Studio,
    out: str | Path,
    count: int,
    *,
    seed: int = 0,
    first: int = 0,
    category: Category | None = None,
    masks: Sequence[Path] = (),
    sheet: str | Path | None = None,
    overwrite: bool = False,
    progress: Step | None = None,
) -> PredictionSummary:
    """Write pictures `first` to `first + count - 1` of a seed into `out`, each under its number, and on request all of
    them (at most the first 1024) side by side on one sheet. The rest is as with `Studio.generate` and `work_files`."""
    began = time.monotonic()
    out = Path(out)
    if count < 1 or first < 0:
        raise UsageError(
            f"{count} pictures from number {first} can't be drawn; give 1 or more, from number 0 or later."
        )
    sheet = None if sheet is None else Path(sheet).absolute()
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"the grid {sheet} would be a PNG; give it a name that ends in .png.")
    studio.generate(0, seed, 0, category, masks)  # raises before anything is written
    if category is not None:
        category = studio.number_of(category)
    told = [Input(each, each.name).entry() for each in masks]
    settings = {
        **studio.settings(),
        "seed": seed,
        "category": category,
        "masks": blake2b(repr(told).encode(errors="surrogateescape"), digest_size=8).hexdigest() if told else None,
    }
    suffix = suffix_of(studio.channels)
    whole = f"grid {sheet}"

    def files(name: str) -> list[Path]:
        return _answer_files(out, suffix, name) if name != whole or sheet is None else [sheet]

    def remove(name: str) -> None:
        if name == whole or not name.startswith("grid "):  # a sheet elsewhere stays: it may be anybody's by now
            remove_file(files(name)[0])

    numbers = {f"{number:06d}": number for number in range(first, first + count)}
    entries: dict[str, dict[str, str | int]] = {
        name: {"source": f"picture {number} of seed {seed}"} for name, number in numbers.items()
    }
    if sheet is not None:
        entries[whole] = {"source": f"pictures {first} to {first + count - 1} of seed {seed}"}
        require_writable(sheet.parent)
    with writing(out):
        waiting = Record(out / "generate.json", overwrite).begin(settings, entries, files, remove)
        missing = [name for name in waiting if name != whole]
        skipped = count - len(missing)
        drawn = studio.draw((numbers[name] for name in missing), seed, category, masks)

        def write(item: tuple[str, np.ndarray]) -> None:
            write_atomically(files(item[0])[0], encode_picture(item[1]))

        for done, _ in enumerate(ahead(write, zip(missing, drawn, strict=True)), start=1):
            if progress is not None:
                progress(skipped + done, count)
        if sheet is not None and whole in waiting:
            pictures = [read_image(files(name)[0]) for name in list(numbers)[:MOST_IN_GRID]]
            write_atomically(sheet, encode_png(grid(pictures, math.ceil(math.sqrt(len(pictures))), gap=2)))
    return PredictionSummary(len(missing), skipped, (), time.monotonic() - began)


def reconstructing(studio: Studio) -> Work[Any]:
    return _pictures(studio, "reconstruct", studio.reconstruct)


def denoising(studio: Studio) -> Work[Any]:
    return _pictures(studio, "denoise", studio.denoise)


def restoring(studio: Studio) -> Work[Any]:
    return _pictures(studio, "restore", studio.restore)


def translating(studio: Studio) -> Work[Any]:
    """From masks the files are read when they are translated: they are no pictures."""
    _require(studio, "translate")
    task = str(getattr(studio.model.config, "task", ""))
    read = (lambda each: each.path) if task == "mask_to_picture" else _reader(studio)

    def answer(source: Any) -> bytes:
        made = studio.translate(source)
        return encode_mask(made, studio.classes) if task == "picture_to_mask" else encode_picture(made)

    suffix = ".png" if task == "picture_to_mask" else suffix_of(studio.channels)
    return Work("translate", studio.settings(), read, answer, suffix)


def inpainting(studio: Studio, holes: str | Path | Hole) -> Work[Any]:
    """holes: a box for all pictures; a file for all; or a folder with a file of the same name for each picture."""
    _require(studio, "inpaint")
    place = Path(holes) if isinstance(holes, str | Path) else None
    if place is not None and not place.exists():
        raise UsageError(f"{place} is no file or folder of holes; give one, or a box x0,y0,x1,y1 in pixels.")
    named: dict[str, Path] = {}
    if place is not None and place.is_dir():
        named = {each.name: each.path for each in find_inputs([place])}

    def hole_of(picture: Input) -> Hole:
        if place is None or not place.is_dir():
            return holes
        hole = named.get(picture.name) or named.get(picture.path.stem)
        if hole is None:
            raise DataError(f"{picture.path} has no hole: {place} holds no file named {picture.name}.png or alike.")
        return hole

    def beside(picture: Input) -> Mapping[str, str | int]:
        try:
            hole = hole_of(picture)
        except DataError:
            return {}
        entry = Input(Path(hole), "").entry() if isinstance(hole, str | Path) else {"source": str(hole)}
        return {f"hole {key}": value for key, value in entry.items()}

    def read(picture: Input) -> tuple[Any, Hole]:
        hole = hole_of(picture)
        return _reader(studio)(picture), hole

    return Work(
        "inpaint", studio.settings(), read, lambda pair: encode_picture(studio.inpaint(*pair)),
        suffix_of(studio.channels), beside=beside,
    )  # fmt: skip


def compressing(
    studio: Studio, quality: int | None = None, measured: Callable[[int, int], None] = lambda count, pixels: None
) -> Work[Any]:
    """`measured` gets the bytes and the pixels of each picture when it is packed."""
    studio.compress(_blank(studio), quality)  # raises before anything is written

    def answer(image: np.ndarray) -> bytes:
        data = studio.compress(image, quality)
        measured(len(data), image.shape[0] * image.shape[1])
        return data

    return Work("compress", {**studio.settings(), "quality": quality}, _reader(studio), answer, SUFFIX)


def decompressing(studio: Studio) -> Work[Any]:
    _require(studio, "compress")
    return Work(
        "decompress", studio.settings(), lambda each: _bytes(each.path),
        lambda data: encode_picture(studio.decompress(data)), suffix_of(studio.channels), frozenset({SUFFIX}),
    )  # fmt: skip


def suffix_of(channels: int) -> str:
    """Of a picture's file: PNG where it can hold the channels (its fourth would be taken for alpha)."""
    return ".png" if channels in (1, 3) else ".tif"


def encode_picture(picture: np.ndarray) -> bytes:
    """The file of a picture (H, W, C) uint8, uint16 or float32 in [0, 1]: PNG for 1 or 3 channels, else TIFF; numbers
    in [0, 1] are written as 16 bits."""
    values = to_uint16(picture) if picture.dtype == np.float32 else picture
    if suffix_of(picture.shape[2]) == ".png":
        return encode_png(values)
    import tifffile  # 0.1 s that only those pay who write one

    buffer = BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", planarconfig="contig", compression="zlib", metadata=None)
    return buffer.getvalue()


def _pictures(studio: Studio, verb: str, answer: Callable[[np.ndarray], np.ndarray]) -> Work[Any]:
    _require(studio, verb)
    return Work(
        verb, studio.settings(), _reader(studio), lambda image: encode_picture(answer(image)),
        suffix_of(studio.channels),
    )  # fmt: skip


def _require(studio: Studio, verb: str) -> None:
    """Raises UsageError, in the model's own words, before files are looked at, where the model can't do it."""
    if verb in studio.abilities:
        return
    blank = _blank(studio)
    if verb == "inpaint":
        studio.inpaint(blank, (0, 0, 1, 1))
    else:
        getattr(studio, verb)(blank)


def _blank(studio: Studio) -> np.ndarray:
    return np.zeros((*studio.size, studio.channels), np.uint8)


def _reader(studio: Studio) -> Callable[[Input], np.ndarray]:
    return lambda each: studio.read(each.path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {(error.strerror or str(error)).lower()}.") from error


def _answered(work: Work[Read], waiting: Iterable[tuple[Path, Input]]) -> Iterator[Failure | None]:
    """For each file None once its answer is written, or its failure; the next is read and the last is written while
    one is computed."""

    def read(item: tuple[Path, Input]) -> tuple[Path, Path, Read | Failure]:
        file, picture = item
        return file, picture.path, attempt(picture.path, lambda: work.read(picture))

    def answer(content: Read) -> bytes:
        try:
            return work.answer(content)
        except UsageError as error:  # that the model can do it was seen before: it is this file
            raise DataError(str(error)) from error

    def compute(items: Iterable[tuple[Path, Path, Read | Failure]]) -> Iterator[tuple[Path, bytes | Failure]]:
        for file, path, content in items:
            yield file, content if isinstance(content, Failure) else attempt(path, partial(answer, content))

    def write(item: tuple[Path, bytes | Failure]) -> Failure | None:
        file, answer = item
        if isinstance(answer, Failure):
            return answer
        make_folder(file.parent)
        write_atomically(file, answer)
        return None

    return ahead(write, compute(ahead(read, waiting)))


def _answer_files(out: Path, suffix: str, name: str) -> list[Path]:
    return [out / f"{name}{suffix}"]
