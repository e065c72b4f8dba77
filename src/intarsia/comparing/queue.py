"""`compare`: every training that the question needs, one after the other, and what they say together."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import DiskError
from ..files import Lock, require_writable, write_atomically
from ..plan.advice import FILE as ADVICE_FILE
from ..plan.advice import OBJECT_FILE as OBJECT_ADVICE_FILE
from ..report.wording import duration
from ..training.machine import describe
from ..training.watchers import Show
from . import page, sentences
from .asked import Asked, Prepared, Say, ask, prepare
from .methods import CONTROL, EQUAL_TIME
from .trainings import Job, Result, read_result, run
from .verdicts import Judgement, judge, to_json

EQUAL_TIME_FILE = "equal_time.json"
SLOWER = 1.1  # times the control's training, from which a control with as much time is trained too


@dataclass(frozen=True)
class Compared:
    """What a comparison found, and where it stands."""

    judgement: Judgement
    headline: tuple[str, ...]  # what to do at each number of labels
    verdicts: tuple[str, ...]  # a few sentences on each method
    advice: str  # one sentence
    folder: Path
    report: Path
    results: tuple[Result, ...]
    prepared: Prepared


@dataclass(frozen=True)
class Forecast:
    """The trainings that there are to do, and how long they will take."""

    jobs: tuple[Job, ...]
    seconds: Mapping[str, float]  # of one training of each method; NaN where that is not known
    finished: int

    @property
    def total(self) -> float:
        """Seconds of those that are still to do; what is not known counts as the control."""
        known = {name: value for name, value in self.seconds.items() if math.isfinite(value)}
        return sum(known.get(job.method, known.get(CONTROL, 0.0)) for job in self.jobs)


def compare(
    folder: str | Path,
    labels: Sequence[int] | str,
    methods: str | Sequence[str] = "all",
    *,
    seeds: int = 1,
    minutes: float | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    split: str = "validation",
    imbalance: bool = False,
    settings: Mapping[str, Any] | None = None,
    objects: bool = False,
    say: Say = lambda line: None,
    show: Show | None = None,
) -> Compared:
    """Trains each method with each number of labelled pictures and each seed, alike in all but the method, and says
    which helped, by how much, and how surely. The same call again goes on where it stopped; more labels, methods and
    seeds may be asked for then.

    folder: pictures and masks. labels: numbers of masks to learn from. methods: names of METHODS, or "all"; the control
    is always among them. seeds: trainings with each, of seeds 0, 1, ... minutes, steps: the budget of one control
    training; all get its steps. out: the comparison's folder; None: compare/NAME of the pictures'. split: "validation"
    or "test", the pictures that are judged on. imbalance: measures against rare classes are compared instead, by the
    mean IoU of rare classes. settings: over the plan, alike for all. objects: ways to find objects are compared, by
    AP50; it goes without saying where one of the methods finds objects. say, show: as of `fit`.

    Raises UsageError, DataError, DiskError; Stopped after SIGINT or SIGTERM. A training that fails is recorded.
    """
    asked = ask(
        folder, labels, methods, seeds=seeds, minutes=minutes, steps=steps, split=split, imbalance=imbalance,
        settings=settings, objects=objects,
    )  # fmt: skip
    target = place(asked, out)
    require_writable(target)
    with Lock(target / ".lock"):
        prepared = prepare(asked, target, say)
        results = _run_all(prepared, target, say, show)
        return _tell(prepared, target, results)


def place(asked: Asked, out: str | Path | None) -> Path:
    """The comparison's folder, absolute."""
    name = asked.folder.resolve().name or "comparison"
    kind = "-imbalance" if asked.imbalance else "-objects" if asked.objects else ""
    return Path(os.path.abspath(out or Path("compare") / f"{name}{kind}"))


def forecast(asked: Asked, out: str | Path | None = None, say: Say = lambda line: None) -> tuple[Prepared, Forecast]:
    """What `compare` would do: a step of each method is timed, nothing is written."""
    target = place(asked, out)
    prepared = prepare(asked, target, say, keep=False)
    return prepared, _forecast(prepared, target, jobs_of(prepared))


def jobs_of(prepared: Prepared) -> list[Job]:
    """The trainings but those at equal time: all methods of one seed and number of labels, the control first, then the
    next, so that what is there after a while can be compared."""
    asked = prepared.asked
    return [
        Job(name, labels, seed, max(1, round(prepared.steps * method.length)))
        for seed in range(asked.seeds)
        for labels in asked.labels
        for name, method in asked.methods.items()
    ]


def _run_all(prepared: Prepared, out: Path, say: Say, show: Show | None) -> list[Result]:
    jobs = jobs_of(prepared)
    results = _run_each(jobs, prepared, out, say, show, len(jobs))
    longer = _equal_time(prepared, out, results)
    if longer is None:
        return results
    more = _longer(prepared, longer)
    return results + _run_each(more, prepared, out, say, show, len(jobs) + len(more), len(jobs))


def _run_each(
    jobs: Sequence[Job], prepared: Prepared, out: Path, say: Say, show: Show | None, total: int, before: int = 0
) -> list[Result]:
    results = []
    for number, job in enumerate(jobs):
        found = read_result(out / "runs" / job.name, job)
        if found is None:
            left = _forecast(prepared, out, jobs[number:]).total
            about = f", about {duration(left)} left" if left else ""
            which = f"{job.method}, {_labels(job.labels)}, seed {job.seed}"
            say(f"training {before + number + 1} of {total}: {which}{about}")
            found = run(job, prepared, out, say, show)
        results.append(found)
    return results


