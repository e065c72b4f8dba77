"""Time a megapixel and peak memory of pictures of 2,000 to 64,000 pixels a side, files to files.

    python benchmarks/huge.py --sides 2000 4000 8000 --threads 1 --out huge.json
    python benchmarks/huge.py --sides 4000 16000 64000 --engine onnxruntime --folder /somewhere/with/room

A picture is drawn on the disk, tile by tile (blobs on a noisy ground, a quarter of it empty), as a tiled, compressed
BigTIFF; `predict_files` segments it, in a process of its own for each side, with a small U-Net of random weights. The
speed of a network does not depend on its weights, and of what it says nothing is measured.

ms/MP         wall time of the whole call by the picture's megapixels: reading, network, blending, writing, pyramid
peak          the most memory (VmHWM: resident set) of that process, in MB
above         that less the peak of a process that asked the same network about one tile and wrote nothing: what the
              picture's size costs
empty         share of the picture that is plain: the network is asked about one such tile only
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sides", type=int, nargs="+", default=[2000, 4000, 8000], help="pixels")
parser.add_argument("--empty", type=float, default=0.25, help="share of the picture that is plain")
parser.add_argument("--width", type=int, default=4, help="of the U-Net's first layer")
parser.add_argument("--depth", type=int, default=2)
parser.add_argument("--tile", type=int, default=1024)
parser.add_argument("--engine", choices=("torch", "onnxruntime"), default="torch")
parser.add_argument("--overlay", action="store_true")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--folder", type=Path, help="for pictures and answers; by default a temporary one")
parser.add_argument("--out", type=Path)
parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # the picture of a child process; "-": one tile only
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is loaded

import numpy as np  # noqa: E402
import tifffile  # noqa: E402

SIDE = 512  # of a tile of the drawn file


def tiles(side: int) -> Iterator[np.ndarray]:
    """The picture's tiles (SIDE, SIDE, 3), one after the other."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    for top in range(0, side, SIDE):
        for left in range(0, side, SIDE):
            if left >= side * (1 - arguments.empty):
                yield np.full((SIDE, SIDE, 3), 245, np.uint8)
                continue
            rng = np.random.default_rng((top, left))
            blobs = np.sin((x + left) / 23) * np.sin((y + top) / 31) > 0.4
            noise = rng.integers(0, 40, (SIDE, SIDE, 3))
            yield np.where(blobs[..., None], 90 + noise, 180 + noise).astype(np.uint8)


def draw(path: Path, side: int) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            tiles(side), shape=(side, side, 3), dtype=np.uint8, tile=(SIDE, SIDE), photometric="rgb",
            compression="adobe_deflate", compressionargs={"level": 1},
        )  # fmt: skip


def predictor(folder: Path) -> Any:
    import torch

    from intarsia.inference import Predictor
    from intarsia.models import SemanticModel, build
    from intarsia.models.semantic.unet import UNetConfig
    from intarsia.records import Classes

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build(UNetConfig(classes=3, width=arguments.width, depth=arguments.depth)).eval()
    assert isinstance(model, SemanticModel)
    classes = Classes.named(["background", "one", "two"])
    if arguments.engine == "torch":
        return Predictor(model, classes, tile=arguments.tile, limit=10**10, device="cpu")
    from intarsia.inference import ExportedPredictor, load_exported
    from intarsia.inference.export import export_model

    file = folder / "model.onnx"
    if not file.exists():
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        export_model(model, classes, file, name="unet", pictures=[noise])
    return ExportedPredictor(load_exported(file, "onnxruntime"), tile=arguments.tile, limit=10**10)


def child() -> None:
    """Segments the picture, and prints seconds and peak memory."""
    from intarsia.inference import predict_files

    where = arguments.one.parent
    answerer = predictor(where)
    answerer.predict(np.random.default_rng(0).integers(0, 255, (arguments.tile, arguments.tile, 3)).astype(np.uint8))
    began = time.perf_counter()
    if arguments.one.name != "-":
        summary = predict_files(
            answerer, [arguments.one], where / f"answers-{arguments.one.stem}", huge=0, overlay=arguments.overlay
        )
        assert summary.done == 1, summary.failed
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": peak / 1024}))


def measured(picture: Path) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--one", str(picture)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.engine != "torch":
            predictor(folder)  # exported once, not by a child whose memory is measured
        bare = measured(folder / "-")["peak"]
        print(f"bare: {bare:.0f} MB\n{'side':>6} {'MP':>7} {'s':>8} {'ms/MP':>7} {'peak MB':>8} {'above':>6}")
        rows = []
        for side in arguments.sides:
            picture = folder / f"{side}.tif"
            draw(picture, side)
            found = measured(picture)
            picture.unlink()
            pixels = side * side / 1e6
            rows.append({"side": side, "per_megapixel": found["seconds"] / pixels * 1000, "bare": bare, **found})
            print(
                f"{side:>6} {pixels:>7.0f} {found['seconds']:>8.1f} {rows[-1]['per_megapixel']:>7.0f} "
                f"{found['peak']:>8.0f} {found['peak'] - bare:>6.0f}",
                flush=True,
            )
        if arguments.out:
            arguments.out.write_text(json.dumps({"settings": vars(arguments), "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    child() if arguments.one else main()
