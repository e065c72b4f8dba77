"""Fills holes and takes out noise with our autoencoder and with classical methods, on the same held-out pictures.

    python benchmarks/restoration.py --data mnist --minutes 15
    python benchmarks/restoration.py --data ../shared/data/camvid --minutes 15
    … --only noise             trains and measures the denoiser alone; `holes` likewise
    … --choose                 measures on pictures taken from the training part: for choosing settings

Two autoencoders with skips are trained, `--minutes` each: one on holes, one on noise of unknown strength; nothing else
is told to them. The strength of the noise is told to the classical methods, and their own settings are chosen from
GRIDS for each damage on pictures of the training part.

Data: "mnist" is `--mnist`'s 60,000 pictures to train on, and the first `--count` of its test set. A folder has
pictures in images/ (or in itself), the names of those to train on in train.txt and of the held-out ones in val.txt
(without: every fifth is held out); squares of `--crop` pixels are cut from held-out pictures, the middle of each
and as many pictures as wanted, evenly spread over the list.

Scores, holes: the squared error pooled over all missing pixels of all pictures, as PSNR in decibels; over whole
pictures; and SSIM (torchmetrics, window 11), its map averaged over missing pixels, and over all. Results are rounded
to 8 bits as a file is. `ms` is the mean time for one picture, on as many threads as torch takes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as Pillow
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from intarsia.data.augment import AugmentConfig
from intarsia.data.batches import batches
from intarsia.data.read import read_image
from intarsia.data.stack import read_stack
from intarsia.inference.editing import denoise, inpaint
from intarsia.models.generative.autoencoder import Autoencoder, AutoencoderConfig
from intarsia.networks.corruptions import centre_known, random_known
from intarsia.records import Sample
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train
from intarsia.training.machine import describe, make_fabric, tune_allocator

Pictures = list[np.ndarray]  # (H, W, C) uint8
Method = Callable[..., np.ndarray]  # damaged picture, what the method is told, its setting -> picture

#: what the model is, and how it learns, where the two kinds of data want different things
OURS: dict[str, dict[str, Any]] = {
    "mnist": {
        "model": {"width": 32, "depth": 2, "reconstruction": "l2"},  # l2: 1 dB more in holes after 300 steps
        "crop": (28, 28),
        "batch": 64,
        "train": {"learning_rate": 2e-3},
        "augment": {"flip_horizontal": 0.0},
    },
    "folder": {
        "model": {"width": 32, "depth": 3},
        "crop": (96, 96),
        "batch": 16,
        "train": {},
        "augment": {"scale": (0.75, 1.25)},
    },
}
DAMAGE: dict[str, dict[str, Any]] = {"holes": {"holes": 0.4}, "noise": {"noise": (0.0, 0.25)}}

GRIDS: dict[str, Sequence[float]] = {
    "Telea": (1, 2, 3, 5, 10),  # radius, pixels
    "Navier-Stokes": (1, 2, 3, 5, 10),  # radius, pixels
    "biharmonic": (0,),
    "non-local means (scikit-image)": (0.2, 0.3, 0.4, 0.5, 0.6, 0.8),  # h / sigma
    "non-local means (OpenCV)": (0.3, 0.4, 0.5, 0.6, 0.8, 1.0),  # h / sigma
    "total variation": (0.3, 0.4, 0.5, 0.75, 1.0, 1.5),  # weight / sigma
}


def telea(image: np.ndarray, hole: np.ndarray, radius: float) -> np.ndarray:
    return channelled(cv2.inpaint(image, hole.astype(np.uint8), radius, cv2.INPAINT_TELEA))


def navier_stokes(image: np.ndarray, hole: np.ndarray, radius: float) -> np.ndarray:
    return channelled(cv2.inpaint(image, hole.astype(np.uint8), radius, cv2.INPAINT_NS))


def biharmonic(image: np.ndarray, hole: np.ndarray, _: float) -> np.ndarray:
    return eight_bits(inpaint_biharmonic(image / 255, hole, channel_axis=-1))


def non_local(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
    return channelled(eight_bits(denoise_nl_means(image / 255, h=factor * sigma, sigma=sigma, **options)))


def non_local_cv(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    h = factor * sigma * 255
    if image.shape[2] == 3:
        return cv2.fastNlMeansDenoisingColored(image, None, h, h, 7, 21)
    return channelled(cv2.fastNlMeansDenoising(image, None, h, 7, 21))


def total_variation(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    return eight_bits(denoise_tv_chambolle(image / 255, weight=factor * sigma, channel_axis=-1))


BASELINES: dict[str, dict[str, Method]] = {
    "holes": {"Telea": telea, "Navier-Stokes": navier_stokes, "biharmonic": biharmonic},
    "noise": {
        "non-local means (scikit-image)": non_local,
        "non-local means (OpenCV)": non_local_cv,
        "total variation": total_variation,
    },
}


def eight_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def channelled(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., None]


def load(options: argparse.Namespace) -> tuple[list[Sample], Pictures, Pictures]:
    """Pictures to train on, to choose settings on, and to measure on."""
    if options.data == "mnist":
        images = read_stack(options.mnist / "train-images-idx3-ubyte.gz")[0]
        held = read_stack(options.mnist / "t10k-images-idx3-ubyte.gz")[0]
        training = [Sample(f"digit {i}", image) for i, image in enumerate(images[:-1000])]
        return training, list(images[-1000:][: options.count]), list(held[: options.count])
    folder = Path(options.data)
    inside = folder / "images" if (folder / "images").is_dir() else folder
    paths = {path.stem: path for path in sorted(inside.iterdir()) if path.suffix.lower() != ".txt"}
    if (folder / "train.txt").exists():
        names, held_names = ((folder / f"{part}.txt").read_text().split() for part in ("train", "val"))
    else:
        held_names = list(paths)[::5]
        names = [name for name in paths if name not in held_names]
    last = max(1, len(names) // 10)  # neighbours in a video are alike: choose on a stretch of its own
    training = [Sample(name, read_image(paths[name])) for name in names[:-last]]
    choosing, measuring = (
        [middle(read_image(paths[name]), options.crop) for name in spread(part, options.count)]
        for part in (names[-last:], held_names)
    )
    return training, choosing, measuring


def spread(names: Sequence[str], count: int) -> list[str]:
    return [names[i * len(names) // count] for i in range(count)] if len(names) > count else list(names)


def middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def trained(damage: str, samples: list[Sample], options: argparse.Namespace) -> Autoencoder:
    """Our mender for one kind of damage, trained through the library's own loop and batches."""
    kind = OURS["mnist" if options.data == "mnist" else "folder"]
    wished = {"skips": True, **kind["model"], **options.model}
    config = AutoencoderConfig(
        channels=samples[0].image.shape[2], size=kind["crop"], corruption=DAMAGE[damage], **wished
    )
    recommended = {
        name.removeprefix("train."): value
        for name, value in Autoencoder.recommended.items()
        if name.startswith("train.")
    }
    settings = {"batch": kind["batch"], "minutes": options.minutes, **recommended, **kind["train"], **options.train}
    train_config = TrainConfig(**settings, device="cpu", threads=options.threads)
    plain = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise"), 0.0)
    augment = AugmentConfig(**{**plain, "crop": kind["crop"], "scale": (1.0, 1.0), **kind["augment"]})

    fabric = make_fabric(train_config, "cpu")
    torch.manual_seed(options.seed)
    model = Autoencoder(config).to(memory_format=torch.channels_last)
    training, wrapped = prepare(model, train_config, options.seed, fabric)
    seen: list[float] = []

    def watch(now: Training, losses: dict[str, Any]) -> None:
        seen.append(losses["model"]["psnr"].item())
        if now.progress.step % 100 == 0:
            print(f"  {damage}: step {now.progress.step}, {np.mean(seen[-100:]):.2f} dB", flush=True)

    source = batches(samples, augment, train_config.batch, options.seed)
    train(training, wrapped, fabric, source, train_config.steps, [watch])
    source.close()
    progress = training.progress
    print(f"  {damage}: {progress.step} steps of {train_config.batch} in {progress.seconds / 60:.1f} minutes")
    model.load_state_dict(training.average.tensors)
    return model.eval()


