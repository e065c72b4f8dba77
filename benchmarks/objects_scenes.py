"""Objects that touch and overlap, of several classes and sizes: watershed, Instance SegNet, Mask R-CNN side by side.

    python benchmarks/objects_scenes.py --minutes 15 --seeds 0 1 2 --out results/objects_scenes
    python benchmarks/objects_scenes.py --labelled 8 --models watershed instance_segnet unlabelled --out results/few

The pictures are drawn (`intarsia.data.scenes.CROWD`): 25 to 55 pieces of wood of four classes on 192 x 256 pixels, nine
of ten touching another, areas from about 30 to 1800 pixels. --pictures of them are learnt from, the last fifth of these
being for validation; --test others, of another seed, are only measured on.

watershed          a segmenter of insides and borders, then a watershed: the floor
instance_segnet    class, depth, border and the way to the centre of each pixel
unlabelled         the same, which with alpha = 0.3 also puts together damaged pictures, labelled or not
mask_rcnn          a box for each object, and its mask inside the box

Each is trained as `intarsia plan --model` recommends for these pictures, for the steps that take it --minutes by a
measured step; so all take equally long, and their steps are told. The best weights and the thresholds that objects are
made by are chosen on the validation pictures (`fit` does so), and nothing is chosen on the test pictures.

AP50 is TP / (TP + FP + FN) of objects at IoU >= 0.5, within their class and pooled over pictures; mean AP the same over
0.50:0.95; PQ the panoptic quality; the count error by how many the number of a picture's objects is wrong. Time is that
of the median picture from pixels to objects on the device that was trained on. After the sign ±: half of the distance
from the lowest to the highest seed. Each finished case is kept in OUT/objects_scenes.json and skipped the next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from intarsia.config import Config, read_config
from intarsia.data.folder import open_folder
from intarsia.data.scenes import CROWD, write_scenes
from intarsia.data.sets import Sets
from intarsia.files import write_atomically
from intarsia.fitting import fit, open_for
from intarsia.inference.objects import ObjectPredictor
from intarsia.models.contract import InstanceModel
from intarsia.plan import make_plan
from intarsia.records import ObjectPrediction, Sample
from intarsia.runs import Run
from intarsia.training.machine import choose_device, describe, tune_allocator
from intarsia.training.object_evaluation import evaluate_objects

CONTESTANTS: dict[str, dict[str, Any]] = {
    "watershed": {"model.name": "watershed"},
    "instance_segnet": {"model.name": "instance_segnet"},
    "unlabelled": {"model.name": "instance_segnet", "model.alpha": 0.3},
    "mask_rcnn": {"model.name": "mask_rcnn"},
}
SCORES = ("AP50", "mean_AP", "panoptic_quality", "count_error", "AP50_any_class")
COLUMNS = {  # of the table: heading, digits
    "AP50": ("AP50", 3), "mean_AP": ("mean AP .50:.95", 3), "panoptic_quality": ("PQ", 3),
    "count_error": ("count error", 1), "AP50_any_class": ("AP50, class aside", 3),
    "seconds_per_picture": ("s a picture", 3), "train_minutes": ("training, min", 1), "steps": ("steps", 0),
    "parameters": ("parameters, M", 2),
}  # fmt: skip
TEST_SEED = 1000  # of the pictures that are only measured on


def planned(name: str, folder: Path, seed: int, options: argparse.Namespace) -> Config:
    """What is recommended for the contestant, for the time that there is."""
    settings = CONTESTANTS[name]
    early = {"model.name": settings["model.name"], "data.folder": str(folder), "data.labelled": options.labelled}
    early |= {"seed": seed, "train.device": options.device}
    wished = read_config(None, {key: value for key, value in early.items() if value is not None}, Config())
    sets = open_for(wished)
    assert isinstance(sets, Sets)
    minutes = None if options.steps else options.minutes
    plan = make_plan(
        sets, wished.data, minutes, options.steps, device=options.device, model=settings["model.name"], seed=seed
    )
    return read_config(None, {**settings, "train.device": options.device}, plan.config)


def budget(options: argparse.Namespace) -> str:
    return f"{options.steps} steps" if options.steps else f"{options.minutes:g} min"


def case(name: str, folder: Path, test: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one contestant, or goes on with it, and measures it on the test pictures."""
    told = f"{name}-{options.labelled or 'all'}-{budget(options).replace(' ', '')}-s{seed}"
    run = Run(options.out / "runs" / folder.name / told)
    config = None if run.exists() else planned(name, folder, seed, options)  # a run goes on with its own
    fitted = fit(run=run.folder, config=config, say=lambda line: print(f"  {line}", flush=True))
    model = run.load_model("best")
    assert isinstance(model, InstanceModel)
    tune_allocator()
    predictor = ObjectPredictor(model, run.classes(), device=options.device)
    pictures = open_folder(test, objects=True, write_classes=False)

    def answer(sample: Sample) -> ObjectPrediction:
        return predictor.predict(sample.image, sample.name)

    found = evaluate_objects(answer, (pictures.read(entry) for entry in pictures.entries), run.classes(), keep=0)
    return {
        "steps": fitted.steps,
        "train_minutes": fitted.seconds / 60,
        "seconds_per_picture": found.seconds_per_picture,
        "parameters": sum(each.numel() for each in model.parameters()) / 1e6,
        "thresholds": run.thresholds(),
        "test_pictures": found.pictures,
        "objects": found.objects,
        "errors": found.errors,
        **{score: found[score] for score in SCORES},
    }


