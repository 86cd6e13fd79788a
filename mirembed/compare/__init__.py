"""Two approaches side by side: whether one of them is better, and on which tracks they disagree.

The approaches are paired: same tracks, same seeds, same folds. Every number is computed from the predictions of
finished runs.
"""
