"""The bound beside the masks: its numbers where they are known, and its weight at 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ANY_MODEL, squares, without_labels

from intarsia.models import build
from intarsia.models.combined import VAESegmenter
from intarsia.models.combined.vae_segmenter import best_gaussian
from intarsia.records import Batch

TINY = {"name": "vae_segmenter", "segmenter": {"name": "unet", "width": 4, "depth": 2}, "width": 4, "latent": 3}


def made(**options: Any) -> VAESegmenter:
    torch.manual_seed(0)
    model = build(ANY_MODEL.validate_python({**TINY, **options}))
    assert isinstance(model, VAESegmenter)
    return model.train()


@given(st.floats(0.05, 2.0))
@settings(max_examples=20, deadline=None)
def test_the_deviation_is_the_one_under_which_the_pictures_are_likeliest(deviation: float) -> None:
    torch.manual_seed(0)
    target = deviation * torch.randn(4, 3, 32, 32)
    nats, sigma = best_gaussian(torch.zeros_like(target), target)
    found = float(target.std(correction=0))
    assert float(sigma) == pytest.approx(found, rel=0.06)  # the floor bends it by e^-6 / sigma at most
    assert float(nats) == pytest.approx(math.log(found) + 0.5 * math.log(2 * math.pi * math.e), abs=0.01)
    for other in (0.8, 1.25):  # no other deviation is better
        scale = other * found
        worse = 0.5 * (target / scale).square().mean() + math.log(scale) + 0.5 * math.log(2 * math.pi)
        assert float(nats) < float(worse)


def test_a_perfect_answer_is_finite() -> None:
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    nats, _ = best_gaussian(x, x.detach())
    nats.backward()
    assert nats.isfinite() and x.grad is not None and x.grad.isfinite().all()


def test_at_weight_0_the_gradient_is_the_segmenters_own() -> None:
    model, plain = made(weight=0.0), made(weight=0.0)
    losses, expected = model.loss(squares()), plain.supervised(squares())
    torch.testing.assert_close(losses["segmentation"], expected["total"])
    losses["total"].backward()
    expected["total"].backward()
    for ours, theirs in zip(model.segmenter.parameters(), plain.segmenter.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_total_is_the_masks_and_the_weighted_bound() -> None:
    losses = made(weight=0.3, beta=0.7).loss(squares())
    bound = losses["reconstruction"] + 0.7 * losses["divergence"]
    torch.testing.assert_close(losses["total"], losses["segmentation"] + 0.3 * bound)
    assert losses["divergence"] >= 0 and losses["sigma"] > 0


def test_a_posterior_that_is_the_prior_has_no_divergence() -> None:
    model = made()
    torch.nn.init.zeros_(model.posterior.weight)
    assert model.posterior.bias is not None
    torch.nn.init.zeros_(model.posterior.bias)
    assert model.loss(squares())["divergence"] == 0


def test_pictures_without_masks_are_learnt_to_be_drawn() -> None:
    """Eight flat pictures, each of another brightness: a few steps explain most of it."""
    levels = torch.linspace(0.1, 0.9, 8).view(8, 1, 1, 1)
    images = levels.expand(8, 3, 16, 16) + 0.02 * torch.rand(8, 3, 16, 16)
    batch = without_labels(Batch(images, torch.zeros(8, 16, 16, dtype=torch.int64)))
    model = made()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    sigmas = []
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.loss(batch)
        losses["total"].backward()
        optimizer.step()
        sigmas.append(float(losses["sigma"]))
    assert sigmas[-1] < 0.5 * sigmas[0]
    assert losses["segmentation"] == 0
