"""Files in, objects out: a folder of label images and tables that can be stopped at any moment and gone on with.

    OUT/prediction.json           the model's fingerprint, the settings, and which answer is of which picture
    OUT/labels/NAME.png           0 = background, 1..N = objects, 16 bits; NAME.tif of 32 bits above 65534 objects
    OUT/measurements/NAME.csv     a line an object: its number (id), class, score, and what was measured
    OUT/overlays/NAME.png         on request: the picture with each object outlined
    OUT/coco/NAME.json            on request: the picture's objects as COCO JSON, whole where they overlap

and of all pictures of the folder together, also of those done by earlier calls:

    OUT/objects.csv               the lines of all measurements, with the picture's NAME first
    OUT/objects.parquet           the same, where pyarrow is installed
    OUT/pictures.csv              a line a picture: how many objects of each class, 0 where there are none
    OUT/objects.json              on request: COCO JSON of all that it was asked for, each object with its score

Of pictures of more than 64 million pixels the label images, always of 32 bits, and the overlays are tiled BigTIFF files
with smaller copies of themselves (`huge_objects.py`), and the measurements are those that sums tell.

NAME is given as by `predict_files`. Each file is written whole or not at all, a picture's label image last: a picture
whose files are all there is done. The files of all pictures are made of those of each when all else is done; they are
gone from the first new picture on, so that they are never older than what they speak of.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from ..data.object_files import CocoFile
from ..data.read import read_header
from ..data.windows import Windows
from ..drawing import encode_png, write_label_image
from ..errors import DataError
from ..files import make_folder, remove_file, write_atomically
from ..metrics.object_measurements import Table, object_table, parquet_is_installed, write_table
from ..records import Classes, Image, ObjectPrediction
from .folder import LABELS, OVERLAYS, PredictionSummary, summed_up, worked_off
from .huge import HUGE_PIXELS, UNFINISHED, forget, state_of
from .huge_objects import MEASUREMENTS, ObjectAnswerer, answer_huge_objects
from .inputs import find_inputs, give_names
from .record import Record, writing

COCO = "coco"
ALL_OBJECTS, ALL_PICTURES, ALL_PARQUET, ALL_COCO = "objects.csv", "pictures.csv", "objects.parquet", "objects.json"


class ObjectFinder(ObjectAnswerer, Protocol):
    """Who can be asked for a folder of pictures: an `ObjectPredictor`, or a file (`ExportedObjectPredictor`)."""

    @property
    def limit(self) -> int: ...
    def settings(self) -> dict[str, Any]: ...
    def read(self, picture: Path, /) -> Image: ...
    def windows(self, path: Path, scratch: Path | None = None, /) -> Windows | None: ...
    def predicted(self, name: str, image: Image, /) -> ObjectPrediction: ...


@dataclass(frozen=True)
class ObjectSummary(PredictionSummary):
    """What came of a folder of pictures with objects."""

    objects: int  # in all pictures whose answers stand in the folder


@dataclass(frozen=True)
class WantedObjects:
    """Which files are written for each picture."""

    out: Path
    classes: Classes
    overlay: bool
    measured: bool  # False: the tables hold number, class and score only
    coco: bool
    huge: int = HUGE_PIXELS  # more pixels than that: windows in, tiled TIFF out

    def file(self, folder: str, name: str, suffix: str) -> Path:
        return self.out / folder / f"{name}{suffix}"

    def labels(self, name: str) -> Path:
        """The label image that is there, else the one that is to be expected."""
        return self._there(LABELS, name)

    def of_huge(self, name: str) -> dict[str, Path]:
        """What `answer_huge_objects` is to write for a picture."""
        tiled = [LABELS, *[OVERLAYS] * self.overlay]
        return {each: self.file(each, name, ".tif") for each in tiled} | {
            MEASUREMENTS: self.file(MEASUREMENTS, name, ".csv")
        }

    def files(self, name: str) -> list[Path]:
        """The files of a picture that is done."""
        asked = [self._there(OVERLAYS, name)] * self.overlay + [self.file(COCO, name, ".json")] * self.coco
        return [*asked, self.file(MEASUREMENTS, name, ".csv"), self.labels(name)]

    def remove(self, name: str) -> None:
        """The label image goes first: what is left of a picture without one is not taken for done."""
        pictures = [(folder, suffix) for folder in (LABELS, OVERLAYS) for suffix in (".png", ".tif")]
        for folder, suffix in (*pictures, (MEASUREMENTS, ".csv"), (COCO, ".json")):
            remove_file(self.file(folder, name, suffix))
        forget(state_of(self.out, name))

    def together(self) -> list[Path]:
        """The files of all pictures together."""
        names = [ALL_OBJECTS, ALL_PICTURES, *[ALL_PARQUET] * parquet_is_installed(), *[ALL_COCO] * self.coco]
        return [self.out / name for name in names]

    def _there(self, folder: str, name: str) -> Path:
        tiled = self.file(folder, name, ".tif")
        return tiled if tiled.is_file() else self.file(folder, name, ".png")


def predict_objects(
    predictor: ObjectFinder,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    overlay: bool = False,
    table: bool = True,
    coco: bool = False,
    overwrite: bool = False,
    huge: int = HUGE_PIXELS,
    progress: Callable[[int, int, str], None] | None = None,
) -> ObjectSummary:
    """Find the objects of files, folders (with those below) and patterns such as `scans/**/*.tif`, and write them.

    overlay, coco: those files as well. table: measure each object, which takes about a millisecond each; False: the
    tables hold its number, class and score only. huge: pixels beyond which a picture is read in windows
    (`huge_objects.py`); with coco it is read whole all the same. The rest, and what is raised, is as with
    `predict_files`.
    """
    began = time.monotonic()
    out = Path(out)
    found = find_inputs(inputs, out)
    wanted = WantedObjects(out, predictor.classes, overlay, table, coco, huge)
    with writing(out):
        record = Record(out / "prediction.json", overwrite)
        names = give_names(found, record.sources())
        entries = {name: each.entry() for name, each in names.items()}
        settings = predictor.settings() | {"objects": True, "measured": table}
        waiting = record.begin(settings, entries, wanted.files, wanted.remove)
        if (out / UNFINISHED).is_dir():
            for name in record.pictures:  # of a killed process
                forget(state_of(out, name))
        if waiting:
            for stale in (ALL_OBJECTS, ALL_PICTURES, ALL_PARQUET, ALL_COCO):
                remove_file(out / stale)
        results = worked_off(
            {name: names[name].path for name in waiting},
            partial(_read, predictor, wanted),
            partial(_answer, predictor, wanted),
            partial(_write, wanted, record.sources()),
        )
        summary = summed_up(results, began, len(found) - len(waiting), len(found), progress)
        if not all(file.is_file() for file in wanted.together()):
            _write_together(wanted, record.sources())
        objects = sum(int(row["objects"]) for row in _rows(out / ALL_PICTURES))
    return ObjectSummary(**{**asdict(summary), "failed": summary.failed}, objects=objects)


def _read(predictor: ObjectFinder, wanted: WantedObjects, path: Path) -> Image | Windows:
    """The picture; a huge one to be read in windows, where its file can be."""
    header = None if wanted.coco else read_header(path, predictor.limit)
    huge = header is not None and header.height * header.width > wanted.huge
    windows = predictor.windows(path, wanted.out) if huge else None
    return predictor.read(path) if windows is None else windows


def _answer(
    predictor: ObjectFinder, wanted: WantedObjects, name: str, image: Image | Windows
) -> ObjectPrediction | None:
    """None of a huge picture, whose answer is then written."""
    if not isinstance(image, Windows):
        return predictor.predicted(name, image)
    with image:
        files, state = wanted.of_huge(name), state_of(wanted.out, name)
        answer_huge_objects(predictor, image, files, state, measured=wanted.measured)
    return None


def _write(wanted: WantedObjects, sources: Mapping[str, str], name: str, found: ObjectPrediction | None) -> None:
    for folder in (LABELS, OVERLAYS):  # the answer of an earlier call with another idea of huge
        remove_file(wanted.file(folder, name, ".png" if found is None else ".tif"))
    if found is None:
        return
    label = wanted.file(LABELS, name, ".tif" if len(found) > 65534 else ".png")
    for file in (*wanted.files(name), label):
        make_folder(file.parent)
    if wanted.overlay:
        write_atomically(wanted.file(OVERLAYS, name, ".png"), encode_png(found.overlay()))
    if wanted.coco:
        named = [(_file_name(name, sources[name]), found.instances)]
        CocoFile(found.classes).write(wanted.file(COCO, name, ".json"), named)
    write_table(wanted.file(MEASUREMENTS, name, ".csv"), table_of_objects(found, wanted.measured))
    for suffix in {".png", ".tif"} - {label.suffix}:
        remove_file(wanted.file(LABELS, name, suffix))
    write_label_image(label, found.instances.label_image)


def table_of_objects(found: ObjectPrediction, measured: bool) -> Table:
    """A row an object: `id`, `class`, `score` where there is one, and what was measured."""
    if measured:
        table = object_table(found.image, found.instances, found.classes)
        return {"id": table.pop("object"), **table}
    classes = [found.classes.names[number] for number in found.instances.classes]
    rows: dict[str, Any] = {"id": range(1, len(found) + 1), "class": classes}
    if found.instances.scores is not None:
        rows["score"] = found.instances.scores
    return {key: np.asarray(column) for key, column in rows.items()}


def _write_together(wanted: WantedObjects, sources: Mapping[str, str]) -> None:
    """The files of all pictures whose answers stand there; `objects.csv` and what is made of it come last."""
    placed = {name: wanted.file(MEASUREMENTS, name, ".csv") for name in sorted(sources)}
    tables = {name: table for name, table in placed.items() if table.is_file() and wanted.labels(name).is_file()}
    if wanted.coco:
        pictures = {name: path for name in tables if (path := wanted.file(COCO, name, ".json")).is_file()}
        write_atomically(wanted.out / ALL_COCO, partial(_join_coco, pictures, wanted.classes))
    counts = {name: Counter(row["class"] for row in _rows(table)) for name, table in tables.items()}
    kinds = wanted.classes.names[1:]
    header = ["name", "objects", *(kind if kind not in ("name", "objects") else f"class {kind}" for kind in kinds)]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([name, each.total(), *(each[kind] for kind in kinds)] for name, each in counts.items())
    write_atomically(wanted.out / ALL_PICTURES, lines.getvalue().encode("utf-8", "surrogateescape"))
    write_atomically(wanted.out / ALL_OBJECTS, partial(_join_tables, tables))
    if parquet_is_installed():
        write_atomically(wanted.out / ALL_PARQUET, partial(_as_parquet, wanted.out / ALL_OBJECTS))


def _join_tables(tables: Mapping[str, Path], file: BinaryIO) -> None:
    """All lines with the picture's name first; a column that a picture does not have is empty there: grey pictures
    have fewer channels than others."""
    columns = list(dict.fromkeys(column for table in tables.values() for column in _header(table))) or ["id", "class"]
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
    writer = csv.DictWriter(text, ["name", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    for name, table in tables.items():
        writer.writerows({"name": name, **row} for row in _rows(table))
    text.detach()


def _join_coco(pictures: Mapping[str, Path], classes: Classes, file: BinaryIO) -> None:
    """The JSON of all pictures, one of them in memory at a time; pictures and objects are numbered from 1."""
    images: list[dict[str, Any]] = []
    number = 0
    file.write(b'{"annotations": [')
    for image, path in enumerate(pictures.values(), start=1):
        one = json.loads(path.read_text(encoding="utf-8"))
        images.append({**one["images"][0], "id": image})
        for each in one["annotations"]:
            number += 1
            line = json.dumps({**each, "id": number, "image_id": image}, ensure_ascii=False, separators=(",", ":"))
            file.write((",\n" if number > 1 else "\n").encode() + line.encode("utf-8", "replace"))
    categories = [{"id": each, "name": name} for each, name in enumerate(classes.names[1:], start=1)]
    rest = json.dumps({"images": images, "categories": categories}, ensure_ascii=False)
    file.write(b"\n],\n" + rest[1:].encode("utf-8", "replace") + b"\n")


def _as_parquet(table: Path, file: BinaryIO) -> None:
    from pyarrow import BufferReader, parquet, string
    from pyarrow import csv as arrow

    text = table.read_text(encoding="utf-8", errors="replace")
    options = arrow.ConvertOptions(column_types={"name": string(), "class": string()})
    parquet.write_table(arrow.read_csv(BufferReader(text.encode("utf-8", "replace")), convert_options=options), file)


def _header(table: Path) -> list[str]:
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file), [])


def _rows(table: Path) -> Iterator[dict[str, str]]:
    """The lines of a table. Raises DataError where somebody else's hand was in it."""
    try:
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield from csv.DictReader(file, strict=True)
    except (OSError, csv.Error) as error:
        raise DataError(f"{table} can't be read as a table: {error}; delete it, and give the same command.") from error


def _file_name(name: str, source: str) -> str:
    """The picture's file below the folder that was given, with its suffix."""
    return "/".join(Path(source).parts[-len(Path(name).parts) :])
