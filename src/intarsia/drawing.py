"""Pictures for people, and mask files for programs.

What is shown is (H, W, 3) uint8, red green blue. What is written is whole or not there (`files.write_atomically`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from .errors import DataError, UsageError
from .files import make_folder, write_atomically
from .records import IGNORE, Classes, Image, Labels, Mask

PNG_LEVEL = 1  # of zlib's 0..9: pictures grow by an eighth over level 6, masks by half, at a quarter of the time
MISSED = (30, 90, 220)  # blue: an object the model did not see
FALSE_ALARM = (245, 150, 20)  # orange: an object that is not there
CONFUSED = (220, 30, 40)  # red: one class taken for another
SPLIT = (225, 60, 190)  # magenta: one object taken for several
MERGED = (20, 175, 150)  # teal: several objects taken for one
#: of the kinds of error with objects
ERROR_COLOURS = {"missed": MISSED, "invented": FALSE_ALARM, "split": SPLIT, "merged": MERGED, "confused": CONFUSED}
IN_THE_ANSWER = ("invented", "merged")  # kinds whose objects are numbered in the answer; the others' in the truth


def to_rgb8(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to look at, of a picture (H, W) or (H, W, C) of any kind of number.

    One channel is shown grey, two as red and green, of more the first three. 8-bit values stay; others are stretched
    so that 0.5 % of them are black and 0.5 % at their brightest, all channels alike. What is not a number is black.
    """
    planes = image[..., None] if image.ndim == 2 else image
    if planes.ndim != 3 or planes.shape[2] == 0:
        raise DataError(
            f"a picture has the shape (H, W) or (H, W, C), but this has {image.shape}; give it one of those."
        )
    planes = planes[:, :, :3]
    if planes.dtype == np.bool_:
        planes = planes.astype(np.uint8) * 255
    if planes.dtype != np.uint8:
        planes = _stretched(planes)
    if planes.shape[2] == 1:
        planes = np.repeat(planes, 3, axis=2)
    elif planes.shape[2] == 2:
        planes = np.concatenate([planes, np.zeros_like(planes[:, :, :1])], axis=2)
    return np.ascontiguousarray(planes)


def overlay(image: Image, mask: Mask, classes: Classes, opacity: float = 0.5) -> np.ndarray:
    """(H, W, 3) uint8: the picture with each class's colour laid over it, [0, 1] strong, and class borders drawn.

    A first class named "background" is left clear. IGNORE is hatched grey; where classes may overlap it means that
    none of them is there, and is left clear.
    """
    picture = to_rgb8(image)
    _same_size("the picture", picture.shape[:2], "the mask", mask.shape)
    clear = mask == 0 if has_background(classes) else np.zeros(mask.shape, bool)
    unknown = mask == IGNORE
    if classes.overlapping:
        clear |= unknown
        unknown[:] = False
    drawn = cv2.addWeighted(coloured(mask, classes), opacity, picture, 1 - opacity, 0)
    borders = _borders(mask) & ~unknown
    drawn[borders] = _contrasting(_colour_table(classes))[mask[borders]]
    drawn[clear] = picture[clear]
    drawn[unknown] = _hatched(picture, unknown)
    return drawn


def coloured(mask: Mask, classes: Classes) -> np.ndarray:
    """(H, W, 3) uint8: each pixel in its class's colour, IGNORE white."""
    return _colour_table(classes)[mask]  # IGNORE is -1: the last row


