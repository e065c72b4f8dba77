"""Pictures in, label images out, for `intarsia classical`; stopped at any moment and gone on with.

    OUT/classical.json            the method, its settings, and which answer is of which picture
    OUT/labels/NAME.png           a number a pixel: 8 or 16 bits; above 65535 labels NAME.tif, 32 bits
    OUT/overlays/NAME.png         on request: the picture with the borders drawn

and as a folder of data:

    OUT/images/NAME.*             copies of the pictures
    OUT/masks/NAME.png            class numbers with a palette, 255 where nobody knows
    OUT/classes.toml              what they mean

NAME is given as `predict` gives it (see `inference/folder.py`), in a folder of data with _ for /. Each file is written
whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..classical import METHODS, ClassicalConfig, Method
from ..data.classes import ClassTable, pack, read_class_table, unpack, write_class_table
from ..data.folder import CLASSES_FILE
from ..data.read import read_image
from ..drawing import encode_mask, encode_png, to_rgb8
from ..errors import DataError, UsageError
from ..files import make_folder, remove_file, write_atomically
from ..inference.folder import PredictionSummary
from ..inference.inputs import Input, find_inputs, give_names
from ..inference.predictor import Failure, attempt
from ..inference.record import Entry, Record, writing
from ..records import Classes, Image
from .scribbles import MOST_COLOURS, Legend, hex_of, read_seeds

BORDER = (255, 220, 0)  # yellow: rare in what microscopes, cars and satellites see


@dataclass(frozen=True)
class Labelling:
    """What is done with each picture, and which files are written."""

    name: str  # of the method
    config: ClassicalConfig
    out: Path
    seeds: Path | None  # a file for all pictures, or a folder of files
    overlay: bool
    folder: bool  # a folder of data instead of label images
    classes: Path | None  # a class table
    limit: int  # pixels beyond which a file is refused

    @property
    def method(self) -> Method:
        return METHODS[self.name]

    @property
    def first(self) -> int:
        """The label of class 0: seeds have 0 for what nobody knows."""
        return 1 if self.method.labels == "regions" else 0

    @cached_property
    def table(self) -> ClassTable | None:
        """The user's own classes."""
        if self.classes is None:
            return None
        table = read_class_table(self.classes)
        if table.classes.overlapping:
            raise UsageError(
                f"{self.classes} lists classes that overlap, but here a pixel has one label; give another."
            )
        return table

    @cached_property
    def seed_files(self) -> dict[str, Path]:
        """The seeds of a folder by name."""
        if self.seeds is None or not self.seeds.is_dir():
            return {}
        return {each.name: each.path for each in find_inputs([self.seeds], self.out)}

    def seeds_of(self, picture: Input) -> Path | None:
        if self.seeds is None or not self.seeds.is_dir():
            return self.seeds
        found = self.seed_files.get(picture.name) or self.seed_files.get(picture.path.stem)
        if found is None and self.method.needs_seeds:
            raise DataError(
                f"{picture.path} has no seeds: {self.seeds} holds no file named {picture.name}.png or alike."
            )
        return found


