"""The page's sections, each a function from the report's data to HTML; empty where there is nothing to tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from ..drawing import CONFUSED, FALSE_ALARM, MISSED, has_background
from ..metrics.scores import Score, Scores
from ..records import Classes
from ..training.evaluation import IN_UNITS, Example
from .data import ObjectReportData, ReportData
from .figures import Line, line_chart, reliability_chart, sparkline
from .markup import (
    class_name,
    counted,
    facts,
    folded,
    metered,
    number,
    paragraph,
    remark,
    row,
    scrolling,
    section,
    table,
)
from .pictures import RAMP, example_html, panels
from .wording import Row, duration, percent, percentage, series, verdict

NOT_LABELLED = (128, 128, 128)  # grey, as `error_picture` draws it
PICTURE_BYTES = 4_000_000  # of all embedded pictures together; as text they take a third more
MOST_CLASSES = 32  # in a confusion matrix; a larger one can't be read, and the most frequent confusions stand alone
MOST_CONFUSIONS = 5  # told in words
MOST_TERMS = 6  # of the loss, drawn apart
WIDE = 20.0  # a loss that spans more than this ratio is drawn on a logarithmic axis


TITLES = {
    "iou": "IoU",
    "dice": "Dice (F1)",
    "boundary_f": "Boundary F",
    "share": "Share of pixels",
    "accuracy": "Pixel accuracy",
    "mean_iou": "Mean IoU",
    "mean_accuracy": "Mean recall",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "expected_calibration_error": "Calibration error",
    "negative_log_likelihood": "Log-likelihood, negative",
    "brier": "Brier score",
}
MEANS = {"recall": "mean_accuracy"}  # the column's mean where it is not called mean_COLUMN
PROBABILITIES = ("expected_calibration_error", "brier", "mean_squared_error", "negative_log_likelihood")
TOTALS = ("accuracy", "frequency_weighted_iou")  # told below the table


def headline(data: ReportData) -> str:
    """The run's name, its mean IoU with its definition, and the verdict in words."""
    evaluation = data.evaluation
    title = f'<p class="eyebrow">Training report</p><h1>{escape(data.name)}</h1>'
    said = "".join(paragraph(sentence) for sentence in verdict(evaluation, data.rows))
    if evaluation is None:
        return f'{title}<div class="headline"><div class="verdict">{said}</div></div>'
    mean = overall(evaluation.scores)["mean_iou"]
    score = f"<b>{percent(mean.value)}</b>" + ("" if math.isnan(mean.value) else "<small>&thinsp;%</small>")
    caption = f"mean IoU<br>{counted(evaluation.pictures, 'picture')}, {escape(data.split)}"
    skipped = f" {counted(evaluation.skipped, 'picture')} without labels left out." if evaluation.skipped else ""
    return (
        f'{title}<div class="headline"><div class="score">{score}<span>{caption}</span></div>'
        f'<div class="verdict">{said}</div></div>'
        f'<p class="definition">Mean IoU: {escape(mean.definition)}.{skipped}</p>'
    )


def overall(scores: Scores) -> dict[str, Score]:
    """The scores over all classes by name."""
    return {score.name: score for score in scores.overall}


def class_scores(data: ReportData) -> str:
    """One row a class: how well it was found, how often it occurs, and how its IoU came about."""
    if data.evaluation is None:
        return ""
    scores = data.evaluation.scores
    columns = {name: values for name, values in scores.per_class.items() if name not in ("iou", "share")}
    history = [series(data.rows, f"validation/iou/{name}")[1] for name in data.classes.names]
    with_history = any(len(values) > 1 for values in history)
    rows = []
    for i, (name, colour) in enumerate(zip(data.classes.names, data.classes.colours, strict=True)):
        share = scores.per_class["share"][i]
        cells = [metered(scores.per_class["iou"][i]), *(number(values[i]) for values in columns.values())]
        cells.append(number(share, 2 if share < 0.01 else 1))
        cells += [f"<td>{sparkline(history[i])}</td>"] * with_history
        rows.append(row(class_name(name, colour), cells))

    whole = overall(scores)
    names = ["iou", *columns]
    means = [whole.get(MEANS.get(name, f"mean_{name}")) for name in names]
    cells = [number(mean.value) if mean else "<td></td>" for mean in means]
    foot = row("Mean", [*cells, *["<td></td>"] * (1 + with_history)])
    head = ["in %", *map(_title, names), _title("share"), *["IoU in training"] * with_history]
    note = ""
    if scores.absent:
        are = "is" if len(scores.absent) == 1 else "are"
        note = remark(f"{', '.join(scores.absent)} {are} not in these pictures' labels, and left out of the means.")
    totals = [whole[name] for name in TOTALS if name in whole]
    definitions = {_title(name): scores.definitions[name] for name in [*names, "share"]}
    return section(
        "classes",
        "Classes",
        scrolling("Scores of each class", table("classes", head, rows, foot))
        + note
        + facts({_title(each.name): percentage(each.value) for each in totals})
        + folded("What the numbers mean", facts(definitions | {_title(each.name): each.definition for each in totals})),
    )


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())


