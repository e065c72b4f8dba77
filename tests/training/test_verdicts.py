"""Numbers to words: alarms where there is cause, none where there is not. Models made to fail: test_generation.py."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest

from intarsia.config import Config
from intarsia.models import MODELS
from intarsia.training import verdicts as module
from intarsia.training.verdicts import (
    Variety,
    alarms,
    class_chance,
    code_use,
    codebook_use,
    critic_balance,
    likeness,
    lost_classes,
    memorising,
    mode_collapse,
    over_fitting,
    posterior_collapse,
    sharpness,
    worst_first,
)


def collapse(active: int, of: int, kl: float) -> str:
    return posterior_collapse(np.full(of, kl / of), np.arange(of) < active).level


def test_a_posterior_that_says_nothing_has_collapsed() -> None:
    assert collapse(0, 32, 0.0) == "bad"
    assert collapse(5, 32, 0.2) == "bad"
    assert collapse(2, 64, 9.0) == "warning"
    assert collapse(12, 64, 25.0) == "good"  # a latent with more dimensions than the pictures need
    assert collapse(2, 2, 5.0) == "good"


def test_a_codebook_with_one_used_code_has_collapsed() -> None:
    one = np.zeros(64)
    one[3] = 1000
    assert codebook_use(one).level == "bad"
    assert codebook_use(np.where(np.arange(64) < 16, 100, 0)).level == "warning"
    assert codebook_use(np.full(64, 20)).level == "good"
    assert codebook_use(np.where(np.arange(4096) < 60, 1, 0)).level == "good"  # 60 uses can't fill 4,096 codes


def test_the_perplexity_of_codes_used_alike_is_their_number() -> None:
    assert code_use(np.array([5, 0, 5, 5, 5])) == (4, pytest.approx(4))
    assert code_use(np.zeros(3)) == (0, 0)


def test_mode_collapse_has_four_signs() -> None:
    fine = Variety(0.9, 0.95, 0.8, 0.85, 0.8, 0.85, 0.95, 0.05, 0.04)
    assert mode_collapse(fine).level == "good"
    assert mode_collapse(Variety(0.1, 0.95, 0.02, 0.85, 0.9, 0.85, 0.9)).level == "bad"  # coverage
    assert mode_collapse(Variety(0.8, 0.95, 0.1, 0.85, 0.9, 0.85, 0.9)).level == "warning"  # recall
    assert mode_collapse(Variety(diversity=0.1)).level == "bad"
    assert mode_collapse(Variety(diversity=0.5)).level == "warning"
    assert mode_collapse(Variety(unevenness=0.9, chance=0.05, lost=("cat", "dog"))).level == "bad"
    assert "cat, dog" in mode_collapse(Variety(unevenness=0.9, lost=("cat", "dog"))).sentence
    assert mode_collapse(Variety(unevenness=0.3, chance=0.2)).level == "good"  # few pictures: chance
    assert mode_collapse(Variety()).level == "good"  # nothing was measured


def test_pictures_unlike_the_real_ones_are_another_fault_than_missing_kinds() -> None:
    bad = Variety(0.05, 0.95, 0.05, 0.85, 0.05, 0.85, 0.95)
    assert mode_collapse(bad).level == "good"
    assert likeness(bad.precision, bad.precision_real).level == "bad"
    assert likeness(0.35, 0.85).level == "warning"
    assert likeness(0.8, 0.85).level == "good"


def test_the_critic_wins_guesses_or_knows_by_heart() -> None:
    assert critic_balance(1.0, 1.0).level == "bad"
    assert critic_balance(0.97, 0.98).level == "warning"
    assert critic_balance(1.0, 1.0, 0.5).level == "warning"  # ahead, but there is much to learn from it
    assert critic_balance(0.97, 0.98, 1e-5).level == "bad"
    assert critic_balance(0.2, 1.0).level == "warning"
    assert "by heart" in critic_balance(0.2, 1.0).sentence
    assert critic_balance(0.5, 0.5).level == "warning"
    assert critic_balance(0.75, 0.8, 0.4).level == "good"


def test_copies_are_counted_against_what_chance_gives() -> None:
    assert memorising(0.01, 0.3, 1000, 5000).level == "good"
    assert memorising(0.1, -2.0, 1000, 5000).level == "warning"
    assert memorising(0.9, -30.0, 1000, 5000).level == "bad"
    assert memorising(0.02, -12.0, 1000, 5000).level == "warning"
    assert memorising(1 / 12, 0.0, 12, 5000).level == "good"  # one of twelve


def test_over_fitting_takes_a_gap_that_is_no_chance() -> None:
    assert over_fitting(3.0, 3.05, 0.001, "bits").level == "good"
    assert over_fitting(3.0, 3.3, 0.01, "bits").level == "warning"
    assert over_fitting(3.0, 4.0, 0.01, "bits").level == "bad"
    assert over_fitting(3.0, 4.0, 0.5, "bits").level == "good"
    assert over_fitting(3.0, 4.0, math.nan, "bits").level == "good"
    assert over_fitting(-3.0, -2.0, 0.01, "bits").level == "bad"  # losses may be below 0
    assert over_fitting(3.0, 2.0, 0.01, "bits").level == "good"


def test_blur_and_noise() -> None:
    levels = [sharpness(ratio).level for ratio in (0.05, 0.4, 0.9, 3.0, 20.0)]
    assert levels == ["bad", "warning", "good", "warning", "bad"]


def test_chance_in_a_class_histogram_is_what_drawing_from_it_gives() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    random = np.random.default_rng(0)
    drawn = random.multinomial(60, shares, 2000) / 60
    assert class_chance(shares, 60) == pytest.approx(np.abs(drawn - shares).sum(axis=1).mean() / 2, rel=0.05)
    assert lost_classes(np.array([0.9, 0.1, 0.0]), shares, ("a", "b", "c")) == ("c",)


def every(settings: set[str] | None = None) -> list[module.Verdict]:
    """A verdict of each kind and level that holds advice."""
    one = np.zeros(64)
    one[3] = 1000
    return [
        posterior_collapse(np.zeros(4), np.zeros(4, bool), settings=settings),
        codebook_use(one, settings=settings),
        mode_collapse(Variety(diversity=0.1), settings=settings),
        likeness(0.0, 0.9, settings=settings),
        critic_balance(1, 1, settings=settings),
        critic_balance(0.5, 0.5, settings=settings),
        memorising(0.9, -30, 100, 100, settings=settings),
        over_fitting(1, 2, 0.01, "bits", settings=settings),
        sharpness(0.1, settings=settings),
        sharpness(9.0, settings=settings),
    ]


def test_every_alarm_gives_numbers_and_advice_and_good_news_gives_none() -> None:
    assert all(verdict.advice and re.search(r"\d", verdict.sentence) for verdict in every())
    assert all(verdict.sentence.endswith(".") and verdict.advice.endswith(".") for verdict in every())
    assert not sharpness(1.0).advice


def test_advice_names_settings_that_there_are() -> None:
    fields = {name for model in MODELS.values() for name in model.Config.model_fields}
    for verdict in every():
        assert set(re.findall(r"model\.(\w+)", verdict.advice)) <= fields
        assert set(re.findall(r"train\.(\w+)", verdict.advice)) <= set(type(Config().train).model_fields)


@pytest.mark.parametrize("name", ["vae", "gan", "pix2pix", "vqvae", "vae_gan", "diffusion", "autoencoder"])
def test_only_settings_of_the_model_are_advised_with_values_that_it_takes(name: str) -> None:
    config = MODELS[name].Config
    found = every(set(config.model_fields))
    for verdict in found:
        for setting, value in re.findall(r"`--set '?model\.(\w+)=(.+?)'?`", verdict.advice):
            assert setting in config.model_fields
            if "…" not in value:
                config(**{setting: _read(value)})
    assert all(verdict.advice for verdict in (found[2], found[6], found[8]))  # which any model may get


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def test_the_worst_comes_first_and_alarms_leave_out_good_news() -> None:
    found = worst_first([sharpness(1.0), sharpness(0.1), likeness(0.35, 0.9)])
    assert [verdict.level for verdict in found] == ["bad", "warning", "good"]
    assert set(alarms(found)) == {"blur", "likeness"}
    assert set(found[0].to_json()) == {"topic", "level", "sentence", "advice"}
