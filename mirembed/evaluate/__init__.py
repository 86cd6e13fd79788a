"""Evaluation of all methods on the same folds: every network and learner is fitted inside its fold."""
