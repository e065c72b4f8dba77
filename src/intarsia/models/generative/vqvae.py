"""VQ-VAE: pictures as maps of code numbers.

van den Oord, Vinyals, Kavukcuoglu: Neural Discrete Representation Learning, 2017, https://arxiv.org/abs/1711.00937
Zeghidour et al.: SoundStream, 2021, https://arxiv.org/abs/2107.03312 (residual quantizers, quantizer dropout)
Lee et al.: Autoregressive Image Generation using Residual Quantization, 2022, https://arxiv.org/abs/2203.01941
Reed et al.: Parallel Multiscale Autoregressive Density Estimation, 2017, https://arxiv.org/abs/1703.03664

Where we differ: several codebooks, each of which codes what those before it left over, and a random number of them
in training, so that one model serves several rates. Codebooks follow moving averages (the 2017 paper's appendix A), and
codes that are hardly used are put onto vectors of the batch that are badly served. The commitment is measured against
the latent's own size, else shrinking the latent would lower it. Beside encoder and decoder runs a linear map that
begins as the cosine transform of blocks and its inverse: training begins with a usable code. No normalisation layers,
so that what is computed at a place depends on its surroundings only, and a large picture can be done in parts. Instead
of a PixelCNN, which takes one network call a code, the prior fills the map from coarse to fine: a call gives all codes
of a group of places, independent of each other given the groups before. Its logits are base 2 and it knows only
convolution and ReLU: it can be computed in whole numbers, as `inference.compression` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...records import Batch
from ..contract import Draws, Encodes, GenerativeConfig, Losses
from .coarse_to_fine import ODD, Group, groups, visible
from .quantizer import Quantizer

NATURAL_VARIANCE = 0.05  # of pixels in [0, 1], roughly: brings squared errors to the order of 1


class VQVAEConfig(GenerativeConfig):
    """What builds a VQ-VAE."""

    name: Literal["vqvae"] = "vqvae"
    width: int = Field(96, ge=2)  # channels at the coarsest size, half of them at a quarter of the picture's size
    halvings: int = Field(3, ge=2, le=5)  # of the sides: a code stands for 2^halvings x 2^halvings pixels
    blocks: int = Field(2, ge=0)  # residual blocks at each size
    latent: int = Field(48, ge=1)  # length of a code's vector
    codes: int = Field(256, ge=2, le=4096)  # K: in each codebook
    quantizers: int = Field(8, ge=1, le=64)  # L: codebooks, each for what those before it left over
    dropout: float = Field(0.75, ge=0, le=1)  # share of training pictures coded with fewer codebooks than there are
    reconstruction: Literal["l1", "l2", "charbonnier"] = "l2"
    structure: float = Field(0.1, ge=0)  # weight of 1 - SSIM, the mean of three sizes; 0 = none
    commitment: float = Field(0.25, ge=0)  # beta: pull of the encoder towards the codes (equation 3)
    decay: float = Field(0.97, ge=0, lt=1)  # of the codebooks' moving averages
    revive: float = Field(0.05, ge=0, lt=1)  # a code used less than this share of the average is moved; 0 = never
    prior_width: int = Field(64, ge=1, le=256)  # channels of the prior
    prior_blocks: int = Field(3, ge=0)  # residual blocks of the prior


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))); the last convolution begins small, so that a deep stack begins as nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=0.1 / math.sqrt(9 * width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def residuals(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(count)))


class Beside(nn.Module):
    """linear(x) + network(x)."""

    def __init__(self, linear: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.linear, self.network = linear, network

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.network(x)


def block_cosines(count: int, channels: int, side: int) -> Tensor:
    """(count, channels, side, side): orthonormal cosine waves of a block, slow ones first; the mean of the channels
    before their differences, which the eye and pictures have less of. Zeros where there are no more."""
    along, across = cosines(side), cosines(channels)
    waves = [(math.hypot(u, v) + 3 * (c > 0), c, u, v) for c, u, v in product(range(channels), *2 * [range(side)])]
    basis = torch.zeros(count, channels, side, side)
    for i, (_, c, u, v) in enumerate(sorted(waves)[:count]):
        basis[i] = across[c][:, None, None] * along[u][:, None] * along[v]
    return basis


def cosines(count: int) -> Tensor:
    """(count, count) the orthonormal discrete cosine transform, a wave a row, slow ones first."""
    place = torch.arange(count)
    waves = torch.cos(math.pi / count * place[:, None] * (place + 0.5)) * math.sqrt(2 / count)
    waves[0] = 1 / math.sqrt(count)
    return waves


class Autoencoder(nn.Module):
    """Pictures in [-1, 1], sides multiples of the stride, to latents and back."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        half, width, pixels = max(config.width // 2, 1), config.width, 16 * config.channels
        halvings = config.halvings - 2
        down: list[nn.Module] = [nn.PixelUnshuffle(4), nn.Conv2d(pixels, half, 3, padding=1)]
        down += [residuals(half, config.blocks)]
        up: list[nn.Module] = [nn.Conv2d(config.latent, width if halvings else half, 3, padding=1)]
        for i in range(halvings):
            down += [nn.Conv2d(width if i else half, width, 2, stride=2), residuals(width, config.blocks)]
            after = half if i == halvings - 1 else width
            up += [residuals(width, config.blocks), nn.Conv2d(width, 4 * after, 1), nn.PixelShuffle(2)]
        down += [nn.ReLU(), nn.Conv2d(width if halvings else half, config.latent, 1)]
        up += [residuals(half, config.blocks), nn.ReLU(), nn.Conv2d(half, pixels, 3, padding=1), nn.PixelShuffle(4)]
        basis = block_cosines(config.latent, config.channels, 2**config.halvings)
        to, back = (
            kind(*ends, 2**config.halvings, 2**config.halvings, bias=False)
            for kind, ends in (
                (nn.Conv2d, (config.channels, config.latent)),
                (nn.ConvTranspose2d, (config.latent, config.channels)),
            )
        )
        to.weight.data.copy_(basis / 2**config.halvings)  # a grey block has a latent of about its grey
        back.weight.data.copy_(basis * 2**config.halvings)
        for last in (down[-1], up[-2]):  # the networks begin as nothing
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        self.encoder, self.decoder = Beside(to, nn.Sequential(*down)), Beside(back, nn.Sequential(*up))
        self.quantizer = Quantizer(config.quantizers, config.codes, config.latent, config.decay, config.revive)


