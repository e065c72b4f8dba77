"""Drawn scenes laid out in every way that people write objects down are the same objects, numbers aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

import intarsia
from intarsia.data.check import check_folder
from intarsia.data.classes import ClassTable, read_class_table, write_class_table
from intarsia.data.folder import Folder, open_folder
from intarsia.data.object_masks import layered
from intarsia.data.scenes import CLASSES, SceneConfig, draw_scene
from intarsia.data.sets import open_sets
from intarsia.errors import DataError
from intarsia.records import IGNORE, Classes, Instances, Sample

CONFIG = SceneConfig(height=48, width=64, objects=(5, 9), seed=3)
SAMPLES = [draw_scene(CONFIG, index) for index in range(3)]
KINDS = CLASSES.names[1:]


def truth(sample: Sample) -> Instances:
    assert sample.instances is not None
    return sample.instances


def planes(sample: Sample) -> Iterator[np.ndarray]:
    """One binary mask (H, W) bool an object."""
    return (truth(sample).label_image == number for number in range(1, len(truth(sample)) + 1))


def assert_same(found: Instances, wanted: Instances, classes: bool = True) -> None:
    """Equal pixel by pixel, numbers aside; with their classes."""
    pairs = np.unique(np.stack([found.label_image.ravel(), wanted.label_image.ravel()]), axis=1).T
    assert len(pairs) == len(np.unique(found.label_image)) == len(np.unique(wanted.label_image))
    assert all((a <= 0 and a == b) or (a > 0 and b > 0) for a, b in pairs)
    assert len(found) == len(wanted) and found.label_image.dtype == np.int32 and found.classes.dtype == np.int16
    if classes:
        np.testing.assert_array_equal(found.mask, wanted.mask)


def put(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, values)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        Pillow.fromarray(values).save(path)
    return path


def scattered(sample: Sample, highest: int) -> np.ndarray:
    """The label image with other numbers, as they are after some objects were deleted."""
    count = len(truth(sample))
    numbers = 1 + np.linspace(3, highest - 2, count).astype(np.int64)
    return np.concatenate([[0], numbers])[truth(sample).label_image]


# ------------------------------------------------------------------------------------------ layouts


def bytes_png(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.png", scattered(sample, 200).astype(np.uint8))


def sixteen_png(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.png", scattered(sample, 60000).astype(np.uint16))


def thirty_two_tiff(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.tif", scattered(sample, 3_000_000).astype(np.uint32))


def signed_npy(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.npy", scattered(sample, 2**31 - 1).astype(np.int32))


def colours(root: Path, sample: Sample) -> None:
    packed = scattered(sample, 2**24 - 1)
    put(
        root / f"masks/{sample.name}.png",
        np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8),
    )


def a_file_an_object(root: Path, sample: Sample) -> None:
    for number, plane in enumerate(planes(sample)):
        put(root / f"masks/{sample.name}/{number}.png", plane.astype(np.uint8) * 255)


def data_science_bowl(root: Path, sample: Sample) -> None:
    for number, plane in enumerate(planes(sample)):
        put(root / f"stage1_train/{sample.name}/masks/{number:x}f.png", plane.astype(np.uint8) * 255)


def array_of_masks(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.npy", np.stack([*planes(sample)]))


def archive_of_masks(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.npz", np.asfortranarray(np.stack([*planes(sample)])).astype(np.uint8))


ONE_CLASS = [
    bytes_png, sixteen_png, thirty_two_tiff, signed_npy, colours, a_file_an_object, data_science_bowl, array_of_masks,
    archive_of_masks,
]  # fmt: skip


def lay_out(root: Path, write: Callable[[Path, Sample], None]) -> Path:
    for sample in SAMPLES:
        own = f"stage1_train/{sample.name}/images" if write is data_science_bowl else "images"
        put(root / own / f"{sample.name}.png", sample.image)
        write(root, sample)
    return root


@pytest.mark.parametrize("write", ONE_CLASS)
def test_objects_of_one_class(tmp_path: Path, write: Callable[[Path, Sample], None]) -> None:
    folder = open_folder(lay_out(tmp_path, write), objects=True)
    assert folder.classes.names == ("background", "object") and folder.table.coding == "objects"
    assert not folder.problems and len(folder.entries) == 3
    for entry, wanted in zip(folder.entries, SAMPLES, strict=True):
        sample = folder.read(entry)
        assert sample.instances is not None and sample.mask is not None
        assert_same(sample.instances, truth(wanted), classes=False)
        np.testing.assert_array_equal(sample.mask, truth(wanted).label_image > 0)
    assert read_class_table(tmp_path / "classes.toml") == folder.table == open_folder(tmp_path, objects=True).table
    as_masks = open_folder(tmp_path)
    assert as_masks.classes == folder.classes
    sample = as_masks.read(as_masks.entries[0])
    assert sample.instances is None
    np.testing.assert_array_equal(sample.mask, truth(SAMPLES[0]).label_image > 0)


@pytest.mark.parametrize("write", [a_file_an_object, data_science_bowl, array_of_masks])
def test_layouts_that_only_objects_have_open_for_masks_too(
    tmp_path: Path, write: Callable[[Path, Sample], None]
) -> None:
    folder = open_folder(lay_out(tmp_path, write))
    np.testing.assert_array_equal(folder.read(folder.entries[1]).mask, truth(SAMPLES[1]).label_image > 0)
    assert folder.table == open_folder(tmp_path, objects=True).table
    report = check_folder(tmp_path)
    assert report.exit_code == 0 and report.fingerprint.objects == sum(len(truth(sample)) for sample in SAMPLES)


def with_a_table(root: Path, sample: Sample) -> None:
    numbers = scattered(sample, 250)
    put(root / f"masks/{sample.name}.png", numbers.astype(np.uint8))
    _name(root, sample, [str(numbers[plane][0]) for plane in planes(sample)])


def files_with_a_table(root: Path, sample: Sample) -> None:
    a_file_an_object(root, sample)
    _name(root, sample, [str(number) for number in range(len(truth(sample)))])


def array_with_a_table(root: Path, sample: Sample) -> None:
    array_of_masks(root, sample)
    _name(root, sample, [str(number) for number in range(1, len(truth(sample)) + 1)])


def _name(root: Path, sample: Sample, ids: list[str]) -> None:
    path = root / "objects.csv"
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else ["class,score,id,name"]
    kinds = [CLASSES.names[number] for number in truth(sample).classes]
    lines += [f"{kind},0.5,{number},{sample.name}" for number, kind in zip(ids, kinds, strict=True)]
    path.write_text("\n".join(lines), encoding="utf-8-sig")


def a_folder_a_class(root: Path, sample: Sample) -> None:
    for number, kind in enumerate(KINDS, start=1):
        shown = np.where(truth(sample).mask == number, truth(sample).label_image, 0)
        put(root / f"masks/{kind}/{sample.name}.png", shown.astype(np.uint16))


def with_a_divisor(root: Path, sample: Sample) -> None:
    numbers = np.where(truth(sample).mask > 0, truth(sample).mask * 1000 + truth(sample).label_image, 7)
    put(root / f"masks/{sample.name}_instanceIds.png", numbers.astype(np.uint16))
    put(root / f"masks/{sample.name}_labelIds.png", truth(sample).mask.astype(np.uint8))


def coco_runs(root: Path, sample: Sample) -> None:
    _coco(root, sample, lambda plane: {"size": list(plane.shape), "counts": _runs(plane)})


def coco_polygons(root: Path, sample: Sample) -> None:
    _coco(root, sample, _bars)


def _coco(root: Path, sample: Sample, outline: Callable[[np.ndarray], object]) -> None:
    path = root / "annotations.json"
    tree = json.loads(path.read_text()) if path.is_file() else {"images": [], "annotations": []}
    tree["categories"] = [{"id": 10 * number, "name": name} for number, name in enumerate(KINDS, start=1)]
    height, width = sample.size
    tree["images"].append({"id": sample.name, "file_name": f"{sample.name}.png", "height": height, "width": width})
    for plane, class_ in zip(planes(sample), truth(sample).classes.tolist(), strict=True):
        annotation = {"id": len(tree["annotations"]) + 1, "image_id": sample.name, "category_id": 10 * class_}
        tree["annotations"].append({**annotation, "segmentation": outline(plane), "iscrowd": 0})
    path.write_text(json.dumps(tree))


def _runs(plane: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], plane.T.ravel().astype(int), [0]])
    borders = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], borders, [plane.size]] if len(borders) and borders[-1] < plane.size else [[0], borders])
    return np.diff(ends).tolist()


def _bars(plane: np.ndarray) -> list[list[int]]:
    """A rectangle a run of a row: polygons that cover exactly the pixels."""
    rings = []
    for row, line in enumerate(plane):
        borders = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]]))).reshape(-1, 2)
        rings += [[x0, row, x1, row, x1, row + 1, x0, row + 1] for x0, x1 in borders.tolist()]
    return rings


SEVERAL = [
    with_a_table, files_with_a_table, array_with_a_table, a_folder_a_class, with_a_divisor, coco_runs, coco_polygons,
]  # fmt: skip


@pytest.mark.parametrize("write", SEVERAL)
def test_objects_of_several_classes(tmp_path: Path, write: Callable[[Path, Sample], None]) -> None:
    folder = open_folder(lay_out(tmp_path, write), objects=True)
    assert folder.classes.names[0] == "background" and not folder.problems
    if write is with_a_divisor:
        assert folder.classes.names[1:] == ("class_1", "class_2", "class_3", "class_4")
        assert folder.table.divisor == 1000 and folder.table.background == (7,)
        order = [0, 1, 2, 3, 4]
    else:
        assert set(folder.classes.names[1:]) == set(KINDS)
        order = [folder.classes.names.index(name) for name in CLASSES.names]
    for entry, sample in zip(folder.entries, SAMPLES, strict=True):
        wanted = Instances(truth(sample).label_image, np.array(order, np.int16)[truth(sample).classes])
        found = folder.read(entry)
        assert found.instances is not None
        assert_same(found.instances, wanted)
        np.testing.assert_array_equal(found.mask, wanted.mask)
    assert open_folder(tmp_path, objects=True).table == folder.table
    as_masks = open_folder(tmp_path)
    np.testing.assert_array_equal(as_masks.read(as_masks.entries[2]).mask, wanted.mask)


def test_a_folder_written_for_masks_of_the_foreground_counts_its_objects(tmp_path: Path) -> None:
    lay_out(tmp_path, sixteen_png)
    table = ClassTable(Classes.named(["nothing", "cell"]), (0, 1), coding="binary", match="nonzero")
    write_class_table(tmp_path / "classes.toml", table)
    folder = open_folder(tmp_path, objects=True)
    assert folder.table == table
    found = folder.read(folder.entries[0])
    assert found.instances is not None
    assert_same(found.instances, truth(SAMPLES[0]), classes=False)


def test_yolo_polygons_are_objects(tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", np.zeros((20, 40, 3), np.uint8))
    lines = ["1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5", "0 0.4 0.2 0.9 0.2 0.9 0.9 0.4 0.9", "0 0.1 0.1 0.2 0.2"]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("names: [cat, dog]")
    folder = open_folder(tmp_path, objects=True)
    found = folder.read(folder.entries[0]).instances
    assert found is not None and folder.classes.names == ("background", "cat", "dog")
    wanted = np.zeros((20, 40), int)
    wanted[4:18, 16:36] = 1
    wanted[2:10, 4:20] = 2  # the smaller lies on top
    np.testing.assert_array_equal(found.label_image, wanted)
    assert found.classes.tolist() == [1, 2]
    assert len(folder.problems) == 1 and "line 3" in folder.problems[0] and "a.txt" in folder.problems[0]


def test_crowds_are_unknown_where_no_object_lies(tmp_path: Path) -> None:
    put(tmp_path / "a.png", np.zeros((6, 8, 3), np.uint8))
    shapes = [([0, 0, 6, 0, 6, 6, 0, 6], 1), ([2, 2, 4, 2, 4, 4, 2, 4], 0)]
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "sheep"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": [ring], "iscrowd": crowd}
            for i, (ring, crowd) in enumerate(shapes)
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    folder = open_folder(tmp_path, objects=True)
    sample = folder.read(folder.entries[0])
    assert sample.instances is not None and len(sample.instances) == 1 and sample.mask is not None
    assert (sample.instances.label_image == IGNORE).sum() == 36 - 4 and (sample.mask == 1).sum() == 4
    semantic = open_folder(tmp_path)
    assert (semantic.read(semantic.entries[0]).mask == 1).sum() == 36  # a crowd is of its class


def test_a_group_with_a_divisor_is_unknown_for_objects_and_of_its_class_for_masks(tmp_path: Path) -> None:
    values = np.array([[0, 7, 26, 26001, 26002, 9]], np.uint16)
    put(tmp_path / "images/a.png", np.zeros((1, 6, 3), np.uint8))
    put(tmp_path / "masks/a.png", values)
    table = ClassTable(
        Classes.named(["background", "car"]), (0, 26), (9,), coding="objects", divisor=1000, background=(7,)
    )
    write_class_table(tmp_path / "classes.toml", table)
    folder = open_folder(tmp_path, objects=True)
    assert folder.table == table
    sample = folder.read(folder.entries[0])
    assert sample.instances is not None and sample.instances.label_image.tolist() == [[0, 0, -1, 1, 2, -1]]
    semantic = open_folder(tmp_path)
    assert semantic.read(semantic.entries[0]).mask.tolist() == [[0, 0, 1, 1, 1, -1]]  # type: ignore[union-attr]
    put(tmp_path / "masks/a.png", np.array([[0, 7, 26, 33001, 26002, 9]], np.uint16))
    with pytest.raises(DataError, match=r"a\.png .* 33"):
        folder.read(folder.entries[0])


# ------------------------------------------------------------------------------------------ refusing and splitting


def masks_of_classes(root: Path, sample: Sample) -> None:
    put(root / f"masks/{sample.name}.png", (truth(sample).label_image > 0).astype(np.uint8) * 255)


def test_masks_of_classes_are_refused_until_the_table_says_how(tmp_path: Path) -> None:
    lay_out(tmp_path, masks_of_classes)
    with pytest.raises(DataError, match="split = true"):
        open_folder(tmp_path, objects=True)
    assert not (tmp_path / "classes.toml").exists()
    open_folder(tmp_path)  # writes what they are as masks
    with pytest.raises(DataError, match=r'coding = "binary".*split = true'):
        open_folder(tmp_path, objects=True)
    path = tmp_path / "classes.toml"
    path.write_text(path.read_text().replace('match = "exact"', 'match = "exact"\nsplit = true'))
    folder = open_folder(tmp_path, objects=True)
    found = folder.read(folder.entries[0]).instances
    assert found is not None
    from skimage.measure import label

    np.testing.assert_array_equal(found.label_image, label(truth(SAMPLES[0]).label_image > 0, connectivity=2))
    assert open_folder(tmp_path).table == folder.table == read_class_table(path)


def test_files_of_a_class_that_hold_masks_are_refused_and_split(tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", np.zeros((8, 9, 3), np.uint8))
    plane = np.zeros((8, 9), np.uint8)
    plane[1:3, 1:3] = plane[5:7, 5:7] = 255
    for kind in ("car", "cow"):
        put(tmp_path / f"masks/{kind}/a.png", plane if kind == "car" else plane[::-1])
    open_folder(tmp_path)
    with pytest.raises(DataError, match=r'coding = "files"'):
        open_folder(tmp_path, objects=True)
    path = tmp_path / "classes.toml"
    path.write_text(path.read_text().replace("overlapping = true", "overlapping = true\nsplit = true"))
    folder = open_folder(tmp_path, objects=True)
    found = folder.read(folder.entries[0]).instances
    assert folder.classes.names == ("background", "car", "cow") and found is not None
    assert sorted(found.classes.tolist()) == [1, 1, 2, 2]


def test_numbers_with_parts_are_split_where_the_table_says_so(tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", np.zeros((1, 7, 3), np.uint8))
    put(tmp_path / "masks/a.png", np.array([[5, 5, 0, 5, 8, 8, 65535]], np.uint16))
    table = ClassTable(Classes.named(["background", "cell"]), coding="objects", split=True)
    write_class_table(tmp_path / "classes.toml", table)
    folder = open_folder(tmp_path, objects=True)
    found = folder.read_objects(folder.entries[0], np.zeros((1, 7, 3), np.uint8))
    assert found.instances.label_image.tolist() == [[1, 1, 0, 2, 3, 3, -1]] and found.names == ("5", "5", "8")


def test_an_object_without_a_class_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, with_a_table)
    path = tmp_path / "objects.csv"
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text("\n".join([*lines[:1], *lines[2:], "ring,0,9,nobody", ",,4,scene_0001"]))
    folder = open_folder(tmp_path, objects=True)
    (problem,) = folder.problems
    assert "nobody" in problem and "2 line(s)" in problem
    with pytest.raises(DataError, match=rf"scene_0000\.png .* {lines[1].split(',')[2]};.*objects\.csv"):
        folder.read(folder.entries[0])
    path.write_text("picture,number\na,1\n")
    with pytest.raises(DataError, match="no column 'name'"):
        open_folder(tmp_path, objects=True)


def test_label_images_that_can_not_be(tmp_path: Path) -> None:
    lay_out(tmp_path, sixteen_png)
    folder = open_folder(tmp_path, objects=True)
    path = tmp_path / "masks/scene_0000.png"
    for values, words in (
        (np.zeros((9, 9), np.uint16), r"9 x 9 pixels, but its picture"),
        (None, "damaged"),
    ):
        if values is None:
            path.write_bytes(path.read_bytes()[:60])
        else:
            put(path, values)
        with pytest.raises(DataError, match=words):
            folder.read(folder.entries[0])
    path.unlink()
    put(tmp_path / "masks/scene_0000.jpg", SAMPLES[0].image[..., 0])
    folder = open_folder(tmp_path, objects=True)
    with pytest.raises(DataError, match="JPEG"):
        folder.read(folder.entries[0])
    (tmp_path / "masks/scene_0000.jpg").unlink()
    put(tmp_path / "masks/scene_0000.npy", np.full((48, 64), -5, np.int32))
    folder = open_folder(tmp_path, objects=True)
    with pytest.raises(DataError, match="from -5"):
        folder.read(folder.entries[0])


def test_a_picture_without_objects_and_one_without_labels(tmp_path: Path) -> None:
    lay_out(tmp_path, a_file_an_object)
    for path in (tmp_path / "masks/scene_0000").iterdir():
        path.unlink()
    for path in (tmp_path / "masks/scene_0001").iterdir():
        path.unlink()
    (tmp_path / "masks/scene_0001").rmdir()
    folder = open_folder(tmp_path, objects=True)
    none, unlabelled, some = (folder.read(entry) for entry in folder.entries)
    assert none.instances is not None and len(none.instances) == 0 and not none.instances.label_image.any()
    assert unlabelled.instances is None and unlabelled.mask is None and not unlabelled.labelled
    assert some.instances is not None and len(some.instances) == len(truth(SAMPLES[2]))


def test_an_array_without_planes_and_masks_drawn_on_the_stored_frame(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    for name in ("array", "none", "number", "part"):
        Pillow.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / f"images/{name}.png", exif=exif)
    stored = np.zeros((4, 6), np.uint8)
    stored[0, 1] = 1  # the upper edge, which is shown on the right
    put(tmp_path / "masks/array.npy", stored[None])
    put(tmp_path / "masks/none.npy", np.zeros((0, 6, 4), bool))
    put(tmp_path / "masks/number.png", stored)
    put(tmp_path / "masks/part/x.png", stored)
    folder = open_folder(tmp_path, objects=True)
    array, none, number, part = (folder.read(entry).instances for entry in folder.entries)
    assert none is not None and len(none) == 0 and none.label_image.shape == (6, 4)
    for found in (array, number, part):
        assert found is not None and np.argwhere(found.label_image).tolist() == [[1, 3]]


def test_of_several_raters_the_first_is_taken_and_it_is_said(tmp_path: Path) -> None:
    for sample in SAMPLES:
        put(tmp_path / f"images/{sample.name}.png", sample.image)
        put(tmp_path / f"masks/{sample.name}_r0.png", truth(sample).label_image.astype(np.uint16))
        put(tmp_path / f"masks/{sample.name}_r1.png", np.zeros((48, 64), np.uint16))
    folder = open_folder(tmp_path, objects=True)
    found = folder.read(folder.entries[0]).instances
    assert found is not None and any("raters" in problem for problem in folder.problems)
    assert_same(found, truth(SAMPLES[0]), classes=False)


def test_one_folder_between_is_no_class_at_any_time(tmp_path: Path) -> None:
    for sample in SAMPLES:
        put(tmp_path / f"images/{sample.name}.png", sample.image)
        put(tmp_path / f"annotations/instances/{sample.name}.png", truth(sample).label_image.astype(np.uint16))
    for _ in range(2):  # without classes.toml, and with it
        found = entries_read(open_folder(tmp_path, objects=True), 3)
        assert found == sum(len(truth(sample)) for sample in SAMPLES)


def test_class_folders_called_as_pictures_are_still_class_folders_for_masks(tmp_path: Path) -> None:
    for name in ("1", "2"):
        put(tmp_path / f"images/{name}.png", np.zeros((4, 4, 3), np.uint8))
        for kind in ("1", "2"):
            put(tmp_path / f"masks/{kind}/{name}.png", np.eye(4, dtype=np.uint8))
    assert open_folder(tmp_path, write_classes=False).classes.names == ("1", "2")
    folder = open_folder(tmp_path, write_classes=False, objects=True)
    assert [len(entry.parts or ()) for entry in folder.entries] == [2, 2]


# ------------------------------------------------------------------------------------------ from Python


def test_objects_from_masks_lie_over_each_other() -> None:
    masks = np.zeros((4, 3, 6), bool)
    masks[0, :, :3], masks[1, :, 2:], masks[2, 0, 0], masks[3, 0, 0] = True, True, True, True
    found = layered(masks, [2, 1, 3, 1])
    assert found.instances.label_image.tolist() == [[3, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2]]
    assert found.instances.classes.tolist() == [2, 1, 1]
    assert (found.covered, found.hidden, found.doubles) == (5, ("3",), (("3", "4"),))
    assert len(intarsia.objects_from_masks(np.zeros((0, 3, 4)))) == 0


@pytest.mark.parametrize(
    ("masks", "classes"),
    [(np.zeros((3, 4)), None), (iter(()), None), ([np.zeros((2, 2)), np.zeros((2, 3))], None),
     (np.ones((2, 3, 3)), [1]), (np.ones((1, 3, 3)), [0]), (np.ones((1, 3, 3)), [1, 1]), ([np.array([["a"]])], None)],
)  # fmt: skip
def test_masks_that_make_no_picture_say_so(masks: object, classes: list[int] | None) -> None:
    with pytest.raises(DataError):
        intarsia.objects_from_masks(masks, classes)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_label_image_is_read_back_from_any_type(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32, np.int64]))
    highest = min(int(np.iinfo(kind).max), 2**31) - 1
    numbers = data.draw(st.lists(st.integers(0, highest), min_size=12, max_size=12))
    values = np.array(numbers, kind).reshape(3, 4)
    from intarsia.data.object_reading import _counted

    label_image, found = _counted(values, ())
    marks = {"uint16": 65535}.get(values.dtype.name)
    for index, value in np.ndenumerate(values):
        number = label_image[index]
        assert (number == 0) == (value == 0) and (number == IGNORE) == (value == marks)
        assert number <= 0 or found[number - 1] == value
    assert len(found) == len(set(numbers) - {0, marks})


# ------------------------------------------------------------------------------------------ sets, and real data


def test_sets_hand_objects_on(tmp_path: Path) -> None:
    for index in range(8):
        sample = draw_scene(CONFIG, index)
        put(tmp_path / f"images/{sample.name}.png", sample.image)
        sixteen_png(tmp_path, sample)
    sets = open_sets(tmp_path, objects=True)
    sample = sets.train[0]
    assert sample.instances is not None and sets.classes.names == ("background", "object")
    boxes = sets.measures[0].objects
    assert boxes is not None and boxes.shape == (len(sample.instances), 2)
    assert boxes.min() >= 1 and (boxes.max(axis=0) <= [48, 64]).all()
    assert sets.train.unlabelled()[0].instances is None
    assert open_sets(tmp_path).measures[0].objects is None
    before = sets.fingerprint()
    assert before == open_sets(tmp_path, objects=True).fingerprint()
    (tmp_path / "objects.csv").write_text(f"name,id,class\n{sets.train.entries[0].name},1,object\n")
    assert before != open_sets(tmp_path, objects=True).fingerprint()


def entries_read(folder: Folder, count: int) -> int:
    samples = [folder.read(entry) for entry in folder.entries[:count]]
    return sum(len(sample.instances) for sample in samples if sample.instances is not None)


def test_real_nuclei(tmp_path: Path) -> None:
    root = Path(__file__).parents[3] / "shared/data/nuclei"
    if not root.is_dir():
        pytest.skip("the real data sets are not here")
    table = ClassTable(Classes.named(["background", "nucleus"]), coding="objects")
    folder = open_folder(root, write_class_table(tmp_path / "classes.toml", table), write_classes=False, objects=True)
    listed = (line.split(",") for line in (root / "meta.csv").read_text().splitlines()[1:])
    wanted = {row[0]: int(row[6]) for row in listed}
    assert entries_read(folder, 12) == sum(wanted[entry.name] for entry in folder.entries[:12])
