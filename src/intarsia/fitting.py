"""`fit`: from a folder of pictures and masks to a run's folder, the same again to go on from where it stopped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import tomlkit
import torch

from .config import Config, DataConfig, differences, read_config, to_toml, validate
from .data.batches import Cached, batches
from .data.fingerprint import combine, for_channels
from .data.sets import Readable, Sets, open_sets
from .drawing import encode_png, grid, overlay, to_rgb8
from .errors import DataError, Stopped, UsageError
from .files import write_atomically
from .inference.predictor import Predictor
from .losses import class_weights
from .metrics.calibration import Reliability
from .metrics.confusion import Confusion, LabelConfusion
from .models import build
from .models.contract import SemanticModel
from .models.weights import TorchvisionName, fetch_torchvision, load_torchvision
from .plan import make_plan
from .runs import Run
from .training.loop import Training, prepare, train
from .training.machine import choose_device, choose_precision, describe, make_fabric, tune_allocator
from .training.stopping import stop_on_signals
from .training.watchers import Checkpoint, Log, Pictures, Scores, Show, Validate, Watcher

Say = Callable[[str], None]  # takes a line for the user


@dataclass(frozen=True)
class Fitted:
    """What `fit` made."""

    run: Run
    steps: int
    seconds: float
    best: float  # mean IoU on the validation pictures looked at during training, in [0, 1]; NaN where there are none
    resumed: bool
    measurable: bool  # whether pictures were held back for validation or test

    @property
    def news(self) -> bool:
        """Whether the run was trained on since its last report, or has none."""
        report, weights = self.run.report_path, self.run.weights_path()
        return not report.is_file() or report.stat().st_mtime_ns < weights.stat().st_mtime_ns


def fit(
    folder: str | Path | None = None,
    *,
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
    """Trains a segmenter on a folder and gives back its run; the same call again goes on where it stopped.

    folder: pictures and masks; None: the configuration's.
    run: the run's folder; None: runs/NAME of the pictures' folder.
    config: a TOML file or a Config; None: the run's own where it exists, else what `plan` recommends.
    settings: single settings over it, {"train.batch": 4, "model.loss.terms": {"dice": 1.0}}.
    minutes, steps, epochs: the budget, at most one; minutes are by the clock, so that no two runs are quite the same.
    model, labelled, seed: shorthands for model.name, data.labelled, seed.
    show: called now and then with the training, mean losses and pictures a second. say: called with lines for the user.

    Raises UsageError, DataError, DiskError, NumericError, OutOfMemoryError; Stopped after SIGINT or SIGTERM, saved.
    """
    wishes = overrides_of(folder, settings, minutes, steps, epochs, model, labelled, seed)
    if folder is not None and not Path(folder).is_dir():  # before a run's folder is made for it
        raise DataError(f"{folder} is not a folder; give one with pictures, such as images/ beside masks/.")
    target = _run_for(run, folder, config)
    with target.writing():
        tune_allocator()
        return _fit(target, config, wishes, say, show)


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
    short: dict[str, Any] = {f"train.{name}": value for name, value in budget.items()}
    short |= {"data.labelled": labelled, "seed": seed, "model.name": model}
    short |= {"data.folder": None if folder is None else str(folder)}
    return dict(settings or {}) | {key: value for key, value in short.items() if value is not None}


def configured(
    run: str | Path | Run | None, config: str | Path | Config | None, overrides: dict[str, Any], say: Say
) -> tuple[Config, dict[str, str], Sets]:
    """The configuration that was asked for, with reasons where a plan made it, and the pictures it is for: the given
    one, else the run's own where it was begun, else the plan's. Paths are absolute: a run goes on from any folder."""
    begun = run if isinstance(run, Run) else None if run is None else Run(run)
    reasons: dict[str, str] = {}
    if isinstance(config, Config):
        wished = read_config(None, overrides, config)
    elif config is not None:
        wished = read_config(Path(config), overrides)
    elif begun is not None and begun.exists():
        wished = read_config(None, overrides, _stored(begun))
    else:
        say(f"reading {overrides.get('data.folder', DataConfig().folder)}")
        wished, reasons, sets = _planned(overrides, say)
        return _anchored(wished), reasons, sets
    wished = _anchored(wished)
    say(f"reading {wished.data.folder}")
    return wished, reasons, open_sets_for(wished.data, wished.seed)


def _stored(run: Run) -> Config:
    return _anchored(validate(run.read_config(), str(run.config_path)))


def _anchored(config: Config) -> Config:
    """The configuration with absolute paths of the pictures, of their classes and of the run it starts from."""
    data, train = config.data, config.train
    paths = {"folder": os.path.abspath(data.folder), "classes": data.classes and os.path.abspath(data.classes)}
    start = train.start
    if start is not None and not start.startswith("torchvision/"):
        start = os.path.abspath(start)
    return config.model_copy(
        update={"data": data.model_copy(update=paths), "train": train.model_copy(update={"start": start})}
    )


def _run_for(run: str | Path | None, folder: str | Path | None, config: str | Path | Config | None) -> Run:
    if run is not None:
        return Run(run)
    if folder is not None:
        return Run(Path("runs") / (Path(folder).resolve().name or "run"))
    if config is not None:
        tree = config if isinstance(config, Config) else read_config(Path(config))
        return Run(Path("runs") / (Path(tree.data.folder).resolve().name or "run"))
    raise UsageError(
        "nothing to train on: give a folder of pictures and masks, a configuration, or a run to go on with."
    )


def _fit(
    run: Run, config: str | Path | Config | None, overrides: dict[str, Any], say: Say, show: Show | None
) -> Fitted:
    stored = _stored(run) if run.exists() else None
    wished, reasons, sets = configured(run, config, overrides, say)
    if stored is not None and wished.train.precision == "auto":  # what was measured then, not what is measured now
        train = wished.train.model_copy(update={"precision": stored.train.precision})
        wished = wished.model_copy(update={"train": train})
    complete = completed(wished, sets)
    if stored is None:
        run.write_classes(sets.classes)
        write_atomically(run.folder / "data.json", json.dumps(_data_of(sets), indent=1).encode())
        run.write_config(to_toml(complete, reasons, (f"The run {run.name}: `intarsia fit --config` repeats it.",)))
        return _train(run, complete, sets, False, say, show)
    _refuse_other(run, stored, complete, sets)
    if complete.data.folder != stored.data.folder:  # the same pictures, moved
        document = tomlkit.parse(run.config_path.read_text(encoding="utf-8"))
        document["data"]["folder"] = complete.data.folder  # type: ignore[index]
        run.write_config(tomlkit.dumps(document))
    return _train(run, complete, sets, True, say, show)


def _planned(overrides: dict[str, Any], say: Say) -> tuple[Config, dict[str, str], Sets]:
    """The plan for the folder, and over it what was asked for; its reasons; the pictures that it has read."""
    # A misspelt setting is refused before anything is read and measured; only a loss may make sense by the plan alone.
    early = {key: value for key, value in overrides.items() if not key.startswith("model.loss")}
    asked = read_config(None, early, Config())
    data, seed, device = asked.data, asked.seed, asked.train.device
    budget = [overrides.get(f"train.{key}") for key in ("steps", "epochs", "minutes")]
    timed = all(value is None for value in budget)
    model = asked.model.name if "model.name" in overrides else None
    sets = open_sets_for(data, seed)
    plan = make_plan(sets, data, device=device, model=model, seed=seed, measure=timed)
    height, width = plan.config.augment.crop
    say(f"planned: {plan.config.model.name}, crops of {height}x{width}, batches of {plan.config.train.batch}")
    kept = {key: why for key, why in plan.reasons.items() if not any(_covers(given, key) for given in overrides)}
    return read_config(None, overrides, plan.config), kept, sets


def _covers(given: str, key: str) -> bool:
    """Whether a setting that was given, or its section, is what a reason speaks of."""
    return key == given or key.startswith(f"{given}.")


def open_sets_for(data: DataConfig, seed: int) -> Sets:
    return open_sets(data.folder, data.classes, data.validation, data.test, data.leave_out, data.labelled, seed)


def completed(config: Config, sets: Sets) -> Config:
    """The configuration with what only the data can say, wherever the user left it open: channels, classes, statistics,
    class weights, steps. Raises UsageError where what was given contradicts the data."""
    picture = combine(sets.measures, len(sets.classes))
    model, given = config.model, config.model.model_fields_set
    found: dict[str, Any] = {
        "channels": sets.train.channels,
        "classes": len(sets.classes),
        "overlapping": sets.classes.overlapping,
    }
    for key, value in found.items():
        if key in given and getattr(model, key) != value and key != "channels":
            raise UsageError(
                f"model.{key} = {getattr(model, key)}, but {config.data.folder} has {value} "
                f"({', '.join(sets.classes.names)}); "
                f"leave model.{key} out, or give the folder's classes.toml the classes that you mean."
            )
    if "channels" in given:
        found["channels"] = model.channels
        sets.train.channels = sets.validation.channels = sets.test.channels = model.channels
    if "mean" not in given:
        mean, deviation = (for_channels(values, found["channels"]) for values in (picture.mean, picture.deviation))
        found["mean"] = tuple(round(m, 4) for m in mean)
        found["deviation"] = tuple(round(max(d, 1e-3), 4) for d in deviation)
    loss = model.loss
    if loss.class_weights != "none" and loss.weights is None:
        counts = [each.class_pixels for each in sets.measures if each.class_pixels is not None]
        weights = class_weights(np.stack(counts), loss.class_weights)
        found["loss"] = {**loss.model_dump(), "weights": tuple(round(w, 4) for w in weights)}
    tree = config.model_dump(mode="json", exclude_none=True)
    tree["model"] |= found
    tree["train"]["precision"] = choose_precision(config.train.precision, choose_device(config.train.device))
    if not any((config.train.steps, config.train.epochs, config.train.minutes)):
        tree["train"]["minutes"] = 10.0
    return validate(tree, "the configuration")


def _refuse_other(run: Run, stored: Config, wished: Config, sets: Sets) -> None:
    """A run goes on only with what it began with."""
    neutral = {"data.folder", "data.cache_megabytes", "train.workers", "train.checkpoint_seconds"}
    changed = [line for line in differences(stored, wished) if line.split(":")[0] not in neutral]
    if changed:
        raise UsageError(
            f"{run.folder} was begun with another configuration: {'; '.join(changed[:12])}. "
            "Go on without these settings, or give the new ones a run of their own with --run."
        )
    if run.classes() != sets.classes:
        raise UsageError(
            f"{run.folder} was begun with the classes {', '.join(run.classes().names)}, the folder now has "
            f"{', '.join(sets.classes.names)}; restore its classes.toml, or start another run with --run."
        )
    before, now = run.read_data(), _data_of(sets)
    if before and before.get("fingerprint") != now["fingerprint"]:
        parts = ("train", "labelled", "validation", "test")
        counts = ", ".join(f"{part}: {before[part]} -> {now[part]}" for part in parts if part in before)
        raise UsageError(
            f"{run.folder} was begun with other pictures ({counts} pictures; files added, removed or changed); "
            "restore them, or start another run with --run."
        )


def _data_of(sets: Sets) -> dict[str, Any]:
    return {
        "fingerprint": sets.fingerprint(),
        "train": len(sets.train),
        "labelled": len(sets.train.labelled()),
        "validation": len(sets.validation),
        "test": len(sets.test),
        "split": sets.splits.reason,
    }


def _train(run: Run, config: Config, sets: Sets, resumed: bool, say: Say, show: Show | None) -> Fitted:
    settings = config.train
    device = choose_device(settings.device)
    fabric = make_fabric(settings, device)
    torch.manual_seed(config.seed)
    model = build(config.model, fetch=not run.state_path.exists())
    if not isinstance(model, SemanticModel):
        raise UsageError(f"{config.model.name} is no segmenter; `fit` on masks needs one of `intarsia models`.")
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
    done = training.progress
    run.cut_metrics(done.step)

    measurable = bool(len(sets.validation) or len(sets.test))
    samples = sets.train.labelled()
    a_step = settings.batch * settings.accumulate
    steps = settings.steps or (math.ceil(settings.epochs * len(samples) / a_step) if settings.epochs else None)
    reached = done.finished or (steps and done.step >= steps) or (not steps and done.share >= 1)
    if reached and (done.validated == done.step or not len(sets.validation)):  # a kill may have come before the last
        say(f"{run.folder} is finished ({done.step} steps); evaluate it, or start another run with --run.")
        return Fitted(run, done.step, done.seconds, _score(done.best), True, measurable)

    say(
        f"{config.model.name}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, on "
        f"{describe(device)} in {settings.precision}; {len(samples)} labelled pictures of {len(sets.train)}, "
        f"{len(sets.validation)} for validation; "
        + (f"{steps} steps, {steps * a_step / len(samples):.1f} epochs" if steps else f"{settings.minutes:g} minutes")
        + (f"; going on from step {done.step}" if done.step else "")
    )
    cached = Cached(samples, config.data.cache_megabytes)
    stream = batches(
        cached, config.augment, settings.batch, config.seed, done.step * settings.accumulate, settings.workers,
        rarity_of(sets),
    )  # fmt: skip
    log = Log(run, a_step, show=show)
    with stop_on_signals() as stop_asked:
        looked_at = _some(sets.validation, config.data.validation_pictures)
        validation = Cached(looked_at, config.data.cache_megabytes / 4)
        pictures = Pictures(run.samples_path, lambda t: _drawn(t, validation, sets, device))
        scores = Validate(
            run, log, settings.validate_every, lambda t: score(t, validation, sets, device, stop_asked), pictures
        )
        watchers: list[Watcher] = [log, *([scores] if len(validation) else [])]
        checkpoint = Checkpoint(run, settings.checkpoint_seconds, stop_asked)
        try:
            if done.step and len(validation) and scores.due(training):
                scores.now(training)  # a stop may have come between a step and its validation
            train(training, wrapped, fabric, stream, steps, [*watchers, checkpoint])
            if len(validation):
                scores.now(training)
                pictures.now(training)
            checkpoint.now(training)
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


def start_from(model: SemanticModel, source: str) -> tuple[str, ...]:
    """The names of the tensors left as they were, after all others were taken from a run or from torchvision.

    From a run of the same model with other classes or channels, what has the same name and shape is taken.
    Raises UsageError where less than half fits, or torchvision has no such weights or they can't be fetched.
    """
    if source.startswith("torchvision/"):
        name = source.removeprefix("torchvision/")
        if name not in get_args(TorchvisionName):
            raise UsageError(
                f"train.start = {source!r}: of torchvision there are {', '.join(get_args(TorchvisionName))}; "
                "build the model for them with torchvision_config."
            )
        return load_torchvision(model, fetch_torchvision(cast(TorchvisionName, name)))
    theirs = Run(source).load_model().state_dict()
    own = model.state_dict()
    fitting = {name: theirs[name] for name in own if name in theirs and theirs[name].shape == own[name].shape}
    learnt = {name for name in fitting if name not in ("mean", "deviation")}
    if len(learnt) < len(own) / 2:
        raise UsageError(
            f"train.start = {source!r}: only {len(learnt)} of the {len(own)} tensors of this {type(model).__name__} "
            "are in that run; build the same model, or begin with random weights."
        )
    model.load_state_dict({name: fitting[name] for name in learnt}, strict=False)
    return tuple(name for name in own if name not in fitting)


def rarity_of(sets: Sets) -> np.ndarray:
    """(K,) odds of each class to be the centre of a rare crop: the inverse root of its share of the training pixels."""
    shares = np.array(combine(sets.measures, len(sets.classes)).shares)
    return np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-6)), 0.0)


def score(training: Training, samples: Cached, sets: Sets, device: str, stop_asked: Callable[[], bool]) -> Scores:
    """Mean and per-class IoU and accuracy from one pooled confusion matrix, and `loss`, the mean of -log(probability of
    the truth) over a sixteenth of the pixels, evenly spread. Raises Stopped when asked to."""
    classes, predictor = sets.classes, _predictor(training, sets, device)
    pooled: Confusion | LabelConfusion = (
        LabelConfusion.zeros(len(classes)) if classes.overlapping else Confusion.zeros(len(classes))
    )
    certainty = Reliability.zeros(len(classes), classes.overlapping)
    for index in range(len(samples)):
        if stop_asked():
            raise Stopped(
                "stopped during validation; everything is saved, and the same command again goes on from here."
            )
        sample = samples[index]
        prediction = predictor.predict(sample.image)
        if classes.overlapping:
            truth, answer = sample.labels, prediction.labels
        else:
            truth, answer = sample.mask, prediction.mask
        if truth is not None:
            pooled.add(truth, answer)
            certainty.add(prediction.probabilities[:, ::4, ::4], truth[..., ::4, ::4])
    result = {"mean_iou": float(pooled.mean_iou), "loss": certainty.negative_log_likelihood}
    if isinstance(pooled, Confusion):
        result["accuracy"] = float(pooled.accuracy)
    return result | {f"iou/{n}": float(v) for n, v in zip(classes.names, pooled.iou, strict=True) if not math.isnan(v)}


def _predictor(training: Training, sets: Sets, device: str) -> Predictor:
    assert isinstance(training.model, SemanticModel)
    precision: Any = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}.get(training.config.precision, "float32")
    return Predictor(training.model, sets.classes, device="cuda" if device == "cuda" else "cpu", precision=precision)


def _drawn(training: Training, samples: Cached, sets: Sets, device: str) -> bytes:
    """Up to four validation pictures in rows: picture, truth, answer."""
    predictor = _predictor(training, sets, device)
    rows = []
    for index in np.linspace(0, len(samples) - 1, min(4, len(samples))).astype(int):
        sample = samples[int(index)]
        prediction = predictor.predict(sample.image)
        truth = to_rgb8(sample.image) if sample.mask is None else overlay(sample.image, sample.mask, sets.classes)
        rows += [to_rgb8(sample.image), truth, prediction.overlay()]
    return encode_png(grid(rows, columns=3))


def _some(samples: Readable, most: int) -> Readable:
    """At most so many of the samples, evenly spread over them."""
    if len(samples) <= most:
        return samples
    chosen = np.linspace(0, len(samples) - 1, most).astype(int)
    return Readable(samples.folder, [samples.entries[i] for i in chosen], samples.channels, samples.hidden)


def _score(best: float) -> float:
    return best if math.isfinite(best) else math.nan
