"""A run as one file that answers without us, compared on the run's own pictures; and which engine is fastest for it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.read import read_image
from ..data.sets import Readable, Sets
from ..errors import DataError, IntarsiaError, UsageError
from ..files import Lock, make_folder, write_atomically
from ..inference.engines import RUNNERS, Engine, Metadata, installed, load_exported
from ..inference.export import NEEDS, SUFFIX, AnyExported, Export, Exportable, Format, Precision, export_model
from ..inference.exported import ExportedPredictor
from ..inference.exported_objects import ExportedObjectPredictor
from ..inference.folder import Strip
from ..inference.objects import ObjectPredictor
from ..inference.predictor import Predictor, fingerprint
from ..inference.quantise import CALIBRATION, Drop, average_precision, mean_iou
from ..models.contract import GenerativeModel, SemanticModel
from ..models.instance.map_model import MapModel
from ..records import Classes, Image, Instances, Sample
from ..runs import Run, Which
from .wishes import open_sets_for, stored_config

COMPARED = 8  # pictures on which a file is compared with PyTorch
MEASURED = 200  # labelled pictures on which the cost of int8 is measured
SECONDS = 1.0  # that all candidates together are measured for


@dataclass(frozen=True)
class Exported:
    """What was exported, and what was found of it."""

    export: Export
    source: str  # the pictures it was compared on, in words
    drop: Drop | None  # what int8 costs; None: nothing was quantised, or there are no labelled pictures


def export_run(
    run: str | Path,
    path: str | Path | None = None,
    *,
    format: Format = "onnx",
    precision: Precision = "fp32",
    probabilities: bool = False,
    bits: int | None = None,
    weights: Which = "best",
    force: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a run of a segmenter, or of a model of objects of maps, as one file: RUN/NAME_PRECISION.onnx (.xml, .pt2),
    or `path`.

    It is compared with PyTorch on pictures that the run held back or learnt from, or on noise where these are gone.
    int8 is calibrated on pictures that it learnt from, and refused where it costs more than a point of mean IoU, or
    of AP50, on those that it held back, unless `force`. bits: 8 or 16, of the pictures' numbers; None: as the run's own
    pictures. Raises UsageError, DataError, and as `export_model` does.
    """
    source = Run(run)
    model = _exportable(source, weights)
    sets = _own_sets(source, isinstance(model, MapModel))
    if precision == "int8" and sets is None:
        raise DataError(
            f"int8 is calibrated on the pictures that {source.folder} was trained on, and they are not there any more; "
            "restore them, or take --precision fp16."
        )
    pictures, words = _pictures(model, sets)
    if bits is None:
        bits = 16 if any(each.dtype != np.uint8 for each in pictures) else 8
    if bits == 8:
        _refuse_deep(pictures)
    calibration = [] if sets is None or precision != "int8" else _images(sets.train, CALIBRATION)
    drops: list[Drop] = []

    def judge(predictor: AnyExported) -> None:
        if precision == "int8" and sets is not None:
            reference = _predictor(source, model, "cpu")
            drops.extend(_drop(reference, predictor, sets))
            for drop in drops:
                drop.require(force)

    suffix = SUFFIX.get(format, "")
    export = export_model(
        model, source.classes(), path or source.folder / f"{source.name}_{precision}{suffix}",
        name=source.model_config().name, pictures=pictures, format=format, precision=precision,
        probabilities=probabilities, bits=bits, temperature=source.temperature(), calibration=calibration, judge=judge,
        overwrite=overwrite,
    )  # fmt: skip
    return Exported(export, words, drops[0] if drops else None)


