"""A moving average of a model's weights: what is validated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """average = decay * average + (1 - decay) * weights, batch statistics included (Polyak 1992; Tarvainen 2017).

    The decay rises as (1 + n) / (10 + n) with the number n of updates, so that the first, random weights are soon
    forgotten in a short run. A decay of 0 keeps the weights themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Forgets everything but the model's weights of this moment."""
        self.updates = 0
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        current = model.state_dict()
        smooth = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in smooth], [current[n] for n in smooth], 1 - decay)
        for name in current.keys() - set(smooth):
            self.tensors[name].copy_(current[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within it, the model holds the average, in eval mode."""
        kept: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        training = model.training
        model.load_state_dict(self.tensors)
        model.eval()
        try:
            yield
        finally:
            model.load_state_dict(kept)
            model.train(training)
