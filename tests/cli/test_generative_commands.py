"""The commands for generative runs, as a user types them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from PIL import Image as PillowImage
from shell import Shell

from intarsia.data.read import read_image
from intarsia.drawing import encode_png, write_mask
from intarsia.models import build
from intarsia.models.generative.diffusion import DiffusionConfig
from intarsia.models.generative.gan import GANConfig
from intarsia.models.generative.pix2pix import Pix2PixConfig
from intarsia.models.generative.vae import VAEConfig
from intarsia.models.generative.vqvae import VQVAEConfig
from intarsia.models.semantic import UNetConfig
from intarsia.records import Classes
from intarsia.runs import Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of these tests forks")

SIZE = (16, 16)
NAMES = ("cat", "dögs & co", "emu")


def write_run(folder: Path, config: Any, names: tuple[str, ...] = ()) -> Path:
    """A run as `fit` leaves it, with fresh weights."""
    torch.manual_seed(0)
    run = Run(folder)
    folder.mkdir(parents=True)
    run.write_config(tomlkit.dumps({"model": config.model_dump(mode="json", exclude_none=True)}))
    run.write_classes(Classes.named(names))
    run.write_weights(build(config).state_dict(), "last", 1)
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs and `pictures`, among them odd names and one that is broken."""
    room = tmp_path_factory.mktemp("generative")
    tiny: dict[str, Any] = {"channels": 3, "size": SIZE, "width": 4}
    write_run(room / "gan", GANConfig(latent=4, **tiny))
    write_run(room / "classes", GANConfig(latent=4, condition="class", classes=3, **tiny), NAMES)
    write_run(room / "five", GANConfig(latent=4, **{**tiny, "channels": 5}))
    write_run(room / "vae", VAEConfig(latent=4, features=8, **tiny))
    write_run(room / "mender", DiffusionConfig.model_validate({**tiny, "width": 8, "depth": 1, "mend_steps": 2}))
    codes = {"blocks": 0, "latent": 2, "codes": 8, "quantizers": 3, "prior_width": 8, "prior_blocks": 0}
    write_run(room / "packer", VQVAEConfig.model_validate({**tiny, **codes}))
    both = {**tiny, "classes": 3, "depth": 2, "critic_width": 4, "critic_depth": 1}
    write_run(room / "to-picture", Pix2PixConfig(task="mask_to_picture", **both), NAMES)
    write_run(room / "to-mask", Pix2PixConfig(task="picture_to_mask", **both), NAMES)
    write_run(room / "segmenter", UNetConfig(encoder="plain", width=4, depth=2, classes=2), ("a", "b"))
    random = np.random.default_rng(0)
    for name in ("plain", "ein Bild ü", "sub/[odd] name"):
        place = room / "pictures" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode_png(random.integers(0, 256, (24, 20, 3), np.uint8)))
    (room / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    mask = random.integers(0, 3, (16, 16)).astype(np.int16)
    (room / "masks").mkdir()
    write_mask(room / "masks" / "one.png", mask, Classes.named(NAMES))
    return room


def files(folder: Path) -> dict[str, bytes]:
    """The answers of a folder by name."""
    found = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found if each.suffix != ".json"}


def test_generate_is_the_same_in_pieces_and_goes_on(shell: Shell, room: Path, tmp_path: Path) -> None:
    done = shell.run(room, "generate", "gan", "--count", 10, "--seed", 7, "--out", tmp_path / "whole")
    assert done.code == 0, done.err
    assert "10 pictures in" in done.out
    whole = files(tmp_path / "whole")
    assert sorted(whole) == [f"{i:06d}.png" for i in range(10)]
    assert read_image(tmp_path / "whole" / "000003.png").shape == (*SIZE, 3)

    pieces = ["generate", "gan", "--seed", 7, "--out", tmp_path / "pieces", "--grid", tmp_path / "sheets" / "grid.png"]
    assert shell.run(room, *pieces, "--count", 3, "--first", 4).code == 0
    assert files(tmp_path / "pieces") == {name: whole[name] for name in ("000004.png", "000005.png", "000006.png")}
    (tmp_path / "pieces" / "000005.png").unlink()
    before = (tmp_path / "pieces" / "000004.png").stat().st_mtime_ns
    done = shell.run(room, *pieces, "--count", 10)
    assert "8 pictures in" in done.out and "2 were there already" in done.out
    assert files(tmp_path / "pieces") == whole
    assert (tmp_path / "pieces" / "000004.png").stat().st_mtime_ns == before
    sheet = read_image(tmp_path / "sheets" / "grid.png")
    assert sheet.shape == (3 * 18 - 2, 4 * 18 - 2, 3)
    assert np.array_equal(sheet[:16, 18:34], read_image(tmp_path / "whole" / "000001.png"))


