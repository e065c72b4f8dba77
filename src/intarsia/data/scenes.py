"""Drawn pictures with exact masks: the demo and the tests need no download.

Each picture is a small intarsia: disks, squares, triangles and rings of stained wood laid on a wooden board, lit
unevenly from one side. Most pieces are stained in their class's colour, but one in seven is in any class's or in the
board's own, they hide and shade each other, and bands of shadow cross them. So no threshold finds them; colour is a
hint, and shape decides.

CROWD draws many pieces of very different sizes that touch and overlap: pictures to tell objects apart in.

Every piece is a signed distance in pixels: negative inside, zero on its border. From that one function come the
mask (distance <= 0 at the pixel's centre), the soft border and the bevel of the picture, the depth, and the raters
(a rater who draws everything r pixels larger says distance <= r). The masks are therefore exact, not traced.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile

from ..drawing import encode_png, write_label_image, write_mask
from ..errors import UsageError
from ..files import make_folder, write_atomically
from ..records import Classes, Instances, Sample
from .classes import ClassTable, write_class_table

CLASSES = Classes(
    ("background", "disk", "square", "triangle", "ring"),
    ((0, 0, 0), (224, 108, 66), (64, 148, 190), (240, 196, 84), (120, 176, 96)),
)

DIVISOR = 1000  # of label images: class * DIVISOR + number of the piece

BOARD_AT = 1.2  # metres from the camera to the middle of the board
FURTHEST = 2.0  # metres; the depth that is 1.0 in a picture's fourth channel

_FREQUENCIES = (0.3, 0.28, 0.25, 0.17)  # of disk, square, triangle, ring: the last is the rare class
_HIDDEN = 0.6  # two centres are at least this share of their radii's sum apart, so no piece is quite hidden
_TINTS = np.array(  # red, green, blue in [0, 1]: one stain for each class, then the board's own walnut and maple
    [
        (0.66, 0.24, 0.17),
        (0.20, 0.42, 0.46),
        (0.82, 0.66, 0.30),
        (0.36, 0.44, 0.24),
        (0.46, 0.29, 0.18),
        (0.80, 0.62, 0.42),
    ],
    np.float32,
)
_BOARD_TINTS = np.array([(0.55, 0.38, 0.25), (0.72, 0.54, 0.37), (0.43, 0.31, 0.24), (0.63, 0.53, 0.44)], np.float32)


@dataclass(frozen=True)
class SceneConfig:
    """How the pictures are drawn."""

    height: int = 96  # pixels, at least 16
    width: int = 128  # pixels, at least 16
    seed: int = 0
    objects: tuple[int, int] = (3, 9)  # fewest and most pieces a picture, both included; fewer where there is no room
    sizes: tuple[float, float] = (0.11, 0.25)  # smallest and largest radius of a piece over the shorter side, in (0, 1]
    together: float = 0.0  # share of the pieces that are laid against another one, touching or overlapping, in [0, 1]
    noise: float = 5.0  # standard deviation of the camera's noise, in 8-bit levels
    texture: float = 1.0  # strength of the wood's grain, 0: plain colours
    light: float = 1.0  # strength of uneven light and of shadows, 0: even light
    cue: float = 0.85  # share of the pieces in their class's own stain, in [0, 1]; 0: nothing but shape tells
    blur: float = 0.4  # standard deviation of the lens's blur, in pixels
    raters: tuple[float, ...] = ()  # one rater each: by how many pixels they draw every piece larger (or smaller)
    ambiguous: tuple[tuple[str, str, float], ...] = ()  # (class, what some call it, share of the raters who do)
    depth: bool = False  # True: a fourth channel, metres / FURTHEST, and the picture is float32

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise UsageError(
                f"a scene of {self.height} x {self.width} pixels is too small to draw; take 16 x 16 or more."
            )
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise UsageError(f"objects = {self.objects}, but (fewest, most) was expected, with 0 <= fewest <= most.")
        if not 0 < self.sizes[0] <= self.sizes[1] <= 1:
            raise UsageError(
                f"sizes = {self.sizes}, but (smallest, largest) was expected, with 0 < smallest <= largest <= 1."
            )
        for name, share in (("cue", self.cue), ("together", self.together)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} = {share}, but a share in [0, 1] was expected.")
        for kind, other, share in self.ambiguous:
            if kind not in CLASSES.names[1:] or other not in CLASSES.names or kind == other or not 0 <= share <= 1:
                raise UsageError(
                    f"ambiguous = ({kind!r}, {other!r}, {share}), but (class, other, share) was expected: two of "
                    f"{', '.join(CLASSES.names)}, the first no background, and a share in [0, 1]."
                )
        if min(self.noise, self.texture, self.light, self.blur) < 0:
            raise UsageError("noise, texture, light and blur of a scene are strengths; none may be below 0.")


#: many pieces that touch and overlap, the largest with about twenty times the area of the smallest
CROWD = SceneConfig(height=192, width=256, objects=(25, 55), sizes=(0.03, 0.14), together=0.8)


class Piece(NamedTuple):
    """One piece of wood, in pixels. A later piece of a list lies over the earlier ones."""

    kind: int  # its class, 1..4
    x: float
    y: float
    radius: float  # of the circle around it
    angle: float  # radians
    tint: int  # row of the tints
    height: float  # how far it stands above the board; lengthens its shadow


def draw_scene(config: SceneConfig, index: int) -> Sample:
    """Picture number `index` with its exact mask: image (H, W, 3) uint8, or (H, W, 4) float32 in [0, 1] with depth;
    the mask (H, W), the visible pieces as instances, and one mask for each rater.

    The same configuration and index give the same arrays, whatever was drawn before.
    """
    pieces = place_pieces(config, index)
    distances = [signed_distance(piece, config.height, config.width) for piece in pieces]
    image = _paint(config, pieces, distances, _generator(config, index, stream=2))
    if config.depth:
        metres = draw_depth(config, index)[..., None]
        image = np.concatenate([image.astype(np.float32) / 255, metres / FURTHEST], axis=2)

    order = _top(distances, config, grown=0.0)
    visible = np.unique(order[order > 0])  # a piece quite hidden is no object
    kinds = np.array([0] + [piece.kind for piece in pieces], np.int16)
    return Sample(
        name=f"scene_{index:04d}",
        image=image,
        mask=kinds[order],
        instances=Instances(np.searchsorted(visible, order).astype(np.int32) + (order > 0), kinds[visible]),
        raters=tuple(
            named[_top([d if named[i] else _nowhere(d) for i, d in enumerate(distances, 1)], config, grown)]
            for grown, named in zip(config.raters, rater_names(config, index, kinds), strict=True)
        ),
    )


def rater_names(config: SceneConfig, index: int, kinds: np.ndarray) -> list[np.ndarray]:
    """For each rater what they call each of `kinds` (N,), the true classes of picture number `index`: (N,) int16.

    Of R raters exactly round(share R) call all of a picture's pieces of an ambiguous class by the other name, and
    leave them out where that is background; which raters do is drawn for each picture.
    """
    rng = _generator(config, index, stream=3)
    named = [kinds.copy() for _ in config.raters]
    for kind, other, share in config.ambiguous:
        for rater in rng.permutation(len(named))[: round(share * len(named))]:
            named[rater][kinds == CLASSES.names.index(kind)] = CLASSES.names.index(other)
    return named


def _nowhere(distance: np.ndarray) -> np.ndarray:
    return np.full_like(distance, np.inf)


def draw_depth(config: SceneConfig, index: int) -> np.ndarray:
    """(H, W) float32: metres from the camera for picture number `index`; 0 where the sensor has no reading.

    The board is tilted, each piece stands up to 8 cm above it; the reading has 2 mm of noise, and is missing at some
    of the pieces' borders, as it is for real sensors.
    """
    pieces = place_pieces(config, index)
    rng = _generator(config, index, stream=1)
    y, x = np.mgrid[-1 : 1 : config.height * 1j, -1 : 1 : config.width * 1j].astype(np.float32)
    tilt = rng.uniform(-0.1, 0.1, 2)
    depth = BOARD_AT + tilt[0] * y + tilt[1] * x
    border = np.zeros(depth.shape, bool)
    for piece in pieces:
        distance = signed_distance(piece, config.height, config.width)
        above = BOARD_AT - 0.008 * piece.height + tilt[0] * y + tilt[1] * x
        depth = np.where(distance <= 0, above, depth)
        border = np.where(distance <= -1.5, False, border | (np.abs(distance) < 1.0))
    depth += rng.normal(0, 0.002, depth.shape)
    depth[border & (rng.random(depth.shape) < 0.5)] = 0
    return depth.astype(np.float32)


def draw_scenes(config: SceneConfig, count: int, first: int = 0) -> Iterator[Sample]:
    """Pictures `first` to `first + count - 1`, one at a time."""
    return (draw_scene(config, index) for index in range(first, first + count))


def write_scenes(
    folder: str | Path,
    count: int,
    config: SceneConfig | None = None,
    labelled: int | None = None,
    objects: bool = False,
) -> Path:
    """Write `count` pictures to `folder`: `images/*.png`, `masks/*.png` with a palette, `classes.toml`, and the lists
    `train.txt` and `val.txt` (the last fifth, at least one). Returns the folder.

    With `config.raters` the masks are theirs, `masks/NAME_r0.png` and so on, and the exact mask is not written.
    `objects`: the masks are label images of 16 bits that tell pieces apart, class * DIVISOR + number of the piece; the
    configuration is CROWD where none is given.
    `labelled`: how many of the training pictures get a mask; None: all. The validation pictures all have one.
    Pictures with depth are written as TIFF, since a PNG holds no floats.
    """
    folder, config = Path(folder), config or (CROWD if objects else SceneConfig())
    if count < 2:
        raise UsageError(f"{count} pictures can't be divided into training and validation; ask for at least 2.")
    training = count - max(1, count // 5)
    if labelled is not None and not 0 <= labelled <= training:
        raise UsageError(f"{labelled} labelled pictures were asked for, but there are {training} training pictures.")
    if objects and (config.raters or config.objects[1] >= DIVISOR):
        raise UsageError(f"label images hold one rater's objects, fewer than {DIVISOR}; leave raters or objects out.")
    make_folder(folder / "images")
    make_folder(folder / "masks")
    names = []
    for index, sample in enumerate(draw_scenes(config, count)):
        names.append(sample.name)
        _write_image(folder / "images" / sample.name, sample.image)
        assert sample.mask is not None and sample.instances is not None
        if labelled is None or index < labelled or index >= training:
            if objects:
                numbers = sample.mask.astype(np.int32) * DIVISOR + sample.instances.label_image
                write_label_image(folder / "masks" / f"{sample.name}.png", numbers)
            elif not sample.raters:
                write_mask(folder / "masks" / f"{sample.name}.png", sample.mask, CLASSES)
            for number, mask in enumerate(sample.raters):
                write_mask(folder / "masks" / f"{sample.name}_r{number}.png", mask, CLASSES)
    write_atomically(folder / "train.txt", ("\n".join(names[:training]) + "\n").encode())
    write_atomically(folder / "val.txt", ("\n".join(names[training:]) + "\n").encode())
    values = tuple(range(len(CLASSES)))
    table = ClassTable(CLASSES, values=values, ignore=(255,))
    if objects:
        table = ClassTable(CLASSES, values=values, coding="objects", divisor=DIVISOR)
    write_class_table(folder / "classes.toml", table, "Drawn scenes: pieces of wood, told apart by their shape.")
    return folder


def _write_image(path: Path, image: np.ndarray) -> None:
    if image.dtype == np.uint8:
        write_atomically(path.with_suffix(".png"), encode_png(image))
    else:
        tiff = io.BytesIO()
        tifffile.imwrite(tiff, image, photometric="minisblack", planarconfig="contig", compression="deflate")
        write_atomically(path.with_suffix(".tif"), tiff.getvalue())


# ------------------------------------------------------------------------------------------ where the pieces lie


def _generator(config: SceneConfig, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, index, stream))


def place_pieces(config: SceneConfig, index: int) -> list[Piece]:
    """The pieces of picture number `index`, lowest first; some may reach over its border."""
    rng = _generator(config, index, stream=0)
    side = min(config.height, config.width)
    pieces: list[Piece] = []
    for _ in range(rng.integers(config.objects[0], config.objects[1] + 1)):
        kind = int(rng.choice(4, p=_FREQUENCIES)) + 1
        radius = side * rng.uniform(*config.sizes)
        tint = kind - 1 if rng.random() < config.cue else int(rng.integers(len(_TINTS)))
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(3, 10)
        beside = pieces if config.together and pieces and rng.random() < config.together else []
        for _ in range(20):  # a crowded picture simply gets fewer pieces
            x, y = rng.uniform(0, config.width), rng.uniform(0, config.height)
            if beside:
                other, towards = beside[int(rng.integers(len(beside)))], rng.uniform(0, 2 * np.pi)
                away = rng.uniform(_apart(config, radius, other), radius + other.radius)
                x, y = other.x + away * np.cos(towards), other.y + away * np.sin(towards)
            inside = 0 <= x < config.width and 0 <= y < config.height
            if inside and all(np.hypot(x - p.x, y - p.y) >= _apart(config, radius, p) - 1e-9 for p in pieces):
                pieces.append(Piece(kind, x, y, radius, angle, tint, height))
                break
    return pieces


def _apart(config: SceneConfig, radius: float, below: Piece) -> float:
    """How far a new piece's centre is at least from that of a piece that it may lie on, in pixels. Where sizes differ
    much, half of the radii's sum would let a large piece bury a small one: then it keeps off its centre too."""
    least = _HIDDEN * (radius + below.radius)
    return max(least, radius) if config.together else least


