"""Pair GAN: a GAN that draws a picture and its mask together, from one noise.

After Li, Yang, Kreis, Torralba, Fidler: Semantic Segmentation with Generative Models: Semi-Supervised Learning and
Strong Out-of-Domain Generalization (SemanticGAN), 2021, https://arxiv.org/abs/2104.05833
and Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training, 2020,
https://arxiv.org/abs/2006.10738, without which a critic learns twenty pairs by heart.

Where we differ: the networks are those of gan.py with a plane more for each class, not a StyleGAN. One critic sees
picture and mask together, in place of one for pictures and one for pairs, so only labelled pictures are learnt from;
and no encoder is learnt, since segmenting is a segmenter's work here. True masks are softened by a share that differs
from picture to picture: a mask of nothing but 0 and 1 gives itself away, for no softmax reaches them. Moving and
cutting out (`augment`) happen to picture and mask together, changes of colour to the picture alone. Pixels that nobody
labelled are shown as equally likely to be of any class. Classes that overlap are not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...losses.adversarial import Game, generator_loss, gradient_norms, recognised
from ...networks.diff_augment import Kind, diff_augment
from ...records import Batch
from ..contract import Draws, GenerativeConfig, Losses
from .gan import GAN, GANConfig, critic_terms, statistics_kept


class PairGANConfig(GenerativeConfig):
    """What builds a pair GAN. `classes` are the masks'."""

    name: Literal["pair_gan"] = "pair_gan"
    body: Literal["dcgan", "residual"] = "dcgan"
    game: Game = "non_saturating"
    latent: int = Field(128, ge=1)  # numbers of noise a pair is drawn from
    width: int = Field(32, ge=1)  # channels at the largest map, doubled at each halving up to 8 times
    critic_steps: int = Field(1, ge=1, le=100)  # turns of the critic for one of the generator, each on a fresh batch
    gradient_penalty: float = Field(0.0, ge=0)  # weight of (gradient norm - 1)^2 half-way, mostly 10; 0 = none
    r1: float = Field(0.0, ge=0)  # gamma: weight of half the squared gradient norm at real pairs; 0 = none
    spectral_norm: bool = False  # bounds each of the critic's layers: its largest singular value is 1
    augment: tuple[Kind, ...] = ("colour", "translation", "cutout")  # of what the critic sees; () = none
    smoothing: float = Field(0.1, ge=0, lt=1)  # true masks lose up to this share of their certainty; 0 = stay 0 and 1

    def game_config(self) -> GANConfig:
        """The GAN of pictures with a further channel for each class."""
        shared = set(GANConfig.model_fields) & set(PairGANConfig.model_fields) - {"name", "channels", "classes"}
        given = {name: getattr(self, name) for name in shared}
        return GANConfig(**given, channels=self.channels + self.classes)


