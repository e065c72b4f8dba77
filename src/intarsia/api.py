"""What a Python user calls: load a run, ask it, measure it. `fit` is in `fitting.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from .config import Config, validate
from .data.batches import Samples
from .data.folder import CLASSES_FILE, Folder, open_folder
from .data.read import LIMIT_PIXELS
from .data.sets import Readable
from .errors import DataError, UsageError
from .files import write_atomically
from .fitting import Array, generators, open_for, open_sets_for
from .inference.objects import ObjectPredictor
from .inference.predictor import Predictor
from .inference.studio import Studio
from .metrics.ambiguity import ANSWERS
from .models import MODELS
from .models.contract import Ambiguous, Draws, GenerativeModel, InstanceModel, SemanticModel
from .records import Classes, Prediction, Sample
from .report.data import GenerativeReportData, ObjectReportData, ReportData, read_samples
from .report.generative import write_generative_report
from .report.objects import write_object_report
from .report.page import write_report
from .runs import Run, Which
from .training.evaluation import Evaluation, fitted_temperature
from .training.evaluation import evaluate as evaluate_samples
from .training.features import extractor_of
from .training.generation import GenerativeEvaluation, examine
from .training.machine import choose_device, describe, tune_allocator
from .training.object_evaluation import NAMELESS, ObjectEvaluation, evaluate_objects

Split = Literal["train", "validation", "test"]


def load(
    run: str | Path, *, weights: Which = "best", device: Literal["auto", "cpu", "cuda"] = "auto", **options: Any
) -> Predictor | ObjectPredictor:
    """A predictor for a finished (or still training) run: `load("runs/cells").predict("cell.png").overlay()`.

    weights: "best" on validation, or "last". options: those of `Predictor`: tile, overlap, flips, scales, limit; for a
    run of a model of objects those of `ObjectPredictor`: tile, overlap, flips, limit, thresholds.
    What was tuned on validation pictures is applied: the temperature that `evaluate` fitted, the thresholds that `fit`
    found. Raises UsageError for what is no run.
    """
    if weights not in ("best", "last"):
        raise UsageError(f"weights = {weights!r}; choose best or last.")
    source = Run(run)
    model = source.load_model(weights)
    if isinstance(model, InstanceModel):
        surplus = [name for name in ("scales", "temperature") if name in options]
        if surplus:
            raise UsageError(
                f"{source.folder} holds a model of objects, which has no {' and no '.join(surplus)}; leave that out."
            )
        tune_allocator()
        return ObjectPredictor(model, source.classes(), device=device, **options)
    if not isinstance(model, SemanticModel):
        raise UsageError(
            f"{source.folder} holds a generative model, which does not segment; open it with intarsia.studio, or use "
            "intarsia generate, reconstruct, edit and compress."
        )
    tune_allocator()
    options.setdefault("temperature", source.temperature())
    return Predictor(model, source.classes(), device=device, **options)


def studio(
    run: str | Path,
    *,
    weights: Which = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    limit: int = LIMIT_PIXELS,
) -> Studio:
    """What a run of a generative model can do: `studio("runs/digits").generate(64, seed=7)`.

    weights: "best" on validation, or "last". limit: pixels beyond which a file is refused. Raises UsageError for what
    is no run, and for a run of a segmenter.
    """
    if weights not in ("best", "last"):
        raise UsageError(f"weights = {weights!r}; choose best or last.")
    source = Run(run)
    model = source.load_model(weights)
    if not isinstance(model, GenerativeModel):
        raise UsageError(
            f"{source.folder} holds a segmenter, which draws and mends nothing; `intarsia predict` asks it. Train a "
            "generative model with `intarsia fit FOLDER --model vae` (or another of `intarsia models`)."
        )
    tune_allocator()
    return Studio(model, source.classes(), device=device, limit=limit)


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` found, and where it was written."""

    evaluation: Evaluation | GenerativeEvaluation | ObjectEvaluation = field(repr=False)
    split: str
    pictures: int
    report: Path


