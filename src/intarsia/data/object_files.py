"""Objects of one picture -> the files of each format that `open_folder(..., objects=True)` reads.

    coco        JSON of a whole folder: run lengths, or polygons of objects without holes
    yolo        a text file a picture, a polygon a line; holes and parts hang together by seams of no width
    labels      a label image a picture: PNG of 16 bits, TIFF of 32 bits beyond 65534 objects
    binaries    a PNG an object: 255 inside, 0 outside (the layout of the 2018 Data Science Bowl)
    arrays      an .npz a picture: a plane (H, W) of 0 and 1 an object

Objects that overlap are written whole where the format lets them overlap: in all but label images. Nothing here holds
more than one picture's objects, and but for arrays none of them as a mask of the whole picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.ndimage import find_objects

from ..drawing import encode_png
from ..errors import DataError
from ..files import make_folder, remove_file, write_atomically
from ..records import IGNORE, Classes, Instances
from .outlines import joined, outlines
from .run_lengths import area_of, box_of, encode_counts, mask_in_box, run_lengths, run_lengths_in_box

WRITERS = 8  # files that are on their way to the disk at once, each with a plane of the picture's size
MOST_ARRAY = 1 << 28  # bytes of a picture's planes, one a pixel and object: 256 MiB


@dataclass(frozen=True)
class Piece:
    """One object in its box."""

    number: int  # in the label image, 1..N
    class_: int  # 1..K-1
    score: float | None  # in [0, 1]
    left: int  # pixels
    top: int
    mask: np.ndarray  # (h, w) bool


def pieces(instances: Instances) -> Iterator[Piece]:
    """The objects that have a pixel, by number, one at a time; whole ones where they overlap."""
    label_image, runs = instances.label_image, instances.runs
    found = find_objects(np.maximum(label_image, 0)) if runs is None else [None] * len(runs)
    for number, place in enumerate(found, start=1):
        if runs is not None:
            left, top, mask = mask_in_box(runs[number - 1], (label_image.shape[0], label_image.shape[1]))
        elif place is not None:
            left, top, mask = place[1].start, place[0].start, label_image[place] == number
        else:
            continue
        if mask.size:
            score = None if instances.scores is None else float(instances.scores[number - 1])
            yield Piece(number, int(instances.classes[number - 1]), score, left, top, mask)


@dataclass
class CocoFile:
    """Writes COCO JSON, picture by picture, so that only one picture's objects are in memory.

    Category c is class c of `classes`. What nobody knows is a crowd of a category of its own, number K, called
    "unknown"; it is listed where it occurs.
    """

    classes: Classes
    polygons: bool = False  # of objects without holes; the others stay run lengths
    tolerance: float = 0.0  # pixels by which polygons may leave the pixels' edges
    objects: int = 0  # that were written
    holes: int = 0  # objects that stayed run lengths because polygons can't say what they leave out

    def write(self, path: Path, pictures: Iterable[tuple[str, Instances]]) -> Path:
        """Write pictures by the names of their files, and their objects. Whole or not at all, even where `pictures`
        raises on the way. Returns the path."""
        return write_atomically(path, lambda file: self._write(file, pictures))

    def _write(self, file: BinaryIO, pictures: Iterable[tuple[str, Instances]]) -> None:
        images: list[dict[str, Any]] = []
        unknown = False
        before = '{"annotations": [\n'
        number = 0
        for image, (file_name, instances) in enumerate(pictures, start=1):
            height, width = instances.label_image.shape
            images.append({"id": image, "file_name": file_name, "width": width, "height": height})
            for each in self.annotations(instances):
                number += 1
                unknown |= bool(each["iscrowd"])
                line = json.dumps({"id": number, "image_id": image, **each}, ensure_ascii=False, separators=(",", ":"))
                file.write((before + line).encode("utf-8", "replace"))
                before = ",\n"
        names = [*enumerate(self.classes.names[1:], start=1), *([(len(self.classes), "unknown")] if unknown else [])]
        rest = {"images": images, "categories": [{"id": each, "name": name} for each, name in names]}
        text = json.dumps(rest, ensure_ascii=False)
        end = (before if before != ",\n" else "\n") + "],\n" + text[1:] + "\n"
        file.write(end.encode("utf-8", "replace"))

    def annotations(self, instances: Instances) -> Iterator[dict[str, Any]]:
        """One dictionary an object, without the numbers that a file gives it and its picture."""
        size = (instances.label_image.shape[0], instances.label_image.shape[1])
        whole = run_lengths(instances.label_image, len(instances)) if instances.runs is None else instances.runs
        for number, runs in enumerate(whole):
            area = area_of(runs)
            if not area:
                continue
            segmentation: Any = _coded(runs, size)
            if self.polygons:
                left, top, mask = mask_in_box(runs, size)
                parts = outlines(mask, left, top, self.tolerance)
                if any(part.holes for part in parts):
                    self.holes += 1
                else:
                    segmentation = [_numbers(part.outer) for part in parts]
            self.objects += 1
            one = _annotation(int(instances.classes[number]), segmentation, area, box_of(runs, size[0]), 0)
            yield one if instances.scores is None else one | {"score": round(float(instances.scores[number]), 6)}
        unknown = instances.label_image == IGNORE
        if unknown.any():
            runs = run_lengths_in_box(unknown, 0, 0, size)
            yield _annotation(len(self.classes), _coded(runs, size), area_of(runs), box_of(runs, size[0]), 1)


def write_yolo(path: Path, instances: Instances, tolerance: float = 0.0) -> Path:
    """Write a text file of one line an object, class c of the list of classes as c - 1; of a picture without objects
    an empty file. What nobody knows is left out: YOLO has no word for it. Returns the path."""
    height, width = instances.label_image.shape
    lines = []
    for piece in pieces(instances):
        ring = joined(outlines(piece.mask, piece.left, piece.top, tolerance)) / np.array([width, height])
        lines.append(f"{piece.class_ - 1} {' '.join(map(_share, ring.ravel().tolist()))}\n")
    return write_atomically(path, "".join(lines).encode())


def write_arrays(path: Path, instances: Instances) -> Path:
    """Write an .npz of one array (N, H, W) uint8, 1 inside. Raises DataError above MOST_ARRAY bytes. Returns the
    path."""
    height, width = instances.label_image.shape
    size = len(instances) * height * width
    if size > MOST_ARRAY:
        raise DataError(
            f"{path} would hold {len(instances)} planes of {width} x {height} pixels, {size >> 20} MiB where "
            f"{MOST_ARRAY >> 20} are the most; arrays are for small pictures: convert to labels or coco."
        )
    planes = np.zeros((len(instances), height, width), np.uint8)
    for piece in pieces(instances):
        _paint(planes[piece.number - 1], piece, 1)
    return write_atomically(path, lambda file: np.savez_compressed(file, masks=planes))


def write_binaries(folder: Path, instances: Instances, names: Iterable[str]) -> list[Path]:
    """Write a PNG an object that has a pixel, `folder/NAME.png`, and remove other PNG files there. `names`: of objects
    1..N, without suffix. Returns the paths."""
    make_folder(folder)
    listed = list(names)

    def write(piece: Piece) -> Path:
        plane = np.zeros(instances.label_image.shape, np.uint8)
        _paint(plane, piece, 255)
        return write_atomically(folder / f"{listed[piece.number - 1]}.png", encode_png(plane))

    with ThreadPoolExecutor(WRITERS) as pool:  # a file takes its time to reach the disk, many at once hardly more
        written = list(pool.map(write, pieces(instances)))
    for other in set(folder.glob("*.png")) - set(written):
        remove_file(other)
    return written


def _paint(plane: np.ndarray, piece: Piece, value: int) -> None:
    height, width = piece.mask.shape
    plane[piece.top : piece.top + height, piece.left : piece.left + width][piece.mask] = value


def _coded(runs: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    return {"size": list(size), "counts": encode_counts(runs)}


def _numbers(ring: np.ndarray) -> list[float]:
    """x, y, x, y, ...; whole numbers without a decimal point, as corners of pixels are."""
    return [int(value) if value == int(value) else round(value, 3) for value in ring.ravel().tolist()]


def _share(value: float) -> str:
    """0.25, never 2.5e-1; exact to a thousandth of a pixel in pictures of 100000."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _annotation(
    category: int, segmentation: Any, area: int, box: tuple[int, int, int, int], crowd: int
) -> dict[str, Any]:
    left, top, right, bottom = box
    return {
        "category_id": category, "segmentation": segmentation, "area": area,
        "bbox": [left, top, right - left, bottom - top], "iscrowd": crowd,
    }  # fmt: skip
