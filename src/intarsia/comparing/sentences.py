"""What a comparison found, in words: first what helps, and as plainly what does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..report.wording import duration
from .methods import CONTROL, EQUAL_TIME, Method
from .statistics import Interval
from .verdicts import Cell, Gain, Judgement


def points(value: float, digits: int = 1) -> str:
    """0.0321 as "+3.2"."""
    return "n/a" if math.isnan(value) else f"{100 * value:+.{digits}f}"


def with_interval(interval: Interval) -> str:
    """ "+3.2 points [+1.0, +5.4]"."""
    ends = f" [{points(interval.low)}, {points(interval.high)}]" if interval.known else ""
    return f"{points(interval.mean)} points{ends}"


def on_method(method: str, judgement: Judgement) -> str:
    """A few sentences on one method: where it helps, from how many labels on it does not, what that is worth."""
    cells = [cell for cell in (judgement.cell(method, k) for k in judgement.labels) if cell and cell.gain]
    if not cells:
        failed = [each for each in judgement.failures if each.job.method == method]
        return f"{method} could not be compared: {failed[0].failure}" if failed else f"{method} was not compared."
    told = [f"{method} {_where(cells, method)}."]
    if any(_gain(cell).verdict == "helps" for cell in cells):
        told.append(_stop(method, judgement, len(cells)))
        told += [_worth(cell, judgement) for cell in cells if _gain(cell).verdict == "helps"][:1]
    told.append(_at_equal_time(cells))
    count = sum(each.job.method == method for each in judgement.failures)
    told.append(f"{count} of its trainings failed." if count else "")
    return " ".join(each for each in told if each)


def on_all(judgement: Judgement, methods: Mapping[str, Method], seeds: int) -> list[str]:
    """The sentences to begin with: what to do at each number of labels, and how far that can be trusted."""
    told = []
    for labels in judgement.labels:
        ranked = judgement.ranked(labels)
        if not ranked:
            continue
        best, count = ranked[0], f"{labels} label{'s' * (labels != 1)}"
        if _gain(best).verdict == "helps":
            told.append(f"With {count}, {best.method} helps most: {with_interval(_gain(best).interval)}.")
        elif all(_gain(cell).verdict in ("does not help", "hurts") for cell in ranked):
            told.append(f"With {count}, nothing helps.")
        else:
            told.append(
                f"With {count}, nothing is sure to help; the largest difference is "
                f"{best.method}'s, {with_interval(_gain(best).interval)}."
            )
    pairs = sum(1 for cell in judgement.cells.values() if cell.gain and cell.method != EQUAL_TIME)
    if pairs >= 10:
        told.append(
            f"Of {pairs} comparisons, about {pairs * 0.025:.1f} would seem to help by chance alone if none did."
        )
    if seeds == 1:
        told.append("With one seed, intervals cover which pictures were judged, and not the chance of training.")
    elif seeds == 2:
        told.append("With two seeds, intervals are wide: three or more tell more.")
    return told


def best_at(labels: int, judgement: Judgement) -> Cell | None:
    """The method to take with so many labels: that with the largest gain of those that help, unless the control that
    trains as long is surely better than it. None: the control."""
    for cell in judgement.ranked(labels):
        if _gain(cell).verdict == "helps" and not (cell.equal_time and cell.equal_time.verdict == "hurts"):
            return cell
    return None


def advice(judgement: Judgement, methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """For `plan`: what was found of each method at each number of labels, the control's first. `settings` is None for
    a method that settings alone do not make."""
    rows: list[dict[str, Any]] = []
    for labels in judgement.labels:
        chosen = best_at(labels, judgement)
        for cell in judgement.ranked(labels):
            gain, method = _gain(cell), methods[cell.method]
            rows.append({
                "labels": labels, "method": cell.method, "gain": gain.interval.mean,
                "interval": [gain.interval.low, gain.interval.high] if gain.interval.known else None,
                "verdict": gain.verdict, "seeds": gain.count, "best": cell is chosen,
                "settings": None if method.staged else dict(method.settings),
                "equal_time": None if cell.equal_time is None else cell.equal_time.verdict,
            })  # fmt: skip
    return rows


def advice_sentence(judgement: Judgement) -> str:
    """One sentence to act on."""
    criterion = judgement.criterion
    chosen = {k: best_at(k, judgement) for k in judgement.labels}
    taken = {k: cell.method for k, cell in chosen.items() if cell is not None}
    if not taken:
        helping = [c for k in judgement.labels for c in judgement.ranked(k) if _gain(c).verdict == "helps"]
        if helping:
            return (
                f"Take {criterion.control}, and train it longer: what helps takes more time, in which the control "
                "gains more."
            )
        return f"Take {criterion.control}: nothing else was shown to help."
    parts = [f"{method} with {_listed([str(k) for k in taken if taken[k] == method])}" for method in
             dict.fromkeys(taken.values())]  # fmt: skip
    rest = [str(k) for k in judgement.labels if k not in taken]
    return f"Take {_listed(parts)} labels{f'; with {_listed(rest)}, {criterion.without}' if rest else ''}."


def labels_told(value: float, labels: int, most: int) -> str:
    """How many more labels than it has the control would need: "about 6 more", "more than the 40 measured"."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return f"more than the {most} measured"
    if value <= 0:
        return "fewer than the fewest measured"
    more = value - labels
    if abs(more) < 0.5:
        return "as many"
    return f"about {abs(more):.0f} {'more' if more > 0 else 'fewer'}"


