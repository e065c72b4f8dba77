"""Objects of films: numbers that follow them, a table over frames, films that are whole or not there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from object_models import Bright, object_classes, object_config
from PIL import Image as Pillow

from intarsia.errors import UsageError
from intarsia.inference.film import FilmFile
from intarsia.inference.film_prediction import Wish
from intarsia.inference.object_films import Tracks, predict_object_films
from intarsia.inference.objects import ObjectPredictor
from intarsia.inference.smoothing import SmoothingConfig
from intarsia.records import Instances


def asked() -> ObjectPredictor:
    return ObjectPredictor(Bright(object_config()), object_classes(), device="cpu")


def squares(*places: tuple[int, int, int]) -> np.ndarray:
    """(40, 60) uint8: bright squares: top, left and side."""
    picture = np.zeros((40, 60), np.uint8)
    for top, left, side in places:
        picture[top : top + side, left : left + side] = 200
    return picture


#: One moves right by 2 of its 10 pixels, one stands still and is missed in frame 2, one appears above them in frame 1
FRAMES = [
    squares((20, 4, 10), (20, 40, 8)),
    squares((20, 6, 10), (20, 40, 8), (2, 30, 6)),
    squares((20, 8, 10), (2, 31, 6)),
    squares((20, 10, 10), (20, 40, 8), (2, 50, 6)),
]
NUMBERS = [[1, 2], [3, 1, 2], [3, 1], [4, 1, 5]]  # from top to bottom, from left to right


def save(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, each in enumerate(FRAMES):
        Pillow.fromarray(each).save(folder / f"f{number}.png")
    return folder


def labels(out: Path, number: int) -> np.ndarray:
    return np.asarray(Pillow.open(out / f"labels/film/{number:06d}.png"))


def test_objects_keep_their_numbers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps: list[tuple[int, int, str]] = []
    wish = Wish(out, overlay=True, single=True)
    summary = predict_object_films(asked(), [save(tmp_path / "film")], wish, progress=lambda *each: steps.append(each))
    assert summary.done[0].frames == 4 and not summary.failed and steps[-1] == (4, 4, "film")
    with (out / "measurements/film.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, (frame, expected) in enumerate(zip(FRAMES, NUMBERS, strict=True)):
        image = labels(out, number)
        assert np.array_equal(image > 0, frame > 0) and image.dtype == np.uint16
        mine = [row for row in rows if row["frame"] == str(number)]
        assert [int(row["id"]) for row in mine] == sorted(expected)
        for row in mine:
            assert int(row["area"]) == np.count_nonzero(image == int(row["id"]))
            assert (image[:, int(row["left"])] == int(row["id"])).any()
        drawn = np.asarray(Pillow.open(out / f"overlays/film/{number:06d}.png"))
        assert np.array_equal((drawn > 0).any(axis=2), frame > 0)
    order = [np.unique(labels(out, number), return_index=True) for number in range(4)]
    assert [found[np.argsort(first)].tolist()[1:] for found, first in order] == NUMBERS
    assert (out / "labels/film/times.csv").read_text().split() == [
        "frame,seconds",
        *(f"{i:06d},{i / 25:g}" for i in range(4)),
    ]
    assert predict_object_films(asked(), [tmp_path / "film"], wish).skipped == 1


def test_each_frame_for_itself_and_what_is_refused(tmp_path: Path) -> None:
    film, out = save(tmp_path / "film"), tmp_path / "out"
    predict_object_films(asked(), [film], Wish(out, single=True), track=False, table=False)
    assert [np.unique(labels(out, number)).tolist() for number in range(4)] == [
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]
    assert (out / "measurements/film.csv").read_text().splitlines()[:2] == ["frame,id,class", "0,1,kind 1"]
    with pytest.raises(UsageError, match="probabilities of classes"):
        predict_object_films(asked(), [film], Wish(out, smoothing=SmoothingConfig(kind="flow")))
    (tmp_path / "other/labels/film").mkdir(parents=True)
    (tmp_path / "other/labels/film/000000.png").write_bytes(b"somebody's own")
    with pytest.raises(UsageError, match="is not from here"):
        predict_object_films(asked(), [film], Wish(tmp_path / "other", single=True))


def test_an_overlay_is_a_film_and_goes_with_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = tmp_path / "out"
    film = save(tmp_path / "film")
    predict_object_films(asked(), [film], Wish(out, overlay=True))
    with FilmFile(out / "overlays/film.mp4") as source:
        shown = [frame.image for frame in source]
    assert (
        len(shown) == 4
        and shown[0].shape == (40, 60, 3)
        and np.ptp(shown[0][22:28, 6:12].astype(int), axis=2).max() > 30
    )
    Pillow.fromarray(FRAMES[0]).save(film / "f4.png")
    predict_object_films(asked(), [film], Wish(out, overlay=True))
    assert len(list((out / "labels/film").glob("*.png"))) == 5
    other = Wish(out, overlay=True, single=True)
    predict_object_films(asked(), [film], other, overwrite=True)
    assert not (out / "overlays/film.mp4").exists() and len(list((out / "overlays/film").iterdir())) == 5


def test_who_is_who_is_the_best_choice_for_all() -> None:
    """Bars that overlap with two of the frame before; what is gone, or of another size, begins new numbers."""
    before = np.repeat(np.arange(1, 11), 6)[None].astype(np.int32)
    after = np.roll(before, 2, axis=1)
    after[0, :2] = 0
    tracks = Tracks()
    first = tracks(Instances(before, np.ones(10, np.int16)))
    assert np.array_equal(first, np.arange(1, 11))
    assert np.array_equal(tracks(Instances(after, np.ones(10, np.int16))), first)
    assert tracks(Instances(np.zeros((3, 3), np.int32), np.zeros(0, np.int16))).tolist() == []
    assert tracks(Instances(np.ones((3, 3), np.int32), np.ones(1, np.int16))).tolist() == [11]
