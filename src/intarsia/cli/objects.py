"""`predict` for runs of models of objects, and what of its options is for which kind of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UsageError
from .options import console, tell
from .progress import work_bar

if TYPE_CHECKING:
    from ..inference.object_folder import ObjectFinder


def holds_objects(run: Path) -> bool:
    """Whether a run's model finds objects. Raises UsageError for what is no run."""
    from ..models import MODELS
    from ..models.contract import InstanceModel
    from ..runs import Run

    return issubclass(MODELS[Run(run).model_config().name], InstanceModel)


def refuse(given: Mapping[str, object], kind: str, what: str = "run") -> None:
    """Raises UsageError where one of the options, by name, was given: it is not None, 0 or False."""
    surplus = [name for name, value in given.items() if value not in (None, 0, False)]
    if surplus:
        raise UsageError(f"{', '.join(surplus)} can't be had: this {what} is {kind}; leave that out.")


def thresholds_of(pairs: Sequence[str] | None, score: float | None) -> dict[str, float]:
    """The numbers of NAME=VALUE, and the score's. Raises UsageError for what is no number."""
    thresholds = {} if score is None else {"score": score}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            thresholds[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--threshold {pair} has no number; write it as --threshold score=0.6.") from None
    return thresholds


def predict_run_of_objects(
    run: Path,
    pictures: Sequence[str],
    out: Path,
    *,
    thresholds: Mapping[str, float],
    overlay: bool,
    table: bool,
    coco: bool,
    overwrite: bool,
    huge: int,
    weights: Literal["best", "last"],
    device: Literal["auto", "cpu", "cuda"],
    **options: Any,
) -> None:
    """`predict` for a run of a model of objects. options: tile, flips, limit."""
    from ..api import load
    from ..inference.objects import ObjectPredictor

    predictor = load(run, weights=weights, device=device, thresholds=thresholds, **options)
    assert isinstance(predictor, ObjectPredictor)
    write_objects(predictor, pictures, out, overlay=overlay, table=table, coco=coco, overwrite=overwrite, huge=huge)


def write_objects(
    predictor: ObjectFinder,
    pictures: Sequence[str],
    out: Path,
    *,
    overlay: bool,
    table: bool,
    coco: bool,
    overwrite: bool,
    huge: int,
) -> None:
    """Finds the objects of pictures, and says how many there are; nothing here loads PyTorch."""
    from ..inference.object_folder import ALL_OBJECTS, predict_objects

    shown = console()
    with work_bar("predicting") as step:
        summary = predict_objects(
            predictor, pictures, out, overlay=overlay, table=table, coco=coco, overwrite=overwrite,
            huge=huge, progress=lambda done, total, name: step(done, total),
        )  # fmt: skip
    found = f"{summary.objects} object{'s' * (summary.objects != 1)}"
    shown.print(f"{found} in all pictures there: {out / ALL_OBJECTS}", markup=False)
    tell(summary, out, shown)
