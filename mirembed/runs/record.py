"""A run as its report sees it: finished, or as far as it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config.approaches import Approach, Method
from mirembed.errors import StoreError
from mirembed.evaluate import Run
from mirembed.evaluate.sizes import Sizes
from mirembed.hookspecs import Classification, Task
from mirembed.runs.scores import answers
from mirembed.runs.tables import embedding_files, finished_parts, read_checkpoints, read_curves, read_predictions
from mirembed.specs import Spec
from mirembed.statistics import Interval, nadeau_bengio_interval
from mirembed.store.files import read_json, read_table
from mirembed.store.rows import task_from_json

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ("seed", "fold", "id")


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method predicted, out of fold; rows sorted by seed, fold and id.

    Attributes
    ----------
    seeds, folds : ndarray [n_rows], int64
    ids : ndarray [n_rows], str
    truth, predicted : ndarray [n_rows, n_targets]
        Original units; class indices ``[n_rows, 1]``.
    """

    seeds: NDArray[np.int64]
    folds: NDArray[np.int64]
    ids: NDArray[np.str_]
    truth: NDArray[Any]
    predicted: NDArray[Any]

    @classmethod
    def of(cls, table: pa.Table, task: Task) -> Answers:
        """Read the rows of one method and epoch."""
        table = table.sort_by([(key, "ascending") for key in _KEYS])
        ids = np.array(table["id"].to_pylist(), str)
        return cls(table["seed"].to_numpy(), table["fold"].to_numpy(), ids, *answers(table, task))

    @cached_property
    def parts(self) -> list[NDArray[np.int64]]:
        """The rows of each fold of each seed."""
        ends = np.flatnonzero((np.diff(self.seeds) != 0) | (np.diff(self.folds) != 0)) + 1
        return np.split(np.arange(len(self.ids)), ends)

    @cached_property
    def fold_of_part(self) -> NDArray[np.int64]:
        """The fold of each of the `parts`; several have the same where there are several seeds."""
        return np.array([self.folds[rows[0]] for rows in self.parts], np.int64)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run says of itself and has predicted.

    Attributes
    ----------
    folder : pathlib.Path
    manifest : mapping
    task : Classification or Regression
    methods : tuple of Method
    folds : pyarrow.Table
        Columns seed, id, fold.
    predictions, checkpoints : pyarrow.Table or None
        Of the folds that every method has finished; None where there are none.
    curves : pyarrow.Table or None
        Of all finished trainings.
    embeddings : tuple of pathlib.Path
    notes : tuple of str
    n_done, n_trainings : int
        Trainings that are finished, and all.
    """

    folder: Path
    manifest: Mapping[str, Any]
    task: Task
    methods: tuple[Method, ...]
    folds: pa.Table
    predictions: pa.Table | None
    checkpoints: pa.Table | None
    curves: pa.Table | None
    embeddings: tuple[Path, ...]
    notes: tuple[str, ...]
    n_done: int
    n_trainings: int

    @property
    def configuration(self) -> Mapping[str, Any]:
        """All that decides the numbers, as the manifest has it."""
        found: Mapping[str, Any] = self.manifest["configuration"]
        return found

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.manifest["finished"] is not None

    @property
    def official(self) -> bool:
        """Whether the folds are official splits, the same for every seed."""
        return self.configuration["cv"] is None and not self.repeated

    @property
    def repeated(self) -> bool:
        """Whether the folds are repeated random splits."""
        return self.configuration["splits"] is not None

    @property
    def sizes(self) -> Sizes:
        """How many tracks its folds train on and test."""
        n_tracks, n_parts = self.configuration["n_tracks"], len(set(_rows(self.folds, "seed", "fold")))
        return Sizes(
            n_tracks,
            self.configuration.get("n_used", n_tracks),
            float(self.configuration["n_train"]),
            len(self.folds) / n_parts,
        )

    @property
    def warnings(self) -> list[str]:
        """The notes that change how its scores are to be read."""
        return [note for note in self.notes if note.startswith("warning: ")]

    @property
    def headline(self) -> str:
        """The metric that stands for a method."""
        return "accuracy" if isinstance(self.task, Classification) else "r"

    @property
    def first_methods(self) -> list[Method]:
        """Each approach with its first learner: those that the tables of scores compare."""
        first: dict[str, Method] = {}
        for method in self.methods:
            first.setdefault(method.approach.name, method)
        return list(first.values())

    @property
    def learners(self) -> list[str]:
        """The learners of the run, each once."""
        return list(dict.fromkeys(str(m.learner) for m in self.methods if m.learner is not None))

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """The predictions of each method that has any."""
        return {} if self.predictions is None else self._by_method(self.predictions)

    @property
    def n_folds(self) -> int:
        """Number of folds that the means are over: those of all seeds, but an official split once."""
        if not self.answers:
            return 0
        of_part = next(iter(self.answers.values())).fold_of_part
        return len(np.unique(of_part)) if self.official else len(of_part)

    def checkpoint_answers(self) -> dict[str, dict[int, Answers]]:
        """Return the predictions of each method at each checkpoint, by epoch."""
        import pyarrow.compute as pc

        if self.checkpoints is None:
            return {}
        epochs = sorted(self.checkpoints["epoch"].unique().to_pylist())
        found: dict[str, dict[int, Answers]] = {}
        for epoch in epochs:
            rows = self.checkpoints.filter(pc.equal(self.checkpoints["epoch"], epoch))
            for method, answered in self._by_method(rows).items():
                found.setdefault(method, {})[epoch] = answered
        return found

    def over_folds(self, values: NDArray[np.float64], answers: Answers) -> Interval:
        """Return the mean of a score over the folds with its 95 % interval.

        Official splits are the same for every seed: each counts once, with its mean over the seeds that have it.

        Parameters
        ----------
        values : ndarray [n_parts], float64
            The score in each of the parts of ``answers``.
        answers : Answers
        """
        if self.official:
            of_part = answers.fold_of_part
            values = np.array([values[of_part == fold].mean() for fold in np.unique(of_part)])
        n_test = len(answers.ids) / len(answers.parts)
        return nadeau_bengio_interval(values, float(self.configuration["n_train"]), n_test)

    def _by_method(self, table: pa.Table) -> dict[str, Answers]:
        import pyarrow.compute as pc

        found = {}
        for method in self.methods:
            rows = table.filter(pc.equal(table["method"], method.name))
            if len(rows):
                found[method.name] = Answers.of(rows, self.task)
        return found


def read_members(folder: Path) -> list[str] | None:
    """Return the names of the runs that an experiment is made of; None of a single run.

    Raises
    ------
    StoreError
        It is damaged, or neither run nor experiment; or there is nothing to report.
    """
    run = Run(folder)
    manifest, names = run.manifest, _configuration(run).get("grid")
    begun = [name for name in names or ["."] if (folder / name / "folds.parquet").exists()]
    if manifest["finished"] and (missing := [name for name in names or [] if name not in begun]):
        raise StoreError(
            f"the experiment {folder} lacks {', '.join(missing)}, which it is made of; put back what was moved or "
            "deleted, or evaluate again"
        )
    if not manifest["finished"] and not begun:
        raise StoreError(
            f"the run {folder} has not begun to train, and there is nothing to report; "
            f"this goes on with it: {manifest.get('command')}"
        )
    return names


def read_run(folder: Path) -> RunRecord:
    """Read a run, finished or not.

    Raises
    ------
    StoreError
        It is damaged, or no run.
    """
    run = Run(folder)
    going_on = not run.manifest["finished"]
    try:
        return _read_run(run)
    except (StoreError, FileNotFoundError):
        if going_on and run.manifest["finished"]:  # its parts were put together and removed meanwhile
            return _read_run(run)
        raise


def _read_run(run: Run) -> RunRecord:
    folder, manifest, configuration = run.folder, run.manifest, _configuration(run)
    try:
        methods = tuple(_method(content) for content in configuration["methods"])
        folds = read_table(folder / "folds.parquet")
        predictions = _complete(read_predictions(run), methods)
        if predictions is None and manifest["finished"]:
            raise ValueError("no fold has predictions of every method")
        n_trainings = len(set(_rows(folds, "seed", "fold"))) * len({method.approach.training for method in methods})
        return RunRecord(
            folder=folder,
            manifest=manifest,
            task=task_from_json(configuration["task"]),
            methods=methods,
            folds=folds,
            predictions=predictions,
            checkpoints=_only_folds_of(predictions, read_checkpoints(run)),
            curves=_trained(read_curves(run)),
            embeddings=tuple(embedding_files(run)),
            notes=_notes(folder),
            n_done=n_trainings if manifest["finished"] else len(finished_parts(run)),
            n_trainings=n_trainings,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the run {folder} is damaged ({error}); evaluate again") from error


def _configuration(run: Run) -> Mapping[str, Any]:
    configuration = run.manifest.get("configuration")
    if not isinstance(configuration, Mapping):
        raise StoreError(f"the run {run.folder} is damaged (its manifest.json has no configuration); evaluate again")
    return configuration


def _method(content: Mapping[str, Any]) -> Method:
    learner = None if content["learner"] is None else Spec.parse(content["learner"])
    return Method(content["name"], Approach.parse(content["approach"]), learner)


def _complete(predictions: pa.Table | None, methods: tuple[Method, ...]) -> pa.Table | None:
    """Keep the folds that every method has predicted: the others would compare unlike tracks."""
    if predictions is None:
        return None
    found: dict[tuple[int, int], set[str]] = {}
    for method, seed, fold in set(_rows(predictions, "method", "seed", "fold")):
        found.setdefault((seed, fold), set()).add(method)
    return _filtered(predictions, {place for place, of_place in found.items() if len(of_place) == len(methods)})


def _only_folds_of(predictions: pa.Table | None, table: pa.Table | None) -> pa.Table | None:
    if predictions is None or table is None:
        return None
    return _filtered(table, set(_rows(predictions, "seed", "fold")))


def _filtered(table: pa.Table, folds: set[tuple[Any, ...]]) -> pa.Table | None:
    rows = table.filter([place in folds for place in _rows(table, "seed", "fold")])
    return rows if len(rows) else None


def _trained(curves: pa.Table | None) -> pa.Table | None:
    return curves if curves is not None and len(curves) else None


def _rows(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def _notes(folder: Path) -> tuple[str, ...]:
    path = folder / "notes.json"
    return tuple(read_json(path)) if path.exists() else ()
