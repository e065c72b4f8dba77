"""Tiles: they cover, they blend to what the whole would give, and they fit into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intarsia.errors import OutOfMemoryError, UsageError
from intarsia.inference.tiling import Tiling, halved, is_out_of_memory, predict_rows, predict_tiled, starts, weights


def identity(images: Tensor) -> Tensor:
    return images


def picture(height: int, width: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(height * width).random((height, width, channels), dtype=np.float32)


@given(st.integers(1, 500), st.integers(1, 200), st.floats(0, 0.9), st.integers(1, 40))
@settings(deadline=None)
def test_tiles_cover_all_and_share_enough(length: int, tile: int, share: float, multiple: int) -> None:
    overlap = int(tile * share)
    found = starts(length, tile, overlap, multiple)
    assert found[0] == 0 and found == sorted(set(found))
    ends = [min(start + tile, length) for start in found]
    assert ends[-1] == length
    assert all(end - start >= overlap for start, end in zip(found[1:], ends, strict=False))
    assert all(start % multiple == 0 for start in found) or tile - overlap < multiple
    assert len(found) == 1 or ends[-1] - found[-1] > tile - multiple


def test_starts_by_hand() -> None:
    assert starts(10, 4, 1) == [0, 3, 6]
    assert starts(10, 10, 5) == [0]
    assert starts(11, 10, 5) == [0, 1]
    assert starts(100, 64, 16, 32) == [0, 32, 64], "the last is cut: it ends with the picture"
    assert starts(12, 4, 0) == [0, 4, 8]


@given(st.integers(1, 300), st.integers(1, 100), st.floats(0, 0.9), st.integers(1, 40))
@settings(deadline=None)
def test_weights_add_up_to_one_and_the_halo_counts_nothing(length: int, tile: int, share: float, multiple: int) -> None:
    overlap = int(tile * share)
    spans = [(start, min(start + tile, length)) for start in starts(length, tile, overlap, multiple)]
    halo = overlap // 4
    total = np.zeros(length)
    for weight, (start, end) in zip(weights(spans, length, halo), spans, strict=True):
        assert weight.shape == (end - start,) and weight.min() >= 0
        assert start == 0 or not weight[:halo].any()
        assert end == length or not weight[len(weight) - halo :].any()
        total[start:end] += weight
    assert np.abs(total - 1).max() < 1e-5


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.8),
    st.integers(1, 9), st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_tiling_the_identity_changes_nothing(
    height: int, width: int, tall: int, wide: int, overlap: float, multiple: int, batch: int
) -> None:
    image = picture(height, width)
    tiling = Tiling((tall, wide), overlap=overlap, multiple=multiple, batch=batch)
    result = predict_tiled(identity, image, tiling)
    assert result.shape == (2, height, width) and result.dtype == np.float32
    assert np.abs(result - image.transpose(2, 0, 1)).max() < 1e-5


def test_a_picture_within_one_tile_is_done_whole_and_exactly() -> None:
    image = picture(30, 41)
    seen: list[tuple[int, ...]] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images

    for tiling in (Tiling(), Tiling((64, 64)), Tiling(whole=30 * 41)):
        assert np.array_equal(predict_tiled(watched, image, tiling), image.transpose(2, 0, 1))
    assert seen == [(1, 2, 30, 41)] * 3
    predict_tiled(watched, image, Tiling(whole=30 * 41 - 1, multiple=8))
    assert seen[3] == (1, 2, 30, 32)


def test_batches_are_full_and_of_one_size() -> None:
    sizes: list[tuple[int, ...]] = []

    def watched(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape))
        return images

    predict_tiled(watched, picture(16, 100), Tiling((16, 16), overlap=0, batch=4))
    assert sizes == [(4, 2, 16, 16), (3, 2, 16, 16)]
    sizes.clear()
    predict_tiled(watched, picture(16, 100), Tiling((16, 16), overlap=0, multiple=16, batch=4))
    assert sizes == [(4, 2, 16, 16), (2, 2, 16, 16), (1, 2, 16, 4)]


class Guarded:
    """A picture that only gives parts of itself, and remembers the largest."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        part = self.array[key]
        self.largest = max(self.largest, part.shape[0] * part.shape[1])
        return part


def test_a_lazy_picture_is_read_tile_by_tile_and_handed_out_in_strips(tmp_path: Path) -> None:
    stored = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(700, 90, 1))
    stored[:] = np.random.default_rng(0).integers(0, 256, stored.shape)
    guarded = Guarded(stored)
    strips = list(predict_rows(identity, guarded, Tiling((64, 64))))
    assert guarded.largest == 64 * 64
    assert max(strip.shape[1] for strip in strips) <= 64 and len(strips) > 10
    assert np.allclose(np.concatenate(strips, axis=1)[0], stored[..., 0] / 255, atol=1e-6)


def test_running_out_of_memory_halves_an_automatic_tile_with_the_same_result() -> None:
    image = picture(300, 200)
    tried: list[tuple[int, ...]] = []

    def small_memory(images: Tensor) -> Tensor:
        tried.append(tuple(images.shape[2:]))
        if images.shape[2] * images.shape[3] > 100 * 80:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."
            )
        return images

    result = predict_tiled(small_memory, image, Tiling(multiple=8))
    assert tried[:3] == [(300, 200), (152, 104), (80, 64)]
    assert np.abs(result - image.transpose(2, 0, 1)).max() < 1e-5


@pytest.mark.parametrize("fail_at", range(0, 40, 3))
def test_running_out_in_the_middle_goes_on_from_there(fail_at: int) -> None:
    image = picture(500, 180)
    calls = 0

    def fails_once(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fail_at + 1:
            raise MemoryError
        return images

    strips = list(predict_rows(fails_once, image, Tiling(whole=128 * 128, overlap=0.6)))
    assert np.abs(np.concatenate(strips, axis=1) - image.transpose(2, 0, 1)).max() < 1e-5


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as torchs:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpys:
        np.empty(2**60, np.uint8)
    assert is_out_of_memory(torchs.value) and is_out_of_memory(numpys.value)
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(ValueError("out of memory"))


def test_a_tile_the_user_set_is_not_changed() -> None:
    def never(images: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="a tile of 100 x 100 pixels does not fit"):
        predict_tiled(never, picture(300, 200), Tiling((100, 100)))
    with pytest.raises(OutOfMemoryError, match="tried were 300 x 200, 160 x 128, 96 x 64, 64 x 64"):
        predict_tiled(never, picture(300, 200), Tiling(multiple=32))


def test_other_errors_are_not_swallowed() -> None:
    def wrong(images: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        predict_tiled(wrong, picture(3, 3), Tiling())


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 7, 32, 100]))
def test_halving_ends(height: int, width: int, multiple: int) -> None:
    tile = (height, width)
    for _ in range(12):
        smaller = halved(tile, multiple)
        assert smaller[0] <= tile[0] and smaller[1] <= tile[1]
        if smaller == tile:
            break
        tile = smaller
    assert halved(tile, multiple) == tile and max(tile) <= max(64 + multiple, 2 * multiple)


@pytest.mark.parametrize(
    "options", [{"tile": (0, 5)}, {"overlap": 1.0}, {"overlap": -0.1}, {"batch": 0}, {"multiple": 0}]
)
def test_tilings_that_make_no_sense_are_refused(options: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError):
        Tiling(**options)
