"""What to evaluate: folds, seeds, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mirembed.errors import SpecError
from mirembed.folds import choose_scheme
from mirembed.hookspecs import Split, Task

DEFAULT_FOLDS = 10


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, besides the experiment's settings.

    Attributes
    ----------
    scheme : str
        ``random``, ``stratified``, ``grouped``, or the name of official splits.
    n_folds : int
        Of the first three.
    seeds : tuple of int
        Each draws its own folds, weights and excerpts.
    keep_models : bool
        Keep the models of all folds in the run.
    splits : sequence of Split or None
        The official splits that ``scheme`` names.
    """

    scheme: str
    n_folds: int = 10
    seeds: tuple[int, ...] = (0,)
    keep_models: bool = False
    splits: Sequence[Split] | None = None

    def describe(self) -> str:
        """Return the folds in a few words, for titles."""
        if self.splits is not None:
            return f"{len(self.splits)} official split{'s' * (len(self.splits) > 1)} ({self.scheme})"
        return f"{self.n_folds} {self.scheme} folds"


def choose_evaluation(
    task: Task,
    folds: str | None,
    cv: int | None,
    official: Mapping[str, Sequence[Split]],
    seeds: Sequence[int] | None,
    keep_models: bool,
) -> Evaluation:
    """Combine ``--folds``, ``--cv`` and ``--seed``.

    Parameters
    ----------
    task : Classification or Regression
    folds : str or None
        None: the task's default scheme.
    cv : int or None
        None: ten folds.
    official : mapping of str to sequence of Split
        The dataset's official splits.
    seeds : sequence of int or None
        None: seed 0.

    Raises
    ------
    SpecError
        If the scheme is unknown, or a number of folds is asked for together with official splits.
    """
    scheme = choose_scheme(folds, task, official)
    splits = official.get(scheme)
    if splits is not None and cv is not None:
        raise SpecError(f"--cv {cv} and --folds {scheme}: official splits have their own number; leave --cv out")
    return Evaluation(
        scheme=scheme,
        n_folds=DEFAULT_FOLDS if cv is None else cv,
        seeds=tuple(dict.fromkeys(seeds or [0])),
        keep_models=keep_models,
        splits=splits,
    )
