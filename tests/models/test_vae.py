"""What is special to the variational autoencoder: its bound against an exact likelihood, its objectives, its prior."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import MultivariateNormal

from intarsia.errors import DataError, UsageError
from intarsia.models import build
from intarsia.models.generative import VAE, VAEConfig
from intarsia.records import IGNORE, Batch

SMALL: dict[str, Any] = {"channels": 1, "size": (8, 8), "body": "dense", "hidden": (24,), "latent": 4}


def made(seed: int = 0, **options: Any) -> VAE:
    torch.manual_seed(seed)
    model = build(VAEConfig.model_validate({**SMALL, **options}))
    assert isinstance(model, VAE)
    return model


def stripes(count: int = 32) -> Batch:
    """Class 0: the left half is bright; class 1: the right half; noisy."""
    generator = torch.Generator().manual_seed(1)
    images = 0.2 * torch.rand(count, 1, 8, 8, generator=generator)
    categories = torch.arange(count) % 2
    images[categories == 0, :, :, :4] += 0.7
    images[categories == 1, :, :, 4:] += 0.7
    return Batch(images, categories=categories)


def trained(model: VAE, batch: Batch, steps: int = 150, rate: float = 5e-3) -> VAE:
    optimizer = torch.optim.Adam(model.train().parameters(), rate)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(batch)["total"].backward()
        optimizer.step()
        model.advance(step / steps)
    return model.eval()


# --- the bound ---


def linear(off: float) -> tuple[VAE, Tensor, Tensor]:
    """A linear-Gaussian VAE, pictures of it, and their exact log likelihoods, which are those of probabilistic
    principal components (Tipping, Bishop 1999). off: how far the encoder is from the exact posterior."""
    model = made(size=(3, 4), hidden=(), latent=2)
    deviation, size = 0.15, 12
    directions = torch.linalg.qr(torch.randn(size, 2))[0] * torch.tensor([0.6, 0.3])  # so that the posterior's
    noise = 0.15**2 * torch.eye(2)  # covariance is diagonal
    precise = torch.linalg.inv(directions.T @ directions + noise)
    with torch.no_grad():
        model.log_spread.fill_(2 * math.log(deviation))
        model.decoder.head[0].weight.copy_(directions)
        model.decoder.head[0].bias.zero_()
        means = precise @ directions.T
        model.encoder.head[0].weight.copy_(torch.cat([(1 - off) * means, torch.zeros(2, size)]))
        variances = (deviation**2 * precise).diag()
        model.encoder.head[0].bias.copy_(torch.cat([torch.zeros(2), variances.log() + off]))
    marginal = MultivariateNormal(torch.zeros(size), directions @ directions.T + deviation**2 * torch.eye(size))
    levels = ((marginal.sample((40,)).clamp(-1, 1) + 1) / 2 * 255).round() / 255
    exact = marginal.log_prob(2 * levels - 1) + size * math.log(2 / 255)
    return model.eval(), levels.view(-1, 1, 3, 4), exact


def test_with_the_exact_posterior_one_sample_gives_the_exact_likelihood() -> None:
    model, images, exact = linear(off=0.0)
    bounds = torch.stack([model.bound(images, 1) for _ in range(50)]).mean(dim=0)
    torch.testing.assert_close(bounds, exact, rtol=0, atol=0.1)  # of dequantising alone
    assert bounds.mean().item() == pytest.approx(exact.mean().item(), abs=0.01)


def test_with_a_poor_posterior_the_bound_rises_with_the_samples_to_the_exact_likelihood() -> None:
    model, images, exact = linear(off=0.3)
    torch.manual_seed(0)
    gaps = [
        (exact - torch.stack([model.bound(images, k) for _ in range(max(1, 600 // k))]).mean(dim=0)).mean().item()
        for k in (1, 3, 10, 100, 3000)
    ]
    assert gaps[0] > 0.3
    assert all(more > less for more, less in pairwise(gaps))
    assert gaps[-1] == pytest.approx(0, abs=0.01)


def test_the_loss_is_the_bound_of_one_sample() -> None:
    for options in ({}, {"prior": "flow"}, {"objective": "iwae"}, {"importance_samples": 4}):
        model, images = made(**options).eval(), stripes(8).images.repeat(100, 1, 1, 1)
        with torch.no_grad():
            total = torch.stack([model.loss(Batch(images))["total"] for _ in range(20)]).mean()
            bound = torch.stack([model.bound(images, 1) for _ in range(20)]).mean()
        torch.testing.assert_close(total, -bound, rtol=2e-3, atol=0.1)


def test_a_bound_does_not_depend_on_how_the_work_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, _ = linear(off=0.1)
    whole = model.bound(images, 2000)
    monkeypatch.setattr("intarsia.models.generative.vae.VALUES", 7000)
    torch.testing.assert_close(model.bound(images, 2000), whole, rtol=0, atol=0.2)


# --- objectives ---


def gradients(model: VAE, batch: Batch) -> Tensor:
    """(40, everything): of the loss, with new noise each time."""
    rows = []
    for _ in range(40):
        model.zero_grad()
        model.loss(batch)["total"].backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    return torch.stack(rows)


@pytest.mark.parametrize("other", [{"doubly": True}, {"gradient_samples": 3}])
@pytest.mark.parametrize("prior", ["normal", "flow"])
def test_other_gradients_of_the_weighted_bound_are_the_same_on_average(other: dict[str, Any], prior: str) -> None:
    options: dict[str, Any] = {
        "size": (2, 3), "hidden": (), "latent": 2, "objective": "iwae", "importance_samples": 4, "prior": prior,
        "flow_steps": 2, "flow_width": 4,
    }  # fmt: skip
    plain, special = made(**options), made(**options, **other)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        plain.log_spread.fill_(0.0)
    special.load_state_dict(plain.state_dict())
    batch = Batch(torch.rand(3, 1, 2, 3).repeat(200, 1, 1, 1))
    usual, ours = gradients(plain, batch), gradients(special, batch)
    error = (usual.var(dim=0) / len(usual) + ours.var(dim=0) / len(ours)).sqrt()
    assert ((usual.mean(dim=0) - ours.mean(dim=0)).abs() <= 5 * error + 1e-5).all()


def test_the_weighted_bound_is_tighter_than_the_mean_of_bounds() -> None:
    batch, iwae, elbo = stripes(), made(objective="iwae", importance_samples=20), made(importance_samples=20)
    with torch.no_grad():
        assert iwae.eval().loss(batch)["total"] < elbo.eval().loss(batch)["total"]


def test_beta_and_free_bits_at_their_end_points() -> None:
    batch = stripes()
    for options, charged in (({"beta": 0.0}, 0.0), ({"beta": 1.0}, 1.0), ({"beta": 4.0}, 4.0)):
        terms = made(**options).loss(batch)
        assert terms["total"].item() == pytest.approx(
            (terms["reconstruction"] + charged * terms["kl"]).item(), rel=1e-5
        )
    free = made(free_bits=100.0).loss(batch)  # more than any dimension holds: a constant
    assert free["total"].item() == pytest.approx(free["reconstruction"].item() + 400, rel=1e-5)
    flow = made(free_bits=100.0, prior="flow").loss(batch)
    assert flow["total"].item() == pytest.approx(flow["reconstruction"].item() + 400, rel=1e-5)


def test_annealing_raises_beta_and_survives_a_stop() -> None:
    model, batch = made(annealing=0.5, beta=2.0), stripes()

    def beta(model: VAE) -> float:
        terms = model.loss(batch)
        return ((terms["total"] - terms["reconstruction"]) / terms["kl"]).item()

    assert beta(model) == pytest.approx(0, abs=1e-4)
    model.advance(0.25)
    assert beta(model) == pytest.approx(1, rel=1e-3)
    other = made(annealing=0.5, beta=2.0)
    other.load_state_dict(model.state_dict())
    assert beta(other) == pytest.approx(1, rel=1e-3)
    model.advance(0.9)
    assert beta(model) == pytest.approx(2, rel=1e-3)
    assert beta(other.eval()) == pytest.approx(2, rel=1e-3)  # what is validated is the whole loss


def test_a_large_beta_collapses_the_posterior_and_health_says_so() -> None:
    batch = stripes()
    for prior in ("normal", "flow"):
        alive, dead = (
            trained(made(beta=beta, prior=prior, flow_steps=2), batch, 80, 1e-2).health(batch) for beta in (0.1, 500.0)
        )
        assert dead["kl_dimensions"].sum() / 32 < 0.1 < 1 < alive["kl_dimensions"].sum() / 32
        assert alive["kl_dimensions"].shape == alive["means_sum"].shape == (4,)


# --- pictures of 0 and 1 ---


def test_pictures_are_drawn_anew_in_training_and_once_for_evaluation() -> None:
    model = made(likelihood="bernoulli", binarise=True)
    images = torch.full((2, 1, 8, 8), 0.3)
    images[1] = 0.31
    first, second = model._seen(images, fixed=False), model._seen(images, fixed=False)
    assert set(first.unique().tolist()) == {0, 1} and not torch.equal(first, second)
    fixed = model._seen(images, fixed=True)
    assert torch.equal(model._seen(images.flip(0), fixed=True).flip(0), fixed)  # whatever is beside it
    assert not torch.equal(fixed[0], fixed[1])
    many = model._seen(torch.rand(300, 1, 8, 8) * 0.02 + 0.29, fixed=True)
    assert many.mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(model._seen(fixed, fixed=False), fixed)  # what is 0 or 1 stays


# --- a class that is told ---


def test_drawings_follow_the_class_that_is_told_and_a_picture_tells_its_own() -> None:
    batch = stripes()
    model = trained(made(condition="class", classes=2, beta=3.0), batch, 250)
    with torch.no_grad():
        told = torch.arange(200) % 2
        drawn = model(torch.randn(200, 4), told)
        left, right = drawn[..., :4].mean((1, 2, 3)), drawn[..., 4:].mean((1, 2, 3))
        assert ((left > right) == (told == 0)).float().mean() > 0.9
        assert torch.equal(model._likeliest(batch.images), batch.categories)
        assert (model.reconstruct(batch.images) - batch.images).abs().mean() < 0.1
        bounds = [model.bound(batch.images, 5, told) for told in (batch.categories, 1 - batch.categories)]
    assert (bounds[0] > bounds[1]).all()


def test_a_class_that_is_missing_or_not_asked_for_is_refused_in_a_sentence() -> None:
    model, batch = made(condition="class", classes=2), stripes()
    with pytest.raises(DataError, match="no class"):
        model.loss(Batch(batch.images, categories=torch.tensor([IGNORE] * 32)))
    with pytest.raises(DataError, match="no class"):
        model.loss(Batch(batch.images))
    with pytest.raises(UsageError, match="0 to 1"):
        model(torch.randn(2, 4))
    with pytest.raises(UsageError, match="without classes"):
        made()(torch.randn(2, 4), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match=r"model\.classes is 0"):
        made(condition="class")
    with pytest.raises(DataError, match="8x8"):
        made().loss(Batch(torch.rand(2, 1, 9, 8)))


# --- the rest ---


def test_latents_outside_are_those_of_the_noise_whatever_the_prior() -> None:
    batch = stripes()
    model = trained(made(prior="flow", flow_steps=4, flow_width=16), batch)
    with torch.no_grad():
        latent = model.encode(batch.images)
        torch.testing.assert_close(model.decode(latent), model.reconstruct(batch.images), rtol=1e-3, atol=1e-3)
        assert torch.equal(model(latent), model.decode(latent))


def test_pictures_of_another_size_come_back_at_their_own() -> None:
    model = made().eval()
    assert model.reconstruct(torch.rand(2, 1, 21, 13)).shape == (2, 1, 21, 13)


def test_the_papers_network_has_the_papers_size() -> None:
    model = made(size=(28, 28), hidden=(200, 200), latent=50, likelihood="bernoulli")
    encoder = 784 * 200 + 200 + 200 * 200 + 200 + 2 * (200 * 50 + 50)
    decoder = 50 * 200 + 200 + 200 * 200 + 200 + 200 * 784 + 784
    assert sum(each.numel() for each in model.parameters()) == encoder + decoder


@pytest.mark.parametrize(
    "options",
    [
        {"binarise": True, "likelihood": "gaussian"},
        {"doubly": True},
        {"gradient_samples": 1},
        {"objective": "iwae", "free_bits": 0.1},
        {"objective": "iwae", "importance_samples": 2, "gradient_samples": 3},
        {"objective": "iwae", "importance_samples": 2, "gradient_samples": 1, "doubly": True},
        {"prior": "flow", "latent": 1},
        {"hidden": (10, 0)},
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VAEConfig.model_validate({**SMALL, **options})
