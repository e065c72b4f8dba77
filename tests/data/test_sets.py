"""What a training is given of a folder: its parts, their channels, and which masks it may look at."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.data.sets import open_sets
from intarsia.drawing import write_mask
from intarsia.errors import DataError, UsageError
from intarsia.records import Classes

TWO = Classes.named(["background", "thing"])
SIZE = (24, 32)


def folder_of(root: Path, channels: Mapping[str, int], unlabelled: tuple[str, ...] = ()) -> Path:
    """Pictures by name with so many channels, each with a mask of two classes unless it is unlabelled."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number, (name, count) in enumerate(channels.items()):
        generator = np.random.default_rng(number)
        np.save(root / "images" / f"{name}.npy", generator.integers(0, 256, (*SIZE, count), np.uint8))
        if name not in unlabelled:
            write_mask(root / "masks" / f"{name}.png", generator.integers(0, 2, SIZE).astype(np.int16), TWO)
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 10, SceneConfig(height=32, width=48), labelled=6)


def test_the_parts_are_those_of_the_lists(scenes: Path) -> None:
    sets = open_sets(scenes)
    assert [len(part) for part in (sets.train, sets.validation, sets.test)] == [8, 2, 0]
    assert len(sets.train.labelled()) == len(sets.measures) == 6
    assert sets.classes.names == ("background", "disk", "square", "triangle", "ring")
    assert [sample.name for sample in sets.train] == [entry.name for entry in sets.train.entries]
    assert [sample.labelled for sample in sets.train].count(True) == 6


def test_progress_is_told_for_each_labelled_picture(scenes: Path) -> None:
    told: list[tuple[int, int]] = []
    open_sets(scenes, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 6) for i in range(1, 7)]


def test_hidden_masks_are_not_seen(scenes: Path) -> None:
    sets = open_sets(scenes, labelled=2)
    assert len(sets.train) == 8
    assert len(sets.train.hidden) == 4
    assert [sample.labelled for sample in sets.train].count(True) == 2
    assert [sample.name for sample in sets.train.labelled()] == [measure.name for measure in sets.measures]
    assert all(sample.labelled for sample in sets.train.labelled())
    assert all(sample.labelled for sample in sets.validation)
    assert open_sets(scenes, labelled=2).splits == sets.splits
    with pytest.raises(UsageError, match="7 labelled pictures"):
        open_sets(scenes, labelled=7)


def test_the_fingerprint_tells_files_parts_and_hidden_masks(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {f"{group}_{i}": 3 for group in "abcd" for i in range(3)})
    first = open_sets(root, seed=1).fingerprint()
    assert open_sets(root, seed=1).fingerprint() == first
    assert open_sets(root, seed=1, labelled=3).fingerprint() != first
    assert open_sets(root, seed=1, test=0.25).fingerprint() != first
    np.save(root / "images" / "a_0.npy", np.zeros((*SIZE, 4), np.uint8))
    assert open_sets(root, seed=1).fingerprint() != first


def test_the_fingerprint_tells_changed_outlines(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        np.save(tmp_path / "images" / f"{name}.npy", np.zeros((*SIZE, 3), np.uint8))

    def annotated(width: int) -> str:
        outline = [2, 2, 2 + width, 2, 2 + width, 9, 2, 9]
        coco = {
            "images": [
                {"id": i, "file_name": f"images/{name}.npy", "height": SIZE[0], "width": SIZE[1]}
                for i, name in enumerate("ab")
            ],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "segmentation": [outline], "area": 7.0 * width,
                 "bbox": [2, 2, width, 7], "iscrowd": 0}
                for i in range(2)
            ],
        }  # fmt: skip
        (tmp_path / "annotations.json").write_text(json.dumps(coco))
        return open_sets(tmp_path, validation=0).fingerprint()

    assert annotated(5) == annotated(5)
    assert annotated(5) != annotated(6)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [((1, 1), 1), ((3, 3), 3), ((1, 3), 3), ((1, 1, 1, 3), 3), ((4, 4, 3), 3), ((1, 3, 4), 3), ((4, 4), 4), ((5, 5), 5),
     ((1, 4, 4), 4)],
)  # fmt: skip
def test_mixed_channels_become_what_all_can_be(tmp_path: Path, channels: tuple[int, ...], expected: int) -> None:
    root = folder_of(tmp_path / "set", {f"picture{chr(97 + i)}": c for i, c in enumerate(channels)})
    sets = open_sets(root, validation=0)
    assert sets.train.channels == expected
    assert {sample.image.shape for sample in sets.train} == {(*SIZE, expected)}


def test_grey_among_colour_is_grey_on_three_channels(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"grey": 1, "colour": 3})
    grey = next(sample for sample in open_sets(root, validation=0).train if sample.name == "grey")
    assert np.array_equal(grey.image, np.repeat(np.load(root / "images" / "grey.npy"), 3, axis=2))


