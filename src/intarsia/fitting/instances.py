"""What the training of a model of objects is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..config import Config
from ..data.batches import Samples
from ..data.fingerprint import combine
from ..data.sets import Sets
from ..drawing import encode_png, grid, object_overlay, to_rgb8
from ..errors import Stopped, UsageError
from ..inference.objects import ObjectPredictor
from ..metrics.matching import MatchingScore
from ..models.contract import InstanceModel
from ..models.instance import InstanceSegNetConfig, MaskRCNNConfig
from ..models.instance.anchors import fit_anchors
from ..runs import Run
from ..training.loop import Training
from ..training.watchers import Scores
from .course import Course, some
from .segmenters import course_of, of_pictures, streams

CRITERION = "AP50"
TUNED_ON = 40  # validation pictures, at most, that thresholds are tuned on
ROUNDS = 3  # times that each threshold is gone through


def course(
    model: InstanceModel[Any], config: Config, sets: Sets, device: str, stop_asked: Callable[[], bool]
) -> Course:
    """Learns from the labelled training pictures, and where the model can from all of them without their objects; is
    scored by AP50 = TP / (TP + FP + FN) on the validation pictures, with the model's thresholds as they are."""
    samples = sets.train.labelled()
    beside, words = streams(config, sets)
    if not len(sizes_of(sets)):
        words += "; none of the labelled shows an object, so that only the background can be learnt"
    return course_of(
        config, sets, device, stop_asked, learnt=samples, beside=beside, criterion=CRITERION,
        words=f"{len(samples)} labelled pictures of {len(sets.train)}, {len(sets.validation)} for validation{words}",
        score=score, drawn=drawn, close=keep_tuned,
    )  # fmt: skip


def found(config: Config, sets: Sets) -> dict[str, Any]:
    """What only the data can say of [model], wherever the user left it open: channels, classes, statistics, and what
    follows from the sizes of the objects. Raises UsageError where what was given contradicts the data."""
    model: Any = config.model
    given = model.model_fields_set
    if "classes" in given and model.classes != len(sets.classes):
        raise UsageError(
            f"model.classes = {model.classes}, but {config.data.folder} has {len(sets.classes)}, the background among "
            f"them ({', '.join(sets.classes.names)}); leave model.classes out."
        )
    facts = {"classes": len(sets.classes), **of_pictures(config, sets)}
    sizes = sizes_of(sets)
    if isinstance(model, InstanceSegNetConfig) and len(sizes) and "unit" not in given:
        facts["unit"] = round(max(float(np.median(sizes)) / 2, 2.0), 1)
    if isinstance(model, MaskRCNNConfig) and len(sizes) and "anchor_sizes" not in given:
        strides = tuple(stride for stride in (2, 4, 8, 16, 32, 64) if stride >= model.finest)
        median = combine(sets.measures, len(sets.classes)).median
        shrunk = 1.0 if model.shorter_side is None else model.shorter_side / max(1, min(median))
        anchors = fit_anchors(sizes * shrunk, strides)
        facts |= {"anchor_sizes": anchors.sizes, "anchor_ratios": anchors.ratios}
    return facts


def sizes_of(sets: Sets) -> np.ndarray:
    """(N, 2) heights and widths in pixels of all objects in the labelled training pictures."""
    listed = [each.objects for each in sets.measures if each.objects is not None]
    return np.concatenate([np.zeros((0, 2)), *listed])


def predictor_of(training: Training, sets: Sets, device: str) -> ObjectPredictor:
    assert isinstance(training.model, InstanceModel)
    precision: Any = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}.get(training.config.precision, "float32")
    return ObjectPredictor(
        training.model, sets.classes, device="cuda" if device == "cuda" else "cpu", precision=precision
    )


def score(training: Training, samples: Samples, sets: Sets, device: str, stop_asked: Callable[[], bool]) -> Scores:
    """AP50, the mean AP over the thresholds of the IoU, precision and recall, of the objects of all pictures pooled,
    whatever their class. Raises Stopped when asked to."""
    predictor = predictor_of(training, sets, device)
    pooled = MatchingScore.zeros()
    for index in range(len(samples)):
        if stop_asked():
            raise Stopped(
                "stopped during validation; everything is saved, and the same command again goes on from here."
            )
        sample = samples[index]
        if sample.instances is not None:
            pooled.add(sample.instances.label_image, predictor.predict(sample.image).instances.label_image)
    result = {
        CRITERION: pooled.at("average_precision"),
        "mean_AP": float(pooled.average_precision.mean()),
        "precision": pooled.at("precision"),
        "recall": pooled.at("recall"),
    }
    return {name: value for name, value in result.items() if not math.isnan(value)}


def tune(
    predictor: ObjectPredictor, samples: Samples, stop_asked: Callable[[], bool] = lambda: False
) -> tuple[dict[str, float], float, int]:
    """The thresholds that make AP50 + mean AP over thresholds of the IoU highest, found one after the other, that AP50,
    and over how many pictures. The model's own are put in their place.

    The network is asked once a picture; at most TUNED_ON pictures are looked at.
    """
    model: InstanceModel[Any] = predictor.model
    chosen = some(samples, TUNED_ON)
    answers: list[tuple[np.ndarray, Any]] = []
    for index in range(len(chosen)):
        if stop_asked():
            raise Stopped("stopped while thresholds were tuned; the same command again goes on from here.")
        sample = chosen[index]
        if sample.instances is not None:
            answers.append((sample.instances.label_image, predictor.answer(sample.image)))
    tried: dict[tuple[float, ...], MatchingScore] = {}

    def at(thresholds: Mapping[str, float]) -> MatchingScore:
        key = tuple(thresholds.values())
        if key not in tried:
            pooled = MatchingScore.zeros()
            for truth, answer in answers:
                pooled.add(truth, model.objects(answer, thresholds).label_image)
            tried[key] = pooled
        return tried[key]

    def worth(thresholds: Mapping[str, float]) -> float:
        pooled = at(thresholds)
        return float(np.nan_to_num(pooled.at("average_precision") + pooled.average_precision.mean()))

    best = {name: values[0] for name, values in model.candidates.items()}
    if answers:
        for _ in range(ROUNDS):
            before = dict(best)
            for name, values in model.candidates.items():
                best[name] = max(values, key=lambda value: worth({**best, name: value}))
            if best == before:
                break
    model.thresholds |= best
    return best, at(best).at("average_precision") if answers else math.nan, len(answers)


def keep_tuned(
    run: Run, samples: Samples, sets: Sets, device: str, stop_asked: Callable[[], bool] = lambda: False
) -> None:
    """Tunes the thresholds of a run's best weights on validation pictures, and keeps them with the run."""
    model = run.load_model("best")
    assert isinstance(model, InstanceModel)
    predictor = ObjectPredictor(model, sets.classes, device="cuda" if device == "cuda" else "cpu")
    run.write_thresholds(*tune(predictor, samples, stop_asked))


def drawn(training: Training, samples: Samples, sets: Sets, device: str) -> bytes:
    """Up to four validation pictures in rows: picture, true objects, found ones."""
    predictor = predictor_of(training, sets, device)
    rows = []
    for index in np.linspace(0, len(samples) - 1, min(4, len(samples))).astype(int):
        sample = samples[int(index)]
        truth = np.zeros(sample.size, np.int32) if sample.instances is None else sample.instances.label_image
        answer = predictor.predict(sample.image)
        rows += [to_rgb8(sample.image), object_overlay(sample.image, truth), answer.overlay()]
    return encode_png(grid(rows, columns=3))
