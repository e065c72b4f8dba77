"""ONNX files by ONNX Runtime: https://onnxruntime.ai."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .contract import KEY, PICTURES, Engine, Metadata

CUDA = "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # trying all, as is its default, takes seconds for each new size
    "use_tf32": "0",  # a file in fp32 answers in fp32, as by every other engine
    "arena_extend_strategy": "kSameAsRequested",  # by default each growth doubles the memory taken
}


class OnnxRuntimeEngine(Engine):
    """An .onnx file on a processor, or on a GPU where onnxruntime-gpu is installed and CUDA is found."""

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime as ort

        ort.set_default_logger_severity(3)  # 3: errors; warnings are of how it lays the graph out
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        # Threads that wait by spinning take a shared machine's cores from whoever works.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        try:
            with redirect_stdout(StringIO()):  # where CUDA's libraries are missing it says so at length, and goes on
                if CUDA in ort.get_available_providers():
                    ort.preload_dlls()  # those that came with PyTorch or NVIDIA's packages
                    providers = [(CUDA, CUDA_OPTIONS), *providers]
                self.session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its errors have no class in common but this
            raise DataError(
                f"{path} can't be opened by ONNX Runtime: {_first(error)}; export the run again."
            ) from error
        found = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        super().__init__(path, Metadata.from_json(found, path))
        self.only = ort.RunOptions()
        self.only.only_execute_path_to_fetches = True  # no softmax where only classes are wanted
        self._version = ort.__version__

    @property
    def version(self) -> str:
        return self._version

    def run(self, pictures: np.ndarray, wanted: tuple[str, ...]) -> list[np.ndarray]:
        try:
            return self.session.run(list(wanted), {PICTURES: pictures}, self.only)
        except Exception as error:
            if "alloc" in str(error).lower() or "out of memory" in str(error).lower():
                raise MemoryError(f"pictures {pictures.shape} do not fit into memory") from error
            raise DataError(f"{self.path} can't be computed by ONNX Runtime: {_first(error)}") from error


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
