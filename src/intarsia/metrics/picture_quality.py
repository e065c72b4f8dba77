"""How like two pictures are, pixel for pixel: PSNR, SSIM and MS-SSIM, as torchmetrics computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from ..errors import UsageError
from .scores import Score, Scores

WINDOW = 11  # pixels, the side of SSIM's Gaussian window (Wang et al. 2004)
SMALLEST = WINDOW // 2 + 1  # pixels, the shortest side: half a window is mirrored over the border
MULTISCALE_SMALLEST = WINDOW * 2**4  # pixels; the fifth scale is a sixteenth, and a window must fit into it

DEFINITIONS = {
    "psnr": "peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error) of pixels in [0, 1]",
    "ssim": f"structural similarity, Gaussian window of {WINDOW} pixels, deviation 1.5, borders mirrored, data range 1",
    "ms_ssim": "multi-scale structural similarity, five scales, data range 1",
}


@dataclass
class PictureQuality:
    """Sums over pairs of pictures. Scores are means over pictures, NaN where the pictures are too small for one."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DEFINITIONS, 0.0))
    pictures: int = 0
    same: int = 0  # pairs without any difference: their PSNR has no bound and is left out of its mean

    @torch.no_grad()
    def add(self, answers: Tensor, truths: Tensor) -> None:
        """Pictures (B, C, H, W) in [0, 1], all of one size with those added before."""
        if answers.shape != truths.shape or answers.ndim != 4:
            raise UsageError(
                f"pictures are compared in pairs (B, C, H, W), but these are {tuple(answers.shape)} and "
                f"{tuple(truths.shape)}; give both the same shape."
            )
        if not len(answers):
            return
        answers, truths = answers.float(), truths.float()
        smallest = min(answers.shape[2:])
        alike = (answers == truths).flatten(1).all(dim=1)
        self.pictures += len(answers)
        self.same += int(alike.sum())
        if not alike.all():
            ratios = peak_signal_noise_ratio(
                answers[~alike], truths[~alike], data_range=1.0, reduction="none", dim=(1, 2, 3)
            )
            self.sums["psnr"] += float(ratios.sum())
        self.sums["ssim"] += (
            math.nan
            if smallest < SMALLEST
            else _sum(structural_similarity_index_measure(answers, truths, data_range=1.0, reduction="none"))
        )
        self.sums["ms_ssim"] += (
            math.nan
            if smallest < MULTISCALE_SMALLEST
            else _sum(
                multiscale_structural_similarity_index_measure(
                    answers, truths, data_range=1.0, reduction="none", normalize="relu"
                )
            )
        )

    def __getitem__(self, name: str) -> float:
        """The mean over pictures: "psnr", "ssim", "ms_ssim". NaN without a picture."""
        count = self.pictures - self.same if name == "psnr" else self.pictures
        if not count:
            return math.inf if self.pictures else math.nan
        return self.sums[name] / count

    def scores(self, prefix: str = "", of: str = "") -> Scores:
        """Each number with its definition. prefix: before the names; of: what was compared, in words."""
        about = f"; mean over {self.pictures:,} pictures" + (f", {of}" if of else "")
        left_out = f", without {self.same:,} that are the same to the last bit" if self.same else ""
        return Scores(
            (),
            tuple(
                Score(prefix + name, self[name], definition + about + (left_out if name == "psnr" else ""))
                for name, definition in DEFINITIONS.items()
            ),
        )


def _sum(values: Tensor | tuple[Tensor, ...]) -> float:
    assert isinstance(values, Tensor)  # tuples are for those who ask for maps
    return float(values.double().sum())
