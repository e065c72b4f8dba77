"""What is written of objects is read back: by our readers, and by COCO's own tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.data.classes import ClassTable
from intarsia.data.coco import read_coco
from intarsia.data.object_files import CocoFile, pieces, write_arrays, write_binaries, write_yolo
from intarsia.data.objects import numbered
from intarsia.data.run_lengths import run_lengths
from intarsia.data.scenes import CLASSES, SceneConfig, draw_scene
from intarsia.data.shapes import rasterise
from intarsia.data.yolo import read_yolo
from intarsia.errors import DataError
from intarsia.records import IGNORE, Classes, Instances

TWO = Classes.named(["background", "cell", 'line\n"b" ü'])
coded = ClassTable(TWO, (-1, 1, 2), ignore=(3,), coding="shapes")
label_images = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda size: arrays(np.int32, size, elements=st.integers(-1, 4))
)


def of(label_image: np.ndarray) -> Instances:
    return numbered(label_image, np.array([1, 2, 1, 2], np.int16))


def test_pieces_are_cut_to_their_boxes() -> None:
    label_image = np.zeros((6, 7), np.int32)
    label_image[1:3, 2:6] = 1
    label_image[2, 3] = 3
    instances = Instances(label_image, np.array([1, 1, 2], np.int16), np.array([0.9, 0.8, 0.7], np.float32))
    one, three = pieces(instances)
    assert (one.number, one.left, one.top, one.mask.shape, one.class_) == (1, 2, 1, (2, 4), 1)
    assert (three.number, three.left, three.top, three.mask.tolist(), three.class_) == (3, 3, 2, [[True]], 2)
    assert one.score == pytest.approx(0.9) and one.mask.sum() == 7
    whole = Instances(label_image, instances.classes, None, run_lengths(np.where(label_image > 0, 1, 0), 3))
    (covered,) = pieces(whole)  # an object that lies under another is whole
    assert covered.mask.all() and covered.score is None


@settings(deadline=None, max_examples=40)
@given(st.lists(label_images, max_size=3), st.booleans())
def test_coco_comes_back(tmp_path_factory: pytest.TempPathFactory, images: list[np.ndarray], polygons: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "annotations.json"
    file = CocoFile(TWO, polygons)
    file.write(path, [(f"ü/{number}.png", of(image)) for number, image in enumerate(images)])
    found = read_coco(path)
    assert found.problems == () and len(found.drawings) == len(images)
    assert file.objects == sum(len(np.unique(image[image > 0])) for image in images)
    for image, (name, drawing) in zip(images, found.drawings.items(), strict=True):
        np.testing.assert_array_equal(rasterise(drawing, image.shape, coded, name), of(image).mask)
    tree = json.loads(path.read_text(encoding="utf-8"))
    listed = {each["id"]: each["name"] for each in tree["categories"]}
    unknown = any((image == IGNORE).any() for image in images)
    assert listed == {1: "cell", 2: TWO.names[2]} | ({3: "unknown"} if unknown else {})
    assert [each["id"] for each in tree["annotations"]] == list(range(1, len(tree["annotations"]) + 1))
    assert {each["category_id"] for each in tree["annotations"] if each["iscrowd"]} == ({3} if unknown else set())
    held = [isinstance(each["segmentation"], dict) for each in tree["annotations"] if not each["iscrowd"]]
    assert sum(held) == (file.holes if polygons else file.objects)


def test_cocos_own_tools_read_the_same_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    scenes = [draw_scene(SceneConfig(objects=(4, 7)), index) for index in range(3)]
    for polygons in (False, True):
        path = tmp_path / f"{polygons}.json"
        CocoFile(CLASSES, polygons).write(path, [(each.name, _objects(each.instances)) for each in scenes])
        theirs = coco.COCO(path)
        for image, scene in enumerate(scenes, start=1):
            found = theirs.loadAnns(theirs.getAnnIds([image]))
            instances = _objects(scene.instances)
            assert [each["category_id"] for each in found] == instances.classes.tolist()
            for number, each in enumerate(found, start=1):
                mask = instances.label_image == number
                np.testing.assert_array_equal(theirs.annToMask(each).astype(bool), mask)
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert each["area"] == mask.sum() and each["bbox"] == box


def _objects(instances: Instances | None) -> Instances:
    assert instances is not None
    return instances


def test_scores_travel_and_overlapping_objects_are_whole(tmp_path: Path) -> None:
    label_image = np.zeros((5, 5), np.int32)
    label_image[:3, :3], label_image[2:, 2:] = 1, 2
    below = np.where(np.arange(25).reshape(5, 5) >= 0, 0, 0)
    below[:3, :3] = 1
    above = np.where(label_image == 2, 1, 0)
    runs = (run_lengths(below)[0], run_lengths(above)[0])
    scores = np.array([0.75, 0.5], np.float32)
    instances = Instances(label_image, np.array([1, 1], np.int16), scores, runs)
    CocoFile(TWO).write(tmp_path / "a.json", [("a.png", instances)])
    tree = json.loads((tmp_path / "a.json").read_text())
    assert [(each["area"], each["score"]) for each in tree["annotations"]] == [(9, 0.75), (9, 0.5)]
    assert len(write_binaries(tmp_path / "masks", instances, ["x", "y"])) == 2
    assert (cv2.imread(str(tmp_path / "masks" / "x.png"), cv2.IMREAD_UNCHANGED) == 255 * below).all()


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def pictures() -> Iterator[tuple[str, Instances]]:
        yield "a.png", of(np.ones((2, 2), np.int32))
        raise DataError("the second can't be read")

    with pytest.raises(DataError, match="second"):
        CocoFile(TWO).write(path, pictures())
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@settings(deadline=None, max_examples=50)
@given(label_images)
def test_yolo_comes_back(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    path = write_yolo(tmp_path_factory.getbasetemp() / "a.txt", of(image))
    found = read_yolo({"a": path}, [])
    assert found.problems == ()
    table = ClassTable(TWO, (-1, 0, 1), coding="shapes")
    mask = rasterise(found.drawings["a"], image.shape, table, "a")
    np.testing.assert_array_equal(mask, np.maximum(of(image).mask, 0))
    assert len(found.drawings["a"].shapes) == len(np.unique(image[image > 0]))


def test_a_tolerance_makes_files_smaller(tmp_path: Path) -> None:
    scene = _objects(draw_scene(SceneConfig(), 1).instances)
    exact, rough = (write_yolo(tmp_path / f"{each}.txt", scene, each).stat().st_size for each in (0.0, 1.0))
    assert rough < exact / 2
    sizes = []
    for tolerance in (0.0, 1.0):
        CocoFile(CLASSES, polygons=True, tolerance=tolerance).write(tmp_path / "a.json", [("a", scene)])
        sizes.append((tmp_path / "a.json").stat().st_size)
        assert read_coco(tmp_path / "a.json").problems == ()
    assert sizes[1] < sizes[0]


@settings(deadline=None, max_examples=30)
@given(label_images)
def test_arrays_and_binary_files_hold_each_object(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    folder = tmp_path_factory.getbasetemp() / "binaries"
    instances = of(image)
    with np.load(write_arrays(tmp_path_factory.getbasetemp() / "a.npz", instances), allow_pickle=False) as archive:
        planes = archive["masks"]
    assert planes.shape == (len(instances), *image.shape) and planes.dtype == np.uint8
    names = [f"{number:04d}" for number in range(1, len(instances) + 1)]
    paths = write_binaries(folder, instances, names)
    assert sorted(paths) == sorted(folder.glob("*.png"))  # what was there of the example before is gone
    for number, (plane, path) in enumerate(zip(planes, paths, strict=True), start=1):
        np.testing.assert_array_equal(plane == 1, instances.label_image == number)
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), plane * 255)


def test_arrays_of_large_pictures_are_refused(tmp_path: Path) -> None:
    many = Instances(np.zeros((1000, 1000), np.int32), np.ones(300, np.int16))
    with pytest.raises(DataError, match="286 MiB where 256 are the most"):
        write_arrays(tmp_path / "a.npz", many)
    assert not list(tmp_path.iterdir())
