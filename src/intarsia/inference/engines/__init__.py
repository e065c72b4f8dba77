"""What runs an exported file, each behind the same small interface (`contract.py`). None of it loads PyTorch, but for
PyTorch's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ...errors import DataError, UsageError
from .contract import CLASSES, KEY, MAPS, NOTHING, PICTURES, PROBABILITIES, Engine, Metadata

EngineName = Literal["auto", "onnxruntime", "openvino", "torch"]

#: how a file ends -> what can run it, the first where nothing is asked for
RUNNERS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".pt2": ("torch",)}


def is_exported(path: str | Path) -> bool:
    """Whether a path is named as an exported file is, and no folder."""
    return Path(path).suffix.lower() in RUNNERS and not Path(path).is_dir()


def installed(name: str) -> bool:
    """Whether the library that an engine needs is there; it is not loaded."""
    return find_spec(name) is not None


def load_exported(
    path: str | Path, engine: EngineName = "auto", *, threads: int | None = None, trusted: bool = False
) -> Engine:
    """What runs an exported file: .onnx, .xml with its .bin, or .pt2.

    engine: "auto" for the first that is installed of those that can. threads: None for as many as the engine thinks
    right. trusted: open a .pt2, which can run code that somebody put there. Raises DataError for files that are damaged
    or not ours, UsageError for an engine that can't run it, UnsafeFileError for a .pt2 that is not trusted.
    """
    path = Path(path)
    if path.suffix.lower() not in RUNNERS:
        raise UsageError(f"{path} is no exported file; give one that ends in {', '.join(RUNNERS)}.")
    if not path.is_file():
        raise DataError(f"{path} does not exist; `intarsia export RUN` makes one.")
    able = RUNNERS[path.suffix.lower()]
    if engine != "auto" and engine not in able:
        raise UsageError(f"{engine} can't run {path.name}; choose {' or '.join(able)}.")
    chosen = next((name for name in able if installed(name)), able[0]) if engine == "auto" else engine
    if not installed(chosen):
        raise UsageError(f"{path.name} needs {chosen}, which is not installed; install it with `pip install {chosen}`.")
    if chosen == "torch":
        from .torch_program import TorchEngine

        return TorchEngine(path, threads, trusted)
    if chosen == "openvino":
        from .open_vino import OpenVinoEngine

        return OpenVinoEngine(path, threads)
    from .portable import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads)


__all__ = [
    "CLASSES", "KEY", "MAPS", "NOTHING", "PICTURES", "PROBABILITIES", "RUNNERS", "Engine", "EngineName", "Metadata",
    "installed", "is_exported", "load_exported",
]  # fmt: skip
