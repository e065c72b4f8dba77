"""A layer's largest singular value is 1, whatever its weight, also where its weight is an average."""

import io

import pytest
import torch
from torch import nn

from intarsia.networks.spectral import spectral_norm

LAYERS = {
    "convolution": lambda: nn.Conv2d(3, 8, 3),
    "one output": lambda: nn.Linear(20, 1),
    "tall": lambda: nn.Linear(4, 30),
    "embedding": lambda: nn.Embedding(5, 12),
}


def norm(layer: nn.Module) -> float:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_the_largest_singular_value_is_one(name: str, scale: float) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]()
    with torch.no_grad():
        layer.weight.mul_(scale)
    spectral_norm(layer)
    assert norm(layer.train()) == pytest.approx(1, abs=0.02)
    assert norm(layer.eval()) == pytest.approx(1, abs=0.02)


def test_it_follows_the_weight_in_training_a_step_at_a_time() -> None:
    torch.manual_seed(1)
    layer = spectral_norm(nn.Linear(12, 9)).train()
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.randn(9, 12))  # type: ignore[union-attr,operator]
    for _ in range(60):
        layer(torch.rand(1, 12))
    assert norm(layer) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("direction", [0.01, "another"])
def test_it_is_right_for_a_moving_average_whose_direction_is_not_that_of_its_weight(direction: float | str) -> None:
    """An average of directions is shorter than 1, and lags behind."""
    torch.manual_seed(1)
    layer = spectral_norm(nn.Conv2d(4, 6, 3)).eval()
    state = layer.state_dict()
    kept = state["parametrizations.weight.0.direction"]
    kept.copy_(kept * direction if isinstance(direction, float) else 0.3 * torch.randn(6))
    layer.load_state_dict(state)
    assert norm(layer) == pytest.approx(1, abs=0.03)


def test_the_gradient_is_that_of_the_quotient() -> None:
    """Miyato et al., eq. 12; it is at right angles to the weight, because a longer weight is the same layer."""
    torch.manual_seed(1)
    layer = spectral_norm(nn.Linear(7, 5)).eval()
    layer(torch.rand(3, 7)).square().sum().backward()
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(original, nn.Parameter) and original.grad is not None
    assert float((original.detach() * original.grad).sum()) == pytest.approx(0, abs=1e-3)
    assert original.grad.norm() > 0.01


def test_evaluation_changes_nothing_and_training_can_be_resumed() -> None:
    torch.manual_seed(1)
    one, other = spectral_norm(nn.Linear(7, 5)), spectral_norm(nn.Linear(7, 5))
    before = one.state_dict()["parametrizations.weight.0.direction"].clone()
    one.eval()(torch.rand(2, 7))
    assert torch.equal(before, one.state_dict()["parametrizations.weight.0.direction"])
    file = io.BytesIO()
    torch.save(one.train().state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    images = torch.rand(2, 7)
    assert torch.equal(one(images), other(images)) and torch.equal(one(images), other(images))


def test_sixteen_bits_around_it_do_not_reach_it() -> None:
    torch.manual_seed(1)
    layer = spectral_norm(nn.Linear(64, 48)).eval()
    exact = layer.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, exact)
