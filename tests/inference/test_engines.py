"""Exported files: what they say of themselves, what they take, how they answer for whole pictures and folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import made

from intarsia.data.read import read_mask
from intarsia.drawing import encode_png
from intarsia.errors import DataError, NumericError, UnsafeFileError, UsageError
from intarsia.inference import ExportedPredictor, Predictor, load_exported, predict_files
from intarsia.inference.engines import Metadata
from intarsia.inference.export import Export, export_model
from intarsia.inference.exported import ClassMap, as_input
from intarsia.inference.parity import Parity, compared, margin
from intarsia.inference.quantise import Drop
from intarsia.records import IGNORE, Classes, Prediction

pytest.importorskip("onnxscript")

Build = Callable[..., Predictor]
METADATA = Metadata("unet", Classes.named(["background", "cell"]), 3, 8, "fp32", False, versions={"intarsia": "0"})


def levels(height: int = 40, width: int = 56, dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture (H, W, 1) and the class of each pixel, of three by brightness."""
    mask = np.random.default_rng(0).integers(0, 3, (height, width))
    full = np.iinfo(dtype).max
    return np.array([0, full // 2, full], dtype)[mask][..., None], mask


def export(predictor: Predictor, path: Path, **options: Any) -> Export:
    settings = {"name": "unet", "pictures": [levels(9, 13)[0]], **options}
    return export_model(predictor.model, predictor.classes, path, **settings)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of exported tellers of brightness (three classes, grey); each is a second of work."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def file(files: Path, brightness: Build) -> Callable[..., Path]:
    """`file("bits-16", bits=16)` -> the path, made once."""

    def get(name: str, suffix: str = ".onnx", **options: Any) -> Path:
        path = files / f"{name}{suffix}"
        if not path.exists():
            export(brightness(), path, **options)
        return path

    return get


def test_a_file_says_what_it_is(file: Callable[..., Path]) -> None:
    for path in (file("plain"), file("plain", ".xml", format="openvino"), file("plain", ".pt2", format="torch")):
        engine = load_exported(path, trusted=True)
        told = engine.metadata
        assert (told.model, told.classes.names, told.channels, told.bits) == (
            "unet",
            ("background", "level 1", "level 2"),
            1,
            8,
        )
        assert told.stride == 1 and not told.probabilities and told.versions["torch"]
        picture, mask = levels()
        np.testing.assert_array_equal(engine.classes(picture[None])[0], mask)
        with pytest.raises(UsageError, match="--probabilities"):
            engine.probabilities(picture[None])


def test_an_onnx_file_runs_in_openvino_too(file: Callable[..., Path]) -> None:
    engine = load_exported(file("plain"), "openvino")
    picture, mask = levels(dtype=np.uint8)
    assert engine.name == "openvino" and engine.metadata.classes == load_exported(file("plain")).metadata.classes
    np.testing.assert_array_equal(engine.classes(picture[None])[0], mask)


def test_sizes_and_threads_change_nothing(file: Callable[..., Path], tmp_path: Path) -> None:
    """OpenVINO is compiled for the first size, then for any; small pictures of a folder are computed side by side."""
    pytest.importorskip("openvino")
    path = file("plain", ".xml", format="openvino")
    engine = load_exported(path, threads=2)
    assert engine.share(4) == 2
    sizes = [(40, 56)] * 3 + [(33, 57), (1, 1), (40, 56), (7, 300)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda size: engine.classes(levels(*size)[0][None])[0], sizes))
    for size, each in zip(sizes, found, strict=True):
        np.testing.assert_array_equal(each, levels(*size)[1])

    begun = load_exported(path, threads=2)
    begun.classes(levels(1, 1)[0][None])
    assert begun.share(4) == 1

    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(encode_png(levels(30 + number % 2, 40)[0]))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    summary = predict_files(ExportedPredictor(load_exported(path, threads=2)), [tmp_path], tmp_path / "out")
    assert summary.done == 7 and [each.name for each, _ in summary.failed] == ["bad.png"]
    for number in range(7):
        made = read_mask(tmp_path / "out" / "masks" / f"{number}.png").values
        np.testing.assert_array_equal(made, levels(30 + number % 2, 40)[1])


def test_signals_survive_openvino(file: Callable[..., Path]) -> None:
    """Engines that come and go in any order leave no stack for signals that is freed memory."""
    pytest.importorskip("openvino")
    code = """
import signal, sys
from pathlib import Path
import numpy as np
from intarsia.inference.engines.open_vino import OpenVinoEngine
first, second = (OpenVinoEngine(Path(sys.argv[1]), threads=1) for _ in range(2))
for each in (first, second):
    each.classes(np.zeros((1, 3, 4, 1), np.uint8))  # it is compiled then
del each
del first
del second
taken = []
signal.signal(signal.SIGTERM, lambda *_: taken.append(1))
signal.raise_signal(signal.SIGTERM)
assert taken
"""
    done = subprocess.run([sys.executable, "-c", code, str(file("plain"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_of_the_maker_is_in_a_file(file: Callable[..., Path]) -> None:
    content = file("plain").read_bytes()
    assert b"site-packages" not in content and str(Path(__file__).parents[2]).encode() not in content


names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)


@given(names, st.booleans(), st.sampled_from([8, 16]), st.floats(0.01, 100), st.integers(1, 64))
def test_metadata_come_back(names: list[str], overlapping: bool, bits: int, temperature: float, stride: int) -> None:
    classes = Classes.named(names, overlapping)
    told = Metadata("fcn", classes, 4, bits, "int8", True, temperature, stride, "picture", "ab", {"torch": "2"})
    assert Metadata.from_json(told.to_json(), Path("x")) == told


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"bits": 7}, {"temperature": 0}, {"classes": ["a", "a"]}, {"colours": [[0, 0]]}, {"stride": 0},
     {"channels": "many"}, {"overlapping": True}, {"versions": 3}],
    ids=str,
)  # fmt: skip
def test_metadata_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    tree = json.loads(METADATA.to_json()) | change
    with pytest.raises(DataError):
        Metadata.from_json(json.dumps(tree), Path("x.onnx"))
    for text in (None, "", "{", "[]", json.dumps({key: value for key, value in tree.items() if key != "weights"})):
        with pytest.raises(DataError, match=r"x\.onnx"):
            Metadata.from_json(text, Path("x.onnx"))


def test_files_that_can_not_be_opened(file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no exported file"):
        load_exported(tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="does not exist"):
        load_exported(tmp_path / "none.onnx")
    with pytest.raises(UnsafeFileError, match="can run any code"):
        load_exported(file("plain", ".pt2", format="torch"))
    with pytest.raises(UsageError, match="can't run"):
        load_exported(file("plain"), "torch")
    for suffix in (".onnx", ".xml", ".pt2"):
        (tmp_path / f"broken{suffix}").write_bytes(b"\x00no such thing")
        (tmp_path / "broken.bin").write_bytes(b"")
        with pytest.raises(DataError, match="broken"):
            load_exported(tmp_path / f"broken{suffix}", trusted=True)
    whole = file("plain", ".xml", format="openvino")
    (tmp_path / "alone.xml").write_bytes(whole.read_bytes())
    with pytest.raises(DataError, match=r"alone\.bin"):
        load_exported(tmp_path / "alone.xml")


def test_pictures_of_another_kind_are_refused(file: Callable[..., Path]) -> None:
    engine = load_exported(file("plain"))
    for shape, dtype in (((1, 4, 4, 3), np.uint8), ((1, 4, 4, 1), np.uint16), ((4, 4, 1), np.uint8)):
        with pytest.raises(UsageError, match="takes pictures"):
            engine.classes(np.zeros(shape, dtype))
    with pytest.raises(UsageError, match="one pixel"):
        engine.classes(np.zeros((1, 0, 4, 1), np.uint8))


def test_sixteen_bits_hold_eight_exactly() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    deep = replace(METADATA, channels=1, bits=16)
    np.testing.assert_array_equal(as_input(values, deep) / np.float64(65535), values / np.float64(255))
    np.testing.assert_array_equal(as_input(values / np.float32(255), deep), as_input(values, deep))
    with pytest.raises(DataError, match="--bits 16"):
        as_input(values.astype(np.uint16), replace(METADATA, channels=1))


def test_a_file_of_sixteen_bits_takes_every_kind_of_picture(file: Callable[..., Path]) -> None:
    predictor = ExportedPredictor(load_exported(file("deep", bits=16)))
    for dtype in (np.uint8, np.uint16):
        picture, mask = levels(dtype=dtype)
        np.testing.assert_array_equal(predictor.predict(picture).mask, mask)
        np.testing.assert_array_equal(predictor.predict(picture / np.float32(np.iinfo(dtype).max)).mask, mask)
    with pytest.raises(DataError, match="--bits 16"):
        ExportedPredictor(load_exported(file("plain"))).predict(levels(dtype=np.uint16)[0])


@pytest.mark.parametrize("probabilities", [False, True])
def test_tiles_change_nothing(probabilities: bool, file: Callable[..., Path]) -> None:
    """Of a network that looks at single pixels."""
    path = file("both", probabilities=True) if probabilities else file("plain")
    picture, mask = levels(70, 90)
    whole = ExportedPredictor(load_exported(path)).predict(picture)
    for tile in (16, 32, 90):
        answer = ExportedPredictor(load_exported(path), tile=tile, batch=3).predict(picture)
        assert isinstance(answer, Prediction if probabilities else ClassMap)
        np.testing.assert_array_equal(answer.mask, mask)
        np.testing.assert_array_equal(answer.labels, whole.labels)
        if probabilities:
            np.testing.assert_allclose(answer.probabilities, whole.probabilities, atol=1e-6)


def test_overlapping_classes_always_have_probabilities(brightness: Build, tmp_path: Path) -> None:
    predictor = brightness(classes=3, overlapping=True)
    path = export(predictor, tmp_path / "several.onnx", temperature=2.0).path
    picture = np.arange(0, 250, 5, dtype=np.uint8).reshape(5, 10, 1)
    answer = ExportedPredictor(load_exported(path)).predict(picture)
    truth = Predictor(predictor.model, predictor.classes, temperature=2.0).predict(picture)
    np.testing.assert_allclose(answer.probabilities, truth.probabilities, atol=1e-5)
    np.testing.assert_array_equal(answer.labels, truth.labels)
    numbers = load_exported(path).classes(picture[None])[0].astype(int)
    np.testing.assert_array_equal(np.where(numbers == 255, IGNORE, numbers), truth.mask)


def test_a_folder_is_answered_without_pytorch(file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.png").write_bytes(encode_png(np.repeat(levels()[0], 3, axis=2)))
    (tmp_path / "in" / "3.png").write_bytes(b"broken")
    code = """
import sys
sys.argv = ["intarsia", "predict", *sys.argv[1:]]
from intarsia.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 3, end.code
heavy = {"torch", "lightning", "timm", "scipy", "skimage", "onnx"} & sys.modules.keys()
assert not heavy, heavy
"""
    arguments = [str(file("plain")), "in", "--out", "out", "--overlay"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 pictures in" in done.stdout and "1 failed" in done.stdout and "3.png" in done.stdout
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"0.png", "1.png", "2.png"}

    again = predict_files(
        ExportedPredictor(load_exported(file("plain"))), [tmp_path / "in"], tmp_path / "out", overlay=True
    )
    assert again.skipped == 3 and len(again.failed) == 1
    other = ExportedPredictor(load_exported(file("plain"), "openvino"))
    with pytest.raises(UsageError, match="other engine"):
        predict_files(other, [tmp_path / "in"], tmp_path / "out")
    for options in ({"uncertainty": True}, {"probabilities": True}, {"samples": 2}):
        with pytest.raises(UsageError):
            predict_files(other, [tmp_path / "in"], tmp_path / "elsewhere", **options)
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_written_where_something_speaks_against_it(brightness: Build, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def judge(predictor: ExportedPredictor) -> None:
        assert predictor.predict(levels()[0]).mask.shape == (40, 56)
        raise UsageError("no good")

    with pytest.raises(UsageError, match="stands there already"):
        export(brightness(), path)
    with pytest.raises(UsageError, match="no good"):
        export(brightness(), path, judge=judge, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"] and path.read_bytes() == b"old"
    for wrong in ({"format": "torch", "precision": "int8"}, {"format": "openvino"}, {"precision": "fp8"}):
        with pytest.raises(UsageError):
            export(brightness(), path, overwrite=True, **wrong)


def test_parity_is_of_sure_pixels(brightness: Build, file: Callable[..., Path]) -> None:
    exported = ExportedPredictor(load_exported(file("both", probabilities=True)))
    found = compared(brightness(), exported, [levels()[0], levels(9, 13)[0]])
    assert (found.pictures, found.pixels, found.agreement, found.clear) == (2, 40 * 56 + 9 * 13, 1, 1)
    assert found.largest is not None and found.largest < 1e-5
    found.require("fp32")

    inverted = brightness()
    inverted.model.get_buffer("mean").fill_(1.0)
    inverted.model.get_buffer("deviation").fill_(-1.0)
    other = compared(inverted, exported, [levels()[0]])
    middle = float((levels()[1] == 1).mean())  # grey stays grey
    assert other.agreement == pytest.approx(middle) and other.clear == pytest.approx(middle)
    with pytest.raises(NumericError, match="nothing was written"):
        other.require("fp32")
    assert Parity(1, 10, 0.0, 1.0, None).require("fp32") is None


def test_the_margin_of_a_decision() -> None:
    probabilities = np.array([[0.7, 0.3], [0.2, 0.3], [0.1, 0.4]], np.float32)[:, None]
    np.testing.assert_allclose(margin(probabilities, False), [[0.5, 0.1]], atol=1e-6)
    np.testing.assert_allclose(margin(probabilities, True), [[0.2, 0.1]], atol=1e-6)


def test_a_point_is_what_int8_may_cost() -> None:
    Drop(0.80, 0.795, 9, "validation").require(False)
    Drop(0.80, 0.85, 9, "validation").require(False)
    Drop(0.80, 0.10, 9, "validation").require(True)
    for after in (0.78, float("nan")):
        with pytest.raises(UsageError, match="--force"):
            Drop(0.80, after, 9, "validation").require(False)


@pytest.mark.parametrize(("format", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_int8_is_near_and_smaller(format: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    model = made("unet", width=16, depth=2).eval()
    classes, pictures = Classes.named(["a", "b"]), [np.random.default_rng(0).integers(0, 256, (33, 57, 3), np.uint8)]
    sizes, settings = {}, {"name": "unet", "format": format, "pictures": pictures, "probabilities": True}
    for precision in ("fp32", "int8"):
        made_of = export_model(
            model,
            classes,
            tmp_path / f"{precision}{suffix}",
            precision=precision,
            calibration=pictures,
            **settings,  # type: ignore[arg-type]
        )
        sizes[precision] = made_of.size
        assert made_of.parity.largest is not None
        assert (1e-4 < made_of.parity.largest < 0.2) == (precision == "int8")
    weights = tmp_path / f"{'{}'}{'.bin' if format == 'openvino' else suffix}".format("int8")
    full = tmp_path / f"{'{}'}{'.bin' if format == 'openvino' else suffix}".format("fp32")
    assert weights.stat().st_size < 0.7 * full.stat().st_size


def test_a_file_stretches_pictures_as_its_model_was_trained_to(tmp_path: Path) -> None:
    """The limits are those of the whole picture, whatever tile the graph sees."""
    model = made("unet", width=8, depth=1, levels="picture").eval()
    dark = np.random.default_rng(1).integers(3, 20, (41, 57, 3), np.uint8)
    path = tmp_path / "levels.onnx"
    done = export_model(model, Classes.named(["a", "b"]), path, name="unet", pictures=[dark], probabilities=True)
    assert done.parity.agreement > 0.999
    engine = load_exported(path)
    assert engine.metadata.levels == "picture"
    whole = ExportedPredictor(engine).predict(dark).probabilities
    torch_says = Predictor(model, Classes.named(["a", "b"]), device="cpu").predict(dark).probabilities
    np.testing.assert_allclose(whole, torch_says, atol=1e-4)
    as_it_is = made("unet", width=8, depth=1).eval()
    as_it_is.load_state_dict(model.state_dict())
    unstretched = Predictor(as_it_is, Classes.named(["a", "b"]), device="cpu").predict(dark).probabilities
    assert np.abs(unstretched - whole).max() > 1e-3
    torch_tiles = Predictor(model, Classes.named(["a", "b"]), device="cpu", tile=32)
    in_tiles = [each.predict(dark).probabilities for each in (ExportedPredictor(engine, tile=32), torch_tiles)]
    np.testing.assert_allclose(*in_tiles, atol=1e-4)
