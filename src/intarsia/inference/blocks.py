"""Tiles for pictures of any width: what `tiles.py` says, bit by bit, in memory that does not grow with the picture.

    ┌───────┬───────┬──     Tiles go through the network from left to right, one row of them after the other. A block
    │ done  │ done  │       is handed out as soon as no further tile touches it: what a tile adds to the next one waits
    ├───────┼──┬────┘       in memory (▒), what it adds to those below waits on the disk (`Scratch`).
    │ done  │▒▒│
    └───────┴──┘

A plain tile, all of whose pixels are of one colour, is answered once for each colour and shape: slides are mostly
empty, and the network says the same of the same. With `Tiling.plain` above 0 a tile counts as plain, too, where no
channel differs by more than that share of the range; the network is then asked about its mean colour, rounded to
multiples of that share.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .scratch import Scratch
from .tiles import Sliceable, Tiling, is_out_of_memory, smaller, spans_along, tile_answers

KNOWN_TILES = 2  # answers for plain tiles that are kept: of one colour inside and at the border
LOOKED_AT = (
    16  # every so many rows and columns of a tile are looked at first: most tiles are told from plain ones there
)

Answer = Callable[[np.ndarray], np.ndarray]


def answer_blocks(
    answer: Answer,
    image: Sliceable,
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray],
    scratch: Path,
    *,
    start: int = 0,
    tidy: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Top, left and values (K, h, w) float32 of blocks that cover a picture (H, W, C) from row `start` on.

    Blocks come in rows of one height, from left to right, from top to bottom. `answer`, `prepare` and `tidy` are as
    `answer_rows` takes them. Where a tile did not fit into memory, the row of blocks begins again, with smaller ones.
    scratch: a folder for what waits: K x (overlap of two tiles) x W float32. Raises OutOfMemoryError, DiskError.
    """
    height, width = image.shape[:2]
    tile = tiling.first(height, width)
    ask = PlainTiles(answer, tiling.plain)
    tried: list[str] = []
    done = start
    while done < height:
        try:
            for top, left, values in _blocks(ask, image, tile, tiling, prepare, scratch, done):
                yield top, left, values
                if left + values.shape[2] == width:
                    done = top + values.shape[1]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if done < height:  # out of here, the error no longer holds on to the memory
            ask.known.clear()
            tidy()
            tile = smaller(tile, tiling, (height, width), tried)


class PlainTiles:
    """`answer`, (B, h, w, C) -> (B, K, h, w), which is asked once for tiles that are all of one colour."""

    def __init__(self, answer: Answer, spread: float = 0.0) -> None:
        self.answer, self.spread = answer, spread
        self.asked = 0  # tiles for which the network was asked
        self.known: OrderedDict[tuple[tuple[int, ...], bytes], np.ndarray] = OrderedDict()  # the last used last

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        colours = [self._colour(tile) for tile in tiles]
        if all(colour is None for colour in colours):
            self.asked += len(tiles)
            return self.answer(tiles)
        answers = [
            self._ask(tile) if colour is None else self._of(colour, tile)
            for tile, colour in zip(tiles, colours, strict=True)
        ]
        return np.stack(answers)

    def _ask(self, tile: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.answer(tile[None])[0]

    def _of(self, colour: np.ndarray, tile: np.ndarray) -> np.ndarray:
        key = (tile.shape, colour.tobytes())
        if key not in self.known:
            self.known[key] = self._ask(np.broadcast_to(colour, tile.shape).copy())
            if len(self.known) > KNOWN_TILES:
                self.known.popitem(last=False)
        self.known.move_to_end(key)
        return self.known[key]

    def _colour(self, tile: np.ndarray) -> np.ndarray | None:
        """(C,): the colour of a plain tile, None of another."""
        full = 1.0 if tile.dtype.kind == "f" else float(np.iinfo(tile.dtype).max)
        for some in (tile[::LOOKED_AT, ::LOOKED_AT], tile):
            low, high = (limit(some.reshape(-1, some.shape[2]), axis=0) for limit in (np.min, np.max))
            if (high.astype(np.float64) - low > self.spread * full).any():
                return None
        if self.spread == 0:
            return low
        step = self.spread * full
        mean = tile.reshape(-1, tile.shape[2]).mean(axis=0, dtype=np.float64)
        return np.asarray((np.rint(mean / step) * step).clip(0, full)).astype(tile.dtype)


def _blocks(
    answer: Answer,
    image: Sliceable,
    tile: tuple[int, int],
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray],
    scratch: Path,
    done: int,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """The blocks from row `done` on, with one size of tiles. The numbers are added up in the order of `answer_rows`."""
    height, width = image.shape[:2]
    rows, row_weights = spans_along(height, tile[0], tiling)
    columns, column_weights = spans_along(width, tile[1], tiling)
    ends = [start for start, _ in rows[1:]] + [height], [start for start, _ in columns[1:]] + [width]
    shared = max(bottom - end for (_, bottom), end in zip(rows, ends[0], strict=True))  # rows with the tiles below
    below: Scratch | None = None
    waiting_rows = 0  # of the tiles above, whose part in this row's first rows is on the disk
    try:
        for i, (top, bottom) in enumerate(rows):
            if bottom <= done:
                continue
            waiting: np.ndarray | None = None  # what the tiles to the left add to the columns shared with this one
            answers = tile_answers(answer, image, (top, bottom), columns, tiling.batch, prepare)
            for (left, right), end, weight, each in zip(columns, ends[1], column_weights, answers, strict=True):
                values = np.zeros((len(each), bottom - top, right - left), np.float32)  # K h w
                if waiting is not None:
                    values[:, :, : waiting.shape[2]] = waiting
                values += each * (row_weights[i][:, None] * weight)
                waiting = values[:, :, end - left :].copy()
                values = values[:, :, : end - left]
                if shared and below is None:
                    below = Scratch(scratch, len(each) * shared, width, np.float32)
                for k, plane in enumerate(values if below is not None else ()):
                    assert below is not None
                    plane[:waiting_rows] += below.read(k * shared, k * shared + waiting_rows, left, end)
                    below.write(k * shared, left, plane[ends[0][i] - top :])
                first = max(done - top, 0)
                if ends[0][i] > top + first:
                    yield top + first, left, values[:, first : ends[0][i] - top]
            waiting_rows = bottom - ends[0][i]
    finally:
        if below is not None:
            below.close()
