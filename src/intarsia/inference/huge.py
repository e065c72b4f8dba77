"""A picture of any size, file to files: windows in, blocks through the network, BigTIFF or OME-Zarr with a pyramid out.

What is finished is collected as compressed tiles in a folder beside the answers, and a journal says so, a line for each
row of tiles, once the tiles are on the disk. After a kill, a full disk or a place of the picture that can't be read,
the same call goes on below the last row of the journal; what it gives is what it would have given at once. The answers
themselves are put together at the end, each whole or not there, the mask last; the folder is then gone.

Memory is that of a few tiles, whatever the picture's size: what has to wait for its neighbours waits on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import drawing
from ..data.pyramids import SIDE, Plane, TileFile, write_pyramid
from ..data.windows import Windows
from ..data.zarr_pyramids import write_zarr_pyramid
from ..drawing import to_uint16
from ..files import append, make_folder, write_atomically
from ..records import IGNORE, Classes, Image, Labels, Mask
from .scratch import Scratch
from .tiles import Sliceable, Tiling

HUGE_PIXELS = 64_000_000  # height times width: 8,000 x 8,000; beyond, a PNG is nothing that a viewer likes to open
UNFINISHED = ".unfinished"  # the folder of what is collected, in the folder of answers
MASKS, LABELS, OVERLAYS, UNCERTAINTY, PROBABILITIES = "masks", "labels", "overlays", "uncertainty", "probabilities"

Entry = Mapping[str, str | int]


class Strip(Protocol):
    """The answer for a part of a picture, as `Prediction` is one. What nobody asks for is not computed."""

    @property
    def image(self) -> Image: ...
    @property
    def mask(self) -> Mask: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def uncertainty(self) -> np.ndarray: ...
    @property
    def probabilities(self) -> np.ndarray: ...


class BlockAnswerer(Protocol):
    """Who can be asked for a picture block by block: a `Predictor`, or an exported file."""

    @property
    def classes(self) -> Classes: ...
    @property
    def limit(self) -> int: ...
    @property
    def tiling(self) -> Tiling: ...
    def settings(self) -> dict[str, Any]: ...
    def windows(self, path: Path, scratch: Path | None = None, /) -> Windows | None: ...
    def blocks(self, image: Sliceable, scratch: Path, name: str, start: int, /) -> Iterator[tuple[int, int, Strip]]: ...


def answer_huge(
    predictor: BlockAnswerer,
    picture: Windows,
    name: str,
    files: Mapping[str, Path],
    state: Path,
    entry: Entry,
    within: Callable[[int], object] = lambda rows: None,
) -> None:
    """Write the `files` of a picture: of MASKS, OVERLAYS, UNCERTAINTY, and LABELS/0, LABELS/1, …, each a .tif or .zarr.

    state: a folder of this picture's own, on the disk of the files; what an earlier call left there is gone on with if
    it is of the same picture, which `entry` tells, the same predictor and the same kinds of files. `within` gets the
    rows of pixels that are finished. Raises DataError where the picture can't be read, DiskError where the disk is full
    or can't be written; what is finished then stays for the next call.
    """
    planes = {layer: _plane(layer, picture.shape, predictor.classes) for layer in files}
    stamp = {
        "name": name, "picture": dict(entry), "settings": predictor.settings(),
        "planes": {layer: asdict(plane) for layer, plane in planes.items()}, "side": SIDE,
    }  # fmt: skip
    journal = Journal(state, json.loads(json.dumps(stamp)), planes)
    if journal.done < picture.shape[0]:
        _collect(predictor, picture, name, journal, within)
    for layer in sorted(files, key=lambda each: each == MASKS):  # the mask last: it says that all is there
        make_folder(files[layer].parent)
        _write(files[layer], journal.tiles[layer], predictor.classes if layer == MASKS else None)
    forget(state)


def _write(file: Path, tiles: TileFile, classes: Classes | None) -> None:
    """A whole plane to its file. classes: what the numbers mean, of a mask."""
    if file.suffix == ".zarr":
        write_zarr_pyramid(file, tiles, list(zip(classes.names, classes.colours, strict=True)) if classes else None)
        return
    palette = _palette(classes) if classes and tiles.plane.dtype == "uint8" else None
    notes = {str(i): each for i, each in enumerate(classes.names)} if classes else None
    write_pyramid(file, tiles, palette=palette, notes=notes)


def state_of(out: Path, name: str) -> Path:
    """The folder in which a picture's finished tiles are collected. Names hold slashes, and can be long."""
    return out / UNFINISHED / hashlib.blake2b(os.fsencode(name), digest_size=10).hexdigest()


