"""Time a megapixel and peak memory of pictures of 2,000 to 64,000 pixels a side, files to files, ours and MONAI's.

    python benchmarks/huge.py --sides 2000 4000 8000 --threads 1 --out huge.json
    python benchmarks/huge.py --sides 4000 16000 64000 --engine onnxruntime --monai-up-to 16000 --folder /with/room

A picture is drawn on the disk, tile by tile (blobs on a noisy ground, a quarter of it empty), as a tiled, compressed
BigTIFF. Each contestant segments it in a process of its own, with the same small U-Net of random weights; they take
turns, `--repeats` times. The speed of a network does not depend on its weights: of what it says nothing is measured.

ours          `predict_files`: windows in, tiled BigTIFF with its pyramid out
monai         `sliding_window_inference` (https://monai.io) as its documentation shows it: the picture is a tensor;
              the same tiles and overlap, blended by a Gaussian; a tiled, compressed TIFF without a pyramid out

ms/MP         wall time by the picture's megapixels, the median of the repeats: reading, network, blending, writing
peak          the most memory (VmHWM: resident set) of that process, in MB
above         that less the peak of a process that asked the same network about one tile and wrote nothing: what the
              picture's size costs
empty         share of the picture that is plain: ours asks the network about one such tile only
growth        the last and the first side's ms/MP and peak, the one by the other
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sides", type=int, nargs="+", default=[2000, 4000, 8000], help="pixels")
parser.add_argument("--empty", type=float, default=0.25, help="share of the picture that is plain")
parser.add_argument("--width", type=int, default=4, help="of the U-Net's first layer")
parser.add_argument("--depth", type=int, default=2)
parser.add_argument("--tile", type=int, default=1024)
parser.add_argument("--engine", choices=("torch", "onnxruntime"), default="torch")
parser.add_argument("--overlay", action="store_true", help="ours only")
parser.add_argument("--contestants", choices=("ours", "monai"), nargs="+", default=["ours", "monai"])
parser.add_argument("--monai-up-to", type=int, default=16000, help="pixels a side: it takes 40 bytes a pixel and more")
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--folder", type=Path, help="for pictures and answers; by default a temporary one")
parser.add_argument("--out", type=Path)
parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # the picture of a child process; "-": one tile only
parser.add_argument("--by", help=argparse.SUPPRESS)  # the contestant that the child process is
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


def network() -> Any:
    import torch

    from intarsia.models import build
    from intarsia.models.semantic.unet import UNetConfig

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    return build(UNetConfig(classes=3, width=arguments.width, depth=arguments.depth)).eval()


def predictor(folder: Path) -> Any:
    from intarsia.inference import Predictor
    from intarsia.models import SemanticModel
    from intarsia.records import Classes

    model = network()
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


def ours(noise: np.ndarray) -> Callable[[Path, Path], object]:
    """What segments a file into a folder, after it has segmented one tile."""
    from intarsia.inference import predict_files

    answerer = predictor(arguments.one.parent)
    answerer.predict(noise)

    def answer(picture: Path, out: Path) -> None:
        summary = predict_files(answerer, [picture], out, huge=0, overlay=arguments.overlay)
        assert summary.done == 1, summary.failed

    return answer


def monai(noise: np.ndarray) -> Callable[[Path, Path], object]:
    """The same."""
    import torch
    from monai.inferers import sliding_window_inference

    model, tile = network(), arguments.tile

    @torch.inference_mode()
    def mask_of(image: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        logits = sliding_window_inference(pixels, (tile, tile), 1, model, overlap=0.25, mode="gaussian")
        return logits.argmax(dim=1)[0].to(torch.uint8).numpy()

    def answer(picture: Path, out: Path) -> None:
        mask = mask_of(tifffile.imread(picture, maxworkers=arguments.threads))
        out.mkdir(exist_ok=True)
        options = {"compression": "adobe_deflate", "compressionargs": {"level": 1}, "maxworkers": arguments.threads}
        tifffile.imwrite(out / "mask.tif", mask, tile=(256, 256), bigtiff=True, **options)

    mask_of(noise)
    return answer


def child() -> None:
    """Segments the picture, and prints seconds and peak memory."""
    where = arguments.one.parent
    noise = np.random.default_rng(0).integers(0, 255, (arguments.tile, arguments.tile, 3)).astype(np.uint8)
    answer = {"ours": ours, "monai": monai}[arguments.by](noise)
    began = time.perf_counter()
    if arguments.one.name != "-":
        answer(arguments.one, where / "answers")
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": peak / 1024}))


def measured(picture: Path, by: str) -> dict[str, float]:
    """Raises CalledProcessError where the contestant does not come to an end, such as for want of memory."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", str(picture), "--by", by]
    try:
        return json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
    finally:
        shutil.rmtree(picture.parent / "answers", ignore_errors=True)


def contestants() -> list[str]:
    if "monai" in arguments.contestants and importlib.util.find_spec("monai") is None:
        print("monai is not installed, so it is left out: pip install --no-deps monai")
        return [each for each in arguments.contestants if each != "monai"]
    return arguments.contestants


def row_of(by: str, side: int, bare: float, found: list[dict[str, float]]) -> dict[str, Any]:
    pixels = side * side / 1e6
    times = [each["seconds"] / pixels * 1000 for each in found]
    row = {"by": by, "side": side, "per_megapixel": statistics.median(times), "fastest": min(times),
           "slowest": max(times), "bare": bare, "peak": max(each["peak"] for each in found)}  # fmt: skip
    spread = f"{row['fastest']:.0f}..{row['slowest']:.0f}"
    print(
        f"{by:<6} {side:>6} {pixels:>7.0f} {row['per_megapixel']:>7.0f} {spread:>12} {row['peak']:>8.0f} "
        f"{row['peak'] - bare:>7.0f}",
        flush=True,
    )
    return row


def main() -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, names = Path(name), contestants()
        if arguments.engine != "torch":
            predictor(folder)  # exported once, not by a child whose memory is measured
        bare = {by: measured(folder / "-", by)["peak"] for by in names}
        print("bare: " + ", ".join(f"{by} {peak:.0f} MB" for by, peak in bare.items()))
        print(f"{'by':<6} {'side':>6} {'MP':>7} {'ms/MP':>7} {'spread':>12} {'peak MB':>8} {'above':>7}")
        rows: list[dict[str, Any]] = []
        for side in arguments.sides:
            picture = folder / f"{side}.tif"
            draw(picture, side)
            able = [by for by in names if by != "monai" or side <= arguments.monai_up_to]
            found: dict[str, list[dict[str, float]]] = {by: [] for by in able}
            for _ in range(arguments.repeats):
                for by in able:
                    try:
                        found[by].append(measured(picture, by))
                    except subprocess.CalledProcessError as error:
                        print(f"{by:<6} {side:>6} did not come to an end (exit code {error.returncode})")
            picture.unlink()
            rows += [row_of(by, side, bare[by], each) for by, each in found.items() if each]
        for by in names:
            own = [row for row in rows if row["by"] == by]
            if len(own) > 1:
                first, last = own[0], own[-1]
                growth = {key: last[key] / first[key] for key in ("per_megapixel", "peak")}
                print(
                    f"growth of {by} from {first['side']} to {last['side']}: "
                    f"ms/MP x {growth['per_megapixel']:.2f}, peak x {growth['peak']:.2f}"
                )
        if arguments.out:
            arguments.out.write_text(json.dumps({"settings": vars(arguments), "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    child() if arguments.one else main()
