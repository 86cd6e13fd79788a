"""Short descriptions of runs, and finding a run by its name. Reads no tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mirembed.config.settings import is_folds_file
from mirembed.errors import StoreError
from mirembed.progress import counted
from mirembed.runs.folder import MANIFEST, RunFolder, list_runs
from mirembed.statistics.metrics import headline, metric_named
from mirembed.store.rows import task_from_json


def describe_folds(
    scheme: str,
    *,
    cv: int | None,
    splits: int | None,
    n_official: int | None = None,
    n_seeds: int = 1,
    train_size: float = 1.0,
) -> str:
    """Describe how the tracks are split.

    Parameters
    ----------
    scheme : str
        ``random``, ``stratified``, ``grouped``, or the name of official splits or of a table.
    cv, splits : int or None
        Number of folds of cross-validation, or of repeated random splits; neither: official splits, or a table.
    n_official : int or None
        Number of official splits, or of the folds of the table, if known.
    n_seeds : int
    train_size : float
        Share of the training tracks that is trained on.

    >>> describe_folds("stratified", cv=10, splits=None)
    '10 stratified folds'
    >>> describe_folds("artist", cv=None, splits=None, n_official=1, n_seeds=3)
    '1 official artist split, 3 seeds'
    >>> describe_folds("mine.csv", cv=None, splits=None, n_official=5, train_size=0.5)
    '5 folds of mine.csv, train size 0.5'
    """
    if cv is not None:
        folds = counted(cv, f"{scheme} fold")
    elif splits is not None:
        folds = counted(splits, f"{scheme} split")
    elif is_folds_file(scheme):
        folds = f"{'folds' if n_official is None else counted(n_official, 'fold')} of {scheme}"
    else:
        folds = f"official {scheme} splits" if n_official is None else counted(n_official, f"official {scheme} split")
    if train_size < 1:
        folds += f", train size {train_size:g}"
    return f"{folds}, {n_seeds} seeds" if n_seeds > 1 else folds


@dataclass(frozen=True)
class Sizes:
    """Numbers of tracks.

    Attributes
    ----------
    n_tracks : int
        All that could take part.
    n_used : int
        Those that any fold trains on or tests; official splits may leave tracks out.
    n_train, n_test : float
        Per fold, means over the folds.
    """

    n_tracks: int
    n_used: int
    n_train: float
    n_test: float

    def describe(self, folds: str) -> str:
        """Return the sizes in a few words; ``folds`` is what `describe_folds` returns.

        >>> Sizes(100, 93, 89, 4).describe("1 official artist split")
        '93 of 100 tracks, 1 official artist split (89 train, 4 test)'
        """
        tracks = counted(self.n_tracks, "track")
        if self.n_used < self.n_tracks:
            tracks = f"{self.n_used} of {tracks}"
        whole = float(self.n_train).is_integer() and float(self.n_test).is_integer()
        about = "" if whole else "about "
        return f"{tracks}, {folds} ({about}{self.n_train:.0f} train, {self.n_test:.0f} test)"


def describe_chance(metric: str, value: float | None) -> str:
    """Return the line that says what guessing would score.

    Parameters
    ----------
    metric : str
        Of the score.
    value : float or None
        None if guesses, which are constant, have no score.

    >>> describe_chance("rmse", 1.5)
    'Chance: RMSE 1.500'
    >>> describe_chance("r", None)
    'Chance: no r, as it is undefined for constant predictions'
    """
    label = metric_named(metric).label
    if value is None:
        return f"Chance: no {label}, as it is undefined for constant predictions"
    return f"Majority-class accuracy: {value:.3f}" if metric == "accuracy" else f"Chance: {label} {value:.3f}"


@dataclass(frozen=True)
class RunSummary:
    """One run of a store, or an experiment of several.

    Attributes
    ----------
    run : str
        Its name; of a run of an experiment, with the experiment's: ``experiment/run``.
    state : {"finished", "running", "interrupted", "damaged"}
    dataset : str
        Empty for an experiment.
    approaches : tuple of str
    folds : str
        In a few words: ``10 stratified folds``.
    epochs : int or None
    seeds : tuple of int
    metric : str
        Of the `scores`: ``accuracy``, for example.
    scores : mapping of str to (float or None)
        The mean over the folds of each method, None if it is undefined in all; empty before the run is scored.
    started : str
        UTC, ISO 8601.
    bytes : int
    members : tuple of RunSummary
        The runs of an experiment that have started.
    """

    run: str
    state: str
    dataset: str = ""
    approaches: tuple[str, ...] = ()
    folds: str = ""
    epochs: int | None = None
    seeds: tuple[int, ...] = ()
    metric: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    started: str = ""
    bytes: int = 0
    members: tuple[RunSummary, ...] = ()

    def describe(self) -> str:
        """Return what distinguishes the run from others: folds, epochs, seeds if several, and scores or state."""
        if self.members:
            return f"{self.state} experiment of {counted(len(self.members), 'evaluation')}"
        if self.epochs is None:
            return self.state
        seeds = [counted(len(self.seeds), "seed")] * (len(self.seeds) > 1)
        found = [self.folds, counted(self.epochs, "epoch"), *seeds]
        return ", ".join([*found, f"{self.metric} {self.describe_scores()}" if self.scores else self.state])

    def describe_scores(self) -> str:
        """Return the approaches, with their scores if there are any: ``nn 0.417, rbf-sl 0.583``."""
        scores = [f"{name} {'undefined' if mean is None else f'{mean:.3f}'}" for name, mean in self.scores.items()]
        return ", ".join(scores or self.approaches)


def summarize(run: RunFolder, name: str | None = None) -> RunSummary:
    """Summarize a run or experiment; one that cannot be read is damaged."""
    name = name or run.folder.name
    try:
        manifest, state = run.manifest, run.state
        configuration = manifest["configuration"]
        started = manifest["started"]
        members = [member for member in run.members if (member.folder / MANIFEST).exists()]
        n_bytes = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
        if run.members:
            summaries = tuple(summarize(member, f"{name}/{member.folder.name}") for member in members)
            return RunSummary(name, state, started=started, bytes=n_bytes, members=summaries)
        metric = headline(task_from_json(configuration["task"]), configuration["metric"]).name
        return RunSummary(
            name,
            state,
            dataset=configuration["dataset"]["spec"],
            approaches=tuple(configuration["approaches"]),
            folds=describe_folds(
                configuration["folds"],
                cv=configuration["cv"],
                splits=configuration["splits"],
                train_size=configuration["train_size"],
            ),
            epochs=configuration["epochs"],
            seeds=tuple(configuration["seeds"]),
            metric=metric,
            scores={method: values[metric]["mean"] for method, values in run.read_scores().items()},
            started=started,
            bytes=n_bytes,
        )
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return RunSummary(name, "damaged")


def find_run(runs: Path, name: str) -> RunFolder:
    """Find a run by its folder, its name in ``runs``, or an unambiguous prefix of that name.

    Raises
    ------
    StoreError
        There is none, or more than one.
    """
    for folder in (Path(name), runs / name):
        if (folder / MANIFEST).is_file():
            return RunFolder(folder)
    known = list_runs(runs)
    begun = [run for run in known if run.folder.name.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        shown = [f"  {run.folder.name}: {summarize(run).describe()}" for run in begun[-8:]]
        more = [f"  and {len(begun) - 8} more"] if len(begun) > 8 else []
        raise StoreError("\n".join([f"{len(begun)} runs start with {name!r}; give more of the name:", *shown, *more]))
    names = ", ".join(run.folder.name for run in known[-5:]) or "none yet"
    more_names = f" and {len(known) - 5} more" if len(known) > 5 else ""
    raise StoreError(
        f"no run {name!r}; give the folder of a run, or the start of a name in {runs} ({names}{more_names}); "
        "create a run with `mirembed evaluate`"
    )
