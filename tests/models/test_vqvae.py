"""What is special to the VQ-VAE: its codebooks, its levels, and the order in which its prior sees a map."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.models.generative.coarse_to_fine import groups
from intarsia.models.generative.quantizer import Quantizer, nearest
from intarsia.models.generative.vqvae import VQVAE, VQVAEConfig
from intarsia.records import Batch

TINY = {"width": 8, "blocks": 1, "latent": 4, "codes": 16, "quantizers": 3, "prior_width": 8, "prior_blocks": 1}


def made(seed: int = 0, **options: object) -> VQVAE:
    torch.manual_seed(seed)
    return VQVAE(VQVAEConfig.model_validate({"size": (24, 32), **TINY, **options}))


def quantizer(levels: int = 1, codes: int = 4, length: int = 2, decay: float = 0.9, revive: float = 0.0) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(levels, codes, length, decay, revive)


def everything(vectors: torch.Tensor, levels: int) -> torch.Tensor:
    return torch.full((len(vectors),), levels)


def test_codebooks_follow_moving_averages_as_computed_by_hand() -> None:
    ours = quantizer(codes=2)
    ours.codebooks[:] = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    ours.uses[:] = torch.tensor([2.0, 4.0])
    ours.sums[:] = ours.uses[..., None] * ours.codebooks
    vectors = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 10.0]])
    total, error = ours.learn(vectors, everything(vectors, 1))
    # the answer is that of the codes as they were
    assert torch.equal(total, torch.tensor([[0.0, 0.0], [0.0, 0.0], [10.0, 10.0]]))
    assert error.item() == pytest.approx((1 + 9 + 1) / (1 + 9 + 81 + 100))
    # N = 0.9 * (2, 4) + 0.1 * (2, 1); m = 0.9 * ((0, 0), (40, 40)) + 0.1 * ((4, 0), (9, 10)); e = m / N
    assert torch.allclose(ours.uses, torch.tensor([[2.0, 3.7]]))
    assert torch.allclose(ours.codebooks, torch.tensor([[[0.4 / 2, 0.0], [36.9 / 3.7, 37.0 / 3.7]]]))


def test_measuring_changes_no_codebook() -> None:
    model, batch = made().train(), Batch(torch.rand(4, 3, 24, 32))
    model.loss(batch, "autoencoder")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    for part in model.parts():
        assert torch.equal(model.loss(batch, part)["total"], model.loss(batch, part)["total"])
    model.train().loss(batch, "prior")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_codes_that_nobody_uses_are_put_onto_vectors_of_the_batch() -> None:
    vectors = torch.randn(64, 2)
    dead, alive = quantizer(codes=8, revive=0.0), quantizer(codes=8, revive=0.05)
    for ours in (dead, alive):
        ours.codebooks[0, 1:] = 1000.0  # all but the first are out of reach
        for _ in range(30):
            ours.learn(vectors, everything(vectors, 1))
    assert len(dead.codes(vectors, 1).unique()) == 1
    assert len(alive.codes(vectors, 1).unique()) == 8


def test_from_a_random_start_all_codes_of_every_level_come_into_use() -> None:
    ours, vectors = quantizer(levels=3, codes=8, revive=0.05), 5 + torch.randn(64, 2)
    for _ in range(40):
        ours.learn(vectors, everything(vectors, 3))
    found = ours.codes(vectors, 3)
    assert all(len(found[:, level].unique()) == 8 for level in range(3))


def test_a_level_that_no_picture_reached_stays_as_it_is() -> None:
    ours, vectors = quantizer(levels=2, revive=0.05), torch.randn(32, 2)
    before = ours.codebooks[1].clone()
    total, _ = ours.learn(vectors, everything(vectors, 1))
    assert torch.equal(ours.codebooks[1], before)
    assert ours.uses[1].sum() == 0
    assert not torch.equal(ours.codebooks[0], before)
    assert total.isfinite().all()


def test_gradients_pass_the_quantizer_as_if_it_rounded_nothing() -> None:
    model = made(commitment=0.0, structure=0.0, dropout=0.0).eval()
    images = torch.rand(2, 3, 24, 32)
    seen: dict[str, torch.Tensor] = {}
    model.autoencoder.encoder.register_forward_hook(lambda module, inputs, z: seen.update(z=z))
    model.autoencoder.decoder.register_forward_pre_hook(lambda module, inputs: seen.update(straight=inputs[0]))
    loss = model.loss(Batch(images), "autoencoder")["total"]
    at_encoder, at_decoder = torch.autograd.grad(loss, [seen["z"], seen["straight"]])
    assert not torch.equal(seen["z"], seen["straight"])
    assert at_encoder.abs().max() > 0
    assert torch.equal(at_encoder, at_decoder)


def test_each_further_quantizer_lowers_the_error() -> None:
    ours, vectors = quantizer(levels=4, codes=8, revive=0.03), torch.randn(512, 2)
    for _ in range(60):
        ours.learn(vectors, everything(vectors, 4))
    ours.eval()
    errors = [(vectors - ours.vectors(ours.codes(vectors, n))).square().mean().item() for n in range(1, 5)]
    assert all(after < 0.7 * before for before, after in pairwise(errors))


def test_a_further_quantizer_never_makes_a_vector_worse() -> None:
    """Also where the codebooks know nothing of the vectors: code 0 leaves them as they are."""
    ours, vectors = quantizer(levels=4, codes=8, revive=0.03), torch.randn(512, 2)
    ours.learn(vectors, everything(vectors, 4))
    ours.eval()
    for scale in (0.01, 1.0, 100.0):
        levels = [ours.vectors(ours.codes(scale * vectors, n)) for n in range(1, 5)]
        errors = [(scale * vectors - each).square().sum(1) for each in levels]
        assert all((after <= before + 1e-4 * scale).all() for before, after in pairwise(errors))


def test_training_begins_with_a_usable_code() -> None:
    """With nothing learnt, slow waves pass encoder and decoder as they are, in channels and in place."""
    model = made(halvings=3, latent=48, width=16)
    rows, columns = torch.meshgrid(torch.arange(32) / 32, torch.arange(32) / 32, indexing="ij")
    images = torch.stack([rows, columns, 0.5 * rows + 0.5])[None]
    with torch.no_grad():
        again = model.pictures(model.latents(images))
    assert (again - images).square().mean() < 0.002


def test_fewer_levels_are_the_first_of_all_levels() -> None:
    model, images = made().eval(), torch.rand(2, 3, 24, 32)
    assert torch.equal(model.codes(images, 2), model.codes(images)[:, :2])


def test_nearest_is_nearest() -> None:
    vectors, codebook = torch.randn(50, 3), torch.randn(9, 3)
    assert torch.equal(nearest(vectors, codebook), torch.cdist(vectors, codebook).argmin(1))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_groups_hold_every_place_once(height: int, width: int) -> None:
    count = np.zeros((height, width), int)
    for group in groups(height, width):
        count[group.top :: group.step, group.left :: group.step] += 1
    assert (count == 1).all()


def test_a_code_is_told_from_those_before_it_and_from_no_other() -> None:
    prior = made().prior.eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    counts = torch.tensor([3])
    order = list(groups(5, 7))

    def logits(codes: torch.Tensor) -> list[torch.Tensor]:
        """Of each group and level, in the order in which they are coded."""
        found = []
        for group in order:
            context = prior.context(prior.sight(codes, counts), group, counts)
            place = codes[..., group.top :: group.step, group.left :: group.step]
            for level in range(3):
                found.append(prior.logits(context, level))
                context = context + prior.below[level][place[:, level]].movedim(-1, 1)
        return found

    codes = torch.randint(0, 16, (1, 3, 5, 7))
    with torch.no_grad():
        before = logits(codes)
        for number, group in enumerate(order):
            for level in range(3):
                other = codes.clone()
                place = other[:, level, group.top :: group.step, group.left :: group.step]
                place += 1
                place %= 16
                after, own = logits(other), 3 * number + level
                assert all(torch.equal(a, b) for a, b in zip(before[: own + 1], after, strict=False))
                if own + 1 < len(before):
                    assert not torch.equal(before[own + 1], after[own + 1])  # but what follows is told from it


def test_the_prior_draws_what_it_was_taught() -> None:
    """Maps that hold one number everywhere, 3 or 11: so do those that are drawn, and both occur."""
    prior = made(quantizers=1, prior_width=16).prior
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    counts = torch.ones(16, dtype=torch.int64)
    for _ in range(60):
        codes = torch.where(torch.rand(16, 1, 1, 1) < 0.5, 3, 11).expand(16, 1, 3, 4)
        optimizer.zero_grad()
        prior.bits(codes, counts).mean().backward()
        optimizer.step()
    with torch.no_grad():
        bits = prior.bits(codes, counts).item()
        drawn = prior.draw(torch.rand(64, 1, 3, 4)).flatten(1)
    assert 1 / 12 - 0.02 < bits < 1 / 12 + 0.1  # one choice of two in twelve places
    same = (drawn == drawn[:, :1]).all(1)
    assert same.float().mean() > 0.8
    assert all(16 < (drawn[:, 0] == number).sum() < 48 for number in (3, 11))


def test_draws_are_those_of_the_seed_and_follow_the_inverse_of_the_distribution() -> None:
    model = made().eval()
    low, high = torch.zeros(1, *model.latent_shape), torch.ones(1, *model.latent_shape)
    with torch.no_grad():
        assert (model.prior.draw(low) == 0).all()
        assert (model.prior.draw(high) == 15).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (13, 7)])
@pytest.mark.parametrize("halvings", [2, 3, 4])
def test_any_picture_size_is_reconstructed(size: tuple[int, int], halvings: int) -> None:
    model = made(halvings=halvings).eval()
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert all(model.reconstruct(images, levels).shape == images.shape for levels in (1, 3))


def test_what_is_computed_at_a_place_looks_no_further_than_the_halo() -> None:
    model = made(blocks=2).eval()
    for parameter in model.autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    halo, stride = model.halo, model.stride
    side = halo + 4 * stride
    one, other = torch.rand(2, 1, 3, side, side)
    one[..., : halo + stride, :] = other[..., : halo + stride, :]
    with torch.no_grad():
        z, z_other = model.latents(one), model.latents(other)
        assert torch.allclose(z[..., :1, :], z_other[..., :1, :], atol=1e-4)
        x = model.pictures(z)
        z_other = torch.cat([z[..., : 1 + halo // stride, :], torch.randn_like(z)[..., 1 + halo // stride :, :]], -2)
        assert torch.allclose(x[..., :stride, :], model.pictures(z_other)[..., :stride, :], atol=1e-4)