def error_picture(true: np.ndarray, predicted: np.ndarray, classes: Classes) -> np.ndarray:
    """(H, W, 3) uint8 that shows where a prediction is wrong; of masks (H, W), or of labels (K, H, W).

    Right: pale, in the true class's colour. Missed (the truth is an object, the answer background): blue. A false alarm
    (the other way round): orange. One class taken for another: red. Where nobody labelled: grey.
    """
    _same_size("the true mask", true.shape, "the predicted one", predicted.shape)
    if true.ndim == 3:
        known = (true != IGNORE).any(axis=0)
        missing = ((true == 1) & (predicted == 0)).any(axis=0)
        invented = ((true == 0) & (predicted == 1)).any(axis=0)
        colours = coloured(np.where((true == 1).any(axis=0), (true == 1).argmax(axis=0), IGNORE), classes)
    else:
        known = true != IGNORE
        wrong = known & (true != predicted)
        nothing = 0 if has_background(classes) else IGNORE
        missing = wrong & (true != nothing)
        invented = wrong & (predicted != nothing)
        colours = coloured(true, classes)
    drawn = cv2.addWeighted(colours, 0.25, np.full_like(colours, 255), 0.75, 0)
    drawn[missing & ~invented] = MISSED
    drawn[invented & ~missing] = FALSE_ALARM
    drawn[missing & invented] = CONFUSED
    drawn[~known] = 128
    return drawn


def object_overlay(image: Image, label_image: np.ndarray, opacity: float = 0.35) -> np.ndarray:
    """(H, W, 3) uint8: the picture with each object of a label image (H, W) tinted, [0, 1] strong, and outlined, in a
    colour of its own that its neighbours in number do not have."""
    _same_size("the picture", image.shape[:2], "the label image", label_image.shape)
    picture = to_rgb8(image).astype(np.float32)
    inside = label_image > 0
    colours = object_colours(int(label_image.max(initial=0)))[np.maximum(label_image, 0)]
    picture[inside] = (1 - opacity) * picture[inside] + opacity * colours[inside]
    edge = inside & _borders(label_image)
    picture[edge] = colours[edge]
    return picture.round().astype(np.uint8)


