"""The loop on toy models whose right answer is known."""

import io
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from intarsia.errors import NumericError, OutOfMemoryError
from intarsia.models.contract import Losses, Model, ModelConfig
from intarsia.records import Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train
from intarsia.training.machine import Autocast, make_fabric

PLAIN: dict[str, Any] = {
    "optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "clip": 0.0,
    "threads": 1, "precision": "32-true",
}  # fmt: skip


class Line(Model):
    """One 1x1 convolution, fitted to the masks as numbers."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(ModelConfig())
        self.layer = nn.Conv2d(3, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.told: list[float] = []
        nn.init.constant_(self.layer.weight, 0.2)
        nn.init.constant_(self.layer.bias, 0.1)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        assert batch.masks is not None
        total = (self.dropout(self.layer(batch.images))[:, 0] - batch.masks).square().mean()
        return {"error": total, "total": total}

    def advance(self, progress: float) -> None:
        self.told.append(progress)


class Duel(Model):
    """Two parts that see each other, as in an adversarial game; each call notes the weights it was made with."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.critic = nn.Linear(2, 1)
        self.generator = nn.Linear(1, 2)
        self.calls: list[tuple[str, dict[str, Tensor], dict[str, bool]]] = []

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "generator": self.generator}

    def turns(self) -> tuple[str, ...]:
        return ("critic", "critic", "generator")

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        weights = {name: p.detach().clone() for name, p in self.named_parameters()}
        self.calls.append((part, weights, {name: p.requires_grad for name, p in self.named_parameters()}))
        score = self.critic(self.generator(torch.ones(4, 1))).mean()
        return {"total": score.square() if part == "critic" else (score - 1).square(), "score": score}


class Odd(Model):
    """A loss or a gradient that is not a number, from a step on."""

    def __init__(self, kind: str, start: int) -> None:
        super().__init__(ModelConfig())
        self.kind, self.start, self.calls = kind, start, 0
        self.weight = nn.Parameter(torch.ones(2, 2))

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        self.calls += 1
        total = self.weight.square().mean()
        if self.calls >= self.start:
            if self.kind == "gradient":  # the root's slope at 0 is infinite, its value is not
                total = total + (self.weight - self.weight.detach()).sum().abs().sqrt()
            elif self.kind == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            elif self.kind == "memory of a processor":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GiB.")
            elif self.kind == "shape":
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            else:
                total = total * float(self.kind)
        return {"total": total}


def noise(count: int, size: int = 4, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Batch(
            torch.rand(size, 3, 4, 4, generator=generator),
            torch.randint(0, 3, (size, 4, 4), generator=generator),
            names=tuple(f"{number}-{i}" for i in range(size)),
        )
        for number in range(count)
    ]


def forever(given: list[Batch], start: int = 0) -> Iterator[Batch]:
    return itertools.islice(itertools.cycle(given), start, None)


def started(model: Model, fabric: Fabric | None = None, **options: Any) -> tuple[Training, nn.Module, Fabric]:
    config = TrainConfig(**{**PLAIN, **options})
    fabric = fabric or make_fabric(config, "cpu")
    return (*prepare(model, config, 3, fabric), fabric)


def trained(model: Model, given: list[Batch], steps: int, **options: Any) -> Training:
    training, wrapped, fabric = started(model, **options)
    train(training, wrapped, fabric, forever(given), steps)
    return training


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_step_is_the_loss_s_slope_times_the_rate() -> None:
    model, by_hand = Line(), Line()
    (batch,) = noise(1)
    trained(model, [batch], 1)
    by_hand.loss(batch)["total"].backward()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.detach(), (theirs - 0.1 * theirs.grad).detach())


