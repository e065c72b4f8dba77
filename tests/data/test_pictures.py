"""Pictures without masks: how they are found, divided, told apart and brought to a size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from intarsia.data.pictures import Whole, covering, fitted, open_pictures
from intarsia.data.stack import Stack, as_stack
from intarsia.errors import DataError, UsageError


def draw(path: Path, value: int = 100, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def test_a_flat_folder_is_divided(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i:03x}a.png", i)
    sets = open_pictures(tmp_path, validation=0.2)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (8, 2, 0)
    assert sets.channels == 3 and len(sets.classes) == 0 and len(sets.measures) == 8
    assert sets.train[0].category is None
    names = {part[i].name for part in (sets.train, sets.validation) for i in range(len(part))}
    assert len(names) == 10


def test_masks_beside_the_pictures_are_not_taken_for_pictures(tmp_path: Path) -> None:
    for i in range(5):
        draw(tmp_path / "images" / f"{i}.png")
        cv2.imwrite(str(tmp_path / "images" / ".." / f"m{i}.png"), np.zeros((3, 3), np.uint8))
        draw(tmp_path / "masks" / f"{i}.png")
    assert len(open_pictures(tmp_path, validation=0).train) == 5


def test_a_folder_a_class_says_what_pictures_show(tmp_path: Path) -> None:
    for kind, value in (("cats", 10), ("dogs", 200)):
        for i in range(6):
            draw(tmp_path / kind / f"{i}.png", value)
    sets = open_pictures(tmp_path, validation=0.25)
    assert sets.classes.names == ("cats", "dogs")
    for part in (sets.train, sets.validation):
        assert all(part[i].category == int(part[i].image[0, 0, 0] > 100) for i in range(len(part)))


def test_folders_called_train_and_val_are_parts_and_no_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for kind in ("cats", "dogs"):
            for i in range(5):
                draw(tmp_path / part / kind / f"{i}.png")
    sets = open_pictures(tmp_path)
    assert (len(sets.train), len(sets.validation)) == (10, 10)
    assert sets.classes.names == ("cats", "dogs")


def test_a_picture_more_or_less_is_another_fingerprint(tmp_path: Path) -> None:
    for i in range(6):
        draw(tmp_path / f"{i}.png", i)
    before = open_pictures(tmp_path).fingerprint()
    assert open_pictures(tmp_path).fingerprint() == before
    draw(tmp_path / "7.png")
    assert open_pictures(tmp_path).fingerprint() != before


def test_an_array_is_divided_the_same_way_each_time() -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    one, two = (open_pictures(images, seed=3, categories=np.arange(20) % 4) for _ in range(2))
    assert one.fingerprint() == two.fingerprint() != open_pictures(images, seed=4).fingerprint()
    assert len(one.train) == 16 and one.classes.names == ("0", "1", "2", "3")


def test_too_few_pictures_and_senseless_shares_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "one.png")
    with pytest.raises(DataError, match="1 picture, too few"):
        open_pictures(tmp_path)
    assert len(open_pictures(tmp_path, validation=0).train) == 1
    with pytest.raises(DataError, match="1 picture, too few"):
        open_pictures(np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="leave nothing"):
        open_pictures(tmp_path, validation=0.6, test=0.5)
    with pytest.raises(DataError, match="does not exist"):
        open_pictures(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        open_pictures(tmp_path / "empty")


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(7, 31), (64, 48), (20, 30)])
def test_fitted_covers_keeps_the_shape_of_things_and_has_the_size(
    channels: int, dtype: type, size: tuple[int, int]
) -> None:
    image = np.zeros((20, 30, channels), dtype)
    image[5:15, 10:20] = 1  # a square in the middle stays a square in the middle
    result = fitted(image, size)
    assert result.shape == (*size, channels) and result.dtype == dtype
    assert covering(image, size).shape[0] >= size[0] and covering(image, size).shape[1] >= size[1]
    middle = result[size[0] // 2, size[1] // 2]
    assert np.all(middle == 1)


def test_halving_a_picture_takes_the_mean_of_its_pixels() -> None:
    image = np.array([[0, 100], [100, 200]], np.uint8).repeat(4, 0).repeat(4, 1)[..., None]
    checks = (np.indices((8, 8)).sum(0) % 2 * 200).astype(np.uint8)[..., None]
    assert fitted(image, (2, 2))[..., 0].tolist() == [[0, 100], [100, 200]]
    assert np.all(fitted(checks, (4, 4)) == 100)  # and shows no pattern that is not there


def test_whole_samples_keep_picture_and_class_together() -> None:
    stack = Stack(as_stack(np.zeros((2, 40, 80), np.uint8)), np.array([1, 0]))
    sample = Whole(stack, (20, 20))[0]
    assert sample.image.shape == (20, 40, 1) and sample.category == 1