class PairGAN(Draws):
    """A generator of pairs, and a critic of pairs.

        latent (B, Z)
        │
        generator, that of gan.py with C + K planes
        ├── tanh ────► picture (B, C, H, W) ──┐
        └── softmax ─► mask    (B, K, H, W) ──┴── augment ── critic ──► (B,) high: real
                       picture (B, C, H, W) ──┬── augment ── critic ──► likewise
        softened       mask    (B, K, H, W) ──┘

    `forward` gives the picture alone, `pairs` both.
    """

    Config = PairGANConfig
    recommended: ClassVar[Mapping[str, Any]] = GAN.recommended
    config: PairGANConfig

    def __init__(self, config: PairGANConfig) -> None:
        super().__init__(config)
        if config.classes < 1:
            raise UsageError(
                "a pair_gan draws masks, but model.classes is 0; give a folder of pictures and masks, or take a gan."
            )
        self.latent_shape = (config.latent,)
        self.gan = GAN(config.game_config())

    def parts(self) -> dict[str, nn.Module]:
        return self.gan.parts()

    def turns(self) -> tuple[str, ...]:
        return self.gan.turns()

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.pairs(latent)[0]

    def pairs(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, C, *size) in [0, 1], and the probability of each class at their pixels (B, K, *size), for noise
        (B, Z) ~ N(0, I)."""
        planes = self.gan.generator.planes(latent, None)  # B C+K H W
        count = self.config.channels
        return (planes[:, :count].tanh() + 1) / 2, planes[:, count:].softmax(dim=1)

    def loss(self, batch: Batch, part: str = "generator") -> Losses:
        """critic: `total`, its `game`, `real` and `drawn` (shares of pairs that it recognises), and where they have a
        weight `penalty` and `r1`. generator: `total`, and `score`, the critic's mean score of its pairs. All are 0
        where no picture has a mask."""
        real = self._real(batch)
        if real is None:
            return self._nothing(part)
        if part == "critic":
            with torch.no_grad(), statistics_kept(self.gan.generator):
                drawn = self._seen(self._drawn(len(real), real.device))
            return critic_terms(self.gan.config, self._judge, self._seen(real), drawn)
        scores = self._judge(self._seen(self._drawn(len(real), real.device)))
        return {"total": generator_loss(self.config.game, scores), "score": scores.detach().float().mean()}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        """The critic's side of the game, without `augment`: on pairs as they are."""
        real = self._real(batch)
        if real is None:
            return {}
        drawn = self._drawn(len(real), real.device)
        right_real, right_drawn = recognised(self.config.game, self._judge(real), self._judge(drawn))
        slope = gradient_norms(self._judge, drawn).mean()
        return {"critic_real": right_real, "critic_fake": right_drawn, "critic_gradient": slope}

    def _judge(self, pairs: Tensor) -> Tensor:
        return cast(Tensor, self.gan.critic(pairs, None))

    def _drawn(self, count: int, device: torch.device) -> Tensor:
        """(B, C + K, H, W) in [-1, 1]."""
        images, masks = self.pairs(torch.randn(count, *self.latent_shape, device=device))
        return 2 * torch.cat([images, masks], dim=1) - 1

    def _real(self, batch: Batch) -> Tensor | None:
        """(B, C + K, H, W) in [-1, 1]: the pictures that have a mask, with it; None where there is none."""
        if batch.labels is not None:
            raise UsageError(
                "a pair_gan draws masks whose classes exclude each other, but these overlap; take a pix2pix with "
                'model.task = "mask_to_picture", which draws pictures for such masks.'
            )
        if batch.masks is None:
            return None
        kept = (batch.masks >= 0).flatten(1).any(dim=1)
        if not bool(kept.any()):
            return None
        masks, classes = batch.masks[kept], self.config.classes
        known = F.one_hot(masks + 1, classes + 1).movedim(-1, 1)[:, 1:].to(batch.images)  # B K H W
        share = self.config.smoothing * torch.rand(len(known), 1, 1, 1, device=known.device)
        share = torch.where(masks[:, None] >= 0, share, torch.ones_like(share))  # where nobody knows: all classes alike
        return 2 * torch.cat([batch.images[kept], (1 - share) * known + share / classes], dim=1) - 1

    def _seen(self, pairs: Tensor) -> Tensor:
        """What the critic sees of pairs (B, C + K, H, W): colours are changed of the picture, places of both."""
        count = self.config.channels
        pairs = pairs.float()
        if "colour" in self.config.augment:
            pairs = torch.cat([diff_augment(pairs[:, :count], ("colour",)), pairs[:, count:]], dim=1)
        return diff_augment(pairs, [kind for kind in self.config.augment if kind != "colour"])

    def _nothing(self, part: str) -> Losses:
        zero = torch.stack([parameter.sum() for parameter in self.parts()[part].parameters()]).sum() * 0
        names = ["total", "score"]
        if part == "critic":
            names = ["total", "game", "real", "drawn"]
            names += ["penalty"] * bool(self.config.gradient_penalty) + ["r1"] * bool(self.config.r1)
        return dict.fromkeys(names, zero)
