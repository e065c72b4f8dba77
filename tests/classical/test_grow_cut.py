"""GrowCut against the automaton of its paper, run until nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.classical import GrowCutConfig, conquer, grow_cut
from intarsia.errors import DataError

AROUND = {4: [(0, 1), (1, 0)], 8: [(0, 1), (1, 0), (1, 1), (1, -1)]}


def automaton(
    image: np.ndarray, seeds: np.ndarray, strengths: np.ndarray, config: GrowCutConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and strengths by the rule as it is written: every pixel is attacked by its neighbours, all at once."""
    values = image.reshape(*seeds.shape, -1).astype(np.float64)
    largest = np.sqrt((np.ptp(values, axis=(0, 1)) ** 2).sum()) or 1.0
    height, width = seeds.shape
    labels, strong = seeds.copy(), np.where(seeds > 0, strengths, 0.0)
    changed = True
    while changed:
        before_labels, before = labels.copy(), strong.copy()
        for down, right in [d for y, x in AROUND[config.neighbours] for d in ((y, x), (-y, -x))]:
            p = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
            q = slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right))
            g = 1 - (1 - config.leak) * np.sqrt(((values[p] - values[q]) ** 2).sum(-1)) / largest
            attack = np.where(g < 1e-12, 0, g) * before[q]  # what is left of 1 - 1 is rounding
            wins = attack > strong[p]
            strong[p] = np.where(wins, attack, strong[p])
            labels[p] = np.where(wins, before_labels[q], labels[p])
        changed = not (np.array_equal(strong, before) and np.array_equal(labels, before_labels))
    return labels, strong


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, GrowCutConfig]:
    height, width, channels = draw(st.integers(1, 14)), draw(st.integers(1, 14)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = random.random((height, width, channels)) ** draw(st.sampled_from([0.2, 1, 5])) * draw(
        st.sampled_from([1, 1e-3, 1e6])
    )
    seeds = np.where(random.random((height, width)) < draw(st.sampled_from([0.02, 0.2])), 1, 0)
    seeds *= random.integers(1, 5, (height, width))
    seeds[random.integers(height), random.integers(width)] = draw(st.integers(1, 9))
    strengths = random.random((height, width)) if draw(st.booleans()) else np.ones((height, width))
    config = GrowCutConfig(neighbours=draw(st.sampled_from([4, 8])), leak=draw(st.sampled_from([0, 1e-3, 0.5])))
    return image, seeds.astype(np.int32), strengths, config


@settings(max_examples=150, deadline=None)
@given(problems())
def test_it_is_where_the_automaton_ends(problem: tuple[np.ndarray, np.ndarray, np.ndarray, GrowCutConfig]) -> None:
    image, seeds, strengths, config = problem
    labels, strong = automaton(image, seeds, strengths, config)
    found = conquer(image, seeds, strengths, config)
    np.testing.assert_allclose(found.strengths, strong, rtol=1e-8, atol=1e-300)
    np.testing.assert_array_equal(found.labels, labels)
    if (strengths == 1).all():
        np.testing.assert_array_equal(grow_cut(image, seeds, config), labels)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 4))
def test_ties_of_whole_numbers_change_no_strength(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, GrowCutConfig], levels: int
) -> None:
    image, seeds, _, config = problem
    whole = np.rint(image / image.max() * levels).astype(np.uint8)
    ones = np.ones(seeds.shape)
    _, strong = automaton(whole, seeds, ones, config)
    found = conquer(whole, seeds, None, config)
    np.testing.assert_allclose(found.strengths, strong, rtol=1e-8, atol=1e-300)
    np.testing.assert_array_equal(found.labels > 0, strong > 0)
    np.testing.assert_array_equal(found.labels[seeds > 0], seeds[seeds > 0])


def test_on_a_plain_picture_the_first_to_arrive_wins() -> None:
    seeds = np.zeros((5, 11), np.int32)
    seeds[2, 1], seeds[2, 8] = 7, 4
    found = grow_cut(np.full((5, 11), 3, np.uint8), seeds)
    # in steps to any of 8 neighbours: columns 0..4 are nearer to column 1, from 5 on to column 8
    assert (found[:, :5] == 7).all() and (found[:, 5:] == 4).all()


def test_greatest_contrast_is_a_wall_without_a_leak() -> None:
    image = np.zeros((7, 7))
    image[2:5, 2:5] = 1
    image[3, 3] = 0
    seeds = np.zeros((7, 7), np.int32)
    seeds[0, 0] = 1
    walled = grow_cut(image, seeds, GrowCutConfig(leak=0))
    assert (walled[2:5, 2:5] == 0).all() and (walled == 1).sum() == 49 - 9
    assert (grow_cut(image, seeds) == 1).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_])
def test_kind_and_scale_of_numbers_do_not_matter(kind: type) -> None:
    random = np.random.default_rng(3)
    image = random.integers(0, 2, (12, 15, 3)) * (1 if kind is np.bool_ else 100)
    seeds = np.zeros((12, 15), np.uint8)
    seeds[2, 2], seeds[9, 12] = 1, 2
    np.testing.assert_array_equal(grow_cut(image.astype(kind), seeds), grow_cut(image.astype(np.float64), seeds))


def test_two_noisy_halves_from_a_dot_in_each() -> None:
    random = np.random.default_rng(0)
    truth = np.ones((60, 80), np.int32)
    truth[:, 37:] = 2
    image = truth * 0.4 + random.normal(0, 0.03, truth.shape)
    seeds = np.zeros_like(truth)
    seeds[30, 5], seeds[10, 70] = 1, 2
    assert (grow_cut(image, seeds) == truth).mean() > 0.99


def test_a_seed_of_strength_zero_attacks_nobody() -> None:
    seeds = np.array([[1, 0, 0, 2]])
    found = conquer(np.zeros((1, 4)), seeds, np.array([[1, 1, 1, 0.0]]))
    np.testing.assert_array_equal(found.labels, [[1, 1, 1, 1]])
    np.testing.assert_allclose(found.strengths, 1)


def test_strengths_are_one_number_a_pixel() -> None:
    with pytest.raises(DataError, match="one number in"):
        conquer(np.zeros((3, 4)), np.ones((3, 4), int), np.ones((4, 3)))
    with pytest.raises(DataError, match="reaches from 2 to 2"):
        conquer(np.zeros((3, 4)), np.ones((3, 4), int), np.full((3, 4), 2.0))
