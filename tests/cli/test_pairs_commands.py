"""The commands for made pairs, as a user types them, on drawn scenes of 32 pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from shell import Shell, options

from intarsia.data.folder import open_folder
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.inference.pseudo_labels import read_review

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

QUICK: dict[str, Any] = {
    "model.size": [16, 16], "train.batch": 4, "train.threads": 1, "train.precision": "32-true", "train.device": "cpu",
    "train.validate_every": 100,
}  # fmt: skip
GENERATORS: dict[str, dict[str, Any]] = {
    "pix2pix": {"task": "mask_to_picture", "width": 4, "depth": 2, "critic_width": 4, "critic_depth": 1},
    "diffusion": {"condition": "mask", "width": 8, "depth": 1, "steps": 2},
    "pair_gan": {"width": 4, "latent": 4},
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """`scenes` of 32 pixels, of whose training pictures five have a mask that may be seen, and a segmenter's run."""
    room = tmp_path_factory.mktemp("pairs")
    write_scenes(room / "scenes", 14, SceneConfig(height=32, width=32))
    command = ["fit", "scenes", "--labelled", 5, "--run", "unet", "--steps", 6, "--no-report"]
    done = shell.run(room, *command, *options(train__validate_every=100))
    assert done.code == 0, done.err
    return room


def fit_generator(shell: Shell, room: Path, model: str) -> None:
    given = QUICK | {f"model.{key}": value for key, value in GENERATORS[model].items()}
    words = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ["fit", "scenes", "--model", model, "--labelled", 5, "--run", model, "--steps", 3, "--no-report"]
    done = shell.run(room, *command, *words)
    assert done.code == 0, done.err


@pytest.mark.parametrize("model", GENERATORS)
def test_a_generator_is_trained_pairs_are_drawn_filtered_and_learnt_from(shell: Shell, room: Path, model: str) -> None:
    fit_generator(shell, room, model)
    out = f"pairs-{model}"
    command = ["synthesize", model, "--out", out, "--count", 6, "--filter", "unet", "--agree", 0]
    done = shell.run(room, *command)
    assert done.code == 0, done.err
    assert "6 of 6 pairs are kept" in done.out and f"data.generated={out}" in done.out
    assert (room / out / "sheet.png").is_file()
    folder = open_folder(room / out)
    assert len(folder.entries) == 6 and all(folder.labelled(entry) for entry in folder.entries)
    again = shell.run(room, *command)
    assert again.code == 0 and "6 were done before" in again.out
    if model != "pix2pix":
        return  # what is learnt from is a folder, whoever made it
    words = options(train__validate_every=100, data__generated=out)
    done = shell.run(room, "fit", "scenes", "--labelled", 5, "--run", "fed", "--steps", 2, "--no-report", *words)
    assert done.code == 0, done.err
    refused = shell.run(room, "synthesize", "pix2pix", "--out", "other", "--count", 2, "--filter", "fed")
    assert refused.code == 2 and "agree with their mistakes" in refused.err and not (room / "other").exists()


def test_pictures_are_labelled_reviewed_and_learnt_from(shell: Shell, room: Path) -> None:
    command = ["pseudo-label", "unet", "--out", "pseudo", "--confidence", 0.1]
    done = shell.run(room, *command)
    assert done.code == 0, done.err
    rows = read_review(room / "pseudo")
    assert f"{len(rows)} of {len(rows)} pictures have a mask to learn from" in done.out
    assert (room / "pseudo" / "review.html").read_text().startswith("<!doctype html>")
    first, second = rows[0].name, rows[1].name
    done = shell.run(room, "review", "pseudo", "--reject", first, "--accept", second)
    assert done.code == 0, done.err
    assert "1 rejected" in done.out and "1 accepted" in done.out and f"{len(rows) - 2} new" in done.out
    assert first not in {path.stem for path in (room / "pseudo" / "masks").iterdir()}
    assert "left" not in shell.run(room, "review", "pseudo", "--accept-all").out
    assert {each.status for each in read_review(room / "pseudo")} == {"rejected", "accepted"}
    words = options(train__validate_every=100, data__generated="pseudo")
    done = shell.run(room, "fit", "scenes", "--labelled", 5, "--run", "taught", "--steps", 2, "--no-report", *words)
    assert done.code == 0, done.err
    assert shell.run(room, *command).code == 0  # takes nothing back
    assert {each.status for each in read_review(room / "pseudo")} == {"rejected", "accepted"}


def test_what_makes_no_sense_is_refused_in_words(shell: Shell, room: Path) -> None:
    for arguments, code, words in (
        (("synthesize", "unet", "--out", "no"), 2, "draws no pictures for masks"),
        (("synthesize", "nowhere", "--out", "no"), 2, "is not a run"),
        (("pseudo-label", "unet", "scenes", "--out", "no"), 2, "held back to measure on"),
        (("pseudo-label", "unet", "--out", "no", "--confidence", 2), 2, "give both in [0, 1]"),
        (("review", "scenes"), 3, "no folder of pseudo-labels"),
    ):
        done = shell.run(room, *arguments)
        assert done.code == code and words in done.err, done.err
    assert not (room / "no").exists()
