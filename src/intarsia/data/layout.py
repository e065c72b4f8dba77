"""Which file is whose mask: folder layouts, by their names alone. No file is opened here but lists of names.

A picture and its mask share a *key*: the path below the folder, without the part that says what it is and without
suffix. So all of these are the same rule:

    images/a.jpg                              masks/a.png                                   key a
    train/images/a.jpg                        train/masks/a.png                             key train/a
    JPEGImages/a.jpg                          SegmentationClass/a.png                       key a
    imagesTr/a_0000.png                       labelsTr/a.png                                key train/a
    leftImg8bit/val/ulm/a_leftImg8bit.png     gtFine/val/ulm/a_gtFine_labelIds.png          key val/ulm/a
    train/a.jpg                               train_masks/a_mask.png                        key train/a
    a.jpg                                     a_mask.png                                    key a
    images/a.jpg                              masks/car/a.png, masks/road/a.png             key a, one file a class
    images/a.jpg                              masks/a_r0.png, masks/a_r1.png, ...           key a, one file a rater
    images/a.jpg                              masks/a/1.png, masks/a/2.png, ...             key a, one file an object
    a/images/a.png                            a/masks/1.png, a/masks/2.png, ...             key a/a, one file an object
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import raters

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".npy", ".npz"}

IMAGE_FOLDERS = {
    "images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "imagestr", "imagests", "pictures", "photos",
    "inputs", "input", "frames", "rgb",
}  # fmt: skip
MASK_FOLDERS = {
    "masks", "mask", "labels", "label", "annotations", "annotation", "gt", "gtfine", "gtcoarse", "segmentationclass",
    "segmentationclassaug", "segmentationclassraw", "labelstr", "labelsts", "ground_truth", "groundtruth",
    "groundtruths", "segmentation", "segmentations", "targets", "target",
}  # fmt: skip
COMPOUND = re.compile(
    r"(.+?)(?:[_-](?:(images?|imgs?)|masks?|labels?|annotations?|gt|groundtruth)|annot)", re.IGNORECASE
)
SPLIT_OF_FOLDER = {"imagestr": "train", "labelstr": "train", "imagests": "test", "labelsts": "test"}  # nnU-Net's
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

IMAGE_ENDINGS = ("_leftImg8bit", "_image", "_img", "_sat", "_0000")
MASK_ENDINGS = (  # where a picture has several, the first of these is taken
    "_mask", "-mask", "_masks", "_gtFine_labelTrainIds", "_gtFine_labelIds", "_gtCoarse_labelIds", "_labelTrainIds",
    "_labelIds", "_label", "_labels", "-label", "_gt", "_seg", "_segmentation", "_groundtruth", "_annotation", "_L",
    "_gtFine_color", "_gtFine_instanceIds", "_gtCoarse_color", "_gtCoarse_instanceIds", "_color",
)  # fmt: skip
OBJECT_ENDINGS = ("_gtFine_instanceIds", "_gtCoarse_instanceIds", "_instanceIds")  # the first where objects are wanted


@dataclass
class Layout:
    """Pictures by key, and what was found for each."""

    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, dict[str, Path]] = field(default_factory=dict)  # key -> class name -> file; "": all classes in one
    raters: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # key -> several people's masks, by their numbers
    parts: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # key -> one binary file an object, sorted
    texts: dict[str, Path] = field(default_factory=dict)  # key -> a text file of the same key (perhaps YOLO polygons)
    words: str = "pictures without masks"
    problems: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of one-file-a-class masks, sorted; empty where a mask holds all classes."""
        return tuple(sorted({name for files in self.masks.values() for name in files if name}))


@dataclass(frozen=True)
class _File:
    path: Path
    parts: tuple[str, ...]  # of the key; the last is the stem
    role: str  # "image", "mask" or ""

    @property
    def key(self) -> str:
        return "/".join(self.parts)