def _forecast(prepared: Prepared, out: Path, jobs: Sequence[Job]) -> Forecast:
    """From the trainings that are finished, else from a measured step."""
    found = [(job, read_result(out / "runs" / job.name, job)) for job in jobs_of(prepared)]
    took: dict[str, list[float]] = {}
    for job, result in found:
        if result is not None and not result.failure:
            took.setdefault(job.method, []).append(result.total)
    seconds = {
        name: median(took[name]) if name in took else _expected(prepared, name) for name in prepared.asked.methods
    }
    known = [value for value in seconds.values() if math.isfinite(value)]
    ratio = max(known, default=math.nan) / seconds[CONTROL] if seconds[CONTROL] else math.nan
    seconds[EQUAL_TIME] = max(known, default=math.nan)
    every = list(jobs)
    if ratio >= SLOWER and not any(job.method == EQUAL_TIME for job in jobs):
        every += _longer(prepared, round(prepared.steps * (_stored_ratio(out) or ratio)))
    left = [job for job in every if read_result(out / "runs" / job.name, job) is None]
    return Forecast(tuple(left), seconds, len(every) - len(left))


def _expected(prepared: Prepared, name: str) -> float:
    """Seconds of a method's training with all that comes before it, from measured steps. A generator and making pairs
    are taken to cost a training each."""
    method, measured = prepared.asked.methods[name], prepared.step_seconds
    steps = prepared.steps * method.length
    seconds = steps * measured.get(name, math.nan)
    if method.start is not None:
        seconds += steps * measured.get(f"{name}: before", math.nan)
    if method.pairs is not None:
        seconds += steps * measured.get(CONTROL, math.nan) * (2 if method.pairs == "synthesize" else 1)
    return seconds


def _equal_time(prepared: Prepared, out: Path, results: Sequence[Result]) -> int | None:
    """The steps that the control does in the time of the slowest method: by the clock, over all finished trainings;
    None where no method takes notably longer. What was worked out before stays, so that finished controls are not
    trained again, unless a notably slower method was added."""
    took: dict[str, list[float]] = {}
    for each in results:
        if not each.failure:
            took.setdefault(each.job.method, []).append(each.total)
    if CONTROL not in took or len(took) < 2:
        return None
    ratio = max(median(each) for each in took.values()) / max(median(took[CONTROL]), 1e-9)
    before = _stored_ratio(out)
    if before is not None and ratio < SLOWER * before:
        ratio = before
    write_atomically(out / EQUAL_TIME_FILE, json.dumps({"times the control": ratio}, indent=1).encode())
    return round(prepared.steps * ratio) if ratio >= SLOWER else None


def _stored_ratio(out: Path) -> float | None:
    try:
        return float(json.loads((out / EQUAL_TIME_FILE).read_text(encoding="utf-8"))["times the control"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _longer(prepared: Prepared, steps: int) -> list[Job]:
    """The controls that are given as much time as the slowest method."""
    asked = prepared.asked
    return [Job(EQUAL_TIME, labels, seed, steps) for seed in range(asked.seeds) for labels in asked.labels]


def _tell(prepared: Prepared, out: Path, results: Sequence[Result]) -> Compared:
    asked = prepared.asked
    judgement = judge(results, prepared.scored, asked.criterion)
    headline = sentences.on_all(judgement, asked.methods, asked.seeds)
    verdicts = tuple(
        sentences.on_method(method, judgement) for method in sentences.compared(judgement) if method != EQUAL_TIME
    )
    act = sentences.advice_sentence(judgement)
    classes = prepared.sets.classes
    facts = {
        "folder": os.path.abspath(asked.folder), "split": asked.split, "pictures": len(prepared.judged),
        "labels": list(asked.labels), "seeds": asked.seeds, "steps": prepared.steps,
        "scored_classes": [name for name, yes in zip(classes.names, prepared.scored, strict=True) if yes],
        "classes": list(classes.names), "device": describe(prepared.device), "score": asked.criterion.score,
    }  # fmt: skip
    told = {"made_by": "intarsia compare", **facts, "headline": headline, "verdicts": list(verdicts), "act": act}
    advice = {"made_by": "intarsia compare", **facts, "sentence": act,
              "advice": sentences.advice(judgement, asked.methods)}  # fmt: skip
    file = OBJECT_ADVICE_FILE if asked.objects else ADVICE_FILE
    if asked.objects:  # which the control was: there is no other way to take it
        advice["control"] = {"model.name": prepared.shared["model"]["name"]}
    methods = {name: {"what": each.what, "settings": dict(each.settings), "staged": each.staged}
               for name, each in asked.methods.items()}  # fmt: skip
    numbers = {**told, "methods": methods, **to_json(judgement, classes.names)}
    write_atomically(out / "comparison.json", json.dumps(numbers, indent=1).encode())
    write_atomically(out / file, json.dumps(advice, indent=1).encode())
    if not asked.imbalance:  # measures against imbalance are another question than which model to take
        _leave(asked.folder / file, json.dumps(advice, indent=1).encode())
    compared = Compared(judgement, tuple(headline), verdicts, act, out, out / "report.html", tuple(results), prepared)
    page.write(compared.report, compared.judgement, prepared, headline, verdicts, act)
    return compared


def _leave(path: Path, content: bytes) -> None:
    """The advice beside the pictures, for the next plan; where the folder is shut, it is not."""
    if path.parent.stat().st_mode & 0o222 == 0:
        return
    with suppress(DiskError):
        write_atomically(path, content)


def _labels(count: int) -> str:
    return f"{count} label{'s' * (count != 1)}"