def engine_of(
    run: str | Path,
    engine: str,
    picture: str | Path | None = None,
    *,
    weights: Which = "best",
    say: Callable[[str], object] = lambda line: None,
) -> Engine | None:
    """What computes a run's answers: an engine, or None for PyTorch itself.

    engine: "torch", "onnxruntime", "openvino"; or "auto" for the fastest that is installed, measured once on a picture
    of the size of `picture` (None: 480 x 360), and remembered in RUN/engines/. The exported file lies there as well.
    """
    if engine == "torch":
        return None
    if engine not in ("auto", *RUNNERS[".onnx"]):
        raise UsageError(f"the engine {engine} is unknown; choose auto, torch, {' or '.join(RUNNERS['.onnx'])}.")
    source = Run(run)
    if engine == "auto" and not any(_makeable(name) for name in RUNNERS[".onnx"]):
        say("No other engine is installed than PyTorch; `pip install intarsia[export]` brings some.")
        return None
    model = _exportable(source, weights)
    folder = make_folder(source.folder / "engines")
    with Lock(folder / ".lock"):
        path = _kept(source, model, folder, weights, say)
        if engine != "auto":
            return load_exported(path, engine)  # type: ignore[arg-type]
        return _fastest(source, model, path, picture, say)


def _exportable(run: Run, weights: Which) -> Exportable:
    model = run.load_model(weights)
    if isinstance(model, SemanticModel | MapModel):
        return model
    if isinstance(model, GenerativeModel):
        raise UsageError(
            f"{run.folder} holds a generative model, which is not exported so far; `generate` draws by it."
        )
    name = run.model_config().name
    raise UsageError(
        f"{run.folder} holds a {name}, which is not exported so far; of models of objects instance_segnet and "
        "watershed are exported. Predict by the run, without --engine."
    )


def _predictor(run: Run, model: Exportable, device: Literal["auto", "cpu"]) -> Predictor | ObjectPredictor:
    """Who answers by PyTorch."""
    if isinstance(model, MapModel):
        return ObjectPredictor(model, run.classes(), device=device)
    return Predictor(model, run.classes(), device=device, temperature=run.temperature())


def _own_sets(run: Run, objects: bool) -> Sets | None:
    """The run's pictures in the parts of its training; None where they are gone, or others by now."""
    config = stored_config(run)
    try:
        sets = open_sets_for(config.data.model_copy(update={"generated": None}), config.seed, objects=objects)
    except (IntarsiaError, OSError):
        return None
    before = run.read_data()
    now = {"train": len(sets.train), "validation": len(sets.validation), "test": len(sets.test)}
    return sets if all(before.get(part, count) == count for part, count in now.items()) else None


def _pictures(model: Exportable, sets: Sets | None) -> tuple[list[Image], str]:
    """Pictures to compare on, of which the last is drawn noise of an odd size, and what they are in words."""
    channels = int(model.get_buffer("mean").numel())
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (height, width, channels), np.uint8) for height, width in ((97, 131), (33, 57))]
    if sets is not None:
        part, name = (sets.validation, "validation") if len(sets.validation) else (sets.train, "train")
        found = _images(part, COMPARED)
        if found:
            return [*found, noise[1]], f"{len(found)} of the run's own ({name}) and one of noise"
    return noise, "noise: the run's own are gone"


def _images(part: Readable, count: int) -> list[Image]:
    """Up to `count` pictures from all over a part; those that can't be read are left out."""
    chosen = np.linspace(0, len(part) - 1, min(count, len(part))).round().astype(int)
    images = []
    for index in chosen.tolist():
        try:
            images.append(part[index].image)
        except DataError:
            continue
    return images


def _refuse_deep(pictures: Sequence[Image]) -> None:
    deep = next((each for each in pictures if each.dtype != np.uint8), None)
    if deep is not None:
        raise UsageError(f"the run's pictures hold {deep.dtype} numbers, which 8 bits can't; export with --bits 16.")


def _drop(reference: Predictor | ObjectPredictor, exported: AnyExported, sets: Sets) -> list[Drop]:
    """What int8 costs on the labelled pictures that were held back, or else on those learnt from; [] without any."""
    for name, part in (("validation", sets.validation.labelled()), ("train", sets.train.labelled())):
        if len(part):
            few = Readable(part.folder, part.entries[:MEASURED], part.channels, part.hidden)
            before, count, what = _score(reference, few, reference.classes)
            if count:
                return [Drop(before, _score(exported, few, reference.classes)[0], count, name, what)]
    return []


