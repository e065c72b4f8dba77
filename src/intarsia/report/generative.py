"""The report of one generative run on one page without scripts: what it draws, how good that is, what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..drawing import grid
from ..files import write_atomically
from ..metrics.scores import Score
from ..training.exploring import Explorer, Strip
from ..training.generation import Reconstruction
from ..training.verdicts import Level, Verdict
from .data import GenerativeReportData
from .figures import Bar, Line, bar_chart, line_chart
from .markup import counted, facts, folded, paragraph, remark, row, scrolling, section, table, with_code
from .page import document
from .pictures import SMALL, image_html, picture_html, zoomable
from .sections import is_wide, toml_text
from .wording import duration, percentage, series

PICTURE_BYTES = 5_000_000  # of all embedded pictures together; as text they take a third more
MOST_TERMS = 5  # of a part's loss, drawn in one chart
MOST_CLASSES = 60  # in the histogram
WORDS: dict[Level, tuple[str, str]] = {"good": ("✓", "fine"), "warning": ("!", "watch"), "bad": ("✕", "alarm")}
TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "kl": "KL",
    "elbo": "ELBO",
    "bits_per_dimension": "Bits per dimension",
    "frechet_distance": "Fréchet distance",
    "fid": "FID",
    "kid": "KID",
}


def write_generative_report(path: str | Path, data: GenerativeReportData) -> Path:
    """The path, once the report stands there whole. Raises DiskError where it can't be written."""
    return write_atomically(path, generative_page(data).encode(errors="replace"))


def generative_page(data: GenerativeReportData) -> str:
    """The report as HTML; what the data lack is left out."""
    parts = (drawn, reconstructions, scores, nearest, latent, codebook, classes, over_time, training, run)
    return document(data.name, headline(data), "".join(part(data) for part in parts), data.written)


def headline(data: GenerativeReportData) -> str:
    """The run's name, the whole in a word, and every verdict with what to try."""
    title = f'<p class="eyebrow">Report of a generative model</p><h1>{escape(data.name)}</h1>'
    if data.evaluation is None:
        return title
    verdicts = data.evaluation.verdicts
    counts = {level: sum(each.level == level for each in verdicts) for level in WORDS}
    worst = next((level for level in ("bad", "warning", "good") if counts[level]), "")
    word = {"bad": "In trouble", "warning": "To be watched", "good": "Sound", "": "Not judged"}[worst]
    told = [f"{counts['bad']} alarm{'s' * (counts['bad'] != 1)}"] if counts["bad"] else []
    told += [f"{counts['warning']} to watch"] if counts["warning"] else []
    told += [f"{counts['good']} fine"] if counts["good"] else []
    caption = f"{escape(data.evaluation.model)}<br>{escape(', '.join(told))}"
    judged = "".join(_verdict(each) for each in verdicts)
    return (
        f'{title}<div class="headline"><div class="score word {worst}"><b>{word}</b><span>{caption}</span></div>'
        f'<ul class="verdicts">{judged}</ul></div>'
    )


def _verdict(verdict: Verdict) -> str:
    sign, word = WORDS[verdict.level]
    advice = f'<span class="advice"><b>Try:</b> {with_code(verdict.advice)}</span>' if verdict.advice else ""
    return (
        f'<li class="{verdict.level}"><span class="badge"><i aria-hidden="true">{sign}</i> {word}</span>'
        f"<div><h3>{escape(_sentence_case(verdict.topic))}</h3><p>{with_code(verdict.sentence)}</p>{advice}</div></li>"
    )


