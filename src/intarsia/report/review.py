"""The page on which a person looks through masks by a segmenter: picture, mask and certainty, least certain first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from ..data.classes import decode, decode_plane
from ..data.read import read_image, read_mask
from ..drawing import overlay, to_rgb8
from ..errors import DataError
from ..files import write_atomically
from ..inference.pairs import MASKS, UNKNOWN_PLANE, PairFolder
from ..inference.pseudo_labels import CONFIDENCE, REJECTED, REVIEW, Reviewed
from ..records import Mask
from .markup import class_name, counted, paragraph, remark, section, with_code
from .page import document
from .pictures import heat, on_top, picture_html
from .wording import percentage

MOST = 300  # pictures on the page; the others stand in review.csv
BYTES = 12_000_000  # of all embedded pictures together


def write_review_page(folder: PairFolder, rows: Sequence[Reviewed]) -> Path:
    """The path of review.html, once it stands there whole. Raises DiskError where it can't be written."""
    return write_atomically(folder.out / "review.html", review_page(folder, rows).encode(errors="replace"))


def review_page(folder: PairFolder, rows: Sequence[Reviewed]) -> str:
    """The page for rows in the order of review.csv, which is that of their certainty."""
    rows = sorted(rows, key=lambda each: (each.confidence, each.name))
    learnt = sum(each.status not in ("rejected", "left out") for each in rows)
    shown = rows[:MOST]
    headline = (
        f'<p class="eyebrow">Masks by a segmenter</p><h1>{escape(folder.out.resolve().name)}</h1>'
        f"<p>{escape(counted(len(rows), 'picture'))}, of which {learnt} have a mask to learn from.</p>"
    )
    steps = (
        f"Correct a mask in `{MASKS}/` with any editor: a mask that was changed is never written over. Write `reject` "
        f"or `accept` into the column status of `{REVIEW}`, or say `intarsia review {folder.out.name} --reject NAME`; "
        "then run `intarsia review` once, which moves rejected masks out of the way and renews this page."
    )
    named = zip(folder.classes.names, folder.classes.colours, strict=True)
    keys = "".join(f"<span>{class_name(*each)}</span>" for each in named)
    body = f'<p>{with_code(steps)}</p><p class="keys">{keys}</p>'
    body += remark("Hatched: left open, since it is not certain enough. Certainty: dark is unsure, bright is sure.")
    body += "".join(_picture(folder, each, BYTES // (3 * max(1, len(shown)))) for each in shown)
    if len(rows) > len(shown):
        body += paragraph(f"The {len(rows) - len(shown)} most certain ones are not shown; all stand in {REVIEW}.")
    return document(folder.out.resolve().name, headline, section("review", "Least certain first", body), datetime.now())


def _picture(folder: PairFolder, each: Reviewed, most: int) -> str:
    told = f"{each.status}, {percentage(each.confidence)} certain, {percentage(each.labelled)} of it labelled"
    try:
        picture = read_image(folder.image_files(each.name)[0]) if folder.image_files(each.name) else None
        mask = shown_mask(folder, each.name)
    except DataError as error:
        return f'<div class="example"><h3>{escape(each.name)}<span>{told}</span></h3>{paragraph(str(error))}</div>'
    panels: dict[str, np.ndarray] = {} if picture is None else {"picture": to_rgb8(picture)}
    if picture is not None and mask is not None and mask.shape == picture.shape[:2]:
        panels["mask"] = overlay(picture, mask, folder.classes)
    certainty = folder.out / CONFIDENCE / f"{each.name}.png"
    if certainty.is_file():
        panels["certainty"] = heat(read_image(certainty)[..., 0])
    figures = "".join(
        picture_html(panel, f"{name} of {each.name}", most, caption=name, zoom=True) for name, panel in panels.items()
    )
    return (
        f'<div class="example"><h3>{escape(each.name)}<span>{escape(told)}</span></h3>'
        f'<div class="panels">{figures}</div></div>'
    )


def shown_mask(folder: PairFolder, name: str) -> Mask | None:
    """The mask to draw, wherever it lies; None where it was taken away. Raises DataError where it can't be read."""
    for root in (MASKS, REJECTED):
        files = folder.mask_files(name, root)
        if not all(file.is_file() for file in files):
            continue
        if folder.classes.overlapping:
            return on_top(np.stack([decode_plane(read_mask(file), (UNKNOWN_PLANE,)) for file in files]))
        return decode(read_mask(files[0]), folder.table(), str(files[0]))
    return None