def evaluate(
    run: str | Path,
    folder: str | Path | np.ndarray | None = None,
    *,
    split: str | None = None,
    names: str | Path | Sequence[str] | None = None,
    flips: bool = False,
    weights: Which = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """The run's scores on pictures it did not learn from, written to its report.html and evaluation.json; those on
    other pictures than a part of its own stand beside them, as report-OTHERS.html and evaluation-OTHERS.json.

    folder: another labelled folder with the same classes, or the new place of the run's own; None: the run's own.
    split: "train", "validation" or "test", as the run divides a folder; None: all of another folder; of the run's own
    the test part where there is one, else the validation part. names: only these pictures, of any part unless `split`
    is given, as a list or a file with one name a line. On the validation part the temperature is fitted and kept with
    the run, for `load` and for scores on other pictures; its own scores are without it.

    Of a generative model the pictures need no labels, and `folder` may be a file of many or an array. Of a model of
    objects the folder's classes may differ from the run's where one of the two has a single class of objects: then all
    objects are compared without their classes, and the evaluation's remarks say so. Raises UsageError, DataError.
    """
    source = Run(run)
    config = validate(source.read_config(), str(source.config_path))
    if issubclass(MODELS[config.model.name], GenerativeModel):
        if names is not None or flips:
            raise UsageError("a generative model is measured on all pictures of a part; leave --list and --flips out.")
        return _evaluate_generative(source, config, folder, split, weights, device, progress)
    if isinstance(folder, np.ndarray):
        raise UsageError(f"{source.folder} holds a segmenter, which is measured on a folder of pictures and masks.")
    if issubclass(MODELS[config.model.name], InstanceModel):
        return _evaluate_objects(source, config, folder, split, names, flips, weights, device, progress)
    samples, label, others = _samples(source, config, folder, split, names)
    predictor = load(run, weights=weights, device=device, flips=flips, temperature=1.0)
    assert isinstance(predictor, Predictor)
    classes = source.classes()

    def answer(sample: Sample) -> Prediction:
        return predictor.predict(sample.image, sample.name)

    def several(sample: Sample) -> tuple[Prediction, ...]:
        return predictor.samples(sample.image, ANSWERS, config.seed, sample.name)

    own = label == "validation" and not others  # scored with a temperature fitted on these pictures it would flatter
    if own and len(samples):
        temperature = fitted_temperature(answer, samples, classes)
        write_atomically(source.folder / "temperature.json", json.dumps({"temperature": temperature}).encode())
    evaluation = evaluate_samples(
        answer,
        _counted(samples, progress),
        classes,
        temperature=None if own else source.temperature(),
        several=several if isinstance(predictor.model, Ambiguous) else None,
    )
    numbers, page = source.evaluation_paths(others)
    write_atomically(numbers, json.dumps({"split": label, **evaluation.to_json()}, indent=1).encode())
    told = _told_of(source, label, predictor.device.type)
    report = write_report(page, ReportData(classes=classes, evaluation=evaluation, **told))
    return Evaluated(evaluation, label, evaluation.pictures, report)


def _evaluate_objects(
    run: Run,
    config: Config,
    folder: str | Path | None,
    split: str | None,
    names: str | Path | Sequence[str] | None,
    flips: bool,
    weights: Which,
    device: Literal["auto", "cpu", "cuda"],
    progress: Callable[[int, int], None] | None,
) -> Evaluated:
    samples, label, others = _samples(run, config, folder, split, names, objects=True)
    predictor = load(run.folder, weights=weights, device=device, flips=flips)
    assert isinstance(predictor, ObjectPredictor)
    classes, remarks = _common_classes(run.classes(), samples.folder.classes)
    tuned = run.thresholds()
    if label == "validation" and tuned and not others:
        remarks.append(
            "The thresholds that make objects were tuned on these pictures, which flatters the scores a little; other "
            "pictures tell more."
        )
    evaluation = evaluate_objects(
        lambda sample: predictor.predict(sample.image, sample.name),
        _counted(samples, progress),
        classes,
        remarks=tuple(remarks),
    )
    numbers, page = run.evaluation_paths(others)
    write_atomically(numbers, json.dumps({"split": label, **evaluation.to_json()}, indent=1).encode())
    told = _told_of(run, label, predictor.device.type)
    report = write_object_report(
        page, ObjectReportData(classes=classes, evaluation=evaluation, thresholds=tuned, **told)
    )
    return Evaluated(evaluation, label, evaluation.pictures, report)


def _told_of(run: Run, label: str, device: str) -> dict[str, Any]:
    """What every report says of its run."""
    rows = run.read_metrics()
    return {
        "name": run.name,
        "config_text": run.config_path.read_text(encoding="utf-8"),
        "rows": rows,
        "split": label,
        "counts": {key: value for key, value in run.read_data().items() if isinstance(value, int)},
        "seconds": max((row.get("time", 0.0) for row in rows), default=None),
        "device": describe(device),
    }


def _common_classes(ours: Classes, theirs: Classes) -> tuple[Classes, list[str]]:
    """The classes by which the run's objects and the folder's are compared, and what is to be said about that."""
    if ours.names == theirs.names:
        return ours, []
    told = [", ".join(each.names[1:]) for each in (ours, theirs)]
    return NAMELESS, [
        f"The run tells objects as {told[0]}, the pictures as {told[1]}: all are compared without their classes."
    ]


def _evaluate_generative(
    run: Run,
    config: Config,
    given: str | Path | np.ndarray | None,
    split: str | None,
    weights: Which,
    device: Literal["auto", "cpu", "cuda"],
    progress: Callable[[int, int], None] | None,
) -> Evaluated:
    train, held_back, label, others = _held_back(run, config, given, split)
    model = run.load_model(weights)
    assert isinstance(model, GenerativeModel)
    tune_allocator()
    place = choose_device(device)
    model.to(place)
    extractor = None
    features = run.folder / "features.safetensors"
    if isinstance(model, Draws) and (len(train) or features.is_file()):
        extractor = extractor_of(
            train, channels=model.config.channels, size=model.config.size, classes=run.classes().names,
            seed=config.seed, path=features, device=place,
        )  # fmt: skip

    def told(what: str, done: int, of: int) -> None:
        if progress:
            progress(done, of)

    evaluation = examine(model, train, held_back, extractor=extractor, seed=config.seed, device=place, progress=told)
    numbers, page = run.evaluation_paths(others)
    write_atomically(numbers, json.dumps({"split": label, **evaluation.to_json()}, indent=1).encode())
    report = write_generative_report(
        page,
        GenerativeReportData(
            evaluation=evaluation, samples=read_samples(run.samples_path), **_told_of(run, label, place)
        ),
    )
    return Evaluated(evaluation, label, len(held_back), report)


def _held_back(
    run: Run, config: Config, given: str | Path | np.ndarray | None, split: str | None
) -> tuple[Samples, Samples, str, str]:
    """The pictures that the run learnt from, those to measure on, what to call these, and what to call their files;
    "": they are the run's own."""
    if split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split {split}: choose train, validation or test.")
    array = Array(given) if isinstance(given, np.ndarray) else None
    if given is not None and array is None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"folder": str(given)})})
    sets = open_for(config, array)
    own = given is None or run.read_data().get("fingerprint") == sets.fingerprint()
    others = "" if own else "array" if array else _called(Path(str(given)), split)
    if not own and split is None:
        whole = config.model_copy(update={"data": config.data.model_copy(update={"validation": 0.0, "test": 0.0})})
        everything, none = generators.parts(config, open_for(whole, array))
        return none, everything, "the array" if array else str(given), others
    label = split or ("test" if len(sets.test) else "validation")
    train, held_back = generators.parts(config, sets, label)
    if not len(held_back):
        raise DataError(f"no picture of {config.data.folder} was held back for {label}; give others with --data.")
    return train, held_back, label, others


