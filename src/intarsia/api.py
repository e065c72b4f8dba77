"""What a Python user calls: load a run, ask it, measure it. `fit` is in `fitting.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from .config import Config, validate
from .data.folder import open_folder
from .data.sets import Readable
from .errors import DataError, UsageError
from .files import write_atomically
from .fitting import open_sets_for
from .inference.predictor import Predictor
from .models.contract import SemanticModel
from .records import Prediction, Sample
from .report.data import ReportData
from .report.page import write_report
from .runs import Run, Which
from .training.evaluation import Evaluation, fitted_temperature
from .training.evaluation import evaluate as evaluate_samples
from .training.machine import describe, tune_allocator

Split = Literal["train", "validation", "test"]


def load(
    run: str | Path, *, weights: Which = "best", device: Literal["auto", "cpu", "cuda"] = "auto", **options: Any
) -> Predictor:
    """A predictor for a finished (or still training) run: `load("runs/cells").predict("cell.png").overlay()`.

    weights: "best" on validation, or "last". options: those of `Predictor`: tile, overlap, flips, scales, limit.
    The temperature that `evaluate` fitted on validation pictures is applied. Raises UsageError for what is no run.
    """
    if weights not in ("best", "last"):
        raise UsageError(f"weights = {weights!r}; choose best or last.")
    source = Run(run)
    model = source.load_model(weights)
    if not isinstance(model, SemanticModel):
        raise UsageError(f"{source.folder} holds a model that does not segment; take a run of a segmenter.")
    tune_allocator()
    options.setdefault("temperature", _temperature(source))
    return Predictor(model, source.classes(), device=device, **options)


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` found, and where it was written."""

    evaluation: Evaluation
    split: str
    pictures: int
    report: Path


def evaluate(
    run: str | Path,
    folder: str | Path | None = None,
    *,
    split: str | None = None,
    names: str | Path | Sequence[str] | None = None,
    flips: bool = False,
    weights: Which = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """The run's scores on labelled pictures, written to its report.html and evaluation.json.

    folder: another labelled folder with the same classes; None: the run's own, of which `split` is measured ("train",
    "validation" or "test"; None: test where there is one, else validation). names: only these pictures, as a list or
    a file with one name a line. On validation pictures the temperature is fitted and kept with the run, for `load`
    and for scores on other pictures; their own scores are without it. Raises UsageError, DataError.
    """
    source = Run(run)
    config = validate(source.read_config(), str(source.config_path))
    samples, label = _samples(source, config, folder, split, names)
    predictor = load(run, weights=weights, device=device, flips=flips, temperature=1.0)
    classes = source.classes()

    def answer(sample: Sample) -> Prediction:
        return predictor.predict(sample.image, sample.name)

    own = label.startswith("validation")  # a temperature fitted on the pictures it is then scored on would flatter
    if own and len(samples):
        temperature = fitted_temperature(answer, samples, classes)
        write_atomically(source.folder / "temperature.json", json.dumps({"temperature": temperature}).encode())
    evaluation = evaluate_samples(
        answer, _counted(samples, progress), classes, temperature=None if own else _temperature(source)
    )
    rows = source.read_metrics()
    counts = json.loads((source.folder / "data.json").read_text()) if (source.folder / "data.json").is_file() else {}
    data = ReportData(
        name=source.name,
        classes=source.classes(),
        config_text=source.config_path.read_text(encoding="utf-8"),
        rows=rows,
        evaluation=evaluation,
        split=label,
        counts={key: value for key, value in counts.items() if isinstance(value, int)},
        seconds=max((row.get("time", 0.0) for row in rows), default=None),
        device=describe(predictor.device.type),
    )
    write_atomically(source.evaluation_path, json.dumps({"split": label, **evaluation.to_json()}, indent=1).encode())
    report = write_report(source.report_path, data)
    return Evaluated(evaluation, label, evaluation.pictures, report)


def _counted(samples: Readable, progress: Callable[[int, int], None] | None) -> Iterator[Sample]:
    for done, sample in enumerate(samples, start=1):
        yield sample
        if progress:
            progress(done, len(samples))


def _samples(
    run: Run, config: Config, folder: str | Path | None, split: str | None, names: str | Path | Sequence[str] | None
) -> tuple[Readable, str]:
    if folder is not None:
        other = open_folder(folder)
        if other.classes.names != run.classes().names:
            raise DataError(
                f"{folder} has the classes {', '.join(other.classes.names)}, "
                f"the run has {', '.join(run.classes().names)}; "
                "give the folder a classes.toml with the run's classes."
            )
        entries = [entry for entry in other.entries if other.labelled(entry)]
        chosen, label = Readable(other, entries, config.model.channels), str(folder)
    else:
        sets = open_sets_for(config.data, config.seed)
        label = split or ("test" if len(sets.test) else "validation")
        if label not in ("train", "validation", "test"):
            raise UsageError(f"--split {label}: choose train, validation or test.")
        part = cast(Readable, getattr(sets, label)).labelled()
        chosen = Readable(part.folder, part.entries, config.model.channels)
    if names is not None:
        wanted = _names(names)
        known = {entry.name: entry for entry in chosen.folder.entries}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise DataError(
                f"{len(missing)} names of the list are no pictures of {chosen.folder.root}, such as {missing[0]}."
            )
        chosen = Readable(chosen.folder, [known[name] for name in wanted], config.model.channels)
        label = f"{label}, {len(wanted)} listed"
    if not len(chosen):
        raise DataError(
            f"{chosen.folder.root} has no labelled {label} pictures to measure on; give another --split or --data."
        )
    return chosen, label


def _names(names: str | Path | Sequence[str]) -> list[str]:
    if isinstance(names, str | Path):
        path = Path(names)
        if not path.is_file():
            raise UsageError(f"{path} is no file of picture names; give one with a name a line.")
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return list(names)


def _temperature(run: Run) -> float:
    """The temperature fitted on validation; 1 where none was."""
    path = run.folder / "temperature.json"
    try:
        return float(json.loads(path.read_text())["temperature"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1.0
