"""Vectors to code numbers: codebooks that follow moving averages, each coding what those before it left over.

van den Oord, Vinyals, Kavukcuoglu: Neural Discrete Representation Learning, 2017, https://arxiv.org/abs/1711.00937
Zeghidour et al.: SoundStream, 2021, https://arxiv.org/abs/2107.03312 (residual quantizers)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantizer(nn.Module):
    """L codebooks of K vectors of length D. They have no gradients: they follow what the encoder gives.

    From the second level on, code 0 stands for nothing, always: so a further level never makes a vector worse.
    """

    codebooks: Tensor  # (L, K, D)
    uses: Tensor  # (L, K): moving average of how many vectors of a batch went to a code, N in the paper
    sums: Tensor  # (L, K, D): moving average of their sum, m in the paper

    def __init__(self, quantizers: int, codes: int, length: int, decay: float, revive: float) -> None:
        super().__init__()
        self.decay, self.revive = decay, revive
        self.register_buffer("codebooks", torch.randn(quantizers, codes, length) / math.sqrt(length))
        self.codebooks[1:, 0] = 0
        self.register_buffer("uses", torch.zeros(quantizers, codes))  # none yet: the first batch places all codes
        self.register_buffer("sums", torch.zeros(quantizers, codes, length))

    def codes(self, vectors: Tensor, quantizers: int) -> Tensor:
        """(n, quantizers) int64: the nearest code of each level for what is left of vectors (n, D)."""
        found = []
        for codebook in self.codebooks[:quantizers]:
            code = nearest(vectors, codebook)
            vectors = vectors - codebook[code]
            found.append(code)
        return torch.stack(found, dim=1)

    def vectors(self, codes: Tensor) -> Tensor:
        """(n, D): the sums of the codes' vectors, for codes (n, up to L)."""
        total = self.codebooks[0][codes[:, 0]]
        for level in range(1, codes.shape[1]):
            total = total + self.codebooks[level][codes[:, level]]
        return total

    def learn(self, vectors: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Quantised vectors and the error (scalar, relative to the vectors' size) for vectors (n, D), each with the
        first `counts` (n,) levels. In training mode the codebooks then follow."""
        left, total, error = vectors.detach(), torch.zeros_like(vectors), vectors.new_zeros(())
        for level in range(len(self.codebooks)):
            used = (counts > level).to(vectors.dtype)[:, None]  # n 1
            codebook = self.codebooks[level].clone()
            code = nearest(left, codebook)
            step = used * codebook[code]
            if self.training:
                self._follow(level, left, code, used)
            left, total = left - step, total + step
            error = error + (used * (vectors - total).square()).mean() / used.mean().clamp(min=1e-6)
        size = vectors.detach().square().mean().clamp(min=1e-6)
        return total, error / size / len(self.codebooks)

    @torch.no_grad()
    def _follow(self, level: int, vectors: Tensor, code: Tensor, used: Tensor) -> None:
        """Equations 6 to 8: N <- decay N + (1 - decay) n, m <- decay m + (1 - decay) sum of vectors, e = m / N."""
        uses, sums, codebook = self.uses[level], self.sums[level], self.codebooks[level]
        members = F.one_hot(code, len(codebook)).to(vectors.dtype) * used  # n K
        fresh = used.any()  # else no picture of the batch came as far as this level, and nothing is known
        rate = (1 - self.decay) * fresh
        uses.lerp_(members.sum(0), rate)
        sums.lerp_(members.T @ vectors, rate)
        known = uses > 0
        codebook.copy_(torch.where(known[:, None], sums / uses.clamp(min=1e-12)[:, None], codebook))
        # A code that is hardly used goes to a vector of this batch, drawn by how badly it is served.
        worth = (vectors - codebook[code]).square().sum(1) * used[:, 0] + 1e-12
        wished = vectors[torch.multinomial(worth, len(codebook), replacement=len(vectors) < len(codebook))]  # K D
        fair = uses.mean()
        dead = (uses < self.revive * fair) & fresh
        uses.copy_(torch.where(dead, fair, uses))
        codebook.copy_(torch.where(dead[:, None], wished, codebook))
        sums.copy_(torch.where(dead[:, None], wished * fair, sums))
        if level:
            codebook[0], sums[0] = 0, 0


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """(n,) int64: the nearest of the codebook (K, D) for each of vectors (n, D); of equally near ones the first."""
    return (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(1)  # |v|^2 is the same for all
