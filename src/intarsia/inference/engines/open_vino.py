"""OpenVINO's own files (.xml and .bin) and ONNX files by OpenVINO: https://docs.openvino.ai."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from ...errors import DataError
from .contract import KEY, PICTURES, Engine, Metadata


@cache
def the_core() -> Any:
    """The process's one `openvino.Core`, which is never freed.

    Each core makes its processor plugin set an alternate stack for signals, and put back the one before when it goes.
    Of two that overlap, the one that goes first leaves the other to put back memory that is freed: the next signal
    with a handler of Python's (Ctrl-C) ends the process. Seen with OpenVINO 2026.4, as is this: its table of number
    types is made when it is first asked for, and two threads that ask first, one with Python's lock and one with the
    table's, wait for each other for ever. So it is asked for here.
    """
    import openvino as ov

    tensor = ov.Tensor(np.zeros(1, np.uint8), shared_memory=True)
    assert tensor.element_type.to_dtype() == tensor.data.dtype
    return ov.Core()


class OpenVinoEngine(Engine):
    """An .xml with its .bin, or an .onnx, on a processor.

    It is compiled for the first pictures' size, which saves memory and time; when a second size comes, for any size.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
            raise DataError(f"{path.with_suffix('.bin')}, which belongs to {path.name}, is missing; keep both.")
        if path.suffix == ".xml" and b"<net" not in _start_of(path):  # OpenVINO would try the readers of other formats
            raise DataError(f"{path} is damaged or no file of OpenVINO; export the run again.")
        self.model: Any = _opened(path)  # None once it is compiled, whose memory is then that of the result
        super().__init__(path, Metadata.from_json(_metadata(self.model), path))
        self.threads, self.lanes = threads, 1
        self.compiling = Lock()
        self.size: tuple[int, ...] | None = None  # (N, H, W, C) that is compiled for; None: any
        self.requests: SimpleQueue[Any] | None = None  # those that are free; None: nothing is compiled

    @property
    def version(self) -> str:
        import openvino as ov

        return str(ov.__version__)

    def share(self, lanes: int) -> int:
        if self.model is not None:
            self.lanes = max(1, min(lanes, self.threads or _processors()))
        return self.lanes

    def run(self, pictures: np.ndarray, wanted: tuple[str, ...]) -> list[np.ndarray]:
        requests = self._requests(pictures.shape)
        request = requests.get()
        try:
            request.infer({PICTURES: pictures}, share_inputs=True)
            return [request.get_tensor(name).data.copy() for name in wanted]  # the next run writes over them
        except Exception as error:
            raise self._failed("computed", pictures.shape, error) from error
        finally:
            requests.put(request)

    def _requests(self, size: tuple[int, ...]) -> SimpleQueue[Any]:
        """The requests that take pictures of this size."""
        with self.compiling:
            if self.model is not None:
                model, self.model = self.model, None
                with suppress(RuntimeError):  # a graph that takes no single size is compiled for all
                    model.reshape({PICTURES: list(size)})
                    self.size = size
                self.requests = self._compiled(model, size)
            elif self.requests is None or self.size not in (None, size):
                self.size = self.requests = None  # their memory goes first
                self.requests = self._compiled(_opened(self.path), size)
            return self.requests

    def _compiled(self, model: Any, size: tuple[int, ...]) -> SimpleQueue[Any]:
        settings: dict[str, Any] = {"NUM_STREAMS": self.lanes} if self.lanes > 1 else {"PERFORMANCE_HINT": "LATENCY"}
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        if self.metadata.precision != "fp16":  # OpenVINO would take bf16 wherever a processor has it
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        requests = SimpleQueue[Any]()
        try:
            compiled = the_core().compile_model(model, "CPU", settings)
            for _ in range(self.lanes):
                requests.put(compiled.create_infer_request())
        except Exception as error:
            raise self._failed("compiled", size, error) from error
        return requests

    def _failed(self, what: str, size: tuple[int, ...], error: Exception) -> Exception:
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            return MemoryError(f"pictures {size} do not fit into memory")
        return DataError(f"{self.path} can't be {what} by OpenVINO: {_last(error)}.")


def _opened(path: Path) -> Any:
    try:
        return the_core().read_model(path)
    except Exception as error:  # its errors are RuntimeErrors of many lines
        raise DataError(f"{path} can't be opened by OpenVINO: {_last(error)}. Export the run again.") from error


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
