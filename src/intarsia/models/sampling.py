"""Pictures by number: picture i of a seed is the same whatever else is asked for with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from .contract import Draws

CHUNK = 8  # pictures that go through the network together: always the same ones, since sums depend on their neighbours

Condition = Callable[[int], Tensor]  # picture's number -> its condition, () int64 or (K, H, W) float32


def generator_of(seed: int, index: int) -> torch.Generator:
    """The random numbers of picture `index` of a seed, on the CPU."""
    words = np.random.SeedSequence((seed, index)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


def generator_named(seed: int, name: str, number: int) -> torch.Generator:
    """The random numbers of answer `number` to the picture called `name`, of a seed, on the CPU."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    words = np.random.SeedSequence((seed, int.from_bytes(digest, "big"), number)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


@torch.inference_mode()
def draw(model: Draws, indices: Iterable[int], seed: int = 0, condition: Condition | None = None) -> Iterator[Tensor]:
    """Each picture (C, H, W) in [0, 1] on the CPU, for numbers >= 0 in the order asked; the model is in eval mode.

    A network's sums are rounded by how many pictures go through it at once. So a picture is always computed with the
    same neighbours, number i with those of its CHUNK, and is the same bit for bit on the same machine, whatever count
    was asked for. Its noise is drawn on the CPU: on another device only the rounding differs.
    """
    device = next(model.parameters()).device
    number, pictures = -1, torch.empty(0)
    for index in indices:
        if index // CHUNK != number:
            number = index // CHUNK
            chunk = range(number * CHUNK, (number + 1) * CHUNK)
            noise = model.noise([generator_of(seed, i) for i in chunk]).to(device)
            given = None if condition is None else torch.stack([condition(i) for i in chunk]).to(device)
            pictures = model(noise, given).float().cpu()
        yield pictures[index % CHUNK]
