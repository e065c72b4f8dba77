"""A look into a model's latent space: what its most active dimensions change in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..models.contract import Draws, Encodes, GenerativeModel
from .measuring import Gathered, device_of, eight_bits

VALUES = tuple(np.linspace(-3, 3, 9).round(2).tolist())  # of a dimension; the prior's deviation is 1
STRIPS = 12


@dataclass(frozen=True)
class Strip:
    """What one dimension of the latent changes: the others stay at the mean of the held-back pictures."""

    dimension: int
    deviation: float  # of the posterior means over held-back pictures: how active it is
    kl: float | None  # nats a picture; None: the model has no posterior
    values: tuple[float, ...]  # -3 … 3, in units of the prior N(0, 1)
    pictures: np.ndarray  # (len(values), H, W, C) uint8


@dataclass(frozen=True)
class Explorer:
    """The latent, decoded: a walk over the two most active dimensions, and each of the most active alone."""

    across: int  # dimension that grows to the right
    down: int  # dimension that grows downwards
    values: tuple[float, ...]  # of both
    grid: np.ndarray  # (rows, columns, H, W, C) uint8
    strips: tuple[Strip, ...]  # most active first, up to 12


@torch.no_grad()
def explore(model: GenerativeModel, held: Gathered, kl: np.ndarray | None) -> Explorer | None:
    """None where the model has no flat latent that pictures can be decoded from, or one of a single number. A model
    that is told something is told what it is told of the first held-back picture."""
    if not (isinstance(model, Draws) and isinstance(model, Encodes) and len(model.latent_shape) == 1):
        return None
    if model.latent_shape[0] < 2 or not len(held):
        return None
    device = device_of(model)
    latents = []
    for batch in held:
        told = held.tell(batch)
        latents.append(model.encode(batch.images.to(device), None if told is None else told.to(device)).float().cpu())
    means = torch.cat(latents)  # N Z
    deviations = means.std(dim=0, correction=0)
    order = deviations.argsort(descending=True, stable=True).tolist()
    first = held.tell(held.first(1))
    middle = means.mean(dim=0)

    def decoded(points: list[torch.Tensor]) -> np.ndarray:
        told = None if first is None else first.expand(len(points), *first.shape[1:]).to(device)
        return eight_bits(model.decode(torch.stack(points).to(device), told))

    def at(changes: dict[int, float]) -> torch.Tensor:
        point = middle.clone()
        for dimension, value in changes.items():
            point[dimension] = value
        return point

    across, down = order[:2]
    grid = [decoded([at({across: x, down: y}) for x in VALUES]) for y in VALUES]
    strips = tuple(
        Strip(
            dimension,
            float(deviations[dimension]),
            None if kl is None or len(kl) != len(deviations) else float(kl[dimension]),
            VALUES,
            decoded([at({dimension: value}) for value in VALUES]),
        )
        for dimension in order[:STRIPS]
    )
    return Explorer(across, down, VALUES, np.stack(grid), strips)
