"""How near each network comes to what the machine can do: operations a second, and what the rest of the time is.

    python benchmarks/roofline.py --threads 2 --turns 5 --out roofline.json
    python benchmarks/roofline.py --nets unet --engines openvino-fp32,openvino-int8 --folder kept --clock cpu

operations   multiplications and additions of convolutions and matrix products (torch.utils.flop_counter), for one
             picture of the size given, padded as the network needs it; nothing else is counted
Gop/s        these, by the time from the picture's bytes to its class map, decoding and writing left out
peak         the most that was measured on this machine with these threads: in fp32 a product of two matrices of 2048 x
             2048 by PyTorch and by OpenVINO, and a stack of six 3x3 convolutions of 256 channels by OpenVINO; in int8
             the same stack, quantised
share        Gop/s by the peak of the same turn: 100 % is a program that does nothing but multiply at full speed

peer_unet is segmentation_models.pytorch's U-Net on a ResNet-18 (`peer_unet.py`), the others are our models by their
names, as they are by default. Weights are random, int8 is calibrated on drawn pictures. The profile is OpenVINO's own
(PERF_COUNT), the least time of each layer over --calls calls, added up by kind of layer.

On a machine that is busy with other things, --clock cpu takes the process's processor time by its threads in place of
the wall time: waiting for a core then counts nothing, waiting for the slower of two threads neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ENGINES = ("torch-fp32", "onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8")
parser.add_argument("--nets", default="peer_unet,unet,realtime", help="peer_unet, or names of our semantic models")
parser.add_argument("--engines", default=",".join(ENGINES))
parser.add_argument("--size", default="480x360", help="width x height of the picture")
parser.add_argument("--classes", type=int, default=12)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--calls", type=int, default=5, help="a contestant and turn; the fastest counts")
parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
parser.add_argument("--folder", type=Path, help="keeps exported files for the next time")
parser.add_argument("--out", type=Path)
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
from peer_unet import PeerUNet, drawn, names  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from intarsia.inference import ExportedPredictor, Predictor, load_exported  # noqa: E402
from intarsia.inference.engines import PICTURES  # noqa: E402
from intarsia.inference.engines.open_vino import the_core  # noqa: E402
from intarsia.inference.export import SUFFIX, export_model  # noqa: E402
from intarsia.models import AnyModel, SemanticModel, build  # noqa: E402

WIDTH, HEIGHT = map(int, arguments.size.split("x"))
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
PRODUCT, CHANNELS, SIDE, LAYERS = 2048, 256, 56, 6  # of what the peak is measured with


def model_of(name: str) -> SemanticModel:
    torch.manual_seed(0)
    if name == "peer_unet":
        return PeerUNet(arguments.classes).eval()
    config = TypeAdapter(AnyModel).validate_python({"name": name, "classes": arguments.classes})
    model = build(config, fetch=False).eval()
    assert isinstance(model, SemanticModel)
    return model


def operations(model: SemanticModel) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, HEIGHT, WIDTH))
    return float(counter.get_total_flops())


def settings(**more: object) -> dict[str, object]:
    return {
        "INFERENCE_NUM_THREADS": arguments.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        **more,
    }


def peaks() -> dict[str, tuple[float, Callable[[], object]]]:
    """What the peak is measured with: operations, and what does them. Names end with the precision."""
    import nncf
    import openvino as ov

    a, b = torch.randn(2, PRODUCT, PRODUCT)
    found: dict[str, tuple[float, Callable[[], object]]] = {
        "product, torch-fp32": (2.0 * PRODUCT**3, lambda: torch.mm(a, b))
    }

    def compiled(model: Any, example: np.ndarray) -> Callable[[], object]:
        request = the_core().compile_model(model, "CPU", settings()).create_infer_request()
        return lambda: request.infer({0: example}, share_inputs=True)

    linear = nn.Linear(PRODUCT, PRODUCT, bias=False)
    found["product, openvino-fp32"] = (2.0 * PRODUCT**3, compiled(ov.convert_model(linear, example_input=a), a.numpy()))
    stack = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()) for _ in range(LAYERS))
    )
    x = torch.rand(1, CHANNELS, SIDE, SIDE)
    count = 2.0 * 9 * CHANNELS**2 * SIDE**2 * LAYERS
    made = ov.convert_model(stack.eval(), example_input=x, input=list(x.shape))
    found["convolutions, openvino-fp32"] = (count, compiled(made, x.numpy()))
    made = nncf.quantize(made, nncf.Dataset([x.numpy()]), subset_size=1)
    found["convolutions, openvino-int8"] = (count, compiled(made, x.numpy()))
    return found


def exported(model: SemanticModel, net: str, engine: str, folder: Path) -> Path:
    name, precision = engine.split("-")
    path = folder / f"{net}-{precision}{SUFFIX[FORMATS[name]]}"
    if not path.is_file():
        pictures = [drawn(number, WIDTH, HEIGHT) for number in range(4)]
        export_model(
            model, names(arguments.classes), path, name=net, format=FORMATS[name], precision=precision,
            pictures=pictures[:1], calibration=pictures,
        )  # fmt: skip
    return path


def contestants(net: str, folder: Path) -> tuple[float, dict[str, Callable[[], object]]]:
    """The net's operations, and by each engine what answers for a picture."""
    model, picture = model_of(net), drawn(0, WIDTH, HEIGHT)
    ask: dict[str, Callable[[], object]] = {}
    for engine in arguments.engines.split(","):
        if engine == "torch-fp32":
            predictor = Predictor(model, names(arguments.classes), device="cpu")
            ask[engine] = lambda predictor=predictor: predictor.predict(picture).mask
        else:
            path = exported(model, net, engine, folder)
            one = ExportedPredictor(load_exported(path, engine.split("-")[0], threads=arguments.threads))
            ask[engine] = lambda one=one: one.predict(picture).mask
    return operations(model), ask


