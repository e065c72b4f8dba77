"""Intarsia: image segmentation and image generation in one tool.

    import intarsia
    fitted = intarsia.fit("cells", minutes=10)
    intarsia.load(fitted.run.folder).predict("cell.png").overlay()

    intarsia.fit("digits.npz", model="vae", run="runs/digits", minutes=5)
    intarsia.studio("runs/digits").generate(64, seed=7)

The names below are imported when they are first used: `import intarsia` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "fit": "fitting",
    "load": "api",
    "evaluate": "api",
    "studio": "api",
    "check_folder": "data.check",
    "open_folder": "data.folder",
    "objects_from_masks": "data.object_masks",
    "Config": "config",
    "read_config": "config",
    "Predictor": "inference.predictor",
    "Studio": "inference.studio",
    "predict_files": "inference.folder",
    "ObjectPredictor": "inference.objects",
    "predict_objects": "inference.object_folder",
    "Prediction": "records",
    "ObjectPrediction": "records",
    "Sample": "records",
    "Classes": "records",
    "IntarsiaError": "errors",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from .api import evaluate as evaluate
    from .api import load as load
    from .api import studio as studio
    from .config import Config as Config
    from .config import read_config as read_config
    from .data.check import check_folder as check_folder
    from .data.folder import open_folder as open_folder
    from .data.object_masks import objects_from_masks as objects_from_masks
    from .errors import IntarsiaError as IntarsiaError
    from .fitting import fit as fit
    from .inference.folder import predict_files as predict_files
    from .inference.object_folder import predict_objects as predict_objects
    from .inference.objects import ObjectPredictor as ObjectPredictor
    from .inference.predictor import Predictor as Predictor
    from .inference.studio import Studio as Studio
    from .records import Classes as Classes
    from .records import ObjectPrediction as ObjectPrediction
    from .records import Prediction as Prediction
    from .records import Sample as Sample


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intarsia' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
