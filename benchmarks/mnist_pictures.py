"""Digits drawn by a GAN, a VAE and a diffusion model, each trained for the same time: how many can be read, and which.

    python benchmarks/mnist_pictures.py ../shared/data/mnist --minutes 10 --out results/mnist_pictures

The models learn from the first 50,000 digits of the training file through `fit`, with what `intarsia plan` recommends;
a fortieth of them is held back for its validations, and the best weights there are measured. None is told a class.
The judge is a small classifier that learns from the other 10,000 digits, which no generator sees; its own accuracy on
the 10,000 digits of the test file is printed. Scores are of --count drawn pictures against as many of the test file:

read        share of drawn pictures that the judge is more than 90 % sure of; of the real test digits beside it
entropy     of the classes that it reads, in bits; log2(10) = 3.32 where all ten are drawn alike. TV: total variation
            between their shares and a tenth each
Fréchet, kernel distance, precision, recall (k = 3), density, coverage (k = 5): in the judge's features. "train" is the
            row of real digits that the generators learnt from, drawn at random: what can be reached
copies      share of the drawn that are nearer to one of 20,000 training digits than 99 % of the test digits are
sharpness   energy of the finest detail, over that of test digits

--steps instead of --minutes trains each for so many steps. A finished run is not trained again. OUT/*.png shows the
first 100 pictures of seed 0, not chosen; OUT/mnist_pictures.json holds all numbers with their definitions.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intarsia.data.stack import Stack, read_stack
from intarsia.drawing import encode_png, grid
from intarsia.files import write_atomically
from intarsia.fitting import fit
from intarsia.metrics.feature_distance import feature_scores
from intarsia.models.contract import Draws, GenerativeModel
from intarsia.runs import Run
from intarsia.training.features import LearntFeatures, learn
from intarsia.training.generation import GenerativeEvaluation, examine
from intarsia.training.machine import choose_device, describe, tune_allocator
from intarsia.training.measuring import drawn_pictures, eight_bits, histogram

SPLIT = 50_000  # digits for the generators; the rest of the training file is the judge's
JUDGE_STEPS = 1500
COLUMNS = (
    "read",
    "entropy",
    "TV",
    "Fréchet",
    "kernel",
    "precision",
    "recall",
    "density",
    "coverage",
    "copies",
    "sharpness",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of MNIST's four files")
    parser.add_argument("--models", nargs="+", default=["gan", "vae", "diffusion"])
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each model")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--count", type=int, default=10_000, help="pictures drawn of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="settings for all, as in `intarsia fit --set`")
    parser.add_argument("--judge-steps", type=int, default=JUDGE_STEPS)
    parser.add_argument("--out", type=Path, default=Path("results/mnist_pictures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tune_allocator()
    device = choose_device("auto")

    images, categories = read_stack(options.data / "train-images-idx3-ubyte.gz")
    test_images, test_categories = read_stack(options.data / "t10k-images-idx3-ubyte.gz")
    assert categories is not None and test_categories is not None
    train = Stack(images[:SPLIT], categories[:SPLIT])
    test = Stack(test_images, test_categories)
    judge = judge_of(Stack(images[SPLIT:], categories[SPLIT:]), options, device)
    count = min(options.count, len(test))
    shown = tensor(test_images)
    features, probabilities = judge.of(shown.to(device))
    assert probabilities is not None
    accuracy = float((probabilities.argmax(axis=1) == test_categories).mean())
    print(f"the judge reads {accuracy:.2%} of the {len(test):,} test digits right", flush=True)

    chosen = np.random.default_rng(options.seed).permutation(SPLIT)[:count]
    rows = {"test": read(probabilities), "train": reference(judge, tensor(images[chosen]).to(device), features)}
    results: dict[str, Any] = {
        "judge": {"name": judge.name, "test_accuracy": accuracy, "learnt_from": len(images) - SPLIT},
        "device": describe(device), "python": platform.python_version(), "torch": torch.__version__,
        "minutes": None if options.steps else options.minutes, "steps": options.steps, "count": count,
        "seed": options.seed, "settings": options.set, "models": {},
    }  # fmt: skip
    for name in options.models:
        run = Run(options.out / f"{name}-seed{options.seed}")
        budget = {"steps": options.steps} if options.steps else {"minutes": options.minutes}
        settings = {"data.validation": 0.025} | dict(setting(each) for each in options.set)
        print(f"\n{name}: training", flush=True)
        done = fit(
            train.images, categories=train.categories, run=run.folder, model=name, seed=options.seed,
            settings=settings, say=lambda line: print(f"  {line}", flush=True), **budget,
        )  # fmt: skip
        model = run.load_model("best")
        assert isinstance(model, GenerativeModel) and isinstance(model, Draws)
        model.to(device)
        begin = time.perf_counter()
        hundred = drawn_pictures(model.eval(), 100, options.seed, None, lambda: False, lambda: None)
        each = (time.perf_counter() - begin) / 100
        write_atomically(options.out / f"{name}.png", encode_png(grid(list(eight_bits(hundred)), columns=10, gap=2)))
        found = examine(model, train, test, extractor=judge, seed=options.seed, count=count)
        rows[name] = row(found)
        results["models"][name] = {
            "steps": done.steps, "training_seconds": done.seconds, "milliseconds_a_picture": 1000 * each,
            "row": rows[name], **found.to_json(),
        }  # fmt: skip
        for verdict in found.verdicts:
            print(f"  {verdict.level}: {verdict.topic}: {verdict.sentence}", flush=True)
        write_atomically(options.out / "mnist_pictures.json", json.dumps(results, indent=1).encode())

    print(f"\n{count:,} pictures each; judge: {accuracy:.2%} of the test digits; {results['device']}")
    print("\n| | " + " | ".join(COLUMNS) + " | steps | training |\n|---|" + "---|" * (len(COLUMNS) + 2))
    for name, numbers in rows.items():
        told = results["models"].get(name)
        ends = f"{told['steps']:,} | {told['training_seconds'] / 60:.1f} min" if told else " | "
        cells = [cell(column, numbers.get(column, math.nan)) for column in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} | {ends} |")


def judge_of(samples: Stack, options: argparse.Namespace, device: str) -> LearntFeatures:
    """The classifier, kept in OUT/judge.safetensors."""
    path = options.out / "judge.safetensors"
    if path.is_file():
        return LearntFeatures.load(path, device)
    print(f"the judge learns from {len(samples):,} digits", flush=True)
    names = tuple("0123456789")
    judge = learn(
        samples, channels=1, size=(28, 28), classes=names, seed=options.seed, steps=options.judge_steps,
        most=len(samples), kind="classifier", device=device,
    )  # fmt: skip
    assert judge is not None
    judge.save(path)
    return judge


def tensor(images: np.ndarray) -> torch.Tensor:
    """(N, 1, 28, 28) float32 in [0, 1] of (N, 28, 28, 1) uint8."""
    return torch.from_numpy(images.astype(np.float32) / 255).movedim(-1, 1)


def read(probabilities: np.ndarray) -> dict[str, float]:
    return {"read": float((probabilities.max(axis=1) > 0.9).mean()), **spread(histogram(probabilities))}


def spread(shares: np.ndarray) -> dict[str, float]:
    some = shares[shares > 0]
    return {"entropy": float(-(some * np.log2(some)).sum()), "TV": float(np.abs(shares - 1 / len(shares)).sum() / 2)}


def reference(judge: LearntFeatures, pictures: torch.Tensor, real: np.ndarray) -> dict[str, float]:
    """The row of real pictures instead of drawn ones."""
    features, probabilities = judge.of(pictures)
    assert probabilities is not None
    scores = feature_scores(real[: len(features)], features, features=judge.name)
    return read(probabilities) | named({score.name: score.value for score in scores.overall})


def row(found: GenerativeEvaluation) -> dict[str, float]:
    numbers = {score.name: score.value for score in found.scores.overall}
    assert found.class_histogram is not None
    return {"read": numbers["confident"], **spread(found.class_histogram), **named(numbers)}


def named(numbers: dict[str, float]) -> dict[str, float]:
    names = {"Fréchet": "frechet_distance", "kernel": "kernel_distance"}
    return {c: numbers[names.get(c, c)] for c in COLUMNS[3:] if names.get(c, c) in numbers}


def cell(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if column in ("read", "TV", "precision", "recall", "coverage", "copies", "sharpness"):
        return f"{value:.1%}"
    return f"{value:.3g}" if column in ("Fréchet", "kernel") else f"{value:.2f}"


def setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


if __name__ == "__main__":
    main()
