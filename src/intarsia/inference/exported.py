"""An exported file that answers for pictures of any size, kind and count, without PyTorch.

It does what `Predictor` does, with one engine. Where a picture is cut into tiles, the probabilities of a file that
gives them are blended; of one that gives class numbers only, each tile has a vote, as heavy as its weight at the pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..data.levels import Stretched
from ..data.read import LIMIT_PIXELS, as_channels
from ..data.windows import Windows
from ..errors import DataError, UsageError
from ..records import Classes, Image, Labels, Mask, Prediction
from .blocks import answer_blocks
from .engines import Engine, Metadata
from .reading import Picture, read_picture, read_windows
from .tiles import Sliceable, Tiling, answer_rows, whole_on_cpu


@dataclass(frozen=True)
class ClassMap:
    """The answer of a file that gives class numbers only, for one picture or some of its rows."""

    name: str
    image: Image = field(repr=False)
    classes: Classes = field(repr=False)
    mask: Mask = field(repr=False)  # (H, W) int16: the likeliest class of each pixel

    @cached_property
    def labels(self) -> Labels:
        """(K, H, W) int8: 1 where a class is said to be."""
        return (self.mask[None] == np.arange(len(self.classes))[:, None, None]).astype(np.int8)

    @property
    def probabilities(self) -> np.ndarray:
        """Raises UsageError: the file gives none."""
        self._refuse()

    @property
    def uncertainty(self) -> np.ndarray:
        """Raises UsageError: the file gives none."""
        self._refuse()

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """(H, W, 3) uint8: the picture with the classes laid over it in their colours, their borders drawn."""
        from ..drawing import overlay

        return overlay(self.image, self.mask, self.classes, opacity)

    def save(self, path: str | Path) -> Path:
        """Write the mask as a palette PNG. Returns the path."""
        from ..drawing import write_mask

        return write_mask(Path(path), self.mask, self.classes)

    def _refuse(self) -> NoReturn:
        raise UsageError(
            "this exported file gives class numbers only, no probabilities; export the run again with --probabilities."
        )


class ExportedPredictor:
    """Answers by one exported file: `ExportedPredictor(load_exported("cells.onnx")).predict("cell.png").overlay()`."""

    def __init__(
        self,
        engine: Engine,
        *,
        tile: int | None = None,  # pixels a side; None: the whole picture where it fits, else tiles that fit
        overlap: float = 0.25,  # share of a tile's side that its neighbours see as well, [0, 0.9]
        batch: int = 1,  # tiles at a time
        limit: int = LIMIT_PIXELS,  # pixels beyond which a file is refused
        plain: float = 0.0,  # share of the range by which a plain tile's pixels may differ, [0, 1]; see `blocks.py`
    ) -> None:
        if engine.metadata.grouping:
            raise UsageError(
                f"{engine.path} finds objects, and a file that gives each pixel a class is needed here; Python opens "
                "it as an ExportedObjectPredictor."
            )
        self.engine = engine
        self.metadata = engine.metadata
        self.classes = engine.metadata.classes
        self.gives_probabilities = engine.metadata.probabilities
        self.limit = limit
        size = None if tile is None else (tile, tile)
        self.tiling = Tiling(size, whole_on_cpu(), overlap, engine.metadata.stride, batch, plain)

    def predict(self, picture: Picture, name: str | None = None) -> Prediction | ClassMap:
        """The answer at the picture's own size, as displayed (EXIF); a picture is whatever `Predictor` takes for one.

        A Prediction of a file that gives probabilities, else a ClassMap. Raises DataError for what can't be read and
        for a picture of more bits than the file takes, OutOfMemoryError for what does not fit.
        """
        name = name or (Path(picture).stem if isinstance(picture, str | Path) else "picture")
        image = self.read(picture)
        strips = list(self.strips(image, name))
        if isinstance(strips[0], ClassMap):
            return ClassMap(name, image, self.classes, np.concatenate([strip.mask for strip in strips]))
        return Prediction(name, image, self.classes, np.concatenate([strip.probabilities for strip in strips], axis=1))

    def share(self, lanes: int) -> int:
        """From how many threads at once, `lanes` at most, it may be asked from now on (`Engine.share`)."""
        return self.engine.share(lanes)

    def read(self, picture: Picture) -> Image:
        """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], which the file can take."""
        return read_for(self.engine, picture, self.limit)

    def windows(self, path: Path, scratch: Path | None = None) -> Windows | None:
        """A picture file that is read where it is sliced, which the file can take; None where only `read` will do."""
        return windows_for(self.engine, path, self.limit, scratch)

    def strips(self, image: Sliceable, name: str = "picture") -> Iterator[Prediction | ClassMap]:
        """The answer in strips of full width, from top to bottom; `image` as `Predictor.strips` takes it."""
        height, width = image.shape[:2]
        source = Stretched(image) if self.metadata.levels == "picture" else image
        tile, tiling = self.tiling.first(height, width), self.tiling
        if not self.gives_probabilities and tile[0] >= height and tile[1] >= width:  # no votes to count
            whole = np.asarray(image[:])
            try:
                numbers = self.engine.classes(self._prepare(np.asarray(source[:]))[None])[0]
            except MemoryError:
                tiling = replace(tiling, whole=max(1, height * width // 4))
            else:
                yield ClassMap(name, whole, self.classes, numbers.astype(np.int16))
                return
        answer = self.engine.probabilities if self.gives_probabilities else self._votes
        top = 0
        for rows in answer_rows(answer, source, tiling, self._prepare):
            part = np.asarray(image[top : top + rows.shape[1]])
            if self.gives_probabilities:
                yield Prediction(name, part, self.classes, rows)
            else:
                yield ClassMap(name, part, self.classes, rows.argmax(axis=0).astype(np.int16))
            top += rows.shape[1]

    def blocks(
        self, image: Sliceable, scratch: str | Path, name: str = "picture", start: int = 0
    ) -> Iterator[tuple[int, int, Prediction | ClassMap]]:
        """Top, left and answer of blocks that cover a picture from row `start` on, as `Predictor.blocks` gives them."""
        answer = self.engine.probabilities if self.gives_probabilities else self._votes
        source = Stretched(image) if self.metadata.levels == "picture" else image
        for top, left, values in answer_blocks(answer, source, self.tiling, self._prepare, Path(scratch), start=start):
            part = np.asarray(image[top : top + values.shape[1], left : left + values.shape[2]])
            if self.gives_probabilities:
                yield top, left, Prediction(name, part, self.classes, values)
            else:
                yield top, left, ClassMap(name, part, self.classes, values.argmax(axis=0).astype(np.int16))

    def settings(self) -> dict[str, object]:
        """All that the answers depend on, in numbers and words that fit into JSON."""
        return {
            "weights": self.metadata.weights,
            "classes": list(self.classes.names),
            "colours": [list(colour) for colour in self.classes.colours],
            "overlapping": self.classes.overlapping,
            "temperature": self.metadata.temperature,
            "precision": self.metadata.precision,
            "bits": self.metadata.bits,
            "engine": self.engine.name,
            "tile": self.tiling.tile and self.tiling.tile[0],
            "overlap": self.tiling.overlap,
            **({"plain": self.tiling.plain} if self.tiling.plain else {}),
        }

    def ambiguous(self) -> NoReturn:
        """Raises UsageError: an exported file has one answer."""
        raise UsageError("an exported file has one answer for a picture, and several were asked for; give the run.")

    def sample_strips(self, image: Image, name: str, count: int, seed: int) -> NoReturn:
        """Raises UsageError as `ambiguous` does."""
        self.ambiguous()

    def _prepare(self, crop: np.ndarray) -> np.ndarray:
        return as_input(crop, self.metadata)

    def _votes(self, pictures: np.ndarray) -> np.ndarray:
        """(B, K, H, W) float32: 1 for the class of each pixel."""
        numbers = self.engine.classes(pictures)
        each = np.arange(len(self.classes), dtype=np.uint8).reshape(1, -1, 1, 1)
        return (numbers[:, None] == each).astype(np.float32)


def read_for(engine: Engine, picture: Picture, limit: int = LIMIT_PIXELS) -> Image:
    """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], which an exported file can take.
    Raises DataError for others."""
    image = read_picture(picture, engine.metadata.channels, limit)
    _require_bits(engine, str(picture) if isinstance(picture, str | Path) else "the picture", image.dtype)
    return image


def windows_for(engine: Engine, path: Path, limit: int = LIMIT_PIXELS, scratch: Path | None = None) -> Windows | None:
    """A picture file that is read where it is sliced, which an exported file can take; None where only `read_for` will
    do. scratch: as `Predictor.windows` takes it. Raises DataError as `read_for` does."""
    windows = read_windows(path, engine.metadata.channels, limit, scratch)
    if windows is not None:
        try:
            _require_bits(engine, str(path), windows.dtype)
        except DataError:
            windows.close()
            raise
    return windows


def _require_bits(engine: Engine, what: str, dtype: np.dtype) -> None:
    if engine.metadata.bits == 8 and dtype != np.uint8:
        raise DataError(
            f"{what} holds {dtype} numbers, and {engine.path.name} takes 8 bits; export the run again with --bits 16, "
            "which takes both."
        )


def as_input(image: Image, metadata: Metadata) -> np.ndarray:
    """A picture (H, W, C) with the channels and numbers that an exported file takes. 16 bits hold 8 exactly, since
    v / 255 = 257 v / 65535. Raises DataError for a picture of which that can't be made."""
    values = as_channels(image, metadata.channels)
    if values.dtype == metadata.dtype:
        return values
    if metadata.bits == 8:
        raise DataError(f"the picture holds {values.dtype} numbers where 8 bits are taken; export with --bits 16.")
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    return np.rint(values * np.float32(65535)).astype(np.uint16)
