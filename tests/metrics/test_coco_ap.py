"""COCO's numbers: by hand where they are plain, and equal to pycocotools' on random scenes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.errors import DataError
from intarsia.metrics.coco_ap import CocoAP, object_runs, runs_of
from intarsia.records import IGNORE, Classes, Instances

ONE = Classes.named(("background", "cell"))
TWO = Classes.named(("background", "cell", "dirt"))


def discs(seed: int, side: int = 160, count: int = 14, moved: float = 0.0, classes: int = 2) -> Instances:
    """Discs of 3 to 45 pixels' radius, in another order and place each time `moved` is not 0; scores are random."""
    random, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side), np.int32)
    kinds = random.integers(1, classes + 1, count)
    for number in range(1, count + 1):
        place, radius = random.uniform(0, side, 2), random.choice([4, 9, 18, 40])
        place = place + noise.normal(0, 1, 2) * moved * radius
        image[(y - place[0]) ** 2 + (x - place[1]) ** 2 < radius**2] = number
    if moved:
        kinds = np.where(noise.random(count) < 0.15, 3 - kinds, kinds) if classes > 1 else kinds
        image[np.isin(image, noise.integers(1, count + 1, 2))] = 0
    return Instances(image, kinds.astype(np.int16), noise.random(count).round(2).astype(np.float32))


def evaluated(*pairs: tuple[Instances, Instances], classes: Classes = TWO) -> CocoAP:
    score = CocoAP(classes)
    for truth, answer in pairs:
        score.add(truth, answer)
    return score


def told(score: CocoAP) -> dict[str, float]:
    return {each.name: each.value for each in score.scores().overall}


@given(arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-1, 3)))
@settings(deadline=None)
def test_run_lengths_give_the_objects_back(image: np.ndarray) -> None:
    found = runs_of(image)
    assert set(found) == set(image[image > 0].tolist())
    for number, runs in found.items():
        assert runs.sum() == image.size and (runs[1:] > 0).all()
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(image.shape[::-1]).T
        np.testing.assert_array_equal(inside, image == number)


def test_whole_objects_are_taken_where_they_overlap() -> None:
    image = np.array([[1, 2]], np.int32)
    whole = (np.array([0, 2]), np.array([1, 1]), np.array([2]))
    found = object_runs(Instances(image, np.ones(3, np.int16), runs=whole))
    assert {place: runs.tolist() for place, runs in found.items()} == {0: [0, 2], 1: [1, 1]}


def test_everything_found() -> None:
    truth = discs(0, classes=1)
    found = told(evaluated((truth, truth), classes=ONE))
    assert [found[name] for name in ("coco_AP", "coco_AP50", "coco_AP75", "coco_AR")] == pytest.approx([1] * 4)


def test_a_false_alarm_hurts_only_above_a_hit() -> None:
    """One object: found by the second best of two answers, precision is 1/2 at every recall; by the best, 1."""
    image = np.zeros((1, 40), np.int32)
    image[0, :10] = 1
    truth = Instances(image, np.ones(1, np.int16))
    both = image.copy()
    both[0, 20:30] = 2
    for scores, expected in (((0.5, 0.9), 0.5), ((0.9, 0.5), 1.0)):
        answer = Instances(both, np.ones(2, np.int16), np.array(scores, np.float32))
        assert told(evaluated((truth, answer), classes=ONE))["coco_AP"] == pytest.approx(expected)


def test_nothing_there() -> None:
    none = Instances(np.zeros((9, 9), np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32))
    some = Instances(np.eye(9, dtype=np.int32), np.ones(1, np.int16), np.ones(1, np.float32))
    assert all(math.isnan(value) for value in told(CocoAP(TWO)).values())
    assert all(math.isnan(value) for value in told(evaluated((none, none))).values())
    assert math.isnan(told(evaluated((none, some)))["coco_AP"])
    missed = evaluated((some, none))
    assert told(missed)["coco_AP"] == told(missed)["coco_AR"] == 0
    assert math.isnan(told(missed)["coco_AP_large"])
    assert missed.scores().per_class["coco_AP"][0] == 0 and math.isnan(missed.scores().per_class["coco_AP"][1])


def test_without_scores_nothing_is_ranked() -> None:
    truth = discs(0)
    bare = Instances(truth.label_image, truth.classes)
    assert evaluated((truth, bare)).scores().overall == ()
    empty = Instances(np.zeros_like(truth.label_image), np.zeros(0, np.int16))
    assert evaluated((truth, empty)).scores()["coco_AP"] == 0, "no object, no score that could be missing"


def test_more_than_a_hundred_objects_all_count() -> None:
    image = np.zeros((20, 600), np.int32)
    for number in range(150):
        image[:, 4 * number : 4 * number + 3] = number + 1
    truth = Instances(image, np.ones(150, np.int16), np.linspace(1, 0.5, 150, dtype=np.float32))
    score = evaluated((truth, truth), classes=ONE)
    assert told(score)["coco_AR"] == 1
    assert "150 best scored" in score.scores().overall[0].definition


def test_what_lies_where_nobody_knows_is_no_false_alarm() -> None:
    image = np.zeros((1, 40), np.int32)
    image[0, :10] = 1
    image[0, 20:40] = IGNORE
    both = np.maximum(image, 0)
    both[0, 22:30] = 2
    answer = Instances(both, np.ones(2, np.int16), np.array([0.5, 0.9], np.float32))
    assert told(evaluated((Instances(image, np.ones(1, np.int16)), answer), classes=ONE))["coco_AP"] == pytest.approx(1)


def test_asked_twice() -> None:
    score = evaluated((discs(0), discs(0, moved=0.2)))
    assert told(score) == pytest.approx(told(score), nan_ok=True)


def test_two_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        evaluated((discs(0), discs(0, side=20)))


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_pycocotools(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    pairs = []
    for number in range(5):
        truth = discs(10 * seed + number)
        if number == 1:
            truth.label_image[:40, :60] = IGNORE
        pairs.append((truth, discs(10 * seed + number, moved=0.25 * (number != 2))))
    ours = evaluated(*pairs)
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dirt"}]
    answers = []
    for dataset in (ours.true, ours.predicted):
        api: Any = coco.COCO()
        plain = [{key: each[key] for key in each if key not in ("rle", "ignore")} for each in dataset]
        api.dataset = {"images": ours.images, "categories": categories, "annotations": plain}
        api.createIndex()
        answers.append(api)
    theirs = cocoeval.COCOeval(*answers, "segm")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    names = ("coco_AP", "coco_AP50", "coco_AP75", "coco_AP_small", "coco_AP_medium", "coco_AP_large")
    expected = {name: value if value > -1 else math.nan for name, value in zip(names, theirs.stats[:6], strict=True)}
    expected["coco_AR"] = theirs.stats[8]
    assert 0.2 < expected["coco_AP"] < 0.95
    assert told(ours) == pytest.approx(expected, nan_ok=True)
