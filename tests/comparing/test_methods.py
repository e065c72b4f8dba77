"""That trainings differ in the method and in nothing else, and keep the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shell import draw

from intarsia.comparing.asked import ask
from intarsia.comparing.methods import CONTROL, METHODS, choose, configuration, methods_for, shared_tree
from intarsia.config import Config, differences
from intarsia.data.sets import Sets, open_sets
from intarsia.errors import UsageError
from intarsia.models import MODELS
from intarsia.models.semantic import UNetConfig

PLAN = Config.model_validate({
    "model": {"name": "unet", "encoder": "plain", "width": 4, "depth": 2, "channels": 3, "classes": 5,
              "mean": [0.1, 0.2, 0.3], "deviation": [0.1, 0.1, 0.1],
              "loss": {"terms": {"cross_entropy": 1.0, "dice": 0.5}, "class_weights": "sqrt",
                       "weights": [1.0, 2.0, 3.0, 4.0, 5.0]}},
    "augment": {"crop": [32, 32], "rare_crops": 0.3},
    "train": {"batch": 3, "learning_rate": 0.004, "minutes": 12},
})  # fmt: skip


def config_of(method: str, settings: dict[str, Any] | None = None, **options: Any) -> Config:
    given = {"labels": 5, "seed": 2, "steps": 70} | options
    return configuration(shared_tree(PLAN, settings or {}), METHODS[method].settings, **given)


@pytest.mark.parametrize("name", [each for each in methods_for(False) if each != CONTROL])
def test_methods_differ_from_the_control_in_the_model_alone(name: str) -> None:
    control, other = config_of(CONTROL), config_of(name)
    keys = {line.split(":")[0] for line in differences(control, other)}
    assert all(key.startswith(("model.", "train.rates")) for key in keys), keys
    inner = getattr(other.model, "segmenter", other.model)
    assert isinstance(inner, UNetConfig) and (inner.encoder, inner.width, inner.depth) == ("plain", 4, 2)
    assert other.model.loss == control.model.loss and other.model.channels == 3


def test_a_training_is_told_all_that_it_has_alike_with_others() -> None:
    config = config_of(CONTROL)
    assert (config.seed, config.data.labelled, config.data.split_seed, config.train.steps) == (2, 5, 0, 70)
    assert config.train.minutes is None and config.train.learning_rate == 0.004 and config.augment.crop == (32, 32)
    assert config.train.validate_every == 71 and config.train.patience == 0, "nothing is chosen on the way"
    given = config.model.model_fields_set
    assert not {"mean", "deviation", "classes"} & given, "the labelled pictures of each training say these"
    assert config.model.loss.weights is None and config.model.loss.class_weights == "sqrt"


def test_the_users_settings_are_everyones() -> None:
    settings = {"model.width": "8", "train.batch": "2", "model.mean": "[0.5]"}
    for name in (CONTROL, "mean_teacher"):
        config = config_of(name, settings)
        assert getattr(config.model, "segmenter", config.model).width == 8 and config.train.batch == 2
        assert config.model.mean == (0.5,)


def test_what_is_chosen() -> None:
    assert next(iter(choose("fixmatch, mean_teacher"))) == CONTROL and len(choose("fixmatch,mean_teacher")) == 3
    assert list(choose("control,fixmatch,fixmatch")) == [CONTROL, "fixmatch"]
    assert choose("all").keys() == methods_for(False).keys()
    needed = {each.settings.get("model.name", "unet") for each in choose("all").values()}
    assert needed <= MODELS.keys()
    with pytest.raises(UsageError, match="did you mean 'fixmatch'"):
        choose("fixmach")
    with pytest.raises(UsageError, match="is no method"):
        choose("fixmatch", imbalance=True)


def test_measures_against_imbalance_change_the_loss_and_the_crops_alone() -> None:
    shared = shared_tree(PLAN, {})
    methods = methods_for(True)
    plain = configuration(shared, methods[CONTROL].settings, 5, 0, 10)
    assert plain.model.loss.class_weights == "none" and plain.augment.rare_crops == 0
    assert plain.model.loss.terms == {"cross_entropy": 1.0}
    for name, method in methods.items():
        config = configuration(shared, method.settings, 5, 0, 10)
        keys = {line.split(":")[0] for line in differences(plain, config)}
        assert all(key.startswith(("model.loss.", "augment.")) for key in keys) and bool(keys) == (name != CONTROL)


def drawn(folder: Path, labels: int | None, seed: int, split_seed: int | None = 0) -> Sets:
    return open_sets(folder, labelled=labels, seed=seed, split_seed=split_seed)


def test_fewer_labels_are_among_more_and_the_judged_pictures_stay(tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", 24)
    for name in ("train.txt", "val.txt"):
        (folder / name).unlink(missing_ok=True)  # so that a seed divides them
    kept: dict[tuple[int, int], set[str]] = {}
    judged: set[tuple[str, ...]] = set()
    for seed in (0, 1, 2):
        for labels in (2, 5, 9):
            sets = drawn(folder, labels, seed)
            kept[seed, labels] = {each.name for each in sets.measures}
            judged.add(sets.splits.validation)
            assert len(kept[seed, labels]) == labels and not kept[seed, labels] & set(sets.splits.validation)
        assert kept[seed, 2] < kept[seed, 5] < kept[seed, 9]
    assert len(judged) == 1, "every seed is judged on the same pictures"
    assert len({frozenset(kept[seed, 5]) for seed in (0, 1, 2)}) > 1, "and learns from others"
    by_seed = {drawn(folder, 5, seed, None).splits.validation for seed in range(4)}
    assert len(by_seed) > 1, "without split_seed the seed divides too"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": ""}, "5,10,20,40"), ({"labels": "5,x"}, "5,10,20,40"), ({"labels": [0]}, "5,10,20,40"),
        ({"steps": 5, "minutes": 1.0}, "one budget"), ({"minutes": 0.0}, "more than 0"), ({"steps": 0}, "1 or more"),
        ({"seeds": 0}, "better 3"), ({"split": "train"}, "validation or test"),
        ({"settings": {"seed": "3"}}, "--seeds"), ({"settings": {"train.patience": "3"}}, "equally long"),
        ({"methods": "fixmach"}, "fixmatch"),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"labels": "5,10"} | options
    with pytest.raises(UsageError, match=words):
        ask("pictures", **given)


def test_labels_are_sorted_and_named_once() -> None:
    assert ask("pictures", "20, 5,20").labels == (5, 20)


def test_the_short_control_is_the_control_with_a_third_of_the_steps() -> None:
    method = METHODS["short_control"]
    assert method.length == 1 / 3 and not method.settings and method.staged  # settings alone do not say it
