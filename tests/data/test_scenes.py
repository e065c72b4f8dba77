"""Drawn scenes: the same for the same seed, with masks that are exact by construction."""

from dataclasses import replace

import numpy as np
import pytest

from intarsia.data.folder import open_folder
from intarsia.data.scenes import (
    BOARD_AT,
    CLASSES,
    CROWD,
    FURTHEST,
    SceneConfig,
    draw_depth,
    draw_scene,
    draw_scenes,
    place_pieces,
    signed_distance,
    write_scenes,
)
from intarsia.errors import UsageError

CONFIG = SceneConfig(seed=3)


def test_the_same_index_gives_the_same_picture_whatever_was_drawn_before():
    alone = draw_scene(CONFIG, 4)
    in_a_row = list(draw_scenes(CONFIG, 6))[4]
    np.testing.assert_array_equal(alone.image, in_a_row.image)
    np.testing.assert_array_equal(alone.mask, in_a_row.mask)
    assert alone.name == in_a_row.name == "scene_0004"


def test_seed_and_index_each_give_another_picture():
    first, other_index, other_seed = draw_scene(CONFIG, 0), draw_scene(CONFIG, 1), draw_scene(SceneConfig(seed=4), 0)
    assert (first.image != other_index.image).mean() > 0.5
    assert (first.image != other_seed.image).mean() > 0.5


def test_shapes_and_types():
    sample = draw_scene(SceneConfig(height=50, width=70), 0)
    assert sample.image.shape == (50, 70, 3)
    assert sample.image.dtype == np.uint8
    assert sample.mask.shape == (50, 70)
    assert sample.mask.dtype == np.int16
    assert 0 <= sample.mask.min() <= sample.mask.max() < len(CLASSES)


@pytest.mark.parametrize("index", range(5))
def test_the_mask_is_the_top_piece_at_each_pixel(index):
    sample = draw_scene(CONFIG, index)
    mask = np.zeros(sample.size, int)
    for piece in place_pieces(CONFIG, index):
        mask[signed_distance(piece, *sample.size) <= 0] = piece.kind
    np.testing.assert_array_equal(sample.mask, mask)


def test_a_disk_has_the_area_of_a_disk():
    piece = next(p for i in range(50) for p in place_pieces(CONFIG, i) if p.kind == 1)
    inside = (signed_distance(piece._replace(x=60.0, y=48.0), 96, 128) <= 0).sum()
    assert inside == pytest.approx(np.pi * (0.9 * piece.radius) ** 2, rel=0.03)


@pytest.mark.parametrize("index", range(8))
def test_instances_are_numbered_without_gaps_and_agree_with_the_mask(index):
    sample = draw_scene(CONFIG, index)
    numbers = np.unique(sample.instances.label_image)
    objects = len(sample.instances.classes)
    assert set(numbers) <= set(range(objects + 1))
    assert set(range(1, objects + 1)) <= set(numbers)
    classes = np.concatenate([[0], sample.instances.classes])
    np.testing.assert_array_equal(classes[sample.instances.label_image], sample.mask)


def test_raters_draw_larger_and_smaller_by_whole_rings_around_the_truth():
    sample = draw_scene(SceneConfig(raters=(-2.0, 0.0, 2.0), objects=(3, 3)), 1)
    smaller, true, larger = (mask > 0 for mask in sample.raters)
    np.testing.assert_array_equal(sample.raters[1], sample.mask)
    assert not (smaller & ~true).any()
    assert not (true & ~larger).any()
    assert smaller.sum() < true.sum() < larger.sum()


def test_raters_do_not_change_the_picture():
    with_raters, without = draw_scene(SceneConfig(raters=(1.0,)), 0), draw_scene(SceneConfig(), 0)
    np.testing.assert_array_equal(with_raters.image, without.image)


def test_pieces_are_nearer_than_the_board():
    sample, depth = draw_scene(CONFIG, 0), draw_depth(CONFIG, 0)
    assert depth.shape == sample.size
    assert depth.dtype == np.float32
    board = draw_depth(replace(CONFIG, objects=(0, 0)), 0)
    np.testing.assert_allclose(board, BOARD_AT, atol=0.22)
    top = np.zeros(sample.size)
    for piece in place_pieces(CONFIG, 0):
        top[signed_distance(piece, *sample.size) <= 0] = 0.008 * piece.height
    read = depth > 0
    assert 0.9 < read.mean() < 1
    np.testing.assert_allclose((board - depth)[read], top[read], atol=1e-5)


def test_depth_as_the_fourth_channel():
    config = SceneConfig(seed=3, depth=True)
    image = draw_scene(config, 0).image
    assert image.shape == (96, 128, 4)
    assert image.dtype == np.float32
    assert 0 <= image.min() <= image.max() <= 1
    np.testing.assert_allclose(image[..., 3] * FURTHEST, draw_depth(config, 0), rtol=1e-6)


def test_no_threshold_finds_the_pieces():
    samples = list(draw_scenes(SceneConfig(), 20))
    truth = np.concatenate([s.mask.ravel() > 0 for s in samples])
    best = 0.0
    for channel in range(3):
        values = np.concatenate([s.image[..., channel].ravel() for s in samples])
        for level in range(20, 240, 20):
            for found in (values > level, values < level):
                best = max(best, (found & truth).sum() / (found | truth).sum())
    assert best < 0.6


