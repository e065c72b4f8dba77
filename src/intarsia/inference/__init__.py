"""Answers: for a picture (`Predictor`), for files (`predict_files`), in pieces for what is huge (`predict_rows`); and
what a generative model can be asked (`Studio`)."""

from .folder import PredictionSummary, predict_files
from .predictor import Failure, Predictor, mean_of
from .studio import Studio
from .tiling import Tiling, predict_rows, predict_tiled

__all__ = [
    "Failure",
    "PredictionSummary",
    "Predictor",
    "Studio",
    "Tiling",
    "mean_of",
    "predict_files",
    "predict_rows",
    "predict_tiled",
]
