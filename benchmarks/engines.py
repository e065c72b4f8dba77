"""Milliseconds a picture of every engine and precision, of one network with random weights.

    python benchmarks/engines.py --size 480x360 --seconds 3 --turns 5 --out engines.json
    python benchmarks/engines.py --model '{"name": "unet", "encoder": "small", "width": 16}' --threads 2

What is measured is the whole way from a picture of bytes to its class map, pictures of noise in memory:

torch         `Predictor.predict(...).mask`: what `intarsia predict RUN` computes, PyTorch in channels-last
onnxruntime   `ExportedPredictor.predict(...).mask` of an .onnx file in fp32 and int8
openvino      the same of an .xml file in fp32, fp16 (which computes as the processor likes best) and int8

Contestants take turns within one process; printed are the median over the turns of each turn's fastest call, the
extremes over the turns, and how many times as fast as torch in the same turn. int8 is calibrated on noise, which does
for its speed and says nothing of its accuracy: `intarsia export RUN --precision int8` measures that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default='{"name": "unet", "width": 16}', help="configuration of a model, as JSON")
parser.add_argument("--classes", type=int, default=12)
parser.add_argument("--size", default="480x360", help="width x height of the picture")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--seconds", type=float, default=1.0, help="a contestant and turn")
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--only", default="", help="such as torch,onnxruntime-fp32")
parser.add_argument("--out", type=Path)
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

from intarsia.inference import ExportedPredictor, Predictor, load_exported  # noqa: E402
from intarsia.inference.export import SUFFIX, export_model  # noqa: E402
from intarsia.models import AnyModel, SemanticModel, build  # noqa: E402
from intarsia.records import Classes  # noqa: E402

FILES = [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "fp16"), ("openvino", "int8")]
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}


def contestants(folder: Path) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    config = TypeAdapter(AnyModel).validate_python({**json.loads(arguments.model), "classes": arguments.classes})
    model = build(config, fetch=False).eval()
    assert isinstance(model, SemanticModel)
    classes = Classes.named([f"class {i}" for i in range(arguments.classes)])
    width, height = map(int, arguments.size.split("x"))
    picture = np.random.default_rng(0).integers(0, 256, (height, width, config.channels), np.uint8)
    wanted = [word for word in arguments.only.split(",") if word]
    ask: dict[str, Callable[[], object]] = {}
    if not wanted or "torch" in wanted:
        predictor = Predictor(model, classes, device="cpu")
        ask["torch"] = lambda: predictor.predict(picture).mask
    for format, precision in FILES:
        name = f"{ENGINES[format]}-{precision}"
        if wanted and name not in wanted:
            continue
        path = folder / f"{precision}{SUFFIX[format]}"
        small = [picture[:96, :96]]
        export_model(
            model,
            classes,
            path,
            name=config.name,
            format=format,
            precision=precision,
            pictures=small,
            calibration=small,
        )
        exported = ExportedPredictor(load_exported(path, threads=arguments.threads))
        ask[name] = lambda exported=exported: exported.predict(picture).mask
    return ask


def main() -> None:
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ask = contestants(Path(folder))
        for each in ask.values():
            each()
        for _ in range(arguments.turns):
            for name, each in ask.items():
                best, until = float("inf"), time.perf_counter() + arguments.seconds
                while time.perf_counter() < until:
                    start = time.perf_counter()
                    each()
                    best = min(best, time.perf_counter() - start)
                times.setdefault(name, []).append(1000 * best)
    print(f"{arguments.model}, {arguments.size}, {arguments.threads} thread(s), {arguments.turns} turns")
    print(f"{'':20}{'ms':>8}  {'least-most':>15}  times as fast as torch")
    base = times.get("torch")
    for name, each in times.items():
        gain = f"{statistics.median(b / t for b, t in zip(base, each, strict=True)):.2f}" if base else ""
        print(f"{name:20}{statistics.median(each):8.1f}  {min(each):7.1f}-{max(each):.1f}  {gain}")
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"arguments": {k: str(v) for k, v in vars(arguments).items()}, "ms": times})
        )


if __name__ == "__main__":
    main()
