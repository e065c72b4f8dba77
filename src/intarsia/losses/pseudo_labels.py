"""What a student learns from its teacher's answers: which pixels to believe, and how much they count.

FixMatch: Sohn et al., 2020, https://arxiv.org/abs/2001.07685. Thresholds that follow each class: FreeMatch, Wang et
al., 2023, https://arxiv.org/abs/2205.07246; the most confident share of each class: CBST, Zou et al., 2018,
https://arxiv.org/abs/1810.07911. Where we differ: everything is per pixel, and where classes overlap each pixel answers
K questions of yes and no, whose confidence is that of the likelier answer.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Thresholding = Literal["fixed", "class", "quantile"]


def certainty(probabilities: Tensor, overlapping: bool) -> tuple[Tensor, Tensor]:
    """The confidence in [0.5 or 1/K, 1] and the answer. Exclusive classes: both (B, H, W), the answer 0..K-1 int64;
    overlapping ones: both (B, K, H, W), the answer 0 or 1."""
    if overlapping:
        return torch.maximum(probabilities, 1 - probabilities), (probabilities > 0.5).long()
    confidence, answer = probabilities.max(dim=1)
    return confidence, answer


def class_confidence(probabilities: Tensor, overlapping: bool) -> tuple[Tensor, Tensor]:
    """(K,) the mean confidence of the pixels that are said to be of each class, and (K,) how many there are."""
    classes = probabilities.shape[1]
    if overlapping:
        said = probabilities > 0.5
        counts = said.sum(dim=(0, 2, 3)).float()
        return (probabilities * said).sum(dim=(0, 2, 3)) / counts.clamp(min=1), counts
    confidence, answer = certainty(probabilities, False)
    counts = torch.bincount(answer.flatten(), minlength=classes).float()
    sums = torch.zeros(classes, device=counts.device).index_add(0, answer.flatten(), confidence.flatten().float())
    return sums / counts.clamp(min=1), counts


def class_thresholds(confidence: Tensor, threshold: float) -> Tensor:
    """(K,) thresholds for the classes' usual confidence (K,): the surest class has `threshold`, others as much less as
    they are less sure, so that rare and hard classes are taught too (FreeMatch, equation 8)."""
    return threshold * confidence / confidence.max().clamp(min=1e-6)


def quantile_thresholds(probabilities: Tensor, threshold: float, share: float, overlapping: bool) -> Tensor:
    """(K,) thresholds that at least the surest `share` of the pixels said to be of each class pass; none above
    `threshold` (CBST, section 4.2)."""
    confidence, answer = certainty(probabilities, overlapping)
    found = []
    for each in range(probabilities.shape[1]):
        own = probabilities[:, each][answer[:, each] == 1] if overlapping else confidence[answer == each]
        limit = own.float().quantile(1 - share) if 0 < own.numel() <= 2**24 else own.new_tensor(threshold)
        found.append(limit.clamp(max=threshold))
    return torch.stack(found).float()


def trusted(probabilities: Tensor, thresholds: Tensor, overlapping: bool) -> tuple[Tensor, Tensor]:
    """The answers, and 1.0 where their confidence reaches the threshold (K,) of the class that is said, else 0; shapes
    as those of `certainty`. Where classes overlap, a no needs the confidence that the class's yes needs."""
    confidence, answer = certainty(probabilities, overlapping)
    limits = thresholds.view(1, -1, 1, 1) if overlapping else thresholds[answer]
    return answer, (confidence >= limits).float()


def agreement(logits: Tensor, answer: Tensor, weight: Tensor, overlapping: bool) -> Tensor:
    """The cross entropy of logits (B, K, H, W) against answers, each pixel by its weight in [0, 1], as a mean over ALL
    pixels: few confident ones count little (FixMatch, equation 4)."""
    logits = logits.float()
    if overlapping:
        surprise = F.binary_cross_entropy_with_logits(logits, answer.float(), reduction="none")
    else:
        surprise = F.cross_entropy(logits, answer, reduction="none")
    return (surprise * weight).mean()
