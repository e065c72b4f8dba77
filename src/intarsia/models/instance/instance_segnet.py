"""Instance SegNet: objects without proposals, from maps of class, depth, border and the way to the centre.

Badrinarayanan, Kendall, Cipolla: SegNet, 2017, https://arxiv.org/abs/1511.00561, and Ronneberger, Fischer, Brox: U-Net,
2015, https://arxiv.org/abs/1505.04597 (the encoder-decoder; `segmenter` may be either, or any other)
He, Zhang, Ren, Sun: Spatial Pyramid Pooling, 2014, https://arxiv.org/abs/1406.4729 (several scales at the deepest map)
Schmidt, Weigert, Broaddus, Myers: StarDist, 2018, https://arxiv.org/abs/1806.03535 (depth inside the object, from 0 at
its border to 1, as the measure of what is an object)
Kendall, Gal, Cipolla, 2018, https://arxiv.org/abs/1705.07115 (the way to the centre)
Ronneberger et al., 2015, section 3 (`touching`: pixels between neighbours count more)
Buchholz et al.: DenoiSeg, 2020, https://arxiv.org/abs/2005.02987 (alpha * reconstruction + (1 - alpha) * segmentation)

Where we differ: the pyramid pools windows of a fixed size in pixels that slide, in place of a grid over the picture, so
that a tile of a picture is seen as the picture is. The way to the centre is judged against the object's own size: half
a radius off is as bad for a small object as for a large one. How the maps become objects is told in `grouping/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...networks.blocks import conv_block
from ...networks.corruptions import CorruptionConfig, damaged
from ...networks.encoders import Encoder
from ...records import IGNORE, Batch
from ..contract import EncoderDecoder, InstanceConfig, Losses
from ..semantic import HoldsSegmenter, UNetConfig, build_segmenter
from ..semantic.holding import AnySegmenter
from .map_model import MapModel

NEAR = 2  # pixels to each of two objects within which a pixel counts more


class InstanceSegNetConfig(HoldsSegmenter, InstanceConfig):
    """What builds an Instance SegNet, and how its maps are weighed in the loss."""

    name: Literal["instance_segnet"] = "instance_segnet"
    segmenter: AnySegmenter = UNetConfig(encoder="small", width=16)  # its last layer gives the maps
    pyramid: tuple[int, ...] = (
        5,
        5,
        5,
    )  # windows pooled one after the other at the deepest map, pixels there; () = none
    unit: float = Field(16.0, gt=0)  # pixels that the network counts ways in: about the objects' radius
    depth_weight: float = Field(4.0, ge=0)  # of the depth's cross entropy, that of the classes has 1
    border_weight: float = Field(4.0, ge=0)  # of the border's cross entropy
    way_weight: float = Field(1.0, ge=0)  # of the way to the centre, in radii of the object
    touching: float = Field(8.0, ge=0)  # how much more pixels near two objects count in these three; 0 = as all others
    dice: float = Field(0.5, ge=0)  # of the foreground's Dice beside the classes' cross entropy
    alpha: float = Field(0.0, ge=0, lt=1)  # of reconstruction, the rest is of the objects; 0 = nothing is reconstructed
    corruption: CorruptionConfig = CorruptionConfig(noise=(0.0, 0.1), holes=0.3)  # damage that reconstruction undoes


class PyramidPooling(nn.Module):
    """x, and the largest of windows that grow, joined: (B, C, H, W) to (B, C, H, W).

    x ── narrow 1x1 ──┬────────────────────────────────┐
                      └─ max 5x5 ─┬────────────────────┤ join 1x1 ──► + x
                                  └─ max 5x5 ─┬────────┤
                                              └─ … ────┘
    """

    def __init__(self, channels: int, windows: Sequence[int]) -> None:
        super().__init__()
        narrow = max(channels // 2, 1)
        self.narrow = conv_block(channels, narrow, kernel=1)
        self.pools = nn.ModuleList(nn.MaxPool2d(each, stride=1, padding=each // 2) for each in windows)
        self.join = conv_block(narrow * (len(windows) + 1), channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.narrow(x)]
        for pool in self.pools:
            seen.append(pool(seen[-1]))
        return x + self.join(torch.cat(seen, dim=1))


class PyramidEncoder(Encoder):
    """An encoder whose deepest map goes through a pyramid."""

    def __init__(self, encoder: Encoder, windows: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels, self.reductions = encoder.channels, encoder.reductions
        self.pyramid = PyramidPooling(encoder.channels[-1], windows)

    def forward(self, x: Tensor) -> list[Tensor]:
        *maps, deepest = self.encoder(x)
        return [*maps, self.pyramid(deepest)]


class InstanceSegNet(MapModel):
    """An encoder-decoder with K + 4 maps, and with alpha > 0 the picture beside them.

    x (B, C, H, W)
    │
    segmenter.encoder ── pyramid ── decoder ─┬─ K classes ── softmax ──► where objects are, and of which class
                                             ├─ depth ── sigmoid ──────► 0 at an object's border, 1 deepest inside
                                             ├─ border ── sigmoid ─────► its outermost pixels
                                             ├─ down, right * unit ────► the way to its centre, pixels
                                             └─ C (alpha > 0) ─────────► the picture, mended (for the loss only)
    """

    Config = InstanceSegNetConfig
    config: InstanceSegNetConfig
    learns_from_unlabelled = True
    grouping = "ways"
    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "foreground": (0.5, 0.3, 0.4, 0.6, 0.7),  # probability from which a pixel is of an object
        "core": (0.4, 0.15, 0.2, 0.3, 0.5, 0.6),  # depth, where no border is, from which pixels gather
        "ways": (1.0, 0.0),  # 1: pixels go where they point; 0: ways are not believed, and the depth is flooded
        "score": (0.3, 0.0, 0.4, 0.5, 0.6),  # objects below it are left out
        "smallest": (10.0, 4.0, 20.0, 40.0),  # pixels of an object
    }

    def __init__(self, config: InstanceSegNetConfig) -> None:
        super().__init__(config)
        self.count = config.classes + 4
        outputs = self.count + (config.channels if config.alpha else 0)
        self.segmenter = build_segmenter(config.segmenter, config, outputs)
        if config.pyramid and isinstance(self.segmenter, EncoderDecoder):
            self.segmenter.encoder = PyramidEncoder(self.segmenter.encoder, config.pyramid)
        self.stride = self.segmenter.stride

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """`classes` (cross entropy and Dice), `depth`, `border`, `way` (in radii): each 0, with gradients of 0, where
        nothing is labelled; and `reconstruction`. total = alpha * reconstruction + (1 - alpha) * the sum of the others,
        each by its weight."""
        config = self.config
        raw = self.segmenter(batch.images)[:, : self.count].float()  # B K+4 H W
        terms = self._judged(raw, batch)
        weights = {"depth": config.depth_weight, "border": config.border_weight, "way": config.way_weight}
        total = terms["classes"] + sum(weight * terms[name] for name, weight in weights.items())
        if config.alpha:
            terms["reconstruction"] = self._reconstruction(batch.images)
            total = config.alpha * terms["reconstruction"] + (1 - config.alpha) * total
        return {**terms, "total": total}

    def _judged(self, raw: Tensor, batch: Batch) -> Losses:
        targets = targets_of(batch).to(raw.device)
        masks, depth, border, down, right, radius, near = targets.unbind(dim=1)  # each B H W
        known = (masks != IGNORE).float()
        pixels = known.sum().clamp(min=1)
        inside = (masks > 0).float()
        logits, (depths, borders, downs, rights) = raw[:, :-4], raw[:, -4:].unbind(dim=1)
        surprise = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="none")
        foreground = (1 - logits.softmax(dim=1)[:, 0]) * known
        overlap = (2 * (foreground * inside).sum() + 1) / (foreground.sum() + inside.sum() + 1)
        labelled = (known.sum() > 0).float()

        weight = known * (1 + self.config.touching * near)
        weights = weight.sum().clamp(min=1)  # of means: where all objects touch, no term outgrows the others

        def entropy(answer: Tensor, target: Tensor) -> Tensor:
            return (F.binary_cross_entropy_with_logits(answer, target, reduction="none") * weight).sum() / weights

        # the entropy of a target between 0 and 1 is no error: what is left is 0 for the right answer
        least = -torch.xlogy(depth, depth) - torch.xlogy(1 - depth, 1 - depth)
        off = torch.stack([downs * self.config.unit - down, rights * self.config.unit - right]) / radius.clamp(min=1)
        way = F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none", beta=0.2).sum(dim=0)
        return {
            "classes": surprise.sum() / pixels + self.config.dice * labelled * (1 - overlap),
            "depth": entropy(depths, depth) - (least * weight).sum() / weights,
            "border": entropy(borders, border),
            "way": (way * weight * inside).sum() / (weight * inside).sum().clamp(min=1),
        }

    def _reconstruction(self, images: Tensor) -> Tensor:
        """Mean squared difference of the mended pictures to the pictures, standardised."""
        with torch.autocast(images.device.type, enabled=False):
            given, known = damaged(images.float(), self.config.corruption)
            answer = self.segmenter(given + self.mean * (1 - known))[:, self.count :].float()
            return (answer - (images - self.mean) / self.deviation).square().mean()

    def maps(self, raw: Tensor) -> Tensor:
        """(B, K + 4, H, W): class probabilities, depth and border in [0, 1], ways in pixels; of logits, and ways in
        units."""
        classes, insides, ways = raw[:, :-4], raw[:, -4:-2], raw[:, -2:]
        return torch.cat([classes.softmax(dim=1), insides.sigmoid(), ways * self.config.unit], dim=1)

    def mirrored(self, maps: np.ndarray) -> np.ndarray:
        """The maps of the picture, from those of its mirror image (left to right)."""
        flipped = maps[:, :, ::-1].copy()
        flipped[-1] *= -1
        return flipped


def targets_of(batch: Batch) -> Tensor:
    """(B, 7, H, W) float32: class (IGNORE where unknown), depth, border, way down and right in pixels, the radius of
    the pixel's object (that of a disk of its area), and whether two objects are within NEAR pixels; 0 outside of
    objects, but for the last."""
    if batch.objects is None:
        blank = torch.zeros(len(batch), 7, *batch.images.shape[2:])
        blank[:, 0] = IGNORE
        return blank
    labels = batch.objects.cpu().numpy().astype(np.int32)
    classes = [each.cpu().numpy() for each in batch.object_classes]
    return torch.from_numpy(np.stack([_targets(*each) for each in zip(labels, classes, strict=True)]))


def _targets(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """`targets_of` for one label image (H, W) int32 and the classes (N,) of its objects."""
    planes = np.zeros((7, *labels.shape), np.float32)
    planes[0] = np.concatenate([[0], classes, [IGNORE]])[labels]  # IGNORE is -1, which reads the last
    there = labels > 0
    if not there.any():
        return planes
    padded = np.pad(labels, 1, mode="edge")  # the picture's own edge is no border
    middle = padded[1:-1, 1:-1]
    differs = np.zeros(labels.shape, bool)
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        differs |= middle != other
    border = there & differs
    planes[2] = border
    numbers, count = labels[there], len(classes) + 1
    y, x = np.nonzero(there)
    areas = np.maximum(np.bincount(numbers, minlength=count), 1)
    planes[3][there] = (np.bincount(numbers, y, count) / areas)[numbers] - y
    planes[4][there] = (np.bincount(numbers, x, count) / areas)[numbers] - x
    planes[5][there] = np.sqrt(areas / np.pi)[numbers]
    inner = cv2.distanceTransform((there & ~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[there]
    deepest = np.zeros(count)
    np.maximum.at(deepest, numbers, inner)
    planes[1][there] = (inner + 0.5) / (deepest[numbers] + 0.5)
    planes[6] = near_two(labels)
    return planes


def near_two(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: where two objects of a label image are within NEAR pixels, counted along both sides."""
    window = np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)
    numbers = labels.astype(np.float32)  # exact to 2**24; OpenCV takes no int32 here
    highest = cv2.dilate(numbers, window)
    lowest = -cv2.dilate(np.where(numbers > 0, -numbers, -np.inf).astype(np.float32), window)
    return (highest > 0) & (lowest < highest)
