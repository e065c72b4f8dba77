"""GrowCut: labels that conquer the picture from a few seeds.

V. Vezhnevets, V. Konouchine, "GrowCut: Interactive Multi-Label N-D Image Segmentation by Cellular Automata", 2005,
www.graphicon.ru/oldgr/en/publications/text/gc2005vk.pdf. In the paper each pixel p holds a label and a strength in
[0, 1], and in each step is attacked by its neighbours q: where g(|C_p - C_q|) * strength_q > strength_p, it takes over
q's label and that strength (section 2, the automaton's rule).

Where we differ:
- The automaton is not run. Where it ends, a pixel's strength is the largest product of g along any way from a seed,
  times that seed's strength, and its label is that seed's. With -log g as the length of a step that is a shortest way,
  which Dijkstra's algorithm finds for all pixels at once. `benchmarks/grow_cut.py` measures what that saves.
- g(x) = 1 - (1 - leak) x / largest, where `largest` is the distance between the corners of the picture's own range of
  colours, so any kind of number and any number of channels will do. The paper divides by the largest norm of a colour,
  and has no leak: there the greatest contrast is a wall, and what it encloses may stay without label.
- No limit on how many enemies a pixel may have (section 3 of the paper, to smooth borders).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from ..errors import DataError
from .graphs import STEP, PixelGraph, nearest_seeds, pixel_graph
from .pictures import ClassicalConfig, checked_picture, checked_seeds, smoothed

ROUNDING = 1e-12  # of the greatest contrast


class GrowCutConfig(ClassicalConfig):
    """Settings of `grow_cut`."""

    neighbours: Literal[4, 8] = 8  # of a pixel: those beside it, or those at its corners too
    leak: float = Field(1e-3, ge=0, lt=1)  # share of strength that crosses the greatest contrast; 0 = a wall
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # pixels: sigma of the blur before; 0 = none


@dataclass(frozen=True)
class Conquest:
    """Where GrowCut's automaton comes to rest."""

    labels: np.ndarray  # (H, W) int32; 0: no label got there
    strengths: np.ndarray  # (H, W) float64 in [0, 1]: how safe the label is; 0 where there is none


def grow_cut(image: np.ndarray, seeds: np.ndarray, config: GrowCutConfig | None = None) -> np.ndarray:
    """(H, W) int32: the label of the seed that conquers each pixel; 0 where none gets to, which only `leak = 0` allows.

    image: (H, W) or (H, W, C), any kind of number. seeds: (H, W), 0 where nobody knows, else a label 1, 2, …; all of
    strength 1, so they keep their labels. Raises DataError for what is no picture, and for seeds of another size or
    without any label.

    The answer is that of the automaton run to its end. Ties: of seeds whose attack is equally strong, the automaton
    gives a pixel to the first to arrive, and so do we, to the one with fewer steps; where the steps are equal too, it
    is left to the order of the computation, which is the same each time. Memory: about 250 bytes a pixel.
    """
    return conquer(image, seeds, None, config).labels


def conquer(
    image: np.ndarray, seeds: np.ndarray, strengths: np.ndarray | None = None, config: GrowCutConfig | None = None
) -> Conquest:
    """Labels and strengths as GrowCut's automaton leaves them.

    As `grow_cut`, with strengths: (H, W) in [0, 1], the strength that each seed begins with, None for 1. A seed weaker
    than 1 may be conquered. Raises DataError for strengths of another size or range.
    """
    config = config or GrowCutConfig()
    picture = checked_picture(image)
    size = picture.shape[:2]
    labels = checked_seeds(seeds, size)
    start = None
    if strengths is not None:
        given = np.asarray(strengths, dtype=np.float64)
        if given.shape != size or not ((given >= 0) & (given <= 1)).all():
            raise DataError(
                f"strengths are one number in [0, 1] for each of the picture's {size[0]} x {size[1]} pixels, but the "
                f"array is {given.shape} and reaches from {given.min():g} to {given.max():g}."
            )
        with np.errstate(divide="ignore"):
            start = -np.log(given).ravel()  # inf where the strength is 0: such a seed attacks nobody
    found, lengths = nearest_seeds(attacks(picture, config), labels.ravel(), start)
    return Conquest(found.reshape(size), np.exp(-lengths).reshape(size))


def attacks(picture: np.ndarray, config: GrowCutConfig) -> PixelGraph:
    """The graph whose edges are -log g between neighbours of a picture (H, W, C)."""
    values = smoothed(picture.astype(np.float64), config.smooth)
    largest = float(np.linalg.norm(np.ptp(values, axis=(0, 1)))) or 1.0

    def weigh(distances: np.ndarray) -> np.ndarray:
        share = distances * ((1 - config.leak) / largest)
        share[share > 1 - ROUNDING] = 1  # a wall is one whatever the last bit says
        with np.errstate(divide="ignore"):
            return np.asarray(STEP - np.log1p(-share))  # -log g(x)

    return pixel_graph(values, weigh, config.neighbours)
