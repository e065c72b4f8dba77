"""How good a generative model is: its numbers, each with its definition, and what they mean in words.

`examine` is the whole of it, for `intarsia evaluate`; `quick_scores` the same on fewer pictures, for each validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.batches import Samples
from ..drawing import encode_png, grid
from ..errors import UsageError
from ..metrics import Score, Scores
from ..models.contract import Bounded, Draws, GenerativeModel
from ..runs import Run
from . import measuring
from .appraisal import Found, Nearest, Reconstruction, Report, Yardstick, measure
from .exploring import Explorer, Strip
from .features import Extractor, PixelFeatures, extractor_of
from .measuring import Gathered, device_of, eight_bits
from .verdicts import Verdict, worst_first

if TYPE_CHECKING:
    from rich.console import Console

QUICK = 256  # pictures of a kind at each validation
QUICK_SLOW = 24  # likewise, of a model that draws in many steps
QUICK_TRAIN = 2_000  # training pictures among which a drawn picture's nearest is sought at each validation
DISTANCES = ("l1", "cross_entropy", "similarity", "reconstruction")  # a game's terms that say how near its answers are
FAR = 1e9  # the distance where nothing can be compared
IN_PERCENT = {
    *("precision", "recall", "coverage", "precision_real", "recall_real", "coverage_real"),
    *("confident", "told_class", "unevenness", "diversity", "copies", "critic_real", "critic_fake"),
    *("sharpness", "reconstruction_sharpness", "mended_sharpness"),
}


@dataclass(frozen=True)
class GenerativeEvaluation:
    """What was measured on one set of held-back pictures. The numbers stand in `scores`, each with its definition."""

    model: str  # the model's name
    scores: Scores  # only `overall` is filled
    verdicts: tuple[Verdict, ...]  # worst first
    counts: dict[str, int]  # "train", "held_back", "drawn", …: pictures behind the numbers
    extractor: str | None  # name of the features; None: nothing was measured in features
    seed: int
    seconds: float  # that it all took
    drawn: np.ndarray | None = None  # (N, H, W, C) uint8, N <= 64; None: the model draws nothing
    numbers: tuple[int, ...] = ()  # of the pictures in `drawn`
    reconstructions: tuple[Reconstruction, ...] = ()  # up to 12
    nearest: tuple[Nearest, ...] = ()  # up to 16, the most alike first
    kl_dimensions: np.ndarray | None = None  # (Z,) nats a picture
    active: np.ndarray | None = None  # (Z,) bool: variance of the posterior means > 0.01 (Burda et al. 2016)
    codes: np.ndarray | None = None  # (K,) int64: how often each code of the codebook was used
    class_names: tuple[str, ...] = ()
    class_histogram: np.ndarray | None = None  # (K,) share of the drawn pictures that the classifier calls so
    class_histogram_real: np.ndarray | None = None  # (K,) likewise of the held-back pictures
    explorer: Explorer | None = None
    missing: dict[str, str] = field(default_factory=dict)  # what was not measured: why

    def __getitem__(self, name: str) -> float:
        """The score of that name. KeyError where there is none."""
        return self.scores[name]

    def to_json(self) -> dict[str, Any]:
        """Numbers and verdicts in JSON's types, without the pictures; NaN is null."""
        arrays = {
            "kl_dimensions": self.kl_dimensions,
            "active": self.active,
            "codes": self.codes,
            "class_histogram": self.class_histogram,
            "class_histogram_real": self.class_histogram_real,
        }
        return {
            "model": self.model,
            "overall": self.scores.to_dict()["overall"],
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "counts": self.counts,
            "extractor": self.extractor,
            "seed": self.seed,
            "seconds": self.seconds,
            "class_names": list(self.class_names),
            **{name: None if values is None else values.tolist() for name, values in arrays.items()},
            "nearest": [{"number": n.number, "name": n.name, "distance": n.distance} for n in self.nearest],
            "missing": self.missing,
        }

    def table(self, console: Console) -> None:
        """Print the numbers with their definitions, then the verdicts."""
        from rich.markup import escape
        from rich.table import Table

        numbers = Table.grid(padding=(0, 2, 0, 0))
        numbers.add_column(no_wrap=True)
        numbers.add_column(justify="right", no_wrap=True)
        numbers.add_column(style="dim")
        for score in self.scores.overall:
            numbers.add_row(score.name.replace("_", " "), _shown(score), escape(score.definition))
        console.print(numbers)
        colours = {"good": "green", "warning": "yellow", "bad": "red"}
        for verdict in self.verdicts:
            console.print(f"[{colours[verdict.level]}]{verdict.level:<7}[/] [bold]{verdict.topic}[/]: ", end="")
            console.print(verdict.sentence, markup=False, highlight=False)
            if verdict.advice:
                console.print(f"        Try: {verdict.advice}", markup=False, highlight=False)
        for what, why in self.missing.items():
            console.print(f"Not measured: {what.replace('_', ' ')}, since {why}.", markup=False)


