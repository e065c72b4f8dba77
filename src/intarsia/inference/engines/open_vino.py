"""OpenVINO's own files (.xml and .bin) and ONNX files by OpenVINO: https://docs.openvino.ai."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .contract import KEY, PICTURES, Engine, Metadata


@cache
def the_core() -> Any:
    """The process's one `openvino.Core`, which is never freed.

    Each core makes its processor plugin set an alternate stack for signals, and put back the one before when it goes.
    Of two that overlap, the one that goes first leaves the other to put back memory that is freed: the next signal
    with a handler of Python's (Ctrl-C) ends the process. Seen with OpenVINO 2026.4.
    """
    import openvino as ov

    return ov.Core()


class OpenVinoEngine(Engine):
    """An .xml with its .bin, or an .onnx, on a processor."""

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
            raise DataError(f"{path.with_suffix('.bin')}, which belongs to {path.name}, is missing; keep both.")
        if path.suffix == ".xml" and b"<net" not in _start_of(path):  # OpenVINO would try the readers of other formats
            raise DataError(f"{path} is damaged or no file of OpenVINO; export the run again.")
        core = the_core()
        try:
            model = core.read_model(path)
            found = _metadata(model)
        except Exception as error:  # its errors are RuntimeErrors of many lines
            raise DataError(f"{path} can't be opened by OpenVINO: {_last(error)}. Export the run again.") from error
        super().__init__(path, Metadata.from_json(found, path))
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if self.metadata.precision != "fp16":  # OpenVINO would take bf16 wherever a processor has it
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            self.compiled = core.compile_model(model, "CPU", settings)
        except Exception as error:
            raise DataError(f"{path} can't be compiled by OpenVINO: {_last(error)}.") from error
        self.request = self.compiled.create_infer_request()

    @property
    def version(self) -> str:
        import openvino as ov

        return str(ov.__version__)

    def run(self, pictures: np.ndarray, wanted: tuple[str, ...]) -> list[np.ndarray]:
        try:
            self.request.infer({PICTURES: pictures}, share_inputs=True)
        except Exception as error:
            if "alloc" in str(error).lower() or "memory" in str(error).lower():
                raise MemoryError(f"pictures {pictures.shape} do not fit into memory") from error
            raise DataError(f"{self.path} can't be computed by OpenVINO: {_last(error)}") from error
        return [self.request.get_tensor(name).data.copy() for name in wanted]  # the next run writes over them


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def _metadata(model: Any) -> str | None:
    for place in ([KEY], ["framework", KEY]):  # of an .onnx the second
        if model.has_rt_info(place):
            found = model.get_rt_info(place)
            return str(getattr(found, "value", found))
    return None


def _last(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
