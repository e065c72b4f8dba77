"""What models need that share a segmenter's encoder with a decoder of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...networks.blocks import doubled
from ...records import Batch
from .combination import with_mask

WIDEST = 4  # times the width that is counted at full size; deeper maps get no more channels


class PictureDecoder(nn.Module):
    """An encoder's maps to pictures. R is the deepest map's reduction, w(r) = width * min(r, WIDEST).

        maps[-1] (B, ., H/R, W/R) ── entry, 3x3 ──► (B, w(R), H/R, W/R)
        │
        narrow.0, doubled ── [+ lateral.0 of the map of that size] ── refine.0 ──► (B, w(R/2), 2H/R, 2W/R)
        …
        exit, 3x3, and unfold ──► (B, outputs, H, W)

    finest_skip: maps at 1/finest_skip of the pictures' size and coarser are joined; 0: the deepest alone is seen.
    With 1 the decoder goes on to full size; else it ends at half size, and each pixel there becomes 2 x 2.
    There is no normalisation, which costs accuracy where pictures are restored.
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], outputs: int, width: int, finest_skip: int
    ) -> None:
        super().__init__()
        last_at = {reduction: index for index, reduction in enumerate(reductions)}  # the deepest map of a size
        reduction = reductions[-1]
        self.fold = 1 if finest_skip == 1 else min(2, reduction)
        inputs = width * min(reduction, WIDEST)
        self.entry = nn.Conv2d(channels[-1], inputs, 3, padding=1)
        narrow, lateral, refine, joined = [], [], [], []
        while reduction > self.fold:
            reduction //= 2
            width_here = width * min(reduction, WIDEST)
            index = last_at.get(reduction) if finest_skip and reduction >= finest_skip else None
            narrow.append(nn.Conv2d(inputs, width_here, 1))
            lateral.append(nn.Identity() if index is None else nn.Conv2d(channels[index], width_here, 1))
            refine.append(Refinement(width_here))
            joined.append(index)
            inputs = width_here
        self.narrow, self.lateral, self.refine = nn.ModuleList(narrow), nn.ModuleList(lateral), nn.ModuleList(refine)
        self.joined = tuple(joined)  # which of the encoder's maps each step takes
        self.exit = nn.Conv2d(inputs, outputs * self.fold**2, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pictures (B, outputs, H, W) of no particular range, for maps (B, channels[i], H / reductions[i], ...)."""
        x = F.relu(self.entry(maps[-1]))  # B w(R) H/R W/R
        for narrow, lateral, refine, index in zip(self.narrow, self.lateral, self.refine, self.joined, strict=True):
            x = doubled(narrow(x))
            x = refine(x if index is None else x + lateral(maps[index]))  # B w(r) H/r W/r
        return F.pixel_shuffle(self.exit(x), self.fold)  # B outputs H W


class Refinement(nn.Module):
    """x + conv(relu(conv(x))), 3x3, channels kept. It begins near the identity, so that depth does no harm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def mask_pictures(batch: Batch) -> Tensor:
    """(n,) int64: the numbers of the pictures that the mask decoder sees: the labelled ones; where there is none, all,
    whose masks of IGNORE give a loss of 0 and gradients of 0."""
    known = with_mask(batch)
    return (known if bool(known.any()) else torch.ones_like(known)).nonzero().flatten()


def only(batch: Batch, numbers: Tensor) -> Batch:
    """Those pictures of a batch, the batch itself where it is all of them."""
    if len(numbers) == len(batch):
        return batch
    chosen = torch.zeros(len(batch), dtype=torch.bool, device=numbers.device)
    chosen[numbers] = True
    return batch.select(chosen)
