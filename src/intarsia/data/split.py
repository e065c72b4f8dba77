"""Which pictures to learn from, which to choose by, which to judge by, and which masks to look at.

Pictures of one drive, patient or slide resemble each other more than they resemble anything new. Divided at random,
the validation score says how well a network remembers; divided by drive, how well it does on the next drive. So:

1. The folder's own lists (`train.txt`, `val.txt`, `test.txt`) hold, as far as they exist.
2. Otherwise names decide. What is left of a name without its running number is its group: the drive of
   `0001TP_006690`, the patient of `patient12_slice003`. A grouping is used when it has two groups or more, none holds
   more than 80 % of the pictures, and whole groups come near the wished share.
3. Otherwise, numbered pictures (`frame_001`, `frame_002`, …) are divided in ten contiguous blocks, since neighbours in
   a film or a stack are all but the same picture; the blocks are then treated as groups.
4. Otherwise (`7f3a…`) each picture stands for itself.

All choices depend on the names and the seed alone, never on the order of files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np

from ..errors import DataError, UsageError
from .folder import Folder

LARGEST_GROUP = 0.8  # of the pictures; a grouping with a larger group divides nothing
BLOCKS = 10  # contiguous blocks of numbered pictures
DRAWS = 20  # divisions drawn, of which the one with most classes on both sides is taken

_INDEX_WORDS = "frame|slice|tile|patch|crop|image|img|view|page|part|section|plane|field|fov|step|time|row|col|idx"
_INDEX = re.compile(rf"(?:{_INDEX_WORDS}|[fxyztrc])?\d+", re.IGNORECASE)
_WORD = re.compile(_INDEX_WORDS, re.IGNORECASE)
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}", re.IGNORECASE)


@dataclass(frozen=True)
class Splits:
    """Names of pictures, each in one part at most, sorted."""

    train: tuple[str, ...]  # with a mask or without
    validation: tuple[str, ...]  # all with a mask
    test: tuple[str, ...]  # all with a mask
    hidden: frozenset[str]  # pictures of `train` whose mask is there and is not to be looked at
    reason: str  # how it was divided and why, in a few sentences


def split(
    folder: Folder,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    labelled: int | float | None = None,
    class_counts: Mapping[str, np.ndarray] | None = None,
) -> Splits:
    """The folder's pictures, divided (see the top of this file).

    `validation`, `test`: shares in [0, 1) of the labelled pictures, used where the folder has no list for them.
    `labelled`: how many masks of the training pictures to keep, as a number >= 1 or a share in (0, 1]; the other masks
    are hidden. None: all. `class_counts`: each labelled picture's pixels a class (K,); with them, validation and the
    kept masks see all classes where that is possible; None: they are drawn blindly.

    Pictures without a mask are trained on, also those of a validation picture's group: they have no label to leak, but
    a method that learns from unlabelled pictures will have seen that drive or patient.
    Raises UsageError for shares that make no sense, DataError where there are too few labelled pictures.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UsageError(
            f"validation = {validation} and test = {test} leave nothing to learn from; each is a share of the labelled "
            "pictures in [0, 1), and their sum is below 1."
        )
    has_mask = {entry.name: folder.labelled(entry) for entry in folder.entries}
    reasons: list[str] = []
    parts, pool = _from_lists(folder, has_mask, reasons)
    with_mask = sorted(name for name in pool if has_mask[name])
    wishes = {
        part: share for part, share in (("test", test), ("validation", validation)) if part not in parts and share
    }
    if wishes:
        if len(with_mask) <= len(wishes):
            raise DataError(
                f"{folder.root} has {len(with_mask)} labelled pictures to divide, too few to learn from some and hold "
                f"others back for {' and '.join(wishes)}; label at least {len(wishes) + 1}, better 10."
            )
        parts |= _divide(with_mask, wishes, seed, class_counts, reasons)
    held_back = {name for names in parts.values() for name in names}
    train = sorted(name for name in pool if name not in held_back)
    known = [name for name in train if has_mask[name]]
    if not known:
        raise DataError(
            f"{folder.root} has no labelled picture to learn from; put masks beside the pictures of the training list."
        )
    if len(train) > len(known):
        count = len(train) - len(known)
        reasons.append(f"{count} pictures without a mask are in the training part, for methods that learn from such.")
    hidden: frozenset[str] = frozenset()
    if labelled is not None:
        kept = choose_labelled(known, _how_many(labelled, len(known)), class_counts, seed)
        hidden = frozenset(known) - frozenset(kept)
        reasons.append(f"{len(kept)} of {len(known)} training masks are kept, the others are hidden.")
    return Splits(
        tuple(train),
        tuple(sorted(parts.get("validation", ()))),
        tuple(sorted(parts.get("test", ()))),
        hidden,
        " ".join(reasons),
    )