def test_channels_that_no_rule_makes_alike_are_refused_with_the_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"one": 3, "other": 3, "infrared": 2})
    with pytest.raises(DataError, match=r"infrared\.npy.*2 channels where 3"):
        list(open_sets(root, validation=0).train)


def test_left_out_groups_are_what_is_validated_on(tmp_path: Path) -> None:
    names = [f"{drive}_{i:03d}" for drive in ("north", "south", "west") for i in range(4)]
    root = folder_of(tmp_path / "set", dict.fromkeys(names, 3), unlabelled=("south_000", "west_000"))
    sets = open_sets(root, leave_out=["south"])
    assert sets.splits.validation == ("south_001", "south_002", "south_003")  # what has no mask can't be validated on
    assert all(sample.labelled for sample in sets.validation)
    assert not any(name.startswith("south") for name in sets.splits.train)  # nor is it learnt from
    assert "south" in sets.splits.reason
    with pytest.raises(DataError, match=r"'east'.*north, south, west"):
        open_sets(root, leave_out=["east"], validation=0)


def test_leaving_out_a_group_without_masks_is_refused(tmp_path: Path) -> None:
    names = [f"{drive}_{i:03d}" for drive in ("north", "south") for i in range(3)]
    root = folder_of(tmp_path / "set", dict.fromkeys(names, 3), unlabelled=tuple(names[3:]))
    with pytest.raises(DataError, match="south, of which no picture with a mask"):
        open_sets(root, leave_out=["south"], validation=0)


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"a": 3, "b": 3}, unlabelled=("a", "b"))
    with pytest.raises(DataError):
        open_sets(root, validation=0)


def test_a_folder_without_masks_is_all_training_part_for_a_model_that_finds_regions(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 5, SceneConfig(height=16, width=16))
    bare = tmp_path / "bare"
    (tmp_path / "scenes" / "images").rename(bare)
    sets = open_sets(bare, regions=3)
    assert sets.classes.names == ("region 1", "region 2", "region 3")
    assert len(sets.train) == 5 and not len(sets.validation) and not len(sets.train.labelled())
    assert not any(sample.labelled for sample in sets.train)
    with pytest.raises(DataError, match="0 labelled pictures"):
        open_sets(bare)


def test_pictures_come_without_their_masks_where_these_are_not_to_be_seen(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 6, SceneConfig(height=16, width=16))
    sets = open_sets(folder, labelled=2)
    bare = sets.train.unlabelled()
    assert len(bare) == len(sets.train) and not any(sample.labelled for sample in bare)
    for path in (folder / "masks").iterdir():
        path.write_bytes(b"no mask any more")
    assert [sample.name for sample in bare] == [entry.name for entry in sets.train.entries]  # no mask file is opened


def made_pairs(folder: Path, names: list[str] | None = None) -> Path:
    write_scenes(folder, 3, SceneConfig(height=16, width=16, seed=9))
    for kind in ("images", "masks"):
        for number, path in enumerate(sorted((folder / kind).iterdir())):
            path.rename(path.with_name(f"{names[number] if names else f'made{number}'}.png"))
    for name in ("train.txt", "val.txt"):
        (folder / name).unlink()
    return folder


def test_made_pairs_are_another_stream_and_change_the_fingerprint(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 6, SceneConfig(height=16, width=16))
    sets = open_sets(folder, generated=made_pairs(tmp_path / "made"))
    assert sets.generated is not None and len(sets.generated) == 3 and len(sets.train) == 5
    assert all(sample.mask is not None for sample in sets.generated)
    assert sets.fingerprint() != open_sets(folder).fingerprint()


def test_made_pairs_of_other_classes_or_of_pictures_held_back_are_refused(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 6, SceneConfig(height=16, width=16))
    held_back = (folder / "val.txt").read_text().split()[0]
    with pytest.raises(DataError, match="holds back"):
        open_sets(folder, generated=made_pairs(tmp_path / "leak", ["a", held_back, "c"]))
    other = made_pairs(tmp_path / "other")
    table = (other / "classes.toml").read_text().replace('name = "ring"', 'name = "wheel"')
    (other / "classes.toml").write_text(table)
    with pytest.raises(DataError, match="same classes"):
        open_sets(folder, generated=other)
    empty = made_pairs(tmp_path / "empty")
    for path in (empty / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no picture with a mask"):
        open_sets(folder, generated=empty)


def test_pairs_made_by_what_had_learnt_from_pictures_held_back_are_refused(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 6, SceneConfig(height=16, width=16))
    held_back = (folder / "val.txt").read_text().split()[0]
    made = made_pairs(tmp_path / "made")
    (made / "synthesis.json").write_text(json.dumps({"learnt_from": ["scene_0000"]}))
    assert open_sets(folder, generated=made).generated is not None
    (made / "synthesis.json").write_text(json.dumps({"learnt_from": ["scene_0000", held_back]}))
    with pytest.raises(DataError, match="same division"):
        open_sets(folder, generated=made)