def forget(state: Path) -> None:
    """Take the folder of a picture away, if there is one, and the one above if it is the last."""
    if state.parent.is_dir():
        shutil.rmtree(state, ignore_errors=True)
        if not any(state.parent.iterdir()):
            shutil.rmtree(state.parent, ignore_errors=True)


class Journal:
    """The finished rows of tiles of all of a picture's files: `tiles` holds them, `done` counts their pixels' rows."""

    def __init__(self, folder: Path, stamp: dict[str, Any], planes: Mapping[str, Plane]) -> None:
        """Goes on with what stands in the folder if it has the same stamp, else begins anew. Raises DiskError."""
        self.path, self.planes = folder / "journal", planes
        rows = self._read(stamp)
        self.height = next(iter(planes.values())).height
        make_folder(folder)
        lines = [json.dumps(stamp), *(json.dumps(row) for row in rows)]
        write_atomically(self.path, "".join(line + "\n" for line in lines).encode())  # without a line cut in two
        self.tiles = {
            layer: TileFile(folder / f"{number}.tiles", plane, [row[layer] for row in rows])
            for number, (layer, plane) in enumerate(planes.items())
        }
        self.rows = len(rows)

    @property
    def done(self) -> int:
        """Rows of pixels."""
        return min(self.rows * SIDE, self.height)

    def append(self, tiles: Mapping[str, Iterator[np.ndarray]]) -> None:
        """Add the next row of tiles of each file. Raises DiskError; the row is then not there."""
        lengths = {layer: self.tiles[layer].append(row) for layer, row in tiles.items()}
        append(self.path, (json.dumps(lengths) + "\n").encode())
        self.rows += 1

    def _read(self, stamp: dict[str, Any]) -> list[dict[str, list[int]]]:
        rows: list[dict[str, list[int]]] = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            if not lines or json.loads(lines[0]) != stamp:
                return []
            for line in lines[1:]:
                row = json.loads(line)
                if any(len(row[layer]) != plane.grid[1] for layer, plane in self.planes.items()):
                    break
                rows.append(row)
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):  # cut off while it was written: what stands before is whole
            pass
        return rows


def _collect(
    predictor: BlockAnswerer, picture: Windows, name: str, journal: Journal, within: Callable[[int], object]
) -> None:
    """Ask for the blocks below what is done, and add each row of tiles to the journal when it is complete."""
    height, width = picture.shape[:2]
    folder, classes = journal.path.parent, predictor.classes
    shown = _shown(picture) if OVERLAYS in journal.planes else None
    # A block, what an unfinished row waits for, and a row above and below it, of which the lines of overlays depend.
    rows = min(height, predictor.tiling.first(height, width)[0] + SIDE + 2)
    with ExitStack() as opened:
        scratches = {
            layer: opened.enter_context(Scratch(folder, rows, width * plane.samples, np.dtype(plane.dtype)))
            for layer, plane in journal.planes.items()
        }
        _put_row_above(scratches[MASKS], journal)
        for top, left, part in predictor.blocks(picture, folder, name, journal.done):
            values = {layer: _values(layer, part, plane.dtype, shown) for layer, plane in journal.planes.items()}
            high, wide = part.image.shape[:2]
            for layer, block in values.items():
                samples = journal.planes[layer].samples
                scratches[layer].write(top, left * samples, block.reshape(high, -1))
            if left + wide == width:
                while journal.done < height and min(journal.done + SIDE + 1, height) <= top + high:
                    journal.append({layer: _tiles(scratches, journal, layer, classes) for layer in journal.planes})
                within(min(top + high, height))


