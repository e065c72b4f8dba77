"""What looks on: what is written when, and which weights are kept."""

import json
import math
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from intarsia.errors import Stopped
from intarsia.models.contract import Losses, Model, ModelConfig
from intarsia.records import Batch
from intarsia.runs import Run
from intarsia.training.averaging import MovingAverage
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Progress, Training
from intarsia.training.optimizers import build_optimizer
from intarsia.training.stopping import stop_on_signals
from intarsia.training.watchers import Checkpoint, Log, Pictures, Validate


class Number(Model):
    """A model that is one number."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.number = nn.Parameter(torch.zeros(1))

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": self.number.square().sum()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def log(run: Run) -> Log:
    return Log(run, pictures=8, every=5)


def training_of(**options: Any) -> Training:
    model, config = Number(), TrainConfig(**options)
    return Training(model, config, 0, {"model": build_optimizer(model, config)}, MovingAverage(model, 0.0))


def step(training: Training, share: float = 0.0, number: float | None = None) -> None:
    """What the loop does before it calls the watchers."""
    training.progress.step += 1
    training.progress.share = share
    if number is not None:
        nn.init.constant_(training.model.number, number)  # type: ignore[arg-type]
    training.average.update(training.model)


def losses_of(total: float) -> dict[str, Losses]:
    return {"model": {"total": torch.tensor(total)}}


def test_the_log_writes_mean_losses_now_and_then(run: Run, log: Log) -> None:
    training = training_of()
    for i in range(1, 11):
        step(training)
        training.progress.rate = 1.23456789e-7
        log(training, losses_of(float(i)))
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 5, 10]
    assert [row["train/total"] for row in rows] == [1, 2, 3, 4.5, 8]  # means of 4 and 5, and of 6 to 10
    assert rows[-1]["learning_rate"] == pytest.approx(1.23456789e-7, rel=1e-4)
    assert all(row["pictures_per_second"] > 0 and row["time"] >= 0 for row in rows)
    assert list(run.folder.glob("events.out.tfevents*"))


def test_the_log_tells_parts_apart(run: Run, log: Log) -> None:
    training = training_of()
    step(training)
    log(training, {"critic": {"total": torch.tensor(1.0)}, "generator": {"total": torch.tensor(2.0)}})
    (row,) = run.read_metrics()
    assert (row["train/critic/total"], row["train/generator/total"]) == (1, 2)


def test_the_log_shows_what_it_writes(run: Run) -> None:
    shown: list[tuple[int, dict[str, float], float]] = []
    log = Log(run, 8, every=1, show=lambda t, losses, speed: shown.append((t.progress.step, losses, speed)))
    training = training_of()
    step(training)
    log(training, losses_of(3.0))
    ((number, losses, speed),) = shown
    assert (number, losses) == (1, {"train/total": 3.0})
    assert speed > 0


def test_any_reader_of_json_can_read_the_metrics(run: Run, log: Log) -> None:
    """NaN is no JSON; what is not known is left out."""
    training = training_of()
    step(training)
    log.write(training, {"validation/mean_iou": math.nan, "validation/accuracy": 0.5})

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    row = json.loads(run.metrics_path.read_text(), parse_constant=refuse)
    assert row == {"step": 1, "time": 0.0, "validation/accuracy": 0.5}


def validator(run: Run, log: Log, scores: list[float], every: int | None = 1, **options: Any) -> Validate:
    left = iter(scores)
    return Validate(run, log, every, lambda training: {"mean_iou": next(left)}, **options)


def test_of_weights_that_find_nothing_the_last_are_kept(run: Run, log: Log) -> None:
    validate, training = validator(run, log, [0.0, 0.0, 0.0]), training_of()
    for number in range(1, 4):
        step(training, number=number)
        validate(training, losses_of(0.0))
    assert load_file(run.weights_path("best"))["number"].item() == 3
    assert (training.progress.best_step, training.progress.stale) == (3, 2)


def test_the_best_weights_are_kept(run: Run, log: Log) -> None:
    validate, training = validator(run, log, [0.3, 0.6, math.nan, 0.5, 0.6]), training_of()
    for number in range(1, 6):
        step(training, number=number)
        validate(training, losses_of(0.0))
    assert load_file(run.weights_path("best"))["number"].item() == 2  # the first of equals; NaN is never best
    progress = training.progress
    assert (progress.best, progress.best_step, progress.stale, progress.validated) == (0.6, 2, 3, 5)
    assert not progress.finished
    rows = run.read_metrics()
    assert [row.get("validation/mean_iou") for row in rows] == [0.3, 0.6, None, 0.5, 0.6]
    assert all(row["validation_seconds"] >= 0 for row in rows)


def test_the_average_is_what_is_scored(run: Run, log: Log) -> None:
    seen: list[float] = []

    def score(training: Training) -> dict[str, float]:
        assert not training.model.training
        seen.append(training.model.number.item())  # type: ignore[union-attr, operator]
        return {"mean_iou": 0.5}

    training = training_of()
    training.average.tensors["number"].fill_(7.0)
    training.progress.step = 1
    Validate(run, log, 1, score)(training, losses_of(0.0))
    assert seen == [7.0]
    assert training.model.number.item() == 0.0  # type: ignore[union-attr, operator]
    assert training.model.training
    assert load_file(run.weights_path("best"))["number"].item() == 7.0


@pytest.mark.parametrize(("patience", "stops_at"), [(0, None), (1, 3), (2, 4)])
def test_patience_ends_after_validations_without_a_better_score(
    run: Run, log: Log, patience: int, stops_at: int | None
) -> None:
    validate, training = validator(run, log, [0.3, 0.6, 0.5, 0.6, 0.4]), training_of(patience=patience)
    stopped = None
    for number in range(1, 6):
        step(training)
        validate(training, losses_of(0.0))
        if training.progress.finished and stopped is None:
            stopped = number
    assert stopped == stops_at


def test_validations_come_every_so_many_steps(run: Run, log: Log) -> None:
    validate, training = validator(run, log, [0.1] * 9, every=3), training_of()
    for _ in range(10):
        step(training)
        validate(training, losses_of(0.0))
        validate(training, losses_of(0.0))  # once a step, however often it is asked
    assert [row["step"] for row in run.read_metrics()] == [3, 6, 9]


def test_validations_come_about_twenty_times(run: Run, log: Log) -> None:
    validate, training = validator(run, log, [0.1] * 30, every=None), training_of()
    for i in range(1, 1001):
        step(training, share=i / 1000)
        validate(training, losses_of(0.0))
    steps = [row["step"] for row in run.read_metrics()]
    assert 18 <= len(steps) <= 20
    assert steps[0] == 50


def test_a_short_training_is_not_all_validation(run: Run, log: Log) -> None:
    validate, training = validator(run, log, [0.1] * 60, every=None), training_of()
    for i in range(1, 61):
        step(training, share=i / 60)
        validate(training, losses_of(0.0))
    assert [row["step"] for row in run.read_metrics()] == [20, 40, 60]


def test_pictures_follow_each_validation(run: Run, log: Log) -> None:
    then: list[int] = []
    validate = validator(run, log, [0.1] * 4, every=2, then=lambda t, losses: then.append(t.progress.step))
    training = training_of()
    for _ in range(5):
        step(training)
        validate(training, losses_of(0.0))
    assert then == [2, 4]


def test_a_checkpoint_after_every_step_where_there_is_no_time_between(run: Run) -> None:
    training = training_of()
    checkpoint = Checkpoint(run, 0.0, lambda: False)
    for number in (1, 2):
        step(training, number=number)
        checkpoint(training, losses_of(0.0))
        state = run.read_state()
        assert state is not None and state["progress"]["step"] == number
        assert load_file(run.weights_path("last"))["number"].item() == number


def test_a_checkpoint_waits_for_its_time(run: Run) -> None:
    training = training_of()
    checkpoint = Checkpoint(run, 3600.0, lambda: False)
    step(training)
    checkpoint(training, losses_of(0.0))
    assert run.read_state() is None
    checkpoint.saved -= 3601
    checkpoint(training, losses_of(0.0))
    assert run.read_state() is not None


def test_a_stop_saves_first(run: Run) -> None:
    training = training_of()
    step(training, number=4.0)
    with pytest.raises(Stopped, match="stopped at step 1, everything is saved") as caught:
        Checkpoint(run, 3600.0, lambda: True)(training, losses_of(0.0))
    assert caught.value.exit_code == 75
    state = run.read_state()
    assert state is not None and state["model"]["number"].item() == 4.0


def test_a_state_comes_back_whole(run: Run) -> None:
    training = training_of()
    training.progress = Progress(step=7, seconds=1.5, best=0.4, finished=True)
    step(training, number=3.0)
    run.write_state(training.state())
    other = training_of()
    state = run.read_state()
    assert state is not None
    other.load_state(state)
    assert other.progress == training.progress
    assert other.model.number.item() == 3.0  # type: ignore[union-attr, operator]
    assert other.average.updates == 1


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [1, 5])])
def test_pictures_are_drawn_each_so_many_times(tmp_path: Path, every: int, expected: list[int]) -> None:
    drawn: list[int] = []

    def draw(training: Training) -> bytes:
        drawn.append(training.progress.step)
        return b"a picture"

    pictures, training = Pictures(tmp_path / "samples", draw, every), training_of()
    for _ in range(5):
        step(training)
        pictures(training, losses_of(0.0))
    assert drawn == expected
    pictures.now(training)  # the last is drawn already
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [f"{i:07d}.png" for i in expected]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_question(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
    assert signal.getsignal(number) is before


def test_other_threads_take_no_signals() -> None:
    answers: list[bool] = []

    def look() -> None:
        with stop_on_signals() as asked:
            answers.append(asked())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert answers == [False]
