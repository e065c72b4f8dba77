"""Objects measured in pieces, as if they had been in one."""

from __future__ import annotations

import numpy as np
import pytest

from intarsia.metrics.object_measurements import object_table
from intarsia.metrics.object_sums import merged, sums_of, table_of
from intarsia.records import Classes, Instances

CLASSES = Classes.named(["background", "disk", "square"])


def test_pieces_add_up_to_what_the_whole_picture_says() -> None:
    """Random labels in random tiles; every object is seen as two views, of which one has more pixels."""
    generator = np.random.default_rng(0)
    labels = np.kron(generator.integers(0, 8, (12, 15)), np.ones((5, 4), int)).astype(np.int32)
    image = generator.integers(0, 65536, (*labels.shape, 3)).astype(np.uint16)
    views = np.where(labels > 0, labels + 7 * (generator.random(labels.shape) < 0.3), 0)
    numbers = np.array([0, *range(1, 8), *range(1, 8)], np.uint32)
    kinds = np.array([0, *[1, 2, 1, 2, 1, 2, 1], *[2] * 7], np.int16)
    scores = np.linspace(0, 1, 15).astype(np.float32)
    cuts = ([0, 13, 14, 40, 60], [0, 7, 31, 60])
    parts = [
        sums_of(views[top:bottom, left:right], image[top:bottom, left:right], (top, left), numbers, kinds, scores)
        for top, bottom in zip(cuts[0], cuts[0][1:], strict=False)
        for left, right in zip(cuts[1], cuts[1][1:], strict=False)
    ]
    table = table_of(merged(np.concatenate(parts)), CLASSES, labels.shape)  # type: ignore[arg-type]
    means = np.array([scores[views[labels == number]].mean() for number in range(1, 8)])
    expected = object_table(image, Instances(labels, kinds[1:8], means.astype(np.float32)), CLASSES)
    expected["id"] = expected.pop("object")
    assert set(expected) - set(table) == {"perimeter", "solidity"} and set(table) <= set(expected)
    for name, column in table.items():
        if column.dtype.kind == "f":
            assert column == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
        else:
            assert np.array_equal(column, expected[name]), name
    assert list(table)[:4] == ["id", "class", "score", "area"]
    assert set(table_of(merged(np.concatenate(parts)), CLASSES, (1, 1), scored=False, measured=False)) == {
        "id",
        "class",
    }


def test_a_pixel_and_a_line() -> None:
    labels = np.zeros((9, 30), np.uint32)
    labels[2, 5], labels[7, 3:29] = 1, 2
    image = np.full((9, 30, 1), 0.25, np.float32)
    table = table_of(merged(sums_of(labels, image, (100_000, 200_000), *[np.arange(3)] * 3)), CLASSES, (1, 1))
    assert table["eccentricity"].tolist() == [0, 1] and table["minor_axis"].tolist() == [0, 0]
    assert table["centroid_x"].tolist() == [200_005, 200_015.5] and table["mean_0"].tolist() == [0.25, 0.25]