def choose_labelled(
    names: Sequence[str], count: int, class_counts: Mapping[str, np.ndarray] | None, seed: int = 0
) -> tuple[str, ...]:
    """`count` of the names, in the order they were chosen: the first 10 of a choice of 20 are the choice of 10.

    First the pictures that show most classes not yet seen, then always one that shows the class with fewest pictures
    so far; of equals, the one that the seed puts first. A picture shows a class if it has a tenth of the pixels that
    the class has in its median picture. `class_counts` None: the seed alone decides.
    Raises UsageError where more are asked for than there are.
    """
    if not 1 <= count <= len(names):
        raise UsageError(
            f"{count} labelled pictures were asked for, but the training part has {len(names)}; "
            f"ask for a number from 1 to {len(names)}."
        )
    shuffled = [sorted(names)[i] for i in np.random.default_rng(seed).permutation(len(names))]
    if class_counts is None:
        return tuple(shuffled[:count])
    shows = _shows([class_counts[name] for name in shuffled])
    chosen: list[int] = []
    left = np.ones(len(shuffled), bool)
    for _ in range(count):
        seen = shows[chosen].sum(axis=0)
        news = np.where(left, (shows & (seen == 0)).sum(axis=1), -1)
        if news.max() > 0:
            best = int(news.argmax())
        else:
            there = (shows & left[:, None]).any(axis=0)
            rarest = np.where(there, seen, len(shuffled) + 1).argmin()
            best = int((left & (shows[:, rarest] | ~there.any())).argmax())
        chosen.append(best)
        left[best] = False
    return tuple(shuffled[i] for i in chosen)


def group_of(name: str, coarse: bool = False) -> str:
    """The drive, patient or slide that a picture's name speaks of: the name without what numbers its pictures.

    >>> group_of("0001TP_006690"), group_of("patient12_slice003"), group_of("slide_A1_tile_3"), group_of("080_opaque")
    ('0001TP', 'patient12', 'slide_A1', '080')

    `coarse`: without all trailing numbers ("aachen_000000_000019" -> "aachen"), else without the last one.
    A name that is one word, a number or a hash is its own group; a folder in the name always stays in the group.
    """
    folder, _, stem = name.rpartition("/")
    if _HASH.fullmatch(stem):
        return name
    parts = re.split(r"([_\-. ]+)", stem)  # words at even places, what is between them at odd ones
    last_number = max((i for i in range(0, len(parts), 2) if re.search(r"\d", parts[i])), default=None)
    if last_number is None:
        return name
    if last_number < len(parts) - 1:  # words after the number tell pictures of one thing apart
        parts = parts[: last_number + 1]
        return _joined(folder, "".join(parts))
    stripped = False
    while len(parts) > 1 and _INDEX.fullmatch(parts[-1]) and (coarse or not stripped or parts[-1][0].isalpha()):
        parts, stripped = parts[:-2], True
        if len(parts) > 1 and _WORD.fullmatch(parts[-1]):
            parts = parts[:-2]
    if len(parts) == 1 and folder and (_INDEX.fullmatch(parts[0]) or _WORD.fullmatch(parts[0])):
        return folder
    return _joined(folder, "".join(parts))


