"""What every combination promises beside the contract of segmenters: who claims to learn from pictures without masks
does, the others don't, and no such picture ever touches the supervised loss."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_models import ANY_MODEL, SMALL, as_labels, made, squares, without_labels

from intarsia.errors import UsageError
from intarsia.models import MODELS, build
from intarsia.models.combined import Combination
from intarsia.models.contract import SemanticModel
from intarsia.records import Batch

COMBINED = [case for case, options in SMALL.items() if issubclass(MODELS[options["name"]], Combination)]
every_combination = pytest.mark.parametrize("case", COMBINED)
either_kind = pytest.mark.parametrize("overlapping", [False, True])


def gradient(model: SemanticModel) -> float:
    """The sum of the absolute gradients of what is trained of the segmenter."""
    assert isinstance(model, Combination)
    found = [parameter.grad.abs().sum() for parameter in model.segmenter.parameters() if parameter.grad is not None]
    return float(torch.stack(found).sum()) if found else 0.0


def segmenter_loss(model: SemanticModel, batch: Batch) -> dict[str, torch.Tensor]:
    """The loss of the part that trains the segmenter: the last of the turns."""
    return model.loss(batch, model.turns()[-1])


@every_combination
@either_kind
def test_pictures_without_masks_teach_whoever_claims_to_learn_from_them(case: str, overlapping: bool) -> None:
    model = made(case, overlapping=overlapping).train()
    model.advance(0.9)  # warmed up
    batch = without_labels(as_labels(squares()) if overlapping else squares())
    losses = segmenter_loss(model, batch)
    losses["total"].backward()
    assert all(term.isfinite() for term in losses.values())
    assert (gradient(model) > 0) == model.learns_from_unlabelled
    for term in model.criterion.config.terms:
        assert losses.get(term, torch.zeros(())).item() == 0
    if not model.learns_from_unlabelled:
        assert losses["total"].item() == 0


@every_combination
@either_kind
def test_a_mixed_batch_has_the_supervised_terms_of_its_labelled_part(case: str, overlapping: bool) -> None:
    model = made(case, overlapping=overlapping).eval()
    known = as_labels(squares()) if overlapping else squares()
    unknown = without_labels(known)
    both = Batch(
        torch.cat([known.images, unknown.images]),
        None if known.masks is None else torch.cat([known.masks, unknown.masks]),  # type: ignore[list-item]
        None if known.labels is None else torch.cat([known.labels, unknown.labels]),  # type: ignore[list-item]
        labelled=torch.tensor([True, True, False, False]),
    )
    with torch.no_grad():
        alone, mixed = segmenter_loss(model, known), segmenter_loss(model, both)
    for term in model.criterion.config.terms:
        if term in alone:
            torch.testing.assert_close(mixed[term], alone[term], rtol=1e-4, atol=1e-5)


@every_combination
def test_it_predicts_what_its_segmenter_predicts(case: str) -> None:
    model = made(case).eval()
    assert isinstance(model, Combination)
    images = torch.rand(1, 3, 40, 56)
    torch.testing.assert_close(model(images), model.segmenter(images))


@every_combination
def test_what_is_said_once_is_the_segmenters_too(case: str) -> None:
    model = made(case, classes=5, channels=2, mean=(0.1, 0.2), deviation=(0.3, 0.4))
    assert isinstance(model, Combination)
    inner: Any = model.segmenter.config
    assert (inner.classes, inner.channels, inner.mean, inner.deviation) == (5, 2, (0.1, 0.2), (0.3, 0.4))
    assert "classes" not in model.config.model_dump()["segmenter"]


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"set model\.classes instead"):
        ANY_MODEL.validate_python({"name": "fixmatch", "segmenter": {"name": "unet", "classes": 4}})


@pytest.mark.parametrize("segmenter", ["fcn", "deeplab", "segnet", "fc_densenet"])
def test_any_segmenter_can_be_taught(segmenter: str) -> None:
    model = build(ANY_MODEL.validate_python({"name": "unimatch", "segmenter": {"name": segmenter}}))
    assert isinstance(model, SemanticModel)
    assert model.eval().predict(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_who_shares_an_encoder_refuses_segmenters_without_one_in_one_piece() -> None:
    model = build(ANY_MODEL.validate_python({"name": "fixmatch", "segmenter": {"name": "segnet"}}))
    assert isinstance(model, Combination)
    with pytest.raises(UsageError, match=r"model\.segmenter\.name = 'unet'"):
        model.in_halves()
