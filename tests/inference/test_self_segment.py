"""One picture divided on its own: regions that are known, the same each time, and scribbles that are heard."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from intarsia.errors import DataError, UsageError
from intarsia.inference.self_segment import SelfSegmentConfig, objective, read_scribbles, self_segment
from intarsia.metrics.regions import ClusterTable, covering
from intarsia.records import IGNORE

SMALL = SelfSegmentConfig(iterations=25, labels=8, width=8, side=32, regions=3)


def thirds(height: int = 32, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A picture of three upright stripes with a little noise, and which pixel is of which."""
    truth = np.repeat(np.arange(3), width // 3)[None].repeat(height, axis=0)
    colours = np.array([[220, 60, 50], [60, 190, 70], [50, 70, 230]])
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (colours[truth] + noise).clip(0, 255).astype(np.uint8), truth


def test_stripes_are_found_and_it_stops_there() -> None:
    image, truth = thirds()
    found = self_segment(image, SMALL)
    assert found.regions.shape == (32, 48) and found.regions.dtype == np.int16
    assert found.count == len(np.unique(found.regions)) and found.regions.max() == found.count - 1
    assert covering(truth, found.regions) > 0.85


def test_the_same_seed_gives_the_same_and_leaves_chance_alone() -> None:
    image, _ = thirds()
    few = SMALL.model_copy(update={"iterations": 6})
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = self_segment(image, few)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    np.testing.assert_array_equal(self_segment(image, few).regions, first.regions)


def test_it_never_ends_with_fewer_regions_than_wished() -> None:
    image, _ = thirds()
    for seed in range(3):
        config = SMALL.model_copy(update={"seed": seed, "continuity": 50.0, "regions": 4})
        found = self_segment(image, config)
        assert found.iterations < 25 or found.count >= 4


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    image, _ = thirds()
    found = self_segment(image, SMALL, progress=lambda done, most: told.append((done, most)))
    assert told[0] == (1, 25) and len(told) in (found.iterations, found.iterations - 1)


def test_scribbles_are_heard_and_keep_their_numbers() -> None:
    image, truth = thirds()
    scribbles = np.full(truth.shape, IGNORE, np.int16)
    for region, column in ((2, 5), (0, 24), (1, 40)):  # other numbers than any chance would give
        scribbles[4:28, column] = region
    found = self_segment(image, SMALL.model_copy(update={"regions": None, "iterations": 60}), scribbles)
    assert found.count == 3
    table = ClusterTable.zeros(3, 3)
    table.add(truth, found.regions)
    assert table.matched[[2, 0, 1]].tolist() == [0, 1, 2]
    assert table.confusion(table.matched).accuracy > 0.9


@pytest.mark.parametrize("shape", [(20, 30, 1), (9, 70, 5), (1, 12, 3), (16, 1, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_any_picture(shape: tuple[int, int, int], kind: type) -> None:
    values = np.random.default_rng(0).random(shape)
    image = values.astype(np.float32) if kind is np.float32 else (values * np.iinfo(kind).max).astype(kind)
    found = self_segment(image, SMALL.model_copy(update={"iterations": 2}))
    assert found.regions.shape == shape[:2] and found.regions.min() == 0


def test_a_blank_picture_is_one_region() -> None:
    found = self_segment(np.full((16, 16, 3), 7, np.uint8), SMALL.model_copy(update={"iterations": 2}))
    assert found.count == 1 and not found.regions.any()


def test_the_largest_region_comes_first() -> None:
    image, _ = thirds()
    image[:, 40:] = image[:, 8:16]  # the last stripe is the smallest now
    sizes = np.bincount(self_segment(image, SMALL).regions.ravel())
    assert sizes.tolist() == sorted(sizes, reverse=True)


def test_the_objective_by_hand() -> None:
    response = torch.tensor([[[[2.0, 0.0]], [[0.0, 2.0]]]])  # two labels, two pixels side by side, each sure
    likeliest = response.argmax(1)
    surprise = float(torch.log1p(torch.exp(torch.tensor(-2.0))))
    config = SelfSegmentConfig(similarity=1, continuity=0)
    assert objective(response, likeliest, None, config).item() == pytest.approx(surprise)
    config = SelfSegmentConfig(similarity=0, continuity=3)
    assert objective(response, likeliest, None, config).item() == pytest.approx(3 * 2)
    said = torch.tensor([[[1, IGNORE]]])  # somebody says that the first pixel is of the other
    config = SelfSegmentConfig(similarity=1, continuity=0, scribbled=10)
    assert objective(response, likeliest, said, config).item() == pytest.approx(surprise + 10 * (2 + surprise))
    everywhere = torch.tensor([[[0, 1]]])
    assert objective(response, likeliest, everywhere, config).item() == pytest.approx(10 * surprise)


def write(path: Path, values: np.ndarray) -> Path:
    Pillow.fromarray(values).save(path)
    return path


def test_scribbles_from_files(tmp_path: Path) -> None:
    numbers = np.zeros((4, 5), np.uint8)
    numbers[0], numbers[3] = 7, 2
    expected = np.full((4, 5), IGNORE)
    expected[0], expected[3] = 1, 0
    np.testing.assert_array_equal(read_scribbles(write(tmp_path / "zero.png", numbers), (4, 5)), expected)
    with_unknown = np.where(numbers == 0, 255, np.where(numbers == 7, 1, 0)).astype(np.uint8)
    np.testing.assert_array_equal(read_scribbles(write(tmp_path / "255.png", with_unknown), (4, 5)), expected)
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[0], colours[3] = (255, 0, 0), (0, 0, 255)
    np.testing.assert_array_equal(read_scribbles(write(tmp_path / "colours.png", colours), (4, 5)), expected)
    on_white = np.where(colours.any(axis=2, keepdims=True), colours, 255).astype(np.uint8)
    np.testing.assert_array_equal(read_scribbles(write(tmp_path / "white.png", on_white), (4, 5)), expected)


def test_scribbles_that_can_not_be_used(tmp_path: Path) -> None:
    blank = write(tmp_path / "blank.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match="5 x 4 pixels, but its picture 6 x 4"):
        read_scribbles(blank, (4, 6))
    with pytest.raises(DataError, match="holds no scribble"):
        read_scribbles(blank, (4, 5))
    lossy = tmp_path / "lossy.jpg"
    cv2.imwrite(str(lossy), np.eye(8, dtype=np.uint8) * 200)
    with pytest.raises(DataError, match="PNG"):
        read_scribbles(lossy, (8, 8))
    image, truth = thirds()
    with pytest.raises(UsageError, match="2 regions are asked for, but 3 are scribbled"):
        self_segment(image, SMALL.model_copy(update={"regions": 2}), truth.astype(np.int16))
    with pytest.raises(DataError, match="every pixel is IGNORE"):
        self_segment(image, SMALL, np.full(truth.shape, IGNORE, np.int16))
    with pytest.raises(DataError, match="are drawn on a picture"):
        self_segment(image, SMALL, truth[1:].astype(np.int16))
