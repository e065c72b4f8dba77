"""Charts as inline SVG. Every colour and font comes from the page's style sheet, so a chart follows it into the dark.

A chart is drawn in user units of a viewBox; the page scales it to the column's width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..metrics import Reliability
from .wording import duration

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 42  # margins; below stand two lines: the step, and the time it was reached
MOST_POINTS = 240  # of a line; more can't be told apart at this size
MOST_BARS = 128  # of a bar chart; thinner ones can't be told apart
MOST_MARKS = 60  # up to so many points a line shows each as a dot that names its value


@dataclass(frozen=True)
class Line:
    """One curve: a name, and N points."""

    name: str
    x: np.ndarray  # (N,) float64, rising
    y: np.ndarray  # (N,) float64, finite
    colour: int = 1  # 1..6, a colour of the style sheet


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, and its length."""

    name: str
    value: float  # finite, >= 0
    colour: int = 1  # 1..6, a colour of the style sheet


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    times: tuple[np.ndarray, np.ndarray] | None = None,
    logarithmic: bool = False,
    percent: bool = False,
    best: bool = False,
) -> str:
    """A `<figure>` of curves over training steps; empty without a point to draw.

    `times` are steps and the seconds at which they were reached, told below the axis; `percent` shows 0.53 as 53 %;
    `best` marks the first line's highest point. A logarithmic axis leaves values of 0 and below out.
    """
    lines = [_thinned(line, logarithmic) for line in lines]
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return ""
    every = np.concatenate([line.y for line in lines])
    ticks = _log_ticks(every) if logarithmic else ticks_of(float(every.min()), float(every.max()), 5)
    low, high = _range(every, ticks, logarithmic)
    furthest = max(float(line.x[-1]) for line in lines)
    scale = Scale(furthest, low, high, logarithmic)

    parts = []
    for value in ticks:
        if low <= value <= high:
            y = scale.down(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = f"{100 * value:g}" if percent else _short(value)
            parts.append(text_at(LEFT - 7, y + 4, label, "end"))
    steps = ticks_of(0.0, furthest, 4)
    for step in steps:
        if step <= furthest:
            parts.append(_step_label(scale.across(step), step, times))
    for line in reversed(lines):  # the first is the one that matters: it is drawn last, on top
        parts.append(polyline(line.x, line.y, scale, line.colour))
        if len(line.x) <= MOST_MARKS:
            parts += [_mark(line, x, y, scale, percent) for x, y in zip(line.x, line.y, strict=True)]
    if best:
        parts.append(_best_label(lines[0], scale, percent))
    caption = f"{title}, in %" if percent else title
    legend = legend_of([(line.name, line.colour) for line in lines])
    return framed(caption, _description(title, lines, percent), "".join(parts), HEIGHT, legend)


def sparkline(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> str:
    """A word-sized curve of values in [low, high]; empty with fewer than two. The surrounding text must name it."""
    if len(values) < 2:
        return ""
    x = np.linspace(2, 78, len(values))
    heights = 18 - 16 * (values.clip(low, high) - low) / (high - low)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, heights, strict=True))
    dot = f'<circle class="dot c1" cx="{x[-1]:.1f}" cy="{heights[-1]:.1f}" r="2"/>'
    return (
        '<svg class="spark" viewBox="0 0 80 20" aria-hidden="true">'
        f'<polyline class="line c1" points="{points}"/>{dot}</svg>'
    )


