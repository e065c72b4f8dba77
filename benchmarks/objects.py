"""How well objects are found, from how many labelled pictures, and how fast: nuclei of the 2018 Data Science Bowl.

    python benchmarks/objects.py ../shared/data/nuclei --type fluorescence --models instance_segnet,watershed \\
        --labelled 10,20,40,all --minutes 5 --out objects

The folder is images/, masks/ (label images) and meta.csv with the columns id and type. A fifth of the pictures is
judged on (`test`), by nothing chosen; a tenth is for choosing weights and thresholds (with N labelled pictures N/2 of
it, 5 at least). The same command again goes on where it stopped. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from pathlib import Path

import intarsia
from intarsia.runs import Run

SCORES = ("AP50", "mean_AP", "panoptic_quality", "aggregated_jaccard", "count_error")


def linked(source: Path, kind: str, target: Path) -> Path:
    """A folder with the pictures of one type (or "all") as links, so that nothing is written beside the data."""
    with (source / "meta.csv").open(encoding="utf-8") as stream:
        names = {row["id"] for row in csv.DictReader(stream) if kind in ("all", row["type"])}
    if not names:
        raise SystemExit(f"{source / 'meta.csv'} has no picture of type {kind}.")
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / part).iterdir()):
            link = target / part / path.name
            if path.stem in names and not link.is_symlink():
                link.symlink_to(path.resolve())
    return target


def one(folder: Path, model: str, labelled: int | None, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Trains and judges one model; what was judged before is read."""
    run = Run(options.out / f"{options.type}-{model}-{labelled or 'all'}-{seed}")
    judged = run.folder / "judged.json"
    if judged.is_file():
        return dict(json.loads(judged.read_text()))
    settings = {
        "data.validation": 0.1, "data.test": 0.2, "data.split_seed": 0, "train.threads": options.threads,
        "train.precision": options.precision, **dict(pair.split("=", 1) for pair in options.set),
    }  # fmt: skip
    if labelled is not None:
        settings["data.validation_pictures"] = max(5, labelled // 2)
    budget = {"steps": options.steps} if options.steps else {"minutes": options.minutes}
    fitted = intarsia.fit(
        folder, run=run.folder, model=model, labelled=labelled, seed=seed, settings=settings, say=print, **budget
    )
    told = intarsia.evaluate(run.folder, split="test").evaluation.to_json()
    scores = {name: told["overall"][name]["value"] for name in SCORES}
    scores |= {"train_minutes": fitted.seconds / 60, "steps": fitted.steps}
    scores["seconds_per_picture"] = told["seconds_per_picture"]["value"]
    judged.write_text(json.dumps(scores))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--type", default="fluorescence", help="a type of meta.csv, or all")
    parser.add_argument("--models", default="instance_segnet,watershed,mask_rcnn")
    parser.add_argument("--labelled", default="10,20,40,all", help="numbers of labelled pictures, or all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training, by the clock")
    parser.add_argument("--steps", type=int, default=None, help="of each training, in place of minutes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", action="append", default=[], help="a setting, such as model.alpha=0.2")
    parser.add_argument("--out", type=Path, default=Path("objects"))
    options = parser.parse_args()
    folder = linked(options.data, options.type, options.out / f"data-{options.type}")

    rows: list[tuple[str, ...]] = []
    for labelled in options.labelled.split(","):
        for model in options.models.split(","):
            for seed in range(options.seeds):
                begin = time.perf_counter()
                scores = one(folder, model, None if labelled == "all" else int(labelled), seed, options)
                print(f"{model}, {labelled} labelled, seed {seed}: {time.perf_counter() - begin:.0f} s", flush=True)
                cells = [f"{scores.get(name) or math.nan:.3f}" for name in SCORES]
                milliseconds = f"{1000 * scores['seconds_per_picture']:.0f}"
                took = f"{scores['train_minutes']:.1f} ({scores['steps']:.0f} steps)"
                rows.append((options.type, labelled, model, str(seed), *cells, milliseconds, took))
    header = ("type", "labelled", "model", "seed", *SCORES, "ms a picture", "training, minutes")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
