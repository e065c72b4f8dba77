"""Does smoothing still a film's flicker, what does it cost in J and in time?

    python benchmarks/video.py ../shared/data/video                   # two sequences, images/NAME/ and masks/NAME/
    python benchmarks/video.py ../shared/data/video --labelled 2 --steps 200 --scale 0.5 --threads 1

For each sequence a U-Net is trained on its first frames, the only ones whose masks it sees, and asked for all frames
after these. Its probabilities go through each filter in turn, so that all filters see the same. Printed are, for each:

flicker   share of the points whose class changes, of those that optical flow follows (`metrics/flicker.py`), pooled
J         intersection over union of the foreground, the mean over the frames that are not trained on
frames/s, p50, p99   of model and filter together, from a picture in memory to its mask, without reading and writing

The row "truth" is the flicker of the true masks: what an answer without any fault would have. Choose --memory on films
of your own: numbers of these two say whether a filter works, not which memory is best.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("--labelled", type=int, default=1, help="first frames, which are trained on")
parser.add_argument("--steps", type=int, default=120)
parser.add_argument("--scale", type=float, default=0.5, help="of the frames' sides")
parser.add_argument("--rate", type=float, default=24.0, help="frames a second")
parser.add_argument("--memory", type=float, default=0.1, help="seconds, of the filters")
parser.add_argument("--frames", type=int, help="of each sequence at most")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", type=Path, help="all numbers, as JSON")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is loaded

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import intarsia  # noqa: E402
from intarsia.inference import Predictor  # noqa: E402
from intarsia.inference.smoothing import Kind, Smoother, SmoothingConfig  # noqa: E402
from intarsia.metrics.flicker import FlickerScore, followed, jaccard  # noqa: E402

KINDS: tuple[Kind, ...] = ("none", "exponential", "flow")
SETTINGS = {
    "model.encoder": "plain", "model.width": 16, "model.depth": 4, "augment.crop": [192, 192], "train.batch": 2,
    "train.threads": arguments.threads, "train.device": "cpu", "data.validation": 0.0, "data.test": 0.0,
}  # fmt: skip


def sequence(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The frames (H, W, 3) uint8 and where their foreground is (H, W) bool, scaled."""
    pictures, masks = [], []
    for file in sorted((arguments.folder / "images" / name).iterdir())[: arguments.frames]:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(arguments.folder / "masks" / name / f"{file.stem}.png"), cv2.IMREAD_GRAYSCALE)
        size = tuple(round(side * arguments.scale) for side in picture.shape[1::-1])
        pictures.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0)
    return pictures, masks


def trained(pictures: list[np.ndarray], masks: list[np.ndarray], folder: Path) -> Predictor:
    for kind, arrays in (("images", pictures), ("masks", masks)):
        (folder / "data" / kind).mkdir(parents=True)
        for number, each in enumerate(arrays[: arguments.labelled]):
            array = each[..., ::-1] if kind == "images" else each.astype(np.uint8) * 255
            cv2.imwrite(str(folder / "data" / kind / f"{number:05d}.png"), array)
    run = folder / "run"
    intarsia.fit(folder / "data", run=run, model="unet", steps=arguments.steps, settings=SETTINGS, seed=0)
    predictor = intarsia.load(run, device="cpu", weights="last")
    assert isinstance(predictor, Predictor)
    return predictor


def measured(name: str) -> dict[str, dict[str, float]]:
    pictures, masks = sequence(name)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        predictor = trained(pictures, masks, Path(folder))
        training = time.perf_counter() - began
        smoothers = {kind: Smoother(SmoothingConfig(kind=kind, memory=arguments.memory)) for kind in KINDS}
        flicker = {kind: FlickerScore() for kind in (*KINDS, "truth")}
        similar: dict[str, list[float]] = {kind: [] for kind in KINDS}
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        before: dict[str, np.ndarray] = {}
        for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            start = time.perf_counter()
            probabilities = predictor.predict(picture).probabilities
            asked = time.perf_counter() - start
            answers = {"truth": mask.astype(np.int16)}
            for kind, smoother in smoothers.items():
                start = time.perf_counter()
                answers[kind] = smoother(picture, probabilities, number / arguments.rate).argmax(axis=0)
                seconds[kind].append(asked + time.perf_counter() - start)
                if number >= arguments.labelled:
                    similar[kind].append(jaccard(mask, answers[kind] == 1))
            if number > arguments.labelled:
                flow, sure = followed(picture, pictures[number - 1])
                for kind, score in flicker.items():
                    score.add(answers[kind], before[kind], flow, sure)
            before = answers
    height, width = pictures[0].shape[:2]
    print(
        f"\n{name}: {len(pictures)} frames of {width} x {height}, trained on {arguments.labelled} in {training:.0f} s"
    )
    print(f"{'':14}{'flicker %':>10}{'J':>8}{'frames/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    print(f"{'truth':14}{100 * flicker['truth'].share:10.3f}")
    rows = {"truth": {"flicker": flicker["truth"].share}}
    for kind in KINDS:
        p50, p99 = (1000 * float(np.percentile(seconds[kind], each)) for each in (50, 99))
        rows[kind] = {
            "flicker": flicker[kind].share, "J": float(np.mean(similar[kind])),
            "frames_per_second": len(pictures) / sum(seconds[kind]), "p50_ms": p50, "p99_ms": p99,
        }  # fmt: skip
        print(
            f"{kind:14}{100 * rows[kind]['flicker']:10.3f}{rows[kind]['J']:8.3f}"
            f"{rows[kind]['frames_per_second']:10.1f}{p50:9.0f}{p99:9.0f}",
            flush=True,
        )
    return rows


def main() -> None:
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    results = {each.name: measured(each.name) for each in sorted((arguments.folder / "images").iterdir())}
    if arguments.out:
        told = {key: str(value) for key, value in vars(arguments).items()}
        arguments.out.write_text(json.dumps({"arguments": told, "results": results}, indent=1))


if __name__ == "__main__":
    main()
