"""Adversarial games: what a critic descends that tells real pictures from drawn ones, what the generator descends that
wants to be taken for real, and the penalties that keep a critic smooth.

    non_saturating   Goodfellow et al., "Generative Adversarial Nets", 2014, arxiv.org/abs/1406.2661, section 3
    least_squares    Mao et al., "Least Squares Generative Adversarial Networks", 2017, arxiv.org/abs/1611.04076, eq. 9
    hinge            Lim, Ye, "Geometric GAN", 2017, arxiv.org/abs/1705.02894, eq. 22 and 23
    wasserstein      Arjovsky et al., "Wasserstein GAN", 2017, arxiv.org/abs/1701.07875, eq. 2

Scores are any number, of any shape; high means real. Everything is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

Game = Literal["non_saturating", "least_squares", "hinge", "wasserstein"]
Critic = Callable[[Tensor], Tensor]  # pictures (B, C, H, W) -> scores (B,) or (B, ...)


def critic_loss(game: Game, real: Tensor, drawn: Tensor) -> Tensor:
    """What the critic descends, a scalar, for its scores of real and of drawn pictures."""
    real, drawn = real.float(), drawn.float()
    match game:
        case "non_saturating":  # -log sigmoid(real) - log(1 - sigmoid(drawn))
            return F.softplus(-real).mean() + F.softplus(drawn).mean()
        case "least_squares":
            return ((real - 1).square().mean() + drawn.square().mean()) / 2
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()
        case "wasserstein":
            return drawn.mean() - real.mean()
    assert_never(game)


def generator_loss(game: Game, drawn: Tensor) -> Tensor:
    """What the generator descends, a scalar, for the critic's scores of what it drew."""
    drawn = drawn.float()
    match game:
        case "non_saturating":  # -log sigmoid(drawn)
            return F.softplus(-drawn).mean()
        case "least_squares":
            return (drawn - 1).square().mean() / 2
        case "hinge" | "wasserstein":
            return -drawn.mean()
    assert_never(game)


def recognised(game: Game, real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of real and of drawn pictures that the critic is right about, two scalars in [0, 1].

    It is right on its side of the game's threshold: 0, and 1/2 for least squares. A Wasserstein critic has no zero of
    its own, so there the threshold is half-way between the two means.
    """
    real, drawn = real.detach().float(), drawn.detach().float()
    if game == "wasserstein":
        threshold = (real.mean() + drawn.mean()) / 2
    else:
        threshold = real.new_tensor(0.5 if game == "least_squares" else 0.0)
    return (real > threshold).float().mean(), (drawn < threshold).float().mean()


def gradient_norms(critic: Critic, images: Tensor) -> Tensor:
    """(B,): the Euclidean norm of each picture's own gradient of its scores' sum, all pixels and channels together.

    The critic must judge each picture by itself: with batch normalisation in it a gradient has no owner. The norms can
    be descended, unless gradients are off where this is called; it works there too.
    """
    descended = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        inputs = images.detach().float().clone().requires_grad_(True)
        scores = critic(inputs).float()
        (slopes,) = torch.autograd.grad(scores.sum(), inputs, create_graph=descended)
        squares = slopes.flatten(1).square().sum(dim=1)
        return (squares + 1e-12).sqrt()  # the root's own slope at 0 is infinite


def gradient_penalty(critic: Critic, real: Tensor, drawn: Tensor, aim: float = 1.0) -> Tensor:
    """mean((norm - aim)^2) of the gradients half-way, a scalar: Gulrajani et al., "Improved Training of Wasserstein
    GANs", 2017, arxiv.org/abs/1704.00028, eq. 3 without its lambda.

    Half-way is a place on the line between a real and a drawn picture: one place for each pair, not one for the batch.
    """
    return (gradient_norms(critic, between(real, drawn)) - aim).square().mean()


def between(real: Tensor, drawn: Tensor) -> Tensor:
    """(B, C, H, W): each real picture mixed with its drawn one, at a share of its own that is uniform in [0, 1]."""
    real, drawn = real.detach().float(), drawn.detach().float()
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    return share * real + (1 - share) * drawn


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """mean(norm^2) / 2 of the gradients at real pictures, a scalar: Mescheder, Geiger, Nowozin, "Which Training Methods
    for GANs do actually Converge?", 2018, arxiv.org/abs/1801.04406, eq. 9 without its gamma."""
    return gradient_norms(critic, real).square().mean() / 2