def test_generate_overwrites_nothing_of_others(shell: Shell, room: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "000001.png").write_bytes(b"mine")
    command = ["generate", "gan", "--count", 2, "--out", out]
    done = shell.run(room, *command)
    assert done.code == 2 and "000001.png stands there already and is not from here" in done.err
    assert files(out) == {"000001.png": b"mine"}
    (out / "000001.png").unlink()
    assert shell.run(room, *command).code == 0
    drawn = files(out)
    done = shell.run(room, *command, "--seed", 1)
    assert done.code == 2 and "(other seed)" in done.err
    assert files(out) == drawn
    (tmp_path / "sheet.png").write_bytes(b"mine")
    done = shell.run(room, *command, "--grid", tmp_path / "sheet.png")
    assert done.code == 2 and "sheet.png stands there" in done.err
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
    assert shell.run(room, *command, "--seed", 1, "--overwrite", "--grid", tmp_path / "sheet.png").code == 0
    assert files(out).keys() == drawn.keys() and files(out) != drawn
    assert read_image(tmp_path / "sheet.png").shape == (16, 34, 3)


def test_classes_and_channels(shell: Shell, room: Path, tmp_path: Path) -> None:
    for i, name in enumerate(("dögs & co", "1")):
        done = shell.run(room, "generate", "classes", "--count", 1, "--class", name, "--out", tmp_path / str(i))
        assert done.code == 0, done.err
    assert files(tmp_path / "0") == files(tmp_path / "1")
    done = shell.run(room, "generate", "classes", "--class", "dog", "--out", tmp_path / "no")
    assert done.code == 2 and "there are cat, dögs & co, emu" in done.err
    assert not (tmp_path / "no").exists()
    assert shell.run(room, "generate", "five", "--count", 1, "--out", tmp_path / "five").code == 0
    assert read_image(tmp_path / "five" / "000000.tif").shape == (*SIZE, 5)


def test_interpolate_writes_a_strip_or_an_animation(shell: Shell, room: Path, tmp_path: Path) -> None:
    picture = room / "pictures" / "ein Bild ü.png"
    strip = ["interpolate", "vae", picture, room / "pictures" / "plain.png", "--steps", 5, "--out", tmp_path / "a.png"]
    done = shell.run(room, *strip)
    assert done.code == 0, done.err
    assert read_image(tmp_path / "a.png").shape == (16, 5 * 18 - 2, 3)
    assert shell.run(room, *strip).code == 0  # the same again is no other file
    done = shell.run(room, "interpolate", "gan", 0, 5, "--steps", 4, "--out", tmp_path / "walk.gif")
    assert done.code == 0, done.err
    with PillowImage.open(tmp_path / "walk.gif") as walk:
        assert (walk.n_frames, walk.size, walk.info["loop"]) == (6, (16, 16), 0)  # type: ignore[attr-defined]
    for arguments, words in (
        (("vae", 0, 1, "--out", tmp_path / "a.png"), "stands there already"),
        (("vae", 0, 1, "--out", tmp_path / "a.jpg"), "ends in .png or .gif"),
        (("gan", picture, 1, "--out", tmp_path / "b.png"), "no latent for a given picture"),
        (("vae", 0, 1, "--steps", 1, "--out", tmp_path / "b.png"), "give 2 or more"),
    ):
        done = shell.run(room, "interpolate", *arguments)
        assert done.code == 2 and words in done.err
    assert not (tmp_path / "b.png").exists()


def test_files_go_past_what_is_broken_and_go_on(shell: Shell, room: Path, tmp_path: Path) -> None:
    pictures = shutil.copytree(room / "pictures", tmp_path / "pictures")
    command = ["reconstruct", "vae", pictures, "--out", tmp_path / "out"]
    done = shell.run(room, *command)
    assert done.code == 3
    assert "3 pictures in" in done.out and "1 failed" in done.out and "broken.png" in done.out
    assert sorted(files(tmp_path / "out")) == ["ein Bild ü.png", "plain.png", "sub/[odd] name.png"]
    (pictures / "broken.png").unlink()
    done = shell.run(room, *command)
    assert done.code == 0 and "0 pictures in" in done.out and "3 were there already" in done.out
    (pictures / "plain.png").write_bytes(encode_png(np.zeros((30, 30, 3), np.uint8)))
    assert "1 picture in" in shell.run(room, *command).out
    record = json.loads((tmp_path / "out" / "reconstruct.json").read_text())
    assert record["settings"]["model"] == "vae" and {"plain", "sub/[odd] name"} < record["pictures"].keys()
    done = shell.run(room, "edit", "denoise", "mender", pictures, "--out", tmp_path / "out")
    assert done.code == 2 and "not from here" in done.err