def table(rows: Sequence[dict[str, Any]]) -> None:
    """The mean over seeds, as Markdown."""
    heads = [heading for heading, _ in COLUMNS.values()]
    print(f"\n| model | labels | budget | seeds | {' | '.join(heads)} |\n|{'---|' * (4 + len(heads))}")

    def told(row: dict[str, Any]) -> tuple[str, str, str, int]:
        return row["pictures"], str(row["labels"]), row["budget"], list(CONTESTANTS).index(row["model"])

    for (_, labels, budget, number), group in itertools.groupby(sorted(rows, key=told), told):
        found, cells = list(group), []
        for column, (_, digits) in COLUMNS.items():
            numbers = [row[column] for row in found]
            spread = f" ± {(max(numbers) - min(numbers)) / 2:.{digits}f}" if len(set(numbers)) > 1 else ""
            cells.append(f"{statistics.mean(numbers):.{digits}f}{spread}")
        print(f"| {list(CONTESTANTS)[number]} | {labels} | {budget} | {len(found)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", choices=CONTESTANTS, default=["watershed", "instance_segnet", "mask_rcnn"]
    )
    parser.add_argument("--pictures", type=int, default=150, help="to learn from, a fifth of them for validation")
    parser.add_argument("--test", type=int, default=50, help="pictures to measure on")
    parser.add_argument("--labelled", type=int, help="pictures whose objects are known; all by default")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, instead of --minutes")
    parser.add_argument("--size", type=int, nargs=2, default=(CROWD.height, CROWD.width), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/objects_scenes"))
    options = parser.parse_args()
    options.device = choose_device(options.device)
    scenes = replace(CROWD, height=options.size[0], width=options.size[1])
    size = f"{scenes.height}x{scenes.width}"
    folder, test = options.out / f"scenes-{size}-{options.pictures}", options.out / f"test-{size}-{options.test}"
    for place, count, seed in ((folder, options.pictures, 0), (test, options.test, TEST_SEED)):
        if not (place / "classes.toml").is_file():
            write_scenes(place, count, replace(scenes, seed=seed), objects=True)
    file = options.out / "objects_scenes.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for seed, name in itertools.product(options.seeds, options.models):
        wanted = {"model": name, "labels": options.labelled or "all", "budget": budget(options), "seed": seed}
        wanted["pictures"] = folder.name
        if any(all(row[key] == value for key, value in wanted.items()) for row in rows):
            continue
        print(wanted, flush=True)
        rows.append({**wanted, "device": describe(options.device), **case(name, folder, test, seed, options)})
        write_atomically(file, json.dumps(rows, indent=1).encode())
        print("  ", {column: round(rows[-1][column], 3) for column in COLUMNS}, flush=True)
    table(rows)


if __name__ == "__main__":
    main()