def scores(data: GenerativeReportData) -> str:
    """Every number with its definition; and what was not measured, and why."""
    if data.evaluation is None:
        return ""
    every = {score.name: score for score in data.evaluation.scores.overall}
    yardsticks = {name: every[f"{name}_real"] for name in every if f"{name}_real" in every}
    rows = []
    for name, score in every.items():
        if name.removesuffix("_real") in yardsticks and name.endswith("_real"):
            continue  # it stands beside the score that it is the yardstick of
        cells = [f"<td>{_number(score)}</td>"]
        if yardsticks:
            beside = _number(yardsticks[name]) if name in yardsticks else ""
            cells.append(f'<td class="yardstick">{beside}</td>')
        cells.append(f'<td class="told">{escape(_sentence_case(score.definition))}</td>')
        rows.append(row(escape(_title(name)), cells))
    head = ("score", "value", *(["of real pictures"] if yardsticks else []), "what it is")
    html = table("scores", head, rows) if rows else ""
    if yardsticks:
        said = next(iter(yardsticks.values())).definition
        html += remark(f"Of real pictures: {said}.")
    behind = data.evaluation.counts.items()
    counts = {f"Pictures, {name.replace('_', ' ')}": f"{count:,}" for name, count in behind}
    if data.evaluation.extractor:
        counts["Features"] = data.evaluation.extractor
    missing = {_title(name): why for name, why in data.evaluation.missing.items()}
    html += facts(counts)
    html += f"<h3>Not measured</h3>{facts(missing)}" if missing else ""
    return section("scores", "Scores", html)


def drawn(data: GenerativeReportData) -> str:
    """The pictures of the evaluation's seed, each under its number."""
    evaluation = data.evaluation
    if evaluation is None or evaluation.drawn is None or not len(evaluation.drawn):
        return ""
    numbers = evaluation.numbers or tuple(range(len(evaluation.drawn)))
    most = PICTURE_BYTES // (4 * len(evaluation.drawn))
    shown = [
        picture_html(picture, f"picture {number}", most, zoom=True)
        for number, picture in zip(numbers, evaluation.drawn, strict=True)
    ]
    reading = (
        f"Not chosen by hand: {counted(len(shown), 'picture')} of seed {evaluation.seed}, numbers {numbers[0]} to "
        f"{numbers[-1]}. Choose one to enlarge it, and again to go back."
    )
    fine = " fine" if max(evaluation.drawn.shape[1:3]) <= SMALL else ""
    sheet = f'<div class="sheet{fine}">{"".join(shown)}</div>'
    return section("drawn", "Drawn", remark(reading + _channels(evaluation.drawn)) + sheet)


def reconstructions(data: GenerativeReportData) -> str:
    """Held-back pictures, what the model was given of them, and what it made of that."""
    if data.evaluation is None or not data.evaluation.reconstructions:
        return ""
    every = data.evaluation.reconstructions
    most = PICTURE_BYTES // (12 * len(every))
    damaged = any(each.damaged is not None for each in every)
    reading = f"Pictures that were not learnt from ({data.split}): original, "
    reading += "what the model was given, and its answer." if damaged else "and as the model sees it."
    shown = "".join(_reconstruction(each, most) for each in every)
    return section("reconstructions", "Reconstructions", remark(reading) + f'<div class="pairs">{shown}</div>')


def _reconstruction(each: Reconstruction, most: int) -> str:
    panels = {"original": each.original, "given": each.damaged, "answer": each.reconstruction}
    shown = [
        picture_html(picture, f"{caption} of {each.name}", most, caption=caption, zoom=True)
        for caption, picture in panels.items()
        if picture is not None
    ]
    return f'<div class="pair"><h3>{escape(each.name)}</h3><div class="row n{len(shown)}">{"".join(shown)}</div></div>'