def _where(cells: Sequence[Cell], method: str) -> str:
    by_verdict: dict[str, list[Cell]] = {}
    for cell in cells:
        by_verdict.setdefault(_gain(cell).verdict, []).append(cell)
    if set(by_verdict) == {"does not help"}:
        return "does not help with any measured number of labels" if len(cells) > 1 else _said("does not help", cells)
    return "; ".join(_said(each, by_verdict[each]) for each in ("helps", "hurts", "does not help", "can't tell")
                     if each in by_verdict)  # fmt: skip


def _said(verdict: str, cells: Sequence[Cell]) -> str:
    words = {"can't tell": "can't be told from the control"}.get(verdict, verdict)
    told = [f"{cell.labels} ({with_interval(_gain(cell).interval)})" for cell in cells]
    return f"{words} with {_listed(told)} labels"


def _stop(method: str, judgement: Judgement, measured: int) -> str:
    stop = judgement.stops[method]
    if measured < 2 or stop == 0:
        return ""
    if math.isinf(stop):
        return f"It still helps at the {judgement.labels[-1]} labels that were measured last."
    return f"From about {stop:.0f} labels on it is no longer sure to help."


def _worth(cell: Cell, judgement: Judgement) -> str:
    if cell.control_labels is None:
        return ""
    most, (mean, low, high) = judgement.labels[-1], cell.control_labels
    told = labels_told(mean, cell.labels, most)
    if told in ("as many", "n/a"):
        return ""
    ends = [labels_told(each, cell.labels, most).removeprefix("about ") for each in (low, high)]
    between = f" (between {ends[0]} and {ends[1]})" if ends[0] != ends[1] else ""
    said = f"With {cell.labels}, the control would need {told} labels for the same{between}"
    if math.isinf(mean):
        said = f"With {cell.labels}, the control would need {told} for the same"
    more = judgement.minutes_more(cell)
    rate = judgement.per_minute(cell)
    costs = f"; it costs {duration(60 * more)} more training, {points(rate)} points a minute" if rate == rate else ""
    return f"{said}{costs}."


def _at_equal_time(cells: Sequence[Cell]) -> str:
    """How it stands beside what the control would have in the same time."""
    gains = [(cell, cell.equal_time) for cell in cells if cell.equal_time is not None]
    if not gains:
        return ""
    helped = [(cell, gain) for cell, gain in gains if _gain(cell).verdict == "helps"]
    if not helped:
        return ""
    told = []
    for verdict, words in (("helps", "still helps"), ("hurts", "is worse"), ("does not help", "does not help"),
                           ("can't tell", "can't be told apart")):  # fmt: skip
        these = [f"{cell.labels} ({with_interval(gain.interval)})" for cell, gain in helped if gain.verdict == verdict]
        told += [f"{words} with {_listed(these)}"] if these else []
    return f"Beside a control that trains as long, it {'; '.join(told)}."


def _gain(cell: Cell) -> Gain:
    assert cell.gain is not None
    return cell.gain


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def compared(judgement: Judgement) -> list[str]:
    """The methods beside the control, in the order in which they were asked for."""
    return [method for method in judgement.methods if method != CONTROL]
