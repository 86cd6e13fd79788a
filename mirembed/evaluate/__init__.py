"""folds x approaches x seeds → a run: every network and learner fitted inside its fold, every prediction kept."""

from mirembed.evaluate.choices import Evaluation, choose_evaluation
from mirembed.evaluate.evaluation import evaluate
from mirembed.evaluate.grid import Member, Result, evaluate_all, prepare

__all__ = [
    "Evaluation",
    "Member",
    "Result",
    "choose_evaluation",
    "evaluate",
    "evaluate_all",
    "prepare",
]
