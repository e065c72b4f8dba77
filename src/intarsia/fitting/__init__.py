"""`fit`: from pictures to a run's folder, the same again to go on from where it stopped.

wishes.py       what was asked for, planned and found in the data -> one configuration
training.py     a configuration and its pictures -> a trained run
segmenters.py   what a training of a segmenter is made of: its pictures, its scores, its drawings
instances.py    the same for a model of objects
generators.py   the same for a generative model
"""

from .training import Fitted, fit, start_from
from .wishes import Array, completed, configured, open_for, open_sets_for, overrides_of, suited

__all__ = [
    "Array", "Fitted", "completed", "configured", "fit", "open_for", "open_sets_for", "overrides_of", "start_from",
    "suited",
]  # fmt: skip
