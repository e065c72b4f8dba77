"""Optimizers by name, and schedules: their ends, and that they do not jump."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from intarsia.training.config import TrainConfig
from intarsia.training.optimizers import build_optimizer, l1_norm, learning_rate

OPTIMIZERS = get_args(TrainConfig.model_fields["optimizer"].annotation)
SCHEDULES = get_args(TrainConfig.model_fields["schedule"].annotation)

shares = st.floats(0, 1)
warmups = st.floats(0, 0.9)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name: str) -> None:
    model = net()
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    optimizer = build_optimizer(model, TrainConfig(optimizer=name, learning_rate=3e-3))
    losses = []
    for _ in range(20):
        loss = (model(images) - 1).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_decay_and_biases_and_norms_do_not(name: str) -> None:
    """Without a gradient of the loss, only the decay is left to move a weight."""
    model = net()
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = build_optimizer(model, TrainConfig(optimizer=name, learning_rate=1e-3, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in model.named_parameters():
        if value.ndim > 1:
            assert value.norm() < before[key].norm(), key
        else:
            assert torch.equal(value, before[key]), key


def test_a_part_of_biases_alone_has_an_optimizer() -> None:
    assert len(build_optimizer(nn.BatchNorm2d(3), TrainConfig()).param_groups) == 1


def test_the_settings_reach_the_optimizer() -> None:
    momentum = build_optimizer(net(), TrainConfig(optimizer="momentum", momentum=0.8, learning_rate=0.2))
    assert momentum.defaults["momentum"] == 0.8 and momentum.defaults["nesterov"] and momentum.defaults["lr"] == 0.2
    assert not build_optimizer(net(), TrainConfig(optimizer="momentum", momentum=0)).defaults["nesterov"]
    assert build_optimizer(net(), TrainConfig(optimizer="sgd")).defaults["momentum"] == 0
    assert build_optimizer(net(), TrainConfig(optimizer="adam", betas=(0.5, 0.9))).defaults["betas"] == (0.5, 0.9)


@given(st.sampled_from(SCHEDULES), shares, warmups, st.floats(1e-6, 1))
def test_a_rate_is_between_nothing_and_the_top(schedule: str, progress: float, warmup: float, top: float) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=top, warmup=warmup)
    assert 0 <= learning_rate(config, progress) <= top * (1 + 1e-12)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [("constant", 1.0), ("step", 0.1**3), ("poly", 0.0), ("cosine", 0.0), ("one_cycle", 1e-4)],
)
def test_a_schedule_ends_where_it_says(schedule: str, end: float) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=2.0, warmup=0.1)
    assert learning_rate(config, 1.0) == pytest.approx(2 * end, abs=1e-12)
    assert learning_rate(config, 1.5) == learning_rate(config, 1.0)
    assert learning_rate(config, -0.5) == learning_rate(config, 0.0) > 0  # a rate of 0 would waste the first step


@pytest.mark.parametrize("schedule", [each for each in SCHEDULES if each != "one_cycle"])
def test_the_warm_up_rises_in_a_line_to_the_top(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=2.0, warmup=0.2)
    assert learning_rate(config, 0.05) == pytest.approx(0.5)
    assert learning_rate(config, 0.15) == pytest.approx(1.5)
    assert learning_rate(config, 0.2) == pytest.approx(2.0)
    assert learning_rate(TrainConfig(schedule=schedule, learning_rate=2.0, warmup=0), 0.0) == pytest.approx(2.0)


@given(st.sampled_from(["constant", "poly", "cosine", "one_cycle"]), shares, warmups, st.floats(0.5, 2))
@settings(max_examples=200)
def test_a_schedule_does_not_jump(schedule: str, progress: float, warmup: float, power: float) -> None:
    """Over a share of 1e-9 of the training, the steepest slope there is moves the rate by far less than 1e-3."""
    config = TrainConfig(schedule=schedule, learning_rate=1.0, warmup=warmup, power=power)
    step = 1e-9
    for place in (progress, warmup, 0.3):
        if 0 < place < 1 - step and (schedule == "one_cycle" or place > 1e-6):
            assert abs(learning_rate(config, place + step) - learning_rate(config, place - step)) < 1e-3


@given(st.sampled_from(["poly", "cosine", "step", "constant"]), shares, shares, warmups)
def test_after_the_warm_up_the_rate_never_rises(schedule: str, one: float, other: float, warmup: float) -> None:
    config = TrainConfig(schedule=schedule, learning_rate=1.0, warmup=warmup)
    early, late = sorted((max(one, warmup), max(other, warmup)))
    assert learning_rate(config, early) >= learning_rate(config, late)


def test_the_shapes_by_their_formulas() -> None:
    plain: dict[str, Any] = {"learning_rate": 1.0, "warmup": 0.0}
    assert learning_rate(TrainConfig(schedule="poly", power=0.9, **plain), 0.5) == pytest.approx(0.5**0.9)
    assert learning_rate(TrainConfig(schedule="cosine", **plain), 0.5) == pytest.approx(0.5)
    assert learning_rate(TrainConfig(schedule="cosine", **plain), 1 / 3) == pytest.approx(0.75)
    drops = TrainConfig(schedule="step", step_every=0.25, step_factor=0.5, **plain)
    assert [learning_rate(drops, p) for p in (0.0, 0.24, 0.25, 0.5, 0.75, 0.99)] == [1, 1, 0.5, 0.25, 0.125, 0.125]
    cycle = TrainConfig(schedule="one_cycle", **plain)
    assert [learning_rate(cycle, p) for p in (0.0, 0.15, 0.3)] == pytest.approx([0.04, 0.52, 1.0])


def test_the_l1_norm_is_of_weights_alone() -> None:
    model = net()
    norm = l1_norm(model)
    expected = sum(p.detach().abs().sum() for p in model.parameters() if p.ndim > 1)
    torch.testing.assert_close(norm, expected)
    norm.backward()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            assert torch.equal(parameter.grad, parameter.sign())
        else:
            assert parameter.grad is None


@pytest.mark.parametrize(
    "wrong", [{"betas": (0.9, 1.0)}, {"learning_rate": float("inf")}, {"warmup": 1.0}, {"steps": 0}, {"clip": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(**wrong)
