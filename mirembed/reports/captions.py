"""Sentences that captions of several tables share."""

from __future__ import annotations

from mirembed.progress import counted
from mirembed.runs.record import RunRecord


def best_marks(marked: bool) -> str:
    """Return the sentence of a caption that explains the mark of the best scores; empty if there is no such mark."""
    if not marked:
        return ""
    return (
        " Bold with a star: significantly better, after Holm's correction, in every comparison that was declared for "
        "the method before training."
    )


def describe_means(run: RunRecord, of: str = "") -> str:
    """Say what the numbers of a table are; a single fold has neither means nor intervals."""
    kind = "split" if run.repeated else "fold"
    finished = "" if run.finished else " that every method has finished"
    seeds = ", each averaged over its seeds" if run.official and len(run.configuration["seeds"]) > 1 else ""
    if run.n_folds == 1:
        return f"Scores{of} on a single {kind}{finished}{seeds.replace('each ', '')}; intervals need several {kind}s"
    return f"Means{of} over {counted(run.n_folds, kind)}{finished}{seeds}, with 95 % intervals (Nadeau and Bengio)"


def first_learner(run: RunRecord) -> str:
    """Return the sentence of a caption that says which learner is shown; empty if the run has only one."""
    if len(run.learners) < 2:
        return ""
    first = {str(method.learner) for method in run.first_methods if method.learner is not None}
    which = f", {run.learners[0]}" if first == {run.learners[0]} else ""
    return f" Each method is shown with its first learner{which}; “All metrics” also shows the others."
