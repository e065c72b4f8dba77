"""Pictures mended by a trained model: holes filled, noise, blur and lost colour undone.

A picture is an array (H, W, C), or (H, W), of uint8, uint16 or float32 in [0, 1], of any size; what comes back has the
same height, width and number type, and the model's number of channels (grey becomes colour where the model has it).
The model stays on its device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..data.read import as_channels, to_float
from ..errors import DataError, NumericError, UsageError
from ..models.contract import GenerativeModel, Mends, Reconstructs
from ..models.generative.autoencoder import Autoencoder
from ..models.generative.pix2pix import Pix2Pix
from ..networks.corruptions import filled
from ..records import Image
from .predictor import WHOLE_CPU
from .reading import as_image
from .tiling import Tiling, predict_tiled

if TYPE_CHECKING:
    from collections.abc import Iterator

MULTIPLE = 64  # pixels at which tiles start: a multiple of the models' strides
ALL = ("grey", "blur", "noise", "holes")
MENDER = "one with `--model autoencoder --set model.skips=true`"
#: damage -> what to say to `intarsia fit`, so that a model learns to undo it
TRAIN = {
    "holes": f"train {MENDER} and `--set model.corruption.holes=0.4`",
    "noise": f"train {MENDER} and `--set model.corruption.noise=[0,0.2]` (shares of the full range)",
    "": (
        f"train {MENDER} and `--set model.corruption.blur=[0.5,3]` (pixels), "
        "`--set model.corruption.noise=[0,0.2]` or `--set model.corruption.grey=true`"
    ),
}


def inpaint(
    model: GenerativeModel,
    image: np.ndarray,
    hole: np.ndarray,
    *,
    feather: float = 4.0,  # pixels from the hole's border over which a step in colour fades out; 0 = left as it is
    tile: int | None = None,  # pixels a side; None: the whole picture where it fits, else tiles that fit
    overlap: float = 0.25,  # share of a tile's side that its neighbours see as well, [0, 0.9]
    rounds: int = 30,  # of a model that only reconstructs; the others need one
) -> Image:
    """The picture with its hole (H, W) bool filled; all other pixels are the picture's own, bit for bit.

    A model that reconstructs but was not trained to mend (a VAE) is asked `rounds` times, beginning with a smooth
    guess, and what is known is put back each time: as Rezende, Mohamed, Wierstra (Stochastic Backpropagation, 2014)
    impute missing data, with means instead of samples. That is for pictures of the model's own size.

    Raises UsageError for a model that can't fill holes, or a hole that leaves nothing; DataError for a hole of another
    size than the picture, or channels that don't fit.
    """
    image, hole = np.asarray(image), np.asarray(hole)
    if hole.shape != image.shape[:2] or hole.dtype != np.bool_:
        raise DataError(
            f"the hole is an array {hole.shape} of {hole.dtype}, but the picture is {image.shape}; "
            "give a bool (H, W) of the picture's height and width, True where it is missing."
        )
    missing = hole.reshape(hole.shape + (1,) * (image.ndim - 2))
    blank = as_image(np.where(missing, 0, image).astype(image.dtype))  # whatever stands in a hole is not looked at
    blank = as_channels(blank, model.config.channels)
    mends = isinstance(model, Mends)
    if not (mends or isinstance(model, Reconstructs)) or (mends and "holes" not in undoes(model)):
        raise UsageError(f"{_named(model)} can't fill a hole: it never learnt to; {TRAIN['holes']}.")
    if not hole.any():
        return blank
    if hole.all():
        raise UsageError("the hole is the whole picture, and nothing is left to go by; use `intarsia generate`.")
    if not mends and hole.shape != model.config.size:
        height, width = model.config.size
        raise UsageError(
            f"{_named(model)} fills holes in pictures of its own size only, {height} x {width} (height x width), but "
            f"this one has {hole.shape[0]} x {hole.shape[1]}; cut or scale it, or {TRAIN['holes']}."
        )

    full = 1 if blank.dtype == np.float32 else np.iinfo(blank.dtype).max
    planes = np.concatenate([blank, np.where(hole, 0, full)[..., None].astype(blank.dtype)], axis=2)  # H W C+1
    fill = _mend_holes(model) if isinstance(model, Mends) else _reconstruct_again(model, rounds)
    answer = _tiled(model, fill, planes, tile, overlap)
    if feather > 0:
        answer = _without_step(answer, to_float(blank), hole, feather)
    return np.where(hole[..., None], _like(answer, blank), blank)


def denoise(model: GenerativeModel, image: np.ndarray, *, tile: int | None = None, overlap: float = 0.25) -> Image:
    """The picture without its noise. Raises UsageError for a model that was not trained on noisy pictures."""
    return _undone(model, image, "noise", tile, overlap)


def restore(model: GenerativeModel, image: np.ndarray, *, tile: int | None = None, overlap: float = 0.25) -> Image:
    """The picture without the damage that the model was trained to undo: sharp, coloured, without noise. Raises
    UsageError for a model that was trained for none, or for holes only."""
    return _undone(model, image, "", tile, overlap)


def undoes(model: GenerativeModel) -> tuple[str, ...]:
    """Which of "grey", "blur", "noise", "holes" the model has learnt to undo."""
    if isinstance(model, Autoencoder):
        return model.config.corruption.kinds
    if isinstance(model, Pix2Pix):
        task = model.config.task
        return ("grey",) if task == "grey_to_colour" else model.config.damage().kinds if task == "restore" else ()
    return ALL if isinstance(model, Mends) else ()


def _undone(model: GenerativeModel, image: np.ndarray, damage: str, tile: int | None, overlap: float) -> Image:
    image = as_channels(as_image(image), model.config.channels)
    learnt = [each for each in undoes(model) if each != "holes"]
    if not isinstance(model, Mends) or not learnt or (damage and damage not in learnt):
        others = f" (only {' and '.join(undoes(model))})" if undoes(model) else ""
        what = "take noise out of a picture" if damage else "restore a picture"
        raise UsageError(f"{_named(model)} can't {what}: it never learnt to{others}; {TRAIN[damage]}.")
    return _like(_tiled(model, model.mend, image, tile, overlap), image)


def _mend_holes(model: Mends) -> Callable[[Tensor], Tensor]:
    """The pictures (B, C, h, w) that the model makes of planes (B, C + 1, h, w), the last of them `known`."""

    def fill(planes: Tensor) -> Tensor:
        images, known = planes[:, :-1], planes[:, -1:]
        return images if bool(known.all()) else model.mend(images, known)

    return fill


def _reconstruct_again(model: GenerativeModel, rounds: int) -> Callable[[Tensor], Tensor]:
    assert isinstance(model, Reconstructs)
    reconstruct = model.reconstruct

    def fill(planes: Tensor) -> Tensor:
        images, known = planes[:, :-1], planes[:, -1:]
        answer = filled(images, known)
        for _ in range(max(1, rounds)):
            answer = reconstruct(torch.where(known > 0, images, answer))
        return answer

    return fill


def _tiled(
    model: GenerativeModel, mend: Callable[[Tensor], Tensor], image: np.ndarray, tile: int | None, overlap: float
) -> np.ndarray:
    """(H, W, C) float32 in [0, 1]: what `mend` makes of the picture."""
    device = next(model.parameters()).device

    def predict(images: Tensor) -> Tensor:
        return mend(images.to(device).contiguous(memory_format=torch.channels_last))

    tiling = Tiling(None if tile is None else (tile, tile), WHOLE_CPU, overlap, MULTIPLE)
    with _answering(model):
        answer = predict_tiled(predict, image, tiling)
    if not np.isfinite(answer).all():  # pictures are numbers in [0, 1]: it is the model
        raise NumericError(
            "the model's answer is not a number: its weights are not those of a training that went well; "
            "take its other weights (best, last), or train again with a lower train.learning_rate."
        )
    return np.ascontiguousarray(answer.transpose(1, 2, 0).clip(0, 1))


@contextmanager
def _answering(model: GenerativeModel) -> Iterator[None]:
    """In eval mode and without gradients, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _without_step(answer: np.ndarray, image: np.ndarray, hole: np.ndarray, feather: float) -> np.ndarray:
    """The answer (H, W, C), brought inside the hole to the picture's colours at the hole's border.

    By how much the model is off on the known pixels nearby, averaged, is taken off next to the border, and less and
    less inwards. The known side stays as it is: its pixels are true.
    """
    known = (~hole).astype(np.float32)
    inwards = ndimage.distance_transform_edt(hole)  # pixels to the nearest known one
    share = np.clip(1 - (inwards - 1) / feather, 0, 1) * hole  # 1 next to the border, 0 from `feather` pixels on
    weight = ndimage.gaussian_filter(known, feather / 2, mode="nearest")
    result = answer.copy()
    for channel in range(answer.shape[2]):
        step = (image[..., channel] - answer[..., channel]) * known
        near = ndimage.gaussian_filter(step, feather / 2, mode="nearest") / np.maximum(weight, 1e-6)
        result[..., channel] += share * near
    return result.clip(0, 1)


def _like(answer: np.ndarray, image: np.ndarray) -> Image:
    """Numbers in [0, 1] as the picture's number type."""
    if image.dtype == np.float32:
        return answer.astype(np.float32, copy=False)
    return np.rint(answer * np.iinfo(image.dtype).max).astype(image.dtype)


def _named(model: GenerativeModel) -> str:
    return f"this {getattr(model.config, 'name', type(model).__name__)}"
