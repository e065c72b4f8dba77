"""Probabilistic U-Net: several plausible answers for a picture that people label differently.

Kohl, Romera-Paredes, Meyer, De Fauw, Ledsam, Maier-Hein, Eslami, Rezende, Ronneberger: A Probabilistic U-Net for
Segmentation of Ambiguous Images, 2018, https://arxiv.org/abs/1806.05034

Where we differ: the U-Net is ours (batch normalisation, padding, any encoder); prior and posterior have a small encoder
of their own kind, not the U-Net's contracting path, because they give six numbers and no map. The paper sums the cross
entropy over the pixels; here it is a mean over the labelled pixels, as of every segmenter, and the divergence is
divided by their number, so that the two are weighed as in the paper. Pixels that nobody labelled are shown to the
posterior as neither of a class nor not; a picture without a label teaches nothing. Classes may overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...losses.variational import gaussian_kl
from ...networks.encoders import build_encoder
from ...records import IGNORE, Batch
from ..contract import Ambiguous, Losses, SemanticConfig
from .unet import UNet, UNetConfig

LOG_VARIANCES = (-10.0, 10.0)  # beyond, exp() of a step gone wrong would leave what float32 holds


class ProbabilisticUNetConfig(SemanticConfig):
    """What builds a Probabilistic U-Net."""

    name: Literal["probabilistic_unet"] = "probabilistic_unet"
    encoder: str = "plain"  # "plain": the paper's contracting path; or one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    width: int = Field(32, ge=1)  # channels at full size, doubled with each halving; 16 suits an encoder of its own
    depth: int = Field(4, ge=1, le=8)  # halvings in the plain encoder; another encoder brings its own
    finest: Literal[1, 2, 4] = 1  # where the decoder ends: full, half or quarter size; each step is 1.2-1.7x faster
    dropout: float = Field(0.0, ge=0, lt=1)  # share of the coarsest map's features zeroed in training; 0 = none
    latent: int = Field(6, ge=1)  # Z: numbers that say which of the plausible answers is meant; the paper's 6
    readers: str = "tiny"  # encoder of the prior and of the posterior: one of ours, or "timm/NAME"
    beta: float = Field(1.0, ge=0)  # weight of the divergence of posterior and prior; 1 = the bound of the likelihood


class LatentReader(nn.Module):
    """Maps (B, inputs, H, W) to a normal distribution: its mean and its log-variance (B, Z) each.

    The head is linear in the mean over the last map, so that the mean of what is read of a picture's parts is what is
    read of the picture.
    """

    def __init__(self, inputs: int, encoder: str, latent: int) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, inputs)
        self.head = nn.Linear(self.encoder.channels[-1], 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.encoder(x)[-1].mean(dim=(2, 3))  # B width
        mean, log_variance = self.head(pooled).float().chunk(2, dim=1)  # B Z each, exact also where the rest is in bf16
        return mean, log_variance.clamp(*LOG_VARIANCES)


class ProbabilisticUNet(Ambiguous):
    """A U-Net whose last 1x1 convolutions are also told a latent (figure 1).

        x (B, C, H, W) ─┬─ unet ── features (B, width, H, W) ─┐
                        │                                     + ── classifier (1x1, three layers) ──► (B, K, H, W)
                        ├─ prior ─────── N(mean, var) ── z ── of_latent (B, width, 1, 1)
                        │                    ↑ divergence     ↑
        mask (B, H, W) ─┴─ posterior ─── N(mean, var) ── z ───┘ in training

    `unet` is a U-Net whose classes are the features. The first 1x1 convolution of features and latent, spread over the
    map and joined to them, is a sum of a convolution of the features (the last of `unet`) and of `of_latent`: the first
    is computed once for all answers.
    """

    Config = ProbabilisticUNetConfig
    #: each rater's mask by itself, and a likelihood: with Dice or class weights answers come too often or too seldom
    recommended: ClassVar[Mapping[str, Any]] = {
        "augment.rater": "random",
        "model.loss": {"terms": {"cross_entropy": 1.0}},
    }

    def __init__(self, config: ProbabilisticUNetConfig) -> None:
        super().__init__(config)
        width = config.width * config.finest  # of the decoder's last step
        self.unet = UNet(
            UNetConfig(
                channels=config.channels, classes=width, encoder=config.encoder, pretrained=config.pretrained,
                width=config.width, depth=config.depth, finest=config.finest, dropout=config.dropout,
            )
        )  # fmt: skip
        self.stride = self.unet.stride
        self.latent = config.latent
        self.beta = config.beta
        self.prior = LatentReader(config.channels, config.readers, config.latent)
        self.posterior = LatentReader(config.channels + config.classes, config.readers, config.latent)
        self.of_latent = nn.Linear(config.latent, width, bias=False)
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, config.classes, 1)
        )

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        mean, _ = self.prior(x)
        return (self.joined(self.features(x), mean),)

    def features(self, x: Tensor) -> Tensor:
        """(B, width, h, w) for standardised pictures."""
        return self.unet.heads(x, auxiliary=False)[0]

    def joined(self, features: Tensor, latent: Tensor) -> Tensor:
        """Logits (B, K, h, w) for features and latents (B, Z) (equation 2)."""
        told = self.of_latent(latent)[:, :, None, None]  # B width 1 1
        logits: Tensor = self.classifier(features + told)
        return logits

    def prior_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.prior(self.standardised(images))  # equation 1
        return mean, log_variance

    def answers(self, images: Tensor, latents: Tensor) -> Tensor:
        features = self.features(self.standardised(images))
        return torch.stack([self.at_size(self.joined(features, each), images) for each in latents])  # S B K H W

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """The criterion's terms for one draw of the posterior; `kl`, the mean divergence of posterior and prior of the
        labelled pictures, in nats; and `total`, the negative bound of equation 4 a labelled pixel."""
        target = batch.labels if self.overlapping else batch.masks
        x = self.standardised(batch.images)
        mean, log_variance = self.posterior(torch.cat([x, self._shown(target, x)], dim=1))  # equation 3
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        terms = self.judged((self.at_size(self.joined(self.features(x), latent), batch.images),), batch)
        assert target is not None  # the criterion would have said so
        prior_mean, prior_log_variance = self.prior(x)
        # the divergence does not change where both are moved and scaled until the prior is N(0, 1)
        moved = (mean - prior_mean) * (-prior_log_variance / 2).exp()
        kl = gaussian_kl(moved, log_variance - prior_log_variance).sum(dim=1)  # B
        known = (target != IGNORE).flatten(1).sum(dim=1)  # B
        kl = kl * (known > 0)
        per_pixel = kl.sum() / known.sum().clamp(min=1)
        return {
            **terms,
            "kl": kl.sum() / (known > 0).sum().clamp(min=1),
            "total": terms["total"] + self.beta * per_pixel,
        }

    def _shown(self, target: Tensor | None, x: Tensor) -> Tensor:
        """(B, K, H, W) for the posterior: 1/2 where a class is, -1/2 where it is not, 0 where nobody knows; as large as
        the padded pictures."""
        if target is None:
            return x.new_zeros(len(x), self.criterion.classes, *x.shape[2:])
        if self.overlapping:
            planes = (target - 0.5) * (target != IGNORE)
        else:
            numbers = torch.arange(self.criterion.classes, device=target.device).view(1, -1, 1, 1)
            planes = ((target.unsqueeze(1) == numbers).float() - 0.5) * (target != IGNORE).unsqueeze(1)
        below, right = x.shape[2] - planes.shape[2], x.shape[3] - planes.shape[3]
        return F.pad(planes, (0, right, 0, below)).to(x.dtype)
