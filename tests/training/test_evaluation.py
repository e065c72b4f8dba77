"""Scores of predictions whose errors are known by construction."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from intarsia.errors import DataError, UsageError
from intarsia.metrics import with_temperature
from intarsia.records import IGNORE, Classes, Prediction, Sample
from intarsia.training.evaluation import collect_pixels, evaluate, fitted_temperature
from intarsia.training.examples import EXAMPLE_SIDE

TWO = Classes.named(("background", "leaf"))
THREE = Classes.named(("background", "leaf", "stem"))
OVERLAPPING = Classes.named(("cell", "nucleus"), overlapping=True)


def halves(true_columns: int, name: str = "picture") -> Sample:
    """4 x 8 pixels: the first `true_columns` columns are leaf, the rest background."""
    mask = np.zeros((4, 8), np.int16)
    mask[:, :true_columns] = 1
    return Sample(name, np.full((4, 8, 3), 100, np.uint8), mask)


def first_four(sample: Sample) -> Prediction:
    """Says of every picture that its first four columns are leaf, with 90 %."""
    leaf = np.full(sample.size, 0.1, np.float32)
    leaf[:, :4] = 0.9
    return Prediction(sample.name, sample.image, TWO, np.stack([1 - leaf, leaf]))


def test_known_confusion_gives_known_numbers() -> None:
    evaluation = evaluate(first_four, [halves(4), halves(2)], TWO)
    # leaf: 16 + 8 hits, 8 false alarms; background: 16 + 16 hits, 8 missed
    told = evaluation.to_json()
    assert told["confusion"]["value"] == [[32, 8], [0, 24]]
    assert told["per_class"]["iou"]["values"] == pytest.approx([32 / 40, 24 / 32])
    assert told["per_class"]["dice"]["values"] == pytest.approx([64 / 72, 48 / 56])
    assert told["per_class"]["precision"]["values"] == pytest.approx([1, 24 / 32])
    assert told["per_class"]["recall"]["values"] == pytest.approx([32 / 40, 1])
    assert told["per_class"]["share"]["values"] == pytest.approx([40 / 64, 24 / 64])
    assert told["overall"]["mean_iou"]["value"] == pytest.approx((32 / 40 + 24 / 32) / 2)
    assert told["overall"]["accuracy"]["value"] == pytest.approx(56 / 64)
    assert told["overall"]["brier"]["value"] == pytest.approx((56 * 2 * 0.1**2 + 8 * 2 * 0.9**2) / 64)
    assert told["overall"]["expected_calibration_error"]["value"] == pytest.approx(0.9 - 56 / 64)
    assert told["overall"]["overconfidence"]["value"] == pytest.approx(0.9 - 56 / 64)
    assert told["pictures"]["value"] == 2
    assert told["pixels"]["value"] == 64


def test_every_number_has_a_definition() -> None:
    told = json.loads(json.dumps(evaluate(first_four, [halves(4)], TWO).to_json(), allow_nan=False))
    numbers = [*told["overall"].values(), *told["per_class"].values()]
    numbers += [value for name, value in told.items() if name not in ("overall", "per_class", "classes", "absent")]
    assert len(numbers) > 15
    assert all(number["definition"] for number in numbers)


def test_the_mean_is_pooled_and_not_a_mean_over_pictures() -> None:
    evaluation = evaluate(first_four, [halves(4), halves(2), halves(2)], TWO)
    alone = [example.iou for example in evaluation.examples]
    assert evaluation.scores["mean_iou"] != pytest.approx(np.mean(alone))
    assert evaluation["mean_iou"] == pytest.approx((48 / 64 + 32 / 48) / 2)


def test_unlabelled_pictures_are_counted_and_never_predicted() -> None:
    asked = []

    def predict(sample: Sample) -> Prediction:
        asked.append(sample.name)
        return first_four(sample)

    blank = Sample("all ignored", np.zeros((4, 8, 3), np.uint8), np.full((4, 8), IGNORE, np.int16))
    evaluation = evaluate(predict, [halves(4).without_labels(), halves(4, "labelled"), blank], TWO)
    assert (evaluation.pictures, evaluation.skipped) == (1, 2)
    assert asked == ["labelled"]


def test_nothing_labelled_at_all() -> None:
    evaluation = evaluate(first_four, [halves(4).without_labels()], TWO)
    assert (evaluation.pictures, evaluation.pixels, evaluation.examples) == (0, 0, ())
    assert math.isnan(evaluation.scores["mean_iou"])
    assert evaluation.to_json()["overall"]["mean_iou"]["value"] is None


def test_ignored_pixels_do_not_count() -> None:
    sample = halves(2)
    assert sample.mask is not None
    sample.mask[:, 2:4] = IGNORE  # exactly where the prediction is wrong
    evaluation = evaluate(first_four, [sample], TWO)
    assert evaluation.scores["mean_iou"] == 1
    assert evaluation.pixels == 24


def test_an_absent_class_is_named_and_left_out_of_the_mean() -> None:
    def predict(sample: Sample) -> Prediction:
        return Prediction(
            sample.name, sample.image, THREE, np.concatenate([first_four(sample).probabilities, _zeros()])
        )

    evaluation = evaluate(predict, [halves(4)], THREE)
    assert evaluation.scores.absent == ("stem",)
    assert evaluation.scores["mean_iou"] == 1
    assert math.isnan(evaluation.scores.per_class["iou"][2])
    printed = _printed(evaluation)
    assert "n/a" in printed
    assert "left out of every mean over classes: stem" in printed


def _zeros() -> np.ndarray:
    return np.zeros((1, 4, 8), np.float32)


def _printed(evaluation) -> str:  # type: ignore[no-untyped-def]
    console = Console(file=io.StringIO(), width=200, record=True)
    evaluation.table(console)
    return console.export_text()


def test_a_class_that_fills_its_pictures_has_no_outline_and_is_still_present() -> None:
    one = Classes.named(("all",))
    sample = Sample("full", np.zeros((4, 8, 1), np.uint8), np.zeros((4, 8), np.int16))
    evaluation = evaluate(lambda s: Prediction(s.name, s.image, one, np.ones((1, 4, 8), np.float32)), [sample], one)
    assert evaluation.scores.absent == ()
    assert evaluation.scores["mean_iou"] == 1


@given(order=st.permutations(range(9)), keep=st.integers(0, 6))
def test_best_and_worst_pictures(order: list[int], keep: int) -> None:
    samples = [halves(columns, str(columns)) for columns in order]
    ranking = sorted(range(9), key=lambda columns: (_iou(columns), order.index(columns)))
    evaluation = evaluate(first_four, samples, TWO, keep=keep, boundary=False)
    expected = ranking if 2 * keep >= 9 else ranking[:keep] + ranking[9 - keep :]
    assert [int(each.name) for each in evaluation.examples] == expected
    assert [each.iou for each in evaluation.examples] == pytest.approx([_iou(columns) for columns in expected])
    assert [*evaluation.worst, *reversed(evaluation.best)] == list(evaluation.examples)


def _iou(columns: int) -> float:
    """Of the answer "four columns" where `columns` of eight are true, mean over the classes the truth shows."""
    leaf = min(columns, 4) / max(columns, 4)
    background = min(8 - columns, 4) / max(8 - columns, 4)
    return background if columns == 0 else leaf if columns == 8 else (leaf + background) / 2


def test_examples_are_small_and_keep_their_classes() -> None:
    mask = np.zeros((300, 1600), np.int16)
    mask[:, 800:] = 1
    sample = Sample("wide", np.zeros((300, 1600, 4), np.uint16), mask)

    def predict(sample: Sample) -> Prediction:
        return Prediction(sample.name, sample.image, TWO, np.stack([mask == 0, mask == 1]).astype(np.float32))

    (example,) = evaluate(predict, [sample], TWO).best
    assert example.picture.shape == (120, EXAMPLE_SIDE, 3)
    assert example.truth.shape == example.predicted.shape == example.uncertainty.shape == (120, EXAMPLE_SIDE)
    np.testing.assert_array_equal(example.truth, (np.arange(640) >= 320)[None].repeat(120, 0))


def overlapping_sample() -> Sample:
    labels = np.zeros((2, 4, 8), np.int8)
    labels[0, :, :4] = 1
    labels[1, :2, :2] = 1  # inside the cell
    labels[1, 3] = IGNORE
    return Sample("cells", np.zeros((4, 8, 1), np.uint8), labels=labels)


def test_overlapping_classes() -> None:
    def predict(sample: Sample) -> Prediction:
        p = np.full((2, 4, 8), 0.2, np.float32)
        p[0, :, :2] = 0.8  # half of the cell
        p[1, :2, :4] = 0.8  # twice the nucleus
        return Prediction(sample.name, sample.image, OVERLAPPING, p)

    evaluation = evaluate(predict, [overlapping_sample()], OVERLAPPING)
    assert evaluation.confusion is None
    assert evaluation.scores.per_class["iou"] == pytest.approx((0.5, 0.5))
    assert evaluation.pixels == 32 + 24
    assert evaluation.best[0].truth.shape == (2, 4, 8)
    assert evaluation.to_json()["confusion"]["value"] is None


@pytest.mark.parametrize("classes", [TWO, OVERLAPPING], ids=["mask", "labels"])
def test_labels_of_the_wrong_kind(classes: Classes) -> None:
    sample = halves(4) if classes.overlapping else overlapping_sample()
    with pytest.raises(DataError, match="class list"):
        evaluate(first_four, [sample], classes)


def test_a_prediction_of_another_size_names_the_picture() -> None:
    def predict(sample: Sample) -> Prediction:
        return Prediction(sample.name, sample.image, TWO, np.full((2, 5, 5), 0.5, np.float32))

    with pytest.raises(DataError, match="leafy"):
        evaluate(predict, [halves(3, "leafy")], TWO)


def test_negative_keep() -> None:
    with pytest.raises(UsageError, match="keep"):
        evaluate(first_four, [], TWO, keep=-1)


def guesses(heat: float, seed: int = 0) -> tuple[list[Sample], dict[str, np.ndarray]]:
    """Pictures whose true classes are drawn from probabilities, and those probabilities made too sure by `heat`."""
    rng = np.random.default_rng(seed)
    samples, said = [], {}
    for i in range(4):
        leaf = rng.uniform(0.05, 0.95, (40, 50))
        mask = (rng.uniform(size=leaf.shape) < leaf).astype(np.int16)
        samples.append(Sample(str(i), np.zeros((40, 50, 3), np.uint8), mask))
        said[str(i)] = with_temperature(np.stack([1 - leaf, leaf]).astype(np.float32), 1 / heat)
    return samples, said


def test_the_fitted_temperature_mends_overconfidence_and_keeps_the_masks() -> None:
    samples, said = guesses(heat=3.0)

    def predict(sample: Sample) -> Prediction:
        return Prediction(sample.name, sample.image, TWO, said[sample.name])

    temperature = fitted_temperature(predict, samples, TWO, per_picture=1000)
    assert temperature == pytest.approx(3.0, rel=0.1)
    raw, mended = evaluate(predict, samples, TWO), evaluate(predict, samples, TWO, temperature=temperature)
    assert raw.scores["overconfidence"] > 0.1
    assert mended.scores["expected_calibration_error"] < 0.03 < 0.1 < raw.scores["expected_calibration_error"]
    assert mended.scores["brier"] < raw.scores["brier"]
    np.testing.assert_array_equal(mended.confusion, raw.confusion)
    assert mended.reliability_before is not None
    np.testing.assert_array_equal(mended.reliability_before.bins, raw.reliability.bins)


def test_no_labels_leave_the_temperature_at_one() -> None:
    assert fitted_temperature(first_four, [halves(4).without_labels()], TWO) == 1


def test_collected_pixels_are_labelled_seeded_and_no_more_than_asked_for() -> None:
    samples = [halves(4), halves(2), halves(4).without_labels()]
    assert samples[0].mask is not None
    samples[0].mask[1:] = IGNORE  # leaves 8 pixels
    probabilities, target = collect_pixels(first_four, samples, TWO, per_picture=10, seed=3)
    assert probabilities.shape == (2, 18)
    assert target.shape == (18,)
    assert set(target) == {0, 1}
    np.testing.assert_array_equal(probabilities, collect_pixels(first_four, samples, TWO, per_picture=10, seed=3)[0])


def test_collected_pixels_of_overlapping_classes() -> None:
    def predict(sample: Sample) -> Prediction:
        return Prediction(sample.name, sample.image, OVERLAPPING, np.full((2, 4, 8), 0.5, np.float32))

    probabilities, target = collect_pixels(predict, [overlapping_sample()], OVERLAPPING, per_picture=100)
    assert probabilities.shape == target.shape == (2, 32)
    assert (target[1] == IGNORE).sum() == 8


def rated(true_columns: int, *raters: int) -> Sample:
    """`halves`, and raters who each see so many columns of leaf."""
    people = tuple(halves(columns).mask for columns in raters)
    return replace(halves(true_columns), raters=tuple(mask for mask in people if mask is not None))


def test_an_answer_is_held_against_each_rater() -> None:
    evaluation = evaluate(first_four, [rated(4, 4, 2)], TWO)
    # leaf with the second rater: 8 hits, 8 false alarms; pooled with the first: 24 hits, 8 false alarms
    assert evaluation.scores.per_class["rater_dice"][1] == pytest.approx(48 / 56)
    assert evaluation["mean_rater_iou"] == pytest.approx((24 / 32 + 32 / 40) / 2)
    assert evaluation["mean_people_iou"] == pytest.approx((16 / 32 + 32 / 48) / 2)
    assert "energy_distance" not in [score.name for score in evaluation.scores.overall]
    assert evaluation["mean_iou"] == pytest.approx(1)  # of the mask, as ever
    told = evaluation.to_json()["overall"]
    assert all(told[name]["definition"] for name in ("mean_rater_iou", "people_diversity", "rater_brier"))


def test_several_answers_are_held_against_the_raters() -> None:
    def answers(sample: Sample) -> list[Prediction]:
        zeros, ones = np.zeros(sample.size, np.float32), np.ones(sample.size, np.float32)
        return [replace(first_four(sample), probabilities=np.stack(each)) for each in ((ones, zeros), (zeros, ones))]

    evaluation = evaluate(first_four, [rated(4, 0, 8)], TWO, several=answers)
    assert evaluation["energy_distance"] == pytest.approx(0)  # both say nothing and everything
    assert evaluation["answer_diversity"] == evaluation["people_diversity"] == pytest.approx(1)
    assert evaluation["best_match_iou"] == evaluation["matched_iou"] == pytest.approx(1)
    assert evaluation["rater_brier"] == pytest.approx(0.5)  # their mean is 1/2 everywhere
    assert "2 answers" in evaluation.to_json()["overall"]["energy_distance"]["definition"]


def test_pictures_without_raters_have_no_scores_of_raters() -> None:
    asked = []
    evaluation = evaluate(first_four, [halves(4)], TWO, several=lambda sample: asked.append(sample) or [])  # type: ignore[func-returns-value]
    assert not asked
    assert not [score.name for score in evaluation.scores.overall if "rater" in score.name or "people" in score.name]
    mixed = evaluate(first_four, [halves(4), rated(4, 4, 2)], TWO)
    assert "of 1 pictures" in mixed.to_json()["overall"]["mean_rater_iou"]["definition"]
