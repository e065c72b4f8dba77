"""Films drawn, written, read back and answered: every frame, at its time, whole or not at all."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from intarsia.errors import DataError, UnsafeFileError, UsageError
from intarsia.files import write_atomically
from intarsia.inference import Predictor
from intarsia.inference.film import FilmFile, FilmWriter, Frame, FrameFolder, is_film, natural, open_source
from intarsia.inference.film_prediction import FilmSummary, Wish, predict_films, predict_frames
from intarsia.inference.live import Newest, Pace
from intarsia.inference.smoothing import SmoothingConfig

av = pytest.importorskip("av")
Build = Callable[..., Predictor]
HEIGHT, WIDTH = 48, 64
TICKS = [9000, 12_000, 12_345, 20_000, 60_000, 60_001, 63_000, 90_000, 93_000, 96_000]  # no even rate
BASE = Fraction(1, 90_000)


def square(step: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W) bool: a square that moves by two pixels a step."""
    mask = np.zeros((height, width), bool)
    mask[10:26, 4 + 2 * step : 20 + 2 * step] = True
    return mask


def write(path: Path, kind: str = "overlay", size: tuple[int, int] = (HEIGHT, WIDTH), ticks: list[int] = TICKS) -> Path:
    """A white square on black; as masks, class 2 on class 0 with a row of 255."""

    def content(file: object) -> None:
        with FilmWriter(file, size, BASE, kind) as writer:  # type: ignore[arg-type]
            for step, each in enumerate(ticks):
                mask = square(step, *size).astype(np.uint8)
                mask[0] = 0 if kind == "overlay" else 127
                writer.add((mask * 255)[..., None].repeat(3, 2) if kind == "overlay" else mask * 2, each)

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, content)


def frames_of(path: Path) -> list[Frame]:
    with FilmFile(path) as film:
        return list(film)


def times(path: Path) -> list[Fraction]:
    with FilmFile(path) as film:
        return [frame.ticks * film.time_base for frame in film]


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def frame_folder(folder: Path, count: int = 8) -> Path:
    folder.mkdir(parents=True)
    for step in range(count):
        PillowImage.fromarray(square(step).astype(np.uint8) * 255).save(folder / f"f{step + 5}.png")  # f5 ... f12
    return folder


def test_what_is_written_is_read_back_at_its_time(tmp_path: Path) -> None:
    for size in ((HEIGHT, WIDTH), (47, 63)):
        path = write(tmp_path / "a.mp4", size=size)
        assert times(path) == [each * BASE for each in TICKS]
        for step, frame in enumerate(frames_of(path)):
            drawn = square(step, *size) * 255
            assert np.abs(frame.image[: size[0], : size[1]].astype(int) - drawn[..., None]).mean() < 3
        masks = write(tmp_path / "a.mov", "mask", size)
        assert times(masks) == [each * BASE for each in TICKS]
        for step, frame in enumerate(frames_of(masks)):
            expected = square(step, *size).astype(np.uint8) * 2
            expected[0] = 254
            assert np.array_equal(frame.image[..., 0], expected)


def test_a_telephones_film_stands_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: after version, flags and ten 32-bit fields
    turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30]  # by 90 degrees, clockwise
    data[start : start + 36] = struct.pack(">9i", *turned)
    path.write_bytes(data)
    with FilmFile(path) as film:
        assert film.size == (WIDTH, HEIGHT)
        assert np.abs(next(iter(film)).image[..., 0].astype(int) - np.rot90(square(0), -1) * 255).mean() < 3


def test_broken_frames_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", "mask")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 8] == b"\x89PNG\r\n\x1a\n"]
    data[starts[4] : starts[4] + 40] = bytes(40)
    path.write_bytes(data)
    with FilmFile(path) as film:
        assert [frame.ticks * film.time_base for frame in film] == [t * BASE for t in TICKS[:4] + TICKS[5:]]
        assert film.broken == 1