def label_files(
    labelling: Labelling,
    inputs: Sequence[str | Path],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[PredictionSummary, list[str]]:
    """What came of files, folders (with those below) and patterns, and what each label means, a phrase each.

    The same call again does what is missing, and what has changed since. A picture that can't be read or divided is
    listed, and the rest go on. Raises DataError where there are no pictures, UsageError for answers by other settings
    and for files that are not from here (unless `overwrite`), DiskError where `out` can't be written or is in use.
    """
    began = time.monotonic()
    seeds = None if labelling.seeds is None else np.ones((1, 1), int)
    labelling.method(np.zeros((1, 1), np.uint8), seeds, labelling.config)  # raises before anything is written
    found = _pictures(labelling, inputs)
    legend = _legend(labelling, found)
    classes = _classes(labelling, legend)
    failed: list[tuple[Path, str]] = []
    with writing(labelling.out):
        record = Record(labelling.out / "classical.json", overwrite)
        names = _named(labelling, found, record)
        table = labelling.out / CLASSES_FILE
        if labelling.folder and table.exists() and not overwrite:
            classes = _edited_classes(table, classes, labelling.classes is not None)
        files = _Files(labelling, {name: each.path.suffix for name, each in names.items()}, record)
        entries = {name: _entry(labelling, each) for name, each in names.items()}
        waiting = record.begin(_settings(labelling, legend), entries, files.wanted, files.remove)
        if labelling.folder and (overwrite or not table.exists()):
            write_class_table(table, _table(classes))
        skipped = len(found) - len(waiting)
        for count, name in enumerate(waiting, start=1):
            picture = names[name]
            answer = attempt(picture.path, partial(_divided, labelling, legend, picture))
            if isinstance(answer, Failure):
                failed.append((answer.path, str(answer.error)))
            else:
                image, labels = answer
                files.write(name, picture, image, labels, classes)
            if progress is not None:
                progress(skipped + count, len(found))
    done = len(waiting) - len(failed)
    summary = PredictionSummary(done, skipped, tuple(failed), time.monotonic() - began)
    return summary, [f"{number} = {hex_of(code)}" for number, code in enumerate(legend.colours, start=1)]


class _Files:
    """The files of a picture by its name: those to write, and those that an earlier call wrote."""

    def __init__(self, labelling: Labelling, suffixes: dict[str, str], record: Record) -> None:
        self.labelling, self.out, self.suffixes = labelling, labelling.out, suffixes
        self.old_suffixes = {name: Path(source).suffix for name, source in record.sources().items()}
        self.was_folder = bool((record.settings or {}).get("folder", labelling.folder))

    def wanted(self, name: str) -> list[Path]:
        """Those of a picture that is done."""
        overlays = [self.overlay(name)] if self.labelling.overlay else []
        if self.labelling.folder:
            return [self.image(name, self.suffixes[name]), self.mask(name), *overlays]
        deep = self.labels(name, ".tif")
        return [deep if deep.exists() else self.labels(name, ".png"), *overlays]

    def remove(self, name: str) -> None:
        """What an earlier call made of it, the answer first; what the user keeps beside it is left alone."""
        answers = [self.labels(name, ".png"), self.labels(name, ".tif")]
        if self.was_folder:
            answers = [self.mask(name)]
            answers += [self.image(name, known[name]) for known in (self.old_suffixes, self.suffixes) if name in known]
        for file in (*answers, self.overlay(name)):
            remove_file(file)

    def write(self, name: str, picture: Input, image: Image, labels: np.ndarray, classes: Classes) -> None:
        """The answer last: what is left of a picture without one is not taken for done."""
        contents: dict[Path, bytes] = {}
        if self.labelling.overlay:
            contents[self.overlay(name)] = encode_png(outlined(image, labels))
        if self.labelling.folder:
            contents[self.image(name, picture.path.suffix)] = picture.path.read_bytes()
            contents[self.mask(name)] = encode_mask(labels - self.labelling.first, classes)
        else:
            suffix, content = encode_labels(labels)
            contents[self.labels(name, suffix)] = content
        for file, content in contents.items():
            make_folder(file.parent)
            write_atomically(file, content)

    def image(self, name: str, suffix: str) -> Path:
        return self.out / "images" / f"{name}{suffix}"

    def mask(self, name: str) -> Path:
        return self.out / "masks" / f"{name}.png"

    def labels(self, name: str, suffix: str) -> Path:
        return self.out / "labels" / f"{name}{suffix}"

    def overlay(self, name: str) -> Path:
        return self.out / "overlays" / f"{name}.png"


def outlined(image: Image, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture with the inner border of each region drawn in yellow."""
    from skimage.segmentation import find_boundaries

    drawn = to_rgb8(image).copy()
    drawn[find_boundaries(labels, mode="inner")] = BORDER
    return drawn


def encode_labels(labels: np.ndarray) -> tuple[str, bytes]:
    """The suffix and the bytes of a label image's file: PNG of 8 or 16 bits; TIFF of 32 bits above 65535 labels."""
    if labels.max() <= 65535:
        return ".png", encode_png(labels.astype(np.uint8 if labels.max() <= 255 else np.uint16))
    import tifffile  # 0.1 s that only those pay who write one

    buffer = BytesIO()
    tifffile.imwrite(buffer, labels.astype(np.uint32), photometric="minisblack", compression="zlib", metadata=None)
    return ".tif", buffer.getvalue()


def _pictures(labelling: Labelling, inputs: Sequence[str | Path]) -> list[Input]:
    """The pictures without the seeds, which may lie in a folder below them."""
    seeds = {file.resolve() for file in labelling.seed_files.values()}
    if labelling.seeds is not None and labelling.seeds.is_file():
        seeds = {labelling.seeds.resolve()}
    found = [each for each in find_inputs(inputs, labelling.out) if each.path.resolve() not in seeds]
    if not found:
        raise DataError(f"all that was found are seeds; name the pictures that {labelling.seeds} belongs to.")
    return found


def _named(labelling: Labelling, pictures: Sequence[Input], record: Record) -> dict[str, Input]:
    """The pictures by the names of their answers. In a folder of data these have no folders: one called images/ or gt/
    below masks/ would be taken for what it says."""
    if not labelling.folder:
        return give_names(pictures, record.sources())
    by_path = {each.path: each for each in pictures}
    flat = give_names([Input(each.path, each.name.replace("/", "_")) for each in pictures], record.sources())
    return {name: by_path[each.path] for name, each in flat.items()}


def _legend(labelling: Labelling, pictures: Sequence[Input]) -> Legend:
    """The labels by the user's classes; without these, all that the seeds hold."""
    if labelling.table is not None:
        classes = labelling.table.classes
        listed = np.array(classes.colours, np.uint8)
        return Legend(tuple(int(code) + 1 for code in pack(listed)) if labelling.seeds else (), len(classes))
    colours: set[int] = set()
    most = 0
    for path in dict.fromkeys(_known_seeds(labelling, pictures)):
        read = attempt(path, partial(read_seeds, path, labelling.limit))
        if isinstance(read, Failure):
            continue  # told when its picture's turn comes
        if read.coloured:
            colours |= set(np.unique(read.codes).tolist()) - {0}
        else:
            most = max(most, int(read.codes.max()))
    if colours and most:
        raise DataError(f"{labelling.seeds} holds scribbles in colours and label images; give one kind of seeds.")
    if len(colours) > MOST_COLOURS:
        raise DataError(
            f"{labelling.seeds} holds scribbles of {len(colours):,} colours in all; use the same few in every picture."
        )
    return Legend(tuple(sorted(colours)), max(len(colours), most))


def _known_seeds(labelling: Labelling, pictures: Sequence[Input]) -> Iterator[Path]:
    for each in pictures:
        path = attempt(each.path, partial(labelling.seeds_of, each))
        if isinstance(path, Path):
            yield path


def _classes(labelling: Labelling, legend: Legend) -> Classes:
    """The classes of a folder of data, by the names there are."""
    if not labelling.folder:
        return Classes((), ())
    count = legend.most if labelling.seeds is not None and labelling.first == 1 else _count(labelling.config)
    if labelling.table is not None:
        if labelling.first == 0 and len(labelling.table.classes) != count:
            raise UsageError(
                f"{labelling.classes} lists {len(labelling.table.classes)} classes, but {labelling.name} with these "
                f"settings gives {count}; change the one or the other."
            )
        return labelling.table.classes
    if not 1 <= count <= 1000:
        raise DataError(f"{count} labels can't be classes of a folder of data; number the seeds 1, 2, … up to 1000.")
    if legend.colours:
        return Classes(tuple(map(hex_of, legend.colours)), tuple(unpack(code - 1) for code in legend.colours))
    if labelling.first == 0 and count == 2:
        return Classes.named(("background", "object"))
    return Classes.named(tuple(f"class_{number}" for number in range(labelling.first, labelling.first + count)))


def _count(config: ClassicalConfig) -> int:
    """How many classes a method gives."""
    settings = config.model_dump()
    return int(settings.get("classes", settings.get("clusters", 2)))


def _table(classes: Classes) -> ClassTable:
    """What the masks of a folder of data hold."""
    return ClassTable(classes, tuple(range(len(classes))), (255,) if len(classes) <= 255 else (65535,))


def _edited_classes(path: Path, classes: Classes, given: bool) -> Classes:
    """The classes of the folder's own table, which the user may have renamed. UsageError where it means other masks."""
    found, ours = read_class_table(path), _table(classes)
    alike = found.coding == ours.coding and found.numbers() == ours.numbers() and found.ignore == ours.ignore
    if not alike or (given and found.classes != classes):
        raise UsageError(
            f"{path} stands there already and means other masks than these; choose another folder, or overwrite it."
        )
    return found.classes


def _settings(labelling: Labelling, legend: Legend) -> dict[str, Any]:
    """All that the answers depend on beside the files."""
    return {
        "method": labelling.name,
        "settings": labelling.config.model_dump(mode="json"),
        "colours": [hex_of(code) for code in legend.colours],
        "folder": labelling.folder,
    }


def _entry(labelling: Labelling, picture: Input) -> Entry:
    try:
        seeds = labelling.seeds_of(picture)
    except DataError:
        seeds = None
    beside = {} if seeds is None else Input(seeds, "").entry()
    return {**picture.entry(), **{f"seeds {key}": value for key, value in beside.items()}}


def _divided(labelling: Labelling, legend: Legend, picture: Input) -> tuple[Image, np.ndarray]:
    """The picture and its labels (H, W) int32. Raises DataError, which names the file that is to blame."""
    path = labelling.seeds_of(picture)
    image = read_image(picture.path, labelling.limit)
    seeds = None if path is None else legend.labels(read_seeds(path, labelling.limit), path)
    try:
        labels = labelling.method(image, seeds, labelling.config)
    except DataError as error:
        where = "" if path is None else f" with the seeds {path}"
        raise DataError(f"{picture.path}{where}: {error}") from error
    return image, labels
