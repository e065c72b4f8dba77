"""The numbers of a generative model and the verdicts that follow from them, put together.

`measuring.py` measures, `verdicts.py` judges; here each number gets its definition and the counts behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batches import Samples
from ..errors import DataError, Stopped
from ..metrics import Score
from ..metrics.feature_distance import feature_scores, frechet_distance, manifold
from ..metrics.picture_quality import PictureQuality
from ..models.contract import Bounded, Draws, GenerativeModel
from . import measuring
from .exploring import explore
from .features import Extractor
from .measuring import Answer, Gathered, Health, eight_bits
from .verdicts import (
    Variety,
    Verdict,
    class_chance,
    code_use,
    codebook_use,
    critic_balance,
    likeness,
    lost_classes,
    memorising,
    mode_collapse,
    over_fitting,
    posterior_collapse,
    sharpness,
)

SHOWN, RECONSTRUCTED, NEAREST = 64, 12, 16  # pictures kept to be looked at
CONFIDENT = 0.9  # probability from which a picture counts as read

Report = Callable[[str, int, int], None]  # what is being done, how much of it is, out of how much


@dataclass(frozen=True)
class Reconstruction:
    """One held-back picture, taken apart and put together again, or damaged and mended. uint8 (H, W, C)."""

    name: str
    original: np.ndarray
    damaged: np.ndarray | None  # what the model was given, where that was not the original
    reconstruction: np.ndarray


@dataclass(frozen=True)
class Nearest:
    """A drawn picture beside the training picture that is most like it."""

    number: int  # of the drawn picture, as `intarsia generate --seed` counts them
    drawn: np.ndarray  # (H, W, C) uint8
    name: str  # of the training picture
    picture: np.ndarray  # (H, W, C) uint8
    distance: float  # root mean square difference of the pixels in [0, 1], both shrunk to 32 pixels


@dataclass
class Yardstick:
    """What a model's pictures are held against: features, and training pictures. Made once, used at each validation."""

    extractor: Extractor
    learnt: Gathered  # training pictures at the model's size
    train: Samples
    numbers: np.ndarray  # of the training pictures in `small`
    small: np.ndarray  # (N, D) uint8, as `measuring.small` makes them
    features: np.ndarray  # (N, D) of `learnt`

    @classmethod
    def of(cls, model: GenerativeModel, train: Samples, extractor: Extractor, count: int, most: int) -> Yardstick:
        """count: training pictures whose features and losses are measured; most: among which copies are sought. Without
        any, nothing is measured that takes them."""
        learnt = Gathered(train, model, count)
        numbers = np.linspace(0, len(train) - 1, min(most, len(train))).astype(int)
        small = measuring.small_pictures(train, numbers, model)
        return cls(extractor, learnt, train, numbers, small, extractor.of(learnt.images())[0])


class Found:
    """What has been measured so far."""

    def __init__(self, settings: Collection[str], say: Report, stop: Callable[[], bool]) -> None:
        self.settings, self.say, self.stop = settings, say, stop
        self.scores: list[Score] = []
        self.verdicts: list[Verdict] = []
        self.counts: dict[str, int] = {}
        self.kept: dict[str, Any] = {}  # what GenerativeEvaluation has beside scores and verdicts
        self.missing: dict[str, str] = {}

    def add(self, name: str, value: float, definition: str) -> None:
        self.scores.append(Score(name, float(value), definition))

    def value(self, name: str) -> float:
        return next((score.value for score in self.scores if score.name == name), math.nan)

    def losses(self) -> dict[str, float]:
        """The means over held-back pictures, by "term" or "part/term"."""
        return {each.name.removeprefix("loss/"): each.value for each in self.scores if each.name.startswith("loss/")}

    def begin(self, what: str, of: int = 1) -> None:
        if self.stop():
            raise Stopped("stopped before everything was measured; the same command again begins anew.")
        self.say(what, 0, of)


