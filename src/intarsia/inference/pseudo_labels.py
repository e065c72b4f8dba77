"""Masks by a segmenter for pictures that nobody labelled, for a person to look at and then to learn from.

    OUT/images/NAME.*, masks/NAME.png    the pictures, copied, and the masks; what is not certain is IGNORE
    OUT/rejected/NAME.png                masks that are not learnt from: rejected, or not certain enough
    OUT/confidence/NAME.png              8-bit: how certain each pixel is, value / 255
    OUT/review.csv                       what is known of each picture, and what a person decided of it

Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks, 2013, ICML
workshop; with the threshold of Sohn et al.: FixMatch, 2020, https://arxiv.org/abs/2001.07685, but once, between two
trainings.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..data.classes import read_class_table
from ..data.folder import CLASSES_FILE
from ..drawing import encode_png
from ..errors import DataError, UsageError
from ..files import make_folder, write_atomically
from ..records import IGNORE, Classes, Labels, Mask, Prediction
from .pairs import PairFolder, Row, Step, Summary, read_rows
from .predictor import Failure, Predictor, ahead, attempt
from .record import writing

Status = Literal["new", "left out", "accepted", "corrected", "rejected"]
NOT_LEARNT: tuple[Status, ...] = ("rejected", "left out")  # their masks lie in REJECTED
DECIDED: tuple[Status, ...] = ("accepted", "corrected", "rejected")  # by a person: never labelled anew
REJECTED, CONFIDENCE, REVIEW = "rejected", "confidence", "review.csv"
COLUMNS = ("name", "status", "confidence", "labelled", "digest")


@dataclass(frozen=True)
class Reviewed:
    """One picture of a folder of pseudo-labels."""

    name: str
    status: Status
    confidence: float  # mean over its pixels (and classes, where they overlap), [0, 1]
    labelled: float  # share of its pixels that are certain enough, [0, 1]
    shares: tuple[float, ...]  # of the labelled pixels, each class's, [0, 1]
    digest: str  # of the mask as it was written: another one was corrected by hand


def certainty(prediction: Prediction, least: float) -> tuple[Mask | Labels, np.ndarray]:
    """The mask (H, W), or labels (K, H, W) where classes overlap, IGNORE where it is less certain than `least`; and
    how certain each pixel is, (H, W) float32 in [0, 1].

    Certain is the probability of the likeliest class; where classes overlap, that of each class's answer, and the
    least of them at a pixel.
    """
    if prediction.classes.overlapping:
        sure = np.maximum(prediction.probabilities, 1 - prediction.probabilities)  # K H W
        return np.where(sure >= least, prediction.labels, np.int8(IGNORE)), sure.min(axis=0)
    sure = prediction.probabilities.max(axis=0)
    return np.where(sure >= least, prediction.mask, np.int16(IGNORE)), sure


def label_files(
    predictor: Predictor,
    pictures: Mapping[str, Path],
    out: Path,
    *,
    confidence: float = 0.9,
    keep_share: float = 1.0,
    told: Mapping[str, object] | None = None,
    overwrite: bool = False,
    progress: Step | None = None,
) -> Summary:
    """Label pictures, by name, into `out`; the same call again does what is missing, and takes no decision back.

    confidence: pixels below it are left open. keep_share: of the pictures, the most certain ones, that are learnt from;
    the masks of the others lie in rejected/. told: what else is noted in pseudo_labels.json.
    """
    began = time.monotonic()
    settings = {"segmenter": predictor.settings(), "confidence": confidence}
    folder = PairFolder(out, "pseudo_labels", predictor.classes)
    with writing(out):
        decided = {each.name for each in read_review(out) if each.status in DECIDED}
        further = [lambda name: folder.mask_files(name, REJECTED), lambda name: [_confidence_file(out, name)]]
        before = settled(folder, read_review(out)) if (out / REVIEW).is_file() else []
        decided |= {each.name for each in before if each.status in DECIDED}
        done = folder.begin(settings, overwrite, lambda row: row["name"] in decided, further)
        ready = {name for name in done if name in decided or _is_whole(folder, name)}
        waiting = {name: path for name, path in pictures.items() if name not in ready}
        skipped = len(pictures) - len(waiting)
        failed: list[tuple[Path, str]] = []
        for index, each in enumerate(_labelled(folder, predictor, waiting, confidence), start=1):
            if isinstance(each, Failure):
                failed.append((each.path, str(each.error)))
            else:
                folder.note(each)
            if progress is not None:
                progress(skipped + index, len(pictures))
        rows = _ranked(folder, [each for each in before if each.name in decided], keep_share)
        write_review(folder, rows)
        counts = {status: sum(each.status == status for each in rows) for status in get_args(Status)}
        folder.describe(settings, {"keep_share": keep_share, "counts": counts, **(told or {})})
    kept = [each for each in rows if each.status not in NOT_LEARNT]
    sure = float(np.mean([each.confidence for each in rows])) if rows else math.nan
    words = (
        f"{len(kept)} of {len(rows)} pictures have a mask to learn from; {_mean_share(kept):.0%} of their pixels are "
        f"at least {confidence:.0%} certain, the rest is left open. Mean certainty of all: {sure:.0%}."
    )
    seconds = time.monotonic() - began
    return Summary(out, len(kept), len(rows) - len(kept), skipped, tuple(failed), seconds, words, {"confidence": sure})


def _labelled(
    folder: PairFolder, predictor: Predictor, waiting: Mapping[str, Path], least: float
) -> Iterator[Row | Failure]:
    """What is noted of each picture once its files are written, or its failure; the next one is read meanwhile."""

    def read(item: tuple[str, Path]) -> tuple[str, Path, Prediction | Failure]:
        name, path = item
        return name, path, attempt(path, lambda: predictor.predict(path, name))

    for name, path, prediction in ahead(read, waiting.items()):
        if isinstance(prediction, Failure):
            yield prediction
            continue
        labelled, sure = certainty(prediction, least)
        folder.write_image(name, path.suffix.lower(), path.read_bytes())
        map_file = _confidence_file(folder.out, name)
        make_folder(map_file.parent)
        write_atomically(map_file, encode_png(np.rint(sure * 255).astype(np.uint8)))
        for stale in folder.mask_files(name, REJECTED):
            stale.unlink(missing_ok=True)
        folder.write_labels(name, labelled)
        known = labelled != IGNORE
        if prediction.classes.overlapping:
            shares = [float((plane == 1).sum() / max(1, (plane != IGNORE).sum())) for plane in labelled]
        else:
            shares = [float((labelled == k).sum() / max(1, known.sum())) for k in range(len(prediction.classes))]
        yield {
            "name": name, "source": str(path), "confidence": round(float(sure.mean()), 4),
            "labelled": round(float(known.mean()), 4), "shares": [round(each, 4) for each in shares],
            "digest": digest_of(folder, name),
        }  # fmt: skip


def _ranked(folder: PairFolder, decided: Sequence[Reviewed], keep_share: float) -> list[Reviewed]:
    """All pictures, the least certain first: those that a person decided of as decided, of the others the most certain
    to be learnt from, with their masks where they belong."""
    fixed = {each.name: each for each in decided}
    rows = [fixed.get(row["name"]) or _reviewed(row) for row in read_rows(folder.log)]
    rows.sort(key=lambda each: (each.confidence, each.name))
    open_ = [each for each in rows if each.name not in fixed]
    learnt = {each.name for each in open_[len(open_) - math.ceil(keep_share * len(open_)) :] if each.labelled > 0}
    placed = []
    for each in rows:
        if each.name not in fixed:
            each = replace(each, status="new" if each.name in learnt else "left out")
        place(folder, each)
        placed.append(each)
    return placed


def _reviewed(row: Row) -> Reviewed:
    return Reviewed(
        row["name"], "new", float(row["confidence"]), float(row["labelled"]), tuple(row["shares"]), str(row["digest"])
    )


def place(folder: PairFolder, each: Reviewed) -> None:
    """Its mask lies where `fit` sees it, or in rejected/."""
    here, there = folder.mask_files(each.name), folder.mask_files(each.name, REJECTED)
    if each.status in NOT_LEARNT:
        here, there = there, here
    for wanted, other in zip(here, there, strict=True):
        if other.is_file() and not wanted.is_file():
            make_folder(wanted.parent)
            other.replace(wanted)
        elif other.is_file():
            other.unlink()  # the one that was decided of stays


def settled(folder: PairFolder, rows: Sequence[Reviewed]) -> list[Reviewed]:
    """The rows with what a person did to the files: a mask that was changed is corrected, one that was taken away is
    rejected."""
    found = []
    for each in rows:
        files = [file for root in ("masks", REJECTED) for file in folder.mask_files(each.name, root) if file.is_file()]
        if not files:
            each = replace(each, status="rejected")
        elif each.status in ("new", "accepted", "left out") and digest_of(folder, each.name) != each.digest:
            each = replace(each, status="corrected")
        found.append(each)
    return found


def digest_of(folder: PairFolder, name: str) -> str:
    """16 hexadecimal digits of a mask's files, wherever they lie."""
    digest = hashlib.blake2b(digest_size=8)
    for here, there in zip(folder.mask_files(name), folder.mask_files(name, REJECTED), strict=True):
        file = here if here.is_file() else there
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def write_review(folder: PairFolder, rows: Sequence[Reviewed]) -> Path:
    """review.csv, the least certain first, for any program that opens tables."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *folder.classes.names])
    for each in rows:
        numbers = [f"{value:.4f}" for value in (each.confidence, each.labelled)]
        table.writerow([each.name, each.status, *numbers, each.digest, *(f"{share:.4f}" for share in each.shares)])
    return write_atomically(folder.out / REVIEW, text.getvalue().encode("utf-8", "surrogateescape"))


def read_review(out: Path) -> list[Reviewed]:
    """The rows of review.csv as a person left them, in their order; none where there is no such file. Raises DataError
    for a status that means nothing."""
    path = out / REVIEW
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    table = csv.reader(io.StringIO(text), delimiter=";" if ";" in text.split("\n", 1)[0] else ",")  # as Excel may save
    head, *lines = list(table) or [[]]
    missing = [column for column in COLUMNS if column not in head]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]}; restore it, or label the pictures anew into another folder."
        )
    places = [head.index(column) for column in COLUMNS]
    further = [place for place in range(len(head)) if place not in places]
    rows = []
    for line in lines:
        if not any(line):
            continue
        try:
            name, status, sure, labelled, digest = (line[place] for place in places)
            shares = tuple(float(line[place].replace(",", ".")) for place in further if line[place])
            confidence, known = (float(each.replace(",", ".")) for each in (sure, labelled))
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}: the line of {line[0]!r} can't be read ({error}); mend it.") from error
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path} names {name!r}, which lies outside of its folder; mend it.")
        rows.append(Reviewed(name, status_of(status, path, name), confidence, known, shares, digest))
    return rows


def status_of(word: str, path: Path, name: str) -> Status:
    """The status that a person means: "reject" and "accept" will do."""
    short = word.strip().lower()
    for status in get_args(Status):
        if short and (short == status or (len(short) > 3 and status.startswith(short))):
            return status  # type: ignore[no-any-return]
    raise DataError(f"{path} says that {name} is {word!r}; write one of {', '.join(get_args(Status))}.")


def decide(
    folder: PairFolder, accept: Sequence[str] = (), reject: Sequence[str] = (), accept_all: bool = False
) -> list[Reviewed]:
    """The rows of review.csv after what a person wrote into it, did to the masks and says now; masks that are rejected
    are moved out of `fit`'s way, accepted ones back. accept_all: of those that nobody decided of, but "left out" stays.

    Raises UsageError for names that are not there, DataError where there is no review.csv.
    """
    rows = settled(folder, read_review(folder.out))
    if not (folder.out / REVIEW).is_file():
        raise DataError(f"{folder.out} has no {REVIEW}; give a folder that `intarsia pseudo-label` made.")
    known = {each.name for each in rows}
    unknown = [name for name in (*accept, *reject) if name not in known]
    if unknown:
        raise UsageError(f"{folder.out} has no picture {unknown[0]}; its names stand in {REVIEW}.")
    both = sorted(set(accept) & set(reject))
    if both:
        raise UsageError(f"{both[0]} is to be accepted and rejected; say one of the two.")
    decided = []
    for each in rows:
        status = each.status
        if each.name in reject:
            status = "rejected"
        elif each.name in accept or (accept_all and status == "new"):
            if not any(f.is_file() for root in ("masks", REJECTED) for f in folder.mask_files(each.name, root)):
                raise UsageError(f"{each.name} has no mask any more that could be accepted; draw one, or leave it.")
            status = "accepted" if digest_of(folder, each.name) == each.digest else "corrected"
        decided.append(replace(each, status=status))
        place(folder, decided[-1])
    write_review(folder, decided)
    return decided


def classes_of(out: Path) -> Classes:
    """What the masks of a folder of pseudo-labels mean."""

    return read_class_table(out / CLASSES_FILE).classes


def _mean_share(rows: Sequence[Reviewed]) -> float:
    return float(np.mean([each.labelled for each in rows])) if rows else 0.0


def _is_whole(folder: PairFolder, name: str) -> bool:
    masks = [folder.mask_files(name), folder.mask_files(name, REJECTED)]
    return bool(folder.image_files(name)) and any(all(file.is_file() for file in files) for files in masks)


def _confidence_file(out: Path, name: str) -> Path:
    return out / CONFIDENCE / f"{name}.png"
