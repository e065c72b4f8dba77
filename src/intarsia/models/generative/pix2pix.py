"""pix2pix: one picture into another, learnt from pairs.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, 2017,
https://arxiv.org/abs/1611.07004

Where we differ: group normalisation (Wu, He, 2018, https://arxiv.org/abs/1803.08494) in place of batch normalisation,
so that an answer depends neither on the rest of the batch nor on the mode the model is in; and since it compares
channels with each other, a picture of one class all over is not normalised into nothing. The paper's chance is dropout
that stays on after training; it found that the answers hardly vary, so here dropout works in training only and a
translation is always the same. Masks are told as one plane a class, not as colours; a model that answers with masks
gives each class's probability, and descends cross entropy in place of L1. A colouriser's answer is moved to the grey it
was given. Who restores predicts the difference. The critic's objective is not halved (the paper slows it down by that;
Adam does not notice). Sides are padded to what the U-Net needs, and cropped. The paper's size is width 64, depth 8, for
256 x 256.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...errors import UsageError
from ...losses.adversarial import critic_loss, generator_loss, gradient_norms, recognised
from ...networks.convolutional import doubling, group_norm, halving, padded
from ...networks.corruptions import CorruptionConfig, damaged, grey
from ...records import IGNORE, Batch
from ..contract import GenerativeConfig, Losses, Mends

Span = tuple[float, float]
WITH_DROPOUT = 3  # of the generator's decoders, coarsest first


class Pix2PixConfig(GenerativeConfig):
    """What builds a pix2pix. `channels` are the pictures'; `classes` the masks', where the task has masks."""

    name: Literal["pix2pix"] = "pix2pix"
    task: Literal["grey_to_colour", "restore", "mask_to_picture", "picture_to_mask"] = "grey_to_colour"
    width: int = Field(32, ge=1)  # the generator's channels at half size, doubled with each halving up to 8 times
    depth: int = Field(5, ge=1, le=8)  # halvings in the generator, or as many as the pictures' size has room for
    dropout: float = Field(
        0.5, ge=0, lt=1
    )  # share of features zeroed at its three coarsest steps in training; 0 = none
    critic_width: int = Field(32, ge=1)  # the critic's channels at half size, doubled up to 8 times
    critic_depth: int = Field(3, ge=1, le=5)  # its halvings: patches of 16, 34, 70, 142 or 286 pixels are judged
    game: Literal["non_saturating", "least_squares", "hinge"] = "non_saturating"
    fidelity: float = Field(100.0, ge=0)  # lambda: weight of L1 (of cross entropy) beside the critic's opinion
    opinion: float = Field(1.0, ge=0)  # weight of the critic's opinion; 0 = L1 alone, smooth and blurred
    blur: Span = (0.5, 2.0)  # "restore": Gaussian, its deviation from, to, in pixels; (0, 0) = none
    noise: Span = (0.0, 0.1)  # "restore": Gaussian, its deviation from, to, as a share of the full range; (0, 0) = none

    @model_validator(mode="after")
    def _damage_is_possible(self) -> Self:
        self.damage()
        return self

    def damage(self) -> CorruptionConfig:
        """What is done to a picture that is to be restored."""
        return CorruptionConfig(blur=self.blur, noise=self.noise)


class Generator(nn.Module):
    """The U-Net: (B, inputs, H, W) to (B, outputs, H, W), any H and W, no range (section 3.2.1, appendix 6.1.1).

    x ── encoders.0 ──┬── encoders.1 ──┬── … ── encoders.n (B, 8 * width, H/2^(n+1), W/2^(n+1))
                      │                │                         │
    y ◄─ decoders.n ──┴─ decoders.n-1 ─┴── … ◄──────────── decoders.0
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.stride, self.dropout = 2**depth, dropout
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.encoders = nn.ModuleList(
            halving(before, after, normalised=level > 0)
            for level, (before, after) in enumerate(zip([inputs, *widths], widths, strict=False))
        )
        decoders: list[nn.Module] = []
        before = widths[-1]
        for after in widths[-2::-1]:
            decoders.append(doubling(before, after))
            before = 2 * after  # joined with the map of its size
        decoders.append(nn.ConvTranspose2d(before, outputs, 4, 2, 1))
        self.decoders = nn.ModuleList(decoders)

    def forward(self, x: Tensor, noisy: bool = False) -> Tensor:
        height, width = x.shape[2:]
        x = padded(x, self.stride)
        maps = []
        for encoder in self.encoders:
            x = encoder(x)  # B width*2^i H/2^(i+1) W/2^(i+1)
            maps.append(x)
        y = maps.pop()
        for step, decoder in enumerate(self.decoders):
            y = decoder(torch.cat([y, maps.pop()], dim=1) if step else y)  # twice the height and width
            if noisy and step < min(WITH_DROPOUT, len(self.decoders) - 1):
                y = F.dropout(y, self.dropout)
        return y[:, :, :height, :width]


