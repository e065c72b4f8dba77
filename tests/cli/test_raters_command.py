"""From several raters' masks to several answers, with the command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from shell import Shell, draw, options

from intarsia.data.scenes import SceneConfig, write_scenes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

SCENES = SceneConfig(height=48, width=64, raters=(0.0,) * 4, ambiguous=(("disk", "background", 0.25),))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """A folder with pictures of four raters each, and a run that saw them for a few steps."""
    folder = tmp_path_factory.mktemp("raters")
    write_scenes(folder / "pictures", 8, SCENES)
    given = options(model__name="probabilistic_unet", augment__rater="random")
    done = shell.run(folder, "fit", "pictures", "--run", "run", "--steps", 4, "--no-report", *given)
    assert done.code == 0, done.err
    return folder


def test_check_says_how_many_raters(place: Path, shell: Shell) -> None:
    done = shell.run(place, "check", "pictures")
    assert done.code == 0, done.err
    assert "4 raters a picture" in done.out and "masks of 4 raters for 8 pictures" in done.out


def test_plan_asks_for_one_rater_a_crop_and_a_likelihood(place: Path, shell: Shell) -> None:
    done = shell.run(
        place, "fit", "pictures", "--run", "other", "--steps", 4, "--model", "probabilistic_unet", "--dry-run"
    )
    assert done.code == 0, done.err
    assert 'rater = "random"' in done.out
    assert "cross_entropy = 1.0" in done.out and "\ndice = " not in done.out
    assert 'class_weights = "none"' in done.out and "\nweights = " not in done.out
    assert 'encoder = "small"' in done.out


def test_evaluation_holds_answers_against_each_rater(place: Path, shell: Shell) -> None:
    done = shell.run(place, "evaluate", "run", "--json")
    assert done.code == 0, done.err
    overall = json.loads(done.out)["overall"]
    assert overall["people_diversity"]["value"] > 0
    assert "16 answers" in overall["energy_distance"]["definition"]
    assert 0 <= overall["energy_distance"]["value"] <= 2
    again = shell.run(place, "evaluate", "run", "--json")
    assert json.loads(again.out)["overall"]["energy_distance"] == overall["energy_distance"]
    assert 'id="raters"' in (place / "run" / "report.html").read_text()


def test_several_answers_as_files_and_the_same_command_again(place: Path, shell: Shell) -> None:
    command = ("predict", "run", "pictures/images", "--out", "answers", "--samples", 3)
    done = shell.run(place, *command)
    assert done.code == 0, done.err
    assert "8 pictures" in done.out
    files = {path.relative_to(place / "answers").as_posix() for path in (place / "answers").rglob("*.png")}
    assert len(files) == 8 * (3 + 2)
    assert {"samples/scene_0007_s02.png", "masks/scene_0000.png", "uncertainty/scene_0003.png"} <= files
    lost = place / "answers" / "samples" / "scene_0004_s01.png"
    before = np.asarray(Pillow.open(lost))
    lost.unlink()
    done = shell.run(place, *command)
    assert "1 picture " in done.out and "7 were there already" in done.out
    np.testing.assert_array_equal(np.asarray(Pillow.open(lost)), before)
    refused = shell.run(place, *command[:-1], 2)
    assert refused.code == 2 and "other samples" in refused.err


def test_a_model_with_one_answer_refuses_in_words(place: Path, shell: Shell) -> None:
    draw(place / "plain", 6)
    done = shell.run(place, "fit", "plain", "--run", "unet", "--steps", 2, "--no-report", *options())
    assert done.code == 0, done.err
    done = shell.run(place, "predict", "unet", "plain/images", "--out", "none", "--samples", 4)
    assert done.code == 2
    assert "one answer for a picture" in done.err and "probabilistic_unet" in done.err
    assert not (place / "none").exists()
