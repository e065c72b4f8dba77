"""Training that begins with the weights of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomlkit
import torch
from small_models import ANY_MODEL

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


UNET: dict[str, Any] = {"name": "unet", "width": 4, "depth": 2}
AUTOENCODER = {"name": "segmentation_autoencoder", "segmenter": UNET, "width": 4}
#: what is started, from what, and what must not be left at random
STARTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unet <- segmentation_autoencoder": (UNET, AUTOENCODER, ""),
    "segmentation_autoencoder <- unet": (AUTOENCODER, UNET, "segmenter."),
    "mean_teacher <- unet": ({"name": "mean_teacher", "segmenter": UNET}, UNET, "segmenter."),
    "unet <- mean_teacher": (UNET, {"name": "mean_teacher", "segmenter": UNET}, ""),
    "vae_segmenter <- fixmatch": (
        {"name": "vae_segmenter", "segmenter": UNET, "width": 4},
        {"name": "fixmatch", "segmenter": UNET},
        "segmenter.",
    ),
    "frozen_features <- segmentation_autoencoder": (
        {"name": "frozen_features", "segmenter": UNET},
        AUTOENCODER,
        "segmenter.encoder.",
    ),
    "frozen_features <- vae_segmenter": (
        {"name": "frozen_features", "segmenter": UNET},
        {"name": "vae_segmenter", "segmenter": UNET, "width": 4},
        "segmenter.encoder.",
    ),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_segmenter_is_the_same_alone_and_inside_a_combination(case: str, tmp_path: Path) -> None:
    options, source, prefix = STARTS[case]
    run = Run(tmp_path / "pretrained")
    run.folder.mkdir()
    run.write_config(tomlkit.dumps({"model": {**source, "mean": [0.9]}}))
    torch.manual_seed(1)
    theirs = build(ANY_MODEL.validate_python({**source, "mean": (0.9,)}))
    for name, buffer in theirs.named_buffers():
        if name in ("progress", "seen", "updates"):
            buffer.fill_(1)  # where that training was, not where this one is
    run.write_weights(theirs.state_dict(), "last", 1)
    torch.manual_seed(2)
    model = build(ANY_MODEL.validate_python({**options, "mean": (0.2,)}))
    start_from(model, str(run.folder))
    state = {name.removeprefix("segmenter."): value for name, value in theirs.state_dict().items()}
    for name, value in model.state_dict().items():
        alone = name.removeprefix("segmenter.")
        if alone == "mean":
            assert float(value.flatten()[0]) == pytest.approx(0.2)
        elif alone != "deviation" and name.startswith(prefix):
            torch.testing.assert_close(value, state[alone])
        if name in ("progress", "seen", "updates"):
            assert not value.any()


def test_frozen_features_of_another_encoder_are_refused(before: Run) -> None:
    config = {"name": "frozen_features", "segmenter": {"name": "unet", "width": 4, "encoder": "tiny"}}
    with pytest.raises(UsageError, match="tensors of this FrozenFeatures are in that run"):
        start_from(build(ANY_MODEL.validate_python(config)), str(before.folder))
