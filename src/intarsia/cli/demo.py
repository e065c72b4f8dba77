"""`intarsia demo`: everything once, on pictures of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..api import evaluate, load
from ..data.scenes import SceneConfig, write_scenes
from ..fitting import fit
from ..inference.folder import predict_files
from ..inference.predictor import Predictor
from .progress import duration

if TYPE_CHECKING:
    from rich.console import Console

    from ..training.watchers import Show

PICTURES, LABELLED = 160, 120


def run_demo(out: Path, minutes: float, seed: int, console: Console, show: Show) -> None:
    """Draws scenes, fits, evaluates and predicts into `out`, and says what was made."""
    pictures, run, answers = out / "pictures", out / "run", out / "answers"
    if not (pictures / "classes.toml").exists():
        write_scenes(pictures, PICTURES, SceneConfig(seed=seed), labelled=LABELLED)
        console.print(f"Drew {PICTURES} pictures with exact masks: {pictures}", markup=False)
    fitted = fit(pictures, run=run, minutes=minutes, seed=seed, show=show, say=partial(console.print, markup=False))
    result = evaluate(run)
    predictor = load(run)
    assert isinstance(predictor, Predictor)
    summary = predict_files(predictor, [pictures / "images"], answers, overlay=True)
    result.evaluation.table(console)
    console.print(
        f"""
Trained {duration(fitted.seconds)}; mean IoU {result.evaluation["mean_iou"]:.3f} on {result.pictures} unseen pictures.
  {result.report}   scores, curves, best and worst pictures
  {answers / "masks"}   {summary.done + summary.skipped} masks as palette PNG
  {answers / "overlays"}   the same laid over the pictures

On your own folder (images/ and masks/ with the same file names):
  intarsia check FOLDER                            what is wrong with it, before any training
  intarsia fit FOLDER --run runs/mine              train; the same command again goes on where it stopped
  intarsia predict runs/mine PICTURES --out OUT    masks for any picture, folder or pattern""",
        soft_wrap=True,
        markup=False,
    )