@pytest.mark.parametrize("content", [b"", b"hello" * 100, b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "cut"], ids=str)
def test_what_is_no_film_is_said(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(write(tmp_path / "b.mp4").read_bytes()[:-300] if isinstance(content, str) else content)
    with pytest.raises(DataError, match=r"a\.mp4"):
        FilmFile(path)
    with pytest.raises(DataError, match="no such file"):
        FilmFile(tmp_path / "none.mp4")
    with pytest.raises(UnsafeFileError, match="--limit"):
        FilmFile(tmp_path / "b.mp4" if isinstance(content, str) else write(tmp_path / "b.mp4"), limit=1000)


def test_frames_come_in_natural_order(tmp_path: Path) -> None:
    folder = frame_folder(tmp_path / "frames")
    with FrameFolder(folder, rate=12.5) as source:
        assert [each.name for each in source.files] == [f"f{number}.png" for number in range(5, 13)]
        assert source.time_base == Fraction(2, 25) and source.size == (HEIGHT, WIDTH)
        (folder / "f7.png").write_bytes(b"broken")
        assert [frame.number for frame in source] == [0, 1, 3, 4, 5, 6, 7] and source.broken == 1
    assert sorted(["b2", "a10", "a2", "A1b", "a"], key=natural) == ["a", "A1b", "a2", "a10", "b2"]
    with pytest.raises(DataError, match="no pictures"):
        FrameFolder(tmp_path)
    with pytest.raises(UsageError, match="above 0"):
        FrameFolder(folder, rate=0)


def test_what_means_a_film() -> None:
    assert all(map(is_film, ["a.mp4", "b/C.MOV", "camera:0", "films/*.mkv"]))
    assert not any(map(is_film, ["a.png", "frames", "camera", "camera:x"]))
    with pytest.raises(DataError, match="camera:97"):
        open_source("camera:97", 25, None, 1000)


def answered(predictor: Predictor, source: Path | str, out: Path, **options: object) -> FilmSummary:
    return predict_films(predictor, [source], Wish(out, **options))  # type: ignore[arg-type]


def test_a_film_becomes_a_film_of_masks(brightness: Build, tmp_path: Path) -> None:
    path, out, calls = write(tmp_path / "a.mp4"), tmp_path / "out", list[tuple[int, int, str]]()
    summary = predict_films(brightness(2), [path], Wish(out, overlay=True), progress=lambda *each: calls.append(each))
    assert (len(summary.done), summary.skipped, summary.failed) == (1, 0, ())
    assert calls == [(number, 10, "a") for number in range(1, 11)]
    assert files(out) == {"masks/a.mov", "overlays/a.mp4", "films/a.json", "prediction.json", ".lock"}
    assert times(out / "masks/a.mov") == times(out / "overlays/a.mp4") == [each * BASE for each in TICKS]
    for step, frame in enumerate(frames_of(out / "masks/a.mov")):
        assert np.mean((frame.image[..., 0] == 1) == square(step)) > 0.97
    told = json.loads((out / "films/a.json").read_text())
    assert (told["frames"], told["broken"], told["dropped"]) == (10, 0, 0)
    assert 0 < told["latency_p50"] <= told["latency_p99"]
    assert answered(brightness(2), path, out, overlay=True).skipped == 1
    with pytest.raises(UsageError, match="other settings"):
        answered(brightness(2), path, out, overlay=True, smoothing=SmoothingConfig(kind="flow"))


def test_single_frames_come_with_their_times(brightness: Build, tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.mp4"), tmp_path / "out"
    answered(brightness(2), path, out, single=True)
    rows = (out / "masks/a/times.csv").read_text().split()
    assert rows[0] == "frame,seconds" and rows[1] == "000000,0.1"
    assert [float(row.split(",")[1]) for row in rows[1:]] == pytest.approx([t / 90_000 for t in TICKS], abs=1e-9)
    mask = np.asarray(PillowImage.open(out / "masks/a/000004.png"))
    assert np.mean((mask == 1) == square(4)) > 0.97
    theirs = tmp_path / "theirs"
    (theirs / "masks" / "a").mkdir(parents=True)
    (theirs / "masks" / "a" / "000000.png").write_text("drawn by hand")
    with pytest.raises(UsageError, match="not from here"):
        answered(brightness(2), path, theirs, single=True)
    assert (theirs / "masks" / "a" / "000000.png").read_text() == "drawn by hand"


def test_a_film_that_fails_leaves_nothing(brightness: Build, tmp_path: Path) -> None:
    good, bad, out = write(tmp_path / "in/a.mp4"), tmp_path / "in/b.mp4", tmp_path / "out"
    bad.write_bytes(good.read_bytes()[:-300])
    summary = predict_films(brightness(2), [good, bad], Wish(out))
    assert [each.name for each in summary.done] == ["a"]
    assert [name for name, _ in summary.failed] == [str(bad)]
    assert files(out) == {"masks/a.mov", "films/a.json", "prediction.json", ".lock"}

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        predict_films(brightness(2), [good], Wish(other, overlay=True), progress=stop)
    assert files(other) == {"prediction.json", ".lock"}
    assert len(answered(brightness(2), good, other, overlay=True).done) == 1


def test_a_folder_of_frames_goes_on_where_it_stopped(brightness: Build, tmp_path: Path) -> None:
    folder, whole, parts = frame_folder(tmp_path / "frames"), tmp_path / "whole", tmp_path / "parts"

    def predict(out: Path, progress: Callable[[int, int, str], None] | None = None) -> FilmSummary:
        wish = Wish(out, overlay=True, single=True, smoothing=SmoothingConfig(kind="exponential", memory=0.05))
        return predict_frames(brightness(2, temperature=50), folder, wish, progress=progress)

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    assert predict(whole).done[0].frames == 8
    with pytest.raises(KeyboardInterrupt):
        predict(parts, stop)
    there = len(list((parts / "masks").iterdir()))
    assert 3 <= there < 8
    again = predict(parts)
    assert again.skipped == there and again.done[0].frames == 8 - there
    for number in range(5, 13):
        for kind in ("masks", "overlays"):
            name = f"{kind}/f{number}.png"
            assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert predict(parts).skipped == 8
    (folder / "f9.png").write_bytes(b"broken")  # all after it saw it
    again = predict(parts)
    assert again.skipped == 4 and again.done[0].frames == 3 and again.failed[0][0].endswith("f9.png")


def test_a_folder_of_frames_becomes_a_film(brightness: Build, tmp_path: Path) -> None:
    answered(brightness(2), frame_folder(tmp_path / "frames"), tmp_path / "out", rate=10.0)
    assert times(tmp_path / "out/masks/frames.mov") == [Fraction(step, 10) for step in range(8)]


def test_in_real_time_frames_are_dropped_and_times_kept(brightness: Build, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", ticks=[1800 * step for step in range(20)])  # 50 a second
    predictor = brightness(2)
    strips = predictor.strips
    predictor.strips = lambda *each: (time.sleep(0.07), strips(*each))[1]  # type: ignore[method-assign]
    done = answered(predictor, path, tmp_path / "out", realtime=True).done[0]
    assert done.frames + done.dropped == 20 and done.dropped > 5
    kept = times(tmp_path / "out/masks/a.mov")
    assert len(kept) == done.frames and set(kept) <= {Fraction(step, 50) for step in range(20)}
    assert done.latency_p50 > 0.07 and done.frames_per_second < 15
    for step, frame in zip((int(each * 50) for each in kept), frames_of(tmp_path / "out/masks/a.mov"), strict=True):
        assert np.mean((frame.image[..., 0] == 1) == square(step)) > 0.97


def test_only_the_newest_frame_waits() -> None:
    image, gate = np.zeros((2, 2, 3), np.uint8), threading.Event()

    def frames() -> Iterator[Frame]:
        for number in range(6):
            yield Frame(number, number, image)
            if number == 0:
                gate.wait(5)

    newest = Newest(frames(), Fraction(1, 1000), paced=False)
    stream = iter(newest)
    assert next(stream).number == 0
    gate.set()
    deadline = time.monotonic() + 5
    while newest.dropped < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [frame.number for frame in stream] == [5] and newest.dropped == 4

    def broken() -> Iterator[Frame]:
        yield Frame(0, 0, image)
        raise DataError("unplugged")

    with pytest.raises(DataError, match="unplugged"):
        list(Newest(broken(), Fraction(1), paced=False))
    assert np.isnan(Pace().latency(50))


def test_without_pyav_a_sentence_says_so(brightness: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = write(tmp_path / "a.mp4"), frame_folder(tmp_path / "frames")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"intarsia\[video\]"):
        answered(brightness(2), path, tmp_path / "out")
    assert predict_frames(brightness(2), folder, Wish(tmp_path / "frames-out", single=True)).done[0].frames == 8
