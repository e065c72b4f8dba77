"""What a report is made of."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..data.read import read_image
from ..errors import DataError
from ..records import Classes
from ..training.evaluation import Evaluation
from ..training.generation import GenerativeEvaluation
from ..training.object_evaluation import ObjectEvaluation

VERSIONED = ("intarsia", "torch", "torchvision", "timm", "lightning", "numpy")  # packages that decide a run's result


def versions() -> dict[str, str]:
    """The installed versions of what decides a run's result, Python's own first; what is not installed is left out."""
    found = {"Python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class ReportData:
    """One run, as far as it is known; the report leaves out what is missing."""

    name: str  # of the run
    classes: Classes
    config_text: str = ""  # TOML
    # The lines of metrics.jsonl: "step", "time" in seconds since the start, "learning_rate", "train/…", "validation/…"
    rows: Sequence[Mapping[str, float]] = ()
    evaluation: Evaluation | None = None
    split: str = "validation"  # which pictures were evaluated
    counts: Mapping[str, int] = field(default_factory=dict)  # pictures by what they are: {"training": 367, …}
    seconds: float | None = None  # of training
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())


@dataclass(frozen=True)
class GenerativeReportData:
    """One run of a generative model, as far as it is known; the report leaves out what is missing."""

    name: str  # of the run
    config_text: str = ""  # TOML
    # The lines of metrics.jsonl: "step", "time" in seconds since the start, "train/…", "validation/…"
    rows: Sequence[Mapping[str, float]] = ()
    evaluation: GenerativeEvaluation | None = None
    split: str = "validation"  # which pictures were held back
    counts: Mapping[str, int] = field(default_factory=dict)  # pictures by what they are: {"training": 367, …}
    samples: Sequence[tuple[int, np.ndarray]] = ()  # step, and what was drawn then, (H, W, 3) uint8; see read_samples
    seconds: float | None = None  # of training
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())


@dataclass(frozen=True)
class ObjectReportData:
    """One run of a model of objects, as far as it is known; the report leaves out what is missing."""

    name: str  # of the run
    classes: Classes  # the background first
    config_text: str = ""  # TOML
    # The lines of metrics.jsonl: "step", "time" in seconds since the start, "learning_rate", "train/…", "validation/…"
    rows: Sequence[Mapping[str, float]] = ()
    evaluation: ObjectEvaluation | None = None
    split: str = "validation"  # which pictures were evaluated
    counts: Mapping[str, int] = field(default_factory=dict)  # pictures by what they are: {"training": 367, …}
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by which objects were made, as tuned
    seconds: float | None = None  # of training
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())


def read_samples(folder: str | Path, most: int = 12) -> list[tuple[int, np.ndarray]]:
    """What a run drew while it was trained, by step: at most so many of the folder's STEP.png, evenly spread, the first
    and the last among them. Files that can't be read, or are named otherwise, are passed over."""
    paths = {int(each.stem): each for each in Path(folder).glob("*.png") if each.stem.isdecimal()}
    steps = sorted(paths)
    if len(steps) > most:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]
    found = []
    for step in steps:
        with contextlib.suppress(DataError):
            found.append((step, read_image(paths[step])))
    return found
