"""A folder of pictures and masks, in any of the usual layouts, as entries that are read one at a time.

Layouts by name are in `layout.py`; COCO JSON and YOLO polygons in `coco.py` and `yolo.py`, used where there are no
masks as pictures. What the masks' numbers mean stands in `classes.toml`, which is written here when it is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import DataError, DiskError
from ..records import Classes, Image, Labels, Mask, Sample
from . import raters
from .classes import NO_SHAPE, ClassTable, decode, decode_plane, read_class_table, write_class_table
from .coco import Annotations, is_coco, read_coco
from .infer import infer_class_table
from .layout import (
    Layout,
    arrange,
    entry_names,
    list_files,
    read_lists,
    resolve,
    some,
    split_in_name,
    suffixes,
    tail_index,
)
from .read import RawMask, read_header, read_image, read_mask, rotate
from .shapes import Drawing, rasterise
from .yolo import looks_like_yolo, read_yolo

CLASSES_FILE = "classes.toml"
LOOKED_AT = 200  # masks, evenly spread, from which the classes are inferred
MOST_JSON = 50  # files that are looked at for COCO annotations; more are one a picture, of another format


@dataclass(frozen=True)
class Entry:
    """One picture of a folder, and where its labels are."""

    name: str  # unique in the folder: the file's stem, or its path below the folder of pictures, without suffix
    image: Path
    masks: tuple[Path | None, ...] = ()  # one mask file; or one a class in class order, None where a class has none
    annotation: str | None = None  # its key in `Folder.drawings`, where the labels are COCO or YOLO polygons
    raters: tuple[Path, ...] = ()  # several people's masks; where masks[0] is one of them, the majority's is the mask

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """All mask files, each once."""
        return tuple(dict.fromkeys([*(path for path in self.masks if path is not None), *self.raters]))


@dataclass(frozen=True)
class Folder:
    """Pictures, masks, classes and lists, found but not yet read."""

    root: Path
    table: ClassTable
    entries: tuple[Entry, ...]  # sorted by name
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names of "train", "val", "test" where given
    layout: str = ""  # in a few words: "images/ + masks/"
    problems: tuple[str, ...] = ()  # masks without pictures, dropped polygons, ...: a sentence each
    drawings: Mapping[str, Drawing] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> Classes:
        return self.table.classes

    def labelled(self, entry: Entry) -> bool:
        """Whether the entry has a mask or an annotation."""
        return entry.annotation is not None or any(path is not None for path in entry.masks)

    def select(self, names: Iterable[str]) -> Folder:
        """The same folder with only these entries, in this order; DataError for a name it does not have."""
        by_name = {entry.name: entry for entry in self.entries}
        names = tuple(names)
        missing = [name for name in names if name not in by_name]
        if missing:
            raise DataError(f"{self.root} has no picture named {some(missing)}; it has {some(by_name)}.")
        kept = {split: tuple(name for name in listed if name in set(names)) for split, listed in self.lists.items()}
        return replace(self, entries=tuple(by_name[name] for name in names), lists=kept)

    def read(self, entry: Entry) -> Sample:
        """The picture and its mask (or its labels, where classes overlap); neither where it is unlabelled. Of several
        raters' masks the majority's is the mask, unless there is one without a rater's number.

        A mask that has the size of the picture as stored, before EXIF orientation, is turned as the picture is.
        DataError naming both sizes where they differ otherwise, or naming the values that are no class.
        """
        image = read_image(entry.image)
        if entry.annotation is not None:
            return Sample(entry.name, image, self._drawn(entry, image))
        if not self.labelled(entry):
            return Sample(entry.name, image)
        if self.table.coding == "files":
            return Sample(entry.name, image, labels=self._planes(entry, image))
        (path,) = (path for path in entry.masks if path is not None)
        opinions = tuple(self._mask(each, entry, image) for each in entry.raters)
        mask = raters.majority(opinions) if path in entry.raters else self._mask(path, entry, image)
        return Sample(entry.name, image, mask, raters=opinions)

    def _mask(self, path: Path, entry: Entry, image: Image) -> Mask:
        return decode(_fitted(read_mask(path), image, entry.image, path), self.table, str(path))

    def _planes(self, entry: Entry, image: Image) -> Labels:
        labels = np.zeros((len(self.classes), *image.shape[:2]), np.int8)  # a class without a file is not there
        for plane, path in zip(labels, entry.masks, strict=True):
            if path is not None:
                plane[:] = decode_plane(_fitted(read_mask(path), image, entry.image, path), self.table.ignore)
        return labels

    def _drawn(self, entry: Entry, image: Image) -> Mask:
        assert entry.annotation is not None
        drawing = self.drawings[entry.annotation]
        size = drawing.size or (image.shape[0], image.shape[1])
        mask = rasterise(drawing, size, self.table, entry.name)
        return _fitted(RawMask(mask), image, entry.image, f"the annotation of {entry.name}").values


def _fitted(raw: RawMask, image: Image, image_path: Path, source: str | Path) -> RawMask:
    if raw.size == image.shape[:2]:
        return raw
    header = read_header(image_path)
    if header.orientation >= 5 and raw.size == header.stored_size:
        return replace(raw, values=rotate(raw.values, header.orientation))
    raise DataError(
        f"{source} is {raw.size[1]} x {raw.size[0]} pixels, but its picture {image_path} is {image.shape[1]} x "
        f"{image.shape[0]} (width x height); export the mask at the picture's size, or take one of the two out."
    )


def open_folder(root: str | Path, classes: str | Path | None = None, write_classes: bool = True) -> Folder:
    """What a folder holds, by its files' names; masks are opened only to infer the classes.

    `classes`: a classes.toml elsewhere; None: the folder's own, else inferred from up to 200 masks and, where
    `write_classes` and the folder can be written to, written for the user to edit. DataError for a folder that is
    missing, holds no pictures, or whose masks make no sense as classes.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"{root} {what}; expected a folder with pictures, such as images/ beside masks/: check the path."
        )
    files = list_files(root)
    own = root / CLASSES_FILE
    given = Path(classes) if classes is not None else own if own.is_file() else None
    table = read_class_table(given) if given is not None else None
    by_file = table.classes.names if table is not None and table.coding == "files" else ()
    layout = arrange(root, files, by_file)
    if not layout.images:
        raise DataError(
            f"{root} holds no pictures: looked for PNG, JPEG, TIFF, WebP, BMP, .npy and .npz files in it and below, "
            f"found {suffixes(files) or 'no files at all'}"
            + (f" ({some(path.name for path in files)})" if files else "")
            + "; put pictures there, best in images/ with masks of the same names in masks/."
        )
    names = entry_names(layout.images)
    lists, list_problems = read_lists(root, files, names, layout.images)
    annotations = Annotations({}, {}, ())
    if not layout.masks:
        annotations, words, listed = _annotations(root, files, layout)
        layout.words = words or layout.words
        lists = lists or {split: tuple(names[key] for key in keys) for split, keys in listed.items()}
    if table is None:
        table, reason = _inferred(root, layout, annotations)
        if write_classes and table.coding != "none":
            _write_quietly(own, table, reason)
    _check_coding(table, layout, annotations, given or own)
    entries = [
        Entry(
            names[key],
            path,
            _masks(layout, key, table),
            key if key in annotations.drawings else None,
            layout.raters.get(key, ()),
        )
        for key, path in layout.images.items()
    ]
    return Folder(
        root,
        table,
        tuple(sorted(entries, key=lambda entry: entry.name)),
        lists,
        layout.words,
        (*layout.problems, *list_problems, *annotations.problems),
        annotations.drawings,
    )


