"""Broken and hostile files: a reader gives a valid array or says one sentence, in flat memory, and nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from broken_files import BOMBS, RUBBISH, WHOLE, damaged, small_tiff_with_a_huge_strip

from intarsia.data.read import Header, RawMask, read_header, read_image, read_mask
from intarsia.errors import DataError, IntarsiaError, UnsafeFileError

SMALL_LIMIT = 4_000_000  # pixels; flips in headers must not make the test slow


def assert_reads_or_says(path: Path, what: str) -> bool:
    """Whether `read_image` read it."""
    done = False
    for read in (read_header, read_image, read_mask):
        try:
            result = read(path, limit=SMALL_LIMIT)
        except IntarsiaError as error:
            message = str(error)
            assert path.name in message and "\n" not in message and len(message) < 700, (what, message)
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {read.__name__} raised {error!r}") from error
        match result:
            case Header():
                assert result.height > 0 and result.width > 0 and result.channels > 0, what
            case RawMask():
                assert result.values.dtype.kind in "iu" and result.values.ndim in (2, 3) and result.values.size, what
            case _:
                assert result.ndim == 3 and result.size and result.dtype in (np.uint8, np.uint16, np.float32), what
                assert result.dtype != np.float32 or (result.min() >= 0 and result.max() <= 1), what
                done = True
    return done


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_files(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    data = WHOLE[name]()
    path = tmp_path / name
    path.write_bytes(data)
    assert assert_reads_or_says(path, f"{name} as written")
    tried = 0
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG, "tifffile"):
        warnings.simplefilter("error")
        for what, changed in damaged(data, seed=len(name)):
            path.write_bytes(changed)
            assert_reads_or_says(path, f"{name}, {what}")
            tried += 1
    assert tried >= 30  # of twenty files: 600 and more
    assert not [record for record in caplog.records if record.name == "tifffile"]
    said = capfd.readouterr()
    assert not said.out and not said.err


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "pages.tif"])  # its first page is whole
def test_a_picture_cut_in_half_is_never_read(tmp_path: Path, name: str) -> None:
    data = WHOLE[name]()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        read_image(path)


def test_any_content_under_any_name(tmp_path: Path) -> None:
    for number, content in enumerate(RUBBISH):
        for suffix in ("png", "jpg", "tif", "webp", "bmp", "npy", "npz", "exe"):
            path = tmp_path / f"{number}.{suffix}"
            path.write_bytes(content)
            assert not assert_reads_or_says(path, f"{content[:12]!r} as .{suffix}")


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name]())
    for read in (read_header, read_image, read_mask):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        cut_short = name == "a.npy"  # is found to be shorter than it claims, before its claim is weighed
        assert isinstance(caught.value, UnsafeFileError) or cut_short


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured as Linux counts it")
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    (tmp_path / "deflated.tif").write_bytes(small_tiff_with_a_huge_strip())
    program = f"""
import resource, pathlib
from intarsia.data.read import read_image, read_mask
from intarsia.errors import IntarsiaError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
    for read in (read_image, read_mask):
        try:
            read(path)
        except IntarsiaError:
            pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 60_000  # KiB
