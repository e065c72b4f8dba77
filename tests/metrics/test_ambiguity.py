"""Several answers against several raters, by sets whose distances are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.errors import DataError, UsageError
from intarsia.metrics.ambiguity import Agreement, best_match, compared, distances, energy_distance, matched
from intarsia.records import IGNORE, Classes

unhurried = settings(deadline=None, max_examples=40)  # a busy machine takes its time
TWO = Classes.named(["background", "lesion"])
MASKS = st.integers(1, 5).flatmap(lambda n: arrays(np.int16, (n, 4, 5), elements=st.integers(IGNORE, 3)))


def block(width: int, value: int = 1) -> np.ndarray:
    """(4, 10) int16: the first `width` columns are of class `value`, the rest of class 0."""
    mask = np.zeros((4, 10), np.int16)
    mask[:, :width] = value
    return mask


def by_hand(a: np.ndarray, b: np.ndarray, classes: list[int]) -> float:
    known = (a != IGNORE) & (b != IGNORE)
    ious = []
    for k in classes:
        ours, theirs = (a == k) & known, (b == k) & known
        if (ours | theirs).any():
            ious.append((ours & theirs).sum() / (ours | theirs).sum())
    return 1 - float(np.mean(ious)) if ious else 0.0


def test_a_wider_block_has_the_distance_of_its_columns() -> None:
    widths = [0, 2, 4, 8]
    found = distances(np.stack([block(4)]), np.stack([block(w) for w in widths]), [1])
    np.testing.assert_allclose(found, [[1, 0.5, 0, 0.5]])


def test_two_empty_masks_agree() -> None:
    assert distances(block(0)[None], block(0)[None], [1]).tolist() == [[0.0]]


def test_a_class_that_neither_shows_does_not_count() -> None:
    first, second = block(4)[None], block(8)[None]
    np.testing.assert_allclose(distances(first, second, [1, 2, 3]), distances(first, second, [1]))


@unhurried
@given(MASKS, MASKS)
def test_distances_are_those_of_each_pair_by_hand(first: np.ndarray, second: np.ndarray) -> None:
    found = distances(first, second, [1, 2, 3])
    expected = [[by_hand(a, b, [1, 2, 3]) for b in second] for a in first]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found, distances(second, first, [1, 2, 3]).T)


def test_large_masks_are_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.integers(IGNORE, 3, (n, 30, 40)).astype(np.int16) for n in (3, 4))
    whole = distances(first, second, [0, 1, 2])
    monkeypatch.setattr("intarsia.metrics.ambiguity.BLOCK", 7)
    np.testing.assert_array_equal(whole, distances(first, second, [0, 1, 2]))


@unhurried
@given(MASKS)
def test_the_same_answers_as_raters_have_no_energy(masks: np.ndarray) -> None:
    among = distances(masks, masks, [1, 2, 3])
    assert energy_distance(among, among, among) == pytest.approx(0, abs=1e-12)


@unhurried
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_repeating_answers_or_raters_changes_no_energy(answers: int, raters: int, times: int) -> None:
    generator = np.random.default_rng(answers * 10 + raters)
    ours, theirs = (generator.integers(0, 2, (n, 4, 4)).astype(np.int16) for n in (answers, raters))
    more = np.concatenate([ours] * times)

    def energy(first: np.ndarray, second: np.ndarray) -> float:
        return energy_distance(
            distances(first, second, [1]), distances(first, first, [1]), distances(second, second, [1])
        )

    assert energy(more, theirs) == pytest.approx(energy(ours, theirs))
    assert energy(ours, theirs) >= -1e-12


def test_the_energy_of_two_modes_by_hand() -> None:
    """Half of the raters see a lesion, half see nothing: distances are 0 within a mode and 1 across."""
    modes = np.stack([block(0), block(4)])
    raters = distances(modes, modes, [1])
    assert raters.tolist() == [[0, 1], [1, 0]]
    one = modes[:1]  # one answer only: 2 * 1/2 - 0 - 1/2
    assert energy_distance(distances(one, modes, [1]), distances(one, one, [1]), raters) == pytest.approx(0.5)
    thrice = np.stack([block(4)] * 3 + [block(0)])  # shares p = 3/4 and 1/4 against 1/2: 2 (p - 1/2)^2
    energy = energy_distance(distances(thrice, modes, [1]), distances(thrice, thrice, [1]), raters)
    assert energy == pytest.approx(2 * 0.25**2)


def test_unbiased_energy_leaves_pairs_with_oneself_out() -> None:
    """Means over many draws of an ideal model: 0 where unbiased, E d(S, S') / S above it as in the paper."""
    generator = np.random.default_rng(0)
    modes = np.stack([block(0), block(4)])
    people = distances(modes, modes, [1])
    biased, unbiased = [], []
    for _ in range(3000):
        drawn = modes[generator.integers(0, 2, 4)]
        between, own = distances(drawn, modes, [1]), distances(drawn, drawn, [1])
        biased.append(energy_distance(between, own, people))
        unbiased.append(2 * between.mean() - own.sum() / 12 - people.mean())  # the raters are all there are
    assert np.mean(unbiased) == pytest.approx(0, abs=0.02)
    assert np.mean(biased) == pytest.approx(0.5 / 4, abs=0.02)
    whole = energy_distance(between, own, people, unbiased=True)
    assert whole == pytest.approx(2 * between.mean() - own.sum() / 12 - 1.0)
    assert math.isnan(energy_distance(between[:1], own[:1, :1], people, unbiased=True))


def test_best_match_and_matched() -> None:
    raters = np.stack([block(0), block(4), block(8)])
    assert best_match(distances(raters, raters, [1])) == matched(distances(raters[::-1], raters, [1])) == 1
    one = distances(block(4)[None], raters, [1])
    assert best_match(one) == matched(one) == pytest.approx((0 + 1 + 0.5) / 3)
    between = distances(np.stack([block(4)] * 2 + [block(8)] + [block(0)]), raters, [1])  # 4 answers, 3 raters: 12
    assert best_match(between) == 1
    # 4 of each rater are to be paired; block 4 has 6 places for 4, so 2 of them take one of the others, at IoU 1/2 or 0
    assert matched(between) == pytest.approx((4 + 3 + 3 + 0.5 + 0) / 12)


@unhurried
@given(MASKS, MASKS)
def test_matching_lies_between_the_mean_and_the_best(first: np.ndarray, second: np.ndarray) -> None:
    between = distances(first, second, [1, 2, 3])
    assert 1 - between.mean() - 1e-9 <= matched(between) <= best_match(between) + 1e-9


def test_background_is_not_compared_where_it_is_called_so() -> None:
    assert compared(TWO) == (1,)
    assert compared(Classes.named(["Background", "a", "b"])) == (1, 2)
    assert compared(Classes.named(["sky", "road"])) == (0, 1)
    assert compared(Classes.named(["background"])) == (0,)


def certain(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask == 0, mask == 1]).astype(np.float32)


