"""A segmenter as one file that answers without us: the whole pipeline is in its graph.

    pictures (N, H, W, C) uint8 or uint16
    │ pad to the stride, repeating the border    on the bytes, where it is cheapest
    │ to [0, 1] and standardised                 one multiplication and one addition
    │ network ── at the padded size ── crop
    ├─ argmax ──────────────────────────────► classes (N, H, W) uint8
    └─ / temperature ─ softmax or sigmoid ──► probabilities (N, K, H, W) float32, on request

The model is traced once, by `torch.export`, for any N, H and W; ONNX comes from that, OpenVINO from ONNX. What tracing
concludes from its example, such as that no map is one pixel wide, are guesses about memory and not about numbers: they
are taken out, and the tests hold the result against PyTorch at sizes from 1x1 on.

Every file is compared with PyTorch before it gets its name. What stood there before stays until then.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import __version__
from ..data.levels import stretched
from ..errors import UsageError
from ..files import remove_file, require_writable, write_atomically
from ..models.contract import SemanticModel
from ..records import Classes, Image
from .engines import CLASSES, KEY, NOTHING, PICTURES, PROBABILITIES, Metadata, installed, load_exported
from .exported import ExportedPredictor, as_input
from .parity import Parity, compared
from .predictor import Predictor, fingerprint

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIX: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
NEEDS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
EXAMPLE = (2, 70, 83)  # N, H, W of the pictures that are traced: odd, and no two alike


class Pipeline(nn.Module):
    """A segmenter from bytes to classes: what is exported. The drawing is at the top of this file."""

    scale: Tensor  # (1, C, 1, 1): standardised = picture * scale + shift
    shift: Tensor  # (1, C, 1, 1)

    def __init__(
        self, model: SemanticModel, bits: int, probabilities: bool, temperature: float = 1.0, half: bool = False
    ) -> None:
        super().__init__()
        self.model, self.half_precision = model, half
        self.overlapping, self.wants_probabilities, self.temperature = model.overlapping, probabilities, temperature
        self.register_buffer("scale", 1 / (model.deviation.float() * (2**bits - 1)))
        self.register_buffer("shift", -model.mean.float() / model.deviation.float())
        self.enlarged = _is_enlarged(model)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        height, width = pictures.shape[1:3]
        stride = self.model.stride
        if stride > 1:
            rows = torch.arange((height + stride - 1) // stride * stride, device=pictures.device).clamp(max=height - 1)
            columns = torch.arange((width + stride - 1) // stride * stride, device=pictures.device).clamp(max=width - 1)
            pictures = pictures.index_select(1, rows).index_select(2, columns)  # N H' W' C
        x = pictures.permute(0, 3, 1, 2).float()  # N C H' W'
        x = x * self.scale + self.shift
        x = x.half() if self.half_precision else x
        logits = self.model.heads(x, auxiliary=False)[0].float()  # N K h w
        if self.enlarged:
            logits = F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)  # N K H' W'
        logits = logits[:, :, :height, :width]
        classes = logits.argmax(dim=1).to(torch.uint8)  # N H W
        if self.overlapping:  # a probability above 1/2 is a logit above 0
            classes = torch.where(logits.amax(dim=1) > 0, classes, torch.full_like(classes, NOTHING))
        if not self.wants_probabilities:
            return (classes,)
        logits = logits / self.temperature
        return classes, logits.sigmoid() if self.overlapping else logits.softmax(dim=1)


@dataclass(frozen=True)
class Export:
    """What was exported, and how it compares with PyTorch."""

    path: Path
    metadata: Metadata
    parity: Parity
    size: int  # bytes, of all its files


def export_model(
    model: SemanticModel,
    classes: Classes,
    path: str | Path,
    *,
    name: str,
    pictures: Sequence[Image],
    format: Format = "onnx",
    precision: Precision = "fp32",
    probabilities: bool = False,
    bits: int = 8,
    temperature: float = 1.0,
    calibration: Sequence[Image] = (),
    judge: Callable[[ExportedPredictor], None] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a segmenter as a file that runs without us, once it was found to answer as PyTorch does.

    path: the file, which ends in .onnx, .xml (a .bin comes beside it) or .pt2. name: of the model, for the metadata.
    pictures: (H, W, C), on which the file is compared with PyTorch. bits: of the numbers it takes, 8 or 16 (which also
    serves pictures of 8). probabilities: also a second output; there is always one where classes overlap.
    temperature: that they are made with. calibration: pictures that show int8 which numbers are to be expected.
    judge: asked before the file gets its name; raises what speaks against that.

    Raises UsageError for what can't be combined or stands there already, NumericError where the answers differ,
    DiskError.
    """
    path = Path(path)
    _require(path, format, precision, classes, overwrite)
    require_writable(path.parent)
    metadata = Metadata(
        model=name,
        classes=classes,
        channels=int(model.get_buffer("mean").numel()),
        bits=bits,
        precision=precision,
        probabilities=probabilities or classes.overlapping,
        temperature=temperature,
        stride=model.stride,
        levels=model.config.levels,
        weights=fingerprint(model),
        versions=_versions(format, precision),
    )
    reference = Predictor(copy.deepcopy(model), classes, device="cpu", temperature=temperature)
    with tempfile.TemporaryDirectory(prefix="intarsia-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / f"made{SUFFIX[format]}"
        shown = [stretched(each) for each in calibration] if metadata.levels == "picture" else calibration
        inputs = [as_input(each, metadata) for each in shown]
        _write(reference.model, metadata, made, format, inputs)
        engine = load_exported(made, "auto" if format != "openvino" else "openvino", trusted=True)
        predictor = ExportedPredictor(engine)
        parity = compared(reference, predictor, pictures)
        if precision != "int8":
            parity.require(precision)
        if judge is not None:
            judge(predictor)
        size = _place(made, path)
    return Export(path, metadata, parity, size)


def _require(path: Path, format: str, precision: str, classes: Classes, overwrite: bool) -> None:
    """Raises UsageError for what can't be."""
    if format not in SUFFIX or precision not in ("fp32", "fp16", "int8"):
        raise UsageError(
            f"the format {format} in {precision} is unknown; choose {', '.join(SUFFIX)} in fp32, fp16, int8."
        )
    if format == "torch" and precision == "int8":
        raise UsageError("PyTorch's format is exported in fp32 and fp16; choose onnx or openvino for int8.")
    if path.suffix.lower() != SUFFIX[format]:
        raise UsageError(f"{path} does not end in {SUFFIX[format]}, as a file of the format {format} does; rename it.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} stands there already; choose another name with --out, or --overwrite it.")
    if len(classes) > NOTHING:
        raise UsageError(
            f"a class map of 8 bits holds {NOTHING} classes, but there are {len(classes)}; predict by the run."
        )
    needed = [*NEEDS[format], *(["nncf"] if precision == "int8" else [])]
    missing = [each for each in needed if not installed(each)]
    if missing:
        raise UsageError(
            f"{format} in {precision} needs {', '.join(missing)}: install with `pip install intarsia[export]`."
        )


def traced(pipeline: Pipeline, channels: int, bits: int) -> torch.export.ExportedProgram:
    """The pipeline's graph for pictures (N, H, W, C) of any N, H, W from 1."""
    from torch.utils._sympy.numbers import int_oo
    from torch.utils._sympy.value_ranges import ValueRanges

    example = torch.zeros(*EXAMPLE, channels, dtype=torch.uint8 if bits == 8 else torch.uint16)
    free = torch.export.Dim.DYNAMIC
    with _quiet():
        program = torch.export.export(
            pipeline.eval(), (example,), dynamic_shapes=({0: free, 1: free, 2: free},),
            prefer_deferred_runtime_asserts_over_guards=True,
        )  # fmt: skip
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    for symbol in list(program.range_constraints):
        program.range_constraints[symbol] = ValueRanges(1, int_oo)
    return program


def _write(
    model: SemanticModel, metadata: Metadata, path: Path, format: str, calibration: Sequence[np.ndarray]
) -> None:
    """The file of one format, with its metadata. calibration: pictures as the graph takes them."""
    half = metadata.precision == "fp16" and format != "openvino"  # which keeps weights in half, and computes as it can
    own = copy.deepcopy(model).requires_grad_(False)
    pipeline = Pipeline(own, metadata.bits, metadata.probabilities, metadata.temperature, half)
    if half:
        own.half()
    pipeline.to(memory_format=torch.contiguous_format)
    program = traced(pipeline, metadata.channels, metadata.bits)
    if format == "torch":
        with _quiet():
            torch.export.save(program, path, extra_files={f"{KEY}.json": metadata.to_json()})
        return
    proto = to_onnx(program, metadata)
    if format == "onnx":
        if metadata.precision == "int8":
            from .quantise import quantised_onnx

            with _quiet():
                proto = quantised_onnx(proto, calibration)
            _describe(proto, metadata)
        path.write_bytes(proto.SerializeToString())
        return
    import openvino as ov

    from .engines.open_vino import the_core

    middle = path.with_suffix(".onnx")
    middle.write_bytes(proto.SerializeToString())
    network = the_core().read_model(middle)
    if metadata.precision == "int8":
        from .quantise import quantised_openvino

        with _quiet():
            network = quantised_openvino(network, calibration)
    network.set_rt_info(metadata.to_json(), [KEY])
    ov.save_model(network, path, compress_to_fp16=metadata.precision == "fp16")
    del network
    middle.unlink()


def to_onnx(program: torch.export.ExportedProgram, metadata: Metadata) -> Any:
    """An onnx.ModelProto of what `traced` gave, its input and outputs named, with its metadata."""
    outputs = [CLASSES, PROBABILITIES] if metadata.probabilities else [CLASSES]
    with _quiet():
        made = torch.onnx.export(program, dynamo=True, input_names=[PICTURES], output_names=outputs, verbose=False)
    assert made is not None
    proto = made.model_proto
    for node in proto.graph.node:  # where in whose source each came from is nobody's business
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del proto.graph.metadata_props[:]
    _describe(proto, metadata)
    return proto


def _describe(proto: Any, metadata: Metadata) -> None:
    del proto.metadata_props[:]
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    proto.producer_name, proto.producer_version = "intarsia", __version__


def _place(made: Path, path: Path) -> int:
    """Gives a finished file its name; the number of bytes. Of two files the one that is opened comes last."""
    size = made.stat().st_size
    beside = made.with_suffix(".bin")
    if made.suffix == ".xml":
        size += beside.stat().st_size
        weights = beside.read_bytes()
        remove_file(path)  # never a new .bin beside an old .xml
        write_atomically(path.with_suffix(".bin"), weights)
    write_atomically(path, made.read_bytes())
    return size


def _is_enlarged(model: SemanticModel) -> bool:
    """Whether the network's answer is smaller than the padded picture."""
    side = 4 * model.stride
    channels = int(model.get_buffer("mean").numel())
    weight = next(model.parameters(), None)
    probe = torch.zeros(1, channels, side, side, dtype=torch.float32 if weight is None else weight.dtype)
    with torch.inference_mode():
        return model.heads(probe, auxiliary=False)[0].shape[2:] != probe.shape[2:]


def _versions(format: str, precision: str) -> dict[str, str]:
    from importlib.metadata import version

    used = [*NEEDS[format], *(["nncf"] if precision == "int8" else [])]
    return {"intarsia": __version__, "torch": torch.__version__, **{each: version(each) for each in used}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn and print of their own inner life; what goes wrong is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


__all__ = ["Export", "Format", "Pipeline", "Precision", "export_model", "to_onnx", "traced"]
