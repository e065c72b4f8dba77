"""The data doctor: a healthy folder has no errors, and each planted fault is found, and only where it was planted."""

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from intarsia.data.check import CheckReport, check_folder
from intarsia.data.check_table import print_report
from intarsia.data.classes import ClassTable, write_class_table
from intarsia.data.findings import Finding
from intarsia.data.scenes import CLASSES, SceneConfig, draw_scene, write_scenes
from intarsia.drawing import encode_png
from intarsia.records import Classes

CONFIG = SceneConfig(height=48, width=64, objects=(5, 9))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def scenes(tmp_path):
    """A healthy folder: 10 pictures with masks, train.txt 8, val.txt 2."""
    return write_scenes(tmp_path / "scenes", 10, CONFIG)


def found(report: CheckReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


def rewrite_image(folder, number, image):
    (folder / "images" / f"scene_{number:04d}.png").write_bytes(encode_png(image))


def rewrite_mask(folder, number, values):
    (folder / "masks" / f"scene_{number:04d}.png").write_bytes(encode_png(values))


def mask_values(number):
    return draw_scene(CONFIG, number).mask.astype(np.uint8)


def test_a_healthy_folder_has_nothing_to_mend(scenes):
    report = check_folder(scenes)
    assert report.exit_code == 0
    assert set(found(report)) <= {"palettes", "class-missing-in-list", "class-rare"}
    numbers = report.fingerprint
    assert (numbers.pictures, numbers.labelled, numbers.labelled_in) == (10, 10, {"train": 8, "val": 2})
    assert numbers.smallest == numbers.median == numbers.largest == (48, 64)
    assert sum(numbers.class_pixels) == 10 * 48 * 64
    np.testing.assert_array_equal(
        report.class_counts["scene_0003"], np.bincount(mask_values(3).ravel(), minlength=len(CLASSES))
    )


def test_progress_is_reported_for_each_picture(scenes):
    steps = []
    check_folder(scenes, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 10) for i in range(1, 11)]


def test_the_number_of_threads_changes_nothing(scenes):
    one, three = check_folder(scenes, workers=1), check_folder(scenes, workers=3)
    assert one.findings == three.findings
    assert one.fingerprint == three.fingerprint


def test_files_that_do_not_open_are_all_listed_with_their_reason(scenes):
    path = scenes / "images" / "scene_0002.png"
    path.write_bytes(path.read_bytes()[:-200])  # its header is whole
    (scenes / "images" / "scene_0005.png").write_bytes(b"")
    (scenes / "masks" / "scene_0007.png").write_bytes(b"no picture at all")
    report = check_folder(scenes)
    finding = found(report)["unreadable"]
    assert finding.files == ("images/scene_0002.png", "images/scene_0005.png", "masks/scene_0007.png")
    assert all(finding.details)
    assert report.exit_code == 3
    assert report.fingerprint.pictures == 8


def test_masks_of_another_size(scenes):
    rewrite_mask(scenes, 4, mask_values(4)[:-1])
    finding = found(check_folder(scenes))["size-differs"]
    assert finding.level == "error"
    assert finding.files == ("masks/scene_0004.png",)
    assert finding.details == ("64 x 47 pixels, its picture 64 x 48",)


def test_values_that_are_no_class_are_counted(scenes):
    for number in (1, 6):
        values = mask_values(number)
        values[:2, :5] = 77
        rewrite_mask(scenes, number, values)
    finding = found(check_folder(scenes))["unknown-values"]
    assert finding.level == "error"
    assert "77 (20 pixels)" in finding.message
    assert "ignore = [77]" in finding.advice
    assert finding.files == ("masks/scene_0001.png", "masks/scene_0006.png")
    assert finding.details == ("77 (10 pixels)",) * 2


def test_a_border_of_65535_is_proposed_as_ignored(tmp_path):
    folder = write_scenes(tmp_path, 3, CONFIG)
    values = mask_values(0).astype(np.uint16)
    values[0] = 65535
    rewrite_mask(folder, 0, values)
    assert "nobody labelled" in found(check_folder(folder))["unknown-values"].advice


def test_ignored_pixels_are_no_fault(scenes):
    values = mask_values(0)
    values[:24] = 255
    rewrite_mask(scenes, 0, values)
    report = check_folder(scenes)
    assert "unknown-values" not in found(report)
    assert report.fingerprint.ignore_share == pytest.approx(0.05)


@pytest.mark.parametrize("ignore", [(255,), ()])
def test_masks_of_0_and_255_taken_for_class_numbers(scenes, ignore):
    table = ClassTable(Classes.named(["background", "piece"]), values=(0, 1), ignore=ignore)
    write_class_table(scenes / "classes.toml", table)
    for number in range(10):
        rewrite_mask(scenes, number, (255 * (mask_values(number) > 0)).astype(np.uint8))
    report = check_folder(scenes)
    assert found(report)["binary-masks"].level == "error"
    assert len(found(report)["binary-masks"].files) == 10
    write_class_table(scenes / "classes.toml", replace(table, values=(0, 255), ignore=(), coding="binary"))
    assert check_folder(scenes).exit_code == 0


