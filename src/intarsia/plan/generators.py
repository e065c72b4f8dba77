"""The rules for generative models: what a picture of theirs is, and the settings that each model recommends."""

from __future__ import annotations

import math
from typing import Any

from ..data.fingerprint import Fingerprint
from ..data.pictures import PictureSets
from ..data.sets import Sets
from ..models import MODELS
from ..models.contract import Draws

CPU_PIXELS, GPU_PIXELS = 64 * 64, 128 * 128  # of a whole picture that is drawn
CPU_PIECE, GPU_PIECE = 128 * 128, 256 * 256  # of a piece of a picture, for models that take pictures of any size
SMALL = 64  # pictures with no longer side are learnt from as they are


def rules(
    sets: Sets | PictureSets, picture: Fingerprint, device: str, model: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings as a tree, and reasons by dotted name."""
    kind, cpu = MODELS[model], device == "cpu"
    recommended = dict(kind.recommended)
    whole = bool(recommended.pop("data.whole", issubclass(kind, Draws)))
    height, width = size = size_for(picture.median, whole, cpu)
    pixels = height * width
    reasons = {
        "model.name": "as asked for",
        "model.channels": "what all pictures can be shown with",
        "model.size": _why_size(picture.median, size, whole),
        "augment.crop": "the size of what is learnt from",
        "augment.flip_horizontal": "the model learns what the pictures look like: they are not changed; 0.5 where a "
        "mirrored picture would be as good",
    }
    batch = 64 if pixels <= 40 * 40 else 32 if pixels <= 64 * 64 else 16
    reasons["train.batch"] = f"for pictures of {height}x{width}"
    channels = sets.train.channels if isinstance(sets, Sets) else sets.channels
    tree: dict[str, Any] = {
        "model": {"name": model, "channels": channels, "size": list(size)},
        "augment": {
            "crop": list(size), "scale": [1.0, 1.0], "flip_horizontal": 0.0, "brightness": 0.0, "contrast": 0.0,
            "saturation": 0.0, "hue": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0,
        },
        "train": {"batch": min(batch, max(1, len(sets.train)))},
    }  # fmt: skip
    for dotted, value in recommended.items():
        section, key = dotted.split(".", 1)
        tree.setdefault(section, {})[key] = value
        reasons[dotted] = f"what suits {model}"
    tree["data"] = {"whole": whole}
    return tree, reasons


def size_for(median: tuple[int, int], whole: bool, cpu: bool) -> tuple[int, int]:
    """Height and width of what is learnt from: small pictures as they are; larger ones scaled down, their shape kept,
    or cut into pieces, in multiples of 16."""
    height, width = (max(8, side) for side in median)
    if max(height, width) <= SMALL:
        return height, width
    most = (CPU_PIXELS if cpu else GPU_PIXELS) if whole else (CPU_PIECE if cpu else GPU_PIECE)
    factor = min(1.0, math.sqrt(most / (height * width)))
    rounded = [max(16, 16 * round(factor * side / 16)) for side in (height, width)]
    return rounded[0], rounded[1]


def _why_size(median: tuple[int, int], size: tuple[int, int], whole: bool) -> str:
    if tuple(median) == size:
        return "that of most pictures"
    how = "scaled down to it as a whole" if whole else "cut into pieces of it"
    return f"most pictures are {median[0]}x{median[1]}; they are {how}"