def object_error_picture(
    image: Image, true: np.ndarray, predicted: np.ndarray, errors: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(H, W, 3) uint8: the picture, dimmed, with what is wrong in colour and what is right outlined in white.

    true, predicted: label images (H, W), IGNORE where nobody knows, hatched. errors: for each kind of ERROR_COLOURS the
    numbers of its objects, in the answer for those of IN_THE_ANSWER. A split object shows the outlines of its pieces, a
    merged one those of the true objects that it should have been.
    """
    _same_size("the picture", image.shape[:2], "the true label image", true.shape)
    _same_size("the true label image", true.shape, "the predicted one", predicted.shape)
    drawn = to_rgb8(image).astype(np.float32) * 0.6
    outlines = {True: (predicted > 0) & _borders(predicted), False: (true > 0) & _borders(true)}
    drawn[outlines[True]] = 235
    for kind in ("confused", "merged", "split", "invented", "missed"):  # the last is on top
        mine = kind in IN_THE_ANSWER
        inside = np.isin(predicted if mine else true, errors.get(kind, ()))
        colour = np.array(ERROR_COLOURS[kind], np.float32)
        drawn[inside] = 0.3 * drawn[inside] + 0.7 * colour
        edge = inside & outlines[mine]
        drawn[edge] = colour
        if kind in ("split", "merged"):
            drawn[inside & outlines[not mine] & ~edge] = 255
    drawn = drawn.round().astype(np.uint8)
    unknown = true == IGNORE
    drawn[unknown] = _hatched(drawn, unknown)
    return drawn


def object_colours(count: int) -> np.ndarray:
    """(count + 1, 3) uint8: black, then a colour for each object; hues go round by the golden angle."""
    hue = np.arange(count, dtype=np.float32) * 0.618034 % 1
    lightness = np.array([0.55, 0.68, 0.45], np.float32)[np.arange(count) % 3]
    hls = np.stack([360 * hue, lightness, np.full_like(hue, 0.9)], axis=-1)[None]
    rgb = cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)[0] if count else np.zeros((0, 3), np.float32)
    return np.concatenate([np.zeros((1, 3)), 255 * rgb]).round().astype(np.uint8)


def write_label_image(path: Path, label_image: np.ndarray) -> Path:
    """Write a label image (H, W), 0 = background, as a 16-bit PNG or TIFF by its suffix; above 65534 objects as a TIFF
    of 32 bits. Where nobody knows it holds the largest number of that width. Returns the path."""
    wide = int(label_image.max(initial=0)) >= 65535
    if wide and path.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"{path} would hold {label_image.max()} objects, more than a PNG can number; name it .tif.")
    kind = np.uint32 if wide else np.uint16
    values = np.where(label_image < 0, np.iinfo(kind).max, label_image).astype(kind)
    if path.suffix.lower() not in (".tif", ".tiff"):
        return write_atomically(_png(path), encode_png(values))
    import tifffile  # 0.1 s that only those pay who write one

    buffer = BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", compression="zlib", metadata=None)
    return write_atomically(path, buffer.getvalue())


def legend(classes: Classes, size: int = 16) -> np.ndarray:
    """(H, W, 3) uint8: each class's colour beside its name, one below the other; letters `size` pixels high."""
    font = ImageFont.load_default(size)
    row, gap = round(size * 1.6), size // 2
    width = round(max(font.getlength(name) for name in classes.names)) + row + 2 * gap
    picture = PillowImage.new("RGB", (width, row * len(classes) + gap), "white")
    draw = ImageDraw.Draw(picture)
    for i, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        top = gap + i * row
        draw.rectangle((gap, top, gap + size, top + size), fill=colour, outline="black")
        draw.text((gap + row, top + size // 2), name, fill="black", font=font, anchor="lm")
    return np.asarray(picture)


def grid(pictures: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """(H, W, 3) uint8: pictures of any size and kind side by side, `columns` a row, on white, in cells of one size."""
    shown = [to_rgb8(picture) for picture in pictures]
    if not shown or columns < 1:
        raise DataError(f"{len(shown)} pictures can't be laid out in {columns} columns; give at least one of each.")
    height, width = max(each.shape[0] for each in shown), max(each.shape[1] for each in shown)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(shown):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def encode_png(array: np.ndarray) -> bytes:
    """The bytes of a PNG file of (H, W), (H, W, 3) or (H, W, 4) uint8 or uint16; red comes first."""
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"a PNG holds uint8 or uint16, but this picture is {array.dtype}; `to_rgb8` makes one to look at."
        )
    if array.ndim == 3 and array.shape[2] >= 3:
        array = array[:, :, [2, 1, 0, *range(3, array.shape[2])]]  # OpenCV's blue comes first
    try:
        return cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])[1].tobytes()
    except cv2.error as error:
        raise DataError(
            f"an array {array.shape} can't be a PNG; its sides are 1..1,000,000, its channels 1, 3 or 4."
        ) from error


def write_mask(path: Path, mask: Mask, classes: Classes) -> Path:
    """Write a mask (H, W) as a PNG of class numbers with the classes' palette, IGNORE as 255; above 255 classes as a
    16-bit grey PNG, IGNORE as 65535. Returns the path, which always ends in .png: that is added where it is missing."""
    _within(mask, classes)
    return write_atomically(_png(path), encode_mask(mask, classes))


def encode_mask(mask: Mask, classes: Classes) -> bytes:
    """The bytes of `write_mask`'s file."""
    if len(classes) > 255:
        return encode_png(mask.astype(np.uint16))  # IGNORE = -1 becomes 65535
    picture = PillowImage.fromarray(mask.astype(np.uint8))  # -1 becomes 255
    picture.putpalette(classes.palette())
    buffer = BytesIO()
    picture.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def write_labels(folder: Path, name: str, labels: Labels, classes: Classes) -> list[Path]:
    """Write classes that may overlap, (K, H, W) of 0 and 1, as `folder/CLASS/NAME.png`, 255 where the class is.

    One folder a class is the layout in which such masks are read as well. Returns the K paths, in class order.
    """
    if len(labels) != len(classes) or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{name}: labels to write are 0 or 1, one plane for each of {len(classes)} classes.")
    paths = [folder / each / f"{name}.png" for each in file_names(classes)]
    for path, plane in zip(paths, labels, strict=True):
        make_folder(path.parent)
        write_atomically(path, encode_png(plane.astype(np.uint8) * 255))
    return paths


def write_probabilities(path: Path, probabilities: np.ndarray, classes: Classes) -> Path:
    """Write probabilities (K, H, W), float in [0, 1] or already uint16, as a TIFF of K 16-bit pages: value / 65535.

    The class names stand in the file's description, as JSON.
    """
    import tifffile  # 0.1 s that only those pay who write one

    planes = probabilities if probabilities.dtype == np.uint16 else to_uint16(probabilities)
    description = json.dumps({"classes": list(classes.names), "scale": 65535})
    return write_atomically(
        path,
        lambda file: tifffile.imwrite(
            file,
            planes,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": 1},
            predictor=True,  # neighbours are alike: a third of the size
            description=description,
            metadata=None,
        ),
    )


def write_grey16(path: Path, values: np.ndarray) -> Path:
    """Write (H, W), float in [0, 1] or already uint16, as a 16-bit grey PNG: value / 65535. Returns the path."""
    return write_atomically(_png(path), encode_png(values if values.dtype == np.uint16 else to_uint16(values)))


def to_uint16(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as 0..65535, rounded."""
    return (values * np.float32(65535) + np.float32(0.5)).clip(0, 65535).astype(np.uint16)


def file_names(classes: Classes) -> list[str]:
    """The class names as names of files: letters, digits and a few marks only, none twice, in any case of letters."""
    names: list[str] = []
    for i, each in enumerate(classes.names):
        name = re.sub(r"[^\w.+-]+", "_", each).strip("._")[:100] or f"class{i}"
        names.append(f"{name}_{i}" if name.casefold() in (known.casefold() for known in names) else name)
    return names


def has_background(classes: Classes) -> bool:
    """Whether the first class is what is no object, by its name."""
    return classes.names[0].casefold() == "background" and not classes.overlapping


def _stretched(planes: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(planes.astype(np.float32), nan=0, posinf=0, neginf=0)
    few = values[:: max(1, values.shape[0] // 1000), :: max(1, values.shape[1] // 1000)]  # a million will do
    low, high = np.percentile(few, (0.5, 99.5))
    if low == high:  # a few bright dots on black, or a plain surface
        low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = 0.0, float(np.iinfo(planes.dtype).max) if planes.dtype.kind in "ui" else 1.0
    return ((values - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8)


def _colour_table(classes: Classes) -> np.ndarray:
    """(K + 1, 3) uint8: the classes' colours, then that of IGNORE, which as -1 finds the last row."""
    return np.array([*classes.colours, (255, 255, 255)], np.uint8)


def _contrasting(table: np.ndarray) -> np.ndarray:
    """Each colour darker, or lighter where it is dark already."""
    light = table @ np.array([0.299, 0.587, 0.114]) > 110  # luma (ITU-R BT.601)
    return np.where(light[:, None], table * 0.55, 255 - (255 - table) * 0.55).astype(np.uint8)


def _borders(mask: Mask) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour of another class to the left, right, above or below."""
    borders = np.zeros(mask.shape, bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    borders[:, 1:] |= across
    borders[:, :-1] |= across
    borders[1:] |= down
    borders[:-1] |= down
    return borders


def _hatched(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N, 3): the picture's pixels where something is unknown, under diagonal grey stripes 3 pixels wide."""
    y, x = np.nonzero(where)
    stripes = ((x + y) // 3 % 2 == 0)[:, None]
    return np.where(stripes, 160, picture[y, x]).astype(np.uint8)


def _png(path: Path) -> Path:
    return path if path.suffix.lower() == ".png" else path.with_name(path.name + ".png")


def _same_size(one: str, size: tuple[int, ...], other: str, other_size: tuple[int, ...]) -> None:
    if size != other_size:
        raise DataError(f"{one} is {_by(size)}, but {other} is {_by(other_size)}; they must be of one size.")


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(str(each) for each in size)


def _within(mask: Mask, classes: Classes) -> None:
    if mask.ndim != 2 or mask.size == 0:
        raise DataError(f"a mask has the shape (H, W), but this has {mask.shape}; give one class number a pixel.")
    low, high = int(mask.min()), int(mask.max())
    if low < IGNORE or high >= len(classes):
        raise DataError(f"a mask of {len(classes)} classes holds -1..{len(classes) - 1}, but this holds {low}..{high}.")