def bar_chart(title: str, bars: Sequence[Bar], unit: str, what: str, names: Sequence[str] = ()) -> str:
    """A `<figure>` of bars side by side, all from 0 upwards, in the order given; empty without any.

    what: the bars stand for, in the plural. names: of the colours 1, 2, … for the legend. Beyond MOST_BARS, neighbours
    are drawn as their mean.
    """
    if not bars:
        return ""
    height = 210  # user units
    shown = [(piece[0], float(np.mean([each.value for each in piece]))) for piece in _pieces(bars, MOST_BARS)]
    ticks = ticks_of(0.0, max((value for _, value in shown), default=0) or 1.0, 4)
    scale = Scale(1.0, 0.0, ticks[-1], bottom=height - 26)
    parts = []
    for value in ticks:
        y = scale.down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(LEFT - 7, y + 4, _short(value), "end"))
    room = (WIDTH - RIGHT - LEFT) / len(shown)
    gap = min(3.0, room / 4)
    for i, (bar, value) in enumerate(shown):
        top = scale.down(value)
        box = f'x="{LEFT + i * room + gap / 2:.2f}" y="{top:.2f}" width="{room - gap:.2f}"'
        told = f"<title>{escape(bar.name)}: {value:.4g} {escape(unit)}</title>" if len(shown) == len(bars) else ""
        parts.append(f'<rect class="column c{bar.colour}" {box} height="{scale.bottom - top:.2f}">{told}</rect>')
    grouped = "" if len(shown) == len(bars) else f", a bar is the mean of about {len(bars) / len(shown):.0f}"
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 8, f"{len(bars):,} {what}{grouped}"))
    values = np.array([each.value for each in bars])
    described = f"{title}: {len(bars)} values from {values.min():.3g} to {values.max():.3g} {unit}."
    legend = legend_of([(name, colour) for colour, name in enumerate(names, start=1)])
    return framed(f"{title}, {unit}", described, "".join(parts), height, legend)


def _pieces(bars: Sequence[Bar], most: int) -> list[list[Bar]]:
    if len(bars) <= most:
        return [[bar] for bar in bars]
    return [[bars[i] for i in piece] for piece in np.array_split(np.arange(len(bars)), most)]


def reliability_chart(
    title: str, curves: Mapping[str, Reliability], what: str = "pixels", axes: tuple[str, str] | None = None
) -> str:
    """A `<figure>`: accuracy over confidence for each named curve, the diagonal where both agree, and below it the
    share of the first curve's answers in each bin.

    what: the answers are, in the plural. axes: what is told, and how often it is so; None: as the curves' kind has it.
    """
    height, plot, strip = 330, 222, 42  # user units: the chart, its plot, and the strip of shares
    scale = Scale(1.0, 0.0, 1.0, bottom=TOP + plot)
    floor = TOP + plot + 8 + strip
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = scale.down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text_at(LEFT - 7, y + 4, f"{100 * value:g}", "end"))
        parts.append(text_at(scale.across(value), floor + 16, f"{100 * value:g}", "end" if value == 1 else "middle"))
    kind = ("probability", "true") if next(iter(curves.values())).overlapping else ("confidence", "right")
    across, down = axes or kind
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 6, f"{across}, in % (bars: where the {what} are)"))
    parts.append(f'<g transform="rotate(-90 14 {TOP + plot / 2})">{text_at(14, TOP + plot / 2, f"{down}, in %")}</g>')
    corners = f'x1="{scale.across(0)}" x2="{scale.across(1)}" y1="{scale.down(0)}" y2="{scale.down(1)}"'
    parts.append(f'<line class="ideal" {corners}/>')
    heard = []
    for number, (name, reliability) in enumerate(curves.items(), start=1):
        said, so, share = (values[reliability.bins[0] > 0] for values in reliability.curve())
        if number == 1:
            for x, part in zip(said, share / share.max(), strict=True):
                at = f"{scale.across(x):.1f}"
                ends = f'x1="{at}" x2="{at}" y1="{floor}" y2="{floor - strip * part:.1f}"'
                parts.append(f'<line class="bar c1" {ends}/>')
        parts.append(polyline(said, so, scale, number))
        for x, y, part in zip(said, so, share, strict=True):
            told = f"{name}: said {100 * x:.1f} %, {down} {100 * y:.1f} %, {100 * part:.3g} % of the answers"
            parts.append(dot(scale.across(x), scale.down(y), number, told))
        pairs = (f"said {100 * x:.0f}, {down} {100 * y:.0f}" for x, y in zip(said, so, strict=True))
        heard.append(f"{name}: {', '.join(pairs)}")
    legend = legend_of([(name, number) for number, name in enumerate(curves, start=1)])
    return framed(title, f"{title}, in percent. {'; '.join(heard)}.", "".join(parts), height, legend)


