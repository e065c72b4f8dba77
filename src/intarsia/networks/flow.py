"""A normalising flow of affine couplings.

Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2017, https://arxiv.org/abs/1605.08803

Where we differ: vectors, not maps; a coupling's scale is bounded (e^-2 to e^2), and there is no batch normalisation.
All of it is computed in float32. N vectors of Z numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Coupling(nn.Module):
    """One half of the numbers shifts and scales the other (Dinh et al. 2017, equations 7 and 8)."""

    order: Tensor  # (Z,) the half that stays, then the half that changes
    back: Tensor

    def __init__(self, order: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.kept = len(order) // 2
        self.changed = len(order) - self.kept
        last = nn.Linear(width, 2 * self.changed)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(self.kept, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x[:, self.order].split([self.kept, self.changed], dim=1)
        log_scale, shift = self.moved_by(kept)
        return torch.cat([kept, changed * log_scale.exp() + shift], dim=1)[:, self.back]

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, Z), and the logarithm (N,) of how much volumes grow on the way from y."""
        kept, changed = y[:, self.order].split([self.kept, self.changed], dim=1)
        log_scale, shift = self.moved_by(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1)[:, self.back], -log_scale.sum(dim=1)

    def moved_by(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return 2 * torch.tanh(log_scale / 2), shift


class Flow(nn.Module):
    """From noise u ~ N(0, I), (N, Z), to what the decoder reads, and back; without couplings the identity."""

    def __init__(self, latent: int, steps: int, width: int) -> None:
        super().__init__()
        numbers = torch.arange(latent)
        splits = [torch.cat([numbers[::2], numbers[1::2]]), torch.cat([numbers.chunk(2)[0], numbers.chunk(2)[-1]])]
        orders = [order for split in splits for order in (split, split.flip(0))]  # each half changes, two ways to halve
        self.couplings = nn.ModuleList(Coupling(orders[step % 4], width) for step in range(steps))

    def forward(self, noise: Tensor) -> Tensor:
        with torch.autocast(noise.device.type, enabled=False):
            z = noise.float()
            for coupling in self.couplings:
                z = coupling(z)
        return z

    def inverse(self, z: Tensor) -> Tensor:
        return self.backwards(z)[0]

    def log_density(self, z: Tensor) -> Tensor:
        """(N,): log p(z), by the change of variables."""
        noise, volume = self.backwards(z)
        return volume - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=1)

    def backwards(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            noise = z.float()
            volume = torch.zeros(len(z), device=z.device)
            for coupling in reversed(self.couplings):
                assert isinstance(coupling, Coupling)
                noise, grown = coupling.inverse(noise)
                volume = volume + grown
        return noise, volume
