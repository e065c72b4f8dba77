"""The plan: what it makes of drawn scenes and of small sets made to show one thing, and that it says why."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intarsia.config import Config, DataConfig, validate
from intarsia.data.classes import ClassTable, write_class_table
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.data.sets import Sets, open_sets
from intarsia.drawing import write_mask
from intarsia.errors import UsageError
from intarsia.models import MODELS
from intarsia.plan import Plan, crop_for, finds_up, make_plan, time_step
from intarsia.records import IGNORE, Classes, Mask

SIZE = (48, 64)
Draw = Callable[[int, np.random.Generator], Mask]


def set_of(root: Path, draw: Draw, names: tuple[str, ...], channels: tuple[int, ...] = (3,) * 6) -> Sets:
    """Pictures of noise with these channels, with masks by `draw(number, generator)`."""
    for part in ("images", "masks"):
        (root / part).mkdir()
    classes = Classes.named(names)
    write_class_table(root / "classes.toml", ClassTable(classes, ignore=(255,)))
    for number, count in enumerate(channels):
        generator = np.random.default_rng(number)
        name = f"picture{chr(97 + number)}"
        np.save(root / "images" / f"{name}.npy", generator.integers(0, 256, (*SIZE, count), np.uint8))
        write_mask(root / "masks" / f"{name}.png", draw(number, generator), classes)
    return open_sets(root, validation=0)


def road_and_sky(number: int, generator: np.random.Generator) -> Mask:
    """Sky above, road below, a few trees anywhere."""
    mask = np.zeros(SIZE, np.int16)
    mask[generator.integers(18, 30) :] = 1
    mask[5:40, 10 * number : 10 * number + 5] = 2
    return mask


def blobs(number: int, generator: np.random.Generator) -> Mask:
    """A tenth to a quarter of the picture is class 1, wherever."""
    mask = np.zeros(SIZE, np.int16)
    for i in range(8):
        y, x = 12 * (i // 2) % SIZE[0], 12 * generator.integers(0, 5)
        mask[y : y + 8, x : x + 8] = 1
    return mask


def specks(number: int, generator: np.random.Generator) -> Mask:
    """Thirds of two classes on a ground, and a hundredth of a third one."""
    mask = np.zeros(SIZE, np.int16)
    mask[:, (np.arange(SIZE[1]) // 4) % 3 == 1] = 1
    mask[:, (np.arange(SIZE[1]) // 4) % 3 == 2] = 2
    y, x = generator.integers(0, SIZE[0] - 6), generator.integers(0, SIZE[1] - 6)
    mask[y : y + 6, x : x + 6] = 3
    return mask


def plan_of(sets: Sets, **options: Any) -> Plan:
    return make_plan(sets, DataConfig(folder="pictures"), **{"measure": False, "device": "cpu", **options})


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def without_reason(plan: Plan) -> set[str]:
    """Settings that are not at their default and have no reason of their own nor one for their section."""
    default = Config(model=MODELS[plan.config.model.name].Config())  # type: ignore[arg-type]
    given, usual = (flat(config.model_dump(mode="json")) for config in (plan.config, default))
    chosen = {key for key, value in given.items() if value != usual.get(key) and not key.startswith(("data.", "seed"))}
    return chosen - plan.reasons.keys()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    return open_sets(write_scenes(tmp_path_factory.mktemp("scenes"), 10, SceneConfig(height=48, width=64)))


@pytest.fixture
def street(tmp_path: Path) -> Sets:
    return set_of(tmp_path, road_and_sky, ("sky", "road", "tree"))


@pytest.fixture
def cells(tmp_path: Path) -> Sets:
    return set_of(tmp_path, blobs, ("background", "cell"))


def test_what_has_an_up_is_not_turned_over(street: Sets) -> None:
    assert finds_up(street)
    plan = plan_of(street)
    assert (plan.config.augment.flip_vertical, plan.config.augment.transpose) == (0, 0)
    assert plan.config.augment.flip_horizontal == 0.5
    assert "which way is up" in plan.reasons["augment.flip_vertical"]


def test_what_has_none_is_seen_in_all_eight_orientations(cells: Sets) -> None:
    assert not finds_up(cells)
    plan = plan_of(cells)
    assert (plan.config.augment.flip_vertical, plan.config.augment.transpose) == (0.5, 0.5)
    assert plan.config.augment.shadow == 0


def test_a_rare_class_is_counted_alike_and_sought_out(tmp_path: Path) -> None:
    sets = set_of(tmp_path, specks, ("ground", "stripe", "other stripe", "speck"))
    plan = plan_of(sets)
    loss = plan.config.model.loss
    assert loss.terms == {"cross_entropy": 1.0, "dice": 0.5}
    assert loss.class_weights == "sqrt" and loss.weights is not None
    assert loss.weights[3] > 3 * max(loss.weights[:3])
    assert plan.config.augment.rare_crops > 0
    assert "speck" in plan.reasons["model.loss.terms.dice"] and "speck" in plan.reasons["augment.rare_crops"]
    assert "stripe" not in plan.reasons["augment.rare_crops"]


def test_without_a_rare_class_there_is_nothing_to_seek(street: Sets) -> None:
    plan = plan_of(street)
    assert plan.config.augment.rare_crops == 0
    assert plan.config.model.loss.terms == {"cross_entropy": 1.0}
    assert plan.config.model.loss.weights is None


def test_pixels_that_nobody_labelled_are_no_class(tmp_path: Path) -> None:
    def half_known(number: int, generator: np.random.Generator) -> Mask:
        mask = blobs(number, generator)
        mask[:, : SIZE[1] // 2] = IGNORE
        return mask

    plan = plan_of(set_of(tmp_path, half_known, ("background", "cell")))
    assert plan.config.model.classes == 2


@pytest.mark.parametrize(
    ("channels", "expected"),
    [((1, 1, 1, 1), 1), ((3, 3, 3), 3), ((1, 1, 1, 3), 3), ((3, 3, 1), 3), ((4, 4, 4, 3), 3), ((5, 5), 5), ((2, 2), 2)],
)
def test_channels_and_their_statistics(tmp_path: Path, channels: tuple[int, ...], expected: int) -> None:
    sets = set_of(tmp_path, blobs, ("background", "cell"), channels)
    model = plan_of(sets).config.model
    assert model.channels == expected
    assert len(model.mean) == len(model.deviation) and len(model.mean) in (1, expected)
    assert model.mean == pytest.approx((0.5,) * len(model.mean), abs=0.02)  # of even noise
    assert model.deviation == pytest.approx((12**-0.5,) * len(model.mean), abs=0.02)
    assert plan_of(sets).config.augment.tint == (0.1 if expected == 3 else 0)


def test_the_fourth_channel_of_most_is_no_part_of_the_statistics(tmp_path: Path) -> None:
    """Three of four pictures are RGBA, one RGB: what is learnt from is RGB."""
    sets = set_of(tmp_path, blobs, ("background", "cell"), (4, 4, 4, 3))
    for path in (tmp_path / "images").iterdir():
        picture = np.load(path)
        if picture.shape[2] == 4:
            picture[..., 3] = 255
            np.save(path, picture)
    sets = open_sets(tmp_path, validation=0)
    assert plan_of(sets).config.model.mean == pytest.approx((0.5,) * 3, abs=0.02)


def test_overlapping_classes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(0)
    for name in ("pictureA", "pictureB"):
        np.save(tmp_path / "images" / f"{name}.npy", generator.integers(0, 256, (*SIZE, 3), np.uint8))
        for kind in ("wall", "window"):
            (tmp_path / "masks" / kind).mkdir(parents=True, exist_ok=True)
            plane = generator.integers(0, 2, SIZE).astype(np.int16)
            write_mask(tmp_path / "masks" / kind / f"{name}.png", plane, Classes.named(["no", "yes"]))
    plan = plan_of(open_sets(tmp_path, validation=0))
    assert plan.config.model.overlapping and plan.config.model.classes == 2
    assert plan.config.model.loss.weights is None
    assert without_reason(plan) == set()


@pytest.mark.parametrize("draw", [road_and_sky, blobs, specks])
@pytest.mark.parametrize("options", [{}, {"model": "deeplab"}, {"steps": 50}, {"minutes": 3}, {"model": "unet"}])
def test_every_choice_has_a_reason_and_every_reason_a_choice(
    tmp_path: Path, draw: Draw, options: dict[str, Any]
) -> None:
    plan = plan_of(set_of(tmp_path, draw, ("a", "b", "c", "d")), **options)
    assert without_reason(plan) == set()
    text = plan.to_toml()
    assert validate(tomllib.loads(text), "the plan") == plan.config
    for key, reason in plan.reasons.items():
        (line,) = [line for line in text.splitlines() if line.endswith(f"# {reason}")]
        assert line.startswith(f"{key.rpartition('.')[2]} = ")


def test_a_reason_is_not_that_somebody_asked_where_nobody_did(street: Sets) -> None:
    assert "asked" not in plan_of(street).reasons["train.minutes"]
    assert "asked" in plan_of(street, minutes=3).reasons["train.minutes"]
    assert plan_of(street, minutes=3).config.train.minutes == 3
    assert "asked" in plan_of(street, steps=7).reasons["train.steps"]
    assert plan_of(street, model="fcn").config.model.name == "fcn"


def test_the_scenes_plan_is_whole(scenes: Sets) -> None:
    plan = make_plan(scenes, DataConfig(folder="drawn", labelled=3), seed=5, device="cpu", measure=False)
    assert plan.config.seed == 5
    assert plan.config.data == DataConfig(folder="drawn", labelled=3)
    assert plan.config.model.classes == 5 and plan.config.model.channels == 3
    assert plan.config.augment.crop == (64, 64)
    assert plan.device == "cpu" and plan.seconds_per_step is None
    assert plan.to_toml().startswith("# Made by `intarsia plan`")


def test_a_model_that_does_not_exist_is_refused(street: Sets) -> None:
    with pytest.raises(UsageError, match="'fnc' is no model; did you mean 'fcn'"):
        plan_of(street, model="fnc")


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [
        ((360, 480), 288 * 384, [288, 384]),
        ((288, 384), 288 * 384, [288, 384]),
        ((1080, 1920), 288 * 384, [256, 448]),
        ((100, 100), 512 * 512, [96, 96]),
        ((20, 30), 512 * 512, [64, 64]),
        ((0, 0), 512 * 512, [64, 64]),
    ],
)
def test_crops_have_the_pictures_shape(size: tuple[int, int], pixels: int, expected: list[int]) -> None:
    assert crop_for(size, pixels) == expected


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_step_is_timed(overlapping: bool) -> None:
    tree = {
        "model": {"name": "unet", "width": 4, "depth": 1, "overlapping": overlapping},
        "augment": {"crop": [32, 32]},
        "train": {"batch": 2, "threads": 1, "precision": "32-true"},
    }
    assert 0 < time_step(validate(tree, "the test"), "cpu") < 5


def test_minutes_become_steps_by_a_measured_step(cells: Sets) -> None:
    threads = torch.get_num_threads()
    plan = plan_of(cells, minutes=10, measure=True)
    torch.set_num_threads(threads)
    assert plan.seconds_per_step is not None and plan.seconds_per_step > 0
    assert plan.config.train.steps == max(20, round(600 * 0.93 / plan.seconds_per_step))
    assert plan.config.train.minutes is None
    assert f"10 minutes at {plan.seconds_per_step:.2f} s a step" in plan.reasons["train.steps"]
    assert without_reason(plan) == set()


def test_what_was_compared_on_these_pictures_is_heard_before_the_rules(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 12, SceneConfig(height=48, width=64))
    row = {"labels": 5, "method": "fixmatch", "gain": 0.05, "interval": [0.02, 0.08],
           "settings": {"model.name": "fixmatch", "model.threshold": 0.8}}  # fmt: skip
    names = list(open_sets(folder).classes.names)

    def planned(labelled: int, **changed: Any) -> Plan:
        tree = {"made_by": "intarsia compare", "classes": names, "advice": [row | changed]}
        (folder / "advice.json").write_text(json.dumps(tree))
        data = DataConfig(folder=str(folder), labelled=labelled)
        return make_plan(open_sets(folder, labelled=labelled), data, steps=10, measure=False)

    plan = planned(5)
    model: Any = plan.config.model
    assert model.name == "fixmatch" and model.threshold == 0.8 and model.segmenter.encoder == "small"
    assert "+5.0 points" in plan.reasons["model.name"]
    unsure = planned(5, interval=[-0.01, 0.11])
    assert unsure.config.model.name == "unet" and "nothing" in unsure.reasons["model.name"]
    far = planned(9, labels=2)
    assert far.config.model.name == "unet" and "compared" not in far.reasons["model.name"]
    (folder / "advice.json").write_text("{")
    assert make_plan(open_sets(folder), DataConfig(), steps=10, measure=False).config.model.name == "unet"
