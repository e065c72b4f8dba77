"""Answers: for a picture (`Predictor`), for files (`predict_files`), in pieces for what is huge (`predict_rows`); the
same of objects (`ObjectPredictor`, `predict_objects`); by an exported file (`load_exported`); and what a generative
model can be asked (`Studio`).

The names are imported when they are first used, so that an exported file answers without PyTorch being loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "ExportedObjectPredictor": "exported_objects",
    "ExportedPredictor": "exported",
    "Failure": "working",
    "ObjectPredictor": "objects",
    "ObjectSummary": "object_folder",
    "PredictionSummary": "folder",
    "Predictor": "predictor",
    "Studio": "studio",
    "Tiling": "tiles",
    "load_exported": "engines",
    "mean_of": "working",
    "predict_files": "folder",
    "predict_objects": "object_folder",
    "predict_rows": "tiling",
    "predict_tiled": "tiling",
}
__all__ = list(_HOMES)

if TYPE_CHECKING:
    from .engines import load_exported as load_exported
    from .exported import ExportedPredictor as ExportedPredictor
    from .exported_objects import ExportedObjectPredictor as ExportedObjectPredictor
    from .folder import PredictionSummary as PredictionSummary
    from .folder import predict_files as predict_files
    from .object_folder import ObjectSummary as ObjectSummary
    from .object_folder import predict_objects as predict_objects
    from .objects import ObjectPredictor as ObjectPredictor
    from .predictor import Predictor as Predictor
    from .studio import Studio as Studio
    from .tiles import Tiling as Tiling
    from .tiling import predict_rows as predict_rows
    from .tiling import predict_tiled as predict_tiled
    from .working import Failure as Failure
    from .working import mean_of as mean_of


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
