"""Smoothing on films whose truth is drawn: it stills noise, and follows what moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from intarsia.inference.smoothing import Kind, Smoother, SmoothingConfig
from intarsia.metrics.flicker import FlickerScore, followed, jaccard

HEIGHT, WIDTH, SIDE, FRAMES = 48, 96, 20, 14
TEXTURE = np.random.default_rng(5).integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8)
SKIN = np.random.default_rng(6).integers(0, 255, (SIDE // 2, SIDE // 2, 3)).astype(np.uint8).repeat(2, 0).repeat(2, 1)


def scene(step: int, speed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a square that has moved `speed` pixels a step, and where it is (H, W) bool."""
    image, mask = TEXTURE // 4 + 90, np.zeros((HEIGHT, WIDTH), bool)
    left = 6 + speed * step
    image[14 : 14 + SIDE, left : left + SIDE] = SKIN
    mask[14 : 14 + SIDE, left : left + SIDE] = True
    return image, mask


def film(kind: Kind, speed: int, noise: float, memory: float = 0.1) -> tuple[float, float]:
    """The flicker and the mean J of what smoothing makes of noisy probabilities, frames being 0.04 s apart."""
    generator = np.random.default_rng(0)
    smoother = Smoother(SmoothingConfig(kind=kind, memory=memory))
    flicker, similar, last = FlickerScore(), [], None
    for step in range(FRAMES):
        image, mask = scene(step, speed)
        foreground = np.clip(0.5 + 0.25 * (2 * mask - 1) + noise * generator.standard_normal(mask.shape), 0, 1)
        answer = smoother(image, np.stack([1 - foreground, foreground]).astype(np.float32), step * 0.04)
        predicted = answer.argmax(axis=0)
        similar.append(jaccard(mask, predicted == 1))
        if last is not None:
            flicker.add(predicted, last[1], *followed(image, last[0]))
        last = image, predicted
    return flicker.share, float(np.mean(similar[3:]))


def test_a_still_scene_stops_flickering() -> None:
    plain, exponential, flow = (film(kind, 0, 0.14) for kind in ("none", "exponential", "flow"))
    assert plain[0] > 0.02
    assert exponential[0] < plain[0] / 3 and flow[0] < plain[0] / 3
    assert exponential[1] > plain[1] + 0.1 and flow[1] > plain[1] + 0.1


def test_what_moves_gets_a_trail_unless_it_is_followed() -> None:
    plain, exponential, flow = (film(kind, 3, 0.0, memory=0.3)[1] for kind in ("none", "exponential", "flow"))
    assert plain == 1
    assert exponential < 0.75
    assert flow > exponential + 0.15


def test_a_cut_is_forgotten_by_flow() -> None:
    smoother = Smoother(SmoothingConfig(kind="flow", memory=1.0))
    dark, light = np.full((32, 40, 3), 20, np.uint8), np.full((32, 40, 3), 220, np.uint8)
    first = np.zeros((2, 32, 40), np.float32)
    first[0] = 1
    for step in range(4):
        smoother(dark, first, step * 0.04)
    assert np.array_equal(smoother(light, first[::-1].copy(), 0.16), first[::-1])


def test_none_changes_nothing_and_a_new_film_begins_anew() -> None:
    image, _ = scene(0)
    p = np.random.default_rng(0).random((3, HEIGHT, WIDTH)).astype(np.float32)
    assert Smoother(SmoothingConfig())(image, p, 0) is p
    smoother = Smoother(SmoothingConfig(kind="exponential"))
    assert np.array_equal(smoother(image, p, 7.0), p)
    assert not np.array_equal(smoother(image, p[::-1].copy(), 7.04), p[::-1])
    assert np.array_equal(smoother(image, p[::-1].copy(), 0.0), p[::-1])  # earlier: another film
    smoother.reset()
    assert np.array_equal(smoother(image, p, 0.04), p)


@settings(max_examples=15, deadline=None)
@given(apart=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6), kind=st.sampled_from(["exponential", "flow"]))
def test_probabilities_stay_probabilities_at_any_rate(apart: list[float], kind: Kind) -> None:
    generator, smoother, now = np.random.default_rng(0), Smoother(SmoothingConfig(kind=kind)), 0.0
    for step, each in enumerate(apart):
        raw = generator.random((3, HEIGHT, WIDTH)).astype(np.float32)
        answer = smoother(scene(step, 2)[0], raw / raw.sum(axis=0), now)
        assert answer.min() >= -1e-6 and np.allclose(answer.sum(axis=0), 1, atol=1e-5)
        now += each


def test_the_memory_is_of_time_and_not_of_frames() -> None:
    """A constant input after a step: the rest of the old is exp(-time / memory), in one interval or in many."""
    image, _ = scene(0)
    zeros, ones = np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)
    for steps in (1, 5):
        smoother = Smoother(SmoothingConfig(kind="exponential", memory=0.2))
        smoother(image[:8, :8], zeros, 0.0)
        for step in range(1, steps + 1):
            answer = smoother(image[:8, :8], ones, 0.3 * step / steps)
        assert np.allclose(1 - answer, np.exp(-0.3 / 0.2), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (13, 12)])
def test_any_size(size: tuple[int, int]) -> None:
    smoother = Smoother(SmoothingConfig(kind="flow"))
    for step in range(3):
        answer = smoother(np.zeros((*size, 1), np.uint16), np.full((2, *size), 0.5, np.float32), step)
        assert answer.shape == (2, *size) and np.allclose(answer, 0.5)


def test_nonsense_is_refused() -> None:
    for wrong in ({"memory": 0}, {"tolerance": -1}, {"side": 3}, {"kind": "median"}, {"speed": 1}):
        with pytest.raises(ValidationError):
            SmoothingConfig(**wrong)  # type: ignore[arg-type]
