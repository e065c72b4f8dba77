"""Folders of pictures and masks that nobody drew: made by a generator, or labelled by a segmenter.

    OUT/images/NAME.png             the picture
    OUT/masks/NAME.png              its mask; masks/CLASS/NAME.png where classes overlap
    OUT/classes.toml                what the masks mean: OUT is a folder as any other, and `fit` learns from it
    OUT/KIND.json                   by which models and settings, and what came of it
    OUT/KIND.jsonl                  a line for each picture that is done, in the order they were done

A picture is done once its line is there: a kill in between costs the work on one picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.classes import ClassTable, write_class_table
from ..data.folder import CLASSES_FILE
from ..drawing import encode_mask, encode_png
from ..errors import DataError, UsageError
from ..files import append, make_folder, remove_file, write_atomically
from ..records import IGNORE, Classes, Labels, Mask

IMAGES, MASKS = "images", "masks"
UNKNOWN_PLANE = 128  # in one class's own mask file: a pixel nobody knows, between 0 (no) and 255 (yes)

Row = dict[str, Any]  #: what is noted of one picture; "name" tells which
Step = Callable[[int, int], None]  # takes how many are done, and how many there are in all


@dataclass(frozen=True)
class Summary:
    """What came of making pairs."""

    out: Path
    kept: int  # pairs to learn from that stand in the folder
    thrown: int  # pairs that were made and not kept: they don't agree with the filter, or are not certain enough
    skipped: int  # pictures that were done before
    failed: tuple[tuple[Path, str], ...]  # pictures that could not be read or answered, and why
    seconds: float
    words: str  # the same in sentences
    numbers: Mapping[str, float] = field(default_factory=dict)  # by name, such as "agreement"


class PairFolder:
    """One folder of made pairs, and the notes of who made them."""

    def __init__(self, out: Path, kind: str, classes: Classes) -> None:
        """kind: "synthesis" or "pseudo_labels", which names the notes."""
        self.out, self.kind, self.classes = out, kind, classes
        self.about, self.log = out / f"{kind}.json", out / f"{kind}.jsonl"
        odd = [name for name in classes.names if classes.overlapping and Path(name).name != name]
        if odd:
            raise UsageError(
                f"a folder can't be named {odd[0]!r}, as masks of overlapping classes are; rename the class."
            )

    def begin(
        self,
        settings: Mapping[str, Any],
        overwrite: bool,
        stays: Callable[[Row], bool] = lambda row: False,
        further: Sequence[Callable[[str], list[Path]]] = (),
    ) -> dict[str, Row]:
        """What is done already, by name, after the notes say what stands in the folder from now on.

        stays: whether a picture stays even when answers by other settings are overwritten. further: other files of a
        name, removed with it. Raises UsageError, unless all is overwritten, for pairs by other settings, and for a
        folder that holds something else.
        """
        before, rows = self._notes(overwrite)
        if before is None and not rows:
            strange = [place for place in (IMAGES, MASKS, CLASSES_FILE) if (self.out / place).exists()]
            if strange:
                raise UsageError(
                    f"{self.out / strange[0]} stands there already and is not from here; choose another folder."
                )
        if before is not None and before != dict(settings):
            if not overwrite:
                differing = [key for key in settings if settings[key] != before.get(key)]
                raise UsageError(
                    f"{self.out} holds pairs of another model or other settings (other {', '.join(differing)}); choose "
                    "another folder, or overwrite them."
                )
            gone = [row for row in rows if not stays(row)]
            rows = [row for row in rows if stays(row)]
            self._write_log(rows)
            for row in gone:
                for files in (self.files, *further):
                    for file in files(row["name"]):
                        remove_file(file)
        else:
            self._write_log(rows)
        for folder in (IMAGES, MASKS):
            make_folder(self.out / folder)
        self.describe(settings, {})
        if not (self.out / CLASSES_FILE).is_file() or overwrite:
            write_class_table(self.out / CLASSES_FILE, self.table(), f"Written by intarsia; see {self.about.name}.")
        return {row["name"]: row for row in rows}

    def table(self) -> ClassTable:
        """How the masks are written."""
        if self.classes.overlapping:
            return ClassTable(self.classes, ignore=(UNKNOWN_PLANE,), coding="files")
        return ClassTable(self.classes, ignore=(255,) if len(self.classes) <= 255 else (65535,))

    def describe(self, settings: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        write_atomically(self.about, json.dumps({"settings": settings, **told}, indent=1).encode())

    def note(self, row: Row) -> None:
        """A picture is done."""
        append(self.log, (json.dumps(row) + "\n").encode())

    def image_files(self, name: str) -> list[Path]:
        """Those of a name, whatever their suffix."""
        place = self.out / IMAGES / name
        if not place.parent.is_dir():
            return []
        return sorted(file for file in place.parent.iterdir() if file.stem == place.name and file.is_file())

    def mask_files(self, name: str, root: str = MASKS) -> list[Path]:
        folder = self.out / root
        if self.classes.overlapping:
            return [folder / each / f"{name}.png" for each in self.classes.names]
        return [folder / f"{name}.png"]

    def files(self, name: str) -> list[Path]:
        return [*self.image_files(name), *self.mask_files(name)]

    def write_image(self, name: str, suffix: str, content: bytes) -> Path:
        path = self.out / IMAGES / f"{name}{suffix}"
        make_folder(path.parent)
        return write_atomically(path, content)

    def write_labels(self, name: str, labelled: Mask | Labels, root: str = MASKS) -> None:
        """A mask (H, W), or labels (K, H, W) where classes overlap; IGNORE is 255, 65535 or UNKNOWN_PLANE."""
        files = self.mask_files(name, root)
        if self.classes.overlapping:
            values = np.where(labelled == IGNORE, UNKNOWN_PLANE, np.where(labelled == 1, 255, 0)).astype(np.uint8)
            contents = [encode_png(plane) for plane in values]
        else:
            contents = [encode_mask(labelled, self.classes)]
        for file, content in zip(files, contents, strict=True):
            make_folder(file.parent)
            write_atomically(file, content)

    def _notes(self, overwrite: bool) -> tuple[dict[str, Any] | None, list[Row]]:
        """The settings that the folder was made by, None where there are none, and a row for each picture done."""
        try:
            settings = dict(json.loads(self.about.read_text(encoding="utf-8"))["settings"])
        except FileNotFoundError:
            return None, []
        except (OSError, ValueError, TypeError, KeyError) as error:
            if not overwrite:
                raise DataError(
                    f"{self.about} can't be understood: {error}. Choose another folder, or overwrite it."
                ) from error
            settings = {}
        return settings, read_rows(self.log)

    def _write_log(self, rows: Sequence[Row]) -> None:
        make_folder(self.out)
        write_atomically(self.log, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_rows(path: Path) -> list[Row]:
    """The rows in order, of each name the last; a line that a kill cut short is left out."""
    if not path.is_file():
        return []
    rows: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and _is_inside(row.get("name")):
            rows[row["name"]] = row
    return list(rows.values())


def _is_inside(name: Any) -> bool:
    """Whether it is a name, and of a file below the folder that it is looked for in."""
    return isinstance(name, str) and bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
