"""Several people's masks of one picture: found, voted on, handed on, drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.data import raters
from intarsia.data.augment import AugmentConfig, augment
from intarsia.data.batches import Cached, make_batch
from intarsia.data.check import check_folder
from intarsia.data.folder import open_folder
from intarsia.data.scenes import SceneConfig, draw_scene, place_pieces, signed_distance, write_scenes
from intarsia.data.sets import open_sets
from intarsia.drawing import write_mask
from intarsia.errors import DataError, UsageError
from intarsia.records import IGNORE, Classes, Sample

TWO = Classes.named(["background", "thing"])
SIZE = (8, 10)

# three raters of the same eight pixels, and what most of them say
A = np.array([[0, 1, 1, 0, 2, IGNORE, IGNORE, 0]], np.int16)
B = np.array([[0, 1, 0, 1, 1, 1, IGNORE, IGNORE]], np.int16)
C = np.array([[0, 0, 1, 2, 2, 1, IGNORE, 2]], np.int16)
MOST = [[0, 1, 1, IGNORE, 2, 1, IGNORE, IGNORE]]


def test_the_majority_of_three_and_ties() -> None:
    assert raters.majority([A, B, C]).tolist() == MOST
    assert raters.majority([A]).tolist() == A.tolist()
    assert raters.majority([A, A]).dtype == np.int16


@settings(deadline=None)
@given(arrays(np.int16, (5, 3, 4), elements=st.integers(IGNORE, 3)))
def test_the_majority_is_named_by_more_raters_than_any_other_class(masks: np.ndarray) -> None:
    result = raters.majority(list(masks))
    for y, x in product(range(3), range(4)):
        votes = sorted((int((masks[:, y, x] == value).sum()) for value in range(4)), reverse=True)
        if result[y, x] == IGNORE:
            assert votes[0] == votes[1]
        else:
            assert (masks[:, y, x] == result[y, x]).sum() == votes[0] > votes[1]


def test_masks_of_several_sizes_have_no_majority() -> None:
    with pytest.raises(DataError, match="one size"):
        raters.majority([A, A.T])


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("a_r0", ("a", 0)), ("a-R12", ("a", 12)), ("a_rater1", ("a", 1)), ("a_annotator_2", ("a", 2)),
        ("case_r1_r3", ("case_r1", 3)), ("a_mask_r0", ("a_mask", 0)), ("a_r", None), ("ar1", None), ("r1", None),
    ],
)  # fmt: skip
def test_endings_of_raters(stem: str, found: tuple[str, int] | None) -> None:
    assert raters.ending(stem) == found


def masks_of(name: str, count: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(ord(name[0]))
    return [generator.integers(0, 2, SIZE).astype(np.int16) for _ in range(count)]


def folder_of(root: Path, mask: str, image: str = "images/{}.png", names: str = "abc", own: str = "") -> Path:
    """Pictures, each with three raters' masks in files such as masks/{name}_r{rater}.png; those of `own` also with a
    mask of no rater, in which everything is a thing."""
    for name in names:
        path = root / image.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".npy"), np.random.default_rng(ord(name)).integers(0, 256, (*SIZE, 3), np.uint8))
        for number, each in enumerate(masks_of(name)):
            target = root / mask.format(name=name, rater=number)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_mask(target, each, TWO)
        if name in own:
            write_mask(root / "masks" / f"{name}.png", np.ones(SIZE, np.int16), TWO)
    return root


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("masks/{name}_r{rater}.png", "images/{}.png"),
        ("labels/{name}-rater{rater}.png", "images/{}.png"),
        ("masks/rater{rater}/{name}.png", "images/{}.png"),
        ("masks/r{rater}/{name}.png", "images/{}.png"),
        ("train/masks/{name}_mask_r{rater}.png", "train/images/{}.png"),
        ("{name}_rater{rater}.png", "{}.png"),
        ("{name}_mask_r{rater}.png", "{}.png"),
    ],
)
def test_every_way_to_lay_out_raters_is_the_same(tmp_path: Path, mask: str, image: str) -> None:
    folder = open_folder(folder_of(tmp_path, mask, image))
    assert [entry.name for entry in folder.entries] == ["a", "b", "c"]
    assert not folder.problems
    for entry in folder.entries:
        sample = folder.read(entry)
        assert len(sample.raters) == 3
        for one, drawn in zip(sample.raters, masks_of(entry.name), strict=True):
            np.testing.assert_array_equal(one, drawn)
        np.testing.assert_array_equal(sample.mask, raters.majority(masks_of(entry.name)))


def test_the_layout_says_how_many_raters(tmp_path: Path) -> None:
    assert "3 raters a picture" in open_folder(folder_of(tmp_path, "masks/{name}_r{rater}.png")).layout


def test_a_mask_of_no_rater_is_the_mask(tmp_path: Path) -> None:
    folder = open_folder(folder_of(tmp_path, "masks/{name}_r{rater}.png", own="b"))
    a, b, _ = (folder.read(entry) for entry in folder.entries)
    assert b.mask is not None and b.mask.min() == 1
    assert a.mask is not None and a.mask.min() == 0
    assert len(a.raters) == len(b.raters) == 3


def test_pictures_that_are_called_like_raters_stay_pictures(tmp_path: Path) -> None:
    """a_r1.png among pictures is the picture of another take, and its mask is called as it is."""
    for name in ("a", "a_r1", "a_r2"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"{name}.npy", np.zeros((*SIZE, 3), np.uint8))
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones(SIZE, np.int16), TWO)
    folder = open_folder(tmp_path)
    assert [entry.name for entry in folder.entries] == ["a", "a_r1", "a_r2"]
    assert all(len(entry.masks) == 1 and not entry.raters for entry in folder.entries)


def test_folders_of_classes_are_no_raters(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "masks/class{rater}/{name}.png")
    opened = open_folder(folder)
    assert opened.classes.names == ("class0", "class1", "class2")
    assert not any(entry.raters for entry in opened.entries)


def test_check_counts_the_raters_and_reads_every_mask(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "masks/{name}_r{rater}.png", own="c")
    found = {finding.code: finding for finding in check_folder(root).findings}
    assert "masks of 3 raters for 3 pictures" in found["raters"].message
    assert "1 picture of them also has" in found["raters"].message
    (root / "masks" / "b_r2.png").write_bytes(b"no picture")
    broken = {finding.code: finding for finding in check_folder(root).findings}["unreadable"]
    assert broken.files == ("masks/b_r2.png",)


def test_values_that_are_no_class_are_found_in_any_raters_mask(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "masks/{name}_r{rater}.png")
    open_folder(root)  # writes classes.toml
    write_mask(root / "masks" / "a_r1.png", np.full(SIZE, 3, np.int16), Classes.named(list("abcd")))
    found = {finding.code: finding for finding in check_folder(root).findings}["unknown-values"]
    assert found.files == ("masks/a_r1.png",)


def test_sets_hand_on_raters_but_not_of_hidden_pictures(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "masks/{name}_r{rater}.png", names="abcdef")
    sets = open_sets(root, labelled=2)
    counts = {sample.name: len(sample.raters) for sample in sets.train}
    assert {counts[name] for name in sets.train.hidden} == {0}
    assert sorted(counts.values())[-2:] == [3, 3]
    assert all(len(sample.raters) == 3 for sample in sets.validation)
    assert not any(sample.raters or sample.labelled for sample in sets.train.unlabelled())


def test_the_fingerprint_knows_every_raters_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "masks/{name}_r{rater}.png")
    before = open_sets(root).fingerprint()
    assert open_sets(root).fingerprint() == before
    (root / "masks" / "b_r2.png").unlink()
    assert open_sets(root).fingerprint() != before


STILL = AugmentConfig(
    crop=SIZE, scale=(1, 1), flip_horizontal=0, brightness=0, contrast=0, saturation=0, hue=0, gamma=0, blur=0, noise=0
)


def rated() -> Sample:
    image = np.zeros((*SIZE, 3), np.uint8)
    return Sample("a", image, np.full(SIZE, 9, np.int16), raters=tuple(np.full(SIZE, i, np.int16) for i in range(4)))


def test_a_crop_shows_the_majority_or_any_one_rater() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        assert np.unique(augment(rated(), STILL, generator).mask).tolist() == [9]
    random = STILL.model_copy(update={"rater": "random"})
    seen = [np.unique(augment(rated(), random, generator).mask).tolist() for _ in range(400)]
    assert all(len(each) == 1 for each in seen)  # one rater for all of a crop
    counts = np.bincount([each[0] for each in seen], minlength=4)
    assert len(counts) == 4 and counts.min() > 60  # 100 each is expected


def test_the_majority_draws_no_more_random_numbers_than_before() -> None:
    config = AugmentConfig(crop=SIZE)
    with_raters, without = (
        augment(sample, config, np.random.default_rng(3)) for sample in (rated(), replace(rated(), raters=()))
    )
    np.testing.assert_array_equal(with_raters.mask, without.mask)
    np.testing.assert_array_equal(with_raters.image, without.image)


def test_batches_that_change_nothing_else_still_draw_raters() -> None:
    config = STILL.model_copy(update={"rater": "random"})
    samples = Cached([rated()])
    masks = [make_batch(samples, config, 1, 0, number).masks for number in range(30)]
    assert len({int(each.max()) for each in masks if each is not None}) == 4


def test_cached_counts_the_raters_bytes() -> None:
    plain, several = Cached([replace(rated(), raters=())]), Cached([rated()])
    for each in (plain, several):
        each[0]
    assert plain.left - several.left == 4 * 2 * SIZE[0] * SIZE[1]


AMBIGUOUS = SceneConfig(
    height=48, width=64, raters=(0.0,) * 8, ambiguous=(("disk", "ring", 0.25), ("square", "background", 0.5))
)


@pytest.mark.parametrize("index", range(6))
def test_ambiguous_pieces_are_named_in_known_shares(index: int) -> None:
    sample = draw_scene(AMBIGUOUS, index)
    assert sample.mask is not None
    stacked = np.stack(sample.raters)
    disks, squares = sample.mask == 1, sample.mask == 2
    assert not disks.any() or (stacked[:, disks] == 1).mean() == 0.75
    assert not disks.any() or (stacked[:, disks] == 4).mean() == 0.25
    assert not squares.any() or (stacked[:, squares] == 2).mean() == 0.5
    for rater in stacked:  # all of a picture's disks are called the same
        assert len(np.unique(rater[disks])) <= 1
    others = (sample.mask == 3) | (sample.mask == 4)
    assert (stacked[:, others] == sample.mask[others]).all()


def test_what_is_left_out_shows_what_lies_below() -> None:
    config = replace(AMBIGUOUS, ambiguous=(("square", "background", 1.0),))
    for index in range(6):
        sample = draw_scene(config, index)
        below = np.zeros(sample.size, int)
        for piece in place_pieces(config, index):
            if piece.kind != 2:
                below[signed_distance(piece, *sample.size) <= 0] = piece.kind
        np.testing.assert_array_equal(sample.raters[0], below)


def test_ambiguity_changes_neither_picture_nor_true_mask() -> None:
    plain, ambiguous = draw_scene(replace(AMBIGUOUS, raters=(), ambiguous=()), 2), draw_scene(AMBIGUOUS, 2)
    np.testing.assert_array_equal(plain.image, ambiguous.image)
    np.testing.assert_array_equal(plain.mask, ambiguous.mask)


@pytest.mark.parametrize("wrong", [("disk", "disk", 0.5), ("background", "disk", 0.5), ("disk", "star", 0.5),
                                   ("disk", "ring", 1.5)])  # fmt: skip
def test_an_ambiguity_that_makes_no_sense_is_refused(wrong: tuple[str, str, float]) -> None:
    with pytest.raises(UsageError, match="ambiguous"):
        SceneConfig(ambiguous=(wrong,))


def test_written_raters_are_read_back(tmp_path: Path) -> None:
    folder = open_folder(write_scenes(tmp_path, 5, AMBIGUOUS, labelled=2))
    for index, entry in enumerate(folder.entries):
        read, drawn = folder.read(entry), draw_scene(AMBIGUOUS, index)
        assert len(read.raters) == (8 if index < 2 or index == 4 else 0)
        for one, other in zip(read.raters, drawn.raters, strict=bool(read.raters)):
            np.testing.assert_array_equal(one, other)
