"""What is special to the autoencoder: its end points, its sparsity by hand, its code, its holes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from intarsia.errors import UsageError
from intarsia.models.generative.autoencoder import Autoencoder, AutoencoderConfig, divergence
from intarsia.networks.corruptions import CorruptionConfig, centre_known, damaged, filled
from intarsia.records import Batch

SMALL: dict[str, Any] = {"width": 8, "depth": 2, "latent": 4, "size": (20, 28)}


def made(**options: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(**{**SMALL, **options}))


def batch(channels: int = 3) -> Batch:
    return Batch(torch.rand(4, channels, 20, 28, generator=torch.Generator().manual_seed(1)))


def test_alpha_1_is_reconstruction_alone() -> None:
    terms = made(alpha=1.0).loss(batch())
    assert torch.equal(terms["total"], terms["reconstruction"])
    assert "sparsity" not in terms


@pytest.mark.parametrize("sparsity", ["l1", "kl"])
def test_alpha_0_is_sparsity_alone_and_between_it_is_the_weighted_mean(sparsity: Any) -> None:
    terms = made(alpha=0.0, sparsity=sparsity).loss(batch())
    assert torch.equal(terms["total"], terms["sparsity"])
    assert terms["sparsity"] != terms["reconstruction"]
    terms = made(alpha=0.75, sparsity=sparsity).loss(batch())
    torch.testing.assert_close(terms["total"], 0.75 * terms["reconstruction"] + 0.25 * terms["sparsity"])


def test_l1_sparsity_is_the_mean_size_of_the_code() -> None:
    model = made(alpha=0.5)
    torch.testing.assert_close(model.loss(batch())["sparsity"], model.encode(batch().images).abs().mean())


def test_divergence_by_hand() -> None:
    code = torch.full((2, 3, 4, 5), 0.5)
    expected = 0.05 * math.log(0.05 / 0.5) + 0.95 * math.log(0.95 / 0.5)
    assert divergence(code, 0.05).item() == pytest.approx(expected, rel=1e-5)
    code[:, 0] = 0.05  # one channel of three is as active as wanted
    assert divergence(code, 0.05).item() == pytest.approx(2 / 3 * expected, rel=1e-5)
    mixed = torch.zeros(4, 1, 1, 1)
    mixed[0] = 1  # on average a quarter
    assert divergence(mixed, 0.25).item() == pytest.approx(0, abs=1e-6)
    assert divergence(torch.zeros(1, 1, 1, 1), 0.05).isfinite()


def test_descending_the_divergence_brings_the_code_to_the_target_rate() -> None:
    model = made(alpha=0.0, sparsity="kl", rate=0.1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(batch())["total"].backward()
        optimizer.step()
    active = model.encode(batch().images).mean(dim=(0, 2, 3))
    assert (active - 0.1).abs().max() < 0.03


def test_code_has_the_size_that_it_promises_and_decodes_to_the_reconstruction() -> None:
    model = made().eval()
    images = batch().images
    code = model.encode(images)
    assert code.shape == (4, 4, 3, 4)  # 20 x 28 over 2 * 2^2, rounded up
    torch.testing.assert_close(model.decode(code), model.reconstruct(images))
    larger = model.decode(torch.rand(1, 4, 10, 9))
    assert larger.shape == (1, 3, 80, 72), "a code of another size is decoded whole"


def test_skips_have_no_code_and_say_so() -> None:
    model = made(skips=True)
    with pytest.raises(UsageError, match="skips = false"):
        model.encode(batch().images)
    with pytest.raises(UsageError, match="skips = false"):
        model.decode(torch.rand(1, 4, 3, 4))
    with pytest.raises(ValidationError, match="no code"):
        made(skips=True, alpha=0.5)


@pytest.mark.parametrize("size", [(20, 28), (9, 8), (33, 50)])
def test_untrained_skips_change_nothing_but_fill_holes_smoothly(size: tuple[int, int]) -> None:
    model = made(skips=True, corruption=CorruptionConfig(holes=0.4)).eval()
    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(model.mend(images), images)
    known = centre_known(2, *size)
    mended = model.mend(images, known)
    torch.testing.assert_close(mended * known, images * known)
    below, right = -size[0] % model.stride, -size[1] % model.stride
    if not below and not right:
        torch.testing.assert_close(mended, filled(images, known))


@pytest.mark.parametrize("skips", [False, True])
def test_what_stands_in_a_hole_is_not_looked_at(skips: bool) -> None:
    model = made(skips=skips, corruption=CorruptionConfig(holes=0.4)).eval()
    torch.nn.init.normal_(model.exit.weight, std=0.1)
    images, known = batch().images, centre_known(4, 20, 28)
    other = torch.where(known > 0, images, torch.rand_like(images))
    torch.testing.assert_close(model.mend(images, known), model.mend(other, known))
    assert (model.mend(images, known) - model.mend(images)).abs().max() > 1e-3, "but that they are missing is"


def test_a_model_that_saw_no_holes_fills_none() -> None:
    with pytest.raises(UsageError, match="holes"):
        made(skips=True, corruption=CorruptionConfig(noise=(0, 0.1))).mend(batch().images, centre_known(4, 20, 28))


def test_hole_weight_by_hand() -> None:
    """Untrained skips are right where pixels are known, so the error is all in the holes, and weight w makes it
    w / (share w + 1 - share) times as heavy."""
    losses = {}
    for weight in (0.0, 1.0, 6.0):
        model = made(skips=True, corruption=CorruptionConfig(holes=0.5), hole_weight=weight, fold=1, depth=0)
        torch.manual_seed(4)
        losses[weight] = model.loss(batch())["reconstruction"].item()
    torch.manual_seed(4)
    share = 1 - damaged(batch().images, CorruptionConfig(holes=0.5))[1].mean().item()
    assert losses[0.0] == pytest.approx(0, abs=1e-7)
    assert losses[6.0] == pytest.approx(losses[1.0] * 6 / (6 * share + 1 - share), rel=1e-4)


def test_psnr_and_mean_squared_are_those_of_the_answer() -> None:
    model = made(reconstruction="l2").eval()
    terms = model.loss(batch())
    squared = (model.reconstruct(batch().images) - batch().images).square().mean()
    torch.testing.assert_close(terms["mean_squared"], squared)
    assert terms["psnr"].item() == pytest.approx(-10 * math.log10(squared.item()), rel=1e-5)
    assert not terms["psnr"].requires_grad


def test_it_learns_to_take_noise_out() -> None:
    """Flat grey pictures under noise: the mean over many pixels is the truth, so there is much to gain."""
    model = made(skips=True, corruption=CorruptionConfig(noise=(0.1, 0.1)))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        flat = 0.2 + 0.6 * torch.rand(8, 1, 1, 1).expand(8, 3, 16, 16)
        optimizer.zero_grad()
        model.loss(Batch(flat))["total"].backward()
        optimizer.step()
    noisy = 0.5 + 0.1 * torch.randn(4, 3, 32, 32)
    error = (model.eval().mend(noisy) - 0.5).square().mean().sqrt()
    assert error < 0.075, "0.1 before"


def test_one_tiny_picture_trains() -> None:
    terms = made(depth=4).train().loss(Batch(torch.rand(1, 3, 8, 8)))
    terms["total"].backward()
    assert terms["total"].isfinite()
