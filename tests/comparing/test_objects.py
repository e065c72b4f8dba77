"""Comparisons of ways to find objects: what is counted, what is said, and whole ones on drawn crowds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell import Shell

from intarsia.comparing import Compared, ask, compare, sentences
from intarsia.comparing.criteria import MASKS, OBJECTS, count_error, object_counts
from intarsia.comparing.methods import CONTROL, FLOOR, OBJECT_METHODS, Method, choose, configuration, methods_for
from intarsia.comparing.statistics import mean_iou
from intarsia.comparing.trainings import Job, Result, judged_objects
from intarsia.comparing.verdicts import judge, to_json
from intarsia.config import Config, differences, validate
from intarsia.data.folder import open_folder
from intarsia.data.scenes import CROWD, write_scenes
from intarsia.errors import UsageError
from intarsia.fitting import open_for
from intarsia.metrics.objects import ObjectScore
from intarsia.plan import make_plan
from intarsia.plan.advice import read_advice
from intarsia.records import Classes, Instances
from intarsia.runs import Run

CLASSES = Classes.named(("background", "a", "b"))
EVERY = np.ones(3, bool)


def strips(numbers: list[int], classes: list[int], length: int = 60) -> Instances:
    """A picture with one row of objects of ten pixels each, in the given order; 0 is background."""
    row = np.repeat(np.array(numbers, np.int32), 10)[:length]
    return Instances(np.pad(row, (0, length - len(row)))[None].repeat(4, axis=0), np.array(classes, np.int16))


def test_what_is_counted_of_a_picture() -> None:
    true = strips([1, 0, 2, 0, 3], [1, 1, 2])
    found = strips([2, 1, 3, 0, 4, 5], [2, 1, 2, 2, 2])  # right, invented, of another class, right, invented
    np.testing.assert_array_equal(object_counts(true, found, CLASSES), [[0, 1, 1], [0, 2, 1], [0, 1, 4]])
    np.testing.assert_array_equal(object_counts(true, true, CLASSES), [[0, 2, 1]] * 3)
    unknown = replace(true, label_image=np.where(true.label_image == 3, -1, true.label_image))
    assert object_counts(unknown, true, CLASSES)[:, 2].tolist() == [0, 0, 0], "nobody knows, so nothing is invented"


def random_picture(seed: int) -> Instances:
    generator = np.random.default_rng(seed)
    blocks = generator.permutation(13)[:12].reshape(3, 4).repeat(4, axis=0).repeat(4, axis=1).astype(np.int32)
    numbers = np.where(blocks > 9, 0, blocks)
    return Instances(numbers, generator.integers(1, 3, 9).astype(np.int16))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=4))
def test_pooled_counts_give_the_score_of_the_metrics(seeds: list[tuple[int, int]]) -> None:
    score = ObjectScore.zeros(CLASSES)
    rows = []
    for truth, answer in seeds:
        true = random_picture(truth)
        found = random_picture(answer) if truth % 2 else Instances(np.roll(true.label_image, answer % 3), true.classes)
        score.add(true, found)
        rows.append(object_counts(true, found, CLASSES))
    counts = np.array(rows)
    overall = score.scores()
    assert mean_iou(OBJECTS.scored(counts, EVERY)) == pytest.approx(overall["AP50"], nan_ok=True)
    error, bias = count_error(counts)
    assert (error, bias) == pytest.approx((overall["count_error"], overall["count_bias"]), nan_ok=True)


def test_classes_are_pooled_where_objects_are_judged_and_averaged_where_masks_are() -> None:
    counts = np.array([[[0, 1, 30], [0, 2, 60], [0, 2, 40]]])
    assert OBJECTS.scored(counts, EVERY).shape == (1, 3, 1)
    assert mean_iou(OBJECTS.scored(counts, EVERY)) == pytest.approx(31 / (62 + 42 - 31))
    assert mean_iou(MASKS.scored(counts, EVERY)) == pytest.approx((1 / 3 + 30 / 70) / 2)
    assert math.isnan(count_error(counts[:0])[0]) and count_error(counts) == pytest.approx((20, 42 / 62 - 1))


# ------------------------------------------------------------------------------------------------- what is said


def result(method: str, labels: int, seed: int, found: int, invented: int = 0) -> Result:
    """Twenty pictures with 20 objects of either class, of which so many are found, give or take one."""
    wobble = np.tile([-1, 1], 10)
    hits = np.stack([found + wobble, found - wobble], axis=-1)
    rows = np.stack([hits, np.full_like(hits, 20), hits + invented], axis=1)
    counts = np.pad(rows, ((0, 0), (0, 0), (1, 0)))  # the background
    return Result(Job(method, labels, seed, 100), "", {"last": 60.0}, tuple(map(str, range(20))), counts)


METHODS = {CONTROL: Method("floor"), "better": Method("finds more", {"model.name": "instance_segnet"}),
           "wild": Method("invents")}  # fmt: skip


def told() -> Any:
    results = [result(CONTROL, k, seed, k + seed) for k in (5, 10) for seed in (0, 1, 2)]
    results += [result("better", k, seed, k + 4 + seed) for k in (5, 10) for seed in (0, 1, 2)]
    results += [result("wild", k, seed, k + seed, invented=10) for k in (5, 10) for seed in (0, 1, 2)]
    return judge(results, EVERY, OBJECTS)


def test_objects_are_judged_by_pooled_ap50() -> None:
    judgement = told()
    better, wild = judgement.cells["better", 5], judgement.cells["wild", 5]
    assert better.scores == pytest.approx({0: 9 / 20, 1: 10 / 20, 2: 11 / 20})
    assert better.gain and better.gain.verdict == "helps" and better.gain.interval.mean == pytest.approx(4 / 20)
    assert better.gain.interval.low > 0.1 and wild.gain and wild.gain.verdict == "hurts"
    assert math.isnan(better.per_class[0]) and better.per_class[1:] == pytest.approx([0.5, 0.5], abs=0.02)
    assert better.count_error == pytest.approx(40 - 2 * 10) and better.count_bias == pytest.approx(-0.5)
    assert wild.count_bias == pytest.approx((2 * 6 + 20) / 40 - 1)


def test_the_words_are_of_objects(tmp_path: Path) -> None:
    judgement = told()
    tree = json.loads(json.dumps(to_json(judgement, CLASSES.names)))
    assert tree["definitions"]["score"].startswith("AP50 of objects = TP / (TP + FP + FN)")
    assert tree["cells"][0]["ap50_by_class"]["background"] is None and tree["cells"][0]["count_error"] is not None
    assert "IoU =" not in json.dumps(tree)
    assert sentences.advice_sentence(judgement) == "Take better with 5 and 10 labels."
    nothing = judge([result(CONTROL, 5, s, 9) for s in (0, 1, 2)], EVERY, OBJECTS)
    assert sentences.advice_sentence(nothing) == "Take watershed, the control: nothing else was shown to help."
    rows = sentences.advice(judgement, METHODS)
    advice = {"made_by": "intarsia compare", "classes": list(CLASSES.names), "advice": rows, "score": OBJECTS.score,
              "control": {"model.name": "watershed"}}  # fmt: skip
    (tmp_path / "advice-objects.json").write_text(json.dumps(advice))
    heard = read_advice(tmp_path, 5, CLASSES.names, objects=True)
    assert heard and heard.settings == {"model.name": "instance_segnet"} and "points of AP50 of objects" in heard.reason
    assert read_advice(tmp_path, 5, CLASSES.names) is None, "masks are another question"
    (tmp_path / "advice-objects.json").write_text(json.dumps(advice | {"advice": rows[1:2]}))
    floor = read_advice(tmp_path, 5, objects=True)
    assert floor and (floor.method, floor.settings) == ("control", {"model.name": "watershed"})


# --------------------------------------------------------------------------------------------- what is compared


def test_which_methods_there_are() -> None:
    known = methods_for(False, objects=True)
    assert next(iter(known)) == CONTROL and {*COMPARED, "mask_rcnn"} <= known.keys()
    assert choose("all", objects=True).keys() == known.keys()
    assert ask("x", "5", "instance_segnet").objects and not ask("x", "5", CONTROL).objects
    assert ask("x", "5", CONTROL, objects=True).criterion is OBJECTS
    other = ask("x", "5", CONTROL, objects=True, settings={"model.name": "'instance_segnet'"}).criterion
    assert other.without == "instance_segnet" and other.score == OBJECTS.score
    with pytest.raises(UsageError, match="fixmatch learns masks"):
        ask("x", "5", "fixmatch,instance_segnet")
    with pytest.raises(UsageError, match="did you mean 'instance_segnet'"):
        ask("x", "5", "instance_segnt", objects=True)
    with pytest.raises(UsageError, match="rare classes of pixels"):
        ask("x", "5", objects=True, imbalance=True)


PLAN: dict[str, Any] = {
    "model": {"name": "watershed", "border_weight": 9.0,
              "segmenter": {"name": "unet", "encoder": "plain", "width": 4, "depth": 2}},
    "augment": {"crop": [32, 32]},
    "train": {"batch": 3, "learning_rate": 0.004},
}  # fmt: skip


def test_methods_have_the_same_segmenter_and_differ_in_what_they_make_of_it() -> None:
    for name in ("instance_segnet", "instance_segnet_unlabelled"):
        config = configuration(PLAN, OBJECT_METHODS[name].settings, 5, 2, 70)
        control = configuration(PLAN, OBJECT_METHODS[CONTROL].settings, 5, 2, 70)
        model: Any = config.model
        assert model.segmenter == control.model.segmenter and model.segmenter.width == 4  # type: ignore[union-attr]
        assert model.border_weight != 9.0, "a setting of the watershed, by the same name"
        keys = {line.split(":")[0] for line in differences(control, config)}
        assert all(key.startswith("model.") for key in keys)
        assert model.alpha == (0.3 if name.endswith("unlabelled") else 0.0)


def test_validation_pictures_tune_thresholds_only_where_they_are_not_judged() -> None:
    tuned = configuration(PLAN, {}, 5, 0, 70, tuned=True)
    assert tuned.data.validation_pictures > configuration(PLAN, {}, 5, 0, 70).data.validation_pictures
    assert ask("x", "5", CONTROL, objects=True, split="test").tuned
    assert not ask("x", "5", CONTROL, objects=True).tuned and not ask("x", "5", CONTROL, split="test").tuned


def test_mask_rcnn_keeps_what_it_knows_of_pictures() -> None:
    planned = {**PLAN, "model": PLAN["model"] | {"channels": 2, "mean": [0.1, 0.2], "deviation": [0.3, 0.3]}}
    config: Any = configuration(planned, OBJECT_METHODS["mask_rcnn"].settings, 5, 2, 70)
    assert (config.model.name, config.model.channels, config.model.mean) == ("mask_rcnn", 2, (0.1, 0.2))
    assert config.train.batch == 3 and config.augment.crop == (32, 32)


# ---------------------------------------------------------------------------------------------- whole comparisons

TINY: dict[str, Any] = {
    "model.segmenter.encoder": "plain", "model.segmenter.width": 4, "model.segmenter.depth": 2,
    "augment.crop": [32, 32], "train.batch": 2, "train.threads": 1, "train.precision": "32-true",
    "train.device": "cpu",
}  # fmt: skip


COMPARED = ("instance_segnet", "instance_segnet_unlabelled")  # a step of Mask R-CNN takes longer than the others' all


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("objects")
    write_scenes(room / "pictures", 12, replace(CROWD, height=48, width=64, objects=(4, 8)), objects=True)
    return room


@pytest.fixture(scope="module")
def first(room: Path) -> Compared:
    return compare(room / "pictures", [3], list(COMPARED), steps=3, settings=TINY, out=room / "out")


def test_a_whole_comparison_is_fair(first: Compared, room: Path) -> None:
    assert not first.judgement.failures, first.judgement.failures
    done = {(each.job.method, each.job.labels): each for each in first.results}
    assert done.keys() >= {(method, 3) for method in (CONTROL, *COMPARED)}
    kept: dict[int, set[frozenset[str]]] = {}
    for (name, labels), each in done.items():
        config = validate(Run(room / "out" / "runs" / each.job.name).read_config(), "")
        sets: Any = open_for(config)
        kept.setdefault(labels, set()).add(sets.splits.hidden)
        assert len(sets.train.labelled()) == labels and each.pictures == first.results[0].pictures
        assert config.model.name == OBJECT_METHODS[name.split(" ")[0]].settings.get("model.name", FLOOR)
        assert config.train.unlabelled == (2 if name == "instance_segnet_unlabelled" else 0)
        assert each.counts is not None and each.counts.shape == (2, 3, 5)
        truth = [np.bincount(sample.instances.classes, minlength=5) for sample in first.prepared.judged]
        np.testing.assert_array_equal(each.counts[:, 1], truth)
    assert all(len(masks) == 1 for masks in kept.values()), "all methods have the same labelled pictures"


def test_what_is_written_speaks_of_objects(first: Compared, room: Path) -> None:
    html = first.report.read_text()
    for words in ("AP50 of objects in %", "count error, objects a picture", "to find objects", "first thresholds"):
        assert words in html
    assert "mean IoU" not in html and ">background<" not in html and "few masks" not in html
    advice = json.loads((room / "pictures" / "advice-objects.json").read_text())
    assert advice["control"] == {"model.name": FLOOR} and advice["score"] == "AP50 of objects"
    assert not (room / "pictures" / "advice.json").exists()
    folder = open_folder(room / "pictures", objects=True)
    assert len(folder.entries) == 12 and folder.problems == (), "the advice is no annotation"
    assert read_advice(room / "pictures", 4, folder.classes.names, objects=True) is not None


def test_the_plan_follows_what_was_found(first: Compared, room: Path) -> None:
    path = room / "pictures" / "advice-objects.json"
    before = path.read_text()
    tree = json.loads(before)
    row = tree["advice"][0] | {
        "labels": 10,
        "method": "instance_segnet_unlabelled",
        "gain": 0.1,
        "interval": [0.05, 0.2],
    }
    row |= {"settings": {"model.name": "instance_segnet", "model.alpha": 0.3}, "equal_time": None}
    try:
        path.write_text(json.dumps(tree | {"advice": [row]}))
        config = Config.model_validate({"data": {"folder": str(room / "pictures")}, "model": {"name": "watershed"}})
        sets = open_for(config)
        planned = make_plan(sets, config.data, steps=5, device="cpu", measure=False)
        assert (planned.config.model.name, planned.config.model.alpha) == ("instance_segnet", 0.3)  # type: ignore[union-attr]
        assert "points of AP50 of objects" in planned.reasons["model.name"]
        path.write_text(json.dumps(tree | {"advice": [row | {"interval": [-0.1, 0.2]}]}))
        planned = make_plan(sets, config.data, steps=5, device="cpu", measure=False)
        assert planned.config.model.name == "watershed", "nothing was sure to help, so the floor stays"
    finally:
        path.write_text(before)


def test_thresholds_that_were_tuned_are_used_on_the_test_part(first: Compared, room: Path) -> None:
    run = Run(room / "out" / "runs" / "control-k3-s0")
    names, before = judged_objects(run.folder, first.prepared.judged, "cpu", False)
    kept = run.thresholds()
    nobody = {name: 0.999 if name in ("foreground", "inside") else value for name, value in kept.items()}
    run.write_thresholds(nobody, 0.0, 1)
    try:
        tuned = judged_objects(run.folder, first.prepared.judged, "cpu", True)[1]
        again = judged_objects(run.folder, first.prepared.judged, "cpu", False)[1]
    finally:
        run.write_thresholds(kept, 0.0, 1)
    np.testing.assert_array_equal(again, before)
    assert tuned[:, 2].sum() == 0 < tuned[:, 1].sum() and len(names) == len(tuned)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"steps": 4}, "steps asked for: 3 -> 4"),
     ({"methods": "mean_teacher", "settings": {"model.name": "unet"}}, "objects: True -> False"),
     ({"settings": {"model.name": "unet"}}, "has to find objects: ")],
)  # fmt: skip
def test_another_comparison_in_the_same_place_is_refused(
    first: Compared, room: Path, options: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {"methods": "instance_segnet", "steps": 3, "settings": TINY, "out": room / "out"}
    with pytest.raises(UsageError, match=words):
        compare(room / "pictures", [3], **(given | options))


def test_from_the_shell(shell: Shell, room: Path, tmp_path: Path) -> None:
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ["compare", room / "pictures", "--labels", 3, "--objects", "--methods", "control", "--seeds", 1,
               "--steps", 2, *words]  # fmt: skip
    told = shell.run(tmp_path, *command, "--dry-run")
    assert told.code == 0 and "watershed" in told.out and "1 training with 3 labels" in told.out, told.err
    done = shell.run(tmp_path, *command)
    assert done.code == 0 and "AP50 of objects in %" in done.out, done.err
    assert (tmp_path / "compare" / "pictures-objects" / "report.html").is_file()
    wrong = shell.run(tmp_path, "compare", room / "pictures", "--objects", "--imbalance")
    assert wrong.code == 2 and "leave it or --objects out" in wrong.err
