"""A model as one file that answers without us: the whole pipeline (`pipelines.py`) is in its graph.

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
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from .. import __version__
from ..data.levels import stretched
from ..errors import UsageError
from ..files import remove_file, require_writable, write_atomically
from ..models.contract import SemanticModel
from ..models.instance.map_model import MapModel
from ..records import Classes, Image
from .engines import KEY, NOTHING, PICTURES, Engine, Metadata, installed, load_exported
from .exported import ExportedPredictor, as_input
from .exported_objects import ExportedObjectPredictor
from .objects import ObjectPredictor
from .parity import ObjectParity, Parity, compared, compared_objects
from .pipelines import Logits, Pipeline, pipeline_of
from .predictor import Predictor, fingerprint

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
Exportable = SemanticModel | MapModel
AnyExported = ExportedPredictor | ExportedObjectPredictor
SUFFIX: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
NEEDS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
EXAMPLE = (2, 70, 83)  # N, H, W of the pictures that are traced: odd, and no two alike


@dataclass(frozen=True)
class Export:
    """What was exported, and how it compares with PyTorch."""

    path: Path
    metadata: Metadata
    parity: Parity | ObjectParity
    size: int  # bytes, of all its files


def export_model(
    model: Exportable,
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
    judge: Callable[[AnyExported], None] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a segmenter, or a model of objects of maps, as a file that runs without us, once it was found to answer as
    PyTorch does.

    path: the file, which ends in .onnx, .xml (a .bin comes beside it) or .pt2. name: of the model, for the metadata.
    pictures: (H, W, C), on which the file is compared with PyTorch. bits: of the numbers it takes, 8 or 16 (which also
    serves pictures of 8). probabilities: also a second output; there is always one where classes overlap, and never one
    of objects. temperature: that they are made with. calibration: pictures that show int8 which numbers to expect.
    judge: asked before the file gets its name; raises what speaks against that.

    Raises UsageError for what can't be combined or stands there already, NumericError where the answers differ,
    DiskError.
    """
    path = Path(path)
    _require(path, format, precision, classes, overwrite)
    if isinstance(model, MapModel) and probabilities:
        raise UsageError("a file of objects has its maps in place of probabilities; leave --probabilities out.")
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
        grouping=model.grouping if isinstance(model, MapModel) else "",
        thresholds=dict(model.thresholds) if isinstance(model, MapModel) else {},
    )
    own = copy.deepcopy(model)
    with tempfile.TemporaryDirectory(prefix="intarsia-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / f"made{SUFFIX[format]}"
        shown = [stretched(each) for each in calibration] if metadata.levels == "picture" else calibration
        inputs = [as_input(each, metadata) for each in shown]
        _write(own, metadata, made, format, inputs)
        engine = load_exported(made, "auto" if format != "openvino" else "openvino", trusted=True)
        predictor, parity = _asked(own, classes, temperature, engine, pictures)
        if precision != "int8":
            parity.require(precision)
        if judge is not None:
            judge(predictor)
        size = _place(made, path)
    return Export(path, metadata, parity, size)


def _asked(
    model: Exportable, classes: Classes, temperature: float, engine: Engine, pictures: Sequence[Image]
) -> tuple[AnyExported, Parity | ObjectParity]:
    """Who answers by a file that was made of a model, and how it compares with PyTorch."""
    if isinstance(model, MapModel):
        found = ExportedObjectPredictor(engine)
        return found, compared_objects(ObjectPredictor(model, classes, device="cpu"), found, pictures)
    predictor = ExportedPredictor(engine)
    reference = Predictor(model, classes, device="cpu", temperature=temperature)
    return predictor, compared(reference, predictor, pictures)


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


def traced(pipeline: Logits, channels: int, bits: int) -> torch.export.ExportedProgram:
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


def _write(model: Exportable, metadata: Metadata, path: Path, format: str, calibration: Sequence[np.ndarray]) -> None:
    """The file of one format, with its metadata. calibration: pictures as the graph takes them."""
    half = metadata.precision == "fp16" and format != "openvino"  # which keeps weights in half, and computes as it can
    own = copy.deepcopy(model).requires_grad_(False)
    pipeline = pipeline_of(own, metadata.bits, metadata.probabilities, metadata.temperature, half)
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
    names = list(metadata.outputs)
    with _quiet():
        made = torch.onnx.export(program, dynamo=True, input_names=[PICTURES], output_names=names, verbose=False)
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
    """Gives a finished file its name; the number of bytes. Of two files the one that is opened comes last, never a new
    .bin beside an old .xml; and both are on the disk before the old ones go."""
    first = made.read_bytes()
    if made.suffix != ".xml":
        write_atomically(path, first)
        return len(first)
    weights = made.with_suffix(".bin").read_bytes()

    def fill(file: BinaryIO) -> None:
        file.write(weights)
        file.flush()
        remove_file(path)

    def fill_both(file: BinaryIO) -> None:
        file.write(first)
        file.flush()
        write_atomically(path.with_suffix(".bin"), fill)

    write_atomically(path, fill_both)
    return len(first) + len(weights)


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


__all__ = [
    "AnyExported", "Export", "Exportable", "Format", "Pipeline", "Precision", "export_model", "to_onnx", "traced",
]  # fmt: skip
