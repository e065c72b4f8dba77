"""What the data doctor may find, one function a finding or a few that belong together.

Each function gets the folder, its fingerprint and what reading each picture showed, and yields findings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from .classes import Value
from .duplicates import near_duplicates
from .examine import Examined, MaskFacts, Trouble
from .fingerprint import Fingerprint
from .folder import Folder

RARE_SHARE = 0.001  # of the labelled pixels: a class with less is hardly seen
RARE_PICTURES = 3  # a class in fewer pictures is hardly seen
SIZE_RATIO = 4.0  # longest side of the largest picture over that of the smallest: above it they are very different

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor found."""

    level: Level  # error: training would fail, or learn what is wrong; warning: it may; info: good to know
    code: str  # short and stable, for scripts: "size-differs"
    message: str  # what was found, in a sentence
    advice: str  # what to do, in a sentence
    files: tuple[str, ...] = ()  # all files or names it is about; files are given relative to the folder
    details: tuple[str, ...] = ()  # for each of the files what is wrong with it; empty: the message holds for all


Look = Callable[[Folder, Fingerprint, Sequence[Examined]], Iterator[Finding]]


def all_findings(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> tuple[Finding, ...]:
    """All that is to be said, errors first, then warnings."""
    looks: tuple[Look, ...] = (
        files,
        lists,
        mask_values,
        mask_files,
        labels,
        raters,
        class_balance,
        duplicates,
        pictures,
    )
    return in_order(finding for look in looks for finding in look(folder, numbers, seen))


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings; within these as they came."""
    return tuple(sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.level)))


# ------------------------------------------------------------------------------------------ files and lists


def files(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Files that can't be read, masks of another size than their picture, what the folder itself complained of."""
    broken = [trouble for each in seen for trouble in each.broken]
    if broken:
        message = f"Reading failed for {_count(broken, 'file')}."
        advice = "Export them again from their source, or delete them; until then they can't be used."
        yield _troubles("unreadable", message, advice, broken, folder)
    misfits = [trouble for each in seen for trouble in each.misfits]
    if misfits:
        message = f"The size of {_count(misfits, 'mask')} is not that of the picture."
        advice = (
            "Export them at the picture's size; where both show the same view, resize the mask by nearest neighbour."
        )
        yield _troubles("size-differs", message, advice, misfits, folder)
    for problem in folder.problems:
        yield Finding("warning", "folder", problem, "Rename what belongs together, and remove what is left over.")


def lists(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Pictures in two lists, labelled pictures in none."""
    for first, second in combinations(folder.lists, 2):
        shared = sorted(set(folder.lists[first]) & set(folder.lists[second]))
        if shared:
            message = f"The {first} and the {second} list share {_count(shared, 'picture')}."
            advice = "Remove them from one of the lists: a score on pictures that were learned from says nothing."
            yield Finding("error", "list-overlap", message, advice, tuple(shared))
    listed = {name for names in folder.lists.values() for name in names}
    unlisted = [each.entry.image for each in seen if each.labelled and each.entry.name not in listed]
    if "train" in folder.lists and unlisted:
        message = f"No list names {_count(unlisted, 'labelled picture')}, so they will not be used."
        advice = "Add them to the training list, or remove all lists to have the pictures divided for you."
        yield Finding("info", "unlisted", message, advice, _shown(unlisted, folder))


# ------------------------------------------------------------------------------------------ masks


def mask_values(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """0/255 masks taken for class numbers, and values that are no class."""
    masks = [mask for each in seen for mask in each.masks]
    held = frozenset[int]().union(*(mask.values for mask in masks))
    table = folder.table
    in_numbers = table.coding in ("index", "binary") and table.match == "exact"
    if in_numbers and held == {0, 255} and 255 not in table.numbers():
        message = "The masks hold nothing but 0 and 255, and 255 is read as no class: all that is marked would be lost."
        advice = 'Set coding = "binary" in classes.toml, with the values 0 and 255 for its two classes.'
        yield Finding("error", "binary-masks", message, advice, _shown((mask.path for mask in masks), folder))
        return
    strange = [mask for mask in masks if mask.unknown]
    if not strange:
        return
    histogram = sum((mask.unknown for mask in strange), Counter[Value]())
    message = f"Values that are no class: {_histogram(histogram)}."
    details = tuple(_histogram(mask.unknown) for mask in strange)
    advice = _mapping_advice(histogram, strange)
    yield Finding("error", "unknown-values", message, advice, _shown((mask.path for mask in strange), folder), details)


def mask_files(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Lossy masks, and palettes."""
    masks = [mask for each in seen for mask in each.masks]
    lossy = [mask.path for mask in masks if mask.lossy]
    if lossy:
        message = f"Lossy compression, which invents values along all borders, in {_count(lossy, 'mask')}."
        advice = "Export the masks again as PNG; saving the JPEG as PNG does not bring the borders back."
        yield Finding("warning", "lossy-masks", message, advice, _shown(lossy, folder))
    with_palette = [mask for mask in masks if mask.colours]
    if not with_palette or folder.table.coding != "index":
        return
    meanings: defaultdict[int, Counter[tuple[int, int, int]]] = defaultdict(Counter)
    for mask in with_palette:
        for value, colour in mask.colours.items():
            meanings[value][colour] += 1
    usual = {value: colours.most_common(1)[0][0] for value, colours in meanings.items()}
    others = [m.path for m in with_palette if any(usual[value] != colour for value, colour in m.colours.items())]
    if others:
        value = next(value for value, colours in sorted(meanings.items()) if len(colours) > 1)
        shown = " and ".join(str(colour) for colour, _ in meanings[value].most_common(2))
        message = f"The palettes of the masks differ: number {value} is {shown}."
        advice = "The numbers are read, not the colours; if the colours are what is meant, save these masks as RGB."
        yield Finding("warning", "palettes-differ", message, advice, _shown(others, folder))
    else:
        message = f"A palette in {_count(with_palette, 'mask')}: the numbers are read as classes, not the colours."
        advice = "Nothing to do."
        yield Finding("info", "palettes", message, advice, _shown((mask.path for mask in with_palette), folder))


def labels(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Pictures without a mask, and masks on which nothing is labelled."""
    without = [each.entry.image for each in seen if not each.labelled]
    if without and len(without) == len(seen):
        message = "No picture has a mask."
        advice = "Put masks of the same names into masks/ beside images/; a few will do to begin with."
        yield Finding("warning", "no-labels", message, advice, _shown(without, folder))
    elif without:
        message = f"There is no mask for {_count(without, 'picture')}; they count as unlabelled."
        advice = "Nothing to do; masks for some of them would help."
        yield Finding("info", "unlabelled", message, advice, _shown(without, folder))
    measured = [(each.entry.image, each.measures.class_pixels) for each in seen if each.measures is not None]
    empty = [path for path, counts in measured if counts is not None and not counts.any()]
    if empty and not folder.classes.overlapping:
        message = f"Nothing is labelled in the mask of {_count(empty, 'picture')}."
        advice = "Nothing can be learned from these masks: finish them, or delete them."
        yield Finding("warning", "empty-masks", message, advice, _shown(empty, folder))


def raters(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Pictures of which several people drew a mask each."""
    rated = [each.entry for each in seen if each.entry.raters]
    if not rated:
        return
    most, fewest = (f(len(entry.raters) for entry in rated) for f in (max, min))
    people = _count(most, "rater") if most == fewest else f"{fewest} to {most} raters"
    own = sum(entry.masks[0] not in entry.raters for entry in rated)
    message = f"There are masks of {people} for {_count(rated, 'picture')}."
    if own:
        message += f" {_count(own, 'picture')} of them also {'has' if own == 1 else 'have'} a mask of no rater."
    advice = (
        "Nothing to do: a mask of no rater is the mask, else what most raters say, and nothing where they are tied. "
        "Set augment.rater = random, or take a model that gives several answers, to learn from each."
    )
    yield Finding("info", "raters", message, advice, _shown((entry.image for entry in rated), folder))


# ------------------------------------------------------------------------------------------ classes


def class_balance(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Classes never seen, hardly seen, or missing from one of the lists."""
    if not numbers.labelled:
        return
    names = folder.classes.names
    never = [name for name, pixels in zip(names, numbers.class_pixels, strict=True) if not pixels]
    if len(names) == 1 and not folder.classes.overlapping:
        message = f"There is one class only ({names[0]}): every pixel is of it, and nothing can be learnt."
        yield Finding("warning", "one-class", message, "Label what is to be told from it, or list it in classes.toml.")
    if never:
        message = f"No mask shows {_listed(never)}."
        advice = "Remove what does not exist from classes.toml, label some, or check that the numbers are right."
        yield Finding("warning", "class-unseen", message, advice)
    rare = [
        f"{name} ({100 * share:.2g} % of the pixels, {_count(shown, 'picture')})"
        for name, share, shown in zip(names, numbers.shares, numbers.class_pictures, strict=True)
        if shown and (share < RARE_SHARE or shown < RARE_PICTURES)
    ]
    if rare:
        message = f"Hardly seen: {_listed(rare)}."
        advice = "Label more pictures that show them; until then their scores are little more than chance."
        yield Finding("warning", "class-rare", message, advice)
    counts = {each.entry.name: each.measures.class_pixels for each in seen if each.measures is not None}
    for part, listed in folder.lists.items():
        known = [pixels for name in listed if (pixels := counts.get(name)) is not None]
        missing = [name for k, name in enumerate(names) if name not in never and not any(each[k] for each in known)]
        if known and missing:
            message = f"The {part} list shows nothing of {_listed(missing)}, which other pictures show."
            advice = (
                "Move pictures that show it into the training list: what is not shown can't be learned."
                if part == "train"
                else f"Move pictures that show it into the {part} list; until then its score is not known there."
            )
            yield Finding("warning", "class-missing-in-list", message, advice)


# ------------------------------------------------------------------------------------------ pictures


def duplicates(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Equal and nearly equal pictures: across the lists, where they falsify scores, and elsewhere."""
    readable = [each for each in seen if each.thumbnail is not None]
    equal: defaultdict[bytes, list[int]] = defaultdict(list)
    for i, each in enumerate(readable):
        equal[each.digest].append(i)
    exact = [tuple(group) for group in equal.values() if len(group) > 1]
    near = near_duplicates([each.thumbnail for each in readable if each.thumbnail is not None])
    near = [group for group in near if len({readable[i].digest for i in group}) > 1]
    part_of = {name: part for part, names in folder.lists.items() for name in names}

    for groups, kind, word in ((exact, "duplicates", "equal"), (near, "near-duplicates", "nearly equal")):
        across = [g for g in groups if len({part_of.get(readable[i].entry.name) for i in g} - {None}) > 1]
        inside = [g for g in groups if g not in across]
        if across:
            paths, details = _group_words(across, readable, folder, part_of)
            message = f"{_count(across, 'group')} of {word} pictures across the lists: the scores would be too good."
            advice = "Keep each group in one list."
            yield Finding("warning", f"{kind}-across-lists", message, advice, paths, details)
        if inside:
            paths, details = _group_words(inside, readable, folder, part_of)
            message = f"{_count(inside, 'group')} of {word} pictures."
            advice = "Harmless within one list; if you divide the pictures yourself, keep each group together."
            yield Finding("info", kind, message, advice, paths, details)
    disagreeing = [g for g in exact if len({readable[i].mask_digest for i in g} - {b""}) > 1]
    if disagreeing:
        paths, details = _group_words(disagreeing, readable, folder, part_of)
        message = f"{_count(disagreeing, 'group')} of equal pictures whose masks differ."
        advice = "Keep the better mask of each."
        yield Finding("warning", "duplicates-disagree", message, advice, paths, details)


def pictures(folder: Folder, numbers: Fingerprint, seen: Sequence[Examined]) -> Iterator[Finding]:
    """Mixed channels, number types and sizes; pictures that show nothing; pictures that are turned."""
    measured = [(each.entry.image, each.measures) for each in seen if each.measures is not None]
    channels = Counter(len(measures.mean) for _, measures in measured)
    if len(channels) > 1:
        odd = [path for path, measures in measured if len(measures.mean) != numbers.channels]
        message = f"The pictures differ in channels: {_tally(channels, 'have {}')}."
        advice = "Grey and colour can be mixed, as long as grey is meant to look grey; other mixtures need converting."
        yield Finding("warning", "mixed-channels", message, advice, _shown(odd, folder))
    types = Counter(measures.dtype for _, measures in measured)
    if len(types) > 1:
        odd = [path for path, measures in measured if measures.dtype != numbers.dtype]
        message = f"The pictures differ in number type: {_tally(types, 'are {}')}."
        advice = "Each is scaled by its type's full range; where 16 bits hold 12-bit values, rescale them to match."
        yield Finding("warning", "mixed-types", message, advice, _shown(odd, folder))
    if measured and max(numbers.largest) > SIZE_RATIO * max(numbers.smallest):
        (low, narrow), (high, wide) = numbers.smallest, numbers.largest
        message = f"The pictures' sizes are very different: {narrow} x {low} to {wide} x {high} pixels."
        advice = "If things are larger in the larger pictures, rescale the pictures so that they match."
        yield Finding("info", "sizes-very-different", message, advice)
    constant = [path for path, measures in measured if measures.constant]
    if constant:
        message = f"{_count(constant, 'picture')} of one single value, showing nothing."
        advice = "Delete them, or export them again."
        yield Finding("warning", "constant", message, advice, _shown(constant, folder))
    turned = [each.entry.image for each in seen if each.orientation != 1]
    if turned:
        message = f"As its EXIF tag says, a picture is turned: {_count(turned, 'picture')}."
        advice = "Nothing to do: their masks are turned along where they have the stored picture's size."
        yield Finding("info", "turned", message, advice, _shown(turned, folder))


# ------------------------------------------------------------------------------------------ words


def _troubles(code: str, message: str, advice: str, troubles: list[Trouble], folder: Folder) -> Finding:
    paths = _shown((trouble.path for trouble in troubles), folder)
    return Finding("error", code, message, advice, paths, tuple(trouble.words for trouble in troubles))


def _mapping_advice(unknown: Counter[Value], masks: list[MaskFacts]) -> str:
    """What to write into classes.toml, or what else to do."""
    if any(mask.lossy for mask in masks):
        return (
            'Lossy compression invented them: export the masks again as PNG, or set match = "nearest" in classes.toml.'
        )
    values = sorted(value for value in unknown if isinstance(value, int))
    if values in ([255], [65535]):
        return (
            f"If nobody labelled these pixels, write ignore = {values} into classes.toml; "
            "if they are a class, add it there with this number."
        )
    if len(unknown) > 20:
        return (
            'If the numbers count objects, set coding = "binary" and match = "nonzero" in classes.toml; '
            'if the masks were resized with smoothing, set match = "nearest".'
        )
    ignore: list[Any] = [*values, *sorted([*value] for value in unknown if isinstance(value, tuple))]
    return f"Add a class for each to classes.toml, or set ignore = {ignore} there to leave these pixels out."


def _histogram(values: Counter[Value], most: int = 6) -> str:
    shown = ", ".join(f"{value} ({pixels:,} pixels)" for value, pixels in values.most_common(most))
    return shown + (f" and {len(values) - most} more values" if len(values) > most else "")


def _group_words(
    groups: list[tuple[int, ...]], seen: list[Examined], folder: Folder, part_of: dict[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All pictures of the groups, and for each which group and list it is of."""
    members = [(number, seen[i].entry) for number, group in enumerate(groups, start=1) for i in group]
    details = [
        f"group {number}" + (f", {part_of[entry.name]}" if entry.name in part_of else "") for number, entry in members
    ]
    return _shown((entry.image for _, entry in members), folder), tuple(details)


def _shown(paths: Iterable[Path], folder: Folder) -> tuple[str, ...]:
    return tuple(
        path.relative_to(folder.root).as_posix() if path.is_relative_to(folder.root) else str(path) for path in paths
    )


def _count(things: Sized | int, word: str) -> str:
    number = things if isinstance(things, int) else len(things)
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _tally(counts: Counter[int] | Counter[str], phrase: str) -> str:
    return ", ".join(f"{count} {phrase.format(value)}" for value, count in counts.most_common())