def _annotations(
    root: Path, files: Sequence[Path], layout: Layout
) -> tuple[Annotations, str, dict[str, tuple[str, ...]]]:
    """COCO or YOLO drawings by key, the layout in words, and the keys of each list that file names speak of."""
    candidates = [path for path in files if path.suffix.lower() == ".json"]
    found = [path for path in candidates if is_coco(path)] if len(candidates) <= MOST_JSON else []
    if found:
        annotations, listed = _from_coco(root, found, layout)
        return annotations, f"COCO annotations in {some(path.relative_to(root).as_posix() for path in found)}", listed
    texts = {key: path for key, path in layout.texts.items() if looks_like_yolo(path)}
    if texts and any(path.stat().st_size for path in texts.values()):
        where = next(iter(texts.values())).parent.relative_to(root).as_posix()
        return read_yolo(texts, files), f"YOLO polygons in {where}/", {}
    return Annotations({}, {}, ()), "", {}


def _from_coco(root: Path, found: Sequence[Path], layout: Layout) -> tuple[Annotations, dict[str, tuple[str, ...]]]:
    by_tail = tail_index(root, layout.images)
    categories: dict[int, str] = {}
    drawings: dict[str, Drawing] = {}
    listed: dict[str, list[str]] = {}
    problems: list[str] = []
    for path in found:
        one = read_coco(path)
        problems += one.problems
        for number, name in one.categories.items():
            if categories.setdefault(number, name) != name:
                raise DataError(
                    f"{path} calls category {number} {name!r}, another file of {root} calls it {categories[number]!r}; "
                    "export the annotations together, so that numbers mean the same."
                )
        split = split_in_name(path.relative_to(root))
        missing = []
        for file_name, drawing in one.drawings.items():
            beside = (path.parent.relative_to(root) / file_name).as_posix()
            key = resolve(beside, by_tail, whole=True) or resolve(file_name, by_tail)
            if key is None:
                missing.append(file_name)
            elif drawings.setdefault(key, drawing) is drawing and split:
                listed.setdefault(split, []).append(key)
        if missing:
            problems.append(
                f"{path} lists {len(missing)} pictures that are not here, or not only once ({some(missing)})."
            )
    return Annotations(categories, drawings, tuple(problems)), {split: tuple(keys) for split, keys in listed.items()}


