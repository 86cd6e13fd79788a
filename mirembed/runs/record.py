"""A run in memory, finished or not; and the faults of its files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed.config.approaches import Approach, Method, by_training
from mirembed.config.comparisons import Comparisons
from mirembed.config.files import EXPERIMENT_FILE
from mirembed.config.selection import EPOCH
from mirembed.errors import EvaluationError, StoreError
from mirembed.hookspecs import Task
from mirembed.interruption import interruptible
from mirembed.progress import counted
from mirembed.runs.combined import combine_predictions
from mirembed.runs.cost import MethodsCost, costs
from mirembed.runs.folder import CURVES, FOLDS, PREDICTIONS, SCORES, RunFolder
from mirembed.runs.scores import FoldScores, Line, Scores, fold_scores, over_folds, score
from mirembed.runs.selection import Chosen, read_chosen
from mirembed.runs.summary import Sizes, describe_folds, find_run
from mirembed.runs.tables import KEYS, TRAINED, Predictions, table_rows
from mirembed.specs import Spec
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import headline
from mirembed.store.files import Fault, read_table, unreadable
from mirembed.store.rows import task_from_json

_EVALUATE_AGAIN = "copy the command from the run's manifest.json, delete the run's folder, and evaluate again"


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run and its predictions.

    Attributes
    ----------
    folder : pathlib.Path
    manifest : mapping
    task : Classification, Tags or Regression
    methods : tuple of Method
    comparisons : Comparisons
        Those that were declared before training.
    tests : list of (int, int, str)
        Seed, fold and id for each time that a track is tested, sorted.
    predictions : dict of str to Predictions
        After the last epoch, for each method; rows sorted by seed, fold and id. A finished run has them for all
        `tests`, an unfinished one for the folds that every method has finished; empty if there are none.
    n_done, n_trainings : int
        Number of finished trainings, and of all.
    groups : mapping of str to str, or None
        The groups of test tracks, by id, if the folds keep groups apart; the bootstrap then draws groups.
    n_groups : int
        Number of groups of test tracks, whether or not the folds keep them apart; 0 if none are known.
    """

    folder: Path
    manifest: Mapping[str, Any]
    task: Task
    methods: tuple[Method, ...]
    comparisons: Comparisons
    tests: list[tuple[int, int, str]]
    predictions: dict[str, Predictions]
    n_done: int
    n_trainings: int
    groups: Mapping[str, str] | None = None
    n_groups: int = 0

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Everything that decides the numbers, as the manifest has it."""
        found: Mapping[str, Any] = self.manifest["configuration"]
        return found

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.manifest["finished"] is not None

    @property
    def repeated(self) -> bool:
        """Whether the folds are repeated random splits."""
        return self.configuration["splits"] is not None

    @property
    def official(self) -> bool:
        """Whether the folds are official splits, or those of a table: the same for every seed."""
        return self.configuration["cv"] is None and not self.repeated

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.configuration["seeds"])

    @property
    def n_parts(self) -> int:
        """Number of folds or splits, counted again for each seed."""
        return len({(seed, fold) for seed, fold, _ in self.tests})

    @property
    def n_folds(self) -> int:
        """Number of folds that means run over: the scored ones of all seeds, but each official split only once."""
        if not self.predictions:
            return 0
        of_part = next(iter(self.predictions.values())).fold_of_part
        return len(np.unique(of_part)) if self.official else len(of_part)

    @property
    def n_train(self) -> float:
        """Mean number of training tracks of a fold."""
        return float(self.configuration["n_train"])

    @property
    def train_size(self) -> float:
        """The share of each fold's training tracks that was trained on."""
        return float(self.configuration["train_size"])

    @property
    def sizes(self) -> Sizes:
        """How many tracks the folds train on and test."""
        return Sizes(*(self.configuration[name] for name in ("n_tracks", "n_used", "n_train", "n_test")))

    def describe_folds(self) -> str:
        """Describe how the tracks are split: ``10 stratified folds``."""
        n_official = self.n_parts // self.n_seeds if self.official else None
        cv, splits = self.configuration["cv"], self.configuration["splits"]
        scheme = self.configuration["folds"]
        return describe_folds(
            scheme, cv=cv, splits=splits, n_official=n_official, n_seeds=self.n_seeds, train_size=self.train_size
        )

    @property
    def headline(self) -> str:
        """The name of the headline metric."""
        return headline(self.task, self.configuration["metric"]).name

    @property
    def first_methods(self) -> list[Method]:
        """Each approach, network and features with their first learner: the methods that tables of scores compare."""
        first: dict[str, Method] = {}
        for method in self.methods:
            first.setdefault(method.label, method)
        return list(first.values())

    @property
    def learners(self) -> list[str]:
        """The learners of the run, each once."""
        return list(dict.fromkeys(str(m.learner) for m in self.methods if m.learner is not None))

    @cached_property
    def fold_scores(self) -> dict[str, FoldScores]:
        """The scores of each method in each fold of each seed."""
        return {name: fold_scores(predictions, self.task) for name, predictions in self.predictions.items()}

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores of each method: stored with a finished run, otherwise computed from the predictions."""
        if self.finished:
            with contextlib.suppress(AttributeError, KeyError, StoreError, TypeError, ValueError):  # missing or damaged
                stored = RunFolder(self.folder).read_scores()
                return [Scores.from_json(name, stored[name], self.task, self.headline) for name in self.predictions]
        return score(
            self.predictions,
            self.task,
            self.n_train,
            metric=self.headline,
            official=self.official,
            groups=self.groups,
        )

    def interval(self, method: str, line: Line) -> Interval:
        """Return the mean of a method's score over the folds with its 95 % interval."""
        return self.over_folds(line, self.fold_scores[method][line], self.predictions[method])

    def over_folds(self, line: Line, values: NDArray[np.float64], predictions: Predictions) -> Interval:
        """Return the mean over the folds of a score ``[n_parts]``; see `mirembed.runs.scores.over_folds`."""
        return over_folds(line, values, predictions, self.n_train, official=self.official)

    @cached_property
    def checkpoints(self) -> dict[str, dict[int, Predictions]]:
        """The predictions of each method at each checkpoint that all its folds reached, by epoch.

        Empty if no checkpoints were scored. Folds end at different epochs where the epoch was chosen inside them.
        """
        with _damaged(self.folder):
            table = RunFolder(self.folder).read_checkpoints()
            if table is None or not self.predictions:
                return {}
            scored = {(seed, fold) for seed, fold, _ in next(iter(self.predictions.values())).tests}
            found: dict[str, dict[int, Predictions]] = {}
            by_columns = Predictions.by_columns(table, self.task, "method", "epoch")
            order = {method.name: number for number, method in enumerate(self.methods)}
            for name, epoch in sorted(by_columns, key=lambda key: (order[key[0]], key[1])):
                predictions = _only_parts(by_columns[name, epoch], scored)
                if {(seed, fold) for seed, fold, _ in predictions.tests} == scored:
                    found.setdefault(name, {})[epoch] = predictions.sorted()
            return found

    @cached_property
    def curves(self) -> pa.Table:
        """The loss of every epoch of the finished trainings."""
        return RunFolder(self.folder).read_curves()

    @cached_property
    def costs(self) -> list[MethodsCost]:
        """What the finished trainings cost, by the methods that share a network; empty if it was not recorded."""
        table = RunFolder(self.folder).read_cost()
        return [] if table is None else costs(table)

    @cached_property
    def embedding_files(self) -> list[Path]:
        """The tables of embeddings, one for each network and fold whose embeddings were kept."""
        return RunFolder(self.folder).embedding_files()

    @cached_property
    def selection(self) -> list[Chosen]:
        """What was chosen inside the folds, by method, seed and fold; empty if nothing was."""
        with _damaged(self.folder):
            return read_chosen(RunFolder(self.folder).read_selection())

    @cached_property
    def weights(self) -> pa.Table | None:
        """The weights of the members of stacked methods; None if there are none, or the run is not finished."""
        return RunFolder(self.folder).read_weights()

    @cached_property
    def notes(self) -> list[str]:
        """The notes and warnings about the run."""
        return RunFolder(self.folder).read_notes()

    @property
    def warnings(self) -> list[str]:
        """The notes that matter for reading the scores."""
        return [note for note in self.notes if note.startswith("warning: ")]

    @property
    def experiment(self) -> str | None:
        """The text of the experiment file that repeats the run, if it has one."""
        path = self.folder / EXPERIMENT_FILE
        return path.read_text(encoding="utf-8") if path.exists() else None