def nearest(data: GenerativeReportData) -> str:
    """Drawn pictures beside the training pictures most like them: whether the model has learnt by heart."""
    if data.evaluation is None or not data.evaluation.nearest:
        return ""
    most = PICTURE_BYTES // (12 * len(data.evaluation.nearest))
    shown = []
    for each in data.evaluation.nearest:
        ours = picture_html(each.drawn, f"drawn picture {each.number}", most, caption=f"drawn {each.number}", zoom=True)
        theirs = picture_html(each.picture, f"training picture {each.name}", most, caption=each.name, zoom=True)
        far = f"{each.distance:.3f} apart"
        shown.append(f'<div class="pair"><h3>{far}</h3><div class="row n2">{ours}{theirs}</div></div>')
    reading = (
        "Each drawn picture beside the training picture most like it, the most alike first; the number is the root "
        "mean square difference of their pixels, of a range of 1, both shrunk to 32 pixels. Copies would be 0 apart."
    )
    return section(
        "nearest", "Nearest training pictures", remark(reading) + f'<div class="pairs">{"".join(shown)}</div>'
    )


def latent(data: GenerativeReportData) -> str:
    """How much each dimension of the latent says, and what it changes."""
    evaluation = data.evaluation
    if evaluation is None:
        return ""
    html = ""
    if evaluation.kl_dimensions is not None and len(evaluation.kl_dimensions):
        html += _kl(evaluation.kl_dimensions, evaluation.active)
    if evaluation.explorer is not None:
        html += _explorer(evaluation.explorer)
    return section("latent", "Latent", html)


def _kl(kl: np.ndarray, active: np.ndarray | None) -> str:
    order = np.argsort(-kl, kind="stable")
    alive = np.ones(len(kl), bool) if active is None else active
    bars = [Bar(f"dimension {i}", max(0.0, float(kl[i])), 1 if alive[i] else 2) for i in order]
    names = ("active", "not active") if active is not None and not alive.all() else ()
    told = f"{kl.sum():.2f} nats a picture in all {counted(len(kl), 'dimension')}"
    if active is not None:
        told += f"; {int(active.sum())} of them active (the variance of the posterior means is above 0.01)"
    chart = bar_chart("KL of each dimension, largest first", bars, "nats", "dimensions", names)
    return f'<div class="split">{chart}<div><h3>What the latent says</h3>{paragraph(told + ".")}</div></div>'


