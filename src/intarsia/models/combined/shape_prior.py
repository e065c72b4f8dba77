"""A segmenter beside a variational autoencoder of masks, which knows what shapes there are and mends answers.

Kingma, Welling: Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114
Oktay et al.: Anatomically Constrained Neural Networks (ACNN), 2018, https://arxiv.org/abs/1705.08302
Larrazabal, Martinez, Glocker, Ferrante: Post-DAE: Anatomically Plausible Segmentation via Post-Processing with
Denoising Autoencoders, 2020, https://arxiv.org/abs/2006.13791

Where we differ: ACNN compares codes of answer and truth, so that it needs the truth; here the answer for an unlabelled
picture is compared with the nearest mask that the prior knows, its own reconstruction, as Post-DAE mends it, but while
training. The prior is variational, so that it draws masks too. It is trained beside the segmenter, not before it, on
masks that are damaged on the way in (regions of other masks, softened), and is listened to only as far as it gives true
masks back faithfully: a prior that loses what is rare or thin would teach the segmenter to lose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...losses.variational import gaussian_kl
from ...networks.views import boxes
from ...records import IGNORE, Batch
from ..contract import Losses
from ..generative.vae import Decoder, Encoder, VAEConfig
from .combination import Combination, CombinationConfig, with_mask

Side = Annotated[int, Field(ge=8)]
LEAST = 1e-6  # probability, below which a logarithm is cut off
SOFTEST = 0.5  # most of a damaged mask that is spread over all classes
START = 0.75  # the prior's faithfulness before any was measured


class ShapePriorConfig(CombinationConfig):
    """What builds a segmenter with a shape prior."""

    name: Literal["shape_prior"] = "shape_prior"
    mask_size: tuple[Side, Side] = (64, 64)  # height and width of what the prior sees, pixels; crops are scaled to it
    latent: int = Field(32, ge=1)  # Z, numbers that describe a mask
    width: int = Field(16, ge=1)  # the prior's channels at half size, doubled with each halving up to 4 times
    beta: float = Field(1.0, ge=0)  # weight of the divergence from N(0, I); 1 = a bound of the masks' likelihood
    damage: float = Field(0.5, ge=0, le=1)  # probability that a mask is damaged before the prior sees it; 0 = never
    shape: float = Field(0.1, ge=0)  # weight of what the prior says beside what the masks say; 0 = none
    warmup: float = Field(0.3, ge=0, le=1)  # share of the training over which that weight rises from 0
    faithful: float = Field(
        0.5, ge=0, lt=1
    )  # mean IoU of its reconstructions from which it is heard; half-way to 1, all
    memory: float = Field(0.98, ge=0, lt=1)  # of that IoU's running mean, a step: 0.98 = about 50 steps


class MaskVAE(nn.Module):
    """A distribution of masks of one size (h, w), as planes (B, K, h, w) in [0, 1].

        planes ── Encoder ──► mean, log variance (B, Z) ──► z = mean + deviation * noise
                                                            │
        softmax, or sigmoids where classes overlap ◄─ logits ◄─ Decoder

    Encoder and Decoder are those of the VAE of pictures (models/generative/vae.py).
    """

    def __init__(self, config: ShapePriorConfig) -> None:
        super().__init__()
        self.size, self.latent, self.overlapping = config.mask_size, config.latent, config.overlapping
        halvings = max(1, int(math.log2(min(config.mask_size) / 4)))
        widths = [config.width * min(2**level, 4) for level in range(halvings)]
        grid = (-(-config.mask_size[0] // 2**halvings), -(-config.mask_size[1] // 2**halvings))
        body = VAEConfig(
            channels=config.classes, size=config.mask_size, latent=config.latent, width=config.width, residual=0,
            features=8 * config.width,
        )  # fmt: skip
        self.encoder = Encoder(body, 0, widths, grid)
        self.decoder = Decoder(body, 0, widths, grid)

    def encode(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, each (B, Z)."""
        mean, log_variance = self.encoder(planes, planes.new_zeros(len(planes), 0))
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Logits (B, K, h, w) for latents (B, Z)."""
        return self.decoder(z, z.new_zeros(len(z), 0))  # type: ignore[no-any-return]

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.overlapping else logits.softmax(dim=1)

    def reduced(self, planes: Tensor) -> Tensor:
        """Planes (B, K, H, W) at the prior's size, each pixel the mean of those it covers: (B, K, h, w)."""
        return F.adaptive_avg_pool2d(planes.float(), self.size)