class PatchCritic(nn.Module):
    """PatchGAN: a score for each patch of a pair, (B, source, H, W) and (B, target, H, W) in [0, 1] to (B, 1, h, w)
    (section 3.2.2, appendix 6.1.2). The paper's 70 x 70 patches are depth 3.

        source ─┐
        target ─┴── depth halvings ── a 4 x 4 convolution ── score

    Pictures too small for the last convolutions are padded.
    """

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.smallest = 3 * 2**depth  # a side for which one score is left
        widths = [width * min(2**level, 8) for level in range(depth + 1)]
        layers: list[nn.Module] = [halving(inputs, widths[0], normalised=False)]
        layers += [halving(before, after) for before, after in pairwise(widths[:-1])]
        layers += [
            nn.Conv2d(widths[-2], widths[-1], 4, 1, 1),
            group_norm(widths[-1]),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[-1], 1, 4, 1, 1),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        x = 2 * torch.cat([source, target], dim=1) - 1
        below, right = (max(0, self.smallest - side) for side in x.shape[2:])
        return self.layers(F.pad(x, (0, right, 0, below), mode="replicate"))  # type: ignore[no-any-return]

    @property
    def patch(self) -> int:
        """The side of the square that one score sees, in pixels."""
        side = 1
        for layer in reversed([m for m in self.layers.modules() if isinstance(m, nn.Conv2d)]):
            side = (side - 1) * layer.stride[0] + layer.kernel_size[0]
        return side


class Pairs(NamedTuple):
    """What is learnt from in a batch: the pictures whose source and target are both there."""

    source: Tensor  # (B, inputs, H, W) in [0, 1]
    target: Tensor  # (B, outputs, H, W) in [0, 1]
    known: Tensor  # (B, 1, H, W), 1 where the target is known


