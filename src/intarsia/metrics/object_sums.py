"""Objects in numbers, of pictures too large to hold: what is added up tile by tile, and the columns it makes.

The columns are those of `object_measurements.py` that sums, least and largest values tell; perimeter and solidity,
which need an object's whole shape, are not among them. An object that lies in several tiles is added up, its moments
as well, so that it is measured as if it had been in one.

    area, sum of x, y, x², y², xy ──► centroid, eccentricity, axes: from the eigenvalues of the pixels' covariance
    least and largest x, y        ──► box
    sum, least, largest value     ──► mean_C, min_C, max_C

An object of which parts were said to be of different classes is of the one that most of its pixels are of; its score is
the mean over its pixels.
"""

from __future__ import annotations

import numpy as np

from ..records import Classes, Image
from .object_measurements import Table

ADDED = ("area", "score", "x", "y", "xx", "yy", "xy", "sum")
LEAST, LARGEST = ("left", "top", "min"), ("right", "bottom", "max")


def record_type(channels: int) -> np.dtype:
    """Of what is known of a part of an object, in pixels of the whole picture."""
    whole = [(name, np.int32) for name in ("left", "top", "right", "bottom")]
    real = [(name, np.float64) for name in ADDED if name != "sum"]
    values = [(name, np.float64, (channels,)) for name in ("sum", "min", "max")]
    return np.dtype([("number", np.uint32), ("kind", np.int16), *whole, *real, *values])


def sums_of(
    views: np.ndarray, image: Image, corner: tuple[int, int], numbers: np.ndarray, kinds: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """A record for each view in a tile (h, w) of their numbers, 0 = none, of the picture's part (h, w, C) there.

    corner: the tile's top and left. numbers, kinds, scores: the object of each view, its class and score, by view.
    """
    y, x = np.nonzero(views)
    order = np.argsort(views[y, x], kind="stable")
    y, x = y[order], x[order]
    found, starts, counts = np.unique(views[y, x], return_index=True, return_counts=True)
    records = np.zeros(len(found), record_type(image.shape[2]))
    if not len(found):
        return records
    values = image[y, x].astype(np.float64)
    down, across = (y + corner[0]).astype(np.float64), (x + corner[1]).astype(np.float64)
    records["number"], records["kind"], records["area"] = numbers[found], kinds[found], counts
    records["score"] = scores[found] * counts
    terms = {"x": across, "y": down, "xx": across**2, "yy": down**2, "xy": across * down, "sum": values}
    for name, each in terms.items():
        records[name] = np.add.reduceat(each, starts)
    for name, each in (("left", across), ("top", down), ("min", values)):
        records[name] = np.minimum.reduceat(each, starts)
    for name, each in (("right", across + 1), ("bottom", down + 1), ("max", values)):
        records[name] = np.maximum.reduceat(each, starts)
    return records


def merged(records: np.ndarray) -> np.ndarray:
    """A record for each object, by number, of those of its parts."""
    parts = _merged_by(records, ("number", "kind"))
    whole = _merged_by(parts, ("number",))
    most = np.lexsort((-parts["kind"].astype(int), parts["area"], parts["number"]))
    last = np.searchsorted(parts["number"][most], whole["number"], side="right") - 1
    whole["kind"] = parts["kind"][most][last]
    return whole


def table_of(
    objects: np.ndarray, classes: Classes, size: tuple[int, int], *, scored: bool = True, measured: bool = True
) -> Table:
    """The columns of objects (N,) as `merged` gives them; size: height and width of the picture.

    scored: whether there is a score. measured: False: number, class and score only.
    """
    area = objects["area"]
    table: Table = {"id": objects["number"], "class": np.array(classes.names)[objects["kind"]]}
    if scored:
        table["score"] = objects["score"] / area
    if not measured:
        return table
    left, top = objects["left"].astype(np.float64), objects["top"].astype(np.float64)
    # Sums of whole numbers are exact. Taken from the box's corner on, they lose nothing when they are subtracted.
    x, y = objects["x"] - left * area, objects["y"] - top * area
    xx, yy = objects["xx"] - left * (objects["x"] + x), objects["yy"] - top * (objects["y"] + y)
    xy = objects["xy"] - left * objects["y"] - top * x
    across, down, both = xx / area - (x / area) ** 2, yy / area - (y / area) ** 2, xy / area - x * y / area**2
    table |= {"area": area.astype(np.int64), "centroid_x": left + x / area, "centroid_y": top + y / area}
    table |= {name: objects[name] for name in ("left", "top", "right", "bottom")}
    middle, apart = (across + down) / 2, np.hypot((across - down) / 2, both)
    long, short = (middle + apart).clip(0), (middle - apart).clip(0)
    ratio = np.divide(short, long, out=np.ones_like(long), where=long > 0)
    table |= {"eccentricity": np.sqrt(1 - ratio), "major_axis": 4 * np.sqrt(long), "minor_axis": 4 * np.sqrt(short)}
    for channel in range(objects["sum"].shape[1]):
        table[f"mean_{channel}"] = objects["sum"][:, channel] / area
        table[f"min_{channel}"] = objects["min"][:, channel]
        table[f"max_{channel}"] = objects["max"][:, channel]
    height, width = size
    at_start = (objects["left"] == 0) | (objects["top"] == 0)
    return table | {"touches_border": at_start | (objects["right"] == width) | (objects["bottom"] == height)}


def _merged_by(records: np.ndarray, keys: tuple[str, ...]) -> np.ndarray:
    """Those of the same keys as one, in the keys' order."""
    ordered = records[np.lexsort([records[key] for key in reversed(keys)])]
    first = np.ones(len(ordered), bool)
    first[1:] = np.any([ordered[key][1:] != ordered[key][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(first)
    result = ordered[starts]
    if len(result):
        for names, join in ((ADDED, np.add), (LEAST, np.minimum), (LARGEST, np.maximum)):
            for name in names:
                result[name] = join.reduceat(ordered[name], starts)
    return result
