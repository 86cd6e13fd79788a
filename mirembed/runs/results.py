"""Finished runs, and whether their approaches can be paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import EvaluationError, StoreError
from mirembed.hookspecs import Task
from mirembed.runs.folder import find_run, flat
from mirembed.store.files import read_table
from mirembed.store.rows import task_from_json

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ["seed", "fold", "id"]


@dataclass(frozen=True, eq=False)
class Results:
    """The predictions of a finished run.

    Attributes
    ----------
    folder : pathlib.Path
    configuration : mapping
        As the manifest has it.
    task : Classification or Regression
    folds : pyarrow.Table
        Columns seed, fold, id: one row for each time that a track is tested, sorted by all three.
    predictions : dict of str to pyarrow.Table
        For each method (an approach, with its learner where there are several) the same rows in the same order, with
        truth and prediction.
    """

    folder: Path
    configuration: Mapping[str, Any]
    task: Task
    folds: pa.Table
    predictions: dict[str, pa.Table]

    @classmethod
    def open(cls, runs: Path, name: str) -> Results:
        """Read a run.

        Parameters
        ----------
        runs : pathlib.Path
            The folder of the store's runs.
        name : str
            A run's folder, or its name in ``runs``, or a beginning of that name that no other run shares.

        Raises
        ------
        EvaluationError
            The run is not finished.
        StoreError
            There is no such run, or it is damaged.
        """
        import pyarrow.compute as pc

        run = find_run(runs, name)
        manifest = run.manifest
        if not manifest["finished"]:
            raise EvaluationError(
                f"the run {run.folder} is not finished; this goes on with it: {manifest.get('command')}"
            )
        order = [(key, "ascending") for key in _KEYS]
        configuration = manifest["configuration"]
        if "grid" in configuration:
            raise EvaluationError(
                f"{run.folder} holds several runs; name one of them: "
                + ", ".join(f"{run.folder.name}/{member}" for member in configuration["grid"])
            )
        try:
            folds = read_table(run.folder / "folds.parquet").select(_KEYS).sort_by(order)
            table = read_table(run.folder / "predictions.parquet").sort_by(order)
            predictions = {
                method: table.filter(pc.equal(table["method"], method))
                for method in [one["name"] for one in configuration["methods"]]
            }
            task = task_from_json(configuration["task"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the run {run.folder} is damaged ({error}); evaluate again") from error
        for approach, rows in predictions.items():
            if not rows.select(_KEYS).equals(folds):
                raise StoreError(
                    f"the run {run.folder} is damaged: {approach} has {len(rows)} predictions, which are not those of "
                    f"the {len(folds)} test tracks in folds.parquet; evaluate again"
                )
        return cls(run.folder, configuration, task, folds, predictions)

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.folds["seed"].unique())

    @cached_property
    def parts(self) -> list[NDArray[np.int64]]:
        """The rows of each fold of each seed."""
        seeds, folds = self.folds["seed"].to_numpy(), self.folds["fold"].to_numpy()
        ends = np.flatnonzero((np.diff(seeds) != 0) | (np.diff(folds) != 0)) + 1
        return np.split(np.arange(len(self.folds)), ends)

    @property
    def official(self) -> bool:
        """Whether the folds are official splits."""
        return self.configuration["cv"] is None and not self.repeated

    @property
    def repeated(self) -> bool:
        """Whether the folds are repeated random splits."""
        return self.configuration.get("splits") is not None

    def describe_folds(self) -> str:
        """Return the scheme of the folds in a few words."""
        scheme = self.configuration["folds"]
        if self.repeated:
            return f"{scheme}, {self.configuration['splits']} splits, test size {self.configuration['test_size']:g}"
        return str(scheme) if self.official else f"{scheme}, {self.configuration['cv']} folds"


def choose_pairs(a: Results, b: Results | None, approaches: Sequence[str]) -> list[tuple[str, str]]:
    """Return which approach to compare with which.

    Parameters
    ----------
    a : Results
    b : Results or None
        None: approaches of ``a`` are compared with one another.
    approaches : sequence of str
        Within one run, two or more of its approaches; none for all. For two runs, one in ``a`` and one in ``b``, or
        one that both have; none for all that both have.

    Raises
    ------
    EvaluationError
        A run does not have an approach, or there is no pair.
    """
    if b is None:
        chosen = list(dict.fromkeys(approaches)) or list(a.predictions)
        for approach in chosen:
            _check_has(a, approach)
        if len(chosen) < 2:
            raise EvaluationError(
                f"only {chosen[0]} is left to compare in the run {a.folder.name}, which has "
                f"{', '.join(a.predictions)}; name two approaches (--approach), or a second run"
            )
        return list(combinations(chosen, 2))
    if len(approaches) > 2:
        raise EvaluationError(
            f"{len(approaches)} approaches ({', '.join(approaches)}) for two runs: name one in each run, or one in both"
        )
    if approaches:
        pair = (approaches[0], approaches[-1])
        for results, approach in zip((a, b), pair, strict=True):
            _check_has(results, approach)
        return [pair]
    shared = [(approach, approach) for approach in a.predictions if approach in b.predictions]
    if not shared:
        raise EvaluationError(
            f"the runs have no approach in common: {a.folder.name} has {', '.join(a.predictions)}; {b.folder.name} has "
            f"{', '.join(b.predictions)}; name one in each: --approach {next(iter(a.predictions))} "
            f"--approach {next(iter(b.predictions))}"
        )
    return shared


def with_all_pairs(results: Results, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of a run's approaches, and after them all its others."""
    given = {frozenset(pair) for pair in pairs}
    return [*pairs, *(pair for pair in combinations(results.predictions, 2) if frozenset(pair) not in given)]


