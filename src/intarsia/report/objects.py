"""The report of one run of a model of objects on one page without scripts: what it finds, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..drawing import ERROR_COLOURS, IN_THE_ANSWER, object_error_picture, object_overlay
from ..files import write_atomically
from ..metrics.scores import Score
from ..training.object_evaluation import COUNTS, DEFINITIONS, IN_UNITS, ObjectExample, error_words
from .data import ObjectReportData
from .figures import reliability_chart
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
from .object_figures import count_chart, threshold_chart
from .object_wording import object_verdict
from .page import document
from .pictures import example_html
from .sections import MOST_CLASSES, NOT_LABELLED, PICTURE_BYTES, curves, repeated, share_cell
from .wording import duration, percent, percentage

TITLES = {
    "AP50": "AP50",
    "mean_AP": "Mean AP",
    "F1_50": "F1",
    "precision_50": "Precision",
    "recall_50": "Recall",
    "mean_matched_iou": "IoU of pairs",
    "panoptic_quality": "PQ",
    "segmentation_quality": "Segmentation quality",
    "recognition_quality": "Recognition quality",
    "aggregated_jaccard": "AJI",
    "count_error": "Count error",
    "count_bias": "Count bias",
    "true_objects": "True",
    "predicted_objects": "Found",
    "coco_AP": "COCO AP",
    "coco_AP50": "COCO AP50",
    "coco_AP75": "COCO AP75",
    "coco_AP_small": "COCO AP, small",
    "coco_AP_medium": "COCO AP, medium",
    "coco_AP_large": "COCO AP, large",
    "coco_AR": "COCO AR",
}
LEFT_OUT = ("count_error", "segmentation_quality", "recognition_quality")  # columns that would make the table too wide
KINDS = {
    "missed": "missed",
    "invented": "invented",
    "split": "split: one object taken for several",
    "merged": "merged: several taken for one",
    "confused": "found, but given another class",
}


def write_object_report(path: str | Path, data: ObjectReportData) -> Path:
    """The path, once the report stands there whole. Raises DiskError where it can't be written."""
    return write_atomically(path, object_page(data).encode(errors="replace"))  # a file name may hold what is no text


def object_page(data: ObjectReportData) -> str:
    """The report as HTML; what the data lack is left out."""
    parts = (found, errors, pictures, classes, confusion, sizes, scores, calibration, training, run)
    return document(data.name, headline(data), "".join(part(data) for part in parts), data.written)


def headline(data: ObjectReportData) -> str:
    """The run's name, its AP50 with its definition, and the verdict in words."""
    evaluation = data.evaluation
    title = f'<p class="eyebrow">Training report, objects</p><h1>{escape(data.name)}</h1>'
    said = "".join(paragraph(sentence) for sentence in object_verdict(evaluation, data.rows))
    if evaluation is None:
        return f'{title}<div class="headline"><div class="verdict">{said}</div></div>'
    main = next(score for score in evaluation.scores.overall if score.name == "AP50")
    score = f"<b>{percent(main.value)}</b>" + ("" if math.isnan(main.value) else "<small>&thinsp;%</small>")
    caption = (
        f"AP50<br>{counted(evaluation.objects, 'object')} in {counted(evaluation.pictures, 'picture')},<br>"
        f"{escape(data.split)}"
    )
    skipped = f" {counted(evaluation.skipped, 'picture')} without labels left out." if evaluation.skipped else ""
    return (
        f'{title}<div class="headline"><div class="score">{score}<span>{caption}</span></div>'
        f'<div class="verdict">{said}</div></div>'
        f'<p class="definition">AP50: {escape(main.definition)}. TP: pairs of a true and a predicted object, FP: '
        f"predicted objects without a partner, FN: true ones without.{skipped}</p>"
    )


def found(data: ObjectReportData) -> str:
    """How AP falls with the overlap that is asked for, and the counts of pictures."""
    evaluation = data.evaluation
    if evaluation is None or not evaluation.pictures:
        return ""
    thresholds = list(evaluation.average_precision)
    lines: dict[str, Sequence[float]] = {"all classes": list(evaluation.average_precision.values())}
    if len(evaluation.average_precision_by_class) > 1:
        lines |= evaluation.average_precision_by_class
    charts = threshold_chart("AP = TP / (TP + FP + FN)", thresholds, lines)
    charts += count_chart("Counts", evaluation.counts)
    reading = (
        "The more overlap is asked of a pair, the fewer pairs there are: a curve that stays high has exact outlines. "
        "Dots on the dashed line are pictures whose count is right."
    )
    return section("found", "Found and counted", f'{paragraph(reading)}<div class="charts">{charts}</div>')


