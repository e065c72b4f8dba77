"""Edits whose answers are known: known pixels bit for bit, tiles as the whole, and words for what can't be done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from intarsia.errors import DataError, NumericError, UsageError
from intarsia.inference.editing import denoise, inpaint, restore, undoes
from intarsia.models.contract import GenerativeConfig, GenerativeModel, Losses, Mends, Reconstructs
from intarsia.models.generative.autoencoder import Autoencoder, AutoencoderConfig
from intarsia.models.generative.pix2pix import Pix2Pix, Pix2PixConfig
from intarsia.networks.corruptions import CorruptionConfig
from intarsia.records import Batch


class Silent(GenerativeModel):
    """Can do nothing that these tests ask for."""

    Config = GenerativeConfig
    config: GenerativeConfig

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": self.weight.sum()}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {}


class Painter(Silent, Mends):
    """Mends every pixel to 0.5, and writes down what it was shown."""

    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        self.shown = (images.clone(), known)
        return torch.full_like(images, 0.5)


class Mean(Silent, Reconstructs):
    """Sees every picture as its mean colour."""

    def reconstruct(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def mender(*, stirred: bool = True, **corruption: Any) -> Autoencoder:
    torch.manual_seed(0)
    config = AutoencoderConfig(width=8, depth=1, skips=True, corruption=CorruptionConfig(**corruption))
    model = Autoencoder(config)
    if stirred:  # as trained: untrained, it changes nothing
        torch.nn.init.normal_(model.exit.weight, std=0.05)
    return model


def picture(height: int = 30, width: int = 44, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    values = np.random.default_rng(0).random((height, width, channels), dtype=np.float32)
    return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


def middle(height: int = 30, width: int = 44) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    return hole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("feather", [0.0, 4.0])
def test_outside_the_hole_every_bit_is_the_pictures(dtype: Any, feather: float) -> None:
    image, hole = picture(dtype=dtype), middle()
    result = inpaint(mender(holes=0.4), image, hole, feather=feather)
    assert result.dtype == image.dtype and result.shape == image.shape
    assert np.array_equal(result[~hole], image[~hole])
    assert not np.array_equal(result[hole], image[hole])


def test_what_stood_in_the_hole_is_not_looked_at_not_even_nan() -> None:
    image, hole, model = picture(dtype=np.float32), middle(), mender(holes=0.4)
    other = image.copy()
    other[hole] = np.nan
    assert np.array_equal(inpaint(model, image, hole), inpaint(model, other, hole))


def test_a_hole_without_pixels_changes_nothing() -> None:
    image = picture()
    assert np.array_equal(inpaint(mender(holes=0.4), image, np.zeros((30, 44), bool)), image)


@pytest.mark.parametrize(
    ("dtype", "half"), [(np.uint8, 128), (np.uint16, 32768), (np.float32, 0.5)], ids=["uint8", "uint16", "float32"]
)
def test_the_hole_is_the_models_answer_rounded(dtype: Any, half: float) -> None:
    model, hole = Painter(GenerativeConfig()), middle()
    result = inpaint(model, picture(dtype=dtype), hole, feather=0)
    assert np.all(result[hole] == half)
    shown, known = model.shown
    assert known is not None
    assert np.array_equal(known[0, 0].numpy() == 0, hole)
    assert not shown[0, :, torch.from_numpy(hole)].any()


def test_a_step_in_colour_fades_out_inside_the_hole() -> None:
    """The picture is 0.7, the model paints 0.5: next to the border nothing is left of the step, 6 pixels in all."""
    image = np.full((41, 41, 1), 0.7, np.float32)
    hole = np.zeros((41, 41), bool)
    hole[10:31, 10:31] = True
    row = inpaint(Painter(GenerativeConfig(channels=1)), image, hole, feather=5)[20, :21, 0]
    assert row[:10] == pytest.approx(0.7)
    assert row[10] == pytest.approx(0.7, abs=1e-5)
    assert row[10:16] == pytest.approx([0.7, 0.66, 0.62, 0.58, 0.54, 0.5], abs=1e-5)
    assert row[16:] == pytest.approx(0.5)


@pytest.mark.parametrize("edit", ["inpaint", "denoise"])
def test_tiles_give_what_the_whole_picture_gives(edit: str) -> None:
    model = mender(holes=0.4, noise=(0, 0.1))
    image, hole = picture(200, 330), np.zeros((200, 330), bool)
    hole[60:70, 100:108], hole[120:126, 250:300] = True, True
    if edit == "inpaint":
        whole, tiled = (inpaint(model, image, hole, tile=tile, overlap=0.6) for tile in (None, 192))
    else:
        whole, tiled = (denoise(model, image, tile=tile, overlap=0.5) for tile in (None, 128))
    assert np.abs(whole.astype(int) - tiled).max() <= 1, "but for rounding"


def test_a_tile_without_a_hole_is_left_to_rest() -> None:
    class Counter(Painter):
        calls = 0

        def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
            self.calls += 1
            return super().mend(images, known)

    model, hole = Counter(GenerativeConfig(channels=1)), np.zeros((256, 256), bool)
    hole[3, 3] = True
    inpaint(model, picture(256, 256, 1), hole, tile=64, overlap=0)
    assert model.calls == 1


def test_denoising_is_the_models_answer_and_leaves_the_model_as_it_was() -> None:
    model = mender(noise=(0, 0.2)).train()
    image = picture(dtype=np.float32)
    result = denoise(model, image)
    assert model.training
    with torch.no_grad():
        expected = model.eval().mend(torch.from_numpy(image).movedim(-1, 0)[None])[0].movedim(0, -1)
    assert result == pytest.approx(expected.numpy(), abs=1e-5)
    assert np.array_equal(restore(model, image), result)


def test_grey_pictures_come_back_in_colour_from_a_model_of_colours() -> None:
    result = restore(mender(grey=True), picture(channels=1)[..., 0])
    assert result.shape == (30, 44, 3)
    assert restore(Pix2Pix(Pix2PixConfig(width=4, depth=2)), picture(channels=1)).shape == (30, 44, 3)


def test_a_model_that_reconstructs_only_converges_to_what_fits_the_known_pixels() -> None:
    """The mean of a picture whose missing half is the mean of the whole: the known half's mean."""
    image = np.full((20, 28, 1), 0.6, np.float32)
    image[:, ::2] = 0.2
    hole = np.zeros((20, 28), bool)
    hole[:10] = True
    model = Mean(GenerativeConfig(channels=1, size=(20, 28)))
    result = inpaint(model, image, hole, rounds=40, feather=0)
    assert result[hole] == pytest.approx(0.4, abs=1e-3)
    assert np.array_equal(result[~hole], image[~hole])
    with pytest.raises(UsageError, match=r"20 x 28.*model\.corruption\.holes"):
        inpaint(model, picture(30, 44, 1), middle())


