"""The places of a map in groups from coarse to fine: what is coded in one go, given all groups before.

Reed et al.: Parallel Multiscale Autoregressive Density Estimation, 2017, https://arxiv.org/abs/1703.03664
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Places of a map that are coded in one go: `map[..., top::step, left::step]`, as seen from a coarser map."""

    scale: int  # the coarser map is map[..., ::2**scale, ::2**scale]
    kind: int  # which quarter of the coarser map: 0 = its first place alone; else 1, 2, 3 as in ODD
    step: int
    top: int
    left: int


ODD = ((0, 0), (1, 1), (0, 1), (1, 0))  # of a kind: whether its rows and columns are odd ones, in the order coded


def groups(height: int, width: int) -> Iterator[Group]:
    """All places of a map, each once: first (0, 0), then for each scale, coarse to fine, what is odd in rows, columns
    or both. 4 x 4 places in the order of their groups:

        0 5 2 5
        6 4 6 4
        3 5 1 5
        6 4 6 4
    """
    coarsest = max(height, width, 1) - 1
    yield Group(coarsest.bit_length(), 0, 2 ** coarsest.bit_length(), 0, 0)
    for scale in reversed(range(coarsest.bit_length())):
        for kind in (1, 2, 3):
            top, left = (odd * 2**scale for odd in ODD[kind])
            if top < height and left < width:
                yield Group(scale, kind, 2 ** (scale + 1), top, left)


def visible(kind: int, height: int, width: int) -> Tensor:
    """(height, width) 1.0 where a place of a coarser map belongs to a kind coded before `kind` (0: all even)."""
    mask = torch.zeros(height, width)
    for top, left in ODD[:kind]:
        mask[top::2, left::2] = 1
    return mask