@dataclass(frozen=True)
class Scale:
    """Values to places in the viewBox: x from 0 to `furthest`, y from `low` to `high`."""

    furthest: float
    low: float
    high: float
    logarithmic: bool = False
    bottom: float = HEIGHT - BOTTOM

    def across(self, x: float) -> float:
        return LEFT + x / (self.furthest or 1) * (WIDTH - RIGHT - LEFT)

    def down(self, y: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        share = ((math.log(y) if self.logarithmic else y) - low) / ((high - low) or 1)
        return self.bottom - share * (self.bottom - TOP)


def _thinned(line: Line, logarithmic: bool) -> Line:
    """At most MOST_POINTS points, each the mean of its neighbours; single steps' losses are noise at this size."""
    x, y = line.x, line.y
    if logarithmic:
        x, y = x[y > 0], y[y > 0]
    if len(x) > MOST_POINTS:
        pieces = np.array_split(np.arange(len(x)), MOST_POINTS)
        x, y = (np.array([values[piece].mean() for piece in pieces]) for values in (x, y))
    return Line(line.name, x, y, line.colour)


def _range(values: np.ndarray, ticks: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    """The axis's ends: the values' own, widened to the ticks around them."""
    low, high = min(float(values.min()), ticks[0]), max(float(values.max()), ticks[-1])
    if low == high:
        return (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    return low, high


def ticks_of(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from at most `low` to at least `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(values: np.ndarray) -> list[float]:
    """1, 2, 5 of each power of ten within the values; over a wide range only some of the powers, at most eight."""
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
    factors = (1, 2, 5) if high - low <= 2 else (1,)
    every = [factor * 10.0**power for power in range(low, high + 1, 1 + (high - low) // 8) for factor in factors]
    within = [tick for tick in every if values.min() <= tick <= values.max()]
    return within or [float(values.min()), float(values.max())]


def _step_label(x: float, step: float, times: tuple[np.ndarray, np.ndarray] | None) -> str:
    floor = HEIGHT - BOTTOM
    if step == 0:
        return text_at(x, floor + 18, "step 0", "start")
    anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
    label = text_at(x, floor + 18, f"{step:,.0f}", anchor)
    if times is None or not len(times[0]):
        return label
    return label + text_at(x, floor + 34, _rounded(float(np.interp(step, *times))), anchor)


def text_at(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def polyline(x: np.ndarray, y: np.ndarray, scale: Scale, colour: int) -> str:
    points = " ".join(f"{scale.across(a):.1f},{scale.down(b):.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="line c{colour}" points="{points}"/>'


def dot(x: float, y: float, colour: int, told: str) -> str:
    return f'<circle class="dot c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(told)}</title></circle>'


def _mark(line: Line, x: float, y: float, scale: Scale, percent: bool) -> str:
    value = f"{100 * y:.1f} %" if percent else f"{y:.4g}"
    return dot(scale.across(x), scale.down(y), line.colour, f"{line.name}, step {x:,.0f}: {value}")


def _best_label(line: Line, scale: Scale, percent: bool) -> str:
    at = int(line.y.argmax())
    x, y = scale.across(line.x[at]), scale.down(line.y[at])
    value = f"{100 * line.y[at]:.1f}" if percent else f"{line.y[at]:.3g}"
    anchor = "end" if x > WIDTH / 2 else "start"
    below = y + 22 if y < TOP + 20 else y - 10
    return (
        f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text class="note" x="{x:.1f}" y="{below:.1f}" text-anchor="{anchor}">best {value}</text>'
    )


def legend_of(names: Sequence[tuple[str, int]]) -> str:
    """The lines' names and colours; empty where there is but one."""
    if len(names) < 2:
        return ""
    keys = "".join(f'<span class="key"><i class="c{colour}"></i>{escape(name)}</span>' for name, colour in names)
    return f'<span class="legend">{keys}</span>'


def framed(caption: str, description: str, body: str, height: int, legend: str) -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(caption)}{legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">{body}</svg></figure>'
    )


def _description(title: str, lines: Sequence[Line], percent: bool) -> str:
    """What the chart shows, for those who can't see it."""
    factor, unit = (100, " %") if percent else (1, "")
    told = [
        f"{line.name} from {factor * line.y[0]:.3g}{unit} at step {line.x[0]:,.0f} "
        f"to {factor * line.y[-1]:.3g}{unit} at step {line.x[-1]:,.0f}"
        for line in lines
    ]
    return f"{title}: {'; '.join(told)}."


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-4 else f"{value:.6g}"


def _rounded(seconds: float) -> str:
    """A duration to one unit: it is read between two ticks, not to the second."""
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 9.5 * length else f"{seconds / length:.0f} {unit}"
    return duration(seconds)
