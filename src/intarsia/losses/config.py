"""What a segmenter's loss is made of, and how rare classes are weighted.

Class weights: Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels", 2015, arxiv.org/abs/1411.4734
(median frequency, section 4.3.2); Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019,
arxiv.org/abs/1901.05555.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import DataError, UsageError

Term = Literal["cross_entropy", "focal", "dice", "jaccard", "tversky", "lovasz", "mse"]
Weighting = Literal["none", "sqrt", "inverse", "median", "effective"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LossConfig(BaseModel):
    """A weighted sum of pixel terms (cross_entropy, focal, mse) and region terms (dice, jaccard, tversky, lovasz)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms: dict[Term, NonNegative] = {"cross_entropy": 1.0}  # each term's factor in the sum; 0 = only logged
    class_weights: Weighting = "none"  # how `weights` are made from the training pixels, see `class_weights`
    weights: tuple[NonNegative, ...] | None = None  # one a class, for pixel terms; None = all 1, until fit fills it in
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # share of cross_entropy's target spread evenly over all classes
    focal_gamma: float = Field(2.0, ge=0)  # how fast easy pixels fade from the focal loss; 0 = cross entropy
    tversky_alpha: float = Field(0.3, ge=0)  # cost of a false positive: said to be of the class, and is not
    tversky_beta: float = Field(0.7, ge=0)  # cost of a false negative: of the class, and missed
    hardest: float = Field(1.0, gt=0, le=1)  # share of the labelled pixels, worst first, that pixel terms see; 1 = all
    auxiliary_weight: float = Field(0.4, ge=0)  # factor of the deep supervision's mean loss; 0 = none
    background: bool = True  # whether region terms average over class 0 too
    batch_region: bool = True  # region terms see: True = the batch as one picture, False = each picture, then the mean

    @model_validator(mode="after")
    def _something_to_descend(self) -> Self:
        if not any(factor > 0 for factor in self.terms.values()):
            raise ValueError(f"terms is {self.terms}: nothing to descend. Give at least one term a factor above 0.")
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0. Give at least one of them a value above 0.")
        return self


def class_weights(
    counts: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
    method: Weighting,
    beta: float | None = None,
    cap: float = 10.0,
) -> tuple[float, ...]:
    """One weight a class (K,), for `LossConfig.weights`, from the labelled pixels of the training pictures.

    counts: pixels of each class (K,), or of each class in each picture (P, K), IGNORE not counted. Only "median"
    uses the pictures: given (K,) alone, it equals "inverse".

    With n the pixels of a class:
        none       1
        sqrt       1 / sqrt(n): halfway between none and inverse
        inverse    1 / n
        median     1 / frequency, the class's share of the pixels of those pictures in which it occurs
        effective  1 / E(n), E(n) = (1 - beta^n) / (1 - beta): grows as n for rare classes, ends at 1 / (1 - beta)
    beta: in [0, 1); None: 1 / (1 - beta) is the mean of n over the classes that occur, so that classes rarer than
    the average are weighted up, and the result does not depend on the pictures' resolution.

    Weights are scaled so that the mean over all pixels is 1, then cut to `cap` (so that a class of ten pixels does not
    decide the step). A class without pixels has weight 1: nothing is known about it.
    """
    table = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all() or (table < 0).any():
        raise DataError(
            f"class weights need pixel counts of at least one class, each 0 or more, as (K,) or (pictures, K); "
            f"got an array of shape {np.shape(counts)}: {np.asarray(counts).tolist()!s:.200}."
        )
    if cap <= 0:
        raise UsageError(f"the cap of the class weights is {cap}, but must be above 0; 10 is the default.")
    if beta is not None and not 0 <= beta < 1:
        raise UsageError(f"beta of the effective number is {beta}, but must be in [0, 1); None is chosen by the data.")
    pixels = table.sum(axis=0)
    occurs = pixels > 0
    if method == "none" or not occurs.any():
        return (1.0,) * len(pixels)

    n = pixels[occurs]
    if method == "sqrt":
        raw = 1 / np.sqrt(n)
    elif method == "inverse":
        raw = 1 / n
    elif method == "median":
        around = ((table > 0) * table.sum(axis=1, keepdims=True)).sum(axis=0)[occurs]  # pixels of pictures that show it
        raw = around / n
    else:
        rest = 1 / max(n.mean(), 1.0) if beta is None else 1 - beta
        # beta^n as exp(n log(beta)), exact where beta is a millionth below 1
        raw = rest / -np.expm1(n * np.log1p(-rest)) if rest < 1 else np.ones_like(n)
    weights = np.ones(len(pixels))
    weights[occurs] = raw * n.sum() / (raw * n).sum()
    return tuple(float(weight) for weight in np.minimum(weights, cap))
