"""Losses that look at one pixel at a time, and their mean over the pixels that count.

Focal loss: Lin et al., "Focal Loss for Dense Object Detection", 2017, arxiv.org/abs/1708.02002, equation 4.
Hard pixels: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", 2016,
arxiv.org/abs/1604.03540; there whole regions are chosen, here pixels of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def focal(surprise: Tensor, gamma: float) -> Tensor:
    """The focal loss (1 - p)^gamma * -log p for surprise = -log p, p the probability given to the truth; same shape.

    gamma >= 0; 0 returns the surprise itself, which is the cross entropy.
    """
    # 1 - p without cancellation; kept off 0, where the derivative of x^gamma is infinite for gamma < 1
    wrong = (-torch.expm1(-surprise)).clamp(min=1e-6)
    return wrong**gamma * surprise


def weighted_mean(values: Tensor, weight: Tensor, hardest: float = 1.0) -> Tensor:
    """The mean of `values` weighted by `weight` >= 0 of the same shape, a scalar; 0 where all weights are 0.

    hardest: in (0, 1], the share of the places of weight above 0 that take part, by weighted value, largest first
    (at least one place). A class of weight 2 counts as if each of its pixels were there twice.
    """
    values, weight = values.flatten(), weight.flatten()
    if hardest < 1:
        out = weight == 0
        count = values.numel() - int(out.sum())
        ranks = (values.detach() * weight).masked_fill(out, -1)
        chosen = ranks.topk(max(1, round(hardest * count)) if count else 0, sorted=False).indices
        values, weight = values[chosen], weight[chosen]
    total = weight.sum()
    return torch.dot(values, weight) / torch.where(total > 0, total, 1)  # dot: one pass, no product in memory
