"""folds x approaches x seeds → a run: every network and learner fitted inside its fold, every prediction kept."""

from mirembed.evaluate.choices import Evaluation, choose_evaluation
from mirembed.evaluate.evaluation import evaluate
from mirembed.evaluate.runs import Run
from mirembed.evaluate.scores import Scores, score

__all__ = ["Evaluation", "Run", "Scores", "choose_evaluation", "evaluate", "score"]