def signed_distance(piece: Piece, height: int, width: int) -> np.ndarray:
    """(H, W) float32: signed distance in pixels from each pixel's centre to the piece's border, negative inside.

    Outside a corner the distance is that to the nearer edge's line, so a larger rater's corner stays sharp.
    """
    x = np.arange(width, dtype=np.float32)[None, :] - piece.x
    y = np.arange(height, dtype=np.float32)[:, None] - piece.y
    name = CLASSES.names[piece.kind]
    if name == "disk":
        distance = np.hypot(x, y) - 0.9 * piece.radius
    elif name == "ring":
        distance = np.abs(np.hypot(x, y) - 0.75 * piece.radius) - 0.25 * piece.radius
    else:
        sides = 4 if name == "square" else 3
        directions = piece.angle + 2 * np.pi * np.arange(sides) / sides
        apothem = piece.radius * np.cos(np.pi / sides)
        distance = np.max([np.cos(d) * x + np.sin(d) * y for d in directions], axis=0) - apothem
    return distance.astype(np.float32)


def _top(distances: list[np.ndarray], config: SceneConfig, grown: float) -> np.ndarray:
    """(H, W) int: which piece is on top, 1..N; 0 where the board shows. `grown` pixels larger than they are."""
    top = np.zeros((config.height, config.width), np.int32)
    for number, distance in enumerate(distances, start=1):
        top[distance <= grown] = number
    return top


