"""The graph of every segmenter computes what PyTorch does, at any size, in every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import SMALL, made

from intarsia.inference.engines import Engine, Metadata
from intarsia.inference.engines.open_vino import OpenVinoEngine
from intarsia.inference.engines.portable import OnnxRuntimeEngine
from intarsia.inference.export import Pipeline, to_onnx, traced
from intarsia.models import MODELS
from intarsia.models.combined.combination import Combination
from intarsia.models.contract import SemanticModel
from intarsia.models.semantic import UNet
from intarsia.records import Classes

pytest.importorskip("onnxscript")

#: N, H, W: one pixel, odd sides, sides that divide, a thin strip
SIZES = [(1, 1, 1), (3, 33, 57), (1, 64, 32), (1, 4001, 17)]
GREY = {"channels": 1, "mean": (0.4,), "deviation": (0.2,)}
FOUR = {"channels": 4, "mean": (0.4, 0.5, 0.6, 0.3), "deviation": (0.2,)}
#: one for each kind of network, as small as they come, with the bits of its pictures
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "unet": ({"width": 2, "depth": 1, **FOUR}, 16),
    "segnet-basic": ({"width": 4}, 8),  # remembers where its largest values stood
    "fcn": ({"auxiliary": False, "padded": False, **GREY}, 8),  # takes sizes that don't divide as they are
    "deeplab": ({"auxiliary": False}, 16),
    "fc_densenet": ({"layers": (1, 1)}, 8),
    "realtime": ({"auxiliary": False}, 8),
    "probabilistic_unet": ({"width": 4, "depth": 1}, 8),  # with a latent of the whole picture
}
#: combined models that are not plainly the segmenter that they hold
OWN = ["segmentation_autoencoder", "frozen_features"]
OTHERS = [case for case in SMALL if case not in (*NETWORKS, *OWN) and "-" not in case and case != "segnet"]
HELD = {"segmenter": {"name": "unet", "width": 2, "depth": 1}}


def noise(shape: tuple[int, ...], bits: int) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, shape, dtype)


def metadata(model: SemanticModel, bits: int = 8) -> Metadata:
    classes = Classes.named(["a", "b"], model.overlapping)
    return Metadata("unet", classes, int(model.get_buffer("mean").numel()), bits, "fp32", True, stride=model.stride)


def expected(model: SemanticModel, pictures: np.ndarray) -> np.ndarray:
    values = pictures.astype(np.float32) / np.iinfo(pictures.dtype).max
    return model.predict(torch.from_numpy(values).permute(0, 3, 1, 2)).numpy()


#: SegNet keeps where a maximum was; on flat ground, as at the padding, rounding decides which of equal ones it is
TIES = {"segnet": 2e-3, "segnet-basic": 2e-3}


def agree(classes: np.ndarray, probabilities: np.ndarray, truth: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(probabilities, truth, atol=atol)
    assert classes.dtype == np.uint8 and classes.shape == (len(truth), *truth.shape[2:])
    clear = np.abs(truth[:, 0] - truth[:, 1]) > max(1e-4, atol)
    assert clear.mean() > 0.9
    assert (classes == truth.argmax(axis=1))[clear].all()


def engines(model: SemanticModel, program: torch.export.ExportedProgram, folder: Path, bits: int = 8) -> list[Engine]:
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(program, metadata(model, bits)).SerializeToString())
    return [OnnxRuntimeEngine(path, threads=1), OpenVinoEngine(path, threads=1)]


def test_every_segmenter_is_tried() -> None:
    segmenters = {name for name, kind in MODELS.items() if issubclass(kind, SemanticModel)}
    assert {case.split("-")[0] for case in [*NETWORKS, *OWN, *OTHERS]} == segmenters


@pytest.mark.parametrize("case", NETWORKS)
def test_each_engine_answers_as_pytorch_at_any_size(case: str, tmp_path: Path) -> None:
    options, bits = NETWORKS[case]
    model = made(case, **options).eval().requires_grad_(False)
    channels = options.get("channels", 3)
    program = traced(Pipeline(model, bits, True), channels, bits)
    run = program.module(check_guards=False)
    made_engines = engines(model, program, tmp_path, bits)
    for size in SIZES:
        pictures = noise((*size, channels), bits)
        truth = expected(model, pictures)
        classes, probabilities = run(torch.from_numpy(pictures))
        agree(classes.numpy(), probabilities.numpy(), truth, TIES.get(case, 1e-5))
        for engine in made_engines:
            agree(*engine.both(pictures), truth, TIES.get(case, 1e-5))
            np.testing.assert_array_equal(engine.classes(pictures), engine.both(pictures)[0])


@pytest.mark.parametrize("case", OWN)
def test_a_combined_model_of_its_own_kind_is_traced(case: str) -> None:
    model = made(case, **HELD).eval().requires_grad_(False)
    run = traced(Pipeline(model, 8, True), 3, 8).module(check_guards=False)
    for size in ((1, 1, 1), (2, 33, 57)):
        pictures = noise((*size, 3), 8)
        classes, probabilities = run(torch.from_numpy(pictures))
        agree(classes.numpy(), probabilities.numpy(), expected(model, pictures))


@pytest.mark.parametrize("case", OTHERS)
def test_other_combined_models_are_exported_as_the_segmenter_that_they_hold(case: str) -> None:
    """One of NETWORKS, then; the same modules are called in the same order, whatever else the model holds."""
    model = made(case, **HELD).eval().requires_grad_(False)
    assert isinstance(model, Combination) and type(model).heads is Combination.heads
    assert type(model.segmenter) is UNet and model.stride == model.segmenter.stride
    for size in ((1, 1, 1), (2, 33, 57)):
        pictures = noise((*size, 3), 8)
        given = torch.from_numpy(pictures)
        truth = expected(model, pictures)
        agree(*(each.numpy() for each in Pipeline(model, 8, True)(given)), truth)
        agree(*(each.numpy() for each in Pipeline(model.segmenter, 8, True)(given)), truth)
