"""Tiles (`tiles.py`) for networks that take and give tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..data.read import to_float
from .tiles import SIDE as SIDE
from .tiles import Sliceable as Sliceable
from .tiles import Tiling as Tiling
from .tiles import answer_rows
from .tiles import halved as halved
from .tiles import is_out_of_memory as is_out_of_memory
from .tiles import starts as starts
from .tiles import weights as weights
from .tiles import window as window


def predict_tiled(
    predict: Callable[[Tensor], Tensor],
    image: Sliceable,
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray] = to_float,
) -> np.ndarray:
    """(K, H, W) float32: what `predict`, (B, C, h, w) -> (B, K, h, w), says for a picture (H, W, C).

    `prepare` brings a part of the picture to float32 in [0, 1]. Raises OutOfMemoryError as `predict_rows` does.
    """
    return np.concatenate(list(predict_rows(predict, image, tiling, prepare)), axis=1)


def predict_rows(
    predict: Callable[[Tensor], Tensor],
    image: Sliceable,
    tiling: Tiling,
    prepare: Callable[[np.ndarray], np.ndarray] = to_float,
) -> Iterator[np.ndarray]:
    """`predict_tiled` in pieces (K, h, W) from top to bottom, each handed out when it is ready.

    An automatic tile that does not fit into memory is halved, and the picture goes on where it is. Raises
    OutOfMemoryError, naming the sizes tried, where the smallest does not fit, or a tile that was asked for.
    """
    return answer_rows(of_arrays(predict), image, tiling, prepare, torch.cuda.empty_cache)


def of_arrays(predict: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """`predict`, (B, C, h, w) -> (B, K, h, w), for crops (B, h, w, C), with an array for its answer."""

    def answer(crops: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(crops).permute(0, 3, 1, 2)  # B C h w, channels last in memory
        return predict(images).float().cpu().numpy()

    return answer
