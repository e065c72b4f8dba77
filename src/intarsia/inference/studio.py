"""A trained generative model that draws, mends and packs pictures, of any kind and one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ..data.pictures import fitted
from ..data.read import LIMIT_PIXELS, as_channels, to_float
from ..errors import NumericError, OutOfMemoryError, UsageError
from ..models import MODELS
from ..models.contract import Draws, Encodes, GenerativeModel, Mends, Reconstructs
from ..models.generative.pix2pix import Pix2Pix
from ..models.generative.vqvae import VQVAE
from ..models.sampling import Condition, draw, generator_of
from ..records import Classes, Image, Mask
from . import compression, editing
from .predictor import WHOLE_CPU, device_named, fingerprint
from .reading import Hole, Picture, read_classes, read_hole, read_picture
from .tiling import Tiling, is_out_of_memory, predict_tiled

Category = str | int  #: a class of whole pictures, by its name or its number
MaskSource = str | Path | np.ndarray
Result = TypeVar("Result")


class Studio:
    """What one generative model can do. The model is moved to the device and set to `eval()`.

    Pictures go in as files, arrays (H, W) or (H, W, C) of uint8, uint16, bool or float in [0, 1], Pillow pictures or
    tensors (C, H, W), and come out as (H, W, C) uint8. What the model can't do is a UsageError that names the models
    that can; what can't be read is a DataError.
    """

    def __init__(
        self,
        model: GenerativeModel,
        classes: Classes | Sequence[str] = (),  # of whole pictures, or of masks, whichever the model is told
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",  # auto: a GPU where there is one
        limit: int = LIMIT_PIXELS,  # pixels beyond which a file is refused
    ) -> None:
        self.device = device_named(device)
        self.model = model.to(self.device).eval()
        self.name = str(getattr(model.config, "name", type(model).__name__))
        self.channels, self.size = model.config.channels, model.config.size
        #: what the model is told of a picture that it draws
        self.condition: Literal["none", "class", "mask"] = getattr(model.config, "condition", "none")
        self.limit = limit
        self.classes = classes if isinstance(classes, Classes) else Classes.named(classes)
        told = self.condition != "none" or (isinstance(model, Pix2Pix) and model.with_masks)
        if told and len(self.classes) != model.config.classes:
            if len(self.classes):
                raise UsageError(
                    f"the model is told one of {model.config.classes} classes, but the list has {len(self.classes)}; "
                    "give the class list that the model was trained with."
                )
            self.classes = Classes.named([str(number) for number in range(model.config.classes)])

    @property
    def abilities(self) -> tuple[str, ...]:
        """The methods that this model can answer, such as "generate" and "inpaint"."""
        undone = set(editing.undoes(self.model))
        reconstructs = isinstance(self.model, Reconstructs)
        found = {
            "generate": isinstance(self.model, Draws),
            "interpolate": isinstance(self.model, Draws | Encodes),
            "reconstruct": reconstructs,
            "inpaint": "holes" in undone or (reconstructs and not isinstance(self.model, Mends)),
            "denoise": "noise" in undone,
            "restore": bool(undone - {"holes"}),
            "translate": isinstance(self.model, Pix2Pix),
            "compress": isinstance(self.model, VQVAE),
        }
        return tuple(name for name, able in found.items() if able)

    def settings(self) -> dict[str, object]:
        """All that the answers depend on, in numbers and words that fit into JSON."""
        return {"model": self.name, "weights": fingerprint(self.model), "classes": list(self.classes.names)}

    def generate(
        self,
        count: int = 1,
        seed: int = 0,
        first: int = 0,
        category: Category | None = None,
        masks: Sequence[MaskSource] = (),
    ) -> Iterator[np.ndarray]:
        """Pictures `first` to `first + count - 1` of a seed, each the same whatever else is asked for with it.

        category: what they show, of a model that is told classes; None: picture i shows class i modulo their number.
        masks: what they show where, of a model that is told masks; picture i has mask i modulo their number.
        """
        if count < 0 or first < 0:
            raise UsageError(f"{count} pictures from number {first} can't be drawn; both are 0 or more.")
        return self.draw(range(first, first + count), seed, category, masks)

    def draw(
        self,
        numbers: Iterable[int],
        seed: int = 0,
        category: Category | None = None,
        masks: Sequence[MaskSource] = (),
    ) -> Iterator[np.ndarray]:
        """The pictures of a seed with these numbers, in their order; the rest is as with `generate`."""
        model = self.model
        if not isinstance(model, Draws):
            raise self._refusal(Draws, "draws no pictures of its own")
        if not 0 <= seed < 2**63:
            raise UsageError(f"the seed {seed} is no number from 0 to 2^63 - 1.")
        told = self._told(category, masks)  # here, so that a mistake is said before the first picture is asked for
        return self._each(draw(model, numbers, seed, told))

    def reconstruct(self, picture: Picture) -> np.ndarray:
        """The picture as the model sees it: taken apart and put together again; at its own size where the model takes
        any, else at the model's."""
        model = self.model
        if not isinstance(model, Reconstructs):
            raise self._refusal(Reconstructs, "takes no pictures apart")
        image = self.read(picture)
        if image.shape[:2] != self.size and not self._takes_any_size:
            image = fitted(image, self.size)
        return to_uint8(self._guarded(lambda: model.reconstruct(self._tensor(image))[0]).cpu().numpy())

    def interpolate(
        self,
        a: Picture | int,
        b: Picture | int,
        steps: int = 9,
        *,
        seed: int = 0,
        category: Category | None = None,
        mask: MaskSource | None = None,
    ) -> list[np.ndarray]:
        """`steps` pictures from a to b, both included: pictures, or numbers of pictures of a seed.

        Between latents that are normally distributed the way is along the sphere on which such latents lie (Shoemake,
        "Animating rotation with quaternion curves", 1985), else straight. Of pictures the first and the last are as
        the model sees them, at its size.
        """
        if steps < 2:
            raise UsageError(f"{steps} steps lead nowhere; give 2 or more.")
        numbers = [each for each in (a, b) if isinstance(each, int)]
        if numbers and not isinstance(self.model, Draws):
            raise self._refusal(Draws, "draws no pictures of its own, so there are none by number")
        if len(numbers) < 2 and not isinstance(self.model, Encodes):
            raise self._refusal(Encodes, "has no latent for a given picture (two numbers of drawn pictures would do)")
        if min(numbers, default=0) < 0:
            raise UsageError(f"picture {min(numbers)} of a seed does not exist; they are counted from 0.")
        told = self._told(category, () if mask is None else (mask,))
        if told is not None and category is None and mask is None:
            raise UsageError("the model is told what a picture shows; say what these show: a class's name or number.")
        shown = None if told is None else told(0)[None].to(self.device)

        def walk() -> Tensor:
            start, end, decode, on_sphere = self._ends(a, b, seed, shown)
            between = along_sphere if on_sphere else torch.lerp
            shares = [step / (steps - 1) for step in range(steps)]
            return torch.cat([decode(between(start, end, share)[None]) for share in shares])

        return [to_uint8(each) for each in self._guarded(walk).cpu().numpy()]

    def inpaint(self, picture: Picture, hole: Hole) -> Image:
        """The picture with a hole filled in, all else untouched, of its own size and number type. hole: a box
        (x0, y0, x1, y1) in pixels, exclusive at its end; or a file or an array of the picture's size, not 0 where it is
        missing."""
        image = self.read(picture)
        missing = read_hole(hole, (image.shape[0], image.shape[1]), self.limit)
        return self._guarded(lambda: editing.inpaint(self.model, image, missing))

    def denoise(self, picture: Picture) -> Image:
        """The picture without its noise, of its own size and number type."""
        image = self.read(picture)
        return self._guarded(lambda: editing.denoise(self.model, image))

    def restore(self, picture: Picture) -> Image:
        """The picture sharp, coloured and without noise, whatever of it the model has learnt; size and number type are
        its own."""
        image = self.read(picture)
        return self._guarded(lambda: editing.restore(self.model, image))

    def translate(self, source: Picture) -> np.ndarray:
        """What a pix2pix model makes of a picture or of a mask, at its own size: (H, W, C) uint8, or class numbers
        (H, W) int16 of a model that goes from pictures to masks."""
        model = self.model
        if not isinstance(model, Pix2Pix):
            raise self._refusal(Pix2Pix, "translates nothing")
        tiling = Tiling(None, WHOLE_CPU, 0.25, editing.MULTIPLE)
        if model.config.task == "mask_to_picture":
            if not isinstance(source, str | Path | np.ndarray):
                raise UsageError("the model goes from masks to pictures; give a mask as a file or an array.")
            planes = one_hot(read_classes(source, self.classes, self.limit), model.config.classes)
            return to_uint8(self._guarded(lambda: predict_tiled(self._ask(model), planes, tiling)))
        image = as_channels(self.read(source), self.channels)
        if model.config.task == "picture_to_mask":
            probabilities = self._guarded(lambda: predict_tiled(self._ask(model), image, tiling))
            return probabilities.argmax(axis=0).astype(np.int16)
        return to_uint8(self._guarded(lambda: predict_tiled(self._ask(model.mend), image, tiling)))

    def compress(self, picture: Picture, quality: int | None = None) -> bytes:
        """The picture packed, of its own size and number type; `decompress` unpacks it. quality: how many of the
        model's codebooks are used, the fewer the smaller; None: all."""
        image = as_channels(self.read(picture), self.channels)
        return self._guarded(lambda: compression.compress(self.model, image, quality))

    def decompress(self, data: bytes) -> Image:
        """The picture that `compress` packed, as far as the model kept it. DataError for bytes of another model."""
        return self._guarded(lambda: compression.decompress(self.model, data, self.limit))

    # how it is done

    @cached_property
    def _takes_any_size(self) -> bool:
        """Whether the model reconstructs pictures of another size than its own: tried once, on an empty one."""
        height, width = self.size
        try:
            blank = torch.zeros(1, self.channels, height + 4, width + 8, device=self.device)
            with torch.inference_mode():
                return cast(Reconstructs, self.model).reconstruct(blank).shape == blank.shape
        except (RuntimeError, ValueError, UsageError):
            return False

    def _refusal(self, kind: type, what: str) -> UsageError:
        able = [name for name, model in MODELS.items() if issubclass(model, kind)]
        return UsageError(f"a model of the kind {self.name} {what}; take a run of {' or '.join(able)}.")

    def read(self, picture: Picture) -> Image:
        """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], which the model can take."""
        return read_picture(picture, self.channels, self.limit)

    def _tensor(self, image: Image) -> Tensor:
        """(1, C, H, W) float32 in [0, 1] on the model's device."""
        values = to_float(as_channels(image, self.channels))
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))[None].to(self.device)

    def _ask(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda images: function(images.to(self.device))

    def _told(self, category: Category | None, masks: Sequence[MaskSource]) -> Condition | None:
        """Picture's number -> what the model is told of it."""
        if category is not None and self.condition != "class":
            raise UsageError(
                "the model is not told what a picture shows, so it can't be asked for a class; train one with "
                "--set model.condition=class on a folder a class."
            )
        if len(masks) and self.condition != "mask":
            raise UsageError(
                "the model is not told where something is, so it can't draw after masks; train one with "
                "--model diffusion --set model.condition=mask, or translate with a pix2pix model."
            )
        if self.condition == "class":
            number = None if category is None else self.number_of(category)
            count = len(self.classes)
            return lambda index: torch.tensor(index % count if number is None else number)
        if self.condition == "mask":
            if not len(masks):
                raise UsageError("the model is told where something is: give masks.")

            @lru_cache(maxsize=64)
            def planes(number: int) -> Tensor:
                drawn = one_hot(read_classes(masks[number], self.classes, self.limit), len(self.classes))
                return torch.from_numpy(np.moveaxis(fitted_planes(drawn, self.size), -1, 0).copy())

            return lambda index: planes(index % len(masks))
        return None

    def number_of(self, category: Category) -> int:
        """The number of a class. Raises UsageError, listing those there are."""
        names = self.classes.names
        if isinstance(category, int) or (category not in names and category.isascii() and category.isdigit()):
            if 0 <= int(category) < len(names):
                return int(category)
        elif category in names:
            return names.index(category)
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise UsageError(f"there is no class {category}; there are {shown} (or 0 to {len(names) - 1}).")

    def _ends(
        self, a: Picture | int, b: Picture | int, seed: int, shown: Tensor | None
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor], bool]:
        """Both ends' latents without the axis of the batch, what decodes latents, and whether they lie on a sphere."""
        model = self.model
        if isinstance(a, int) and isinstance(b, int) and isinstance(model, Draws):
            start, end = model.noise([generator_of(seed, number) for number in (a, b)]).to(self.device)
            probe = model.encode(self._blank(), shown) if isinstance(model, Encodes) else None
            if probe is None or probe.shape[1:] == start.shape:
                return start, end, lambda latent: model(latent, shown), True
        assert isinstance(model, Encodes)
        encode, decode = model.encode, model.decode
        images = []
        for each in (a, b):
            if isinstance(each, int):
                told = None if shown is None else (lambda index: shown[0].cpu())
                (drawn,) = draw(cast(Draws, model), [each], seed, told)
                images.append(drawn[None].to(self.device))
            else:
                images.append(self._tensor(fitted(as_channels(self.read(each), self.channels), self.size)))
        start, end = (encode(image, shown)[0] for image in images)
        normal = isinstance(model, Draws) and tuple(start.shape) == tuple(model.latent_shape)
        return start, end, lambda latent: decode(latent, shown), normal

    def _blank(self) -> Tensor:
        return torch.zeros(1, self.channels, *self.size, device=self.device)

    def _each(self, drawn: Iterator[Tensor]) -> Iterator[np.ndarray]:
        while (picture := self._guarded(lambda: next(drawn, None))) is not None:
            yield to_uint8(picture.numpy())

    def _guarded(self, work: Callable[[], Result]) -> Result:
        """What `work` gives, in words where the memory is full or a number is none."""
        try:
            with torch.inference_mode():
                result = work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                "the picture does not fit into memory; take smaller ones, or --device cpu."
            ) from None
        if isinstance(result, Tensor | np.ndarray) and not _is_finite(result):
            raise NumericError(
                "the model's answer is not a number: its weights are not those of a training that went well; "
                "take its other weights (best, last), or train again with a lower train.learning_rate."
            )
        return result


