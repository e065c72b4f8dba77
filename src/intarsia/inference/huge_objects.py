"""The objects of a picture of any size, file to files: windows in, a label image of 32 bits with a pyramid out.

    windows ──► maps ─────────► objects of a window ──► views, numbered ──► joined at seams ──► objects 1..N
    of the      on the disk,    with what of the         on the disk         (`seams.py`)        label image, table,
    picture     blended         neighbours it sees                                               outlines

Maps of tiles are blended as they are of a picture that is held whole, and wait on the disk until a window of them is
there. A model of detections is asked for each window. What a window finds is a label image of it. Neighbouring windows
share a strip, at whose middle the one ends and the other begins to have the say: there, its objects stand, and of the
neighbour's those that it sees whole, where nothing else is. Views of one object that agree at the seam are joined.

So an object that is no wider and no higher than half a strip is what it is when the picture is asked as a whole, as far
as the model finds it by what is near it; larger ones are joined of parts, however long they are.

Memory is that of a window, and some 20 bytes a view of an object. The picture is read twice, thrice with outlines.
What is unfinished is gone with its process: the objects of a huge picture begin again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..data.levels import Stretched
from ..data.pyramids import SIDE as TILE
from ..data.pyramids import Plane, TileFile, write_pyramid
from ..drawing import object_overlay
from ..errors import UsageError
from ..files import append, make_folder, write_atomically
from ..metrics.object_measurements import words
from ..metrics.object_sums import merged, record_type, sums_of, table_of
from ..records import Classes, Instances
from .huge import LABELS, OVERLAYS, forget
from .joining import REACH
from .scratch import Scratch
from .seams import Seams
from .tiles import Sliceable, Tiling, starts

SIDE, SHARED = 1024, 256  # pixels of a window's sides, and of the strip that neighbours share
MEASUREMENTS = "measurements"
TOGETHER = 1 << 16  # objects of which the table is made at a time
COLOURS = 997  # that objects have in turn; a prime: objects of one colour are seldom neighbours


class ObjectAnswerer(Protocol):
    """Who can be asked for the objects of a part of a picture: an `ObjectPredictor`."""

    @property
    def classes(self) -> Classes: ...
    @property
    def gives_maps(self) -> bool: ...
    @property
    def huge_tiling(self) -> Tiling: ...
    def map_blocks(self, image: Sliceable, scratch: Path, /) -> Iterator[tuple[int, int, np.ndarray]]: ...
    def objects_of_maps(self, maps: np.ndarray, /) -> Instances: ...
    def levelled(self, image: Sliceable, /) -> Sliceable: ...
    def objects_of_part(self, part: np.ndarray, /) -> Instances: ...


@dataclass(frozen=True)
class Span:
    """A window along one side: start <= first <= last <= end, pixels; it has the say from `first` up to `last`."""

    start: int
    end: int
    first: int
    last: int

    def band(self, after: Span) -> tuple[int, int]:
        """The pixels around the seam to the next window that are far from the borders of both."""
        reach = max(1, (self.end - after.start) // 4)
        return max(after.start, self.last - reach), min(self.end, self.last + reach)


@dataclass(frozen=True)
class Found:
    """What is known when each window was asked."""

    seams: Seams
    tiles: TileFile  # numbers of views
    scored: bool  # whether the model gives scores


def answer_huge_objects(
    predictor: ObjectAnswerer,
    picture: Sliceable,
    files: Mapping[str, Path],
    state: Path,
    *,
    measured: bool = True,
    side: int = SIDE,
    shared: int = SHARED,
) -> int:
    """How many objects a picture (H, W, C) has, once the `files` are written: LABELS and, as they are asked for,
    OVERLAYS, each a .tif, and MEASUREMENTS, a .csv.

    measured: False: the table holds number, class and score only. side: pixels of a window; shared: of the strip that
    neighbours share, 2 to half of the side. state: a folder of this picture's own for what waits, taken away at the
    end. Raises DataError where the picture can't be read, DiskError where the disk is full or can't be written.
    """
    if not 2 <= shared <= side // 2:
        raise UsageError(f"windows of {side} pixels that share {shared} make no sense; share 2 to half of the side.")
    forget(state)
    make_folder(state)
    try:
        spans = [spans_of(length, side, shared, predictor.huge_tiling.multiple) for length in picture.shape[:2]]
        found = _found(predictor, picture, state, *spans)
        numbers = found.seams.numbers()
        count = int(numbers.max(initial=0))
        final = _finished(found, numbers, picture, state, files)
        for layer in sorted(files, key=lambda each: each == LABELS):  # the label image last: it says that all is there
            make_folder(files[layer].parent)
            if layer == MEASUREMENTS:
                _write_table(files[layer], state, count, picture, predictor.classes, found.scored, measured)
            else:
                write_pyramid(files[layer], final[layer])
    finally:
        forget(state)
    return count


def spans_of(length: int, side: int, shared: int, multiple: int = 1) -> list[Span]:
    """The windows along one side of a picture; they begin at multiples of `multiple` where there is room for that.

    >>> spans_of(10, 6, 2)
    [Span(start=0, end=6, first=0, last=5), Span(start=4, end=10, first=5, last=10)]
    """
    begins = starts(length, side, shared, multiple)
    ends = [min(begin + side, length) for begin in begins]
    middles = [(begin + end) // 2 for begin, end in zip(begins[1:], ends, strict=False)]
    cuts = zip([0, *middles], [*middles, length], strict=True)
    return [Span(*outer, *inner) for outer, inner in zip(zip(begins, ends, strict=True), cuts, strict=True)]


def _found(
    predictor: ObjectAnswerer, picture: Sliceable, state: Path, rows: Sequence[Span], columns: Sequence[Span]
) -> Found:
    """Ask for each window, number what it sees, join it to what the windows to the left and above saw, and put it where
    it belongs; rows of tiles that no further window touches go to the disk for good."""
    height, width = picture.shape[:2]
    seams, tiles = Seams(), TileFile(state / "views", Plane(height, width, "uint32", kind="classes"))
    asked = (_from_maps if predictor.gives_maps else _from_parts)(predictor, picture, state, rows, columns)
    places = np.cumsum([0, *(span.end - span.start for span in columns)]).tolist()  # of each window's band below
    highest = max([int(np.ptp(above.band(below))) for above, below in pairwise(rows)], default=1)
    scored = False
    with ExitStack() as opened:
        canvas = opened.enter_context(Scratch(state, rows[0].end + TILE, width, np.uint32))
        bands = opened.enter_context(Scratch(state, highest, places[-1], np.uint32))
        done = 0
        for number, row in enumerate(rows):
            above = rows[number - 1] if number else None
            below = rows[number + 1] if number + 1 < len(rows) else None
            covered = above.end if above else 0
            for column in columns:
                canvas.write(covered, column.first, np.zeros((row.end - covered, column.last - column.first)))
            beside: np.ndarray | None = None  # of the window to the left, what it sees in the band
            for place, column in enumerate(columns):
                instances = next(asked)
                scored = scored or instances.scores is not None
                views, cut = _numbered(seams, instances, row, column, (height, width))
                if beside is not None:
                    left, right = columns[place - 1].band(column)
                    seams.join(beside.T, views[:, left - column.start : right - column.start].T, column.first - left)
                if above is not None:
                    top, bottom = above.band(row)
                    seen = bands.read(top, bottom, places[place], places[place + 1])
                    seams.join(seen, views[top - row.start : bottom - row.start], row.first - top)
                if place + 1 < len(columns):
                    left, right = column.band(columns[place + 1])
                    beside = views[:, left - column.start : right - column.start]
                if below is not None:
                    top, bottom = row.band(below)
                    bands.write(top, places[place], views[top - row.start : bottom - row.start])
                _place(canvas, views, cut, row, column)
            seams.settle(number * len(columns))
            until = height if below is None else below.start
            while done < height and min(done + TILE, height) <= until:
                tiles.append(_tiles(canvas, seams, tiles.plane, done))
                done += TILE
    return Found(seams, tiles, scored)


def _from_maps(
    predictor: ObjectAnswerer, picture: Sliceable, state: Path, rows: Sequence[Span], columns: Sequence[Span]
) -> Iterator[Instances]:
    """The objects of each window of the picture's maps, row by row."""
    width, number = picture.shape[1], 0
    with ExitStack() as opened:
        waiting: Scratch | None = None
        for top, left, maps in predictor.map_blocks(picture, state):
            if waiting is None:  # rows of a window, and of the blocks that come before it is complete
                held = rows[0].end + predictor.huge_tiling.first(*picture.shape[:2])[0]
                waiting = opened.enter_context(Scratch(state, held, width * len(maps), np.float32))
            for plane, values in enumerate(maps):
                waiting.write(top, plane * width + left, values)
            if left + maps.shape[2] < width:
                continue
            while number < len(rows) and rows[number].end <= top + maps.shape[1]:
                for column in columns:
                    at = [(plane * width + column.start, plane * width + column.end) for plane in range(len(maps))]
                    part = [waiting.read(rows[number].start, rows[number].end, *each) for each in at]
                    yield predictor.objects_of_maps(np.stack(part))
                number += 1


