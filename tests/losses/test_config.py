"""The loss section of a configuration, and class weights made from pixel counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from intarsia.errors import DataError, UsageError
from intarsia.losses import LossConfig, class_weights

METHODS = ["none", "inverse", "median", "effective"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"term": {"dice": 1.0}},
        {"terms": {"dicee": 1.0}},
        {"terms": {}},
        {"terms": {"dice": 0.0}},
        {"terms": {"dice": -1.0, "cross_entropy": 1.0}},
        {"terms": {"dice": float("nan"), "cross_entropy": 1.0}},
        {"label_smoothing": 1.0},
        {"hardest": 0.0},
        {"weights": (-1.0, 1.0)},
        {"tversky_alpha": 0.0, "tversky_beta": 0.0},
    ],
)
def test_a_senseless_configuration_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        LossConfig(**wrong)


def test_a_configuration_survives_json_and_cannot_be_changed() -> None:
    config = LossConfig(terms={"dice": 0.5, "focal": 1.0}, weights=(1.0, 2.0))
    assert LossConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError):
        config.hardest = 0.5


def test_inverse_frequency_by_hand() -> None:
    # shares 3/4 and 1/4: weights in proportion 1 : 3, and 3/4 w + 1/4 3w = 1
    assert class_weights([300, 100], "inverse") == pytest.approx((2 / 3, 2.0))


def test_median_frequency_looks_only_at_pictures_that_show_the_class() -> None:
    # class 1 has 50 of 100 pixels where it occurs, class 0 has 150 of 200: frequencies 1/2 and 3/4
    zero, one = class_weights([[100, 0], [50, 50]], "median")
    assert one / zero == pytest.approx((3 / 4) / (1 / 2))
    assert class_weights([150, 50], "median") == pytest.approx(class_weights([150, 50], "inverse"))


def test_effective_number_between_its_two_ends() -> None:
    counts = [1000, 10]
    assert class_weights(counts, "effective", beta=0.0) == pytest.approx((1.0, 1.0))  # every pixel tells the same
    nearly_one = class_weights(counts, "effective", beta=1 - 1e-12, cap=1e9)
    assert nearly_one == pytest.approx(class_weights(counts, "inverse", cap=1e9), rel=1e-6)  # every pixel tells anew
    zero, one = class_weights(counts, "effective", beta=0.999, cap=1e9)
    assert one / zero == pytest.approx((1 - 0.999**1000) / (1 - 0.999**10))


def test_effective_number_does_not_depend_on_the_resolution() -> None:
    small, large = ([n * scale for n in (9_000, 900, 100)] for scale in (1, 10_000))
    assert class_weights(small, "effective") == pytest.approx(class_weights(large, "effective"), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_absent_classes_weigh_one_and_no_labels_at_all_is_fine(method: str) -> None:
    assert class_weights([70, 0, 30], method)[1] == 1.0
    assert class_weights([0, 0], method) == (1.0, 1.0)
    assert class_weights([5], method) == pytest.approx((1.0,))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=12), st.sampled_from(METHODS))
def test_weights_are_positive_have_a_pixel_mean_of_one_and_obey_the_cap(counts: list[int], method: str) -> None:
    pixels = np.array(counts, dtype=float)
    free = np.array(class_weights(counts, method, cap=1e30))
    assert (free > 0).all()
    if pixels.sum():
        assert (free * pixels).sum() / pixels.sum() == pytest.approx(1)
    np.testing.assert_allclose(class_weights(counts, method, cap=3.0), np.minimum(free, 3.0))


def test_wrong_counts_and_settings_are_said() -> None:
    with pytest.raises(DataError, match="pixel counts"):
        class_weights([-1, 3], "inverse")
    with pytest.raises(DataError, match="pixel counts"):
        class_weights([], "inverse")
    with pytest.raises(UsageError, match="beta"):
        class_weights([1, 3], "effective", beta=1.0)
    with pytest.raises(UsageError, match="cap"):
        class_weights([1, 3], "inverse", cap=0)