class ShapePrior(Combination):
    """A segmenter, and a prior of masks that mends its answers.

        labelled ─────── segmenter ──► criterion ◄── masks ── damaged ── prior ──► bound of their likelihood
        unlabelled ───── segmenter ──┬─────────────────────► divergence at the prior's size
                                     └── prior ── mended ────┘ no gradient

    prior      descends  (beta * KL(q(z | damaged) || N(0, I)) - log p(mask | z)) / pixels
    segmenter  descends  criterion + shape * heard * trusted * KL(answer || mended)
    """

    Config = ShapePriorConfig
    learns_from_unlabelled = True
    config: ShapePriorConfig
    faithfulness: Tensor  # () running mean IoU of the prior's reconstructions of true masks
    progress: Tensor  # () share of the training done

    def __init__(self, config: ShapePriorConfig) -> None:
        super().__init__(config)
        self.prior = MaskVAE(config)
        self.register_buffer("faithfulness", torch.tensor(START))
        self.register_buffer("progress", torch.zeros(()))

    def parts(self) -> dict[str, nn.Module]:
        return {"prior": self.prior, "segmenter": self.segmenter}

    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)

    @property
    def heard(self) -> Tensor:
        """() in (0, 1]: the soft rise of the prior's weight, exp(-5 (1 - t)^2) (Laine, Aila, 2017)."""
        if not self.config.warmup:
            return torch.ones_like(self.progress)
        rest = 1 - (self.progress / self.config.warmup).clamp(max=1)
        return torch.exp(-5 * rest.square())

    @property
    def trusted(self) -> Tensor:
        """() in [0, 1]: how far the prior gives true masks back."""
        least = self.config.faithful
        return ((self.faithfulness - least) / (0.5 * (1 - least))).clamp(0, 1)

    def loss(self, batch: Batch, part: str = "segmenter") -> Losses:
        """prior: `total` in nats a pixel; `reconstruction` and `kl`, nats a mask; `iou`, the mean over classes of its
        reconstructions. segmenter: the terms of `supervised`; `shape`, the divergence in nats a pixel, of the
        unlabelled pictures, or of all where all are labelled; `trusted`."""
        return self._learning(batch) if part == "prior" else self._segmenting(batch)

    @torch.no_grad()
    def corrected(self, probabilities: Tensor) -> Tensor:
        """The mask that the prior knows nearest to an answer (B, K, H, W), as probabilities at its size. It is blurred
        to the prior's own size: right about shapes, not about outlines."""
        mended = self._mended(self.prior.reduced(probabilities))
        size = (probabilities.shape[2], probabilities.shape[3])
        return F.interpolate(mended, size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def draw_masks(self, count: int, generators: Sequence[torch.Generator], temperature: float = 1.0) -> Tensor:
        """New masks at the prior's size: classes (count, h, w) int64 on the CPU, or where classes overlap (count, K, h,
        w) of 0 and 1, each pixel its likeliest.

        generators: one a mask, on the CPU: a mask does not depend on the others. temperature: >= 0, of the latents,
        N(0, temperature^2); below 1 more usual shapes, 0 the most usual one. UsageError where numbers differ.
        """
        if len(generators) != count or temperature < 0:
            raise UsageError(
                f"{count} masks were asked for with {len(generators)} generators at temperature {temperature:g}; "
                "give a generator for each mask, and a temperature of 0 or more."
            )
        device = self.progress.device
        masks = []
        for generator in generators:  # one by one: sums are rounded by how many go through the network together
            z = temperature * torch.randn(1, self.prior.latent, generator=generator).to(device)
            logits = self.prior.decode(z)  # 1 K h w
            masks.append((logits > 0).long() if self.overlapping else logits.argmax(dim=1))
        if not masks:
            planes = (self.config.classes,) if self.overlapping else ()
            return torch.zeros(0, *planes, *self.prior.size, dtype=torch.int64)
        return torch.cat(masks).cpu()

    def planes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """At the prior's size: each class's share of a pixel (B, K, h, w), and the share of it that is labelled,
        (B, 1, h, w), or for each class by itself where classes overlap; both in [0, 1]."""
        if self.overlapping:
            assert batch.labels is not None
            return self.prior.reduced(batch.labels == 1), self.prior.reduced(batch.labels != IGNORE)
        assert batch.masks is not None
        classes = torch.arange(self.config.classes, device=batch.masks.device).view(1, -1, 1, 1)
        shares = self.prior.reduced(batch.masks[:, None] == classes)
        return shares, shares.sum(dim=1, keepdim=True)

    def damaged(self, planes: Tensor) -> Tensor:
        """The planes (B, K, h, w), some with a rectangle of another mask and some softened, as answers are."""
        count, (height, width), share = len(planes), planes.shape[2:], self.config.damage
        others = planes.roll(1, 0) if count > 1 else planes.flip(3)
        x = torch.where(boxes(count, height, width, share, planes.device), others, planes)
        drawn = torch.rand(2, count, 1, 1, 1, device=planes.device)
        return x.lerp(torch.full_like(x, self._uniform), SOFTEST * drawn[0] * (drawn[1] < share))

    @property
    def _uniform(self) -> float:
        """The probability of a class about which nothing is known."""
        return 0.5 if self.overlapping else 1 / self.config.classes

    def _learning(self, batch: Batch) -> Losses:
        known = with_mask(batch)
        if not known.any():
            zero = self.nothing()
            return {"total": zero, "reconstruction": zero, "kl": zero, "iou": self.faithfulness.clone()}
        shares, certain = self.planes(batch.select(known))
        seen = shares + (1 - certain) * self._uniform
        mean, log_variance = self.prior.encode(self.damaged(seen) if self.training else seen)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.prior.decode(z)  # B K h w
        if self.overlapping:  # Bernoulli
            surprise = shares * F.softplus(-logits) + (certain - shares) * F.softplus(logits)
        else:  # categorical
            surprise = -shares * logits.log_softmax(dim=1)
        reconstruction = surprise.sum(dim=(1, 2, 3)).mean()
        kl = gaussian_kl(mean, log_variance).sum(dim=1).mean()
        total = (reconstruction + self.config.beta * kl) / math.prod(self.prior.size)
        iou = self._iou(logits.detach(), shares, certain)
        if self.training:
            self.faithfulness.lerp_(iou, 1 - self.config.memory)
        return {"total": total, "reconstruction": reconstruction, "kl": kl, "iou": iou}

    def _segmenting(self, batch: Batch) -> Losses:
        known = with_mask(batch)
        others = torch.ones_like(known) if known.all() else ~known
        logits = self.logits(batch.images, auxiliary=True)
        supervised = self.judged(logits, batch)
        answer = self.prior.reduced(self.prior.probabilities(logits[0][others].float()))  # B K h w
        shape = self._divergence(answer, self._mended(answer.detach()))
        trusted = self.trusted
        total = supervised["total"] + self.config.shape * self.heard * trusted * shape
        return {**supervised, "shape": shape, "trusted": trusted, "total": total}

    @torch.no_grad()
    def _mended(self, planes: Tensor) -> Tensor:
        """The prior's reconstruction (B, K, h, w) of planes of its size, without chance."""
        mean, _ = self.prior.encode(planes)
        return self.prior.probabilities(self.prior.decode(mean))

    def _divergence(self, answer: Tensor, mended: Tensor) -> Tensor:
        """KL(answer || mended), nats a pixel, where classes overlap a pixel and class; both (B, K, h, w)."""
        answer, mended = answer.clamp(LEAST, 1 - LEAST), mended.clamp(LEAST, 1 - LEAST)
        yes = answer * (answer.log() - mended.log())
        if not self.overlapping:
            return yes.sum(dim=1).mean()
        return (yes + (1 - answer) * ((1 - answer).log() - (1 - mended).log())).mean()

    def _iou(self, logits: Tensor, shares: Tensor, certain: Tensor) -> Tensor:
        """() the mean IoU over the classes that the masks show; pixels mostly unlabelled are left out."""
        if self.overlapping:
            said, true, counted = logits > 0, shares > 0.5 * certain, certain > 0.5
        else:
            classes = torch.arange(shares.shape[1], device=shares.device).view(1, -1, 1, 1)
            said, true = (x.argmax(dim=1, keepdim=True) == classes for x in (logits, shares))
            counted = certain > 0.5
        said, true = said & counted, true & counted
        both, either, there = (x.sum(dim=(0, 2, 3)) for x in (said & true, said | true, true))
        shown = there > 0
        if not shown.any():
            return self.faithfulness.clone()
        return (both[shown] / either[shown]).mean()
