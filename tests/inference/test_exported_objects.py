"""Exported models of objects: their graphs compute PyTorch's maps, and the file makes the run's objects of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_models import object_classes, same_objects
from scipy.ndimage import gaussian_filter
from small_models import ANY_MODEL

from intarsia.data.scenes import SceneConfig, draw_scene
from intarsia.drawing import encode_png
from intarsia.errors import DataError, NumericError, UsageError
from intarsia.inference import ExportedObjectPredictor, ExportedPredictor, ObjectPredictor, load_exported
from intarsia.inference.engines import Metadata
from intarsia.inference.export import export_model
from intarsia.inference.parity import ObjectParity, compared_objects, same_object
from intarsia.inference.quantise import Drop, average_precision
from intarsia.models import build
from intarsia.models.instance.map_model import MapModel
from intarsia.records import Classes, Instances, Sample

pytest.importorskip("onnxscript")

UNET = {"name": "unet", "width": 4, "depth": 1}
SMALL: dict[str, dict[str, Any]] = {
    "instance_segnet": {"segmenter": UNET, "pyramid": (3,), "alpha": 0.2, "classes": 3},
    "watershed": {"segmenter": UNET, "classes": 3},
}
CLASSES = object_classes(3)


def landscape(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth, half of it bright."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width, 3)), (3, 3, 0))
    return (255 * (noise - noise.min()) / max(float(np.ptp(noise)), 1e-6)).astype(np.uint8)


def made(kind: str) -> MapModel:
    """A model of random weights whose thresholds lie in the middle of its maps, so that there are objects."""
    torch.manual_seed(1)
    model = build(ANY_MODEL.validate_python({"name": kind, **SMALL[kind]})).eval()
    assert isinstance(model, MapModel)
    [maps] = model.answers(torch.from_numpy(landscape(64, 64)).permute(2, 0, 1)[None] / 255)
    model.thresholds |= {"foreground": float(np.median(1 - maps[0])), "score": 0.0, "smallest": 4.0}
    if kind == "watershed":
        model.thresholds["inside"] = float(np.quantile(maps[1:-1].sum(axis=0), 0.6))
    else:
        model.thresholds |= {"core": float(np.quantile(maps[-4] * (1 - maps[-3]), 0.4)), "ways": 0.0}
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`files("watershed", bits=16)` -> the path of an .onnx file, made once."""
    folder = tmp_path_factory.mktemp("objects")

    def get(kind: str, bits: int = 8) -> Path:
        path = folder / f"{kind}-{bits}.onnx"
        if not path.exists():
            pictures = [landscape(33, 57), landscape(40, 48, 1)]
            done = export_model(made(kind), CLASSES, path, name=kind, pictures=pictures, bits=bits)
            assert isinstance(done.parity, ObjectParity) and done.parity.objects > 1
            assert done.parity.agreement > 0.99 and done.parity.off < 1e-5
        return path

    return get


@pytest.mark.parametrize(("kind", "bits"), [("instance_segnet", 8), ("watershed", 16)])
def test_each_engine_gives_pytorchs_maps_at_any_size(kind: str, bits: int, files: Callable[..., Path]) -> None:
    model, path = made(kind), files(kind, bits=bits)
    engines = [load_exported(path), load_exported(path, "openvino")]
    for size in ((1, 1, 1), (2, 33, 57), (1, 4001, 17)):
        pictures = np.random.default_rng(0).integers(0, 2**bits, (*size, 3), np.uint8 if bits == 8 else np.uint16)
        images = torch.from_numpy(pictures.astype(np.float32) / (2**bits - 1)).permute(0, 3, 1, 2)
        truth = np.stack(model.answers(images))
        for engine in engines:
            maps = engine.maps(pictures)
            assert maps.dtype == np.float32 and maps.shape == truth.shape
            np.testing.assert_allclose(maps, truth, atol=2e-4)


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_finds_the_objects_of_its_model(kind: str, files: Callable[..., Path]) -> None:
    model, engine = made(kind), load_exported(files(kind, bits=8 if kind == "instance_segnet" else 16))
    assert engine.metadata.thresholds == model.thresholds and engine.metadata.grouping == model.grouping
    picture = landscape(70, 90, 2)
    for options in ({}, {"tile": 32}):
        ours = ObjectPredictor(model, CLASSES, device="cpu", **options).predict(picture)
        theirs = ExportedObjectPredictor(engine, **options).predict(picture)
        assert len(ours) > 3 and theirs.name == "picture" and theirs.classes == CLASSES
        assert np.mean(same_object(ours.instances, theirs.instances)[0]) > 0.99
        assert theirs.overlay().shape == picture.shape
    strict = ExportedObjectPredictor(engine, thresholds={"score": 1.0})
    assert len(strict.predict(picture)) == 0 and strict.settings()["thresholds"] != engine.metadata.thresholds
    for thresholds in ({"kernel": 0.5}, {"score": 2.0}, {"smallest": float("nan")}):
        with pytest.raises(UsageError, match="threshold"):
            ExportedObjectPredictor(engine, thresholds=thresholds)


