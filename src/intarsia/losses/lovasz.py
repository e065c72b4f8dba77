"""The Lovász extension of the Jaccard loss: convex in the errors, exact on hard predictions.

Berman, Triki, Blaschko, "The Lovász-Softmax loss", 2018, arxiv.org/abs/1705.08790. Where classes overlap we use the
same errors |truth - probability| with sigmoid probabilities, not the paper's hinge: one function serves both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..records import IGNORE
from .region import mean_of_present


def lovasz_loss(probabilities: Tensor, target: Tensor, pooled: bool = True, background: bool = True) -> Tensor:
    """The Lovász-Jaccard loss, the mean over the classes present: a scalar in [0, 1]. Conventions as in region.py.

    Costs one sort of all pixels for each class present.
    """
    count, classes = probabilities.shape[:2]
    exclusive = target.ndim < probabilities.ndim
    planes = [target == k if exclusive else target[:, k] == 1 for k in range(classes)]  # of (B, H, W) bool
    rows = [slice(0, count)] if pooled else [slice(i, i + 1) for i in range(count)]
    present = torch.stack([torch.stack([plane[row].any() for plane in planes]) for row in rows])  # (R, K)
    values = [probabilities.new_zeros(()) + probabilities[:0].sum()] * present.numel()  # 0, with a gradient of 0
    for place, occurs in enumerate(present.flatten().tolist()):
        k = place % classes
        if not occurs or (k == 0 and not background):
            continue
        row = rows[place // classes]
        known = (target if exclusive else target[:, k])[row] != IGNORE
        values[place] = _one_class(probabilities[row, k].flatten(), planes[k][row].flatten(), known.flatten())
    return mean_of_present(torch.stack(values).view_as(present), present, background)


def _one_class(probabilities: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """The extension at the errors of one class, all (N,); at least one pixel of `truth`."""
    errors = (truth.to(probabilities.dtype) - probabilities).abs()
    with torch.no_grad():
        order = _descending(errors.masked_fill(~known, -1))  # unlabelled last, where the slope is 0
        slope = torch.empty_like(errors)
        slope[order] = _slope(truth[order])
    return torch.dot(errors, slope)


def _slope(truth: Tensor) -> Tensor:
    """How much the Jaccard loss grows as pixel after pixel (N,) turns from right to wrong (algorithm 1), (N,) float32.

    With I and U the sizes of intersection and union after the turn: a pixel of the class leaves I, so 1 / U; another
    enters U, so I / (U (U - 1)). The paper subtracts neighbours of 1 - I / U, which in float32 leaves few digits.
    """
    turned = truth.cumsum(dim=0)
    intersection = turned[-1] - turned
    union = turned[-1] + torch.arange(1, len(truth) + 1, device=truth.device) - turned
    intersection, union = intersection.float(), union.float()
    # a pixel outside the class makes U at least 2; the clamp is for the branch that is not taken
    return torch.where(truth, 1 / union, intersection / (union * (union - 1).clamp(min=1)))


def _descending(values: Tensor) -> Tensor:
    """The order (N,) int64 that sorts `values` (N,) from large to small."""
    if values.device.type == "cpu":  # NumPy's sort is vectorised: 28 ms against torch's 111 ms for 1.4 million
        return torch.from_numpy(np.argsort(-values.numpy()))
    return values.argsort(descending=True)
