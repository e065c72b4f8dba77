"""Pictures to learn the look of: no masks needed. A folder in any layout, a folder a class, or an array."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..errors import DataError, UsageError
from ..records import Classes, Image, Sample
from .fingerprint import Measures, measure
from .layout import SPLITS, arrange, entry_names, list_files, read_lists
from .read import as_channels, read_header, read_image
from .sets import common_channels
from .split import divide
from .stack import Stack, as_categories, as_stack, is_stack, read_stack

if TYPE_CHECKING:  # batches are torch's
    from .batches import Samples

LOOKED_AT = 400  # pictures, evenly spread, that are measured before training


class Pictures:
    """Picture files as samples, read at each access, all with the same number of channels."""

    def __init__(self, files: Sequence[tuple[str, Path, int | None]], channels: int) -> None:
        """files: name, path and category of each."""
        self.files, self.channels = tuple(files), channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        name, path, category = self.files[index]
        image = read_image(path)
        try:
            return Sample(name, as_channels(image, self.channels), category=category)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def digest(self) -> str:
        """16 hexadecimal digits that differ where a file is added, removed, changes its size or its category."""
        digest = hashlib.sha256()
        for name, path, category in self.files:
            digest.update(f"{name} {path.stat().st_size} {category}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]


class Whole:
    """Samples brought to where they just cover a size: for models of whole pictures, not of pieces."""

    def __init__(self, samples: Samples, size: tuple[int, int]) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        image = covering(sample.image, self.size)
        mask = None if sample.mask is None else _nearest(sample.mask, image.shape[:2])
        labels = None if sample.labels is None else np.stack([_nearest(p, image.shape[:2]) for p in sample.labels])
        return Sample(sample.name, image, mask, labels, category=sample.category)


@dataclass(frozen=True)
class PictureSets:
    """What a folder or an array offers to a generative training."""

    train: Pictures | Stack
    validation: Pictures | Stack
    test: Pictures | Stack
    channels: int  # of every picture
    classes: Classes  # what whole pictures show; no names where nobody said
    measures: tuple[Measures, ...]  # of up to LOOKED_AT training pictures
    reason: str  # how it was divided and why

    def fingerprint(self) -> str:
        """A digest of which pictures are in which part."""
        return "-".join(part.digest() for part in (self.train, self.validation, self.test))


def open_pictures(
    source: str | Path | np.ndarray,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    channels: int | None = None,
    categories: np.ndarray | None = None,
) -> PictureSets:
    """The pictures in their parts. Masks are neither needed nor looked at.

    source: a folder in any layout, where a folder a class says what its pictures show; a file of many pictures (.npy,
    .npz, idx); or an array (N, H, W) or (N, H, W, C) with `categories` (N,).
    validation, test: shares held back, where the folder has no lists of its own. channels: None: what all pictures can
    be shown with. Raises DataError where there is nothing to learn from, UsageError for shares that leave nothing.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UsageError(
            f"validation = {validation} and test = {test} leave nothing to learn from; each is a share of the "
            "pictures in [0, 1), and their sum is below 1."
        )
    if isinstance(source, np.ndarray):
        images = as_stack(source)
        return _stacked(images, as_categories(categories, len(images)), validation, test, seed, "the array")
    path = Path(source)
    if path.is_file() and is_stack(path):
        return _stacked(*read_stack(path), validation, test, seed, str(path))
    if not path.is_dir():
        what = "is no folder of pictures, and no .npy, .npz or idx file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}; give a folder with pictures in it or below.")
    return _from_folder(path, validation, test, seed, channels)


def covering(image: Image, size: tuple[int, int]) -> Image:
    """The picture scaled, its shape kept, to the smallest that covers `size` (height, width)."""
    factor = max(size[0] / image.shape[0], size[1] / image.shape[1])
    if factor == 1:
        return image
    height, width = (max(want, round(factor * have)) for want, have in zip(size, image.shape[:2], strict=True))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    groups = range(0, image.shape[2], 4)  # OpenCV scales four channels at a time
    scaled = [cv2.resize(image[..., i : i + 4], (width, height), interpolation=how) for i in groups]
    return np.concatenate([each.reshape(height, width, -1) for each in scaled], axis=2)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """The picture (H, W, C) at exactly `size` (height, width): scaled until it covers it, its middle cut out."""
    image = covering(image, size)
    top, left = ((have - want) // 2 for have, want in zip(image.shape[:2], size, strict=True))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def _nearest(plane: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def _stacked(
    images: np.ndarray, categories: np.ndarray | None, validation: float, test: float, seed: int, source: str
) -> PictureSets:
    """A stack has no names to group by: its pictures are divided one by one."""
    held = [round(share * len(images)) or int(share > 0) for share in (validation, test)]
    if len(images) <= sum(held):
        raise DataError(
            f"{source} has {len(images)} picture{'s' * (len(images) != 1)}, too few to learn from some and hold others "
            "back; give more, or set data.validation = 0."
        )
    order = np.random.default_rng((seed, len(images))).permutation(len(images))
    parts = [np.sort(part) for part in np.split(order, np.cumsum(held))]  # validation, test, train
    stacks = [Stack(images, categories, part) for part in parts]
    train = stacks[2]
    most = 1 + max(-1, int(categories.max())) if categories is not None else 0
    return PictureSets(
        train,
        stacks[0],
        stacks[1],
        images.shape[3],
        Classes.named([str(number) for number in range(most)]) if most else Classes((), ()),
        _measured(train),
        "Divided picture by picture, at random.",
    )


