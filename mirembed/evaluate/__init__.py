"""folds x approaches x seeds → a run: every network and learner fitted inside its fold, every prediction kept."""

from mirembed.evaluate.evaluation import Evaluation, evaluate
from mirembed.evaluate.runs import Run
from mirembed.evaluate.scores import Scores, score

__all__ = ["Evaluation", "Run", "Scores", "evaluate", "score"]
