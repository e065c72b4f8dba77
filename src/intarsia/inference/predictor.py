"""A trained model that answers for pictures of any size, kind and count.

Test-time augmentation is the mean of the probabilities over the picture and its mirror image, at each of the scales.
The temperature (Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2) divides the logits.

A model that has several plausible answers (`Ambiguous`) is asked for a picture's latents once: where a picture is done
in tiles, the prior of each tile is blended as the answers are, and the mean over the pixels is the picture's. All tiles
then answer for the same latent, so that an answer is of one mind from one border to the other.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.levels import Stretched
from ..data.read import LIMIT_PIXELS, as_channels, to_float
from ..data.windows import Windows
from ..errors import NumericError, UsageError
from ..models.contract import Ambiguous, PictureModel, SemanticModel
from ..models.sampling import generator_named
from ..records import Classes, Image, Prediction
from .blocks import answer_blocks
from .reading import Picture, read_picture, read_windows
from .tiles import BYTES_A_PIXEL, whole_on_cpu
from .tiles import WHOLE_CPU as WHOLE_CPU
from .tiling import Sliceable, Tiling, of_arrays, predict_rows
from .working import Failure as Failure
from .working import ahead as ahead
from .working import attempt as attempt
from .working import mean_of as mean_of

Result = TypeVar("Result")
Network = TypeVar("Network", bound=PictureModel)


class PicturePredictor(ABC, Generic[Network, Result]):
    """Answers by one model with one list of classes, a `Result` for a picture. The model is moved to the device and set
    to `eval()`. The parameters are those of `Predictor`."""

    def __init__(
        self,
        model: Network,
        classes: Classes,
        device: Literal["auto", "cpu", "cuda"],
        tile: int | None,
        overlap: float,
        channels: int | None,
        precision: Literal["float32", "bfloat16", "float16"],
        batch: int,
        limit: int,
    ) -> None:
        self.device = device_named(device)
        self.model = model.to(self.device).eval()
        self.model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
        self.classes = classes
        self.channels = channels or int(model.get_buffer("mean").numel())
        self.precision = getattr(torch, precision)
        self.limit = limit
        size = None if tile is None else (tile, tile)
        self.tiling = Tiling(size, _whole(self.device), overlap, model.stride, batch)

    def __call__(self, picture: Picture, name: str | None = None) -> Result:
        """The same as `predict`."""
        return self.predict(picture, name)

    def predict(self, picture: Picture, name: str | None = None) -> Result:
        """The answer at the picture's own size, as the picture is displayed (EXIF).

        A picture is a file; an array (H, W) or (H, W, C) of uint8, uint16, bool, or float in [0, 1]; a Pillow picture;
        or a tensor (C, H, W). Grey ones do for models of any number of channels. Raises DataError for what can't be
        read, OutOfMemoryError for what does not fit.
        """
        name = name or (Path(picture).stem if isinstance(picture, str | Path) else "picture")
        return self.predicted(name, self.read(picture))

    def predict_many(self, paths: Iterable[str | Path]) -> Iterator[Result | Failure]:
        """The answers for files, in their order; the next files are read and computed while you use an answer.

        A file that can't be read or predicted gives a Failure, and the rest go on.
        """

        def read(path: Path) -> tuple[Path, Image | Failure]:
            return path, attempt(path, lambda: self.read(path))

        def compute(item: tuple[Path, Image | Failure]) -> Result | Failure:
            path, image = item
            if isinstance(image, Failure):
                return image
            return attempt(path, lambda: self.predicted(path.stem, image))

        return ahead(compute, ahead(read, map(Path, paths)))

    def share(self, lanes: int) -> int:
        """From how many threads at once it may be asked: one."""
        return 1

    def read(self, picture: Picture) -> Image:
        """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], which the model can take."""
        return read_picture(picture, self.channels, self.limit)

    def windows(self, path: Path, scratch: Path | None = None) -> Windows | None:
        """A picture file that is read where it is sliced, which the model can take; None where only `read` will do.
        scratch: a folder with room for the pixels of a PNG, JPEG or WebP file, which are else read whole."""
        return read_windows(path, self.channels, self.limit, scratch)

    @abstractmethod
    def predicted(self, name: str, image: Image) -> Result:
        """`predict` for a picture that `read` gave."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that the answers depend on, in numbers and words that fit into JSON."""

    def levelled(self, image: Sliceable) -> Sliceable:
        """The picture at the levels that the model was trained with: as it is, or stretched as a whole."""
        return Stretched(image) if self.model.config.levels == "picture" else image

    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """A part (H, W, C) of a picture as the model takes it: float32 in [0, 1], with the model's channels."""
        return to_float(as_channels(crop, self.channels))

    def autocast(self) -> torch.autocast:
        """The context in which the model is asked: that of the precision."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def shared_settings(self) -> dict[str, Any]:
        """Those of the `settings` that every kind of answer depends on."""
        return {
            "weights": fingerprint(self.model),
            "classes": list(self.classes.names),
            "colours": [list(colour) for colour in self.classes.colours],
            "precision": str(self.precision).removeprefix("torch."),
            "tile": self.tiling.tile and self.tiling.tile[0],
            "overlap": self.tiling.overlap,
        }


class Predictor(PicturePredictor[SemanticModel, Prediction]):
    """Answers by one model with one list of classes. The model is moved to the device and set to `eval()`."""

    gives_probabilities = True  # of every class, whatever is asked for; an exported file may give class numbers only

    def __init__(
        self,
        model: SemanticModel,
        classes: Classes,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",  # auto: a GPU where there is one
        tile: int | None = None,  # pixels a side; None: the whole picture where it fits, else tiles that fit
        overlap: float = 0.25,  # share of a tile's side that its neighbours see as well, [0, 0.9]
        flips: bool = False,  # also ask for the mirror image: twice the time
        scales: tuple[float, ...] = (1.0,),  # of the picture's sides: each costs its square in time
        temperature: float = 1.0,  # above 1: less certain; fitted on validation pictures
        channels: int | None = None,  # of the model's pictures; None: as it was built for
        precision: Literal["float32", "bfloat16", "float16"] = "float32",  # half: faster where there is such hardware
        batch: int = 1,  # tiles at a time; more than 1 pays on a GPU only
        limit: int = LIMIT_PIXELS,  # pixels beyond which a file is refused
        plain: float = 0.0,  # share of the range by which a plain tile's pixels may differ, [0, 1]; see `blocks.py`
    ) -> None:
        if not scales or min(scales) <= 0 or temperature <= 0:
            raise UsageError(
                f"scales ({scales}) and temperature ({temperature}) must be above 0; give at least one scale."
            )
        if classes.overlapping != model.overlapping:
            kinds = ("exclude each other", "overlap")
            raise UsageError(
                f"the model's classes {kinds[model.overlapping]}, but the class list says that they "
                f"{kinds[classes.overlapping]}; give the class list that the model was trained with."
            )
        super().__init__(model, classes, device, tile, overlap, channels, precision, batch, limit)
        self.tiling = replace(self.tiling, plain=plain)
        self.flips = flips
        self.scales = scales
        self.temperature = temperature

    def strips(self, image: Sliceable, name: str = "picture") -> Iterator[Prediction]:
        """The answer in strips of full width, from top to bottom, for pictures too large to hold at once.

        `image` is (H, W, C) with a number type that `read` gives, or anything that reads a part of itself when sliced,
        such as a memory map or a zarr array: only the strips at hand are in memory.
        """
        top = 0
        for rows in predict_rows(self._probabilities, self.levelled(image), self.tiling, self.prepare):
            self._check_classes(len(rows))
            bottom = top + rows.shape[1]
            yield Prediction(name, np.asarray(image[top:bottom]), self.classes, rows)
            top = bottom

    def blocks(
        self, image: Sliceable, scratch: str | Path, name: str = "picture", start: int = 0
    ) -> Iterator[tuple[int, int, Prediction]]:
        """Top, left and answer of blocks that cover a picture from row `start` on, for pictures too wide for `strips`:
        memory is that of a few tiles, and a folder, `scratch`, holds what waits. Together they are what `strips` gives.
        """
        levelled, answer = self.levelled(image), of_arrays(self._probabilities)
        tidy = torch.cuda.empty_cache
        found = answer_blocks(answer, levelled, self.tiling, self.prepare, Path(scratch), start=start, tidy=tidy)
        for top, left, values in found:
            self._check_classes(len(values))
            part = np.asarray(image[top : top + values.shape[1], left : left + values.shape[2]])
            yield top, left, Prediction(name, part, self.classes, values)

    def samples(
        self, picture: Picture, count: int = 16, seed: int = 0, name: str | None = None
    ) -> tuple[Prediction, ...]:
        """`count` plausible answers for a picture, each whole and of one mind, drawn as often as they are plausible.

        An answer depends on the seed, the name and its number alone, not on the count or on other pictures; name: None:
        a file's own. The temperature is not applied: it was fitted to single answers. Raises UsageError for models that
        have one answer only, DataError and OutOfMemoryError as `predict` does.
        """
        name = name or (Path(picture).stem if isinstance(picture, str | Path) else "picture")
        image = self.read(picture)
        strips = [
            np.stack([each.probabilities for each in strip]) for strip in self.sample_strips(image, name, count, seed)
        ]
        whole = strips[0] if len(strips) == 1 else np.concatenate(strips, axis=2)  # S K H W
        return tuple(Prediction(name, image, self.classes, each) for each in whole)

    def sample_strips(
        self, image: Sliceable, name: str = "picture", count: int = 16, seed: int = 0
    ) -> Iterator[tuple[Prediction, ...]]:
        """`samples` in strips of full width, from top to bottom, as `strips` gives one answer."""
        model = self.ambiguous()
        if count < 1:
            raise UsageError(f"{count} answers were asked for; give 1 or more.")
        latents = self._latents(model, image, name, count, seed)  # S Z

        def ask(images: Tensor) -> Tensor:
            answers = model.answers(images, latents[:, None].expand(-1, len(images), -1))  # S B K H W
            return answers.flatten(0, 1)

        def predict(images: Tensor) -> Tensor:
            answers = self._probabilities(images, ask, temperature=1.0)
            return answers.unflatten(0, (count, len(images))).transpose(0, 1).flatten(1, 2)  # B S*K H W

        top = 0
        for rows in predict_rows(predict, self.levelled(image), self.tiling, self.prepare):
            self._check_classes(len(rows) // count)
            bottom = top + rows.shape[1]
            picture = np.asarray(image[top:bottom])
            yield tuple(Prediction(name, picture, self.classes, each) for each in np.split(rows, count))
            top = bottom

    def ambiguous(self) -> Ambiguous:
        """The model, where it has several answers for a picture. Raises UsageError where it has one."""
        if not isinstance(self.model, Ambiguous):
            raise UsageError(
                f"a {type(self.model).__name__} has one answer for a picture, and several were asked for; train a "
                "model that has, with `intarsia fit FOLDER --model probabilistic_unet`."
            )
        return self.model

    @torch.inference_mode()
    def _latents(self, model: Ambiguous, image: Sliceable, name: str, count: int, seed: int) -> Tensor:
        """(S, Z): latents of the picture's prior, each drawn by a generator of its own."""

        def prior(images: Tensor) -> Tensor:
            spread = torch.cat(model.prior_of(images.to(self.device)), dim=1)  # B 2Z
            return spread[:, :, None, None].expand(-1, -1, *images.shape[2:])

        rows = predict_rows(prior, self.levelled(image), self.tiling, self.prepare)
        total = sum(each.sum(axis=(1, 2), dtype=np.float64) for each in rows)
        pixels = image.shape[0] * image.shape[1]
        mean, log_variance = torch.from_numpy(np.asarray(total / pixels, np.float32)).chunk(2)  # Z each
        noise = [torch.randn(model.latent, generator=generator_named(seed, name, i)) for i in range(count)]
        return (mean + (log_variance / 2).exp() * torch.stack(noise)).to(self.device)

    def settings(self) -> dict[str, Any]:
        return {
            **self.shared_settings(),
            "overlapping": self.classes.overlapping,
            "flips": self.flips,
            "scales": list(self.scales),
            "temperature": self.temperature,
            **({"plain": self.tiling.plain} if self.tiling.plain else {}),
        }

    def predicted(self, name: str, image: Image) -> Prediction:
        strips = [strip.probabilities for strip in self.strips(image)]
        probabilities = strips[0] if len(strips) == 1 else np.concatenate(strips, axis=1)
        return Prediction(name, image, self.classes, np.ascontiguousarray(probabilities))

    def _check_classes(self, answered: int) -> None:
        if answered != len(self.classes):
            raise UsageError(
                f"the model answers for {answered} classes, but the list has {len(self.classes)}; "
                "give the class list that the model was trained with."
            )

    @torch.inference_mode()
    def _probabilities(
        self, images: Tensor, ask: Callable[[Tensor], Tensor] | None = None, temperature: float | None = None
    ) -> Tensor:
        """(B, K, H, W) in [0, 1] for images (B, C, H, W) in [0, 1]. ask: images to logits; None: the model."""
        ask, temperature = ask or self.model, temperature or self.temperature
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        views = [(scale, flip) for scale in self.scales for flip in ((False, True) if self.flips else (False,))]
        total = self._view(images, ask, temperature, *views[0])
        for scale, flip in views[1:]:
            total += self._view(images, ask, temperature, scale, flip)
        require_numbers(total)
        return total.div_(len(views))

    def _view(
        self, images: Tensor, ask: Callable[[Tensor], Tensor], temperature: float, scale: float, flip: bool
    ) -> Tensor:
        """The probabilities seen at one scale, mirrored or not, brought back to the pictures' own frame."""
        size = images.shape[2:]
        scaled = [max(1, round(side * scale)) for side in size]
        x = images if scale == 1 else F.interpolate(images, scaled, mode="bilinear", antialias=True)
        with self.autocast():
            logits = ask(x.flip(3) if flip else x)
        logits = logits.float() / temperature
        probabilities = logits.sigmoid() if self.classes.overlapping else logits.softmax(dim=1)
        probabilities = probabilities.flip(3) if flip else probabilities
        return probabilities if scale == 1 else F.interpolate(probabilities, size, mode="bilinear")


def require_numbers(answer: Tensor) -> None:
    """Raises NumericError where a model's answer holds what is not a number."""
    if not torch.isfinite(answer.sum()):  # pictures are numbers in [0, 1]: it is the model
        raise NumericError(
            "the model's answer is not a number: its weights are not those of a training that went well; "
            "take its other weights (best, last), or train again with a lower train.learning_rate."
        )


def device_named(name: str) -> torch.device:
    """The device `name`; of "auto" a GPU where there is one. Raises UsageError for one that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"the device {name!r} is unknown; choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("the device cuda was asked for, but PyTorch finds no GPU here; choose auto or cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fingerprint(module: nn.Module) -> str:
    """32 hexadecimal digits that differ for any other weights (BLAKE2 of the names, shapes and values)."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _whole(device: torch.device) -> int:
    """Pixels up to which a picture is done whole; larger ones in tiles of at most that many."""
    if device.type == "cuda":
        return max(256 * 256, torch.cuda.mem_get_info(device)[0] // BYTES_A_PIXEL)
    return whole_on_cpu()
