"""Evaluation of all methods on the same folds: every network and learner is fitted inside its fold."""

from mirembed.evaluate.experiment import Result, evaluate, plan_experiment, run_experiment
from mirembed.evaluate.plan import PlannedRun, plan_run

__all__ = ["PlannedRun", "Result", "evaluate", "plan_experiment", "plan_run", "run_experiment"]
