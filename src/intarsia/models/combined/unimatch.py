"""UniMatch: FixMatch with two strong views, and a third one whose features are changed instead of the picture.

Yang, Qi, Feng, Zhang, Shi: Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation, 2023,
https://arxiv.org/abs/2208.09910; with the teacher of UniMatch V2, Yang, Zhao, Zhao, 2024,
https://arxiv.org/abs/2410.10777.

Where we differ: thresholds follow each class; the warm-up of the teacher's weight (the paper starts from networks
trained on ImageNet, whose first answers are worth more). Features are dropped only in segmenters with an encoder in one
piece (U-Net, FCN, DeepLab); others do without that view.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...losses.pseudo_labels import agreement
from ...records import Batch
from ..contract import EncoderDecoder, Losses
from .fixmatch import ConfidenceConfig, Confident


class UniMatchConfig(ConfidenceConfig):
    """What builds a UniMatch."""

    name: Literal["unimatch"] = "unimatch"
    features_dropped: float = Field(0.5, ge=0, lt=1)  # share of the feature maps zeroed in the third view; 0 = no third


class UniMatch(Confident):
    """A student taught by masks, and in three ways by its teacher's confident answers (figure 2).

    labelled ──────────────────────────────── student ──► criterion
    unlabelled ─┬─ strong_view (twice) ────── student ──┐  1/4 each
                ├─ encoder ── maps dropped ── decoder ──┤  1/2
                └─ teacher ── believed ─────────────────┴ cross entropy where believed
    """

    Config = UniMatchConfig
    config: UniMatchConfig

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        labelled, others = self.divided(batch)
        target = self.taught(others.images)
        answer, weight = self.believed(target)
        one, *told = self.strong_view(others.images, target, answer, weight)
        two, *retold = self.strong_view(others.images, target, answer, weight)
        logits, answers = self.together(labelled, torch.cat([one, two]))
        halves = zip(answers.split(len(others)), (told, retold), strict=True)
        agreed = [agreement(half, said, counted, self.overlapping) for half, (said, counted) in halves]
        views = torch.stack(agreed).mean()
        dropped = self.dropped(others.images)
        taught = views
        if dropped is not None:
            taught = (views + agreement(dropped, answer, weight, self.overlapping)) / 2  # equation 6
        return self.summed(self.judged(logits, labelled), taught, believed=weight.mean())

    def dropped(self, images: Tensor) -> Tensor | None:
        """Logits (B, K, H, W) from an encoder of whose maps some are zeroed, the others raised; None where there is no
        such view."""
        if not self.config.features_dropped or not isinstance(self.segmenter, EncoderDecoder):
            return None
        maps = self.segmenter.encoder(self.standardised(images))
        thinned = [F.dropout2d(each, self.config.features_dropped) for each in maps]
        (logits, *_) = self.segmenter.decode(thinned, auxiliary=False)
        return self.at_size(logits, images)
