"""A picture of any size through a network of bounded memory: overlapping tiles, blended.

    |■■■■■■■■■▒▒▒▒·|                       · halo: the network sees it, its answer there is not used
             |·▒▒▒▒■■■■■▒▒▒▒·|             ▒ blended: the weights of all tiles add up to 1
                            |·▒▒▒▒■■■■■|   ■ one tile alone

A quarter of the overlap is halo. A network that looks no further than that gives what it would give on the whole
picture, up to rounding, if its strides fall on the same pixels: tiles start at multiples of `multiple`. Where a tile
ends with the picture there is no halo: the network pads there as it would on the whole.

The weight of a pixel in a tile is that of its row times that of its column, so weights are brought to a sum of 1 along
each side alone. Rows of tiles are done from top to bottom, and a row of pixels is handed out as soon as no further tile
touches it: one row of tiles is in memory at a time, not the picture.

All of it is arrays: an exported model is asked without PyTorch. `tiling.py` is the same for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import OutOfMemoryError, UsageError

SIDE = 1024  # pixels of an automatic tile's sides; larger ones waste less on overlap and are slower in a CPU's caches
BYTES_A_PIXEL = 4096  # that a network is taken to need for each pixel at once: a thousand float32 values
WHOLE_CPU = 4_000_000  # pixels; larger pictures are no faster whole, and the memory has other users
SMALLEST = 64  # an automatic tile is not halved any more when both sides are this small


class Sliceable(Protocol):
    """An array (H, W, C), or what reads a part of itself when sliced: a memory map, a zarr array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut."""

    tile: tuple[int, int] | None = None  # height and width, pixels; None: automatic
    whole: int | None = None  # pixels up to which an automatic tile is the whole picture; None: always
    overlap: float = 0.25  # share of a tile's side that the next one sees as well, [0, 0.9]
    multiple: int = 1  # tiles start at multiples of this: the network's stride
    batch: int = 1  # tiles at a time
    plain: float = 0.0  # share of the range, [0, 1], by which the pixels of a plain tile may differ (`blocks.py`)

    def __post_init__(self) -> None:
        if self.tile is not None and min(self.tile) < 1:
            raise UsageError(f"a tile of {_by(self.tile)} pixels holds nothing; give sides of 1 or more.")
        if not 0 <= self.overlap <= 0.9:
            raise UsageError(f"the overlap of tiles is a share of their side in [0, 0.9], but it is {self.overlap}.")
        if not 0 <= self.plain <= 1:
            raise UsageError(f"pixels of a plain tile differ by a share of the range in [0, 1], not by {self.plain}.")
        if self.batch < 1 or self.multiple < 1:
            raise UsageError("tiles need a batch and a multiple of 1 or more.")

    def first(self, height: int, width: int) -> tuple[int, int]:
        """The tile to begin with for a picture of this size."""
        if self.tile is not None:
            return self.tile
        if self.whole is None or height * width <= self.whole:
            return height, width
        side = max(self.multiple, min(SIDE, math.isqrt(self.whole)) // self.multiple * self.multiple)
        return side, side


def answer_rows(
    answer: Callable[[np.ndarray], np.ndarray],
    image: Sliceable,
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray],
    tidy: Callable[[], object] = lambda: None,
) -> Iterator[np.ndarray]:
    """(K, h, W) float32 from top to bottom, each handed out when it is ready: what `answer`, (B, h, w, C) ->
    (B, K, h, w), says for a picture (H, W, C).

    `prepare` brings a part of the picture to what `answer` takes. An automatic tile that does not fit into memory is
    halved after `tidy`, and the picture goes on where it is. Raises OutOfMemoryError, naming the sizes tried, where the
    smallest does not fit, or a tile that was asked for.
    """
    height, width = image.shape[:2]
    tile = tiling.first(height, width)
    tried: list[str] = []
    done = 0
    while done < height:
        try:
            for rows in _rows(answer, image, tile, tiling, prepare, done):
                done += rows.shape[1]
                yield rows
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if done < height:  # out of here, the error no longer holds on to the memory
            tidy()
            tile = smaller(tile, tiling, (height, width), tried)


def smaller(tile: tuple[int, int], tiling: Tiling, size: tuple[int, int], tried: list[str]) -> tuple[int, int]:
    """The tile to take in place of one that did not fit into memory for a picture of `size`, height and width; `tried`
    grows by it. Raises OutOfMemoryError, naming the sizes tried, for the smallest, and for one that was asked for."""
    tried.append(_by(tile))
    less = halved(tile, tiling.multiple)
    if tiling.tile is not None or less == tile:
        raise OutOfMemoryError(_what_did_not_fit(*size, tried, tiling))
    return less


def whole_on_cpu() -> int:
    """Pixels up to which a picture is done whole on a processor; larger ones in tiles of at most that many."""
    free = _free_memory()
    return WHOLE_CPU if free is None else max(256 * 256, min(WHOLE_CPU, free // BYTES_A_PIXEL))


def starts(length: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Where tiles begin so that they cover `length` pixels and neighbours share at least `overlap`: evenly spaced,
    at multiples of `multiple`. The last ends with the picture, and is up to `multiple` - 1 pixels shorter."""
    if length <= tile:
        return [0]
    step = (tile - overlap) // multiple * multiple
    if step < 1:  # the tile is too small for such starts
        multiple, step = 1, max(1, tile - overlap)
    units = math.ceil((length - tile) / multiple)
    gaps = math.ceil(units * multiple / step)
    return [i * units // gaps * multiple for i in range(gaps + 1)]


def window(length: int) -> np.ndarray:
    """(length,) float64 in (0, 1]: a bell that is highest in the middle, three standard deviations to each side."""
    return np.exp(-0.5 * (6 * (np.arange(length) + 0.5) / length - 3) ** 2)


def weights(spans: list[tuple[int, int]], length: int, halo: int) -> list[np.ndarray]:
    """How much each span (start, end) counts at each of its pixels, float32; at any of the `length` pixels they add up
    to 1. `halo` pixels at a span's ends count nothing, but for the ends of the whole."""
    bells = []
    total = np.zeros(length)
    for start, end in spans:
        bell = window(end - start)
        bell[: halo if start > 0 else 0] = 0
        bell[len(bell) - (halo if end < length else 0) :] = 0
        total[start:end] += bell
        bells.append(bell)
    return [(bell / total[start:end]).astype(np.float32) for bell, (start, end) in zip(bells, spans, strict=True)]


def halved(tile: tuple[int, int], multiple: int) -> tuple[int, int]:
    """A tile of half the height and width, in multiples of `multiple`; the same where both sides are small already."""
    if max(tile) <= SMALLEST:
        return tile
    height, width = (min(side, math.ceil(max(side / 2, SMALLEST) / multiple) * multiple) for side in tile)
    return height, width


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in any of the ways in which PyTorch, NumPy and the engines say so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = (
        "can't allocate memory",
        "cannot allocate memory",
        "not enough memory",
        "out of memory",
        "failed to allocate memory",
    )
    return isinstance(error, RuntimeError) and any(each in str(error).lower() for each in words)


def _free_memory() -> int | None:
    """Bytes that this process may still take, by Linux's own account and that of its container; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        allowed = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    return max(0, min(free, allowed))


def _rows(
    answer: Callable[[np.ndarray], np.ndarray],
    image: Sliceable,
    tile: tuple[int, int],
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray],
    done: int,
) -> Iterator[np.ndarray]:
    """The rows (K, h, W) from row `done` on, with one size of tiles."""
    height, width = image.shape[:2]
    rows, row_weights = spans_along(height, tile[0], tiling)
    columns, column_weights = spans_along(width, tile[1], tiling)
    if len(rows) == len(columns) == 1:
        yield next(tile_answers(answer, image, rows[0], columns, tiling.batch, prepare))
        return
    unfinished: np.ndarray | None = None  # what a row of tiles adds to the rows of pixels it shares with the next
    for i, (top, bottom) in enumerate(rows):
        if bottom <= done:
            continue
        band: np.ndarray | None = None
        answers = tile_answers(answer, image, (top, bottom), columns, tiling.batch, prepare)
        for (left, right), weight, each in zip(columns, column_weights, answers, strict=True):
            if band is None:
                band = np.zeros((len(each), bottom - top, width), np.float32)
            band[:, :, left:right] += each * (row_weights[i][:, None] * weight)
        assert band is not None  # there is at least one column
        if unfinished is not None:
            band[:, : unfinished.shape[1]] += unfinished
        ready = rows[i + 1][0] if i + 1 < len(rows) else height
        unfinished = band[:, ready - top :].copy()
        if ready > done:
            yield band[:, max(done - top, 0) : ready - top]


def tile_answers(
    answer: Callable[[np.ndarray], np.ndarray],
    image: Sliceable,
    rows: tuple[int, int],
    columns: list[tuple[int, int]],
    batch: int,
    prepare: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """(K, h, w) float32 for each tile of one row of tiles, from left to right."""
    for tiles in crops(image, rows, columns, batch, prepare):
        yield from answer(tiles)


def crops(
    image: Sliceable,
    rows: tuple[int, int],
    columns: list[tuple[int, int]],
    batch: int,
    prepare: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """The tiles of one row of tiles, from left to right, up to `batch` of one size at a time: (B, h, w, C)."""
    for _, alike in groupby(columns, key=lambda span: span[1] - span[0]):  # the last may be narrower
        spans = list(alike)
        for i in range(0, len(spans), batch):
            yield np.stack([prepare(np.asarray(image[rows[0] : rows[1], a:b])) for a, b in spans[i : i + batch]])


def spans_along(length: int, tile: int, tiling: Tiling) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    """Start and end of the tiles along one side, and their weights."""
    overlap = int(tile * tiling.overlap)
    spans = [(start, min(start + tile, length)) for start in starts(length, tile, overlap, tiling.multiple)]
    return spans, weights(spans, length, halo=overlap // 4)


def _what_did_not_fit(height: int, width: int, tried: list[str], tiling: Tiling) -> str:
    if tiling.tile is not None:
        return (
            f"a tile of {tried[0]} pixels does not fit into memory; choose a smaller tile, "
            "or none: then the largest that fits is found."
        )
    return (
        f"a picture of {height} x {width} pixels does not fit into memory, not even in tiles; tried were "
        f"{', '.join(tried)}. Free some memory, or use a smaller model."
    )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
