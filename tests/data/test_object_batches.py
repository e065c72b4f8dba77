"""Objects on their way from a sample to a batch: augmented, mixed, pasted, collated."""

import numpy as np
import pytest
import torch

from intarsia.data.augment import AugmentConfig, augment, mix, warp_objects
from intarsia.data.batches import collate
from intarsia.data.copy_paste import copy_paste
from intarsia.data.objects import laid_over, numbered
from intarsia.data.scenes import SceneConfig, draw_scene
from intarsia.records import IGNORE, Instances, Sample

SCENE = SceneConfig(height=64, width=96, objects=(5, 8))


def scene(index: int = 0) -> Sample:
    return draw_scene(SCENE, index)


def consistent(instances: Instances) -> bool:
    shown = np.unique(instances.label_image[instances.label_image > 0])
    return shown.tolist() == list(range(1, len(instances) + 1))


@pytest.mark.parametrize("seed", range(8))
def test_objects_move_with_their_picture_and_mask(seed: int) -> None:
    sample = scene(seed)
    config = AugmentConfig(crop=(48, 48), rotate=30, flip_vertical=0.5, transpose=0.5)
    moved = augment(sample, config, np.random.default_rng(seed))
    alone = augment(
        Sample(sample.name, sample.image, sample.mask), config, np.random.default_rng(seed)
    )  # the mask by itself
    assert moved.instances is not None and consistent(moved.instances)
    assert moved.mask is not None and alone.mask is not None
    # OpenCV rounds halves otherwise for floats than for whole numbers
    assert (moved.mask != alone.mask).mean() < 0.002
    np.testing.assert_array_equal(moved.image, alone.image)


def test_numbers_beyond_sixteen_bits_are_warped_exactly() -> None:
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    instances = Instances(labels, np.ones(labels.max(), np.int16))
    same = warp_objects(instances, np.eye(2, 3), (300, 300))
    np.testing.assert_array_equal(same.label_image, labels)


def test_outside_of_the_picture_nobody_knows() -> None:
    instances = Instances(np.ones((4, 4), np.int32), np.array([2], np.int16))
    shifted = warp_objects(instances, np.array([[1.0, 0, -2], [0, 1, 0]]), (4, 4))
    assert (shifted.label_image[:, :2] == IGNORE).all() and (shifted.label_image[:, 2:] == 1).all()
    assert shifted.mask[0].tolist() == [IGNORE, IGNORE, 2, 2]


def test_numbered_leaves_out_small_ones_and_keeps_the_rest_in_order() -> None:
    labels = np.array([[1, 1, 0, 3], [1, 4, 4, IGNORE]], np.int32)
    found = numbered(labels, np.array([5, 6, 7, 8]), smallest=2)
    assert found.label_image.tolist() == [[1, 1, 0, 0], [1, 2, 2, IGNORE]]
    assert found.classes.tolist() == [5, 8]


def test_what_is_laid_over_hides() -> None:
    lower = Instances(np.array([[1, 1, 2, 2]], np.int32), np.array([1, 2], np.int16))
    upper = Instances(np.array([[0, 1, 1, 1]], np.int32), np.array([3], np.int16))
    both = laid_over(lower, upper, np.array([[False, False, True, True]]))
    assert both.label_image.tolist() == [[1, 1, 2, 2]] and both.classes.tolist() == [1, 3]


@pytest.mark.parametrize("kind", ["cutmix", "classmix"])
def test_mixed_samples_have_the_objects_that_their_pixels_show(kind: str) -> None:
    samples = [scene(index) for index in range(3)]
    mixed = mix(samples, AugmentConfig(mix=kind, mix_probability=1.0), np.random.default_rng(0))
    for sample, each in zip(samples, mixed, strict=True):
        assert each.instances is not None and each.mask is not None and sample.mask is not None
        assert consistent(each.instances)
        np.testing.assert_array_equal(each.mask, each.instances.mask)
    assert any((each.mask != sample.mask).any() for sample, each in zip(samples, mixed, strict=True))


def test_a_pasted_object_is_one_more() -> None:
    samples = [scene(index) for index in range(2)]
    config = AugmentConfig(copy_paste=1.0, copy_paste_regions=1, copy_paste_soft=0.0)
    pasted = copy_paste(samples, config, np.random.default_rng(1))
    for before, after in zip(samples, pasted, strict=True):
        assert before.instances is not None and after.instances is not None and after.mask is not None
        assert consistent(after.instances)
        np.testing.assert_array_equal(after.mask, after.instances.mask)
        changed = (after.image != before.image).any(axis=2)
        assert not (after.instances.mask != before.instances.mask)[~changed].any()
    assert any((after.image != before.image).any() for before, after in zip(samples, pasted, strict=True))


def test_a_batch_knows_its_objects_and_who_has_none() -> None:
    labelled, bare = scene(), scene(1).without_labels()
    batch = collate([labelled, bare])
    assert batch.objects is not None and labelled.instances is not None
    np.testing.assert_array_equal(batch.objects[0].numpy(), labelled.instances.label_image)
    assert (batch.objects[1] == IGNORE).all()
    assert batch.object_classes[0].tolist() == labelled.instances.classes.tolist()
    assert len(batch.object_classes[1]) == 0
    assert batch.labelled is not None and batch.labelled.tolist() == [True, False]
    second = batch.select(torch.tensor([False, True]))
    assert second.objects is not None and (second.objects == IGNORE).all() and len(second.object_classes) == 1
    assert batch.to("cpu").object_classes[0].dtype == torch.int64


def test_a_batch_without_objects_says_nothing_of_them() -> None:
    sample = scene()
    batch = collate([Sample("mask alone", sample.image, sample.mask)])
    assert batch.objects is None and batch.object_classes == ()