def open_run(runs: Path, name: str) -> RunRecord:
    """Find a finished run and read its predictions.

    Parameters
    ----------
    runs : pathlib.Path
        The folder of the store's runs.
    name : str
        A run's folder, its name in ``runs``, or an unambiguous prefix of that name.

    Raises
    ------
    EvaluationError
        The run is not finished, or is an experiment of several.
    StoreError
        There is no such run, or it is damaged.
    """
    run = find_run(runs, name)
    members = run.members
    if members:
        names = ", ".join(f"{run.folder.name}/{member.folder.name}" for member in members)
        raise EvaluationError(f"{run.folder} contains several runs; choose one of them: {names}")
    require_finished(run)
    return _read(run)


def require_finished(run: RunFolder) -> None:
    """Refuse a run that is still running, or was interrupted.

    Raises
    ------
    EvaluationError
    """
    state = run.state
    if state == "running":
        raise EvaluationError(f"the run {run.folder} is still running; wait until it ends")
    if state != "finished":
        raise EvaluationError(f"the run {run.folder} is not finished; resume it with: {run.manifest['command']}")


@interruptible()
def read_run(folder: Path) -> RunRecord:
    """Read a run, finished or not, and everything that its report shows.

    Raises
    ------
    StoreError
        It is damaged, or not a run.
    """
    run = RunFolder(folder)
    unfinished = not run.finished
    try:
        return _read_everything(run)
    except (StoreError, FileNotFoundError):
        if unfinished and run.finished:  # its parts were merged and removed meanwhile
            return _read_everything(run)
        raise


