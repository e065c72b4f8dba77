"""`compare`: which ways to learn from few masks help on these pictures, by how much, and how surely.

methods.py      what is compared, as settings over one plan
asked.py        what was asked for, and what all trainings have alike
trainings.py    one training with all that comes before it, and what it answers on the judged pictures
queue.py        all of them, one after the other; goes on where it stopped
statistics.py   differences and intervals, array -> array
verdicts.py     results -> gains, intervals, verdicts
sentences.py    the same in words, and as advice for the next plan
charts.py, page.py   the same as one HTML file
"""

from .asked import ask
from .methods import METHODS, Method
from .queue import Compared, compare, forecast

__all__ = ["METHODS", "Compared", "Method", "ask", "compare", "forecast"]