def clock() -> float:
    return time.perf_counter() if arguments.clock == "wall" else time.process_time() / arguments.threads


def fastest(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(arguments.calls):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best


def profile(path: Path) -> dict[str, float]:
    """Milliseconds by kind of layer, the most first."""
    model = the_core().read_model(path)
    model.reshape({PICTURES: [1, HEIGHT, WIDTH, 3]})
    request = the_core().compile_model(model, "CPU", settings(PERF_COUNT=True)).create_infer_request()
    least: dict[str, tuple[float, str]] = {}
    for _ in range(3 * arguments.calls):
        request.infer({PICTURES: drawn(0, WIDTH, HEIGHT)[None]}, share_inputs=True)
        for layer in request.profiling_info:
            spent = layer.real_time.total_seconds() * 1000
            least[layer.node_name] = min(least.get(layer.node_name, (float("inf"), "")), (spent, layer.node_type))
    kinds: defaultdict[str, float] = defaultdict(float)
    for spent, kind in least.values():
        kinds[kind] += spent
    return dict(sorted(((kind, spent) for kind, spent in kinds.items() if spent > 0), key=lambda each: -each[1]))


def main() -> None:
    torch.set_num_threads(arguments.threads)
    told: dict[str, Any] = {"arguments": {key: str(value) for key, value in vars(arguments).items()}, "nets": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        roofs = peaks()
        nets = {net: contestants(net, folder) for net in arguments.nets.split(",")}
        work = [each for _, each in roofs.values()] + [each for _, ask in nets.values() for each in ask.values()]
        for each in work:
            each()
        rates: defaultdict[str, list[float]] = defaultdict(list)  # Gop/s, a turn each
        for _ in range(arguments.turns):
            for name, (count, each) in roofs.items():
                rates[name].append(count / fastest(each) / 1e9)
            for net, (count, ask) in nets.items():
                for engine, each in ask.items():
                    rates[f"{net}, {engine}"].append(count / fastest(each) / 1e9)
        print(f"{arguments.size}, {arguments.threads} thread(s), {arguments.turns} turns, {arguments.clock} time")
        roof = {kind: [max(turn) for turn in zip(*(rates[name] for name in roofs if name.endswith(kind)), strict=True)]
                for kind in ("fp32", "int8")}  # fmt: skip
        print(f"{'':32}{'Gop':>7}{'ms':>8}{'Gop/s':>8}{'least-most':>16}{'share':>8}")
        for name, each in rates.items():
            net = name.split(", ")[0]
            count = (roofs[name][0] if name in roofs else nets[net][0]) / 1e9
            share = statistics.median(a / b for a, b in zip(each, roof[name[-4:]], strict=True))
            rate = statistics.median(each)
            span = f"{min(each):.0f}-{max(each):.0f}"
            print(f"{name:32}{count:>7.1f}{1000 * count / rate:>8.1f}{rate:>8.0f}{span:>16}{share:>8.0%}")
        told["Gop/s"], told["operations"] = rates, {net: count for net, (count, _) in nets.items()}
        for net in nets:
            for engine in (each for each in arguments.engines.split(",") if each.startswith("openvino")):
                kinds = profile(exported(model_of(net), net, engine, folder))
                whole = sum(kinds.values())
                words = ", ".join(f"{kind} {spent / whole:.1%}" for kind, spent in list(kinds.items())[:8])
                print(f"{net}, {engine}: {whole:.1f} ms in layers: {words}")
                told["nets"][f"{net}, {engine}"] = kinds
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
