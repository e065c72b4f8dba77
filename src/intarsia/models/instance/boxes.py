"""Boxes and the masks in them: from label images, paired, and thinned out.

A box is left, top, right, bottom in pixels: 0 <= left < right <= W, and a pixel i reaches from i to i + 1. N objects,
A anchors or other boxes, H x W pixels, M x M values of a mask in its box.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, nms

from ...records import IGNORE

CHUNK = 1 << 22  # pairs of boxes that are compared at a time
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
