"""A folder of pictures and masks, in any of the usual layouts, as entries that are read one at a time.

Layouts by name are in `layout.py`; COCO JSON and YOLO polygons in `coco.py` and `yolo.py`, used where there are no
masks as pictures. What the masks' numbers mean stands in `classes.toml`, which is written here when it is missing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError, DiskError
from ..records import Classes, Image, Labels, Mask, Sample
from . import raters
from .classes import NO_SHAPE, ClassTable, decode, decode_plane, read_class_table, write_class_table
from .coco import Annotations, is_coco, read_coco
from .entry import Entry as Entry
from .entry import fitted
from .infer import infer_class_table
from .infer_objects import SPLIT_ADVICE, are_classes, infer_object_table
from .layout import (
    OBJECT_ENDINGS,
    SPLITS,
    Layout,
    arrange,
    entry_names,
    list_files,
    read_lists,
    resolve,
    some,
    suffixes,
    tail_index,
)
from .object_classes import NamedObjects, object_table, read_named_objects
from .object_masks import Layered
from .object_reading import class_mask, read_objects
from .read import RawMask, plane_shape, read_image, read_mask
from .shapes import Drawing, rasterise
from .yolo import looks_like_yolo, read_yolo

CLASSES_FILE = "classes.toml"
LOOKED_AT = 200  # masks, evenly spread, from which the classes are inferred
MOST_JSON = 50  # files that are looked at for COCO annotations; more are one a picture, of another format


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
    objects: bool = False  # samples come with their objects, and the mask is that of the objects
    named: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)  # picture -> object -> its class

    @property
    def classes(self) -> Classes:
        return self.table.classes

    def labelled(self, entry: Entry) -> bool:
        """Whether the entry has a mask or an annotation."""
        return entry.labelled

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
        """The picture and its mask (or its labels, where classes overlap), and its objects where the folder was opened
        for them; none of these where it is unlabelled. Of several raters' masks the majority's is the mask, unless
        there is one without a rater's number.

        A mask that has the size of the picture as stored, before EXIF orientation, is turned as the picture is.
        DataError naming both sizes where they differ otherwise, or naming the values that are no class.
        """
        image = read_image(entry.image)
        if not self.labelled(entry):
            return Sample(entry.name, image)
        if self.objects:
            instances = self.read_objects(entry, image).instances
            return Sample(entry.name, image, instances.mask, instances=instances)
        if entry.annotation is not None:
            return Sample(entry.name, image, self._drawn(entry, image))
        if self.table.coding == "objects":
            mask = class_mask(entry, image, self.table, None, self.named.get(entry.name, {}))
            return Sample(entry.name, image, mask)
        if self.table.coding == "files":
            return Sample(entry.name, image, labels=self._planes(entry, image))
        (path,) = (path for path in entry.masks if path is not None)
        opinions = tuple(self._mask(each, entry, image) for each in entry.raters)
        mask = raters.majority(opinions) if path in entry.raters else self._mask(path, entry, image)
        return Sample(entry.name, image, mask, raters=opinions)

    def read_objects(self, entry: Entry, image: Image) -> Layered:
        """The objects of a labelled entry, whose picture is `image`, and what became of those that are hidden. Raises
        DataError as `read` does, and where the labels tell no objects apart."""
        drawing = None if entry.annotation is None else self.drawings[entry.annotation]
        table = object_table(self.table, f"the class table of {self.root}")
        return read_objects(entry, image, table, drawing, self.named.get(entry.name, {}))

    def _mask(self, path: Path, entry: Entry, image: Image) -> Mask:
        return decode(fitted(read_mask(path), image, entry.image, path), self.table, str(path))

    def _planes(self, entry: Entry, image: Image) -> Labels:
        labels = np.zeros((len(self.classes), *image.shape[:2]), np.int8)  # a class without a file is not there
        for plane, path in zip(labels, entry.masks, strict=True):
            if path is not None:
                plane[:] = decode_plane(fitted(read_mask(path), image, entry.image, path), self.table.ignore)
        return labels

    def _drawn(self, entry: Entry, image: Image) -> Mask:
        assert entry.annotation is not None
        drawing = self.drawings[entry.annotation]
        size = drawing.size or (image.shape[0], image.shape[1])
        mask = rasterise(drawing, size, self.table, entry.name)
        return fitted(RawMask(mask), image, entry.image, f"the annotation of {entry.name}").values


def open_folder(
    root: str | Path, classes: str | Path | None = None, write_classes: bool = True, objects: bool = False
) -> Folder:
    """What a folder holds, by its files' names; masks are opened only to infer the classes.

    `classes`: a classes.toml elsewhere; None: the folder's own, else inferred from up to 200 masks and, where
    `write_classes` and the folder can be written to, written for the user to edit. `objects`: whether samples are to
    come with their objects; how these may be written down is in `object_reading.py`. The first class is then the
    background. DataError for a folder that is missing, holds no pictures, or whose masks make no sense as classes, and
    where objects are wanted of masks that tell none apart.
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
    numbered = table is not None and table.coding == "objects"
    by_file = table.classes.names if table is not None and table.coding == "files" else ()
    by_file = table.classes.names[1:] if table is not None and numbered else by_file
    layout = arrange(root, files, by_file, objects or numbered)
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
    named = NamedObjects()
    if objects or numbered or layout.parts:
        by_tail = tail_index(root, layout.images)
        named = read_named_objects(root, {tail: {names[key] for key in keys} for tail, keys in by_tail.items()})
    if table is None:
        table, reason = _inferred(root, layout, annotations, objects, named.names)
        if write_classes and table.coding != "none":
            _write_quietly(own, table, reason)
    _check_coding(table, layout, annotations, given or own)
    if objects:
        _refuse_masks_of_classes(table, layout, given or own)
        table = object_table(table, str(given or own))
    entries = [
        Entry(
            names[key],
            path,
            _masks(layout, key, table),
            key if key in annotations.drawings else None,
            layout.raters.get(key, ()),
            _parts(layout, key),
        )
        for key, path in layout.images.items()
    ]
    voted = [entry.name for entry in entries if entry.raters and entry.masks[0] in entry.raters] if objects else []
    if voted:
        layout.problems.append(
            f"{len(voted)} pictures ({some(voted)}) have several raters' objects, which nobody can vote on: the first "
            "rater's are taken."
        )
    return Folder(
        root,
        table,
        tuple(sorted(entries, key=lambda entry: entry.name)),
        lists,
        layout.words,
        (*layout.problems, *list_problems, *annotations.problems, *named.problems),
        annotations.drawings,
        objects,
        named.classes,
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
        split = _split_in_name(path.relative_to(root))
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


def _split_in_name(path: Path) -> str | None:
    """The list that a file's path speaks of: instances_train2017.json and train/annotations.json say "train"."""
    words = re.findall(r"[a-z]+", path.as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _inferred(
    root: Path, layout: Layout, annotations: Annotations, objects: bool, object_names: Sequence[str]
) -> tuple[ClassTable, str]:
    """The class table of a folder without one, and why it is so. object_names: of the classes of named objects."""
    if annotations.drawings:
        names = ["background"]
        for number, name in annotations.categories.items():
            names.append(f"{name} {number}" if name in names or name.lower() == "background" else name)
        table = ClassTable(Classes.named(names), (NO_SHAPE, *annotations.categories), coding="shapes")
        return table, f"{layout.words}. A value is the number of a category; {NO_SHAPE}: where no outline is."
    paths = [path for files in layout.masks.values() for path in files.values()]
    if layout.parts or (paths and _is_array_of_masks(paths[0])):
        table, _ = infer_object_table((), object_names)
        return table, f"There is a binary mask for each object: {layout.words}."
    if objects and paths:
        divided = paths[0].stem.endswith(OBJECT_ENDINGS)
        read = partial(infer_object_table, names=layout.class_names or object_names, divided=divided)
        return _guessed(read, paths, root)
    if layout.class_names:
        classes = Classes.named(layout.class_names, overlapping=True)
        return ClassTable(classes, coding="files"), f"There is a mask file for each class: {layout.words}."
    paths = list(dict.fromkeys([*paths, *(path for each in layout.raters.values() for path in each)]))
    return _guessed(infer_class_table, paths, root)


def _guessed(infer: Callable[..., tuple[ClassTable, str]], paths: Sequence[Path], root: Path) -> tuple[ClassTable, str]:
    """What `infer` makes of up to LOOKED_AT masks, evenly spread."""
    errors: list[DataError] = []
    table, reason = infer(_readable(_spread(paths), errors), source=f"the masks of {root}")
    if len(errors) == len(_spread(paths)) and errors:
        raise errors[0]
    return table, reason


def _spread(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: -(-len(paths) // LOOKED_AT) or 1]


def _is_array_of_masks(path: Path) -> bool:
    """Whether a file holds N binary masks, (N, H, W); a damaged one is reported when it is read."""
    with contextlib.suppress(DataError):
        shape = plane_shape(path)
        return shape is not None and shape[2] not in (1, 3, 4)
    return False


def _refuse_masks_of_classes(table: ClassTable, layout: Layout, path: Path) -> None:
    """DataError where a table of one file a class is for masks, not for label images: each would be one object."""
    if table.coding != "files" or table.split:
        return
    paths = [path for files in layout.masks.values() for path in files.values()]
    if are_classes(_readable(_spread(paths), [])):
        raise DataError(
            f'{path} says coding = "files", and the files hold masks of a class, not numbered objects. {SPLIT_ADVICE}'
        )


def _parts(layout: Layout, key: str) -> tuple[Path, ...] | None:
    """The binary files of a picture's objects; none of them where its folder for them is there and empty."""
    if key in layout.parts or key in layout.masks or not layout.parts:
        return layout.parts.get(key)
    other, files = next(iter(layout.parts.items()))
    image, beside, folder = layout.images[key], layout.images[other], files[0].parent
    if folder.name == beside.stem:  # masks/NAME/
        return () if (folder.parent / image.stem).is_dir() else None
    return () if (image.parent.parent / folder.name).is_dir() else None


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
    elif layout.class_names and table.coding not in ("files", "objects"):
        expected = "files"
    elif layout.parts and not layout.masks and table.coding != "objects":
        expected = "objects"
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
    if table.coding != "files" and "" in files:
        return (files[""],)
    listed = table.classes.names if table.coding == "files" else table.classes.names[1:]
    unknown = [name for name in files if name not in listed]
    if unknown:
        raise DataError(
            f"{files[unknown[0]]} is a mask of class {unknown[0]!r}, but classes.toml lists "
            f"{some(listed)}; add it there, or take the file out."
        )
    return tuple(files.get(name) for name in listed)