def errors(data: ObjectReportData) -> str:
    """How many errors there are of each kind."""
    evaluation = data.evaluation
    if evaluation is None or not evaluation.pictures:
        return ""
    most = max([*evaluation.errors.values(), 1])
    whole = {"true": max(1, evaluation.objects), "answer": max(1, evaluation.predicted_objects)}
    rows = []
    for kind, count in evaluation.errors.items():
        if kind == "confused" and len(evaluation.scores.classes) < 2:
            continue
        of = "answer" if kind in IN_THE_ANSWER else "true"
        red, green, blue = ERROR_COLOURS[kind]
        bar = (
            f'<span class="meter" style="color:rgb({red} {green} {blue})">'
            f'<i style="width:{100 * count / most:.1f}%"></i></span>'
        )
        words = "objects found" if of == "answer" else "true objects"
        cells = [
            f'<td>{bar}<span class="metered">{count:,}</span></td>',
            number(count / whole[of]),
            f'<td class="told">of the {words}</td>',
        ]
        rows.append(row(class_name(kind, ERROR_COLOURS[kind]), cells))
    html = scrolling("Errors by kind", table("histogram kinds", ["", "objects", "in %", ""], rows))
    return section("errors", "Errors", html + remark(f"{_sentence_case(DEFINITIONS['errors'])}."))


def pictures(data: ObjectReportData) -> str:
    """The worst and the best pictures: picture, truth, answer and errors side by side."""
    evaluation = data.evaluation
    if evaluation is None or not evaluation.examples:
        return ""
    most = PICTURE_BYTES // (4 * len(evaluation.examples))
    many = len(evaluation.scores.classes) > 1
    worst = "".join(_example(each, most, many) for each in evaluation.worst)
    best = "".join(_example(each, most, many) for each in evaluation.best)
    reading = (
        "Ranked by each picture's own AP50, which serves to find pictures to look at and nothing else. Choose a panel "
        "to enlarge it, and again to go back."
    )
    kinds = [(colour, KINDS[kind]) for kind, colour in ERROR_COLOURS.items() if kind != "confused" or many]
    keys = [*kinds, ((235, 235, 235), "right, outlined"), (NOT_LABELLED, "not labelled, hatched")]
    named = "".join(f"<span>{class_name(name, colour)}</span>" for colour, name in keys)
    html = f'{remark(reading)}<p class="keys">{named}</p>'
    html += f"<h3>Worst first</h3>{worst}" if worst else ""
    html += f"<h3>Best first</h3>{best}" if worst else best
    return section("pictures", "Pictures", html)


def _example(example: ObjectExample, most: int, many: bool) -> str:
    counts = example.errors.counts()
    if not many:
        counts.pop("confused")
    told = (
        f"AP50 {percentage(example.average_precision)}, {example.predicted_objects:,} found of "
        f"{example.true_objects:,}: {error_words(counts)}; {duration(example.seconds)}"
    )
    wrong = {kind: getattr(example.errors, kind) for kind in ERROR_COLOURS}
    shown = {
        "picture": example.picture,
        "truth": object_overlay(example.picture, np.maximum(example.truth, 0)),
        "answer": object_overlay(example.picture, example.predicted),
        "errors": object_error_picture(example.picture, example.truth, example.predicted, wrong),
    }
    return example_html(example.name, told, shown, most, lossless=("truth", "answer", "errors"))


def classes(data: ObjectReportData) -> str:
    """One row a class of objects: how well it was found, and how many there are."""
    if data.evaluation is None or not data.evaluation.pictures:
        return ""
    scores, whole = data.evaluation.scores, {each.name: each.value for each in data.evaluation.scores.overall}
    columns = {name: values for name, values in scores.per_class.items() if name not in LEFT_OUT}
    colours = dict(zip(data.evaluation.classes.names, data.evaluation.classes.colours, strict=True))
    whole |= {"true_objects": data.evaluation.objects, "predicted_objects": data.evaluation.predicted_objects}
    rows = [
        row(class_name(name, colours[name]), [_cell(key, values[i]) for key, values in columns.items()])
        for i, name in enumerate(scores.classes)
    ]
    foot = row("All objects", [_cell(key, whole[key]) for key in columns]) if len(rows) > 1 else ""
    head = ["in %", *(_title(name) for name in columns)]
    note = ""
    if scores.absent:
        are = "is" if len(scores.absent) == 1 else "are"
        note = remark(f"{', '.join(scores.absent)} {are} not in these pictures' truth.")
    definitions = facts({_title(name): scores.definitions[name] for name in columns})
    html = scrolling("Scores of each class", table("classes", head, rows, foot))
    return section("classes", "Classes", html + note + folded("What the numbers mean", definitions))


def _cell(name: str, value: float) -> str:
    if name in COUNTS:
        return f"<td>{value:,.0f}</td>"
    if name == "count_bias" and not math.isnan(value):
        return f"<td>{100 * value:+.1f}</td>".replace("-", "\u2212")
    return metered(value) if name == "AP50" else number(value)


