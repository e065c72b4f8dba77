"""GAN: a generator that draws pictures, and a critic that learns to tell them from real ones.

body "dcgan": Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks, 2015, https://arxiv.org/abs/1511.06434
body "residual": the pairs of Gulrajani et al.: Improved Training of Wasserstein GANs, 2017,
    https://arxiv.org/abs/1704.00028, table 3, and of Miyato et al., as below, table 4
spectral_norm: Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks, 2018,
    https://arxiv.org/abs/1802.05957
condition "class": Miyato, Koyama: cGANs with Projection Discriminator, 2018, https://arxiv.org/abs/1802.05637
The games and penalties are those of losses/adversarial.py, `augment` that of networks/diff_augment.py.

Where we differ: any size, because the smallest map is rounded up and the finished picture cropped about its middle;
channels double with each halving to 8 times `width` at most, in both bodies. The critic's batch normalisation uses each
batch's own statistics always, never running ones, so it judges in validation as it did in training, and it is left out
where a picture needs a gradient of its own (gradient penalty, R1) or spectral norm takes its place; there the weights
start by He's rule instead of N(0, 0.02), which only normalisation can bring to scale. Real and drawn pictures go
through the critic as separate batches. Penalties are taken on what the critic sees: after `augment`. When the critic
trains, the generator draws as in training, but its running statistics stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...errors import DataError, UsageError
from ...losses.adversarial import (
    Game,
    critic_loss,
    generator_loss,
    gradient_norms,
    gradient_penalty,
    r1_penalty,
    recognised,
)
from ...networks.diff_augment import Kind, diff_augment
from ...networks.spectral import spectral_norm
from ...records import IGNORE, Batch
from ..contract import Draws, GenerativeConfig, Losses

SMALLEST = 8  # pixels of a side
COARSEST = 4  # about as many pixels has the shorter side of the smallest map


class GANConfig(GenerativeConfig):
    """What builds a GAN."""

    name: Literal["gan"] = "gan"
    body: Literal["dcgan", "residual"] = "dcgan"
    game: Game = "non_saturating"
    condition: Literal["none", "class"] = "none"  # "class": drawn and judged by the class of the whole picture
    latent: int = Field(128, ge=1)  # numbers of noise a picture is drawn from
    width: int = Field(32, ge=1)  # channels at the largest map, doubled at each halving up to 8 times; the paper's: 64
    critic_steps: int = Field(1, ge=1, le=100)  # turns of the critic for one of the generator, each on a fresh batch
    gradient_penalty: float = Field(0.0, ge=0)  # weight of (gradient norm - 1)^2 half-way, mostly 10; 0 = none
    r1: float = Field(0.0, ge=0)  # gamma: weight of half the squared gradient norm at real pictures; 0 = none
    spectral_norm: bool = False  # bounds each of the critic's layers: its largest singular value is 1
    augment: tuple[Kind, ...] = ()  # of what the critic sees; all of them from below 10,000 pictures on; () = none


class Norm(nn.Module):
    """Batch normalisation; with classes, gain and shift are those of the picture's class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain = nn.Embedding(classes, channels) if classes else None
        self.shift = nn.Embedding(classes, channels) if classes else None
        if self.gain is not None and self.shift is not None:
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, categories: Tensor | None) -> Tensor:
        y = self.norm(x)
        if self.gain is None or self.shift is None:
            return y
        return y * self.gain(categories)[:, :, None, None] + self.shift(categories)[:, :, None, None]


class Rise(nn.Module):
    """(B, inputs, h, w) to (B, outputs, 2h, 2w): norm, ReLU, transposed convolution."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.norm = Norm(inputs, classes)
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)

    def forward(self, x: Tensor, categories: Tensor | None) -> Tensor:
        return self.conv(F.relu(self.norm(x, categories)))


class ResidualRise(nn.Module):
    """(B, inputs, h, w) to (B, outputs, 2h, 2w): two convolutions beside a shortcut, both doubled by repetition."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(inputs, classes), Norm(outputs, classes)])
        self.convs = nn.ModuleList(nn.Conv2d(c, outputs, 3, padding=1) for c in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, categories: Tensor | None) -> Tensor:
        y = self.convs[0](_repeated(F.relu(self.norms[0](x, categories))))
        y = self.convs[1](F.relu(self.norms[1](y, categories)))
        return y + _repeated(self.shortcut(x))  # a 1x1 convolution commutes with repetition, and is cheaper before


