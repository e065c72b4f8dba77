"""Many pictures worked off: side by side where they are small, in order all the same."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from intarsia.drawing import encode_png
from intarsia.inference import working
from intarsia.inference.working import LANES, ahead, lanes_for, large_alone


def test_several_threads_keep_the_order() -> None:
    together = threading.Barrier(2, timeout=20)  # raises where nobody comes at the same time

    def work(number: int) -> int:
        together.wait()
        time.sleep(0.01 * (number % 2 == 0))  # the earlier one is later
        return number

    assert list(ahead(work, range(8), 2, 2)) == list(range(8))


def test_a_large_picture_is_alone_with_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "LARGE", 100)
    large, small = np.zeros((11, 10, 1)), np.zeros((10, 10, 1))
    at_work, most = [0], [0]

    def answer(name: str, image: np.ndarray) -> str:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.02)
        at_work[0] -= 1
        return name

    guarded = large_alone(answer)
    for image, expected in ((large, 1), (small, 3)):
        most[0] = 0
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(guarded, "abc", [image] * 3)) == ["a", "b", "c"]
        assert most[0] == expected


def test_lanes_are_for_many_small_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(LANES + 2)]
    for path in paths:
        path.write_bytes(encode_png(np.zeros((9, 13), np.uint8)))
    paths[1].write_bytes(b"no picture")

    def share(wanted: int) -> int:
        return wanted - 1

    assert lanes_for(paths, 10**6, share) == LANES - 1
    assert lanes_for(paths[:LANES], 10**6, share) == 1
    monkeypatch.setattr(working, "LARGE", 9 * 13 - 1)
    assert lanes_for(paths, 10**6, share) == 1
