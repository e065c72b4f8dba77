"""What is special to the pair GAN: picture and mask are drawn, moved and judged together."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from intarsia.errors import UsageError
from intarsia.models.generative.gan import GAN, GANConfig
from intarsia.models.generative.pair_gan import PairGAN, PairGANConfig
from intarsia.records import IGNORE, Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import prepare, train
from intarsia.training.machine import make_fabric

TINY: dict[str, Any] = {"size": (16, 16), "width": 8, "latent": 8, "channels": 1, "classes": 2}


def made(seed: int = 0, **options: Any) -> PairGAN:
    torch.manual_seed(seed)
    return PairGAN(PairGANConfig(**{**TINY, **options}))


def halves(number: int, count: int = 16) -> Batch:
    """Pictures whose left part is dark and of class 0 and whose right part is bright and of class 1."""
    random = torch.Generator().manual_seed(number)
    borders = torch.randint(4, 13, (count, 1, 1), generator=random)
    masks = (torch.arange(16).view(1, 1, 16) >= borders).expand(count, 16, 16).long()
    images = 0.1 + 0.8 * masks[:, None] + 0.05 * torch.randn(count, 1, 16, 16, generator=random)
    return Batch(images.clamp(0, 1), masks, labelled=torch.ones(count, dtype=torch.bool))


def test_what_is_drawn_agrees_with_its_mask() -> None:
    model = made(width=16)
    config = TrainConfig(
        optimizer="adam", learning_rate=1e-3, betas=(0.5, 0.999), schedule="constant", warmup=0.0, weight_decay=0.0,
        clip=0.0, average=0.9, threads=1, precision="32-true",
    )  # fmt: skip
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model, config, 1, fabric)
    train(training, wrapped, fabric, (halves(number) for number in itertools.count()), 150)
    model.eval()
    with torch.no_grad():
        images, masks = model.pairs(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))
    assert images.shape == (64, 1, 16, 16) and masks.shape == (64, 2, 16, 16)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(64, 16, 16))
    agree = ((images[:, 0] > 0.5) == (masks.argmax(dim=1) == 1)).float().mean()
    assert agree > 0.85
    assert 0.2 < masks.argmax(dim=1).float().mean() < 0.8  # both classes are drawn


def test_places_are_changed_of_both_and_colours_of_the_picture_alone() -> None:
    pairs = torch.rand(8, 3, 16, 16) * 2 - 1
    coloured = made(augment=("colour",))._seen(pairs)
    assert torch.equal(coloured[:, 1:], pairs[:, 1:]) and not torch.equal(coloured[:, :1], pairs[:, :1])
    one = pairs[:, :1].expand(8, 3, 16, 16)
    moved = made(augment=("translation", "cutout"))._seen(one)
    assert torch.equal(moved, moved[:, :1].expand_as(moved)) and not torch.equal(moved, one)
    assert torch.equal(made(augment=())._seen(pairs), pairs)


def test_true_masks_are_softened_and_unknown_pixels_are_of_no_class() -> None:
    batch = halves(0, 4)
    assert batch.masks is not None
    batch.masks[:, 0] = IGNORE
    real = made(smoothing=0.2)._real(batch)
    assert real is not None
    soft = (real[:, 1:] + 1) / 2  # B K H W
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(4, 16, 16))
    torch.testing.assert_close(soft[:, :, 0], torch.full((4, 2, 16), 0.5))
    certain = soft[:, :, 1:].amax(dim=1)
    assert certain.min() >= 0.9 and certain.max() < 1  # 1 - 0.2 + 0.2 / 2 at the least
    assert len(certain.amax(dim=(1, 2)).unique()) == 4  # each picture by a share of its own
    assert torch.equal(soft[:, :, 1:].argmax(dim=1), batch.masks[:, 1:])
    exact = made(smoothing=0.0)._real(halves(0, 4))
    assert exact is not None and set(exact[:, 1:].unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("part", ["critic", "generator"])
def test_pictures_without_a_mask_are_left_out(part: str) -> None:
    model = made(r1=1.0, spectral_norm=True).train()
    batch = halves(0, 4)
    assert batch.masks is not None
    terms = model.loss(batch, part)
    for masks in (torch.full_like(batch.masks, IGNORE), None):
        bare = model.loss(Batch(batch.images, masks), part)
        assert bare.keys() == terms.keys() and all(value.item() == 0 for value in bare.values())
        bare["total"].backward()
    some = batch.masks.clone()
    some[:3] = IGNORE
    real = model._real(Batch(batch.images, some))
    assert real is not None and torch.equal(real[:, :1], 2 * batch.images[3:] - 1)


def test_a_picture_is_the_first_of_its_pair() -> None:
    model = made().eval()
    latent = torch.randn(3, 8)
    with torch.no_grad():
        assert torch.equal(model(latent), model.pairs(latent)[0])


def test_the_plain_gan_draws_as_before() -> None:
    torch.manual_seed(0)
    gan = GAN(GANConfig(size=(16, 16), width=8, latent=8, channels=1)).eval()
    latent = torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(gan.generator(latent, None), gan.generator.planes(latent, None).tanh())


def test_what_is_no_pair_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"model\.classes is 0"):
        made(classes=0)
    with pytest.raises(UsageError, match="8x8"):
        made(size=(6, 16))
    with pytest.raises(UsageError, match="wasserstein"):
        made(game="wasserstein")
    labels = torch.zeros(2, 2, 16, 16)
    with pytest.raises(UsageError, match="overlap"):
        made().loss(Batch(torch.rand(2, 1, 16, 16), labels=labels))
    with pytest.raises(ValidationError):
        PairGANConfig(smoothing=1.0)
