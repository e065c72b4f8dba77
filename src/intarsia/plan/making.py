"""A plan: rules for the kind of model, and a budget that is worked out from a measured step."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from ..config import Config, DataConfig, to_toml, validate
from ..data.fingerprint import Fingerprint, combine
from ..data.pictures import PictureSets
from ..data.sets import Sets
from ..models import MODELS, build
from ..models.contract import GenerativeModel, InstanceModel, Model
from ..records import IGNORE, Batch
from ..training.loop import batches_a_step, prepare, train
from ..training.machine import choose_device, choose_precision, describe, make_fabric
from . import generators, instances, segmenters
from .advice import Advice, read_advice


@dataclass
class Plan:
    """A configuration and why it is what it is."""

    config: Config
    reasons: dict[str, str] = field(default_factory=dict)  # "train.batch" -> a sentence
    seconds_per_step: float | None = None  # measured; None where it was not asked for
    device: str = ""

    def to_toml(self) -> str:
        return to_toml(
            self.config,
            self.reasons,
            ("Made by `intarsia plan` from the pictures and this machine; every line may be changed.",
             "Train with:  intarsia fit FOLDER --config THIS_FILE"),
        )  # fmt: skip


def make_plan(
    sets: Sets | PictureSets,
    data: DataConfig,
    minutes: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    model: str | None = None,
    seed: int = 0,
    measure: bool = True,
) -> Plan:
    """The plan for a folder's training part.

    minutes, steps: the budget; neither: by rule. With minutes, steps are worked out from a measured step, so that the
    run is repeatable; `intarsia fit --minutes` goes by the clock instead. measure False: no step is timed.
    """
    picture = combine(sets.measures, len(sets.classes))
    device = choose_device(device)
    advice = None
    if model is None and isinstance(sets, Sets):
        advice = read_advice(sets.folder.root, picture.labelled, sets.classes.names, sets.folder.objects)
        model = advice.settings.get("model.name") if advice else None
        model = model if model in MODELS else None
    if model is not None and model in MODELS and issubclass(MODELS[model], GenerativeModel):
        tree, reasons = generators.rules(sets, picture, device, model)
    else:
        assert isinstance(sets, Sets)
        objects = sets.folder.objects if model is None else issubclass(MODELS.get(model, Model), InstanceModel)
        tree, reasons = (instances if objects else segmenters).rules(sets, picture, device, model)
    if advice is not None:
        _follow(advice, tree, reasons)
    tree |= {"seed": seed, "data": data.model_dump(mode="json", exclude_none=True) | tree.get("data", {})}
    precision = tree["train"].get("precision") or choose_precision("auto", device)
    tree["train"]["precision"] = precision
    reasons.setdefault(
        "train.precision",
        f"measured: {describe(device)} gains by bf16"
        if precision == "bf16-mixed"
        else f"what {describe(device)} is fastest with",
    )
    planned = Plan(validate(tree, "the plan"), reasons, device=device)
    asked, minutes = minutes is not None, minutes or _default_minutes(picture, device)
    if steps is not None:
        tree["train"]["steps"], reasons["train.steps"] = steps, "as asked for"
        planned.config = validate(tree, "the plan")
        if measure:
            seconds = planned.seconds_per_step = time_step(planned.config, device)
            took = f"about {steps * seconds / 0.93 / 60:.1f} minutes at {seconds:.2f} s a step, measured"
            reasons["train.steps"] = f"as asked for: {took}"
        return planned
    if not measure:
        tree["train"]["minutes"] = minutes
        reasons["train.minutes"] = "as asked for, by the clock" if asked else "what so many pictures and classes repay"
        planned.config = validate(tree, "the plan")
        return planned
    seconds = planned.seconds_per_step = time_step(planned.config, device)
    steps = max(20, round(60 * minutes * 0.93 / seconds))  # 7 % for validation and saving
    seen = steps * tree["train"]["batch"] / max(1, picture.labelled or len(sets.train))
    tree["train"]["steps"] = steps
    reasons["train.steps"] = (
        f"about {minutes:g} minutes at {seconds:.2f} s a step, measured; {seen:.0f} times each picture"
    )
    planned.config = validate(tree, "the plan")
    return planned


def _follow(advice: Advice, tree: dict[str, Any], reasons: dict[str, str]) -> None:
    """What a comparison on these pictures found is written over the rules, with what it measured as the reason."""
    reasons["model.name"] = advice.reason
    for dotted, value in advice.settings.items():
        *sections, key = dotted.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[key] = value
        reasons[dotted] = advice.reason


def time_step(config: Config, device: str, most: float = 20.0) -> float:
    """Seconds of one training step of this configuration on this device, measured on noise (the best of a few)."""
    height, width = config.augment.crop
    batch = _noise(config, height, width)
    fabric = make_fabric(config.train, device)
    model = build(config.model).to(memory_format=torch.channels_last)
    training, wrapped = prepare(model, config.train, 0, fabric)
    a_step = batches_a_step(model) * config.train.accumulate
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < 4 and time.perf_counter() - begin < most:
        start = time.perf_counter()
        train(training, wrapped, fabric, iter([batch] * a_step), training.progress.step + 1)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _noise(config: Config, height: int, width: int) -> Batch:
    """A batch of pictures of noise, with everything that any model may be told of them."""
    labels, classes = config.train.batch + (config.train.generated or 0), max(1, config.model.classes)
    unlabelled = getattr(MODELS[config.model.name], "learns_from_unlabelled", False)
    beside = config.train.unlabelled if config.train.unlabelled is not None else config.train.batch
    count = labels + (beside if unlabelled else 0)
    images = torch.rand(count, config.model.channels, height, width)
    masks = torch.randint(0, classes, (count, height, width))
    masks[labels:] = IGNORE
    names = tuple("" for _ in images)
    labelled = torch.arange(count) < labels
    if issubclass(MODELS[config.model.name], InstanceModel):
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        square = 1 + row // 16 * ((width + 15) // 16) + column // 16
        grid = torch.where((row % 16 < 12) & (column % 16 < 12), square, 0)  # squares of 12 pixels in cells of 16
        objects = grid.expand(count, -1, -1).clone()
        objects[labels:] = IGNORE
        kinds = tuple(torch.ones(int(square.max()), dtype=torch.int64) for _ in range(count))
        return Batch(images, masks, labelled=labelled, names=names, objects=objects, object_classes=kinds)
    if getattr(config.model, "overlapping", False):
        planes = torch.nn.functional.one_hot(masks.clamp(min=0), classes).movedim(-1, 1).float()
        planes[labels:] = IGNORE
        return Batch(images, None, planes, labelled=labelled, names=names)
    return Batch(images, masks, labelled=labelled, categories=torch.arange(count) % classes, names=names)


def _default_minutes(picture: Fingerprint, device: str) -> float:
    """More masks of more classes repay more time; a processor gets at most 45 minutes, a GPU 20. Without masks: 10."""
    if not picture.labelled:
        return 10.0
    wish = 5 + picture.labelled * (1 + 0.1 * len(picture.class_pixels)) / 20
    return float(min(20 if device == "cuda" else 45, round(wish)))
