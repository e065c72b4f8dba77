"""Answers that are known: of a model of brightness, and of one that sees a known distance."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from intarsia.errors import DataError, OutOfMemoryError, UsageError
from intarsia.inference import Failure, Predictor
from intarsia.inference.predictor import ahead, fingerprint
from intarsia.inference.reading import as_image
from intarsia.records import IGNORE, Classes, Prediction

Build = Callable[..., Predictor]


def levels(height: int = 6, width: int = 9, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 1) uint8 and the mask that the model of brightness gives for it."""
    mask = np.random.default_rng(height).integers(0, count, (height, width)).astype(np.int16)
    return np.rint(mask * 255 / (count - 1)).astype(np.uint8)[..., None], mask


def test_every_kind_of_picture_gives_the_same_answer(brightness: Build, tmp_path: Path) -> None:
    image, mask = levels()
    path = tmp_path / "ein Bild.png"
    PillowImage.fromarray(image[..., 0]).save(path)
    predictor = brightness()
    sixteen = image.astype(np.uint16) * 257
    PillowImage.fromarray(sixteen[..., 0]).save(tmp_path / "16.png")
    pictures = [
        path, str(path), tmp_path / "16.png", image, image[..., 0], sixteen, image / 255, np.float32(image / 255),
        PillowImage.open(path), PillowImage.open(tmp_path / "16.png"), torch.from_numpy(image).permute(2, 0, 1),
    ]  # fmt: skip
    for picture in pictures:
        prediction = predictor(picture)
        assert np.array_equal(prediction.mask, mask)
        assert prediction.probabilities.shape == (3, 6, 9) and prediction.probabilities.dtype == np.float32
        assert np.abs(prediction.probabilities.sum(axis=0) - 1).max() < 1e-6
        assert prediction.image.shape == (6, 9, 1)
    assert predictor(path).name == "ein Bild" and predictor(image, "named").name == "named"


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (2, 3)])
def test_the_smallest_pictures(brightness: Build, blur: Build, size: tuple[int, int]) -> None:
    image, mask = levels(*size)
    assert np.array_equal(brightness().predict(image).mask, mask)
    assert np.array_equal(brightness(tile=16).predict(image).mask, mask)
    assert blur(2, 4, tile=32, flips=True, scales=(0.5, 1.0)).predict(image).mask.shape == size


