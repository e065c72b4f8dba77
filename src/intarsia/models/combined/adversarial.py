"""A conditional GAN that segments, and its critic as the teacher of pictures without masks.

Luc, Couprie, Chintala, Verbeek: Semantic Segmentation using Adversarial Networks, 2016,
https://arxiv.org/abs/1611.08408 (the game, and the softened truth)
Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, 2017,
https://arxiv.org/abs/1611.07004 (the critic that also sees the picture)
Hung, Tsai, Liou, Lin, Yang: Adversarial Learning for Semi-Supervised Semantic Segmentation, 2018,
https://arxiv.org/abs/1802.07934 (the critic of patches, and what it believes as masks of unlabelled pictures)

Where we differ: the critic is normalised by groups. Answers for unlabelled pictures are drawn ones to it too, unless
`critic_learns` = "labelled" as with Hung et al.: of few labelled pictures the segmenter soon knows the masks by heart,
and a critic that sees no other answers has nothing to tell apart. In the truth that it sees, pixels that nobody
labelled hold the segmenter's own answer, so that no hole gives it away. A critic that recognises everything for long,
or nothing, teaches noise: what it says is faded out (`trusted`), which no paper has, until it plays along again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...losses.adversarial import critic_loss, generator_loss, recognised
from ...losses.pseudo_labels import agreement, certainty
from ...networks.convolutional import halving, padded
from ...records import IGNORE, Batch
from ..contract import Losses
from .combination import Combination, CombinationConfig, with_mask

GAME: Literal["non_saturating"] = "non_saturating"  # whose sigmoid is the critic's confidence
WINS, BLIND = 0.95, 0.55  # shares recognised above and below which its word fades; MARGIN further nothing is left of it
MARGIN = 0.05
START = 0.75  # the shares before any was measured: neither


class AdversarialConfig(CombinationConfig):
    """What builds an adversarial segmenter."""

    name: Literal["adversarial"] = "adversarial"
    critic_sees: Literal["labels", "labels_and_picture"] = "labels"  # whether masks are likely, or likely for a picture
    critic_width: int = Field(32, ge=1)  # its channels at half size, doubled with each halving up to 8 times
    critic_depth: int = Field(4, ge=1, le=6)  # n, its halvings: each score sees a square of 5 * 2^n - 2 pixels
    critic_learns: Literal["labelled", "all"] = "all"  # from the answers for which pictures; truth is of labelled ones
    softness: float = Field(0.9, gt=0, le=1)  # least probability of the true class in the truth it sees; 1 = one-hot
    adversarial: float = Field(0.01, ge=0)  # weight of fooling it with answers for labelled pictures; 0 = none
    unlabelled: float = Field(0.001, ge=0)  # likewise for unlabelled ones; 0 = none
    self_taught: float = Field(0.1, ge=0)  # weight of the answers that it believes, as masks; 0 = none
    threshold: float = Field(0.2, ge=0, le=1)  # its confidence from which it believes a pixel's answer
    warmup: float = Field(0.2, ge=0, le=1)  # share of the training before they count as masks
    memory: float = Field(0.98, ge=0, lt=1)  # of the running shares it recognises, a step: 0.98 = about 50 steps


class LabelCritic(nn.Module):
    """Scores (B, 1, H/2^n, W/2^n), rounded up, of label maps (B, inputs, H, W) in [0, 1]; high means drawn by people.

    maps ── n halvings: 4x4 convolution, norm (not the first), LeakyReLU ── 3x3 convolution ── scores
    """

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.stride = 2**depth
        widths = [width * min(2**level, 8) for level in range(depth)]
        pairs = zip([inputs, *widths], widths, strict=False)
        self.halvings = nn.Sequential(
            *(halving(before, after, normalised=level > 0) for level, (before, after) in enumerate(pairs))
        )
        self.score = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        x = padded(2 * maps - 1, self.stride)
        return self.score(self.halvings(x)).float()  # type: ignore[no-any-return]  # B 1 H/2^n W/2^n

    def confidence(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 1, H, W) in [0, 1]: for each pixel how sure the critic is that people drew it."""
        whole = F.interpolate(scores, scale_factor=float(self.stride), mode="bilinear", align_corners=False)
        return whole[:, :, : size[0], : size[1]].sigmoid()

    def touched(self, certain: Tensor) -> Tensor:
        """(B, 1, H/2^n, W/2^n) bool: the scores in whose own square of certain (B, 1, H, W) bool some pixel is."""
        below, right = (-side % self.stride for side in certain.shape[2:])
        return F.max_pool2d(F.pad(certain.float(), (0, right, 0, below)), self.stride) > 0