# ------------------------------------------------------------------------------------------ how they look


def _paint(
    config: SceneConfig, pieces: list[Piece], distances: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8: the picture."""
    size = config.height, config.width
    towards = rng.uniform(0, 2 * np.pi)  # where the light comes from
    light = np.array([np.cos(towards), np.sin(towards)], np.float32)
    fibres = _fibres(rng)
    low, high = rng.permutation(len(_BOARD_TINTS))[:2]
    grain = _grain(size, fibres, rng.uniform(-0.3, 0.3), rng, scale=1.0)
    wash = _smooth(size, 24, rng)[..., None]
    board = _BOARD_TINTS[low] * wash + _BOARD_TINTS[high] * (1 - wash)
    image = board * (1 + 0.24 * config.texture * grain[..., None])
    for piece, distance in zip(pieces, distances, strict=True):
        shift = np.array([[1, 0, -light[0] * 0.5 * piece.height], [0, 1, -light[1] * 0.5 * piece.height]], np.float32)
        shadow = cv2.warpAffine(np.clip(0.5 - distance, 0, 1), shift, size[::-1])
        shadow = cv2.GaussianBlur(shadow, (0, 0), 0.35 * piece.height)
        image *= 1 - 0.6 * config.light * shadow[..., None]

        colour = _TINTS[piece.tint] * rng.uniform(0.82, 1.12) + rng.normal(0, 0.02, 3).astype(np.float32)
        grain = _grain(size, fibres, piece.angle, rng, scale=rng.uniform(0.7, 1.3))
        wood = colour * (1 + 0.34 * config.texture * grain[..., None])
        slope_y, slope_x = np.gradient(distance)
        bevel = np.exp(-(((distance + 1.2) / 1.0) ** 2)) * (slope_x * light[0] + slope_y * light[1])
        wood = wood * (1 + 0.30 * config.light * bevel[..., None])
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        image = image * (1 - cover) + wood * cover
    image = image * _lighting(size, light, config.light, rng)[..., None]
    if config.blur:
        image = cv2.GaussianBlur(image, (0, 0), config.blur)
    image = 255 * image + rng.normal(0, config.noise, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _lighting(size: tuple[int, int], light: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 around 1: brighter towards the light, a warm spot, and the shadows of a window's bars."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j].astype(np.float32)
    gradient = 0.22 * (x * light[0] + y * light[1])
    spot_x, spot_y = rng.uniform(-0.8, 0.8, 2)
    spot = 0.22 * np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / 0.5)
    slant = rng.uniform(0, np.pi)
    across = x * np.cos(slant) + y * np.sin(slant) + 0.1 * (_smooth(size, 32, rng) - 0.5)
    bars = np.zeros(size, np.float32)
    for _ in range(rng.integers(0, 3)):
        middle, half = rng.uniform(-1, 1), rng.uniform(0.08, 0.25)
        bars = np.maximum(bars, 1 / (1 + np.exp((np.abs(across - middle) - half) / 0.025)))
    return (1 + strength * (gradient + spot)) * (1 - 0.38 * strength * bars)


def _smooth(size: tuple[int, int], period: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: noise whose hills are about `period` pixels wide."""
    coarse = rng.random((size[0] // period + 3, size[1] // period + 3), dtype=np.float32)
    large = cv2.resize(coarse, None, fx=period, fy=period, interpolation=cv2.INTER_CUBIC)
    return np.clip(large[period : period + size[0], period : period + size[1]], 0, 1)


def _fibres(rng: np.random.Generator) -> np.ndarray:
    """(256, 256) float32 around 0: streaks along the second axis, from broad veins to fine fibres."""
    streaks = np.zeros((256, 256), np.float32)
    for thick, long, strength in ((12, 128, 0.45), (5, 85, 0.35), (2, 42, 0.3), (1, 16, 0.15)):
        coarse = rng.standard_normal((256 // thick, 256 // long), dtype=np.float32)
        streaks += strength * cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    return streaks


def _grain(
    size: tuple[int, int], fibres: np.ndarray, angle: float, rng: np.random.Generator, scale: float
) -> np.ndarray:
    """(H, W) float32 around 0: a cut of the wood whose fibres run at `angle`, a little bent."""
    x = np.arange(size[1], dtype=np.float32)[None, :]
    y = np.arange(size[0], dtype=np.float32)[:, None]
    offset = rng.uniform(0, 256, 2)
    along = (np.cos(angle) * x + np.sin(angle) * y) / scale + offset[0]
    across = (-np.sin(angle) * x + np.cos(angle) * y) / scale + offset[1]
    across = across + 6 * np.sin(along / 40 + offset[0])
    return cv2.remap(
        fibres, along.astype(np.float32), across.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
