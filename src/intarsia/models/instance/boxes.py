"""Boxes and the masks in them: from label images, paired, thinned out, and laid on pixels again.

A box is left, top, right, bottom in pixels: 0 <= left < right <= W, and a pixel i reaches from i to i + 1. N objects,
A anchors or other boxes, H x W pixels, M x M values of a mask in its box.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, nms

from ...data.run_lengths import run_lengths_in_box
from ...records import IGNORE, Detections, Instances

CHUNK = 1 << 22  # pairs of boxes that are compared at a time
PIXELS = 1 << 22  # of a mask that are computed at a time
SIGMA = 0.5  # of soft suppression's Gaussian (Bodla et al., section 5)


def boxes_of(label_image: Tensor, count: int) -> Tensor:
    """(N, 4) float32: the box of each of the objects 1..N of a label image (H, W); four zeros where there is none."""
    height, width = label_image.shape
    number = label_image.clamp(min=0).flatten()  # IGNORE counts as background here
    boxes = []
    for side, last in ((torch.arange(width), width), (torch.arange(height)[:, None], height)):
        place = side.to(label_image.device).expand(height, width).flatten()
        low = torch.full((count + 1,), last, device=label_image.device).scatter_reduce(0, number, place, "amin")
        high = torch.full((count + 1,), -1, device=label_image.device).scatter_reduce(0, number, place, "amax")
        boxes.append((low, high + 1))
    (left, right), (top, bottom) = boxes
    there = (right > 0)[1:, None]
    return (torch.stack([left, top, right, bottom], dim=1)[1:] * there).float()


class Pairing(NamedTuple):
    """Which object each of A boxes is most like."""

    best: Tensor  # (A,) int64, 0..N-1
    iou: Tensor  # (A,) float32, with that object
    chosen: Tensor  # (A,) bool: some object has no box that is more like it


def paired(objects: Tensor, boxes: Tensor) -> Pairing:
    """The most similar of the objects' boxes (N, 4), N > 0, for each of the boxes (A, 4); a few objects at a time."""
    iou = boxes.new_full((len(boxes),), -1.0)
    best = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    chosen = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    step = max(1, CHUNK // max(len(boxes), 1))
    for first in range(0, len(objects), step):
        table = box_iou(objects[first : first + step], boxes)  # n A
        value, which = table.max(dim=0)
        better = value > iou
        iou, best = torch.where(better, value, iou), torch.where(better, which + first, best)
        most = table.amax(dim=1, keepdim=True)
        chosen |= ((table == most) & (most > 0)).any(dim=0)
    return Pairing(best, iou, chosen)


def sampled(labels: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Places of up to `count` of the labels (A,), drawn at random: of those above 0 up to `share` of `count`, and of
    those that are 0 what is left. Labels below 0 are never drawn."""
    positive, negative = (labels > 0).nonzero().flatten(), (labels == 0).nonzero().flatten()
    some = min(len(positive), int(count * share))
    others = min(len(negative), count - some)
    positive = positive[torch.randperm(len(positive), device=labels.device)[:some]]
    negative = negative[torch.randperm(len(negative), device=labels.device)[:others]]
    return positive, negative


def shares(boxes: Tensor, where: Tensor) -> Tensor:
    """(A,) in [0, 1]: the share of each box's pixels that `where` (H, W) bool marks; boxes are rounded to pixels."""
    height, width = where.shape
    sums = F.pad(where.double().cumsum(dim=0).cumsum(dim=1), (1, 0, 1, 0))  # H+1 W+1
    left, right = (boxes[:, side].round().long().clamp(0, width) for side in (0, 2))
    top, bottom = (boxes[:, side].round().long().clamp(0, height) for side in (1, 3))
    marked = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return (marked / ((right - left) * (bottom - top)).clamp(min=1)).float()


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """(A,) the scores, and -1 for each box that overlaps a better one of its group by an IoU above `threshold`, or is
    not valid. The number of boxes stays, so that this can be exported.

    Groups are kept apart by moving them apart, in 64 bits, where the moved ones overlap as they did. What is not valid
    is moved to one far place, where the first takes out all others at once: sorting them out would cost more.
    """
    far = boxes.detach().abs().max() + 1
    moved = boxes.double() + (2 * far.double() * (groups + 1))[:, None]
    sink = boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).double() - 4 * far
    moved = torch.where(valid[:, None], moved, sink)
    ranked = torch.where(valid, scores, -1.0).double()
    if torch.compiler.is_exporting():  # torchvision's graph of `nms` keeps two at least: two that nothing overlaps
        alone = torch.stack([sink - 4 * far, sink - 8 * far])
        kept = nms(torch.cat([moved, alone]), F.pad(ranked, (0, 2), value=-2.0), threshold)
        alive = (torch.arange(len(scores), device=scores.device)[:, None] == kept).any(dim=1)
    else:
        alive = torch.zeros_like(scores).index_fill(0, nms(moved, ranked, threshold), 1.0) > 0
    return torch.where(valid & alive, scores, -1.0)


def softly_suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, count: int, least: float) -> Tensor:
    """(A,) the scores of up to `count` boxes, and -1 for all others: the best is taken again and again, and lowers
    those of its group by exp(-IoU^2 / sigma), until none reaches `least`.

    Bodla, Singh, Chellappa, Davis: Soft-NMS, 2017, https://arxiv.org/abs/1704.04503, equation 3.
    """
    decay = torch.exp(-box_iou(boxes, boxes).square() / SIGMA)
    decay = torch.where(groups[:, None] == groups[None], decay, 1.0)  # A A
    left, taken = scores.clone(), torch.full_like(scores, -1.0)
    for _ in range(min(count, len(scores))):
        best = left.argmax()
        score = left[best]
        if not torch.compiler.is_exporting() and score < least:
            break
        taken = taken.scatter(0, best[None], score[None])
        left = (left * decay[best]).index_fill(0, best, -1.0)
    return torch.where(taken >= least, taken, -1.0)


