"""The numbers of a fingerprint, on pictures whose numbers are known."""

import numpy as np
import pytest

from intarsia.data.classes import ClassTable
from intarsia.data.fingerprint import SMALLEST_OBJECT, fingerprint, object_diameters
from intarsia.records import IGNORE, Classes, Sample

TABLE = ClassTable(Classes.named(["background", "thing", "other"]))


def picture(height, width, channels=3, value=0.5, dtype=np.uint8):
    full = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    return np.full((height, width, channels), value * full, dtype)


def test_sizes_channels_and_counts():
    samples = [Sample(str(i), picture(10 * i, 20)) for i in (3, 1, 2)] + [Sample("grey", picture(90, 90, 1))]
    numbers = fingerprint(samples, TABLE)
    assert (numbers.pictures, numbers.labelled) == (4, 0)
    assert (numbers.smallest, numbers.median, numbers.largest) == ((10, 20), (30, 20), (90, 90))
    assert (numbers.channels, numbers.dtype) == (3, "uint8")
    assert numbers.class_pixels == numbers.class_pictures == (0, 0, 0)
    assert numbers.shares == (0.0, 0.0, 0.0)
    assert numbers.diameters == (None, None, None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_mean_and_deviation_are_those_of_all_pixels(dtype):
    rng = np.random.default_rng(0)
    images = [
        (rng.random(size) * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
        for size in ((8, 9, 2), (20, 5, 2), (3, 3, 2))
    ]
    numbers = fingerprint([Sample(str(i), image) for i, image in enumerate(images)], TABLE)
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.concatenate([image.reshape(-1, 2).astype(float) / full for image in images])
    np.testing.assert_allclose(numbers.mean, pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(numbers.deviation, pixels.std(axis=0), rtol=1e-6)


def test_classes_are_counted_in_pixels_and_pictures():
    mask = np.zeros((10, 10), np.int16)
    mask[:2] = 1
    mask[9] = IGNORE
    samples = [
        Sample("a", picture(10, 10), mask),
        Sample("b", picture(10, 10), np.zeros_like(mask)),
        Sample("c", picture(5, 5)),
    ]
    numbers = fingerprint(samples, TABLE)
    assert numbers.labelled == 2
    assert numbers.class_pixels == (170, 20, 0)
    assert numbers.class_pictures == (2, 1, 0)
    assert numbers.ignore_share == pytest.approx(0.05)
    assert sum(numbers.shares) == pytest.approx(1)


def test_overlapping_classes_are_counted_each():
    labels = np.zeros((3, 8, 8), np.int8)
    labels[0, :4] = 1
    labels[1, :, :4] = 1
    labels[:, 7] = IGNORE
    numbers = fingerprint([Sample("a", picture(8, 8), labels=labels)], TABLE)
    assert numbers.class_pixels == (32, 28, 0)
    assert numbers.ignore_share == pytest.approx(1 / 8)


def test_objects_are_measured_by_the_disk_of_their_area():
    y, x = np.mgrid[:100, :100]
    plane = ((y - 30) ** 2 + (x - 30) ** 2 <= 10**2) | ((y - 75) ** 2 + (x - 70) ** 2 <= 20**2)
    np.testing.assert_allclose(sorted(object_diameters(plane)), [20, 40], rtol=0.02)
    numbers = fingerprint([Sample("a", picture(100, 100), plane.astype(np.int16))], TABLE)
    assert numbers.diameters[1] == pytest.approx(40, rel=0.02)  # four fifths of the pixels
    assert numbers.small_diameters[1] == pytest.approx(20, rel=0.02)
    assert numbers.diameters[2] is None


def test_specks_are_no_objects():
    plane = np.zeros((9, 9), bool)
    plane[0, : SMALLEST_OBJECT - 1] = True
    assert object_diameters(plane).size == 0
    plane[5, :SMALLEST_OBJECT] = True
    assert object_diameters(plane).size == 1


def test_no_pictures_at_all():
    assert fingerprint([], TABLE).pictures == 0


def test_it_can_be_written_as_json():
    import json

    mask = np.ones((4, 4), np.int16)
    tree = json.loads(json.dumps(fingerprint([Sample("a", picture(4, 4), mask)], TABLE).to_json()))
    assert tree["class_pixels"] == [0, 16, 0]
    assert tree["shares"] == [0, 1, 0]
