"""What is said of results whose truth is known, and that the next plan hears it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarsia.comparing import sentences
from intarsia.comparing.methods import CONTROL, EQUAL_TIME, Method
from intarsia.comparing.trainings import Job, Result
from intarsia.comparing.verdicts import Judgement, judge, to_json
from intarsia.plan.advice import read_advice

PICTURES = 30
BOTH = np.array([True, True])


def result(method: str, labels: int, seed: int, score: float, seconds: float = 60.0, failure: str = "") -> Result:
    """Two classes, of which each picture has 1000 pixels; of each `score` are found, and nothing is found falsely."""
    job = Job(method, labels, seed, 100)
    if failure:
        return Result(job, failure, {})
    wobble = np.random.default_rng(0).integers(-20, 21, PICTURES)  # the same for all: pictures are easy or hard
    wobble -= wobble.sum() // PICTURES
    hits = np.stack([1000 * score + wobble, 1000 * score - wobble], axis=-1).round().astype(np.int64)  # (P, 2)
    counts = np.stack([hits, np.full_like(hits, 1000), hits], axis=1)
    return Result(job, "", {"last": seconds}, tuple(map(str, range(PICTURES))), counts)


def results(scores: dict[str, dict[int, tuple[float, ...]]], seconds: dict[str, float] | None = None) -> list[Result]:
    return [
        result(method, labels, seed, score, (seconds or {}).get(method, 60.0))
        for method, by_labels in scores.items()
        for labels, by_seed in by_labels.items()
        for seed, score in enumerate(by_seed)
    ]


#: fades helps by ten points, then five, then not; none never does; worse hurts; the control rises by 0.1 a doubling
TRUTH: dict[str, dict[int, tuple[float, ...]]] = {
    CONTROL: {5: (0.40, 0.41, 0.39), 10: (0.50, 0.51, 0.49), 20: (0.60, 0.61, 0.59)},
    "fades": {5: (0.50, 0.512, 0.488), 10: (0.55, 0.562, 0.538), 20: (0.60, 0.612, 0.588)},
    "none": {5: (0.40, 0.411, 0.389), 10: (0.50, 0.511, 0.489), 20: (0.60, 0.611, 0.589)},
    "worse": {5: (0.30, 0.311, 0.289), 10: (0.40, 0.411, 0.389), 20: (0.50, 0.511, 0.489)},
}
METHODS = {
    CONTROL: Method("plain"),
    "fades": Method("fades out", {"model.name": "fixmatch"}),
    "none": Method("does nothing", {"model.name": "wnet"}),
    "worse": Method("harms", {"model.name": "adversarial"}),
}


@pytest.fixture
def judgement() -> Judgement:
    return judge(results(TRUTH, {"fades": 180.0}), BOTH)


def test_gains_are_paired_and_judged(judgement: Judgement) -> None:
    said = {key: cell.gain.verdict for key, cell in judgement.cells.items() if cell.gain}
    assert [said["fades", k] for k in (5, 10, 20)] == ["helps", "helps", "does not help"]
    assert [said["none", k] for k in (5, 10, 20)] == ["does not help"] * 3
    assert [said["worse", k] for k in (5, 10, 20)] == ["hurts"] * 3
    cell = judgement.cells["fades", 5]
    assert cell.gain and cell.gain.interval.mean == pytest.approx(0.1) and cell.gain.count == 3
    assert cell.score == pytest.approx(0.5) and cell.spread["deviation"] == pytest.approx(0.012)
    assert cell.gain.interval.high - cell.gain.interval.low < 0.02, "seeds differ by more, but their pairs do not"


def test_where_a_method_stops_and_what_it_is_worth(judgement: Judgement) -> None:
    assert 10 < judgement.stops["fades"] < 20 and judgement.stops["none"] == 0 == judgement.stops["worse"]
    cell = judgement.cells["fades", 5]
    assert cell.control_labels and cell.control_labels[0] == pytest.approx(10, rel=0.01), "five more labels"
    assert cell.control_labels[1] < 10 < cell.control_labels[2]
    assert judgement.per_minute(cell) == pytest.approx(0.05), "ten points for two more minutes"
    assert math.isnan(judgement.per_minute(judgement.cells["none", 5])), "it takes no longer"
    assert judgement.cells["worse", 5].control_labels == (0, 0, 0)
    beyond = judge(results({CONTROL: {5: (0.4, 0.41)}, "best": {5: (0.9, 0.91)}}), BOTH)
    told = beyond.cells["best", 5].control_labels
    assert told and told[0] == math.inf


def test_the_sentences(judgement: Judgement) -> None:
    fades, none, worse = (sentences.on_method(each, judgement) for each in ("fades", "none", "worse"))
    assert fades.startswith("fades helps with 5 (+10.0 points [") and "does not help with 20" in fades
    assert "labels on it is no longer sure to help" in fades
    assert "the control would need about 5 more labels" in fades and "2 min 0 s more training" in fades
    assert none == "none does not help with any measured number of labels."
    assert worse.startswith("worse hurts with 5 (-10.0 points")
    first, *_, last = sentences.on_all(judgement, METHODS, 3)
    assert first.startswith("With 5 labels, fades helps most: +10.0 points")
    assert last == "With 20 labels, nothing helps."
    act = sentences.advice_sentence(judgement)
    assert act == "Take fades with 5 and 10 labels; with 20, labelled pictures alone."
    assert "one seed" in sentences.on_all(judge(results({CONTROL: {5: (0.4,)}, "a": {5: (0.4,)}}), BOTH), {}, 1)[-1]


def test_one_seed_knows_pictures_only() -> None:
    one = judge([each for each in results(TRUTH) if each.job.seed == 0], BOTH).cells["fades", 5].gain
    assert one and not one.seeds.known and one.pictures.known and one.interval == one.pictures


def test_seeds_that_disagree_can_not_be_told() -> None:
    truth = {CONTROL: {5: (0.4, 0.5, 0.6)}, "odd": {5: (0.5, 0.45, 0.65)}}
    judgement = judge(results(truth), BOTH)
    gain = judgement.cells["odd", 5].gain
    assert gain and gain.verdict == "can't tell" and gain.interval.low < 0 < gain.interval.mean
    assert "can't be told from the control" in sentences.on_method("odd", judgement)
    assert "nothing is sure to help" in sentences.on_all(judgement, {}, 3)[0]
    assert sentences.advice_sentence(judgement).startswith("Take the plan's segmenter on the labelled pictures alone")


def test_failures_are_left_out_and_told() -> None:
    found = [*results({CONTROL: {5: (0.4, 0.41, 0.39)}, "a": {5: (0.5, 0.511)}}), result("a", 5, 2, 0, failure="NaN."),
             result("b", 5, 0, 0, failure="no room.")]  # fmt: skip
    judgement = judge(found, BOTH)
    gain = judgement.cells["a", 5].gain
    assert gain and gain.count == 2 and "1 of its trainings failed" in sentences.on_method("a", judgement)
    assert sentences.on_method("b", judgement) == "b could not be compared: no room."
    tree = to_json(judgement, ["x", "y"])
    assert [each["why"] for each in tree["failed"]] == ["NaN.", "no room."]


def test_the_control_with_as_much_time_is_heard() -> None:
    truth = {CONTROL: {5: (0.4, 0.41, 0.39)}, "slow": {5: (0.45, 0.461, 0.439)}, EQUAL_TIME: {5: (0.5, 0.511, 0.489)}}
    judgement = judge(results(truth, {"slow": 200.0, EQUAL_TIME: 200.0}), BOTH)
    cell = judgement.cells["slow", 5]
    assert cell.gain and cell.gain.verdict == "helps" and cell.equal_time and cell.equal_time.verdict == "hurts"
    assert "is worse with 5" in sentences.on_method("slow", judgement)
    assert sentences.best_at(5, judgement) is None, "the same time is better spent on the control"


def test_rare_classes_alone() -> None:
    ours, theirs = (result("a", 5, 0, 0.5), result(CONTROL, 5, 0, 0.5))
    assert ours.counts is not None
    ours.counts[:, 0, 1] += 100  # the second class gains
    ours.counts[:, 2, 1] += 100
    rare = judge([theirs, ours], np.array([False, True])).cells["a", 5].gain
    common = judge([theirs, ours], np.array([True, False])).cells["a", 5].gain
    assert rare and common and rare.interval.mean == pytest.approx(0.1) and common.interval.mean == 0


def test_everything_is_json(judgement: Judgement) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    tree = json.loads(json.dumps(to_json(judgement, ["x", "y"])), parse_constant=refuse)
    cell = next(each for each in tree["cells"] if (each["method"], each["labels"]) == ("fades", 5))
    assert cell["gain"]["verdict"] == "helps" and cell["iou_by_class"]["x"] == pytest.approx(0.5, abs=0.01)
    assert tree["stops_helping"]["none"] == 0 and "score" in tree["definitions"]


def write_advice(folder: Path, judgement: Judgement, methods: dict[str, Method]) -> None:
    rows = sentences.advice(judgement, methods)
    tree = {"made_by": "intarsia compare", "classes": ["x", "y"], "advice": rows}
    (folder / "advice.json").write_text(json.dumps(tree))


def test_the_next_plan_hears_it(judgement: Judgement, tmp_path: Path) -> None:
    write_advice(tmp_path, judgement, METHODS)
    five = read_advice(tmp_path, 6, ["x", "y"])
    assert five and (five.method, five.settings) == ("fades", {"model.name": "fixmatch"})
    assert "with 5 labels" in five.reason and "+10.0 points of mean IoU [" in five.reason
    twenty = read_advice(tmp_path, 25)
    assert twenty and (twenty.method, twenty.settings) == ("control", {}) and "nothing" in twenty.reason
    assert read_advice(tmp_path, 200) is None and read_advice(tmp_path, 2) is None, "nothing was measured near"
    assert read_advice(tmp_path, 5, ["x", "z"]) is None, "it speaks of other classes"
    staged = METHODS | {"fades": Method("twice", pairs="pseudo_label")}
    write_advice(tmp_path, judgement, staged)
    none = read_advice(tmp_path, 5)
    assert none and none.method == "control" and "fades gained more" in none.reason


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"made_by": "someone", "advice": []}', '{"made_by": "intarsia compare", "advice": 5}',
     '{"made_by": "intarsia compare", "advice": [5, {"method": "a"}, {"method": "a", "labels": true, "gain": 1}]}',
     '{"made_by": "intarsia compare", "advice": [{"method": "a", "labels": 5, "gain": NaN, "interval": [1, 2]}]}',
     "\udcff"],
)  # fmt: skip
def test_damaged_advice_is_none(text: str, tmp_path: Path) -> None:
    assert read_advice(tmp_path, 5) is None
    (tmp_path / "advice.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_advice(tmp_path, 5) is None
