"""Likelihoods and bounds against torch.distributions, sums over all levels and end points."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Normal, kl_divergence

from intarsia.losses import (
    bernoulli_log_likelihood,
    bits_per_dimension,
    free_bits,
    gaussian_kl,
    gaussian_log_density,
    gaussian_log_likelihood,
    importance_bound,
    logistic_log_likelihood,
)
from intarsia.losses.variational import logistic_log_probability

numbers = st.floats(-5, 5, width=32)
LEVELS = torch.arange(256) / 255


@settings(deadline=None)
@given(numbers, numbers)
def test_the_divergence_is_that_of_torch(mean: float, log_variance: float) -> None:
    m, v = torch.tensor([mean]), torch.tensor([log_variance])
    oracle = kl_divergence(Normal(m, (0.5 * v).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(m, v), oracle, rtol=1e-4, atol=1e-5)


def test_the_prior_is_no_distance_from_itself_and_nothing_is_nearer() -> None:
    assert gaussian_kl(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]
    assert (gaussian_kl(1e-3 * torch.randn(99), 1e-3 * torch.randn(99)) >= 0).all()


@settings(deadline=None)
@given(numbers, numbers, numbers)
def test_the_gaussian_density_is_that_of_torch(x: float, mean: float, log_variance: float) -> None:
    oracle = Normal(torch.tensor(mean), torch.tensor(0.5 * log_variance).exp()).log_prob(torch.tensor(x))
    ours = gaussian_log_density(torch.tensor(x), torch.tensor(mean), torch.tensor(log_variance))
    torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 9), st.floats(0.1, 60))
def test_the_bernoulli_likelihood_and_its_gradient_are_those_of_torch(c: int, h: int, w: int, spread: float) -> None:
    torch.manual_seed(c * h * w)
    x = torch.rand(2, c, h, w).round()
    ours = (spread * torch.randn(3, 2, c, h, w)).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    likelihood = bernoulli_log_likelihood(x, ours)
    oracle = Bernoulli(logits=theirs).log_prob(x.double().expand_as(theirs)).sum((-3, -2, -1))
    assert likelihood.shape == (3, 2)
    torch.testing.assert_close(likelihood.double(), oracle, rtol=1e-5, atol=1e-3)
    weights = torch.rand(3, 2)
    (likelihood * weights).sum().backward()
    (oracle * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad.float(), rtol=1e-4, atol=1e-5)


def test_the_bernoulli_likelihood_of_grey_pixels_has_its_gradients_too() -> None:
    x = torch.rand(2, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(bernoulli_log_likelihood(x, logits).sum(), (x, logits))
    oracle = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    theirs = torch.autograd.grad(oracle, (x, logits))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(-9, 3))
def test_a_logistic_pixel_is_certainly_one_of_256_levels(mean: float, log_scale: float) -> None:
    each = logistic_log_probability(LEVELS, torch.tensor(mean), torch.tensor(log_scale))
    assert each.exp().sum().item() == pytest.approx(1, abs=2e-4)


def test_a_logistic_pixel_between_levels_is_the_difference_of_its_edges_and_far_ones_keep_their_digits() -> None:
    mean, log_scale = torch.tensor(0.1, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    edges = torch.sigmoid((2 * LEVELS.double() - 1 + 1 / 255 - mean) / log_scale.exp())
    oracle = torch.log(edges[1:255] - edges[:254])
    ours = logistic_log_probability(LEVELS, mean, log_scale)
    torch.testing.assert_close(ours[1:255].double(), oracle, rtol=1e-4, atol=1e-4)
    far = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    likely = logistic_log_probability(torch.tensor([1.0, 1.0, 0.0]), 2 * far - 1, torch.tensor(-9.0))
    assert likely.isfinite().all() and (likely < -5000).all()
    assert torch.autograd.grad(likely.sum(), far)[0].isfinite().all()


def test_a_dequantised_gaussian_stays_below_the_probability_of_the_level_and_is_near_it() -> None:
    torch.manual_seed(0)
    level, mean, deviation = 100 / 255, torch.tensor(-0.2), 0.02
    centre, half = 2 * level - 1, 1 / 255
    normal = Normal(mean.double(), deviation)
    exact = torch.log(normal.cdf(torch.tensor(centre + half)) - normal.cdf(torch.tensor(centre - half))).item()
    pixels = torch.full((20000, 1, 1, 1), level)
    ours = gaussian_log_likelihood(pixels, mean, torch.tensor(2 * math.log(deviation)), torch.rand_like(pixels))
    assert exact - 0.02 < ours.mean().item() < exact
    middles = gaussian_log_likelihood(LEVELS.view(-1, 1, 1, 1), mean, torch.tensor(-2.0), torch.tensor(0.5))
    assert middles.exp().sum().item() == pytest.approx(1, abs=0.02)  # what lies beyond black and white is missing


def test_a_likelihood_adds_up_over_a_picture() -> None:
    torch.manual_seed(0)
    x, mean = torch.rand(4, 3, 5, 6), torch.randn(2, 4, 3, 5, 6)
    spread = torch.randn(3, 1, 1)
    assert logistic_log_likelihood(x, mean, spread).shape == (2, 4)
    likelihood = gaussian_log_likelihood(x, mean, spread, torch.full_like(mean, 0.5))
    rounded = (x * 255).round() / 255
    each = Normal(mean, (0.5 * spread).exp()).log_prob(2 * rounded - 1) + math.log(2 / 255)
    torch.testing.assert_close(likelihood, each.sum((-3, -2, -1)))


def test_the_bound_of_equal_weights_is_the_weight_and_it_lies_between_mean_and_largest() -> None:
    assert importance_bound(torch.full((7, 2), -300.0)).tolist() == pytest.approx([-300, -300])
    weights = 20 * torch.randn(50, 8)
    bound = importance_bound(weights)
    assert (bound >= weights.mean(dim=0)).all() and (bound <= weights.max(dim=0).values).all()
    torch.testing.assert_close(importance_bound(weights[:1]), weights[0])


def test_free_bits_charge_nothing_less_and_nothing_more() -> None:
    kl = torch.tensor([[0.0, 3.0], [0.2, 1.0]])
    assert free_bits(kl, 0.0).item() == pytest.approx(2.1)  # 0: the divergence as it is
    assert free_bits(kl, 0.5).item() == pytest.approx(2.5)
    assert free_bits(kl, 9.0).item() == pytest.approx(18.0)
    freed = kl.clone().requires_grad_()
    free_bits(freed, 0.5).backward()
    assert freed.grad is not None and freed.grad.tolist() == [[0, 0.5], [0, 0.5]]


def test_bits_of_a_picture_whose_levels_are_all_as_likely_are_eight() -> None:
    assert bits_per_dimension(torch.tensor(-12 * math.log(256)), 12).item() == pytest.approx(8)


def test_everything_is_computed_in_32_bits_under_autocast() -> None:
    x, logits = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        results = [
            gaussian_kl(half, half), gaussian_log_density(half, half, half), bernoulli_log_likelihood(x, half),
            logistic_log_likelihood(x, half, half), gaussian_log_likelihood(x, half, half, x),
            importance_bound(half), free_bits(half[0, 0], 0.1),
        ]  # fmt: skip
    assert all(each.dtype == torch.float32 for each in results)
    torch.testing.assert_close(results[2], bernoulli_log_likelihood(x, half.float()))