class Pix2Pix(Mends):
    """A generator that translates, and a critic that sees source and answer (figure 2).

        source ──┬── generator ── answer ──┐
                 └─────────────────────────┴── critic ──► a score for each patch
        source ──┬─────────────────────────┬── critic ──► likewise
        target ──┴─────────────────────────┘

    | task            | source                | answer                    | generator's output becomes the answer by |
    |-----------------|-----------------------|---------------------------|------------------------------------------|
    | grey_to_colour  | (B, 1, H, W) its grey | (B, C, H, W) picture      | tanh, then moved to the source's grey    |
    | restore         | (B, C, H, W) damaged  | (B, C, H, W) picture      | tanh, added to the source                |
    | mask_to_picture | (B, K, H, W) one-hot  | (B, C, H, W) picture      | tanh                                     |
    | picture_to_mask | (B, C, H, W) picture  | (B, K, H, W) probabilities | softmax                                 |

    Pixels that nobody labelled are 0 in every plane of a mask; where the mask is the target they teach nothing.
    """

    Config = Pix2PixConfig
    recommended: ClassVar[Mapping[str, Any]] = {
        "train.optimizer": "adam",
        "train.learning_rate": 2e-4,
        "train.betas": [0.5, 0.999],
        "train.weight_decay": 0.0,
        "train.clip": 0.0,
        "train.average": 0.999,
        "train.batch": 1,
    }
    config: Pix2PixConfig

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config)
        self.with_masks = config.task in ("mask_to_picture", "picture_to_mask")
        if self.with_masks and not config.classes:
            raise UsageError(
                f'a pix2pix with task = "{config.task}" learns from masks, but model.classes is 0; give the number of '
                'classes, or a folder with masks, or choose task = "grey_to_colour" or "restore", which need none.'
            )
        inputs = {"grey_to_colour": 1, "mask_to_picture": config.classes}.get(config.task, config.channels)
        outputs = config.classes if config.task == "picture_to_mask" else config.channels
        room = max(1, math.ceil(math.log2(max(config.size))))
        self.generator = Generator(inputs, outputs, config.width, min(config.depth, room), config.dropout)
        self.critic = PatchCritic(inputs + outputs, config.critic_width, config.critic_depth)
        self.apply(_start)

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "generator": self.generator}

    def forward(self, source: Tensor) -> Tensor:
        """The answer for sources of the task's kind (see above), any H and W; without chance in either mode."""
        return self._answer(source, self.generator(source).float()).clamp(0, 1)

    @torch.inference_mode()
    def translate(self, source: Tensor) -> Tensor:
        """`forward`, to be called by name."""
        return self(source)  # type: ignore[no-any-return]

    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """The pictures restored, or coloured: then their own colours are not looked at. `known` is not looked at."""
        if self.with_masks:
            raise UsageError(
                f'this pix2pix was trained for task = "{self.config.task}" and mends no pictures; translate with it, '
                'or train one with task = "restore" or "grey_to_colour".'
            )
        return self.translate(grey(images)[:, :1] if self.config.task == "grey_to_colour" else images)

    def planes(self, masks: Tensor) -> Tensor:
        """(B, K, H, W) float32, 1 where the class is, for masks (B, H, W) of class numbers; IGNORE has no 1."""
        numbers = torch.arange(self.config.classes, device=masks.device).view(1, -1, 1, 1)
        return (masks[:, None] == numbers).float()

    def sources(self, batch: Batch) -> Tensor:
        """(B, inputs, H, W): what of a batch the generator is given. "restore" draws its damage anew at each call."""
        match self.config.task:
            case "grey_to_colour":
                return grey(batch.images)[:, :1]
            case "restore":
                return damaged(batch.images, self.config.damage())[0]
            case "mask_to_picture":
                return self._masks(batch)
        return batch.images

    def targets(self, batch: Batch) -> Tensor:
        """(B, outputs, H, W): what the answers should be."""
        return self._masks(batch) if self.config.task == "picture_to_mask" else batch.images

    def loss(self, batch: Batch, part: str = "generator") -> Losses:
        pairs = self._pairs(batch)
        names = ("total", "real", "drawn") if part == "critic" else ("total", "adversarial", self._distance_name)
        if pairs is None:  # nothing is labelled: nothing to descend
            zero = torch.stack([p.sum() for p in self.parts()[part].parameters()]).sum() * 0
            return dict.fromkeys(names, zero)
        source, target, known = pairs
        with torch.set_grad_enabled(part == "generator" and torch.is_grad_enabled()):
            output = self.generator(source, noisy=self.training).float()
            answer = self._answer(source, output) * known
        if part == "critic":
            real, drawn = self.critic(source, target), self.critic(source, answer)
            values = critic_loss(self.config.game, real, drawn), real.float().mean(), drawn.float().mean()
        else:
            distance = self._distance(output, answer, target, known)
            adversarial = generator_loss(self.config.game, self.critic(source, answer))
            total = self.config.opinion * adversarial + self.config.fidelity * distance  # equation 4
            values = total, adversarial, distance
        return dict(zip(names, values, strict=True))

    @torch.no_grad()
    def health(self, batch: Batch) -> dict[str, Tensor]:
        pairs = self._pairs(batch)
        if pairs is None:
            return {}
        source, target, known = pairs
        answer = self(source) * known
        real, drawn = recognised(self.config.game, self.critic(source, target), self.critic(source, answer))
        slopes = gradient_norms(lambda x: self.critic(source.clone(), x).flatten(1).mean(dim=1), answer)
        return {"critic_real": real, "critic_fake": drawn, "critic_gradient": slopes.mean()}

    @property
    def _distance_name(self) -> str:
        return "cross_entropy" if self.config.task == "picture_to_mask" else "l1"

    def _answer(self, source: Tensor, output: Tensor) -> Tensor:
        """The generator's output (B, outputs, H, W) as a picture, a little beyond [0, 1] at times, or as a mask."""
        match self.config.task:
            case "picture_to_mask":
                return output.softmax(dim=1)
            case "restore":
                return source + output.tanh()
        picture = (output.tanh() + 1) / 2
        return picture + (source - grey(picture)) if self.config.task == "grey_to_colour" else picture

    def _distance(self, output: Tensor, answer: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """L1 of pictures in [-1, 1], as in the paper; nats for a mask; the mean over what is known."""
        if self.config.task == "picture_to_mask":
            return -(target * output.log_softmax(dim=1)).sum() / known.sum()  # IGNORE: no plane is 1
        return 2 * (answer - target).abs().mean()

    def _pairs(self, batch: Batch) -> Pairs | None:
        """None where the task needs masks and no picture of the batch has one."""
        if not self.with_masks:
            everywhere = torch.ones_like(batch.images[:, :1])
            return Pairs(self.sources(batch), self.targets(batch), everywhere)
        if batch.masks is None and batch.labels is None:
            return None
        source, target = self.sources(batch), self.targets(batch)
        known = _known(batch)
        kept = known.flatten(1).any(dim=1)
        if not kept.any():
            return None
        if self.config.task == "mask_to_picture":
            known = torch.ones_like(known)  # the picture is known all over
        return Pairs(source[kept], target[kept], known[kept])

    def _masks(self, batch: Batch) -> Tensor:
        if batch.masks is not None:
            return self.planes(batch.masks)
        if batch.labels is not None and self.config.task == "mask_to_picture":
            return batch.labels.clamp(min=0)  # classes that overlap are as good a source
        raise UsageError(
            f'a pix2pix with task = "{self.config.task}" needs masks whose classes exclude each other, but these '
            + ("overlap" if batch.labels is not None else "pictures have none")
            + "; use a folder with such masks, or a semantic model such as unet for classes that overlap."
        )


def _known(batch: Batch) -> Tensor:
    """(B, 1, H, W) float32: 1 where somebody labelled the pixel."""
    if batch.masks is not None:
        return (batch.masks[:, None] != IGNORE).float()
    assert batch.labels is not None
    return (batch.labels != IGNORE).any(dim=1, keepdim=True).float()


def _start(module: nn.Module) -> None:
    """Weights from N(0, 0.02), as in the paper's appendix 6.2."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