def test_lossy_masks(scenes):
    for number in range(10):
        (scenes / "masks" / f"scene_{number:04d}.png").unlink()
        cv2.imwrite(str(scenes / "masks" / f"scene_{number:04d}.jpg"), 40 * mask_values(number))
    write_class_table(scenes / "classes.toml", ClassTable(CLASSES, values=(0, 40, 80, 120, 160)))
    findings = found(check_folder(scenes))
    assert len(findings["lossy-masks"].files) == 10
    assert "Lossy" in findings["unknown-values"].advice


def test_palettes_that_differ(scenes):
    picture = Image.fromarray(mask_values(3))
    palette = CLASSES.palette()
    palette[3:9] = palette[6:9] + palette[3:6]
    picture.putpalette(palette)
    picture.save(scenes / "masks" / "scene_0003.png")
    findings = found(check_folder(scenes))
    assert findings["palettes-differ"].files == ("masks/scene_0003.png",)
    assert "palettes" not in findings


def test_pictures_without_masks_are_unlabelled(scenes):
    (scenes / "masks" / "scene_0001.png").unlink()
    report = check_folder(scenes)
    assert found(report)["unlabelled"].level == "info"
    assert found(report)["unlabelled"].files == ("images/scene_0001.png",)
    assert report.fingerprint.labelled == 9
    assert report.fingerprint.labelled_in == {"train": 7, "val": 2}


def test_no_masks_at_all(scenes):
    for path in (scenes / "masks").iterdir():
        path.unlink()
    report = check_folder(scenes)
    assert found(report)["no-labels"].level == "warning"
    assert not report.class_counts


def test_masks_without_pictures(scenes):
    rewrite_mask(scenes, 99, mask_values(0))
    finding = found(check_folder(scenes))["folder"]
    assert finding.level == "warning"
    assert "scene_0099" in finding.message


def test_masks_on_which_nothing_is_labelled(scenes):
    rewrite_mask(scenes, 5, np.full((48, 64), 255, np.uint8))
    assert found(check_folder(scenes))["empty-masks"].files == ("images/scene_0005.png",)


def test_classes_never_and_hardly_seen(scenes):
    classes = Classes((*CLASSES.names, "star", "speck"), (*CLASSES.colours, (1, 1, 1), (2, 2, 2)))
    write_class_table(scenes / "classes.toml", ClassTable(classes, values=tuple(range(7)), ignore=(255,)))
    values = mask_values(0)
    values[0, 0] = 6
    rewrite_mask(scenes, 0, values)
    findings = found(check_folder(scenes))
    assert "star" in findings["class-unseen"].message
    assert "speck" not in findings["class-unseen"].message
    assert "speck (0.0033 % of the pixels, 1 picture)" in findings["class-rare"].message
    assert "speck" in findings["class-missing-in-list"].message


def test_a_class_missing_from_the_training_list(scenes):
    for number in range(8):
        values = mask_values(number)
        values[values == 4] = 0
        rewrite_mask(scenes, number, values)
    for number in (8, 9):
        values = mask_values(number)
        values[:20, :20] = 4
        rewrite_mask(scenes, number, values)
    messages = [f.message for f in check_folder(scenes).findings if f.code == "class-missing-in-list"]
    assert any("train list shows nothing of ring" in message for message in messages)


def test_equal_pictures_across_the_lists(scenes):
    rewrite_image(scenes, 9, draw_scene(CONFIG, 2).image)
    rewrite_mask(scenes, 9, mask_values(2))
    findings = found(check_folder(scenes))
    finding = findings["duplicates-across-lists"]
    assert finding.level == "warning"
    assert finding.files == ("images/scene_0002.png", "images/scene_0009.png")
    assert finding.details == ("group 1, train", "group 1, val")
    assert "duplicates" not in findings and "near-duplicates-across-lists" not in findings
    assert "duplicates-disagree" not in findings


def test_equal_pictures_inside_a_list_whose_masks_differ(scenes):
    rewrite_image(scenes, 3, draw_scene(CONFIG, 2).image)
    findings = found(check_folder(scenes))
    assert findings["duplicates"].files == ("images/scene_0002.png", "images/scene_0003.png")
    assert findings["duplicates-disagree"].files == findings["duplicates"].files
    assert "duplicates-across-lists" not in findings


def test_nearly_equal_pictures_across_the_lists(scenes):
    image = draw_scene(CONFIG, 2).image.astype(float)
    noisy = 0.9 * image + 12 + np.random.default_rng(0).normal(0, 4, image.shape)
    rewrite_image(scenes, 9, noisy.clip(0, 255).astype(np.uint8))
    finding = found(check_folder(scenes))["near-duplicates-across-lists"]
    assert finding.files == ("images/scene_0002.png", "images/scene_0009.png")