def measure(
    found: Found,
    model: GenerativeModel,
    held: Gathered,
    yardstick: Yardstick | None,
    seed: int,
    count: int,
    importance: int,
    whole: bool,
) -> None:
    if not len(held):
        raise DataError("no picture was held back to measure the model on; give some that it did not learn from.")
    found.begin("losses", len(held))
    _losses(found, model, held, yardstick, seed)
    if isinstance(model, Bounded):
        found.begin("bounds", len(held))
        _bounds(found, model, held, yardstick, seed, importance)
    told = measuring.health(model, held)
    _health(found, told)
    _answers(found, model, held, seed, whole)
    if isinstance(model, Draws) and yardstick is not None:
        found.begin("drawing", count)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            found.say("drawing", done, count)

        drawn = measuring.drawn_pictures(model, count, seed, held.told(seed), found.stop, step)
        found.begin("comparing", 1)
        _drawn(found, model, drawn, held, yardstick, seed, whole)
    if whole:
        found.begin("exploring", 1)
        found.kept["explorer"] = explore(model, held, told.kl_dimensions)


def _losses(found: Found, model: GenerativeModel, held: Gathered, yardstick: Yardstick | None, seed: int) -> None:
    """Every term of training's losses, and whether what is descended is lower on training pictures."""
    terms = measuring.losses(model, held)
    for name, values in terms.items():
        found.add(f"loss/{name}", float(np.mean(values)), f"as in training, mean over {len(held):,} held-back pictures")
    if isinstance(model, Bounded) or len(model.parts()) > 1 or yardstick is None or not len(yardstick.learnt):
        return
    torch.manual_seed(seed)  # the same chance for both
    learnt = measuring.losses(model, yardstick.learnt)["total"]
    (before, one), (after, other) = (measuring.mean_and_error(each) for each in (learnt, terms["total"]))
    found.add("loss_train/total", before, f"as loss/total, over {len(yardstick.learnt):,} training pictures")
    found.verdicts.append(over_fitting(before, after, math.hypot(one, other), "a picture's loss", found.settings))


def _bounds(
    found: Found, model: Bounded, held: Gathered, yardstick: Yardstick | None, seed: int, importance: int
) -> None:
    """Bounds of the log-likelihood in nats a picture, and bits per dimension where the pixels are levels."""
    dimensions = model.config.channels * math.prod(model.config.size)
    values = measuring.bounds(model, held, 1)
    mean, error = measuring.mean_and_error(values)
    of = f"mean over {len(held):,} held-back pictures; higher is better"
    found.add("bound", mean, f"lower bound of ln p(picture) in nats, one sample (ELBO), {of}")
    levels = getattr(model.config, "likelihood", "") != "bernoulli"
    best = mean
    if importance > 1:
        tighter = measuring.bounds(model, held, importance)
        best = float(tighter.mean())
        found.add(f"bound_{importance}", best, f"the same with {importance} importance samples (IWAE), {of}")
    bits = -1 / (dimensions * math.log(2))
    if levels:
        found.add(
            "bits_per_dimension",
            best * bits,
            f"-bound / ({dimensions:,} dimensions x ln 2) of 8-bit pictures, samples: {importance}, "
            + of.replace("higher", "lower"),
        )
    found.add("bound_per_dimension", mean / dimensions, f"bound / {dimensions:,} dimensions, in nats")
    if yardstick is not None and len(yardstick.learnt):
        torch.manual_seed(seed)
        before, other = measuring.mean_and_error(measuring.bounds(model, yardstick.learnt, 1))
        found.add("bound_train", before, f"as bound, over {len(yardstick.learnt):,} training pictures")
        scale = -bits if levels else 1.0
        unit = "bits a dimension" if levels else "nats a picture"
        gap = math.hypot(error, other) * scale
        found.verdicts.append(over_fitting(-before * scale, -mean * scale, gap, unit, found.settings))