def cases(pictures: Pictures, centre: float, seed: int) -> dict[str, list[tuple[str, Pictures, list[Any]]]]:
    """Damage -> (name, damaged pictures, what methods are told: the hole, or the noise's deviation)."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    height, width = pictures[0].shape[:2]
    count = len(pictures)
    square = [known[0].numpy() == 0 for known in centre_known(count, height, width, centre)]
    free = [known[0].numpy() == 0 for known in random_known(count, height, width, 0.3, "strokes")]
    found: dict[str, list[tuple[str, Pictures, list[Any]]]] = {"holes": [], "noise": []}
    for name, holes in ((f"centre square, {centre:.0%} of the area", square), ("free-form, up to 30 %", free)):
        damaged = [np.where(hole[..., None], 0, image) for image, hole in zip(pictures, holes, strict=True)]
        found["holes"].append((name, damaged, list(holes)))
    for level in (25, 50):
        noisy = [eight_bits(image / 255 + random.normal(0, level / 255, image.shape)) for image in pictures]
        found["noise"].append((f"noise {level}/255", noisy, [level / 255] * count))
    return found


def scores(results: Pictures, truths: Pictures, holes: Sequence[Any] | None) -> dict[str, float]:
    """Decibels and SSIM, over all pixels and over the missing ones."""
    ours, theirs = (torch.from_numpy(np.stack(each)).movedim(-1, 1).double() / 255 for each in (results, truths))
    squared = (ours - theirs).square().mean(dim=1)  # N H W
    maps = [  # few at a time: torchmetrics takes some 50 times the memory of the pictures
        ssim(one, other, data_range=1.0, return_full_image=True)[1].mean(dim=1)
        for one, other in zip(ours.split(8), theirs.split(8), strict=True)
    ]
    alike = torch.cat(maps)  # N H W
    found = {"psnr": decibels(squared.mean()), "ssim": float(alike.mean())}
    if holes is not None:
        missing = torch.from_numpy(np.stack(holes))
        found |= {"psnr_hole": decibels(squared[missing].mean()), "ssim_hole": float(alike[missing].mean())}
    return found


def decibels(squared: torch.Tensor) -> float:
    return float(-10 * torch.log10(squared.clamp(min=1e-10)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help='"mnist" or a folder of pictures')
    parser.add_argument("--mnist", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--minutes", type=float, default=2.0, help="for each of the two trainings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; all cores where not given")
    parser.add_argument("--count", type=int, default=100, help="pictures to measure on")
    parser.add_argument("--slow", type=int, default=20, help="pictures for biharmonic, which takes seconds each")
    parser.add_argument("--crop", type=int, default=128, help="pixels a side of what is cut from held-out pictures")
    parser.add_argument("--centre", type=float, default=0.25, help="share of the area that the centre square takes")
    parser.add_argument("--only", choices=list(DAMAGE))
    parser.add_argument("--choose", action="store_true", help="measure on the pictures that settings are chosen on")
    parser.add_argument("--model", type=json.loads, default={}, help="settings of our model, JSON")
    parser.add_argument("--train", type=json.loads, default={}, help="settings of its training, JSON")
    parser.add_argument("--feather", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("runs/restoration"))
    options = parser.parse_args()
    cv2.setNumThreads(0)
    tune_allocator()

    training, choosing, measuring = load(options)
    measuring = choosing if options.choose else measuring
    choosing = choosing[:20]
    data = "mnist" if options.data == "mnist" else Path(options.data).name
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{data}: {len(training)} pictures to train on, {len(measuring)} to measure on")

    chosen_on, measured_on = (cases(part, options.centre, options.seed) for part in (choosing, measuring))
    rows: list[dict[str, Any]] = []
    for damage in [options.only] if options.only else list(DAMAGE):
        model = trained(damage, training, options)
        for place, (case, damaged, told) in enumerate(measured_on[damage]):
            holes = told if damage == "holes" else None
            columns = {"damaged": damaged}
            rows.append({"case": case, "method": "as it is", **scores(damaged, measuring, holes)})
            for name, method in BASELINES[damage].items():
                count = min(options.slow, len(damaged)) if name == "biharmonic" else len(damaged)
                setting = best_setting(name, method, chosen_on[damage][place], choosing, damage)
                begin = time.perf_counter()
                results = [method(a, b, setting) for a, b in zip(damaged[:count], told, strict=False)]
                spent = 1000 * (time.perf_counter() - begin) / count
                score = scores(results, measuring[:count], holes and holes[:count])
                called = name if count == len(damaged) else f"{name}, the first {count}"
                rows.append({"case": case, "method": called, "setting": setting, "ms": spent, **score})
                columns[name] = results
            begin = time.perf_counter()
            if damage == "holes":
                ours = [inpaint(model, a, b, feather=options.feather) for a, b in zip(damaged, told, strict=True)]
            else:
                ours = [denoise(model, image) for image in damaged]
            spent = 1000 * (time.perf_counter() - begin) / len(damaged)
            rows.append({"case": case, "method": "ours", "ms": spent, **scores(ours, measuring, holes)})
            if columns.get("biharmonic") is not None and len(columns["biharmonic"]) < len(damaged):
                few = columns["biharmonic"]
                rows.append({
                    "case": case, "method": f"ours, the first {len(few)}", "ms": spent,
                    **scores(ours[: len(few)], measuring[: len(few)], holes and holes[: len(few)]),
                })  # fmt: skip
            columns |= {"ours": ours, "truth": measuring}
            sheet(options.out / f"{data}-{damage}-{place}.png", columns)
        torch.save(model.state_dict(), options.out / f"{data}-{damage}.pt")

    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    text = json.dumps({"settings": settings, "device": describe("cpu"), "rows": rows}, indent=2)
    (options.out / f"{data}.json").write_text(text + "\n", encoding="utf-8")
    print_table(rows)


def best_setting(
    name: str, method: Method, case: tuple[str, Pictures, list[Any]], truths: Pictures, damage: str
) -> float:
    """The setting of a classical method with the highest PSNR (in the holes) on the pictures for choosing."""
    grid = GRIDS[name]
    if len(grid) == 1:
        return grid[0]
    _, damaged, told = case

    def score(setting: float) -> float:
        results = [method(a, b, setting) for a, b in zip(damaged, told, strict=True)]
        return scores(results, truths, told if damage == "holes" else None)[
            "psnr_hole" if damage == "holes" else "psnr"
        ]

    return max(grid, key=score)


def print_table(rows: list[dict[str, Any]]) -> None:
    print("\n| case | method | setting | PSNR hole | SSIM hole | PSNR | SSIM | ms |\n|---|---|---|---|---|---|---|---|")
    for row in rows:

        def cell(key: str, digits: int, row: dict[str, Any] = row) -> str:
            return f"{row[key]:.{digits}f}" if key in row else ""

        setting = f"{row['setting']:g}" if row.get("setting") else ""
        numbers = [cell("psnr_hole", 2), cell("ssim_hole", 3), cell("psnr", 2), cell("ssim", 3), cell("ms", 1)]
        print("|", " | ".join([row["case"], row["method"], setting, *numbers]), "|")


def sheet(path: Path, columns: dict[str, Pictures], rows: int = 8) -> None:
    """A row a picture, a column a method, named above."""
    count = min(len(each) for each in columns.values())  # a slow method has done the first of them only
    places = [i * count // rows for i in range(rows)] if count > rows else range(count)
    side = columns["truth"][0].shape[0]
    factor = max(1, 128 // side)
    tiles = []
    for name, pictures in columns.items():
        head = np.full((16, side * factor, 3), 255, np.uint8)
        cv2.putText(head, name[:22], (1, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1, cv2.LINE_AA)
        tops = [pictures[i] for i in places]
        big = [np.repeat(np.repeat(each, factor, 0), factor, 1) for each in tops]
        tiles.append(np.concatenate([head, *(np.broadcast_to(each, (*each.shape[:2], 3)) for each in big)]))
    Pillow.fromarray(np.concatenate(tiles, axis=1)).save(path)


if __name__ == "__main__":
    main()
