"""Likelihoods, divergences and bounds of latent variable models, in nats.

All are computed in float32 whatever precision the arguments have. N: any leading axes, C channels, H x W pixels.
A likelihood sums over the last three axes, those of a picture; the leading axes of its arguments broadcast.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PICTURE = (-3, -2, -1)  # the axes of a picture
LEVELS = 256  # of a channel of 8 bits
HALVINGS = 6  # 2^6 factors of at most 2 each: far below what float32 holds


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of every dimension by itself: (N, Z) and (N, Z) to (N, Z), >= 0
    (Kingma, Welling 2014, appendix B)."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


def gaussian_log_density(x: Tensor, mean: Tensor | float, log_variance: Tensor | float) -> Tensor:
    """log N(x; mean, variance) of every value by itself, all broadcast: (N, ...)."""
    log_variance = torch.as_tensor(log_variance, dtype=torch.float32, device=x.device)
    squares = (x.float() - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + math.log(2 * math.pi))


def gaussian_log_likelihood(levels: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """(N,): a lower bound of the log probability of 8-bit pictures under a density, by uniform dequantisation
    (Theis, van den Oord, Bethge 2016, section 3.1); its expectation over the noise is what is below.

    levels: (N, C, H, W) in [0, 1], rounded here to the 256 levels. mean, log_variance: (N, C, H, W) or what broadcasts
    to it, of the picture scaled to [-1, 1]. noise: (N, C, H, W) uniform in [0, 1).
    """
    step = 2 / (LEVELS - 1)  # between two levels in [-1, 1]
    y = 2 * _rounded(levels) - 1 + step * (noise.float() - 0.5)
    density = gaussian_log_density(y, mean.float(), log_variance)
    return (density + math.log(step)).sum(PICTURE)


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """(N,): sum over the picture of x log p + (1 - x) log(1 - p), p = sigmoid(logits). x: (N, C, H, W) in [0, 1]."""
    x, logits = torch.broadcast_tensors(x.float(), logits.float())
    result: Tensor = _Bernoulli.apply(x.flatten(-3), logits.flatten(-3))
    return result


class _Bernoulli(torch.autograd.Function):
    """sum(x l - log(1 + e^l)) over the last axis. One logarithm for up to 64 pixels, of the product of their
    1 + e^-|l|: the logarithm is most of the time that a dense VAE takes on a processor (3 to 5 times faster)."""

    @staticmethod
    def forward(context: Any, x: Tensor, logits: Tensor) -> Tensor:
        context.save_for_backward(x, logits)
        factors = logits.abs().neg_().exp_().add_(1)
        for _ in range(HALVINGS):
            if factors.shape[-1] % 2:
                break
            first, second = factors.chunk(2, dim=-1)
            factors = first * second
        return torch.addcmul(-logits.clamp(min=0), logits, x).sum(-1) - factors.log_().sum(-1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, logits = context.saved_tensors
        of_x = logits * gradient.unsqueeze(-1) if context.needs_input_grad[0] else None
        return of_x, torch.sub(x, logits.sigmoid()).mul_(gradient.unsqueeze(-1))


def logistic_log_likelihood(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """(N,): log probability of 8-bit pictures, each level the logistic distribution's mass between its neighbours'
    halfways, the first and the last with everything beyond (Salimans et al., PixelCNN++, 2017, equation 2).

    levels: (N, C, H, W) in [0, 1], rounded here to the 256 levels. mean, log_scale: (N, C, H, W) or what broadcasts
    to it, of the picture scaled to [-1, 1].
    """
    return logistic_log_probability(levels, mean, log_scale).sum(PICTURE)


def logistic_log_probability(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """What `logistic_log_likelihood` adds up: the log probability of every value by itself.

    With a = (upper halfway - mean) / scale and b the same of the lower one, sigmoid(a) - sigmoid(b) is
    sigmoid(a) sigmoid(-b) (1 - e^(b - a)): its logarithm loses no digits, however far the level is from the mean.
    """
    rounded, half = _rounded(levels), 1 / (LEVELS - 1)
    mean, log_scale = mean.float(), log_scale.float()
    centred, shrink = 2 * rounded - 1 - mean, torch.exp(-log_scale)
    above = F.logsigmoid(shrink * (centred + half))  # log sigmoid(a)
    below = F.logsigmoid(-shrink * (centred - half))  # log sigmoid(-b)
    between = torch.log(-torch.expm1(-2 * half * shrink))
    return torch.where(rounded <= 0, above, torch.where(rounded >= 1, below, above + below + between))


def importance_bound(log_weights: Tensor) -> Tensor:
    """(N,): log of the mean weight of the k samples, (k, N) log weights log p(x, z) - log q(z | x)
    (Burda, Grosse, Salakhutdinov 2016, equation 8). k = 1 is the evidence lower bound."""
    return torch.logsumexp(log_weights.float(), dim=0) - math.log(len(log_weights))


def free_bits(kl: Tensor, least: float) -> Tensor:
    """Scalar: the divergence (B, Z), averaged over the pictures, each dimension charged at least `least` nats, added
    up (Kingma et al. 2016, equation 15, a group a dimension). 0 leaves it as it is."""
    each = kl.float().mean(dim=0)
    return (each.clamp(min=least) if least > 0 else each).sum()


def bits_per_dimension(bound: Tensor, dimensions: int) -> Tensor:
    """A bound in nats of a picture of C H W = `dimensions` values as bits a value, the smaller the better."""
    return -bound / (dimensions * math.log(2))


def _rounded(levels: Tensor) -> Tensor:
    return torch.round(levels.float().clamp(0, 1) * (LEVELS - 1)) / (LEVELS - 1)
