"""What a trained generative model can be asked, held over all of them, and on models whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from intarsia.drawing import encode_png, write_mask
from intarsia.errors import DataError, NumericError, UsageError
from intarsia.inference.studio import Studio, along_sphere, fitted_planes, one_hot
from intarsia.models import build
from intarsia.models.contract import Draws, Encodes, GenerativeConfig, Losses, Mends
from intarsia.models.generative.gan import GANConfig
from intarsia.models.generative.pix2pix import Pix2PixConfig
from intarsia.models.generative.vae import VAEConfig
from intarsia.models.generative.vqvae import VQVAEConfig
from intarsia.records import IGNORE, Batch, Classes

SIZE = (12, 20)


class LinearConfig(GenerativeConfig):
    name: str = "linear"
    condition: str = "none"


class Linear(Draws, Encodes, Mends):
    """Its latent is the picture's own values, and a condition adds to the brightness: every answer is known."""

    Config = LinearConfig
    config: LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.latent_shape = (config.channels, *config.size)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": self.scale * 0}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {}

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.decode(latent, condition)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return images * 2 - 1

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None:
            return ((latent + 1) / 2 * self.scale).clamp(0, 1)
        if condition.ndim == 1:
            return (condition.float() / 10)[:, None, None, None].expand_as(latent).contiguous()
        numbers = torch.arange(condition.shape[1]).view(1, -1, 1, 1) + 1
        return ((condition * numbers).sum(dim=1, keepdim=True) / 10).expand_as(latent).contiguous()

    def reconstruct(self, images: Tensor) -> Tensor:
        if images.shape[2:] != self.config.size:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return images * self.scale

    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        return images * 0 + 0.5


def linear(**options: object) -> Studio:
    config = LinearConfig.model_validate({"channels": 3, "size": SIZE, **options})
    names = [f"kind {i}" for i in range(config.classes)]
    return Studio(Linear(config), names, device="cpu")


def ramp(height: int = SIZE[0], width: int = SIZE[1], channels: int = 3) -> np.ndarray:
    return np.linspace(0, 255, height * width * channels).astype(np.uint8).reshape(height, width, channels)


def test_picture_i_of_a_seed_is_the_same_whatever_is_asked_for_with_it() -> None:
    torch.manual_seed(0)
    studio = Studio(build(GANConfig(channels=1, size=(16, 16), width=4, latent=4)), device="cpu")
    ten = list(studio.generate(10, seed=3))
    assert ten[0].shape == (16, 16, 1) and ten[0].dtype == np.uint8
    assert np.array_equal(next(studio.generate(1, seed=3, first=9)), ten[9])
    assert [np.array_equal(a, b) for a, b in zip(studio.draw([9, 0], 3), (ten[9], ten[0]), strict=True)] == [True, True]
    assert not np.array_equal(ten[0], ten[1])
    assert list(studio.generate(0)) == []


def test_classes_are_asked_for_by_name_or_number_and_take_turns_otherwise() -> None:
    studio = linear(condition="class", classes=3)
    shown = [int(picture[0, 0, 0]) for picture in studio.generate(5)]
    assert shown == [0, 26, 51, 0, 26]
    assert [int(p[0, 0, 0]) for p in studio.generate(2, category="kind 2")] == [51, 51]
    assert [int(p[0, 0, 0]) for p in studio.generate(2, category=1)] == [26, 26]
    assert studio.number_of("2") == 2
    for wrong in ("kind 3", 3, -1, "-1", "²"):
        with pytest.raises(UsageError, match="there are kind 0, kind 1, kind 2"):
            studio.generate(1, category=wrong)
    assert Studio(studio.model, (), device="cpu").number_of("2") == 2
    with pytest.raises(UsageError, match="the list has 2"):
        Studio(studio.model, ("a", "b"), device="cpu")
    with pytest.raises(UsageError, match="folder a class"):
        linear().generate(1, category="kind 1")


def test_masks_say_what_is_where(tmp_path: Path) -> None:
    studio = linear(condition="mask", classes=2)
    mask = np.zeros(SIZE, np.int16)
    mask[:, 10:], mask[0, 0] = 1, IGNORE
    flipped = np.where(mask == IGNORE, IGNORE, 1 - mask)
    first, second, third = studio.generate(3, masks=[mask, flipped])
    assert first[0, 0, 0] == 0 and first[1, 0, 0] == 26 and first[1, 12, 0] == 51
    assert second[1, 0, 0] == 51 and np.array_equal(first, third)

    path = write_mask(tmp_path / "mask.png", mask, Classes.named(["a", "b"]))
    (again,) = studio.generate(1, masks=[path])
    assert np.array_equal(again, first)
    binary = tmp_path / "binary.png"
    binary.write_bytes(encode_png(np.uint8(255) * (mask == 1)))
    (read,) = studio.generate(1, masks=[str(binary)])
    assert np.array_equal(read[1:], first[1:])
    with pytest.raises(UsageError, match="give masks"):
        studio.generate(1)
    with pytest.raises(DataError, match=r"0\.\.1"):
        list(studio.generate(1, masks=[mask + 2]))
    with pytest.raises(UsageError, match="not told where"):
        linear().generate(1, masks=[mask])


