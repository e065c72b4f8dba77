"""What a comparison was asked for, and what is worked out once for all of its trainings: plan, steps, pictures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, read_config, to_toml
from ..data.fingerprint import combine
from ..data.sets import Readable, Sets
from ..errors import DataError, IntarsiaError, UsageError
from ..files import write_atomically
from ..fitting import completed, open_for
from ..models import MODELS
from ..models.contract import InstanceModel
from ..models.semantic import SEGMENTERS
from ..plan import make_plan, time_step
from ..plan.segmenters import RARE
from ..training.machine import choose_device, tune_allocator
from .criteria import MASKS, OBJECTS, Criterion
from .methods import CONTROL, FLOOR, Method, choose, configuration, finds_objects, shared_tree

Say = Callable[[str], None]

SPLIT_SEED = 0  # of the division, so that every training is judged on the same pictures
BUDGET_SHARE = 0.93  # of the minutes, for steps; the rest goes to reading, scoring and saving
OURS = {  # settings that the comparison makes itself, and what to give instead
    "seed": "--seeds", "data.labelled": "--labels", "train.steps": "--steps", "train.minutes": "--minutes",
    "train.epochs": "--steps", "data.split_seed": "the folder's own lists", "data.generated": "--methods",
    "data.folder": "the folder itself", "train.validate_every": "nothing: nothing is chosen while it trains",
    "train.patience": "nothing: all trainings are equally long",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What the user wants to know."""

    folder: Path
    labels: tuple[int, ...]  # numbers of masks to learn from, rising
    methods: Mapping[str, Method]  # by name, the control among them
    seeds: int = 1  # trainings with each, with seeds 0, 1, ...
    minutes: float | None = None  # that one control training may take; None with `steps` None: as the plan says
    steps: int | None = None
    split: str = "validation"  # or "test": what is judged on
    imbalance: bool = False  # measures against rare classes are compared, and rare classes are what is scored
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the user, over the plan, for all alike
    objects: bool = False  # ways to find objects are compared, by AP50; False: masks, by mean IoU

    @property
    def criterion(self) -> Criterion:
        if not self.objects:
            return MASKS
        name = self.control_model
        return OBJECTS if name == FLOOR else replace(OBJECTS, control=f"{name}, the control", without=name)

    @property
    def control_model(self) -> str:
        """The name of the control's model, also where it is the default: what was advised before is no control."""
        return str(self.settings.get("model.name", FLOOR if self.objects else "unet")).strip("'\"")

    @property
    def tuned(self) -> bool:
        """Whether objects are made by thresholds tuned on validation pictures: not where these are judged."""
        return self.objects and self.split == "test"


@dataclass
class Prepared:
    """What all trainings of a comparison have alike."""

    asked: Asked
    shared: dict[str, Any]  # the plan without what only a training's own labelled pictures say
    steps: int
    sets: Sets  # all masks known: only for judging, and for counting
    scored: np.ndarray  # (K,) bool: the classes that the score is the mean of
    step_seconds: dict[str, float]  # of each method's last training, measured; of what comes before it "METHOD: before"
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> Readable:
        part: Readable = getattr(self.sets, self.asked.split)
        return part.labelled()

    @property
    def device(self) -> str:
        return choose_device(self.shared.get("train", {}).get("device", "auto"))

    def config(self, method: Method, labels: int, seed: int, steps: int) -> Config:
        return configuration(self.shared, method.settings, labels, seed, steps, SPLIT_SEED, self.asked.tuned)

    def before(self, method: Method, labels: int, seed: int) -> Config:
        """The training from whose weights a method's last one starts."""
        assert method.start is not None
        return configuration(self.shared, method.start, labels, seed, self.steps, SPLIT_SEED)

    def begun(self) -> dict[str, Any]:
        """What a comparison's folder says of itself: what may not change while its trainings go on."""
        asked = self.asked
        return {
            "folder": os.path.abspath(asked.folder), "fingerprint": self.sets.fingerprint(), "minutes": asked.minutes,
            "steps asked for": asked.steps, "split": asked.split, "imbalance": asked.imbalance,
            "objects": asked.objects,
            "settings": {key: str(value) for key, value in asked.settings.items()}, "steps": self.steps,
            "plan": self.shared, "reasons": self.reasons,
            "seconds a step": {name: each for name, each in self.step_seconds.items() if math.isfinite(each)},
        }  # fmt: skip


