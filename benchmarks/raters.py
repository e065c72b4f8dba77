"""One answer or several: a U-Net against a Probabilistic U-Net on pictures that several people labelled.

    python benchmarks/raters.py --minutes 10 --seeds 0 1 --out results/raters

Two sets, each divided by `plan`'s own rule (a fifth for validation):

raters      ../shared/data/raters (or --data): 29 pictures, seven raters each.
scenes      drawn pictures (`intarsia.data.scenes`) in which a quarter of the eight raters call every disk a ring and
            half leave every square out: four readings of a picture, with shares known.

Contestants, each with what `intarsia plan --model` recommends for the set, the same crops, batch, steps and rate, and
the loss of the Probabilistic U-Net, so that what is compared is the latent and not Dice:

majority    a U-Net that learns from the majority of the raters
random      a U-Net that learns from one rater, drawn anew for each crop: what the Probabilistic U-Net sees as well
latent      the Probabilistic U-Net
people      no model: as many draws of the picture's own raters as there are answers. What an ideal model reaches.

A U-Net's several answers are its one answer (`majority`, `random`), or classes drawn for each pixel by its
probabilities (`pixels`, of `random`): right in every pixel's share and of no mind as a whole.

Steps are as many as the U-Net does in --minutes, from a measured step, so that every contestant takes equally many; the
Probabilistic U-Net's seconds are more, and told. Numbers are those of `intarsia.metrics.ambiguity` on the validation
pictures by the weights of the last step, with 16 answers; no validation score chooses anything. The pictures held back
are the same for every seed. Each finished case is appended to OUT/raters.json and skipped the next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intarsia import load
from intarsia.config import DataConfig
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.data.sets import Sets, open_sets
from intarsia.fitting import fit
from intarsia.metrics.ambiguity import ANSWERS, Agreement
from intarsia.models.semantic import ProbabilisticUNet
from intarsia.plan import make_plan
from intarsia.records import Prediction, Sample

CONTESTANTS = {
    "majority": {"model": "unet", "augment.rater": "majority"},
    "random": {"model": "unet", "augment.rater": "random"},
    "latent": {"model": "probabilistic_unet", "augment.rater": "random"},
}
READINGS = (("disk", "ring", 0.25), ("square", "background", 0.5))
SCENES = SceneConfig(height=64, width=96, objects=(2, 4), raters=(0.0,) * 8, ambiguous=READINGS)
COLUMNS = (
    "energy_distance", "answer_diversity", "people_diversity", "best_match_iou", "matched_iou", "mean_rater_dice",
    "mean_people_dice", "rater_calibration_error", "rater_brier", "train_seconds",
)  # fmt: skip

SPLIT = 0  # the seed that divides a folder without lists: the same pictures are held back whatever the run's seed
Several = Callable[[Sample], Sequence[Prediction]]


def measured(
    samples: Sequence[Sample], sets: Sets, answer: Callable[[Sample], Prediction], several: Several
) -> dict[str, float]:
    """The scores of one answer a picture, and of several."""
    agreement = Agreement.zeros(sets.classes)
    for sample in samples:
        if sample.raters:
            answers = several(sample)
            probabilities = np.mean([each.probabilities for each in answers], axis=0)
            agreement.add(sample.raters, answer(sample).mask, probabilities, [each.mask for each in answers])
    return {score.name: score.value for score in agreement.scores().overall}


def certain(sample: Sample, mask: np.ndarray, sets: Sets) -> Prediction:
    """A mask as an answer that knows no doubt; where it says nothing, the first class."""
    planes = np.maximum(mask, 0) == np.arange(len(sets.classes))[:, None, None]
    return Prediction(sample.name, sample.image, sets.classes, planes.astype(np.float32))


def people(samples: Sequence[Sample], sets: Sets, seed: int) -> dict[str, float]:
    """What draws of the picture's own raters score."""
    generator = np.random.default_rng(seed)

    def several(sample: Sample) -> list[Prediction]:
        chosen = generator.integers(0, len(sample.raters), ANSWERS)
        return [certain(sample, sample.raters[i], sets) for i in chosen]

    def majority(sample: Sample) -> Prediction:
        assert sample.mask is not None
        return certain(sample, sample.mask, sets)

    return measured(samples, sets, majority, several)


def by_pixels(prediction: Prediction, sets: Sets, seed: int) -> list[Prediction]:
    """Answers whose pixels are drawn one by one, by their probabilities."""
    generator = np.random.default_rng(seed)
    upper = prediction.probabilities.cumsum(axis=0)
    draws = generator.random((ANSWERS, *upper.shape[1:]), dtype=np.float32)
    masks = [np.minimum((draw > upper).sum(axis=0), len(upper) - 1) for draw in draws]
    return [certain(Sample(prediction.name, prediction.image), mask, sets) for mask in masks]


