"""What combinations with a teacher share: the teacher, who is the student's own past, and how much it is heard."""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import Tensor, nn

from ...records import Batch
from ..contract import Losses
from .combination import Combination, CombinationConfig, with_mask


class TeachingConfig(CombinationConfig):
    """What builds a student and its teacher."""

    consistency: float = Field(1.0, ge=0)  # weight of what the teacher says beside what the masks say
    warmup: float = Field(0.1, ge=0, le=1)  # share of the training over which that weight rises from 0
    teacher_decay: float = Field(0.996, ge=0, lt=1)  # of the moving average that the teacher is; 0 = the student itself
    strength: float = Field(1.0, ge=0)  # of the light and colour of the student's views; 0 = as the teacher sees them


class Teaching(Combination):
    """A student, and a teacher who is the moving average of its weights (mean teacher: Tarvainen, Valpola, 2017).

    The teacher is always in eval mode and no optimizer knows of it. The student sees labelled and unlabelled pictures
    in one batch, so that batch statistics are those of both.
    """

    learns_from_unlabelled = True
    config: TeachingConfig
    progress: Tensor  # () share of the training done
    updates: Tensor  # () int64, of the teacher

    def __init__(self, config: TeachingConfig) -> None:
        super().__init__(config)
        self.teacher = copy.deepcopy(self.segmenter).requires_grad_(False).eval()
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def parts(self) -> dict[str, nn.Module]:
        return {"model": self.segmenter}

    def train(self, mode: bool = True) -> Teaching:
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        """The teacher moves towards the student; in the first steps faster, as random weights are worth nothing."""
        self.progress.fill_(progress)
        count = int(self.updates)
        self.updates += 1
        decay = min(self.config.teacher_decay, (1 + count) / (10 + count))
        own, theirs = self.teacher.state_dict(), self.segmenter.state_dict()
        smooth = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in smooth], [theirs[name] for name in smooth], 1 - decay)
        for name in own.keys() - set(smooth):
            own[name].copy_(theirs[name])

    @property
    def heard(self) -> Tensor:
        """() the weight of the teacher's word by now: a soft rise, exp(-5 (1 - t)^2) (Laine, Aila, 2017)."""
        if not self.config.warmup:
            return torch.full_like(self.progress, self.config.consistency)
        rest = 1 - (self.progress / self.config.warmup).clamp(max=1)
        return self.config.consistency * torch.exp(-5 * rest.square())

    @torch.no_grad()
    def taught(self, images: Tensor) -> Tensor:
        """The teacher's probabilities (B, K, H, W) for pictures in [0, 1], float32."""
        logits = self.teacher(images).float()
        return logits.sigmoid() if self.overlapping else logits.softmax(dim=1)

    def divided(self, batch: Batch) -> tuple[Batch, Batch]:
        """The labelled pictures, and the others. In a batch without others, as in validation, the labelled ones are
        both."""
        known = with_mask(batch)
        if bool(known.all()):
            return batch, batch
        return batch.select(known), batch.select(~known)

    def together(self, labelled: Batch, views: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The student's logits for the labelled pictures (with deep supervision), and for the views (B, C, H, W)."""
        count = len(labelled)
        logits = self.logits(torch.cat([labelled.images, views]), auxiliary=True)
        return tuple(each[:count] for each in logits), logits[0][count:]

    def summed(self, supervised: Losses, taught: Tensor, **others: Tensor) -> Losses:
        """The terms of the masks, `consistency`, what else is to be logged, and `total`."""
        total = supervised["total"] + self.heard * taught
        return {**supervised, "consistency": taught, **others, "total": total}
