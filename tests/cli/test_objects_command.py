"""Objects with the real command: from a folder of label images to label images, tables and COCO JSON."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from shell import TINY, Shell

import intarsia
from intarsia.data.coco import read_coco
from intarsia.data.folder import open_folder
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.errors import UsageError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

KINDS = ["disk", "square", "triangle", "ring"]


def small() -> list[str]:
    """An Instance SegNet of a few thousand weights, trained in a second."""
    settings = {key: json.dumps(value) for key, value in TINY.items() if not key.startswith("model.")}
    settings["model.segmenter"] = '{name = "unet", encoder = "plain", width = 4, depth = 2}'
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def room(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures` of objects and a `run` on them."""
    room = tmp_path_factory.mktemp("objects")
    write_scenes(room / "pictures", 6, SceneConfig(height=40, width=56), objects=True)
    command = ["fit", "pictures", "--model", "instance_segnet", "--run", "run", "--no-report", "--steps", 6, *small()]
    done = shell.run(room, *command)
    assert done.code == 0, done.err
    assert "intarsia predict run PICTURES --out DIR --overlay" in done.out
    return room


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_pictures_to_tables(shell: Shell, room: Path) -> None:
    shutil.copytree(room / "pictures/images", room / "in")
    (room / "in/broken.png").write_bytes(b"no picture")
    command = ["predict", "run", "in", "--out", "answers", "--overlay", "--coco", "--tile", 32, "--score", 0]
    done = shell.run(room, *command)
    assert done.code == 3 and "1 failed" in done.out and "broken.png" in done.out
    out = room / "answers"
    found = {path.stem: np.asarray(Pillow.open(path)) for path in sorted((out / "labels").iterdir())}
    assert len(found) == 6 and all(each.shape == (40, 56) for each in found.values())
    objects = rows(out / "objects.csv")
    assert len(objects) == sum(int(each.max()) for each in found.values())
    assert f"{len(objects)} object" in done.out
    for row in objects:
        assert np.count_nonzero(found[row["name"]] == int(row["id"])) == int(row["area"]) and row["class"] in KINDS
    pictures = rows(out / "pictures.csv")
    assert [row["name"] for row in pictures] == list(found) and set(pictures[0]) == {"name", "objects", *KINDS}
    read = read_coco(out / "objects.json")
    assert not read.problems and sum(len(each.shapes) for each in read.drawings.values()) == len(objects)
    assert len(list((out / "overlays").iterdir())) == 6

    shutil.copytree(room / "pictures/images", room / "back/images")
    shutil.copytree(out / "labels", room / "back/masks")
    shutil.copy(out / "objects.csv", room / "back")
    learnt = open_folder(room / "back", objects=True)  # corrected by hand, answers become labels
    for entry in learnt.entries:
        instances = learnt.read(entry).instances
        assert instances is not None and np.array_equal(instances.label_image, found[entry.name])
        named = [learnt.classes.names[number] for number in instances.classes]
        assert named == [row["class"] for row in objects if row["name"] == entry.name]

    again = shell.run(room, *command[:-1], 0.0)
    assert again.code == 3 and "0 pictures" in again.out and "6 were there already" in again.out
    (room / "in/broken.png").unlink()
    other = shell.run(room, *command[:-2], "--threshold", "core=0.3")
    assert other.code == 2 and "other thresholds" in other.err
    assert shell.run(room, *command[:-2], "--threshold", "core=0.3", "--overwrite").code == 0


def test_huge_pictures_and_films(shell: Shell, room: Path) -> None:
    picture = np.asarray(Pillow.open(room / "pictures/images/scene_0000.png"))
    (room / "large").mkdir()
    tifffile.imwrite(room / "large/a.tif", np.tile(picture, (6, 5, 1)), tile=(64, 64), photometric="rgb")
    done = shell.run(room, "predict", "run", "large", "--out", "huge", "--overlay", "--huge", 0.01, "--score", 0)
    assert done.code == 0, done.err
    labels, objects = tifffile.imread(room / "huge/labels/a.tif", level=0), rows(room / "huge/objects.csv")
    assert labels.shape == (240, 280) and labels.dtype == np.uint32 and labels.max() == len(objects) > 0
    for row in objects:
        assert np.count_nonzero(labels == int(row["id"])) == int(row["area"]) and row["class"] in KINDS
    assert tifffile.imread(room / "huge/overlays/a.tif", level=0).shape == (240, 280, 3)

    film = ["predict", "run", "pictures/images", "--film", "--out", "film", "--score", 0]
    done = shell.run(room, *film, "--overlay", "--no-track")
    assert done.code == 0 and "images: 6 frames" in done.out, done.err
    of_frames = rows(room / "film/measurements/images.csv")
    for number in range(6):
        frame = np.asarray(Pillow.open(room / f"film/labels/images/{number:06d}.png"))
        assert frame.max() == sum(row["frame"] == str(number) for row in of_frames)
    assert len(list((room / "film/overlays/images").iterdir())) == 6
    for option, said in (
        (["--smooth", "flow"], "--smooth can't be had: this run is of a model of objects"),
        (["--coco"], "--coco can't be had"),
    ):
        refused = shell.run(room, *film, *option)
        assert refused.code == 2 and said in refused.err, refused.err


def test_the_same_from_python(room: Path) -> None:
    predictor = intarsia.load(room / "run", device="cpu", thresholds={"score": 0.0, "foreground": 0.2})
    found = predictor.predict(room / "pictures/images/scene_0000.png")
    assert isinstance(found, intarsia.ObjectPrediction) and list(found.count()) == KINDS
    assert sum(found.count().values()) == len(found) == found.instances.label_image.max()
    assert found.overlay().shape == (40, 56, 3)
    saved = np.asarray(Pillow.open(found.save(room / "saved.png")))
    assert np.array_equal(saved, found.instances.label_image)
    for option in ({"scales": (1.0, 2.0)}, {"temperature": 2.0}):
        with pytest.raises(UsageError, match="holds a model of objects"):
            intarsia.load(room / "run", **option)


def test_tuned_thresholds_are_those_of_the_run(room: Path) -> None:
    tuned = json.loads((room / "run/thresholds.json").read_text())["thresholds"]
    predictor = intarsia.load(room / "run", device="cpu")
    assert isinstance(predictor, intarsia.ObjectPredictor) and predictor.settings()["thresholds"] == tuned


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--probabilities --samples 3", "--probabilities, --samples can't be had: this run is of a model of objects"),
        ("--uncertainty", "--uncertainty can't be had"),
        ("--scale 2", "--scale can't be had"),
        ("--threshold core", "--threshold score=0.6"),
        ("--threshold kernel=0.5", "it has foreground, core, ways, score, smallest"),
        ("--score nan", "not a number"),
        ("--score 2", "give 0 to 1"),
        ("--tile 0", "a tile of 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(shell: Shell, room: Path, options: str, words: str) -> None:
    done = shell.run(room, "predict", "run", "pictures/images", "--out", "refused", *options.split())
    assert done.code == 2 and done.err.startswith("intarsia: ") and done.err.count("\n") == 1 and words in done.err
    assert not (room / "refused").exists()
