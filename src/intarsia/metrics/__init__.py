"""How good an answer is: sums over pictures, and scores that carry their definitions. NumPy only, no torch."""

from .ambiguity import Agreement
from .boundary import BoundaryScore, boundary_counts, inner_boundary
from .calibration import Reliability, fit_temperature, with_temperature
from .confusion import Confusion, LabelConfusion, Tally
from .scores import Score, Scores

__all__ = [
    "Agreement",
    "BoundaryScore",
    "Confusion",
    "LabelConfusion",
    "Reliability",
    "Score",
    "Scores",
    "Tally",
    "boundary_counts",
    "fit_temperature",
    "inner_boundary",
    "with_temperature",
]