def _counted(samples: Readable, progress: Callable[[int, int], None] | None) -> Iterator[Sample]:
    for done, sample in enumerate(samples, start=1):
        yield sample
        if progress:
            progress(done, len(samples))


def _samples(
    run: Run,
    config: Config,
    folder: str | Path | None,
    split: str | None,
    names: str | Path | Sequence[str] | None,
    objects: bool = False,
) -> tuple[Readable, str, str]:
    """The pictures to measure on, what to call them, and what to call their files; "": a part of the run's own."""
    if split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split {split}: choose train, validation or test.")
    data = config.data if folder is None else config.data.model_copy(update={"folder": str(folder)})
    if folder is None and not Path(data.folder).is_dir():
        raise DataError(
            f"{data.folder}, which {run.folder} was trained on, is not there any more; give its new place with "
            "--data FOLDER --split validation, or other labelled pictures with --data FOLDER."
        )
    if folder is not None and split is None:
        table = _class_table(config, Path(folder))
        if objects:
            other, label = _objects_of(Path(folder), config, table, run.classes()), str(folder)
        else:
            other, label = open_folder(folder, table), str(folder)
        chosen = Readable(other, [entry for entry in other.entries if other.labelled(entry)], config.model.channels)
        others = _called(Path(folder))
    else:
        sets = open_sets_for(data, config.seed, objects=objects)
        label = split or ("test" if len(sets.test) else "validation")
        part = cast(Readable, getattr(sets, label)).labelled()
        chosen = Readable(part.folder, part.entries, config.model.channels)
        others = ""
        if folder is not None and run.read_data().get("fingerprint") != sets.fingerprint():
            others = _called(Path(folder), label)
    ours, theirs = run.classes().names, chosen.folder.classes.names
    if ours != theirs and not (objects and 2 in (len(ours), len(theirs))):
        raise DataError(
            f"{chosen.folder.root} has the classes {', '.join(theirs)}, the run has {', '.join(ours)}; "
            "give the folder a classes.toml with the run's classes."
        )
    if names is not None:
        wanted = _names(names)
        known = {entry.name: entry for entry in (chosen.entries if split else chosen.folder.entries)}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise DataError(
                f"{len(missing)} names of the list are no pictures of {chosen.folder.root}"
                f"{f', {split} part' if split else ''}, such as {missing[0]}."
            )
        chosen = Readable(chosen.folder, [known[name] for name in wanted], config.model.channels)
        label = f"{len(wanted)} listed"
        others = f"{others} {Path(names).stem if isinstance(names, str | Path) else label}".strip()
    if not len(chosen):
        raise DataError(
            f"{chosen.folder.root} has no labelled pictures to measure on ({label}); give another --split or --data."
        )
    return chosen, label, others