def test_two_half_batches_make_the_step_of_a_whole_one() -> None:
    whole = noise(4)
    halves = [
        Batch(b.images[part], b.masks[part], names=b.names[part])  # type: ignore[index]
        for b in whole
        for part in (slice(0, 2), slice(2, 4))
    ]
    one, two = Line(), Line()
    trained(one, whole, 4, l1=0.01, clip=1.0)
    trained(two, halves, 4, l1=0.01, clip=1.0, accumulate=2)
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_each_part_trains_in_its_turn_and_only_then() -> None:
    torch.manual_seed(0)
    model = Duel()
    seen: list[set[str]] = []
    training, wrapped, fabric = started(model)
    train(training, wrapped, fabric, forever(noise(1)), 5, [lambda training, losses: seen.append(set(losses))])
    assert [part for part, _, _ in model.calls] == ["critic", "critic", "generator"] * 5
    assert seen == [{"critic", "generator"}] * 5
    last = {name: p.detach().clone() for name, p in model.named_parameters()}
    for (part, before, trainable), (_, after, _) in itertools.pairwise([*model.calls, ("", last, {})]):
        for name in before:
            own = name.startswith(part)
            assert trainable[name] is own
            assert torch.equal(before[name], after[name]) is not own, f"{name} in the {part}'s turn"


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_what_is_no_number_stops_before_the_weights(kind: str, clip: float) -> None:
    model = Odd(kind, start=3)
    training, wrapped, fabric = started(model, clip=clip)
    before: list[Tensor] = []
    with pytest.raises(NumericError) as caught:
        train(training, wrapped, fabric, forever(noise(3)), 10, [lambda t, losses: before.append(model.weight.clone())])
    assert training.progress.step == 2
    assert torch.equal(model.weight, before[-1]) and model.weight.isfinite().all()
    assert all(value.isfinite().all() for value in training.average.tensors.values())
    assert "at step 2" in str(caught.value) and "2-0, 2-1, 2-2, 2-3" in str(caught.value)
    assert "learning_rate" in str(caught.value)
    assert caught.value.exit_code == 7


def test_pictures_that_are_no_numbers_are_named() -> None:
    (batch,) = noise(1)
    batch.images[2, 0, 0, 0] = math.nan
    with pytest.raises(NumericError, match=r"the pictures 0-2 hold values that are not finite.*intarsia check"):
        trained(Line(), [batch], 1)


def test_a_batch_without_names_can_be_told_too() -> None:
    (batch,) = noise(1)
    with pytest.raises(NumericError, match="at step 0"):
        trained(Odd("nan", start=1), [Batch(batch.images, batch.masks)], 1)


@pytest.mark.parametrize("kind", ["memory", "memory of a processor"])
def test_too_little_memory_says_what_to_try(kind: str) -> None:
    with pytest.raises(OutOfMemoryError, match=r"8 crops of 4x4 .* set train\.batch to 4 .*train\.accumulate to 2"):
        trained(Odd(kind, start=1), noise(1), 1, batch=8)


def test_another_error_is_not_taken_for_too_little_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trained(Odd("shape", start=1), noise(1), 1)


def test_steps_are_counted_exactly() -> None:
    model = Line()
    rates: list[float] = []
    training, wrapped, fabric = started(model, schedule="cosine")
    train(training, wrapped, fabric, forever(noise(2)), 10, [lambda t, losses: rates.append(t.progress.rate)])
    assert training.progress.step == len(rates) == 10
    assert training.progress.share == 1.0
    assert model.told == [i / 10 for i in range(10)]
    assert rates == [pytest.approx(0.1 * (1 + math.cos(math.pi * i / 10)) / 2) for i in range(10)]
    assert not model.training


def test_minutes_go_by_the_clock() -> None:
    training, wrapped, fabric = started(Line(), minutes=0.2 / 60)
    begin = time.perf_counter()
    train(training, wrapped, fabric, forever(noise(1)), None, [lambda t, losses: time.sleep(0.01)])
    took = time.perf_counter() - begin
    assert 0.2 <= training.progress.seconds <= took < 2
    assert training.progress.share == 1.0
    assert training.progress.step > 1


def test_earlier_sittings_count_for_the_minutes() -> None:
    training, wrapped, fabric = started(Line(), minutes=1.0)
    training.progress.seconds = 59.95
    begin = time.perf_counter()
    train(training, wrapped, fabric, forever(noise(1)), None, [lambda t, losses: time.sleep(0.01)])
    assert time.perf_counter() - begin < 2
    assert training.progress.seconds >= 60


