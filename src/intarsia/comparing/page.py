"""The comparison's report: one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from ..config import to_toml
from ..files import write_atomically
from ..report.markup import (
    class_name,
    counted,
    facts,
    folded,
    number,
    paragraph,
    remark,
    row,
    scrolling,
    section,
    table,
)
from ..report.page import document
from ..report.sections import toml_text
from ..report.wording import duration, percentage
from ..training.machine import describe
from .asked import Prepared
from .charts import Curve, gain_chart, score_chart
from .methods import CONTROL, EQUAL_TIME, Method
from .sentences import compared, labels_told, points
from .verdicts import Cell, Judgement, definitions

MOST_CURVES = 5  # beside the control; more can't be told apart, and the chart of gains has them all


def write(
    path: Path, judgement: Judgement, prepared: Prepared, headline: Sequence[str], verdicts: Sequence[str], advice: str
) -> Path:
    """The path, once the report stands there whole. Raises DiskError where it can't be written."""
    html = html_page(judgement, prepared, headline, verdicts, advice)
    return write_atomically(path, html.encode(errors="replace"))


def html_page(
    judgement: Judgement, prepared: Prepared, headline: Sequence[str], verdicts: Sequence[str], advice: str
) -> str:
    """The report as HTML."""
    asked = prepared.asked
    name = asked.folder.resolve().name
    said = "".join(paragraph(each) for each in (advice, *headline))
    top = (
        f'<p class="eyebrow">{escape(asked.criterion.question)}</p><h1>{escape(name)}</h1>'
        f'<div class="headline"><div class="verdict">{said}</div></div>'
        f'<p class="definition">{escape(_scored(prepared))}</p>'
    )
    body = (
        section("verdicts", "Verdicts", "".join(paragraph(each) for each in verdicts))
        + _scores(judgement)
        + _gains(judgement)
        + _classes(judgement, prepared)
        + _time(judgement)
        + _failures(judgement)
        + _how(judgement, prepared)
    )
    return document(f"{name}, compared", top, body, datetime.now().astimezone())


def _scored(prepared: Prepared) -> str:
    scored = [name for name, yes in zip(prepared.sets.classes.names, prepared.scored, strict=True) if yes]
    part = f"{counted(len(prepared.judged), 'picture')} of the {prepared.asked.split} part"
    rare = f" Scored are the rare classes: {', '.join(scored)}." if prepared.asked.imbalance else ""
    return f"Score: {prepared.asked.criterion.definition}; on {part}, from which nothing was learnt.{rare}"


def _scores(judgement: Judgement) -> str:
    """A table of the scores, and the best methods' curves beside the control's."""
    rows = []
    for method in judgement.methods:
        cells = [judgement.cell(method, k) for k in judgement.labels]
        rows.append(row(escape(method), ["<td>failed</td>" if cell is None else _score(cell) for cell in cells]))
    head = [f"{judgement.criterion.score} in %", *(counted(k, "label") for k in judgement.labels)]
    note = remark("After ±: the standard deviation over seeds; without, there is one seed.")
    chosen = _shown(judgement)
    curves = [_curve(method, judgement, 1 + i) for i, method in enumerate(chosen)]
    left = len(judgement.methods) - len(chosen)
    beside = remark(f"Drawn: the control and the {len(chosen) - 1} with the largest gains.") if left else ""
    chart = f'<div class="charts" style="max-width: 40rem">{score_chart("Score", curves)}</div>'
    scores = scrolling("Scores", table("classes", head, rows)) + note
    return section("scores", "Scores", scores + _counting(judgement) + chart + beside)


def _counting(judgement: Judgement) -> str:
    """Of objects: how wrong their number is."""
    if not judgement.criterion.objects:
        return ""
    rows = []
    for method in judgement.methods:
        cells = [judgement.cell(method, k) for k in judgement.labels]
        told = ["failed" if cell is None else f"{cell.count_error:.1f} ({_too_many(cell)})" for cell in cells]
        rows.append(row(escape(method), [f"<td>{each}</td>" for each in told]))
    head = ["count error, objects a picture", *(counted(k, "label") for k in judgement.labels)]
    meaning = definitions(judgement.criterion)
    note = remark(f"Count error: {meaning['count_error']}. In brackets: {meaning['count_bias']}.")
    return scrolling("Count errors", table("classes", head, rows)) + note


def _too_many(cell: Cell) -> str:
    return "n/a" if math.isnan(cell.count_bias) else f"{100 * cell.count_bias:+.0f} %"


