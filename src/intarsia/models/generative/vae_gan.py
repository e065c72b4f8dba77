"""VAE-GAN: an autoencoder whose pictures are compared as a critic sees them, not pixel by pixel.

Larsen, Sønderby, Larochelle, Winther: Autoencoding beyond pixels using a learned similarity metric, 2016,
https://arxiv.org/abs/1512.09300

Where we differ: group normalisation (Wu, He, 2018, https://arxiv.org/abs/1803.08494) in place of batch normalisation,
so that no picture's code or score depends on its batch; 4 x 4 kernels, and leaky ReLUs in encoder and critic; as many
halvings as leave a shorter side of 8 or less (three at 64 x 64, as in the paper), and no wide layer before the codes
and the score. The generator wants its pictures to be taken for real (non-saturating), where the paper descends minus
the critic's loss. Its similarity is a mean over the critic's features, where the paper sums and takes a gamma of 1e-6
or so. Adam for RMSProp. A class is told to all three parts, and withheld now and then in training, so that a picture
of no known class can be encoded as well. Sides are padded, and cropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...losses.adversarial import critic_loss, generator_loss, gradient_norms, r1_penalty, recognised
from ...losses.variational import gaussian_kl
from ...networks.convolutional import doubling, group_norm, halving, padded
from ...records import IGNORE, Batch
from ..contract import Draws, Encodes, GenerativeConfig, Losses

SPREAD = 8.0  # the logarithm of a code's variance stays within ± this: exp(8) is far beyond what pictures ask for


class VAEGANConfig(GenerativeConfig):
    """What builds a VAE-GAN."""

    name: Literal["vae_gan"] = "vae_gan"
    condition: Literal["none", "class"] = "none"  # what is told of a picture: `classes` says how many there are
    latent: int = Field(128, ge=1)  # numbers that describe a picture
    width: int = Field(32, ge=4)  # channels at half size, doubled with each halving up to 4 times; the paper's: 64
    unconditional: float = Field(0.1, ge=0, le=1)  # share of training pictures whose class is withheld
    layer: int = Field(2, ge=0)  # of the critic, whose features are compared: 0 = at full size, each next one at half
    similarity: float = Field(10.0, ge=0)  # gamma: weight of the features' likeness beside the critic's opinion
    prior: float = Field(1.0, ge=0)  # weight of the KL to the prior in the encoder's loss; 1 = the paper's bound
    game: Literal["non_saturating", "least_squares", "hinge"] = "non_saturating"
    r1: float = Field(0.0, ge=0)  # weight of half the squared gradient norm of the critic at real pictures; 0 = none


class Encoder(nn.Module):
    """(B, inputs, H, W) to the mean and the logarithm of the variance of its code, each (B, Z), float32."""

    def __init__(self, inputs: int, widths: list[int], grid: tuple[int, int], latent: int) -> None:
        super().__init__()
        self.stride = 2 ** len(widths)
        self.layers = nn.Sequential(*(halving(a, b) for a, b in zip([inputs, *widths], widths, strict=False)))
        self.head = nn.Linear(widths[-1] * math.prod(grid), 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(padded(x, self.stride))  # B widths[-1] *grid
        mean, log_variance = self.head(x.flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-SPREAD, SPREAD)


class Generator(nn.Module):
    """(B, Z) to (B, outputs, H, W) in [0, 1]."""

    def __init__(
        self, latent: int, widths: list[int], grid: tuple[int, int], outputs: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.size = size
        before = widths[-1]
        self.spread = nn.Sequential(
            nn.Linear(latent, before * math.prod(grid)), nn.Unflatten(1, (before, *grid)), group_norm(before), nn.ReLU()
        )
        layers: list[nn.Module] = []
        for after in [*widths[-2::-1], max(widths[0] // 2, 1)]:
            layers.append(doubling(before, after))
            before = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, outputs, 5, padding=2))

    def forward(self, latent: Tensor) -> Tensor:
        x = self.layers(self.spread(latent)).float()  # B outputs H' W', multiples of 2^halvings
        return (x[:, :, : self.size[0], : self.size[1]].tanh() + 1) / 2


class Critic(nn.Module):
    """(B, inputs, H, W) in [0, 1] to a score (B,) and the features of layer `layer` (B, D), float32."""

    def __init__(self, inputs: int, widths: list[int], grid: tuple[int, int], layer: int) -> None:
        super().__init__()
        self.stride, self.layer = 2 ** len(widths), min(layer, len(widths))
        first = max(widths[0] // 2, 1)
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(inputs, first, 5, padding=2), nn.LeakyReLU(0.2))]
        layers += [halving(a, b) for a, b in zip([first, *widths], widths, strict=False)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(widths[-1] * math.prod(grid), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = padded(2 * images - 1, self.stride)
        features = x
        for number, layer in enumerate(self.layers):
            x = layer(x)  # B width H/2^number W/2^number
            if number == self.layer:
                features = x
        return self.head(x.flatten(1))[:, 0].float(), features.flatten(1).float()


class VAEGAN(Draws, Encodes):
    """An encoder, a generator that is its decoder too, and a critic (figure 1).

        image ─┬─ encoder ── N(mean, variance) ── code ──┐
               │                     noise ~ N(0, I) ────┴── generator ──┬─ image again ─┐
               │                                                         └─ drawn ───────┤
               └─────────────────────────────────────────────────────────────────────────┴─ critic ──► score
                                                                                               └─ features at `layer`

        encoder    descends  prior + likeness                    likeness = |features - features again|^2 / 2
        generator  descends  similarity * likeness + game        game: image again and drawn want to be taken for real
        critic     descends  game                                which of image, image again and drawn is real

    A class is told as a one-hot vector beside the code, and as planes beside the pictures; nobody's class as zeros.
    Pictures of another size than the model's are scaled to it, and reconstructions back.
    """

    Config = VAEGANConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adam",
        "train.learning_rate": 2e-4,
        "train.betas": [0.5, 0.999],
        "train.weight_decay": 0.0,
        "train.clip": 0.0,
        "train.average": 0.999,
        "train.batch": 64,
    }
    config: VAEGANConfig

    def __init__(self, config: VAEGANConfig) -> None:
        super().__init__(config)
        if config.condition == "class" and not config.classes:
            raise UsageError(
                'a vae_gan with condition = "class" is told the class of each picture, but model.classes is 0; give '
                'their number, or a folder with one subfolder for each class, or choose condition = "none".'
            )
        self.told = config.classes if config.condition == "class" else 0
        self.latent_shape = (config.latent,)
        halvings = max(1, math.ceil(math.log2(min(config.size) / 8)))
        widths = [config.width * min(2**level, 4) for level in range(halvings)]
        height, width = (-(-side // 2**halvings) for side in config.size)
        grid = (height, width)
        inputs = config.channels + self.told
        self.encoder = Encoder(inputs, widths, grid, config.latent)
        self.generator = Generator(config.latent + self.told, widths, grid, config.channels, config.size)
        self.critic = Critic(inputs, widths, grid, config.layer)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "generator": self.generator, "critic": self.critic}

    def turns(self) -> tuple[str, ...]:
        return ("critic", "encoder", "generator")

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._generated(latent, self._told(condition, len(latent), latent.device))

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._encoded(images, self._told(condition, len(images), images.device))[0]

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self(latent, condition)  # type: ignore[no-any-return]

    def reconstruct(self, images: Tensor) -> Tensor:
        nobodys = torch.full((len(images),), IGNORE, device=images.device)
        told = self._told(nobodys if self.told else None, len(images), images.device)
        again = self._generated(self._encoded(images, told)[0], told)
        return _scaled(again, (images.shape[2], images.shape[3]))

    def loss(self, batch: Batch, part: str = "generator") -> Losses:
        images = _scaled(batch.images, self.config.size)
        told = self._told(batch.categories if self.told else None, len(images), images.device)
        if self.training and self.told:
            told = told * (torch.rand(len(told), 1, device=told.device) >= self.config.unconditional)
        if part == "encoder":
            mean, log_variance = self._encoded(images, told)
            again = self._generated(_drawn_code(mean, log_variance), told)
            prior = gaussian_kl(mean, log_variance).sum(dim=1).mean()  # equation 3
            likeness = self._likeness(images, again, told).sum(dim=1).mean()  # equation 7, without its constant
            return {"total": self.config.prior * prior + likeness, "prior": prior, "likeness": likeness}

        with torch.no_grad():
            code = _drawn_code(*self._encoded(images, told))
        codes, twice = torch.cat([code, torch.randn_like(code)]), torch.cat([told, told])
        if part == "critic":
            with torch.no_grad():
                drawn = self._generated(codes, twice)
            real_score, drawn_score = self._judged(images, told)[0], self._judged(drawn, twice)[0]
            total = critic_loss(self.config.game, real_score, drawn_score)  # equation 8
            scores = {"real": real_score.mean(), "drawn": drawn_score.mean()}
            if not self.config.r1:
                return {"total": total, **scores}
            penalty = r1_penalty(lambda x: self._judged(x, told)[0], images)
            return {"total": total + self.config.r1 * penalty, **scores, "r1": penalty}

        drawn = self._generated(codes, twice)
        likeness = self._likeness(images, drawn[: len(images)], told).mean()
        adversarial = generator_loss(self.config.game, self._judged(drawn, twice)[0])
        total = self.config.similarity * likeness + adversarial  # algorithm 1: gamma L_llike - L_GAN
        return {"total": total, "adversarial": adversarial, "likeness": likeness}

    @torch.no_grad()
    def health(self, batch: Batch) -> dict[str, Tensor]:
        images = _scaled(batch.images, self.config.size)
        told = self._told(batch.categories if self.told else None, len(images), images.device)
        mean, log_variance = self._encoded(images, told)
        drawn = self._generated(torch.randn_like(mean), told)
        real, recognised_drawn = recognised(
            self.config.game, self._judged(images, told)[0], self._judged(drawn, told)[0]
        )
        slopes = gradient_norms(lambda x: self._judged(x, told)[0], drawn)
        return {
            "kl_dimensions": gaussian_kl(mean, log_variance).sum(dim=0),
            "means_sum": mean.sum(dim=0),
            "means_square_sum": mean.square().sum(dim=0),
            "critic_real": real,
            "critic_fake": recognised_drawn,
            "critic_gradient": slopes.mean(),
        }

    def _told(self, condition: Tensor | None, count: int, device: torch.device) -> Tensor:
        """(B, K) float32 one-hot of the pictures' classes, zeros for IGNORE; (B, 0) where the model is told nothing."""
        if not self.told:
            return torch.zeros(count, 0, device=device)
        if condition is None:
            raise UsageError(
                f"this vae_gan is told the class of each picture, a number from 0 to {self.told - 1}, but got none; "
                "give one for each picture."
            )
        return (condition[:, None] == torch.arange(self.told, device=device)).float()

    def _encoded(self, images: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(_with_planes(2 * _scaled(images, self.config.size) - 1, told))
        return mean, log_variance

    def _generated(self, latent: Tensor, told: Tensor) -> Tensor:
        return self.generator(torch.cat([latent, told], dim=1))  # type: ignore[no-any-return]

    def _judged(self, images: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        score, features = self.critic(_with_planes(images, told))
        return score, features

    def _likeness(self, images: Tensor, again: Tensor, told: Tensor) -> Tensor:
        """(B, D) nats, without its constant: minus the log-density of each feature about the one it should be."""
        with torch.no_grad():
            wanted = self._judged(images, told)[1]
        return (self._judged(again, told)[1] - wanted).square() / 2


def _drawn_code(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def _with_planes(images: Tensor, told: Tensor) -> Tensor:
    """(B, C + K, H, W): each number that is told as a plane of its own."""
    if not told.shape[1]:
        return images
    return torch.cat([images, told[:, :, None, None].expand(-1, -1, *images.shape[2:])], dim=1)


def _scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    if (images.shape[2], images.shape[3]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
