"""Combinations with the real command: planned, trained on few masks, killed, gone on with, measured, predicted with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
from shell import KILL_AT, Shell, draw
from small_models import SMALL

from intarsia.models import MODELS
from intarsia.models.combined import Combination
from intarsia.runs import Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
STEPS = 6
COMBINED = sorted(name for name, model in MODELS.items() if issubclass(model, Combination))
TAUGHT = [name for name in COMBINED if MODELS[name].learns_from_unlabelled]  # type: ignore[attr-defined]


def command(model: str, folder: str = "pictures", run: str | None = None, steps: int = STEPS, **more: Any) -> list[str]:
    own = {key: value for key, value in SMALL.get(model, {}).items() if key not in ("name", "segmenter")}
    settings: dict[str, Any] = {f"model.{key}": value for key, value in own.items()}
    settings |= {"model.segmenter.encoder": "plain", "model.segmenter.width": 4, "model.segmenter.depth": 2}
    settings |= {"augment.crop": [32, 32], "train.batch": 2, "train.threads": 1, "train.precision": "32-true"}
    settings |= {"train.device": "cpu", "train.checkpoint_seconds": 0, "train.validate_every": 3, "data.labelled": 4}
    settings |= {key.replace("__", "."): value for key, value in more.items()}
    given = {key: value for key, value in settings.items() if value is not None}
    words = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return ["fit", folder, "--model", model, "--run", run or model, "--steps", str(steps), "--no-report", *words]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`: 15 drawn scenes, of which 12 are trained on."""
    room = tmp_path_factory.mktemp("combined")
    draw(room / "pictures", 15)
    return room


def weights(room: Path, run: str) -> bytes:
    return (room / run / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("model", COMBINED)
def test_every_combination_trains_and_goes_on_after_a_kill_to_the_same_weights(
    shell: Shell, room: Path, model: str
) -> None:
    done = shell.run(room, *command(model))
    assert done.code == 0, done.err
    assert "4 labelled pictures of 12" in done.out
    assert ("nobody trained" in done.out) == (model == "frozen_features")
    assert ("2 of 12 without their masks" in done.out) == (model in TAUGHT)
    kept = tomllib.loads((room / model / "config.toml").read_text())
    assert kept["train"]["unlabelled"] == (2 if model in TAUGHT else 0)
    assert kept["model"]["segmenter"]["name"] == "unet" and "classes" not in kept["model"]["segmenter"]
    killed = shell.run(room, *command(model, run=f"{model}-killed"), before=KILL_AT.format(step=4))
    assert killed.code == -signal.SIGKILL
    assert shell.run(room, *command(model, run=f"{model}-killed")).code == 0
    assert weights(room, f"{model}-killed") == weights(room, model)


@pytest.mark.parametrize("model", ["unimatch"])
def test_it_is_measured_and_predicted_with_like_any_segmenter(shell: Shell, room: Path, model: str) -> None:
    if not (room / model).exists():
        assert shell.run(room, *command(model)).code == 0
    assert shell.run(room, "evaluate", model).code == 0
    done = shell.run(room, "predict", model, "pictures/images", "--out", "answers")
    assert done.code == 0, done.err
    assert len(list((room / "answers").rglob("*.png"))) == 15
    again = shell.run(room, *command(model, run="started", train__start=str(room / model)))
    assert again.code == 0 and "started from" in again.out


def test_the_plan_is_made_for_the_segmenter_inside(shell: Shell, room: Path) -> None:
    done = shell.run(room, "plan", "pictures", "--model", "fixmatch", "--steps", "5", "--out", "plan.toml")
    assert done.code == 0, done.err
    planned = tomllib.loads((room / "plan.toml").read_text())
    assert planned["model"]["segmenter"]["encoder"] == "small"
    done = shell.run(
        room, "fit", "pictures", "--config", "plan.toml", "--run", "planned", "--steps", "1", "--no-report",
        "--set", "model.segmenter.name=fcn", "--set", "model.segmenter.encoder=tiny", "--set", "train.batch=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert Run(room / "planned").model_config().segmenter.name == "fcn"


def test_unlabelled_pictures_for_a_model_that_learns_nothing_from_them_are_refused(shell: Shell, room: Path) -> None:
    done = shell.run(room, "fit", "pictures", "--run", "r1", "--steps", "1", "--set", "train.unlabelled=4")
    assert done.code == 2 and "learns from labelled pictures alone" in done.err and "unimatch" in done.err
    done = shell.run(room, *command("fixmatch", run="r2", model__segmenter__name="unett"))
    assert done.code == 2 and "model.segmenter.name = 'unett' is no segmenter; did you mean 'unet'?" in done.err
    done = shell.run(room, *command("fixmatch", run="r3", model__segmenter__widht=3))
    assert done.code == 2 and "model.segmenter.widht is no setting; did you mean 'width'?" in done.err
    done = shell.run(room, *command("fixmatch", run="r4", model__segmenter__classes=3))
    assert done.code == 2 and "set model.classes instead" in done.err


def test_made_pairs_are_learnt_from_beside_the_real_ones_and_never_measured_on(shell: Shell, room: Path) -> None:
    made = room / "made"
    draw(made, 5)
    for path in (*(made / "images").iterdir(), *(made / "masks").iterdir()):
        path.rename(path.with_name(f"made-{path.name}"))
    for name in ("train.txt", "val.txt"):
        (made / name).unlink()
    done = shell.run(
        room, *command("fixmatch", run="with-pairs", data__generated=str(made), train__generated=1, steps=2)
    )
    assert done.code == 0, done.err
    assert "1 of 5 made pairs beside 2 real ones in each batch" in done.out
    assert json.loads((room / "with-pairs" / "data.json").read_text())["generated"] == 5
    (made / "images" / "more.png").write_bytes(next((made / "images").iterdir()).read_bytes())
    (made / "masks" / "more.png").write_bytes(next((made / "masks").iterdir()).read_bytes())
    done = shell.run(
        room, *command("fixmatch", run="with-pairs", data__generated=str(made), train__generated=1, steps=2)
    )
    assert done.code == 2 and "other pictures" in done.err
    held_back = (room / "pictures" / "val.txt").read_text().split()[0]
    for kind in ("images", "masks"):
        shutil.copy(room / "pictures" / kind / f"{held_back}.png", made / kind / f"{held_back}.png")
    done = shell.run(room, *command("fixmatch", run="leaking", data__generated=str(made)))
    assert done.code == 3 and "holds back" in done.err
    done = shell.run(room, *command("fixmatch", run="none", train__generated=3))
    assert done.code == 2 and "data.generated" in done.err


def test_regions_are_found_in_a_folder_without_any_mask(shell: Shell, room: Path) -> None:
    shutil.copytree(room / "pictures" / "images", room / "bare")
    done = shell.run(room, *command("wnet", "bare", run="bare-wnet", data__labelled=None, model__classes=3, steps=2))
    assert done.code == 0, done.err
    assert "15 pictures without masks" in done.out and "nothing to measure on" not in done.err
    assert Run(room / "bare-wnet").classes().names == ("region 1", "region 2", "region 3")
    assert shell.run(room, "predict", "bare-wnet", "bare", "--out", "regions").code == 0
    refused = shell.run(room, *command("fixmatch", "bare", run="r5", data__labelled=None))
    assert refused.code == 3 and "0 labelled pictures" in refused.err
