"""Many pictures of one size in one file or one array, as small pictures are often kept.

digits.npy                      (N, H, W) or (N, H, W, C)
digits.npz                      the same as `images`, and perhaps `labels` (N,): what each picture shows
train-images-idx3-ubyte(.gz)    as MNIST is published; labels from train-labels-idx1-ubyte(.gz) beside it
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError, UnsafeFileError
from ..records import Sample

IMAGE_KEYS = ("images", "image", "x", "pictures", "arr_0")
LABEL_KEYS = ("labels", "categories", "classes", "y", "arr_1")
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_BYTES = 16 * 2**30  # of an array that a header may ask for


class Stack:
    """Pictures of an array as samples, by number."""

    def __init__(self, images: np.ndarray, categories: np.ndarray | None = None, numbers: np.ndarray | None = None):
        """images: (N, H, W, C) as `as_stack` gives them. categories: (N,), what each shows, negative: unknown.
        numbers: the part of them that is meant, in this order; None: all."""
        self.images, self.categories = images, categories
        self.numbers = np.arange(len(images)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        number = int(self.numbers[index])
        category = None if self.categories is None or self.categories[number] < 0 else int(self.categories[number])
        return Sample(f"picture {number}", self.images[number], category=category)

    def digest(self) -> str:
        """16 hexadecimal digits that differ for any other pictures, classes or numbers."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.images, self.categories, self.numbers):
            if part is not None:
                digest.update(f"{part.shape} {part.dtype}".encode())
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def is_stack(path: Path) -> bool:
    """Whether the file is named like one that holds many pictures."""
    return path.suffix.lower() in (".npy", ".npz") or _is_idx(path)


def read_stack(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures (N, H, W, C) uint8, uint16 or float32, and what each shows (N,) int64, None where the file does not
    say. Raises DataError for what is no such file, UnsafeFileError for one with pickles."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; give an .npy, .npz or idx file of pictures.")
    try:
        if _is_idx(path):
            images, labels = _read_idx(path), _labels_beside(path)
        elif path.suffix.lower() == ".npz":
            images, labels = _read_npz(path)
        elif path.suffix.lower() == ".npy":
            images, labels = np.load(path, allow_pickle=False), None
        else:
            raise DataError(f"{path} is no file of many pictures; expected .npy, .npz or …-images-idx3-ubyte(.gz).")
    except (EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        if "allow_pickle" in str(error) or "pickle" in str(error).lower():
            raise UnsafeFileError(
                f"{path} holds Python objects, which can run code when opened, and was refused; save plain arrays."
            ) from error
        raise DataError(f"{path} can't be read as a stack of pictures ({error}); was it copied whole?") from error
    return as_stack(images, str(path)), as_categories(labels, len(images), str(path))


def as_stack(images: np.ndarray, source: str = "the array") -> np.ndarray:
    """(N, H, W, C) uint8, uint16 or float32 of an array (N, H, W) or (N, H, W, C); DataError for any other."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{source} has the shape {images.shape}; expected (N, H, W) or (N, H, W, C): N pictures, channels last."
        )
    if images.shape[3] > 64 and images.shape[1] <= 4:
        raise DataError(
            f"{source} has the shape {images.shape}, which looks like channels first; save np.moveaxis(array, 1, -1)."
        )
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * 255
    if images.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(images)
    if images.dtype.kind == "f":
        low, high = float(images.min()), float(images.max())
        if not np.isfinite(low) or not np.isfinite(high):
            bad = np.unique(np.nonzero(~np.isfinite(images))[0])
            raise DataError(
                f"{source} holds numbers that are not finite, in {len(bad)} pictures such as number {bad[0]}; "
                "leave those out or repair them."
            )
        if low >= 0 and high <= 1:
            return images.astype(np.float32)
        raise DataError(f"{source} holds {low:g}..{high:g}; float pictures are in [0, 1]: divide by the largest value.")
    raise DataError(f"{source} holds values of type {images.dtype}; expected uint8, uint16, bool or float in [0, 1].")


def as_categories(labels: np.ndarray | None, count: int, source: str = "the array") -> np.ndarray | None:
    """(N,) int64 of what pictures show; DataError where that is not one whole number a picture."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iub":
        raise DataError(
            f"{source} has labels of shape {labels.shape} and type {labels.dtype} for {count} pictures; "
            "expected one whole number a picture."
        )
    return labels.astype(np.int64)


def _is_idx(path: Path) -> bool:
    return re.fullmatch(r".*idx\d-ubyte(\.gz)?", path.name) is not None


def _read_idx(path: Path) -> np.ndarray:
    """Two zero bytes, the type, the number of axes, their lengths as big-endian 32 bits, the values."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not 1 <= head[3] <= 4:
            raise ValueError("it does not begin as an idx file does")
        shape = np.frombuffer(stream.read(4 * head[3]), ">u4").astype(object)
        dtype = np.dtype(IDX_TYPES[head[2]])
        size = int(np.prod(shape)) * dtype.itemsize
        if len(shape) != head[3] or size > MOST_BYTES:
            raise ValueError(f"its header asks for {size:,} bytes")
        values = stream.read(size + 1)
    if len(values) != size:
        raise ValueError(f"its header promises {size:,} bytes of values")
    return np.frombuffer(values, dtype).reshape(tuple(int(each) for each in shape))


def _labels_beside(path: Path) -> np.ndarray | None:
    name = re.sub(r"images([-.])idx\d", r"labels\1idx1", path.name)
    beside = path.with_name(name)
    return _read_idx(beside) if name != path.name and beside.is_file() else None


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with np.load(path, allow_pickle=False) as archive:
        keys = archive.files
        found = next((key for key in IMAGE_KEYS if key in keys), keys[0] if len(keys) == 1 else None)
        if found is None:
            raise DataError(f"{path} holds the arrays {', '.join(keys) or 'none'}; call the pictures `images`.")
        labels = next((key for key in LABEL_KEYS if key in keys), None)
        return archive[found], None if labels is None else archive[labels]
