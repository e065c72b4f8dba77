"""A configuration and its pictures become a trained run; a run that was stopped goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import tomlkit
import torch

from ..config import Config, read_config, to_toml
from ..data.batches import Cached, batches
from ..data.sets import Sets
from ..data.stack import is_stack
from ..errors import DataError, Stopped, UsageError
from ..files import write_atomically
from ..models import build
from ..models.combined import FrozenFeatures
from ..models.contract import GenerativeModel, InstanceModel, Model, SemanticModel
from ..models.instance import MaskRCNN
from ..models.weights import TorchvisionName, fetch_torchvision, load_torchvision
from ..runs import Run
from ..training.loop import batches_a_step, prepare, train
from ..training.machine import choose_device, describe, make_fabric, tune_allocator
from ..training.stopping import stop_on_signals
from ..training.watchers import Checkpoint, Log, Pictures, Show, Validate, Watcher
from . import generators, instances, segmenters
from .course import Course
from .wishes import (
    ARRAY,
    AnySets,
    Array,
    Say,
    completed,
    configured,
    data_of,
    overrides_of,
    refuse_changes,
    refuse_other,
    stored_config,
)


@dataclass(frozen=True)
class Fitted:
    """What `fit` made."""

    run: Run
    steps: int
    seconds: float
    best: float  # the highest validation score: of segmenters the mean IoU in [0, 1]; NaN where there is none
    resumed: bool
    measurable: bool  # whether pictures were held back for validation or test

    @property
    def news(self) -> bool:
        """Whether the run was trained on since its last report, or has none."""
        report, weights = self.run.report_path, self.run.weights_path()
        return not report.is_file() or report.stat().st_mtime_ns < weights.stat().st_mtime_ns


def fit(
    folder: str | Path | np.ndarray | None = None,
    *,
    categories: np.ndarray | None = None,
    run: str | Path | None = None,
    config: str | Path | Config | None = None,
    settings: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    model: str | None = None,
    labelled: int | None = None,
    seed: int | None = None,
    show: Show | None = None,
    say: Say = lambda line: None,
) -> Fitted:
    """Trains a model on pictures and gives back its run; the same call again goes on where it stopped.

    folder: pictures and masks; for generative models pictures alone, a file of many (.npy, .npz, idx) or an array
    (N, H, W) or (N, H, W, C); None: the configuration's.
    categories: (N,) whole numbers, what each picture of an array shows; for models that are told (condition = "class").
    run: the run's folder; None: runs/NAME of the pictures' folder.
    config: a TOML file or a Config; None: the run's own where it exists, else what `plan` recommends.
    settings: single settings over it, {"train.batch": 4, "model.loss.terms": {"dice": 1.0}}.
    minutes, steps, epochs: the budget, at most one; minutes are by the clock, so that no two runs are quite the same.
    model, labelled, seed: shorthands for model.name, data.labelled, seed.
    show: called now and then with the training, mean losses and pictures a second. say: called with lines for the user.

    Raises UsageError, DataError, DiskError, NumericError, OutOfMemoryError; Stopped after SIGINT or SIGTERM, saved.
    """
    array = Array(folder, categories) if isinstance(folder, np.ndarray) else None
    place = ARRAY if isinstance(folder, np.ndarray) else folder
    wishes = overrides_of(place, settings, minutes, steps, epochs, model, labelled, seed)
    if array is None and place is not None:  # before a run's folder is made for it
        path = Path(place)
        if not path.is_dir() and not (path.is_file() and is_stack(path)):
            raise DataError(
                f"{place} is not a folder; give one with pictures, such as images/ beside masks/, or for a generative "
                "model a file of many pictures (.npy, .npz, idx)."
            )
    if array is not None and run is None:
        raise UsageError("pictures from an array have no name to call the run by; give run = 'runs/NAME'.")
    target = _run_for(run, place, config)
    with target.writing():
        tune_allocator()
        return _fit(target, config, wishes, say, show, array)


def _run_for(run: str | Path | None, folder: str | Path | None, config: str | Path | Config | None) -> Run:
    if run is not None:
        return Run(run)
    if folder is not None:
        return Run(Path("runs") / (Path(folder).resolve().name.split(".")[0] or "run"))
    if config is not None:
        tree = config if isinstance(config, Config) else read_config(Path(config))
        return Run(Path("runs") / (Path(tree.data.folder).resolve().name or "run"))
    raise UsageError(
        "nothing to train on: give a folder of pictures and masks, a configuration, or a run to go on with."
    )


def _fit(
    run: Run,
    config: str | Path | Config | None,
    overrides: dict[str, Any],
    say: Say,
    show: Show | None,
    array: Array | None,
) -> Fitted:
    stored = stored_config(run) if run.exists() else None
    wished, reasons, sets = configured(run, config, overrides, say, array)
    if stored is not None and stored.model.name != wished.model.name:  # whose other settings mean something else
        refuse_changes(run, [f"model.name: {stored.model.name} -> {wished.model.name}"])
    if stored is not None and wished.train.precision == "auto":  # what was measured then, not what is measured now
        train = wished.train.model_copy(update={"precision": stored.train.precision})
        wished = wished.model_copy(update={"train": train})
    complete = completed(wished, sets)
    if stored is None:
        run.write_classes(sets.classes)
        write_atomically(run.folder / "data.json", json.dumps(data_of(sets), indent=1).encode())
        run.write_config(to_toml(complete, reasons, (f"The run {run.name}: `intarsia fit --config` repeats it.",)))
        return _train(run, complete, sets, False, say, show)
    refuse_other(run, stored, complete, sets)
    if complete.data.folder != stored.data.folder:  # the same pictures, moved
        document = tomlkit.parse(run.config_path.read_text(encoding="utf-8"))
        document["data"]["folder"] = complete.data.folder  # type: ignore[index]
        run.write_config(tomlkit.dumps(document))
    return _train(run, complete, sets, True, say, show)


def _train(run: Run, config: Config, sets: AnySets, resumed: bool, say: Say, show: Show | None) -> Fitted:
    settings = config.train
    device = choose_device(settings.device)
    fabric = make_fabric(settings, device)
    torch.manual_seed(config.seed)
    model = build(config.model, fetch=not run.state_path.exists())
    model.to(memory_format=torch.channels_last)
    training, wrapped = prepare(model, settings, config.seed, fabric)
    state = run.read_state()
    if state is not None:
        try:
            training.load_state(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UsageError(
                f"{run.state_path} does not fit the run's config.toml; restore it, or delete it to begin anew."
            ) from error
    elif settings.start:
        left = start_from(model, settings.start)
        training.average.restart(model)
        say(f"started from {settings.start}" + (f", without {', '.join(left[:4])}" if left else ""))
    elif isinstance(model, FrozenFeatures) and not getattr(model.config.segmenter, "pretrained", False):
        say(
            "frozen_features learns on an encoder that nobody trained; give the run to take it from as train.start, or "
            "an encoder of timm with model.segmenter.pretrained = true."
        )
    done = training.progress
    run.cut_metrics(done.step)

    with stop_on_signals() as stop_asked:
        course = _course(model, config, sets, device, run, stop_asked, say)
        measurable = bool(len(sets.validation) or len(sets.test))
        rounds = settings.accumulate * batches_a_step(model)
        a_step = settings.batch * rounds
        steps = settings.steps or (
            math.ceil(settings.epochs * len(course.learnt) / a_step) if settings.epochs else None
        )
        reached = done.finished or (steps and done.step >= steps) or (not steps and done.share >= 1)
        closed = course.close is None or run.thresholds_path.is_file()
        # a kill may have come before the last validation
        if reached and closed and (done.validated == done.step or not course.looked_at):
            say(f"{run.folder} is finished ({done.step} steps); evaluate it, or start another run with --run.")
            return Fitted(run, done.step, done.seconds, _score(done.best), True, measurable)

        say(
            f"{config.model.name}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, on "
            f"{describe(device)} in {settings.precision}; {course.words}; "
            + (f"{steps} steps, {steps * a_step / len(course.learnt):.1f} epochs" if steps else f"{settings.minutes:g} "
               "minutes")
            + (f"; going on from step {done.step}" if done.step else "")
        )  # fmt: skip
        cached = Cached(course.learnt, config.data.cache_megabytes)
        stream = batches(
            cached, config.augment, settings.batch, config.seed, done.step * rounds, settings.workers, course.rarity,
            beside=course.beside,
        )  # fmt: skip
        log = Log(run, a_step, show=show)
        pictures = Pictures(run.samples_path, course.draw) if course.draw else None
        scores = Validate(run, log, settings.validate_every, course.score, pictures, course.criterion)
        watchers: list[Watcher] = [log, *([scores] if course.looked_at else [])]
        checkpoint = Checkpoint(run, settings.checkpoint_seconds, stop_asked)
        try:
            if done.step and course.looked_at and scores.due(training):
                scores.now(training)  # a stop may have come between a step and its validation
            train(training, wrapped, fabric, stream, steps, [*watchers, checkpoint])
            if course.looked_at:
                scores.now(training)
            if pictures:
                pictures.now(training)
            checkpoint.now(training)
            if course.close:
                course.close(run)
        except Stopped:
            if not stop_asked():
                raise
            checkpoint.now(training)
            raise
        finally:
            stream.close()
    say(f"done: {done.step} steps in {done.seconds / 60:.1f} minutes")
    done = training.progress
    return Fitted(run, done.step, done.seconds, _score(done.best), resumed, measurable)


def _course(
    model: Model, config: Config, sets: AnySets, device: str, run: Run, stop_asked: Callable[[], bool], say: Say
) -> Course:
    if isinstance(model, GenerativeModel):
        return generators.course(model, config, sets, device, run, stop_asked, say)
    if isinstance(model, InstanceModel) and isinstance(sets, Sets):
        return instances.course(model, config, sets, device, stop_asked)
    if isinstance(model, SemanticModel) and isinstance(sets, Sets):
        return segmenters.course(model, config, sets, device, stop_asked)
    raise UsageError(f"`fit` knows no way to train {config.model.name}; take one of `intarsia models`.")


def start_from(model: Model, source: str) -> tuple[str, ...]:
    """The names of the tensors left as they were, after all others were taken from a run or from torchvision.

    From a run of the same model with other classes or channels, what has the same name and shape is taken. A segmenter
    alone and the one inside a combination have the same names: any of them starts from any other. What a segmenter
    knows about its own pictures and its own training (mean, deviation, progress) stays.
    Raises UsageError where less than half fits (of a combination: of its segmenter; of frozen_features: of the
    encoder), or torchvision has no such weights or they can't be fetched.
    """
    if source.startswith("torchvision/"):
        name = source.removeprefix("torchvision/")
        if name not in get_args(TorchvisionName):
            raise UsageError(
                f"train.start = {source!r}: of torchvision there are {', '.join(get_args(TorchvisionName))}; "
                "build the model for them with torchvision_config."
            )
        if not isinstance(model, SemanticModel | MaskRCNN):
            raise UsageError(
                f"train.start = {source!r} is for segmenters and Mask R-CNN; this is a {type(model).__name__}."
            )
        return load_torchvision(model, fetch_torchvision(cast(TorchvisionName, name)))
    theirs = {_alone(name): value for name, value in Run(source).load_model().state_dict().items()}
    own = model.state_dict()
    kept = {name for name in own if _alone(name) in ("mean", "deviation")}
    if isinstance(model, SemanticModel):
        kept |= {name for name, _ in model.named_buffers(recurse=False)}
    fitting = {
        name: theirs[_alone(name)]
        for name in own
        if name not in kept and _alone(name) in theirs and theirs[_alone(name)].shape == own[name].shape
    }
    prefix = "segmenter.encoder." if isinstance(model, FrozenFeatures) else "segmenter."
    needed = [name for name in own if name not in kept and name.startswith(prefix)] or [n for n in own if n not in kept]
    there = sum(name in fitting for name in needed)
    if there < len(needed) / 2:
        raise UsageError(
            f"train.start = {source!r}: only {there} of the {len(needed)} tensors of this {type(model).__name__} "
            "are in that run; build the same model, or begin with random weights."
        )
    model.load_state_dict(fitting, strict=False)
    return tuple(name for name in own if name not in fitting and name not in kept)


def _alone(name: str) -> str:
    """A tensor's name as it is in a segmenter that stands for itself, not in a combination."""
    return name.removeprefix("segmenter.")


def _score(best: float) -> float:
    return best if math.isfinite(best) else math.nan
