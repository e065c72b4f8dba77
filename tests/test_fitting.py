"""From a folder to a run: what is planned, completed, kept, refused, and when a training is over."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from shell import TINY, draw

from intarsia.config import Config, DataConfig, validate
from intarsia.data.augment import AugmentConfig
from intarsia.errors import DataError, UsageError
from intarsia.fitting import Fitted, configured, fit, overrides_of
from intarsia.models.semantic import UNetConfig
from intarsia.runs import Run
from intarsia.training.config import TrainConfig


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw(tmp_path / "pictures")


def trained(pictures: Path, name: str = "run", steps: int | None = 4, **options: Any) -> Fitted:
    return fit(pictures, run=pictures.parent / name, settings=TINY, steps=steps, **options)


def whole(run: Run) -> dict[str, bytes]:
    """What a training must not lose."""
    kept = ("weights.safetensors", "best.safetensors", "state.pt", "config.toml", "classes.json", "data.json")
    return {name: (run.folder / name).read_bytes() for name in kept}


def test_a_run_says_how_it_came_about(pictures: Path) -> None:
    lines: list[str] = []
    shown: list[int] = []
    fitted = trained(
        pictures, say=lines.append, show=lambda training, losses, speed: shown.append(training.progress.step)
    )
    assert (fitted.steps, fitted.resumed, fitted.measurable) == (4, False, True)
    assert 0 <= fitted.best <= 1 and fitted.seconds > 0
    assert shown == [1, 2, 3] and any(line.startswith("planned: unet") for line in lines) and "done" in lines[-1]
    config = (fitted.run.config_path).read_text()
    assert f'folder = "{pictures}"' in config and "classes = 5" in config and " # of the training pictures" in config
    assert json.loads((fitted.run.folder / "data.json").read_text())["labelled"] == 10
    assert [row["step"] for row in fitted.run.read_metrics() if "validation/mean_iou" in row] == [3, 4]
    assert not list(fitted.run.folder.glob(".*.part"))


def test_the_same_again_changes_nothing(pictures: Path) -> None:
    first = trained(pictures)
    before = whole(first.run)
    lines: list[str] = []
    again = trained(pictures, say=lines.append)
    assert again.resumed and again.steps == 4 and again.best == first.best and "finished" in lines[-1]
    assert fit(run=first.run.folder).steps == 4, "the run's own configuration is enough"
    assert whole(first.run) == before


def test_equal_seeds_give_equal_files_and_others_do_not(pictures: Path) -> None:
    files = [
        trained(pictures, f"run{i}", seed=seed).run.weights_path().read_bytes() for i, seed in enumerate((1, 1, 2))
    ]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("budget", "steps"), [({"steps": 3}, 3), ({"epochs": 0.5}, 3), ({"epochs": 1}, 5), ({"minutes": 0.01}, None)]
)
def test_budgets(pictures: Path, budget: dict[str, float], steps: int | None) -> None:
    fitted = fit(pictures, run=pictures.parent / "run", settings=TINY, **budget)
    if steps is not None:
        assert fitted.steps == steps
    else:
        assert 0.6 <= fitted.seconds < 5 and fitted.steps > 1
    again = fit(run=fitted.run.folder)
    assert (again.steps, again.seconds, again.resumed) == (fitted.steps, fitted.seconds, True)


def test_minutes_go_on_where_a_stop_left_them(pictures: Path) -> None:
    class Enough(Exception):
        pass

    def stop(training: Any, losses: dict[str, float], speed: float) -> None:
        if training.progress.step == 3:
            raise Enough

    with pytest.raises(Enough):
        trained(pictures, steps=None, minutes=0.02, show=stop)
    run = Run(pictures.parent / "run")
    state = run.read_state()
    assert state is not None and state["progress"]["step"] == 2
    fitted = trained(pictures, steps=None, minutes=0.02)
    assert fitted.resumed and fitted.steps > 3
    assert 1.2 <= fitted.seconds < 8, "the first sitting's seconds count"
    with pytest.raises(UsageError, match=r"train.minutes: 0.02 -> 0.03"):
        trained(pictures, steps=None, minutes=0.03)


def test_a_configuration_in_python(pictures: Path) -> None:
    config = Config(
        model=UNetConfig(width=4, depth=2),
        augment=AugmentConfig(crop=(32, 32)),
        train=TrainConfig(batch=2, threads=1, precision="32-true"),
    )
    fitted = fit(pictures, run=pictures.parent / "run", config=config, steps=2)
    assert fitted.steps == 2
    written = fitted.run.read_config()
    assert written["model"]["classes"] == 5 and len(written["model"]["mean"]) == 3, "what the data says is filled in"
    assert fit(pictures, run=fitted.run.folder, config=config, steps=2).resumed


def test_another_configuration_is_refused_with_what_differs(pictures: Path) -> None:
    fitted = trained(pictures)
    before = whole(fitted.run)
    for options, difference in (
        ({"steps": 5}, "train.steps: 4 -> 5"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"labelled": 3}, "data.labelled: None -> 3"),
        ({"model": "segnet"}, "model.name: unet -> segnet"),
    ):
        with pytest.raises(UsageError, match=difference):
            fit(pictures, run=fitted.run.folder, **options)
    with pytest.raises(UsageError, match=r"train\.precision: 32-true -> bf16-mixed"):
        fit(run=fitted.run.folder, settings={"train.precision": "bf16-mixed"})
    assert whole(fitted.run) == before


def test_what_changes_no_result_may_change(pictures: Path) -> None:
    fitted = trained(pictures)
    neutral = {"train.workers": 0, "train.checkpoint_seconds": 50, "data.cache_megabytes": 1}
    assert fit(run=fitted.run.folder, settings=neutral).resumed
    automatic = validate(
        fitted.run.read_config() | {"train": fitted.run.read_config()["train"] | {"precision": "auto"}}, ""
    )
    assert fit(run=fitted.run.folder, config=automatic).resumed, "what was measured then holds"


def test_other_classes_or_pictures_are_refused(pictures: Path) -> None:
    fitted = trained(pictures)
    before = whole(fitted.run)
    table = (pictures / "classes.toml").read_text()
    (pictures / "classes.toml").write_text(table.replace("disk", "disc"))
    with pytest.raises(UsageError, match=r"begun with the classes background, disk.*now has background, disc"):
        trained(pictures)
    (pictures / "classes.toml").write_text(table)
    (pictures / "images" / "scene_0001.png").rename(pictures.parent / "aside.png")
    with pytest.raises(UsageError, match=r"other pictures \(train: 10 -> 9, labelled: 10 -> 9"):
        trained(pictures)
    (pictures.parent / "aside.png").rename(pictures / "images" / "scene_0001.png")
    assert trained(pictures).resumed
    assert whole(fitted.run) == before


def test_pictures_that_moved_are_found_again(pictures: Path) -> None:
    fitted = trained(pictures)
    comments = fitted.run.config_path.read_text().count("#")
    moved = pictures.rename(pictures.parent / "moved")
    with pytest.raises(DataError, match="pictures does not exist"):
        fit(run=fitted.run.folder)
    assert fit(moved, run=fitted.run.folder).resumed
    text = fitted.run.config_path.read_text()
    assert f'folder = "{moved}"' in text and text.count("#") == comments
    assert fit(run=fitted.run.folder).resumed


def test_relative_paths_are_kept_absolute(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    (pictures / "classes.toml").rename("table.toml")
    fit("pictures", settings=TINY | {"data.classes": "table.toml"}, steps=2)
    run = Run(pictures.parent / "runs" / "pictures")
    data = run.read_config()["data"]
    assert (data["folder"], data["classes"]) == (str(pictures), str(pictures.parent / "table.toml"))
    monkeypatch.chdir("/")
    assert fit(run=run.folder).resumed


def test_nothing_to_validate_on(pictures: Path) -> None:
    (pictures / "val.txt").unlink()
    (pictures / "train.txt").unlink()
    fitted = fit(pictures, run=pictures.parent / "run", settings=TINY | {"data.validation": 0}, steps=2)
    assert math.isnan(fitted.best) and not fitted.measurable
    assert not fitted.run.weights_path("best").exists() and fitted.run.weights_path().exists()
    assert fit(run=fitted.run.folder).resumed


def test_more_classes_in_the_configuration_than_in_the_folder(pictures: Path) -> None:
    with pytest.raises(UsageError, match=r"model.classes = 7, but .* has 5 \(background, disk"):
        trained(pictures, config=Config(model=UNetConfig(classes=7)))


def test_a_state_of_another_model_is_refused(pictures: Path) -> None:
    fitted = trained(pictures)
    wider = fit(pictures, run=pictures.parent / "wider", settings=TINY | {"model.width": 6}, steps=2)
    state = (wider.run.state_path).read_bytes()
    fitted.run.state_path.write_bytes(state)
    with pytest.raises(UsageError, match=r"state\.pt does not fit"):
        fit(run=fitted.run.folder)
    assert fitted.run.state_path.read_bytes() == state


def test_a_lost_state_begins_anew(pictures: Path) -> None:
    fitted = trained(pictures)
    before = fitted.run.weights_path().read_bytes()
    fitted.run.state_path.unlink()
    assert fit(run=fitted.run.folder).steps == 4
    assert fitted.run.weights_path().read_bytes() == before


def test_a_folder_that_is_missing_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        fit(tmp_path / "nowhere", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="nothing to train on"):
        fit()


def test_shorthands_and_settings() -> None:
    settings = {"train.batch": 3, "model.width": 5}
    assert overrides_of("in", settings, None, 7, None, "unet", 2, 9) == settings | {
        "train.steps": 7, "model.name": "unet", "data.labelled": 2, "seed": 9, "data.folder": "in",
    }  # fmt: skip
    with pytest.raises(UsageError, match="minutes and steps"):
        overrides_of(None, None, 1, 2, None, None, None, None)


def test_a_misspelt_setting_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'batch'"):
        configured(None, None, {"data.folder": str(tmp_path / "nowhere"), "train.bach": 4}, lambda line: None)


def test_settings_of_the_planned_model_need_no_name(pictures: Path) -> None:
    asked = {"data.folder": str(pictures), "model.width": 5, "model.loss.terms.dice": 0.5, "train.steps": 2}
    config, reasons, _ = configured(None, None, asked, lambda line: None)
    assert isinstance(config.model, UNetConfig) and config.model.width == 5
    assert config.model.loss.terms["dice"] == 0.5 and "train.batch" in reasons


def test_text_in_quotes_is_the_same_text(pictures: Path) -> None:
    asked = {"data.folder": str(pictures), "train.device": '"cpu"', "model.name": '"fcn"', "train.steps": "2"}
    config, _, _ = configured(None, None, asked, lambda line: None)
    assert (config.train.device, config.model.name, config.train.steps) == ("cpu", "fcn", 2)


def test_a_given_configuration_comes_before_the_runs_own(pictures: Path) -> None:
    fitted = trained(pictures)
    data = DataConfig(folder=str(pictures))
    config, _, _ = configured(fitted.run, Config(data=data, seed=5), {}, lambda line: None)
    assert config.seed == 5
    config, _, _ = configured(fitted.run, None, {}, lambda line: None)
    assert (config.seed, config.model.classes) == (0, 5)
