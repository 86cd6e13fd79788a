"""What to evaluate: folds or splits, seeds, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mirembed.datasets.splits import choose_scheme
from mirembed.errors import SpecError
from mirembed.hookspecs import Split, Task
from mirembed.runs.summary import describe_folds

DEFAULT_FOLDS = 10
DEFAULT_TEST_SIZE = 0.1


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, besides the experiment's settings.

    Attributes
    ----------
    scheme : str
        ``random``, ``stratified``, ``grouped``, or the name of official splits.
    n_folds : int
        Of cross-validation.
    seeds : tuple of int
        Each draws its own folds, weights and excerpts.
    keep_models : bool
        Keep the models of all folds in the run.
    keep_embeddings : bool
        Keep the embeddings of all folds and checkpoints, and not of the first fold's last epoch alone.
    checkpoint_every : int
        Score every so many epochs too, for the curves; 0: after the last epoch only.
    official : sequence of Split or None
        The official splits that ``scheme`` names.
    n_splits : int or None
        Number of repeated random splits, which take the place of cross-validation.
    test_size : float
        Share of the tracks (of the groups, where they are grouped) in the test part of a random split.
    """

    scheme: str
    n_folds: int = DEFAULT_FOLDS
    seeds: tuple[int, ...] = (0,)
    keep_models: bool = False
    keep_embeddings: bool = False
    checkpoint_every: int = 0
    official: Sequence[Split] | None = None
    n_splits: int | None = None
    test_size: float = DEFAULT_TEST_SIZE

    @property
    def cross_validates(self) -> bool:
        """Whether each track is tested once for each seed."""
        return self.official is None and self.n_splits is None

    @property
    def n_parts(self) -> int:
        """Number of folds or splits of each seed."""
        if self.official is not None:
            return len(self.official)
        return self.n_folds if self.n_splits is None else self.n_splits

    def describe(self) -> str:
        """Return the folds in a few words, for titles."""
        return describe_folds(
            self.scheme,
            cv=self.n_folds if self.cross_validates else None,
            splits=self.n_splits,
            n_official=None if self.official is None else len(self.official),
            n_seeds=len(self.seeds),
        )


def choose_evaluation(
    task: Task,
    official: Mapping[str, Sequence[Split]],
    *,
    folds: str | None = None,
    cv: int | None = None,
    splits: int | None = None,
    test_size: float | None = None,
    seeds: Sequence[int] = (0,),
    keep_models: bool = False,
    keep_embeddings: bool = False,
    checkpoint_every: int = 0,
) -> Evaluation:
    """Combine ``--folds``, ``--cv``, ``--splits``, ``--test-size`` and ``--seed``.

    Parameters
    ----------
    task : Classification or Regression
    official : mapping of str to sequence of Split
        The dataset's official splits.
    folds : str or None
        None: the task's default scheme; for repeated splits ``random``.
    cv : int or None
        None: ten folds.
    splits : int or None
        Number of repeated random splits.
    test_size : float or None
        None: 0.1.

    Raises
    ------
    SpecError
        If the scheme is unknown, or two ways of splitting are asked for.
    """
    if splits is not None and cv is not None:
        raise SpecError(f"--cv {cv} and --splits {splits}: choose cross-validation or repeated random splits")
    if test_size is not None and splits is None:
        raise SpecError(f"--test-size {test_size:g} belongs to repeated random splits; give their number with --splits")
    scheme = choose_scheme("random" if folds is None and splits is not None else folds, task, official)
    for flag, number in (("cv", cv), ("splits", splits)):
        if scheme in official and number is not None:
            raise SpecError(
                f"--{flag} {number} and --folds {scheme}: official splits have their own number; leave --{flag} out"
            )
    return Evaluation(
        scheme=scheme,
        n_folds=DEFAULT_FOLDS if cv is None else cv,
        seeds=tuple(dict.fromkeys(seeds)),
        keep_models=keep_models,
        keep_embeddings=keep_embeddings,
        checkpoint_every=checkpoint_every,
        official=official.get(scheme),
        n_splits=splits,
        test_size=DEFAULT_TEST_SIZE if test_size is None else test_size,
    )
