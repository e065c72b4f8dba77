"""One training of a comparison: what has to be made before it, itself, and what it answers on the judged pictures."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..api import load
from ..data.sets import Readable
from ..errors import DiskError, IntarsiaError, Stopped, UsageError
from ..files import remove_file, write_atomically
from ..fitting import fit
from ..inference.objects import ObjectPredictor
from ..inference.predictor import Predictor
from ..metrics import Confusion, LabelConfusion
from ..models.contract import InstanceModel
from ..runs import Run
from ..training.watchers import Show
from .asked import SPLIT_SEED, Prepared, Say
from .criteria import object_counts
from .methods import CONTROL, EQUAL_TIME, GENERATOR

RESULT = "result.json"
PAIRS = 200  # made by `synthesis`
SAME_MACHINE = ("train.device", "train.threads", "train.precision", "train.workers", "train.checkpoint_seconds")


@dataclass(frozen=True)
class Job:
    """One training of the queue."""

    method: str
    labels: int
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Of its folder."""
        told = f"{CONTROL}-{self.steps}steps" if self.method == EQUAL_TIME else self.method
        return f"{told}-k{self.labels}-s{self.seed}"


@dataclass(frozen=True)
class Result:
    """What came of a training. P judged pictures, K classes."""

    job: Job
    failure: str  # a sentence; empty where it did not fail
    seconds: dict[str, float]  # of training, by what was trained: "control", "pairs", "last", ...
    pictures: tuple[str, ...] = ()
    #: (P, 3, K) int64 pixels or objects: TP, TP + FN, TP + FP of each picture and class
    counts: np.ndarray | None = None

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.job.method, "labels": self.job.labels, "seed": self.job.seed, "steps": self.job.steps,
            "failure": self.failure, "seconds": self.seconds, "pictures": list(self.pictures),
            "counts": None if self.counts is None else self.counts.tolist(),
        }  # fmt: skip


