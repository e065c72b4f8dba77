"""Spectral norm: a layer whose weight is divided by its largest singular value.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks, 2018,
https://arxiv.org/abs/1802.05957

Where we differ from PyTorch's own: the direction that is remembered between steps may have any length, and outside of
training it is refined until it fits the weight. So the norm is also right for a moving average of the weights and of
the direction, which is what is validated and kept. Computed in float32 under any autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

STEPS = 12  # of the power iteration outside of training, where no earlier step has prepared it; in training 1


class SpectralNorm(nn.Module):
    """weight (O, …) ──► weight / s, where s is the largest singular value of the weight as a matrix (O, everything)."""

    direction: Tensor  # (O,), the left singular vector

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            matrix = weight.flatten(1)
            left = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
            self.register_buffer("direction", _followed(matrix, left, 3 * STEPS)[0])

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            with torch.no_grad():
                left, right = _followed(matrix, self.direction, 1 if self.training else STEPS)
                if self.training:
                    self.direction.copy_(left)
                    left = left.clone()
            return weight / torch.dot(left, matrix @ right).clamp(min=1e-12)


def spectral_norm(module: nn.Module) -> nn.Module:
    """The same module (a convolution, linear or embedding), its `weight` normalised from now on."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    parametrize.register_parametrization(module, "weight", SpectralNorm(weight))
    return module


def _followed(matrix: Tensor, left: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Both singular vectors of the largest singular value, after so many steps of the power iteration, 1 or more."""
    right = F.normalize(left @ matrix, dim=0)
    for _ in range(steps):
        left = F.normalize(matrix @ right, dim=0)
        right = F.normalize(left @ matrix, dim=0)
    return left, right
