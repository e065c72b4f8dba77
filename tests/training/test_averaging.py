"""The moving average against its formula."""

import pytest
import torch
from torch import nn

from intarsia.training.averaging import MovingAverage


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))


def moved(model: nn.Module) -> None:
    """Other weights, other batch statistics."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    model.train()(torch.rand(2, 1, 5, 5))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_follows_its_formula(decay: float) -> None:
    model = net()
    average = MovingAverage(model, decay)
    expected = {name: value.clone().double() for name, value in model.state_dict().items()}
    for n in range(12):
        moved(model)
        average.update(model)
        d = min(decay, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            smooth = value.is_floating_point()
            expected[name] = d * expected[name] + (1 - d) * value.double() if smooth else value.double()
    for name, value in average.tensors.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert average.updates == 12


def test_a_decay_of_nothing_keeps_the_weights_themselves() -> None:
    model = net()
    average = MovingAverage(model, 0.0)
    moved(model)
    average.update(model)
    assert all(torch.equal(average.tensors[name], value) for name, value in model.state_dict().items())


def test_the_first_weights_are_soon_forgotten() -> None:
    model = net()
    average = MovingAverage(model, 0.9999)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0)
    for _ in range(100):
        average.update(model)
    assert all((average.tensors[name] - 1).abs().max() < 1e-3 for name, _ in model.named_parameters())


def test_it_does_not_follow_the_model_by_itself() -> None:
    model = net()
    average = MovingAverage(model, 0.9)
    before = average.tensors["0.weight"].clone()
    moved(model)
    assert torch.equal(average.tensors["0.weight"], before)
    average.restart(model)
    assert torch.equal(average.tensors["0.weight"], model.state_dict()["0.weight"])


@pytest.mark.parametrize("training", [True, False])
def test_applied_it_is_the_model_for_a_while(training: bool) -> None:
    model = net()
    average = MovingAverage(model, 0.9)
    moved(model)
    model.train(training)
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def look() -> None:
        with average.applied(model):
            assert not model.training
            assert all(torch.equal(average.tensors[name], value) for name, value in model.state_dict().items())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert model.training is training
    assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())


def test_it_follows_tensors_that_took_another_s_place() -> None:
    """`to` replaces buffers and the parameters' insides; a model may be given another tensor by assignment."""
    model = net()
    average = MovingAverage(model, 0.0)
    model.double().float().to(memory_format=torch.channels_last)
    moved(model)
    model[1].running_mean = torch.full((2,), 7.0)  # type: ignore[index]
    average.update(model)
    assert all(torch.equal(average.tensors[name], value) for name, value in model.state_dict().items())
    other = net(1)
    average.update(other)
    assert all(torch.equal(average.tensors[name], value) for name, value in other.state_dict().items())