def _health(found: Found, told: Health) -> None:
    if told.kl_dimensions is not None and told.active is not None:
        found.kept |= {"kl_dimensions": told.kl_dimensions, "active": told.active}
        of = f"of {len(told.active)} latent dimensions"
        found.add("active_units", told.active.sum(), f"{of}, those whose posterior means have a variance above 0.01")
        found.add("kl", told.kl_dimensions.sum(), "divergence of the posterior from the prior in nats a picture")
        found.verdicts.append(posterior_collapse(told.kl_dimensions, told.active, found.settings))
    if told.codes is not None:
        found.kept["codes"] = told.codes
        used, perplexity = code_use(told.codes)
        uses = f"by {told.codes.sum():,} uses on {told.pictures:,} held-back pictures"
        found.add("codes_used", used, f"of {len(told.codes):,} codes, those that were used, {uses}")
        found.add("code_perplexity", perplexity, f"exp(entropy) of how often each code was used, {uses}")
        found.verdicts.append(codebook_use(told.codes, found.settings))
    if "critic_real" in told.scalars:
        real, fake = told.scalars["critic_real"], told.scalars["critic_fake"]
        slope = told.scalars.get("critic_gradient", math.nan)
        found.add("critic_real", real, f"share of {told.pictures:,} held-back pictures that the critic takes for real")
        found.add("critic_fake", fake, f"share of {told.pictures:,} drawn pictures that the critic takes for drawn")
        found.add("critic_gradient", slope, "mean norm of the critic's gradient at drawn pictures")
        found.verdicts.append(critic_balance(real, fake, slope, found.settings))


def _answers(found: Found, model: GenerativeModel, held: Gathered, seed: int, whole: bool) -> None:
    """Held-back pictures reconstructed, and damaged and mended, against what they were."""
    slow = getattr(model.config, "mend_steps", 1) > 4
    kept: list[Reconstruction] = []
    for kind, answer_of in (("reconstruction_", measuring.reconstructed), ("mended_", measuring.mended)):
        if slow and not whole:
            continue
        torch.manual_seed(seed)
        quality, given, details, words = PictureQuality(), PictureQuality(), np.zeros(2), ""
        shown: list[Answer] = []
        for number, batch in enumerate(held):
            if (slow and number) or (not whole and number > 1):
                break
            answer = answer_of(model, batch)
            if answer is None:
                break
            shown += [answer] if not number else []
            words = answer.words
            if answer.comparable:
                quality.add(answer.answer, answer.original)
                details += measuring.detail(answer.answer), measuring.detail(answer.original)
                if answer.given is not None and answer.given.shape == answer.original.shape:
                    given.add(answer.given, answer.original)
        prefix = "" if kind == "reconstruction_" else kind
        found.scores += quality.scores(prefix, words).overall if quality.pictures else ()
        found.scores += given.scores("damaged_", "as the model was given them").overall if given.pictures else ()
        if quality.pictures and details[1] > 0 and not isinstance(model, Draws):
            ratio = float(details[0] / details[1])
            energy = "energy of second differences of the pixels, over that of the originals"
            found.add(f"{kind}sharpness", ratio, energy)
            found.verdicts.append(sharpness(ratio, found.settings))
        if shown and (not kept or shown[0].given is not None):  # what was damaged shows more than what was not
            kept = _kept(shown[0], [sample.name for sample in held.samples])
        found.counts |= {f"{kind[:-1]}s" if kind == "reconstruction_" else "mended": quality.pictures} if shown else {}
    if whole:
        found.kept["reconstructions"] = tuple(kept)


