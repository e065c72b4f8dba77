"""Pictures a second in training: `intarsia.fit` against a plain loop of segmentation_models.pytorch and PyTorch.

    pip install segmentation-models-pytorch
    python benchmarks/train_speed.py

The same U-Net (ResNet-18 encoder without pretrained weights, decoder 256-128-64-32-16), batch 8, crops of 288x384 of
360x480 pictures, cross entropy, AdamW, and augmentations of the same kind: scale, crop, flip, brightness, contrast,
saturation, hue. The plain loop is what its users write: a `DataLoader` that decodes each time, torchvision's
transforms on tensors, float32, default memory format and allocator. Each contestant is a process of its own;
they take turns, several rounds; printed are medians and their ratio. Pictures are drawn, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE, CROP, BATCH = (360, 480), (288, 384), 8
CONTESTANTS = ("plain", "intarsia, 32 bit", "intarsia, auto")


def plain(folder: Path, steps: int, workers: int) -> float:
    """Pictures a second of the plain loop, after a warm-up of a few steps."""
    import segmentation_models_pytorch as smp
    import torch
    import torchvision.transforms.v2 as T
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode, decode_image

    names = sorted(path.stem for path in (folder / "images").glob("*.png"))
    transform = T.Compose([
        T.RandomHorizontalFlip(),
        T.RandomAffine(degrees=5, scale=(0.75, 1.5)),
        T.RandomCrop(CROP),
        T.ColorJitter(0.2, 0.25, 0.3, 0.03),
        T.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
    ])  # fmt: skip

    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            from PIL import Image

            name = names[index % len(names)]
            image = tv_tensors.Image(decode_image(str(folder / "images" / f"{name}.png"), ImageReadMode.RGB))
            mask = tv_tensors.Mask(T.functional.pil_to_tensor(Image.open(folder / "masks" / f"{name}.png")))
            image, mask = transform(image, mask)
            return image, mask[0]

    model = smp.Unet("resnet18", encoder_weights=None, classes=5)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = torch.utils.data.DataLoader(Pictures(), BATCH, num_workers=workers)
    model.train()
    warm = 5
    begin = time.perf_counter()
    for step, (images, masks) in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 == warm:
            begin = time.perf_counter()
        if step + 1 == warm + steps:
            break
    return BATCH * steps / (time.perf_counter() - begin)


def ours(folder: Path, steps: int, precision: str) -> float:
    """Pictures a second of `fit` with everything that it does by default, after its first report, at step 20."""
    import intarsia

    warm = 20
    times: dict[int, float] = {}

    def show(training: object, losses: dict[str, float], speed: float) -> None:
        times[training.progress.step] = time.perf_counter()  # type: ignore[attr-defined]

    settings = {
        "model.encoder": "timm/resnet18", "model.width": 16, "model.finest": 1, "model.name": "unet",
        "augment.crop": list(CROP), "augment.scale": [0.75, 1.5], "augment.rotate": 5.0,
        "train.batch": BATCH, "train.precision": precision, "train.validate_every": 10**6, "data.validation": 0.1,
    }  # fmt: skip
    config = intarsia.read_config(None, {**settings, "data.folder": str(folder), "train.steps": warm + steps})
    with tempfile.TemporaryDirectory() as run:
        intarsia.fit(folder, run=Path(run) / "run", config=config, show=show)
    first, last = min(s for s in times if s >= warm), max(times)
    return BATCH * (last - first) / (times[last] - times[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="counted steps of each turn, a multiple of 20")
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.one == "plain":
            speed = plain(options.folder, options.steps, options.workers)
        else:
            speed = ours(options.folder, options.steps, "32-true" if "32" in options.one else "auto")
        print(json.dumps(speed))
        return

    from intarsia.data.scenes import SceneConfig, write_scenes

    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_scenes(Path(scratch) / "scenes", 64, SceneConfig(*SIZE))
        for turn in range(options.rounds):
            for name in CONTESTANTS:
                command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
                command += ["--steps", str(options.steps), "--workers", str(options.workers)]
                environment = os.environ if name == "plain" else {**os.environ, "GOMP_SPINCOUNT": "1000"}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
                speeds[name].append(float(done.stdout.splitlines()[-1]))
                print(f"round {turn + 1}: {name}: {speeds[name][-1]:.2f} pictures/s", flush=True)

    base = statistics.median(speeds["plain"])
    print(f"\n{'contestant':<20}{'median':>9}{'min':>8}{'max':>8}   ratio (pair by pair, median)")
    for name, values in speeds.items():
        pairs = statistics.median(value / other for value, other in zip(values, speeds["plain"], strict=True))
        median = statistics.median(values)
        print(f"{name:<20}{median:9.2f}{min(values):8.2f}{max(values):8.2f}   {median / base:.2f} ({pairs:.2f})")


if __name__ == "__main__":
    main()
