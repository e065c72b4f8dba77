"""DenoiSeg's question on the nuclei: does learning to remove noise help where few patches are labelled?

    python benchmarks/denoiseg.py --n 10 38 --noise 0 20 --steps 600 --seeds 0 1 --out denoiseg.jsonl

Buchholz et al.: DenoiSeg: Joint Denoising and Segmentation, 2020, https://arxiv.org/abs/2005.02987. Fluorescence
pictures of the 2018 Data Science Bowl (CC0) are cut into patches of 128 pixels; a fifth of the pictures is held out.
Gaussian noise (its deviation in levels of 8 bits) is added once, to the files. n patches are labelled, the validation
ones among them; the other training patches have no masks. Three classes: background, inside, border.

Arms, of one and the same U-Net, with equal steps, labelled pictures a step, learning rate and augmentation:
    masks      alpha = 0: the labelled patches alone
    denoiseg   alpha = 0.5, blind spots, all but the last layer shared: the paper's
    encoder    the same with a picture decoder of its own: the encoder alone is shared

Scores: AP50 = TP / (TP + FP + FN) of objects at IoU >= 0.5 on held-out patches, the mean over patches that show an
object or are said to (the paper's), and pooled over all objects. The threshold of "inside" is chosen on the validation
patches. Where we differ from the paper: validation patches are part of the n, the border lies inside objects and they
are grown back, the test is on patches, the network is smaller and trained shortly, light is not augmented.

Each result is a line of --out; what is there already is not done again. The same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import intarsia
from intarsia.data.classes import ClassTable, write_class_table
from intarsia.data.folder import CLASSES_FILE
from intarsia.data.objects import THREE_CLASSES, objects_of, three_classes
from intarsia.data.read import read_image
from intarsia.drawing import encode_png, write_mask
from intarsia.files import write_atomically
from intarsia.metrics.matching import MatchingScore

Patch = tuple[str, np.ndarray, np.ndarray]  # name, picture (128, 128) uint8, label image (128, 128) int32

SIDE = 128
A_PICTURE = 8  # patches at most, so that the largest pictures are not most of the data
HELD_OUT = 0.2  # of the pictures
ROOM = 64  # levels below black and above white in the files, so that noise is not cut off
THRESHOLDS = np.arange(0.05, 1, 0.05)

NET = {"name": "unet", "encoder": "plain", "width": 16, "depth": 3, "finest": 1}
ARMS: dict[str, dict[str, Any]] = {
    "masks": {"model.alpha": 0.0, "model.share": "decoder", "train.unlabelled": 0},
    "denoiseg": {"model.alpha": 0.5, "model.share": "decoder"},
    "encoder": {"model.alpha": 0.5, "model.share": "encoder", "model.finest_skip": 1},
}
SETTINGS: dict[str, Any] = {
    **{f"model.segmenter.{name}": value for name, value in NET.items()},
    "model.blind_spot": True,
    "model.segment": "damaged",
    "model.loss.terms": {"cross_entropy": 1.0},
    "model.loss.class_weights": "none",
    "model.loss.weights": [1.0, 1.0, 5.0],  # the paper's, so that borders count
    "augment.crop": [SIDE, SIDE],
    "augment.scale": [1.0, 1.0],  # whatever interpolates makes neighbours share their noise
    "augment.flip_horizontal": 0.5,
    "augment.flip_vertical": 0.5,
    "augment.transpose": 0.5,
    **{f"augment.{name}": 0.0 for name in ("stretch", "rotate", "brightness", "contrast", "gamma", "blur", "noise",
                                           "tint", "shadow", "rare_crops")},
    "train.batch": 8,
    "train.learning_rate": 1e-3,
    "train.average": 0.99,
    "data.validation_pictures": 100,
}  # fmt: skip


def patches_of(folder: Path) -> tuple[list[Patch], list[Patch]]:
    """Patches to train on and held-out ones, of different pictures, both in an order drawn once."""
    with (folder / "meta.csv").open(newline="") as file:
        names = sorted(row["id"] for row in csv.DictReader(file) if row["type"] == "fluorescence")
    rng = np.random.default_rng(0)
    order = [names[i] for i in rng.permutation(len(names))]
    held_out = round(HELD_OUT * len(order))
    parts = [_cut(folder, part, rng) for part in (order[held_out:], order[:held_out])]
    return parts[0], parts[1]


def _cut(folder: Path, names: Sequence[str], rng: np.random.Generator) -> list[Patch]:
    patches = []
    for name in names:
        image = read_image(folder / "images" / f"{name}.png")
        grey = image[..., :3].mean(axis=2).round().astype(np.uint8)
        objects = read_image(folder / "masks" / f"{name}.png")[..., 0].astype(np.int32)
        height, width = grey.shape
        corners = [(y, x) for y in range(0, height - SIDE + 1, SIDE) for x in range(0, width - SIDE + 1, SIDE)]
        for place in rng.permutation(len(corners))[:A_PICTURE]:
            y, x = corners[place]
            here = (slice(y, y + SIDE), slice(x, x + SIDE))
            patches.append((f"{name[:12]}-{y}-{x}", grey[here], objects[here]))
    return [patches[i] for i in rng.permutation(len(patches))]


def noisy(patch: Patch, noise: float) -> np.ndarray:
    """(128, 128) uint16: the picture with noise of its own, which is the same each time; ROOM on both sides."""
    seed = [ord(letter) for letter in patch[0]]
    added = noise * np.random.default_rng(seed).standard_normal(patch[1].shape)
    levels = np.clip(patch[1] + added + ROOM, 0, 255 + 2 * ROOM)
    return np.round(levels / (255 + 2 * ROOM) * 65535).astype(np.uint16)


def write_folder(root: Path, patches: Sequence[Patch], n: int, noise: float, seed: int) -> list[Patch]:
    """A folder for `fit` with n masks, the validation patches among them. Gives the validation patches."""
    known = [i for i, patch in enumerate(patches) if patch[2].any()]
    chosen = [patches[i] for i in np.random.default_rng(seed).permutation(known)[:n]]
    validation = chosen[: max(2, round(n / 5))]
    labelled, held_back = {patch[0] for patch in chosen}, {patch[0] for patch in validation}
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for patch in patches:
        path = root / "images" / f"{patch[0]}.png"
        if not path.is_file():
            write_atomically(path, encode_png(noisy(patch, noise)))
        if patch[0] in labelled:
            write_mask(root / "masks" / f"{patch[0]}.png", three_classes(patch[2]), THREE_CLASSES)
    train = [patch[0] for patch in patches if patch[0] not in held_back]
    write_atomically(root / "train.txt", "\n".join(train).encode())
    write_atomically(root / "val.txt", "\n".join(sorted(held_back)).encode())
    write_class_table(root / CLASSES_FILE, ClassTable(THREE_CLASSES))
    return validation


def answers(predictor: intarsia.Predictor, patches: Sequence[Patch], noise: float) -> list[np.ndarray]:
    return [predictor.predict(noisy(patch, noise), patch[0]).probabilities for patch in patches]


def measured(probabilities: Sequence[np.ndarray], patches: Sequence[Patch], threshold: float) -> tuple[float, float]:
    """AP50, the mean over patches, and pooled."""
    each = [
        MatchingScore.of(patch[2], objects_of(answer, threshold), (0.5,))
        for answer, patch in zip(probabilities, patches, strict=True)
    ]
    pooled = MatchingScore(np.sum([score.counts for score in each], axis=0), (0.5,))
    values = [value for score in each if not np.isnan(value := score.at("average_precision"))]
    return statistics.fmean(values), pooled.at("average_precision")


def one(
    work: Path, train: Sequence[Patch], test: Sequence[Patch], n: int, noise: float, seed: int, arm: str, steps: int
) -> dict[str, Any]:
    """Trains an arm and measures it."""
    begin = time.perf_counter()
    folder = work / f"n{n}-noise{noise:g}-seed{seed}"
    validation = write_folder(folder, train, n, noise, seed)
    fitted = intarsia.fit(
        folder,
        run=work / "runs" / f"{folder.name}-{arm}-{steps}",
        model="segmentation_autoencoder",
        steps=steps,
        seed=seed,
        settings={**SETTINGS, "train.validate_every": max(steps // 6, 1), **ARMS[arm]},
    )
    trained = time.perf_counter() - begin
    predictor = intarsia.load(fitted.run.folder, temperature=1.0)
    known = answers(predictor, validation, noise)
    scores = [measured(known, validation, threshold)[0] for threshold in THRESHOLDS]
    best = np.flatnonzero(np.isclose(scores, max(scores)))
    threshold = float(THRESHOLDS[best[len(best) // 2]])  # the middle of those that do equally well
    mean, pooled = measured(answers(predictor, test, noise), test, threshold)
    return {
        "n": n, "noise": noise, "seed": seed, "arm": arm, "steps": steps, "ap50": mean, "ap50_pooled": pooled,
        "validation_ap50": max(scores), "threshold": threshold, "validation_patches": len(validation),
        "unlabelled_patches": len(train) - n, "test_patches": len(test), "seconds": trained,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nuclei"))
    parser.add_argument("--work", type=Path, default=Path("runs/denoiseg"), help="where patches and runs are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/denoiseg/results.jsonl"))
    parser.add_argument("--n", type=int, nargs="+", default=[10, 38])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 20.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["masks", "denoiseg"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--patches", type=int, default=1000, help="to train on, the labelled ones among them")
    parser.add_argument("--test", type=int, default=200, help="held-out patches that are measured on")
    options = parser.parse_args()

    train, test = patches_of(options.data)
    train, test = train[: options.patches], test[: options.test]
    print(f"{len(train)} patches to train on, {len(test)} held out, of different pictures", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    keys = ("n", "noise", "seed", "arm", "steps")
    done = {tuple(row[key] for key in keys) for row in rows}
    for seed in options.seeds:
        for noise in options.noise:
            for n in options.n:
                for arm in options.arms:
                    if (n, noise, seed, arm, options.steps) in done:
                        continue
                    row = one(options.work, train, test, n, noise, seed, arm, options.steps)
                    rows.append(row)
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)

    heading = ("n", "noise", "arm", "steps", "seeds", "AP50, mean over patches", "pooled", "minutes")
    print(f"\n| {' | '.join(heading)} |\n{'|---' * len(heading)}|")
    for key in sorted({(row["n"], row["noise"], row["arm"], row["steps"]) for row in rows}):
        same = [row for row in rows if (row["n"], row["noise"], row["arm"], row["steps"]) == key]
        values = [row["ap50"] for row in same]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        pooled, minutes = (statistics.fmean(row[name] for row in same) for name in ("ap50_pooled", "seconds"))
        n, noise, arm, steps = key
        print(
            f"| {n} | {noise:g} | {arm} | {steps} | {len(values)} | {statistics.fmean(values):.3f}{spread} | "
            f"{pooled:.3f} | {minutes / 60:.1f} |"
        )


if __name__ == "__main__":
    main()
