"""What a report is made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from ..records import Classes
from ..training.evaluation import Evaluation

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
