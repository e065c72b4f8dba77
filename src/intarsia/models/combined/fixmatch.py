"""FixMatch: the teacher's confident answers are the student's masks for a strongly changed view.

Sohn et al.: FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, 2020,
https://arxiv.org/abs/2001.07685

Where we differ: for pixels; the teacher is a moving average of the student (`teacher_decay` = 0 gives the paper's, the
student itself); regions of another picture are pasted into the strong view, by CutMix or ClassMix, answers and all;
the threshold follows each class (see losses/pseudo_labels.py), so that rare classes, which a fixed one never lets
through from few labels, are taught too.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ...losses.pseudo_labels import (
    Thresholding,
    agreement,
    class_confidence,
    class_thresholds,
    quantile_thresholds,
    trusted,
)
from ...networks.views import boxes, class_regions, strong
from ...records import Batch
from ..contract import Losses
from .teaching import Teaching, TeachingConfig


class ConfidenceConfig(TeachingConfig):
    """Which of the teacher's answers are believed."""

    threshold: float = Field(0.95, ge=0, le=1)  # confidence from which an answer is believed; 0 = all
    thresholds: Thresholding = "class"  # that one for all classes; lower for less sure ones; or each one's surest share
    believed: float = Field(0.5, gt=0, le=1)  # "quantile": share of each class's pixels that is believed at least
    mix: Literal["none", "cutmix", "classmix"] = "cutmix"  # what is pasted into a strong view from the next picture
    mix_probability: float = Field(0.5, ge=0, le=1)


class FixMatchConfig(ConfidenceConfig):
    """What builds a FixMatch."""

    name: Literal["fixmatch"] = "fixmatch"


class Confident(Teaching):
    """A teacher who is heard where it is sure."""

    config: ConfidenceConfig
    usual: Tensor  # (K,) each class's usual confidence, a moving average

    def __init__(self, config: ConfidenceConfig) -> None:
        super().__init__(config)
        self.register_buffer("usual", torch.full((config.classes,), 1 / max(2, config.classes)))

    @torch.no_grad()
    def believed(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's answers for its probabilities (B, K, H, W), and 1 where they are believed, else 0."""
        config = self.config
        limits = torch.full_like(self.usual, config.threshold)
        if config.thresholds == "class":
            if self.training:
                mean, count = class_confidence(target, self.overlapping)
                self.usual.copy_(torch.where(count > 0, self.usual.lerp(mean, 0.05), self.usual))
            limits = class_thresholds(self.usual, config.threshold)
        elif config.thresholds == "quantile":
            limits = quantile_thresholds(target, config.threshold, config.believed, self.overlapping)
        return trusted(target, limits, self.overlapping)

    def strong_view(
        self, images: Tensor, target: Tensor, answer: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, C, H, W) in another light with regions of the next one pasted in, and answers and weights
        likewise."""
        config, count = self.config, len(images)
        view = strong(images, config.strength)
        if config.mix == "none" or count < 2:
            return view, answer, weight
        if config.mix == "cutmix":
            region = boxes(count, view.shape[2], view.shape[3], config.mix_probability, view.device)
        else:
            region = class_regions(target, config.mix_probability).roll(1, 0)  # the giver's classes
        flat = region if answer.ndim == 4 else region[:, 0]
        view = torch.where(region, view.roll(1, 0), view)
        return view, torch.where(flat, answer.roll(1, 0), answer), torch.where(flat, weight.roll(1, 0), weight)


class FixMatch(Confident):
    """A student taught by masks, and by its teacher's confident answers.

    labelled ────────────────────────── student ──► criterion
    unlabelled ─┬─ strong_view ──────── student ──┐
                └─ teacher ── believed ───────────┴ cross entropy where believed
    """

    Config = FixMatchConfig
    config: FixMatchConfig

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        labelled, others = self.divided(batch)
        target = self.taught(others.images)
        answer, weight = self.believed(target)
        view, mixed, counted = self.strong_view(others.images, target, answer, weight)
        logits, answers = self.together(labelled, view)
        taught = agreement(answers, mixed, counted, self.overlapping)
        return self.summed(self.judged(logits, labelled), taught, believed=weight.mean())
