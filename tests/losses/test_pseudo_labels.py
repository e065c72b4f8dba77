"""Which answers are believed, by pictures of which the eye can see the truth."""

from __future__ import annotations

import math

import pytest
import torch

from intarsia.losses.pseudo_labels import (
    agreement,
    class_confidence,
    class_thresholds,
    quantile_thresholds,
    trusted,
)

# four pixels: class 0 with 0.9 and 0.7, class 1 with 0.6 and 0.8
EXCLUSIVE = torch.tensor([[0.9, 0.7, 0.4, 0.2], [0.1, 0.3, 0.6, 0.8]]).view(1, 2, 1, 4)


def test_the_usual_confidence_of_each_class() -> None:
    mean, count = class_confidence(EXCLUSIVE, False)
    torch.testing.assert_close(mean, torch.tensor([0.8, 0.7]))
    assert count.tolist() == [2, 2]


def test_the_usual_confidence_where_classes_overlap_is_that_of_yes() -> None:
    mean, count = class_confidence(EXCLUSIVE, True)
    torch.testing.assert_close(mean, torch.tensor([0.8, 0.7]))
    assert count.tolist() == [2, 2]


def test_less_sure_classes_have_lower_thresholds() -> None:
    torch.testing.assert_close(class_thresholds(torch.tensor([0.9, 0.45, 0.0]), 0.8), torch.tensor([0.8, 0.4, 0.0]))


def test_the_surest_share_of_each_class_passes() -> None:
    limits = quantile_thresholds(EXCLUSIVE, 0.95, 0.5, False)
    _, weight = trusted(EXCLUSIVE, limits, False)
    assert weight.flatten().tolist() == [1, 0, 0, 1]
    everything = quantile_thresholds(EXCLUSIVE, 0.5, 0.5, False)  # never above the threshold itself
    assert trusted(EXCLUSIVE, everything, False)[1].min() == 1


def test_a_class_that_is_nowhere_has_the_threshold_itself() -> None:
    assert quantile_thresholds(EXCLUSIVE.flip(1)[:, [0, 0, 1]], 0.9, 0.5, False)[1].item() == pytest.approx(0.9)


def test_a_no_needs_the_confidence_of_its_class() -> None:
    answer, weight = trusted(EXCLUSIVE, torch.tensor([0.75, 0.65]), True)
    assert answer[0, :, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert weight[0, :, 0].tolist() == [[1, 0, 0, 1], [1, 1, 0, 1]]


def test_the_mean_is_over_all_pixels_so_that_few_believed_ones_count_little() -> None:
    logits = torch.zeros(1, 2, 1, 4)
    answer = torch.zeros(1, 1, 4, dtype=torch.int64)
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 4)
    assert agreement(logits, answer, weight, False).item() == pytest.approx(math.log(2) / 4)
    both = answer[:, None].expand(1, 2, 1, 4)
    assert agreement(logits, both, torch.ones(1, 2, 1, 4), True).item() == pytest.approx(math.log(2))
