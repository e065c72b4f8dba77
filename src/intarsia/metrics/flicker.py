"""Does the answer for a film flicker? And how much of an object is found, frame by frame?

Flicker: of the points that optical flow can follow from one frame to the next, the share whose class changes.

The flow is Farnebäck's ("Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003), another one than that
by which `inference/smoothing.py` smooths, so that a filter is not judged by its own idea of the motion. J is the region
similarity of F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016, section 4.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..records import Image
from .scores import Score

ROUND_TRIP = 1.0  # pixels of the flow's own grid between a point and where it comes back to, at most
SAME_LIGHT = 0.06  # of the range of brightness between a point's two pictures, at most
_SQUARE = np.ones((3, 3), np.uint8)
_SMALLEST = 40  # pixels a side; below 32 OpenCV's DIS may crash, so smaller pictures are enlarged


def grey_of(image: Image, side: int) -> np.ndarray:
    """(h, w) uint8: a picture's brightness, no side above `side` pixels, nor below what optical flow needs."""
    colours = image[..., :3]
    if image.dtype == np.uint8 and colours.shape[2] == 3:
        grey = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)
    else:
        white = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1)
        grey = np.rint(colours.astype(np.float32).mean(axis=2) * (255 / white)).astype(np.uint8)
    height, width = grey.shape
    scale = min(1.0, side / max(height, width))
    size = tuple(max(_SMALLEST, round(each * scale)) for each in (width, height))
    return grey if size == (width, height) else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def moved(values: np.ndarray, flow: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """`values` (H, W) fetched from where each point was: at its place + flow (H, W, 2), outside that of the border."""
    return cv2.remap(values, *places(flow), interpolation, borderMode=cv2.BORDER_REPLICATE)


def places(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns and the rows (H, W) float32 that a flow (H, W, 2) points to."""
    height, width = flow.shape[:2]
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return columns, rows


def enlarged(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A flow (h, w, 2) for a picture of `size` (H, W), in the pixels of that picture."""
    height, width = size
    if flow.shape[:2] == size:
        return flow
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale


def within(flow: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a flow (H, W, 2) points into the picture, half a pixel around its outermost centres."""
    columns, rows = places(flow)
    return (columns >= -0.5) & (columns < flow.shape[1] - 0.5) & (rows >= -0.5) & (rows < flow.shape[0] - 0.5)


def followed(now: Image, before: Image, side: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """Where each point of a frame was in the frame before, and which points that is sure of.

    now, before: (H, W, C) as in `records`. side: the flow is computed on pictures of at most so many pixels a side.
    Returns (H, W, 2) float32, (x, y) pixels from a point to where it was, and (H, W) bool: the way there and back ends
    within ROUND_TRIP, the brightness is within SAME_LIGHT, and it was in the picture.
    """
    pictures = grey_of(now, side), grey_of(before, side)
    back, forth = _farneback(*pictures), _farneback(*pictures[::-1])
    returned = np.stack([moved(np.ascontiguousarray(forth[..., i]), back) for i in range(2)], axis=2) + back
    there = cv2.blur(moved(pictures[1], back), (3, 3)).astype(np.int16)
    difference = np.abs(cv2.blur(pictures[0], (3, 3)).astype(np.int16) - there)
    sure = (np.hypot(*np.moveaxis(returned, 2, 0)) <= ROUND_TRIP) & (difference <= 255 * SAME_LIGHT) & within(back)
    height, width = now.shape[:2]
    sure = cv2.resize(sure.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return enlarged(back, (height, width)), sure.astype(bool)


def jaccard(true: np.ndarray, predicted: np.ndarray) -> float:
    """Intersection over union of two regions (H, W) bool in [0, 1], the J of one frame; 1 where both are empty."""
    union = np.count_nonzero(true | predicted)
    return np.count_nonzero(true & predicted) / union if union else 1.0


class FlickerScore:
    """Pooled counts of the points that could be followed from frame to frame, and of those whose class changed."""

    DEFINITION = (
        "the share of the points whose class is not found, in the frame before, within a pixel of where they were; of "
        f"all points that optical flow follows there and back within {ROUND_TRIP:g} pixel at the same brightness"
    )

    def __init__(self, points: int = 0, changed: int = 0) -> None:
        self.points, self.changed = points, changed

    def add(self, mask: np.ndarray, before: np.ndarray, flow: np.ndarray, sure: np.ndarray) -> None:
        """Count a frame's mask (H, W) and that of the frame before, with what `followed` says of the two pictures.

        A class within a pixel of a point's old place counts as the same: outlines are drawn in whole pixels, and the
        flow is not exact to one.
        """
        same = np.zeros(mask.shape, bool)
        for k in np.unique(mask):
            near = cv2.dilate((before == k).astype(np.uint8), _SQUARE)
            same |= (mask == k) & (moved(near, flow, cv2.INTER_NEAREST) == 1)
        self.points += int(np.count_nonzero(sure))
        self.changed += int(np.count_nonzero(sure & ~same))

    def __add__(self, other: FlickerScore) -> FlickerScore:
        """The counts of both one's films."""
        return FlickerScore(self.points + other.points, self.changed + other.changed)

    @property
    def share(self) -> float:
        """In [0, 1], 0 where nothing flickers; NaN where no point could be followed."""
        return self.changed / self.points if self.points else math.nan

    def scores(self) -> tuple[Score, ...]:
        return (Score("flicker", self.share, self.DEFINITION),)


def _farneback(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(h, w, 2): what to add to a place in `now` to find it in `before`."""
    start = np.zeros((*now.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(now, before, start, 0.5, 4, 15, 3, 5, 1.1, 0), np.float32)