def ask(
    folder: str | Path,
    labels: Sequence[int] | str,
    methods: str | Sequence[str] = "all",
    *,
    seeds: int = 1,
    minutes: float | None = None,
    steps: int | None = None,
    split: str = "validation",
    imbalance: bool = False,
    settings: Mapping[str, Any] | None = None,
    objects: bool = False,
) -> Asked:
    """The wishes, checked as far as they can be without reading a picture. Objects are judged where `objects` says so,
    or one of the methods finds objects. Raises UsageError."""
    counts = _numbers(labels)
    if minutes is not None and steps is not None:
        raise UsageError("minutes and steps are both given; give one budget.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g} is no time to train in; give more than 0.")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps} is no training; give 1 or more.")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} is no training; give 1, better 3 or more.")
    if split not in ("validation", "test"):
        raise UsageError(f"--split {split}: choose validation or test; the training part is learnt from.")
    for key in settings or {}:
        if key in OURS:
            raise UsageError(f"--set {key} would make the trainings differ in more than the method; use {OURS[key]}.")
    objects = objects or finds_objects(methods)
    if objects and imbalance:
        raise UsageError("--imbalance compares measures for rare classes of pixels; leave it or --objects out.")
    return Asked(
        Path(folder), counts, choose(methods, imbalance, objects), seeds, minutes, steps, split, imbalance,
        dict(settings or {}), objects,
    )  # fmt: skip


def prepare(asked: Asked, out: Path, say: Say = lambda line: None, keep: bool = True) -> Prepared:
    """The pictures, one plan, the steps, and how long a step of each method takes. Where the comparison in `out` was
    begun before, what was found then; nothing is measured twice. keep: write it down there.

    Raises UsageError where it was begun with other pictures or settings, or more labels are asked for than there are.
    """
    stored = _stored(out)
    name = _control_model(asked)
    wished = read_config(None, {"model.name": name} | _data_settings(asked), Config())
    say(f"reading {asked.folder}")
    sets = open_for(wished)
    assert isinstance(sets, Sets)
    most = len(sets.measures)
    if asked.labels[-1] > most:
        raise UsageError(
            f"--labels {asked.labels[-1]}: the training part of {asked.folder} has {most} labelled pictures; ask for "
            f"numbers up to {most}."
        )
    if not len(getattr(sets, asked.split)):
        raise DataError(
            f"{asked.folder} has no labelled {asked.split} picture to judge the methods on; label some more, or write "
            f"a list {asked.split.removesuffix('idation')}.txt, or set data.{asked.split} to a share."
        )
    if stored is None:
        prepared = _planned(asked, wished, sets, name)
    else:
        prepared = Prepared(
            asked, stored["plan"], stored["steps"], sets, _scored(asked, sets), dict(stored["seconds a step"]),
            stored["reasons"],
        )  # fmt: skip
        _refuse_other(out, stored, prepared.begun())
    if prepared.shared.get("model", {}).get("channels"):  # as the plan found them among all pictures
        channels = prepared.shared["model"]["channels"]
        sets.train.channels = sets.validation.channels = sets.test.channels = channels
    _measure(prepared, say)
    if keep:
        write_atomically(out / "begun.json", json.dumps(prepared.begun(), indent=1).encode())
        write_atomically(out / "plan.toml", _plan_text(prepared).encode())
    return prepared


def _control_model(asked: Asked) -> str:
    """The control's model, which has to be of the kind that is compared. Raises UsageError for others."""
    name = asked.control_model
    if asked.objects:
        able = [each for each, kind in MODELS.items() if issubclass(kind, InstanceModel)]
        if name not in able:
            raise UsageError(
                f"model.name = {name!r} is the control here, and has to find objects: {', '.join(able)}; masks are "
                "compared without --objects."
            )
    elif name not in SEGMENTERS:
        raise UsageError(
            f"model.name = {name!r} is the control here, and has to be a plain segmenter: {', '.join(SEGMENTERS)}; "
            "what teaches it is chosen with --methods."
        )
    return name


