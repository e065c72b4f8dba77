"""Segmentation autoencoder: one encoder, whose maps become a mask, and the picture mended of damage done to it.

Buchholz, Prakash, Schmidt, Krull, Jug: DenoiSeg: Joint Denoising and Segmentation, 2020,
https://arxiv.org/abs/2005.02987 (the weighted sum; `blind_spot`)
Krull, Buchholz, Jug: Noise2Void - Learning Denoising from Single Noisy Images, 2019,
https://arxiv.org/abs/1811.10980 (`blind_spot`)
Vincent et al.: Extracting and Composing Robust Features with Denoising Autoencoders, 2008,
https://doi.org/10.1145/1390156.1390294, and Pathak et al.: Context Encoders, 2016, https://arxiv.org/abs/1604.07379
(`corruption`; `pretrain` is what they do before the masks are looked at)

Where we differ: pictures are standardised, so that a reconstruction of 1 is as bad as the mean grey. DenoiSeg's
network is `share` = "decoder"; by default the picture has a decoder of its own. Blind spots are drawn pixel by pixel,
where Noise2Void draws one in each cell of a grid. Known damage (noise, holes) may take the place of blind spots. The
weight may follow the course of the training or the share of unlabelled pictures.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ...networks.corruptions import CorruptionConfig, damaged
from ...records import Batch
from ..contract import Losses
from ..semantic import build_segmenter
from .combination import Combination, CombinationConfig, with_mask
from .sharing import PictureDecoder, mask_pictures, only


class SegmentationAutoencoderConfig(CombinationConfig):
    """What builds a segmentation autoencoder, and what its picture decoder learns to undo."""

    name: Literal["segmentation_autoencoder"] = "segmentation_autoencoder"
    alpha: float | Literal["counts"] = 0.5  # of reconstruction, the rest is of the masks; counts: unlabelled share seen
    alpha_end: float | None = Field(None, ge=0, le=1)  # alpha moves evenly there until the end; None = it stays
    pretrain: float = Field(0.0, ge=0, le=1)  # share of the training, at its beginning, in which alpha is 1
    segment: Literal["clean", "damaged"] = "clean"  # which picture the masks are learnt on; damaged: one pass for both
    share: Literal["encoder", "decoder"] = "encoder"  # of both tasks; decoder: all of the segmenter but its last layer

    corruption: CorruptionConfig = CorruptionConfig(noise=(0.0, 0.1), holes=0.3)  # damage to undo; without blind_spot
    hole_weight: float = Field(6.0, ge=0)  # of missing pixels in the reconstruction, known ones have 1
    blind_spot: bool = False  # instead: pixels take a neighbour's value, and the noise that is there is removed
    blind_share: float = Field(0.02, gt=0, le=0.5)  # of the pixels: those that do, and alone are judged
    blind_reach: int = Field(2, ge=1)  # rows and columns within which the neighbour lies, pixels
    reconstruction: Literal["l1", "l2"] = "l2"  # absolute difference, or its square
    width: int = Field(16, ge=1)  # of the picture decoder, counted at full size; 4 times as many at most
    finest_skip: Literal[0, 1, 2, 4, 8] = 2  # it sees the maps at 1/this of the size and coarser; 1 = all, 0 = deepest

    @model_validator(mode="after")
    def _a_share(self) -> Self:
        if isinstance(self.alpha, str):
            if self.alpha_end is not None:
                raise ValueError('alpha = "counts" follows the pictures and ends where they lead; leave alpha_end out.')
        elif not 0 <= self.alpha <= 1:
            raise ValueError(f'alpha is {self.alpha:g}, but must be in [0, 1], or "counts".')
        return self


class SegmentationAutoencoder(Combination):
    """A segmenter whose encoder also feeds a decoder of pictures.

        images ──────────── encoder ── mask decoder ──► criterion           (labelled; segment "damaged": shared below)
        images ── damage ── encoder ── picture ──► mean of (answer - image)^2       (all pictures)

    At alpha = 0 nothing is damaged and the loss is the segmenter's own; at alpha = 1 masks teach nothing.
    """

    Config = SegmentationAutoencoderConfig
    config: SegmentationAutoencoderConfig
    learns_from_unlabelled = True
    progress: Tensor  # () share of the training done
    seen: Tensor  # (2,) int64: labelled and unlabelled pictures seen in training

    def __init__(self, config: SegmentationAutoencoderConfig) -> None:
        super().__init__(config)
        self.picture: PictureDecoder | None = None
        if config.share == "decoder":  # the last layer gives the picture's channels after the classes
            both = config.model_copy(update={"classes": config.classes + config.channels, "loss": type(config.loss)()})
            self.segmenter = build_segmenter(config.segmenter, both)
        else:
            encoder = self.in_halves().encoder
            self.picture = PictureDecoder(
                encoder.channels, encoder.reductions, config.channels, config.width, config.finest_skip
            )
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        return tuple(each[:, : self.config.classes] for each in self.segmenter.heads(x, auxiliary))

    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)

    @property
    def alpha(self) -> float:
        """The reconstruction's share of the loss by now, [0, 1]."""
        config, progress = self.config, float(self.progress)
        if progress < config.pretrain:
            return 1.0
        if isinstance(config.alpha, str):  # "counts"
            labelled, unlabelled = self.seen.tolist()
            return unlabelled / (labelled + unlabelled) if labelled + unlabelled else 0.5
        if config.alpha_end is None:
            return config.alpha
        done = (progress - config.pretrain) / max(1 - config.pretrain, 1e-9)
        return config.alpha + (config.alpha_end - config.alpha) * min(done, 1.0)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """The masks' terms, `segmentation` their sum, `reconstruction` (1: as bad as the mean grey), `alpha`."""
        if self.training:
            labelled = with_mask(batch).sum()
            self.seen += torch.stack([labelled, len(batch) - labelled])
        alpha = self.alpha
        numbers = mask_pictures(batch)
        masked = only(batch, numbers)
        if alpha == 0:
            terms = self.supervised(masked)
            segmentation, reconstruction = terms["total"], torch.zeros_like(terms["total"])
        else:
            logits, reconstruction = self._both(batch, numbers, masked, alpha < 1)
            terms = self.judged(logits, masked)
            segmentation = terms["total"]
        total = alpha * reconstruction + (1 - alpha) * segmentation
        logged = {"segmentation": segmentation, "reconstruction": reconstruction, "alpha": total.new_tensor(alpha)}
        return {**terms, **logged, "total": total}

    @torch.inference_mode()
    def restored(self, images: Tensor) -> Tensor:
        """The pictures (B, C, H, W) in [0, 1] as the picture decoder gives them back, at their own size: without noise
        where it has learnt to remove it."""
        height, width = images.shape[2:]
        if self.picture is None:
            answer = self.segmenter.logits(images)[0][:, self.config.classes :]
        else:
            answer = self.picture(self.in_halves().encoder(self.standardised(images)))[:, :, :height, :width]
        return (answer * self.deviation + self.mean).clamp(0, 1)

    def _both(
        self, batch: Batch, numbers: Tensor, masked: Batch, learn_masks: bool
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Logits for the pictures of those numbers (with deep supervision), and the reconstruction's loss for all."""
        config, (height, width) = self.config, batch.images.shape[2:]
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.float()
            given, weight = self._damaged(images)
        apart = config.segment == "clean"
        inputs = torch.cat([masked.images, given]) if apart else given  # one pass: batch statistics are those of both
        rows = slice(len(masked)) if apart else numbers
        rest = slice(len(masked) if apart else 0, None)
        if self.picture is None:
            results = self.segmenter.logits(inputs, auxiliary=True)
            logits = tuple(each[rows, : config.classes] for each in results)
            answer = results[0][rest, config.classes :]
        else:
            halves, x = self.in_halves(), self.standardised(inputs)
            maps = halves.encoder(x)
            with torch.set_grad_enabled(learn_masks and torch.is_grad_enabled()):
                results = halves.decode([each[rows] for each in maps], auxiliary=True)
                logits = tuple(halves.at_size(each, images) for each in results)
            answer = self.picture([each[rest] for each in maps])[:, :, :height, :width]
        with torch.autocast(batch.images.device.type, enabled=False):
            difference = answer.float() - (images - self.mean) / self.deviation
            distance = difference.abs() if config.reconstruction == "l1" else difference.square()
            return logits, (distance * weight).sum() / (config.channels * weight.sum()).clamp(min=1e-6)

    def _damaged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder is given, and each pixel's weight (B, 1, H, W) in the reconstruction."""
        config = self.config
        if config.blind_spot:
            return blind_spots(images, config.blind_share, config.blind_reach)
        given, known = damaged(images, config.corruption)
        missing = 1 - known
        return given + self.mean * missing, 1 + (config.hole_weight - 1) * missing  # 0 when standardised


def blind_spots(images: Tensor, share: float, reach: int) -> tuple[Tensor, Tensor]:
    """The pictures (B, C, H, W) with about that share of their pixels replaced by another one of at most `reach` rows
    and columns away, all channels together; and where, (B, 1, H, W) float32. Beyond the border the picture is
    mirrored. Chance is torch's global generator. (Krull et al. 2019.)"""
    count, channels, height, width = images.shape
    device = images.device
    spots = torch.rand(count, 1, height, width, device=device) < share
    side = 2 * reach + 1
    step = torch.randint(0, side**2 - 1, (count, height, width), device=device)
    step = step + (step >= side**2 // 2).long()  # the pixel itself is none of its neighbours
    rows = torch.arange(height, device=device)[:, None] + step // side - reach  # B H W
    columns = torch.arange(width, device=device) + step % side - reach
    source = _mirrored(rows, height) * width + _mirrored(columns, width)
    index = source.flatten(1)[:, None].expand(-1, channels, -1)
    neighbours = images.flatten(2).gather(2, index).view_as(images)
    return torch.where(spots, neighbours, images), spots.to(torch.float32)


def _mirrored(places: Tensor, length: int) -> Tensor:
    """Places before 0 and from `length` on, mirrored at the first and the last one."""
    places = places.abs()
    return torch.minimum(places, 2 * (length - 1) - places).clamp(0, length - 1)