class ResidualFall(nn.Module):
    """(B, inputs, h, w) to (B, outputs, h/2, w/2), rounded down: two convolutions beside a shortcut, means of 2x2."""

    def __init__(self, inputs: int, outputs: int, first: bool = False, halved: bool = True) -> None:
        super().__init__()
        self.first, self.halved = first, halved  # first: x is a picture, which no ReLU may touch
        self.convs = nn.ModuleList(nn.Conv2d(c, outputs, 3, padding=1) for c in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs[1](F.relu(self.convs[0](x if self.first else F.relu(x))))
        if self.halved:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return y + self.shortcut(x)


class Generator(nn.Module):
    """noise ── dense ── rises ── last ──► picture, as drawn at GAN."""

    def __init__(self, config: GANConfig, classes: int) -> None:
        super().__init__()
        widths = _widths(config)[::-1]
        self.size = config.size
        self.smallest = (widths[0], *(math.ceil(side / 2 ** len(widths)) for side in config.size))
        self.dense = nn.Linear(config.latent, math.prod(self.smallest))
        if config.body == "dcgan":
            pairs = zip(widths, [*widths[1:], config.channels], strict=True)
            self.rises = nn.ModuleList(Rise(inputs, outputs, classes) for inputs, outputs in pairs)
            self.norm = self.last = None
        else:
            pairs = zip(widths, [*widths[1:], widths[-1]], strict=True)
            self.rises = nn.ModuleList(ResidualRise(inputs, outputs, classes) for inputs, outputs in pairs)
            self.norm = Norm(widths[-1], classes)
            self.last = nn.Conv2d(widths[-1], config.channels, 3, padding=1)

    def forward(self, latent: Tensor, categories: Tensor | None) -> Tensor:
        """(B, latent) to pictures (B, C, *size) in [-1, 1]."""
        return self.planes(latent, categories).tanh()

    def planes(self, latent: Tensor, categories: Tensor | None) -> Tensor:
        """(B, latent) to (B, C, *size) float32 of any range."""
        x = self.dense(latent).unflatten(1, self.smallest)  # B 8*width h w
        for rise in self.rises:
            x = rise(x, categories)  # B outputs 2h 2w, ...
        if self.norm is not None and self.last is not None:
            x = self.last(F.relu(self.norm(x, categories)))
        height, width = self.size
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        return x[:, :, top : top + height, left : left + width].float()


class Critic(nn.Module):
    """picture ── falls ── score ──► a number, as drawn at GAN."""

    def __init__(self, config: GANConfig, classes: int) -> None:
        super().__init__()
        widths = _widths(config)
        normed = not (config.gradient_penalty or config.r1 or config.spectral_norm)
        pairs = list(zip([config.channels, *widths], widths, strict=False))
        self.pooled = config.body == "residual"
        if self.pooled:
            falls = [ResidualFall(inputs, outputs, first=i == 0) for i, (inputs, outputs) in enumerate(pairs)]
            self.falls = nn.Sequential(*falls, ResidualFall(widths[-1], widths[-1], halved=False), nn.ReLU())
            self.score = nn.Linear(widths[-1], 1)
        else:
            self.falls = nn.Sequential()
            for i, (inputs, outputs) in enumerate(pairs):
                self.falls.append(nn.Conv2d(inputs, outputs, 4, 2, 1))
                if normed and i > 0:
                    self.falls.append(nn.BatchNorm2d(outputs, track_running_stats=False))
                self.falls.append(nn.LeakyReLU(0.2))
            self.score = nn.Linear(widths[-1] * math.prod(side >> len(widths) for side in config.size), 1)
        self.classes = nn.Embedding(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, categories: Tensor | None) -> Tensor:
        """Scores (B,) of pictures (B, C, *size) in [-1, 1]; high means real."""
        x = self.falls(images)  # B 8*width h w
        pooled = x.sum(dim=(2, 3))  # B 8*width
        score = self.score(pooled if self.pooled else x.flatten(1))[:, 0]  # B
        if self.classes is not None:  # cGANs with projection, eq. 3: how well the picture fits its class
            score = score + (self.classes(categories) * pooled).sum(dim=1)
        return score


class GAN(Draws):
    """Two networks that play against each other.

        latent (B, Z)                                        picture (B, C, H, W), real or drawn
        │                                                    │
        dense                                                augment, if any
        │ (B, 8*width, H/2^n, W/2^n)                         │
        rises.0 ◄── class, if told                           falls: halved n times
        │ (B, 4*width, H/2^(n-1), …)                         │ (B, width, H/2, W/2) … (B, 8*width, H/2^n, …)
        rises.1 … rises.n-1                                  ├── score ──────────────────────┐
        │ (B, C, H, W) rounded up                            └── summed · class, if told ─── + ──► (B,) high: real
        cropped ── tanh ──► (B, C, H, W)

    dcgan     rises: norm, ReLU, transposed convolution 4x4; falls: convolution 4x4 of stride 2, norm, LeakyReLU 0.2
    residual  rises: norm, ReLU, doubled, convolution, norm, ReLU, convolution, then norm, ReLU, `last`; falls: ReLU,
              convolution, ReLU, convolution, mean of 2x2; both beside a shortcut of 1x1; the score is of the sum
    n brings the shorter side to about 4.
    """

    Config = GANConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adam",
        "train.learning_rate": 2e-4,
        "train.betas": [0.5, 0.999],
        "train.schedule": "constant",
        "train.warmup": 0.0,
        "train.weight_decay": 0.0,
        "train.clip": 0.0,
        "train.batch": 64,
        "train.average": 0.999,
    }

    config: GANConfig

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        _check(config)
        classes = config.classes if config.condition == "class" else 0
        self.latent_shape = (config.latent,)
        self.generator = Generator(config, classes)
        self.critic = Critic(config, classes)
        self.generator.apply(_start_small if config.body == "dcgan" else _start_scaled)
        normed = any(isinstance(module, nn.BatchNorm2d) for module in self.critic.modules())
        self.critic.apply(_start_small if normed else _start_scaled)
        for last in (self.critic.score, self.critic.classes):  # no picture is believed or doubted at the start
            if last is not None:
                nn.init.normal_(last.weight, 0.0, 0.02)
        if config.spectral_norm:
            for module in list(self.critic.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                    spectral_norm(module)

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "generator": self.generator}

    def turns(self) -> tuple[str, ...]:
        return ("critic",) * self.config.critic_steps + ("generator",)

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.config.condition == "class" and condition is None:
            raise UsageError(f"this model draws pictures of {self.config.classes} classes; say which class to draw.")
        return (self.generator(latent, condition) + 1) / 2

    def loss(self, batch: Batch, part: str = "generator") -> Losses:
        """critic: `total`, its `game`, `real` and `drawn` (shares of pictures that it recognises), and where they have
        a weight `penalty` and `r1`. generator: `total`, and `score`, the critic's mean score of its pictures."""
        told = self._told(batch)
        judge = partial(self.critic, categories=told)
        if part == "critic":
            with torch.no_grad(), statistics_kept(self.generator):
                drawn = self._seen(self._drawn(len(batch), batch.images.device, told))
            return critic_terms(self.config, judge, self._seen(2 * batch.images - 1), drawn)
        scores = judge(self._seen(self._drawn(len(batch), batch.images.device, told)))
        return {"total": generator_loss(self.config.game, scores), "score": scores.detach().float().mean()}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        """The critic's side of the game, without `augment`: on pictures as they are."""
        told = self._told(batch)
        judge = partial(self.critic, categories=told)
        real, drawn = 2 * batch.images - 1, self._drawn(len(batch), batch.images.device, told)
        right_real, right_drawn = recognised(self.config.game, judge(real), judge(drawn))
        slope = gradient_norms(judge, drawn).mean()
        return {"critic_real": right_real, "critic_fake": right_drawn, "critic_gradient": slope}

    def _drawn(self, count: int, device: torch.device, told: Tensor | None) -> Tensor:
        return self.generator(torch.randn(count, *self.latent_shape, device=device), told)

    def _seen(self, images: Tensor) -> Tensor:
        return diff_augment(images.float(), self.config.augment)

    def _told(self, batch: Batch) -> Tensor | None:
        """(B,) the classes of the batch's pictures, or None where the model is told nothing."""
        if self.config.condition == "none":
            return None
        categories = batch.categories
        known = torch.zeros(len(batch), dtype=torch.bool) if categories is None else categories != IGNORE
        if not bool(known.all()):
            names = [name for name, told in zip(batch.names, known.tolist(), strict=False) if not told]
            raise DataError(
                f"{int((~known).sum())} of the {len(batch)} pictures of a batch have no class"
                f"{', such as ' + names[0] if names else ''}, but model.condition is 'class'; put each picture into a "
                "folder named after its class, or set model.condition to 'none'."
            )
        return categories


