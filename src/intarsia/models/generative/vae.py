"""Variational autoencoder, dense or convolutional.

Kingma, Welling: Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114
Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders, 2016, https://arxiv.org/abs/1509.00519 (objective, and
the dense networks: 784-200-200-50, tanh)
Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2017, https://arxiv.org/abs/1605.08803 (prior "flow")
Tucker et al.: Doubly Reparameterized Gradient Estimators, 2019, https://arxiv.org/abs/1810.04152 (`doubly`)

Where we differ: the convolutional networks are ours, plain strided ones with pre-activated residual blocks and without
normalisation. Gaussian likelihoods have one learned variance, or one a channel, not one a pixel, and are of dequantised
pictures, so that their bound is of 256 levels. The flow is between the noise and what the decoder reads: outside, a
latent is always that noise, N(0, I) a priori, whatever the prior. Its couplings are affine with a bounded scale,
without batch normalisation.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...errors import DataError, UsageError
from ...losses.variational import (
    bernoulli_log_likelihood,
    free_bits,
    gaussian_kl,
    gaussian_log_density,
    gaussian_log_likelihood,
    importance_bound,
    logistic_log_likelihood,
)
from ...networks.flow import Flow
from ...records import Batch
from ..contract import Bounded, Draws, Encodes, GenerativeConfig, Losses

SPREAD = 10.0  # the logarithm of a posterior's variance stays within ± this
VALUES = 2**20  # pixel values that are decoded at once where no gradient is kept: what fits into a cache


class VAEConfig(GenerativeConfig):
    """What builds a variational autoencoder."""

    name: Literal["vae"] = "vae"
    body: Literal["conv", "dense"] = "conv"
    latent: int = Field(64, ge=1)  # Z, numbers that describe a picture
    condition: Literal["none", "class"] = "none"  # what encoder and decoder are told; `classes` says how many there are

    hidden: tuple[int, ...] = (200, 200)  # "dense": widths from picture to latent, the decoder's reversed; () = linear
    activation: Literal["tanh", "relu", "silu"] = "silu"
    width: int = Field(32, ge=1)  # "conv": channels at half size, doubled with each halving up to 4 times
    halvings: int = Field(0, ge=0, le=8)  # "conv": of the sides; 0 = until the shorter one is 4 to 7 pixels
    residual: int = Field(1, ge=0)  # "conv": residual blocks a size, in encoder and decoder each; 0 = none
    features: int = Field(256, ge=0)  # "conv": width of a dense layer between maps and latent; 0 = none
    upsample: Literal["nearest", "bilinear", "subpixel"] = "nearest"  # "conv": before a convolution, or by one
    finest: Literal[1, 2] = 1  # "conv": the decoder's last features are of full or of half size (2 to 3 times faster)

    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "gaussian"  # of a pixel, given the latent
    spread: Literal["one", "channel"] = "one"  # how many variances or scales "gaussian" and "logistic" learn
    binarise: bool = False  # pixels are drawn as 0 or 1, 1 as often as they are bright; "bernoulli" only

    objective: Literal["elbo", "iwae"] = "elbo"  # mean of the samples' bounds, or the bound of all samples together
    importance_samples: int = Field(1, ge=1)  # k, latents drawn for each picture and step
    gradient_samples: int = Field(0, ge=0)  # "iwae": of the k, those drawn by weight for the gradient; 0 = all
    doubly: bool = False  # "iwae": the encoder's gradient by double reparameterisation, less noisy for many samples
    beta: float = Field(1.0, ge=0)  # weight of the divergence from the prior; 1 = a bound of the likelihood
    annealing: float = Field(0.0, ge=0, le=1)  # share of the training in which beta rises from 0; 0 = none
    free_bits: float = Field(0.0, ge=0)  # nats each dimension may hold without charge; 0 = none

    prior: Literal["normal", "flow"] = "normal"  # what the decoder reads a priori: N(0, I), or a learnt flow from it
    flow_steps: int = Field(8, ge=1)  # couplings of the flow
    flow_width: int = Field(128, ge=1)  # of each coupling's two hidden layers

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.binarise and self.likelihood != "bernoulli":
            raise ValueError(f'binarise is for likelihood = "bernoulli", not {self.likelihood!r}.')
        if self.objective == "elbo" and (self.gradient_samples or self.doubly):
            raise ValueError('gradient_samples and doubly are for objective = "iwae".')
        if self.objective == "iwae" and self.free_bits:
            raise ValueError('free_bits is for objective = "elbo": the bound of many samples has no divergence.')
        if self.gradient_samples and self.doubly:
            raise ValueError("gradient_samples and doubly exclude each other; set one of them.")
        if self.gradient_samples > self.importance_samples:
            raise ValueError(f"gradient_samples is {self.gradient_samples}, more than {self.importance_samples} = k.")
        if self.prior == "flow" and self.latent < 2:
            raise ValueError('prior = "flow" needs a latent of 2 numbers or more.')
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden widths must be 1 or more, but they are {self.hidden}.")
        return self


class Tanh(nn.Module):
    """tanh by the logistic function, which torch computes three times faster on a processor."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(2 * x) - 1


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