def _called(place: Path, split: str | None = None) -> str:
    """What files about a folder of pictures are called by: the end of its path, for many are called "test"."""
    return " ".join([*place.resolve().parts[1:][-2:], *([split] if split else [])])


def _objects_of(folder: Path, config: Config, table: str | Path | None, ours: Classes) -> Folder:
    """Another folder of objects: with the classes that it says itself where they are the run's, or where one of the two
    has a single class of objects; else read by the run's class table."""
    if config.data.classes is None and not (folder / CLASSES_FILE).is_file():
        own = open_folder(folder, write_classes=False, objects=True)
        if own.classes.names == ours.names or 2 in (len(own.classes), len(ours)):
            return own
    return open_folder(folder, table, objects=True)


def _class_table(config: Config, folder: Path) -> str | Path | None:
    """The classes.toml to read another folder with: the one that the run was given, else the folder's own, else that
    of the run's pictures."""
    runs = Path(config.data.folder) / CLASSES_FILE
    if config.data.classes is None and not (folder / CLASSES_FILE).is_file() and runs.is_file():
        return runs
    return config.data.classes


def _names(names: str | Path | Sequence[str]) -> list[str]:
    if isinstance(names, str | Path):
        path = Path(names)
        if not path.is_file():
            raise UsageError(f"{path} is no file of picture names; give one with a name a line.")
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return list(names)