def list_files(root: Path) -> list[Path]:
    """All files below a folder, sorted; links are followed, once; hidden files and folders are left out."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith((".", "__")))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def arrange(root: Path, files: Sequence[Path], class_names: Sequence[str] = (), objects: bool = False) -> Layout:
    """Pictures and masks of a folder, paired. `class_names`: those of a table with one file a class, for files such
    as masks/a_car.png. `objects`: of several masks of a picture the one with objects is taken, and where 1/2.png may be
    class 1 of picture 2 or object 2 of picture 1, it is the object."""
    layout = Layout()
    sorted_out = [_file(root, path) for path in files if path.suffix.lower() in PICTURES]
    masks = [each for each in sorted_out if each.role == "mask"]
    images = [each for each in sorted_out if each.role == "image"]
    if not images:
        images = [each for each in sorted_out if not each.role]
    if not images and masks:  # a folder of pictures that is called "labels" is still a folder of pictures
        images, masks = masks, []
    images = _one_band(images, layout)
    if not masks:
        images, masks = _beside(images)
    for each in images:
        if each.key in layout.images:
            layout.problems.append(f"{each.path} has the same name as {layout.images[each.key].name} and is left out.")
        else:
            layout.images[each.key] = each.path
    _pair(layout, masks, class_names, objects)
    for path in files:
        if path.suffix.lower() == ".txt":
            key = _matching(_file(root, path), _aliases(layout.images), ("",))
            if key is not None:
                layout.texts[key[0]] = path
    layout.words = _words(root, layout)
    return layout


def _file(root: Path, path: Path) -> _File:
    """The innermost folder with a telling name says what a file is."""
    *folders, _ = path.relative_to(root).parts
    for place in reversed(range(len(folders))):
        name = folders[place].lower()
        compound = COMPOUND.fullmatch(folders[place])
        if name in IMAGE_FOLDERS or name in MASK_FOLDERS:
            rest, role = SPLIT_OF_FOLDER.get(name, ""), "image" if name in IMAGE_FOLDERS else "mask"
        elif compound:
            rest, role = compound[1], "image" if compound[2] else "mask"
        else:
            continue
        kept = [*folders[:place], *([rest] if rest else []), *folders[place + 1 :]]
        return _File(path, (*kept, path.stem), role)
    return _File(path, (*folders, path.stem), "")


def _one_band(images: list[_File], layout: Layout) -> list[_File]:
    """nnU-Net keeps each band of a picture in a file of its own, a_0000, a_0001, ...: only the first is read."""
    other = re.compile(r".*_(?!0000)\d{4}")
    further = {
        each.path
        for each in images
        if each.path.parent.name.lower() in SPLIT_OF_FOLDER and other.fullmatch(each.parts[-1])
    }
    if further:
        layout.problems.append(
            f"{len(further)} files hold further bands of a picture ({min(further).name}, ...) and are left out; "
            "save all bands of a picture in one TIFF to use them."
        )
    return [each for each in images if each.path not in further]


def _beside(images: list[_File]) -> tuple[list[_File], list[_File]]:
    """Pictures and masks in one folder: a_mask.png is the mask of a.jpg."""
    aliases = _aliases({each.key: each.path for each in images})
    masks = [
        each
        for each in images
        if _matching(each, aliases, MASK_ENDINGS) is not None or _by_rater(each, aliases, beside=True) is not None
    ]
    taken = {each.path for each in masks}
    return [each for each in images if each.path not in taken], masks


def _aliases(images: dict[str, Path]) -> dict[str, str]:
    """Key, and key without an ending such as _leftImg8bit -> key."""
    found = {key: key for key in images}
    for key in images:
        for ending in IMAGE_ENDINGS:
            if key.endswith(ending):
                found.setdefault(key.removesuffix(ending), key)
    return found


def _matching(file: _File, aliases: dict[str, str], endings: Iterable[str]) -> tuple[str, int] | None:
    """Key of the picture that the file belongs to, and which ending led there."""
    for rank, ending in enumerate(endings):
        if file.key.endswith(ending) and file.key.removesuffix(ending) in aliases:
            return aliases[file.key.removesuffix(ending)], rank
    return None


def _by_rater(file: _File, aliases: dict[str, str], beside: bool = False) -> tuple[str, int] | None:
    """Key of the picture of which the file is a rater's mask, and the rater's number. `beside`: it lies among pictures,
    of which a_r1 may be one."""
    *folders, stem = file.parts
    found = raters.ending(stem, plain=beside)
    if found is not None:
        named, number = _File(file.path, (*folders, found[0]), ""), found[1]
    elif not beside and folders and (of_folder := raters.folder(folders[-1])) is not None:
        named, number = _File(file.path, (*folders[:-1], stem), ""), of_folder
    else:
        return None
    match = _matching(named, aliases, ("", *MASK_ENDINGS))
    return None if match is None else (match[0], number)


def _by_part(file: _File, aliases: dict[str, str], class_names: Sequence[str]) -> str | None:
    """Key of the picture of which the file shows one object: it lies in a folder of the picture's name."""
    *folders, _ = file.parts
    if not folders or folders[-1] in class_names:
        return None
    here = "/".join(folders)
    return aliases.get(here) or aliases.get(f"{here}/{folders[-1]}")


