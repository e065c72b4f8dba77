"""What a Python user calls: `intarsia.fit`, `intarsia.load`, `intarsia.evaluate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from shell import TINY, draw

import intarsia
from intarsia.api import load
from intarsia.errors import DataError, NumericError, UsageError
from intarsia.records import Prediction
from intarsia.runs import Run


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pictures`, and a `run` on them."""
    room = tmp_path_factory.mktemp("api")
    draw(room / "pictures")
    intarsia.fit(room / "pictures", run=room / "run", settings=TINY, steps=4)
    return room


@pytest.fixture
def run(room: Path, tmp_path: Path) -> Run:
    """A copy of the run, to change."""
    return Run(shutil.copytree(room / "run", tmp_path / "run"))


def test_the_package_gives_what_it_lists() -> None:
    for name in intarsia.__all__:
        assert getattr(intarsia, name) is not None
    assert set(intarsia.__all__) <= set(dir(intarsia))
    with pytest.raises(AttributeError, match="nothing"):
        intarsia.nothing  # noqa: B018


def test_a_prediction_of_every_kind_of_picture(room: Path) -> None:
    predictor = intarsia.load(room / "run")
    path = room / "pictures" / "images" / "scene_0000.png"
    picture = Pillow.open(path)
    array = np.asarray(picture)
    answers = [
        predictor.predict(each)
        for each in (path, str(path), picture, array, array / 255, torch.from_numpy(array.copy()).permute(2, 0, 1))
    ]
    assert all(isinstance(answer, Prediction) and answer.mask.shape == (48, 64) for answer in answers)
    assert all(np.allclose(answer.probabilities, answers[0].probabilities, atol=1e-5) for answer in answers)
    assert answers[0].overlay().shape == (48, 64, 3) and answers[0]._repr_png_().startswith(b"\x89PNG")
    assert sum(answers[0].share().values()) == pytest.approx(1)
    assert predictor(np.zeros((1, 1), np.uint8)).mask.shape == (1, 1)


def test_a_prediction_saves_itself(room: Path, tmp_path: Path) -> None:
    prediction = intarsia.load(room / "run").predict(room / "pictures/images/scene_0001.png")
    assert np.array_equal(np.asarray(Pillow.open(prediction.save(tmp_path / "mask.png"))), prediction.mask)


@pytest.mark.parametrize(
    "picture", [np.zeros((0, 5)), np.full((3, 3, 3), np.nan), np.zeros((2, 2, 2, 2)), "nowhere.png"]
)
def test_what_is_no_picture(room: Path, picture: object) -> None:
    with pytest.raises(DataError):
        intarsia.load(room / "run").predict(picture)


def test_what_can_t_be_loaded(room: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        load(tmp_path)
    with pytest.raises(UsageError, match="best or last"):
        load(room / "run", weights="worst")
    with pytest.raises(UsageError, match="device"):
        load(room / "run", device="tpu")


def test_best_and_last_weights(run: Run) -> None:
    best = load(run.folder).settings()["weights"]
    run.weights_path("best").unlink()
    assert load(run.folder).settings()["weights"] == load(run.folder, weights="last").settings()["weights"]
    run.weights_path("last").unlink()
    with pytest.raises(UsageError, match="no weights yet"):
        load(run.folder)
    assert best


@pytest.mark.parametrize("content", ['{"temperature": NaN}', '{"temperature": 0}', '{"temperature": -1}', "[]", "\xff"])
def test_a_temperature_that_makes_no_sense_is_none(run: Run, content: str) -> None:
    (run.folder / "temperature.json").write_text(content, encoding="latin-1")
    assert load(run.folder).temperature == 1
    (run.folder / "temperature.json").write_text('{"temperature": 2.5}')
    assert load(run.folder).temperature == 2.5
    assert load(run.folder, temperature=3.0).temperature == 3


def test_an_answer_that_is_no_number_is_an_error(room: Path) -> None:
    predictor = load(room / "run")
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(float("nan"))
    with pytest.raises(NumericError, match="not a number"):
        predictor.predict(np.zeros((8, 8, 3), np.uint8))


def test_an_evaluation_is_written_and_fits_the_temperature_on_validation_only(run: Run) -> None:
    assert not (run.folder / "temperature.json").exists()
    intarsia.evaluate(run.folder, split="train")
    assert not (run.folder / "temperature.json").exists()
    seen: list[tuple[int, int]] = []
    result = intarsia.evaluate(run.folder, progress=lambda done, total: seen.append((done, total)))
    assert (result.split, result.pictures, seen) == ("validation", 2, [(1, 2), (2, 2)])
    assert result.evaluation.temperature is None, "fitted on these pictures, it would flatter"
    assert 0.01 < load(run.folder).temperature < 100
    assert result.report.read_text().count("<html") == 1
    written = json.loads(run.evaluation_path.read_text())
    assert written["split"] == "validation"
    assert written["overall"]["mean_iou"]["value"] == pytest.approx(result.evaluation["mean_iou"])
    train = intarsia.evaluate(run.folder, split="train")
    assert train.pictures == 10 and train.evaluation.temperature == load(run.folder).temperature
    assert len(repr(result)) < 300


def test_an_evaluation_of_listed_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffscene_0001\r\n\r\nscene_0010\r\n", encoding="utf-8")
    for names in (["scene_0001", "scene_0010"], tmp_path / "names.txt"):
        result = intarsia.evaluate(run.folder, names=names)
        assert (result.split, result.pictures) == ("2 listed", 2)
        assert not run.report_path.exists() and result.report.is_file(), "the run's own report is of its own part"
    assert not (run.folder / "temperature.json").exists(), "the list may hold training pictures"
    assert intarsia.evaluate(run.folder, split="validation", names=["scene_0010"]).pictures == 1
    with pytest.raises(DataError, match="validation part, such as scene_0001"):
        intarsia.evaluate(run.folder, split="validation", names=["scene_0001"])
    with pytest.raises(DataError, match="such as scene_99"):
        intarsia.evaluate(run.folder, names=["scene_99"])


def test_an_evaluation_of_another_folder(run: Run, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", count=5)
    intarsia.evaluate(run.folder)
    kept = [run.report_path, run.evaluation_path, run.folder / "temperature.json"]
    before = [path.read_bytes() for path in kept]
    elsewhere = intarsia.evaluate(run.folder, other)
    assert elsewhere.pictures == 5
    part = intarsia.evaluate(run.folder, other, split="validation")
    assert part.pictures == 1 and part.report != elsewhere.report and part.report.parent == run.folder
    assert [path.read_bytes() for path in kept] == before, "what was found on the run's own pictures stays"
    (other / "classes.toml").unlink()
    assert intarsia.evaluate(run.folder, other).pictures == 5, "without its own table it is read with the run's"
    table = (draw(tmp_path / "third", count=5) / "classes.toml").read_text()
    (other / "classes.toml").write_text(table.replace("disk", "disc"))
    with pytest.raises(DataError, match="has the classes background, disc"):
        intarsia.evaluate(run.folder, other)
    shutil.rmtree(other / "masks")
    with pytest.raises(DataError):
        intarsia.evaluate(run.folder, other)
    with pytest.raises(UsageError, match="train, validation or test"):
        intarsia.evaluate(run.folder, other, split="all")
