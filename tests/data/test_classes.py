"""Numbers and colours in mask files become classes by a table; a table that nobody wrote is inferred and says why."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from intarsia.data.classes import (
    ClassTable,
    decode,
    decode_plane,
    read_class_table,
    unknown_values,
    write_class_table,
)
from intarsia.data.infer import infer_class_table
from intarsia.data.read import RawMask, read_mask
from intarsia.errors import DataError
from intarsia.records import IGNORE, Classes

CAMVID = ClassTable(
    Classes(
        (
            "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian",
            "Bicyclist",
        ),
        (
            (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
            (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
        ),
    ),
    tuple(range(11)),
    ignore=(11,),
)  # fmt: skip
BINARY = ClassTable(Classes.named(["background", "foreground"]), (0, 255), coding="binary")


def raw(values: object, dtype: type = np.uint8, **more: object) -> RawMask:
    return RawMask(np.array(values, dtype), **more)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_numbers_become_classes_and_void_becomes_ignore(dtype: type) -> None:
    mask = decode(raw([[0, 3], [10, 11]], dtype), CAMVID, "a.png")
    assert mask.dtype == np.int16
    assert mask.tolist() == [[0, 3], [10, IGNORE]]


def test_values_need_not_count_from_zero() -> None:
    table = ClassTable(Classes.named(["low", "high"]), (40, 7), ignore=(255, -1))
    assert decode(raw([[7, 40, 255, -1]], np.int32), table, "a").tolist() == [[1, 0, IGNORE, IGNORE]]


def test_colours_become_classes() -> None:
    table = ClassTable(CAMVID.classes, ignore_colours=((0, 0, 0),), coding="colour")
    colours = raw([[(128, 128, 128), (60, 40, 222), (0, 0, 0)]])
    assert decode(colours, table, "a").tolist() == [[0, 4, IGNORE]]
    assert decode(raw([[128, 0]]), table, "a").tolist() == [[0, IGNORE]]  # a file that happens to hold only greys
    palette = ((0, 0, 0), (128, 0, 0))
    assert decode(raw([[1, 0]], palette=palette), table, "a").tolist() == [[1, IGNORE]]


def test_numbers_saved_as_rgb_are_numbers() -> None:
    values = np.array([[0, 5], [11, 1]], np.uint8)
    assert decode(raw(np.stack([values] * 3, -1)), CAMVID, "a").tolist() == [[0, 5], [IGNORE, 1]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=20, unique=True), st.integers(0, 2**32 - 1))
def test_decoding_undoes_writing(values: list[int], seed: int) -> None:
    table = ClassTable(Classes.named([f"c{value}" for value in values]), tuple(values))
    mask = np.random.default_rng(seed).integers(0, len(values), (4, 6)).astype(np.int16)
    for dtype in (np.uint16, np.int64):
        np.testing.assert_array_equal(decode(RawMask(np.array(values)[mask].astype(dtype)), table, "a"), mask)


def test_unknown_values_are_counted_and_a_mapping_is_proposed() -> None:
    with pytest.raises(DataError, match=r"a\.png .* 255 \(25\.00%\).*ignore = \[255\]"):
        decode(raw([[0, 1], [2, 255]]), CAMVID, "a.png")
    with pytest.raises(DataError, match=r'255 \(50\.00%\).*coding = "binary"'):
        decode(raw([[0, 255]]), CAMVID, "a.png")
    with pytest.raises(DataError, match=r"65535.*ignore = \[65535\]"):
        decode(raw([[0, 65535]], np.uint16), CAMVID, "a.png")
    with pytest.raises(DataError, match=r'JPEG.*match = "nearest"'):
        decode(raw([[0, 17]], lossy=True), CAMVID, "a.jpg")
    with pytest.raises(DataError, match=r'and 83 more.*match = "nonzero"'):
        decode(raw(np.arange(100)[None], np.uint16), CAMVID, "a.png")
    assert unknown_values(raw([[0, 12], [12, 99]]), CAMVID) == {12: 2, 99: 1}
    coloured = ClassTable(CAMVID.classes, coding="colour")
    assert unknown_values(raw([[(1, 2, 3), (128, 0, 0)]]), coloured) == {(1, 2, 3): 1}


def test_colours_where_numbers_are_expected() -> None:
    with pytest.raises(DataError, match=r'coding = "colour"'):
        decode(raw([[(128, 0, 0)]]), CAMVID, "a.png")


def test_nonzero_takes_every_object_as_foreground() -> None:
    table = ClassTable(Classes.named(["a", "b"]), (0, 1), ignore=(65535,), coding="binary", match="nonzero")
    assert decode(raw([[0, 1, 375, 65535]], np.uint16), table, "a").tolist() == [[0, 1, 1, IGNORE]]


def test_nearest_undoes_what_compression_did() -> None:
    table = ClassTable(Classes.named(["background", "foreground"]), (0, 255), coding="binary", match="nearest")
    assert decode(raw([[0, 3, 127, 128, 250]], lossy=True), table, "a").tolist() == [[0, 0, 0, 1, 1]]
    coloured = ClassTable(CAMVID.classes, coding="colour", match="nearest")
    assert decode(raw([[(120, 5, 8), (66, 60, 3)]], lossy=True), coloured, "a").tolist() == [[1, 9]]


def test_a_plane_of_its_own() -> None:
    assert decode_plane(raw([[0, 1, 255]])).tolist() == [[0, 1, 1]]
    assert decode_plane(raw([[0, 90, 200]], lossy=True)).tolist() == [[0, 0, 1]]
    assert decode_plane(raw([[0, 1, 255]]), ignore=(255,)).tolist() == [[0, 1, IGNORE]]
    assert decode_plane(raw([[(255, 0, 0), (0, 0, 0)]])).tolist() == [[1, 0]]


TABLES = [
    CAMVID,
    BINARY,
    ClassTable(CAMVID.classes, ignore_colours=((0, 0, 0),), coding="colour", match="nearest"),
    ClassTable(Classes.named(["car", "road"], overlapping=True), coding="files", ignore=(9,)),
    ClassTable(Classes.named(["background", "cat"]), (-1, 17), coding="shapes"),
    ClassTable(Classes.named(["Straße", 'a "quoted" \\ name', "日本 😀", "tab\tnew\nline"]), (0, 1, 2, 3)),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.coding}-{table.match}-{len(table.classes)}")
def test_what_is_written_is_read(tmp_path: Path, table: ClassTable) -> None:
    path = write_class_table(tmp_path / "classes.toml", table, "Why it is so.\nAnd how.")
    assert read_class_table(path) == table
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#") and "# And how." in text
    assert tomllib.loads(text)["class"][0]["name"] == table.classes.names[0]
    assert [each.name for each in tmp_path.iterdir()] == ["classes.toml"]


def test_a_short_file_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text('[[class]]\nname = "sky"\ncolour = "#0080ff"\n[[class]]\nname = "sea"\n')
    table = read_class_table(tmp_path / "classes.toml")
    assert table.classes.names == ("sky", "sea") and table.classes.colours[0] == (0, 128, 255)
    assert table.numbers() == (0, 1) and table.coding == "index"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no classes"),
        ("[[class]]", "no name"),
        ("[class]\nname = 'a'", "no classes"),
        ("codin = 'index'", "'codin'"),
        ("coding = 'numbers'\n[[class]]\nname = 'a'", "'numbers'"),
        ("[[class]]\nname = 'a'\ncolour = [0, 0, 256]", "256"),
        ("[[class]]\nname = 'a'\nvalue = 1.5", "1.5"),
        ("[[class]]\nname = 'a'\nvalues = 1", "'values'"),
        ("[[class]]\nname = 'a'\nvalue = 1\n[[class]]\nname = 'b'\nvalue = 1", "share the value 1"),
        ("[[class]]\nname = 'a'\n[[class]]\nname = 'a'", "differ"),
        ("ignore = 255\n[[class]]\nname = 'a'", "255"),
        ("ignore = [0]\n[[class]]\nname = 'a'", "also in ignore"),
        ("coding = 'binary'\n[[class]]\nname = 'a'", "has two"),
        ("match = 'nonzero'\n[[class]]\nname = 'a'", "binary"),
        ("overlapping = true\n[[class]]\nname = 'a'", "files"),
        ("= broken", "can't be read"),
    ],
)
def test_a_table_that_makes_no_sense_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "classes.toml").write_text(text)
    with pytest.raises(DataError, match=r"classes\.toml") as caught:
        read_class_table(tmp_path / "classes.toml")
    assert words in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml"):
        read_class_table(tmp_path / "none.toml")


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 128)])
def test_two_numbers_are_background_and_foreground(values: tuple[int, int]) -> None:
    table, reason = infer_class_table([raw([[values[0]]]), raw([list(values)])])
    assert table.coding == "binary" and table.values == values
    assert table.classes.names == ("background", "foreground")
    assert str(values[1]) in reason


def test_indices_are_classes_and_a_lone_255_is_ignored() -> None:
    table, _ = infer_class_table([raw([[0, 1, 2]]), raw([[0, 4, 255]])])
    assert table.values == (0, 1, 2, 3, 4)  # 3 is not among these masks, but between
    assert table.ignore == (255,) and table.coding == "index"
    assert infer_class_table([raw([[0, 1, 65535]], np.uint16)])[0].ignore == (65535,)
    assert infer_class_table([raw([[-1, 0, 1, 2]], np.int32)])[0].ignore == (-1,)


def test_grey_levels_are_classes_without_those_between() -> None:
    table, _ = infer_class_table([raw([[0, 128, 255]])])
    assert table.values == (0, 128, 255) and not table.ignore


def test_a_palette_gives_its_colours() -> None:
    palette = ((0, 0, 0), (200, 0, 0), (0, 200, 0), *[(0, 0, 0)] * 253)
    table, _ = infer_class_table([raw([[0, 1, 2]], palette=palette)])
    assert table.classes.colours == palette[:3] and table.coding == "index"


def test_palettes_that_differ_mean_colours() -> None:
    red_first = raw([[0, 1]], palette=((200, 0, 0), (0, 0, 200)))
    blue_first = raw([[0, 1]], palette=((0, 0, 200), (200, 0, 0)))
    table, _ = infer_class_table([red_first, blue_first])
    assert table.coding == "colour" and set(table.classes.colours) == {(200, 0, 0), (0, 0, 200)}
    assert decode(red_first, table, "a").tolist() == [[1, 0]]
    assert decode(blue_first, table, "a").tolist() == [[0, 1]]


def test_colours_are_classes() -> None:
    table, reason = infer_class_table([raw([[(0, 0, 0), (255, 0, 0)]]), raw([[(0, 0, 0), (0, 0, 0)]])])
    assert table.coding == "colour" and table.classes.colours == ((0, 0, 0), (255, 0, 0))
    assert "2 colours" in reason


def test_photographs_are_no_masks() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    with pytest.raises(DataError, match=r"1\d\d\d different colours"):
        infer_class_table([RawMask(noise)], "the masks of here")


def test_object_numbers_are_foreground() -> None:
    rng = np.random.default_rng(0)
    masks = [RawMask(rng.permutation(np.resize(np.arange(count), 900)).reshape(30, 30).astype(np.uint16)) for count in
             (20, 60, 376)]  # fmt: skip
    table, reason = infer_class_table(masks)
    assert (table.coding, table.match) == ("binary", "nonzero") and "objects" in reason
    assert set(np.unique(decode(masks[2], table, "a"))) == {0, 1}


def test_many_classes_are_not_taken_for_objects() -> None:
    rng = np.random.default_rng(0)
    masks = [RawMask(rng.choice(rng.choice(150, 12), (30, 30)).astype(np.uint8)) for _ in range(60)]
    table, _ = infer_class_table(masks)
    assert table.coding == "index" and len(table.classes) == 150


def test_a_binary_mask_saved_as_jpeg(tmp_path: Path) -> None:
    disk = np.hypot(*np.mgrid[-60:60, -60:60]) < 30
    for mode in ("L", "RGB"):
        stream = io.BytesIO()
        Pillow.fromarray(disk.astype(np.uint8) * 255).convert(mode).save(stream, "jpeg", quality=75)
        (tmp_path / "a.jpg").write_bytes(stream.getvalue())
        mask = read_mask(tmp_path / "a.jpg")
        table, reason = infer_class_table([mask])
        assert (table.coding, table.match) == ("binary", "nearest") and "JPEG" in reason
        assert (decode(mask, table, "a.jpg") == disk).mean() > 0.999


def test_no_masks_no_classes() -> None:
    table, _ = infer_class_table([])
    assert table.coding == "none" and len(table.classes) == 0
