"""W-Net: the cut against its definition with the whole matrix of likenesses, and regions found without a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intarsia.metrics.regions import ClusterTable
from intarsia.models.combined.wnet import WNet, WNetConfig, associated, soft_normalised_cut
from intarsia.models.semantic import UNetConfig
from intarsia.records import IGNORE, Batch


def likenesses(image: Tensor, radius: float, colour: float, place: float) -> Tensor:
    """(HW, HW): the likeness of pixels, pair by pair."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y, x], dim=-1).reshape(-1, 2).to(image)
    far = (places[:, None] - places[None]).square().sum(-1)
    colours = image.flatten(1).T
    difference = (colours[:, None] - colours[None]).square().mean(-1)
    return torch.exp(-difference / colour**2 - far / place**2) * (far <= radius**2)


def whole_cut(regions: Tensor, images: Tensor, radius: float, colour: float, place: float) -> Tensor:
    """The soft cut over K, with the whole matrix."""
    values = []
    for region, image in zip(regions, images, strict=True):
        weights = likenesses(image, radius, colour, place)
        flat = region.flatten(1)
        within = torch.einsum("ki,ij,kj->k", flat, weights, flat)
        values.append((1 - within / (flat @ weights.sum(1))).mean())
    return torch.stack(values).mean()


@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    radius=st.integers(1, 9),
    channels=st.integers(1, 4),
    classes=st.integers(1, 4),
    seed=st.integers(0, 999),
)
@settings(max_examples=30, deadline=None)
def test_the_cut_and_its_gradient_are_those_of_the_definition(
    size: tuple[int, int], radius: int, channels: int, classes: int, seed: int
) -> None:
    torch.manual_seed(seed)
    images = torch.rand(2, channels, *size, dtype=torch.float64)
    logits = torch.randn(2, classes, *size, dtype=torch.float64, requires_grad=True)
    ours = soft_normalised_cut(logits.softmax(1), images, radius, 0.3, 4.0)
    (gradient,) = torch.autograd.grad(ours, logits)
    theirs = whole_cut(logits.softmax(1), images, radius, 0.3, 4.0)
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


def test_a_four_by_four_picture_in_two_halves_that_have_nothing_in_common() -> None:
    images = torch.zeros(1, 1, 4, 4)
    images[..., 2:] = 1
    right = torch.cat([1 - images, images], dim=1)
    assert soft_normalised_cut(right, images, 2, 0.05, 4.0).item() == pytest.approx(0, abs=1e-6)
    wrong = right.transpose(2, 3)
    assert soft_normalised_cut(wrong, images, 2, 0.05, 4.0) > 0.2
    undecided = torch.full_like(right, 0.5)
    assert soft_normalised_cut(undecided, images, 2, 0.05, 4.0).item() == pytest.approx(0.5)


def test_the_likeness_of_a_pixel_holds_both_ways() -> None:
    images = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    every = torch.eye(30, dtype=torch.float64).reshape(1, 30, 5, 6)  # each pixel a region of its own: W itself
    near, degree = associated(every, images, 3, 0.3, 4.0)
    weights = near.reshape(30, 30)
    torch.testing.assert_close(weights, weights.T)
    torch.testing.assert_close(weights.sum(0).reshape(5, 6), degree[0, 0])
    torch.testing.assert_close(weights.diagonal(), torch.ones(30, dtype=torch.float64))


def model(**options: object) -> WNet:
    torch.manual_seed(0)
    small = {"segmenter": UNetConfig(width=8, depth=2), "decoder_width": 4, "decoder_depth": 1, "cut_side": 32}
    return WNet(WNetConfig.model_validate({**small, **options}))


def patches(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy pictures of three colours, in blocks of 16 pixels, and which block has which."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 3, (count, 3, 3), generator=generator)
    truth = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    colours = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.2, 0.3, 0.9]])
    images = colours[truth].permute(0, 3, 1, 2) + 0.05 * torch.randn(count, 3, 48, 48, generator=generator)
    return images.clamp(0, 1), truth


def unlabelled(images: Tensor) -> Batch:
    masks = torch.full((len(images), *images.shape[2:]), IGNORE)
    return Batch(images, masks, labelled=torch.zeros(len(images), dtype=torch.bool))


def test_regions_are_found_without_a_mask() -> None:
    wnet = model(classes=3).train()
    optimizer = torch.optim.AdamW(wnet.parameters(), lr=1e-2)
    first: dict[str, float] = {}
    for step in range(140):
        terms = wnet.loss(unlabelled(patches(4, step)[0]))
        first = first or {name: float(value.detach()) for name, value in terms.items()}
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert terms["cut"] < 0.5 * first["cut"] and terms["reconstruction"] < 0.5 * first["reconstruction"]
    images, truth = patches(8, 10_000)
    table = ClusterTable.zeros(3, 3)
    table.add(truth.numpy(), wnet.eval().predict(images).argmax(1).numpy().astype(np.int64))
    assert table.confusion(table.matched).accuracy > 0.95


def test_without_a_mask_the_masks_terms_are_exactly_nothing() -> None:
    wnet = model(classes=3).train()
    terms = wnet.loss(unlabelled(patches(2, 0)[0]))
    assert terms["cross_entropy"].item() == 0
    terms["total"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in wnet.segmenter.parameters())


def test_labelled_pixels_are_learnt_too() -> None:
    images, truth = patches(2, 0)
    wnet = model(classes=3).train()
    known = wnet.loss(Batch(images, truth))
    assert known["cross_entropy"] > 0
    expected = known["cross_entropy"] if "dice" not in known else known["cross_entropy"] + known["dice"]
    expected = expected + known["cut"] + known["reconstruction"]
    assert known["total"].item() == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_weights_are_weights() -> None:
    images = patches(2, 0)[0]
    terms = model(classes=3, cut=0.0, reconstruction=2.0).eval().loss(unlabelled(images))
    assert terms["total"].item() == pytest.approx(2 * terms["reconstruction"].item())
    terms = model(classes=3, cut=3.0, reconstruction=0.0).eval().loss(unlabelled(images))
    assert terms["total"].item() == pytest.approx(3 * terms["cut"].item())


@pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 4, "channels": 1}, {"classes": 2, "channels": 5}])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_blank_pictures_of_any_kind_give_numbers(options: dict[str, int], value: float) -> None:
    wnet = model(**options).train()
    terms = wnet.loss(unlabelled(torch.full((1, options.get("channels", 3), 17, 40), value)))
    terms["total"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(each.grad.isfinite().all() for each in wnet.parameters() if each.grad is not None)


def test_overlapping_classes_cut_each_on_its_own() -> None:
    images, _ = patches(2, 0)
    wnet = model(classes=3, overlapping=True).eval()
    labels = torch.full((2, 3, 48, 48), float(IGNORE))
    terms = wnet.loss(Batch(images, labels=labels))
    assert 0 <= terms["cut"] <= 1 and terms["total"].isfinite()
    regions = torch.rand(2, 3, 48, 48)
    cuts = [model(classes=1, overlapping=True).cut(regions[:, k : k + 1], images) for k in range(3)]
    torch.testing.assert_close(wnet.cut(regions, images), torch.stack(cuts).mean())


def test_it_says_that_it_needs_no_masks() -> None:
    assert WNet.learns_from_unlabelled and not WNet.needs_masks