def cut_out(label_image: Tensor, boxes: Tensor, numbers: Tensor, size: int, centre: float) -> tuple[Tensor, Tensor]:
    """(N, M, M) float32 in [0, 1] twice: how much of each cell of a box is of the object with that number, and how much
    of it somebody labelled. Cells are the means of 2 x 2 bilinear samples, and no object becomes a mask of its own.

    label_image: (H, W). boxes: (N, 4) in its pixels. numbers: (N,). centre: 0.5 where a pixel's value stands for its
    centre, 0 where for its upper left corner.
    """
    places = (torch.arange(2 * size, device=boxes.device) + 0.5) / (2 * size)  # 2M, in [0, 1]

    def around(low: Tensor, high: Tensor, last: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        at = (low[:, None] + places * (high - low)[:, None] - centre).clamp(0, last)  # N 2M
        first = at.floor().long()
        share = at - first
        return (first, 1 - share), ((first + 1).clamp(max=last), share)

    height, width = label_image.shape
    inside = boxes.new_zeros(len(boxes), 2 * size, 2 * size)
    known = torch.zeros_like(inside)
    for row, down in around(boxes[:, 1], boxes[:, 3], height - 1):
        for column, across in around(boxes[:, 0], boxes[:, 2], width - 1):
            found = label_image[row[:, :, None], column[:, None, :]]  # N 2M 2M
            weight = down[:, :, None] * across[:, None, :]
            inside += weight * (found == numbers[:, None, None])
            known += weight * (found != IGNORE)
    return F.avg_pool2d(inside[:, None], 2)[:, 0], F.avg_pool2d(known[:, None], 2)[:, 0]  # N M M


def pixel_boxes(boxes: np.ndarray, size: tuple[int, int], centre: float) -> np.ndarray:
    """(N, 4) int64: the pixels whose centres are in the boxes (N, 4), at least one, within a picture of that height and
    width."""
    limits = np.array([size[1], size[0]])
    low = np.ceil(boxes[:, :2] - centre).astype(np.int64)
    high = np.ceil(boxes[:, 2:] - centre).astype(np.int64)
    middle = np.floor(boxes.reshape(-1, 2, 2).mean(axis=1)).astype(np.int64)
    low = np.where(high > low, low, middle).clip(0, limits - 1)
    return np.concatenate([low, high.clip(low + 1, limits)], axis=1)


def laid_on_pixels(values: np.ndarray, box: np.ndarray, pixels: np.ndarray, centre: float, least: float) -> np.ndarray:
    """(bottom - top, right - left) bool: where the values (M, M) of a mask in its box (4,), interpolated bilinearly at
    the pixels' centres, are above `least`.

    pixels: (4,) int64, those of the box. Interpolating is done on one axis after the other, as two products of
    matrices; up to the box's border the outermost values hold, so that a mask can fill its box.
    """
    left, top, right, bottom = (int(each) for each in pixels)
    across = _weights(left, right, float(box[0]), float(box[2]), len(values), centre)
    lines = values @ across.T  # M w
    mask = np.empty((bottom - top, right - left), bool)
    step = max(1, PIXELS // (right - left))
    for first in range(top, bottom, step):
        last = min(first + step, bottom)
        down = _weights(first, last, float(box[1]), float(box[3]), len(values), centre)
        np.greater(down @ lines, least, out=mask[first - top : last - top])
    return mask


def _weights(first: int, last: int, low: float, high: float, count: int, centre: float) -> np.ndarray:
    """(last - first, M) float32: how much each value of an axis counts at each of the pixels."""
    at = (np.arange(first, last, dtype=np.float32) + centre - low) * (count / max(high - low, 1e-6)) - 0.5
    at = at.clip(0, count - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count, dtype=np.float32))).astype(np.float32)


def in_one(answer: Detections, score: float, overlap: float) -> Instances:
    """The detections of one picture in one label image, best first: where several are, the best has the pixel.

    Left out are those below `score`, and those of which better ones hide more than the share `overlap`, or all. Where
    some overlap, `runs` says each whole.
    """
    label_image = np.zeros(answer.size, np.int32)
    kept: list[int] = []
    overlapping = False
    for place in np.argsort(-answer.scores, kind="stable"):
        if answer.scores[place] < score:
            break
        left, top, right, bottom = answer.boxes[place]
        region, mask = label_image[top:bottom, left:right], answer.masks[place]
        free = mask & (region == 0)
        area, visible = np.count_nonzero(mask), np.count_nonzero(free)
        if visible == 0 or area - visible > overlap * area:
            continue
        overlapping = overlapping or bool(visible < area)
        kept.append(int(place))
        region[free] = len(kept)
    runs = None
    if overlapping:
        whole = [(answer.masks[place], int(answer.boxes[place, 0]), int(answer.boxes[place, 1])) for place in kept]
        runs = tuple(run_lengths_in_box(mask, left, top, answer.size) for mask, left, top in whole)
    return Instances(label_image, answer.classes[kept], answer.scores[kept], runs)