class Prior(nn.Module):
    """Logits (base 2) of the codes of a group of places, from the codes of all groups before."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        levels, codes, width = config.quantizers, config.codes, config.prior_width
        coarsest = max(-(-side // 2**config.halvings) for side in config.size) - 1
        self.scales = max(coarsest.bit_length(), 1)  # coarser ones, of larger pictures, are treated as the coarsest

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) / math.sqrt(width))

        self.seen = table(levels, codes, width)  # a code at a place known
        self.known = table(width)  # that a place is known
        self.where = table(self.scales + 1, 4, width)  # scale and kind of the group; the last scale: the first place
        self.depth = table(levels, width)  # how many levels there are
        self.trunk = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), residuals(width, config.prior_blocks), nn.ReLU()
        )
        self.below = table(levels, codes, width)  # a code of a lower level at the same place
        self.hidden = nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in range(levels))
        self.scores = nn.ModuleList(nn.Conv2d(2 * width, codes, 1) for _ in range(levels))

    def sight(self, codes: Tensor, counts: Tensor) -> Tensor:
        """(B, width, h, w): what is seen at places with codes (B, n, h, w), of which each picture has `counts` (B,)."""
        total = self.known.expand(*codes[:, 0].shape, -1)
        for level in range(codes.shape[1]):
            there = (counts > level)[:, None, None, None]
            total = total + there * self.seen[level][codes[:, level]]
        return total.movedim(-1, 1)

    def context(self, sight: Tensor, group: Group, counts: Tensor) -> Tensor:
        """(B, width, a, b): what is known at the places of a group, from the whole map's `sight`, of which only the
        groups before are looked at. counts (B,): how many levels the pictures have."""
        seen = sight[..., :: 2**group.scale, :: 2**group.scale]
        seen = seen * visible(group.kind, seen.shape[2], seen.shape[3]).to(seen)
        scale = self.scales if group.kind == 0 else min(group.scale, self.scales - 1)
        situation = self.where[scale, group.kind] + self.depth[counts - 1]
        context = self.trunk(seen + situation[:, :, None, None])
        top, left = ODD[group.kind]
        return context[..., top::2, left::2]

    def logits(self, context: Tensor, level: int) -> Tensor:
        """(B, K, a, b) for a level; `context` has had `below` of each lower level added."""
        return self.scores[level](F.relu(self.hidden[level](context)))

    def bits(self, codes: Tensor, counts: Tensor) -> Tensor:
        """(L,): mean number of bits that a code takes at each level, for codes (B, L, h, w), where the first `counts`
        (B,) levels are known of the groups before."""
        sight = self.sight(codes, counts)
        contexts, truths = [], []
        for group in groups(codes.shape[2], codes.shape[3]):
            contexts.append(self.context(sight, group, counts).flatten(2))  # B width places
            truths.append(codes[..., group.top :: group.step, group.left :: group.step].flatten(2))
        context, truth = torch.cat(contexts, 2)[..., None], torch.cat(truths, 2)  # B width hw 1, B L hw
        bits = []
        for level in range(codes.shape[1]):
            logits = self.logits(context, level).float()[..., 0]  # B K hw
            bits.append(F.cross_entropy(logits * math.log(2), truth[:, level]) / math.log(2))
            context = context + self.below[level][truth[:, level]].movedim(-1, 1)[..., None]
        return torch.stack(bits)

    def draw(self, uniform: Tensor) -> Tensor:
        """(B, L, h, w) int64 codes for numbers in [0, 1], by the inverse of the cumulative probabilities."""
        codes = torch.zeros_like(uniform, dtype=torch.int64)
        counts = torch.full((len(uniform),), uniform.shape[1], device=uniform.device)
        for group in groups(uniform.shape[2], uniform.shape[3]):
            context = self.context(self.sight(codes, counts), group, counts)
            rows, columns = slice(group.top, None, group.step), slice(group.left, None, group.step)
            for level in range(codes.shape[1]):
                chances = (self.logits(context, level).float() * math.log(2)).softmax(1).cumsum(1)
                below = chances < uniform[:, level : level + 1, rows, columns]
                code = below.sum(1).clamp(max=chances.shape[1] - 1)
                codes[:, level, rows, columns] = code
                context = context + self.below[level][code].movedim(-1, 1)
        return codes


class VQVAE(Draws, Encodes):
    """A picture as L code numbers a place, and a picture for every such map.

        images (B, C, H, W), padded to multiples of the stride 2^halvings
        │
        encoder   linear: block cosines ─────────────────────────────────────────────── +
        │         network: 4x4 pixels to channels ─ conv ─ blocks ─ halved ─ blocks ─ … ─ conv 1x1
        │
        z (B, D, h, w)
        │
        quantizer  level 1: nearest code to z ─ level 2: to what is left ─ … level L
        │                         │                        │
        │ sum of their vectors    └── codes (B, L, h, w) ──┴──► prior: groups of places, coarse to fine;
        │                                                       at a place level by level
        decoder   linear: block cosines ─────────────────────────────────────────── +
                  network: conv ─ blocks ─ doubled ─ blocks ─ … ─ conv, channels to 4x4 pixels ──► (B, C, H, W)

    The latent of `encode` is the map of summed code vectors. `decode` does not quantise again: between two pictures'
    latents lie mixtures that no code stands for, and the way is smooth. The parts are trained at once: the prior learns
    the codes as they are at the step, and gives no gradient to them.
    """

    Config = VQVAEConfig
    config: VQVAEConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adam",
        "train.learning_rate": 1e-3,
        "train.weight_decay": 0.0,
        "train.clip": 1.0,
        "train.average": 0.995,
        "data.whole": False,  # any size goes through it: it learns from pieces at the pictures' own resolution
    }

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config)
        self.stride = 2**config.halvings
        self.autoencoder = Autoencoder(config)
        self.prior = Prior(config)
        self.latent_shape = (config.quantizers, *(-(-side // self.stride) for side in config.size))
        #: how far, in pixels, what is computed at a place looks: 3x3 convolutions at a size, times that size
        reach = sum(2**i * (2 + 2 * config.blocks) for i in range(2, config.halvings + 1))
        self.halo = -(-reach // self.stride) * self.stride

    def parts(self) -> dict[str, nn.Module]:
        return {"autoencoder": self.autoencoder, "prior": self.prior}

    def loss(self, batch: Batch, part: str = "autoencoder") -> Losses:
        """autoencoder: `reconstruction`, `commitment` and `structure`; prior: bits of a code at each level."""
        if part == "prior":
            bits = self.prior.bits(self.codes(batch.images), self._counts(batch.images))
            return {"total": bits.mean(), "bits_first": bits[0].detach(), "bits_last": bits[-1].detach()}
        z = self.latents(batch.images)  # B D h w
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            counts = self._counts(batch.images)
            each = counts[:, None].expand(-1, z.shape[2] * z.shape[3]).reshape(-1)
            quantised, error = self.autoencoder.quantizer.learn(_rows(z), each)
            straight = z + (_map(quantised, z) - z).detach()  # gradients pass as if nothing had been rounded
        again = self.pictures(straight)[..., : batch.images.shape[2], : batch.images.shape[3]]
        with torch.autocast(z.device.type, enabled=False):
            again, images = again.float(), batch.images.float()
            terms = {
                "reconstruction": _difference(again - images, self.config.reconstruction),
                "commitment": self.config.commitment * error,
            }
            if self.config.structure:
                terms["structure"] = self.config.structure * (1 - _structure(again, images))
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Noise (B, L, h, w) is made uniform by the normal distribution's function, then codes by the prior's."""
        uniform = torch.special.ndtr(latent.float())
        return self.decode(self.embedding(self.prior.draw(uniform)))

    def latents(self, images: Tensor) -> Tensor:
        """(B, D, h, w) before any rounding; sides are padded to multiples of the stride by repeating the edge."""
        x = 2 * images - 1
        below, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        return self.autoencoder.encoder(x)

    @torch.no_grad()
    def codes(self, images: Tensor, quantizers: int | None = None) -> Tensor:
        """(B, quantizers, h, w) int64 in [0, K); None: of all levels."""
        z = self.latents(images)
        with torch.autocast(z.device.type, enabled=False):
            rows = self.autoencoder.quantizer.codes(_rows(z.float()), quantizers or self.config.quantizers)
        return rows.view(len(z), z.shape[2], z.shape[3], -1).movedim(-1, 1)

    def embedding(self, codes: Tensor) -> Tensor:
        """(B, D, h, w): the latent that codes (B, n, h, w) stand for."""
        rows = self.autoencoder.quantizer.vectors(_rows(codes))
        return rows.view(len(codes), codes.shape[2], codes.shape[3], -1).movedim(-1, 1)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.embedding(self.codes(images))

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """A latent of the size that belongs to `config.size` gives pictures of that size; another one h x w gives
        pictures of h and w times the stride."""
        own = self.latent_shape[1:] == tuple(latent.shape[2:])
        height, width = self.config.size if own else (side * self.stride for side in latent.shape[2:])
        return self.pictures(latent)[..., :height, :width].clamp(0, 1)

    def reconstruct(self, images: Tensor, quantizers: int | None = None) -> Tensor:
        latent = self.embedding(self.codes(images, quantizers))
        return self.pictures(latent)[..., : images.shape[2], : images.shape[3]].clamp(0, 1)

    def health(self, batch: Batch) -> dict[str, Tensor]:
        """codes (L * K,): of all levels, one level after the other."""
        codes, count = self.codes(batch.images), self.config.codes
        levels = [torch.bincount(codes[:, i].flatten(), minlength=count) for i in range(codes.shape[1])]
        return {"codes": torch.cat(levels).float()}

    def pictures(self, latent: Tensor) -> Tensor:
        """(B, C, stride h, stride w) of latents (B, D, h, w), in [0, 1] but for what overshoots."""
        return (self.autoencoder.decoder(latent) + 1) / 2

    def _counts(self, images: Tensor) -> Tensor:
        """(B,) how many levels each picture is coded with: all of them, in training often fewer."""
        levels, count = self.config.quantizers, len(images)
        whole = torch.full((count,), levels)
        if self.training:
            fewer = torch.rand(count) < self.config.dropout
            whole = torch.where(fewer, torch.randint(1, levels + 1, (count,)), whole)
        return whole.to(images.device)