def test_a_watcher_may_end_the_training() -> None:
    def enough(training: Training, losses: dict[str, Losses]) -> None:
        training.progress.finished = training.progress.step == 3

    training, wrapped, fabric = started(Line())
    train(training, wrapped, fabric, forever(noise(1)), 10, [enough])
    assert training.progress.step == 3
    assert training.progress.share == pytest.approx(0.2)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_going_on_from_a_state_ends_where_no_stop_would_have(optimizer: str) -> None:
    """Dropout makes each step depend on its random numbers, the optimizer and the average on all steps before."""
    options: dict[str, Any] = {"optimizer": optimizer, "schedule": "cosine", "learning_rate": 0.01, "accumulate": 2}
    given = noise(7)
    straight = trained(Line(dropout=0.5), given, 9, **options)
    first = started(Line(dropout=0.5), **options)
    file = io.BytesIO()

    def stop(training: Training, losses: dict[str, Losses]) -> None:
        if training.progress.step == 4:
            torch.save(training.state(), file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*first, forever(given), 9, [stop])
    file.seek(0)
    torch.rand(5)  # whatever happens in between
    training, wrapped, fabric = started(Line(dropout=0.5), **options)
    training.load_state(torch.load(file, weights_only=True))
    train(training, wrapped, fabric, forever(given, start=8), 9)
    assert same_weights(training.model, straight.model)
    assert all(torch.equal(value, straight.average.tensors[name]) for name, value in training.average.tensors.items())
    assert training.progress.step == 9


def test_clipping_bounds_the_step() -> None:
    model = Line()
    before = [p.detach().clone() for p in model.parameters()]
    trained(model, noise(1), 1, clip=0.001)
    moved = math.sqrt(
        sum(float((p.detach() - b).square().sum()) for p, b in zip(model.parameters(), before, strict=True))
    )
    assert moved == pytest.approx(0.1 * 0.001, rel=1e-2)


@pytest.mark.parametrize("scaled", [False, True])
def test_l1_pulls_each_weight_by_the_same_force(scaled: bool) -> None:
    """Also in 16 bit, where the loss is multiplied by thousands before the slopes are taken."""

    class Level(Model):
        def __init__(self) -> None:
            super().__init__(ModelConfig())
            self.weight = nn.Parameter(torch.tensor([[2.0, -1.0, 0.0]]))
            self.bias = nn.Parameter(torch.ones(3))

        def loss(self, batch: Batch, part: str = "model") -> Losses:
            return {"total": 0 * (self.weight.sum() + self.bias.sum())}

    scaler = torch.amp.GradScaler("cpu")  # type: ignore[attr-defined]
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[Autocast("16-mixed", "cpu", scaler)]) if scaled else None
    model = Level()
    training, wrapped, used = started(model, fabric, l1=0.5)
    train(training, wrapped, used, forever(noise(1)), 1)
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[1.95, -0.95, 0.0]]))
    assert torch.equal(model.bias.detach(), torch.ones(3))


def test_the_average_is_updated_each_step() -> None:
    training = trained(Line(), noise(3), 6, average=0.5)
    assert training.average.updates == 6
    assert not torch.equal(training.average.tensors["layer.weight"], training.model.state_dict()["layer.weight"])


class Game(Model):
    """Two parts, one with three turns a step; remembers which batches each was handed."""

    Config = ModelConfig

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.critic, self.generator = nn.Linear(1, 1), nn.Linear(1, 1)
        self.seen: list[tuple[str, float]] = []

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "generator": self.generator}

    def turns(self) -> tuple[str, ...]:
        return ("critic", "critic", "critic", "generator")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.generator(x)

    def loss(self, batch: Batch, part: str = "generator") -> Losses:
        self.seen.append((part, batch.images[0, 0, 0, 0].item()))
        return {"total": self.parts()[part](torch.ones(1, 1)).square().sum()}


def numbered() -> Iterator[Batch]:
    """Batches that show their number."""
    for number in itertools.count():
        yield Batch(torch.full((1, 1, 2, 2), float(number)))


def test_each_further_turn_of_a_part_gets_a_fresh_batch_and_parts_have_rates_of_their_own() -> None:
    config = TrainConfig(
        steps=2, optimizer="sgd", learning_rate=0.1, rates={"critic": 0.0}, schedule="constant", warmup=0.0, clip=0.0,
        average=0.0, weight_decay=0.0, precision="32-true", device="cpu", threads=1,
    )  # fmt: skip
    game = Game()
    before = {name: value.clone() for name, value in game.state_dict().items()}
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(game, config, 0, fabric)
    train(training, wrapped, fabric, numbered(), 2)
    first, second = game.seen[:4], game.seen[4:]
    assert first == [("critic", 0), ("critic", 1), ("critic", 2), ("generator", 0)]
    assert second == [("critic", 3), ("critic", 4), ("critic", 5), ("generator", 3)]
    assert torch.equal(game.critic.weight, before["critic.weight"])  # its rate is 0 times the learning rate
    assert not torch.equal(game.generator.weight, before["generator.weight"])
