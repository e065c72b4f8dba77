"""What the numbers of a generative model mean, in words: numbers -> Verdict, and nothing else.

A verdict is an alarm, not a proof: thresholds are where experience or the cited papers put them, and each sentence
gives the numbers, so that a reader can judge for himself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["good", "warning", "bad"]

ACTIVE = 0.01  # variance of a dimension's posterior means above which it is active: Burda et al. 2016, section 5.2
FEW_ACTIVE = 0.1  # share of the dimensions; models with more than they need leave the rest unused, which does no harm
LITTLE_KL = 1.0  # nats a picture: fewer tell apart fewer than three kinds of pictures

FEW_CODES, HARDLY_ANY_CODES = 0.5, 0.1  # perplexity, over the codes there are or could have been used
ENOUGH_USES = 4  # of each code on average, to say that one is never used

FEW_COVERED, HARDLY_ANY_COVERED = 0.5, 0.2  # coverage, over that of as many real pictures
FEW_RECALLED = 0.25  # recall likewise; it is the noisier of the two, so it only warns
LIKE_ENOUGH = 0.5  # precision, over that of real pictures: below it the pictures are unlike, which is another fault
ALIKE, NEARLY_ONE = 0.6, 0.25  # mean distance between drawn pictures, over that between real ones
UNEVEN, VERY_UNEVEN = 0.25, 0.5  # total variation between the drawn pictures' classes and the real ones', beyond chance

KNOWS = 0.95  # share of both kinds that a critic that wins recognises
ALWAYS_KNOWS = 0.99
NO_GRADIENT = 1e-3  # mean norm: what the generator then learns from is rounding (Arjovsky, Bottou 2017, section 2)
GUESSES = 0.52  # mean of both shares: a critic that is no better than a coin
BY_HEART = (
    0.35  # share of held-back real pictures it recognises, where it recognises the drawn ones: Karras et al. 2020
)

EXPECTED_COPIES = 0.01  # share of the drawn that lie below the first percentile by construction
SOME_COPIES, MANY_COPIES = 0.05, 0.2  # share of the drawn that are nearer to a training picture than 99 % of the new
NEARER = -5.0  # standard scores of the data-copying test: Meehan et al. 2020, section 5

OVERFITTED, BADLY_OVERFITTED = 0.05, 0.15  # held-back loss above the training loss, over the latter's size
SURE = 3.0  # standard errors beyond which a difference is no chance

BLURRED, VERY_BLURRED = 0.5, 0.2  # energy of the finest detail, over that of real pictures
NOISY, VERY_NOISY = 2.0, 5.0

DIFF_AUGMENT = 'DiffAugment (--set \'model.augment=["colour","translation","cutout"]\') where there are few pictures'
PENALTY = "--set model.game=wasserstein with --set model.gradient_penalty=10 and --set model.critic_steps=5"

Settings = Collection[str] | None  # that the model's configuration has: nothing else is advised; None: all models'


@dataclass(frozen=True)
class Verdict:
    """One thing that can go wrong, and whether it has."""

    topic: str  # "posterior collapse", "mode collapse", …
    level: Level
    sentence: str  # one sentence with the numbers
    advice: str = ""  # what to try; empty where all is well

    def to_json(self) -> dict[str, str]:
        return {"topic": self.topic, "level": self.level, "sentence": self.sentence, "advice": self.advice}


def worst_first(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    return tuple(sorted(verdicts, key=lambda verdict: ("bad", "warning", "good").index(verdict.level)))


def posterior_collapse(kl_dimensions: np.ndarray, active: np.ndarray, settings: Settings = None) -> Verdict:
    """kl_dimensions: (Z,) nats a picture of each dimension; active: (Z,) bool."""
    count, total, whole = int(active.sum()), float(kl_dimensions.sum()), len(active)
    said = (
        f"{count} of {whole} latent dimensions are active (variance of their means above {ACTIVE:g}), and a picture's "
        f"latent says {total:.1f} nats about it"
    )
    advice = _advice(
        settings,
        "a slow rise of the prior's pull (--set model.annealing=0.3)",
        "--set model.free_bits=0.1",
        "a smaller --set model.beta=0.5",
        "a smaller --set model.prior=0.5" if settings is None or "similarity" in settings else "",
    )
    if not count or total < LITTLE_KL:
        return Verdict("posterior collapse", "bad", f"The decoder ignores the latent: {said}.", advice)
    if count < FEW_ACTIVE * whole and count < 4:
        return Verdict("posterior collapse", "warning", f"Little of the latent is used: {said}.", advice)
    return Verdict("posterior collapse", "good", f"The latent is used: {said}.")


def code_use(codes: np.ndarray) -> tuple[int, float]:
    """How many codes of (K,) counts were used, and their perplexity exp(entropy): K where all are used alike."""
    shares = codes[codes > 0] / max(1.0, float(codes.sum()))
    return len(shares), float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def codebook_use(codes: np.ndarray, settings: Settings = None) -> Verdict:
    """codes: (K,) how often each code was used on pictures that were not trained on."""
    used, perplexity = code_use(codes)
    could = min(float(len(codes)), max(1.0, float(codes.sum()) / ENOUGH_USES))
    said = (
        f"{used:,} of {len(codes):,} codes are used, as evenly as {perplexity:.0f} would be by {codes.sum():,.0f} uses"
    )
    advice = _advice(
        settings,
        "unused codes moved sooner (--set model.revive=0.1)",
        "--set model.commitment=0.5",
        "fewer --set model.codes=…",
        "more training steps",
    )
    if used <= 1 or perplexity < HARDLY_ANY_CODES * could:
        return Verdict("codebook use", "bad", f"The codebook has collapsed: {said}.", advice)
    if perplexity < FEW_CODES * could and used < FEW_CODES * len(codes):
        return Verdict("codebook use", "warning", f"Much of the codebook lies idle: {said}.", advice)
    return Verdict("codebook use", "good", f"The codebook is used: {said}.")


@dataclass(frozen=True)
class Variety:
    """What tells whether a model draws all kinds of pictures; NaN where it was not measured. The references are those
    of as many real pictures instead of the drawn ones."""

    coverage: float = math.nan
    coverage_real: float = math.nan
    recall: float = math.nan
    recall_real: float = math.nan
    precision: float = math.nan
    precision_real: float = math.nan
    diversity: float = math.nan  # mean distance between two drawn pictures, over that between two real ones
    unevenness: float = math.nan  # total variation between the classes of the drawn pictures and the real ones, [0, 1]
    chance: float = 0.0  # what it would be by chance for as many pictures with the real classes
    lost: tuple[str, ...] = ()  # classes that are hardly ever drawn


def mode_collapse(found: Variety, settings: Settings = None) -> Verdict:
    """Whether kinds of pictures are missing. Low coverage of pictures that are unlike any real one is no sign of it."""
    advice = _advice(
        settings,
        PENALTY,
        "--set model.r1=1",
        "--set model.spectral_norm=true",
        DIFF_AUGMENT,
        "a larger --set train.batch=…",
        "more training steps",
    )
    signs: list[tuple[Level, str]] = []
    if found.diversity < ALIKE:
        level: Level = "bad" if found.diversity < NEARLY_ONE else "warning"
        signs.append((level, f"two drawn pictures differ by {found.diversity:.0%} of what two real ones do"))
    covered, recalled = _share(found.coverage, found.coverage_real), _share(found.recall, found.recall_real)
    likely = not _share(found.precision, found.precision_real) < LIKE_ENOUGH  # also where it was not measured
    if likely and covered < FEW_COVERED:
        level = "bad" if covered < HARDLY_ANY_COVERED else "warning"
        other = f", where other real ones come near {found.coverage_real:.0%}"
        signs.append((level, f"the drawn pictures come near {found.coverage:.0%} of the real ones{other}"))
    elif likely and recalled < FEW_RECALLED:
        signs.append(("warning", f"recall is {found.recall:.0%}, that of real pictures {found.recall_real:.0%}"))
    beyond = found.unevenness - found.chance
    if beyond > UNEVEN:
        lost = f" ({', '.join(found.lost[:5])} hardly ever)" if found.lost else ""
        level = "bad" if beyond > VERY_UNEVEN else "warning"
        signs.append((level, f"{found.unevenness:.0%} of them are of other classes than they should be{lost}"))
    if signs:
        worst: Level = "bad" if any(level == "bad" for level, _ in signs) else "warning"
        return Verdict(
            "mode collapse", worst, f"Kinds of pictures are missing: {'; '.join(t for _, t in signs)}.", advice
        )
    told = [
        f"{name} {value:.0%}"
        for name, value in (("coverage", found.coverage), ("recall", found.recall), ("variety", found.diversity))
        if math.isfinite(value)
    ]
    return Verdict(
        "mode collapse", "good", f"The drawn pictures vary as the real ones do{': ' if told else ''}{', '.join(told)}."
    )


def likeness(precision: float, precision_real: float, settings: Settings = None) -> Verdict:
    """Whether the drawn pictures are like real ones at all, by precision against that of other real pictures."""
    said = f"{precision:.0%} of the drawn pictures lie among the real ones, of other real pictures {precision_real:.0%}"
    share = _share(precision, precision_real)
    advice = _advice(settings, "a longer training (--minutes …)", "a larger model (--set model.width=…)")
    if share < LIKE_ENOUGH / 2:
        return Verdict("likeness", "bad", f"Most drawn pictures are unlike any real one: {said}.", advice)
    if share < LIKE_ENOUGH:
        return Verdict("likeness", "warning", f"Many drawn pictures are unlike the real ones: {said}.", advice)
    return Verdict("likeness", "good", f"The drawn pictures are like real ones: {said}.")


def critic_balance(real: float, drawn: float, gradient: float = math.nan, settings: Settings = None) -> Verdict:
    """real, drawn: shares of held-back and of drawn pictures that the critic recognises. gradient: mean norm at the
    drawn ones, for pictures in [-1, 1]; NaN: not known."""
    said = f"the critic recognises {real:.0%} of the real pictures, held back from it, and {drawn:.0%} of the drawn"
    slope = f", with gradients of {gradient:.2g}" if math.isfinite(gradient) else ""
    weaker = _advice(
        settings,
        "a slower critic (--set train.rates.critic=0.5)",
        "--set model.r1=1",
        "--set model.spectral_norm=true",
        PENALTY,
        DIFF_AUGMENT,
        "a smaller critic (--set model.critic_width=…)",
    )
    if min(real, drawn) > KNOWS:
        if gradient >= NO_GRADIENT:  # it is ahead, as good critics of young generators are, and there is much to learn
            return Verdict("critic", "warning", f"The critic is far ahead: {said}{slope}.", weaker)
        level: Level = "bad" if gradient < NO_GRADIENT or min(real, drawn) > ALWAYS_KNOWS else "warning"
        return Verdict("critic", level, f"The critic has won: {said}{slope}.", weaker)
    if real < BY_HEART and drawn > KNOWS:
        return Verdict("critic", "warning", f"The critic knows its training pictures by heart: {said}{slope}.", weaker)
    if (real + drawn) / 2 < GUESSES:
        stronger = _advice(
            settings,
            "nothing, if the pictures are good; else a faster critic (--set train.rates.critic=2)",
            "--set model.critic_steps=2",
            "a larger critic (--set model.critic_width=…)",
        )
        return Verdict("critic", "warning", f"The critic guesses: {said}{slope}.", stronger)
    return Verdict("critic", "good", f"The game is open: {said}{slope}.")


def memorising(share: float, standard_score: float, drawn: int, compared: int, settings: Settings = None) -> Verdict:
    """share: of the drawn pictures that are copies (see `Copies` in measuring.py). standard_score: of the data-copying
    test, below 0 where the drawn lie nearer to training pictures than held-back ones do."""
    said = (
        f"{share:.1%} of {drawn:,} drawn pictures lie nearer to one of {compared:,} training pictures than 99 % of the "
        f"held-back ones do (data-copying test {standard_score:+.1f})"
    )
    advice = _advice(
        settings,
        "more pictures, or more of [augment]",
        "a smaller model (--set model.width=…)",
        "a shorter training",
        "--set train.weight_decay=0.01",
        DIFF_AUGMENT,
    )
    if share > MANY_COPIES:
        return Verdict("memorising", "bad", f"The model copies its training pictures: {said}.", advice)
    if share > max(SOME_COPIES, EXPECTED_COPIES + SURE * math.sqrt(EXPECTED_COPIES / max(1, drawn))):
        return Verdict("memorising", "warning", f"Some drawn pictures are copies: {said}.", advice)
    if standard_score < NEARER:
        return Verdict("memorising", "warning", f"Drawn pictures keep close to training pictures: {said}.", advice)
    return Verdict("memorising", "good", f"The drawn pictures are new: {said}.")


def over_fitting(train: float, held_back: float, error: float, unit: str, settings: Settings = None) -> Verdict:
    """train, held_back: the same loss (lower is better) on pictures that were and were not learnt from. error: the
    standard error of their difference; NaN: not known, and then nothing is said against the model."""
    gap = held_back - train
    share = gap / max(abs(train), 1e-12)
    said = f"{held_back:.4g} {unit} on held-back pictures against {train:.4g} on training pictures"
    advice = _advice(
        settings,
        "more pictures, or more of [augment]",
        "a smaller model (--set model.width=…)",
        "--set train.weight_decay=0.01",
        "to stop earlier (--set train.patience=5)",
    )
    if gap > SURE * error:
        if share > BADLY_OVERFITTED:
            return Verdict("over-fitting", "bad", f"The model knows its training pictures by heart: {said}.", advice)
        if share > OVERFITTED:
            return Verdict("over-fitting", "warning", f"Training pictures are known too well: {said}.", advice)
    return Verdict("over-fitting", "good", f"What was learnt holds for new pictures: {said}.")


def sharpness(ratio: float, settings: Settings = None) -> Verdict:
    """ratio: energy of the finest detail in drawn pictures (or reconstructions), over that in real ones."""
    said = f"their finest detail has {ratio:.0%} of the energy that it has in real pictures"
    if ratio < BLURRED:
        advice = _advice(
            settings,
            "--set model.likelihood=logistic",
            "a smaller --set model.beta=0.5",
            "a model that need not average (--model gan, vae_gan or diffusion)",
        )
        return Verdict(
            "blur", "bad" if ratio < VERY_BLURRED else "warning", f"The pictures are blurred: {said}.", advice
        )
    if ratio > NOISY:
        advice = _advice(settings, "a longer training (--minutes …)", "--set train.average=0.999")
        return Verdict("blur", "bad" if ratio > VERY_NOISY else "warning", f"The pictures are noisy: {said}.", advice)
    return Verdict("blur", "good", f"The pictures are sharp: {said}.")


def class_chance(real: np.ndarray, count: int) -> float:
    """The total variation to expect between shares (K,) and the shares among `count` pictures drawn from them."""
    return float(np.sqrt(real * (1 - real) * 2 / math.pi / max(1, count)).sum() / 2)


def lost_classes(drawn: np.ndarray, real: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes (K,) drawn at less than a tenth of their real share."""
    return tuple(name for name, d, r in zip(names, drawn, real, strict=True) if r > 0 and d < 0.1 * r)


def alarms(verdicts: Iterable[Verdict]) -> Mapping[str, Verdict]:
    """Those that are not good, by topic."""
    return {verdict.topic: verdict for verdict in verdicts if verdict.level != "good"}


def _advice(settings: Settings, *parts: str) -> str:
    """What to try, without the parts that name a setting which the model has not."""
    fit = [
        part for part in parts if part and (settings is None or set(re.findall(r"model\.(\w+)", part)) <= set(settings))
    ]
    text = "; ".join(re.sub(r"--(?:set ('[^']*'|[^\s),]+)|minutes …)", r"`\g<0>`", part) for part in fit)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _share(value: float, whole: float) -> float:
    """value / whole, NaN where either is not known; 1 where there is nothing to reach."""
    return value / whole if whole > 0 else math.nan if math.isnan(whole) else 1.0
