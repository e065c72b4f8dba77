"""What the training of a generative model is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ..config import Config
from ..data.batches import Cached, Samples
from ..data.pictures import PictureSets, Whole
from ..data.sets import Sets
from ..data.stack import Stack
from ..errors import UsageError
from ..models.contract import GenerativeModel
from ..models.generative import PairGANConfig
from ..runs import Run
from ..training.generation import Yardstick, quick_scores, sheet
from ..training.loop import Training
from ..training.verdicts import Verdict
from ..training.watchers import Scores
from .course import Course, some

Told = Literal["none", "class", "mask"]
JUDGED_FROM = 0.2  # share of the training from which alarms are said: before, every model raises all of them


def told(config: Config) -> Told:
    """What the model is told beside the picture, or learns to tell: nothing, a class a picture, or a mask."""
    if "mask" in getattr(config.model, "task", "") or isinstance(config.model, PairGANConfig):
        return "mask"
    return getattr(config.model, "condition", "none")


def needs_masks(config: Config) -> bool:
    return told(config) == "mask"


def found(config: Config, sets: Sets | PictureSets) -> tuple[dict[str, Any], dict[str, Any]]:
    """What only the data can say of [model] and [augment], wherever the user left it open: channels, classes, size.
    Raises UsageError where what was given contradicts the data or itself."""
    model: Any = config.model
    given = model.model_fields_set
    channels = sets.train.channels if isinstance(sets, Sets) else sets.channels
    facts: dict[str, Any] = {"channels": channels, "classes": len(sets.classes) if told(config) != "none" else 0}
    if "channels" in given and model.channels != channels:
        for part in (sets.train, sets.validation, sets.test):
            if isinstance(part, Stack):
                raise UsageError(f"model.channels = {model.channels}, but the pictures have {channels}; leave it out.")
            part.channels = model.channels
        facts["channels"] = model.channels
    if told(config) == "class" and len(sets.classes) < 2:
        raise UsageError(
            f"model.condition = 'class', but nothing says what the pictures of {config.data.folder} show; put them in "
            "a folder a class, give labels in the .npz, or set model.condition = 'none'."
        )
    if "classes" in given and model.classes not in (0, facts["classes"]):
        raise UsageError(
            f"model.classes = {model.classes}, but {config.data.folder} has {facts['classes']}; leave it out."
        )
    crop = config.augment.crop if "crop" in config.augment.model_fields_set else None
    size = model.size if "size" in given else None
    if size and crop and tuple(size) != tuple(crop):
        raise UsageError(
            f"model.size = {list(size)} and augment.crop = {list(crop)} differ; a generative model learns from "
            "pictures of its own size: set model.size and leave augment.crop out."
        )
    chosen = list(size or crop or (64, 64))
    return facts | {"size": chosen}, {"crop": chosen}


def course(
    model: GenerativeModel,
    config: Config,
    sets: Sets | PictureSets,
    device: str,
    run: Run,
    stop_asked: Callable[[], bool],
    say: Callable[[str], None],
) -> Course:
    """Learns from all training pictures (where it needs masks, from the labelled ones); is scored on held-back ones."""
    train, held_back = parts(config, sets)
    looked_at = Cached(some(held_back, config.data.validation_pictures), config.data.cache_megabytes / 4)
    extractors: list[Yardstick] = []  # what drawn pictures are measured by: learnt when it is first needed
    heard: dict[str, str] = {}

    def score(training: Training) -> Scores:
        numbers, verdicts = quick_scores(
            model, train, looked_at, run=run, extractors=extractors, seed=config.seed, device=device, stop=stop_asked
        )
        if training.progress.share >= JUDGED_FROM:
            for line in news(verdicts, heard):
                say(f"step {training.progress.step}: {line}")
        return numbers

    return Course(
        learnt=train,
        looked_at=len(looked_at),
        rarity=None,
        score=score,
        draw=lambda training: sheet(model, looked_at if len(looked_at) else train, seed=config.seed),
        criterion="score",
        words=f"{len(train)} pictures, {len(held_back)} held back for validation",
    )


def parts(config: Config, sets: Sets | PictureSets, held_back: str = "validation") -> tuple[Samples, Samples]:
    """The pictures that are learnt from, and a part that is held back, as the model sees them."""
    chosen: list[Samples] = [sets.train, getattr(sets, held_back)]
    if isinstance(sets, Sets):
        chosen = [each.labelled() for each in (sets.train, getattr(sets, held_back))]
    if config.data.whole:
        chosen = [Whole(each, config.augment.crop) for each in chosen]
    return chosen[0], chosen[1]


def news(verdicts: tuple[Verdict, ...], heard: dict[str, str]) -> list[str]:
    """A line for each alarm that was not raised at the last validation, and for each that has gone; what to try is said
    the first time. heard: the last level of each topic, kept by the caller."""
    lines = []
    for verdict in verdicts:
        before = heard.get(verdict.topic)
        if verdict.level != (before or "good") and (verdict.level != "good" or before == "bad"):
            advice = f" To try: {verdict.advice}" if verdict.advice and before in (None, "good") else ""
            lines.append(f"{verdict.topic}: {verdict.sentence}{advice}")
        heard[verdict.topic] = verdict.level
    return lines