def test_every_class_is_drawn_and_the_ring_is_rarest():
    kinds = np.concatenate([s.instances.classes for s in draw_scenes(SceneConfig(height=48, width=64), 60)])
    counts = np.bincount(kinds, minlength=5)[1:]
    assert counts.min() == counts[3] > 10


def test_without_noise_texture_and_light_the_picture_is_plain():
    image = draw_scene(SceneConfig(noise=0, texture=0, light=0, blur=0, objects=(0, 0)), 0).image
    smooth = np.abs(np.diff(image.astype(int), axis=1)).max()
    assert smooth <= 6


@pytest.mark.parametrize(
    "wrong",
    [{"height": 8}, {"objects": (3, 2)}, {"noise": -1.0}, {"cue": 1.5}, {"sizes": (0.2, 0.1)}, {"sizes": (0.0, 0.1)},
     {"together": 1.1}],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        SceneConfig(**wrong)


def test_written_scenes_are_read_back_as_they_were(tmp_path):
    config = SceneConfig(height=32, width=40)
    folder = open_folder(write_scenes(tmp_path / "scenes", 5, config))
    assert folder.classes == CLASSES
    assert {key: len(names) for key, names in folder.lists.items()} == {"train": 4, "val": 1}
    assert folder.problems == ()
    for index, entry in enumerate(folder.entries):
        read, drawn = folder.read(entry), draw_scene(config, index)
        np.testing.assert_array_equal(read.image, drawn.image)
        np.testing.assert_array_equal(read.mask, drawn.mask)


def test_a_crowd_touches_overlaps_and_differs_in_size():
    touching, counts, areas, uncovered = 0, [], [], []
    for index in range(2):
        sample = draw_scene(CROWD, index)
        labels, pieces = sample.instances.label_image, place_pieces(CROWD, index)
        counts.append(len(sample.instances))
        areas += np.bincount(labels.ravel())[1:].tolist()
        ours, theirs = np.concatenate([
            np.stack([labels[:, 1:], labels[:, :-1]]).reshape(2, -1), np.stack([labels[1:], labels[:-1]]).reshape(2, -1)
        ], axis=1)  # fmt: skip
        apart = (ours != theirs) & (ours > 0) & (theirs > 0)
        touching += len(set(ours[apart]) | set(theirs[apart]))
        whole = [(signed_distance(piece, CROWD.height, CROWD.width) <= 0).sum() for piece in pieces]
        uncovered.append((labels > 0).sum() / sum(whole))
        assert len(sample.instances) == len(pieces), "none is quite hidden"
    assert CROWD.objects[0] <= min(counts) and max(counts) <= CROWD.objects[1] and np.mean(counts) > 30
    assert touching / sum(counts) > 0.8
    assert np.mean(uncovered) < 0.95, "some of it lies over others"
    assert np.quantile(areas, 0.95) > 10 * np.quantile(areas, 0.05) and min(areas) >= 10


def test_pieces_that_are_laid_together_are_drawn_the_same_without_the_wish():
    assert place_pieces(replace(CONFIG, together=0.0), 3) == place_pieces(CONFIG, 3)
    assert place_pieces(replace(CONFIG, together=1.0), 3) != place_pieces(CONFIG, 3)


def test_label_images_tell_pieces_and_classes(tmp_path):
    config = replace(CROWD, height=48, width=64, objects=(6, 10), seed=2)
    folder = open_folder(write_scenes(tmp_path, 5, config, labelled=2, objects=True), objects=True)
    assert folder.classes == CLASSES and folder.problems == ()
    assert sum(folder.labelled(entry) for entry in folder.entries) == 3
    for index, entry in enumerate(folder.entries):
        read, drawn = folder.read(entry), draw_scene(config, index)
        assert (read.instances is not None) == folder.labelled(entry)
        if read.instances is not None:
            np.testing.assert_array_equal(read.mask, drawn.mask)
            np.testing.assert_array_equal(np.sort(read.instances.classes), np.sort(drawn.instances.classes))
            pairs = np.unique(
                np.stack([read.instances.label_image, drawn.instances.label_image]).reshape(2, -1), axis=1
            )
            assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1])), "one number for each piece"
    semantic = open_folder(tmp_path)
    np.testing.assert_array_equal(semantic.read(semantic.entries[0]).mask, draw_scene(config, 0).mask)


@pytest.mark.parametrize("wrong", [{"raters": (0.0, 2.0)}, {"objects": (3, 1000)}])
def test_label_images_hold_one_raters_objects(tmp_path, wrong):
    with pytest.raises(UsageError, match="fewer than 1000"):
        write_scenes(tmp_path, 4, replace(CROWD, **wrong), objects=True)


def test_only_some_masks_are_written_and_validation_has_all(tmp_path):
    folder = open_folder(write_scenes(tmp_path, 10, SceneConfig(height=24, width=24), labelled=3))
    known = {entry.name for entry in folder.entries if folder.labelled(entry)}
    assert len(known & set(folder.lists["train"])) == 3
    assert set(folder.lists["val"]) <= known


def test_scenes_with_depth_are_read_back(tmp_path):
    config = SceneConfig(height=24, width=24, depth=True)
    folder = open_folder(write_scenes(tmp_path, 2, config))
    np.testing.assert_allclose(folder.read(folder.entries[1]).image, draw_scene(config, 1).image, atol=1e-6)


@pytest.mark.parametrize(("count", "labelled"), [(1, None), (5, 9)])
def test_numbers_that_make_no_sense_are_refused(tmp_path, count, labelled):
    with pytest.raises(UsageError):
        write_scenes(tmp_path, count, labelled=labelled)
