"""The objects of one picture of a folder, from each of the ways in which people write them down.

    label image        one number an object, 0 where there is none: 8, 16 or 32 bits, PNG, TIFF or .npy
    with a divisor     number = class * divisor + object, as Cityscapes' instanceIds; smaller numbers are only a class
    one a class        masks/CLASS/NAME.png, a label image each
    one an object      masks/NAME/ANY.png or NAME/masks/ANY.png, not 0 where the object is
    array              .npy or .npz of shape (N, H, W): N binary masks
    outlines           COCO (a shape is an object, a crowd is unknown), YOLO
    split              connected regions of a class, where classes.toml says `split = true`

Where classes differ and neither folder, category nor divisor says which, `objects.csv` in the folder's root does: a
line `name,id,class` an object, the picture's name, the object's number (of an array counted from 1; the file's stem
where an object is a file) and its class. Unknown to all are the numbers in `ignore`, negative one, and in files of 16
and 32 bits the largest number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Image, Instances, Mask
from .classes import NO_SHAPE, ClassTable, decode, decode_plane, is_grey, pack
from .entry import Entry, fitted
from .object_masks import Layered, Layers, cropped
from .read import RawMask, plane_shape, read_mask, read_planes
from .shapes import Drawing, pixels_of

LARGEST = {"uint16": 65535, "int64": 2**32 - 1}  # what an unknown pixel is in a label image; int64: 32 bits as read
TABLED = 2**20  # numbers below are looked up in a table, larger ones sorted


def read_objects(
    entry: Entry, image: Image, table: ClassTable, drawing: Drawing | None, named: Mapping[str, str]
) -> Layered:
    """The objects of a labelled picture. named: the class of each object by its name, as `objects.csv` gives it.

    Raises DataError naming the file where it is damaged, where its numbers are no objects, and where an object's class
    is not known; SizeError where it is not of the picture's size.
    """
    if drawing is not None:
        return _turned(_drawn(drawing, image, table, entry.name), image, entry)
    if entry.parts is not None:
        return _parts(entry, image, table, named)
    files = [(number, path) for number, path in enumerate(entry.masks) if path is not None]
    if table.split and table.coding in ("index", "binary", "colour"):
        (_, path) = files[0]
        return _regions(decode(fitted(read_mask(path), image, entry.image, path), table, str(path)))
    if len(entry.masks) > 1:
        return _joined([(number + 1, _numbers(path, entry, image, table)) for number, path in files], table)
    (_, path) = files[0]
    if is_stack(path, image):
        return _stack(path, entry, image, table, named)
    return _label_image(path, _numbers(path, entry, image, table), table, named)


def class_mask(
    entry: Entry, image: Image, table: ClassTable, drawing: Drawing | None, named: Mapping[str, str]
) -> Mask:
    """(H, W) int16: the classes of a picture whose masks number objects; a crowd is of its class here."""
    if table.divisor is None or entry.parts is not None or drawing is not None or table.split:
        return read_objects(entry, image, table, drawing, named).instances.mask
    (path,) = (path for path in entry.masks if path is not None)
    label_image, numbers = _counted(_numbers(path, entry, image, table), table.ignore)
    classes, _ = _by_divisor(numbers, table, path)
    return np.concatenate([[0], classes, [IGNORE]]).astype(np.int16)[label_image]


def is_stack(path: Path, image: Image) -> bool:
    """Whether a file holds N binary masks (N, H, W) of the picture, which may be stored unturned."""
    shape = plane_shape(path)
    if shape is None or (shape[:2] == image.shape[:2] and shape[2] in (1, 3, 4)):
        return False
    return sorted(shape[1:]) == sorted(image.shape[:2])


def _numbers(path: Path, entry: Entry, image: Image, table: ClassTable) -> np.ndarray:
    """(H, W) whole numbers of a label image; colours as one number each."""
    raw = fitted(read_mask(path), image, entry.image, path)
    if raw.lossy:
        raise DataError(
            f"{path} is a JPEG or a lossy WebP, whose numbers are invented along every border; save it as PNG or TIFF."
        )
    if raw.values.ndim == 2:
        return raw.values
    return raw.values[..., 0] if is_grey(raw.values) else pack(raw.values)


def _counted(values: np.ndarray, ignore: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A label image (H, W) int32 of 1..N, 0 and IGNORE, and the number (N,) int64 that each had in the file."""
    unknown = [IGNORE, *ignore, *([LARGEST[values.dtype.name]] if values.dtype.name in LARGEST else [])]
    if values.max() >= TABLED or (values.dtype.kind == "i" and values.min() < IGNORE):
        present, places = np.unique(values, return_inverse=True)
    else:
        shifted = values if values.dtype.kind == "u" else values + 1
        counts = np.bincount(shifted.ravel())
        there = np.flatnonzero(counts)
        lookup = np.zeros(len(counts), np.int32)
        lookup[there] = np.arange(len(there))
        present, places = there - (values.dtype.kind != "u"), lookup[shifted]
    objects = (present != 0) & ~np.isin(present, unknown)
    numbers = np.where(objects, np.cumsum(objects), np.where(present == 0, 0, IGNORE)).astype(np.int32)
    return numbers[places].reshape(values.shape), present[objects].astype(np.int64)