def _score(
    predictor: Predictor | ObjectPredictor | AnyExported, samples: Readable, classes: Classes
) -> tuple[float, int, str]:
    """How good the answers to labelled samples are, how many samples those were, and what was measured."""
    if isinstance(predictor, ObjectPredictor | ExportedObjectPredictor):

        def found(sample: Sample) -> Instances:
            return predictor.predict(sample.image).instances

        return *average_precision(found, samples, classes), "AP50"

    def answer(sample: Sample) -> Strip:
        return predictor.predict(sample.image)

    return *mean_iou(answer, samples, classes), "mean IoU"


def _makeable(name: str) -> bool:
    return installed(name) and all(installed(each) for each in NEEDS["onnx"] if each != "onnxruntime")


def _kept(run: Run, model: Exportable, folder: Path, weights: Which, say: Callable[[str], object]) -> Path:
    """The run's file for engines, made where it is missing, or of other weights, temperature or thresholds."""
    path = folder / "fp32.onnx"
    digest = fingerprint(model)
    if path.is_file():
        try:
            kept: Metadata = load_exported(path).metadata
        except IntarsiaError:
            kept = Metadata("", run.classes(), 1, 8, "", False)
        same = kept.weights == digest and kept.temperature == run.temperature()
        if same and kept.thresholds == (model.thresholds if isinstance(model, MapModel) else {}):
            return path
    say("Exporting the run once for other engines ...")
    several = isinstance(model, SemanticModel)
    export_run(run.folder, path, probabilities=several, bits=16, weights=weights, overwrite=True)
    return path


def _fastest(
    run: Run, model: Exportable, path: Path, picture: str | Path | None, say: Callable[[str], object]
) -> Engine | None:
    """The fastest engine for pictures of this size on this machine; None: PyTorch."""
    channels = int(model.get_buffer("mean").numel())
    image = np.zeros((360, 480, channels), np.uint8) if picture is None else read_image(picture)
    height, width = (min(side, 1024) for side in image.shape[:2])  # larger ones go in tiles of that size
    key = f"{_machine()} · {width} x {height} · {fingerprint(model)[:8]}"
    notes = path.with_name("measured.json")
    known = _read(notes)
    engines = {name: load_exported(path, name) for name in RUNNERS[".onnx"] if installed(name)}  # type: ignore[arg-type]
    if known.get(key) not in (*engines, "torch"):
        values = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
        asked: dict[str, Predictor | ObjectPredictor | AnyExported] = {"torch": _predictor(run, model, "auto")}
        of_objects = isinstance(model, MapModel)
        for name, engine in engines.items():
            asked[name] = ExportedObjectPredictor(engine) if of_objects else ExportedPredictor(engine)
        ask = {name: partial(_answered, each, values) for name, each in asked.items()}
        times = measured(ask)
        known[key] = min(times, key=lambda name: times[name])
        write_atomically(notes, json.dumps(known, indent=1, ensure_ascii=False).encode())
        told = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
        say(f"{width} x {height}: {told}; {known[key]} is taken from now on ({notes}).")
    return engines.get(known[key])


def _answered(predictor: Predictor | ObjectPredictor | AnyExported, values: np.ndarray) -> np.ndarray:
    """What is timed: the class of each pixel, or the maps that objects are made of, which any engine's are alike."""
    if isinstance(predictor, ObjectPredictor | ExportedObjectPredictor):
        answer = predictor.answer(values)
        assert isinstance(answer, np.ndarray)
        return answer
    return predictor.predict(values).mask


def measured(ask: Mapping[str, Callable[[], object]], seconds: float = SECONDS) -> dict[str, float]:
    """The shortest time of each candidate, in seconds; they take turns for so many in all, after a first call each."""
    for each in ask.values():
        each()
    best = dict.fromkeys(ask, float("inf"))
    until = time.perf_counter() + seconds
    while True:
        for name, each in ask.items():
            start = time.perf_counter()
            each()
            best[name] = min(best[name], time.perf_counter() - start)
        if time.perf_counter() >= until:
            return best


def _machine() -> str:
    """The kind of processor and how many this process may use: what a measurement holds for."""
    kind = platform.processor() or platform.machine()
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text().splitlines()
        kind = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{kind}, {count} cores"


def _read(path: Path) -> dict[str, str]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in tree.items()} if isinstance(tree, dict) else {}
