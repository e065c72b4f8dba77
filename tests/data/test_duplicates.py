"""Near-duplicates: the same picture seen again, and not pictures that are merely alike in light."""

import cv2
import numpy as np
import pytest

from intarsia.data.duplicates import grouped, near_duplicates, thumbnail
from intarsia.data.scenes import SceneConfig, draw_scenes

IMAGES = [sample.image for sample in draw_scenes(SceneConfig(), 12)]


def groups(images):
    return near_duplicates([thumbnail(image) for image in images])


def jpeg(image):
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_different_pictures_are_no_duplicates():
    assert groups(IMAGES) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: cv2.resize(image, None, fx=2.3, fy=2.3),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        jpeg,
        lambda image: (0.7 * image + 30).astype(np.uint8),
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image.astype(np.float32) / 255,
        lambda image: image[1:, 1:],
    ],
    ids=["equal", "larger", "smaller", "jpeg", "brighter", "16-bit", "float", "cut by a pixel"],
)
def test_a_picture_is_found_again(change):
    assert groups([*IMAGES, change(IMAGES[5])]) == [(5, 12)]


def test_plain_pictures_that_share_their_vignette_are_told_apart():
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    vignette = 120 * np.exp(-(x**2) - y**2)
    rng = np.random.default_rng(0)
    fields = []
    for _ in range(20):
        cells = np.zeros((200, 200))
        for _ in range(10):
            cv2.circle(cells, tuple(int(v) for v in rng.integers(0, 200, 2)), 8, 40, -1)
        fields.append((20 + vignette + cells + rng.normal(0, 3, cells.shape)).clip(0, 255).astype(np.uint8)[..., None])
    assert groups(fields) == []
    assert groups([*fields, fields[3] // 2 + 60]) == [(3, 20)]


def test_dark_pictures_with_nothing_but_noise_are_no_duplicates():
    rng = np.random.default_rng(1)
    assert groups([rng.poisson(2, (256, 256, 1)).astype(np.uint8) for _ in range(20)]) == []
    assert groups([np.zeros((64, 64, 1), np.uint8)] * 5) == []


def test_what_hangs_together_is_one_group():
    assert grouped(np.array([0, 2, 5]), np.array([2, 3, 6]), 8) == [(0, 2, 3), (5, 6)]
    assert grouped(np.array([], int), np.array([], int), 4) == []


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_two_pictures_have_no_duplicates(count):
    assert groups(IMAGES[:count]) == []