def read_members(folder: Path) -> list[str] | None:
    """Return the names of the runs of an experiment; None for a single run.

    Raises
    ------
    StoreError
        It is damaged, is neither a run nor an experiment, or has nothing to report.
    """
    run = RunFolder(folder)
    manifest, members = run.manifest, run.members
    missing = [member.folder.name for member in members if not member.has_folds]
    if manifest["finished"] and missing:
        raise StoreError(
            f"the experiment {folder} lacks {', '.join(missing)}; put back what was moved or deleted, or evaluate again"
        )
    if not manifest["finished"] and not any(one.has_folds for one in members or [run]):
        raise StoreError(
            f"the run {folder} has not started training: nothing to report; resume it with: {manifest['command']}"
        )
    return [member.folder.name for member in members] or None


def _read_everything(run: RunFolder) -> RunRecord:
    record = _read(run)
    # Read these now: their files may vanish when the run finishes.
    _ = record.checkpoints, record.curves, record.embedding_files, record.notes, record.costs, record.selection
    return record


def _read(run: RunFolder) -> RunRecord:
    manifest = run.manifest
    configuration = manifest["configuration"]
    with _damaged(run.folder):
        task = task_from_json(configuration["task"])
        methods = tuple(_method(content, configuration["approaches"]) for content in configuration["methods"])
        names = [method.name for method in methods]
        folds = run.read_folds()
        tests = sorted(table_rows(folds, *KEYS))
        groups = _groups(folds)
        table = run.read_predictions()
        if table is not None and not manifest["finished"]:
            scored = set(table["method"].to_pylist())  # with combined methods, if all trainings are merged already
            missing = [method for method in methods if method.name not in scored]
            table = pa.concat_tables([table, *combine_predictions(table, missing, task, run.read_inner()).tables])
        found = {} if table is None else _by_method(table, task)
        if not manifest["finished"]:
            found = _finished_by_all(found, names)
        elif problems := _incomplete(found, names, tests):
            raise ValueError(f"{PREDICTIONS} {problems[0]}")
        n_parts = len({(seed, fold) for seed, fold, _ in tests})
        n_trainings = n_parts * len(by_training(methods))
        return RunRecord(
            folder=run.folder,
            manifest=manifest,
            task=task,
            methods=methods,
            comparisons=Comparisons.from_json(configuration["comparisons"]),
            tests=tests,
            predictions={name: found[name] for name in names if name in found},
            n_done=n_trainings if manifest["finished"] else len(run.finished_parts()),
            n_trainings=n_trainings,
            groups=groups if configuration["bootstrap"] == "groups" else None,
            n_groups=len(set(groups.values())),
        )


def _groups(folds: pa.Table) -> dict[str, str]:
    if "group" not in folds.column_names:
        return {}
    return {track: group for track, group in table_rows(folds, "id", "group") if group is not None}


def _by_method(table: pa.Table, task: Task) -> dict[str, Predictions]:
    return {name: predictions.sorted() for name, predictions in Predictions.by_method(table, task).items()}


