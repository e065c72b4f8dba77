"""A walk through a model's latent space as one file: a strip of pictures, or an animation there and back."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from ..drawing import encode_png, grid, to_rgb8
from ..errors import UsageError
from ..files import require_writable, write_atomically
from .reading import Picture
from .studio import Category, MaskSource, Studio

MILLISECONDS = 90  # that a picture of an animation stays


def write_walk(
    studio: Studio,
    a: Picture | int,
    b: Picture | int,
    path: str | Path,
    steps: int = 9,
    *,
    seed: int = 0,
    category: Category | None = None,
    mask: MaskSource | None = None,
    overwrite: bool = False,
) -> Path:
    """The path, once `Studio.interpolate` stands there: .png, the pictures in a row; .gif, there and back without end.

    Raises UsageError for other names, and where another file stands there, unless `overwrite`.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".png", ".gif"):
        raise UsageError(f"{path} is neither a strip nor an animation; give it a name that ends in .png or .gif.")
    require_writable(path.parent)
    pictures = studio.interpolate(a, b, steps, seed=seed, category=category, mask=mask)
    content = encode_png(grid(pictures, len(pictures), gap=2)) if kind == ".png" else encode_gif(pictures)
    if path.exists() and not overwrite and path.read_bytes() != content:
        raise UsageError(f"{path} stands there already and is not this; choose another name, or overwrite it.")
    return write_atomically(path, content)


def encode_gif(pictures: list[np.ndarray]) -> bytes:
    """An animation of pictures (H, W, C) uint8 from the first to the last and back, without end."""
    frames = [PillowImage.fromarray(to_rgb8(each)) for each in [*pictures, *pictures[-2:0:-1]]]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)
    return buffer.getvalue()
