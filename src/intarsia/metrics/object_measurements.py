"""Objects in numbers: where they are, how large, of which shape, how bright. By scikit-image's `regionprops_table`.

    object                       its number in the label image, 1..N
    class                        the name of its class
    score                        in [0, 1]; only where objects were found by a model that gives one
    area                         pixels
    centroid_x, centroid_y       pixels; the centre of the first pixel of the picture is (0, 0)
    left, top, right, bottom     pixels; right and bottom are the first outside
    perimeter                    pixels, along the centres of its border pixels
    eccentricity                 of the ellipse of the same second moments: 0 a circle, towards 1 ever longer
    major_axis, minor_axis       of that ellipse, whole lengths in pixels
    solidity                     area over the area of the convex hull, in (0, 1]
    mean_C, min_C, max_C         of the picture's own values, channel C = 0, 1, ...
    touches_border               whether its box reaches the picture's border: it may go on outside

An object of which other objects hide a part is measured whole where `Instances.runs` knows it whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import DataError, UsageError
from ..files import write_atomically
from ..records import Classes, Image, Instances

Table = dict[str, np.ndarray]  #: columns of one length, by name

SHAPE = {
    "label": "object", "area": "area", "centroid-1": "centroid_x", "centroid-0": "centroid_y", "bbox-1": "left",
    "bbox-0": "top", "bbox-3": "right", "bbox-2": "bottom", "perimeter": "perimeter", "eccentricity": "eccentricity",
    "axis_major_length": "major_axis", "axis_minor_length": "minor_axis", "solidity": "solidity",
}  # fmt: skip
INTENSITY = {"intensity_mean": "mean", "intensity_min": "min", "intensity_max": "max"}
WHOLE = ("object", "area", "left", "top", "right", "bottom")


def object_table(image: Image, instances: Instances, classes: Classes) -> Table:
    """One row for each object that has a pixel, by number: the columns above. image: (H, W, C), or (H, W).

    About a millisecond an object. Raises DataError where the picture and the label image differ in size.
    """
    label_image = instances.label_image
    if image.shape[:2] != label_image.shape:
        raise DataError(
            f"a picture of {image.shape[:2]} pixels can't be measured by a label image of {label_image.shape}."
        )
    values = image[..., None] if image.ndim == 2 else image
    if instances.runs is None:
        measured = _measured(values, np.maximum(label_image, 0))
    else:
        measured = _measured_whole(values, instances.runs)
    place = measured["object"] - 1
    table = {"object": measured.pop("object"), "class": np.array(classes.names)[instances.classes[place]]}
    if instances.scores is not None:
        table["score"] = instances.scores[place]
    height, width = label_image.shape
    at_start = (measured["left"] == 0) | (measured["top"] == 0)
    at_end = (measured["right"] == width) | (measured["bottom"] == height)
    return table | measured | {"touches_border": at_start | at_end}


def stack_tables(tables: Mapping[str, Table]) -> Table:
    """The rows of many pictures below each other, each with its picture's name in a first column, `picture`. Raises
    DataError where they have different columns, as those of pictures with different channels have."""
    if not tables:
        return {"picture": np.zeros(0, "<U1")}
    first, example = next(iter(tables.items()))
    for name, table in tables.items():
        if table.keys() != example.keys():
            differing = sorted(table.keys() ^ example.keys())
            raise DataError(
                f"{name} has other columns than {first} ({', '.join(differing)}), since the pictures have different "
                "channels; measure pictures with as many channels each."
            )
    names = [np.full(len(table["object"]), name) for name, table in tables.items()]
    columns = {key: np.concatenate([table[key] for table in tables.values()]) for key in example}
    return {"picture": np.concatenate(names)} | columns


def write_table(path: str | Path, table: Table) -> Path:
    """Write a table as CSV or, where the name ends in .parquet, as Parquet, whole or not at all. Returns the path.

    Real numbers have six digits in CSV. Raises UsageError for Parquet where pyarrow is not installed.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        if not parquet_is_installed():
            raise UsageError(f"{path} needs pyarrow; pip install pyarrow, or write a table that ends in .csv.")
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table({key: pyarrow.array(column) for key, column in table.items()}), buffer)
        return write_atomically(path, buffer.getvalue())
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*(words(column) for column in table.values()), strict=True))
    return write_atomically(path, lines.getvalue().encode("utf-8", "surrogateescape"))


def parquet_is_installed() -> bool:
    """Whether `write_table` can write Parquet here."""
    return find_spec("pyarrow") is not None


def _measured(values: np.ndarray, label_image: np.ndarray) -> Table:
    """The columns that scikit-image knows, under our names."""
    from skimage.measure import regionprops_table  # half a second that only those pay who measure

    asked = dict.fromkeys(key.split("-")[0] for key in SHAPE)
    channels = values.shape[2]
    found = regionprops_table(label_image, values, properties=(*asked, *INTENSITY))
    table = {ours: np.asarray(found[theirs]) for theirs, ours in SHAPE.items()}
    for channel in range(channels):
        for theirs, ours in INTENSITY.items():
            table[f"{ours}_{channel}"] = np.asarray(found[f"{theirs}-{channel}"])
    return table | {key: table[key].astype(np.int64) for key in WHOLE}


def _measured_whole(values: np.ndarray, runs: tuple[np.ndarray, ...]) -> Table:
    """Of objects that overlap: each in its own box."""
    height = values.shape[0]
    tables = [_measured(values[:1], np.zeros((1, values.shape[1]), np.int32))]  # none yet, but its columns
    for number, each in enumerate(runs, start=1):
        starts, ends = np.cumsum(each)[0:-1:2], np.cumsum(each)[1::2]
        if not (ends > starts).any():
            continue
        first, after = int(starts[0]) // height, -(-int(ends[-1]) // height)
        inside = np.repeat(np.arange(len(each)) % 2 == 1, each)[first * height : after * height]
        mask = inside.reshape(after - first, height).T
        rows = np.flatnonzero(mask.any(axis=1))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        one = _measured(values[top:bottom, first:after], mask[top:bottom].astype(np.int32))
        shifts = {"centroid_x": first, "left": first, "right": first, "centroid_y": top, "top": top, "bottom": top}
        one |= {key: one[key] + shift for key, shift in shifts.items()}
        tables.append(one | {"object": np.array([number])})
    return {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}


def words(column: np.ndarray) -> list[str]:
    """What stands in a CSV: real numbers have six digits."""
    if column.dtype.kind == "f":
        return [f"{value:.6g}" for value in column.tolist()]
    return [str(value) for value in column.tolist()]
