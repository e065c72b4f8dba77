"""A folder of pictures and their objects -> the same in another format, as a folder that `open_folder` reads again.

    OUT/conversion.json              from which folder, how, and which picture became which
    OUT/images/NAME.*                the pictures, as they were: copies, or links
    OUT/classes.toml, train.txt, ... classes with their colours, and the lists of pictures

    labels      OUT/masks/NAME.png   a label image of 16 bits; .tif of 32 bits beyond 65534 objects
    coco        OUT/annotations.json run lengths, or polygons
    yolo        OUT/labels/NAME.txt  and OUT/data.yaml
    binaries    OUT/NAME/masks/*.png one an object, OUT/NAME/images/NAME.* beside them
    arrays      OUT/masks/NAME.npz   (N, H, W)

Where there are several classes, labels, binaries and arrays come with OUT/objects.csv: name,id,class. Each file is
written whole or not at all, and a picture after its labels: a picture that is there is done. Where a file speaks of all
pictures (annotations.json, objects.csv), they are all read again when one is missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np

from ..data.classes import NO_SHAPE, ClassTable, write_class_table
from ..data.entry import Entry
from ..data.folder import CLASSES_FILE, Folder, open_folder
from ..data.object_classes import OBJECTS_FILE
from ..data.object_files import CocoFile, write_arrays, write_binaries, write_yolo
from ..data.read import read_image
from ..drawing import write_label_image
from ..errors import DataError, DiskError, UsageError
from ..files import make_folder, remove_file, write_atomically
from ..records import IGNORE, Instances
from .record import Record, writing
from .working import Failure, attempt

Format = Literal["labels", "coco", "yolo", "binaries", "arrays"]
COCO_FILE, YOLO_FILE = "annotations.json", "data.yaml"
LISTS = ("train", "val", "test")
WHOLE_FOLDER = (CLASSES_FILE, OBJECTS_FILE, COCO_FILE, YOLO_FILE, *(f"{each}.txt" for each in LISTS))
MOST_NAMED = 5  # pictures that a note names


@dataclass(frozen=True)
class Conversion:
    """What came of a folder."""

    out: Path
    done: int  # pictures written now
    skipped: int  # pictures that stood there already
    objects: int  # that were written now
    failed: tuple[tuple[Path, str], ...]  # pictures that could not be read or written, and why
    notes: tuple[str, ...]  # what was left out or could not be said, a sentence each
    seconds: float


@dataclass
class _Lost:
    """What a format can't say, by picture."""

    hidden: list[str] = field(default_factory=list)  # "NAME: object 3, object 7"
    unknown: list[str] = field(default_factory=list)  # names of pictures
    count: int = 0  # hidden objects


