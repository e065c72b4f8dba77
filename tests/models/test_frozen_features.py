"""The encoder stays as it is, whatever is trained, and the shortcut equals the hypercolumn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import ANY_MODEL, squares

from intarsia.errors import UsageError
from intarsia.models import build
from intarsia.models.combined import FrozenFeatures

TINY = {"name": "frozen_features", "segmenter": {"name": "unet", "width": 4, "depth": 2}, "width": 6}


def made(**options: Any) -> FrozenFeatures:
    torch.manual_seed(0)
    model = build(ANY_MODEL.validate_python({**TINY, **options}))
    assert isinstance(model, FrozenFeatures)
    return model.train()


def test_training_changes_the_classifier_and_nothing_of_the_encoder() -> None:
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parts()["model"].parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(squares())["total"].backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("segmenter.classifier.") for name in changed)
    assert not model.segmenter.encoder.training


def test_nothing_is_kept_of_the_segmenters_decoder() -> None:
    names = {name.split(".")[1] for name in made().state_dict() if name.startswith("segmenter.")}
    assert names == {"encoder", "classifier", "mean", "deviation"}


def test_the_first_layer_is_that_of_the_stacked_maps() -> None:
    """Layer on each map, then resized and added = maps resized and stacked, then one layer."""
    model = made(layers=0).eval()
    x = torch.rand(1, 3, 16, 16)
    maps = model.segmenter.encoder(x)
    stacked = torch.cat([F.interpolate(each, (16, 16), mode="bilinear") for each in maps], dim=1)
    classifier = model.segmenter.classifier
    weight = torch.cat([layer.weight for layer in classifier.first], dim=1)  # type: ignore[misc]
    expected = classifier.last(F.relu(F.conv2d(stacked / (1 + 1e-5) ** 0.5, weight, classifier.first[0].bias)))  # type: ignore[arg-type]
    torch.testing.assert_close(classifier(maps), expected)


def test_maps_that_are_too_fine_are_left_out() -> None:
    model = made(finest=2)
    assert model.segmenter.used == [1, 2]
    assert model.eval()(torch.rand(1, 3, 20, 22)).shape == (1, 2, 20, 22)


def test_features_are_standardised_by_what_was_seen() -> None:
    model = made()
    batch = squares()
    model.loss(batch)
    maps = model.segmenter.encoder(model.standardised(batch.images))
    for norm, each in zip(model.segmenter.classifier.norms, maps, strict=True):
        torch.testing.assert_close(norm.running_mean, each.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_a_segmenter_in_one_piece_is_refused() -> None:
    with pytest.raises(UsageError, match=r"set model\.segmenter\.name = 'unet'"):
        made(segmenter={"name": "segnet"})