def case(name: str, folder: Path, sets: Sets, steps: int, seed: int, out: Path) -> list[dict[str, Any]]:
    """Trains one contestant and measures it; a row for each way to get several answers of it."""
    given = dict(CONTESTANTS[name])
    model = given.pop("model")
    loss = ProbabilisticUNet.recommended["model.loss"]
    run = out / "runs" / f"{folder.name}-{name}-{steps}-seed{seed}"
    data = DataConfig(folder=str(folder), split_seed=SPLIT)
    planned = make_plan(sets, data, steps=steps, model=model, seed=seed, measure=False)
    settings = {**given, "model.loss": loss, "train.precision": "32-true"}
    fitted = fit(folder, run=run, config=planned.config, settings=settings, show=None)
    predictor = load(run, weights="last", temperature=1.0)
    samples = list(sets.validation)

    def answer(sample: Sample) -> Prediction:
        return predictor.predict(sample.image, sample.name)

    ways: dict[str, Several] = {name: lambda sample: [answer(sample)] * ANSWERS}
    if name == "random":
        ways["pixels"] = lambda sample: by_pixels(answer(sample), sets, seed)
    if name == "latent":
        ways[name] = lambda sample: predictor.samples(sample.image, ANSWERS, seed, sample.name)
    return [
        {"set": folder.name, "way": way, "case": name, "steps": steps, "seed": seed, "pictures": len(samples),
         "train_seconds": fitted.seconds, **measured(samples, sets, answer, several)}
        for way, several in ways.items()
    ]  # fmt: skip


def steps_in(minutes: float, sets: Sets, folder: Path, out: Path) -> int:
    """Steps of the U-Net in so many minutes, measured the first time and kept with the results."""
    file = out / f"steps-{folder.name}-{minutes:g}.json"
    if not file.exists():
        planned = make_plan(sets, DataConfig(folder=str(folder)), minutes, model="unet")
        file.write_text(json.dumps(planned.config.train.steps))
    steps: int = json.loads(file.read_text())
    return steps


def table(results: list[dict[str, Any]]) -> None:
    """A row a way: means over seeds, and half of the largest less the smallest where there are several."""
    key = ("set", "steps", "way")
    for (which, steps), part in itertools.groupby(
        sorted(results, key=lambda r: (r["set"], r["steps"], ORDER.index(r["way"]))), lambda r: (r["set"], r["steps"])
    ):
        rows = list(part)
        print(f"\n{which}: {steps} steps, {rows[0]['pictures']} validation pictures, {ANSWERS} answers each\n")
        print(f"| answers | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |")
        print("|---" * (len(COLUMNS) + 1) + "|")
        for values, alike in itertools.groupby(rows, lambda r: tuple(r[k] for k in key)):
            found, cells = list(alike), []
            for column in COLUMNS:
                numbers = [row[column] for row in found]
                spread = f" ± {(max(numbers) - min(numbers)) / 2:.3f}" if len(numbers) > 1 else ""
                cells.append(f"{statistics.mean(numbers):.3f}{spread}")
            print(f"| {values[-1]} ({len(found)} seeds) | {' | '.join(cells)} |")


ORDER = ("majority", "random", "pixels", "latent", "people")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/raters"), help="pictures of several raters")
    parser.add_argument("--sets", nargs="+", choices=("raters", "scenes"), default=["raters", "scenes"])
    parser.add_argument("--models", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--minutes", type=float, default=10.0, help="of the U-Net's training, a case")
    parser.add_argument("--steps", type=int, help="steps of every case, instead of --minutes")
    parser.add_argument("--pictures", type=int, default=200, help="drawn scenes, a fifth of them for validation")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/raters"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "raters.json"
    results: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for which in arguments.sets:
        folder = arguments.data if which == "raters" else arguments.out / f"scenes-{arguments.pictures}"
        if which == "scenes" and not (folder / "classes.toml").is_file():
            write_scenes(folder, arguments.pictures, SCENES)
        sets = open_sets(folder, split_seed=SPLIT)
        if not any(entry.raters for entry in sets.validation.entries):
            parser.error(f"{folder} has no validation pictures with masks of several raters, such as masks/NAME_r0.png")
        steps = arguments.steps or steps_in(arguments.minutes, sets, folder, arguments.out)
        for seed, name in itertools.product(arguments.seeds, ["people", *arguments.models]):
            wanted = {"set": folder.name, "case": name, "steps": steps, "seed": seed}
            if any(all(row[k] == v for k, v in wanted.items()) for row in results):
                continue
            if name == "people":
                samples = list(sets.validation)
                scores = people(samples, sets, seed)
                results.append({**wanted, "way": name, "pictures": len(samples), "train_seconds": 0.0, **scores})
            else:
                results += case(name, folder, sets, steps, seed, arguments.out)
            file.write_text(json.dumps(results, indent=1))
            print(wanted, {k: round(results[-1][k], 3) for k in COLUMNS}, flush=True)
    table(results)


if __name__ == "__main__":
    main()