def _drawn(
    found: Found,
    model: Draws,
    drawn: Tensor,
    held: Gathered,
    yardstick: Yardstick,
    seed: int,
    whole: bool,
) -> None:
    """Drawn pictures against held-back ones, and against training pictures for both."""
    if not len(drawn):
        return
    found.counts["drawn"] = len(drawn)
    real, extractor = held.images(), yardstick.extractor
    features, probabilities = extractor.of(drawn)
    features_real, probabilities_real = extractor.of(real)
    compared = feature_scores(features_real, features, features=extractor.name, frechet=extractor.frechet, seed=seed)
    found.scores += compared.overall
    others = _spread(yardstick.features, len(drawn))
    reference = manifold(features_real, others)
    instead = f"the same of {len(others):,} training pictures instead of the drawn ones: about what can be reached"
    if len(others) > 1:
        found.add(f"{extractor.frechet}_real", frechet_distance(features_real, others), instead)
    for name in ("precision", "recall", "coverage"):
        found.add(f"{name}_real", getattr(reference, name), instead)
    lost: tuple[str, ...] = ()
    chance = unevenness = math.nan
    if probabilities is not None and probabilities_real is not None:
        ours, theirs = measuring.histogram(probabilities), measuring.histogram(probabilities_real)
        found.kept |= {"class_names": extractor.classes, "class_histogram": ours, "class_histogram_real": theirs}
        lost, unevenness = lost_classes(ours, theirs, extractor.classes), float(np.abs(ours - theirs).sum() / 2)
        chance = class_chance(theirs, min(len(drawn), len(real)))
        read = f"by {extractor.name}, of {len(drawn):,} drawn pictures"
        sure = (probabilities.max(axis=1) > CONFIDENT).mean()
        found.add("confident", sure, f"share read with a probability above {CONFIDENT:.0%}, {read}")
        found.add("unevenness", unevenness, f"total variation between their classes and the held-back ones', {read}")
        if held.condition == "class" and len(extractor.classes) == model.config.classes:
            told = held.told(seed)
            assert told is not None
            asked = np.array([int(told(number)) for number in range(len(drawn))])
            right = (probabilities.argmax(axis=1) == asked).mean()
            found.add("told_class", right, f"share read as the class asked for, {read}")
    spread, spread_real = measuring.variety(drawn), measuring.variety(real)
    diversity = spread / spread_real if spread_real > 0 and len(drawn) > 1 else math.nan
    pairs = "root mean square distance of two drawn pictures, over that of two held-back ones, in pixels"
    found.add("diversity", diversity, pairs)
    found.verdicts.append(
        mode_collapse(
            Variety(
                found.value("coverage"), reference.coverage, found.value("recall"), reference.recall,
                found.value("precision"), reference.precision, diversity, unevenness, chance, lost,
            ),
            found.settings,
        )
    )  # fmt: skip
    if math.isfinite(reference.precision):
        found.verdicts.append(likeness(found.value("precision"), reference.precision, found.settings))
    fine, fine_real = measuring.detail(drawn), measuring.detail(real)
    if fine_real > 0:
        energy = "energy of second differences of the drawn pixels, over that of held-back pictures"
        found.add("sharpness", fine / fine_real, energy)
        found.verdicts.append(sharpness(fine / fine_real, found.settings))
    _copies(found, model, drawn, real, yardstick, whole)
    if whole:
        found.kept |= {"drawn": eight_bits(drawn[:SHOWN]), "numbers": tuple(range(min(SHOWN, len(drawn))))}


def _copies(found: Found, model: Draws, drawn: Tensor, real: Tensor, yardstick: Yardstick, whole: bool) -> None:
    if len(yardstick.small) < 2 or len(real) < 2:
        found.missing["copies"] = "there are too few held-back or training pictures to tell what is near"
        return
    copies = measuring.copies(measuring.small(drawn), measuring.small(real), yardstick.small)
    among = f"{len(drawn):,} drawn, {len(real):,} held-back, {len(yardstick.small):,} training pictures at 32 pixels"
    found.add(
        "copies",
        copies.share,
        "share of the drawn nearer to a training picture than 99 % of the held-back are, also when counted in the "
        f"distances to its next neighbours; {among}",
    )
    found.add(
        "copying_test",
        copies.standard_score,
        f"Mann-Whitney standard score of those distances, far below 0: nearer than new pictures are; {among}",
    )
    found.verdicts.append(
        memorising(copies.share, copies.standard_score, len(drawn), len(yardstick.small), found.settings)
    )
    if not whole:
        return
    pairs = []
    for number in np.argsort(copies.distances, kind="stable")[:NEAREST]:
        original = yardstick.train[int(yardstick.numbers[copies.nearest[number]])]
        picture = Gathered([original], model, 1, told=False).images()
        pairs.append(
            Nearest(
                number=int(number),
                drawn=eight_bits(drawn[number][None])[0],
                name=original.name,
                picture=eight_bits(picture)[0],
                distance=float(copies.distances[number]),
            )
        )
    found.kept["nearest"] = tuple(pairs)


def _kept(answer: Answer, names: list[str]) -> list[Reconstruction]:
    original, found = eight_bits(answer.original), eight_bits(answer.answer)
    given = None if answer.given is None else eight_bits(answer.given)
    return [
        Reconstruction(names[i], original[i], None if given is None else given[i], found[i])
        for i in range(min(RECONSTRUCTED, len(original)))
    ]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most so many of the rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)] if len(rows) else rows
