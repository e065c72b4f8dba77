"""What the data doctor measures on the objects of one picture: their sizes, separate parts, holes and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects

from .object_masks import Layered
from .shapes import Drawing, Shape

PART = 0.1  # of an object's area: a separate piece with more is a part, one with less a stray speck
SHAPED = 16  # pixels: the shape of anything smaller says nothing
OUTSIDE = 1.0  # pixels that a point may lie beyond the picture's edge, since programs round


@dataclass(frozen=True)
class ObjectFacts:
    """N objects of one picture."""

    found: Layered
    areas: np.ndarray  # (N,) int64, pixels
    parts: np.ndarray  # (N,) int64: separate pieces, of which each has more than a tenth of the object
    holes: np.ndarray  # (N,) bool: background is enclosed in the object
    convexities: np.ndarray  # (N,) float64: area over that of the convex hull, in (0, 1]; NaN for the smallest
    outside: tuple[str, ...] = ()  # names of the shapes whose box or points are outside of the picture


def object_facts(found: Layered, drawing: Drawing | None) -> ObjectFacts:
    """What is to be known of the objects of a picture; `drawing`: the outlines they are from, if they are from any."""
    label_image = found.instances.label_image
    boxes = find_objects(np.maximum(label_image, 0), len(found.instances))
    measured = [_measured(label_image[box], number) for number, box in enumerate(boxes, start=1)]
    areas, parts, holes, convexities = (
        (list(column) for column in zip(*measured, strict=True)) if measured else [()] * 4
    )
    outside = [] if drawing is None else [shape.name for shape in drawing.shapes if _is_outside(shape, drawing)]
    return ObjectFacts(
        found,
        np.array(areas, np.int64),
        np.array(parts, np.int64),
        np.array(holes, bool),
        np.array(convexities, np.float64),
        tuple(outside),
    )


def _measured(window: np.ndarray, number: int) -> tuple[int, int, bool, float]:
    """Area, parts, whether there is a hole, and convexity of the object in its box (h, w)."""
    inside = np.zeros((window.shape[0] + 2, window.shape[1] + 2), np.uint8)  # np.pad takes longer than all the rest
    inside[1:-1, 1:-1] = window == number
    _, _, statistics, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    pieces = statistics[1:, cv2.CC_STAT_AREA]
    area = int(pieces.sum())
    outlines, levels = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    inner = [outline for outline, level in zip(outlines, levels[0], strict=True) if level[3] >= 0]
    hole = any(_enclosed(inside, outline, np.pad(window == 0, 1)) for outline in inner)
    if area < SHAPED:
        return area, int((pieces > PART * area).sum()), hole, np.nan
    points = np.concatenate([outline for outline, level in zip(outlines, levels[0], strict=True) if level[3] < 0])
    hull = cv2.convexHull(points)
    covered = np.zeros_like(inside)
    cv2.fillConvexPoly(covered, hull, 1)
    return area, int((pieces > PART * area).sum()), hole, area / max(area, int(covered.sum()))


def _enclosed(inside: np.ndarray, outline: np.ndarray, clear: np.ndarray) -> bool:
    """Whether there is background within an inner outline, and not only another object."""
    filled = np.zeros_like(inside)
    cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED)
    return bool((clear & (filled > 0) & (inside == 0)).any())


def _is_outside(shape: Shape, drawing: Drawing) -> bool:
    """Whether a box or a point of a shape lies outside of the picture; shares of it were looked at when read."""
    if drawing.size is None:
        return False
    height, width = drawing.size
    points = list(shape.rings)
    if shape.box is not None:
        left, top, wide, high = shape.box
        points.append(np.array([[left, top], [left + wide, top + high]]))
    limit = np.array([width, height]) + OUTSIDE
    return any(bool((each < -OUTSIDE).any() or (each > limit).any()) for each in points)
