"""Example pictures for the page: truth, prediction, error and uncertainty, small enough to be embedded."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from html import escape
from io import BytesIO

import cv2
import numpy as np
from PIL import Image as PillowImage

from ..drawing import error_picture, overlay, to_rgb8
from ..records import IGNORE, Classes
from ..training.evaluation import Example

ATTEMPTS = ((640, 85), (640, 70), (448, 65), (320, 60), (224, 50), (160, 40))  # longest side, WebP quality
SMALL = 96  # longest side of pictures that are enlarged on the page, and keep square pixels there

# Dark to bright, each step lighter than the one before: readable in grey and by the colour-blind.
RAMP = np.array([(10, 8, 30), (72, 20, 96), (160, 44, 96), (226, 96, 60), (250, 176, 70), (253, 246, 200)], np.float32)


def panels(example: Example, classes: Classes) -> dict[str, np.ndarray]:
    """What is shown of one picture, by its caption: (H, W, 3) uint8 each, all of one size."""
    return {
        "picture": example.picture,
        "truth": overlay(example.picture, on_top(example.truth), classes),
        "prediction": overlay(example.picture, on_top(example.predicted), classes),
        "error": error_picture(example.truth, example.predicted, classes),
        "uncertainty": heat(example.uncertainty),
    }


def on_top(labels: np.ndarray) -> np.ndarray:
    """A mask (H, W) to draw: masks as they are; of overlapping labels (K, H, W) the class with the fewest pixels in the
    picture, since a larger one below it shows all around; IGNORE where there is none."""
    if labels.ndim == 2:
        return labels
    here = labels == 1
    mask = np.full(labels.shape[1:], IGNORE, np.int16)
    for number in np.argsort(-here.sum(axis=(1, 2)), kind="stable"):
        mask[here[number]] = number
    return mask


def heat(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 for values (H, W) in [0, 1], float or 8-bit: dark is low, bright is high."""
    levels = np.linspace(0, 1, len(RAMP))
    table = np.stack([np.interp(np.linspace(0, 1, 256), levels, RAMP[:, i]) for i in range(3)], axis=1).astype(np.uint8)
    if values.dtype != np.uint8:
        values = (values.clip(0, 1) * 255).astype(np.uint8)
    return table[values]


def encoded(picture: np.ndarray, most: int, lossless: bool = False) -> bytes:
    """A WebP file of at most about `most` bytes: smaller and plainer until it fits, down to 160 pixels.

    `lossless` is for flat pictures, whose borders it keeps sharp; where such a file is too large, it is lossy as well.
    """
    shown = to_rgb8(picture)
    attempts = [(side, quality, False) for side, quality in ATTEMPTS]
    for side, quality, exact in [(ATTEMPTS[0][0], 50, True), *attempts] if lossless else attempts:
        buffer = BytesIO()
        PillowImage.fromarray(resized(shown, side)).save(buffer, "WEBP", quality=quality, method=2, lossless=exact)
        if buffer.tell() <= most:
            break
    return buffer.getvalue()


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side brought down to `side` pixels; a smaller one as it is."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def data_address(file: bytes) -> str:
    """The picture as an address that holds it whole."""
    return f"data:image/webp;base64,{b64encode(file).decode()}"


def picture_html(picture: np.ndarray, told: str, most: int, *, caption: str = "", zoom: bool = False) -> str:
    """A `<figure>` of a picture (H, W, C), of at most about `most` bytes; told: what it shows, for those who can't see
    it. zoom: it is enlarged when chosen."""
    small = max(picture.shape[:2]) <= SMALL
    image = image_html(picture, told, most, small=small)
    below = f'<figcaption title="{escape(caption)}">{escape(caption)}</figcaption>' if caption else ""
    return f"<figure>{zoomable(image, told) if zoom else image}{below}</figure>"


def image_html(picture: np.ndarray, told: str, most: int, *, small: bool) -> str:
    """The `<img>` alone. small: without loss, and with square pixels where it is enlarged."""
    shown = to_rgb8(picture)
    kind = ' class="small"' if small else ""
    address = data_address(encoded(shown, most, lossless=small))
    height, width = shown.shape[:2]
    return f'<img{kind} src="{address}" width="{width}" height="{height}" alt="{escape(told)}" title="{escape(told)}">'


def zoomable(html: str, told: str) -> str:
    """The image, enlarged when chosen."""
    return f'<label><input type="checkbox" class="zoom" aria-label="enlarge {escape(told)}">{html}</label>'


def example_html(
    name: str, told_beside: str, shown: Mapping[str, np.ndarray], most: int, lossless: Collection[str] = ()
) -> str:
    """One picture of an evaluation: its name, what is told beside it, and panels (H, W, 3) by their captions, each of
    at most about `most` bytes and enlarged when chosen; those of `lossless` keep their borders sharp."""
    figures = []
    for caption, picture in shown.items():
        address = data_address(encoded(picture, most, lossless=caption in lossless))
        height, width = picture.shape[:2]
        told = f"{caption} of {name}"
        image = f'<img src="{address}" width="{width}" height="{height}" alt="{escape(told)}">'
        figures.append(f"<figure>{zoomable(image, told)}<figcaption>{escape(caption)}</figcaption></figure>")
    return (
        f'<div class="example"><h3>{escape(name)}<span>{escape(told_beside)}</span></h3>'
        f'<div class="panels n{len(figures)}">{"".join(figures)}</div></div>'
    )