def test_grey_and_rgba_pictures_for_a_model_of_three_channels(brightness: Build) -> None:
    image, mask = levels()
    predictor = brightness(channels=3)
    rgba = np.concatenate([image.repeat(3, axis=2), np.full_like(image, 7)], axis=2)
    for each in (
        image,
        image.repeat(3, axis=2),
        rgba,
        PillowImage.fromarray(image[..., 0]),
        PillowImage.fromarray(rgba),
    ):
        assert np.array_equal(predictor.predict(each).mask, mask)
    with pytest.raises(DataError, match="the array: the picture has 5 channels where 3 are wanted"):
        predictor.predict(image.repeat(5, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pillow_pictures_of_every_mode(brightness: Build, mode: str) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (5, 6)).astype(np.int16)
    scale = {"I;16": 65535, "I": 65535, "F": 1}.get(mode, 255)
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    picture = PillowImage.fromarray((mask * np.float32(scale)).astype(kind))
    if mode not in ("I;16", "I", "F"):
        picture = picture.convert("RGB" if mode == "CMYK" else mode).convert(mode)
    assert picture.mode == mode
    assert np.array_equal(brightness(classes=2, channels=3).predict(picture).mask, mask)


def test_the_answer_is_in_the_displayed_frame(brightness: Build, tmp_path: Path) -> None:
    image, mask = levels()
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # turn clockwise to display
    buffer = io.BytesIO()
    PillowImage.fromarray(image[..., 0]).save(tmp_path / "turned.png", exif=exif)
    PillowImage.fromarray(image[..., 0]).save(buffer, "PNG", exif=exif)
    for picture in (tmp_path / "turned.png", PillowImage.open(buffer)):
        assert np.array_equal(brightness().predict(picture).mask, np.rot90(mask, -1))


def test_arrays_that_are_no_pictures_are_refused(brightness: Build) -> None:
    predictor = brightness()
    for array, words in (
        (np.zeros((2, 2), np.int64), "int64"),
        (np.full((2, 2), 255.0), r"\[0, 1\], but the array has 255..255"),
        (np.array([[np.nan, 0]]), "nan"),
        (np.zeros((2, 2, 2, 2), np.uint8), "shape"),
        (np.zeros((0, 2), np.uint8), "shape"),
    ):
        with pytest.raises(DataError, match=words):
            predictor.predict(array)
    assert as_image(np.array([[True, False]])).tolist() == [[[255], [0]]]


def test_overlapping_classes(brightness: Build) -> None:
    image = np.array([[0, 128, 255]], np.uint8)
    prediction = brightness(classes=3, overlapping=True).predict(image)
    assert prediction.labels[:, 0].tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    dark = brightness(classes=2, overlapping=True).predict(np.zeros((1, 1), np.uint8))
    assert dark.labels[:, 0, 0].tolist() == [1, 0] and dark.mask.tolist() == [[0]]
    assert (brightness(classes=3, overlapping=True, temperature=1e6).predict(image).mask >= IGNORE).all()


@pytest.mark.parametrize(("reach", "stride"), [(0, 1), (3, 1), (1, 4), (0, 8)])
@pytest.mark.parametrize("size", [(200, 161), (97, 300)])
def test_tiles_give_what_the_whole_gives(blur: Build, reach: int, stride: int, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    whole = blur(reach, stride)
    tiled = blur(reach, stride, tile=96, overlap=0.75, batch=3)
    assert whole.model.sight <= 72 // 4, "the halo, a quarter of the overlap, is as wide as the model sees"
    difference = np.abs(tiled.predict(image).probabilities - whole.predict(image).probabilities)
    assert difference.max() < 1e-5
    if reach:
        seams = blur(reach, stride, tile=32, overlap=0).predict(image).probabilities
        assert np.abs(seams - whole.predict(image).probabilities).max() > 1e-2, "this test can fail"


def test_strips_of_a_memory_map_give_what_the_whole_gives(blur: Build, tmp_path: Path) -> None:
    stored = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint16, shape=(500, 80, 1))
    stored[:] = np.random.default_rng(0).integers(0, 65536, stored.shape)
    predictor = blur(1, 4, tile=96)
    strips = list(predictor.strips(stored, "scan"))
    assert len(strips) > 3 and all(strip.name == "scan" and strip.image.shape[1:] == (80, 1) for strip in strips)
    assert np.array_equal(np.concatenate([strip.image for strip in strips]), stored)
    joined = np.concatenate([strip.probabilities for strip in strips], axis=1)
    assert np.array_equal(joined, predictor.predict(np.asarray(stored)).probabilities)


def test_flips_and_scales_are_means_of_probabilities(brightness: Build, blur: Build) -> None:
    image, mask = levels(8, 8)
    assert np.array_equal(brightness(flips=True).predict(image).mask, mask)
    constant = np.full((9, 7), 100, np.uint8)
    plain = blur(1, 1).predict(constant).probabilities
    for options in ({"flips": True}, {"scales": (0.5, 1.0, 1.7)}, {"scales": (2.0,), "flips": True}):
        assert np.allclose(blur(1, 1, **options).predict(constant).probabilities, plain, atol=1e-5)
    one, two = (blur(1, 1, scales=(scale,)).predict(image).probabilities for scale in (1.0, 2.0))
    both = blur(1, 1, scales=(1.0, 2.0)).predict(image).probabilities
    assert np.allclose(both, (one + two) / 2, atol=1e-6) and not np.allclose(one, two, atol=1e-2)
    lopsided = np.random.default_rng(0).integers(0, 256, (8, 14), dtype=np.uint8)  # stride 4 pads it to 16 at the right
    straight = blur(1, 4).predict(lopsided).probabilities
    mirrored = blur(1, 4).predict(lopsided[:, ::-1].copy()).probabilities[:, :, ::-1]
    assert not np.allclose(straight, mirrored, atol=1e-3)
    assert np.allclose(blur(1, 4, flips=True).predict(lopsided).probabilities, (straight + mirrored) / 2, atol=1e-6)


def test_temperature_divides_the_logits(blur: Build) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    sharp, soft = (blur(1, 1, temperature=each).predict(image) for each in (1.0, 5.0))
    assert np.array_equal(sharp.mask, soft.mask)
    odds = [np.log(each.probabilities[0] / each.probabilities[1]) for each in (sharp, soft)]
    assert np.allclose(odds[0], 5 * odds[1], atol=1e-4) and np.abs(odds[0]).max() > 1


def test_many_files_in_order_with_broken_ones_among_them(brightness: Build, tmp_path: Path) -> None:
    image, mask = levels()
    PillowImage.fromarray(image[..., 0]).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    np.save(tmp_path / "channels.npy", np.zeros((4, 5, 6), np.uint8))
    names = ["good.png", "cut.png", "good.png", "missing.png", "empty.png", "channels.npy", "good.png"]
    answers = list(brightness().predict_many(tmp_path / name for name in names))
    for name, answer in zip(names, answers, strict=True):
        if name == "good.png":
            assert isinstance(answer, Prediction) and np.array_equal(answer.mask, mask)
        else:
            assert isinstance(answer, Failure) and answer.path.name == name
            assert name in str(answer.error) and "\n" not in str(answer.error)


def test_the_next_picture_is_worked_on_while_one_is_used() -> None:
    started = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            started.set()
        return item * 10

    results = ahead(work, iter(range(5)))
    assert next(results) == 0
    assert started.wait(5), "number 1 is done before it is asked for"
    assert list(results) == [10, 20, 30, 40]


def test_leaving_early_ends_the_threads(brightness: Build) -> None:
    image, _ = levels()
    before = threading.active_count()
    results = ahead(lambda each: brightness().predict(each), (image for _ in range(100)))
    next(results)
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_errors_of_a_thread_are_raised_where_the_result_is_used() -> None:
    def fails(item: int) -> int:
        raise UsageError("no")

    with pytest.raises(UsageError):
        list(ahead(fails, [1]))


def test_a_tile_that_does_not_fit_is_said(brightness: Build) -> None:
    image, mask = levels(200, 150)
    predictor = brightness()
    predictor.model.most_rows = 100  # type: ignore[assignment]
    assert np.array_equal(predictor.predict(image).mask, mask), "an automatic tile was halved"
    chosen = Predictor(predictor.model, predictor.classes, tile=128)
    with pytest.raises(OutOfMemoryError, match="128 x 128"):
        chosen.predict(image)


def test_settings_that_make_no_sense_are_refused(brightness: Build) -> None:
    model = brightness().model
    for options, words in (
        ({"scales": ()}, "scale"),
        ({"scales": (0.0,)}, "scale"),
        ({"temperature": 0}, "temperature"),
        ({"device": "tpu"}, "tpu"),
        ({"tile": 0}, "tile"),
    ):
        with pytest.raises(UsageError, match=words):
            Predictor(model, brightness().classes, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="exclude each other"):
        Predictor(model, Classes.named(["a", "b", "c"], overlapping=True))
    with pytest.raises(UsageError, match="answers for 3 classes, but the list has 2"):
        Predictor(model, Classes.named(["a", "b"])).predict(levels()[0])
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no GPU"):
            Predictor(model, brightness().classes, device="cuda")


def test_the_fingerprint_knows_every_weight() -> None:
    layer = torch.nn.BatchNorm2d(3)
    before = fingerprint(layer)
    assert fingerprint(torch.nn.BatchNorm2d(3)) == before
    layer.running_mean[1] += 1e-7  # type: ignore[index]
    assert fingerprint(layer) != before
    assert fingerprint(torch.nn.BatchNorm2d(3).half()) != before