def dense(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of these widths, the activation between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), size and channels kept; the identity at the start."""

    def __init__(self, channels: int, activation: type[nn.Module]) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(activation(), nn.Conv2d(channels, channels, 3, padding=1), activation(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def enlarging(inputs: int, outputs: int, kind: str) -> nn.Sequential:
    """(B, inputs, H, W) to (B, outputs, 2H, 2W) with a 3x3 convolution."""
    if kind == "subpixel":
        return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=kind), nn.Conv2d(inputs, outputs, 3, padding=1))


class Encoder(nn.Module):
    """(B, C, H, W) in [0, 1] and a class (B, K) to mean and logarithm of the variance, each (B, Z), float32."""

    def __init__(self, config: VAEConfig, told: int, widths: list[int], grid: tuple[int, int]) -> None:
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        if config.body == "dense":
            self.stride, self.maps = 1, nn.Sequential()
            inner = (config.channels * math.prod(config.size) + told, *config.hidden)
        else:
            self.stride, layers = 2 ** len(widths), list[nn.Module]()
            for before, after in zip([config.channels, *widths[:-1]], widths, strict=True):
                layers += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
                layers += [ResidualBlock(after, activation) for _ in range(config.residual)]
                layers += [activation()]
            self.maps = nn.Sequential(*layers)
            inner = (widths[-1] * math.prod(grid) + told, *([config.features] if config.features else []))
        self.head = dense((*inner, 2 * config.latent), activation)

    def forward(self, images: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        x = 2 * images - 1
        below, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        features = self.maps(x).flatten(1)
        mean, log_variance = self.head(torch.cat([features, told.to(features.dtype)], dim=1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-SPREAD, SPREAD)


class Decoder(nn.Module):
    """(N, Z) and a class (N, K) to (N, C, H, W): logits, or means in a picture scaled to [-1, 1]."""

    def __init__(self, config: VAEConfig, told: int, widths: list[int], grid: tuple[int, int]) -> None:
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        channels, self.size = config.channels, config.size
        start = config.latent + told
        layers: list[nn.Module]
        if config.body == "dense":
            shape = (channels, *config.size)
            self.head = dense((start, *config.hidden[::-1], math.prod(shape)), activation)
            layers = []
        else:
            shape = (widths[-1], *grid)
            inner = [config.features] if config.features else []
            self.head = dense((start, *inner, math.prod(shape)), activation)
            layers = []
            afters = [*widths[-2::-1], max(config.width // 2, 1) if config.finest == 1 else channels]
            for before, after in zip(widths[::-1], afters, strict=True):
                layers += [ResidualBlock(before, activation) for _ in range(config.residual)]
                layers += [activation(), enlarging(before, after, config.upsample)]
            if config.finest == 1:
                layers += [activation(), nn.Conv2d(afters[-1], channels, 3, padding=1)]
        self.grow = nn.Sequential(nn.Unflatten(1, shape), *layers)

    def forward(self, latent: Tensor, told: Tensor) -> Tensor:
        x = self.grow(self.head(torch.cat([latent, told.to(latent.dtype)], dim=1)))  # N C H' W'
        return x[:, :, : self.size[0], : self.size[1]].float()


class VAE(Draws, Encodes, Bounded):
    """An encoder to a Gaussian, and a decoder to a distribution of pictures (figure 1 of the first paper).

        image x ── encoder ──► mean, log variance (B, Z) ──► z = mean + deviation * noise (k, B, Z)
                     class ┘                                  │            ▲
                                                              │            └── flow ◄── noise u ~ N(0, I)  drawing
                                                              │ decoder ◄─ class
                                                              ▼
                                      output (k * B, C, H, W) ──► log p(x | z) of `likelihood`

        "elbo"  descends  beta * KL(q(z | x) || p(z)) - mean over k of log p(x | z)
        "iwae"  descends  - log mean over k of w,  log w = log p(x | z) + beta * (log p(z) - log q(z | x))

    A class is one-hot beside the encoder's features and the latent: the linear layer after it is its embedding.
    Pictures to encode that are of another size than the model's are scaled to it, and reconstructions back.
    """

    Config = VAEConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adam",
        "train.learning_rate": 1e-3,
        "train.weight_decay": 0.0,
        "train.clip": 0.0,  # the loss is in nats of a whole picture: a usual limit would always bind
        "train.average": 0.999,
        "train.batch": 64,
    }
    config: VAEConfig
    annealed: Tensor  # () share of beta that counts by now

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        if config.condition == "class" and not config.classes:
            raise UsageError(
                'a vae with condition = "class" is told the class of each picture, but model.classes is 0; give their '
                'number, or a folder with one subfolder for each class, or choose condition = "none".'
            )
        self.told = config.classes if config.condition == "class" else 0
        self.latent_shape = (config.latent,)
        halvings = config.halvings or max(1, int(math.log2(min(config.size) / 4)))
        widths = [config.width * min(2**level, 4) for level in range(halvings)]
        grid = (-(-config.size[0] // 2**halvings), -(-config.size[1] // 2**halvings))
        self.encoder = Encoder(config, self.told, widths, grid)
        self.decoder = Decoder(config, self.told, widths, grid)
        self.flow = Flow(config.latent, config.flow_steps if config.prior == "flow" else 0, config.flow_width)
        if config.likelihood != "bernoulli":  # log variance or log scale of pictures in [-1, 1]
            self.log_spread = nn.Parameter(
                torch.full((config.channels if config.spread == "channel" else 1, 1, 1), -2.0)
            )
        self.register_buffer("annealed", torch.tensor(0.0 if config.annealing else 1.0))

    def advance(self, progress: float) -> None:
        if self.config.annealing:
            self.annealed.fill_(min(1.0, progress / self.config.annealing))

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.decode(latent, condition)

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        output = self.decoder(self.flow(latent), self._one_hot(condition, len(latent)))
        return self._picture(output)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self._fitted(images)
        mean, _ = self._posterior(x, self._likeliest(x) if self.told and condition is None else condition)
        return self.flow.inverse(mean)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Where a class is told, the one under which the picture is likeliest."""
        x = self._fitted(images)
        condition = self._likeliest(x) if self.told else None
        mean, _ = self._posterior(x, condition)
        again = self._picture(self.decoder(mean, self._one_hot(condition, len(x))))
        if again.shape == images.shape:
            return again
        return F.interpolate(again, images.shape[2:], mode="bilinear", antialias=True).clamp(0, 1)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """`total`; `reconstruction` -log p(x | z) and `kl`, nats a picture, without beta, annealing and free bits.
        Evaluation takes all of beta, and pixels drawn once and for all."""
        config = self.config
        condition = self._known(batch)
        x = self._seen(batch.images, fixed=not self.training)
        mean, log_variance = self._posterior(x, condition)
        beta: Tensor | float = config.beta * (self.annealed if self.training else 1.0)
        noise = torch.randn(config.importance_samples, *mean.shape, device=mean.device)
        if config.objective == "iwae":
            bound, likelihood, divergence = self._weighted(x, condition, mean, log_variance, noise, beta)
            return {"total": -bound.mean(), "reconstruction": -likelihood.mean(), "kl": divergence.mean()}

        z = mean + torch.exp(0.5 * log_variance) * noise  # k B Z
        reconstruction = -self._log_likelihood(x, z, condition).mean()
        if config.prior == "normal":
            each = gaussian_kl(mean, log_variance)  # B Z
            kl, charged = each.sum(dim=1).mean(), free_bits(each, config.free_bits)
        else:  # minus the entropy, which is known, minus log p(z) at the samples
            entropy = 0.5 * (log_variance + math.log(2 * math.pi) + 1).sum(dim=1)
            kl = -(entropy.mean() + self.flow.log_density(z.flatten(0, 1)).mean())
            charged = kl.clamp(min=config.free_bits * config.latent) if config.free_bits else kl
        return {"total": reconstruction + beta * charged, "reconstruction": reconstruction, "kl": kl}

    @torch.no_grad()
    def bound(self, images: Tensor, samples: int, condition: Tensor | None = None) -> Tensor:
        """With `binarise`, of the picture's pixels drawn as 0 and 1, always the same for the same picture; with
        "bernoulli" and without `binarise`, of grey pixels as shares of white, which is no probability of levels."""
        bounds = []
        pictures = max(1, VALUES // images[0].numel() // min(samples, 32))
        for begin in range(0, len(images), pictures):
            x = self._seen(images[begin : begin + pictures], fixed=True)
            told = None if condition is None else condition[begin : begin + pictures]
            mean, log_variance = self._posterior(x, told)
            together = torch.full((len(x),), -math.inf, device=x.device)
            for count in _shares(samples, max(1, VALUES // x.numel())):
                noise = torch.randn(count, *mean.shape, device=x.device)
                likelihood, divergence = self._terms(x, told, mean, log_variance, noise)
                together = torch.logaddexp(together, torch.logsumexp(likelihood - divergence, dim=0))
            bounds.append(together - math.log(samples))
        return torch.cat(bounds)

    @torch.no_grad()
    def health(self, batch: Batch) -> dict[str, Tensor]:
        """With a flow, whose prior has no dimensions of its own, a dimension's divergence is that from the Gaussian
        of the batch's mean and variance in it: 0 where it says nothing about the picture."""
        mean, log_variance = self._posterior(self._seen(batch.images, fixed=True), self._known(batch))
        kl = gaussian_kl(mean, log_variance)
        if self.config.prior == "flow":
            variance = log_variance.exp().mean(dim=0) + mean.var(dim=0, correction=0)
            kl = gaussian_kl((mean - mean.mean(dim=0)) / variance.sqrt(), log_variance - variance.log())
        return {
            "kl_dimensions": kl.sum(dim=0),
            "means_sum": mean.sum(dim=0),
            "means_square_sum": mean.square().sum(dim=0),
        }

    def _weighted(
        self,
        x: Tensor,
        condition: Tensor | None,
        mean: Tensor,
        log_variance: Tensor,
        noise: Tensor,
        beta: Tensor | float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The bound of k samples (B,), and each sample's log p(x | z) and log q - log p, (k, B)."""
        config = self.config
        if not config.gradient_samples:
            likelihood, divergence = self._terms(x, condition, mean, log_variance, noise)
            return importance_bound(likelihood - beta * divergence), likelihood, divergence
        # the gradient is a mean over samples drawn by their weight (Burda et al. 2016, below equation 14)
        with torch.no_grad():
            parts = [
                self._terms(x, condition, mean, log_variance, part) for part in noise.split(max(1, VALUES // x.numel()))
            ]
            likelihood, divergence = (torch.cat(each) for each in zip(*parts, strict=True))
            log_weights = likelihood - beta * divergence
            drawn = torch.multinomial(log_weights.softmax(dim=0).T, config.gradient_samples, replacement=True).T
            chosen = noise.gather(0, drawn.unsqueeze(-1).expand(-1, -1, noise.shape[-1]))
        again, apart = self._terms(x, condition, mean, log_variance, chosen)
        carrier = (again - beta * apart).mean(dim=0)
        return carrier - carrier.detach() + importance_bound(log_weights), likelihood, divergence

    def _terms(
        self, x: Tensor, condition: Tensor | None, mean: Tensor, log_variance: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log p(x | z) and log q(z | x) - log p(z), each (k, B), at z = mean + deviation * noise (k, B, Z)."""
        z = mean + torch.exp(0.5 * log_variance) * noise
        if self.config.doubly and z.requires_grad:
            # Tucker et al. 2019, equation 8: q's own parameters pass no gradient but by z, there each weight once more
            mean, log_variance = mean.detach(), log_variance.detach()
            weights: list[Tensor] = []
            z.register_hook(lambda gradient: gradient * weights[0].unsqueeze(-1))
        posterior = gaussian_log_density(z, mean, log_variance).sum(dim=-1)
        prior = self._log_prior(z)
        likelihood = self._log_likelihood(x, z, condition)
        if self.config.doubly and z.requires_grad:
            beta = self.config.beta * (self.annealed if self.training else 1.0)
            weights.append((likelihood - beta * (posterior - prior)).detach().softmax(dim=0))
        return likelihood, posterior - prior

    def _log_prior(self, z: Tensor) -> Tensor:
        if self.config.prior == "normal":
            return gaussian_log_density(z, 0.0, 0.0).sum(dim=-1)
        return self.flow.log_density(z.flatten(0, -2)).view(z.shape[:-1])

    def _log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None, chance: bool = True) -> Tensor:
        """(k, B): log p(x | z) of the pictures (B, C, H, W) under each of the latents (k, B, Z). Without `chance`, a
        level of a dequantised picture is its middle."""
        told = self._one_hot(condition, len(x)).repeat(len(z), 1)
        output = self.decoder(z.flatten(0, 1), told).unflatten(0, z.shape[:2])  # k B C H W
        if self.config.likelihood == "bernoulli":
            return bernoulli_log_likelihood(x, output)
        if self.config.likelihood == "logistic":
            return logistic_log_likelihood(x, output, self.log_spread)
        within = torch.rand_like(output) if chance else torch.full_like(output, 0.5)
        return gaussian_log_likelihood(x, output, self.log_spread, within)

    def _posterior(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        if x.shape[1:] != (self.config.channels, *self.config.size):
            (height, width), channels = self.config.size, self.config.channels
            raise DataError(
                f"this vae was built for pictures of {channels} channels and {height}x{width} pixels, but was given "
                f"{x.shape[1]} channels and {x.shape[2]}x{x.shape[3]}; scale them first."
            )
        mean, log_variance = self.encoder(x, self._one_hot(condition, len(x)))
        return mean, log_variance

    def _likeliest(self, x: Tensor) -> Tensor:
        """(B,) int64: the class under which each picture is likeliest, by Laplace's method about the mean."""
        scores = []
        for number in range(self.told):
            condition = torch.full((len(x),), number, device=x.device)
            mean, log_variance = self._posterior(x, condition)
            likelihood = self._log_likelihood(x, mean.unsqueeze(0), condition, chance=False)[0]
            scores.append(likelihood + self._log_prior(mean) + 0.5 * log_variance.sum(dim=1))
        return torch.stack(scores).argmax(dim=0)

    def _seen(self, images: Tensor, fixed: bool) -> Tensor:
        """The pictures that are learnt: drawn as 0 and 1 where `binarise`; `fixed`: by their own contents."""
        if not self.config.binarise:
            return images
        return (_thresholds(images) if fixed else torch.rand_like(images)).lt(images).to(images.dtype)

    def _known(self, batch: Batch) -> Tensor | None:
        if not self.told:
            return None
        if batch.categories is None or bool((batch.categories < 0).any()):
            raise DataError(
                "this vae is told what each picture shows, but some pictures have no class; give every picture one, or "
                'set model.condition to "none".'
            )
        return batch.categories

    def _one_hot(self, condition: Tensor | None, count: int) -> Tensor:
        """(B, K) float32; without classes (B, 0)."""
        if not self.told:
            if condition is not None:
                raise UsageError("this vae was trained without classes, but was given some; leave the condition out.")
            return torch.zeros(count, 0, device=self.annealed.device)
        if condition is None:
            raise UsageError(f"this vae draws what it is told: give each picture a class, 0 to {self.told - 1}.")
        return F.one_hot(condition, self.told).float()

    def _picture(self, output: Tensor) -> Tensor:
        if self.config.likelihood == "bernoulli":
            return output.sigmoid()
        return (0.5 * output + 0.5).clamp(0, 1)

    def _fitted(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.config.size:
            return images
        return F.interpolate(images, self.config.size, mode="bilinear", antialias=True).clamp(0, 1)


def _thresholds(images: Tensor) -> Tensor:
    """Uniform in [0, 1), like the pictures; each picture's from a generator seeded by its own 8-bit contents."""
    contents = (images.detach() * 255).round().to(torch.uint8).cpu().numpy()
    seeds = [zlib.crc32(each.tobytes()) for each in contents]
    drawn = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(images)


def _shares(total: int, most: int) -> list[int]:
    """`total` in shares of `most` and a rest."""
    return [most] * (total // most) + ([total % most] if total % most else [])