def _score(cell: Cell) -> str:
    spread = cell.spread
    deviation = "" if math.isnan(spread["deviation"]) else f" ± {100 * spread['deviation']:.1f}"
    return f"<td>{percentage(spread['mean']).removesuffix(chr(160) + '%')}{deviation}</td>"


def _shown(judgement: Judgement) -> list[str]:
    gains: dict[str, float] = {}
    for labels in judgement.labels:
        for cell in judgement.ranked(labels):
            assert cell.gain is not None
            gains[cell.method] = max(gains.get(cell.method, -math.inf), cell.gain.interval.mean)
    best = sorted(gains, key=lambda method: -gains[method])[:MOST_CURVES]
    return [method for method in judgement.methods if method == CONTROL or method in best]


def _curve(method: str, judgement: Judgement, colour: int) -> Curve:
    cells = [cell for cell in (judgement.cell(method, k) for k in judgement.labels) if cell]
    cells = [cell for cell in cells if math.isfinite(cell.score)]
    spreads = [cell.spread for cell in cells]
    scores = [(each["mean"], each["lowest"], each["highest"]) for each in spreads]
    return Curve(method, [cell.labels for cell in cells], scores, colour)


def _gains(judgement: Judgement) -> str:
    """For each number of labels, every method's gain with its interval and what it says."""
    charts, tables = [], []
    for labels in judgement.labels:
        ranked = judgement.ranked(labels)
        longer = judgement.cell(EQUAL_TIME, labels)
        every = [*ranked, *([longer] if longer and longer.gain else [])]
        told = [(cell.method, cell.gain.interval, cell.gain.verdict) for cell in every if cell.gain]
        charts.append(gain_chart(f"Gain with {counted(labels, 'label')}", told))
        rows = [row(escape(cell.method), _gain_cells(cell, judgement)) for cell in every]
        head = ["gain in points", "mean", "interval", "over seeds", "over pictures", "verdict", "at equal time",
                "the control would need"]  # fmt: skip
        if rows:
            heading = f"<h3>With {counted(labels, 'label')}</h3>"
            tables.append(heading + scrolling("Gains", table("classes", head, rows)))
    drawn = "".join(charts)
    if not drawn:
        return ""
    stops = {method: _stop(judgement, method) for method in compared(judgement) if method in judgement.stops}
    names = ("gain", "interval", "verdict", "equal_time", "control_labels", "stops_helping")
    words = definitions(judgement.criterion)
    meaning = folded("What the numbers mean", facts({name.replace("_", " "): words[name] for name in names}))
    ends = "<h3>Until how many labels it helps</h3>" + facts(stops)
    return section("gains", "Gains", f'<div class="charts">{drawn}</div>{"".join(tables)}{ends}{meaning}')


def _gain_cells(cell: Cell, judgement: Judgement) -> list[str]:
    gain = cell.gain
    assert gain is not None
    between = [f"<td>{_ends(each.low, each.high)}</td>" for each in (gain.interval, gain.seeds, gain.pictures)]
    longer = "<td></td>" if cell.equal_time is None else (
        f"<td>{points(cell.equal_time.interval.mean)} {escape(cell.equal_time.verdict)}</td>"
    )  # fmt: skip
    need = labels_told(cell.control_labels[0], cell.labels, judgement.labels[-1]) if cell.control_labels else ""
    return [f"<td>{points(gain.interval.mean)}</td>", *between, f"<td>{escape(gain.verdict)}</td>", longer,
            f"<td>{escape(need)}</td>"]  # fmt: skip


def _ends(low: float, high: float) -> str:
    return f"{points(low)} to {points(high)}" if math.isfinite(low) and math.isfinite(high) else "not known"


def _stop(judgement: Judgement, method: str) -> str:
    stop = judgement.stops[method]
    if stop == 0:
        return "not sure to help with any measured number"
    if math.isinf(stop):
        return f"still at {judgement.labels[-1]}, the largest measured"
    return f"about {stop:.0f}"


def _classes(judgement: Judgement, prepared: Prepared) -> str:
    """For each number of labels: every class's score by the control, by the best method and by the worst."""
    classes, html, of_class = prepared.sets.classes, "", judgement.criterion.per_class
    for labels in judgement.labels:
        ranked, control = judgement.ranked(labels), judgement.cell(CONTROL, labels)
        if control is None or not ranked:
            continue
        shown = [control, ranked[0], *([ranked[-1]] if len(ranked) > 1 else [])]
        rows = [
            row(class_name(name, colour), [number(float(cell.per_class[i])) for cell in shown])
            for i, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
            if i or not judgement.criterion.objects  # no object is of the background
        ]
        head = [f"{of_class} in %", *(cell.method for cell in shown)]
        heading = f"<h3>With {counted(labels, 'label')}</h3>"
        html += heading + scrolling(f"{of_class} of each class", table("classes", head, rows))
    note = remark("The control, the method with the largest gain, and the one with the smallest; mean over seeds.")
    return section("classes", "Classes", note + html if html else "")


