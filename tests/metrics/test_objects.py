"""Scores of objects whose hits and errors are known because they were drawn that way."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.errors import DataError, UsageError
from intarsia.metrics.matching import MatchingScore
from intarsia.metrics.objects import DEFINITIONS, ObjectScore
from intarsia.records import IGNORE, Classes, Instances

from .test_object_pairs import bars

ONE = Classes.named(("background", "cell"))
TWO = Classes.named(("background", "cell", "dirt"))
SHARES = (
    "AP50", "F1_50", "precision_50", "recall_50", "mean_matched_iou", "mean_AP", "panoptic_quality",
    "segmentation_quality", "recognition_quality", "aggregated_jaccard", "AP50_small", "AP50_medium", "AP50_large",
    "mean_class_AP50", "mean_class_AP", "mean_class_panoptic_quality", "AP50_any_class", "mean_AP_any_class",
    "class_accuracy",
)  # fmt: skip


def scored(truth: Instances, answer: Instances, classes: Classes = ONE) -> ObjectScore:
    score = ObjectScore.zeros(classes)
    score.add(truth, answer)
    return score


@st.composite
def objects(draw: st.DrawFn, classes: int = 2) -> Instances:
    image = draw(arrays(np.int32, (6, 7), elements=st.integers(IGNORE, 4)))
    return Instances(image, draw(arrays(np.int16, 4, elements=st.integers(1, classes))))


def test_known_scores() -> None:
    """One found with IoU 0.8, one found whole, one missed, two invented."""
    truth = bars((0, 10), (12, 20), (22, 30))
    answer = bars((0, 8), (12, 20), (31, 33), (35, 39))
    found = scored(truth, answer).scores()
    assert found["AP50"] == 2 / 5
    assert found["precision_50"] == 0.5
    assert found["recall_50"] == pytest.approx(2 / 3)
    assert found["F1_50"] == pytest.approx(4 / 7)
    assert found["mean_matched_iou"] == pytest.approx(0.9)
    assert found["mean_AP"] == pytest.approx((7 * 2 / 5 + 3 * 1 / 6) / 10)
    assert found["segmentation_quality"] == pytest.approx(0.9)
    assert found["recognition_quality"] == pytest.approx(2 / (2 + 1 + 0.5))
    assert found["panoptic_quality"] == pytest.approx(1.8 / 3.5)
    assert found["aggregated_jaccard"] == (8 + 8) / (10 + 8 + 8 + 2 + 4)
    assert found["count_error"] == 1
    assert found["count_bias"] == pytest.approx(1 / 3)
    assert found.per_class["true_objects"] == (3,)
    assert found.per_class["predicted_objects"] == (4,)
    assert found.classes == ("cell",)


def test_an_iou_of_exactly_a_half_is_a_pair_but_not_for_panoptic_quality() -> None:
    found = scored(bars((0, 10)), bars((0, 20))).scores()
    assert (found["AP50"], found["panoptic_quality"]) == (1, 0)


def test_pictures_are_pooled() -> None:
    score = ObjectScore.zeros(ONE)
    score.add(bars((0, 10)), bars((0, 10)))
    score.add(bars((0, 10), (20, 30), (40, 50)), bars((40, 50)))
    found = score.scores()
    assert found["AP50"] == 2 / 4  # and not the mean of 1 and 1/3
    assert found["count_error"] == 1
    assert found["count_bias"] == -0.5
    assert score.per_picture[:, :, 1].tolist() == [[1, 1], [3, 1]]


def test_classes_pair_within_themselves() -> None:
    """Two cells found, one of them called dirt; a speck of dirt found."""
    truth, answer = (bars((0, 10), (20, 30), (40, 44), classes=classes) for classes in ((1, 1, 2), (1, 2, 2)))
    score = scored(truth, answer, TWO)
    found = score.scores()
    assert found["AP50"] == 2 / 4  # two hits, a lone true cell, a lone predicted dirt
    assert found.per_class["AP50"] == (1 / 2, 1 / 2)
    assert found["mean_class_AP50"] == 1 / 2
    assert found["AP50_any_class"] == 1
    assert found["class_accuracy"] == pytest.approx(2 / 3)
    assert score.confusion.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert score.kinds == {"missed": 0, "invented": 0, "split": 0, "merged": 0, "confused": 1}


def test_the_confusion_tells_missed_and_invented() -> None:
    score = scored(bars((0, 10), (20, 30), classes=(2, 1)), bars((40, 50), (20, 30), classes=(2, 1)), TWO)
    assert score.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_class_that_the_truth_does_not_show() -> None:
    found = scored(bars((0, 10)), bars((0, 10), (20, 30), classes=(1, 2)), TWO).scores()
    assert found.absent == ("dirt",)
    assert found.per_class["AP50"] == (1, 0)
    assert found["mean_class_AP50"] == 1
    assert found["AP50"] == 1 / 2


def test_nothing_in_truth_and_answer() -> None:
    found = scored(bars(), bars()).scores()
    assert math.isnan(found["AP50"]) and math.isnan(found["panoptic_quality"]) and math.isnan(found["count_bias"])
    assert found["count_error"] == 0
    assert scored(bars(), bars((0, 10))).scores()["AP50"] == 0
    assert scored(bars((0, 10)), bars()).scores()["panoptic_quality"] == 0
    assert math.isnan(ObjectScore.zeros(ONE).scores()["count_error"])


def test_sizes_are_thirds_of_the_true_objects() -> None:
    """Areas 2, 4, 8: the middle one is missed; an invented one of 7 pixels is of the large third."""
    truth, answer = bars((0, 2), (10, 14), (20, 28)), bars((0, 2), (20, 28), (40, 47))
    small, medium, large = scored(truth, answer).by_size()
    assert [(each.smallest, each.largest, each.true, each.matches, each.alarms) for each in (small, medium, large)] == [
        (2, 2, 1, 1, 0),
        (4, 4, 1, 0, 0),
        (8, 8, 1, 1, 1),
    ]
    assert (small.average_precision, medium.average_precision, large.average_precision) == (1, 0, 1 / 2)
    assert (large.recall, large.iou) == (1, 1)
    found = scored(truth, answer).scores()
    assert (found["AP50_small"], found["AP50_medium"], found["AP50_large"]) == (1, 0, 1 / 2)


def test_objects_of_one_size() -> None:
    sizes = scored(bars((0, 4), (10, 14)), bars((0, 4))).by_size()
    assert [each.true for each in sizes] == [2, 0, 0]
    assert math.isnan(sizes[1].average_precision)


def test_unknown_pixels_count_for_nothing() -> None:
    score = scored(bars((0, 10), unknown=(20, 40)), bars((0, 10), (15, 40)))
    assert score.scores()["AP50"] == 1
    assert score.per_picture.sum(axis=2).tolist() == [[1, 1]]


def test_the_scores_of_objects_are_held_against_their_matches() -> None:
    answer = bars((0, 10), (20, 30), (40, 50))
    answer = Instances(answer.label_image, answer.classes, np.array([0.9, 0.7, 0.2], np.float32))
    reliability = scored(bars((0, 10), (40, 50)), answer).reliability
    assert reliability.answers == 3
    assert reliability.bins.sum(axis=1) == pytest.approx([3, 1.8, 2])


def test_scores_far_from_the_truth_are_in_range_and_have_definitions() -> None:
    found = scored(bars((0, 30), (30, 60)), bars((5, 9), (25, 35)), TWO).scores()
    assert all(score.definition for score in found.overall)
    assert set(found.per_class) == set(DEFINITIONS) == set(found.definitions)


@given(objects(), objects())
@settings(deadline=None, max_examples=30)
def test_every_share_is_in_range_and_pq_is_sq_times_rq(truth: Instances, answer: Instances) -> None:
    answer = Instances(np.maximum(answer.label_image, 0), answer.classes)
    found = scored(truth, answer, TWO).scores()
    for name in SHARES:
        assert math.isnan(found[name]) or 0 <= found[name] <= 1 + 1e-12, name
    product = found["segmentation_quality"] * found["recognition_quality"]
    assert found["panoptic_quality"] == pytest.approx(product, nan_ok=True)
    assert found["panoptic_quality"] <= found["F1_50"] + 1e-12 or math.isnan(found["panoptic_quality"])


@given(objects())
@settings(deadline=None, max_examples=30)
def test_an_image_has_itself_found_whole(truth: Instances) -> None:
    answer = Instances(np.maximum(truth.label_image, 0), truth.classes)
    score = scored(truth, answer, TWO)
    found = score.scores()
    if (truth.label_image > 0).any():
        names = ("AP50", "mean_AP", "F1_50", "panoptic_quality", "aggregated_jaccard", "mean_class_AP50")
        assert [found[name] for name in (*names, "class_accuracy", "AP50_any_class")] == [1.0] * 8
        assert found["count_bias"] == 0
    assert sum(score.kinds.values()) == 0
    assert (score.confusion == np.diag(score.confusion.diagonal())).all()


@given(objects(), objects(), st.permutations(range(4)))
@settings(deadline=None, max_examples=30)
def test_the_numbers_of_objects_mean_nothing(truth: Instances, answer: Instances, order: list[int]) -> None:
    answer = Instances(np.maximum(answer.label_image, 0), answer.classes)
    table = np.array([0, *(place + 1 for place in order), IGNORE])
    classes = np.zeros(4, np.int16)
    classes[order] = truth.classes
    renumbered = Instances(table[truth.label_image].astype(np.int32), classes)
    one, other = scored(truth, answer, TWO), scored(renumbered, answer, TWO)
    np.testing.assert_allclose(one.counts, other.counts)
    np.testing.assert_allclose(one.panoptic, other.panoptic)
    np.testing.assert_allclose(one.any_class, other.any_class)
    np.testing.assert_array_equal(one.jaccard, other.jaccard)
    np.testing.assert_array_equal(one.per_picture, other.per_picture)
    assert all(one.kinds[kind] == other.kinds[kind] for kind in ("split", "merged"))


@given(objects(1), objects(1))
@settings(deadline=None, max_examples=30)
def test_one_class_is_what_matching_says(truth: Instances, answer: Instances) -> None:
    true, predicted = np.maximum(truth.label_image, 0), np.maximum(answer.label_image, 0)
    ours = scored(Instances(true, truth.classes), Instances(predicted, answer.classes)).matching
    np.testing.assert_allclose(ours.counts, MatchingScore.of(true, predicted).counts)


def test_counts_are_added_up() -> None:
    first, second = (bars((0, 10)), bars((1, 10))), (bars((0, 10), (20, 30)), bars((20, 26), (40, 44)))
    whole = ObjectScore.zeros(ONE)
    whole.add(*first)
    whole.add(*second)
    halves = scored(*first) + scored(*second)
    assert halves.scores() == whole.scores()
    assert halves.kinds == whole.kinds
    with pytest.raises(UsageError, match="do not go together"):
        scored(*first) + scored(*second, classes=TWO)


def test_a_class_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="objects of class 2 to 2"):
        scored(bars((0, 10)), bars((0, 10), classes=(2,)))
    with pytest.raises(UsageError, match="beside the background"):
        ObjectScore.zeros(Classes.named(("background",)))


def test_five_thousand_objects_take_no_more_than_a_second() -> None:
    side, step = 1420, 20
    y, x = np.mgrid[:side, :side]
    number = (y // step) * (side // step) + x // step + 1
    true = np.where((y % step - 10) ** 2 + (x % step - 10) ** 2 < 64, number, 0).astype(np.int32)
    classes = np.random.default_rng(0).integers(1, 3, number.max()).astype(np.int16)
    start = time.process_time()
    found = scored(Instances(true, classes), Instances(np.roll(true, 2, axis=0), classes), TWO).scores()
    assert time.process_time() - start < 1
    assert found.per_class["true_objects"] == tuple(np.bincount(classes)[1:])
    assert found["AP50"] > 0.9