def _from_parts(
    predictor: ObjectAnswerer, picture: Sliceable, state: Path, rows: Sequence[Span], columns: Sequence[Span]
) -> Iterator[Instances]:
    """The objects of each window of the picture, row by row, by a model of detections."""
    source = predictor.levelled(picture)
    for row in rows:
        for column in columns:
            yield predictor.objects_of_part(np.asarray(source[row.start : row.end, column.start : column.end]))


def _numbered(
    seams: Seams, instances: Instances, row: Span, column: Span, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) uint32: the views of a window, 0 = nothing; and where (h, w) they are cut, bool."""
    labels = np.maximum(instances.label_image, 0)
    near = [labels[:0]]  # pixels at borders of the window inside the picture: models are not exact there
    near += [labels[:REACH]] * (row.start > 0) + [labels[-REACH:]] * (row.end < size[0])
    near += [labels[:, :REACH]] * (column.start > 0) + [labels[:, -REACH:]] * (column.end < size[1])
    cut = np.zeros(len(instances) + 1, bool)
    for each in near:
        cut[each.ravel()] = True
    before = seams.add(instances.classes, instances.scores, cut[1:])
    return np.where(labels > 0, labels + before, 0).astype(np.uint32), cut[labels]


def _place(canvas: Scratch, views: np.ndarray, cut: np.ndarray, row: Span, column: Span) -> None:
    """Put the views of a window where it has the say, and those that it sees whole also where nothing is."""
    there = canvas.read(row.start, row.end, column.start, column.end)
    inner = np.s_[
        row.first - row.start : row.last - row.start, column.first - column.start : column.last - column.start
    ]
    placed = np.where((there > 0) | cut, there, views)
    placed[inner] = np.where(views[inner] > 0, views[inner], there[inner])
    canvas.write(row.start, column.start, placed)


def _tiles(canvas: Scratch, seams: Seams, plane: Plane, top: int) -> Iterator[np.ndarray]:
    """(TILE, TILE, 1) for each tile of the row at `top`."""
    bottom = min(top + TILE, plane.height)
    for left in range(0, plane.width, TILE):
        part = canvas.read(top, bottom, left, min(left + TILE, plane.width))
        seams.mark(np.unique(part))
        yield plane.filled(part)


def _finished(
    found: Found, numbers: np.ndarray, picture: Sliceable, state: Path, files: Mapping[str, Path]
) -> dict[str, TileFile]:
    """The tiles of the label image and of the outlines; the sums of objects go to files, `TOGETHER` objects each."""
    plane = found.tiles.plane
    kinds, scores = np.frombuffer(found.seams.kinds, np.int16), np.frombuffer(found.seams.scores, np.float32)
    planes = {LABELS: plane, OVERLAYS: Plane(plane.height, plane.width, "uint8", samples=3)}
    final = {layer: TileFile(state / layer, planes[layer]) for layer in files if layer in planes}
    shown = picture if picture[:1, :1].dtype == np.uint8 else Stretched(picture)

    def labelled(top: int) -> Iterator[np.ndarray]:
        for left, views in _parts(found.tiles, top):
            if MEASUREMENTS in files and views.any():
                part = np.asarray(picture[top : top + views.shape[0], left : left + views.shape[1]])
                _keep(state, sums_of(views, part, (top, left), numbers, kinds, scores))
            yield plane.filled(numbers[views])

    def drawn(top: int) -> Iterator[np.ndarray]:
        for left, objects in _parts(final[LABELS], top):
            part = _eight_bits(np.asarray(shown[top : top + objects.shape[0], left : left + objects.shape[1]]))
            yield planes[OVERLAYS].filled(object_overlay(part, np.where(objects > 0, 1 + (objects - 1) % COLOURS, 0)))

    for top in range(0, plane.height, TILE):
        final[LABELS].append(labelled(top))
        if OVERLAYS in files:
            final[OVERLAYS].append(drawn(top))
    return final


def _parts(tiles: TileFile, top: int) -> Iterator[tuple[int, np.ndarray]]:
    """Left and pixels (h, w), none beyond the picture, of each tile of the row at `top`."""
    plane = tiles.plane
    with tiles.path.open("rb") as file:
        for left in range(0, plane.width, TILE):
            tile = tiles.tile(file, top // TILE, left // TILE)[..., 0]
            yield left, tile[: plane.height - top, : plane.width - left]


def _keep(state: Path, records: np.ndarray) -> None:
    """Add the records to the files of their objects."""
    lots = (records["number"].astype(np.int64) - 1) // TOGETHER
    for lot in np.unique(lots).tolist():
        append(state / f"sums.{lot}", records[lots == lot].tobytes())


def _write_table(
    path: Path, state: Path, count: int, picture: Sliceable, classes: Classes, scored: bool, measured: bool
) -> None:
    """A line an object, by number, `TOGETHER` of them in memory."""
    kind = record_type(picture[:1, :1].shape[2])
    size = picture.shape[0], picture.shape[1]

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        writer = csv.writer(text, lineterminator="\n")
        for lot in range(max(1, -(-count // TOGETHER))):
            parts = np.fromfile(state / f"sums.{lot}", kind) if count else np.zeros(0, kind)
            table = table_of(merged(parts), classes, size, scored=scored, measured=measured)
            if lot == 0:
                writer.writerow(table)
            writer.writerows(zip(*(words(column) for column in table.values()), strict=True))
        text.detach()

    write_atomically(path, write)


def _eight_bits(part: np.ndarray) -> np.ndarray:
    """The picture's numbers brought to 0..255, all parts alike."""
    if part.dtype == np.uint8:
        return part
    return (part >> 8).astype(np.uint8) if part.dtype == np.uint16 else (part * 255).round().astype(np.uint8)