def test_what_a_model_never_learnt_it_is_not_asked() -> None:
    image, hole = picture(), middle()
    assert undoes(mender(noise=(0, 0.1), blur=(0, 2))) == ("blur", "noise")
    for model in (Silent(GenerativeConfig()), mender(noise=(0, 0.1)), Pix2Pix(Pix2PixConfig(width=4, depth=2))):
        with pytest.raises(UsageError, match=r"can't fill a hole.*model\.corruption\.holes"):
            inpaint(model, image, hole)
    for model in (Silent(GenerativeConfig()), Mean(GenerativeConfig()), mender(holes=0.3), mender(blur=(0, 1))):
        with pytest.raises(UsageError, match=r"can't take noise out.*model\.corruption\.noise"):
            denoise(model, image)
    for model in (Silent(GenerativeConfig()), mender(holes=0.3), mender()):
        with pytest.raises(UsageError, match=r"can't restore.*model\.corruption\.blur"):
            restore(model, image)
    with pytest.raises(UsageError, match="only holes"):
        restore(mender(holes=0.3), image)


def test_words_for_holes_and_pictures_that_do_not_fit() -> None:
    model = mender(holes=0.4)
    with pytest.raises(DataError, match=r"\(10, 10\)"):
        inpaint(model, picture(), np.zeros((10, 10), bool))
    with pytest.raises(DataError, match="bool"):
        inpaint(model, picture(), np.zeros((30, 44), np.uint8))
    with pytest.raises(UsageError, match="nothing is left"):
        inpaint(model, picture(), np.ones((30, 44), bool))
    with pytest.raises(DataError, match="5 channels where 3"):
        inpaint(model, picture(channels=5), middle())
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        denoise(mender(noise=(0, 0.1)), 300 * picture(dtype=np.float32))


def test_weights_that_are_no_numbers_are_named() -> None:
    model = mender(noise=(0, 0.1))
    torch.nn.init.constant_(model.exit.weight, float("nan"))
    with pytest.raises(NumericError, match="weights"):
        denoise(model, picture())
