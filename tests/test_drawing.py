"""Pictures for people and mask files for programs: pixels that are known by construction."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from intarsia import drawing
from intarsia.drawing import (
    encode_png,
    error_picture,
    file_names,
    grid,
    legend,
    object_error_picture,
    overlay,
    to_rgb8,
    write_grey16,
    write_labels,
    write_mask,
    write_probabilities,
)
from intarsia.errors import DataError, DiskError
from intarsia.records import IGNORE, Classes, Prediction

RED_GREEN = Classes(("background", "red", "green"), ((0, 0, 0), (200, 0, 0), (0, 200, 0)))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(data)))


def test_eight_bit_pictures_are_shown_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(to_rgb8(image), image)
    assert np.array_equal(to_rgb8(image[..., 0]), np.repeat(image[..., :1], 3, axis=2))
    assert np.array_equal(to_rgb8(np.concatenate([image, image], axis=2)), image), "of six channels the first three"
    two = to_rgb8(image[..., :2])
    assert np.array_equal(two[..., :2], image[..., :2]) and not two[..., 2].any()
    assert np.array_equal(to_rgb8(np.eye(3, dtype=bool))[..., 0], np.eye(3) * 255)


def test_other_numbers_are_stretched() -> None:
    ramp = np.arange(10_000, dtype=np.uint16).reshape(100, 100) + 1000
    shown = to_rgb8(ramp)[..., 0].ravel()
    assert shown[:49].max() == 0 and shown[-49:].min() == 255, "half a percent at either end"
    assert shown[5000] == pytest.approx(128, abs=1) and (np.diff(shown.astype(int)) >= 0).all()
    assert np.array_equal(to_rgb8(ramp / np.float32(65535)), to_rgb8(ramp))
    assert np.array_equal(to_rgb8(ramp.astype(np.float64) * 1e6), to_rgb8(ramp))


def test_hard_cases_to_show() -> None:
    dot = np.zeros((100, 100), np.float32)
    dot[50, 50] = 0.2
    assert to_rgb8(dot)[50, 50, 0] == 255, "a single dot is still seen"
    assert to_rgb8(np.full((2, 2), 0.5, np.float32)).max() == 128
    assert to_rgb8(np.full((2, 2), 65535, np.uint16)).min() == 255
    broken = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    broken[0, 0], broken[5, 5] = np.nan, np.inf
    assert to_rgb8(broken)[5, 5].max() == 0
    with pytest.raises(DataError, match=r"\(H, W, C\)"):
        to_rgb8(np.zeros((1, 2, 3, 4)))


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.sampled_from(["uint8", "uint16", "float32", "int32"])
)
@settings(max_examples=50, deadline=None)
def test_any_picture_can_be_shown(height: int, width: int, channels: int, kind: str) -> None:
    image = (np.random.default_rng(height).random((height, width, channels)) * 255).astype(kind)
    shown = to_rgb8(image)
    assert shown.shape == (height, width, 3) and shown.dtype == np.uint8
    assert np.array_equal(decoded(encode_png(shown)), shown)


def test_overlay_mixes_inside_leaves_background_and_marks_borders() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.int16)
    mask[5:15, 5:15] = 1
    drawn = overlay(image, mask, RED_GREEN, opacity=0.5)
    assert (drawn[mask == 0] == 100).all()
    assert (drawn[6:14, 6:14] == (150, 50, 50)).all()
    ring = (mask == 1) & ~np.pad(np.ones((8, 8), bool), 6)
    assert len(np.unique(drawn[ring], axis=0)) == 1 and tuple(drawn[5, 5]) not in ((150, 50, 50), (200, 0, 0))
    assert np.array_equal(overlay(image, mask, RED_GREEN, opacity=0)[6:14, 6:14], image[6:14, 6:14])


def test_overlay_hatches_what_nobody_labelled_but_not_what_is_none_of_overlapping_classes() -> None:
    image = np.full((12, 12, 3), 10, np.uint8)
    mask = np.full((12, 12), IGNORE, np.int16)
    assert set(np.unique(overlay(image, mask, RED_GREEN))) == {10, 160}
    overlapping = Classes(RED_GREEN.names, RED_GREEN.colours, overlapping=True)
    assert np.array_equal(overlay(image, mask, overlapping), image)
    with pytest.raises(DataError, match="12 x 12, but the mask is 3 x 4"):
        overlay(image, np.zeros((3, 4), np.int16), RED_GREEN)


def test_error_picture_tells_missed_from_invented_from_confused() -> None:
    true = np.array([[0, 1, 0, 1, IGNORE, 1]], np.int16)
    said = np.array([[0, 0, 1, 2, 1, 1]], np.int16)
    drawn = error_picture(true, said, RED_GREEN)[0]
    assert tuple(drawn[1]) == drawing.MISSED
    assert tuple(drawn[2]) == drawing.FALSE_ALARM
    assert tuple(drawn[3]) == drawing.CONFUSED
    assert tuple(drawn[4]) == (128, 128, 128)
    assert drawn[0].min() > 180 and drawn[5].min() > 180 and drawn[5, 0] > drawn[5, 1], "pale, and of its colour"


def test_error_picture_of_overlapping_classes() -> None:
    classes = Classes.named(["a", "b"], overlapping=True)
    true = np.array([[[1, 1, 0, 0, IGNORE]], [[1, 0, 0, 1, IGNORE]]], np.int8)
    said = np.array([[[1, 0, 1, 1, 1]], [[1, 0, 0, 0, 0]]], np.int8)
    drawn = error_picture(true, said, classes)[0]
    expected = [drawing.MISSED, drawing.FALSE_ALARM, drawing.CONFUSED, (128, 128, 128)]
    assert [tuple(pixel) for pixel in drawn[1:]] == expected


def test_mask_files_hold_class_numbers_and_colours(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [2, 1, IGNORE]], np.int16)
    path = write_mask(tmp_path / "mask", mask, RED_GREEN)
    assert path == tmp_path / "mask.png"
    picture = PillowImage.open(path)
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), [[0, 1, 2], [2, 1, 255]])
    assert np.asarray(picture.convert("RGB"))[1].tolist() == [[0, 200, 0], [200, 0, 0], [255, 255, 255]]


def test_more_than_255_classes_need_16_bits(tmp_path: Path) -> None:
    for count, none, kind in ((255, 255, np.uint8), (256, 65535, np.uint16), (1000, 65535, np.uint16)):
        classes = Classes.named([f"class {i}" for i in range(count)])
        mask = np.array([[0, count - 1, IGNORE]], np.int16)
        stored = np.asarray(PillowImage.open(write_mask(tmp_path / "mask.png", mask, classes)))
        assert stored.astype(int).tolist() == [[0, count - 1, none]]
        assert stored.dtype == kind


def test_masks_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for mask, words in ((np.array([[3]]), "holds 3..3"), (np.array([[-2]]), "holds -2..-2"), (np.zeros(3), "shape")):
        with pytest.raises(DataError, match=words):
            write_mask(tmp_path / "mask.png", mask.astype(np.int16), RED_GREEN)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiskError):
        write_mask(tmp_path / "missing" / "mask.png", np.zeros((1, 1), np.int16), RED_GREEN)


def test_labels_are_a_folder_a_class(tmp_path: Path) -> None:
    classes = Classes.named(["cell/nucleus", "cell nucleus", "Zellkörper"], overlapping=True)
    assert file_names(classes) == ["cell_nucleus", "cell_nucleus_1", "Zellkörper"]
    labels = np.random.default_rng(1).integers(0, 2, (3, 4, 5)).astype(np.int8)
    paths = write_labels(tmp_path, "deep/picture", labels, classes)
    assert paths[0] == tmp_path / "cell_nucleus" / "deep" / "picture.png"
    for path, plane in zip(paths, labels, strict=True):
        assert np.array_equal(np.asarray(PillowImage.open(path)), plane.astype(bool) * 255)
    with pytest.raises(DataError, match="0 or 1"):
        write_labels(tmp_path, "b", labels * 0 - 1, classes)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12])
def test_probabilities_are_pages_of_16_bits(tmp_path: Path, count: int) -> None:
    probabilities = np.random.default_rng(2).random((count, 6, 5)).astype(np.float32)
    classes = Classes.named([f"класс {i}" for i in range(count)])
    path = write_probabilities(tmp_path / "p.tif", probabilities, classes)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == count
        assert json.loads(file.pages[0].description)["classes"] == list(classes.names)
        stored = np.stack([page.asarray() for page in file.pages])
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 - probabilities).max() <= 0.5 / 65535 + 1e-7


def test_grey16_reaches_both_ends(tmp_path: Path) -> None:
    path = write_grey16(tmp_path / "u", np.array([[0, 0.5, 1, 1.5, -1]], np.float32))
    assert np.asarray(PillowImage.open(path)).tolist() == [[0, 32768, 65535, 65535, 0]]


def test_png_of_each_kind() -> None:
    rng = np.random.default_rng(3)
    for shape in ((3, 4), (3, 4, 3), (3, 4, 4)):
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(decoded(encode_png(array)), array)
    with pytest.raises(DataError, match="float32"):
        encode_png(np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match="can't be a PNG"):
        encode_png(np.zeros((0, 2), np.uint8))


def test_legend_and_grid() -> None:
    shown = legend(RED_GREEN)
    colours = {tuple(pixel) for row in shown.tolist() for pixel in row}
    assert set(RED_GREEN.colours) <= colours
    sheet = grid([np.zeros((4, 6), np.uint8), np.full((2, 3, 3), 9, np.uint8), np.ones((4, 6), bool)], 2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert (sheet[:4, :6] == 0).all() and (sheet[:2, 7:10] == 9).all() and (sheet[2:5] != 0)[:, 7:].all()
    assert (sheet[5:, 7:] == 255).all(), "an empty cell is white"
    with pytest.raises(DataError):
        grid([], 3)


def test_a_prediction_draws_and_saves_itself(tmp_path: Path) -> None:
    probabilities = np.zeros((3, 8, 9), np.float32)
    probabilities[1, :4], probabilities[2, 4:] = 1, 1
    prediction = Prediction("p", np.zeros((8, 9, 1), np.uint16), RED_GREEN, probabilities)
    assert prediction.overlay().shape == (8, 9, 3)
    assert decoded(prediction._repr_png_()).shape == (8, 9, 3)
    assert np.array_equal(np.asarray(PillowImage.open(prediction.save(tmp_path / "p.png"))), prediction.mask)


def test_errors_with_objects_are_drawn_in_their_colours() -> None:
    """From the left: found, missed, split in two, two merged, invented, unknown."""
    true, predicted = np.zeros((9, 60), np.int32), np.zeros((9, 60), np.int32)
    for number, (start, stop) in enumerate(((0, 8), (10, 18), (20, 28), (30, 35), (35, 40)), start=1):
        true[:, start:stop] = number
    for number, (start, stop) in enumerate(((0, 8), (20, 24), (24, 28), (30, 40), (42, 48)), start=1):
        predicted[:, start:stop] = number
    true[:, 50:] = IGNORE
    errors = {"missed": [2], "split": [3], "merged": [4], "invented": [5]}
    grey = np.full((9, 60, 1), 100, np.uint8)
    drawn = object_error_picture(grey, true, predicted, {kind: np.array(each) for kind, each in errors.items()})
    middle = drawn[4].astype(int)
    assert (middle[7] == 235).all() and (middle[3] == 60).all(), "found: an outline on the dimmed picture"
    places = {"missed": 13, "split": 21, "merged": 32, "invented": 44}
    for kind, place in places.items():
        assert np.abs(middle[place] - (0.3 * 60 + 0.7 * np.array(drawing.ERROR_COLOURS[kind]))).max() <= 1, kind
    assert (middle[[23, 24, 34, 35]] == 255).all(), "where it was split, and where it should have been"
    assert tuple(middle[10]) == drawing.MISSED and tuple(middle[30]) == drawing.MERGED
    assert np.isin(middle[50:], (60, 160)).all()
    with pytest.raises(DataError, match="one size"):
        object_error_picture(grey, true[:, 1:], predicted, {})
