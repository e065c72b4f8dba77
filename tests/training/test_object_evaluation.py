"""Scores of predicted objects whose hits and errors are known by construction."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from intarsia.errors import DataError, UsageError
from intarsia.metrics.calibration import Reliability
from intarsia.metrics.matching import THRESHOLDS
from intarsia.records import IGNORE, Classes, Instances, ObjectPrediction, Sample
from intarsia.training.examples import EXAMPLE_SIDE
from intarsia.training.object_evaluation import DEFINITIONS, NAMELESS, ObjectEvaluation, error_words, evaluate_objects

CLASSES = Classes.named(("background", "cell", "dirt"))
SQUARES = np.array([[1, 1], [1, 12], [12, 1], [12, 12]])


def squares(*which: int, classes: tuple[int, ...] = (), scores: tuple[float, ...] = (), side: int = 8) -> Instances:
    """Of four squares in 24 x 24 pixels those that are named, numbered in that order."""
    image = np.zeros((24, 24), np.int32)
    for number, place in enumerate(which, start=1):
        top, left = SQUARES[place]
        image[top : top + side, left : left + side] = number
    kinds = np.array(classes or (1,) * len(which), np.int16)
    return Instances(image, kinds, np.array(scores, np.float32) if scores else None)


def sample(name: str, truth: Instances | None) -> Sample:
    return Sample(name, np.full((24, 24, 3), 90, np.uint8), instances=truth)


def evaluated(
    *pairs: tuple[Instances | None, Instances], classes: Classes = CLASSES, keep: int = 6
) -> ObjectEvaluation:
    answers = {str(number): answer for number, (_, answer) in enumerate(pairs)}
    samples = [sample(str(number), truth) for number, (truth, _) in enumerate(pairs)]
    return evaluate_objects(
        lambda each: ObjectPrediction(each.name, each.image, CLASSES, answers[each.name]), samples, classes, keep=keep
    )


def test_known_objects_give_known_numbers() -> None:
    truth, answer = squares(0, 1, 2), squares(0, 1, 3, scores=(0.9, 0.8, 0.7))
    evaluation = evaluated((truth, answer), (squares(), squares()))
    assert evaluation["AP50"] == 2 / 4
    assert evaluation["coco_AP50"] == pytest.approx(67 / 101)  # precision 1 up to a recall of 2/3: 67 of 101 recalls
    assert (evaluation.pictures, evaluation.objects, evaluation.predicted_objects) == (2, 3, 3)
    assert evaluation.average_precision == dict.fromkeys(THRESHOLDS, 0.5)
    assert evaluation.errors == {"missed": 1, "invented": 1, "split": 0, "merged": 0, "confused": 0}
    assert evaluation.counts == (("0", 3, 3), ("1", 0, 0))
    assert evaluation["count_error"] == 0
    assert evaluation.seconds_per_picture > 0
    with pytest.raises(KeyError, match="no score is called"):
        evaluation["mean_iou"]


def test_calibration_of_the_objects_scores() -> None:
    evaluation = evaluated((squares(0, 1), squares(0, 1, 3, scores=(0.9, 0.9, 0.5))))
    assert evaluation["score_calibration_error"] == pytest.approx((2 * 0.1 + 0.5) / 3)
    assert isinstance(evaluation.reliability, Reliability)


def test_without_scores_there_is_no_coco_and_no_calibration() -> None:
    evaluation = evaluated((squares(0), squares(0)))
    names = {score.name for score in evaluation.scores.overall}
    assert not {name for name in names if name.startswith("coco")}
    assert "score_calibration_error" not in names and evaluation.reliability is None
    assert evaluation.to_json()["reliability"]["value"] is None


def test_classes_may_be_left_aside() -> None:
    pair = squares(0, 1, classes=(1, 2)), squares(0, 1, classes=(1, 1))
    assert evaluated(pair)["AP50"] == 1 / 3
    alone = evaluated(pair, classes=NAMELESS)
    assert alone["AP50"] == 1
    assert alone.scores.classes == ("object",)


def test_pictures_of_which_nothing_is_known_are_skipped() -> None:
    unknown = Instances(np.full((24, 24), IGNORE, np.int32), np.zeros(0, np.int16))
    evaluation = evaluated((None, squares(0)), (unknown, squares(0)), (squares(0), squares(0)))
    assert (evaluation.pictures, evaluation.skipped) == (1, 2)
    nothing = evaluated()
    assert nothing.pictures == 0 and math.isnan(nothing["AP50"]) and math.isnan(nothing.seconds_per_picture)
    json.dumps(nothing.to_json(), allow_nan=False)


def test_examples_are_the_worst_and_the_best() -> None:
    whole = squares(0, 1, 2, 3)
    pairs = [(whole, squares(*range(count))) for count in (4, 0, 3, 1, 2)]
    evaluation = evaluated(*pairs, keep=1)
    assert [each.name for each in evaluation.worst] == ["1"] and [each.name for each in evaluation.best] == ["0"]
    example = evaluation.worst[0]
    assert (example.average_precision, example.true_objects, example.predicted_objects) == (0, 4, 0)
    assert example.errors.missed.tolist() == [1, 2, 3, 4]
    assert [each.average_precision for each in evaluated(*pairs).examples] == [0, 0.25, 0.5, 0.75, 1]
    assert evaluated(*pairs, keep=0).examples == ()
    assert evaluated((squares(), squares())).examples[0].average_precision == 1


def test_examples_are_small_and_keep_the_numbers() -> None:
    image = np.zeros((300, 1600), np.int32)
    image[:, :800] = 7
    truth = Instances(image, np.ones(7, np.int16))
    given = Sample("wide", np.zeros((300, 1600, 1), np.uint16), instances=truth)
    evaluation = evaluate_objects(lambda each: ObjectPrediction("", each.image, CLASSES, truth), [given], CLASSES)
    example = evaluation.examples[0]
    assert example.picture.shape == (120, EXAMPLE_SIDE, 3)
    assert example.truth.shape == example.predicted.shape == (120, EXAMPLE_SIDE)
    assert set(np.unique(example.truth)) == {0, 7} and (example.truth[:, :320] == 7).all()


def test_every_number_has_a_definition() -> None:
    told = json.loads(json.dumps(evaluated((squares(0), squares(0, scores=(0.5,)))).to_json(), allow_nan=False))
    for each in [*told["overall"].values(), *told["per_class"].values(), *(told[name] for name in DEFINITIONS)]:
        assert each["definition"]
    assert set(told["overall"]) >= {"AP50", "mean_AP", "coco_AP", "panoptic_quality", "aggregated_jaccard"}


def test_the_table_tells_scores_errors_and_what_was_left_out() -> None:
    console = Console(file=io.StringIO(), width=200)
    evaluated((squares(0, 1), squares(0)), (None, squares())).table(console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "TP / (TP + FP + FN)" in told and "50.0" in told
    assert "1 missed, 0 invented, 0 split, 0 merged." in told
    assert "Left out, since nothing in them is labelled: 1" in told
    assert "dirt" in told


def test_errors_in_words() -> None:
    assert error_words({"missed": 1200, "invented": 0, "confused": 0}) == "1,200 missed, 0 invented"
    assert error_words({"confused": 2}) == "2 confused"
    assert error_words({}) == "none"


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"^0: truth"):
        evaluated((squares(0), Instances(np.zeros((3, 3), np.int32), np.zeros(0, np.int16))))
    with pytest.raises(DataError, match=r"^0: the answer holds objects of class 3"):
        evaluated((squares(0), squares(0, classes=(3,))))
    with pytest.raises(UsageError, match="keep = -1"):
        evaluated(keep=-1)
