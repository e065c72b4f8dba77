"""Objects from maps that are what they should be: whatever the objects, they come back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.scenes import SceneConfig, draw_scene
from intarsia.grouping.gathering import gathered, tidied
from intarsia.grouping.maps import scored
from intarsia.metrics.matching import MatchingScore
from intarsia.models.instance.instance_segnet import InstanceSegNet, InstanceSegNetConfig, targets_of
from intarsia.records import IGNORE, Batch


def batch_of(label_image: np.ndarray, classes: list[int]) -> Batch:
    objects = torch.from_numpy(label_image.astype(np.int64))[None]
    images = torch.zeros(1, 1, *label_image.shape)
    return Batch(images, objects=objects, object_classes=(torch.tensor(classes),))


def perfect(label_image: np.ndarray, classes: list[int], count: int) -> np.ndarray:
    """The maps (count + 4, H, W) that a network without fault gives."""
    kind, depth, border, down, right, _, _ = targets_of(batch_of(label_image, classes))[0].numpy()
    planes = [(kind == number).astype(np.float32) for number in range(count)]
    return np.stack([*planes, depth, border, down, right])


@pytest.mark.parametrize("index", range(6))
def test_overlapping_scenes_come_back_from_perfect_maps(index: int) -> None:
    """Rings whose centre is not theirs, parts of one piece left and right of another: all is whole again."""
    instances = draw_scene(SceneConfig(height=96, width=128, objects=(6, 10)), index).instances
    assert instances is not None
    model = InstanceSegNet(InstanceSegNetConfig(classes=5))
    found = model.objects(perfect(instances.label_image, instances.classes.tolist(), 5))
    score = MatchingScore.of(instances.label_image, found.label_image)
    assert score.at("average_precision", 0.5) == 1
    assert score.at("average_precision", 0.8) == 1
    assert sorted(found.classes.tolist()) == sorted(instances.classes.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_touching_disks_of_any_size_come_back(seed: int, most: int) -> None:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :100]
    labels = np.zeros((80, 100), np.int32)
    centres: list[tuple[float, float, float]] = []
    for _ in range(60):
        radius = generator.uniform(4, 4 + most)
        row, column = generator.uniform(radius, 80 - radius), generator.uniform(radius, 100 - radius)
        if all(np.hypot(row - r, column - c) > radius + other for r, c, other in centres):
            centres.append((row, column, radius))
            labels[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = len(centres)
    maps = perfect(labels, [1] * len(centres), 2)
    found = InstanceSegNet(InstanceSegNetConfig()).objects(maps, {"smallest": 1})
    score = MatchingScore.of(labels, found.label_image)
    assert score.at("average_precision", 0.75) == 1


def test_where_ways_are_not_believed_the_depth_is_flooded() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[5:25, 5:25], labels[5:25, 25:45] = 1, 2
    maps = perfect(labels, [1, 1], 2)
    maps[-2:] = 1000 * np.random.default_rng(0).standard_normal(maps[-2:].shape)
    model = InstanceSegNet(InstanceSegNetConfig())
    flooded = model.objects(maps, {"ways": 0.0})
    assert MatchingScore.of(labels, flooded.label_image).at("average_precision", 0.9) == 1
    assert MatchingScore.of(labels, model.objects(maps).label_image).at("average_precision", 0.5) < 1


def test_two_halves_of_one_object_are_one_and_two_neighbours_are_two() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 5:20], labels[10:30, 30:45] = 1, 1  # something lies across the middle
    labels[10:30, 20:30] = 2
    maps = perfect(labels, [1, 1], 2)
    found = gathered(labels > 0, (labels > 0) & (maps[2] > 0.3), maps[4], maps[5])
    # the bar and the two halves have the same centre: nothing but their classes could tell them apart
    assert len(np.unique(found)) == 2
    shifted = np.zeros((40, 60), np.int32)
    shifted[2:22, 5:20], shifted[2:22, 30:45], shifted[10:38, 20:30] = 1, 1, 2
    maps = perfect(shifted, [1, 1], 2)
    found = gathered(shifted > 0, (shifted > 0) & (maps[2] > 0.3), maps[4], maps[5])
    assert MatchingScore.of(shifted, found).at("average_precision", 0.8) == 1


def test_nothing_gives_nothing() -> None:
    nothing = np.zeros((5, 7), bool)
    zeros = np.zeros((5, 7), np.float32)
    assert gathered(nothing, nothing, zeros, zeros).tolist() == np.zeros((5, 7)).tolist()
    assert gathered(~nothing, nothing, zeros, zeros).max() == 0
    found = scored(np.zeros((5, 7), np.int32), np.full((2, 5, 7), 0.5, np.float32), 0.0)
    assert len(found) == 0 and found.label_image.max() == 0


def test_ways_out_of_the_picture_end_at_its_edge() -> None:
    everywhere = np.ones((6, 6), bool)
    far = np.full((6, 6), 1e6, np.float32)
    assert gathered(everywhere, everywhere, far, -far).tolist() == np.ones((6, 6)).tolist()


def test_specks_go_holes_close_and_large_parts_stay() -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[2:22, 2:22] = 5
    labels[8:11, 8:11] = 0  # a small hole
    labels[26, 30] = 5  # a speck of the same number
    labels[2:12, 30:38], labels[14:22, 30:38] = 7, 7  # two large parts
    labels[28, 2:4] = 9  # an object that is too small
    labels[15:17, 15:17] = 3  # another inside of the first: no hole
    tidy = tidied(labels, smallest=4)
    assert tidy[9, 9] == tidy[5, 5] > 0
    assert tidy[26, 30] == 0
    assert tidy[5, 33] == tidy[18, 33] > 0
    assert tidy[28, 2] == 0
    assert tidy[15, 15] not in (0, tidy[5, 5])
    assert tidy.max() == 3


def test_scores_rank_and_leave_out() -> None:
    labels = np.zeros((4, 9), np.int32)
    labels[:, :3], labels[:, 3:6], labels[:, 6:] = 1, 2, 3
    background = np.repeat([[0.4, 0.1, 0.9]], 4, axis=0).repeat(3, axis=1)
    probabilities = np.stack([background, (1 - background) * 0.2, (1 - background) * 0.8]).astype(np.float32)
    found = scored(labels, probabilities, 0.3)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert found.classes.tolist() == [2, 2]
    assert found.label_image[0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_targets_by_hand() -> None:
    labels = np.zeros((7, 12), np.int32)
    labels[1:6, 1:6], labels[1:6, 6:11] = 1, 2  # five by five, touching
    labels[6] = IGNORE
    kind, depth, border, down, right, radius, near = targets_of(batch_of(labels, [2, 1]))[0].numpy()
    assert kind[3, 3] == 2 and kind[3, 8] == 1 and kind[0, 0] == 0 and kind[6, 0] == IGNORE
    assert border[3, 5] == 1 and border[3, 6] == 1 and border[3, 3] == 0 and border[0, 0] == 0
    assert depth[3, 3] == 1 and 0 < depth[1, 1] < depth[2, 2] < 1 and depth[0, 0] == 0
    assert (down[3, 3], right[3, 3]) == (0, 0)
    assert (down[1, 1], right[1, 1]) == (2, 2) and (down[5, 10], right[5, 10]) == (-2, -2)
    np.testing.assert_allclose(radius[3, 3], np.sqrt(25 / np.pi), rtol=1e-6)
    assert near[3].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert near[0, 5] == 1 and near[6, 0] == 0


def test_the_pictures_own_edge_is_no_border() -> None:
    border = targets_of(batch_of(np.ones((6, 6), np.int32), [1]))[0, 2]
    assert border.sum() == 0


@pytest.mark.parametrize("touching", [0.0, 8.0])
def test_a_crowd_weighs_no_more_than_single_objects(touching: float) -> None:
    """An answer of 0 has the entropy ln 2 at each border, however many neighbours there are."""
    labels = np.kron(np.arange(1, 65).reshape(8, 8), np.ones((6, 6), int))
    model = InstanceSegNet(InstanceSegNetConfig(channels=1, touching=touching)).eval()
    with torch.no_grad():
        for parameter in model.segmenter.classifier.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    terms = model.loss(batch_of(labels, [1] * 64))
    assert float(terms["border"]) == pytest.approx(np.log(2), rel=1e-4)
    assert float(terms["way"]) < 2
