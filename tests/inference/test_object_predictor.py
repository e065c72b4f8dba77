"""Objects of pictures of any size: tiles change nothing, flips are means, errors are sentences."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from object_models import Bright, Filtered, Numbers, object_classes, object_config, same_objects
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

from intarsia.errors import DataError, NumericError, OutOfMemoryError, UsageError
from intarsia.inference.objects import ObjectPredictor
from intarsia.inference.working import Failure
from intarsia.models.contract import InstanceModel
from intarsia.records import Classes


def asked(kind: type[InstanceModel] = Bright, **options: object) -> ObjectPredictor:  # type: ignore[type-arg]
    return ObjectPredictor(kind(object_config()), object_classes(), device="cpu", **options)  # type: ignore[arg-type]


def blobs(height: int, width: int, seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    """(H, W) uint8: a smooth landscape, half of it bright."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), sigma)
    return (255 * np.argsort(np.argsort(noise.ravel())).reshape(noise.shape) / max(noise.size - 1, 1)).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.integers(1, 40),
    overlap=st.sampled_from([0.0, 0.3, 0.6]),
    seed=st.integers(0, 99),
)
def test_a_model_of_pixels_finds_the_same_in_tiles(size: tuple[int, int], tile: int, overlap: float, seed: int) -> None:
    picture = blobs(*size, seed)
    whole = asked().predict(picture).instances
    tiled = asked(tile=tile, overlap=overlap).predict(picture).instances
    assert same_objects(whole.label_image, tiled.label_image) and len(whole) == len(tiled)


@pytest.mark.parametrize("tile", [24, 33, 64, 100])
def test_a_model_that_sees_its_neighbourhood_finds_the_same_in_tiles(tile: int) -> None:
    """Two random convolutions see 2 pixels to each side, less than the halo. Every border cuts objects."""
    picture = blobs(150, 130, sigma=3)
    whole, tiled = asked(Filtered), asked(Filtered, tile=tile, overlap=0.5, batch=3)
    maps, tiled_maps = whole.answer(picture[..., None]), tiled.answer(picture[..., None])
    assert isinstance(maps, np.ndarray) and isinstance(tiled_maps, np.ndarray)
    assert np.abs(maps - tiled_maps).max() < 1e-5
    level = float(np.median(maps[0]))
    while np.abs(maps[0] - level).min() < 1e-5:  # no pixel that rounding could decide
        level += 1e-5
    at = {"brightness": level}
    one, other = (each.model.objects(answer, at) for each, answer in ((whole, maps), (tiled, tiled_maps)))
    assert len(one) > 5 and same_objects(one.label_image, other.label_image)
    assert (one.label_image[:, tile - 1] * one.label_image[:, tile]).any(), "a border cuts an object"


def test_the_mean_of_a_picture_and_its_mirror_image() -> None:
    picture = blobs(40, 50)
    plain, flipped = asked(Filtered), asked(Filtered, flips=True)
    there, back = plain.answer(picture[..., None]), plain.answer(picture[:, ::-1, None])
    assert isinstance(there, np.ndarray) and isinstance(back, np.ndarray)
    expected = (there + back[:, :, ::-1] * np.array([1, -1], np.float32)[:, None, None]) / 2
    assert np.abs(flipped.answer(picture[..., None]) - expected).max() < 1e-6  # type: ignore[operator]
    with pytest.raises(UsageError, match="Bright does not say"):
        asked(flips=True)
    with pytest.raises(UsageError, match="Numbers does not say"):
        asked(Numbers, flips=True)


def test_every_kind_of_picture_and_what_an_answer_can_do(tmp_path: Path) -> None:
    picture = np.zeros((20, 30), np.uint8)
    picture[2:8, 3:9] = picture[12:18, 20:28] = 255
    Pillow.fromarray(picture).save(tmp_path / "two.png")
    predictor = asked()
    found = predictor(tmp_path / "two.png")
    assert found.name == "two" and len(found) == 2 and found.count() == {"kind 1": 2}
    for each in (picture, picture[..., None], Pillow.fromarray(picture), torch.from_numpy(picture)[None] / 255):
        assert np.array_equal(predictor.predict(each).instances.label_image, found.instances.label_image)
    assert found.overlay().shape == (20, 30, 3)
    saved = np.asarray(Pillow.open(found.save(tmp_path / "labels.png")))
    assert np.array_equal(saved, found.instances.label_image)
    assert len(predictor.predict(np.zeros((1, 1), np.uint8))) == 0
    assert len(asked(Numbers).predict(np.zeros((5, 3), np.uint8))) == 0
    assert len(predictor.predict(np.full((33, 57), 255, np.uint8))) == 1


def test_many_files_with_a_broken_one(tmp_path: Path) -> None:
    for name in "ac":
        Pillow.fromarray(blobs(9, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    one, broken, other = asked().predict_many(tmp_path / f"{name}.png" for name in "abc")
    assert isinstance(broken, Failure) and isinstance(broken.error, DataError)
    assert not isinstance(one, Failure) and not isinstance(other, Failure) and (one.name, other.name) == ("a", "c")


def test_thresholds_are_the_runs_unless_others_are_given() -> None:
    picture = np.full((4, 4), 100, np.uint8)
    predictor = asked()
    assert len(predictor.predict(picture)) == 0
    predictor.model.thresholds["brightness"] = 0.25  # as tuning does, after the predictor was made
    assert len(predictor.predict(picture)) == 1
    given = asked(thresholds={"brightness": 0.3, "smallest": 17})
    assert len(given.predict(picture)) == 0 and given.settings()["thresholds"] == {"brightness": 0.3, "smallest": 17}
    assert given.model.thresholds == {"brightness": 0.5, "smallest": 1.0}, "the model's own are as they were"
    assert given.settings() != asked(thresholds={"brightness": 0.4, "smallest": 17}).settings()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="'score' is none of a Bright; it has brightness, smallest"):
        asked(thresholds={"score": 0.5})
    with pytest.raises(UsageError, match="not a number"):
        asked(thresholds={"smallest": float("nan")})
    with pytest.raises(UsageError, match="a tile of 0"):
        asked(tile=0)
    for classes in (object_classes(3), Classes.named(["background", "a"], overlapping=True)):
        with pytest.raises(UsageError, match="tells 2 classes apart"):
            ObjectPredictor(Bright(object_config()), classes)


def test_what_does_not_fit_is_done_in_smaller_tiles_or_said() -> None:
    picture = np.zeros((200, 150), np.uint8)
    picture[20:180, 30:40] = 1
    for options, fits in (({}, True), ({"tile": 150}, False)):
        predictor = asked(Numbers, **options)
        predictor.model.most_rows = 130  # type: ignore[assignment]
        if fits:
            assert len(predictor.predict(picture)) == 1
        else:
            with pytest.raises(OutOfMemoryError, match="a tile of 150 x 150 pixels does not fit"):
                predictor.predict(picture)


def test_weights_that_are_no_numbers_are_said() -> None:
    predictor = asked(Filtered)
    next(predictor.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(NumericError, match="not a number"):
        predictor.predict(blobs(8, 8))