def examine(
    model: GenerativeModel,
    train: Samples,
    held_back: Samples,
    *,
    extractor: Extractor | None,
    seed: int = 0,
    count: int = 1000,  # pictures drawn, and held-back and training pictures looked at, at most
    most: int = 20_000,  # training pictures among which a drawn picture's nearest is sought
    importance: int = 16,  # samples of the tighter bound
    device: torch.device | str | None = None,  # None: where the model is
    progress: Report = lambda what, done, of: None,
    stop: Callable[[], bool] = lambda: False,
) -> GenerativeEvaluation:
    """Everything that can be measured on the model. extractor: of the features; None: pictures shrunk to 8 pixels.

    Raises DataError where no picture was held back, Stopped where a stop was asked for.
    """
    if device is not None:
        model.to(device)
    begin = perf_counter()
    chosen = extractor or PixelFeatures(model.config.channels, model.config.size)
    found = Found(type(model.config).model_fields, progress, stop)
    found.begin("reading")
    held = Gathered(held_back, model, count)
    yardstick = Yardstick.of(model, train, chosen, count, most)
    with _calm(model, seed):
        measure(found, model, held, yardstick, seed, count, importance, whole=True)
    return GenerativeEvaluation(
        model=str(getattr(model.config, "name", type(model).__name__)),
        scores=Scores((), tuple(found.scores)),
        verdicts=worst_first(found.verdicts),
        counts={"train": len(yardstick.numbers), "held_back": len(held), **found.counts},
        extractor=chosen.name if isinstance(model, Draws) else None,
        seed=seed,
        seconds=perf_counter() - begin,
        missing=found.missing,
        **found.kept,
    )


def quick_scores(
    model: GenerativeModel,
    train: Samples,
    held_back: Samples,
    *,
    run: Run | None = None,
    extractors: list[Yardstick],
    seed: int = 0,
    device: torch.device | str = "cpu",
    count: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, float], tuple[Verdict, ...]]:
    """Numbers for one validation, and verdicts. extractors: empty at first, kept by the caller: what is learnt and read
    once is put there; the features also go into the run's folder.

    "score" is finite, and higher is better: of a model with a bound, the bound in nats a dimension; of a game that
    draws, minus the Fréchet distance between drawn and held-back pictures in the extractor's features; of any other
    game minus its distance term; of everything else minus the losses of its parts. Without held-back pictures there
    are no numbers; where a stop is asked for before features are learnt, none that need them.
    """
    if not len(held_back):
        return {}, ()
    slow = getattr(model.config, "steps", 1) > 4
    most = count or (QUICK_SLOW if slow else QUICK)
    found = Found(type(model.config).model_fields, lambda what, done, of: None, lambda: False)
    held = Gathered(held_back, model, count or QUICK)
    if not len(held):
        return {}, ()
    if not extractors and isinstance(model, Draws):
        config = model.config
        extractor = extractor_of(
            train, channels=config.channels, size=config.size, classes=_class_names(run), seed=seed,
            path=None if run is None else run.folder / "features.safetensors", device=device, stop=stop,
        )  # fmt: skip
        if extractor is not None:
            extractors.append(Yardstick.of(model, train, extractor, count or QUICK, QUICK_TRAIN))
    with _calm(model, seed):
        measure(found, model, held, extractors[0] if extractors else None, seed, most, 1, whole=False)
    numbers = {score.name: score.value for score in found.scores if math.isfinite(score.value)}
    return {"score": _criterion(model, found), **numbers}, worst_first(found.verdicts)


def sheet(model: GenerativeModel, samples: Samples, *, seed: int = 0) -> bytes:
    """A PNG of what the model does now: pictures drawn, or rows of what it was given, its answer and the original."""
    held = Gathered(samples, model, 8)
    with _calm(model, seed):
        if isinstance(model, Draws):
            count = 16 if getattr(model.config, "steps", 1) > 4 else 64
            drawn = measuring.drawn_pictures(model, count, seed, held.told(seed), lambda: False, lambda: None)
            return encode_png(grid(list(eight_bits(drawn)), columns=round(math.sqrt(count))))
        batch = held.first(8)
        answer = measuring.mended(model, batch) or measuring.reconstructed(model, batch)
    if answer is None:
        return encode_png(grid(list(eight_bits(batch.images)), columns=8))
    rows = [each for each in (answer.given, answer.answer, answer.original) if each is not None]
    return encode_png(grid([picture for row in rows for picture in eight_bits(row)], columns=len(batch)))


def _criterion(model: GenerativeModel, found: Found) -> float:
    """The "score" of `quick_scores`."""
    bound = found.value("bound_per_dimension")
    if isinstance(model, Bounded) and math.isfinite(bound):
        return bound
    losses = {name: score for name, score in found.losses().items() if math.isfinite(score)}
    if "critic/total" in losses:  # a game, whose losses say nothing of its pictures
        distance = found.value("frechet_distance")
        if math.isfinite(distance):
            return -distance
        return -next((losses[f"generator/{name}"] for name in DISTANCES if f"generator/{name}" in losses), FAR)
    totals = [value for name, value in losses.items() if name.split("/")[-1] == "total"]
    return -sum(totals) if totals else -FAR


def _class_names(run: Run | None) -> tuple[str, ...]:
    try:
        return () if run is None else run.classes().names
    except UsageError:  # a run that has not written them yet: classes are then told apart by number
        return ()


@contextmanager
def _calm(model: GenerativeModel, seed: int) -> Iterator[None]:
    """Within it, the model is in eval mode and chance is that of the seed; outside, both stay as they were."""
    device = device_of(model)
    training = model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            model.train(training)


def _shown(score: Score) -> str:
    if math.isnan(score.value):
        return "n/a"
    if score.name in IN_PERCENT:
        return f"{100 * score.value:.1f} %"
    return f"{score.value:.4g}"


__all__ = [
    "Explorer",
    "GenerativeEvaluation",
    "Nearest",
    "Reconstruction",
    "Strip",
    "Yardstick",
    "examine",
    "quick_scores",
    "sheet",
]
