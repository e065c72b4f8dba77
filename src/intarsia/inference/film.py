"""Films in and out: files through PyAV, folders of frames, cameras; every frame with its time.

What is read: frames (H, W, C), of films RGB in 8 bits as they are displayed (a telephone's rotation applied), each with
its timestamp in units of the source's time base. One frame at a time is in memory. A packet that can't be decoded is
counted and passed over.

What is written keeps the timestamps: overlays as H.264 (MPEG-4 part 2 where PyAV was built without x264), masks without
loss as PNG frames in a QuickTime file, where a pixel's grey is its class number. Sound is not copied.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, Literal, Protocol, Self

import cv2
import numpy as np

from ..data.read import LIMIT_PIXELS, read_image
from ..errors import DataError, UnsafeFileError, UsageError
from ..records import Image
from .inputs import SUFFIXES as PICTURES

#: of files that are taken for films; others can be films too, if one says so
SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv"}
)
CAMERA = re.compile(r"camera:(\d+)")
Kind = type[BaseException] | None  #: of what ended a `with`
_CLOCK = Fraction(1, 90_000)  # seconds; a tick of MPEG's clock, for cameras


@dataclass(frozen=True)
class Frame:
    """A frame of a film."""

    number: int  # 0, 1, 2, ... of those that could be read
    ticks: int  # its time in units of the source's time base; each frame's is above that of the frame before
    image: Image = field(repr=False)  # (H, W, 3) uint8; of a folder, as its pictures are
    arrived: float = 0.0  # seconds by `time.perf_counter`: when it was there


class Source(Protocol):
    """Where frames come from, once and in their order. `with` closes it."""

    live: bool  # frames come whether anybody waits for them or not, and have no end
    broken: int  # frames so far that could not be decoded

    @property
    def time_base(self) -> Fraction: ...  # seconds a tick
    @property
    def size(self) -> tuple[int, int]: ...  # height and width of all frames, pixels
    @property
    def count(self) -> int | None: ...  # frames, as far as the file's header knows; None: it does not
    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def is_film(given: str) -> bool:
    """Whether an argument means a film: a camera, or a file or pattern with a film's suffix."""
    return CAMERA.fullmatch(given) is not None or Path(given).suffix.lower() in SUFFIXES


def require_av() -> ModuleType:
    """PyAV. Raises UsageError where it is not installed."""
    try:
        import av
    except ImportError:
        raise UsageError(
            "films are read and written by PyAV, which is not installed; install it with "
            "pip install 'intarsia[video]', or cut the film into pictures and predict their folder with --film."
        ) from None
    return av


class FilmFile:
    """A film file."""

    live = False

    def __init__(self, path: str | Path, limit: int = LIMIT_PIXELS) -> None:
        """limit: pixels of a frame beyond which the file is refused. Raises DataError where no frame can be read,
        UsageError without PyAV."""
        self._av = require_av()
        self.path, self.limit, self.broken = Path(path), limit, 0
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{path} can't be read: {(error.strerror or str(error)).lower()}.") from error
        try:
            # of an open file, and without protocols: a playlist in disguise opens no other file and no address
            self._container = self._av.open(self._file, options={"protocol_whitelist": "none"})
            self._open()
        except (self._av.FFmpegError, OSError) as error:
            self._file.close()
            raise DataError(f"{path} is no film that PyAV can read ({_reason(error)}); convert it to MP4.") from error
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        if not self._container.streams.video:
            raise DataError(f"{self.path} holds no pictures, only sound or text; give a film.")
        self._stream = self._container.streams.video[0]
        height, width = self._stream.codec_context.height, self._stream.codec_context.width
        if height * width > self.limit:
            raise UnsafeFileError(
                f"{self.path} has frames of {width} x {height} pixels, above the limit of {self.limit / 1e6:g} "
                "megapixels; raise the limit (--limit) if you trust the file."
            )
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise DataError(f"{self.path} holds no frame that can be decoded; it may be cut off or damaged.")
        self._first: Frame | None = first
        self.size = first.image.shape[0], first.image.shape[1]

    @property
    def time_base(self) -> Fraction:
        return Fraction(self._stream.time_base or _CLOCK)

    @property
    def count(self) -> int | None:
        if self._stream.frames:
            return int(self._stream.frames)
        length, rate = self._container.duration, self._stream.average_rate
        return round(length / 1e6 * rate) if length and rate else None  # microseconds

    def __iter__(self) -> Iterator[Frame]:
        """The frames from the first on; a second time there are none."""
        first, self._first = self._first, None
        if first is not None:
            yield first
        yield from self._frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, at: TracebackType | None) -> None:
        self._frames.close()
        self._container.close()
        self._file.close()

    def _decoded(self) -> Generator[Frame, None, None]:
        number, ticks = 0, None
        rate = self._stream.average_rate
        step = max(1, round(1 / (rate * self.time_base))) if rate else 1
        size: tuple[int, int] | None = None  # height and width before rotation
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                self.broken += 1
                continue
            for each in frames:
                if each.is_corrupt:
                    self.broken += 1
                    continue
                size = size or (each.height, each.width)
                image = each.to_ndarray(format="rgb24", height=size[0], width=size[1])
                image = np.ascontiguousarray(np.rot90(image, round(each.rotation / 90)))  # counter-clockwise, both
                own = each.pts if each.pts is not None else (0 if ticks is None else ticks + step)
                ticks = own if ticks is None else max(own, ticks + 1)
                yield Frame(number, ticks, image, time.perf_counter())
                number += 1

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except self._av.FFmpegError:  # the file ends in the middle
            self.broken += 1


