"""What was asked for, what was planned, what the data say: one configuration, complete and consistent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, DataConfig, differences, read_config, validate
from ..data.folder import open_folder
from ..data.pictures import PictureSets, open_pictures
from ..data.sets import Sets, open_sets
from ..errors import UsageError
from ..models import MODELS
from ..models.contract import GenerativeModel, InstanceModel, SemanticModel
from ..models.instance import InstanceSegNetConfig
from ..plan import make_plan
from ..runs import Run
from ..training.machine import choose_device, choose_precision
from . import generators, instances, segmenters

Say = Callable[[str], None]  # takes a line for the user
ARRAY = "(array)"  # data.folder of a run whose pictures came as an array
AnySets = Sets | PictureSets


def is_generative(config: Config) -> bool:
    return issubclass(MODELS[config.model.name], GenerativeModel)


@dataclass(frozen=True)
class Array:
    """Pictures that came as an array, not as files."""

    images: np.ndarray  # (N, H, W) or (N, H, W, C)
    categories: np.ndarray | None = None  # (N,) whole numbers: what each picture shows


def overrides_of(
    folder: str | Path | None,
    settings: Mapping[str, Any] | None,
    minutes: float | None,
    steps: int | None,
    epochs: float | None,
    model: str | None,
    labelled: int | None,
    seed: int | None,
) -> dict[str, Any]:
    """The settings with the shorthands put where they belong: {"train.steps": 500, …}. Two budgets: UsageError."""
    budget = {"minutes": minutes, "steps": steps, "epochs": epochs}
    given = [name for name, value in budget.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are all given; give one budget.")
    settings = dict(settings or {})
    if "model.size" in settings:  # of generative models, which learn from pictures of their own size
        settings.setdefault("augment.crop", settings["model.size"])
    short: dict[str, Any] = {f"train.{name}": value for name, value in budget.items()}
    short |= {"data.labelled": labelled, "seed": seed, "model.name": model}
    short |= {"data.folder": None if folder is None else str(folder)}
    return settings | {key: value for key, value in short.items() if value is not None}


def configured(
    run: str | Path | Run | None,
    config: str | Path | Config | None,
    overrides: dict[str, Any],
    say: Say,
    array: Array | None = None,
) -> tuple[Config, dict[str, str], AnySets]:
    """The configuration that was asked for, with reasons where a plan made it, and the pictures it is for: the given
    one, else the run's own where it was begun, else the plan's. Paths are absolute: a run goes on from any folder."""
    begun = run if isinstance(run, Run) else None if run is None else Run(run)
    reasons: dict[str, str] = {}
    if isinstance(config, Config):
        wished = read_config(None, overrides, config)
    elif config is not None:
        wished = read_config(Path(config), overrides)
    elif begun is not None and begun.exists():
        wished = read_config(None, overrides, stored_config(begun))
    else:
        say(f"reading {overrides.get('data.folder', DataConfig().folder)}")
        wished, reasons, sets = _planned(overrides, say, array)
        return _anchored(wished), reasons, sets
    wished = _anchored(wished)
    say(f"reading {wished.data.folder}")
    return wished, reasons, open_for(wished, array)


def stored_config(run: Run) -> Config:
    return _anchored(validate(run.read_config(), str(run.config_path)))


def _anchored(config: Config) -> Config:
    """The configuration with absolute paths of the pictures, of their classes and of the run it starts from."""
    data, train = config.data, config.train
    folder = data.folder if data.folder == ARRAY else os.path.abspath(data.folder)
    paths = {"folder": folder, "classes": data.classes and os.path.abspath(data.classes)}
    paths["generated"] = data.generated and os.path.abspath(data.generated)
    start = train.start
    if start is not None and not start.startswith("torchvision/"):
        start = os.path.abspath(start)
    return config.model_copy(
        update={"data": data.model_copy(update=paths), "train": train.model_copy(update={"start": start})}
    )


def _planned(overrides: dict[str, Any], say: Say, array: Array | None) -> tuple[Config, dict[str, str], AnySets]:
    """The plan for the folder, and over it what was asked for; its reasons; the pictures that it has read."""
    # A misspelt setting is refused before anything is read and measured; only a loss may make sense by the plan alone.
    early = {key: value for key, value in overrides.items() if not key.startswith("model.loss")}
    chosen = "model.name" in overrides or array is not None
    if not chosen:  # which settings [model] has depends on what the masks hold
        asked = suited(read_config(None, {k: v for k, v in early.items() if not k.startswith("model.")}, Config()))
    asked = read_config(None, early, Config() if chosen else asked)
    data, seed, device = asked.data, asked.seed, asked.train.device
    budget = [overrides.get(f"train.{key}") for key in ("steps", "epochs", "minutes")]
    timed = all(value is None for value in budget)
    model = asked.model.name if "model.name" in overrides else None
    sets = open_for(asked, array)
    plan = make_plan(sets, data, device=device, model=model, seed=seed, measure=timed)
    height, width = plan.config.augment.crop
    say(f"planned: {plan.config.model.name}, crops of {height}x{width}, batches of {plan.config.train.batch}")
    kept = {key: why for key, why in plan.reasons.items() if not any(_covers(given, key) for given in overrides)}
    return read_config(None, overrides, plan.config), kept, sets


def suited(config: Config) -> Config:
    """A configuration whose model nobody chose, with one that suits what the folder's masks hold: where they number
    objects, one of objects."""
    table = open_folder(config.data.folder, config.data.classes).table
    numbered = table.coding == "objects" or table.match == "nonzero"
    return config.model_copy(update={"model": InstanceSegNetConfig()}) if numbered else config


def _covers(given: str, key: str) -> bool:
    """Whether a setting that was given, or its section, is what a reason speaks of."""
    return key == given or key.startswith(f"{given}.")


def open_for(config: Config, array: Array | None = None) -> AnySets:
    """The pictures that a configuration speaks of, in their parts: with masks where its model needs them."""
    data = config.data
    if not is_generative(config):
        if array is not None:
            raise UsageError(f"{config.model.name} learns from masks; give a folder of pictures and masks, no array.")
        kind = MODELS[config.model.name]
        finds = issubclass(kind, SemanticModel) and not kind.needs_masks
        regions = config.model.classes if finds else None
        return open_sets_for(data, config.seed, regions, objects=issubclass(kind, InstanceModel))
    if generators.needs_masks(config):
        if array is not None:
            raise UsageError(f"{config.model.name} is told masks here; give a folder of pictures and masks, no array.")
        return open_sets_for(data, config.seed)
    seed = config.seed if data.split_seed is None else data.split_seed
    if array is not None:
        return open_pictures(array.images, data.validation, data.test, seed, categories=array.categories)
    if data.folder == ARRAY:
        raise UsageError("this run was begun with an array of pictures; give the same array again to go on.")
    return open_pictures(data.folder, data.validation, data.test, seed)


def open_sets_for(data: DataConfig, seed: int, regions: int | None = None, objects: bool = False) -> Sets:
    return open_sets(
        data.folder, data.classes, data.validation, data.test, data.leave_out, data.labelled, seed,
        generated=data.generated, split_seed=data.split_seed, regions=regions,
        objects=objects,
    )  # fmt: skip


def completed(config: Config, sets: AnySets) -> Config:
    """The configuration with what only the data can say, wherever the user left it open. Raises UsageError where what
    was given contradicts the data."""
    beside: dict[str, int] = {}
    if is_generative(config):
        found, augment = generators.found(config, sets)
    else:
        assert isinstance(sets, Sets)
        kind = instances if issubclass(MODELS[config.model.name], InstanceModel) else segmenters
        found, augment = kind.found(config, sets), {}
        beside = segmenters.streams_of(config, sets)
    tree = config.model_dump(mode="json", exclude_none=True)
    tree["model"] |= found
    tree["augment"] |= augment
    tree["train"] |= beside
    tree["train"]["precision"] = choose_precision(config.train.precision, choose_device(config.train.device))
    if not any((config.train.steps, config.train.epochs, config.train.minutes)):
        tree["train"]["minutes"] = 10.0
    return validate(tree, "the configuration")


def refuse_other(run: Run, stored: Config, wished: Config, sets: AnySets) -> None:
    """A run goes on only with what it began with."""
    neutral = {"data.folder", "data.cache_megabytes", "train.workers", "train.checkpoint_seconds"}
    changed = [line for line in differences(stored, wished) if line.split(":")[0] not in neutral]
    refuse_changes(run, changed)
    if run.classes() != sets.classes:
        raise UsageError(
            f"{run.folder} was begun with the classes {', '.join(run.classes().names)}, the folder now has "
            f"{', '.join(sets.classes.names)}; restore its classes.toml, or start another run with --run."
        )
    before, now = run.read_data(), data_of(sets)
    if before and before.get("fingerprint") != now["fingerprint"]:
        parts = ("train", "labelled", "validation", "test")
        counts = ", ".join(f"{part}: {before[part]} -> {now[part]}" for part in parts if part in before)
        raise UsageError(
            f"{run.folder} was begun with other pictures ({counts} pictures; files added, removed or changed); "
            "restore them, or start another run with --run."
        )


def refuse_changes(run: Run, changed: list[str]) -> None:
    """Raises UsageError where something of a begun run's configuration has changed: "seed: 0 -> 3"."""
    if changed:
        raise UsageError(
            f"{run.folder} was begun with another configuration: {'; '.join(changed[:12])}. "
            "Go on without these settings, or give the new ones a run of their own with --run."
        )


def data_of(sets: AnySets) -> dict[str, Any]:
    """What data.json says of a run's pictures."""
    labelled = {"labelled": len(sets.train.labelled())} if isinstance(sets, Sets) else {}
    made = {"generated": len(sets.generated)} if isinstance(sets, Sets) and sets.generated else {}
    return {
        "fingerprint": sets.fingerprint(),
        "train": len(sets.train),
        **labelled,
        **made,
        "validation": len(sets.validation),
        "test": len(sets.test),
        "split": sets.splits.reason if isinstance(sets, Sets) else sets.reason,
    }
