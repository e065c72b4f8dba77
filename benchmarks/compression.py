"""Trains a VQ-VAE on a folder's training pictures, packs others with it, and compares with JPEG and WebP at equal size.

    python benchmarks/compression.py ../shared/data/camvid --minutes 20
    … --tune            measures on pictures held out of train.txt (the last tenth of each drive), never on val.txt
    … --set width=64 quantizers=6     settings of the model
    … --weights FILE    measures weights written before, instead of training

Sizes are of whole files, headers and all. A rival's quality is, for each picture on its own, the highest whose file is
not larger than ours (JPEG: Pillow, optimised and progressive, 4:2:0; WebP: Pillow, lossy, method 6). Where even
quality 1 (0 with WebP) is larger, that smallest file is taken, in the rival's favour, and counted in the column
`larger`. Scores are means over pictures: PSNR (dB, of all channels' mean squared error), SSIM and MS-SSIM
(torchmetrics, defaults, range 1; MS-SSIM with a window of 7 where a side is under 161 pixels). Seconds are wall-clock,
one picture at a time.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from PIL import Image as PillowImage
from PIL import ImageDraw
from safetensors.torch import load_file, save_file
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from intarsia.data.augment import AugmentConfig
from intarsia.data.batches import Cached, batches
from intarsia.data.read import as_channels, read_image
from intarsia.inference.compression import compress, decompress
from intarsia.models.generative import VQVAE, VQVAEConfig
from intarsia.records import Sample
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train

RIVALS = {"jpeg": range(1, 96), "webp": range(0, 101)}


class Pictures:
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.paths[index].stem, as_channels(read_image(self.paths[index]), 3))


def listed(folder: Path, name: str) -> list[Path]:
    """The pictures of a list, in its order."""
    files = {path.stem: path for path in (folder / "images").iterdir()}
    return [files[line.strip()] for line in (folder / name).read_text().splitlines() if line.strip()]


def last_tenths(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """All but, and only, the last tenth of each drive (what stands before the first underscore)."""
    drives = defaultdict(list)
    for path in paths:
        drives[path.stem.split("_")[0]].append(path)
    held = [path for drive in drives.values() for path in drive[-max(len(drive) // 10, 1) :]]
    return [path for path in paths if path not in held], held


def trained(model: VQVAE, paths: list[Path], options: argparse.Namespace) -> dict[str, float]:
    settings = VQVAE.recommended.items()
    recommended = {key.removeprefix("train."): value for key, value in settings if key.startswith("train.")}
    recommended |= {key: json.loads(value) for key, value in (each.split("=", 1) for each in options.train)}
    config = TrainConfig(
        minutes=None if options.steps else options.minutes,
        batch=options.batch,
        threads=options.threads,
        precision="32-true",
        **recommended,
    )
    still = AugmentConfig(
        crop=(options.crop, options.crop), scale=(1, 1), brightness=0, contrast=0, saturation=0, hue=0, gamma=0,
        blur=0, noise=0,
    )  # fmt: skip
    fabric = Fabric(accelerator=options.device, devices=1, precision="32-true")
    training, wrapped = prepare(model, config, options.seed, fabric)

    def show(now: Training, losses: dict[str, dict[str, torch.Tensor]]) -> None:
        step = now.progress.step
        if step in (1, 10, 100) or step % 500 == 0:
            terms = {
                f"{part}/{name}": f"{value.item():.3f}" for part, all_ in losses.items() for name, value in all_.items()
            }
            print(f"step {step}, {now.progress.seconds:.0f} s:", *(f"{k} {v}" for k, v in terms.items()), flush=True)

    crops = batches(Cached(Pictures(paths)), still, options.batch, options.seed, workers=1)
    train(training, wrapped, fabric, crops, options.steps, [show])
    model.load_state_dict(training.average.tensors)
    return {"steps": training.progress.step, "seconds": training.progress.seconds}


def encoded(image: np.ndarray, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    more = {"optimize": True, "progressive": True} if kind == "jpeg" else {"method": 6}
    PillowImage.fromarray(image).save(buffer, kind, quality=quality, **more)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB"))


def largest_within(image: np.ndarray, kind: str, size: int) -> tuple[bytes, int]:
    """The file of the highest quality that is not larger than `size` bytes, or else of the lowest; and the quality."""
    low, high = RIVALS[kind].start, RIVALS[kind].stop - 1
    best, data = low, encoded(image, kind, low)
    while low < high:  # sizes rise with the quality, but for a byte or two
        middle = (low + high + 1) // 2
        tried = encoded(image, kind, middle)
        if len(tried) <= size:
            low, best, data = middle, middle, tried
        else:
            high = middle - 1
    return data, best


def scores(answer: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    x, y = (torch.from_numpy(each.astype(np.float32) / 255).permute(2, 0, 1)[None] for each in (answer, truth))
    error = (x - y).square().mean().item()
    window = 11 if min(truth.shape[:2]) > 160 else 7
    return {
        "psnr": -10 * np.log10(max(error, 1e-10)),
        "ssim": structural_similarity_index_measure(x, y, data_range=1.0).item(),
        "ms_ssim": multiscale_structural_similarity_index_measure(x, y, data_range=1.0, kernel_size=window).item(),
    }


def timed(function: Callable[[], object]) -> tuple[object, float]:
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def sheet(rows: list[list[tuple[str, np.ndarray]]], path: Path) -> None:
    height, width = rows[0][0][1].shape[:2]
    page = PillowImage.new("RGB", (width * len(rows[0]), (height + 16) * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for i, row in enumerate(rows):
        for j, (words, image) in enumerate(row):
            page.paste(PillowImage.fromarray(image), (j * width, i * (height + 16) + 16))
            draw.text((j * width + 4, i * (height + 16) + 2), words, fill="black")
    page.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/compression"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--pictures", type=int, help="measure on this many only, evenly spread")
    parser.add_argument("--qualities", type=int, nargs="*", help="which to measure; all where none is given")
    parser.add_argument("--set", nargs="*", default=[], help="the model's settings, NAME=VALUE")
    parser.add_argument("--train", nargs="*", default=[], help="the training's settings, NAME=VALUE")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    learnt, measured = listed(options.folder, "train.txt"), listed(options.folder, "val.txt")
    if options.tune:
        learnt, measured = last_tenths(learnt)
    if options.pictures:
        measured = measured[:: max(len(measured) // options.pictures, 1)][: options.pictures]

    def value(text: str) -> object:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text

    settings = {"size": [options.crop, options.crop]} | dict(each.split("=", 1) for each in options.set)
    config = VQVAEConfig.model_validate({key: value(v) if isinstance(v, str) else v for key, v in settings.items()})
    model = VQVAE(config)
    spent = {}
    if options.weights:
        model.load_state_dict(load_file(options.weights))
    else:
        spent = trained(model, learnt, options)
        save_file(model.state_dict(), options.out / "weights.safetensors")
    model = model.to(options.device).eval()

    sums: dict[tuple[int, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    qualities = options.qualities or list(range(1, config.quantizers + 1))
    shown, rows = set(np.linspace(0, len(measured) - 1, 3).astype(int)), []
    for number, sample in enumerate(Pictures(measured)[i] for i in range(len(measured))):
        image, pixels = sample.image, sample.image.shape[0] * sample.image.shape[1]
        for quality in qualities:
            data, seconds = timed(partial(compress, model, image, quality))
            answer, seconds_back = timed(partial(decompress, model, data))
            answers = {"vqvae": (data, answer, {"encode_seconds": seconds, "decode_seconds": seconds_back})}
            for kind in RIVALS:
                rival, chosen = largest_within(image, kind, len(data))
                _, seconds = timed(partial(encoded, image, kind, chosen))
                again, seconds_back = timed(partial(decoded, rival))
                times = {"encode_seconds": seconds, "decode_seconds": seconds_back, "larger": len(rival) > len(data)}
                answers[kind] = (rival, again, times)
            row = [("original", image)]
            for kind, (each, again, times) in answers.items():
                found = {"bpp": 8 * len(each) / pixels, "bytes": len(each), **scores(again, image), **times}
                for key, v in found.items():
                    sums[quality, kind][key] += v / len(measured)
                if times.get("larger"):  # at these sizes, there is no such file
                    sums[quality, kind]["larger_count"] += 1
                row.append((f"{kind} {len(each)} B, {found['psnr']:.2f} dB, MS-SSIM {found['ms_ssim']:.4f}", again))
            if number in shown and quality in {
                qualities[len(qualities) // 4],
                qualities[len(qualities) // 2],
                qualities[-1],
            }:
                rows.append(row)
        print(f"{number + 1}/{len(measured)}", end="\r", flush=True)

    sheet(rows, options.out / "sheet.png")
    table = [{"quality": q, "kind": kind, **each} for (q, kind), each in sums.items()]
    result = {
        "config": config.model_dump(mode="json"), "parameters": sum(p.numel() for p in model.parameters()), **spent,
        "minutes": options.minutes, "batch": options.batch, "crop": options.crop, "seed": options.seed,
        "threads": options.threads, "device": options.device, "pictures": len(measured), "trained_on": len(learnt),
        "list": "held out of train.txt" if options.tune else "val.txt", "table": table,
    }  # fmt: skip
    (options.out / "compression.json").write_text(json.dumps(result, indent=1))
    print(f"{len(measured)} pictures, {result['list']}; {spent}")
    print("| quality | | bits/pixel | bytes | PSNR | SSIM | MS-SSIM | larger | encode s | decode s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for each in table:
        print(
            f"| {each['quality']} | {each['kind']} | {each['bpp']:.3f} | {each['bytes']:.0f} | {each['psnr']:.2f} "
            f"| {each['ssim']:.4f} | {each['ms_ssim']:.4f} | {each.get('larger_count', 0):.0f} "
            f"| {each['encode_seconds']:.3f} | {each['decode_seconds']:.3f} |"
        )


if __name__ == "__main__":
    main()