def _put_row_above(mask: Scratch, journal: Journal) -> None:
    """The last row of pixels that an earlier call has finished."""
    tiles = journal.tiles[MASKS]
    if journal.rows:
        with tiles.path.open("rb") as file:
            for column in range(tiles.plane.grid[1]):
                left = column * SIDE
                row = tiles.tile(file, journal.rows - 1, column)[-1, : tiles.plane.width - left, 0]
                mask.write(journal.done - 1, left, row[None])


def _tiles(scratches: Mapping[str, Scratch], journal: Journal, layer: str, classes: Classes) -> Iterator[np.ndarray]:
    """(SIDE, SIDE, S) for each tile of the next row."""
    plane, top = journal.planes[layer], journal.done
    bottom = min(top + SIDE, plane.height)
    for left in range(0, plane.width, SIDE):
        right = min(left + SIDE, plane.width)
        part = scratches[layer].read(top, bottom, left * plane.samples, right * plane.samples)
        part = part.reshape(bottom - top, right - left, plane.samples)
        if layer == OVERLAYS:
            part = _overlay(part, scratches[MASKS], (top, bottom, left, right), journal.planes[MASKS], classes)
        yield plane.filled(part)


def _overlay(
    image: Image, mask: Scratch, place: tuple[int, int, int, int], plane: Plane, classes: Classes
) -> np.ndarray:
    """(h, w, 3): the overlay of a part, with lines that depend on the pixels around it, too."""
    top, bottom, left, right = place
    above, before = min(top, 1), min(left, 1)
    below, after = min(plane.height - bottom, 1), min(plane.width - right, 1)
    numbers = mask.read(top - above, bottom + below, left - before, right + after).astype(np.int16)
    if classes.overlapping:
        numbers[numbers == np.iinfo(plane.dtype).max] = IGNORE
    around = np.pad(image, ((above, below), (before, after), (0, 0)))
    drawn = drawing.overlay(around, numbers, classes)
    return drawn[above : above + bottom - top, before : before + right - left]


def _plane(layer: str, shape: tuple[int, ...], classes: Classes) -> Plane:
    height, width = shape[:2]
    if layer == OVERLAYS:
        return Plane(height, width, "uint8", samples=3)
    if layer == UNCERTAINTY:
        return Plane(height, width, "uint16")
    wide = layer == MASKS and len(classes) > 255  # as `drawing.write_mask`: the largest number is IGNORE
    return Plane(height, width, "uint16" if wide else "uint8", kind="classes")


def _values(layer: str, part: Strip, dtype: str, shown: Callable[[Image], Image] | None) -> np.ndarray:
    """(h, w) or (h, w, 3): what stands in a file, for a part of the picture; of overlays, the picture below."""
    if layer == OVERLAYS:
        assert shown is not None
        return drawing.to_rgb8(shown(part.image))
    if layer == UNCERTAINTY:
        return to_uint16(part.uncertainty)
    if layer == MASKS:
        return part.mask.astype(dtype)
    return part.labels[int(layer.removeprefix(f"{LABELS}/"))].astype(np.uint8) * np.uint8(255)


def _shown(picture: Windows) -> Callable[[Image], Image]:
    """What makes a part of the picture 8 bits to look at, all parts alike: as `drawing.to_rgb8` does with the whole."""
    if picture.dtype == np.uint8:
        return lambda part: part
    every = tuple(max(1, side // 1000) for side in picture.shape[:2])
    low, high = np.percentile(picture[:: every[0], :: every[1]], (0.5, 99.5)).tolist()
    if low == high:
        low, high = 0.0, 65535.0 if picture.dtype == np.uint16 else 1.0
    scale = 255 / (high - low)
    return lambda part: ((part.astype(np.float32) - low) * scale + 0.5).clip(0, 255).astype(np.uint8)


def _palette(classes: Classes) -> np.ndarray:
    """(3, 256) uint16, as TIFF has it."""
    return (np.array(classes.palette(), np.uint16).reshape(256, 3).T * np.uint16(257)).astype(np.uint16)
