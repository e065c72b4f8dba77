"""Answers: for a picture (`Predictor`), for files (`predict_files`), in pieces for what is huge (`predict_rows`)."""

from .folder import PredictionSummary, predict_files
from .predictor import Failure, Predictor
from .tiling import Tiling, predict_rows, predict_tiled

__all__ = ["Failure", "PredictionSummary", "Predictor", "Tiling", "predict_files", "predict_rows", "predict_tiled"]