def _rows(x: Tensor) -> Tensor:
    """(B h w, D) of (B, D, h, w)."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _map(rows: Tensor, like: Tensor) -> Tensor:
    """(B, D, h, w), as `like`, of (B h w, D)."""
    return rows.view(len(like), like.shape[2], like.shape[3], -1).movedim(-1, 1)


def _difference(error: Tensor, kind: str) -> Tensor:
    if kind == "l1":
        return error.abs().mean() / math.sqrt(NATURAL_VARIANCE)
    if kind == "charbonnier":
        return (error.square() + 1e-6).sqrt().mean() / math.sqrt(NATURAL_VARIANCE)
    return error.square().mean() / NATURAL_VARIANCE


def _structure(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004, equation 13) in 7x7 windows of equal weight, the mean of three sizes
    as far as the pictures are large enough."""
    scores = []
    for _ in range(3):
        window = min(7, x.shape[2], x.shape[3])
        rows = F.avg_pool2d(torch.cat([x, y, x * x + y * y, x * y]), (window, 1), stride=1)
        a, b, squares, products = F.avg_pool2d(rows, (1, window), stride=1).chunk(4)
        covariance, spread = products - a * b, squares - a * a - b * b
        luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
        scores.append((luminance * (2 * covariance + 9e-4) / (spread + 9e-4)).mean())
        if min(x.shape[2:]) < 4:
            break
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return torch.stack(scores).mean()