def confusion(data: ReportData) -> str:
    """Which class was taken for which: the matrix in percent of the true class, and the worst cases in words."""
    if data.evaluation is None or data.evaluation.confusion is None:
        return ""
    counts = data.evaluation.confusion
    if len(counts) < 2 or counts.sum() == 0:
        return ""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    worst = _confusions(shares, data.classes.names)
    if len(counts) > MOST_CLASSES:
        return section("confusion", "Confusion", worst)
    rows = []
    for i, (name, colour) in enumerate(zip(data.classes.names, data.classes.colours, strict=True)):
        cells = [share_cell(shares[i, j], i == j, counts[i].any()) for j in range(len(counts))]
        rows.append(row(class_name(name, colour), cells))
    matrix = scrolling("Confusion matrix", table("confusion", ["", *data.classes.names], rows))
    reading = paragraph("Of each true class (row), the percentage of its pixels that was given each answer (column).")
    return section("confusion", "Confusion", f'{reading}<div class="beside">{matrix}<div>{worst}</div></div>')


def share_cell(share: float, hit: bool, present: bool) -> str:
    """A cell of the matrix, the stronger the larger the share; below half a percent it stays blank."""
    if not present:
        return '<td class="none">·</td>'
    kind = ("hit" if hit else "miss") + (" full" if share > 0.6 else "")
    shown = f"{100 * share:.0f}" if share >= 0.005 else ""
    return f'<td class="{kind}" style="--v:{share:.3f}">{shown}</td>'


def _confusions(shares: np.ndarray, names: Sequence[str]) -> str:
    """The largest shares of a class that went to another, from a hundredth on."""
    off = np.where(np.eye(len(shares), dtype=bool), 0, shares)
    largest = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(at), len(shares)) for at in largest if off.flat[at] >= 0.01]
    lines = [
        f"<li>{percentage(off[i, j], 0)} of <b>{escape(names[i])}</b> was taken for <b>{escape(names[j])}</b>.</li>"
        for i, j in pairs
    ]
    return f"<h3>Most frequent confusions</h3><ul>{''.join(lines)}</ul>" if lines else ""


def training(data: ReportData) -> str:
    """Curves over the steps: validation score, losses, learning rate."""
    return curves(data.rows, {"Validation mean IoU": ("mean_iou",)})


def curves(rows: Sequence[Row], scores: Mapping[str, Sequence[str]]) -> str:
    """The section of training: charts of validation scores, by title the names of what is drawn, then losses and the
    learning rate."""
    times = series(rows, "time")
    keys = sorted({key for each in rows for key in each if key.startswith("train/") and key != "train/total"})
    terms = [Line(key.removeprefix("train/"), *series(rows, key), 3 + i % 4) for i, key in enumerate(keys[:MOST_TERMS])]
    total, validation = series(rows, "train/total"), series(rows, "validation/loss")
    losses = [Line("training", *total, 1), Line("validation", *validation, 2)]
    rate = Line("learning rate", *series(rows, "learning_rate"))
    terms = terms if len(terms) > 1 else []  # a single one is the total itself
    charts = []
    for title, names in scores.items():
        words = [name.replace("_", " ") for name in names] if len(names) > 1 else ["validation"]
        found = zip(words, names, strict=True)
        lines = [Line(word, *series(rows, f"validation/{name}"), i) for i, (word, name) in enumerate(found, start=1)]
        charts.append(line_chart(title, lines, times=times, percent=True, best=True))
    charts += [
        line_chart("Loss", losses, times=times, logarithmic=is_wide(losses)),
        line_chart("Terms of the training loss", terms, times=times, logarithmic=is_wide(terms)),
        line_chart("Learning rate", [rate], times=times),
    ]
    drawn = "".join(charts)
    return section("training", "Training", f'<div class="charts">{drawn}</div>' if drawn else "")


def is_wide(lines: Sequence[Line]) -> bool:
    values = np.concatenate([line.y for line in lines]) if lines else np.empty(0)
    return len(values) > 0 and bool(values.min() > 0) and float(values.max() / values.min()) > WIDE


