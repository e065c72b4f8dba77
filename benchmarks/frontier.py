"""What each segmenter reaches, and how long its answer takes: the frontier of mean IoU against milliseconds.

    python benchmarks/frontier.py CAMVID --classes examples/camvid.classes.toml --steps 600 --out frontier
    python benchmarks/frontier.py CAMVID --runs realtime=runs/realtime medium=runs/camvid --out frontier

Each model is trained for the same number of steps on the same pictures (OUT/NAME; what is there is not done again),
measured on the validation pictures, and exported for OpenVINO in 32 bit and in int8 with its drop in mean IoU. Then all
files answer for one of the pictures in turns, in one process: the whole graph, from bytes to classes, of a picture in
memory. --runs measures finished runs in place of training.

OUT/frontier.json holds all numbers, OUT/frontier.svg draws them. Equal steps are not equal minutes, and short trainings
favour small models: the numbers say which model to begin with, not what each can reach.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path, nargs="?")
parser.add_argument("--classes", type=Path)
parser.add_argument("--runs", nargs="*", default=[], metavar="NAME=RUN")
parser.add_argument("--models", default="", help="names of MODELS below, with ; between; all by default")
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--crop", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--seconds", type=float, default=1.0, help="a file and turn")
parser.add_argument("--out", type=Path, default=Path("frontier"))
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is loaded

import numpy as np  # noqa: E402

import intarsia  # noqa: E402
from intarsia.data.read import read_image  # noqa: E402
from intarsia.files import write_atomically  # noqa: E402
from intarsia.fitting.exporting import export_run  # noqa: E402
from intarsia.inference.engines import load_exported  # noqa: E402
from intarsia.inference.export import Precision  # noqa: E402
from intarsia.inference.exported import as_input  # noqa: E402
from intarsia.runs import Run  # noqa: E402

MODELS: dict[str, dict[str, Any]] = {
    "real-time": {"name": "realtime"},
    "real-time, 1/8": {"name": "realtime", "finest": 8},
    "U-Net, medium": {"name": "unet", "encoder": "medium", "finest": 4, "width": 12},
    "U-Net, small": {"name": "unet", "encoder": "small", "finest": 4, "width": 12},
    "U-Net, plain 16": {"name": "unet", "width": 16},
    "FCN-8s, small": {"name": "fcn", "encoder": "small"},
    "DeepLab v3+, small": {"name": "deeplab", "encoder": "small"},
    "SegNet, 16": {"name": "segnet", "width": 16},
}
SETTINGS: dict[str, Any] = {
    "augment.crop": list(arguments.crop), "augment.scale": [0.7, 1.6], "train.batch": arguments.batch,
    "train.learning_rate": 3e-3, "model.loss.class_weights": "sqrt",
    "model.loss.terms": {"cross_entropy": 1.0, "dice": 1.0},
}  # fmt: skip
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


def trained(name: str, model: dict[str, Any]) -> Path:
    """The run of a model, trained where it is not there yet."""
    run = arguments.out / name.replace(" ", "-").replace(",", "").replace("/", "-")
    settings = {f"model.{key}": value for key, value in model.items() if key != "name"} | SETTINGS
    if arguments.classes:
        settings["data.classes"] = str(arguments.classes)
    intarsia.fit(
        arguments.folder, run=run, settings=settings, steps=arguments.steps, model=model["name"], seed=arguments.seed
    )
    return run


def exported(run: Path) -> dict[str, tuple[Path, float]]:
    """The file of each precision, and the mean IoU it has on the validation pictures (int8: with its drop)."""
    if not (run / "evaluation.json").is_file():
        intarsia.evaluate(run)
    score = float(json.loads((run / "evaluation.json").read_text())["overall"]["mean_iou"]["value"])
    files = {}
    for precision in PRECISIONS:
        path = run / f"frontier_{precision}.xml"
        drop = run / f"frontier_{precision}.json"
        if not (path.is_file() and drop.is_file()):
            made = export_run(run, path, format="openvino", precision=precision, force=True, overwrite=True)
            write_atomically(drop, json.dumps(made.drop.loss if made.drop else 0.0).encode())
        files[precision] = path, score - float(json.loads(drop.read_text()))
    return files


def times(files: dict[str, Path]) -> dict[str, list[float]]:
    """Milliseconds of each file: of each turn the fastest answer, the files in turns."""
    first = next(iter(files.values())).parent
    picture = read_image(sorted((_data(first) / "images").iterdir())[0])
    engines = {name: load_exported(path, "openvino", threads=arguments.threads) for name, path in files.items()}
    inputs = {name: as_input(picture, engine.metadata)[None] for name, engine in engines.items()}
    found: dict[str, list[float]] = {name: [] for name in engines}
    for name, engine in engines.items():
        engine.classes(inputs[name])
    for _ in range(arguments.turns):
        for name, engine in engines.items():
            best, until = float("inf"), time.perf_counter() + arguments.seconds
            while time.perf_counter() < until:
                start = time.perf_counter()
                engine.classes(inputs[name])
                best = min(best, time.perf_counter() - start)
            found[name].append(1000 * best)
    return found


def _data(run: Path) -> Path:
    from intarsia.fitting.wishes import stored_config

    return arguments.folder or Path(stored_config(Run(run)).data.folder)


def svg(rows: list[dict[str, Any]]) -> str:
    """Mean IoU against milliseconds on a logarithmic axis: a line a model, from 32 bit (ring) to int8 (dot)."""
    width, height, left, right, top, bottom = 720, 420, 56, 150, 20, 46
    speeds = [row[f"{each}_ms"] for row in rows for each in PRECISIONS]
    scores = [100 * row[f"{each}_iou"] for row in rows for each in PRECISIONS]
    low, high = np.log(min(speeds) * 0.8), np.log(max(speeds) * 1.25)
    floor, roof = 5 * np.floor(min(scores) / 5), 5 * np.ceil(max(scores) / 5 + 0.01)

    def place(milliseconds: float, score: float) -> tuple[float, float]:
        across = (np.log(milliseconds) - low) / (high - low)
        return left + across * (width - left - right), height - bottom - (score - floor) / (roof - floor) * (
            height - top - bottom
        )

    colours = ["#1f6573", "#c2571f", "#5d7f2a", "#7b4f96", "#a3842a", "#7a746a", "#a8281c", "#3a6ea5"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="#fdfcf9"/>'
    ]
    for score in np.arange(floor, roof + 1, 5):
        y = place(1, float(score))[1]
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd7cb"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6a645b">{score:g}</text>')
    for tick in (5, 10, 20, 33.3, 50, 100, 200, 500, 1000):
        if low <= np.log(tick) <= high:
            x = place(tick, floor)[0]
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}" stroke="#ddd7cb"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{height - bottom + 17}" text-anchor="middle" fill="#6a645b">{tick:g}</text>'
            )
    label = f"ms a picture, {arguments.threads} threads (ring: 32 bit, dot: int8)"
    parts.append(f'<text x="{left}" y="{height - 10}" fill="#1e1c19">{label}</text>')
    parts.append(f'<text x="{left}" y="{top - 6}" fill="#1e1c19">mean IoU, %</text>')
    taken: list[float] = []
    for row, colour in sorted(zip(rows, colours * 3, strict=False), key=lambda each: -each[0]["fp32_iou"]):
        (x1, y1), (x2, y2) = (place(row[f"{each}_ms"], 100 * row[f"{each}_iou"]) for each in PRECISIONS)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="4" fill="#fdfcf9" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x2:.1f}" cy="{y2:.1f}" r="5" fill="{colour}"/>')
        y = max([y1, *(each + 15 for each in taken)])  # names stand one below the other at the right
        taken.append(y)
        parts.append(
            f'<line x1="{x1 + 6:.1f}" y1="{y1:.1f}" x2="{width - right + 6}" y2="{y:.1f}" stroke="{colour}" '
            'stroke-dasharray="1 3"/>'
        )
        parts.append(f'<text x="{width - right + 10}" y="{y + 4:.1f}" fill="{colour}">{row["model"]}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    if arguments.runs:
        runs = {name: Path(run) for name, _, run in (each.partition("=") for each in arguments.runs)}
    else:
        if arguments.folder is None:
            parser.error("give a folder of pictures, or --runs")
        chosen = [each.strip() for each in arguments.models.split(";") if each.strip()] or list(MODELS)
        runs = {name: trained(name, MODELS[name]) for name in chosen}
    made = {name: exported(run) for name, run in runs.items()}
    files = {f"{name}\n{precision}": file for name, each in made.items() for precision, (file, _) in each.items()}
    milliseconds = times(files)
    rows = []
    print(f"{'':24}{'fp32 IoU':>9}{'ms':>8}{'int8 IoU':>10}{'ms':>8}  (least-most)")
    for name, each in made.items():
        row: dict[str, Any] = {"model": name}
        for precision, (_, score) in each.items():
            every = milliseconds[f"{name}\n{precision}"]
            row |= {f"{precision}_iou": score, f"{precision}_ms": statistics.median(every), f"{precision}_all": every}
        rows.append(row)
        print(
            f"{name:24}{100 * row['fp32_iou']:9.1f}{row['fp32_ms']:8.1f}{100 * row['int8_iou']:10.1f}"
            f"{row['int8_ms']:8.1f}  ({min(row['int8_all']):.1f}-{max(row['int8_all']):.1f})"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = {key: str(value) for key, value in vars(arguments).items()}
    write_atomically(arguments.out / "frontier.json", json.dumps({"arguments": told, "rows": rows}, indent=1).encode())
    write_atomically(arguments.out / "frontier.svg", svg(rows).encode())


if __name__ == "__main__":
    main()
