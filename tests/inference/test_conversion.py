"""Every format becomes every other one: the same objects, classes, names and lists; stopped and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from intarsia.data.classes import ClassTable, read_class_table, write_class_table
from intarsia.data.entry import Entry
from intarsia.data.folder import Folder, open_folder
from intarsia.data.object_files import CocoFile
from intarsia.data.scenes import CLASSES, SceneConfig, draw_scenes
from intarsia.drawing import encode_png, write_label_image
from intarsia.errors import DataError, UsageError
from intarsia.files import Lock, make_folder
from intarsia.inference import conversion
from intarsia.inference.conversion import Conversion, Format, convert_folder
from intarsia.records import IGNORE, Classes, Instances

FORMATS: tuple[Format, ...] = ("labels", "coco", "yolo", "binaries", "arrays")
FORGETFUL = ("yolo", "binaries", "arrays")  # they have no word for what nobody knows


@dataclass(frozen=True)
class Source:
    root: Path
    truth: dict[str, Instances]


def write_source(root: Path, names: tuple[str, ...], classes: Classes = CLASSES) -> Source:
    """Label images: drawn scenes, the second without an object, the last unlabelled, unknown pixels in the first."""
    config = SceneConfig(height=32, width=48, objects=(3, 5))
    truth = {}
    rows = ["name,id,class"]
    for name, sample in zip(names, draw_scenes(config, len(names)), strict=True):
        make_folder((root / "images" / name).parent)
        make_folder((root / "masks" / name).parent)
        (root / "images" / f"{name}.png").write_bytes(encode_png(sample.image))
        instances = sample.instances
        assert instances is not None
        label_image, kinds = instances.label_image.copy(), np.minimum(instances.classes, len(classes) - 1)
        if name == names[1]:
            label_image, kinds = np.zeros_like(label_image), kinds[:0]
        if name == names[0]:
            label_image[:, 30:] = np.where(label_image[:, 30:] == 0, IGNORE, label_image[:, 30:])
            assert (label_image == IGNORE).any()
        if name != names[-1]:
            truth[name] = Instances(label_image, kinds)
            write_label_image(root / "masks" / f"{name}.png", label_image)
            place = f"images/{name}" if "/" in "".join(names) else name
            rows += [f"{place},{number},{classes.names[kind]}" for number, kind in enumerate(kinds, start=1)]
    write_class_table(root / "classes.toml", ClassTable(classes, coding="objects"))
    (root / "train.txt").write_text(f"images/{names[0]}.png\nimages/{names[1]}.png\n")
    (root / "val.txt").write_text(f"images/{names[2]}.png\n")
    if len(classes) > 2:
        (root / "objects.csv").write_text("\n".join(rows))
    return Source(root, truth)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return write_source(tmp_path_factory.mktemp("source"), ("a", "b.c", "d", "e"))


@pytest.fixture(scope="module")
def converted(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    room = tmp_path_factory.mktemp("converted")
    for to in FORMATS:
        found = convert_folder(source.root, to, room / to)
        assert (found.done, found.skipped, found.failed) == (4, 0, ())
        assert found.objects == sum(map(len, source.truth.values()))
    return {to: room / to for to in FORMATS}


def assert_same(found: Instances, true: Instances, unknown: bool) -> None:
    """The same objects of the same classes, numbers aside; `unknown`: with what nobody knows."""
    wanted = true.label_image if unknown else np.maximum(true.label_image, 0)
    pairs = set(zip(found.label_image.ravel().tolist(), wanted.ravel().tolist(), strict=True))
    assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})
    for ours, theirs in pairs:
        assert (ours <= 0 and ours == theirs) or found.classes[ours - 1] == true.classes[theirs - 1]
    assert len(found) == len(true)


def assert_is(source: Source, opened: Folder, unknown: bool, names: Callable[[str], str] = str) -> None:
    assert opened.problems == ()
    assert opened.classes == CLASSES
    assert {entry.name for entry in opened.entries} >= {names(name) for name in source.truth}
    assert len(opened.entries) == len(source.truth) + 1
    assert {key: len(value) for key, value in opened.lists.items()} == {"train": 2, "val": 1}
    for entry in opened.entries:
        sample = opened.read(entry)
        true = {names(name): instances for name, instances in source.truth.items()}.get(entry.name)
        if true is None:
            assert not sample.labelled
            continue
        assert sample.instances is not None and sample.mask is not None
        assert_same(sample.instances, true, unknown)


def test_the_source_is_what_was_drawn(source: Source) -> None:
    assert_is(source, open_folder(source.root, objects=True), unknown=True)


@pytest.mark.parametrize("to", FORMATS)
def test_each_format_reads_back_the_same(source: Source, converted: dict[str, Path], to: str) -> None:
    opened = open_folder(converted[to], objects=True)
    assert_is(source, opened, to not in FORGETFUL)
    images = {entry.name: entry.image.read_bytes() for entry in opened.entries}
    assert images == {name: (source.root / "images" / f"{name}.png").read_bytes() for name in images}
    small = (".lock", "conversion.json", "train.txt", "val.txt")  # written each time
    files = [path for path in converted[to].rglob("*") if path.is_file() and path.name not in small]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = convert_folder(source.root, to, converted[to])  # type: ignore[arg-type]
    assert (again.done, again.skipped) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(("one", "other"), list(product(FORMATS[1:], FORMATS)))
def test_every_format_becomes_every_other(
    source: Source, converted: dict[str, Path], tmp_path: Path, one: str, other: Format
) -> None:
    convert_folder(converted[one], other, tmp_path / "out", link=True)
    assert_is(source, open_folder(tmp_path / "out", objects=True), not {one, other} & {*FORGETFUL})


def test_polygons_come_back_and_objects_with_holes_stay_run_lengths(source: Source, tmp_path: Path) -> None:
    found = convert_folder(source.root, "coco", tmp_path / "out", polygons=True)
    assert_is(source, open_folder(tmp_path / "out", objects=True), unknown=True)
    tree = json.loads((tmp_path / "out" / "annotations.json").read_text())
    held = [each for each in tree["annotations"] if isinstance(each["segmentation"], dict) and not each["iscrowd"]]
    assert 0 < len(held) < found.objects and f"{len(held)} object(s) have holes" in "".join(found.notes)


@pytest.mark.parametrize("to", FORMATS)
def test_pictures_in_folders_keep_their_names(tmp_path: Path, to: Format) -> None:
    source = write_source(tmp_path / "source", ("x/a", "y/a", "a", "x/b"))
    convert_folder(source.root, to, tmp_path / "out")
    names = (lambda name: name.replace("/", "_")) if to == "binaries" else str
    assert_is(source, open_folder(tmp_path / "out", objects=True), to not in FORGETFUL, names)
    if to != "binaries":
        convert_folder(tmp_path / "out", "labels", tmp_path / "again")
        assert_is(source, open_folder(tmp_path / "again", objects=True), to not in FORGETFUL)


def test_one_class_needs_no_table_of_objects(tmp_path: Path) -> None:
    cells = Classes(("background", "cell"), ((0, 0, 0), (1, 2, 3)))
    source = write_source(tmp_path / "source", ("a", "b", "c", "d"), cells)
    for to in FORMATS:
        convert_folder(source.root, to, tmp_path / to)
        opened = open_folder(tmp_path / to, objects=True)
        assert opened.classes == cells and not (tmp_path / to / "objects.csv").exists()
        for entry in opened.entries:
            instances = opened.read(entry).instances
            assert (instances is None) == (entry.name == "d")
            if instances is not None:
                assert_same(instances, source.truth[entry.name], to not in FORGETFUL)


def test_what_a_format_cannot_say_is_told(converted: dict[str, Path], source: Source, tmp_path: Path) -> None:
    found = convert_folder(source.root, "yolo", tmp_path / "out")
    assert "In 1 picture(s) pixels are marked as unknown (a), which yolo can't say" in "".join(found.notes)
    assert (
        (tmp_path / "out" / "data.yaml").read_text().startswith('train: train.txt\nval: val.txt\nnames:\n  0: "disk"')
    )
    assert read_class_table(tmp_path / "out" / "classes.toml").classes == CLASSES


def test_shapes_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    root = tmp_path / "source"
    make_folder(root / "images")
    (root / "images" / "a.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    label_image = np.zeros((8, 9), np.int32)
    label_image[2:4, 2:4] = 1
    CocoFile(CLASSES).write(root / "annotations.json", [("images/a.png", Instances(label_image, np.array([1])))])
    tree = json.loads((root / "annotations.json").read_text())
    (good,) = tree["annotations"]
    bad = [
        {**good, "id": 7, "segmentation": [[1, 2, 3, 4]]},
        {**good, "id": 8, "segmentation": {"size": [8, 9], "counts": "zz"}},
    ]
    below = {**good, "id": 9, "area": 9, "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]]}
    tree["annotations"] = [below, *bad, good]
    (root / "annotations.json").write_text(json.dumps(tree))
    found = convert_folder(root, "labels", tmp_path / "out")
    notes = " ".join(found.notes)
    assert found.objects == 1 and "2 shape(s)" in notes and "annotation 7 (images/a.png)" in notes
    assert "annotation 8" in notes
    assert "1 object(s) lie wholly under others or outside their picture and were left out: a: 9" in notes


def converted_twice(
    source: Source, out: Path, to: Format, change: Callable[[], object]
) -> tuple[Conversion, Conversion]:
    first = convert_folder(source.root, to, out)
    change()
    return first, convert_folder(source.root, to, out)


@pytest.mark.parametrize("to", FORMATS)
def test_only_what_is_missing_or_has_changed_is_done_again(tmp_path: Path, to: Format) -> None:
    cells = Classes.named(["background", "cell"])
    source = write_source(tmp_path / "source", ("a", "b", "c", "d"), cells)
    out = tmp_path / "out"

    def change() -> None:
        write_label_image(source.root / "masks" / "c.png", np.full((32, 48), 5, np.int32))
        (source.root / "masks" / "c.png").touch()
        shutil.copy(source.root / "images" / "c.png", source.root / "images" / "new.png")
        (source.root / "images" / "d.png").unlink()
        opened = open_folder(out, objects=True)
        next(entry.image for entry in opened.entries if entry.name == "a").unlink()

    _, again = converted_twice(source, out, to, change)
    assert again.done + again.skipped == 4 and again.done == (4 if to == "coco" else 3)
    opened = open_folder(out, objects=True)
    assert [entry.name for entry in opened.entries] == ["a", "b", "c", "new"]
    changed = opened.read(opened.entries[2]).instances
    assert changed is not None and (changed.label_image == 1).all() and not opened.labelled(opened.entries[3])
    assert convert_folder(source.root, to, out).done == 0


@pytest.mark.parametrize("to", FORMATS)
def test_a_kill_leaves_whole_files_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Format
) -> None:
    source = write_source(tmp_path / "source", ("a", "b", "c", "d"))
    out = tmp_path / "out"
    copy = conversion._Target._copy

    def kill(at: str) -> None:
        def stopped(self: conversion._Target, entry: Entry) -> None:
            if entry.name == at:
                raise KeyboardInterrupt
            copy(self, entry)

        with monkeypatch.context() as patched:
            patched.setattr(conversion._Target, "_copy", stopped)
            with pytest.raises(KeyboardInterrupt):
                convert_folder(source.root, to, out)
        assert not list(out.rglob("*.part"))

    kill("c")
    assert not (out / "annotations.json").exists() and not (out / "objects.csv").exists()
    convert_folder(source.root, to, out)
    assert_is(source, open_folder(out, objects=True), to not in FORGETFUL)

    label_image = np.zeros_like(source.truth["a"].label_image)  # the first picture's objects change, ...
    label_image[2:5, 6:9] = 1
    write_label_image(source.root / "masks" / "a.png", label_image)
    source.truth["a"] = Instances(label_image, np.array([1], np.int16))
    (source.root / "objects.csv").write_text(
        (source.root / "objects.csv").read_text().replace("\na,", "\nx,") + "\na,1,disk\n"
    )
    kill("a" if to == "yolo" else "b")  # ... and are already written when it is killed
    convert_folder(source.root, to, out)
    opened = open_folder(out, objects=True)
    found = opened.read(opened.entries[0]).instances
    assert found is not None
    assert_same(found, source.truth["a"], unknown=True)


def test_another_conversion_takes_its_place_only_when_asked(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for to in FORMATS:
        if out.exists():
            with pytest.raises(UsageError, match="overwrite"):
                convert_folder(source.root, to, out)
        convert_folder(source.root, to, out, overwrite=True)
        assert_is(source, open_folder(out, objects=True), to not in FORGETFUL)


def test_what_is_not_from_here_is_not_replaced(source: Source, tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text("mine")
    with pytest.raises(UsageError, match="not from here"):
        convert_folder(source.root, "labels", tmp_path)
    (tmp_path / "classes.toml").unlink()
    make_folder(tmp_path / "images")
    (tmp_path / "images" / "a.png").write_text("mine")
    with pytest.raises(UsageError, match="not from here"):
        convert_folder(source.root, "labels", tmp_path)
    assert (tmp_path / "images" / "a.png").read_text() == "mine"


def test_a_record_that_names_files_elsewhere_has_none_removed(source: Source, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "masks" / "victim.png"
    make_folder(victim.parent)
    victim.write_text("mine")
    convert_folder(source.root, "coco", out)
    record = json.loads((out / "conversion.json").read_text())
    for number, file in enumerate(("../masks/victim.png", str(victim), "../images/victim.png")):
        record["pictures"][f"gone{number}"] = {"source": "nowhere", "file": file, "digest": ""}
    (out / "conversion.json").write_text(json.dumps(record))
    convert_folder(source.root, "coco", out)
    assert victim.read_text() == "mine"
    assert_is(source, open_folder(out, objects=True), unknown=True)


def test_links_lead_to_the_pictures(source: Source, tmp_path: Path) -> None:
    convert_folder(source.root, "coco", tmp_path, link=True)
    link = tmp_path / "images" / "a.png"
    assert link.is_symlink() and link.resolve() == (source.root / "images" / "a.png").resolve()
    convert_folder(source.root, "yolo", tmp_path, overwrite=True)
    assert not link.is_symlink() and (source.root / "images" / "a.png").is_file()


@pytest.mark.parametrize("to", ["labels", "coco"])
def test_a_broken_picture_is_listed_and_the_rest_goes_on(tmp_path: Path, to: Format) -> None:
    source = write_source(tmp_path / "source", ("a", "b", "c", "d"))
    mask = source.root / "masks" / "c.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    found = convert_folder(source.root, to, tmp_path / "out")
    assert found.done == 3 and len(found.failed) == 1 and "c.png" in found.failed[0][1]
    mask.write_bytes(whole)
    assert convert_folder(source.root, to, tmp_path / "out").failed == ()
    assert_is(source, open_folder(tmp_path / "out", objects=True), unknown=True)


def test_what_makes_no_sense_is_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no format"):
        convert_folder(source.root, "voc", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="choice of coco"):
        convert_folder(source.root, "yolo", tmp_path, polygons=True)
    for to, tolerance in (("labels", 1.0), ("coco", 1.0), ("yolo", -1.0), ("yolo", float("nan"))):
        with pytest.raises(UsageError, match="tolerance"):
            convert_folder(source.root, to, tmp_path, tolerance=tolerance)  # type: ignore[arg-type]
    for out in (source.root, source.root / "out", source.root.parent):
        with pytest.raises(UsageError, match="lie in one another"):
            convert_folder(source.root, "coco", out)
    shutil.copytree(source.root / "images", tmp_path / "bare" / "images")
    with pytest.raises(DataError, match="no objects"):
        convert_folder(tmp_path / "bare", "coco", tmp_path / "out")
    with Lock(tmp_path / "used" / ".lock"), pytest.raises(Exception, match="in use"):
        convert_folder(source.root, "coco", tmp_path / "used")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_stored_turned_has_its_objects_as_it_is_shown(tmp_path: Path) -> None:
    root = tmp_path / "source"
    for folder in ("images", "masks"):
        make_folder(root / folder)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    PillowImage.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "images" / "a.jpg", exif=exif)
    stored = np.zeros((20, 30), np.int32)
    stored[2:7, 3:14] = 1
    write_label_image(root / "masks" / "a.png", stored)
    write_class_table(root / "classes.toml", ClassTable(Classes.named(["background", "cell"]), coding="objects"))
    steps: list[tuple[int, int]] = []
    for to in FORMATS:
        convert_folder(root, to, tmp_path / to, progress=lambda done, total: steps.append((done, total)))
        opened = open_folder(tmp_path / to, objects=True)
        sample = opened.read(opened.entries[0])
        assert sample.instances is not None
        np.testing.assert_array_equal(sample.instances.label_image, np.rot90(stored, -1))
    assert steps == [(1, 1)] * len(FORMATS)
