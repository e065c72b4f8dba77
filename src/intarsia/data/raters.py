"""Several people's masks of one picture: which file is whose, and the one mask that most of them would sign.

A rater's mask has the picture's name and a number: a_r0.png, a_r1.png, or a_rater1.png, a_expert_2.png, a_mask_r0.png;
or it lies in a folder of that rater: masks/rater1/a.png.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Mask

_PEOPLE = "rater|annotator|expert|reader|observer|grader"
ENDING = re.compile(rf"(.+?)[_-](?:r|(?:{_PEOPLE})[_-]?)(\d{{1,3}})", re.IGNORECASE)
#: the same, where a_r1.png may as well be another picture: beside pictures only what says that it is a mask
PLAIN_ENDING = re.compile(rf"(.+?)[_-](?:(?:{_PEOPLE})[_-]?|mask[_-]r)(\d{{1,3}})", re.IGNORECASE)
FOLDER = re.compile(rf"(?:r|(?:{_PEOPLE})[_-]?)(\d{{1,3}})", re.IGNORECASE)


def ending(stem: str, plain: bool = False) -> tuple[str, int] | None:
    """What is before the rater's number, and the number; None where the name has none. `plain`: only what can't be
    taken for the number of a picture."""
    found = (PLAIN_ENDING if plain else ENDING).fullmatch(stem)
    return None if found is None else (found[1], int(found[2]))


def folder(name: str) -> int | None:
    """The number of the rater whose folder it is; None where it is not called so."""
    found = FOLDER.fullmatch(name)
    return None if found is None else int(found[1])


def majority(masks: Sequence[Mask]) -> Mask:
    """(H, W) int16: at each pixel the class that most masks (H, W) name; IGNORE where the first place is tied, and
    where all are IGNORE. A mask that is IGNORE at a pixel has no vote there.

        >>> majority([np.array([[0, 1, 1]]), np.array([[0, 1, 2]]), np.array([[0, 0, -1]])]).tolist()
        [[0, 1, -1]]

    Ties are nobody's knowledge: the lowest class number would favour background wherever two raters disagree. Raises
    DataError for masks of several sizes.
    """
    sizes = {mask.shape for mask in masks}
    if len(sizes) != 1:
        raise DataError(f"masks of one picture must have one size, but there are {sorted(sizes)}.")
    stacked = np.stack(masks)
    winner = np.full(stacked.shape[1:], IGNORE, np.int16)
    most = np.zeros(stacked.shape[1:], np.int16)  # votes of the winner, or of those who tie
    for value in np.unique(stacked[stacked != IGNORE]):
        votes = (stacked == value).sum(axis=0, dtype=np.int16)
        winner[(votes == most) & (votes > 0)] = IGNORE
        winner[votes > most] = value
        np.maximum(most, votes, out=most)
    return winner
