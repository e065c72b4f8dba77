"""What people call a picture -> an array that a model can take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, Union

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from ..data.classes import ClassTable, decode, decode_plane, read_class_table
from ..data.folder import CLASSES_FILE
from ..data.read import LIMIT_PIXELS, as_channels, read_image, read_mask
from ..data.windows import Windows, open_windows
from ..errors import DataError
from ..records import IGNORE, Classes, Image, Mask

if TYPE_CHECKING:  # an exported file answers without PyTorch
    from torch import Tensor

Picture = Union[str, Path, np.ndarray, PillowImage.Image, "Tensor"]
Box = tuple[int, int, int, int]  #: x0, y0, x1, y1 in pixels, exclusive at its end
Hole = str | Path | np.ndarray | Box


def read_picture(picture: Picture, channels: int, limit: int = LIMIT_PIXELS) -> Image:
    """A picture of any accepted kind as (H, W, C) uint8, uint16 or float32 in [0, 1], with its own channels, of which
    `channels` can be made. Raises DataError where not, and for files of more than `limit` pixels."""
    if isinstance(picture, str | Path):
        image, name = read_image(picture, limit), str(picture)
    elif isinstance(picture, PillowImage.Image):
        image, name = as_image(_from_pillow(picture)), "the picture"
    elif _is_tensor(picture):
        image, name = as_image(np.moveaxis(picture.detach().cpu().numpy(), 0, -1)), "the tensor"
    else:
        image, name = as_image(np.asarray(picture)), "the array"
    try:
        as_channels(image[:1, :1], channels)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return image


def read_windows(
    path: str | Path, channels: int, limit: int = LIMIT_PIXELS, scratch: Path | None = None
) -> Windows | None:
    """A file that is read where it is sliced, as `read_picture` gives it whole; None for one that can't be. Close it.
    `scratch` as `open_windows` takes it. Raises DataError as `read_picture` does, DiskError."""
    windows = open_windows(path, limit, scratch)
    if windows is not None:
        try:
            as_channels(np.zeros((1, 1, windows.shape[2]), windows.dtype), channels)
        except DataError as error:
            windows.close()
            raise DataError(f"{path}: {error}") from None
    return windows


def _is_tensor(picture: object) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")  # who has a tensor has loaded it
    return torch is not None and isinstance(picture, torch.Tensor)


def as_image(array: np.ndarray) -> Image:
    """An array (H, W) or (H, W, C) as (H, W, C) uint8, uint16 or float32 in [0, 1]; DataError for any other."""
    image = array[..., None] if array.ndim == 2 else array
    if image.ndim != 3 or image.size == 0:
        raise DataError(f"a picture has the shape (H, W) or (H, W, C), but the array has {array.shape}.")
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype in (np.uint8, np.uint16):
        return image
    if image.dtype.kind == "f":
        low, high = image.min(), image.max()
        if low >= 0 and high <= 1:  # neither holds for what is not a number
            return image.astype(np.float32, copy=False)
        raise DataError(
            f"a float picture holds numbers in [0, 1], but the array has {low:g}..{high:g}; "
            "divide it by the largest value that your instrument gives."
        )
    raise DataError(
        f"a picture is uint8, uint16, bool or float, but the array is {image.dtype}; convert it to one of these."
    )


def _from_pillow(picture: PillowImage.Image) -> np.ndarray:
    """The pixels as displayed: palette and CMYK as RGB, without alpha, 16-bit grey as uint16."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"a Pillow picture of mode {picture.mode} holds 0..65535 here, but has {values.max()}; rescale it."
            )
        return values.astype(np.uint16)
    if picture.mode in ("L", "RGB", "F", "1"):
        return np.asarray(picture)
    return np.asarray(picture.convert("L" if picture.mode in ("LA", "La") else "RGB"))


def read_classes(mask: str | Path | np.ndarray, classes: Classes, limit: int = LIMIT_PIXELS) -> Mask:
    """(H, W) int16: the class numbers of a mask file or an array, IGNORE where nobody knows.

    A file's numbers are those of the `classes.toml` beside it or one folder above, where there is one that names the
    same classes; else 0, 1, 2, … with 255 for IGNORE, and of two classes also 0 and 255. Raises DataError for others.
    """
    if not isinstance(mask, np.ndarray):
        path = Path(mask)
        return decode(read_mask(path, limit), _table(path, classes, limit), str(path))
    numbers = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if numbers.ndim != 2 or not numbers.size or numbers.dtype.kind not in "iub":
        raise DataError(f"a mask is (H, W) of whole numbers, but the array is {mask.shape} of {mask.dtype}.")
    numbers = np.where(numbers == 255, IGNORE, numbers.astype(np.int64)) if len(classes) <= 255 else numbers
    if numbers.min() < IGNORE or numbers.max() >= len(classes):
        raise DataError(
            f"a mask of {len(classes)} classes holds 0..{len(classes) - 1}, and {IGNORE} or 255 where nobody knows, "
            f"but the array holds {numbers.min()}..{numbers.max()}."
        )
    return numbers.astype(np.int16)


def read_hole(hole: Hole, size: tuple[int, int], limit: int = LIMIT_PIXELS) -> np.ndarray:
    """(H, W) bool, True where a picture of that size (height, width) is missing.

    hole: a box (x0, y0, x1, y1) in pixels, 0 <= x0 < x1 <= W, 0 <= y0 < y1 <= H, exclusive at its end; or a file or an
    array of the picture's size, missing where it is not 0 (in a lossy file: above 127). Raises DataError for others.
    """
    height, width = size
    if isinstance(hole, tuple):
        x0, y0, x1, y1 = hole
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise DataError(
                f"the box {x0},{y0},{x1},{y1} does not lie in a picture {width} x {height} (width x height); give "
                "x0,y0,x1,y1 with 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height."
            )
        missing = np.zeros(size, bool)
        missing[y0:y1, x0:x1] = True
        return missing
    if isinstance(hole, np.ndarray):
        name, missing = "the hole", (hole.any(axis=2) if hole.ndim == 3 else hole) != 0
    else:
        name, missing = str(hole), decode_plane(read_mask(hole, limit)) == 1
    if missing.shape != size:
        raise DataError(
            f"{name} is {' x '.join(map(str, missing.shape[::-1]))} pixels, but its picture {width} x {height} "
            "(width x height); draw the hole on the picture itself."
        )
    return missing


def _table(path: Path, classes: Classes, limit: int) -> ClassTable:
    for folder in (path.parent, path.parent.parent):
        written = folder / CLASSES_FILE
        if written.is_file():
            table = read_class_table(written)
            if table.classes.names == classes.names:
                return table
    if len(classes) == 2 and set(np.unique(read_mask(path, limit).values).tolist()) <= {0, 255}:
        return ClassTable(classes, values=(0, 255), coding="binary")
    return ClassTable(classes, ignore=(255,) if len(classes) <= 255 else (65535,))
