"""A segmenter whose deepest map must also hold what the picture looks like: it is the latent of a VAE.

Myronenko: 3D MRI brain tumor segmentation using autoencoder regularization, 2018, https://arxiv.org/abs/1810.11654
Rybkin, Daniilidis, Levine: Simple and Effective VAE Training with Calibrated Decoders, 2021,
https://arxiv.org/abs/2006.13202 (the optimal variance)

Where we differ: in 2D; the latent is a map, not a vector, so that pictures may have any size; the two terms are those
of a bound, in nats for each value of the picture, and the decoder's variance is the best one for the batch, where
Myronenko weighs a squared difference and a divergence by 0.1 each; pictures without masks are learnt from too.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...losses.variational import gaussian_kl
from ...records import Batch
from ..contract import Losses
from .combination import Combination, CombinationConfig
from .sharing import PictureDecoder, mask_pictures, only

LEAST = -6.0  # log of the smallest deviation of the decoder, softly (Rybkin et al.)


class VAESegmenterConfig(CombinationConfig):
    """What builds a segmenter with a VAE at its deepest map."""

    name: Literal["vae_segmenter"] = "vae_segmenter"
    weight: float = Field(0.1, ge=0)  # of the bound, nats a value of the picture; 0 = an ordinary segmenter
    beta: float = Field(1.0, ge=0)  # of the divergence in it; 1 = the bound itself, 0 = a noisy autoencoder
    latent: int = Field(16, ge=1)  # channels of the latent, which is as large as the deepest map
    width: int = Field(16, ge=1)  # of the picture decoder, counted at full size; 4 times as many at most


class VAESegmenter(Combination):
    """A segmenter, and a VAE that shares its encoder.

    images ── encoder ─┬─ all maps ── mask decoder ──► criterion                              (labelled)
                       └─ deepest ── posterior ──► mean, log variance (B, Z, h, w)             (all pictures)
                                                   z = mean + deviation * noise ── picture ──► log p(image | z)
    """

    Config = VAESegmenterConfig
    config: VAESegmenterConfig
    learns_from_unlabelled = True

    def __init__(self, config: VAESegmenterConfig) -> None:
        super().__init__(config)
        encoder = self.in_halves().encoder
        self.posterior = nn.Conv2d(encoder.channels[-1], 2 * config.latent, 3, padding=1)
        self.picture = PictureDecoder(
            (config.latent,), encoder.reductions[-1:], config.channels, config.width, finest_skip=0
        )

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """The masks' terms, `segmentation` their sum; of the VAE `reconstruction` (-log p(image | z)) and `divergence`
        (KL(q(z | image) || N(0, 1))), both nats a value, and `sigma`, the decoder's deviation, standardised."""
        config, (height, width) = self.config, batch.images.shape[2:]
        numbers = mask_pictures(batch)
        masked = only(batch, numbers)
        halves, x = self.in_halves(), self.standardised(batch.images)
        maps = halves.encoder(x)
        results = halves.decode([each[numbers] for each in maps], auxiliary=True)
        terms = self.judged([halves.at_size(each, masked.images) for each in results], masked)

        mean, log_variance = self.posterior(maps[-1]).float().chunk(2, dim=1)  # B Z h w
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        answer = self.picture([z])[:, :, :height, :width]
        with torch.autocast(x.device.type, enabled=False):
            reconstruction, sigma = best_gaussian(answer.float(), x[:, :, :height, :width].float())
            divergence = gaussian_kl(mean, log_variance).sum() / batch.images.numel()
        total = terms["total"] + config.weight * (reconstruction + config.beta * divergence)
        logged = {"segmentation": terms["total"], "reconstruction": reconstruction, "divergence": divergence}
        return {**terms, **logged, "sigma": sigma, "total": total}


def best_gaussian(answer: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """-log N(target; answer, sigma^2) in nats a value, and sigma, the one under which the whole batch is likeliest:
    the root of the mean squared difference (Rybkin et al. 2021, "optimal sigma")."""
    squared = (answer - target).square().mean()
    log_sigma = 0.5 * torch.log(squared + 1e-12)
    log_sigma = LEAST + F.softplus(log_sigma - LEAST)
    nats = 0.5 * squared * torch.exp(-2 * log_sigma) + log_sigma + 0.5 * math.log(2 * math.pi)
    return nats, torch.exp(log_sigma.detach())
