"""What every segmenter promises, held over the whole dictionary. A new one is tested by adding its line to
tests/small_models.py."""

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_models import ANY_MODEL, SMALL, as_labels, made, squares, without_labels
from torch import Tensor

from intarsia.models import MODELS, SemanticModel

every_model = pytest.mark.parametrize("case", SMALL)


def test_every_model_has_a_case_and_its_own_name() -> None:
    semantic = {name: model for name, model in MODELS.items() if issubclass(model, SemanticModel)}
    assert {options["name"] for options in SMALL.values()} == semantic.keys()
    assert all(model.Config().name == name for name, model in semantic.items())  # type: ignore[attr-defined]


@every_model
def test_the_loss_is_finite_and_reaches_every_parameter_of_every_part(case: str) -> None:
    model = made(case).train()
    for part in model.turns():
        model.zero_grad()
        losses = model.loss(squares(), part)
        assert all(term.ndim == 0 and term.isfinite() for term in losses.values())
        losses["total"].backward()
        for name, parameter in model.parts()[part].named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.count_nonzero() > 0, name


@every_model
@pytest.mark.parametrize("overlapping", [False, True])
def test_a_batch_without_any_label_has_a_finite_loss_and_gradient(case: str, overlapping: bool) -> None:
    model = made(case, overlapping=overlapping).train()
    batch = squares()
    losses = model.loss(without_labels(as_labels(batch) if overlapping else batch))
    losses["total"].backward()
    assert all(term.isfinite() for term in losses.values())
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@every_model
def test_a_validation_loss_is_one_call_away_and_has_the_same_terms(case: str) -> None:
    model = made(case)
    training = model.train().loss(squares())
    with torch.no_grad():
        validation = model.eval().loss(squares())
    assert validation.keys() == training.keys()
    assert all(term.isfinite() for term in validation.values())


@every_model
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 96)])
def test_any_size_comes_back_at_its_size(case: str, size: tuple[int, int]) -> None:
    model = made(case, classes=3).eval()
    images = torch.rand(2, 3, *size)
    logits = model(images)
    probabilities = model.predict(images)
    assert logits.shape == probabilities.shape == (2, 3, *size)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, *size))


@every_model
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 2), (5, 11)])
@pytest.mark.parametrize("overlapping", [False, True])
def test_any_number_of_channels_and_classes(case: str, channels: int, classes: int, overlapping: bool) -> None:
    model = made(case, channels=channels, classes=classes, overlapping=overlapping).eval()
    probabilities = model.predict(torch.rand(1, channels, 32, 32))
    assert probabilities.shape == (1, classes, 32, 32)
    assert probabilities.min() >= 0 and probabilities.max() <= 1


@every_model
def test_overlapping_classes_are_learnt_from_their_labels(case: str) -> None:
    model = made(case, overlapping=True).train()
    assert model.loss(as_labels(squares()))["total"].isfinite()


@every_model
def test_one_picture_is_a_batch_in_training(case: str) -> None:
    losses = made(case).train().loss(squares(count=1))
    losses["total"].backward()
    assert losses["total"].isfinite()


@every_model
def test_thirty_steps_on_one_batch_learn_it(case: str) -> None:
    model = made(case).train()
    batch = squares(height=32, width=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model.loss(batch, model.turns()[-1])["cross_entropy"].item()
    for _ in range(30):
        optimizer.zero_grad()
        losses = model.loss(batch, model.turns()[-1])
        losses["total"].backward()
        optimizer.step()
        model.advance(0.5)
    assert losses["cross_entropy"].item() < 0.4 * first


@every_model
def test_a_state_dict_is_the_whole_model(case: str) -> None:
    model, other = made(case, seed=1), made(case, seed=2).eval()
    model.train().loss(squares())  # moves the running statistics, which must travel too
    images = torch.rand(1, 3, 40, 56)
    before = other(images)
    other.load_state_dict(model.eval().state_dict())
    assert not torch.equal(before, other(images))
    assert torch.equal(model(images), other(images))


@every_model
def test_the_exported_graph_computes_the_same(case: str) -> None:
    model = made(case).eval()
    images = torch.rand(1, 3, 33, 47)
    exported = torch.export.export(model, (images,))
    torch.testing.assert_close(exported.module()(images), model(images), rtol=1e-4, atol=1e-5)


@every_model
def test_a_configuration_survives_json_and_toml(case: str) -> None:
    config = made(case).config
    assert ANY_MODEL.validate_json(config.model_dump_json()) == config
    table = config.model_dump(mode="json", exclude_none=True)  # TOML knows no null
    assert ANY_MODEL.validate_python(table) == config
    assert not any(value is None for value in _leaves(table))
    assert json.loads(json.dumps(table)) == table


@every_model
def test_training_mode_alone_adds_no_result(case: str) -> None:
    """`forward` gives one tensor in both modes, and with normalisation and dropout held still, the same one."""
    model = made(case)
    model.train().loss(squares())
    images = torch.rand(2, 3, 32, 64)
    expected = model.eval()(images)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
            module.eval()
    result = model(images)
    assert isinstance(result, Tensor)
    torch.testing.assert_close(result, expected)


@every_model
def test_channels_last_computes_the_same(case: str) -> None:
    model = made(case).eval()
    images = torch.rand(2, 3, 32, 64)
    expected = model(images)
    result = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@every_model
def test_a_misspelt_key_is_refused(case: str) -> None:
    with pytest.raises(ValidationError, match="drop_out"):
        ANY_MODEL.validate_python({**SMALL[case], "drop_out": 0.1})


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="unett"):
        ANY_MODEL.validate_python({"name": "unett"})


def _leaves(table: Any) -> list[Any]:
    if isinstance(table, dict):
        return [leaf for value in table.values() for leaf in _leaves(value)]
    if isinstance(table, list):
        return [leaf for value in table for leaf in _leaves(value)]
    return [table]