def critic_terms(config: GANConfig, judge: Callable[[Tensor], Tensor], real: Tensor, drawn: Tensor) -> Losses:
    """What the critic descends, `total`, and what it is made of, for pictures as the critic sees them."""
    scores_real, scores_drawn = judge(real), judge(drawn)
    game = critic_loss(config.game, scores_real, scores_drawn)
    right_real, right_drawn = recognised(config.game, scores_real, scores_drawn)
    terms = {"total": game, "game": game, "real": right_real, "drawn": right_drawn}
    if config.gradient_penalty:
        terms["penalty"] = gradient_penalty(judge, real, drawn)
        terms["total"] = terms["total"] + config.gradient_penalty * terms["penalty"]
    if config.r1:
        terms["r1"] = r1_penalty(judge, real)
        terms["total"] = terms["total"] + config.r1 * terms["r1"]
    return terms


def _check(config: GANConfig) -> None:
    """UsageError where the settings can't be a game."""
    if min(config.size) < SMALLEST:
        raise UsageError(
            f"model.size is {config.size[0]}x{config.size[1]} pixels; a GAN draws pictures of {SMALLEST}x{SMALLEST} "
            "or more: choose a larger model.size."
        )
    if config.condition == "class" and config.classes < 2:
        raise UsageError(
            f"model.condition is 'class', but the pictures have {config.classes} classes, and 2 are the least; "
            "put the pictures into a folder for each class, or set model.condition to 'none'."
        )
    if config.game == "wasserstein" and not (config.gradient_penalty or config.r1 or config.spectral_norm):
        raise UsageError(
            "model.game is 'wasserstein', whose critic grows without end unless its slope is bounded; "
            "set model.gradient_penalty (10 is usual) or model.spectral_norm."
        )


def _widths(config: GANConfig) -> list[int]:
    """Channels of the maps, largest map first: as many as halvings bring the shorter side to about COARSEST."""
    halvings = max(1, round(math.log2(min(config.size) / COARSEST)))
    return [config.width * min(2**level, 8) for level in range(halvings)]


def _repeated(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _start_small(module: nn.Module) -> None:
    """DCGAN, section 4: N(0, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
    _start_rest(module)


def _start_scaled(module: nn.Module) -> None:
    """He et al. 2015: the scale of what goes through is kept without normalisation."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    _start_rest(module)


def _start_rest(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within it, batch normalisation uses a batch's statistics as before, but does not remember them."""
    norms: list[Any] = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