def _joined(folder: str, stem: str) -> str:
    return f"{folder}/{stem}" if folder else stem


# ------------------------------------------------------------------------------------------ lists


def _from_lists(
    folder: Folder, has_mask: Mapping[str, bool], reasons: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The parts that lists fix, and the names left to train on or to divide further."""
    lists = {
        part: set(folder.lists[part]) & has_mask.keys() for part in ("train", "val", "test") if part in folder.lists
    }
    for first, second in combinations(lists, 2):
        shared = sorted(lists[first] & lists[second])
        if shared:
            raise DataError(
                f"{len(shared)} pictures are in both the {first} and the {second} list of {folder.root}, such as "
                f"{shared[0]}; a score on pictures that were learned from says nothing, so remove them from one."
            )
    if lists:
        given = ", ".join(f"{part} {len(names)}" for part, names in lists.items())
        reasons.append(f"The folder's own lists hold ({given}).")
    parts: dict[str, list[str]] = {}
    for part, key in (("validation", "val"), ("test", "test")):
        if key not in lists:
            continue
        parts[part] = sorted(name for name in lists[key] if has_mask[name])
        if not parts[part]:
            if not any(has_mask.values()):
                raise DataError(
                    f"no picture of {folder.root} has a mask ({folder.layout}); draw masks for a few pictures, or name "
                    "the folders images/ and masks/ with the same file names in both."
                )
            raise DataError(f"no picture in the {key} list of {folder.root} has a mask; mend the list or remove it.")
        missing = len(lists[key]) - len(parts[part])
        if missing:
            reasons.append(f"{missing} pictures of the {key} list have no mask and are left out.")
    listed = set().union(*lists.values())
    unlisted = sorted(has_mask.keys() - listed)
    if "train" not in lists:
        return parts, unlisted
    ignored = [name for name in unlisted if has_mask[name]]
    if ignored:
        reasons.append(f"{len(ignored)} labelled pictures are in no list and are left out.")
    return parts, sorted(lists["train"]) + [name for name in unlisted if not has_mask[name]]


# ------------------------------------------------------------------------------------------ groups


def divide(names: Sequence[str], wishes: dict[str, float], seed: int, reasons: list[str]) -> dict[str, list[str]]:
    """The names held back for each wish (a share), of pictures without masks; `reasons` gets a sentence of how."""
    return _divide(sorted(names), wishes, seed, None, reasons)


def _divide(
    names: list[str],
    wishes: dict[str, float],
    seed: int,
    class_counts: Mapping[str, np.ndarray] | None,
    reasons: list[str],
) -> dict[str, list[str]]:
    """The names that are held back for each wish; at least one each, and at least one is left."""
    rules: tuple[Callable[[str], str], ...] = (lambda name: group_of(name, coarse=True), group_of)
    for rule in rules:
        groups = _grouped(names, rule)
        usable = 2 <= len(groups) < len(names) and max(map(len, groups.values())) <= LARGEST_GROUP * len(names)
        if not usable:
            continue
        parts = _draw(list(groups.values()), wishes, seed, class_counts)
        if all(_near(len(parts[part]) / len(names), share) for part, share in wishes.items()):
            held = "; ".join(f"{part}: {_some({rule(name) for name in parts[part]})}" for part in wishes)
            reasons.append(f"Divided by group, as the names show them ({len(groups)} groups; {held}).")
            return parts
    size = -(-len(names) // BLOCKS)
    if size > 1 and sum(_number(name) is not None for name in names) > LARGEST_GROUP * len(names):
        ordered = sorted(names, key=_natural)
        blocks = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        reasons.append(
            f"Divided in contiguous blocks of {size}, as the names are numbered and neighbours may be alike."
        )
        return _draw(blocks, wishes, seed, class_counts)
    reasons.append("Divided picture by picture, as the names show no groups.")
    return _draw([[name] for name in names], wishes, seed, class_counts)


def _grouped(names: list[str], rule: Callable[[str], str]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[rule(name)].append(name)
    return dict(sorted(groups.items()))


def _draw(
    groups: list[list[str]], wishes: dict[str, float], seed: int, class_counts: Mapping[str, np.ndarray] | None
) -> dict[str, list[str]]:
    """Whole groups for each wish: of `DRAWS` divisions of the seed those that come near the wished shares, and of
    these the first that shows most classes in all parts."""
    drawn = [_draw_once(groups, wishes, np.random.default_rng((seed, draw))) for draw in range(DRAWS)]
    names = sorted(name for group in groups for name in group)

    def nearness(parts: dict[str, list[str]]) -> int:
        return sum(_near(len(parts[part]) / len(names), share) for part, share in wishes.items())

    nearest = max(map(nearness, drawn))
    drawn = [parts for parts in drawn if nearness(parts) == nearest]
    if class_counts is None:
        return drawn[0]
    shows = dict(zip(names, _shows([class_counts[name] for name in names]), strict=True))

    def classes_everywhere(parts: dict[str, list[str]]) -> int:
        held = {name for part in parts.values() for name in part}
        sides = [*parts.values(), [name for name in names if name not in held]]
        return int(np.all([np.any([shows[name] for name in side], axis=0) for side in sides], axis=0).sum())

    return max(drawn, key=classes_everywhere)


def _draw_once(groups: list[list[str]], wishes: dict[str, float], rng: np.random.Generator) -> dict[str, list[str]]:
    """One division: groups are taken in a random order, each if it brings the part nearer to the wish."""
    total = sum(map(len, groups))
    left = [groups[i] for i in rng.permutation(len(groups))]
    parts: dict[str, list[str]] = {}
    for to_come, (part, share) in zip(range(len(wishes) - 1, -1, -1), wishes.items(), strict=True):
        taken, kept = list[list[str]](), list[list[str]]()
        have, most = 0, len(left) - to_come - 1  # one group stays for each later part, and one to learn from
        for group in left:
            nearer = abs(have + len(group) - share * total) < abs(have - share * total)
            if nearer and len(taken) < most:
                taken.append(group)
                have += len(group)
            else:
                kept.append(group)
        if not taken:
            taken.append(kept.pop(min(range(len(kept)), key=lambda i: len(kept[i]))))
        parts[part] = sorted(name for group in taken for name in group)
        left = kept
    return parts


def _near(share: float, wish: float) -> bool:
    """Whether a share of the pictures is near enough to the wished one, given that groups stay whole."""
    return 0.5 * wish <= share <= max(1.75 * wish, wish + 0.15)


# ------------------------------------------------------------------------------------------ small helpers


def _shows(counts: Sequence[np.ndarray]) -> np.ndarray:
    """(N, K) bool: whether each picture shows each class: has a tenth of its median over the pictures that have it."""
    pixels = np.stack(counts).astype(np.float64)
    present = np.where(pixels > 0, pixels, np.nan)
    median = np.array([np.nanmedian(column) if (column > 0).any() else np.inf for column in present.T])
    return (pixels > 0) & (pixels >= 0.1 * median)


def _number(name: str) -> int | None:
    """The running number at the end of a name; None for hashes and names without one."""
    stem = name.rpartition("/")[2]
    match = re.search(r"(\d+)\D*$", stem)
    return None if match is None or _HASH.fullmatch(stem) else int(match[1])


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that puts frame_2 before frame_10."""
    parts = groupby(name, key=str.isdecimal)
    return [
        (digits, int(text) if digits else 0, text) for digits, text in ((digits, "".join(run)) for digits, run in parts)
    ]


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def _how_many(labelled: int | float, known: int) -> int:
    if isinstance(labelled, int):
        return labelled
    if not 0 < labelled <= 1:
        raise UsageError(f"labelled = {labelled} is neither a whole number of masks to keep nor a share in (0, 1].")
    return max(1, round(labelled * known))