def test_masks_are_fitted_as_pictures_are() -> None:
    mask = np.zeros((24, 60), np.int16)
    mask[:, 30:] = 1
    small = fitted_planes(one_hot(mask, 2), SIZE)  # the middle 40 columns, at half the size
    assert small.shape == (*SIZE, 2)
    assert small[:, :10, 0].all() and small[:, 10:, 1].all()
    unknown = fitted_planes(one_hot(np.full((24, 40), IGNORE, np.int16), 2), SIZE)
    assert not unknown.any()


def test_a_fixed_size_is_met_by_scaling_and_cutting() -> None:
    studio = linear()
    picture = ramp()
    assert np.array_equal(studio.reconstruct(picture), picture)
    assert np.array_equal(studio.reconstruct(torch.from_numpy(picture).movedim(-1, 0)), picture)
    assert np.array_equal(studio.reconstruct(PillowImage.fromarray(picture)), picture)
    large = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)
    assert np.array_equal(studio.reconstruct(np.pad(large, ((4, 4), (0, 0), (0, 0)))), picture)
    grey = studio.reconstruct(np.full((50, 50), 0.5, np.float32))
    assert grey.shape == (*SIZE, 3) and (grey == 128).all()


def test_a_convolutional_model_keeps_a_pictures_own_size() -> None:
    model = build(VQVAEConfig(channels=1, size=(16, 16), width=4, blocks=0, latent=2, codes=4, quantizers=1))
    studio = Studio(model, device="cpu")
    assert studio.reconstruct(ramp(21, 37, 1)).shape == (21, 37, 1)
    assert np.array_equal(studio.decompress(studio.compress(ramp(21, 37, 1))), studio.reconstruct(ramp(21, 37, 1)))


def test_a_walk_starts_at_one_picture_and_ends_at_the_other() -> None:
    studio = linear()
    dark, bright = np.full((*SIZE, 3), 51, np.uint8), np.full((*SIZE, 3), 204, np.uint8)
    walk = studio.interpolate(dark, bright, 5)
    assert len(walk) == 5
    assert np.array_equal(walk[0], dark) and np.array_equal(walk[-1], bright)
    between = studio.interpolate(4, 9, 3, seed=2)
    assert np.array_equal(between[0], next(studio.generate(1, seed=2, first=4)))
    assert np.array_equal(between[-1], next(studio.generate(1, seed=2, first=9)))
    mixed = studio.interpolate(dark, 9, 2, seed=2)
    assert np.array_equal(mixed[0], dark) and np.abs(mixed[1].astype(int) - between[-1]).max() <= 1
    for wrong in ({"steps": 1}, {"a": -1}):
        with pytest.raises(UsageError):
            studio.interpolate(**{"a": 1, "b": 2, "steps": 3, **wrong})  # type: ignore[arg-type]
    told = linear(condition="class", classes=3)
    with pytest.raises(UsageError, match="name or number"):
        told.interpolate(1, 2)
    assert (told.interpolate(1, 2, 3, category="kind 1")[1] == 26).all()


def test_on_the_sphere_length_and_direction_change_evenly() -> None:
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    half = along_sphere(start, end, 0.5)
    torch.testing.assert_close(half, torch.full((2,), 3 / 2**0.5))
    torch.testing.assert_close(along_sphere(start, end, 0.0), start)
    torch.testing.assert_close(along_sphere(start, end, 1.0), end)
    torch.testing.assert_close(along_sphere(start, -start, 0.25), start / 2)
    torch.testing.assert_close(along_sphere(start, 0 * start, 0.5), start / 2)


@pytest.mark.parametrize("kind", ["vae", "vqvae", "gan"])
def test_every_kind_of_latent_can_be_walked(kind: str) -> None:
    torch.manual_seed(0)
    tiny = {"channels": 3, "size": (16, 16), "width": 4}
    configs = {
        "vae": lambda: VAEConfig(latent=4, features=8, **tiny),
        "vqvae": lambda: VQVAEConfig(blocks=0, latent=2, codes=4, quantizers=1, prior_width=4, prior_blocks=0, **tiny),
        "gan": lambda: GANConfig(latent=4, **tiny),
    }
    studio = Studio(build(configs[kind]()), device="cpu")
    walk = studio.interpolate(0, 1, 3)
    assert [each.shape for each in walk] == [(16, 16, 3)] * 3
    if kind == "gan":
        with pytest.raises(UsageError, match=r"no latent for a given picture.*vae"):
            studio.interpolate(ramp(), 1)
    else:
        assert len(studio.interpolate(ramp(), ramp()[::-1], 4)) == 4


