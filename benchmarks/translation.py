"""pix2pix on a labelled folder: pictures of masks, masks of pictures, colours of grey, sharp pictures of damaged ones.

    python benchmarks/translation.py ../shared/data/camvid --classes examples/camvid.classes.toml --minutes 3

Every task gets the same time; whole pictures are scaled to --size, mirrored at random, and nothing else. Measured on
the validation pictures, with the moving average of the weights at the end of training; nothing is chosen on them.
Beside each number stands that of a baseline that needs no network, made of the same training pictures:

mask_to_picture  PSNR, SSIM, L1; and the mean IoU of the masks that the picture_to_mask model of this run reads in
                 the drawn pictures, as in the paper's section 3.3 with our own reader. Baseline: each class in its
                 mean colour
picture_to_mask  mean IoU and accuracy. Baseline: at each place the class that is most frequent there
grey_to_colour   PSNR, SSIM. Baselines: the grey picture itself; each grey level (of 64) in its mean colour
restore          PSNR, SSIM after a blur of deviation 0.5..2 pixels and noise of 0..0.1. Baseline: the damaged picture

OUT/translation.json gathers the results, OUT/TASK.png shows source, answer, truth, row by row.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from intarsia.data.augment import AugmentConfig
from intarsia.data.batches import batches, collate
from intarsia.data.sets import Readable, open_sets
from intarsia.drawing import coloured, encode_png, grid
from intarsia.metrics.confusion import Confusion
from intarsia.metrics.picture_quality import PictureQuality
from intarsia.models.generative.pix2pix import Pix2Pix, Pix2PixConfig
from intarsia.networks.corruptions import grey
from intarsia.records import Batch, Classes, Sample
from intarsia.training.config import TrainConfig
from intarsia.training.loop import prepare, train
from intarsia.training.machine import describe, make_fabric, tune_allocator

TASKS = ("picture_to_mask", "mask_to_picture", "grey_to_colour", "restore")
LEVELS = 64  # of grey, of the baseline
STILL: dict[str, Any] = {
    "scale": (1, 1), "flip_horizontal": 0.5, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "gamma": 0,
    "blur": 0, "noise": 0,
}  # fmt: skip


@dataclass
class Data:
    """A folder at one size."""

    train: list[Sample]
    learnt: Batch  # the same, as one batch
    held_out: Batch
    classes: Classes


def opened(folder: Path, classes: Path | None, size: tuple[int, int]) -> Data:
    sets = open_sets(folder, classes=classes, channels=3)
    training, validation = (scaled(part.labelled(), size) for part in (sets.train, sets.validation))
    return Data(training, collate(training), collate(validation), sets.classes)


def scaled(samples: Readable, size: tuple[int, int]) -> list[Sample]:
    found = []
    for sample in samples:
        assert sample.mask is not None, "classes that overlap have no one mask"
        image = cv2.resize(sample.image, size[::-1], interpolation=cv2.INTER_AREA)
        mask = cv2.resize(sample.mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        found.append(Sample(sample.name, image, mask))
    return found


def trained(data: Data, options: argparse.Namespace, task: str) -> tuple[Pix2Pix, dict[str, float]]:
    torch.manual_seed(options.seed)
    settings = {"task": task, "channels": 3, "size": options.size, "classes": len(data.classes), **options.model}
    model = Pix2Pix(Pix2PixConfig(**settings))
    recommended = {key.removeprefix("train."): value for key, value in Pix2Pix.recommended.items()}
    budget = {"minutes": None if options.steps else options.minutes, "steps": options.steps}
    config = TrainConfig(**{**recommended, **budget, **options.train})
    fabric = make_fabric(config, options.device)
    training, wrapped = prepare(model, config, options.seed, fabric)
    augmented = AugmentConfig(crop=options.size, **STILL)
    stream = batches(data.train, augmented, config.batch, options.seed)
    last: dict[str, float] = {}

    def watch(state: Any, losses: Any) -> None:
        for part, terms in losses.items():
            for name, value in terms.items():
                key = f"{part}/{name}"
                last[key] = 0.98 * last.get(key, value.item()) + 0.02 * value.item()

    train(training, wrapped, fabric, stream, config.steps, [watch])
    stream.close()
    print(f"{task}: {training.progress.step} steps in {training.progress.seconds / 60:.1f} minutes; moving means",
          ", ".join(f"{name} {value:.3f}" for name, value in last.items()), flush=True)  # fmt: skip
    model.load_state_dict(training.average.tensors)
    return model.eval(), {"steps": training.progress.step, "seconds": training.progress.seconds, **last}


def answered(model: Pix2Pix, sources: Tensor) -> Tensor:
    device = next(model.parameters()).device
    return torch.cat([model.translate(part.to(device)).cpu() for part in sources.split(8)])


def quality(answers: Tensor, truth: Tensor) -> dict[str, float]:
    measured = PictureQuality()
    measured.add(answers, truth)
    return {"psnr": measured["psnr"], "ssim": measured["ssim"], "l1": (answers - truth).abs().mean().item()}


def overlap(masks: Tensor, truth: Tensor, classes: int) -> dict[str, float]:
    confusion = Confusion.zeros(classes)
    confusion.add(truth.numpy(), masks.numpy())
    return {"mean_iou": confusion.mean_iou, "accuracy": confusion.accuracy}


def mean_colours(numbers: Tensor, images: Tensor, count: int) -> Tensor:
    """(count, 3): the mean colour of the pixels of each number (B, H, W); numbers below 0 are nobody's."""
    known = numbers >= 0
    found, pixels = numbers[known], images.movedim(1, -1)[known]
    sums = torch.zeros(count, 3).index_add_(0, found, pixels)
    return sums / found.bincount(minlength=count).clamp(min=1)[:, None]


