"""The training loop, for every model there is.

For each step, for each turn: loss, backward, step. The random numbers of a step come from (seed, step), the batches
from their number, so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from ..errors import NumericError, OutOfMemoryError
from ..models.contract import Losses, Model
from ..records import Batch
from .averaging import MovingAverage
from .config import TrainConfig
from .optimizers import build_optimizer, l1_norm, learning_rate


@dataclass
class Progress:
    """Where a training is. Saved with it."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent, over all sittings, validation included
    share: float = 0.0  # of the training done, in [0, 1]
    rate: float = 0.0  # the learning rate of the last step
    validated: int = 0  # the step of the last validation
    validated_share: float = 0.0  # how much of the training was done then
    best: float = -math.inf  # the highest validation score
    best_step: int = 0
    stale: int = 0  # validations since then
    finished: bool = False  # a watcher's word that it is enough

    def state(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Training:
    """A model, what trains it, and where it is: what a checkpoint holds and a watcher sees."""

    model: Model
    config: TrainConfig
    seed: int
    optimizers: dict[str, torch.optim.Optimizer]
    average: MovingAverage
    progress: Progress = field(default_factory=Progress)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and strings only: it is read back without unpickling objects."""
        return {
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "average": self.average.tensors,
            "updates": self.average.updates,
            "progress": self.progress.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, tensor in state["average"].items():
            self.average.tensors[name].copy_(tensor)
        self.average.updates = state["updates"]
        self.progress = Progress(**state["progress"])


Watcher = Callable[[Training, dict[str, Losses]], None]


def prepare(model: Model, config: TrainConfig, seed: int, fabric: Fabric) -> tuple[Training, nn.Module]:
    """The training at its start, and the model as the device and the precision want it called."""
    parts = model.parts()
    fused = fabric.device.type == "cpu"  # there the others go tensor by tensor; on a GPU Fabric can't clip for it
    optimizers = {name: build_optimizer(part, config, fused) for name, part in parts.items()}
    wrapped, *settled = fabric.setup(model, *optimizers.values())
    wrapped.mark_forward_method("loss")
    average = MovingAverage(model, config.average)
    return Training(model, config, seed, dict(zip(optimizers, settled, strict=True)), average), wrapped


def train(
    training: Training,
    wrapped: nn.Module,
    fabric: Fabric,
    batches: Iterator[Batch],
    steps: int | None,
    watchers: Sequence[Watcher] = (),
) -> None:
    """Steps until the budget is spent: `steps`, or where that is None `config.minutes` by the clock.

    `batches` begins with the batch that comes next. Watchers are called after each step with the losses of each turn.
    Raises NumericError before a loss or gradient that is not a finite number can touch the weights.
    """
    model, config, progress = training.model, training.config, training.progress
    parts = model.parts()
    minutes = config.minutes or math.inf
    rounds = batches_a_step(model)
    begin = time.perf_counter() - progress.seconds
    model.train()
    while not progress.finished:
        progress.seconds = time.perf_counter() - begin
        progress.share = progress.step / steps if steps else progress.seconds / (60 * minutes)
        if progress.share >= 1:
            break
        _seed(training.seed * 1_000_003 + progress.step, fabric.device)
        progress.rate = learning_rate(config, progress.share)
        micro = [next(batches).to(fabric.device) for _ in range(config.accumulate * rounds)]
        losses: dict[str, Losses] = {}
        taken = dict.fromkeys(parts, 0)  # batches that each part has had in this step
        try:
            for name in model.turns():
                mine = micro[taken[name] : taken[name] + config.accumulate]
                taken[name] += config.accumulate
                losses[name] = _turn(training, wrapped, fabric, parts, name, mine)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if (
                isinstance(error, RuntimeError)
                and "can't allocate memory" not in str(error)
                and not isinstance(error, torch.OutOfMemoryError)
            ):
                raise
            height, width = micro[0].images.shape[2:]
            raise OutOfMemoryError(
                f"a batch of {config.batch} crops of {height}x{width} pixels did not fit into the memory of "
                f"{fabric.device}; set train.batch to {max(1, config.batch // 2)} (and train.accumulate to "
                f"{2 * config.accumulate} for the same step), or a smaller augment.crop or model."
            ) from error
        progress.step += 1
        training.average.update(model)
        model.advance(progress.share)
        progress.seconds = time.perf_counter() - begin
        for watch in watchers:
            watch(training, losses)
    progress.share = 1.0 if not progress.finished else progress.share
    progress.seconds = time.perf_counter() - begin
    model.eval()


def batches_a_step(model: Model) -> int:
    """How many batches one step takes, before accumulation: as many as the turns of the part that has most. A critic
    with five turns sees five batches; the generator after it gets the first of them."""
    return max(Counter(model.turns()).values())


def _seed(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, for the devices in use: asking after others is slow, on each step."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _turn(
    training: Training,
    wrapped: nn.Module,
    fabric: Fabric,
    parts: dict[str, nn.Module],
    name: str,
    micro: list[Batch],
) -> Losses:
    """One part's step: gradients of all micro-batches, clipped, descended. Gives the last micro-batch's terms."""
    model, config, optimizer, part = training.model, training.config, training.optimizers[name], parts[name]
    if len(parts) > 1:  # let gradients reach this part and no other
        model.requires_grad_(False)
        part.requires_grad_(True)
    weights: list[nn.Parameter] = []
    for group in optimizer.param_groups:
        group["lr"] = training.progress.rate * training.config.rates.get(name, 1.0)
        weights += group["params"]
    for weight in weights:
        weight.grad = None
    terms: Losses = {}
    for batch in micro:
        with fabric.autocast():  # on a single device, Fabric itself casts in `forward` only
            terms = cast(Model, wrapped).loss(batch, name)
        if not math.isfinite(terms["total"].item()):
            raise NumericError(_not_finite("the loss", terms, training, batch))
        descended = terms["total"] + config.l1 * l1_norm(part) if config.l1 else terms["total"]
        fabric.backward(descended / len(micro) if len(micro) > 1 else descended)
    if config.clip:
        norm = fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    else:
        norm = _norm([weight.grad for weight in weights if weight.grad is not None])
    if (
        norm is not None and not math.isfinite(norm.item()) and config.precision != "16-mixed"
    ):  # fp16's scaler skips these
        raise NumericError(_not_finite("the gradient", terms, training, micro[-1]))
    optimizer.step()
    return {key: value.detach() for key, value in terms.items()}


def _norm(gradients: list[Tensor]) -> Tensor | None:
    """The sum of the gradients' norms: finite where they all are. A third of the time of torch's total norm."""
    return torch.stack(torch._foreach_norm(gradients)).sum() if gradients else None


def _not_finite(what: str, terms: Losses, training: Training, batch: Batch) -> str:
    values = ", ".join(f"{key} {value.item():.4g}" for key, value in terms.items())
    called = batch.names or tuple(f"number {i + 1}" for i in range(len(batch)))
    bad = [name for name, image in zip(called, batch.images, strict=True) if not torch.isfinite(image).all()]
    names = ", ".join(called[:8]) + ("…" if len(called) > 8 else "")
    cause = (
        f"the pictures {', '.join(bad)} hold values that are not finite; run `intarsia check`."
        if bad
        else f"try a train.learning_rate of {training.config.learning_rate / 3:.2g}, a train.clip of 1, "
        "or train.precision = '32-true'."
    )
    return (
        f"{what} stopped being a finite number at step {training.progress.step} ({values}) on the batch [{names}]; "
        f"what was saved before is unharmed. To go on: {cause}"
    )