def test_a_picture_in_two_lists(scenes):
    (scenes / "val.txt").write_text("scene_0008\nscene_0009\nscene_0001\n")
    finding = found(check_folder(scenes))["list-overlap"]
    assert finding.level == "error"
    assert finding.files == ("scene_0001",)


def test_labelled_pictures_in_no_list(scenes):
    (scenes / "val.txt").write_text("scene_0008\n")
    assert found(check_folder(scenes))["unlisted"].files == ("images/scene_0009.png",)


def test_mixed_channels_types_and_sizes(scenes):
    image = draw_scene(CONFIG, 1).image
    rewrite_image(scenes, 1, image[..., 0])
    rewrite_image(scenes, 2, image.astype(np.uint16) * 257)
    rewrite_image(scenes, 3, cv2.resize(image, (640, 480)))
    rewrite_mask(scenes, 3, cv2.resize(mask_values(1), (640, 480), interpolation=cv2.INTER_NEAREST))
    findings = found(check_folder(scenes))
    assert findings["mixed-channels"].files == ("images/scene_0001.png",)
    assert findings["mixed-types"].files == ("images/scene_0002.png",)
    assert "64 x 48 to 640 x 480" in findings["sizes-very-different"].message


def test_pictures_that_show_nothing(scenes):
    rewrite_image(scenes, 6, np.full((48, 64, 3), 90, np.uint8))
    assert found(check_folder(scenes))["constant"].files == ("images/scene_0006.png",)


def test_turned_pictures_and_their_masks_are_no_fault(scenes):
    sample = draw_scene(CONFIG, 4)
    exif = Image.Exif()
    exif[274] = 6  # the displayed picture is the stored one turned right
    (scenes / "images" / "scene_0004.png").unlink()
    Image.fromarray(sample.image).save(scenes / "images" / "scene_0004.jpg", exif=exif)
    findings = found(check_folder(scenes))
    assert findings["turned"].files == ("images/scene_0004.jpg",)
    assert "size-differs" not in findings and "unreadable" not in findings


def test_the_report_is_json_and_can_be_printed(scenes):
    rewrite_mask(scenes, 4, mask_values(4)[:-1])
    (scenes / "masks" / "scene_0001.png").unlink()
    report = check_folder(scenes)
    tree = json.loads(json.dumps(report.to_json()))
    assert tree["exit_code"] == 3
    assert [each["name"] for each in tree["classes"]] == list(CLASSES.names)
    assert sum(each["share"] for each in tree["classes"]) == pytest.approx(1)
    assert {"size-differs", "unlabelled"} <= {each["code"] for each in tree["findings"]}
    out = io.StringIO()
    print_report(report, Console(file=out, width=100))
    text = out.getvalue()
    for expected in (
        "triangle",
        "size-differs",
        "masks/scene_0004.png",
        "64 x 48",
        "train 8 (6 labelled)",
        "1 to mend",
    ):
        assert expected in text, text


def test_long_lists_of_files_are_cut_when_printed(scenes):
    for number in range(8):
        (scenes / "masks" / f"scene_{number:04d}.png").unlink()
    out = io.StringIO()
    print_report(check_folder(scenes), Console(file=out, width=100), files=3)
    assert "… and 5 more" in out.getvalue()


def test_names_with_brackets_are_printed_as_they_are(tmp_path):
    folder = write_scenes(tmp_path / "[bold]scenes", 3, CONFIG)
    (folder / "images" / "[red]x.png").write_bytes(b"")
    out = io.StringIO()
    print_report(check_folder(folder), Console(file=out, width=300))
    assert "[bold]scenes" in out.getvalue()
    assert "[red]x.png" in out.getvalue()


@pytest.mark.parametrize("name", ["cracks", "membranes"])
def test_real_folders_have_no_errors_and_nothing_is_written(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    report = check_folder(folder, write_classes=False)
    assert report.exit_code == 0
    assert len(report.folder.classes) == 2
    assert report.fingerprint.labelled == report.fingerprint.pictures > 20
    assert not any("duplicates" in finding.code for finding in report.findings)


def test_one_file_a_class_is_read_as_overlapping(tmp_path):
    for name in ("images", "masks/cell", "masks/nucleus"):
        (tmp_path / name).mkdir(parents=True)
    cell, nucleus = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    cell[:20], nucleus[5:10] = 255, 255
    for index in range(3):
        sample = draw_scene(SceneConfig(height=30, width=30), index)
        (tmp_path / "images" / f"{index}.png").write_bytes(encode_png(sample.image))
        (tmp_path / "masks" / "cell" / f"{index}.png").write_bytes(encode_png(cell))
        (tmp_path / "masks" / "nucleus" / f"{index}.png").write_bytes(encode_png(nucleus))
    report = check_folder(tmp_path)
    assert report.exit_code == 0
    assert report.folder.classes.overlapping
    assert report.fingerprint.class_pixels == (3 * 600, 3 * 150)