class Adversarial(Combination):
    """A segmenter, and a critic that tells its answers from masks that people drew (figure 1 of Hung et al.).

        labelled ────┬─ segmenter ─┬─ answers ── criterion ◄── masks
        unlabelled ──┘             │    │                        │ softened by the answers
                                   │    ▼                        ▼
        pictures, if it sees them ─┼─ critic ──► drawn         critic ──► real
                                   │    │
                                   │    └─ confidence > threshold ─┐
                                   └─ unlabelled's likeliest classes ┴── cross entropy there

    critic     descends  -log s(truth) - log(1 - s(answers)), s the sigmoid of its scores
    segmenter  descends  criterion + trusted * (weighted -log s(answers) + self_taught * cross entropy)
    """

    Config = AdversarialConfig
    learns_from_unlabelled = True
    recommended: ClassVar[Mapping[str, Any]] = {"train.rates": {"critic": 0.1}}
    config: AdversarialConfig
    critic_real: Tensor  # () running share of patches of true masks that the critic recognises
    critic_drawn: Tensor  # () likewise of answers
    progress: Tensor  # () share of the training done

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__(config)
        seen = config.classes + (config.channels if config.critic_sees == "labels_and_picture" else 0)
        self.critic = LabelCritic(seen, config.critic_width, config.critic_depth)
        self.register_buffer("critic_real", torch.tensor(START))
        self.register_buffer("critic_drawn", torch.tensor(START))
        self.register_buffer("progress", torch.zeros(()))

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "segmenter": self.segmenter}

    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)

    @property
    def trusted(self) -> Tensor:
        """() in [0, 1]: how much the critic's word counts. 0 where it has recognised all of both for long, and where it
        is right as often as a coin; 1 in between."""
        wins = (torch.minimum(self.critic_real, self.critic_drawn) - WINS) / MARGIN
        blind = (BLIND - (self.critic_real + self.critic_drawn) / 2) / MARGIN
        return (1 - wins.clamp(0, 1)) * (1 - blind.clamp(0, 1))

    def loss(self, batch: Batch, part: str = "segmenter") -> Losses:
        """critic: `total`, and `real` and `drawn`, the shares of this batch that it recognises. segmenter: the terms of
        `supervised`; `adversarial`, `unlabelled` and `self_taught`, each before its weight; `believed`, the share of
        unlabelled pixels whose answers the critic believes; `critic_real`, `critic_drawn`, running; `trusted`."""
        return self._judging(batch) if part == "critic" else self._segmenting(batch)

    def scores(self, images: Tensor, maps: Tensor) -> Tensor:
        """The critic's scores (B, 1, h, w) of label maps (B, K, H, W) in [0, 1] for pictures (B, C, H, W)."""
        seen = torch.cat([maps, images], dim=1) if self.config.critic_sees == "labels_and_picture" else maps
        return self.critic(seen)  # type: ignore[no-any-return]

    def softened(self, batch: Batch, answers: Tensor) -> tuple[Tensor, Tensor]:
        """The truth as soft as the answers (B, K, H, W) let it be, of their shape, and (B, 1, H, W) bool: where it is
        known (Luc et al., section 3.2, "scaling").

        The true class keeps its probability where that is above `softness`, else gets it, and the others share what is
        left as they do in the answer. Pixels that nobody labelled hold the answer.
        """
        if self.overlapping:
            assert batch.labels is not None
            labels = batch.labels
            least = self.config.softness
            soft = torch.where(labels == 1, answers.clamp(min=least), answers.clamp(max=1 - least))
            soft = torch.where(labels == IGNORE, answers, soft)
            return soft, (labels != IGNORE).any(dim=1, keepdim=True)
        assert batch.masks is not None
        known = (batch.masks != IGNORE)[:, None]  # B 1 H W
        classes = torch.arange(answers.shape[1], device=answers.device).view(1, -1, 1, 1)
        truth = batch.masks[:, None] == classes  # B K H W
        own = (answers * truth).sum(dim=1, keepdim=True)
        raised = own.clamp(min=self.config.softness)
        others = answers * ((1 - raised) / (1 - own).clamp(min=1e-6))
        return torch.where(known, torch.where(truth, raised, others), answers), known

    def _judging(self, batch: Batch) -> Losses:
        known = with_mask(batch)
        if not known.any():
            return self._unjudged()
        with torch.no_grad():
            # copies of the buffers: running statistics move once a step, in the segmenter's turn
            kept = {name: buffer.clone() for name, buffer in self.segmenter.named_buffers()}
            answers = self._probabilities(torch.func.functional_call(self.segmenter, kept, (batch.images,)))
            labelled = batch.select(known)
            truth, certain = self.softened(labelled, answers[known])
        where = self.critic.touched(certain)
        if not where.any():
            return self._unjudged()
        real = self.scores(labelled.images, truth)[where]
        drawn = self.scores(labelled.images, answers[known])[where]
        if self.config.critic_learns == "all" and not known.all():
            drawn = torch.cat([drawn, self.scores(batch.images[~known], answers[~known]).flatten()])
        shares = recognised(GAME, real, drawn)
        if self.training:
            for running, share in zip((self.critic_real, self.critic_drawn), shares, strict=True):
                running.lerp_(share, 1 - self.config.memory)
        return {"total": critic_loss(GAME, real, drawn), "real": shares[0], "drawn": shares[1]}

    def _unjudged(self) -> Losses:
        """The critic's terms where nobody drew anything."""
        return {"total": self.nothing(), "real": self.critic_real.clone(), "drawn": self.critic_drawn.clone()}

    def _segmenting(self, batch: Batch) -> Losses:
        known = with_mask(batch)
        logits = self.logits(batch.images, auxiliary=True)
        supervised = self.judged(logits, batch)
        answers = self._probabilities(logits[0])
        scores = self.scores(batch.images, answers)
        self_taught, believed = self._self_taught(logits[0][~known], answers[~known].detach(), scores[~known].detach())
        terms = {
            "adversarial": _fooling(scores[known]),  # Hung et al., equation 4
            "unlabelled": _fooling(scores[~known]),
            "self_taught": self_taught,
        }
        taught = torch.stack([getattr(self.config, name) * term for name, term in terms.items()]).sum()
        return {
            **supervised,
            **terms,
            "believed": believed,
            "critic_real": self.critic_real.clone(),
            "critic_drawn": self.critic_drawn.clone(),
            "trusted": self.trusted,
            "total": supervised["total"] + self.trusted * taught,
        }

    def _self_taught(self, logits: Tensor, answers: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The cross entropy of logits (U, K, H, W) against the likeliest classes where the critic believes them, over
        all pixels (Hung et al., equation 5), and the share that it believes. 0 without pictures and before `warmup`."""
        if not len(logits) or self.progress < self.config.warmup:
            return logits.sum() * 0, self.progress * 0
        confidence = self.critic.confidence(scores, (logits.shape[2], logits.shape[3]))
        believed = (confidence > self.config.threshold).float()  # U 1 H W
        _, likeliest = certainty(answers, self.overlapping)
        weight = believed.expand_as(answers) if self.overlapping else believed[:, 0]
        return agreement(logits, likeliest, weight, self.overlapping), believed.mean()

    def _probabilities(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.sigmoid() if self.overlapping else logits.softmax(dim=1)


def _fooling(scores: Tensor) -> Tensor:
    """What is descended by answers that want to be taken for masks; 0 where there are none."""
    return generator_loss(GAME, scores) if scores.numel() else scores.sum()