def _time(judgement: Judgement) -> str:
    """What each training takes, and what a further minute gains."""
    rows = []
    for method in judgement.methods:
        cells = [cell for cell in (judgement.cell(method, k) for k in judgement.labels) if cell]
        if cells:
            mean = sum(cell.seconds for cell in cells) / len(cells)
            rates = [points(judgement.per_minute(judgement.cells[method, k]), 2) if judgement.cell(method, k) else ""
                     for k in judgement.labels]  # fmt: skip
            shown = [f"<td>{rate if rate not in ('n/a', '') else '-'}</td>" for rate in rates]
            rows.append(row(escape(method), [f"<td>{duration(mean)}</td>", *shown]))
    head = ["", "a training takes", *(f"points a minute, {k}" for k in judgement.labels)]
    meaning = definitions(judgement.criterion)
    words = remark(f"Time: {meaning['seconds']}. Points a minute: {meaning['gain_per_minute']}.")
    return section("time", "Time", scrolling("Time", table("classes", head, rows)) + words)


def _failures(judgement: Judgement) -> str:
    told = {each.job.name: each.failure for each in judgement.failures}
    words = paragraph("They are left out of every number above. Delete a result.json to have its training tried again.")
    return section("failed", "Failed trainings", words + facts(told) if told else "")


def _how(judgement: Judgement, prepared: Prepared) -> str:
    """What was alike, what was not, and what the comparison can't say."""
    asked = prepared.asked
    others = [f"{name} {method.length:.0%} of them" for name, method in asked.methods.items() if method.length != 1]
    but = f" ({', '.join(others)})" if others else ""
    alike = (
        f"All trainings have the same plan, crops, augmentation and moving average, and {prepared.steps:,} steps{but}. "
        "For each number of labels and seed all methods keep the same masks, and fewer labels are always "
        "among more. The masks that are hidden are used for nothing but the plan's rules (crop, orientation, loss); "
        "class weights and picture statistics come from the labelled pictures of each training. Nothing is chosen "
        "while a training goes on: its last weights, averaged, are judged. No method learns from the judged pictures."
    )
    if asked.objects:
        alike += (
            " Objects are made by the thresholds that `fit` tunes on validation pictures, of which none is judged."
            if asked.tuned
            else " Objects are made by each model's first thresholds: those that `fit` tunes on validation pictures "
            "would be chosen by what is judged."
        )
    longer = "No method takes notably longer than the control, so equal steps are equal time."
    if EQUAL_TIME in judgement.methods:
        longer = (
            f"The {EQUAL_TIME} was given the steps that the control does in the time of the slowest method; quicker "
            "methods are compared with what lies between both controls, straight in log time."
        )
    limits = (
        "It says what helped on these pictures, with this budget. Other pictures, longer trainings and methods with "
        "settings tuned to the pictures may turn out otherwise. Methods are used with their default settings."
    )
    told = {
        "Folder": str(asked.folder.resolve()), "Judged on": f"{len(prepared.judged):,} pictures, {asked.split}",
        "Labels": ", ".join(map(str, asked.labels)), "Seeds": str(asked.seeds), "Steps": f"{prepared.steps:,}",
        "Device": describe(prepared.device),
        "Settings for all": ", ".join(f"{key} = {value}" for key, value in asked.settings.items()) or "the plan's",
    }  # fmt: skip
    methods = "<h3>Methods</h3>" + facts({name: _what(method) for name, method in asked.methods.items()})
    control = prepared.config(asked.methods[CONTROL], asked.labels[0], 0, prepared.steps)
    plan = folded("The plan", f"<pre>{toml_text(to_toml(control, prepared.reasons))}</pre>")
    return section(
        "how", "How it was compared", "".join(map(paragraph, (alike, longer, limits))) + facts(told) + methods + plan
    )


def _what(method: Method) -> str:
    settings = ", ".join(f"{key} = {value}" for key, value in method.settings.items())
    return f"{method.what}{f' ({settings})' if settings else ''}"