def test_agreement_of_raters_that_are_all_alike() -> None:
    agreement = Agreement.zeros(TWO)
    agreement.add([block(4)] * 3, block(4), certain(block(4)), [block(4)] * 2)
    scores = agreement.scores()
    for name in ("mean_rater_iou", "mean_rater_dice", "mean_people_iou", "mean_people_dice", "best_match_iou",
                 "matched_iou"):  # fmt: skip
        assert scores[name] == pytest.approx(1), name
    for name in ("people_diversity", "rater_calibration_error", "rater_brier", "energy_distance", "answer_diversity"):
        assert scores[name] == pytest.approx(0), name
    assert scores.per_class["rater_dice"] == (1, 1)


def test_the_share_of_raters_is_calibrated_and_certainty_is_not() -> None:
    """One of two raters sees a lesion in the first four columns: 1/2 is right there, 1 is half as often wrong."""
    people = [block(0), block(4)]
    half, sure = Agreement.zeros(TWO), Agreement.zeros(TWO)
    half.add(people, block(4), (certain(block(0)) + certain(block(4))) / 2)
    sure.add(people, block(4), certain(block(4)))
    assert half.scores()["rater_calibration_error"] == pytest.approx(0)
    assert sure.scores()["rater_calibration_error"] == pytest.approx(0.4 * 0.5)
    assert half.scores()["rater_brier"] == pytest.approx(0.4 * 0.5)
    assert sure.scores()["rater_brier"] == pytest.approx(0.4 * 0.5 * 2)


def test_scores_of_one_answer_say_nothing_of_several() -> None:
    agreement = Agreement.zeros(TWO)
    agreement.add([block(4)], block(4), certain(block(4)))
    names = [score.name for score in agreement.scores().overall]
    assert "energy_distance" not in names
    assert math.isnan(agreement.scores()["people_diversity"])  # one rater has nobody to differ from
    assert math.isnan(agreement.scores()["mean_people_dice"])


def test_the_number_of_answers_stands_in_the_definition() -> None:
    agreement = Agreement.zeros(TWO)
    agreement.add([block(4), block(2)], block(4), certain(block(4)), [block(4)] * 5)
    told = {score.name: score.definition for score in agreement.scores().overall}
    assert "5 answers" in told["energy_distance"] and "but background" in told["energy_distance"]
    assert all(told.values())
    with pytest.raises(UsageError, match="5"):
        agreement.add([block(4)], block(4), certain(block(4)), [block(4)] * 3)


def test_what_a_rater_left_open_is_not_held_against_anybody() -> None:
    open_ = block(4)
    open_[:, 2:] = IGNORE
    agreement = Agreement.zeros(TWO)
    agreement.add([block(4), open_], block(4), certain(block(4)), [block(4)])
    scores = agreement.scores()
    assert scores["mean_rater_dice"] == scores["mean_people_dice"] == scores["best_match_iou"] == 1
    assert scores["energy_distance"] == 0


def test_no_raters_no_scores() -> None:
    assert Agreement.zeros(TWO).scores().overall == ()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="overlap"):
        Agreement.zeros(Classes.named(["a", "b"], overlapping=True))
    with pytest.raises(DataError, match="one size"):
        distances(np.zeros((1, 2, 2), np.int16), np.zeros((1, 2, 3), np.int16), [1])
    with pytest.raises(UsageError, match="no class"):
        distances(np.zeros((1, 2, 2), np.int16), np.zeros((1, 2, 2), np.int16), [])
