"""Losses of overlap: how much of a class's region is shared by prediction and truth, pixels being soft.

Dice: Milletari et al., "V-Net", 2016, arxiv.org/abs/1606.04797; its denominator sums squares, ours sums, so that a
prediction of zeros and ones gives exactly 1 - F1. Tversky: Salehi et al., "Tversky loss function for image
segmentation using 3D fully convolutional deep networks", 2017, arxiv.org/abs/1706.05721, equation 2.

All functions here and in lovasz.py share their conventions:
    probabilities   (B, K, H, W) in [0, 1]
    target          masks (B, H, W) int64, 0..K-1 or IGNORE; where classes overlap, labels (B, K, H, W), 0, 1 or IGNORE
    pooled          True: the batch is one picture; False: each picture by itself, then the mean of the pictures
    background      False: class 0 is left out of the mean
A class that the target does not show (in the batch, or in the picture) is left out of the mean, because its overlap is
0 whatever is predicted; its false positives cost where they take the place of another class. Nothing labelled: 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..records import IGNORE


def dice_loss(probabilities: Tensor, target: Tensor, pooled: bool = True, background: bool = True) -> Tensor:
    """1 - 2 |A and B| / (|A| + |B|), the mean over the classes present: a scalar in [0, 1]."""
    return tversky_loss(probabilities, target, 0.5, 0.5, pooled, background)


def jaccard_loss(probabilities: Tensor, target: Tensor, pooled: bool = True, background: bool = True) -> Tensor:
    """1 - |A and B| / |A or B|, the mean over the classes present: a scalar in [0, 1]."""
    return tversky_loss(probabilities, target, 1.0, 1.0, pooled, background)


def tversky_loss(
    probabilities: Tensor,
    target: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    pooled: bool = True,
    background: bool = True,
) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN), the mean over the classes present: a scalar in [0, 1].

    alpha: cost of a false positive; beta: cost of a false negative; (0.5, 0.5) is Dice, (1, 1) is Jaccard.
    """
    hits, predicted, actual = region_sums(probabilities, target)  # (B, K) each
    if pooled:
        hits, predicted, actual = (each.sum(dim=0, keepdim=True) for each in (hits, predicted, actual))  # (1, K)
    below = hits + alpha * (predicted - hits) + beta * (actual - hits)
    values = 1 - hits / below.clamp(min=1e-12)  # 0 / 0 where a class is absent, or where beta is 0 and all is missed
    return mean_of_present(values, actual > 0, background)


def region_sums(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Soft pixel counts over the labelled pixels of each picture: hits, predicted, actual, each (B, K)."""
    if target.ndim == probabilities.ndim:
        known = (target != IGNORE).to(probabilities.dtype)
        labels = target * known
        hits = (probabilities * labels).sum(dim=(2, 3))
        return hits, (probabilities * known).sum(dim=(2, 3)), labels.sum(dim=(2, 3))

    known = (target != IGNORE).to(probabilities.dtype)  # (B, H, W)
    index = target.clamp(min=0)
    truth = probabilities.gather(1, index.unsqueeze(1)).squeeze(1) * known
    # a row at a time, then the sum of the rows: float32 would lose small addends in one sum over a large picture
    rows = known.new_zeros(*target.shape[:2], probabilities.shape[1])  # (B, H, K)
    hits = rows.scatter_add(2, index, truth).sum(dim=1)
    actual = rows.scatter_add(2, index, known).sum(dim=1)
    predicted = (probabilities * known.unsqueeze(1)).sum(dim=(2, 3))
    return hits, predicted, actual


def mean_of_present(values: Tensor, present: Tensor, background: bool) -> Tensor:
    """The mean over rows of each row's mean of `values` (R, K) where `present` (R, K): a scalar, 0 where none is.

    Rows without a class are left out.
    """
    if not background:
        values, present = values[:, 1:], present[:, 1:]
    number = present.sum(dim=1)
    means = torch.where(present, values, 0).sum(dim=1) / number.clamp(min=1)
    return means.sum() / (number > 0).sum().clamp(min=1)
