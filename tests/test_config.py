"""The configuration: what is misspelt is named, what is written is read back, what is asked for is kept."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.config import Config, DataConfig, differences, read_config, to_toml, validate
from intarsia.errors import UsageError
from intarsia.losses import LossConfig
from intarsia.models.semantic import FCNConfig, UNetConfig
from intarsia.training.config import TrainConfig


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("dotted", "value", "nearest"),
    [
        ("train.stpes", 5, "'steps'"),
        ("train.learning_rat", 0.1, "'learning_rate'"),
        ("augment.flip_horizontaly", 1, "'flip_horizontal'"),
        ("data.validaton", 0.1, "'validation'"),
        ("model.widht", 8, "'width'"),
        ("model.loss.class_weight", "sqrt", "'class_weights'"),
        ("model.loss.background_", True, "'background'"),
        ("sed", 5, "'seed'"),
    ],
)
def test_a_misspelt_setting_names_the_nearest(dotted: str, value: Any, nearest: str) -> None:
    overrides = {dotted: value, **({"model.name": "unet"} if dotted.startswith("model") else {})}
    with pytest.raises(UsageError) as caught:
        read_config(None, overrides)
    assert f"{dotted} is no setting; did you mean {nearest}?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_setting_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"train\.xyzzy is no setting; known are steps, epochs, minutes, "):
        read_config(None, {"train.xyzzy": 1})


def test_a_misspelt_setting_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[model]\nname = "fcn"\ndropuot = 0.1\n')
    with pytest.raises(UsageError, match=r"config\.toml: model\.dropuot is no setting; did you mean 'dropout'"):
        read_config(path)


def test_a_misspelt_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'deeplap' is no model; did you mean 'deeplab'.*there are fcn, unet"):
        read_config(None, {"model.name": "deeplap"})
    with pytest.raises(UsageError, match=r"\[model\] needs a name, one of fcn, unet"):
        read_config(None, {"model.width": 8})


@pytest.mark.parametrize(
    ("dotted", "value", "words"),
    [
        ("train.batch", "0", "train.batch = 0: input should be greater than or equal to 1"),
        ("train.optimizer", "adan", "train.optimizer = 'adan': input should be 'sgd', 'momentum'"),
        ("train.steps", "many", "train.steps = 'many'"),
        ("train.learning_rate", "nan", "train.learning_rate"),
        ("model", '{name = "instance_segnet", unit = inf}', "model.unit"),
        ("train.betas", "[0.9, 1.0]", "train.betas"),
        ("model.loss.terms.dcie", "1", "model.loss.terms.dcie = 'dcie': input should be 'cross_entropy', 'focal', "),
        ("augment.scale", "[2.0, 1.0]", "the smallest factor comes first: [1, 2]."),
        ("train", "5", "train = 5"),
        ("train.steps.more", "5", "train.steps.more can't be set: steps is a value, not a section."),
    ],
)
def test_a_value_that_makes_no_sense_is_named(dotted: str, value: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(None, {dotted: value}, Config(train=TrainConfig(steps=3)))
    assert words in str(caught.value)


def test_two_budgets_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "[train]\nsteps = 5\nminutes = 1\n")
    with pytest.raises(UsageError, match=r"train: steps and minutes are all given; give exactly one"):
        read_config(path)
    with pytest.raises(UsageError, match=r"train\.steps and train\.epochs are all given"):
        read_config(None, {"train.epochs": 2, "train.steps": 5})


def test_a_budget_takes_the_place_of_another(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, "[train]\nsteps = 5\n"), {"train.minutes": "2"})
    assert (config.train.steps, config.train.minutes) == (None, 2.0)


@pytest.mark.parametrize(
    ("dotted", "text", "expected"),
    [
        ("train.steps", "500", 500),
        ("train.learning_rate", "3e-4", 3e-4),
        ("train.optimizer", "sgd", "sgd"),
        ("train.optimizer", '"sgd"', "sgd"),
        ("augment.crop", "[128, 192]", (128, 192)),
        ("augment.mix", "classmix", "classmix"),
        ("data.folder", "cells", "cells"),
        ("data.folder", "2018", "2018"),
        ("data.folder", "true", "true"),
        ("data.classes", "1e5", "1e5"),
        ("data.leave_out", '["north", "south"]', ("north", "south")),
        ("data.labelled", "7", 7),
    ],
)
def test_overrides_are_read_as_toml(dotted: str, text: str, expected: Any) -> None:
    section, name = dotted.split(".")
    assert getattr(getattr(read_config(None, {dotted: text}), section), name) == expected


def test_overrides_need_not_be_text() -> None:
    config = read_config(None, {"model": {"name": "unet"}, "model.loss.terms": {"dice": 1.0}, "train.warmup": 0.1})
    assert config.model.loss.terms == {"dice": 1.0}
    assert config.train.warmup == 0.1
    assert read_config(None, {"model.encoder": "plain", "model.name": "unet"}).model == UNetConfig()


@pytest.mark.parametrize("base", [None, Config(), Config(model=FCNConfig(dropout=0.5))])
def test_the_order_of_overrides_does_not_matter(base: Config | None) -> None:
    name, width = {"model.name": "unet"}, {"model.width": 8}
    assert read_config(None, width | name, base) == read_config(None, name | width, base)
    assert read_config(None, width | name, base).model == UNetConfig(width=8)
    with pytest.raises(UsageError, match="did you mean 'width'"):
        read_config(None, {"model.widht": 8, "model.name": "unet"}, base)


def test_another_model_keeps_what_the_pictures_say_and_drops_what_is_the_other_models() -> None:
    base = Config(model=FCNConfig(classes=5, channels=1, dropout=0.5, loss=LossConfig(terms={"dice": 1.0})))
    model = read_config(None, {"model.name": "unet"}, base).model
    assert model == UNetConfig(classes=5, channels=1, loss=LossConfig(terms={"dice": 1.0}))


def test_what_a_base_leaves_open_stays_open() -> None:
    """`fit` fills in what nobody gave: a default is not to be taken for a wish."""
    config = read_config(None, {"train.batch": 4}, Config(model=UNetConfig(width=8)))
    assert config.model.model_fields_set == {"name", "width"}
    assert config == Config(model=UNetConfig(width=8), train=TrainConfig(batch=4))


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; `intarsia plan FOLDER` writes"):
        read_config(tmp_path / "config.toml")
    with pytest.raises(UsageError, match="can't be read as TOML"):
        read_config(written(tmp_path, "[train\n"))
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="can't be read as TOML"):
        read_config(tmp_path / "config.toml")
    with pytest.raises(UsageError):
        read_config(tmp_path)


def test_differences_are_a_line_each() -> None:
    ours = Config(train=TrainConfig(steps=500), data=DataConfig(labelled=20))
    theirs = Config(train=TrainConfig(steps=600), model=FCNConfig())
    lines = differences(ours, theirs)
    assert "train.steps: 500 -> 600" in lines
    assert "data.labelled: 20 -> None" in lines
    assert "model.name: unet -> fcn" in lines
    assert not any(line.startswith(("train.batch", "model.channels")) for line in lines)
    assert differences(ours, ours) == []


def test_the_toml_tells_its_reasons() -> None:
    config = Config(train=TrainConfig(steps=500, batch=4), data=DataConfig(folder="cells", leave_out=("a#b",)))
    reasons = {
        "seed": "any will do", "train.batch": "fits\ninto memory", "model": "the sturdiest",
        "model.loss.terms.cross_entropy": "counts pixels", "train.minutes": "is not there",
    }  # fmt: skip
    text = to_toml(config, reasons, ("Made for a test,", "in two lines."))
    assert text.startswith("# Made for a test,\n# in two lines.\n")
    assert "seed = 0 # any will do\n" in text
    assert "batch = 4 # fits into memory\n" in text
    assert "cross_entropy = 1.0 # counts pixels\n" in text
    assert "[model]\n# the sturdiest\n" in text
    assert "is not there" not in text
    assert validate(tomllib.loads(text), "the text") == config


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(
    texts, texts, st.integers(0, 2**31 - 1), st.floats(1e-6, 1.0), st.floats(0.1, 1.0),
    st.sampled_from(["unet", "fcn"]), st.lists(st.floats(0, 10), min_size=2, max_size=2),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_any_configuration_survives_the_file(
    folder: str, reason: str, seed: int, rate: float, scale: float, name: str, weights: list[float]
) -> None:
    tree = {
        "seed": seed,
        "data": {"folder": folder},
        "model": {"name": name, "loss": {"weights": weights, "terms": {"dice": 0.5, "focal": rate}}},
        "augment": {"scale": [scale, 1.5]},
        "train": {"learning_rate": rate, "epochs": 1 + rate},
    }
    config = validate(tree, "the tree")
    text = to_toml(config, {"train.learning_rate": reason, "data.folder": reason, "model.loss": reason}, (reason,))
    assert validate(tomllib.loads(text), "the text") == config
