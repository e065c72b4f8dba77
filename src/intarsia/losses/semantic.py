"""The loss of a segmenter: a weighted sum of terms over the labelled pixels."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DataError, UsageError
from ..records import IGNORE
from .config import LossConfig, Term
from .lovasz import lovasz_loss
from .pixelwise import focal, weighted_mean
from .region import dice_loss, jaccard_loss, tversky_loss

REGION_TERMS = ("dice", "jaccard", "tversky", "lovasz")


class _Exclusive:
    """What the terms read where a pixel is of one class: logits (B, K, H, W) against masks (B, H, W), by softmax.

    A term's values are (B, H, W); what they are at IGNORE does not matter, since the weight there is 0.
    """

    def __init__(self, logits: Tensor, masks: Tensor, weights: Tensor | None) -> None:
        self.masks = masks
        self.log_probabilities = F.log_softmax(logits, dim=1)  # the one pass that all terms share
        self._weights = weights

    @cached_property
    def weight(self) -> Tensor:
        """(B, H, W): each pixel's weight, that of its true class, 0 at IGNORE."""
        if self._weights is None:
            return (self.masks != IGNORE).to(self.log_probabilities.dtype)
        return F.pad(self._weights, (0, 1))[self.masks]  # IGNORE is -1, which reads the 0 added at the end

    @cached_property
    def surprise(self) -> Tensor:
        """(B, H, W): -log of the probability of the true class."""
        return F.nll_loss(self.log_probabilities, self.masks, ignore_index=IGNORE, reduction="none")

    def evenly(self) -> Tensor:
        """(B, H, W): the cross entropy against all classes alike."""
        return -self.log_probabilities.mean(dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        return self.log_probabilities.exp()

    def squared_error(self) -> Tensor:
        """(B, H, W): the mean over classes of (probability - truth)^2, where truth is 1 for one class, else 0."""
        p = self.probabilities
        return (p.square().sum(dim=1) - 2 * (-self.surprise).exp() + 1) / p.shape[1]


class _Overlapping:
    """What the terms read where classes overlap: logits against labels, both (B, K, H, W), by sigmoid.

    Each pixel asks K questions, each with a value of its own.
    """

    def __init__(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        self.logits = logits
        self.known = (labels != IGNORE).to(logits.dtype)
        self.labels = labels * self.known
        self._weights = weights

    @cached_property
    def weight(self) -> Tensor:
        """(B, K, H, W): each question's weight, that of its class, 0 at IGNORE."""
        return self.known if self._weights is None else self.known * self._weights.view(1, -1, 1, 1)

    @cached_property
    def surprise(self) -> Tensor:
        """(B, K, H, W): -log of the probability of the true answer."""
        return F.binary_cross_entropy_with_logits(self.logits, self.labels, reduction="none")

    def evenly(self) -> Tensor:
        """(B, K, H, W): the cross entropy against yes and no alike."""
        return (F.softplus(self.logits) + F.softplus(-self.logits)) / 2

    @cached_property
    def probabilities(self) -> Tensor:
        return self.logits.sigmoid()

    def squared_error(self) -> Tensor:
        """(B, K, H, W): (probability - truth)^2."""
        return (self.probabilities - self.labels).square()


class SegmentationLoss(nn.Module):
    """logits, target -> each term of `config.terms`, and `total`, their sum times the config's factors.

    Pixel terms are means over the labelled pixels of the whole batch, weighted by the class weights (where classes
    overlap: over the labelled pairs of pixel and class). Region terms are means over classes, so class weights do
    not enter; see region.py for what they do with classes that are absent.
    """

    def __init__(self, config: LossConfig, classes: int, overlapping: bool = False) -> None:
        super().__init__()
        if config.weights is not None and len(config.weights) != classes:
            raise UsageError(
                f"loss.weights has {len(config.weights)} numbers for {classes} classes; give one a class, or none."
            )
        if not config.background and classes == 1 and any(term in REGION_TERMS for term in config.terms):
            raise UsageError(
                "loss.background is false and there is only one class, so that region terms have nothing to average; "
                "set it to true."
            )
        self.config = config
        self.classes = classes
        self.overlapping = overlapping
        self.weights: Tensor | None
        weights = None if config.weights is None else torch.tensor(config.weights, dtype=torch.float32)
        self.register_buffer("weights", weights, persistent=False)  # the config keeps them

    def forward(self, logits: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        """Scalars by name, float32: each term before its factor, and `total`.

        logits: (B, K, H, W), any floating type; computed in float32 also under autocast.
        target: masks (B, H, W) int64, 0..K-1 or IGNORE; where classes overlap, labels (B, K, H, W), 0, 1 or IGNORE.
        Nothing labelled: all are exactly 0, with gradients of exactly 0. Raises DataError for a target that is missing,
        of another shape, or (checked on the CPU only, a GPU would have to wait) of a class that does not exist.
        """
        target = self._checked(logits, target)
        with torch.autocast(logits.device.type, enabled=False):
            answers = (_Overlapping if self.overlapping else _Exclusive)(logits.float(), target, self.weights)
            terms: dict[str, Tensor] = {name: self._term(name, answers, target) for name in self.config.terms}
            descended = [factor * terms[name] for name, factor in self.config.terms.items() if factor > 0]
            return {**terms, "total": torch.stack(descended).sum()}

    def _term(self, name: Term, answers: _Exclusive | _Overlapping, target: Tensor) -> Tensor:
        config = self.config
        if name == "cross_entropy":
            values = answers.surprise
            if config.label_smoothing > 0:
                values = (1 - config.label_smoothing) * values + config.label_smoothing * answers.evenly()
            return weighted_mean(values, answers.weight, config.hardest)
        if name == "focal":
            return weighted_mean(focal(answers.surprise, config.focal_gamma), answers.weight, config.hardest)
        if name == "mse":
            return weighted_mean(answers.squared_error(), answers.weight, config.hardest)
        region = (answers.probabilities, target)
        if name == "dice":
            return dice_loss(*region, config.batch_region, config.background)
        if name == "jaccard":
            return jaccard_loss(*region, config.batch_region, config.background)
        if name == "tversky":
            costs = (config.tversky_alpha, config.tversky_beta)
            return tversky_loss(*region, *costs, config.batch_region, config.background)
        return lovasz_loss(*region, config.batch_region, config.background)

    def _checked(self, logits: Tensor, target: Tensor | None) -> Tensor:
        kind = "labels (B, K, H, W)" if self.overlapping else "masks (B, H, W)"
        if target is None:
            raise DataError(
                f"the batch has no {kind}, which the loss needs where classes "
                f"{'overlap' if self.overlapping else 'exclude each other'}; "
                f"give unlabelled pictures a target that is {IGNORE} everywhere."
            )
        expected = (len(logits), self.classes, *logits.shape[2:])
        if tuple(logits.shape) != expected:
            raise DataError(f"logits are {tuple(logits.shape)}, but the loss was made for {self.classes} classes.")
        if not self.overlapping:
            expected = (expected[0], *expected[2:])
        if tuple(target.shape) != expected:
            raise DataError(
                f"logits {tuple(logits.shape)} need {kind} of shape {expected}, but got {tuple(target.shape)}."
            )
        top = 1 if self.overlapping else self.classes - 1
        if target.device.type == "cpu" and target.numel():
            low, high = (value.item() for value in target.aminmax())
            if low < IGNORE or high > top:
                raise DataError(
                    f"the target holds values from {low:g} to {high:g}, but only 0 to {top} and {IGNORE} "
                    f"(not labelled) mean something; `intarsia check` shows which files hold others."
                )
        return target.to(torch.float32 if self.overlapping else torch.int64)
