"""Segmenters that learn from more than labelled pixels: unlabelled pictures, reconstructions, critics, made pairs."""

from .combination import Combination, CombinationConfig
from .fixmatch import FixMatch, FixMatchConfig
from .mean_teacher import MeanTeacher, MeanTeacherConfig
from .unimatch import UniMatch, UniMatchConfig

__all__ = [
    "Combination",
    "CombinationConfig",
    "FixMatch",
    "FixMatchConfig",
    "MeanTeacher",
    "MeanTeacherConfig",
    "UniMatch",
    "UniMatchConfig",
]