def test_edit(shell: Shell, room: Path, tmp_path: Path) -> None:
    picture = room / "pictures" / "plain.png"
    whole = read_image(picture)
    hole = np.zeros((24, 20), np.uint8)
    hole[2:9, 3:11] = 255
    (tmp_path / "holes").mkdir()
    for name in ("plain.png", "ein Bild ü.png"):
        (tmp_path / "holes" / name).write_bytes(encode_png(hole))
    for name, holes in (
        ("box", "3,2,11,9"),
        ("file", tmp_path / "holes" / "plain.png"),
        ("folder", tmp_path / "holes"),
    ):
        done = shell.run(room, "edit", "inpaint", "mender", picture, "--holes", holes, "--out", tmp_path / name)
        assert done.code == 0, done.err
        filled = read_image(tmp_path / name / "plain.png")
        assert np.array_equal(filled[hole == 0], whole[hole == 0])
        assert not np.array_equal(filled[hole > 0], whole[hole > 0])
    assert files(tmp_path / "box") == files(tmp_path / "file") == files(tmp_path / "folder")
    some = ["edit", "inpaint", "mender", room / "pictures", "--out", tmp_path / "all", "--holes", tmp_path / "holes"]
    done = shell.run(room, *some)
    assert done.code == 3 and "2 pictures in" in done.out and "no file named sub/[odd] name.png" in done.out
    done = shell.run(room, "edit", "inpaint", "mender", picture, "--out", tmp_path / "no", "--holes", "0,0,50,5")
    assert done.code == 3 and "does not lie in a picture 20 x 24" in done.out
    done = shell.run(room, "edit", "denoise", "mender", picture, "--out", tmp_path / "noise")
    assert done.code == 0 and read_image(tmp_path / "noise" / "plain.png").shape == whole.shape


def test_translate_both_ways(shell: Shell, room: Path, tmp_path: Path) -> None:
    done = shell.run(room, "edit", "translate", "to-mask", room / "pictures" / "plain.png", "--out", tmp_path / "masks")
    assert done.code == 0, done.err
    with PillowImage.open(tmp_path / "masks" / "plain.png") as mask:
        assert mask.mode == "P" and mask.size == (20, 24)
    done = shell.run(room, "edit", "translate", "to-picture", room / "masks", "--out", tmp_path / "pictures")
    assert done.code == 0, done.err
    assert read_image(tmp_path / "pictures" / "one.png").shape == (16, 16, 3)


def test_what_was_compressed_is_what_the_model_reconstructs(shell: Shell, room: Path, tmp_path: Path) -> None:
    done = shell.run(room, "compress", "packer", room / "pictures", "--out", tmp_path / "packed")
    assert done.code == 3 and "broken.png" in done.out
    packed = files(tmp_path / "packed")
    assert sorted(packed) == ["ein Bild ü.intarsia", "plain.intarsia", "sub/[odd] name.intarsia"]
    size = sum(map(len, packed.values()))
    assert f"{size:,} bytes for 1,440 pixels: {8 * size / 1440:.3f} bits a pixel" in done.out
    done = shell.run(room, "decompress", "packer", tmp_path / "packed", "--out", tmp_path / "unpacked")
    assert done.code == 0, done.err
    shell.run(room, "reconstruct", "packer", room / "pictures", "--out", tmp_path / "seen")
    assert files(tmp_path / "unpacked") == files(tmp_path / "seen")
    small = ["compress", "packer", room / "pictures" / "plain.png", "--out", tmp_path / "small"]
    assert shell.run(room, *small, "--quality", 1).code == 0
    assert len(files(tmp_path / "small")["plain.intarsia"]) < len(packed["plain.intarsia"])
    done = shell.run(room, *small, "--quality", 9)
    assert done.code == 2 and "1 to 3 with this model" in done.err
    (tmp_path / "packed" / "plain.intarsia").write_bytes(packed["plain.intarsia"][:-2])
    done = shell.run(room, "decompress", "packer", tmp_path / "packed", "--out", tmp_path / "unpacked")
    assert done.code == 3 and "damaged" in done.out


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("generate segmenter --out {}", 2, "holds a segmenter"),
        ("generate nowhere --out {}", 2, "is not a run"),
        ("generate to-mask --out {}", 2, "draws no pictures of its own; take a run of "),
        ("generate gan --count 0 --out {}", 2, "give 1 or more"),
        ("generate gan --class cat --out {}", 2, "folder a class"),
        ("generate gan --masks masks --out {}", 2, "train one with --model diffusion"),
        ("generate gan --grid sheet.jpg --out {}", 2, "ends in .png"),
        ("generate gan", 2, "Missing option '--out'"),
        ("reconstruct gan pictures --out {}", 2, "takes no pictures apart"),
        ("reconstruct vae masks/none.png --out {}", 3, "no file or folder"),
        ("reconstruct vae pictures --limit 0 --out {}", 2, "--limit 0"),
        ("edit denoise gan pictures --out {}", 2, "never learnt"),
        ("edit inpaint mender pictures --holes nowhere --out {}", 2, "no file or folder of holes"),
        ("edit translate gan pictures --out {}", 2, "take a run of pix2pix"),
        ("compress vae pictures --out {}", 2, "train one with --model vqvae"),
        ("decompress gan pictures --out {}", 2, "train one with --model vqvae"),
        ("predict vae pictures --out {}", 2, "does not segment"),
    ],
)
def test_mistakes_in_one_sentence(
    shell: Shell, room: Path, tmp_path: Path, command: str, code: int, words: str
) -> None:
    done = shell.run(room, *(each.format(tmp_path / "out") for each in command.split()))
    assert done.code == code, done.err
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert not files(tmp_path)