def _label_image(path: Path, values: np.ndarray, table: ClassTable, named: Mapping[str, str]) -> Layered:
    label_image, numbers = _counted(values, table.ignore)
    if len(numbers) and numbers[0] < 0:
        raise DataError(f"{path} numbers objects from {numbers[0]}; number them from 1, and -1 where nobody knows.")
    names = tuple(map(str, numbers.tolist()))
    if table.divisor is None:
        classes = _classes(names, named, table, path)
        return _split(label_image, classes, names) if table.split else Layered(Instances(label_image, classes), names)
    classes, objects = _by_divisor(numbers, table, path)
    pending = int(np.isin(label_image, np.flatnonzero(~objects & (classes > 0)) + 1).sum())
    kept = objects & (classes > 0)
    renumbered = np.where(kept, np.cumsum(kept), np.where(classes == 0, 0, IGNORE))
    label_image = np.concatenate([[0], renumbered, [IGNORE]]).astype(np.int32)[label_image]
    shown = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
    if table.split:
        return replace(_split(label_image, classes[kept], shown), pending=pending)
    return Layered(Instances(label_image, classes[kept]), shown, pending=pending)


def _by_divisor(numbers: np.ndarray, table: ClassTable, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The class (N,) int16 of each number, IGNORE where nobody knows, and whether (N,) it is an object's."""
    assert table.divisor is not None
    class_of = {value: number for number, value in enumerate(table.numbers())}
    class_of |= dict.fromkeys(table.background, 0) | dict.fromkeys(table.ignore, IGNORE)
    objects = numbers >= table.divisor
    values = np.where(objects, numbers // table.divisor, numbers).tolist()
    strange = sorted({value for value in values if value not in class_of})
    if strange:
        raise DataError(
            f"{path} holds objects or regions of class {', '.join(map(str, strange[:5]))}, which classes.toml does not "
            "list; add each there as a [[class]], or in background where it has no objects, or in ignore."
        )
    return np.array([class_of[value] for value in values], np.int16), objects


def _classes(names: Sequence[str], named: Mapping[str, str], table: ClassTable, path: Path) -> np.ndarray:
    """(N,) int16: the class of each object by name, where there is more than one."""
    listed = table.classes.names
    if len(listed) == 2:
        return np.ones(len(names), np.int16)
    unknown = [name for name in names if named.get(name) not in listed[1:]]
    if unknown:
        _without_class(path, unknown, table)
    return np.array([listed.index(named[name]) for name in names], np.int16)


def _without_class(path: Path, names: Sequence[str], table: ClassTable) -> NoReturn:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    raise DataError(
        f"{path} has objects whose class nobody says: {', '.join(names[:5])}{more}; give each a line name,id,class in "
        f"objects.csv in the folder's root, with one of {', '.join(table.classes.names[1:])}."
    )


def _joined(files: Sequence[tuple[int, np.ndarray]], table: ClassTable) -> Layered:
    """Label images of a class each, a later class over an earlier one."""
    label_image: np.ndarray | None = None
    numbers: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    covered = 0
    for class_, values in files:
        one, found = _counted(values, table.ignore)
        if label_image is None:
            label_image = np.zeros_like(one)
        covered += int(np.count_nonzero((one > 0) & (label_image > 0)))
        count = sum(map(len, numbers))
        label_image = np.where(one > 0, one + count, np.where((one < 0) & (label_image == 0), IGNORE, label_image))
        numbers.append(found)
        classes.append(np.full(len(found), class_, np.int16))
    assert label_image is not None
    names = [str(number) for each in numbers for number in each.tolist()]
    if table.split:
        return replace(_split(label_image, np.concatenate(classes), names), covered=covered)
    from .objects import numbered  # scikit-image, half a second that only these layouts need pay

    seen = np.bincount(np.maximum(label_image, 0).ravel(), minlength=len(names) + 1)[1:] > 0
    shown = tuple(name for name, there in zip(names, seen, strict=True) if there)
    hidden = tuple(name for name, there in zip(names, seen, strict=True) if not there)
    return Layered(numbered(label_image, np.concatenate(classes)), shown, covered, hidden)


def _split(label_image: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> Layered:
    """Each connected region of each object as an object of its own, with the name of the one it is of."""
    from skimage.measure import label

    regions = label(np.maximum(label_image, 0), connectivity=2).astype(np.int32)  # of one number, corners included
    of_region = np.zeros(int(regions.max()) + 1, np.int32)
    of_region[regions] = label_image
    source = of_region[1:] - 1
    regions[label_image < 0] = IGNORE
    return Layered(Instances(regions, np.asarray(classes)[source].astype(np.int16)), tuple(names[i] for i in source))


def _regions(mask: Mask) -> Layered:
    """Each connected region of a class other than the first as an object."""
    kinds = np.arange(1, max(1, int(mask.max())) + 1)
    found = _split(mask.astype(np.int32), kinds, [""] * len(kinds))
    return replace(found, names=tuple(map(str, range(1, len(found.names) + 1))))


def _stack(path: Path, entry: Entry, image: Image, table: ClassTable, named: Mapping[str, str]) -> Layered:
    layers = Layers(image.shape[:2])
    for number, plane in enumerate(read_planes(path), start=1):
        classes = _classes([str(number)], named, table, path)
        if plane.shape != image.shape[:2]:
            plane = fitted(RawMask(plane.astype(np.uint8)), image, entry.image, path).values > 0
        box, inside = cropped(plane)
        layers.add(inside, int(classes[0]), str(number), *box)
    return layers.result()


def _parts(entry: Entry, image: Image, table: ClassTable, named: Mapping[str, str]) -> Layered:
    layers = Layers(image.shape[:2])
    for path in entry.parts or ():
        classes = _classes([path.stem], named, table, path)
        plane = decode_plane(fitted(read_mask(path), image, entry.image, path)) > 0
        box, inside = cropped(plane)
        layers.add(inside, int(classes[0]), path.stem, *box)
    return layers.result()


def _drawn(drawing: Drawing, image: Image, table: ClassTable, name: str) -> Layered:
    """The shapes of a drawing as objects, small ones over large ones; crowds and categories to ignore below them."""
    size = drawing.size or (image.shape[0], image.shape[1])
    class_of = {value: number for number, value in enumerate(table.numbers())} | dict.fromkeys(table.ignore, IGNORE)
    if class_of.get(NO_SHAPE) != 0:
        raise DataError(
            f"for objects the first class of classes.toml has to be what lies where no outline is, with value = "
            f"{NO_SHAPE}; put it there, such as a class called background."
        )
    scale = np.array([size[1], size[0]], float) if drawing.size is None else np.ones(2)
    layers = Layers(size)
    for shape in sorted(drawing.shapes, key=lambda each: (not each.crowd, -each.area)):
        class_ = class_of.get(shape.category)
        if class_ is None:
            raise DataError(
                f"{name} has a shape of category {shape.category}, which classes.toml does not list; add it there as "
                f"a [[class]] with value = {shape.category}, or to ignore."
            )
        top, left, inside = _united(list(pixels_of(shape, size, scale)))
        if shape.crowd or class_ == IGNORE:
            layers.unknown(inside, top, left)
        elif class_ > 0:
            layers.add(inside, class_, shape.name, top, left)
    return layers.result()


def _united(pieces: Sequence[tuple[int, int, np.ndarray]]) -> tuple[int, int, np.ndarray]:
    """One piece that holds what any of them holds, cut to it."""
    if not pieces:
        return 0, 0, np.zeros((0, 0), bool)
    top, left = min(piece[0] for piece in pieces), min(piece[1] for piece in pieces)
    bottom = max(first + inside.shape[0] for first, _, inside in pieces)
    right = max(first + inside.shape[1] for _, first, inside in pieces)
    whole = np.zeros((bottom - top, right - left), bool)
    for row, column, inside in pieces:
        whole[row - top : row - top + inside.shape[0], column - left : column - left + inside.shape[1]] |= inside
    (down, along), cut = cropped(whole)
    return top + down, left + along, cut


def _turned(found: Layered, image: Image, entry: Entry) -> Layered:
    """The same in the displayed frame, where it was drawn on the picture as stored."""
    raw = RawMask(found.instances.label_image)
    turned = fitted(raw, image, entry.image, f"the annotation of {entry.name}")
    return found if turned is raw else replace(found, instances=replace(found.instances, label_image=turned.values))