def read_result(folder: Path, job: Job) -> Result | None:
    """What is written of a training; None where it has not ended, or the file is damaged or of another training."""
    try:
        tree = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if (tree["method"], tree["labels"], tree["seed"], tree["steps"]) != (
            job.method, job.labels, job.seed, job.steps
        ):  # fmt: skip
            return None
        counts = None if tree["counts"] is None else np.array(tree["counts"], np.int64)
        return Result(job, tree["failure"], dict(tree["seconds"]), tuple(tree["pictures"]), counts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run(job: Job, prepared: Prepared, out: Path, say: Say, show: Show | None = None) -> Result:
    """Trains and judges, going on from what is there; the result is written beside the run. A training that can't be
    made is recorded as failed with the reason. Raises Stopped, and DiskError: then nothing is recorded."""
    folder = out / "runs" / job.name
    folder.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    try:
        result = _trained(job, prepared, out, folder, seconds, say, show)
    except (Stopped, DiskError):
        raise
    except Exception as error:  # whatever it is, the other trainings of a night's queue go on
        if isinstance(error, OSError):
            raise
        kind = "" if isinstance(error, IntarsiaError) else f"an error of ours, {type(error).__name__}: "
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            kind = "the memory was full: "
        result = Result(job, f"{kind}{error}", seconds)
        say(f"{job.name} failed: {result.failure}")
    write_atomically(folder / RESULT, json.dumps(result.to_json()).encode())
    if not result.failure:
        remove_file(folder / "state.pt")  # of many trainings these would fill the disk, and none is gone on with
    return result


def _trained(
    job: Job, prepared: Prepared, out: Path, folder: Path, seconds: dict[str, float], say: Say, show: Show | None
) -> Result:
    method = prepared.asked.methods[CONTROL if job.method == EQUAL_TIME else job.method]
    config = prepared.config(method, job.labels, job.seed, job.steps)
    own = out / "before" / job.name
    settings: dict[str, Any] = {}
    if method.start is not None:
        before = prepared.before(method, job.labels, job.seed)
        seconds["before"] = fit(run=own, config=before, show=show, say=say).seconds
        settings["train.start"] = str(own)
    if method.pairs is not None:
        control = Job(CONTROL, job.labels, job.seed, prepared.steps)
        teacher = out / "runs" / control.name
        taught = read_result(teacher, control)
        if taught is None or taught.failure:
            raise UsageError(f"it needs the control with the same labels and seed, {control.name}, which failed.")
        seconds["control"] = taught.total
        if method.pairs == "synthesize":
            seconds["generator"] = _generator(job, prepared, own / "generator", say, show)
        seconds["pairs"] = _pairs(method.pairs, job, teacher, own, "cuda" if prepared.device == "cuda" else "cpu")
        settings["data.generated"] = str(own / "pairs")
    fitted = fit(run=folder, config=config, settings=settings, show=show, say=say)
    seconds["last"] = fitted.seconds
    if prepared.asked.objects:
        pictures, counts = judged_objects(folder, prepared.judged, prepared.device, prepared.asked.tuned)
    else:
        pictures, counts = judged(folder, prepared.judged, prepared.device)
    return Result(job, "", seconds, pictures, counts)


def _generator(job: Job, prepared: Prepared, folder: Path, say: Say, show: Show | None) -> float:
    """Seconds that the training of the generator took: on the same labelled pictures, for as many steps."""
    shared = prepared.shared
    same = {key: value for key, value in prepared.asked.settings.items() if key in SAME_MACHINE}
    data = {f"data.{key}": value for key, value in shared.get("data", {}).items() if key != "whole"}
    settings = {**data, **same, **GENERATOR, "data.split_seed": SPLIT_SEED}
    folder_of_pictures = settings.pop("data.folder")
    fitted = fit(
        folder_of_pictures, run=folder, settings=settings, labelled=job.labels, seed=job.seed, steps=prepared.steps,
        show=show, say=say,
    )  # fmt: skip
    return fitted.seconds


def _pairs(kind: str, job: Job, teacher: Path, own: Path, device: Literal["cpu", "cuda"]) -> float:
    """Makes pictures with masks in OWN/pairs; seconds that it took, at the last try."""
    from ..fitting import pairs

    told, made = own / "pairs.json", own / "pairs"
    if told.is_file():
        return float(json.loads(told.read_text(encoding="utf-8"))["seconds"])
    begin = time.perf_counter()
    if kind == "pseudo_label":
        pairs.pseudo_label(teacher, made, device=device)
    else:
        pairs.synthesize(own / "generator", made, PAIRS, filter_run=teacher, seed=job.seed, device=device)
    took = time.perf_counter() - begin
    write_atomically(told, json.dumps({"seconds": took}).encode())
    return took


def judged(run: Path, samples: Readable, device: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the labelled samples, and counts (P, 3, K) of a run's last, averaged weights on each."""
    predictor = load(run, weights="last", device="cuda" if device == "cuda" else "cpu", temperature=1.0)
    assert isinstance(predictor, Predictor)
    classes = predictor.classes
    names, rows = [], []
    for sample in samples:
        prediction = predictor.predict(sample.image, sample.name)
        tally: Confusion | LabelConfusion
        if classes.overlapping:
            tally, truth, answer = LabelConfusion.zeros(len(classes)), sample.labels, prediction.labels
        else:
            tally, truth, answer = Confusion.zeros(len(classes)), sample.mask, prediction.mask
        if truth is None:
            continue
        tally.add(truth, answer)
        names.append(sample.name)
        rows.append(np.stack([tally.hits, tally.actual, tally.predicted]))
    return tuple(names), np.array(rows, np.int64)


def judged_objects(run: Path, samples: Readable, device: str, tuned: bool) -> tuple[tuple[str, ...], np.ndarray]:
    """The same counts, of objects. tuned: these are made by the run's own thresholds, which are tuned on validation
    pictures; False: by the model's first, since validation pictures are what is judged."""
    source = Run(run)
    model = source.load_model("last")
    assert isinstance(model, InstanceModel)
    first = None if tuned else {name: values[0] for name, values in model.candidates.items()}
    place: Literal["cpu", "cuda"] = "cuda" if device == "cuda" else "cpu"
    predictor = ObjectPredictor(model, source.classes(), device=place, thresholds=first)
    names, rows = [], []
    for sample in samples:
        if sample.instances is None:
            continue
        found = predictor.predict(sample.image, sample.name).instances
        names.append(sample.name)
        rows.append(object_counts(sample.instances, found, predictor.classes))
    return tuple(names), np.array(rows, np.int64)
