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
from intarsia.models.contract import SemanticModel
from intarsia.records import Classes

pytest.importorskip("onnxscript")

#: N, H, W: one pixel, odd sides, sides that divide, a thin strip
SIZES = [(1, 1, 1), (3, 33, 57), (1, 64, 32), (1, 401, 17)]
#: one for each kind of network; the combined models hold one of these
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"width": 4},
    "segnet-basic": {},  # remembers where its largest values stood
    "fcn": {"auxiliary": False, "padded": False},  # takes sizes that don't divide as they are
    "deeplab": {"auxiliary": False},
    "fc_densenet": {"layers": (1, 1)},
    "probabilistic_unet": {"width": 4},  # with a latent of the whole picture
}
OTHERS = [case for case in SMALL if case not in NETWORKS and "-" not in case]


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
    assert {case.split("-")[0] for case in [*NETWORKS, *OTHERS]} >= segmenters


@pytest.mark.parametrize("case", NETWORKS)
def test_each_engine_answers_as_pytorch_at_any_size(case: str, tmp_path: Path) -> None:
    model = made(case, **NETWORKS[case]).eval().requires_grad_(False)
    program = traced(Pipeline(model, 8, True), 3, 8)
    run = program.module(check_guards=False)
    made_engines = engines(model, program, tmp_path)
    for size in SIZES:
        pictures = noise((*size, 3), 8)
        truth = expected(model, pictures)
        classes, probabilities = run(torch.from_numpy(pictures))
        agree(classes.numpy(), probabilities.numpy(), truth, TIES.get(case, 1e-5))
        for engine in made_engines:
            agree(*engine.both(pictures), truth, TIES.get(case, 1e-5))
            np.testing.assert_array_equal(engine.classes(pictures), engine.both(pictures)[0])


@pytest.mark.parametrize("case", OTHERS)
def test_a_combined_model_is_traced_as_its_segmenter(case: str) -> None:
    model = made(case).eval().requires_grad_(False)
    run = traced(Pipeline(model, 8, True), 3, 8).module(check_guards=False)
    for size in ((1, 1, 1), (2, 33, 57)):
        pictures = noise((*size, 3), 8)
        classes, probabilities = run(torch.from_numpy(pictures))
        agree(classes.numpy(), probabilities.numpy(), expected(model, pictures), TIES.get(case, 1e-5))


@pytest.mark.parametrize(("channels", "bits"), [(1, 16), (4, 16), (1, 8)])
def test_grey_four_channels_and_sixteen_bits(channels: int, bits: int, tmp_path: Path) -> None:
    options = {"channels": channels, "mean": (0.4,), "deviation": (0.2,), "width": 2, "depth": 1}
    model = made("unet", **options).eval().requires_grad_(False)
    program = traced(Pipeline(model, bits, True), channels, bits)
    run = program.module(check_guards=False)
    for size in ((1, 1, 1), (2, 33, 57)):
        pictures = noise((*size, channels), bits)
        truth = expected(model, pictures)
        agree(*(each.numpy() for each in run(torch.from_numpy(pictures))), truth)
        for engine in engines(model, program, tmp_path, bits):
            agree(*engine.both(pictures), truth)
