"""Errors that were drawn, and found by their kind."""

from __future__ import annotations

import numpy as np
import pytest

from intarsia.errors import DataError
from intarsia.metrics.object_pairs import compare_objects, jaccard_sums
from intarsia.records import IGNORE, Instances

LENGTH = 60


def bars(*spans: tuple[int, int], classes: tuple[int, ...] = (), unknown: tuple[int, int] = (0, 0)) -> Instances:
    """A picture of one row: object i + 1 covers the i-th span; of class 1 unless said otherwise."""
    image = np.zeros((1, LENGTH), np.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        image[0, start:stop] = number
    image[0, unknown[0] : unknown[1]] = IGNORE
    return Instances(image, np.array(classes or (1,) * len(spans), np.int16))


def errors(truth: Instances, answer: Instances) -> dict[str, list[int]]:
    """The numbers of the objects in error, by kind; only kinds that occur."""
    found = compare_objects(truth, answer).errors
    return {kind: getattr(found, kind).tolist() for kind, count in found.counts().items() if count}


def test_nothing_is_wrong() -> None:
    assert errors(bars((0, 10), (12, 20)), bars((12, 20), (0, 9))) == {}
    assert errors(bars(), bars()) == {}


def test_missed_and_invented() -> None:
    assert errors(bars((0, 10), (20, 30)), bars((20, 30), (40, 45))) == {"missed": [1], "invented": [2]}


def test_a_poor_outline_is_missed_and_invented() -> None:
    assert errors(bars((0, 10)), bars((6, 16))) == {"missed": [1], "invented": [1]}


def test_split() -> None:
    assert errors(bars((0, 20)), bars((0, 10), (10, 20))) == {"split": [1]}
    three = bars((0, 6), (6, 13), (13, 21))  # the last one's pixels lie mostly inside, not all
    assert errors(bars((0, 20)), three) == {"split": [1]}


def test_split_though_one_piece_is_a_partner() -> None:
    assert errors(bars((0, 20)), bars((0, 14), (14, 20))) == {"split": [1]}


def test_a_speck_is_no_piece() -> None:
    assert errors(bars((0, 30)), bars((0, 28), (28, 30))) == {"invented": [2]}


def test_merged() -> None:
    assert errors(bars((0, 10), (10, 20)), bars((0, 20))) == {"merged": [1]}
    assert errors(bars((0, 10), (12, 22), (40, 45)), bars((0, 22))) == {"merged": [1], "missed": [3]}


def test_many_small_ones_in_a_large_one_are_merged() -> None:
    truth = bars(*((4 * i, 4 * i + 2) for i in range(15)))
    assert errors(truth, bars((0, 60))) == {"merged": [1]}


def test_half_inside_is_in_neither() -> None:
    """Of 10 pixels 5 lie in each: over half is asked."""
    assert errors(bars((0, 10), (10, 20)), bars((5, 15))) == {"missed": [1, 2], "invented": [1]}


def test_another_class() -> None:
    assert errors(bars((0, 10), (20, 30), classes=(1, 2)), bars((0, 10), (20, 30), classes=(1, 1))) == {"confused": [2]}


def test_a_split_object_of_another_class_is_told_once() -> None:
    assert errors(bars((0, 20)), bars((0, 12), (12, 20), classes=(2, 2))) == {"split": [1]}


def test_where_nobody_knows_nothing_is_invented() -> None:
    truth = bars((0, 10), unknown=(20, 40))
    assert errors(truth, bars((0, 10), (22, 30))) == {}
    assert errors(truth, bars((0, 10), (15, 30))) == {}, "most of it lies there"
    assert errors(truth, bars((0, 10), (11, 25))) == {"invented": [2]}, "most of it does not"


def test_what_mostly_lies_where_nobody_knows_can_be_a_partner() -> None:
    compared = compare_objects(bars((0, 10), unknown=(10, 40)), bars((0, 30)))
    assert compared.excused.tolist() == [True]
    assert compared.partners.tolist() == [[0, 0]]
    assert compared.average_precision == 1


def test_the_numbers_are_those_of_the_label_images() -> None:
    image = np.zeros((4, 8), np.int32)
    image[0] = 7
    image[2] = 3
    truth = Instances(image, np.ones(9, np.int16))
    assert errors(truth, Instances(np.where(image == 3, 5, 0), np.ones(5, np.int16))) == {"missed": [7]}


def test_an_object_without_a_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"number 2, but only 1 have"):
        compare_objects(bars((0, 10), (20, 30), classes=(1,)), bars())


def test_two_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        compare_objects(bars(), Instances(np.zeros((2, 2), np.int32), np.zeros(0, np.int16)))


def aggregated(truth: Instances, answer: Instances) -> float:
    shared, union = jaccard_sums(compare_objects(truth, answer), 3).sum(axis=0)
    return float(shared / union)


def test_aggregated_jaccard_by_hand() -> None:
    assert aggregated(bars((0, 10)), bars((0, 10))) == 1
    # One found (8 of 10 shared), one missed (6), one invented (4).
    assert aggregated(bars((0, 10), (20, 26)), bars((0, 8), (30, 34))) == 8 / (10 + 6 + 4)
    # Two true ones share a predicted one: it is taken twice, as in the paper, and nothing is left over.
    assert aggregated(bars((0, 10), (10, 20)), bars((0, 20))) == (10 + 10) / (20 + 20)
    # Two predicted ones in a true one: the better is taken, the other is added below.
    assert aggregated(bars((0, 20)), bars((0, 12), (12, 20))) == 12 / (20 + 8)


def test_aggregated_jaccard_pairs_within_a_class() -> None:
    assert aggregated(bars((0, 10), classes=(1,)), bars((0, 10), classes=(2,))) == 0
