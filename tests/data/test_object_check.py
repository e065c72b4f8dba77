"""The data doctor on objects: each planted trap is found, with its file and its number, and only where it is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from broken_files import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from rich.console import Console

from intarsia.data.check import CheckReport, check_folder
from intarsia.data.check_table import print_report
from intarsia.data.findings import Finding
from intarsia.data.folder import open_folder
from intarsia.errors import IntarsiaError

SIZE = (60, 80)
DENTED = np.pad(np.ones((2, 9), bool), ((0, 7), (0, 0))) | np.pad(np.ones((9, 2), bool), ((0, 0), (0, 7)))  # an L


def put(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        Pillow.fromarray(values).save(path)
    return path


def healthy(number: int) -> np.ndarray:
    """Twelve squares of 6 x 6 pixels, numbered from 1."""
    values = np.zeros(SIZE, np.uint16)
    for place in range(12):
        row, column = 4 + 20 * (place // 4), 4 + 20 * (place % 4) + number
        values[row : row + 6, column : column + 6] = place + 1
    return values


def write(root: Path, change: Callable[[np.ndarray], object] = lambda values: None) -> Path:
    """Four healthy pictures; the labels of the third, c, changed."""
    random = np.random.default_rng(0)
    for number, name in enumerate("abcd"):
        put(root / f"images/{name}.png", random.integers(0, 255, (*SIZE, 3)).astype(np.uint8))
        values = healthy(number)
        if name == "c":
            change(values)
        put(root / f"masks/{name}.png", values)
    return root


def found(report: CheckReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


def planted(root: Path, change: Callable[[np.ndarray], object]) -> Finding:
    """The one finding on objects, which must be about c alone."""
    report = check_folder(write(root, change), objects=True)
    (finding,) = (each for each in report.findings if each.code.startswith("object-"))
    assert finding.files == ("images/c.png",) and finding.advice and report.exit_code == 0
    return finding


def test_healthy_objects_are_counted_and_measured(tmp_path: Path) -> None:
    report = check_folder(write(tmp_path), objects=True)
    assert not [code for code in found(report) if code.startswith("object-")]
    numbers = report.fingerprint
    assert (numbers.objects, numbers.objects_median, numbers.objects_most) == (48, 12, 12)
    assert numbers.object_side == 6 and numbers.object_sides == (6, 6)
    assert numbers.diameters[1] == pytest.approx(np.sqrt(4 / np.pi * 36))
    assert json.loads(json.dumps(report.to_json()))["fingerprint"]["objects"] == 48
    text = io.StringIO()
    print_report(report, Console(file=text, width=200))
    assert "48 in all, 12 in the median picture, at most 12" in text.getvalue()


def test_two_objects_under_one_number(tmp_path: Path) -> None:
    def merge(values: np.ndarray) -> None:
        values[values == 8] = 3
        values[values > 8] -= 1

    finding = planted(tmp_path, merge)
    assert (finding.code, finding.level, finding.details) == ("object-in-parts", "warning", ("3",))


def test_a_stray_pixel_is_no_second_part(tmp_path: Path) -> None:
    report = check_folder(write(tmp_path, lambda values: values.__setitem__((0, 0), 5)), objects=True)
    assert not [code for code in found(report) if code.startswith("object-")]


def test_touching_objects_under_one_number_are_dented(tmp_path: Path) -> None:
    def lay_an_l(values: np.ndarray) -> None:
        values[values == 1] = 0
        values[1:19, 1:19][np.kron(DENTED, np.ones((2, 2), bool))] = 1

    assert planted(tmp_path, lay_an_l).details == ("1",)


def test_a_hole_that_another_object_fills_is_none(tmp_path: Path) -> None:
    finding = planted(tmp_path / "hole", lambda values: values.__setitem__((slice(6, 8), slice(8, 10)), 0))
    assert (finding.code, finding.details) == ("object-holes", ("1",))

    def fill(values: np.ndarray) -> None:
        values[6:8, 8:10] = 13

    report = check_folder(write(tmp_path / "filled", fill), objects=True)
    assert found(report).keys() & {"object-holes", "object-specks"} == set()


def test_specks(tmp_path: Path) -> None:
    finding = planted(tmp_path, lambda values: values.__setitem__((0, slice(0, 3)), 13))
    assert (finding.code, finding.details) == ("object-specks", ("13",)) and "fewer than 4 pixels" in finding.message


def test_numbers_that_jump_and_numbers_beyond_sixteen_bits(tmp_path: Path) -> None:
    finding = planted(tmp_path / "jump", lambda values: values.__setitem__(values == 12, 40))
    assert (finding.code, finding.details) == ("object-numbers-jump", ("12 objects, the largest number is 40",))
    root = write(tmp_path / "wide")
    (root / "masks/b.png").unlink()
    put(root / "masks/b.tif", np.where(healthy(1) == 12, 70000, healthy(1).astype(np.uint32)))
    assert found(check_folder(root, objects=True))["object-numbers-large"].files == ("images/b.png",)


def test_pictures_without_objects(tmp_path: Path) -> None:
    report = check_folder(write(tmp_path, lambda values: values.fill(0)), objects=True)
    assert found(report)["without-objects"].files == ("images/c.png",)
    for path in (tmp_path / "masks").iterdir():
        put(path, np.zeros(SIZE, np.uint16))
    assert "no-objects" in found(check_folder(tmp_path, objects=True))


def test_labels_that_can_not_be_read_are_all_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    put(root / "masks/a.png", healthy(0)[:-2])
    (root / "masks/b.png").write_bytes(b"nothing")
    report = check_folder(root, objects=True)
    assert found(report)["size-differs"].files == ("masks/a.png",)
    assert found(report)["unreadable"].files == ("masks/b.png",)
    assert report.exit_code == 3 and report.fingerprint.objects == 24


def test_what_numbers_objects_is_looked_at_unasked_and_stays_a_mask(tmp_path: Path) -> None:
    table = 'coding = "binary"\nmatch = "nonzero"\n[[class]]\nname = "background"\n[[class]]\nname = "cell"\n'
    (tmp_path / "classes.toml").write_text(table)
    write(tmp_path, lambda values: values.__setitem__((0, slice(0, 3)), 13))
    assert found(check_folder(tmp_path))["object-specks"].files == ("images/c.png",)
    assert check_folder(tmp_path, objects=False).fingerprint.objects_median is None


def coco(root: Path, annotations: list[Any]) -> Path:
    put(root / "a.png", np.random.default_rng(1).integers(0, 255, (*SIZE, 3)).astype(np.uint8))
    images = [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}]
    tree = {"images": images, "categories": [{"id": 4, "name": "cell"}], "annotations": annotations}
    (root / "a.json").write_text(json.dumps(tree))
    return root


def shape(number: int, ring: list[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 4, "segmentation": [ring], **more}


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def test_the_traps_of_outlines(tmp_path: Path) -> None:
    annotations = [
        shape(11, box(5, 5, 20, 20)),
        shape(12, box(5, 5, 20, 20)),  # twice
        shape(13, box(30, 5, 90, 20)),  # beyond the right edge
        shape(14, box(5, 30, 20, 45), bbox=[5, 30, 15, 300]),  # its box is
        shape(15, [1, 1, 2, 2]),  # two points
        shape(16, box(40.2, 40.2, 40.4, 40.4)),  # holds no pixel's centre
        shape(17, box(50, 40, 62, 52), bbox=["x"]),
    ]
    report = check_folder(coco(tmp_path, annotations), objects=True)
    findings = found(report)
    assert findings["object-twice"].details == ("11 and 12",)
    assert findings["object-outside"].details == ("13, 14",)
    assert findings["object-hidden"].details == ("16",)
    assert "annotation 15 (a.png)" in findings["folder"].message and "1 shape(s)" in findings["folder"].message
    assert report.exit_code == 0 and report.fingerprint.objects == 4


def test_the_command(tmp_path: Path) -> None:
    root = write(tmp_path, lambda values: values.__setitem__((0, slice(0, 3)), 13))
    words = [sys.executable, "-m", "intarsia", "check", str(root), "--objects", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["fingerprint"]["objects"] == 49
    assert [each["code"] for each in report["findings"] if each["level"] == "warning"] == ["object-specks"]
    assert 'coding = "objects"' in (root / "classes.toml").read_text()


# ------------------------------------------------------------------------------------------ damaged labels

rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["counts", "size", "x"]), inner),
    max_leaves=8,
)
annotation = st.fixed_dictionaries(
    {},
    optional={
        "id": rubbish,
        "image_id": st.just(1) | rubbish,
        "category_id": st.just(4) | rubbish,
        "segmentation": rubbish
        | st.lists(st.lists(st.floats(-50, 150) | rubbish, max_size=12), max_size=3)
        | st.fixed_dictionaries(
            {"size": st.just(list(SIZE)), "counts": st.lists(st.integers(-3, 5000), max_size=5) | st.text(max_size=9)}
        ),
        "bbox": rubbish | st.lists(st.integers(-(10**400), 10**400), min_size=4, max_size=4),
        "iscrowd": st.sampled_from([0, 1, None, "1"]),
    },
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(annotation | rubbish, max_size=6))
def test_any_annotations_are_read_or_dropped_by_name(tmp_path: Path, annotations: list[Any]) -> None:
    good = shape(1, box(5, 5, 20, 20))
    folder = open_folder(coco(tmp_path, [*annotations, good]), write_classes=False, objects=True)
    instances = folder.read(folder.entries[0]).instances
    assert instances is not None and 0 < len(instances) <= len(annotations) + 1
    assert instances.label_image.shape == SIZE and instances.label_image.max() == len(instances)
    dropped = sum(int(problem.split(" shape(s)")[0].rsplit(" ", 1)[1]) for problem in folder.problems)
    assert dropped + len(folder.drawings["a"].shapes) == len(annotations) + 1
    check_folder(tmp_path, write_classes=False, objects=True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("0123456789.-e \tnaif,"), max_size=40), max_size=5))
def test_any_yolo_lines_are_read_or_dropped_by_line(tmp_path: Path, lines: list[str]) -> None:
    put(tmp_path / "images/a.png", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").write_text("\n".join(["0 0.1 0.1 0.5 0.1 0.5 0.5", *lines]))
    folder = open_folder(tmp_path, write_classes=False, objects=True)
    instances = folder.read(folder.entries[0]).instances
    assert instances is not None and instances.label_image.max() == len(instances) > 0


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.npz"])
def test_damaged_label_files_are_read_or_named(tmp_path: Path, name: str) -> None:
    put(tmp_path / "images/a.png", np.zeros((*SIZE, 3), np.uint8))
    path = tmp_path / "masks" / name
    if name.endswith(("png", "tif")):
        put(path, healthy(0))
    else:
        path.parent.mkdir()
        stack = np.stack([healthy(0) == number for number in range(1, 13)])
        np.save(path, stack) if name == "a.npy" else np.savez_compressed(path, stack)
    data = path.read_bytes()
    (tmp_path / "classes.toml").write_text('coding = "objects"\n[[class]]\nname = "no"\n[[class]]\nname = "cell"\n')
    said: list[str] = []
    tried = 0
    for _, changed in damaged(data, seed=3):
        path.write_bytes(changed)
        folder, tried = open_folder(tmp_path, objects=True), tried + 1
        try:
            instances = folder.read(folder.entries[0]).instances
        except IntarsiaError as error:
            said.append(str(error))
        else:
            assert instances is not None and instances.label_image.shape == SIZE
            assert instances.label_image.max() == len(instances)
    assert all(name in message and "\n" not in message for message in said) and tried / 2 < len(said) < tried
    path.write_bytes(data)
    assert len(open_folder(tmp_path, objects=True).read(folder.entries[0]).instances or ()) == 12