def _pair(layout: Layout, masks: list[_File], class_names: Sequence[str], objects: bool) -> None:
    aliases = _aliases(layout.images)
    endings = ("", *OBJECT_ENDINGS, *MASK_ENDINGS) if objects else ("", *MASK_ENDINGS)
    classless = [_File(each.path, (*each.parts[:-2], each.parts[-1]), "") for each in masks]
    of_class = {each.path: _matching(each, aliases, endings) for each in classless}
    of_part = {each.path: _by_part(each, aliases, class_names) for each in masks}
    certain = objects or any(of_part[each.path] and not of_class[each.path] for each in masks)
    whole: dict[str, list[tuple[int, Path]]] = defaultdict(list)  # key -> masks of all classes, the best has rank 0
    single: dict[str, dict[str, Path]] = defaultdict(dict)  # key -> class -> mask of this class
    rated: dict[str, list[tuple[int, Path]]] = defaultdict(list)  # key -> raters' numbers and masks
    orphans: list[Path] = []
    parted: dict[str, list[Path]] = defaultdict(list)  # key -> masks of an object each
    for each in masks:
        match = _matching(each, aliases, endings)
        by_folder, by_part = of_class[each.path], of_part[each.path] if certain else None
        by_ending = _matching(each, aliases, [f"_{name}" for name in class_names])
        by_rater = None if set(each.parts[-2:-1]) & set(class_names) else _by_rater(each, aliases)
        if match is not None:
            whole[match[0]].append((match[1], each.path))
        elif by_ending is not None:
            single[by_ending[0]][class_names[by_ending[1]]] = each.path
        elif by_rater is not None:
            rated[by_rater[0]].append((by_rater[1], each.path))
        elif by_part is not None:
            parted[by_part].append(each.path)
        elif by_folder is not None and len(each.parts) > 1:
            single[by_folder[0]][each.parts[-2]] = each.path
        else:
            orphans.append(each.path)
    layout.parts = {
        key: tuple(sorted(found)) for key, found in parted.items() if key not in whole.keys() | rated.keys()
    }
    orphans += [path for key, found in parted.items() if key not in layout.parts for path in found]
    folders = {name for files in single.values() for name in files}
    unnamed = not class_names or (objects and not folders & set(class_names))
    if unnamed and len(folders) == 1 and not whole and not rated:  # one folder is no class: annotations/trimaps/
        whole = defaultdict(list, {key: [(0, next(iter(files.values())))] for key, files in single.items()})
        single.clear()
    if len(single) > len(whole.keys() | rated.keys()):
        layout.masks = dict(single)
        orphans += [path for found in (*whole.values(), *rated.values()) for _, path in found]
    else:
        layout.raters = {key: tuple(path for _, path in sorted(found)) for key, found in rated.items()}
        layout.masks = {key: {"": paths[0]} for key, paths in layout.raters.items()}
        layout.masks |= {key: {"": min(found)[1]} for key, found in whole.items()}
        orphans += [path for files in single.values() for path in files.values()]
    if orphans:
        several = f"{len(orphans)} masks have" if len(orphans) > 1 else "1 mask has"
        names = some(path.name for path in sorted(orphans))
        layout.problems.append(f"{several} no picture of the same name ({names}).")


def _words(root: Path, layout: Layout) -> str:
    """The layout in a few words, by the example of its first mask."""
    for key, paths in layout.parts.items():
        image, mask = layout.images[key], paths[0]
        return f"{_below(root, image)}/ + {_below(root, mask)}/ (one file an object)"
    for key, files in layout.masks.items():
        image, mask = layout.images[key], next(iter(files.values()))
        if image.parent == mask.parent:
            return f"pictures with masks beside them ({image.name}, {mask.name})"
        ending = " (one folder or file a class)" if "" not in files else ""
        if layout.raters:
            ending = f" ({_range(len(paths) for paths in layout.raters.values())} raters a picture)"
        return f"{_below(root, image)}/ + {_below(root, mask)}/{ending}"
    return "pictures without masks"


