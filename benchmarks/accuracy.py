"""Trains a recipe on a folder with the project's own commands, measures it, and prints the rows of `docs/results.md`.

    python benchmarks/accuracy.py ../shared/data/camvid --config examples/camvid-cpu.toml \\
        --classes examples/camvid.classes.toml --seeds 0 1
    … --leave-out 0006R0         trains without a drive and measures on it
    … --list test.txt --data X   measures on the listed pictures of another labelled folder as well
    … --minutes 5                without --config: what `intarsia plan` recommends

Scores are those of the weights that did best on the validation pictures during training; the spread is over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def command(*words: object) -> None:
    line = [sys.executable, "-m", "intarsia", *map(str, words)]
    print("$ intarsia", *line[3:], flush=True)
    subprocess.run(line, check=True, env={**os.environ, "GOMP_SPINCOUNT": "1000"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where the runs are kept")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--leave-out", nargs="*", default=[])
    parser.add_argument("--set", nargs="*", default=[], help="settings, as in `intarsia fit --set`")
    parser.add_argument("--data", type=Path, help="another labelled folder to measure on")
    parser.add_argument("--list", type=Path, help="only these pictures of it")
    options = parser.parse_args()

    rows = []
    for seed in options.seeds:
        name = "-".join([options.folder.name, *options.leave_out, f"seed{seed}"])
        run = options.runs / name
        words: list[object] = ["fit", options.folder, "--run", run, "--seed", seed, "--no-report"]
        words += ["--config", options.config] if options.config else []
        words += ["--classes", options.classes] if options.classes else []
        words += ["--minutes", options.minutes] if options.minutes else []
        for setting in options.set:
            words += ["--set", setting]
        if options.leave_out:
            words += ["--set", f"data.leave_out={json.dumps(options.leave_out)}"]
        command(*words)
        command("evaluate", run)
        result = json.loads((run / "evaluation.json").read_text())
        seconds = max(json.loads(line)["time"] for line in (run / "metrics.jsonl").read_text().splitlines())
        rows.append((seed, result, seconds))
        if options.data or options.list:
            measured = ["evaluate", run, *(["--data", options.data] if options.data else [])]
            command(*measured, *(["--list", options.list] if options.list else []))

    print("\n| seed | mean IoU | accuracy | minutes | IoU of each class |\n|---|---|---|---|---|")
    for seed, result, seconds in rows:
        overall, classes = scores(result)
        each = ", ".join(f"{name} {value:.1f}" for name, value in classes.items())
        print(f"| {seed} | {overall['mean_iou']:.1f} | {overall['accuracy']:.1f} | {seconds / 60:.1f} | {each} |")
    values = [scores(result)[0]["mean_iou"] for _, result, _ in rows]
    print(f"mean of {len(values)} seeds: {statistics.mean(values):.1f}, from {min(values):.1f} to {max(values):.1f}")


def scores(result: dict[str, object]) -> tuple[dict[str, float], dict[str, float]]:
    """The overall scores and each class's IoU, in percent, from an evaluation.json."""
    overall = {name: 100 * (each["value"] or 0) for name, each in result["overall"].items()}  # type: ignore[attr-defined]
    ious = result["per_class"]["iou"]["values"]  # type: ignore[index]
    classes = {name: 100 * (iou or 0) for name, iou in zip(result["classes"], ious, strict=True)}
    return overall, classes


if __name__ == "__main__":
    main()