def _planned(asked: Asked, wished: Config, sets: Sets, name: str) -> Prepared:
    device = choose_device(wished.train.device)
    plan = make_plan(sets, wished.data, asked.minutes, device=device, model=name, measure=False)
    shared = shared_tree(plan.config, asked.settings)
    prepared = Prepared(asked, shared, asked.steps or 1, sets, _scored(asked, sets), {}, plan.reasons)
    if asked.steps is None:
        tune_allocator()
        seconds = _step_seconds(prepared, asked.methods[CONTROL].settings)
        if math.isnan(seconds):
            raise UsageError("a step of the control can't be made; `intarsia fit` with these settings says why.")
        minutes = asked.minutes or plan.config.train.minutes or 10.0
        prepared.steps = max(20, round(60 * minutes * BUDGET_SHARE / seconds))
        prepared.step_seconds[CONTROL] = seconds
    return prepared


def _measure(prepared: Prepared, say: Say) -> None:
    """Times a step of each method that was not timed yet."""
    tune_allocator()
    for name, method in prepared.asked.methods.items():
        if name in prepared.step_seconds:
            continue
        if method.pairs:  # its last training is the control's, on more pictures
            prepared.step_seconds[name] = prepared.step_seconds[CONTROL]
            continue
        say(f"timing a step of {name}")
        prepared.step_seconds[name] = _step_seconds(prepared, method.settings)
        if method.start is not None:
            prepared.step_seconds[f"{name}: before"] = _step_seconds(prepared, method.start)


def _step_seconds(prepared: Prepared, settings: Mapping[str, Any]) -> float:
    """NaN where a step can't be made: its training will say why."""
    labels = prepared.asked.labels[0]
    try:
        config = configuration(prepared.shared, settings, labels, 0, 1, SPLIT_SEED)
        return time_step(completed(config, prepared.sets), prepared.device, most=10.0)
    except (IntarsiaError, RuntimeError, MemoryError, ValueError):
        return math.nan


def _scored(asked: Asked, sets: Sets) -> np.ndarray:
    """All classes; for measures against imbalance the rare ones, of the training part's masks."""
    count = len(sets.classes)
    if not asked.imbalance:
        return np.ones(count, bool)
    shares = np.array(combine(sets.measures, count).shares)
    rare = (shares > 0) & (shares < RARE)
    if not rare.any():
        rare = shares == shares[shares > 0].min()
    return np.asarray(rare)


def _data_settings(asked: Asked) -> dict[str, Any]:
    """Of what was asked, what says which pictures there are and what they are computed on."""
    told = {key: value for key, value in asked.settings.items() if key.startswith(("data.", "train.device"))}
    return told | {"data.folder": os.path.abspath(asked.folder), "data.split_seed": SPLIT_SEED}


def _stored(out: Path) -> dict[str, Any] | None:
    path = out / "begun.json"
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree["plan"], dict) and isinstance(tree["steps"], int):
            return dict(tree)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path} is damaged, so nobody knows how {out} was begun; restore it, or give another --out.")


def _refuse_other(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Finished trainings can only be set beside others that had the same budget, plan and pictures. Methods, labels and
    seeds may be added."""
    fixed = ("minutes", "steps asked for", "split", "imbalance", "objects")
    before = {"objects": False, **before}  # comparisons that were begun before there were others
    changed = [f"{key}: {before.get(key)} -> {now[key]}" for key in fixed if before.get(key) != now[key]]
    ours, theirs = before.get("settings", {}), now["settings"]
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    changed += [f"{key}: {ours.get(key, 'as planned')} -> {theirs.get(key, 'as planned')}" for key in keys]
    if changed:
        raise UsageError(
            f"{out} was begun with other settings: {'; '.join(changed)}. Give the same again (methods, labels and "
            "seeds may be added), or give the new ones a folder of their own with --out."
        )
    if before.get("fingerprint") != now["fingerprint"]:
        raise UsageError(
            f"{out} was begun with other pictures than {now['folder']} holds now (files added, removed or changed); "
            "restore them, or compare anew with another --out."
        )


def _plan_text(prepared: Prepared) -> str:
    config = prepared.config(prepared.asked.methods[CONTROL], prepared.asked.labels[0], 0, prepared.steps)
    heading = (f"The control of a comparison, with {prepared.asked.labels[0]} labels and seed 0.",)
    return to_toml(config, prepared.reasons, heading)


def _numbers(labels: Sequence[int] | str) -> tuple[int, ...]:
    words = labels.split(",") if isinstance(labels, str) else labels
    try:
        counts = sorted({int(each) for each in words if str(each).strip()})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise UsageError(f"--labels {labels}: give numbers of labelled pictures, such as 5,10,20,40.")
    return tuple(counts)
