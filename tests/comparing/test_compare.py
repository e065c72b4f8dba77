"""Whole comparisons on drawn scenes: alike, resumable, and nothing hidden."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from shell import TINY, Shell, draw

from intarsia.api import evaluate
from intarsia.comparing import Compared, ask, compare, forecast
from intarsia.comparing.methods import CONTROL, EQUAL_TIME
from intarsia.config import validate
from intarsia.data.folder import open_folder
from intarsia.errors import UsageError
from intarsia.fitting import open_for
from intarsia.plan.advice import read_advice
from intarsia.runs import Run

SETTINGS = {key: value for key, value in TINY.items() if key != "train.validate_every"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("comparing")
    draw(room / "pictures", 14)
    return room


def compared(room: Path, **options: Any) -> Compared:
    wishes: dict[str, Any] = {"methods": "mean_teacher", "steps": 3, "settings": SETTINGS, "out": room / "out"}
    return compare(room / "pictures", [2, 4], **(wishes | options))


@pytest.fixture(scope="module")
def first(room: Path) -> Compared:
    return compared(room)


def strict(path: Path) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_comparison_is_fair(first: Compared, room: Path) -> None:
    assert {(each.job.method, each.job.labels) for each in first.results} >= {
        (method, labels) for method in (CONTROL, "mean_teacher") for labels in (2, 4)
    }
    drawn: dict[int, set[frozenset[str]]] = {}
    alike = set()
    for result in first.results:
        run = Run(room / "out" / "runs" / result.job.name)
        config = validate(run.read_config(), "")
        sets: Any = open_for(config)
        drawn.setdefault(result.job.labels, set()).add(sets.splits.hidden)
        assert sets.splits.validation == first.prepared.sets.splits.validation
        assert len(sets.train.labelled()) == result.job.labels and config.train.steps == result.job.steps
        alike.add(
            (config.augment.model_dump_json(), config.train.batch, config.train.average, config.train.learning_rate)
        )
        rows = [row["step"] for row in run.read_metrics() if "validation/mean_iou" in row]
        assert rows == [result.job.steps], "looked at once, at the end"
        assert not run.state_path.exists() and run.weights_path().is_file()
    assert all(len(masks) == 1 for masks in drawn.values()), "all methods have the same masks"
    assert len(alike) == 1


def test_the_scores_are_those_of_evaluate(first: Compared, room: Path) -> None:
    tree = strict(room / "out" / "comparison.json")
    cell = next(each for each in tree["cells"] if (each["method"], each["labels"]) == ("mean_teacher", 4))
    found = evaluate(room / "out" / "runs" / "mean_teacher-k4-s0", weights="last", split="validation")
    assert cell["scores"] == [pytest.approx(found.evaluation["mean_iou"])]
    assert tree["pictures"] == found.pictures and tree["seeds"] == 1


def test_what_is_written(first: Compared, room: Path) -> None:
    html = first.report.read_text()
    assert "<script" not in html and "http" not in html.replace("http://www.w3.org", "")
    for words in ("mean_teacher", "How it was compared", "With one seed", "Gain with 2 labels", "<svg"):
        assert words in html
    advice = strict(room / "pictures" / "advice.json")
    assert advice["sentence"] == first.advice and {row["method"] for row in advice["advice"]} == {"mean_teacher"}
    assert read_advice(room / "pictures", 4, open_folder(room / "pictures").classes.names) is not None
    folder = open_folder(room / "pictures")
    assert len(folder.entries) == 14 and "COCO" not in folder.layout, "the advice is no annotation"


def test_the_same_again_trains_nothing_and_more_seeds_are_added(first: Compared, room: Path) -> None:
    kept = {path: path.stat().st_mtime_ns for path in (room / "out" / "runs").rglob("*.json")}
    said: list[str] = []
    again = compared(room, say=said.append)
    assert not [line for line in said if line.startswith(("training", "timing"))]
    assert again.verdicts == first.verdicts
    more = compared(room, methods=CONTROL, seeds=2, say=said.append)
    assert sum(line.startswith("training") for line in said) == 2
    assert more.judgement.cells[CONTROL, 2].scores.keys() == {0, 1}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 4}, "steps asked for: 3 -> 4"), ({"settings": SETTINGS | {"model.width": 5}}, "model.width: 4 -> 5"),
        ({"split": "test"}, "no labelled test picture"),
        ({"settings": {"model.name": "vae"}, "out": "x"}, "plain segmenter"),
    ],
)  # fmt: skip
def test_another_comparison_in_the_same_place_is_refused(
    first: Compared, room: Path, options: dict[str, Any], words: str
) -> None:
    if "out" in options:
        options = options | {"out": room / "other"}
    with pytest.raises(Exception, match=words):
        compared(room, **options)


def test_more_labels_than_there_are(first: Compared, room: Path) -> None:
    with pytest.raises(UsageError, match="labelled pictures; ask for numbers up to"):
        compare(room / "pictures", [2, 99], CONTROL, steps=3, out=room / "many", settings=SETTINGS)


def test_a_forecast_writes_nothing(room: Path) -> None:
    asked = ask(room / "pictures", "2,3", "mean_teacher", seeds=2, minutes=1, settings=SETTINGS)
    prepared, told = forecast(asked, room / "nowhere")
    assert not (room / "nowhere").exists()
    plain = [job for job in told.jobs if job.method != EQUAL_TIME]
    assert len(plain) == 8 and told.finished == 0
    assert prepared.steps >= 20 and 0.7 * 60 < told.seconds[CONTROL] <= 60, "a minute for one control"


def test_a_method_that_fails_is_recorded_and_the_others_go_on(room: Path) -> None:
    settings = {"model.name": "segnet", **{k: v for k, v in SETTINGS.items() if not k.startswith("model.")}}
    settings |= {"model.width": 4}
    found = compare(
        room / "pictures", [2], "segmentation_autoencoder", steps=2, out=room / "failing", settings=settings
    )
    assert [(each.job.method, each.job.labels) for each in found.judgement.failures] == [
        ("segmentation_autoencoder", 2)
    ]
    assert "can be shared" in found.verdicts[0] and (CONTROL, 2) in found.judgement.cells
    assert "Failed trainings" in found.report.read_text()


@pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
def test_killed_at_any_moment_it_goes_on_to_the_same_end(shell: Shell, room: Path, tmp_path: Path) -> None:
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = [
        "compare",
        room / "pictures",
        "--labels",
        "2,4",
        "--methods",
        "control",
        "--seeds",
        1,
        "--steps",
        4,
        *words,
    ]
    whole = shell.run(tmp_path, *command, "--out", "whole")
    assert whole.code == 0 and "The whole story: " in whole.out, whole.err
    started = shell.start(tmp_path, *command, "--out", "killed")
    until = time.monotonic() + 60
    while not (tmp_path / "killed/runs/control-k2-s0/state.pt").exists() and time.monotonic() < until:
        time.sleep(0.01)
    started.send(signal.SIGKILL)
    started.wait()
    done = shell.run(tmp_path, *command, "--out", "killed")
    assert done.code == 0, done.err
    for name in ("control-k2-s0", "control-k4-s0"):
        ours, theirs = (tmp_path / each / "runs" / name for each in ("killed", "whole"))
        assert (ours / "weights.safetensors").read_bytes() == (theirs / "weights.safetensors").read_bytes()
    done = shell.run(tmp_path, *command, "--out", "killed")
    assert done.code == 0 and "training 1" not in done.out
    refused = shell.run(tmp_path, *[5 if word == 4 else word for word in command], "--out", "killed")
    assert refused.code == 2 and "begun with other settings: steps asked for: 4 -> 5" in refused.err