def test_objects_and_classes_are_not_mixed_up(files: Callable[..., Path], tmp_path: Path) -> None:
    engine = load_exported(files("watershed", bits=16))
    picture = np.zeros((1, 4, 4, 3), np.uint16)
    for ask in (engine.classes, engine.probabilities):
        with pytest.raises(UsageError, match="finds objects"):
            ask(picture)
    with pytest.raises(UsageError, match="ExportedObjectPredictor"):
        ExportedPredictor(engine)
    told = engine.metadata
    assert Metadata.from_json(told.to_json(), Path("x")) == told
    assert '"format": 2' in told.to_json(), "a reader that knows classes only must refuse it"
    engine.metadata = replace(told, grouping="stars")
    with pytest.raises(UsageError, match="'stars'"):
        ExportedObjectPredictor(engine)
    engine.metadata = replace(told, grouping="", thresholds={})
    with pytest.raises(UsageError, match="no objects"):
        ExportedObjectPredictor(engine)
    with pytest.raises(DataError, match="no sense"):
        Metadata.from_json(replace(told, thresholds={"score": float("inf")}).to_json(), Path("x"))
    with pytest.raises(UsageError, match="--probabilities"):
        export_model(made("watershed"), CLASSES, tmp_path / "x.onnx", name="w", pictures=[], probabilities=True)
    assert not list(tmp_path.iterdir())


def test_parity_is_of_sure_objects(files: Callable[..., Path]) -> None:
    exported = ExportedObjectPredictor(load_exported(files("watershed", bits=16)))
    model, pictures = made("watershed"), [landscape(40, 48, 1)]
    found = compared_objects(ObjectPredictor(model, CLASSES, device="cpu"), exported, pictures)
    assert found.clear == 1 and found.pixels == 40 * 48 and found.found == found.objects
    found.require("fp32")
    torch.manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    other = compared_objects(ObjectPredictor(model, CLASSES, device="cpu"), exported, pictures)
    assert other.off > 0.01
    for precision in ("fp32", "fp16"):
        with pytest.raises(NumericError, match="nothing was written"):
            other.require(precision)
    with pytest.raises(NumericError):
        replace(found, off=float("nan")).require("fp16")


def test_the_same_object_by_eye() -> None:
    kinds = np.array([1, 2], np.int16)
    ours = Instances(np.array([[1, 1, 0, 2], [1, 1, 0, 2]], np.int32), kinds)
    swapped = Instances(np.array([[2, 2, 0, 1], [2, 0, 0, 1]], np.int32), kinds[::-1].copy())
    equal, count = same_object(ours, swapped)
    assert equal.tolist() == [[True, True, True, True], [True, False, True, True]] and count == 2
    renamed, count = same_object(ours, replace(ours, classes=kinds[::-1].copy()))
    assert renamed.tolist() == [[False, False, True, False]] * 2 and count == 0
    nothing = Instances(np.zeros((2, 4), np.int32), np.zeros(0, np.int16))
    assert same_object(ours, nothing)[0].mean() == 0.25 and same_object(nothing, nothing)[0].all()


def test_what_int8_costs_of_objects_is_points_of_ap50() -> None:
    samples = [draw_scene(SceneConfig(48, 64), index) for index in range(3)]
    classes = Classes.named(["background", "disk", "square", "triangle", "ring"])

    def half(sample: Sample) -> Instances:
        assert sample.instances is not None
        kept = np.arange(1, len(sample.instances) + 1) % 2 == 1
        table = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
        return Instances(table[sample.instances.label_image], sample.instances.classes[kept])

    true, found = (sum(len(each) for each in of) for of in ([s.instances or [] for s in samples], map(half, samples)))
    assert average_precision(lambda sample: sample.instances, samples, classes) == (1.0, 3)  # type: ignore[arg-type, return-value]
    score, count = average_precision(half, [*samples, samples[0].without_labels()], classes)
    assert score == pytest.approx(found / true) and count == 3
    with pytest.raises(UsageError, match=r"AP50 1\.0000 in fp32"):
        Drop(1.0, score, 3, "validation", "AP50").require(False)


def test_a_folder_of_objects_without_pytorch(files: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.png").write_bytes(encode_png(landscape(50, 60, number)))
    (tmp_path / "in" / "2.png").write_bytes(b"broken")
    code = """
import sys
sys.argv = ["intarsia", "predict", *sys.argv[1:]]
from intarsia.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 3, end.code
heavy = {"torch", "lightning", "timm", "onnx"} & sys.modules.keys()
assert not heavy, heavy
"""
    arguments = [str(files("instance_segnet")), "in", "--out", "out", "--overlay", "--coco", "--tile", "32"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 pictures in" in done.stdout and "1 failed" in done.stdout and "2.png" in done.stdout
    for place in ("labels/0.png", "overlays/1.png", "coco/0.json", "measurements/0.csv", "objects.csv", "objects.json"):
        assert (tmp_path / "out" / place).is_file(), place
    predictor = ObjectPredictor(made("instance_segnet"), CLASSES, device="cpu", tile=32)
    truth = predictor.predict(tmp_path / "in" / "0.png").instances.label_image
    import cv2

    labels = cv2.imread(str(tmp_path / "out/labels/0.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == truth.shape and (same_objects(labels, truth) or np.mean((labels > 0) == (truth > 0)) > 0.99)
