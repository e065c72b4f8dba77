"""A trained model of objects that answers for pictures of any size, kind and count.

What the network says of a picture is either maps, or detections (`InstanceModel`). The maps of tiles are blended, and
objects are made of those of the whole picture: the grouping sees no tiles. The detections of tiles are joined
(`joining.py`). An object that the border of a tile cuts is so one object.

Memory grows with the picture: its maps, four bytes a map and pixel, are whole when objects are made of them, and so is
the label image; of files of huge pictures it does not (`huge_objects.py`). Test-time augmentation is the mean of the
maps over the picture and its mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..data.read import LIMIT_PIXELS
from ..errors import UsageError
from ..models.contract import InstanceModel
from ..records import Classes, Detections, Image, Instances, ObjectPrediction
from .blocks import answer_blocks
from .joining import Tile, joined
from .predictor import PicturePredictor, require_numbers
from .tiles import WHOLE_CPU, Sliceable, Tiling, crops, is_out_of_memory, smaller, starts
from .tiling import of_arrays, predict_rows


@runtime_checkable
class Mirrors(Protocol):
    """A model of objects that knows what its maps of a mirrored picture mean for the picture."""

    def mirrored(self, maps: np.ndarray) -> np.ndarray:
        """(M, H, W): the maps of the picture, from those of its mirror image (left to right)."""


class ObjectPredictor(PicturePredictor[InstanceModel[Any], ObjectPrediction]):
    """Finds objects by one model with one list of classes. The model is moved to the device and set to `eval()`."""

    def __init__(
        self,
        model: InstanceModel[Any],
        classes: Classes,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",  # auto: a GPU where there is one
        tile: int | None = None,  # pixels a side; None: the whole picture where it fits, else tiles that fit
        overlap: float = 0.25,  # share of a tile's side that its neighbours see as well, [0, 0.9]
        flips: bool = False,  # also ask for the mirror image: twice the time; for models of maps
        channels: int | None = None,  # of the model's pictures; None: as it was built for
        precision: Literal["float32", "bfloat16", "float16"] = "float32",  # half: faster where there is such hardware
        batch: int = 1,  # tiles at a time; more than 1 pays on a GPU only
        limit: int = LIMIT_PIXELS,  # pixels beyond which a file is refused
        thresholds: Mapping[str, float] | None = None,  # in place of those that the run was tuned to, by name
    ) -> None:
        if classes.overlapping or len(classes) != model.classes:
            raise UsageError(
                f"the model tells {model.classes} classes apart, the background among them, but the class list has "
                f"{len(classes)}{', which overlap' * classes.overlapping}; give the list that it was trained with."
            )
        self.chosen = checked_thresholds(model, thresholds or {})
        super().__init__(model, classes, device, tile, overlap, channels, precision, batch, limit)
        self.flips = flips
        if flips and not (self.gives_maps and isinstance(model, Mirrors)):
            raise UsageError(
                f"a {type(model).__name__} does not say what it finds in a mirror image means for the picture, so it "
                "can't be asked with flips; leave them out."
            )

    @property
    def thresholds(self) -> dict[str, float]:
        """What objects are made by: the model's own, and in their place those that were given."""
        return {**self.model.thresholds, **self.chosen}

    @cached_property
    def gives_maps(self) -> bool:
        """Whether the model says maps, else detections: a blank picture of its stride tells."""
        blank = torch.zeros(1, self.channels, self.model.stride, self.model.stride)
        return not isinstance(self._ask(blank)[0], Detections)

    def predicted(self, name: str, image: Image) -> ObjectPrediction:
        instances = self.model.objects(self.answer(image), self.thresholds)
        return ObjectPrediction(name, image, self.classes, instances)

    def answer(self, image: Image) -> np.ndarray | Detections:
        """What the network says of the whole of a picture that `read` gave, for `model.objects`: Detections, or maps
        (M, H, W) float32. Raises OutOfMemoryError for what does not fit."""
        return self._whole_maps(image) if self.gives_maps else self._whole_detections(self.levelled(image))

    @property
    def huge_tiling(self) -> Tiling:
        """How a huge picture is cut: into the tiles that were asked for, else into some that fit everywhere."""
        return replace(self.tiling, whole=min(self.tiling.whole or WHOLE_CPU, WHOLE_CPU))

    def map_blocks(self, image: Sliceable, scratch: Path) -> Iterator[tuple[int, int, np.ndarray]]:
        """Top, left and maps (M, h, w) float32 of blocks that cover a picture, as `Predictor.blocks` gives answers."""
        answer, levelled = of_arrays(self._maps), self.levelled(image)
        return answer_blocks(answer, levelled, self.huge_tiling, self.prepare, scratch, tidy=torch.cuda.empty_cache)

    def objects_of_maps(self, maps: np.ndarray) -> Instances:
        """The objects of maps (M, h, w)."""
        return self.model.objects(maps, self.thresholds)

    def objects_of_part(self, part: Image) -> Instances:
        """The objects of a part of a picture that is levelled as a whole, by a model of detections."""
        return self.model.objects(self._whole_detections(part), self.thresholds)

    def settings(self) -> dict[str, Any]:
        return {**self.shared_settings(), "flips": self.flips, "thresholds": self.thresholds}

    def _whole_maps(self, image: Image) -> np.ndarray:
        maps: np.ndarray | None = None  # filled strip by strip, so that the picture's maps are there once
        top = 0
        for rows in predict_rows(self._maps, self.levelled(image), self.tiling, self.prepare):
            if rows.shape[1] == image.shape[0]:
                return np.ascontiguousarray(rows)
            if maps is None:
                maps = np.empty((len(rows), image.shape[0], image.shape[1]), np.float32)
            maps[:, top : top + rows.shape[1]] = rows
            top += rows.shape[1]
        assert maps is not None  # a picture has a row
        return maps

    def _whole_detections(self, source: Sliceable) -> Detections:
        size = source.shape[0], source.shape[1]
        tile, tried = self.tiling.first(*size), list[str]()
        while True:
            try:
                return joined(self._tiles(source, tile), size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            torch.cuda.empty_cache()  # out of there, the error no longer holds on to the memory
            tile = smaller(tile, self.tiling, size, tried)

    def _tiles(self, source: Sliceable, tile: tuple[int, int]) -> list[Tile]:
        """What is found in each tile. Neighbours share a pixel at least: no agreement without."""
        shared = [max(1, int(side * self.tiling.overlap)) for side in tile]
        rows, columns = (
            [(start, min(start + side, length)) for start in starts(length, side, overlap, self.tiling.multiple)]
            for length, side, overlap in zip(source.shape, tile, shared, strict=False)
        )
        tiles: list[Tile] = []
        for top, bottom in rows:
            found = (
                each
                for images in crops(source, (top, bottom), columns, self.tiling.batch, self.prepare)
                for each in self._ask(torch.from_numpy(images).permute(0, 3, 1, 2))
            )
            tiles += [Tile(left, top, right, bottom, each) for (left, right), each in zip(columns, found, strict=True)]
        return tiles

    def _maps(self, images: Tensor) -> Tensor:
        """(B, M, H, W) float32 for images (B, C, H, W) in [0, 1]."""
        maps = np.stack(self._ask(images))
        if self.flips:
            assert isinstance(self.model, Mirrors)
            maps += np.stack([self.model.mirrored(each) for each in self._ask(images.flip(3))])
            maps /= 2
        return torch.from_numpy(maps)

    @torch.inference_mode()
    def _ask(self, images: Tensor) -> list[Any]:
        """Maps (M, H, W) float32 or Detections for each of the images (B, C, H, W) in [0, 1]."""
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            answers = list(self.model.answers(images))
        for each in answers:
            require_numbers(torch.from_numpy(each.scores if isinstance(each, Detections) else each))
        return answers


def checked_thresholds(model: InstanceModel[Any], thresholds: Mapping[str, float]) -> dict[str, float]:
    """The thresholds, if the model has them all. Raises UsageError for others, and for what is not a number."""
    for name, value in thresholds.items():
        if name not in model.thresholds:
            raise UsageError(
                f"the threshold {name!r} is none of a {type(model).__name__}; it has {', '.join(model.thresholds)}."
            )
        if not math.isfinite(value):
            raise UsageError(f"the threshold {name} = {value} is not a number; give one.")
        if name == "score" and not 0 <= value <= 1:
            raise UsageError(f"the threshold score = {value:g} leaves out all objects or none; give 0 to 1.")
    return dict(thresholds)