class FrameFolder:
    """A folder of pictures as the frames of a film, in natural order: 2 before 10."""

    live = False

    def __init__(self, folder: str | Path, rate: float = 25.0, limit: int = LIMIT_PIXELS) -> None:
        """rate: frames a second. limit: pixels beyond which a file is refused. Raises DataError where there is none."""
        if not 0 < rate <= 100_000:
            raise UsageError(f"{rate:g} frames a second can't be; give a number above 0.")
        folder = Path(folder)
        visible = (each for each in folder.iterdir() if not each.name.startswith("."))
        self.files = sorted(
            (each for each in visible if each.suffix.lower() in PICTURES), key=lambda f: natural(f.name)
        )
        if not self.files:
            raise DataError(f"{folder} holds no pictures that could be frames; expected {', '.join(sorted(PICTURES))}.")
        self.time_base = 1 / Fraction(rate).limit_denominator(1001)
        self.limit, self.broken, self.start = limit, 0, 0
        first = next((image for image in map(self._read, self.files) if image is not None), None)
        if first is None:
            raise DataError(f"none of the {len(self.files)} pictures in {folder} can be read.")
        self.size, self.broken = (first.shape[0], first.shape[1]), 0

    @property
    def count(self) -> int | None:
        return len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        """The frames from number `start` on. One of another size is broken, as one that can't be read."""
        for number, file in enumerate(self.files[self.start :], start=self.start):
            image = self._read(file)
            if image is None or image.shape[:2] != self.size:
                self.broken += 1
                continue
            yield Frame(number, number, image, time.perf_counter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def _read(self, file: Path) -> Image | None:
        try:
            return read_image(file, self.limit)
        except DataError:
            return None


class Camera:
    """A camera of this machine, by OpenCV. Its frames have the time at which they came."""

    live = True
    count = None
    time_base = _CLOCK

    def __init__(self, number: int, seconds: float | None = None) -> None:
        """seconds: how long to look; None: until somebody stops. Raises DataError where there is no such camera."""
        self.number, self.seconds, self.broken = number, seconds, 0
        self._camera = cv2.VideoCapture(number)
        good, first = self._camera.read()
        if not good:
            self._camera.release()
            raise DataError(f"camera:{number} can't be opened; is it plugged in, and does no other program use it?")
        self.size = first.shape[0], first.shape[1]

    def __iter__(self) -> Iterator[Frame]:
        began, number, ticks = time.perf_counter(), 0, -1
        while self.seconds is None or time.perf_counter() - began < self.seconds:
            good, picture = self._camera.read()
            now = time.perf_counter()
            if not good:
                return  # it was unplugged
            ticks = max(ticks + 1, int((now - began) / _CLOCK))
            yield Frame(number, ticks, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), now)
            number += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, at: TracebackType | None) -> None:
        self._camera.release()


class FilmWriter:
    """Writes one film into an open file that can seek. `with` ends it: a playable file, whatever happened within."""

    def __init__(
        self, file: BinaryIO, size: tuple[int, int], time_base: Fraction, kind: Literal["overlay", "mask"] = "overlay"
    ) -> None:
        """size: height and width. kind: overlays take pictures (H, W, 3) uint8, masks take numbers (H, W) uint8."""
        av = require_av()
        self.kind, self.time_base = kind, time_base
        height, width = size
        # exact starts: a header in milliseconds would round them
        ticks = str(min(time_base.denominator, 2**31 - 1))
        self._container = av.open(
            file, "w", format="mp4" if kind == "overlay" else "mov", container_options={"movie_timescale": ticks}
        )
        if kind == "mask":
            stream = self._container.add_stream("png")
            stream.pix_fmt = "gray"
        else:
            h264 = "libx264" in av.codecs_available
            options = {"crf": "18", "preset": "veryfast"} if h264 else {"qscale:v": "3"}
            stream = self._container.add_stream("libx264" if h264 else "mpeg4", options=options)
            stream.pix_fmt = "yuv420p"  # what every player can; it has a colour for every 2 x 2 pixels
            height, width = height + height % 2, width + width % 2
            if not h264 and time_base.denominator > 65535:  # more its header can't hold
                self.time_base = Fraction(1, 60_000)
            stream.codec_context.max_b_frames = 0
        stream.height, stream.width = height, width
        stream.codec_context.time_base = stream.time_base = self.time_base
        self._av, self._stream, self._size = av, stream, (height, width)
        self._scale = time_base / self.time_base

    def add(self, picture: np.ndarray, ticks: int) -> None:
        """The next frame, at `ticks` of the time base."""
        if self.kind == "overlay":
            height, width = self._size
            missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
            picture = np.pad(picture, missing, mode="edge")
        form = "rgb24" if self.kind == "overlay" else "gray"
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)
        frame.pts, frame.time_base = round(ticks * self._scale), self.time_base
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except Exception:
            if error is None:
                raise  # else the first error is what counts


def open_source(given: str | Path, rate: float, seconds: float | None, limit: int) -> FilmFile | FrameFolder | Camera:
    """The film that an argument of the command means: `camera:N`, a folder of frames, or a file."""
    camera = CAMERA.fullmatch(str(given))
    if camera:
        return Camera(int(camera[1]), seconds)
    if Path(given).is_dir():
        return FrameFolder(given, rate, limit)
    return FilmFile(given, limit)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names as people number them: frame2 before frame10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(1, int(each), "") if each.isdecimal() else (0, 0, each) for each in parts] + [(0, 0, name)]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