def along_sphere(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The latent at `share` of the way, [0, 1], between two of any shape: its direction turns evenly, its length grows
    evenly (Shoemake 1985, section 3.3). Straight where the two point the same way, or into opposite ones."""
    lengths = start.norm(), end.norm()
    if min(lengths) == 0:
        return torch.lerp(start, end, share)
    one, other = start / lengths[0], end / lengths[1]
    angle = math.acos(float((one * other).sum().clamp(-1, 1)))
    if math.sin(angle) < 1e-4:
        return torch.lerp(start, end, share)
    direction = (math.sin((1 - share) * angle) * one + math.sin(share * angle) * other) / math.sin(angle)
    return direction * torch.lerp(*lengths, share)


def one_hot(mask: Mask, classes: int) -> np.ndarray:
    """(H, W, K) float32: 1 where a class is, no 1 where nobody knows."""
    return (mask[..., None] == np.arange(classes)).astype(np.float32)


def fitted_planes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One-hot planes (H, W, K) brought to a size as pictures are: of what falls onto a pixel, the most wins."""
    if planes.shape[:2] == size:
        return planes
    whole = np.concatenate([planes, 1 - planes.sum(axis=2, keepdims=True)], axis=2)  # what nobody knows counts too
    best = fitted(whole, size).argmax(axis=2)
    return one_hot(best, planes.shape[2])


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 of (C, H, W) in [0, 1]."""
    values = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def _is_finite(values: Tensor | np.ndarray) -> bool:
    return bool(np.isfinite(values).all() if isinstance(values, np.ndarray) else values.isfinite().all())