def _inferred(root: Path, layout: Layout, annotations: Annotations) -> tuple[ClassTable, str]:
    """The class table of a folder without one, and why it is so."""
    if annotations.drawings:
        names = ["background"]
        for number, name in annotations.categories.items():
            names.append(f"{name} {number}" if name in names or name.lower() == "background" else name)
        table = ClassTable(Classes.named(names), (NO_SHAPE, *annotations.categories), coding="shapes")
        return table, f"{layout.words}. A value is the number of a category; {NO_SHAPE}: where no outline is."
    if layout.class_names:
        classes = Classes.named(layout.class_names, overlapping=True)
        return ClassTable(classes, coding="files"), f"There is a mask file for each class: {layout.words}."
    paths = [files[""] for files in layout.masks.values()]
    paths = list(dict.fromkeys([*paths, *(path for each in layout.raters.values() for path in each)]))
    step = -(-len(paths) // LOOKED_AT) or 1
    errors: list[DataError] = []
    table, reason = infer_class_table(_readable(paths[::step], errors), f"the masks of {root}")
    if not table.classes and errors:
        raise errors[0]
    return table, reason


def _readable(paths: Sequence[Path], errors: list[DataError]) -> Iterable[RawMask]:
    """Those masks that can be read; a damaged one is reported when it is read as part of the data."""
    for path in paths:
        try:
            yield read_mask(path)
        except DataError as error:
            errors.append(error)


def _write_quietly(path: Path, table: ClassTable, reason: str) -> None:
    """Write the table, unless the folder is not ours to write to: it is still good to read."""
    if path.parent.stat().st_mode & 0o222 == 0:  # shut by its owner, which would not stop root, as in a container
        return
    with contextlib.suppress(DiskError):
        write_class_table(path, table, f"Written by intarsia from what the files hold. {reason}")


def _check_coding(table: ClassTable, layout: Layout, annotations: Annotations, path: Path) -> None:
    """DataError where the class table speaks of labels of another kind than the folder has."""
    if annotations.drawings and table.coding != "shapes":
        expected = "shapes"
    elif layout.class_names and table.coding != "files":
        expected = "files"
    elif layout.masks and not layout.class_names and table.coding in ("files", "shapes", "none"):
        expected = "index"
    else:
        return
    raise DataError(
        f'{path} says coding = "{table.coding}", but the labels found ({layout.words}) are coding = "{expected}"; '
        "mend it, or delete it to have it written anew."
    )


def _masks(layout: Layout, key: str, table: ClassTable) -> tuple[Path | None, ...]:
    files = layout.masks.get(key)
    if files is None:
        return ()
    if table.coding != "files":
        return (files[""],)
    unknown = [name for name in files if name not in table.classes.names]
    if unknown:
        raise DataError(
            f"{files[unknown[0]]} is a mask of class {unknown[0]!r}, but classes.toml lists "
            f"{some(table.classes.names)}; add it there, or take the file out."
        )
    return tuple(files.get(name) for name in table.classes.names)
