"""Mean teacher: the student agrees, pixel by pixel, with the average of its own past.

Tarvainen, Valpola: Mean teachers are better role models, 2017, https://arxiv.org/abs/1703.01780

Where we differ: for pixels, not whole pictures; the student sees the picture in another light (`networks/views`), the
teacher as it is, where the paper gives both a noise of their own; with CutMix as in French et al., Semi-supervised
semantic segmentation needs strong, varied perturbations, 2020, https://arxiv.org/abs/1906.01916, if wished.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ...networks.views import boxes, strong
from ...records import Batch
from ..contract import Losses
from .teaching import Teaching, TeachingConfig


class MeanTeacherConfig(TeachingConfig):
    """What builds a mean teacher."""

    name: Literal["mean_teacher"] = "mean_teacher"
    consistency: float = Field(3.0, ge=0)  # weight of the squared difference of the probabilities, summed over classes
    cutmix: float = Field(0.5, ge=0, le=1)  # probability that a rectangle of the next picture is pasted in; 0 = none


class MeanTeacher(Teaching):
    """A student taught by masks, and by its teacher's probabilities for pictures without.

    labelled ───────────────────────── student ──► criterion
    unlabelled ─┬─ strong, CutMix ──── student ──┐
                └───────────────────── teacher ──┴ sum over classes of (p - q)^2
    """

    Config = MeanTeacherConfig
    config: MeanTeacherConfig

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        labelled, others = self.divided(batch)
        target = self.taught(others.images)
        views, count = strong(others.images, self.config.strength), len(others)
        box = boxes(count, views.shape[2], views.shape[3], self.config.cutmix, views.device)
        views, target = (torch.where(box, x.roll(1, 0), x) for x in (views, target))
        logits, answers = self.together(labelled, views)
        answers = answers.float()
        probabilities = answers.sigmoid() if self.overlapping else answers.softmax(dim=1)
        return self.summed(self.judged(logits, labelled), (probabilities - target).square().sum(dim=1).mean())