def _explorer(explorer: Explorer) -> str:
    values = [f"{value:+.3g}".replace("-", "−") if value else "0" for value in explorer.values]  # noqa: RUF001
    rows, columns = explorer.grid.shape[:2]
    flat = [picture for line in explorer.grid for picture in line]
    told = (
        f"the pictures decoded for dimension {explorer.across} from {values[0]} to {values[-1]}, left to right, and "
        f"dimension {explorer.down} likewise, top to bottom"
    )
    whole = grid(flat, columns, gap=0)
    side = max(explorer.grid.shape[2:4])
    image = image_html(whole, told, PICTURE_BYTES // 8, small=side <= SMALL)
    across = "".join(f"<span>{value}</span>" for value in values[:columns])
    down = "".join(f"<span>{value}</span>" for value in values[:rows])
    html = "<h3>Two dimensions at once</h3>" + paragraph(
        f"To the right dimension {explorer.across} grows, downwards dimension {explorer.down}, the two most active; "
        "all others stay at the mean of the held-back pictures. Values are in standard deviations of the prior."
    )
    html += (
        f'<div class="explorer" style="--columns:{columns};--rows:{rows}"><div class="down">{down}</div>'
        f'{zoomable(image, told)}<div class="across">{across}</div></div>'
    )
    if explorer.strips:
        strips = "".join(_strip(each, PICTURE_BYTES // (8 * len(explorer.strips))) for each in explorer.strips)
        html += "<h3>One dimension at a time</h3>" + paragraph("The most active first.") + strips
    return html


def _strip(strip: Strip, most: int) -> str:
    whole = grid(list(strip.pictures), len(strip.pictures), gap=0)
    ends = f"{strip.values[0]:.3g} to {strip.values[-1]:.3g}"
    told = f"dimension {strip.dimension} from {ends}"
    image = image_html(whole, told, most, small=max(strip.pictures.shape[1:3]) <= SMALL)
    labels = "".join(f"<span>{value:.3g}</span>".replace("-", "−") for value in strip.values)  # noqa: RUF001
    activity = f"deviation {strip.deviation:.2f}" + ("" if strip.kl is None else f", {strip.kl:.2f} nats")
    return (
        f'<div class="strip" style="--columns:{len(strip.values)}"><h4>Dimension {strip.dimension}'
        f"<span>{activity}</span></h4>{zoomable(image, told)}"
        f'<div class="across">{labels}</div></div>'
    )


def codebook(data: GenerativeReportData) -> str:
    """How evenly the codes are used."""
    if data.evaluation is None or data.evaluation.codes is None or not data.evaluation.codes.sum():
        return ""
    codes = np.sort(data.evaluation.codes.astype(np.float64))[::-1]
    shares = codes / codes.sum()
    used = shares[shares > 0]
    even = 2 ** float(-(used * np.log2(used)).sum())
    told = (
        f"{len(used):,} of {len(codes):,} codes were used, those of all codebooks together; as evenly as {even:,.1f} "
        "codes would be that are used equally often (the perplexity)."
    )
    bars = [Bar(f"rank {i + 1}", 100 * share) for i, share in enumerate(shares)]
    chart = bar_chart("Use of each code, most used first", bars, "%", "codes")
    return section("codebook", "Codebook", f'<div class="split">{chart}<div>{paragraph(told)}</div></div>')


def classes(data: GenerativeReportData) -> str:
    """What the drawn pictures show, by a classifier, beside what the held-back ones do."""
    evaluation = data.evaluation
    if evaluation is None or evaluation.class_histogram is None or not len(evaluation.class_histogram):
        return ""
    ours, theirs = evaluation.class_histogram, evaluation.class_histogram_real
    names = evaluation.class_names or tuple(str(i) for i in range(len(ours)))
    largest = max(float(np.nanmax(each)) for each in (ours, theirs) if each is not None) or 1.0
    order = range(len(ours)) if len(ours) <= MOST_CLASSES else np.argsort(-ours)[:MOST_CLASSES]
    rows = []
    for i in order:
        cells = [_bar(float(ours[i]), largest, 1)] + ([] if theirs is None else [_bar(float(theirs[i]), largest, 2)])
        rows.append(row(f'<span class="name" title="{escape(names[i])}">{escape(names[i])}</span>', cells))
    head = ["class", "drawn", *(["held back"] if theirs is not None else [])]
    note = "" if len(ours) <= MOST_CLASSES else f" The {MOST_CLASSES} most drawn of {len(ours)} classes are listed."
    reading = (
        "What a classifier takes the pictures for. A class that is hardly drawn though it is there is a lost mode."
    )
    html = scrolling("Share of each class", table("histogram", head, rows))
    return section("classes", "What is drawn", remark(reading + note) + html)


def over_time(data: GenerativeReportData) -> str:
    """What the run drew while it was trained, one step at a time."""
    if not data.samples:
        return ""
    most = PICTURE_BYTES // (4 * len(data.samples))
    frames = []
    for i, (step, picture) in enumerate(data.samples):
        chosen = " checked" if i == len(data.samples) - 1 else ""
        image = image_html(picture, f"samples at step {step}", most, small=max(picture.shape[:2]) <= 4 * SMALL)
        frames.append(
            f'<label><input type="radio" name="frame"{chosen}><span>{step:,}</span><div>{image}</div></label>'
        )
    reading = "The same pictures as training went on. Choose a step, or go from one to the next with the arrow keys."
    html = f'<div class="frames" role="radiogroup" aria-label="Training step">{"".join(frames)}</div>'
    return section("time", "Over time", remark(reading) + html)


def training(data: GenerativeReportData) -> str:
    """Curves over the steps: the score, the loss of each part, and on request whatever else validations measured."""
    rows = data.rows
    times = series(rows, "time")
    keys = sorted({key for each in rows for key in each})

    def chart(title: str, lines: Sequence[Line], best: bool = False) -> str:
        return line_chart(title, lines, times=times, logarithmic=is_wide(lines), best=best)

    charts = [chart("Score on held-back pictures", [Line("score", *series(rows, "validation/score"))], best=True)]
    parts: dict[str, list[str]] = {}
    for key in keys:
        if key.startswith("train/"):
            part, _, term = key.removeprefix("train/").rpartition("/")
            parts.setdefault(part, []).append(term)
    for part, terms in parts.items():
        prefix = f"train/{part}/" if part else "train/"
        ordered = sorted(terms, key=lambda each: (each != "total", each))[:MOST_TERMS]
        if len(ordered) == 2 and _equal(series(rows, prefix + ordered[0]), series(rows, prefix + ordered[1])):
            ordered = ordered[:1]  # a single term is the total itself
        lines = [Line(each, *series(rows, prefix + each), (1, 3, 4, 5, 6)[i]) for i, each in enumerate(ordered)]
        held = prefix.replace("train/", "validation/loss/") + "total"
        lines.insert(1, Line("total, held back", *series(rows, held), 2))
        charts.append(chart(f"Loss of the {part.replace('_', ' ')}" if part else "Loss", lines))
    rate = series(rows, "learning_rate")
    if len(np.unique(rate[1])) > 1:
        charts.append(chart("Learning rate", [Line("learning rate", *rate)]))
    measured = [
        key.removeprefix("validation/")
        for key in keys
        if key.startswith("validation/") and not key.startswith("validation/loss/") and key != "validation/score"
    ]
    others = []
    for name in measured:
        if name.removesuffix("_real") in measured and name.endswith("_real"):
            continue  # drawn into the chart of what it is the yardstick of
        lines = [Line("measured", *series(rows, f"validation/{name}"))]
        lines.append(Line("of real pictures", *series(rows, f"validation/{name}_real"), 2))
        others.append(chart(_title(name), lines))
    html = f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""
    if any(others):
        html += folded("Everything measured at validations", f'<div class="charts">{"".join(others)}</div>')
    return section("training", "Training", html)


def run(data: GenerativeReportData) -> str:
    """How to repeat it: data, time, device, versions, configuration."""
    told = {f"Pictures, {name}": f"{count:,}" for name, count in data.counts.items()}
    steps = [each["step"] for each in data.rows if "step" in each]
    if steps:
        told["Steps"] = f"{max(steps):,.0f}"
    if data.seconds is not None:
        told["Training took"] = duration(data.seconds)
    if data.evaluation is not None:
        told["Evaluation took"] = duration(data.evaluation.seconds)
        told["Seed of the evaluation"] = str(data.evaluation.seed)
    if data.device:
        told["Device"] = data.device
    if data.versions:
        told["Versions"] = ", ".join(f"{name} {version}" for name, version in data.versions.items())
    text = f"<h3>Configuration</h3><pre>{toml_text(data.config_text)}</pre>" if data.config_text.strip() else ""
    return section("run", "Data and run", facts(told) + text)


def _bar(share: float, largest: float, colour: int) -> str:
    if math.isnan(share):
        return '<td class="absent">n/a</td>'
    bar = f'<span class="meter c{colour}"><i style="width:{100 * share / largest:.1f}%"></i></span>'
    return f'<td>{bar}<span class="metered">{percentage(share)}</span></td>'


def _number(score: Score) -> str:
    if math.isnan(score.value):
        return "n/a"
    return (f"{score.value:,.0f}" if abs(score.value) >= 1000 else f"{score.value:.4g}").replace("-", "−")  # noqa: RUF001


def _title(name: str) -> str:
    parts = [TITLES.get(part, part.replace("_", " ")) for part in name.split("/")]
    return _sentence_case(", ".join(parts))


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _channels(pictures: np.ndarray) -> str:
    count = pictures.shape[-1]
    return "" if count in (1, 3) else f" Of {count} channels the first are shown as red, green and blue."


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(a.shape == b.shape and bool(np.allclose(a, b)) for a, b in zip(one, other, strict=True))
