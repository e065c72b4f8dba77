"""Divisions: nothing twice, nothing lost, groups whole, the same for the same seed."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.data.classes import ClassTable
from intarsia.data.folder import Entry, Folder
from intarsia.data.split import choose_labelled, group_of, split
from intarsia.errors import DataError, UsageError
from intarsia.records import Classes

TABLE = ClassTable(Classes.named(["background", "thing"]))
HASHES = [f"{i * 2654435761 % 2**32:08x}{'ab' * 4}7" for i in range(50)]


def folder_of(names, unlabelled=(), lists=None):
    root = Path("somewhere")
    entries = tuple(
        Entry(name, root / f"{name}.png", () if name in unlabelled else (root / f"{name}_mask.png",)) for name in names
    )
    return Folder(root, TABLE, entries, lists=lists or {})


def frames(drive, count):
    return [f"{drive}_{i:06d}" for i in range(0, 30 * count, 30)]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("0001TP_006690", "0001TP"),
        ("0006R0_f02280", "0006R0"),
        ("patient12_slice003", "patient12"),
        ("patient12-slice-003", "patient12"),
        ("slide_A1_tile_3", "slide_A1"),
        ("slide_A1_x512_y1024", "slide_A1"),
        ("080_opaque", "080"),
        ("patient7_left", "patient7"),
        ("case_01_03", "case_01"),
        ("seq1/0001", "seq1"),
        ("seq1/frame_0001", "seq1"),
        ("site/patient3_z12", "site/patient3"),
        ("17", "17"),
        ("case17", "case17"),
        ("00071198d059ba7f5914a526d124d28e", "00071198d059ba7f5914a526d124d28e"),
        ("sunset", "sunset"),
        ("", ""),
    ],
)
def test_group_of(name, group):
    assert group_of(name) == group


def test_the_coarse_group_has_no_trailing_numbers():
    assert group_of("aachen_000000_000019", coarse=True) == "aachen"
    assert group_of("aachen_000000_000019") == "aachen_000000"


@given(st.text(max_size=30))
def test_any_name_has_a_group_that_is_part_of_it(name):
    assert group_of(name) in name
    assert group_of(name, coarse=True) in name


@given(
    st.lists(st.from_regex(r"[ab]?[0-9]{1,3}(_[0-9]{1,2})?", fullmatch=True), min_size=3, max_size=40, unique=True),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 3),
)
def test_every_picture_is_in_one_part_and_none_is_empty(names, validation, test, seed):
    parts = split(folder_of(names), validation, test, seed)
    assert sorted(parts.train + parts.validation + parts.test) == sorted(names)
    assert parts.train and parts.validation
    assert bool(parts.test) == (test > 0)


@given(st.permutations(frames("a", 8) + frames("b", 9) + frames("c", 5)), st.integers(0, 5))
def test_the_order_of_files_does_not_matter(names, seed):
    assert split(folder_of(names), seed=seed) == split(folder_of(sorted(names)), seed=seed)


def test_drives_stay_whole():
    names = [name for drive in "ABCDEFGHIJ" for name in frames(f"{drive}1", 12)]
    parts = split(folder_of(names), validation=0.2, test=0.1)
    groups = [{group_of(name) for name in part} for part in (parts.train, parts.validation, parts.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert [len(each) for each in groups] == [7, 2, 1]
    assert "10 groups" in parts.reason


def test_another_seed_holds_other_drives_back():
    names = [name for drive in "ABCDEFGHIJ" for name in frames(f"{drive}1", 4)]
    assert len({split(folder_of(names), seed=seed).validation for seed in range(6)}) > 1


@pytest.mark.parametrize(
    "names", [frames("film", 40), [f"{i:03d}" for i in range(40)], frames("a", 38) + frames("b", 2)]
)
def test_numbered_pictures_of_one_film_are_held_back_in_blocks(names):
    parts = split(folder_of(names), validation=0.2)
    ordered = sorted(names)
    held = [ordered.index(name) for name in parts.validation]
    assert len(held) == 8
    assert sum(b != a + 1 for a, b in pairwise(held)) <= 1  # two blocks of four
    assert "blocks" in parts.reason


def test_numbers_without_leading_zeros_are_in_their_order():
    parts = split(folder_of([f"frame_{i}" for i in range(40)]), validation=0.1)
    numbers = sorted(int(name.removeprefix("frame_")) for name in parts.validation)
    assert numbers == list(range(numbers[0], numbers[0] + 4))


def test_hashes_are_divided_one_by_one():
    parts = split(folder_of(HASHES), validation=0.2)
    assert len(parts.validation) == 10
    assert "no groups" in parts.reason


def test_the_folders_lists_hold():
    names = frames("a", 10)
    lists = {"train": tuple(names[:6]), "val": tuple(names[6:8]), "test": tuple(names[8:9])}
    parts = split(folder_of(names, lists=lists), validation=0.5, test=0.4)
    assert (parts.train, parts.validation, parts.test) == tuple(lists.values())
    assert "1 labelled pictures are in no list" in parts.reason


def test_what_the_lists_leave_open_is_divided():
    names = HASHES[:20]
    parts = split(folder_of(names, lists={"test": tuple(names[:5])}), validation=0.2)
    assert parts.test == tuple(sorted(names[:5]))
    assert len(parts.validation) == 3
    parts = split(folder_of(names, lists={"train": tuple(names)}), validation=0.2)
    assert len(parts.validation) == 4


def test_a_list_of_pictures_without_masks_is_told_from_a_folder_without_any():
    names = ["a", "b", "c"]
    with pytest.raises(DataError, match="no picture in the val list"):
        split(folder_of(names, unlabelled=("c",), lists={"val": ("c",)}))
    with pytest.raises(DataError, match="draw masks for a few pictures"):
        split(folder_of(names, unlabelled=names, lists={"val": ("c",)}))


def test_a_picture_in_two_lists_is_refused():
    names = HASHES[:5]
    with pytest.raises(DataError, match="both the train and the val list"):
        split(folder_of(names, lists={"train": tuple(names), "val": tuple(names[:1])}))


def test_unlabelled_pictures_are_only_trained_on():
    unlabelled = set(HASHES[:30])
    parts = split(folder_of(HASHES, unlabelled), validation=0.25, test=0.25)
    assert unlabelled <= set(parts.train)
    assert len(parts.validation) == len(parts.test) == 5
    assert not parts.hidden


def test_unlabelled_pictures_in_the_validation_list_are_left_out():
    lists = {"train": tuple(HASHES[:5]), "val": tuple(HASHES[5:10])}
    parts = split(folder_of(HASHES[:10], HASHES[5:7], lists))
    assert parts.validation == tuple(sorted(HASHES[7:10]))
    assert not set(HASHES[5:7]) & set(parts.train)


@pytest.mark.parametrize(("labelled", "kept"), [(4, 4), (0.25, 10), (1.0, 40), (0.001, 1), (None, 40)])
def test_labelled_keeps_so_many_masks(labelled, kept):
    parts = split(folder_of(HASHES), validation=0.2, labelled=labelled)
    assert len(parts.train) - len(parts.hidden) == kept
    assert parts.hidden <= set(parts.train)


@pytest.mark.parametrize("labelled", [0, 41, -1, 1.5, 0.0])
def test_a_number_of_masks_that_is_not_there_is_refused(labelled):
    with pytest.raises(UsageError):
        split(folder_of(HASHES), validation=0.2, labelled=labelled)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (-0.1, 0.0), (0.6, 0.5)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(UsageError):
        split(folder_of(HASHES), *shares)


@pytest.mark.parametrize("labelled", [0, 1])
def test_too_few_labelled_pictures_to_validate_are_refused(labelled):
    with pytest.raises(DataError, match=f"{labelled} labelled"):
        split(folder_of(HASHES, HASHES[labelled:]))


def test_validation_sees_the_rare_class_where_its_counts_are_known():
    counts = {name: np.array([100, 50 * (i < 3)]) for i, name in enumerate(HASHES)}
    for seed in range(10):
        parts = split(folder_of(HASHES), validation=0.2, seed=seed, class_counts=counts)
        for part in (parts.train, parts.validation):
            assert any(counts[name][1] for name in part)


def test_choosing_few_sees_every_class():
    counts = {name: 100 * np.eye(6, dtype=int)[0] for name in HASHES}
    for k in range(1, 6):
        counts[HASHES[7 * k]] = np.array([100, *(50 * np.eye(5, dtype=int)[k - 1])])
    for seed in range(5):
        chosen = choose_labelled(HASHES, 5, counts, seed)
        assert np.sum([counts[name] for name in chosen], axis=0).all()


def test_choosing_goes_on_with_the_class_that_was_seen_least():
    counts = {name: np.array([100, 50 * (i % 5 == 0)]) for i, name in enumerate(HASHES)}
    chosen = choose_labelled(HASHES, 20, counts, seed=1)
    assert sum(counts[name][1] > 0 for name in chosen) == 10  # all there are


def test_a_speck_does_not_count_as_seeing_a_class():
    counts = {name: np.array([100, 50]) for name in HASHES[:5]} | {name: np.array([100, 1]) for name in HASHES[5:9]}
    for seed in range(5):
        assert counts[choose_labelled(HASHES[:9], 1, counts, seed)[0]][1] == 50


@given(
    st.integers(1, 30).flatmap(lambda k: st.tuples(st.just(k), st.integers(k, 30))),
    st.integers(0, 100),
    st.booleans(),
)
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(sizes, seed, with_counts):
    rng = np.random.default_rng(seed)
    counts = {name: rng.integers(0, 4, 5) * rng.integers(0, 50, 5) for name in HASHES[:30]} if with_counts else None
    few, many = (choose_labelled(HASHES[:30], size, counts, seed) for size in sizes)
    assert many[: len(few)] == few
    assert len(set(many)) == sizes[1]
