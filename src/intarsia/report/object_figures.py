"""Charts of the report on objects: scores over thresholds of the IoU, and counts of pictures beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .figures import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_MARKS,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    dot,
    framed,
    legend_of,
    polyline,
    text_at,
    ticks_of,
)

MOST_PICTURES = 600  # in a scatter; of more, evenly chosen ones are drawn
COLOURS = 6  # of the style sheet


def threshold_chart(title: str, thresholds: Sequence[float], curves: Mapping[str, Sequence[float]]) -> str:
    """A `<figure>` of scores in percent over rising thresholds of the IoU, a curve each; those with NaN are left out.
    Empty without any."""
    kept = {name: np.asarray(values) for name, values in curves.items() if np.isfinite(values).all() and len(values)}
    kept = dict(list(kept.items())[:COLOURS])
    if not kept or len(thresholds) < 2:
        return ""
    low, high = thresholds[0], thresholds[-1]
    places = np.asarray(thresholds, np.float64) - low
    scale = Scale(high - low, 0.0, 1.0)
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = scale.down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(LEFT - 7, y + 4, f"{100 * value:g}", "end"))
    for place, threshold in zip(places, thresholds, strict=True):
        anchor = "end" if threshold == high else "middle"
        parts.append(text_at(scale.across(place), HEIGHT - BOTTOM + 18, f"{threshold:.2f}".rstrip("0"), anchor))
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "IoU from which two objects are a pair"))
    heard = []
    for number, (name, values) in reversed(list(enumerate(kept.items(), start=1))):
        parts.append(polyline(places, values, scale, number))
        for place, threshold, value in zip(places, thresholds, values, strict=True):
            told = f"{name}, IoU {threshold:g}: {100 * value:.1f} %"
            parts.append(dot(scale.across(place), scale.down(value), number, told))
        heard.append(f"{name} from {100 * values[0]:.1f} at {low:g} to {100 * values[-1]:.1f} at {high:g}")
    legend = legend_of([(name, number) for number, name in enumerate(kept, start=1)])
    described = f"{title} in percent over thresholds of the IoU: {'; '.join(reversed(heard))}."
    return framed(f"{title}, in %", described, "".join(parts), HEIGHT, legend)


def count_chart(title: str, counts: Sequence[tuple[str, int, int]]) -> str:
    """A `<figure>` with a dot for each picture (name, true objects, predicted ones), and the diagonal where both agree;
    empty without a picture."""
    if not counts:
        return ""
    chosen = np.linspace(0, len(counts) - 1, min(len(counts), MOST_PICTURES)).round().astype(int)
    shown = [counts[i] for i in np.unique(chosen)]
    furthest = max(1, max(max(true, found) for _, true, found in shown))
    ticks = [value for value in ticks_of(0.0, float(furthest), 4) if value == round(value)]
    top = max(ticks[-1], furthest)
    scale = Scale(top, 0.0, top)
    parts = []
    for value in ticks:
        y = scale.down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(LEFT - 7, y + 4, f"{value:,.0f}", "end"))
        anchor = "end" if value == top and value else "middle"
        parts.append(text_at(scale.across(value), HEIGHT - BOTTOM + 18, f"{value:,.0f}", anchor))
    middle = TOP + (HEIGHT - BOTTOM - TOP) / 2
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "objects in the truth (a dot is a picture)"))
    parts.append(f'<g transform="rotate(-90 12 {middle})">{text_at(12, middle, "objects found")}</g>')
    corners = f'x1="{scale.across(0)}" x2="{scale.across(top)}" y1="{scale.down(0)}" y2="{scale.down(top)}"'
    parts.append(f'<line class="ideal" {corners}/>')
    for name, true, found in shown:
        told = f"{name}: {found:,} found of {true:,}" if len(shown) <= 4 * MOST_MARKS else ""
        parts.append(dot(scale.across(true), scale.down(found), 1, told))
    true, found = (sum(each) for each in list(zip(*counts, strict=True))[1:])
    described = f"{title}: {len(counts)} pictures with {true} true objects, {found} found in all."
    return framed(title, described, "".join(parts), HEIGHT, "")