def _method(content: Mapping[str, Any], approaches: Mapping[str, Any]) -> Method:
    learner = None if content["learner"] is None else Spec.parse(content["learner"])
    name = content["approach"]
    if members := content.get("members"):
        return Method(name, None, None, Approach(name, members=tuple(members), stacked=content["stacked"]), None)
    roles = approaches[name]
    model, labels = roles.get("model"), roles.get("label_similarity")
    if model is None:
        approach = Approach.parse(name, None if labels is None else Spec.parse(labels["spec"]))
    else:
        approach = Approach.of_model(model["name"])
    return Method(content["name"], content["features"], content["network"], approach, learner)


def _incomplete(found: Mapping[str, Predictions], methods: Sequence[str], tests: Sequence[Any]) -> list[str]:
    """Describe the methods whose sorted predictions are not those of the sorted tests of the folds."""
    return [
        f"has {len(of_method)} predictions of {name}; the folds test {counted(len(tests), 'track')}"
        for name in methods
        if (of_method := found[name].tests if name in found else []) != tests
    ]


def _finished_by_all(found: Mapping[str, Predictions], methods: Sequence[str]) -> dict[str, Predictions]:
    """Keep the folds that every method has finished; other folds would compare methods on different tracks."""
    parts = [{(seed, fold) for seed, fold, _ in found[name].tests} if name in found else set() for name in methods]
    common = set.intersection(*parts)
    return {name: _only_parts(found[name], common) for name in methods} if common else {}


def _only_parts(predictions: Predictions, parts: Collection[tuple[int, int]]) -> Predictions:
    return predictions.take(np.array([(seed, fold) in parts for seed, fold, _ in predictions.tests], bool))


@contextlib.contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Turn errors about missing or unexpected content into a `StoreError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the run {folder} is damaged ({error}); evaluate again") from error


def run_faults(run: RunFolder) -> Iterator[Fault]:
    """Yield the faults of a run or experiment.

    A finished run must have a prediction for each test track of each fold, and the losses of all epochs. The files of
    an unfinished one must be readable.
    """
    try:
        finished, members = run.finished, run.members
    except (StoreError, TypeError) as error:
        yield Fault.of(run.folder, f"is not a run: {error}", "move it out of the store, or delete it")
        return
    for member in members:
        if member.folder.exists():
            yield from run_faults(member)
        elif finished:
            yield Fault(str(member.folder), "is missing", "run the experiment again with its experiment.toml")
    if members:
        return
    needed = [run.folder / name for name in (FOLDS, PREDICTIONS, CURVES, SCORES)] if finished else []
    files = sorted([*run.folder.rglob("*.parquet"), *run.folder.glob("*.json")])
    read = [path for path in files if not any(part.startswith(".") for part in path.relative_to(run.folder).parts)]
    faults = [fault for path in dict.fromkeys([*needed, *read]) for fault in unreadable(path, _EVALUATE_AGAIN)]
    yield from faults
    if finished and not faults:
        try:
            yield from _gaps(run)
        except (KeyError, TypeError, ValueError) as error:
            yield Fault.of(run.folder, f"is damaged ({error})", _EVALUATE_AGAIN)


def _gaps(run: RunFolder) -> Iterator[Fault]:
    """Yield what is missing from the tables of a finished run."""
    configuration = run.manifest["configuration"]
    predictions = _by_method(read_table(run.folder / PREDICTIONS), task_from_json(configuration["task"]))
    tests = sorted(table_rows(run.read_folds(), *KEYS))
    for problem in _incomplete(predictions, [method["name"] for method in configuration["methods"]], tests):
        yield Fault(str(run.folder / PREDICTIONS), problem, _EVALUATE_AGAIN)
    epochs: dict[tuple[Any, ...], set[int]] = {}
    for *training, epoch in table_rows(read_table(run.folder / CURVES), *TRAINED, "seed", "fold", "epoch"):
        epochs.setdefault(tuple(training), set()).add(epoch)
    for (*names, seed, fold), found in epochs.items():
        # Where the epoch was chosen, the training ended there.
        last = max(found) if EPOCH in configuration["select"] else configuration["epochs"]
        if found != set(range(1, last + 1)):
            network = ", ".join(name for name in names if name)
            what = f"has {len(found)} of {last} epochs of {network}, seed {seed}, fold {fold}"
            yield Fault(str(run.folder / CURVES), what, _EVALUATE_AGAIN)
