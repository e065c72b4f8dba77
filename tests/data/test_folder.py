"""One tiny data set, laid out in every way that people lay it out, is the same pictures with the same masks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from intarsia.data.classes import ClassTable, read_class_table, write_class_table
from intarsia.data.folder import open_folder
from intarsia.data.layout import arrange, list_files
from intarsia.errors import DataError
from intarsia.records import IGNORE, Classes

H, W = 6, 8
NAMES = ("a", "b", "c")


def picture(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name[0])).integers(0, 256, (H, W, 3)).astype(np.uint8)


def mask(name: str) -> np.ndarray:
    """Three classes; b holds a pixel that nobody labelled."""
    values = np.zeros((H, W), np.uint8)
    values[1:3, 1:4] = 1
    values[4:, 2 + ord(name[0]) % 3 :] = 2
    if name == "b":
        values[0, 0] = 255
    return values


def put(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(values).save(path, **options)
    return path


def pictures_and_masks(root: Path, image: str, mask_: str, names: tuple[str, ...] = NAMES) -> None:
    """`image` and `mask_` are paths with {} for the name and {split} for train or val."""
    for number, name in enumerate(names):
        split = "val" if number == 2 else "train"
        put(root / image.format(name, split=split), picture(name))
        put(root / mask_.format(name, split=split), mask(name))


def plain(root: Path) -> None:
    pictures_and_masks(root, "images/{}.png", "masks/{}.png")
    (root / "train.txt").write_text("\ufeffa\nb.png\n", encoding="utf-8")  # some editors write such a mark first
    (root / "val.txt").write_text("# one\nimages/c.png\n\n")


def voc(root: Path) -> None:
    pictures_and_masks(root, "VOC/JPEGImages/{}.bmp", "VOC/SegmentationClass/{}.png")
    pictures_and_masks(root, "VOC/JPEGImages/{}.bmp", "VOC/SegmentationObject/{}.png")
    for task, content in (("Segmentation", "a\nb\n"), ("Main", "c\n")):
        (root / "VOC/ImageSets" / task).mkdir(parents=True)
        (root / "VOC/ImageSets" / task / "train.txt").write_text(content)
    (root / "VOC/ImageSets/Segmentation/val.txt").write_text("c\n")


def cityscapes(root: Path) -> None:
    here = "{split}/ulm/{}"
    pictures_and_masks(root, f"leftImg8bit/{here}_leftImg8bit.png", f"gtFine/{here}_gtFine_labelIds.png")
    for name, split in zip(NAMES, ("train", "train", "val"), strict=True):
        for other in ("color", "instanceIds"):
            put(root / f"gtFine/{split}/ulm/{name}_gtFine_{other}.png", picture(name))
        (root / f"gtFine/{split}/ulm/{name}_gtFine_polygons.json").write_text("{}")


def split_folders(root: Path) -> None:
    pictures_and_masks(root, "{split}/images/{}.png", "{split}/masks/{}.png")


def splits_inside(root: Path) -> None:
    pictures_and_masks(root, "images/{split}/{}.png", "annotations/{split}/{}.png")


def compound_folders(root: Path) -> None:
    pictures_and_masks(root, "{split}/{}.png", "{split}_masks/{}_mask.png")


def annot_folders(root: Path) -> None:
    pictures_and_masks(root, "{split}/{}.png", "{split}annot/{}.png")


def beside(root: Path) -> None:
    pictures_and_masks(root, "{}.png", "{}_mask.png")
    (root / "train.txt").write_text("/somewhere/else/a.png /somewhere/else/a_mask.png\nb.png b_mask.png\n")
    (root / "valid.txt").write_text("c\n")


def folder_between(root: Path) -> None:
    pictures_and_masks(root, "images/{}.png", "annotations/trimaps/{}.png")
    (root / "training.txt").write_text("a 1 1\nb 1 2\n")
    (root / "validation.txt").write_text("c\n")


def nnunet(root: Path) -> None:
    for name in NAMES:
        put(root / f"imagesTr/{name}_0000.png", picture(name))
        put(root / f"imagesTr/{name}_0001.png", picture(name))
        put(root / f"labelsTr/{name}.png", mask(name))
    (root / "train.txt").write_text("a_0000\nb\n")
    (root / "val.txt").write_text("c_0000.png\n")


LAYOUTS = [
    plain, voc, cityscapes, split_folders, splits_inside, compound_folders, annot_folders, beside, folder_between,
    nnunet,
]  # fmt: skip


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_every_layout_is_the_same_data(tmp_path: Path, lay_out: Callable[[Path], None]) -> None:
    lay_out(tmp_path)
    folder = open_folder(tmp_path)
    assert len(folder.entries) == 3
    assert folder.table.coding == "index" and len(folder.classes) == 3 and folder.table.ignore == (255,)
    for entry, name in zip(folder.entries, NAMES, strict=True):
        sample = folder.read(entry)
        np.testing.assert_array_equal(sample.image, picture(name))
        assert sample.mask is not None and sample.mask.dtype == np.int16
        np.testing.assert_array_equal(sample.mask, np.where(mask(name) == 255, IGNORE, mask(name).astype(int)))
        assert folder.labelled(entry) and sample.name == entry.name
    short = {split: [name[0] for name in listed] for split, listed in folder.lists.items()}
    assert short == {"train": ["a", "b"], "val": ["c"]}
    assert set(sum(folder.lists.values(), ())) == {entry.name for entry in folder.entries}
    assert len(folder.problems) == (lay_out is nnunet), folder.problems


def test_the_classes_are_written_once_and_then_obeyed(tmp_path: Path) -> None:
    plain(tmp_path)
    folder = open_folder(tmp_path, write_classes=False)
    assert not (tmp_path / "classes.toml").exists()
    assert open_folder(tmp_path).table == folder.table == read_class_table(tmp_path / "classes.toml")
    assert "0, 1, 2, 255" in (tmp_path / "classes.toml").read_text()
    text = (tmp_path / "classes.toml").read_text().replace("class_1", "tree")
    (tmp_path / "classes.toml").write_text(text)
    assert open_folder(tmp_path).classes.names == ("class_0", "tree", "class_2")
    assert (tmp_path / "classes.toml").read_text() == text


def test_the_classes_may_stand_elsewhere(tmp_path: Path) -> None:
    plain(tmp_path / "data")
    table = ClassTable(Classes.named(["x", "y", "z"]), (0, 1, 2), ignore=(255,))
    write_class_table(tmp_path / "mine.toml", table)
    assert open_folder(tmp_path / "data", tmp_path / "mine.toml").table == table
    assert not (tmp_path / "data/classes.toml").exists()
    with pytest.raises(DataError, match=r"none\.toml"):
        open_folder(tmp_path / "data", tmp_path / "none.toml")


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")
def test_a_folder_that_is_shut_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    plain(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert len(open_folder(tmp_path).entries) == 3
        assert not (tmp_path / "classes.toml").exists()
    finally:
        tmp_path.chmod(0o755)


def test_pictures_without_masks_are_unlabelled(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "masks/b.png").unlink()
    folder = open_folder(tmp_path)
    assert [folder.labelled(entry) for entry in folder.entries] == [True, False, True]
    sample = folder.read(folder.entries[1])
    assert sample.mask is None and not sample.labelled
    for name in NAMES:
        put(tmp_path / f"other/{name}.png", picture(name))
    alone = open_folder(tmp_path / "other")
    assert alone.table.coding == "none" and not any(map(alone.labelled, alone.entries))
    assert not (tmp_path / "other/classes.toml").exists()


def test_masks_without_pictures_are_named(tmp_path: Path) -> None:
    plain(tmp_path)
    put(tmp_path / "masks/lonely.png", mask("a"))
    folder = open_folder(tmp_path)
    assert len(folder.entries) == 3
    assert any("lonely.png" in problem for problem in folder.problems)


def test_lists_that_name_what_is_not_there(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "test.txt").write_text("nowhere\na\n")
    folder = open_folder(tmp_path)
    assert folder.lists["test"] == ("a",)
    assert any("nowhere" in problem and "test.txt" in problem for problem in folder.problems)


def test_two_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for place in ("x", "y"):
        put(tmp_path / f"images/{place}/a.png", picture(place))
        put(tmp_path / f"masks/{place}/a.png", mask("a"))
    folder = open_folder(tmp_path)
    assert [entry.name for entry in folder.entries] == ["x/a", "y/a"]
    np.testing.assert_array_equal(folder.read(folder.entries[1]).image, picture("y"))
    put(tmp_path / "images/x/a.bmp", picture("z"))
    assert any("a.bmp" in problem or "a.png" in problem for problem in open_folder(tmp_path).problems)


def test_one_folder_a_class_may_overlap(tmp_path: Path) -> None:
    for name in NAMES:
        put(tmp_path / f"images/{name}.png", picture(name))
        put(tmp_path / f"masks/road/{name}.png", (mask(name) == 1).astype(np.uint8) * 255)
    put(tmp_path / "masks/car/a.png", np.full((H, W), 255, np.uint8))
    folder = open_folder(tmp_path)
    assert folder.classes.overlapping and folder.classes.names == ("car", "road")
    first, second = (folder.read(entry) for entry in folder.entries[:2])
    assert first.mask is None and first.labels is not None and first.labels.dtype == np.int8
    np.testing.assert_array_equal(first.labels, [np.ones((H, W)), mask("a") == 1])
    assert second.labels is not None
    np.testing.assert_array_equal(second.labels, [np.zeros((H, W)), mask("b") == 1])
    assert open_folder(tmp_path).table == folder.table  # as it was written


def test_one_file_a_class_where_the_table_says_so(tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", picture("a"))
    put(tmp_path / "masks/a_car.png", (mask("a") == 1).astype(np.uint8))
    put(tmp_path / "masks/a_road.png", (mask("a") == 2).astype(np.uint8))
    table = ClassTable(Classes.named(["road", "car", "tree"], overlapping=True), coding="files")
    write_class_table(tmp_path / "classes.toml", table)
    folder = open_folder(tmp_path)
    assert [None if path is None else path.name for path in folder.entries[0].masks] == [
        "a_road.png",
        "a_car.png",
        None,
    ]
    labels = folder.read(folder.entries[0]).labels
    np.testing.assert_array_equal(labels, [mask("a") == 2, mask("a") == 1, np.zeros((H, W))])


def test_a_table_of_another_coding_than_the_masks(tmp_path: Path) -> None:
    plain(tmp_path)
    write_class_table(tmp_path / "classes.toml", ClassTable(Classes.named(["a"], overlapping=True), coding="files"))
    with pytest.raises(DataError, match=r'classes\.toml says coding = "files".*coding = "index"'):
        open_folder(tmp_path)


def test_a_mask_of_another_size_is_an_error_that_names_both(tmp_path: Path) -> None:
    plain(tmp_path)
    put(tmp_path / "masks/a.png", mask("a")[:4])
    folder = open_folder(tmp_path)
    with pytest.raises(DataError, match=r"masks/a\.png is 8 x 4 .*images/a\.png is 8 x 6"):
        folder.read(folder.entries[0])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_drawn_on_the_stored_frame_is_turned_with_its_picture(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    plane = np.zeros((H, W), np.uint8)
    plane[0, :3] = 255
    put(tmp_path / "images/a.png", plane, exif=exif)
    put(tmp_path / "masks/a.png", plane)
    folder = open_folder(tmp_path)
    sample = folder.read(folder.entries[0])
    assert sample.size == (W, H) and sample.mask is not None
    np.testing.assert_array_equal(sample.mask, sample.image[..., 0] // 255)


def test_values_that_are_no_class_name_the_file(tmp_path: Path) -> None:
    plain(tmp_path)
    folder = open_folder(tmp_path)
    put(tmp_path / "masks/a.png", np.full((H, W), 77, np.uint8))
    with pytest.raises(DataError, match=r"masks/a\.png .* 77 \(100\.00%\)"):
        folder.read(folder.entries[0])


def test_a_damaged_mask_does_not_stop_the_inference(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "masks/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    folder = open_folder(tmp_path)
    assert len(folder.classes) == 3
    with pytest.raises(DataError, match=r"masks/a\.png"):
        folder.read(folder.entries[0])


def test_select_keeps_the_asked_order(tmp_path: Path) -> None:
    plain(tmp_path)
    chosen = open_folder(tmp_path).select(["c", "a"])
    assert [entry.name for entry in chosen.entries] == ["c", "a"]
    assert chosen.lists == {"train": ("a",), "val": ("c",)}
    with pytest.raises(DataError, match="nobody"):
        chosen.select(["nobody"])


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_folder(tmp_path / "none")
    with pytest.raises(DataError, match=r"found no files at all.*images/"):
        open_folder(tmp_path)
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(DataError, match=r"1 \.docx \(notes\.docx\)"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        open_folder(tmp_path / "notes.docx")


def test_names_with_blanks_and_other_scripts(tmp_path: Path) -> None:
    for name in ("ein Bild", "日本", "a.b.c"):
        put(tmp_path / f"my data/images/{name}.png", picture("a"))
        put(tmp_path / f"my data/masks/{name}.png", mask("a"))
    (tmp_path / "my data/train.txt").write_text("ein Bild\n日本.png\na.b.c\n", encoding="utf-8")
    folder = open_folder(tmp_path / "my data")
    assert set(folder.lists["train"]) == {"ein Bild", "日本", "a.b.c"} == {entry.name for entry in folder.entries}
    assert all(map(folder.labelled, folder.entries))


def test_links_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "images/again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_folder(tmp_path).entries) == 3


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    plain(tmp_path)
    put(tmp_path / "images/.thumb.png", picture("a"))
    put(tmp_path / "__MACOSX/images/a.png", picture("a"))
    (tmp_path / "images/._a.png").write_bytes(b"x")
    assert len(arrange(tmp_path, list_files(tmp_path)).images) == 3


def coco_json(categories: dict[int, str], file_names: dict[int, str]) -> str:
    corners = {name: 2 + ord(name) % 3 for name in NAMES}
    images = [{"id": key, "file_name": name, "height": H, "width": W} for key, name in file_names.items()]
    annotations = []
    for key, file_name in file_names.items():
        left = corners[Path(file_name).stem]
        for category, (x0, y0, x1, y1) in zip(categories, ((1, 1, 4, 3), (left, 4, W, H)), strict=True):
            ring = [x0, y0, x1, y0, x1, y1, x0, y1]
            annotations.append(
                {"id": len(annotations), "image_id": key, "category_id": category, "segmentation": [ring]}
            )
    listed = [{"id": number, "name": name} for number, name in categories.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": listed})


def assert_outlines_are_the_masks(root: Path) -> None:
    folder = open_folder(root)
    assert folder.table.coding == "shapes" and folder.classes.names[0] == "background"
    for entry, name in zip(folder.entries, NAMES, strict=True):
        sample = folder.read(entry)
        assert sample.mask is not None
        np.testing.assert_array_equal(sample.mask, np.where(mask(name) == 255, 0, mask(name)))
    assert not folder.problems
    assert open_folder(root).table == folder.table


def test_coco_as_masks(tmp_path: Path) -> None:
    for name in NAMES:
        put(tmp_path / f"images/{name}.png", picture(name))
    (tmp_path / "annotations").mkdir()
    categories = {18: "dog", 3: "car"}
    both = (tmp_path / "annotations/instances_train.json", {7: "a.png", 9: "b.png"}), (
        tmp_path / "annotations/instances_val.json", {1: "c.png"},
    )  # fmt: skip
    for path, file_names in both:
        path.write_text(coco_json(categories, file_names))
    assert_outlines_are_the_masks(tmp_path)
    folder = open_folder(tmp_path)
    assert folder.classes.names == ("background", "dog", "car") and folder.table.values == (-1, 18, 3)
    assert folder.lists == {"train": ("a", "b"), "val": ("c",)}


def test_coco_beside_the_pictures(tmp_path: Path) -> None:
    for name, split in zip(NAMES, ("train", "train", "valid"), strict=True):
        put(tmp_path / split / f"{name}.png", picture(name))
    (tmp_path / "train/_annotations.coco.json").write_text(coco_json({1: "x", 2: "y"}, {0: "a.png", 1: "b.png"}))
    (tmp_path / "valid/_annotations.coco.json").write_text(coco_json({1: "x", 2: "y"}, {0: "c.png"}))
    assert_outlines_are_the_masks(tmp_path)


def test_coco_of_another_size_than_the_picture(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture("a")[:3])
    (tmp_path / "a.json").write_text(coco_json({1: "x", 2: "y"}, {0: "a.png"}))
    folder = open_folder(tmp_path)
    with pytest.raises(DataError, match=r"annotation of a is 8 x 6 .* 8 x 3"):
        folder.read(folder.entries[0])


def test_coco_that_lists_what_is_not_there(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture("a"))
    put(tmp_path / "other.png", picture("a"))
    (tmp_path / "a.json").write_text(coco_json({1: "x", 2: "y"}, {0: "a.png", 1: "b.png"}))
    folder = open_folder(tmp_path)
    assert [folder.labelled(entry) for entry in folder.entries] == [True, False]
    assert any("b.png" in problem for problem in folder.problems)


def test_yolo_as_masks(tmp_path: Path) -> None:
    for name, split in zip(NAMES, ("train", "train", "val"), strict=True):
        put(tmp_path / f"images/{split}/{name}.png", picture(name))
        left = (2 + ord(name) % 3) / W
        lines = [f"0 {1 / W} {1 / H} {4 / W} {1 / H} {4 / W} {3 / H} {1 / W} {3 / H}"]
        lines.append(f"1 {left} {4 / H} 1 {4 / H} 1 1 {left} 1")
        (tmp_path / f"labels/{split}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/{split}/{name}.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames:\n  0: dog\n  1: car\n")
    assert_outlines_are_the_masks(tmp_path)
    folder = open_folder(tmp_path)
    assert folder.classes.names == ("background", "dog", "car")
    assert folder.lists == {"train": ("a", "b"), "val": ("c",)}
    (tmp_path / "labels/val/c.txt").write_text("")  # no object
    (tmp_path / "labels/train/a.txt").unlink()  # nobody labelled it
    folder = open_folder(tmp_path)
    assert [folder.labelled(entry) for entry in folder.entries] == [False, True, True]
    emptied = folder.read(folder.entries[2]).mask
    assert emptied is not None and not emptied.any()


REAL = Path(__file__).parents[3] / "shared/data"


@pytest.mark.parametrize(
    ("name", "labelled", "coding"),
    [("camvid", 468, "index"), ("nuclei", 531, "binary"), ("cracks", 72, "binary"), ("video", 89, "binary")],
)
def test_real_folders(name: str, labelled: int, coding: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("the real data sets are not here")
    folder = open_folder(REAL / name, write_classes=False)
    assert sum(map(folder.labelled, folder.entries)) == labelled and folder.table.coding == coding
    assert folder.read(folder.entries[-1]).mask is not None and not folder.problems