def convert_folder(
    folder: str | Path,
    to: Format,
    out: str | Path,
    *,
    polygons: bool = False,
    tolerance: float = 0.0,
    link: bool = False,
    classes: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write the pictures and objects of a folder, in any layout that `open_folder(..., objects=True)` reads, to `out`.

    polygons: COCO's outlines of objects without holes, instead of run lengths. tolerance: pixels by which polygons
    (COCO's and YOLO's) may leave the pixels' edges; 0: drawing them gives the objects back exactly. link: symbolic
    links to the pictures instead of copies. The same call again does what is missing, and what has changed since.

    A picture that can't be read is listed, and the rest go on; shapes that can't be read, and what the format can't
    say, are in the notes. Raises UsageError for settings that do not go together, for another conversion in `out` and
    for files there that are not from here (unless `overwrite`), DataError for a folder without objects, DiskError where
    `out` can't be written or is in use.
    """
    began = time.monotonic()
    if to not in get_args(Format):
        raise UsageError(f"{to!r} is no format; there are {', '.join(get_args(Format))}.")
    if polygons and to != "coco":
        raise UsageError(f"polygons are a choice of coco; {to} has one way to be written.")
    if not 0 <= tolerance < 100 or (tolerance and to != "yolo" and not polygons):
        raise UsageError(
            f"a tolerance of {tolerance:g} pixels was given; it is 0 or more, and for yolo or the polygons of coco."
        )
    folder, out = Path(folder), Path(out)
    opened = open_folder(folder, classes, write_classes=False, objects=True)
    here, there = folder.resolve(), out.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise UsageError(f"{out} and {folder} lie in one another, and each would be taken for a part of the other.")
    if not any(map(opened.labelled, opened.entries)):
        raise DataError(f"{folder} has pictures but no objects ({opened.layout}); there is nothing to convert.")
    target = _Target(opened, to, out, polygons, tolerance, link)
    with writing(out):
        waiting = target.begin(overwrite)
        before = len(opened.entries) - len(waiting)
        target.work(waiting, lambda done: progress and progress(before + done, len(opened.entries)))
        target.write_lists()
    done = len(waiting) - len(target.failed)
    seconds = time.monotonic() - began
    skipped = len(opened.entries) - len(waiting)
    return Conversion(out, done, skipped, target.objects, tuple(target.failed), target.notes(), seconds)


@dataclass
class _Target:
    """The folder that is written."""

    folder: Folder
    to: Format
    out: Path
    polygons: bool
    tolerance: float
    link: bool
    objects: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    lost: _Lost = field(default_factory=_Lost)
    rows: list[tuple[str, str, str]] = field(default_factory=list)  # of objects.csv

    @cached_property
    def places(self) -> dict[str, str]:
        """The path of each picture below `out`, by name, without suffix."""
        if self.to != "binaries":
            return {each.name: f"images/{each.name}" for each in self.folder.entries}
        flat: dict[str, str] = {}  # in that layout a picture's name is a folder's
        for each in self.folder.entries:
            name, number = each.name.replace("/", "_"), 1
            while name in flat:
                number += 1
                name = f"{each.name.replace('/', '_')}_{number}"
            flat[name] = each.name
        return {name: f"{folder}/images/{folder}" for folder, name in flat.items()}

    @cached_property
    def coco(self) -> CocoFile:
        return CocoFile(self.folder.classes, self.polygons, self.tolerance)

    @property
    def named(self) -> bool:
        """Whether objects.csv says the classes of objects."""
        return self.to in ("labels", "binaries", "arrays") and len(self.folder.classes) > 2

    @cached_property
    def nested(self) -> bool:
        """Whether a name alone may be the end of another one's path."""
        return any("/" in entry.name for entry in self.folder.entries)

    def picture(self, entry: Entry) -> Path:
        return self.out / f"{self.places[entry.name]}{entry.image.suffix.lower()}"

    def label(self, entry: Entry) -> Path | None:
        """The file or folder of one picture's labels; None where one file holds those of all."""
        suffix = {"labels": ".png", "yolo": ".txt", "arrays": ".npz"}.get(self.to)
        if suffix is not None:
            return self.out / ("labels" if self.to == "yolo" else "masks") / f"{entry.name}{suffix}"
        return self.picture(entry).parents[1] / "masks" if self.to == "binaries" else None

    def begin(self, overwrite: bool) -> list[Entry]:
        """The pictures to do, after conversion.json says what stands in the folder from now on."""
        record = Record(self.out / "conversion.json", overwrite)
        strange = [name for name in WHOLE_FOLDER if (self.out / name).exists()] if record.settings is None else []
        if strange and not overwrite:
            raise UsageError(
                f"{self.out / strange[0]} stands there already and is not from here; choose another folder, or "
                "overwrite it."
            )
        settings = {
            "folder": str(self.folder.root.resolve()), "to": self.to, "polygons": self.polygons,
            "tolerance": self.tolerance, "link": self.link, "classes": list(self.folder.classes.names),
        }  # fmt: skip
        for name in WHOLE_FOLDER if overwrite else ():  # before the record says that they are of this conversion
            remove_file(self.out / name)
        by_name = {each.name: each for each in self.folder.entries}
        before = record.pictures
        gone = [name for name in before if name not in by_name and self._stands(before[name])]
        waiting = record.begin(
            settings,
            {name: self._state(each) for name, each in by_name.items()},
            lambda name: self._files(by_name[name]),
            lambda name: self._remove(name, str(before.get(name, {}).get("file", ""))),
        )
        for name in gone:
            self._remove(name, str(before[name].get("file", "")))
        self._write_tables()
        whole = self.out / (COCO_FILE if self.to == "coco" else OBJECTS_FILE)
        if (self.to == "coco" or self.named) and (waiting or gone or not whole.exists()):
            return list(self.folder.entries)
        return [by_name[name] for name in waiting]

    def work(self, entries: list[Entry], step: Callable[[int], object]) -> None:
        """Write each picture, or list it among those that failed. step: takes how many are done."""
        if not entries:
            return
        if self.to == "coco":
            # The pictures first: the one file that holds all labels is the last to be there.
            self.coco.write(self.out / COCO_FILE, self._coco_pictures(entries, step))
            self.objects = self.coco.objects
            return
        for done, entry in enumerate(entries, start=1):
            failure = attempt(entry.image, partial(self._write, entry))
            if isinstance(failure, Failure):
                self.failed.append((failure.path, str(failure.error)))
            step(done)
        if self.named:
            lines = io.StringIO()
            csv.writer(lines, lineterminator="\n").writerows([("name", "id", "class"), *self.rows])
            write_atomically(self.out / OBJECTS_FILE, lines.getvalue().encode("utf-8", "surrogateescape"))

    def _coco_pictures(self, entries: list[Entry], step: Callable[[int], object]) -> Iterator[tuple[str, Instances]]:
        for done, entry in enumerate(entries, start=1):
            found = attempt(entry.image, partial(self._read, entry))
            if isinstance(found, Failure):
                self.failed.append((found.path, str(found.error)))
            else:
                self._copy(entry)
                if found is not None:
                    yield self.picture(entry).relative_to(self.out).as_posix(), found
            step(done)

    def _read(self, entry: Entry) -> Instances | None:
        """The objects of a picture; None where it is unlabelled."""
        if not self.folder.labelled(entry):
            return None
        found = self.folder.read_objects(entry, read_image(entry.image))
        if found.hidden:
            more = f" and {len(found.hidden) - MOST_NAMED} more" if len(found.hidden) > MOST_NAMED else ""
            self.lost.hidden.append(f"{entry.name}: {', '.join(found.hidden[:MOST_NAMED])}{more}")
            self.lost.count += len(found.hidden)
        if self.to in ("yolo", "binaries", "arrays") and (found.instances.label_image == IGNORE).any():
            self.lost.unknown.append(entry.name)
        return found.instances

    def _write(self, entry: Entry) -> None:
        """The labels of a picture, then the picture."""
        label, instances = self.label(entry), self._read(entry)
        if label is not None and instances is not None:
            make_folder(label.parent)
            names = [str(number) for number in range(1, len(instances) + 1)]
            if self.to == "labels":
                wide = int(instances.label_image.max(initial=0)) >= 65535
                write_label_image(label.with_suffix(".tif") if wide else label, instances.label_image)
            elif self.to == "yolo":
                write_yolo(label, instances, self.tolerance)
            elif self.to == "arrays":
                write_arrays(label, instances)
            else:
                names = [f"{number:0>4}" for number in names]  # so that files are sorted as objects are
                write_binaries(label, instances, names)
            if self.named:
                place = self.places[entry.name] if self.nested else entry.name
                kinds = [self.folder.classes.names[kind] for kind in instances.classes]
                self.rows += [(place, name, kind) for name, kind in zip(names, kinds, strict=True)]
            self.objects += len(instances)
        self._copy(entry)

    def _copy(self, entry: Entry) -> None:
        path = self.picture(entry)
        make_folder(path.parent)
        if not self.link:
            with entry.image.open("rb") as file:
                write_atomically(path, lambda written: shutil.copyfileobj(file, written))
            return
        remove_file(path)
        try:
            os.symlink(entry.image.resolve(), path)
        except OSError as error:
            raise DiskError(f"{path} can't be a link ({error.strerror}); copy the pictures instead.") from error

    def _files(self, entry: Entry) -> list[Path]:
        """What is there when the picture is done."""
        files = [self.picture(entry)]
        label = self.label(entry)
        if label is not None and label.suffix and self.folder.labelled(entry):
            wide = label.with_suffix(".tif")
            files.append(wide if self.to == "labels" and wide.is_file() else label)
        return files

    def _stands(self, entry: Mapping[str, str | int]) -> bool:
        """Whether a picture that was taken out of the folder is still here."""
        return os.path.lexists(self.out / str(entry.get("file", ".")))

    def _remove(self, name: str, file: str) -> None:
        """Of any format. First what speaks of all pictures, which is then written anew, and the picture before its
        labels: what is left is not taken for done."""
        for whole in (COCO_FILE, OBJECTS_FILE):
            remove_file(self.out / whole)
        place = PurePosixPath(file)
        if file and not place.is_absolute() and ".." not in place.parts:
            remove_file(self.out / place)
            if len(place.parts) == 3 and place.parts[:2] == (place.stem, "images"):  # binaries
                shutil.rmtree(self.out / place.stem / "masks", ignore_errors=True)
        for folder, suffixes in (("masks", (".png", ".tif", ".npz")), ("labels", (".txt",))):
            for suffix in suffixes:
                remove_file(self.out / folder / f"{name}{suffix}")

    def _state(self, entry: Entry) -> dict[str, str | int]:
        """What tells the picture and its labels from others in the same place."""
        digest = blake2b(digest_size=16)
        for path in (entry.image, *entry.mask_files):
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        if entry.annotation is not None:
            drawing = self.folder.drawings[entry.annotation]
            for shape in drawing.shapes:
                digest.update(f"{drawing.size} {shape.category} {shape.crowd}\n".encode())
                for points in (*shape.rings, *([] if shape.runs is None else [shape.runs])):
                    digest.update(np.ascontiguousarray(points).tobytes())
        digest.update(str(sorted(self.folder.named.get(entry.name, {}).items())).encode(errors="surrogateescape"))
        file = self.picture(entry).relative_to(self.out).as_posix()
        return {"source": str(entry.image.resolve()), "file": file, "digest": digest.hexdigest()}

    def _write_tables(self) -> None:
        """classes.toml and data.yaml, unless they are there: both may be edited."""
        classes, path = self.folder.classes, self.out / CLASSES_FILE
        if not path.exists():
            comment = f"Written by intarsia convert from {self.folder.root.name}."
            if self.to in ("coco", "yolo"):
                values = (NO_SHAPE, *range(self.to == "coco", len(classes) - (self.to == "yolo")))
                ignore = (len(classes),) if self.to == "coco" else ()
                write_class_table(path, ClassTable(classes, values, ignore, coding="shapes"), comment)
            else:
                write_class_table(path, ClassTable(classes, coding="objects"), comment)
        yaml = self.out / YOLO_FILE
        if self.to == "yolo" and not yaml.exists():
            listed = self.folder.lists
            parts = {name: f"{name}.txt" if listed.get(name) else "images" for name in ("train", "val")}
            parts |= {"test": "test.txt"} if listed.get("test") else {}
            lines = [f"{name}: {where}" for name, where in parts.items()]
            lines += ["names:", *(f"  {number}: {json.dumps(name)}" for number, name in enumerate(classes.names[1:]))]
            write_atomically(yaml, ("\n".join(lines) + "\n").encode())

    def write_lists(self) -> None:
        """train.txt and so on, a picture a line."""
        by_name = {entry.name: entry for entry in self.folder.entries}
        for name in LISTS:
            listed = [self.picture(by_name[each]).relative_to(self.out) for each in self.folder.lists.get(name, ())]
            text = "".join(f"./{each.as_posix()}\n" for each in listed)
            if text:
                write_atomically(self.out / f"{name}.txt", text.encode(errors="surrogateescape"))
            else:
                remove_file(self.out / f"{name}.txt")

    def notes(self) -> tuple[str, ...]:
        notes = list(self.folder.problems)
        if self.lost.count:
            pictures, more = _some(self.lost.hidden, "; ")
            notes.append(
                f"{self.lost.count} object(s) lie wholly under others or outside their picture and were left out: "
                f"{pictures}{more}."
            )
        if self.lost.unknown:
            pictures, more = _some(self.lost.unknown, ", ")
            notes.append(
                f"In {len(self.lost.unknown)} picture(s) pixels are marked as unknown ({pictures}{more}), which "
                f"{self.to} can't say: they are background there. Label images and COCO keep them."
            )
        if self.coco.holes:
            notes.append(f"{self.coco.holes} object(s) have holes, which no polygon can say, and stayed run lengths.")
        return tuple(notes)


def _some(words: list[str], between: str) -> tuple[str, str]:
    more = len(words) - MOST_NAMED
    return between.join(words[:MOST_NAMED]), f"{between}and {more} more" if more > 0 else ""
