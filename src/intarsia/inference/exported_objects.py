"""An exported file that finds objects in pictures of any size, kind and count, without PyTorch.

It does what `ObjectPredictor` does for a run, with one engine: the maps of tiles are blended, and the file's grouping
makes objects of those of the whole picture by the thresholds that stand in the file, or others that are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.levels import Stretched
from ..data.read import LIMIT_PIXELS
from ..data.windows import Windows
from ..errors import UsageError
from ..grouping import GROUPINGS
from ..records import Classes, Image, Instances, ObjectPrediction
from .blocks import answer_blocks
from .engines import Engine
from .exported import as_input, read_for, windows_for
from .reading import Picture
from .tiles import WHOLE_CPU, Sliceable, Tiling, answer_rows, whole_on_cpu


class ExportedObjectPredictor:
    """Finds objects by one exported file: `ExportedObjectPredictor(load_exported("cells.onnx")).predict("cell.png")`.

    Raises UsageError for a file that gives classes, and for a threshold that the file does not know.
    """

    gives_maps = True

    def __init__(
        self,
        engine: Engine,
        *,
        tile: int | None = None,  # pixels a side; None: the whole picture where it fits, else tiles that fit
        overlap: float = 0.25,  # share of a tile's side that its neighbours see as well, [0, 0.9]
        batch: int = 1,  # tiles at a time
        limit: int = LIMIT_PIXELS,  # pixels beyond which a file is refused
        thresholds: Mapping[str, float] | None = None,  # in place of those that stand in the file, by name
    ) -> None:
        self.engine, self.metadata = engine, engine.metadata
        if not self.metadata.grouping:
            raise UsageError(f"{engine.path} gives a class for each pixel and no objects; export a run of objects.")
        if self.metadata.grouping not in GROUPINGS:
            raise UsageError(
                f"{engine.path} makes objects by {self.metadata.grouping!r}, this program knows {', '.join(GROUPINGS)};"
                " use the newer one that made it."
            )
        self.classes: Classes = self.metadata.classes
        self.limit = limit
        self.thresholds = {**self.metadata.thresholds, **checked_thresholds(self.metadata.thresholds, thresholds or {})}
        size = None if tile is None else (tile, tile)
        self.tiling = Tiling(size, whole_on_cpu(), overlap, self.metadata.stride, batch)

    def predict(self, picture: Picture, name: str | None = None) -> ObjectPrediction:
        """The objects at the picture's own size, as displayed (EXIF); a picture is whatever `Predictor` takes for one.

        Raises DataError for what can't be read and for a picture of more bits than the file takes, OutOfMemoryError for
        what does not fit.
        """
        name = name or (Path(picture).stem if isinstance(picture, str | Path) else "picture")
        return self.predicted(name, self.read(picture))

    def read(self, picture: Picture) -> Image:
        """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], which the file can take."""
        return read_for(self.engine, picture, self.limit)

    def windows(self, path: Path, scratch: Path | None = None) -> Windows | None:
        """A picture file that is read where it is sliced, which the file can take; None where only `read` will do."""
        return windows_for(self.engine, path, self.limit, scratch)

    def predicted(self, name: str, image: Image) -> ObjectPrediction:
        """`predict` for a picture that `read` gave."""
        return ObjectPrediction(name, image, self.classes, self.objects_of_maps(self.answer(image)))

    def answer(self, image: Image) -> np.ndarray:
        """The maps (M, H, W) float32 of the whole of a picture that `read` gave."""
        maps: np.ndarray | None = None  # filled strip by strip, so that the picture's maps are there once
        top = 0
        for rows in answer_rows(self.engine.maps, self.levelled(image), self.tiling, self._prepare):
            if rows.shape[1] == image.shape[0]:
                return np.ascontiguousarray(rows)
            if maps is None:
                maps = np.empty((len(rows), image.shape[0], image.shape[1]), np.float32)
            maps[:, top : top + rows.shape[1]] = rows
            top += rows.shape[1]
        assert maps is not None  # a picture has a row
        return maps

    def objects_of_maps(self, maps: np.ndarray) -> Instances:
        """The objects of maps (M, h, w)."""
        return GROUPINGS[self.metadata.grouping](maps, self.thresholds)

    def objects_of_part(self, part: Image) -> Instances:
        """The objects of a part of a picture that is levelled as a whole."""
        return self.objects_of_maps(self.engine.maps(self._prepare(part)[None])[0])

    @property
    def huge_tiling(self) -> Tiling:
        """How a huge picture is cut: into the tiles that were asked for, else into some that fit everywhere."""
        return replace(self.tiling, whole=min(self.tiling.whole or WHOLE_CPU, WHOLE_CPU))

    def map_blocks(self, image: Sliceable, scratch: Path) -> Iterator[tuple[int, int, np.ndarray]]:
        """Top, left and maps (M, h, w) float32 of blocks that cover a picture, as `Predictor.blocks` gives answers."""
        return answer_blocks(self.engine.maps, self.levelled(image), self.huge_tiling, self._prepare, scratch)

    def levelled(self, image: Sliceable) -> Sliceable:
        """The picture at the levels that the model was trained with: as it is, or stretched as a whole."""
        return Stretched(image) if self.metadata.levels == "picture" else image

    def settings(self) -> dict[str, object]:
        """All that the answers depend on, in numbers and words that fit into JSON."""
        return {
            "weights": self.metadata.weights,
            "classes": list(self.classes.names),
            "colours": [list(colour) for colour in self.classes.colours],
            "precision": self.metadata.precision,
            "bits": self.metadata.bits,
            "engine": self.engine.name,
            "tile": self.tiling.tile and self.tiling.tile[0],
            "overlap": self.tiling.overlap,
            "thresholds": self.thresholds,
        }

    def _prepare(self, crop: np.ndarray) -> np.ndarray:
        return as_input(crop, self.metadata)


def checked_thresholds(known: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Those that are given, if all are among the known. Raises UsageError for others, and for what is not a number."""
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"the threshold {name!r} is none of this file's; it has {', '.join(known)}.")
        if not math.isfinite(value):
            raise UsageError(f"the threshold {name} = {value} is not a number; give one.")
        if name == "score" and not 0 <= value <= 1:
            raise UsageError(f"the threshold score = {value:g} leaves out all objects or none; give 0 to 1.")
    return dict(given)