def _below(root: Path, path: Path) -> str:
    return path.parent.relative_to(root).as_posix()


def _range(numbers: Iterable[int]) -> str:
    """3 to 7, or 7 where all are alike."""
    listed = list(numbers)
    low, high = min(listed), max(listed)
    return f"{low} to {high}" if low < high else str(low)


def entry_names(images: dict[str, Path]) -> dict[str, str]:
    """A name for each key: the file's stem where no two pictures share one, else its path without suffix, and
    without the folders that all pictures share."""
    stems = {key: path.stem for key, path in images.items()}
    if len(set(stems.values())) == len(stems):
        return stems
    shared = posixpath.commonpath([posixpath.dirname(key) for key in images])
    named = {
        key: posixpath.join(posixpath.dirname(key).removeprefix(shared).lstrip("/"), stem)
        for key, stem in stems.items()
    }
    return named if len(set(named.values())) == len(named) else {key: key for key in images}


def read_lists(
    root: Path, files: Sequence[Path], names: dict[str, str], images: dict[str, Path]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Names in "train", "val" and "test", from lists such as train.txt (a stem, file name or path a line; "valid",
    "validation" are "val"), else from folders of these names; and what is wrong with the lists, a sentence each."""
    by_tail: dict[str, set[str]] = defaultdict(set)
    for tail, keys in tail_index(root, images).items():
        by_tail[tail] |= {names[key] for key in keys}
    for name in names.values():
        by_tail[name].add(name)
    lists: dict[str, list[str]] = defaultdict(list)
    problems: list[str] = []
    texts = {path for path in files if path.suffix == ".txt" and path.stem.lower() in SPLITS}
    for path in sorted(texts, key=lambda path: ("Segmentation" not in path.parts, len(path.parts), path)):
        if "ImageSets" in path.parts and "Segmentation" not in path.parts:
            continue  # VOC's lists for other tasks
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            problems.append(f"{path} can't be read ({error.strerror}).")
            continue
        missing = []
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            found = resolve(line.strip(), by_tail)
            if found is None:
                missing.append(line.strip())
            else:
                lists[SPLITS[path.stem.lower()]].append(found)
        if missing:
            problems.append(
                f"{path} names {len(missing)} pictures that are not here, or not only once ({some(missing)})."
            )
    if not lists:
        for key, name in names.items():
            split = next((SPLITS[part.lower()] for part in key.split("/")[:-1] if part.lower() in SPLITS), None)
            if split:
                lists[split].append(name)
    return {split: tuple(dict.fromkeys(lists[split])) for split in ("train", "val", "test") if split in lists}, problems


def tail_index(root: Path, images: dict[str, Path]) -> dict[str, set[str]]:
    """The keys of the pictures whose path (or key, or key without an ending) ends so, without suffix."""
    written = [(key, key) for key in images]
    written += [(path.relative_to(root).with_suffix("").as_posix(), key) for key, path in images.items()]
    written += _aliases(images).items()
    by_tail: dict[str, set[str]] = defaultdict(set)
    for path, key in written:
        for tail in _tails(path):
            by_tail[tail].add(key)
    return by_tail


def resolve(line: str, by_tail: Mapping[str, set[str]], whole: bool = False) -> str | None:
    """The one picture that a line names, by the longest end of its path that fits (`whole`: only by all of it). A line
    may be "picture mask"."""
    for text in dict.fromkeys((line, line.split()[0])):
        text = text.replace("\\", "/")
        for written in (text, re.sub(r"\.\w+$", "", text)):
            for tail in [written] if whole else _tails(written):
                found = by_tail.get(tail, set())
                if len(found) == 1:
                    return next(iter(found))
    return None


def _tails(path: str) -> Iterator[str]:
    """a/b/c, b/c, c."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def some(words: Iterable[str], most: int = 3) -> str:
    """The first few of many, for a message."""
    listed = list(words)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")


def suffixes(files: Iterable[Path]) -> str:
    """How many files of which suffix, for a message: "12 .gif, 3 .csv"."""
    counted = Counter(path.suffix.lower() or "(without suffix)" for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counted.most_common(5))
