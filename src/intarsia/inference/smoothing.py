"""Temporal smoothing: the probabilities of a film's frame, and what is remembered of the frames before.

Exponential: s(t) = (1 - w) p(t) + w s(t - d) with w = exp(-d / memory), for frames d seconds apart: the first-order
low-pass filter, whatever the frame rate. What moves gets a trail.

Flow: the same with the past moved to where optical flow says it is now (T. Kroeger, R. Timofte, D. Dai, L. Van Gool,
"Fast Optical Flow using Dense Inverse Search", ECCV 2016, https://arxiv.org/abs/1603.03590, OpenCV's), and forgotten
where the past picture, moved alike, does not look like the present one: w is multiplied by exp(-(r / tolerance)²), r
being the difference. After a cut all is forgotten.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..metrics.flicker import enlarged, grey_of, moved, within
from ..records import Image

Kind = Literal["none", "exponential", "flow"]
_CUT = 0.4  # mean trust below which two frames are of different scenes
_FORGOTTEN = math.log(65535)  # memories after which a frame weighs less than a step of 16 bits


class SmoothingConfig(BaseModel):
    """How the frames of a film are made to agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "none"
    memory: float = Field(0.1, gt=0, allow_inf_nan=False)  # seconds in which a frame's weight falls to 1/e
    tolerance: float = Field(0.08, gt=0)  # of brightness in [0, 1]; more trusts the flow more
    side: int = Field(384, ge=40)  # pixels of the longer side on which the flow is computed

    @property
    def settling(self) -> float:
        """Seconds after which a frame no longer shows in the answers; 0 where none does."""
        return 0.0 if self.kind == "none" else _FORGOTTEN * self.memory


class Smoother:
    """Smooths one film: `smoother(image, probabilities, seconds)` for each of its frames, in their order."""

    def __init__(self, config: SmoothingConfig) -> None:
        self.config = config
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST) if config.kind == "flow" else None
        self.reset()

    def reset(self) -> None:
        """Forget all frames, as for another film."""
        self._past: np.ndarray | None = None  # (K, H, W) float32
        self._grey: np.ndarray | None = None  # (h, w) uint8
        self._seconds = 0.0

    def __call__(self, image: Image, probabilities: np.ndarray, seconds: float) -> np.ndarray:
        """(K, H, W) float32 in [0, 1], summing to 1 where `probabilities` (K, H, W) do.

        image: the frame (H, W, C). seconds: its time; what is earlier than the frame before, or of another size, begins
        anew.
        """
        if self.config.kind == "none":
            return probabilities
        past, apart = self._past, seconds - self._seconds
        grey, before = grey_of(image, self.config.side) if self._dis else None, self._grey
        self._grey, self._seconds = grey, seconds
        if past is None or past.shape != probabilities.shape or apart < 0:
            self._past = probabilities.astype(np.float32, copy=True)
            return self._past.copy()
        weight: np.ndarray | float = math.exp(-apart / self.config.memory)
        if grey is not None and before is not None:
            flow, trust = self._motion(grey, before, (past.shape[1], past.shape[2]))
            past = np.stack([moved(plane, flow) for plane in past])
            weight = trust * np.float32(weight)  # H W
        self._past = probabilities + weight * (past - probabilities)
        self._past = self._past.astype(np.float32, copy=False)
        return self._past.copy()

    def _motion(self, now: np.ndarray, before: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Where each point of the picture was (H, W, 2), and how far that can be believed (H, W) in [0, 1]."""
        assert self._dis is not None
        flow = np.asarray(self._dis.calc(now, before, np.zeros((*now.shape, 2), np.float32)), np.float32)  # h w 2
        there = cv2.blur(moved(before, flow), (3, 3)).astype(np.float32)
        difference = (cv2.blur(now, (3, 3)).astype(np.float32) - there) / 255
        trust = np.exp(-np.square(difference / self.config.tolerance)) * within(flow)
        if trust.mean() < _CUT:
            trust[:] = 0
        height, width = size
        trust = cv2.resize(trust.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return enlarged(flow, size), trust
