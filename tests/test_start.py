"""Training that begins with the weights of another run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intarsia.errors import UsageError
from intarsia.fitting import start_from
from intarsia.models import build
from intarsia.models.contract import SemanticModel
from intarsia.models.semantic import SegNetConfig, UNetConfig
from intarsia.runs import Run


@pytest.fixture
def before(tmp_path: Path) -> Run:
    """A run of a tiny U-Net with two classes."""
    run = Run(tmp_path / "before")
    run.folder.mkdir()
    config = UNetConfig(width=4, depth=2, classes=2)
    run.write_config('[model]\nname = "unet"\nwidth = 4\ndepth = 2\nclasses = 2\n')
    run.write_weights(build(config).state_dict(), "last", 1)
    return run


def built(config: UNetConfig | SegNetConfig) -> SemanticModel:
    model = build(config)
    assert isinstance(model, SemanticModel)
    return model


def test_all_but_the_last_layer_is_taken_where_the_classes_differ(before: Run) -> None:
    model = built(UNetConfig(width=4, depth=2, classes=5, mean=(0.1,)))
    left = start_from(model, str(before.folder))
    assert set(left) == {"classifier.weight", "classifier.bias"}
    theirs = before.load_model().state_dict()
    for name, tensor in model.state_dict().items():
        if name not in left and name not in ("mean", "deviation"):
            torch.testing.assert_close(tensor, theirs[name])
    assert model.mean.flatten()[0] == pytest.approx(0.1)  # the new pictures' own


def test_another_model_is_refused(before: Run) -> None:
    with pytest.raises(UsageError, match=r"of the .* tensors of this SegNet are in that run"):
        start_from(built(SegNetConfig(classes=2)), str(before.folder))


def test_unknown_weights_of_torchvision_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="fcn_resnet50"):
        start_from(built(UNetConfig(width=4, depth=2)), "torchvision/unet")
