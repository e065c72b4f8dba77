"""Autoencoders: plain, sparse, denoising, masked, and one that mends.

Hinton, Salakhutdinov: Reducing the Dimensionality of Data with Neural Networks, 2006,
https://doi.org/10.1126/science.1127647 (plain)
Ng: Sparse autoencoder, CS294A lecture notes, 2011 (sparse: divergence from a target rate)
Vincent, Larochelle, Bengio, Manzagol: Extracting and Composing Robust Features with Denoising Autoencoders, 2008,
https://doi.org/10.1145/1390156.1390294 (denoising)
Pathak, Krähenbühl, Donahue, Darrell, Efros: Context Encoders: Feature Learning by Inpainting, 2016,
https://arxiv.org/abs/1604.07379 (masked)
Mao, Shen, Yang: Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks with Symmetric Skip
Connections, 2016, https://arxiv.org/abs/1603.09056 (`skips`)

Where we differ: all are one fully convolutional network, so that pictures may have any size, and they differ by what is
asked of it: `alpha` and `sparsity`, `corruption`, `skips`. Sparsity is a mean over the code's numbers, not a sum, so
that its weight means the same for any code. Pictures are folded, 2x2 pixels into channels, before the first convolution
(as in FFDNet, Zhang et al. 2018): a quarter of the work at full size. There is no normalisation: it costs accuracy when
pictures are restored. Holes get a smooth first guess, and the network with skips says only what has to be added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...errors import UsageError
from ...networks.blocks import doubled
from ...networks.corruptions import CorruptionConfig, damaged, filled
from ...records import Batch
from ..contract import Encodes, GenerativeConfig, Losses, Mends


class AutoencoderConfig(GenerativeConfig):
    """What builds an autoencoder, and what it learns to undo."""

    name: Literal["autoencoder"] = "autoencoder"
    width: int = Field(32, ge=1)  # channels at the finest maps, doubled with each halving up to 4 times as many
    depth: int = Field(3, ge=0, le=7)  # halvings after the folding
    blocks: int = Field(1, ge=0, le=16)  # residual blocks at each size, on the way down and again on the way up
    fold: Literal[1, 2, 4] = 2  # a square of this side becomes channels; 1 = the finest detail, four times the work
    latent: int = Field(32, ge=1)  # channels of the code; its sides are the picture's over fold * 2^depth
    skips: bool = False  # join the two halves at each size: best for mending; then there is no code

    corruption: CorruptionConfig = CorruptionConfig()  # damage that it learns to undo; none by default
    hole_weight: float = Field(6.0, ge=0)  # of missing pixels in the reconstruction, known ones have 1
    reconstruction: Literal["l1", "l2"] = "l1"  # absolute difference, or its square
    alpha: float = Field(1.0, ge=0, le=1)  # total = alpha * reconstruction + (1 - alpha) * sparsity; 1 = not sparse
    sparsity: Literal["l1", "kl"] = "l1"  # mean size of the code's numbers, or divergence of their rate from the target
    rate: float = Field(0.05, gt=0, lt=1)  # target of "kl": how active a channel of the code is on average

    @model_validator(mode="after")
    def _a_code_to_be_sparse(self) -> Self:
        if self.skips and self.alpha < 1:
            raise ValueError("with skips = true there is no code that could be sparse; set alpha = 1 or skips = false.")
        return self


class Block(nn.Module):
    """x + conv(relu(conv(x))), 3x3, channels kept. It begins as the identity, so that depth does no harm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.first.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class Autoencoder(Encodes, Mends):
    """A picture to a code and back. f = fold, w = width, and i counts the halvings.

        images (B, C, H, W), missing pixels filled; with holes also `known` (B, 1, H, W)
        │
        fold ── entry, 3x3 ──► (B, w, H/f, W/f)
        │
        downs.0, blocks ───────────────────── [skips: +] ───── ups.last, blocks ── exit, 3x3 ── unfold ──► images
        downs.1, 3x3 stride 2, blocks ─────── [skips: +] ───── ups.1 ─┘          [skips: + the filled images]
        …                                                      …
        downs.depth, (B, w 2^i, H/f 2^i, …)                    ups.0
        └── to_code, 3x3 ──► code (B, latent, h, w) ── from_code, 3x3 ─┘          [skips: neither, straight on]

    An up is a 3x3 convolution and bilinear doubling (no checkerboard), then blocks.
    """

    config: AutoencoderConfig
    Config = AutoencoderConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adamw",
        "train.learning_rate": 1e-3,
        "train.weight_decay": 0.0,
        "train.average": 0.995,
        "train.clip": 1.0,
        "augment.noise": 0.0,  # what it is to arrive at must itself be clean
        "augment.blur": 0.0,
    }

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        fold, depth = config.fold, config.depth
        self.stride = fold * 2**depth  # sides are padded to a multiple of it
        self.sees_holes = config.corruption.holes > 0
        widths = [config.width * min(2**i, 4) for i in range(depth + 1)]
        inputs = (config.channels + self.sees_holes) * fold**2

        self.entry = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Sequential(
                *([nn.Conv2d(widths[i - 1], widths[i], 3, 2, 1), nn.ReLU()] if i else []),
                *(Block(widths[i]) for _ in range(config.blocks)),
            )
            for i in range(depth + 1)
        )
        if not config.skips:
            self.to_code = nn.Conv2d(widths[-1], config.latent, 3, padding=1)
            self.from_code = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.narrow = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 3, padding=1) for i in reversed(range(depth)))
        self.ups = nn.ModuleList(
            nn.Sequential(*(Block(widths[i]) for _ in range(config.blocks))) for i in reversed(range(depth + 1))
        )
        self.exit = nn.Conv2d(widths[0], config.channels * fold**2, 3, padding=1)
        if config.skips:  # begin with what came in, holes smoothly filled, and let coarser maps join by and by
            for layer in (self.exit, *self.narrow):
                nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.exit.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """The pictures in [0, 1], reconstructed, or mended of all damage but holes."""
        return self.mend(images)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.mend(images)

    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """Raises UsageError where pixels are said to be missing, but training took none away."""
        if known is not None and not self.sees_holes:
            raise UsageError(
                "this autoencoder has never seen a hole, so it can fill none; "
                "train one with model.corruption.holes = 0.4 and model.skips = true."
            )
        return self._answer(images, known)[0].clamp(0, 1)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The code (B, latent, h, w), h = H / (fold 2^depth) rounded up; with sparsity "kl" in (0, 1).
        Raises UsageError for an autoencoder with skips."""
        self._must_have_a_code()
        known = torch.ones_like(images[:, :1])
        return self._code(self._down(_padded(images, self.stride), _padded(known, self.stride))[-1])

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """At `config.size` where the code is as large as that of such pictures, else at the code's full size.
        Raises UsageError for an autoencoder with skips."""
        self._must_have_a_code()
        images = self._up([self.from_code(latent)]).clamp(0, 1)
        height, width = self.config.size
        if images.shape[2:] == (height + -height % self.stride, width + -width % self.stride):
            return images[:, :, :height, :width]
        return images

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """`reconstruction` of the pictures as they were from what `corruption` left of them, `sparsity` where
        alpha < 1, and to look at: `mean_squared` and `psnr` in decibels, over all pixels of the batch."""
        config = self.config
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.float()
            given, known = damaged(images, config.corruption)
        answer, code = self._answer(given, known if self.sees_holes else None)
        with torch.autocast(batch.images.device.type, enabled=False):
            difference = answer.float() - images
            distance = difference.abs() if config.reconstruction == "l1" else difference**2
            weight = 1 + (config.hole_weight - 1) * (1 - known)
            reconstruction = (distance * weight).mean() / weight.mean().clamp(min=1e-6)
            terms = {"total": reconstruction, "reconstruction": reconstruction}
            if config.alpha < 1:
                assert code is not None  # the configuration allows no skips with it
                sparsity = code.float().abs().mean() if config.sparsity == "l1" else divergence(code, config.rate)
                terms["total"] = config.alpha * reconstruction + (1 - config.alpha) * sparsity
                terms["sparsity"] = sparsity
            with torch.no_grad():
                squared = (answer.detach().float().clamp(0, 1) - images).square().mean()
                terms["mean_squared"] = squared
                terms["psnr"] = -10 * torch.log10(squared.clamp(min=1e-10))
        return terms

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {}

    def _answer(self, images: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The pictures, not yet held within [0, 1], and their code where there is one."""
        height, width = images.shape[2:]
        known = torch.ones_like(images[:, :1]) if known is None else known.to(images.dtype)
        x, known = _padded(images, self.stride), _padded(known, self.stride)
        if self.sees_holes:
            x = filled(x, known)
        maps = self._down(x, known)
        if self.config.skips:
            return (x + self._up(maps))[:, :, :height, :width], None
        code = self._code(maps[-1])
        return self._up([self.from_code(code)])[:, :, :height, :width], code

    def _down(self, x: Tensor, known: Tensor) -> list[Tensor]:
        """The maps of pictures whose sides are multiples of `stride`, finest first."""
        x = torch.cat([x - 0.5, 1 - known], dim=1) if self.sees_holes else x - 0.5
        x = self.entry(F.pixel_unshuffle(x, self.config.fold))  # B width H/f W/f
        maps = []
        for down in self.downs:
            x = down(x)  # B width*2^i H/(f*2^i) W/(f*2^i)
            maps.append(x)
        return maps

    def _code(self, x: Tensor) -> Tensor:
        code: Tensor = self.to_code(x)  # B latent h w
        return code.sigmoid() if self.config.alpha < 1 and self.config.sparsity == "kl" else code

    def _up(self, maps: list[Tensor]) -> Tensor:
        """Pictures (with skips: what is to be added to them) from all maps, or from the coarsest alone."""
        x = self.ups[0](maps[-1])
        for i in range(1, len(self.ups)):
            x = doubled(self.narrow[i - 1](x))
            if self.config.skips:
                x = x + maps[-1 - i]
            x = self.ups[i](x)
        x = F.pixel_shuffle(self.exit(x), self.config.fold)  # B C H W
        return x if self.config.skips else x + 0.5

    def _must_have_a_code(self) -> None:
        if self.config.skips:
            raise UsageError(
                "an autoencoder with skip connections has no code: its finest maps are larger than the picture; "
                "train one with model.skips = false to encode, decode, interpolate or compress."
            )


def divergence(code: Tensor, rate: float) -> Tensor:
    """Mean over the code's channels of KL(rate || how active the channel is on average), nats. code: (B, Z, h, w) in
    (0, 1). Ng 2011, section 3, where it is summed."""
    active = code.float().mean(dim=(0, 2, 3)).clamp(1e-6, 1 - 1e-6)  # Z
    target = torch.full_like(active, rate)
    return (target * (target / active).log() + (1 - target) * ((1 - target) / (1 - active)).log()).mean()


def _padded(x: Any, stride: int) -> Tensor:
    below, right = -x.shape[2] % stride, -x.shape[3] % stride
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