def examples(data: ReportData) -> str:
    """The worst and the best pictures: picture, truth, prediction, error and uncertainty side by side."""
    evaluation = data.evaluation
    if evaluation is None or not evaluation.examples:
        return ""
    most = PICTURE_BYTES // (5 * len(evaluation.examples))
    worst = "".join(_example(each, data.classes, most) for each in evaluation.worst)
    best = "".join(_example(each, data.classes, most) for each in evaluation.best)
    reading = (
        "Ranked by each picture's own mean IoU, which serves to find pictures to look at and nothing else. "
        "Choose a panel to enlarge it, and again to go back."
    )
    html = remark(reading) + _keys(data.classes)
    html += f"<h3>Worst first</h3>{worst}" if worst else ""
    html += f"<h3>Best first</h3>{best}" if worst else best
    return section("pictures", "Pictures", html)


def _example(example: Example, classes: Classes, most: int) -> str:
    scores = f"mean IoU {percentage(example.iou)}, mean Dice {percentage(example.dice)}, {duration(example.seconds)}"
    return example_html(example.name, scores, panels(example, classes), most, lossless=("error",))


def _keys(classes: Classes) -> str:
    """What the colours mean."""
    named = "".join(f"<span>{class_name(*each)}</span>" for each in zip(classes.names, classes.colours, strict=True))
    errors = [(CONFUSED, "one class taken for another")]
    if has_background(classes) or classes.overlapping:
        errors = [(MISSED, "missed"), (FALSE_ALARM, "false alarm"), *errors]
    errors.append((NOT_LABELLED, "not labelled"))
    wrong = "".join(f"<span>{class_name(name, colour)}</span>" for colour, name in errors)
    stops = ", ".join(f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in RAMP)
    ramp = f'<span>certain <i class="ramp" style="background:linear-gradient(to right, {stops})"></i> uncertain</span>'
    return f'<p class="keys">{named}</p><p class="keys">{wrong}{ramp}</p>'


def calibration(data: ReportData) -> str:
    """Whether a probability of 80 % is right in 80 of 100 pixels."""
    evaluation = data.evaluation
    if evaluation is None or not evaluation.reliability.answers:
        return ""
    curves = {"the probabilities": evaluation.reliability}
    if evaluation.reliability_before is not None:
        curves = {"with the temperature": evaluation.reliability, "without it": evaluation.reliability_before}
    scores = [score for score in evaluation.scores.overall if score.name in PROBABILITIES]
    numbers = {
        _title(each.name): f"{each.value:.4f}" if each.name in IN_UNITS else percentage(each.value, 2)
        for each in scores
    }
    fitted = "1 (none was fitted)" if evaluation.temperature is None else f"{evaluation.temperature:.3f}"
    definitions = facts({_title(each.name): each.definition for each in scores})
    reading = (
        "On the dashed line a probability means what it says: of the pixels answered with 80 %, 80 % are right. "
        "Below it the model promises too much, above it too little."
    )
    told = paragraph(reading) + facts({**numbers, "Temperature": fitted}) + folded("What the numbers mean", definitions)
    chart = reliability_chart("Reliability", curves)
    return section("calibration", "Calibration", f'<div class="split">{chart}<div>{told}</div></div>')


def run(data: ReportData) -> str:
    """How to repeat it: data, time, device, versions, configuration."""
    told = {f"Pictures, {name}": f"{count:,}" for name, count in data.counts.items()}
    if data.evaluation is not None:
        told["Pictures scored"] = f"{data.evaluation.pictures:,} of {data.split}"
        if data.evaluation.skipped:
            told["Left out"] = f"{counted(data.evaluation.skipped, 'picture')} without labels"
        told["Labelled pixels scored"] = f"{data.evaluation.pixels:,}"
        if data.evaluation.pictures:
            told["Prediction"] = f"{duration(data.evaluation.seconds_per_picture)} a picture (median)"
    return repeated(data, told)


def repeated(data: ReportData | ObjectReportData, told: Mapping[str, str]) -> str:
    """The page's last section: those facts, then time, device, versions and configuration."""
    told = dict(told)
    steps = [row["step"] for row in data.rows if "step" in row]
    if steps:
        told["Steps"] = f"{max(steps):,.0f}"
    if data.seconds is not None:
        told["Training took"] = duration(data.seconds)
    if data.device:
        told["Device"] = data.device
    if data.versions:
        told["Versions"] = ", ".join(f"{name} {version}" for name, version in data.versions.items())
    text = f"<h3>Configuration</h3><pre>{toml_text(data.config_text)}</pre>" if data.config_text.strip() else ""
    return section("run", "Data and run", facts(told) + text)


def toml_text(text: str) -> str:
    """Escaped TOML with its headings bold and its comments slanted."""
    lines = []
    for line in text.strip().splitlines():
        comment = re.search(r"(^|\s)#[^\"']*$", line)
        code, rest = (line[: comment.start()], line[comment.start() :]) if comment else (line, "")
        shown = f"<b>{escape(code)}</b>" if code.startswith("[") and code.rstrip().endswith("]") else escape(code)
        lines.append(f"{shown}<i>{escape(rest)}</i>" if rest else shown)
    return "\n".join(lines)
