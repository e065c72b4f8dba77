"""`intarsia classical`, as a user types it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from shell import Shell

from intarsia.classical import METHODS, KMeansConfig, grow_cut, k_means, otsu
from intarsia.cli.labelling import encode_labels, outlined
from intarsia.cli.scribbles import read_seeds
from intarsia.data.folder import open_folder
from intarsia.data.read import read_image, read_mask
from intarsia.drawing import encode_png
from intarsia.errors import DataError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

NAMES = ("plain", "ein Bild ü", "sub/[odd] name")
SIZE = (24, 30)


def picture(seed: int) -> np.ndarray:
    """Dark to the left, bright to the right, and noise."""
    values = np.full((*SIZE, 3), 60.0)
    values[:, 14 + seed :] = 180
    return (values + np.random.default_rng(seed).normal(0, 6, values.shape)).clip(0, 255).astype(np.uint8)


def seeds() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[4:8, 3:6], labels[15:18, 25:28] = 1, 2
    return labels


def scribbles(colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    """(H, W, 4) uint8: the seeds in colours, transparent elsewhere."""
    drawn = np.zeros((*SIZE, 4), np.uint8)
    for label, colour in colours.items():
        drawn[seeds() == label] = (*colour, 255)
    drawn[0, 0] = (9, 9, 9, 10)  # the soft rim of a brush
    return drawn


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """`pictures`, one of them broken, and `seeds`: a label image for each that can be read."""
    for number, name in enumerate(NAMES):
        for folder, content in (("pictures", picture(number)), ("seeds", seeds())):
            place = tmp_path / folder / f"{name}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encode_png(content))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    return tmp_path


def files(folder: Path) -> list[str]:
    found = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
    return sorted(each.relative_to(folder).as_posix() for each in found)


def test_list_names_every_method_and_setting(shell: Shell, tmp_path: Path) -> None:
    done = shell.run(tmp_path, "classical", "--list", "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert list(rows) == list(METHODS)
    assert rows["multi_otsu"]["settings"]["classes"] == 3
    assert rows["grow_cut"]["seeds"] == "required"
    table = shell.run(tmp_path, "classical", "--list", COLUMNS="200")
    assert table.code == 0 and all(name in table.out for name in METHODS) and "surface=sobel" in table.out


def test_labels_overlays_and_going_on(shell: Shell, room: Path) -> None:
    command = ["classical", "otsu", "pictures", "broken", "--out", "out", "--overlay"]
    done = shell.run(room, *command)
    assert done.code == 3, done.err
    assert "3 pictures in" in done.out and "1 failed" in done.out and "bad.png" in done.out
    expected = [f"{folder}/{name}.png" for folder in ("labels", "overlays") for name in NAMES]
    assert files(room / "out") == sorted(["classical.json", *expected])
    for number, name in enumerate(NAMES):
        labels = read_mask(room / "out" / "labels" / f"{name}.png").values
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, otsu(picture(number)))
        drawn = read_image(room / "out" / "overlays" / f"{name}.png")
        np.testing.assert_array_equal(drawn, outlined(picture(number), labels))
        assert (drawn == (255, 220, 0)).all(axis=2).any()
    kept = room / "out" / "labels" / "plain.png"
    before = kept.stat().st_mtime_ns
    (room / "out" / "overlays" / f"{NAMES[1]}.png").unlink()
    again = shell.run(room, *command)
    assert again.code == 3 and "1 picture in" in again.out and "2 were there already" in again.out
    assert kept.stat().st_mtime_ns == before
    other = shell.run(room, *command, "--set", "smooth=2")
    assert other.code == 2 and "other settings" in other.err
    assert kept.stat().st_mtime_ns == before
    replaced = shell.run(room, *command, "--set", "smooth=2", "--overwrite", "--json")
    assert replaced.code == 3
    told = json.loads(replaced.out)
    assert told["done"] == 3 and len(told["failed"]) == 1
    assert kept.stat().st_mtime_ns != before


def test_nothing_of_the_user_is_overwritten(shell: Shell, room: Path) -> None:
    mine = room / "out" / "labels" / "plain.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    done = shell.run(room, "classical", "otsu", "pictures", "--out", "out")
    assert done.code == 2 and "is not from here" in done.err
    assert mine.read_bytes() == b"mine" and files(room / "out") == ["labels/plain.png"]
    other = room / "out" / "images" / "plain.png"  # no file of an answer as labels
    other.parent.mkdir()
    other.write_bytes(b"mine too")
    assert shell.run(room, "classical", "otsu", "pictures", "--out", "out", "--overwrite").code == 0
    assert other.read_bytes() == b"mine too"


def test_seeds_from_a_folder_a_file_and_scribbles(shell: Shell, room: Path) -> None:
    expected = [grow_cut(picture(number), seeds()) for number in range(len(NAMES))]
    (room / "pictures" / "lonely.png").write_bytes(encode_png(picture(3)))
    done = shell.run(room, "classical", "grow-cut", "pictures", "--seeds", "seeds", "--out", "out")
    assert done.code == 3 and "lonely.png has no seeds" in done.out and "3 pictures in" in done.out
    for name, labels in zip(NAMES, expected, strict=True):
        np.testing.assert_array_equal(read_mask(room / "out" / "labels" / f"{name}.png").values, labels)
    (room / "pictures" / "lonely.png").unlink()

    for name in NAMES:  # red is 2, green is 1: by their order as colours, the same in every picture
        (room / "seeds" / f"{name}.png").write_bytes(encode_png(scribbles({1: (0, 200, 0), 2: (255, 0, 0)})))
    done = shell.run(room, "classical", "grow_cut", "pictures", "--seeds", "seeds", "--out", "drawn")
    assert done.code == 0, done.err + done.out
    assert "1 = #00c800, 2 = #ff0000" in done.out
    for name, labels in zip(NAMES, expected, strict=True):
        np.testing.assert_array_equal(read_mask(room / "drawn" / "labels" / f"{name}.png").values, labels)

    one = shell.run(
        room, "classical", "watershed", "pictures/plain.png", "--seeds", f"seeds/{NAMES[1]}.png", "--out", "one"
    )
    assert one.code == 0, one.err + one.out
    assert set(np.unique(read_mask(room / "one" / "labels" / "plain.png").values)) == {1, 2}


def test_changed_seeds_are_done_again(shell: Shell, room: Path) -> None:
    command = ["classical", "grow_cut", "pictures", "--seeds", "seeds", "--out", "out"]
    assert shell.run(room, *command).code == 0
    (room / "seeds" / "plain.png").write_bytes(encode_png(seeds() * 2))
    again = shell.run(room, *command)
    assert again.code == 0 and "1 picture in" in again.out and "2 were there already" in again.out
    assert set(np.unique(read_mask(room / "out" / "labels" / "plain.png").values)) == {2, 4}


def test_a_folder_of_data_that_check_takes(shell: Shell, room: Path) -> None:
    done = shell.run(
        room, "classical", "k_means", "pictures", "--set", "clusters=2", "--folder", "--overlay", "--out", "data"
    )
    assert done.code == 0, done.err + done.out
    folder = open_folder(room / "data")
    flat = [name.replace("/", "_") for name in NAMES]
    assert [entry.name for entry in folder.entries] == sorted(flat)
    assert folder.classes.names == ("background", "object") and folder.problems == ()
    for number, name in enumerate(flat):
        sample = folder.read(next(entry for entry in folder.entries if entry.name == name))
        np.testing.assert_array_equal(sample.image, picture(number))
        np.testing.assert_array_equal(sample.mask, k_means(picture(number), KMeansConfig(clusters=2)))
    assert shell.run(room, "check", "data").code == 0

    table = room / "data" / "classes.toml"
    table.write_text(table.read_text().replace("object", "bright side"))
    (room / "data" / "masks" / "plain.png").unlink()
    command = ["classical", "k_means", "pictures", "--folder", "--overlay", "--out", "data", "--set"]
    again = shell.run(room, *command, "clusters=2")
    assert again.code == 0 and "1 picture in" in again.out
    assert "bright side" in table.read_text()
    other = shell.run(room, *command, "clusters=3")
    assert other.code == 2 and "classes.toml stands there already" in other.err
    assert "bright side" in table.read_text()


def test_folders_named_like_parts_of_data_stay_pictures(shell: Shell, room: Path) -> None:
    for folder in ("images", "gt"):
        place = room / "site" / folder / "a.png"
        place.parent.mkdir(parents=True)
        place.write_bytes(encode_png(picture(0)))
    done = shell.run(room, "classical", "otsu", "site", "--folder", "--out", "data")
    assert done.code == 0, done.err + done.out
    folder = open_folder(room / "data")
    assert [entry.name for entry in folder.entries] == ["gt_a", "images_a"]
    assert all(folder.labelled(entry) for entry in folder.entries)


def test_seeds_become_classes_by_their_own_table(shell: Shell, room: Path) -> None:
    (room / "classes.toml").write_text(
        '[[class]]\nname = "road"\ncolour = [255, 0, 0]\n[[class]]\nname = "sky"\ncolour = [0, 0, 255]\n'
    )
    (room / "seeds" / "plain.png").write_bytes(encode_png(scribbles({1: (0, 0, 255), 2: (255, 0, 0)})))
    (room / "seeds" / f"{NAMES[1]}.png").write_bytes(encode_png(scribbles({1: (0, 255, 0)})))
    command = ["classical", "grow_cut", "pictures", "--seeds", "seeds", "--classes", "classes.toml", "--folder"]
    done = shell.run(room, *command, "--set", "leak=0", "--out", "data")
    assert done.code == 3 and "colours that are no class: #00ff00" in done.out and "2 pictures in" in done.out
    folder = open_folder(room / "data")
    assert folder.classes.names == ("road", "sky")
    by_name = {entry.name: folder.read(entry) for entry in folder.entries}
    drawn, numbered = by_name["plain"].mask, by_name["sub_[odd] name"].mask
    assert drawn is not None and numbered is not None
    assert drawn[5, 4] == 1 and drawn[16, 26] == 0  # by colour
    assert numbered[5, 4] == 0 and numbered[16, 26] == 1  # by number: label 1 is the first class


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("", 2, "give a method and pictures"),
        ("otsu", 2, "give a method and pictures"),
        ("otsu pictures", 2, "add --out DIR"),
        ("ostu pictures --out out", 2, "did you mean 'otsu'"),
        ("otsu pictures --out out --set smoth=1", 2, "did you mean 'smooth'"),
        ("otsu pictures --out out --set smooth=-1", 2, "smooth = -1"),
        ("otsu pictures --out out --set smooth", 2, "--set smooth=1.5"),
        ("local_threshold pictures --out out --set window=8", 2, "odd number"),
        ("otsu pictures --out out --seeds seeds", 2, "takes no seeds"),
        ("grow_cut pictures --out out", 2, "add --seeds"),
        ("grow_cut pictures --out out --seeds nowhere", 2, "nowhere is no file or folder of seeds"),
        ("slic pictures --out out --folder", 2, "no classes to learn"),
        ("otsu pictures --out out --classes classes.toml", 2, "--classes names the labels"),
        ("otsu nowhere --out out", 3, "no pictures were found"),
        ("grow_cut seeds --out out --seeds seeds", 3, "all that was found are seeds"),
        ("otsu pictures --out out --limit 0", 2, "--limit 0"),
        ("otsu pictures --out out --limit 0.0001", 3, ""),
    ],
)
def test_what_makes_no_sense_is_said_in_words(shell: Shell, room: Path, arguments: str, code: int, words: str) -> None:
    done = shell.run(room, "classical", *arguments.split())
    assert done.code == code, done.err
    assert words in done.err + done.out
    assert "error of ours" not in done.err and "Traceback" not in done.err
    if code == 2:
        assert not (room / "out").exists()


def test_seeds_of_another_size_or_without_a_mark_fail_alone(shell: Shell, room: Path) -> None:
    (room / "seeds" / "plain.png").write_bytes(encode_png(np.ones((5, 6), np.uint8)))
    (room / "seeds" / f"{NAMES[1]}.png").write_bytes(encode_png(np.zeros(SIZE, np.uint8)))
    done = shell.run(room, "classical", "random_walker", "pictures", "--seeds", "seeds", "--out", "out")
    assert done.code == 3 and "1 picture in" in done.out and "2 failed" in done.out
    assert "the seeds are 5 x 6, but their picture is 24 x 30" in done.out and "nothing to grow from" in done.out


def test_label_images_are_as_deep_as_they_need_to_be() -> None:
    for most, dtype, suffix in ((255, np.uint8, ".png"), (256, np.uint16, ".png"), (65535, np.uint16, ".png")):
        found, content = encode_labels(np.array([[0, most]]))
        assert found == suffix
        stored = np.asarray(PillowImage.open(io.BytesIO(content)))
        assert stored.tolist() == [[0, most]] and (dtype == np.uint8) == (stored.dtype == np.uint8)
    suffix, content = encode_labels(np.array([[0, 65536]]))
    assert suffix == ".tif" and content[:2] in (b"II", b"MM")


def test_seeds_as_painters_save_them(tmp_path: Path) -> None:
    def saved(image: PillowImage.Image, name: str = "seeds.png", **options: object) -> Path:
        image.save(tmp_path / name, **options)
        return tmp_path / name

    rgba = PillowImage.fromarray(scribbles({1: (0, 0, 0), 2: (255, 0, 0)}))
    marked = seeds() > 0
    drawn = read_seeds(saved(rgba), 10**6)
    assert drawn.coloured
    np.testing.assert_array_equal(drawn.codes > 0, marked)  # black is a colour where the rest is transparent
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[seeds() == 1], rgb[seeds() == 2] = (0, 0, 250), (255, 0, 0)
    np.testing.assert_array_equal(read_seeds(saved(PillowImage.fromarray(rgb)), 10**6).codes > 0, marked)
    solid = PillowImage.fromarray(rgb).convert("RGBA")  # nothing is transparent: black is where nobody knows
    np.testing.assert_array_equal(read_seeds(saved(solid), 10**6).codes > 0, marked)
    palette = PillowImage.fromarray(seeds())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    numbers = read_seeds(saved(palette), 10**6)
    assert not numbers.coloured
    np.testing.assert_array_equal(numbers.codes, seeds())
    clear = read_seeds(saved(palette, transparency=0), 10**6)
    np.testing.assert_array_equal(clear.codes > 0, marked)
    grey = PillowImage.fromarray(np.repeat(seeds()[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_seeds(saved(grey), 10**6).codes, seeds())
    noisy = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with pytest.raises(DataError, match="colours; draw scribbles with a hard brush"):
        read_seeds(saved(PillowImage.fromarray(noisy)), 10**6)
    with pytest.raises(DataError, match="invents values"):
        read_seeds(saved(PillowImage.fromarray(rgb), "seeds.jpg"), 10**6)
