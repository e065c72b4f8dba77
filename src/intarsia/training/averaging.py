"""A moving average of a model's weights: what is validated and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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
        self.model, self.places = model, _places(model, self.tensors)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        if model is not self.model:
            self.model, self.places = model, _places(model, self.tensors)
        pairs = [(mine, table[key]) for mine, (table, key) in zip(self.tensors.values(), self.places, strict=True)]
        smooth = [(mine, current) for mine, current in pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in smooth], [current for _, current in smooth], 1 - decay)
        for mine, current in pairs:
            if not mine.is_floating_point():
                mine.copy_(current)

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


def _places(model: nn.Module, names: Iterable[str]) -> list[tuple[dict[str, Any], str]]:
    """Where each tensor of the state lives: the table of its module and its key there. A state_dict made anew at each
    step is a tenth of a small model's step."""
    found = {
        f"{prefix}.{key}" if prefix else key: (table, key)
        for prefix, module in model.named_modules(remove_duplicate=False)
        for table in (module._parameters, module._buffers)
        for key in table
    }
    return [found[name] for name in names]
