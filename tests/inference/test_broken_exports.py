"""Exported files that were cut short, damaged or half replaced: an error of ours, or an answer; the old file stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intarsia.errors import DataError, DiskError
from intarsia.inference import Predictor, load_exported
from intarsia.inference.export import _place, export_model

pytest.importorskip("onnxscript")

PICTURE = np.random.default_rng(0).integers(0, 256, (1, 9, 13, 1), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(folder: Path, brightness: Callable[..., Predictor]) -> Callable[[str], Path]:
    """`whole(".xml")` -> a file of a teller of brightness, made once."""

    def get(suffix: str) -> Path:
        path = folder / f"whole{suffix}"
        if not path.exists():
            predictor = brightness()
            kind = {".onnx": "onnx", ".xml": "openvino"}[suffix]
            export_model(
                predictor.model, predictor.classes, path, name="unet", pictures=[PICTURE[0]],
                format=kind,  # type: ignore[arg-type]
            )  # fmt: skip
        return path

    return get


def outcome(path: Path, engine: str) -> str:
    """What comes of a file that may be damaged."""
    try:
        answer = load_exported(path, engine).classes(PICTURE)  # type: ignore[arg-type]
    except DataError as error:
        words = str(error)
        return "refused" if str(path) in words and len(words) < 700 and "\n" not in words else words
    except MemoryError:
        return "refused"
    assert answer.dtype == np.uint8
    return "answered"


@pytest.mark.parametrize(("suffix", "engine"), [(".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "openvino")])
def test_damaged_files_are_errors_of_ours(
    suffix: str, engine: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    content = whole(suffix).read_bytes()
    path = tmp_path / f"damaged{suffix}"
    if suffix == ".xml":
        shutil.copy(whole(suffix).with_suffix(".bin"), path.with_suffix(".bin"))
    for share in (0, 0.01, 0.2, 0.5, 0.8, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        assert outcome(path, engine) == "refused", share
    random = np.random.default_rng(0)
    for _ in range(12):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(damaged), 8)] = random.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        assert outcome(path, engine) in ("refused", "answered")


def test_weights_that_are_cut_short_are_refused(whole: Callable[[str], Path], tmp_path: Path) -> None:
    path = shutil.copy(whole(".xml"), tmp_path / "cut.xml")
    weights = whole(".xml").with_suffix(".bin").read_bytes()
    for count in (0, 1, len(weights) // 2, len(weights) - 1):
        path.with_suffix(".bin").write_bytes(weights[:count])
        assert outcome(path, "openvino") == "refused", count


@pytest.mark.skipif(os.name == "nt", reason="needs a limit of the size of files")
def test_what_stood_there_survives_a_full_disk(whole: Callable[[str], Path], tmp_path: Path) -> None:
    import resource

    made = Path(shutil.copy(whole(".xml"), tmp_path / "made.xml"))
    made.with_suffix(".bin").write_bytes(bytes(100_000))  # more than there is room for; the .xml has room
    path = tmp_path / "there.xml"
    path.write_bytes(b"old")
    path.with_suffix(".bin").write_bytes(b"old weights")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, before[1]))
    try:
        with pytest.raises(DiskError):
            _place(made, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old" and path.with_suffix(".bin").read_bytes() == b"old weights"
    assert {each.name for each in tmp_path.iterdir()} == {"made.xml", "made.bin", "there.xml", "there.bin"}
    assert _place(made, path) == made.stat().st_size + 100_000
    assert path.read_bytes() == made.read_bytes() and path.with_suffix(".bin").stat().st_size == 100_000
