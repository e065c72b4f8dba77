"""Generative models with the real command: trained, killed, gone on with, measured, used, and refused in words."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from shell import KILL_AT, Shell

from intarsia.errors import UsageError
from intarsia.fitting import fit
from intarsia.runs import Run
from intarsia.training import features

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")
STEPS = 8

#: model -> settings with which a step takes milliseconds
MODELS: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 4, "depth": 1, "latent": 2, "corruption.noise": [0.0, 0.2], "corruption.holes": 0.2},
    "vae": {"width": 4, "latent": 3},
    "vqvae": {"width": 8},
    "gan": {"width": 4, "latent": 8, "critic_steps": 2, "spectral_norm": True},
    "vae_gan": {"width": 4, "latent": 4},
    "pix2pix": {"width": 4, "depth": 2, "critic_width": 4, "critic_depth": 1},
    "diffusion": {"width": 8, "depth": 1, "steps": 3},
}


def command(model: str, folder: str = "pictures", run: str | None = None, steps: int = STEPS, **more: Any) -> list[str]:
    settings = {f"model.{key}": value for key, value in MODELS[model].items()}
    settings |= {"train.batch": 4, "train.threads": 1, "train.precision": "32-true", "train.device": "cpu"}
    settings |= {"train.checkpoint_seconds": 0, "train.validate_every": 4, "data.validation_pictures": 6}
    settings |= {"model.size": [24, 32]} | {key.replace("__", "."): value for key, value in more.items()}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return ["fit", folder, "--model", model, "--run", run or model, "--steps", str(steps), "--no-report", *words]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`: bright rectangles on a dark ground, 30 of 24x32 pixels."""
    room = tmp_path_factory.mktemp("generative")
    (room / "pictures").mkdir()
    random = np.random.default_rng(0)
    for i in range(30):
        image = random.integers(0, 60, (24, 32, 3), np.uint8)
        y, x = random.integers(0, 12), random.integers(0, 20)
        image[y : y + 10, x : x + 10] = random.integers(120, 255, 3)
        cv2.imwrite(str(room / "pictures" / f"{i:04x}q.png"), image)
    return room


def weights(room: Path, run: str) -> bytes:
    return (room / run / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_goes_on_after_a_kill_to_the_same_weights(shell: Shell, room: Path, model: str) -> None:
    done = shell.run(room, *command(model))
    assert done.code == 0 and done.err == "", done.err
    assert "24 pictures, 6 held back" in done.out
    run = Run(room / model)
    rows = [row for row in run.read_metrics() if "validation/score" in row]
    assert [row["step"] for row in rows] == [4, 8]
    assert (room / model / "best.safetensors").is_file() and list(run.samples_path.glob("*.png"))
    for step in (3, 6) if model == "gan" else (5,):
        killed = shell.run(room, *command(model, run=f"{model}-killed"), before=KILL_AT.format(step=step))
        assert killed.code == -signal.SIGKILL
    assert shell.run(room, *command(model, run=f"{model}-killed")).code == 0
    assert weights(room, f"{model}-killed") == weights(room, model)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_measured_and_reported(shell: Shell, room: Path, model: str) -> None:
    if not (room / model).exists():
        assert shell.run(room, *command(model)).code == 0
    done = shell.run(room, "evaluate", model)
    assert done.code == 0 and done.err == "", done.err
    report = (room / model / "report.html").read_text()
    assert report.startswith("<!doctype html>") and "<script" not in report
    found = json.loads((room / model / "evaluation.json").read_text())
    assert found["split"] == "validation" and found["overall"] and isinstance(found["verdicts"], list)


def test_what_began_with_an_array_goes_on_with_the_same_array_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "FEWEST_STEPS", 2)
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16), np.uint8)
    settings = {"model.width": 4, "model.latent": 2, "train.precision": "32-true", "train.batch": 4}
    fitted = fit(images, model="vae", run=tmp_path / "run", settings=settings, steps=2)
    assert fitted.steps == 2 and fitted.run.model_config().size == (16, 16)
    assert fit(images, model="vae", run=tmp_path / "run", settings=settings, steps=2).resumed
    with pytest.raises(UsageError, match="other pictures"):
        fit(images[::-1].copy(), model="vae", run=tmp_path / "run", settings=settings, steps=2)
    with pytest.raises(UsageError, match="begun with an array"):
        fit(run=tmp_path / "run")


def test_classes_come_from_folders_and_are_what_is_drawn(shell: Shell, room: Path) -> None:
    for kind, value in (("dark", 20), ("light", 230)):
        (room / "kinds" / kind).mkdir(parents=True, exist_ok=True)
        for i in range(8):
            cv2.imwrite(str(room / "kinds" / kind / f"{i}.png"), np.full((16, 16, 3), value, np.uint8))
    done = shell.run(room, *command("gan", "kinds", "told", steps=2, model__condition="class"))
    assert done.code == 0, done.err
    assert Run(room / "told").classes().names == ("dark", "light")
    assert Run(room / "told").model_config().classes == 2
    refused = shell.run(room, *command("gan", "pictures", "untold", model__condition="class"))
    assert refused.code == 2 and "a folder a class" in refused.err


def test_bad_input_is_refused_in_words(shell: Shell, room: Path) -> None:
    (room / "one").mkdir(exist_ok=True)
    cv2.imwrite(str(room / "one" / "only.png"), np.zeros((32, 32, 3), np.uint8))
    done = shell.run(room, *command("vae", "one", "r1"))
    assert done.code == 3 and "1 picture, too few" in done.err
    done = shell.run(room, *command("vae", "nowhere", "r2"))
    assert done.code == 3 and "not a folder" in done.err
    broken = np.random.default_rng(0).random((8, 16, 16)).astype(np.float32)
    broken[3, 2, 2] = np.nan
    np.save(room / "broken.npy", broken)
    done = shell.run(room, *command("vae", "broken.npy", "r3"))
    assert done.code == 3 and "number 3" in done.err
    done = shell.run(room, *command("vae", run="r4", augment__crop=[8, 8]))
    assert done.code == 2 and "differ" in done.err
    done = shell.run(room, "predict", "vae" if (room / "vae").exists() else "gan", "pictures", "--out", "answers")
    assert done.code == 2 and "does not segment" in done.err


def test_one_constant_colour_and_a_single_picture_without_validation_do_train(shell: Shell, room: Path) -> None:
    (room / "flat").mkdir(exist_ok=True)
    for i in range(6):
        cv2.imwrite(str(room / "flat" / f"{i}x.png"), np.full((16, 16, 3), 77, np.uint8))
    assert shell.run(room, *command("vae", "flat", "flat-run", steps=4)).code == 0
    (room / "single").mkdir(exist_ok=True)
    cv2.imwrite(str(room / "single" / "a.png"), np.full((40, 40, 3), 77, np.uint8))
    done = shell.run(room, *command("autoencoder", "single", "single-run", steps=2, data__validation=0))
    assert done.code == 0, done.err
