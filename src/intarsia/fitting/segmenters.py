"""What the training of a segmenter is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import Config
from ..data.batches import Cached, Samples, Stream
from ..data.fingerprint import combine, for_channels, measure
from ..data.sets import Sets
from ..drawing import encode_png, grid, overlay, to_rgb8
from ..errors import Stopped, UsageError
from ..inference.predictor import Predictor
from ..losses import class_weights
from ..metrics.calibration import Reliability
from ..metrics.confusion import Confusion, LabelConfusion
from ..models import MODELS
from ..models.contract import InstanceModel, SemanticModel
from ..runs import Run
from ..training.loop import Training
from ..training.watchers import Scores
from .course import Course, some

StopAsked = Callable[[], bool]
MEASURED = 100  # training pictures, at most, whose statistics are taken once they are stretched


def course(model: SemanticModel, config: Config, sets: Sets, device: str, stop_asked: Callable[[], bool]) -> Course:
    """Learns from the labelled training pictures, from made pairs where there are any, and where the model can from all
    training pictures without their masks; is scored by mean IoU on the validation pictures."""
    samples = sets.train.labelled()
    words = f"{len(samples)} labelled pictures of {len(sets.train)}, {len(sets.validation)} for validation"
    if not len(samples):  # a model that needs none
        samples = sets.train.unlabelled()
        words = f"{len(samples)} pictures without masks"
    beside, more = streams(config, sets)
    return course_of(
        config, sets, device, stop_asked, learnt=samples, beside=beside, words=words + more, criterion="mean_iou",
        score=score, drawn=drawn,
    )  # fmt: skip


def course_of(
    config: Config,
    sets: Sets,
    device: str,
    stop_asked: StopAsked,
    *,
    learnt: Samples,
    beside: tuple[Stream, ...],
    words: str,
    criterion: str,
    score: Callable[[Training, Samples, Sets, str, StopAsked], Scores],
    drawn: Callable[[Training, Samples, Sets, str], bytes],
    close: Callable[[Run, Samples, Sets, str, StopAsked], None] | None = None,
) -> Course:
    """The course of a model that is looked at, by `score`, `drawn` and `close`, on some of the validation pictures."""
    seen = Cached(some(sets.validation, config.data.validation_pictures), config.data.cache_megabytes / 4)
    return Course(
        learnt=learnt,
        looked_at=len(seen),
        rarity=rarity_of(sets),
        score=lambda training: score(training, seen, sets, device, stop_asked),
        draw=(lambda training: drawn(training, seen, sets, device)) if len(seen) else None,
        criterion=criterion,
        words=words,
        beside=beside,
        close=(lambda run: close(run, seen, sets, device, stop_asked)) if close and len(seen) else None,
    )


def streams(config: Config, sets: Sets) -> tuple[tuple[Stream, ...], str]:
    """What joins the labelled pictures in each batch, and how to say so."""
    found, words, train = list[Stream](), "", config.train
    half = config.data.cache_megabytes / 2
    if sets.generated is not None and train.generated:
        found.append(Stream(Cached(sets.generated, half), train.generated, config.augment, rarity_of(sets)))
        words += f"; {train.generated} of {len(sets.generated)} made pairs beside {train.batch} real ones in each batch"
    if train.unlabelled:
        everything = sets.train.unlabelled()
        found.append(Stream(Cached(everything, half), train.unlabelled, config.augment.geometry()))
        words += f"; {train.unlabelled} of {len(everything)} without their masks beside {train.batch} labelled ones"
    return tuple(found), words


def streams_of(config: Config, sets: Sets) -> dict[str, int]:
    """`train.unlabelled` and `train.generated` as they are meant where they were left open. Raises UsageError for
    pictures that the model can't learn from, or that are not there."""
    train, learns = config.train, learns_from_unlabelled(config)
    if train.unlabelled and not learns:
        kind = InstanceModel if issubclass(MODELS[config.model.name], InstanceModel) else SemanticModel
        able = [name for name, each in MODELS.items() if issubclass(each, kind) and each.learns_from_unlabelled]
        how = " with model.alpha above 0" if kind is InstanceModel else ""
        raise UsageError(
            f"train.unlabelled = {train.unlabelled}, but {config.model.name} learns from labelled pictures alone here; "
            f"leave it out, or take one of {', '.join(able)}{how}."
        )
    if train.generated and sets.generated is None:
        raise UsageError(
            f"train.generated = {train.generated}, but there are no made pairs; give their folder as data.generated."
        )
    learns = learns and bool(len(sets.train.labelled()))  # else the batch itself is of pictures without masks
    unlabelled = train.unlabelled if train.unlabelled is not None else train.batch if learns else 0
    made = train.generated if train.generated is not None else max(1, train.batch // 2)
    return {"unlabelled": unlabelled, "generated": made if sets.generated is not None else 0}


def learns_from_unlabelled(config: Config) -> bool:
    """Whether the model, as it is set, learns from pictures that nobody labelled."""
    kind = MODELS[config.model.name]
    able = issubclass(kind, SemanticModel | InstanceModel) and kind.learns_from_unlabelled
    return able and not (issubclass(kind, InstanceModel) and getattr(config.model, "alpha", 0.0) == 0)


def found(config: Config, sets: Sets) -> dict[str, Any]:
    """What only the data can say of [model], wherever the user left it open: channels, classes, statistics, class
    weights. Raises UsageError where what was given contradicts the data."""
    model: Any = config.model
    given = model.model_fields_set
    facts: dict[str, Any] = {"classes": len(sets.classes), "overlapping": sets.classes.overlapping}
    for key, value in facts.items():
        if key in given and getattr(model, key) != value:
            raise UsageError(
                f"model.{key} = {getattr(model, key)}, but {config.data.folder} has {value} "
                f"({', '.join(sets.classes.names)}); "
                f"leave model.{key} out, or give the folder's classes.toml the classes that you mean."
            )
    facts |= of_pictures(config, sets)
    loss = model.loss
    if loss.class_weights != "none" and loss.weights is None:
        counts = [each.class_pixels for each in sets.measures if each.class_pixels is not None]
        weights = class_weights(np.stack(counts), loss.class_weights)
        facts["loss"] = {**loss.model_dump(), "weights": tuple(round(w, 4) for w in weights)}
    return facts


def of_pictures(config: Config, sets: Sets) -> dict[str, Any]:
    """The pictures' channels, mean and deviation, wherever the user left them open; all parts get these channels."""
    picture = combine(sets.measures, len(sets.classes))
    model: Any = config.model
    given = model.model_fields_set
    facts: dict[str, Any] = {"channels": model.channels if "channels" in given else sets.train.channels}
    for part in (sets.train, sets.validation, sets.test, *([sets.generated] if sets.generated else [])):
        part.channels, part.levels = facts["channels"], model.levels
    if "mean" not in given:
        if model.levels == "picture":
            shown = some(sets.train, MEASURED)
            picture = combine([measure(shown[number].without_labels(), 0) for number in range(len(shown))], 0)
        mean, deviation = (for_channels(values, facts["channels"]) for values in (picture.mean, picture.deviation))
        facts["mean"] = tuple(round(m, 4) for m in mean)
        facts["deviation"] = tuple(round(max(d, 1e-3), 4) for d in deviation)
    return facts


def rarity_of(sets: Sets) -> np.ndarray:
    """(K,) odds of each class to be the centre of a rare crop: the inverse root of its share of the training pixels."""
    shares = np.array(combine(sets.measures, len(sets.classes)).shares)
    return np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-6)), 0.0)


def score(training: Training, samples: Samples, sets: Sets, device: str, stop_asked: Callable[[], bool]) -> Scores:
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


def drawn(training: Training, samples: Samples, sets: Sets, device: str) -> bytes:
    """Up to four validation pictures in rows: picture, truth, answer."""
    predictor = _predictor(training, sets, device)
    rows = []
    for index in np.linspace(0, len(samples) - 1, min(4, len(samples))).astype(int):
        sample = samples[int(index)]
        prediction = predictor.predict(sample.image)
        truth = to_rgb8(sample.image) if sample.mask is None else overlay(sample.image, sample.mask, sets.classes)
        rows += [to_rgb8(sample.image), truth, prediction.overlay()]
    return encode_png(grid(rows, columns=3))