def check_paired(a: Results, b: Results) -> None:
    """Check that two runs tested the same tracks in the same folds.

    Raises
    ------
    EvaluationError
        They did not; the message says in what they differ. Or both are the same run.
    """
    if a.folder.samefile(b.folder):
        raise EvaluationError(
            f"{a.folder.name} is given twice; name it once to compare its approaches with one another, or another run"
        )
    one, other = a.configuration, b.configuration
    reasons = []
    if one["dataset"]["digest"] != other["dataset"]["digest"] or a.task != b.task:
        reasons.append(
            "other tracks, labels, audio or spectrogram settings "
            f"({one['dataset']['spec']} with {one['n_tracks']} tracks, "
            f"{other['dataset']['spec']} with {other['n_tracks']})"
        )
    if sorted(one["seeds"]) != sorted(other["seeds"]):
        reasons.append(f"other seeds ({_listed(one['seeds'])} and {_listed(other['seeds'])})")
    if a.describe_folds() != b.describe_folds():
        reasons.append(f"other folds ({a.describe_folds()} and {b.describe_folds()})")
    if not reasons and not a.folds.equals(b.folds):
        common = {*map(tuple, _rows(a.folds))} & {*map(tuple, _rows(b.folds))}
        reasons.append(f"other folds ({len(a.folds) - len(common)} of {len(a.folds)} test tracks are in another fold)")
    if reasons:
        raise EvaluationError(
            f"the runs {a.folder.name} and {b.folder.name} cannot be paired: {'; '.join(reasons)}.\n"
            "Evaluate both on the same dataset, with the same --seed, --folds, --cv and --exclude"
        )


def differing_settings(a: Results, b: Results) -> dict[str, tuple[Any, Any]]:
    """Return what two runs were told differently, such as ``{"epochs": (100, 400)}``; what only one has is left out."""
    one, other = flat(a.configuration), flat(b.configuration)
    return {
        name: (one[name], other[name])
        for name in one
        if name in other and one[name] != other[name] and name != "methods"  # which are what is compared
    }


def _check_has(results: Results, approach: str) -> None:
    if approach not in results.predictions:
        raise EvaluationError(
            f"the run {results.folder.name} has no approach {approach!r}; it has {', '.join(results.predictions)}"
        )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _rows(table: pa.Table) -> zip[tuple[Any, ...]]:
    return zip(*(table[key].to_pylist() for key in _KEYS), strict=True)
