"""Charts of a comparison, in the report's style: scores against labels, and gains with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..report.figures import LEFT, RIGHT, TOP, WIDTH, framed, legend_of, text_at, ticks_of
from .statistics import Interval

HEIGHT, BOTTOM = 270, 44  # user units; below the plot: the numbers, and what they are
ROW = 22  # of a gain
NAMES = 190  # room for the methods' names, left of the gains


@dataclass(frozen=True)
class Curve:
    """A method's scores: for each number of labels the mean, the lowest and the highest over seeds."""

    name: str
    labels: Sequence[int]  # rising
    scores: Sequence[tuple[float, float, float]]
    colour: int  # 1..6, of the style sheet


def score_chart(title: str, curves: Sequence[Curve]) -> str:
    """A `<figure>` of scores in percent over labels on a logarithmic axis, a stroke from the lowest to the highest
    seed; empty without a point."""
    curves = [curve for curve in curves if len(curve.labels)]
    if not curves:
        return ""
    counts = sorted({k for curve in curves for k in curve.labels})
    values = [value for curve in curves for score in curve.scores for value in score]
    ticks = ticks_of(min(values), max(values), 5)
    low, high = min(*values, ticks[0]), max(*values, ticks[-1])
    span = (high - low) or 1.0
    floor, furthest = HEIGHT - BOTTOM, math.log(counts[-1] / counts[0]) or 1.0

    def across(labels: int) -> float:
        inner = WIDTH - RIGHT - LEFT - 24
        return LEFT + 12 + math.log(labels / counts[0]) / furthest * inner

    def down(score: float) -> float:
        return floor - (score - low) / span * (floor - TOP)

    parts = []
    for value in ticks:
        y = down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(LEFT - 7, y + 4, f"{100 * value:g}", "end"))
    parts += [text_at(across(k), floor + 18, str(k)) for k in counts]
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "labelled pictures"))
    for number, curve in reversed(list(enumerate(curves))):
        aside = (number - (len(curves) - 1) / 2) * min(5.0, 24 / len(curves))  # so that strokes do not cover each other
        points = [(across(k) + aside, *map(down, score)) for k, score in zip(curve.labels, curve.scores, strict=True)]
        line = " ".join(f"{x:.1f},{mean:.1f}" for x, mean, _, _ in points)
        parts.append(f'<polyline class="line c{curve.colour}" points="{line}"/>')
        for (x, mean, lowest, highest), k, score in zip(points, curve.labels, curve.scores, strict=True):
            ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{lowest:.1f}" y2="{highest:.1f}"'
            told = (
                f"{curve.name}, {k} labels: {100 * score[0]:.1f} %, seeds {100 * score[1]:.1f} to {100 * score[2]:.1f}"
            )
            parts.append(f'<line class="line c{curve.colour}" {ends}/>')
            dot = f'<circle class="dot c{curve.colour}" cx="{x:.1f}" cy="{mean:.1f}" r="3.2">'
            parts.append(f"{dot}<title>{escape(told)}</title></circle>")
    heard = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{100 * s[0]:.1f} with {k}" for k, s in zip(curve.labels, curve.scores, strict=True))
        for curve in curves
    )
    legend = legend_of([(curve.name, curve.colour) for curve in curves])
    return framed(
        f"{title}, in %", f"{title} in percent over labelled pictures. {heard}.", "".join(parts), HEIGHT, legend
    )


def gain_chart(title: str, gains: Sequence[tuple[str, Interval, str]]) -> str:
    """A `<figure>` with a row for each gain (name, interval, verdict), in points, and a line at 0; empty without."""
    gains = [each for each in gains if math.isfinite(each[1].mean)]
    if not gains:
        return ""
    height = TOP + ROW * len(gains) + 34
    ends = [end for _, gain, _ in gains for end in (gain.low, gain.mean, gain.high) if math.isfinite(end)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    low, high = (low - 0.01, high + 0.01) if high - low < 0.02 else (low, high)
    ticks = ticks_of(low, high, 4)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def across(gain: float) -> float:
        return NAMES + (gain - low) / (high - low) * (WIDTH - RIGHT - 8 - NAMES)

    floor = TOP + ROW * len(gains)
    parts = []
    for value in ticks:
        x = across(value)
        kind = "ideal" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{floor}"/>')
        parts.append(text_at(x, floor + 18, f"{100 * value:+g}" if value else "0"))
    colours = {"helps": 1, "hurts": 2}
    heard = []
    for number, (name, gain, said) in enumerate(gains):
        y, colour = TOP + ROW * (number + 0.5), colours.get(said, 6)
        parts.append(text_at(NAMES - 10, y + 4, name if len(name) <= 28 else f"{name[:27]}…", "end"))
        told = f"{name}: {100 * gain.mean:+.1f} points"
        if gain.known:
            told += f", {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
            stretch = f'x1="{across(gain.low):.1f}" x2="{across(gain.high):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="line c{colour}" {stretch}/>')
        dot = f'<circle class="dot c{colour}" cx="{across(gain.mean):.1f}" cy="{y}" r="4">'
        parts.append(f"{dot}<title>{escape(f'{told} ({said})')}</title></circle>")
        heard.append(f"{told}, {said}")
    described = f"{title}: {'; '.join(heard)}."
    return framed(f"{title}, in points", described, "".join(parts), height, "")