def _from_folder(root: Path, validation: float, test: float, seed: int, channels: int | None) -> PictureSets:
    files = list_files(root)
    layout = arrange(root, files)
    if not layout.images:
        raise DataError(
            f"{root} holds no pictures: looked for PNG, JPEG, TIFF, WebP, BMP, .npy and .npz files in it and below; "
            "put pictures there."
        )
    names = entry_names(layout.images)
    lists, _ = read_lists(root, files, names, layout.images)
    shown = _categories(layout.images)
    kinds = sorted(set(shown.values()))
    entries = {
        names[key]: (names[key], path, kinds.index(shown[key]) if key in shown else None)
        for key, path in layout.images.items()
    }
    parts, reason = _divided(root, sorted(entries), lists, validation, test, seed)
    looked_at = Pictures([entries[name] for name in parts["train"]], 0)
    found = _channels(looked_at) if channels is None else channels
    train, held, tested = (
        Pictures([entries[name] for name in parts[part]], found) for part in ("train", "validation", "test")
    )
    return PictureSets(train, held, tested, found, Classes.named(kinds), _measured(train), reason)


def _categories(images: dict[str, Path]) -> dict[str, str]:
    """The folder that each picture lies in, by key, where folders say what pictures show: two or more of them, all
    pictures in one, four or more in each on average. Folders named train, val and test say something else."""
    folders: dict[str, str] = {}
    for key in images:
        telling = [part for part in key.split("/")[:-1] if part.lower() not in SPLITS]
        if not telling:
            return {}
        folders[key] = telling[-1]
    kinds = set(folders.values())
    return folders if 2 <= len(kinds) <= len(folders) / 4 else {}


def _divided(
    root: Path, names: list[str], lists: dict[str, tuple[str, ...]], validation: float, test: float, seed: int
) -> tuple[dict[str, list[str]], str]:
    """The folder's own lists hold; else whole groups of names are held back, as for segmentation."""
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    reasons: list[str] = []
    for part, key in (("validation", "val"), ("test", "test")):
        parts[part] = sorted(lists.get(key, ()))
    held = set(parts["validation"]) | set(parts["test"])
    shared = sorted(held & set(lists.get("train", ())))
    if shared:
        raise DataError(f"{shared[0]} is in the training list of {root} and in another; remove it from one.")
    if lists:
        reasons.append("The folder's own lists hold.")
    pool = sorted(lists["train"]) if "train" in lists else [name for name in names if name not in held]
    wishes = {
        part: share
        for part, key, share in (("test", "test", test), ("validation", "val", validation))
        if key not in lists and share
    }
    if wishes:
        if len(pool) <= len(wishes):
            raise DataError(
                f"{root} has {len(pool)} picture{'s' * (len(pool) != 1)}, too few to learn from some and hold others "
                f"back for {' and '.join(wishes)}; give more, or set data.validation = 0 to learn from all."
            )
        parts |= divide(pool, wishes, seed, reasons)
    held = set(parts["validation"]) | set(parts["test"])
    parts["train"] = [name for name in pool if name not in held]
    if not parts["train"]:
        raise DataError(f"{root} has no picture to learn from once validation and test are held back; give more.")
    return parts, " ".join(reasons)


def _channels(pictures: Pictures) -> int:
    """What all pictures can be shown with, by those that are looked at."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda index: read_header(pictures.files[index][1]).channels, _spread(len(pictures))))
    return common_channels(found)


def _measured(samples: Pictures | Stack) -> tuple[Measures, ...]:
    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(lambda index: measure(samples[index], 0), _spread(len(samples))))


def _spread(count: int) -> list[int]:
    return [int(index) for index in np.linspace(0, count - 1, min(count, LOOKED_AT))]