def confusion(data: ObjectReportData) -> str:
    """Which class was taken for which, of several: the matrix in percent of the true class."""
    if data.evaluation is None or not 2 < len(data.evaluation.confusion) <= MOST_CLASSES:
        return ""
    counts = data.evaluation.confusion
    if not counts.sum():
        return ""
    names, colours = data.evaluation.classes.names, data.evaluation.classes.colours
    order = [*range(1, len(counts)), 0]
    rows = []
    for i in order[:-1]:
        total = counts[i].sum()
        cells = [share_cell(counts[i, j] / max(total, 1), i == j, bool(total)) for j in order]
        rows.append(row(class_name(names[i], colours[i]), cells))
    total = counts[0, 1:].sum()
    invented = [share_cell(counts[0, j] / max(total, 1), False, bool(total)) for j in order[:-1]]
    rows.append(row(class_name("invented", (160, 160, 160)), [*invented, '<td class="none">·</td>']))
    reading = paragraph(
        "Objects paired by shape alone. Of each true class (row), the percentage of its objects that was given each "
        "class (column) or missed; the last row: of the invented ones, the class they were given."
    )
    matrix = scrolling("Confusion matrix", table("confusion", ["", *names[1:], "missed"], rows))
    return section("confusion", "Confusion", reading + matrix)


def sizes(data: ObjectReportData) -> str:
    """Small, medium and large objects apart."""
    if data.evaluation is None or not any(each.true for each in data.evaluation.sizes):
        return ""
    rows = []
    for each in data.evaluation.sizes:
        if not each.true:
            continue
        sides = f"{math.sqrt(each.smallest):.0f} to {math.sqrt(each.largest):.0f}"
        cells = [f"<td>{each.smallest:,} to {each.largest:,}</td>", f"<td>{sides}</td>", f"<td>{each.true:,}</td>"]
        cells += [metered(each.average_precision), number(each.recall), number(each.iou)]
        rows.append(row(_sentence_case(each.name), cells))
    head = [
        "",
        "area, pixels",
        "side if square",
        "True",
        "AP50, in %",
        "Recall, in %",
        "Mean IoU of pairs, in %",
    ]
    note = remark("Thirds of the true objects by area. An invented object counts in the third that its own area is in.")
    return section("sizes", "Sizes", scrolling("Scores by size", table("classes", head, rows)) + note)


def scores(data: ObjectReportData) -> str:
    """Every number with its definition."""
    if data.evaluation is None or not data.evaluation.pictures:
        return ""
    rows = []
    for score in data.evaluation.scores.overall:
        cells = [f"<td>{_number(score)}</td>", f'<td class="told">{escape(_sentence_case(score.definition))}</td>']
        rows.append(row(escape(_title(score.name)), cells))
    reading = (
        "AP has two meanings. AP50 and mean AP here are TP / (TP + FP + FN), as in StarDist, Cellpose and the Data "
        "Science Bowl 2018; COCO's average precision ranks objects by their scores, and bears its name."
    )
    return section("scores", "Scores", paragraph(reading) + table("scores", ("score", "value", "what it is"), rows))


def calibration(data: ObjectReportData) -> str:
    """Whether of objects with a score of 80 % four in five are there."""
    evaluation = data.evaluation
    if evaluation is None or evaluation.reliability is None or not evaluation.reliability.answers:
        return ""
    axes = ("score", "matches")
    chart = reliability_chart("Reliability", {"the scores": evaluation.reliability}, "objects", axes)
    reading = (
        "On the dashed line a score means what it says: of the objects with a score of 80 %, 80 % are matches (IoU "
        "≥ 0.5, of the same class). Below it scores promise too much, above it too little. Bars: where the objects are."
    )
    error = percentage(evaluation["score_calibration_error"], 2)
    told = paragraph(reading) + facts({"Calibration error of the scores": error})
    return section("calibration", "Scores as probabilities", f'<div class="split">{chart}<div>{told}</div></div>')


def training(data: ObjectReportData) -> str:
    """Curves over the steps: validation scores, losses, learning rate."""
    charts = {"Validation, whatever the class": ("AP50", "mean_AP", "precision", "recall")}
    return curves(data.rows, charts)


def run(data: ObjectReportData) -> str:
    """How to repeat it: data, time, thresholds, device, versions, configuration."""
    told = {f"Pictures, {name}": f"{count:,}" for name, count in data.counts.items()}
    evaluation = data.evaluation
    if evaluation is not None:
        told["Pictures scored"] = f"{evaluation.pictures:,} of {data.split}"
        if evaluation.skipped:
            told["Left out"] = f"{counted(evaluation.skipped, 'picture')} without labels"
        told["Objects scored"] = f"{evaluation.objects:,}"
        if evaluation.pictures:
            told["Prediction"] = f"{duration(evaluation.seconds_per_picture)} a picture (median)"
    if data.thresholds:
        told["Thresholds, tuned"] = ", ".join(f"{name} {value:g}" for name, value in data.thresholds.items())
    return repeated(data, told)


def _number(score: Score) -> str:
    if math.isnan(score.value):
        return "n/a"
    if score.name in IN_UNITS:
        return f"{score.value:.2f}"
    return percentage(score.value).replace("-", "\u2212")


def _title(name: str) -> str:
    return TITLES.get(name, _sentence_case(name.replace("_", " ")))


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
