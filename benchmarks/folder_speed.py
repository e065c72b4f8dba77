"""A folder of pictures to a folder of masks, by the whole command: pictures a second, peak memory, the first mask.

    python benchmarks/folder_speed.py --threads 2 --turns 5 --out folder_speed.json
    python benchmarks/folder_speed.py --count 20 --turns 1 --only script,ours-fp32,ours-int8 --folder kept
    pip install --no-deps --target PEERS ultralytics ultralytics-thop transformers tokenizers polars psutil \\
        py-cpuinfo requests regex && python benchmarks/folder_speed.py --peers PEERS

ours-fp32, ours-int8   `intarsia predict FILE.xml PICTURES --out OUT`, the U-Net of segmentation_models.pytorch on a
                       ResNet-18 through our export; int8 is calibrated on eight drawn pictures
ours-torch             the same network and weights by `Predictor` and `predict_files`
script                 the same network and weights by a plain loop: Pillow, NumPy, model(x), argmax, Pillow
ultralytics            `YOLO("yolo11n-seg.yaml").predict(folder, stream=True)`, each picture's objects drawn into a mask
transformers           the image-segmentation pipeline with SegFormer-B0, its classes put together into a mask

The last two are networks of their own, so only the first four compare programs; all weights are random, and nothing is
said of accuracy. Without --pictures, 200 pictures of 480 x 360 pixels are drawn. Each contestant is a process of its
own, all get the same cores and OMP_NUM_THREADS; they take turns. Those that are not installed are left out.

pictures/s   all pictures by the wall time of the whole process, start-up included
steady       the pictures after the first, by the time after the first mask stood there
peak MB      most resident memory of the process (ru_maxrss)
first s      from the start of the process until the first mask file was there; the page cache is warm
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CLASSES, WIDTH, HEIGHT = 12, 480, 360
NAMES = ("ours-fp32", "ours-int8", "ours-torch", "script", "ultralytics", "transformers")
NEEDS = {
    "ours-fp32": "openvino", "ours-int8": "openvino", "script": "segmentation_models_pytorch",
    "ultralytics": "ultralytics", "transformers": "transformers",
}  # fmt: skip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pictures", type=Path, help="a folder of PNG files, in place of drawn ones")
parser.add_argument("--count", type=int, default=200, help="of drawn pictures")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--only", default="", help=f"some of {','.join(NAMES)}")
parser.add_argument("--peers", type=Path, help="folder with packages that are not installed")
parser.add_argument("--folder", type=Path, help="keeps pictures and exported files for the next time")
parser.add_argument("--out", type=Path)
parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a child process: name, pictures, out
arguments = parser.parse_args()
if arguments.peers:
    sys.path.append(str(arguments.peers.resolve()))


# What children do; the parent loads nothing large, because a child's peak memory begins with its parent's.


def draw(folder: Path, count: int) -> None:
    from peer_unet import drawn

    from intarsia.drawing import encode_png

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:04d}.png").write_bytes(encode_png(drawn(number, WIDTH, HEIGHT)))


def export(path: Path) -> None:
    from peer_unet import PeerUNet, drawn, names

    from intarsia.inference.export import export_model

    pictures = [drawn(100_000 + number, WIDTH, HEIGHT) for number in range(8)]
    made = export_model(
        PeerUNet(CLASSES).eval(), names(CLASSES), path, name="unet", format="openvino", precision=path.stem,
        pictures=pictures[:1], calibration=pictures,
    )  # fmt: skip
    print(f"{path.name}: {made.parity}")


def by_torch(pictures: Path, out: Path) -> None:
    from peer_unet import PeerUNet, names

    from intarsia.inference import Predictor, predict_files

    predict_files(Predictor(PeerUNet(CLASSES).eval(), names(CLASSES), device="cpu"), [pictures], out)


def by_script(pictures: Path, out: Path) -> None:
    import numpy as np
    import torch
    from peer_unet import DEVIATION, MEAN, peer_unet
    from PIL import Image

    model = peer_unet(CLASSES)
    for file in sorted(pictures.iterdir()):
        image = np.array(Image.open(file).convert("RGB"))
        height, width = image.shape[:2]
        image = np.pad(image, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
        x = ((image / 255 - MEAN) / DEVIATION).astype(np.float32)
        with torch.inference_mode():
            logits = model(torch.from_numpy(x.transpose(2, 0, 1)[None]))
        mask = logits.argmax(dim=1)[0, :height, :width].numpy().astype(np.uint8)
        Image.fromarray(mask).save(out / file.name)


def by_ultralytics(pictures: Path, out: Path) -> None:
    import numpy as np
    from PIL import Image
    from ultralytics import YOLO

    for result in YOLO("yolo11n-seg.yaml").predict(str(pictures), stream=True, imgsz=WIDTH, verbose=False):
        mask = np.zeros(result.orig_shape, np.uint8)
        if result.masks is not None:
            large = (Image.fromarray(each) for each in result.masks.data.cpu().numpy().astype(np.uint8))
            for each, number in zip(large, result.boxes.cls.tolist(), strict=True):
                mask[np.asarray(each.resize(mask.shape[::-1])) > 0] = int(number) + 1
        Image.fromarray(mask).save(out / Path(result.path).name)


def by_transformers(pictures: Path, out: Path) -> None:
    import numpy as np
    from PIL import Image
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor, pipeline

    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)).eval()
    ask = pipeline("image-segmentation", model=model, image_processor=SegformerImageProcessor(), device="cpu")
    for file in sorted(pictures.iterdir()):
        found = ask(str(file), subtask="semantic")
        mask = np.zeros(np.asarray(found[0]["mask"]).shape, np.uint8)
        for each in found:
            mask[np.asarray(each["mask"]) > 0] = model.config.label2id[each["label"]]
        Image.fromarray(mask).save(out / file.name)


def agreement(one: Path, other: Path) -> float:
    """The share of pixels at which two folders of masks say the same."""
    import numpy as np
    from PIL import Image

    pairs = [(np.array(Image.open(file)), np.array(Image.open(other / file.name))) for file in one.glob("*.png")]
    return float(np.mean([(a == b).mean() for a, b in pairs]))


CHILDREN: dict[str, Callable[[Path, Path], Any]] = {
    "draw": lambda folder, count: draw(folder, int(count.name)),
    "export": lambda path, _: export(path),
    "agreement": lambda one, other: print(agreement(one, other)),
    "ours-torch": by_torch,
    "script": by_script,
    "ultralytics": by_ultralytics,
    "transformers": by_transformers,
}


# The parent.


def command_of(name: str, files: Path, pictures: Path, out: Path) -> list[str]:
    if name in ("ours-fp32", "ours-int8"):
        file = files / f"{name.removeprefix('ours-')}.xml"
        return [sys.executable, "-m", "intarsia", "predict", str(file), str(pictures), "--out", str(out)]
    peers = ["--peers", str(arguments.peers)] if arguments.peers else []
    return [sys.executable, __file__, *peers, "--one", name, str(pictures), str(out)]


def masks_of(name: str, out: Path) -> Path:
    return out / "masks" if name.startswith("ours") else out


def measured(name: str, files: Path, pictures: Path, out: Path, count: int) -> dict[str, float]:
    """Runs a contestant. Raises RuntimeError where it failed."""
    out.mkdir()
    masks = masks_of(name, out)
    variables = {"OMP_NUM_THREADS": str(arguments.threads), "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}
    with (out / ".log").open("wb") as log:
        began = time.perf_counter()
        child = subprocess.Popen(
            command_of(name, files, pictures, out), stdout=log, stderr=log, env={**os.environ, **variables}
        )
        first, ended = None, 0
        try:
            while not ended:  # `subprocess` would not tell its peak memory
                if first is None and masks.is_dir() and any(each.name.endswith(".png") for each in os.scandir(masks)):
                    first = time.perf_counter() - began
                time.sleep(0.002 if first is None else 0.01)
                ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        except BaseException:
            child.kill()
            raise
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    made = len(list(masks.glob("*.png"))) if masks.is_dir() else 0
    if child.returncode or made != count or first is None:
        raise RuntimeError(f"{name} made {made} masks of {count}: {(out / '.log').read_text()[-1000:]}")
    return {
        "pictures/s": count / seconds,
        "steady": (count - 1) / max(seconds - first, 1e-9),
        "peak MB": usage.ru_maxrss / 1024,
        "first s": first,
        "cpu s": usage.ru_utime + usage.ru_stime,
    }


def child(*words: object) -> str:
    return subprocess.run(
        [sys.executable, __file__, "--one", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def prepared(folder: Path, chosen: list[str]) -> tuple[Path, int]:
    """The folder of pictures and how many there are; exported files stand in `folder`."""
    pictures = arguments.pictures or folder / f"pictures-{arguments.count}"
    if not pictures.is_dir():
        child("draw", pictures, arguments.count)
    for name in chosen:
        path = folder / f"{name.removeprefix('ours-')}.xml"
        if name in ("ours-fp32", "ours-int8") and not path.is_file():
            print(child("export", path, "-"), flush=True)
    return pictures, len(list(pictures.iterdir()))


def report(rows: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'':14}{'pictures/s':>11}{'least-most':>14}{'steady':>8}{'peak MB':>9}{'first s':>9}  times the script")
    base = rows.get("script")
    for name, turns in rows.items():
        middle = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        speeds = [turn["pictures/s"] for turn in turns]
        gain = ""
        if base:
            pairs = list(zip(turns, base, strict=False))
            speed = statistics.median(a["pictures/s"] / b["pictures/s"] for a, b in pairs)
            memory = statistics.median(a["peak MB"] / b["peak MB"] for a, b in pairs)
            gain = f"{speed:.2f} as fast, {memory:.2f} of its memory"
        print(
            f"{name:14}{middle['pictures/s']:>11.2f}{min(speeds):>7.2f}-{max(speeds):<6.2f}{middle['steady']:>8.2f}"
            f"{middle['peak MB']:>9.0f}{middle['first s']:>9.2f}  {gain}"
        )


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no child outlives it
    wanted = [word for word in arguments.only.split(",") if word] or list(NAMES)
    chosen = [name for name in wanted if name not in NEEDS or find_spec(NEEDS[name])]
    for name in sorted(set(wanted) - set(chosen)):
        print(f"{name} is left out: {NEEDS[name]} is not installed.")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pictures, count = prepared(folder, chosen)
        for turn in range(arguments.turns):
            for name in chosen:
                out = Path(temporary) / f"{name}-{turn}"
                rows.setdefault(name, []).append(measured(name, folder, pictures, out, count))
                print(f"turn {turn + 1}, {name}: {json.dumps(rows[name][-1])}", flush=True)
        print(f"{count} pictures, {arguments.threads} thread(s), {arguments.turns} turn(s), medians")
        report(rows)
        for name in chosen if "script" in chosen else ():
            if name.startswith("ours"):
                ours = masks_of(name, Path(temporary) / f"{name}-0")
                same = float(child("agreement", ours, Path(temporary) / "script-0"))
                print(f"{name}: the same class as the script at {same:.4%} of the pixels")
        if arguments.out:
            told = {"arguments": {key: str(value) for key, value in vars(arguments).items()}, "rows": rows}
            arguments.out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    if arguments.one:
        CHILDREN[arguments.one[0]](Path(arguments.one[1]), Path(arguments.one[2]))
    else:
        main()
