"""PNG, JPEG and WebP decoded in rows give what they give when read whole, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from intarsia.data.read import read_image
from intarsia.data.windows import Decoded, open_windows
from intarsia.errors import DataError, DiskError

pytest.importorskip("pyvips")


def smooth(height: int = 150, width: int = 203, channels: int = 4) -> np.ndarray:
    """What a JPEG can hold: blurred noise over the full range."""
    noise = np.random.default_rng(height).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX))  # type: ignore[call-overload]


def wide(path: Path) -> None:
    cv2.imwrite(str(path), smooth()[..., :3].astype(np.uint16) * 250 + 3)


COLOUR, ALPHA = Pillow.fromarray(smooth()[..., :3]), Pillow.fromarray(smooth())
SAVE: dict[str, Callable[[Path], object]] = {
    "colour.png": COLOUR.save,
    "alpha.png": ALPHA.save,
    "grey.png": COLOUR.convert("L").save,
    "grey alpha.png": ALPHA.convert("LA").save,
    "palette.png": COLOUR.quantize(100).save,
    "transparent palette.png": lambda path: COLOUR.quantize(9).save(path, transparency=3),
    "transparent colour.png": lambda path: COLOUR.save(path, transparency=(1, 2, 3)),
    "one bit.png": COLOUR.convert("1").save,
    "16 bits.png": wide,
    "colour.jpg": COLOUR.save,
    "full colour.jpg": lambda path: COLOUR.save(path, quality=95, subsampling=0),
    "grey.jpg": COLOUR.convert("L").save,
    "inks.jpg": COLOUR.convert("CMYK").save,
    "progressive.jpg": lambda path: COLOUR.save(path, progressive=True),
    "colour.webp": COLOUR.save,
    "lossless.webp": lambda path: ALPHA.save(path, lossless=True, exact=True),
}


@pytest.mark.parametrize("name", SAVE)
def test_a_window_is_a_part_of_the_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"[a=1] {name}"  # libvips would take brackets for its options
    SAVE[name](path)
    whole = read_image(path)
    with open_windows(path, scratch=tmp_path) as windows:  # type: ignore[union-attr]
        assert isinstance(windows, Decoded) and windows.shape == whole.shape and windows.dtype == whole.dtype
        for top, bottom, left, right in ((0, 150, 0, 203), (63, 65, 99, 100), (149, 150, 202, 203)):
            assert np.array_equal(windows[top:bottom, left:right], whole[top:bottom, left:right])
        assert np.array_equal(windows[::7, ::5], whole[::7, ::5])
        assert [each.name for each in tmp_path.iterdir()] == [path.name], "the pixels have no name"
    assert open_windows(path) is None, "there is no place for its pixels"


@given(st.integers(1, 8), st.data())
@settings(deadline=None, max_examples=30)
def test_a_turned_picture_is_cut_as_it_is_displayed(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("turned") / "a.jpg"
    exif = Pillow.Exif()
    exif[274] = orientation
    Pillow.fromarray(smooth(70, 45, 3)).save(place, exif=exif)
    whole = read_image(place)
    top, left = data.draw(st.integers(0, whole.shape[0] - 1)), data.draw(st.integers(0, whole.shape[1] - 1))
    bottom = data.draw(st.integers(top + 1, whole.shape[0]))
    right = data.draw(st.integers(left + 1, whole.shape[1]))
    with open_windows(place, scratch=place.parent) as windows:  # type: ignore[union-attr]
        assert np.array_equal(windows[top:bottom, left:right], whole[top:bottom, left:right])


@pytest.mark.parametrize("name", ["colour.png", "16 bits.png", "colour.jpg", "colour.webp"])
def test_a_cut_file_is_said_to_be_damaged_and_where(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    SAVE[name](path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(DataError, match=r"is damaged somewhere below row \d+ of 150"):
        open_windows(path, scratch=tmp_path)
    assert capfd.readouterr() == ("", ""), "no library has the word"


def test_flipped_bytes_in_a_png_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    COLOUR.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged somewhere below row"):
        open_windows(path, scratch=tmp_path)


def test_no_room_for_the_pixels(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    COLOUR.save(tmp_path / "a.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DiskError, match=f"at least {150 * 203 * 3:,} bytes"):
            open_windows(tmp_path / "a.png", scratch=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


MEMORY = """
import sys
from pathlib import Path
from intarsia.data.windows import open_windows
def opened(name):
    with open_windows(Path(sys.argv[1], name), scratch=Path(sys.argv[1])) as windows:
        windows[100:356, 100:356]
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
opened("small.png"), opened("small.jpg")
print(opened("small.png"), opened("large.png"), opened("large.jpg"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_picture_is_never_in_memory(tmp_path: Path) -> None:
    row = np.arange(5000, dtype=np.uint16)
    image = (row[:, None, None] // 3 + row[:, None] // 5 + np.arange(3, dtype=np.uint16)).astype(np.uint8)  # 75 MB
    for name, part in (("small", image[:512, :512]), ("large", image)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), part, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), part)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    before, png, jpeg = map(float, done.stdout.split())
    assert png - before < 30 and jpeg - before < 30, "MB"
