"""What helps rare classes: nothing, class weights, rare crops, focal, Dice and Tversky loss, copy-paste, and all of it.

    python benchmarks/imbalance.py --data ../shared/data --steps 600 --seeds 0 1 2
    python benchmarks/imbalance.py --sets scenes --settings none dice copy_paste --steps 10 --seeds 0
    python benchmarks/imbalance.py --table                          prints what is there and trains nothing

cracks   480x320 pictures of roads, 1.6 % of the pixels are cracks
camvid   road scenes; pole, sign, fence, pedestrian and bicyclist are each about 1 % of the pixels
scenes   drawn pictures of 96x128 with at most two pieces, of which rings are the rarest: nothing is downloaded

The ways are those of `intarsia.plan.imbalance.IMBALANCE`, each laid over what `plan` makes for the pictures: the same
network, crops, batches, steps and moving average for all, and for one seed the same split, weights at the start and
order of pictures. So differences are taken seed by seed; printed is their mean with the half-width of its 95 % interval
by Student's t. Scores are those of the last weights on the validation pictures, IoU pooled over pictures.

Each run's row is appended to RUNS/rows.jsonl when it is done, and what is there is left out: the same command again
goes on, also within a run.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from scipy.stats import t as student

import intarsia
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.plan.imbalance import IMBALANCE

EXAMPLES = Path(__file__).parents[1] / "examples"
#: the classes whose IoU is looked at; none named: all but the first
RARE: dict[str, tuple[str, ...]] = {
    "cracks": (),
    "camvid": ("Pole", "SignSymbol", "Fence", "Pedestrian", "Bicyclist"),
    "scenes": (),
}
SCENES, RARELY = 80, SceneConfig(height=96, width=128, objects=(0, 2), seed=7)


def folder_of(name: str, options: argparse.Namespace) -> Path:
    """The pictures of a set; drawn ones are drawn first."""
    if name != "scenes":
        return Path(options.data) / name
    folder = Path(options.runs) / "pictures" / "scenes"
    if not (folder / "classes.toml").is_file():  # written last
        shutil.rmtree(folder, ignore_errors=True)
        write_scenes(folder, SCENES, RARELY)
    return folder


def measured(name: str, way: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training and its scores."""
    run = Path(options.runs) / f"{name}-{way}-{options.steps}-seed{seed}"
    settings = {
        "train.precision": options.precision, "train.threads": options.threads, "train.validate_every": options.steps,
        **IMBALANCE[way],
    }  # fmt: skip
    if name == "camvid":
        settings["data.classes"] = str(EXAMPLES / "camvid.classes.toml")
    if options.batch:
        settings["train.batch"] = options.batch
    if options.crop:
        settings["augment.crop"] = options.crop
    fitted = intarsia.fit(
        folder_of(name, options), run=run, settings=settings, steps=options.steps, seed=seed, labelled=options.labelled
    )
    begin = time.perf_counter()
    evaluation = intarsia.evaluate(run, split="validation", weights="last").evaluation
    ious = dict(zip(evaluation.scores.classes, evaluation.scores.per_class["iou"], strict=True))
    known = {each: None if math.isnan(iou) else round(100 * iou, 3) for each, iou in ious.items()}
    rare = [known[each] for each in RARE[name] or tuple(known)[1:] if known[each] is not None]
    row = {
        "set": name, "way": way, "seed": seed, "steps": options.steps, "labelled": options.labelled,
        "mean_iou": round(100 * evaluation["mean_iou"], 3), "rare_iou": round(statistics.mean(rare), 3), "iou": known,
        "train_seconds": round(fitted.seconds, 1), "score_seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip
    if not options.keep:
        shutil.rmtree(run)
    return row


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[part] for part in ("set", "way", "seed", "steps", "labelled"))


def interval(values: list[float]) -> str:
    """Mean and half-width of the 95 % interval of the mean; without one where there is a single value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.1f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.1f} ± {half:.1f}"


def table(rows: list[dict[str, Any]], name: str) -> None:
    """The rows of one set: scores, and what differs from "none" by the seeds that both have."""
    base = {row["seed"]: row for row in rows if row["way"] == "none"}
    rare = RARE[name] or tuple(rows[0]["iou"])[1:]
    print(f"\n{name}: IoU in %, last weights, validation pictures; difference to none over seeds, 95 % interval\n")
    print(f"| way | seeds | rare classes | difference | mean IoU | difference | {' | '.join(rare)} |")
    print("|---" * (6 + len(rare)) + "|")
    for way in IMBALANCE:
        own = [row for row in rows if row["way"] == way]
        if not own:
            continue
        cells = [way, str(len(own))]
        for score in ("rare_iou", "mean_iou"):
            cells.append(f"{statistics.mean(row[score] for row in own):.1f}")
            pairs = [row[score] - base[row["seed"]][score] for row in own if row["seed"] in base]
            cells.append("" if way == "none" or not pairs else interval(pairs))
        for each in rare:
            values = [row["iou"][each] for row in own if row["iou"][each] is not None]
            cells.append(f"{statistics.mean(values):.1f}" if values else "")
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where cracks and camvid are")
    parser.add_argument("--runs", type=Path, default=Path("runs/imbalance"))
    parser.add_argument("--sets", nargs="+", choices=RARE, default=list(RARE))
    parser.add_argument("--settings", nargs="+", choices=IMBALANCE, default=list(IMBALANCE), help="ways to compare")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labelled", type=int, help="labelled training pictures; otherwise all")
    parser.add_argument("--batch", type=int, help="otherwise the plan's")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="otherwise the plan's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true", help="fixed, so that all runs have the same")
    parser.add_argument("--keep", action="store_true", help="the runs' folders, which are otherwise removed")
    parser.add_argument("--table", action="store_true", help="print the rows that are there, and no more")
    options = parser.parse_args()

    options.runs.mkdir(parents=True, exist_ok=True)
    path = options.runs / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {key(row) for row in rows}
    for seed in [] if options.table else options.seeds:  # seed by seed: a table of whole pairs as early as can be
        for name in options.sets:
            for way in options.settings:
                if (name, way, seed, options.steps, options.labelled) in done:
                    continue
                rows.append(measured(name, way, seed, options))
                with path.open("a") as lines:
                    lines.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    for name in options.sets:
        same = [
            row
            for row in rows
            if (row["set"], row["steps"], row["labelled"]) == (name, options.steps, options.labelled)
        ]
        if same:
            table(same, name)


if __name__ == "__main__":
    main()
