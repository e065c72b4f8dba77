"""Models whose answers are known by construction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from intarsia.inference import Predictor
from intarsia.models.contract import SemanticConfig, SemanticModel
from intarsia.records import Classes


class Brightness(SemanticModel):
    """Class k where the first channel is nearest to k / (K - 1); where classes overlap, each up to its brightness.
    Pictures of more than `most_rows` rows it answers by asking the system for more memory than there is."""

    stride = 1
    most_rows = 1_000_000

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        if x.shape[2] > self.most_rows:
            return (torch.empty(2**60),)
        levels = torch.linspace(0, 1, self.config.classes).view(1, -1, 1, 1)  # type: ignore[attr-defined]
        if self.overlapping:
            return (200 * (x[:, :1] - levels + 0.1),)
        return (-200 * (x[:, :1] - levels) ** 2,)


class Blur(SemanticModel):
    """Two classes by the mean over (2 * reach + 1)² pixels of what was averaged over stride x stride: it sees `sight`
    pixels to each side, no more."""

    def __init__(self, config: SemanticConfig, reach: int, stride: int) -> None:
        super().__init__(config)
        self.reach, self.stride = reach, stride
        self.sight = (reach + 2) * stride

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        small = F.avg_pool2d(x[:, :1], self.stride)
        mean = F.avg_pool2d(small, 2 * self.reach + 1, stride=1, padding=self.reach, count_include_pad=False)
        return (torch.cat([mean, 1 - mean], dim=1) * 4,)  # at 1 / stride: brought to full size bilinearly


def config(classes: int, channels: int, overlapping: bool = False) -> SemanticConfig:
    return SemanticConfig(channels=channels, classes=classes, overlapping=overlapping, mean=(0.0,), deviation=(1.0,))


Build = Callable[..., Predictor]


@pytest.fixture
def brightness() -> Build:
    """A predictor of brightness: `brightness(classes=3, channels=1, overlapping=False, **of Predictor)`."""

    def build(classes: int = 3, channels: int = 1, overlapping: bool = False, **options: object) -> Predictor:
        model = Brightness(config(classes, channels, overlapping))
        names = Classes.named(["background", *(f"level {i}" for i in range(1, classes))], overlapping)
        return Predictor(model, names, device="cpu", **options)  # type: ignore[arg-type]

    return build


@pytest.fixture
def blur() -> Build:
    """A predictor that sees a known distance: `blur(reach, stride, **of Predictor)`."""

    def build(reach: int, stride: int, **options: object) -> Predictor:
        return Predictor(Blur(config(2, 1), reach, stride), Classes.named(["a", "b"]), device="cpu", **options)  # type: ignore[arg-type]

    return build