def levels(images: Tensor) -> Tensor:
    return (grey(images)[:, 0] * LEVELS).long().clamp(max=LEVELS - 1)


def baselines(data: Data, task: str, sources: Tensor) -> dict[str, dict[str, float]]:
    learnt, held_out = data.learnt, data.held_out
    assert learnt.masks is not None and held_out.masks is not None
    truth = held_out.images
    if task == "mask_to_picture":
        colours = torch.cat([mean_colours(learnt.masks, learnt.images, len(data.classes)), torch.full((1, 3), 0.5)])
        return {"mean colour of the class": quality(colours[held_out.masks].movedim(-1, 1), truth)}  # IGNORE: the last
    if task == "picture_to_mask":
        votes = torch.stack([(learnt.masks == number).sum(dim=0) for number in range(len(data.classes))])
        guess = votes.argmax(dim=0).expand_as(held_out.masks)
        return {"most frequent class of the place": overlap(guess, held_out.masks, len(data.classes))}
    if task == "grey_to_colour":
        colours = mean_colours(levels(learnt.images), learnt.images, LEVELS)
        return {
            "grey itself": quality(grey(truth), truth),
            "mean colour of the grey level": quality(colours[levels(truth)].movedim(-1, 1), truth),
        }
    return {"damaged": quality(sources, truth)}


def sheet(data: Data, task: str, sources: Tensor, answers: Tensor, rows: int = 6) -> np.ndarray:
    """Source, answer and truth of a few validation pictures, two to a line."""
    chosen = np.linspace(0, len(answers) - 1, rows).astype(int)
    truth = {"picture_to_mask": data.held_out.masks}.get(task, data.held_out.images)
    assert truth is not None and data.held_out.masks is not None
    pictures = []
    for i in chosen:
        source = data.held_out.masks[i] if task == "mask_to_picture" else sources[i]
        for each in (source, answers[i], truth[i]):
            pictures.append(shown(each, data.classes))
    return grid(pictures, 6)


def shown(each: Tensor, classes: Classes) -> np.ndarray:
    if each.ndim == 2:
        return coloured(each.numpy().astype(np.int16), classes)
    if len(each) > 3:
        return coloured(each.argmax(dim=0).numpy().astype(np.int16), classes)
    return (255 * each).round().byte().movedim(0, -1).numpy()


def setting(text: str) -> tuple[str, Any]:
    name, value = text.split("=", 1)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, each task")
    parser.add_argument("--steps", type=int, help="of training, each task, in place of --minutes")
    parser.add_argument("--size", type=int, nargs=2, default=(120, 160), help="height and width, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--model", nargs="*", type=setting, default=[], help="NAME=VALUE of the model, such as width=64"
    )
    parser.add_argument("--train", nargs="*", type=setting, default=[], help="NAME=VALUE of the training: batch=8")
    parser.add_argument("--out", type=Path, default=Path("results/translation"))
    options = parser.parse_args()
    options.size, options.model, options.train = tuple(options.size), dict(options.model), dict(options.train)
    tune_allocator()
    cv2.setNumThreads(0)
    options.out.mkdir(parents=True, exist_ok=True)

    begin = time.perf_counter()
    data = opened(options.folder, options.classes, options.size)
    print(f"{len(data.train)} training and {len(data.held_out)} validation pictures of {options.size[0]} x "
          f"{options.size[1]}, read in {time.perf_counter() - begin:.0f} s; {describe(options.device)}")  # fmt: skip
    results: dict[str, Any] = {}
    reader: Pix2Pix | None = None
    for task in sorted(options.tasks, key=TASKS.index):  # the reader comes first
        model, spent = trained(data, options, task)
        torch.manual_seed(0)
        sources = model.sources(data.held_out)
        answers = answered(model, sources)
        assert data.held_out.masks is not None
        rows = baselines(data, task, sources)
        if task == "picture_to_mask":
            reader = model
            rows["pix2pix"] = overlap(answers.argmax(dim=1), data.held_out.masks, len(data.classes))
        else:
            rows["pix2pix"] = quality(answers, data.held_out.images)
        if task == "mask_to_picture" and reader is not None:
            rows["pix2pix"]["read_iou"] = read(reader, answers, data)
            rows["real pictures"] = {"read_iou": read(reader, data.held_out.images, data)}
        (options.out / f"{task}.png").write_bytes(encode_png(sheet(data, task, sources, answers)))
        results[task] = {"scores": rows, "training": spent}
        shown_options = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
        }
        content = {"options": shown_options, "device": describe(options.device), "results": results}
        (options.out / "translation.json").write_text(json.dumps(content, indent=1))

    print(
        "\n| task | method | PSNR, dB | SSIM | L1 | mean IoU | accuracy | IoU read |\n|---|---|---|---|---|---|---|---|"
    )
    for task, result in results.items():
        for method, scores in result["scores"].items():
            cells = [column(scores.get(name), factor, digits) for name, factor, digits in COLUMNS]
            print(f"| {task} | {method} | {' | '.join(cells)} |")


COLUMNS = (
    ("psnr", 1, 2),
    ("ssim", 1, 3),
    ("l1", 1, 4),
    ("mean_iou", 100, 1),
    ("accuracy", 100, 1),
    ("read_iou", 100, 1),
)


def column(value: float | None, factor: float, digits: int) -> str:
    return "" if value is None else f"{factor * value:.{digits}f}"


def read(reader: Pix2Pix, images: Tensor, data: Data) -> float:
    """The mean IoU of what the reader sees in the pictures with what was to be drawn."""
    assert data.held_out.masks is not None
    return overlap(answered(reader, images).argmax(dim=1), data.held_out.masks, len(data.classes))["mean_iou"]


if __name__ == "__main__":
    main()
