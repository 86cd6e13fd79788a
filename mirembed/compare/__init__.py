"""Two approaches side by side: whether one of them is better, and on which tracks they disagree.

The approaches are paired: same tracks, same seeds, same folds. Every number is computed from the predictions of
finished runs.
"""

from mirembed.compare.comparison import Report, compare
from mirembed.compare.disagreements import Disagreements, LargerError, Mistake
from mirembed.compare.paired_tests import PairedTest, corrected, n_tested, paired_tests
from mirembed.runs.results import Results

__all__ = [
    "Disagreements",
    "LargerError",
    "Mistake",
    "PairedTest",
    "Report",
    "Results",
    "compare",
    "corrected",
    "n_tested",
    "paired_tests",
]
