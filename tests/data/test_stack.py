"""Files of many pictures: what is read, and what is refused in words."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.stack import Stack, as_categories, as_stack, is_stack, read_stack
from intarsia.errors import DataError, IntarsiaError, UnsafeFileError

DIGITS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def test_an_idx_file_is_read_with_the_labels_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(DIGITS)))
    assert read_stack(path)[1] is None
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([7, 0, 2], np.uint8))))
    images, categories = read_stack(path)
    assert np.array_equal(images[..., 0], DIGITS) and images.dtype == np.uint8
    assert categories is not None and categories.tolist() == [7, 0, 2]


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"\0\0\x08\x03", b"PK\x03\x04"])
def test_a_damaged_idx_file_is_refused_in_words(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(damage)
    with pytest.raises(DataError, match="can't be read as a stack"):
        read_stack(path)


def test_an_idx_header_that_lies_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**31, 2**31) + b"1234")
    with pytest.raises(DataError, match="asks for"):
        read_stack(path)
    path.write_bytes(idx(DIGITS)[:-1])
    with pytest.raises(DataError, match="promises 60 bytes"):
        read_stack(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_idx_file_whatsoever_ends_in_anything_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(idx(DIGITS))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 16))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("idx") / "a-images-idx3-ubyte"
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        images, _ = read_stack(path)
    except IntarsiaError:
        return
    assert images.ndim == 4


def test_numpy_files_are_read_by_what_their_arrays_are_called(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DIGITS)
    np.savez(tmp_path / "b.npz", images=DIGITS, labels=np.array([1, 2, 3]))
    np.savez(tmp_path / "c.npz", one=DIGITS, other=DIGITS)
    assert read_stack(tmp_path / "a.npy")[0].shape == (3, 4, 5, 1)
    categories = read_stack(tmp_path / "b.npz")[1]
    assert categories is not None and categories.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="call the pictures `images`"):
        read_stack(tmp_path / "c.npz")


def test_pickles_in_numpy_files_stay_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError):
        read_stack(path)


def test_kinds_of_numbers() -> None:
    assert as_stack(DIGITS > 3).max() == 255
    assert as_stack(DIGITS / 255).dtype == np.float32
    assert as_stack(DIGITS.astype(np.uint16)).dtype == np.uint16
    for wrong, words in ((DIGITS.astype(float), "divide by"), (DIGITS.astype(np.int64), "int64"), (DIGITS[0], "shape")):
        with pytest.raises(DataError, match=words):
            as_stack(wrong)
    broken = DIGITS / 255
    broken[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="in 1 pictures such as number 1"):
        as_stack(broken)


def test_labels_are_one_whole_number_a_picture() -> None:
    assert as_categories(np.array([[1], [2]]), 2) is not None
    for wrong in (np.array([1.5, 2]), np.array([1, 2, 3])):
        with pytest.raises(DataError, match="one whole number a picture"):
            as_categories(wrong, 2)


def test_samples_know_their_number_and_their_class() -> None:
    stack = Stack(as_stack(DIGITS), np.array([4, -1, 2]), np.array([2, 1]))
    assert len(stack) == 2
    assert [stack[0].category, stack[1].category] == [2, None]
    assert stack[0].name == "picture 2"
    assert stack.digest() != Stack(as_stack(DIGITS), np.array([4, -1, 2]), np.array([1, 2])).digest()


def test_what_is_named_like_a_stack() -> None:
    assert all(is_stack(Path(name)) for name in ("a.npz", "b.npy", "train-images-idx3-ubyte.gz", "t.idx3-ubyte"))
    assert not any(is_stack(Path(name)) for name in ("a.png", "idx.txt", "b.tif"))
