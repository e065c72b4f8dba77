"""From what the pictures are like and what machine there is: a whole configuration, each choice with its reason.

making.py       rules and budget -> Plan
segmenters.py   the rules for segmenters
generators.py   the rules for generative models
advice.py       what `intarsia compare` found on these pictures, which is heard before the rules
imbalance.py    measures against rare classes, by name
"""

from .making import Plan, make_plan, time_step
from .segmenters import crop_for, finds_up

__all__ = ["Plan", "crop_for", "finds_up", "make_plan", "time_step"]
