"""Objects drawn by hand have the numbers they were drawn with, in the table and in its files."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from intarsia.data.run_lengths import run_lengths
from intarsia.errors import DataError, DiskError, UsageError
from intarsia.metrics.object_measurements import (
    Table,
    object_table,
    parquet_is_installed,
    stack_tables,
    write_table,
)
from intarsia.records import IGNORE, Classes, Instances

CLASSES = Classes.named(["background", "cell", 'a "b", c'])


def drawn() -> tuple[np.ndarray, Instances]:
    """An upright bar of 3 x 8 pixels, a square in the corner, and a pixel nobody knows."""
    labels = np.zeros((20, 30), np.int32)
    labels[5:13, 10:13] = 1
    labels[16:20, 26:30] = 2
    labels[0, 0] = IGNORE
    image = np.zeros((20, 30, 2), np.uint16)
    image[..., 0] = 1000
    image[5:13, 10:13, 1] = np.arange(24).reshape(8, 3)
    return image, Instances(labels, np.array([2, 1], np.int16), np.array([0.5, 0.25], np.float32))


def test_a_bar_and_a_square() -> None:
    table = object_table(*drawn(), CLASSES)
    assert {len(column) for column in table.values()} == {2}
    bar, square = ({key: column[row].item() for key, column in table.items()} for row in range(2))
    assert (bar["object"], bar["class"], bar["score"], bar["area"]) == (1, 'a "b", c', 0.5, 24)
    assert (bar["centroid_x"], bar["centroid_y"]) == (11, 8.5)
    assert (bar["left"], bar["top"], bar["right"], bar["bottom"]) == (10, 5, 13, 13)
    assert bar["perimeter"] == 2 * (3 - 1 + 8 - 1) and bar["solidity"] == 1
    assert bar["major_axis"] == pytest.approx(4 * np.sqrt((8**2 - 1) / 12)) and bar["minor_axis"] < bar["major_axis"]
    assert bar["eccentricity"] == pytest.approx(np.sqrt(1 - (bar["minor_axis"] / bar["major_axis"]) ** 2))
    assert (bar["mean_0"], bar["min_0"], bar["max_0"]) == (1000, 1000, 1000)
    assert (bar["mean_1"], bar["min_1"], bar["max_1"]) == (11.5, 0, 23)
    assert bar["touches_border"] is False and square["touches_border"] is True
    assert (square["object"], square["class"], square["area"], square["eccentricity"]) == (2, "cell", 16, 0)


def test_a_number_that_does_not_occur_has_no_row_and_truth_has_no_score() -> None:
    image, instances = drawn()
    labels = np.where(instances.label_image == 1, 0, instances.label_image)
    table = object_table(image[..., 0], Instances(labels, instances.classes), CLASSES)
    assert table["object"].tolist() == [2] and table["class"].tolist() == ["cell"]
    assert "score" not in table and "mean_1" not in table and table["mean_0"].tolist() == [1000]


def test_no_objects_is_a_table_without_rows() -> None:
    image = np.zeros((5, 6, 3), np.uint8)
    empty = Instances(np.zeros((5, 6), np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32))
    table = object_table(image, empty, CLASSES)
    full = object_table(np.zeros((20, 30, 3), np.uint8), drawn()[1], CLASSES)
    assert table.keys() == full.keys() and all(len(column) == 0 for column in table.values())
    overlapping = Instances(empty.label_image, empty.classes, empty.scores, runs=())
    assert object_table(image, overlapping, CLASSES).keys() == full.keys()


def test_objects_that_overlap_are_measured_whole() -> None:
    image, instances = drawn()
    whole = object_table(image, instances, CLASSES)
    hidden = np.where(instances.label_image == 1, 0, instances.label_image)
    overlapping = Instances(hidden, instances.classes, instances.scores, run_lengths(instances.label_image))
    again = object_table(image, overlapping, CLASSES)
    for key, column in whole.items():
        np.testing.assert_array_equal(again[key], column, err_msg=key)


def test_sizes_that_differ_are_named() -> None:
    image, instances = drawn()
    with pytest.raises(DataError, match=r"\(19, 30\)"):
        object_table(image[:-1], instances, CLASSES)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_many_pictures_in_one_file(tmp_path: Path) -> None:
    image, instances = drawn()
    table = object_table(image, instances, CLASSES)
    empty = Instances(np.zeros((20, 30), np.int32), np.zeros(0, np.int16), np.zeros(0, np.float32))
    none = object_table(image, empty, CLASSES)
    both = stack_tables({"a": table, "none": none, "längerer/name": table})
    rows = read(write_table(tmp_path / "objects.csv", both))
    assert [row["picture"] for row in rows] == ["a", "a", "längerer/name", "längerer/name"]
    assert rows[0]["class"] == 'a "b", c' and rows[0]["area"] == "24" and rows[0]["mean_1"] == "11.5"
    assert float(rows[0]["eccentricity"]) == pytest.approx(table["eccentricity"][0], rel=1e-5)
    assert rows[0]["touches_border"] == "False"
    assert list(stack_tables({})) == ["picture"]
    with pytest.raises(DataError, match="max_1"):
        stack_tables({"a": table, "b": object_table(image[..., :1], instances, CLASSES)})


def test_parquet_holds_the_same_numbers(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table: Table = stack_tables({"a": object_table(*drawn(), CLASSES)})
    path = write_table(tmp_path / "objects.parquet", table)
    again = parquet.read_table(path).to_pydict()
    assert again == {key: column.tolist() for key, column in table.items()}
    assert parquet_is_installed()


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = object_table(*drawn(), CLASSES)
    with pytest.raises(DiskError):
        write_table(tmp_path / "nowhere" / "objects.csv", table)
    monkeypatch.setattr("intarsia.metrics.object_measurements.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pyarrow"):
        write_table(tmp_path / "objects.parquet", table)
    assert not list(tmp_path.iterdir())


def test_a_thousand_objects_take_a_second_or_two() -> None:
    tile = np.zeros((20, 20), np.int32)
    rows, columns = np.mgrid[:20, :20]
    tile[(rows - 10) ** 2 + (columns - 10) ** 2 < 80] = 1
    labels = np.kron(np.arange(1, 1001, dtype=np.int32).reshape(25, 40), tile)
    image = np.zeros((*labels.shape, 1), np.uint8)
    began = time.process_time()
    table = object_table(image, Instances(labels, np.ones(1000, np.int16)), CLASSES)
    assert time.process_time() - began < 6
    assert len(table["object"]) == 1000 and set(table["area"].tolist()) == {int(tile.sum())}