def test_only_the_hole_is_filled() -> None:
    studio = linear()
    for picture in (ramp(30, 40), ramp(30, 40).astype(np.uint16) * 257):
        filled = studio.inpaint(picture, (5, 6, 10, 12))
        inside = np.zeros((30, 40), bool)
        inside[6:12, 5:10] = True
        assert filled.dtype == picture.dtype
        assert np.array_equal(filled[~inside], picture[~inside])
        assert not np.array_equal(filled[inside], picture[inside])
        assert np.array_equal(filled, studio.inpaint(picture, inside))
        assert np.array_equal(filled, studio.inpaint(picture, inside.astype(np.uint8) * 255))
    assert (studio.denoise(ramp(30, 40)) == 128).all()
    assert (studio.restore(ramp(30, 40)) == 128).all()
    for box in ((5, 5, 5, 9), (0, 0, 41, 5), (-1, 0, 3, 3)):
        with pytest.raises(DataError, match="does not lie in a picture 40 x 30"):
            studio.inpaint(ramp(30, 40), box)
    with pytest.raises(DataError, match="4 x 3 pixels, but its picture 40 x 30"):
        studio.inpaint(ramp(30, 40), np.ones((3, 4), bool))


def test_pix2pix_goes_both_ways() -> None:
    tiny = {"channels": 3, "size": (16, 16), "width": 4, "depth": 2, "critic_width": 4, "critic_depth": 1}
    names = Classes.named(["ground", "thing", "other"])
    to_mask = Studio(build(Pix2PixConfig(task="picture_to_mask", classes=3, **tiny)), names, device="cpu")
    mask = to_mask.translate(ramp(21, 30))
    assert mask.shape == (21, 30) and mask.dtype == np.int16 and 0 <= mask.min() <= mask.max() < 3
    to_picture = Studio(build(Pix2PixConfig(task="mask_to_picture", classes=3, **tiny)), names, device="cpu")
    assert to_picture.translate(mask).shape == (21, 30, 3)
    with pytest.raises(UsageError, match="give a mask"):
        to_picture.translate(torch.zeros(3, 8, 8))
    colour = Studio(build(Pix2PixConfig(task="grey_to_colour", **tiny)), device="cpu")
    assert colour.translate(ramp(21, 30, 1)).shape == (21, 30, 3)
    assert "restore" in colour.abilities and "translate" in colour.abilities


def test_what_a_model_cannot_do_names_those_that_can() -> None:
    gan = Studio(build(GANConfig(channels=1, size=(16, 16), width=4, latent=4)), device="cpu")
    pix2pix = Studio(build(Pix2PixConfig(size=(16, 16), width=4, depth=2, critic_width=4)), device="cpu")
    assert gan.abilities == ("generate", "interpolate")
    with pytest.raises(UsageError, match=r"gan takes no pictures apart.*vqvae"):
        gan.reconstruct(ramp())
    with pytest.raises(UsageError, match=r"pix2pix draws no pictures.*gan"):
        pix2pix.generate(1)
    with pytest.raises(UsageError, match="take a run of pix2pix"):
        gan.translate(ramp())
    with pytest.raises(UsageError, match="by number"):
        pix2pix.interpolate(1, 2)
    for edit in (gan.denoise, gan.restore, lambda picture: gan.inpaint(picture, (0, 0, 2, 2))):
        with pytest.raises(UsageError, match="never learnt"):
            edit(ramp(channels=1))


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    studio = linear()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataError, match=r"broken\.png"):
        studio.reconstruct(tmp_path / "broken.png")
    with pytest.raises(DataError, match="5 channels where 3"):
        studio.reconstruct(np.zeros((9, 9, 5), np.uint8))
    for values in (np.full((9, 9), np.nan, np.float32), np.zeros((9, 9), np.int64), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(DataError):
            studio.reconstruct(values)
    with pytest.raises(UsageError, match="seed -1"):
        studio.generate(1, seed=-1)
    with pytest.raises(UsageError, match="both are 0 or more"):
        studio.generate(1, first=-1)


def test_weights_that_are_not_numbers_are_said() -> None:
    studio = linear()
    with torch.no_grad():
        studio.model.get_parameter("scale").fill_(float("nan"))
    with pytest.raises(NumericError, match="not a number"):
        studio.reconstruct(ramp())
    with pytest.raises(NumericError, match="not a number"):
        next(studio.generate(1))
