"""Mask R-CNN: boxes are proposed, classified and moved into place, and each gets a mask of its own.

He, Gkioxari, Dollar, Girshick: Mask R-CNN, 2017, https://arxiv.org/abs/1703.06870
Ren, He, Girshick, Sun: Faster R-CNN, 2015, https://arxiv.org/abs/1506.01497 (proposals)
Lin et al.: Feature Pyramid Networks, 2017, https://arxiv.org/abs/1612.03144 (the maps, and which one a box is cut from)
He, Girshick, Dollar: Rethinking ImageNet Pre-training, 2019, https://arxiv.org/abs/1811.08883 (norms by groups where
training starts from nothing)

Built of torchvision's bricks, whose weights of COCO load (`models/weights.py`). Where we differ from it and the paper:
- Pictures keep their size unless `shorter_side` asks for another; anchors can be fitted to the data (`anchors.py`).
- The pyramid and the mask head are narrower, and normalised by groups: boxes of one batch are no fair sample of all.
- A pixel's value stands for its centre (`aligned`) where boxes are cut out and masks laid down again. In the paper's
  code, and torchvision's, which `aligned = False` repeats, it stands for the corner, half a pixel off.
- The loss is the same in training and evaluation. What nobody labelled is neither object nor background in it.
- Of all boxes only the best are decoded, of all classes' masks only the one asked for is computed, and a mask is laid
  on the pixels of its box alone: hundreds of objects on a large picture cost what their boxes hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, clip_boxes_to_image, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ...errors import UsageError
from ...grouping import in_one, laid_on_pixels, pixel_boxes
from ...networks.encoders import build_encoder
from ...records import IGNORE, Batch, Detections, Instances
from ..contract import InstanceConfig, InstanceModel, Losses
from .anchors import Sizes, usual_anchors
from .boxes import cut_out, sampled, softly_suppressed, suppressed
from .truths import Truth, labels_of, truth_of

BOX_CELLS = 7  # a box is seen as 7 x 7 cells to be classified
SAMPLING = 2  # points of a cell, squared (section 3)
BETA = 1 / 9  # of the smooth L1 loss, below which it is a square
NARROWEST = 1e-3  # pixels: proposals below it are none
TOGETHER = 64  # masks that are computed at a time, in prediction


class MaskRCNNConfig(InstanceConfig):
    """What builds a Mask R-CNN, and what it takes for an object."""

    name: Literal["mask_rcnn"] = "mask_rcnn"
    encoder: str = "small"  # one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    frozen_norm: bool = False  # the encoder's batch norms keep their statistics: for pretrained ones and few pictures
    finest: Literal[2, 4, 8] = 4  # pixels between places of the finest map; 2 for objects below 8 pixels, 3x slower
    pyramid: int = Field(64, ge=1)  # channels of every map; 256 in the paper
    norm: Literal["none", "batch", "group"] = "group"  # of the pyramid, and of convolutions in the heads
    anchor_sizes: Sizes | None = None  # pixels, those of each level; None = 8 times the distance of its places
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width
    shorter_side: int | None = Field(None, ge=1)  # pixels to which pictures are resized inside; None = as they are
    longer_side: int | None = Field(None, ge=1)  # pixels that they may have after that at most; None = any
    proposal_depth: int = Field(1, ge=1)  # convolutions before proposals
    proposals: int = Field(1000, ge=1)  # of a picture that are looked at, in prediction and training
    proposals_a_level: int = Field(1000, ge=1)  # that are thinned out for them
    proposal_overlap: float = Field(0.7, gt=0, le=1)  # IoU with a better one above which a proposal is left out
    anchor_samples: int = Field(256, ge=2)  # anchors of a picture that are learnt from, half of them of objects
    box_samples: int = Field(128, ge=4)  # proposals of a picture that are learnt from, a quarter of them of objects
    box_width: int = Field(256, ge=1)  # features of the box head; 1024 in the paper
    box_depth: int = Field(0, ge=0)  # its convolutions before one layer of features; 0 = none, and two layers
    mask_size: int = Field(28, ge=4, multiple_of=2)  # M: values on each side of an object's mask, in its box
    mask_width: int = Field(64, ge=1)  # channels of the mask head; 256 in the paper
    mask_depth: int = Field(4, ge=1)  # its convolutions
    aligned: bool = True  # a pixel's value stands for its centre; False = for its corner, as in torchvision's weights
    least_score: float = Field(0.05, ge=0, lt=1)  # below which nothing is detected, whatever the thresholds say
    suppression: Literal["class", "all", "soft"] = "class"  # boxes on a better one of their class, or any, go; or fade
    box_overlap: float = Field(0.5, gt=0, le=1)  # IoU with a better one above which a box goes; not used where "soft"
    detections: int = Field(500, ge=1)  # of a picture, at most
    mask_threshold: float = Field(0.5, gt=0, lt=1)  # probability above which a pixel is of the object

    @field_validator("anchor_sizes", "anchor_ratios")
    @classmethod
    def _above_0(cls, value: Any) -> Any:
        levels = [] if value is None else [level if isinstance(level, tuple) else (level,) for level in value]
        if value is not None and (not levels or len({len(each) for each in levels}) > 1 or not levels[0]):
            raise ValueError("give each level as many sizes of anchors, and at least one size and one ratio.")
        if any(not 0 < each < math.inf for level in levels for each in level):
            raise ValueError(f"sizes and ratios of anchors must be above 0, these are {value}.")
        return value


class Seen(NamedTuple):
    """Pictures as the network saw them, h x w pixels each."""

    maps: list[Tensor]  # of the pyramid but the last: (B, channels, h/r, w/r)
    objectness: list[Tensor]  # (B, A) logits, a level each
    deltas: list[Tensor]  # (B, A, 4) likewise
    anchors: list[Tensor]  # (A, 4) likewise
    size: tuple[int, int]  # h and w, without padding
    scale: Tensor  # (4,): what pixels of the pictures are multiplied by, as a box


class MaskRCNN(InstanceModel[Detections]):
    """An encoder, a pyramid of its maps, and three heads.

    x (B, C, H, W)
    │
    encoder ── pyramid ─┬─ maps ── proposal_head ── objectness, deltas of anchors ──► proposals
                        │                                                              │ the best, thinned out
                        ├─ cut out, 7 x 7 ◄────────────────────────────────────────────┤
                        │  box_head ── box_predictor ──► class, box                    │
                        │                                │ the best, thinned out       │
                        └─ cut out, M/2 x M/2 ◄──────────┘                             │ (in training)
                           mask_head ── mask_predictor ──► mask (M, M) in its box ◄────┘
    """

    Config = MaskRCNNConfig
    config: MaskRCNNConfig
    recommended: ClassVar[Mapping[str, Any]] = {"train.learning_rate": 1e-3, "train.weight_decay": 0.01}
    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "score": (0.5, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9),  # objects below it are left out
        "overlap": (0.5, 0.3, 0.7, 0.9),  # share of an object that better ones hide, above which it is left out
    }

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder, config.channels, config.pretrained)
        self.stride = max(self.encoder.reductions)
        last = {reduction: place for place, reduction in enumerate(self.encoder.reductions)}
        if config.finest not in last:
            raise UsageError(
                f'encoder "{config.encoder}" has maps at 1/{", 1/".join(map(str, last))} of the picture\'s size, '
                f"not at 1/{config.finest}; set model.finest to one of these, or take another encoder."
            )
        self.reductions = tuple(each for each in last if each >= config.finest)
        self.places = tuple(last[each] for each in self.reductions)
        levels = (*self.reductions, 2 * self.reductions[-1])
        sizes = config.anchor_sizes or usual_anchors(levels)
        if len(sizes) != len(levels):
            raise UsageError(
                f"model.anchor_sizes is for {len(sizes)} levels, but there are {len(levels)}, with places every "
                f"{', '.join(map(str, levels))} pixels; give sizes for each."
            )
        self.anchors = AnchorGenerator(sizes, (config.anchor_ratios,) * len(levels))
        norm, width = _norm(config.norm), config.pyramid
        inputs = [self.encoder.channels[place] for place in self.places]
        self.pyramid = FeaturePyramidNetwork(inputs, width, LastLevelMaxPool(), norm)
        self.proposal_head = RPNHead(width, len(sizes[0]) * len(config.anchor_ratios), config.proposal_depth)
        shape = (width, BOX_CELLS, BOX_CELLS)
        self.box_head: nn.Module = (
            FastRCNNConvFCHead(shape, [width] * config.box_depth, [config.box_width], norm)
            if config.box_depth
            else TwoMLPHead(math.prod(shape), config.box_width)
        )
        self.box_predictor = FastRCNNPredictor(config.box_width, config.classes)
        self.mask_head = MaskRCNNHeads(width, [config.mask_width] * config.mask_depth, 1, norm)
        self.mask_predictor = MaskRCNNPredictor(config.mask_width, config.mask_width, config.classes)
        self.proposal_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.centre = 0.5 if config.aligned else 0.0
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.frozen_norm:  # the one thing that training mode would change in them
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    # ------------------------------------------------------------------------------------------ looking

    def _seen(self, images: Tensor) -> Seen:
        """What the network makes of pictures (B, C, H, W) in [0, 1], before anything is chosen."""
        x = (images - self.mean) / self.deviation
        height, width = images.shape[2:]
        config, factor = self.config, 1.0
        if config.shorter_side:
            factor = config.shorter_side / min(height, width)
        if config.longer_side:
            factor = min(factor, config.longer_side / max(height, width))
        h, w = max(1, math.floor(height * factor)), max(1, math.floor(width * factor))
        if (h, w) != (height, width):
            x = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)  # B C h w
        x = F.pad(x, (0, -w % self.stride, 0, -h % self.stride)).contiguous(memory_format=torch.channels_last)
        maps = self.encoder(x)
        levels = self.pyramid({str(level): maps[place] for level, place in enumerate(self.places)})
        *cut, last = levels.values()
        objectness, deltas = self.proposal_head([*cut, last])
        return Seen(
            maps=[each.float().contiguous() for each in cut],
            objectness=[_flat(each, 1).squeeze(2) for each in objectness],
            deltas=[_flat(each, 4) for each in deltas],
            anchors=self._anchors(x, [each.shape[2:] for each in objectness]),
            size=(h, w),
            scale=x.new_tensor([w / width, h / height] * 2),
        )

    def _anchors(self, x: Tensor, sizes: Sequence[torch.Size]) -> list[Tensor]:
        """(A, 4) float32 for each level of maps of these sizes (h, w), of pictures x (B, C, H, W)."""
        self.anchors.set_cell_anchors(torch.float32, x.device)
        sides = [(x.shape[2] // h, x.shape[3] // w) for h, w in sizes]
        strides = [[torch.full((), side, device=x.device) for side in each] for each in sides]
        return self.anchors.grid_anchors(sizes, strides)

    @torch.no_grad()
    def _proposed(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(B, P, 4) the proposals of each picture, best first, and (B, P) bool: whether there are so many."""
        boxes, scores = [], []
        for objectness, deltas, anchors in zip(seen.objectness, seen.deltas, seen.anchors, strict=True):
            best, which = objectness.topk(min(self.config.proposals_a_level, len(anchors)), dim=1)  # B k
            for picture in range(len(best)):
                near, moves = anchors[which[picture]], deltas[picture, which[picture]]
                found = clip_boxes_to_image(self.proposal_coder.decode_single(moves, near), seen.size)  # k 4
                valid = (found[:, 2:] - found[:, :2] >= NARROWEST).all(dim=1)
                group, score = torch.zeros_like(which[picture]), best[picture].sigmoid()
                boxes.append(found)
                scores.append(suppressed(found, score, group, valid, self.config.proposal_overlap))
        count = len(seen.objectness[0])
        together = torch.stack([torch.cat(boxes[picture::count]) for picture in range(count)])  # B A 4
        best, which = torch.stack([torch.cat(scores[picture::count]) for picture in range(count)]).sort(
            dim=1, descending=True, stable=True
        )
        best, which = best[:, : self.config.proposals], which[:, : self.config.proposals]
        return together.gather(1, which[:, :, None].expand(-1, -1, 4)), best >= 0

    def _cut(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], cells: int) -> Tensor:
        """(R, channels, cells, cells): all pictures' boxes, from the map of its size (Lin et al., equation 1)."""
        together = torch.cat(list(boxes))
        pictures = torch.cat([each.new_full((len(each), 1), number) for number, each in enumerate(boxes)])
        places = torch.cat([pictures, together], dim=1)  # R 5
        side = (together[:, 2:] - together[:, :2]).prod(dim=1).sqrt()
        level = torch.floor(4 + torch.log2(side / 224) + 1e-6)
        first, last = (math.log2(each) for each in (self.reductions[0], self.reductions[-1]))
        level = level.clamp(first, last).long() - int(first)
        result = maps[0].new_zeros(len(places), maps[0].shape[1], cells, cells)
        for number, (each, reduction) in enumerate(zip(maps, self.reductions, strict=True)):
            which = (level == number).nonzero().flatten()
            cut = roi_align(each, places[which], cells, 1 / reduction, SAMPLING, self.config.aligned)
            result = result.index_copy(0, which, cut)
        return result

    def _judged(self, seen: Seen, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, K) and deltas (R, K, 4) of all pictures' boxes."""
        logits, deltas = self.box_predictor(self.box_head(self._cut(seen.maps, boxes, BOX_CELLS)))
        return logits.float(), deltas.float().unflatten(1, (-1, 4))

    def _masks(self, seen: Seen, boxes: Sequence[Tensor], classes: Tensor) -> Tensor:
        """(R, M, M) logits of the masks of all pictures' boxes, each of the class (R,) that its object is of."""
        cut = self._cut(seen.maps, boxes, self.config.mask_size // 2)
        features = self.mask_head(cut.contiguous(memory_format=torch.channels_last))
        up, relu, last = self.mask_predictor
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        features = relu(up(features)).flatten(2)  # R C M*M
        wanted = last.weight.flatten(1)[classes]  # R C
        logits = torch.bmm(wanted[:, None], features) + last.bias[classes][:, None, None]
        return logits.float().unflatten(2, (self.config.mask_size, -1)).squeeze(1)

    def _detected(self, seen: Seen, proposals: Sequence[Tensor], valid: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """For each picture boxes (D, 4), scores and classes (D,), best first; what is missing has score 0."""
        config = self.config
        found: list[Sequence[Tensor]] = []
        logits, deltas = self._judged(seen, proposals)
        counts = [len(each) for each in proposals]
        of_pictures = zip(proposals, valid, logits.split(counts), deltas.split(counts), strict=True)
        for near, there, logit, move in of_pictures:
            scores = (logit.softmax(dim=1)[:, 1:] * there[:, None]).flatten()  # P*(K-1)
            considered = min(max(4 * config.detections, 2000), len(scores))
            best, which = scores.topk(considered)
            place, classes = which // (config.classes - 1), which % (config.classes - 1) + 1
            boxes = self.box_coder.decode_single(move[place, classes], near[place])
            boxes = clip_boxes_to_image(boxes, seen.size)
            fit = (best > config.least_score) & (boxes[:, 2:] - boxes[:, :2] >= 10 * NARROWEST).all(dim=1)
            if config.suppression == "soft":
                best = softly_suppressed(boxes, best * fit, classes, config.detections, max(config.least_score, 1e-6))
            else:
                groups = classes if config.suppression == "class" else torch.zeros_like(classes)
                best = suppressed(boxes, best, groups, fit, config.box_overlap)
            best, which = best.sort(descending=True, stable=True)
            best, which = best[: config.detections], which[: config.detections]
            found.append((boxes[which], best.clamp(min=0), classes[which]))
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For pictures (B, C, H, W) in [0, 1] up to D detections, best first: boxes (B, D, 4) in their pixels, scores
        (B, D) in [0, 1], classes (B, D), and the masks' probabilities in the boxes (B, D, M, M). Their number is always
        the same, so that they can be exported; those of score 0 are none."""
        seen = self._seen(images)
        proposals, valid = self._proposed(seen)
        found = self._detected(seen, list(proposals), list(valid))
        boxes, scores, classes = (torch.stack(each) for each in zip(*found, strict=True))  # B D
        masks = self._masks(seen, list(boxes), classes.flatten()).sigmoid().unflatten(0, classes.shape)
        return boxes / seen.scale, scores, classes, masks

    @torch.inference_mode()
    def answers(self, images: Tensor) -> Sequence[Detections]:
        seen = self._seen(images)
        proposals = [boxes[there] for boxes, there in zip(*self._proposed(seen), strict=True)]
        found = self._detected(seen, proposals, [boxes.new_ones(len(boxes)) for boxes in proposals])
        answers = []
        for number, (boxes, scores, classes) in enumerate(found):
            kept = scores > 0
            boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
            alone = seen._replace(maps=[each[number : number + 1] for each in seen.maps])
            parts = zip(boxes.split(TOGETHER), classes.split(TOGETHER), strict=True)
            masks = [self._masks(alone, [some], kind).sigmoid() for some, kind in parts]
            values = torch.cat(masks).cpu().numpy() if masks else np.zeros((0, 1, 1), np.float32)
            places = (boxes / seen.scale).cpu().numpy()
            size = (images.shape[2], images.shape[3])
            pixels = pixel_boxes(places, size, self.centre)
            laid = zip(values, places, pixels, strict=True)
            least = self.config.mask_threshold
            answers.append(
                Detections(
                    size=size,
                    boxes=pixels,
                    classes=classes.cpu().numpy().astype(np.int16),
                    scores=scores.cpu().numpy(),
                    masks=tuple(laid_on_pixels(mask, box, place, self.centre, least) for mask, box, place in laid),
                )
            )
        return answers

    def objects(self, answer: Detections, thresholds: Mapping[str, float] | None = None) -> Instances:
        at = {**self.thresholds, **(thresholds or {})}
        return in_one(answer, at["score"], at["overlap"])

    # ------------------------------------------------------------------------------------------ learning

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """`objectness` and `proposal_box` of sampled anchors, `class`, `box` and `mask` of sampled proposals; their sum
        is `total`. All are 0, with gradients of 0, where nothing is labelled; pictures without a label add nothing."""
        zero = sum((each.sum() for each in self.parameters()), batch.images.new_zeros(())) * 0
        nothing = dict.fromkeys(("objectness", "proposal_box", "class", "box", "mask", "total"), zero)
        if batch.objects is None:
            return nothing
        labelled = (batch.objects != IGNORE).flatten(1).any(dim=1)
        if not labelled.any():
            return nothing
        some = batch.select(labelled)
        seen = self._seen(some.images)
        assert some.objects is not None
        truths = [truth_of(*each, seen.scale) for each in zip(some.objects, some.object_classes, strict=True)]
        terms = {**self._proposal_loss(seen, truths), **self._object_loss(seen, truths)}
        total = torch.stack(list(terms.values())).sum()
        return {**terms, "total": total + zero}  # gradients of 0 for heads that had nothing to learn

    def _proposal_loss(self, seen: Seen, truths: Sequence[Truth]) -> Losses:
        """Faster R-CNN, equation 1, over all sampled anchors of all pictures."""
        anchors = torch.cat(seen.anchors)  # A 4
        objectness, deltas = torch.cat(seen.objectness, dim=1), torch.cat(seen.deltas, dim=1)  # B A (4)
        logits, targets, moves, wanted = [], [], [], []
        for picture, truth in enumerate(truths):
            with torch.no_grad():
                labels, best = labels_of(truth, anchors, low=0.3, high=0.7, each=True, scale=seen.scale)
                positive, negative = sampled(labels, self.config.anchor_samples, 0.5)
                wanted.append(self.proposal_coder.encode_single(truth.boxes[best[positive]], anchors[positive]))
            logits.append(objectness[picture, torch.cat([positive, negative])])
            targets.append(labels[torch.cat([positive, negative])].float())
            moves.append(deltas[picture, positive])
        count = max(1, sum(len(each) for each in logits))
        sampled_of_all = torch.cat(logits), torch.cat(targets)
        return {
            "objectness": F.binary_cross_entropy_with_logits(*sampled_of_all, reduction="sum") / count,
            "proposal_box": F.smooth_l1_loss(torch.cat(moves), torch.cat(wanted), reduction="sum", beta=BETA) / count,
        }

    def _object_loss(self, seen: Seen, truths: Sequence[Truth]) -> Losses:
        """Mask R-CNN, section 3: the loss of class, box and mask, over all sampled proposals of all pictures."""
        proposals, valid = self._proposed(seen)
        chosen, classes, wanted, with_object, masks, known = [], [], [], [], [], []
        for boxes, there, truth in zip(proposals, valid, truths, strict=True):
            with torch.no_grad():
                boxes = torch.cat([boxes[there], truth.boxes])  # the objects' own boxes are among them
                labels, best = labels_of(truth, boxes, low=0.5, high=0.5, each=False, scale=seen.scale)
                positive, negative = sampled(labels, self.config.box_samples, 0.25)
                objects = best[positive]
                wanted.append(self.box_coder.encode_single(truth.boxes[objects], boxes[positive]))
                inside, labelled = cut_out(
                    truth.label_image, boxes[positive] / seen.scale, truth.numbers[objects],
                    self.config.mask_size, self.centre,
                )  # fmt: skip
                masks.append(inside)
                known.append(labelled)
                classes.append(torch.cat([truth.classes[objects], torch.zeros_like(negative)]))
                with_object.append(torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]) > 0)
                chosen.append(boxes[torch.cat([positive, negative])])
        logits, deltas = self._judged(seen, chosen)
        kinds, objects = torch.cat(classes), torch.cat(with_object)
        count = max(1, len(kinds))
        moves = deltas[objects, kinds[objects]]
        terms = {
            "class": F.cross_entropy(logits, kinds, reduction="sum") / count,
            "box": F.smooth_l1_loss(moves, torch.cat(wanted), reduction="sum", beta=BETA) / count,
        }
        positive_boxes = [boxes[which] for boxes, which in zip(chosen, with_object, strict=True)]
        answer = self._masks(seen, positive_boxes, kinds[objects])  # R M M
        weight = torch.cat(known)
        surprise = F.binary_cross_entropy_with_logits(answer, torch.cat(masks), weight, reduction="sum")
        return {**terms, "mask": surprise / weight.sum().clamp(min=1)}


def _flat(maps: Tensor, values: int) -> Tensor:
    """(B, A, values) float32 of maps (B, anchors * values, h, w): place by place, each anchor of it."""
    return maps.float().unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def _norm(name: str) -> Callable[..., nn.Module] | None:
    """What makes a norm for a number of channels; None for none."""
    if name == "group":
        return lambda channels: nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 8))), channels)
    return nn.BatchNorm2d if name == "batch" else None
