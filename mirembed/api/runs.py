"""`mirembed.open_run`: a finished evaluation, as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.api.tables import facts_html, rows_html
from mirembed.api.words import PathLike, StoreLike, path_of, store_of
from mirembed.progress import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from mirembed.compare.families import Family
    from mirembed.runs.folder import RunFolder
    from mirembed.runs.record import RunRecord

EVALUATION = "evaluation"
"""First column of the tables of an experiment: the name of the evaluation."""


class Run:
    """A finished evaluation, or an experiment of several. Get one with `mirembed.evaluate` or `mirembed.open_run`.

    The tables are `pyarrow.Table`. Those of an experiment contain the rows of all its evaluations, with the name of the
    ``evaluation`` in the first column.

    Attributes
    ----------
    path : pathlib.Path
        Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @cached_property
    def evaluations(self) -> list[Run]:
        """The evaluations of an experiment, or the run itself if there is only one."""
        return [Run(member.folder) for member in self._folder.members] or [self]

    @property
    def dataset(self) -> str:
        """The dataset; several are separated by commas."""
        return ", ".join(dict.fromkeys(one._record.configuration["dataset"]["spec"] for one in self.evaluations))

    @property
    def metric(self) -> str:
        """The headline metric, such as ``accuracy``; several are separated by commas."""
        return ", ".join(dict.fromkeys(one._record.headline for one in self.evaluations))

    @property
    def methods(self) -> list[str]:
        """The methods that were evaluated."""
        return list(dict.fromkeys(name for one in self.evaluations for name in one._record.predictions))

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything needed to run it again: command, configuration, versions, code."""
        return self._folder.manifest

    @property
    def experiment(self) -> str | None:
        """The text of the experiment file that repeats it, as ``evaluate(config=run)`` does."""
        path = self.path / "experiment.toml"
        return path.read_text(encoding="utf-8") if path.exists() else None

    @property
    def notes(self) -> list[str]:
        """Notes and warnings about tracks, folds and models."""
        return [note for one in self.evaluations for note in one._record.notes]

    @property
    def best(self) -> str:
        """Which method scores best, and whether the declared tests show that it is better."""
        from mirembed.compare.families import describe_best

        return "; ".join(describe_best(one._record, one._declared) for one in self.evaluations)

    @cached_property
    def scores(self) -> pa.Table:
        """The scores of each method, the headline metric first.

        method, approach, learner, network, features, metric; column (a class, tag or target; null for the mean over
        them); mean over the folds with its 95 % interval (Nadeau & Bengio) as low and high; and the score over all
        folds together as pooled, pooled_low and pooled_high (bootstrap). Null: undefined.
        """
        return self._together(_scores)

    @cached_property
    def fold_scores(self) -> pa.Table:
        """The scores in each fold: method, seed, fold, metric, column, score. Null: undefined."""
        return self._together(_fold_scores)

    @cached_property
    def comparisons(self) -> pa.Table:
        """The paired differences of methods, with their tests over the folds.

        family, declared (before training), exploratory, a, b, metric, column, mean_a, mean_b, difference (a minus b)
        with its 95 % interval as low and high, p, p_holm (corrected over the family), verdict.
        """
        return self._together(_comparisons)

    @property
    def predictions(self) -> pa.Table:
        """The out-of-fold predictions after the last epoch.

        method, approach, learner, network, features, seed, fold, id; label and prediction, or a column for each target
        and ``predicted_`` with its name; ``score_`` and ``probability_`` with the name of each class or tag.
        """
        return self._together(lambda run: run._folder.read_predictions())

    @property
    def folds(self) -> pa.Table:
        """Which fold tests which track: seed, id, fold, group."""
        return self._together(lambda run: run._folder.read_folds())

    @property
    def curves(self) -> pa.Table:
        """The loss of every epoch: approach, learner, network, features, seed, fold, epoch, loss."""
        return self._together(lambda run: run._folder.read_curves())

    @property
    def checkpoints(self) -> pa.Table:
        """The predictions at every checkpoint, with the column epoch; no rows if no checkpoints were scored."""
        return self._together(lambda run: run._folder.read_checkpoints())

    @property
    def selection(self) -> pa.Table:
        """The scores of all candidates in the inner folds, and which were chosen; no rows if nothing was chosen."""
        return self._together(lambda run: run._folder.read_selection())

    @property
    def weights(self) -> pa.Table:
        """The weights of the members of stacked methods in each fold; no rows if there are none."""
        return self._together(lambda run: run._folder.read_weights())

    @property
    def cost(self) -> pa.Table:
        """Time, memory and processor of every training."""
        return self._together(lambda run: run._folder.read_cost())

    @property
    def embeddings(self) -> pa.Table:
        """The embeddings of all tracks after the last epoch of the first fold; with ``keep_embeddings``, of all folds.

        approach, learner, network, features, seed, fold, epoch, id, in_sample, embedding.
        """
        return self._together(_embeddings)

    @cached_property
    def _record(self) -> RunRecord:
        from mirembed.runs.record import open_run

        return open_run(self.path.parent, str(self.path))

    @property
    def _folder(self) -> RunFolder:
        from mirembed.runs.folder import RunFolder

        return RunFolder(self.path)

    @cached_property
    def _families(self) -> tuple[Family, ...]:
        from mirembed.compare.families import run_families

        return run_families(self._record)

    @property
    def _declared(self) -> list[Family]:
        return [family for family in self._families if not family.exploratory]

    def _together(self, table: Callable[[Run], pa.Table | None]) -> pa.Table:
        """Return a table of all evaluations."""
        import pyarrow as pa

        found = [(one.name, table(one)) for one in self.evaluations]
        if self.evaluations == [self]:
            return pa.table({}) if found[0][1] is None else found[0][1]
        named = [
            one.add_column(0, EVALUATION, pa.array([name] * len(one), pa.string()))
            for name, one in found
            if one is not None
        ]
        return pa.concat_tables(named, promote_options="default") if named else pa.table({})

    def __repr__(self) -> str:
        return f"Run({self.name!r}: {', '.join(self.methods)} on {self.dataset}, in {self.path})"

    def _repr_html_(self) -> str:
        return "".join(one._html() for one in self.evaluations)

    def _html(self) -> str:
        from mirembed.runs.scores import lines
        from mirembed.statistics.metrics import metric_named

        record = self._record
        shown = [line for line in lines(record.task, record.headline) if line[1] is None]
        epochs = counted(record.configuration["epochs"], "epoch")
        facts = [
            ("run", self.name),
            ("dataset", f"{self.dataset}: {record.sizes.describe(record.describe_folds())}, {epochs}"),
            ("result", self.best),
            ("warnings", "; ".join(record.warnings)),
        ]
        columns = ["method", *(metric_named(metric).label for metric, _ in shown)]
        rows = [[one.method, *(str(one.intervals[line]) for line in shown)] for one in record.scores]
        return facts_html(facts) + rows_html(columns, rows)


def open_run(run: PathLike, *, store: StoreLike = None) -> Run:
    """Open a finished evaluation.

    Parameters
    ----------
    run : path
        The folder of a run or experiment, its name in the store, or an unambiguous prefix of that name.
    store : path or Store, optional
        Default: the environment variable MIREMBED_STORE, or else ``mirembed-store`` in the current folder.

    Returns
    -------
    Run

    Raises
    ------
    EvaluationError
        The run is not finished: it is still running, or was interrupted.
    StoreError
        There is no such run, it is damaged, or another version of mirembed wrote it.
    SpecError
        ``run`` is not a path.
    """
    from mirembed.runs.record import require_finished
    from mirembed.runs.summary import find_run

    found = find_run(store_of(store).runs, str(path_of("run", run)))
    for one in found.members or [found]:
        require_finished(one if one.has_folds else found)
    return Run(found.folder)


def _scores(run: Run) -> pa.Table:
    import pyarrow as pa

    record = run._record
    methods = {method.name: method for method in record.methods}
    rows = []
    for scores in record.scores:
        method = methods[scores.method]
        learner = None if method.learner is None else str(method.learner)
        parts = [method.approach.name, learner, method.network, method.features]
        for line, over_folds in scores.intervals.items():
            numbers = [*asdict(over_folds).values(), *asdict(scores.pooled[line]).values()]
            rows.append([scores.method, *parts, *line, *numbers])
    texts = ("method", "approach", "learner", "network", "features", "metric", "column")
    values = ("mean", "low", "high", "pooled", "pooled_low", "pooled_high")
    return _table(rows, {**dict.fromkeys(texts, pa.string()), **dict.fromkeys(values, pa.float64())})


def _fold_scores(run: Run) -> pa.Table:
    import pyarrow as pa

    record = run._record
    rows = []
    for method, scores in record.fold_scores.items():
        predictions = record.predictions[method]
        places = [(int(predictions.seeds[one[0]]), int(predictions.folds[one[0]])) for one in predictions.parts]
        for line, values in scores.items():
            rows += [[method, *place, *line, value] for place, value in zip(places, values.tolist(), strict=True)]
    types = {"method": pa.string(), "seed": pa.int64(), "fold": pa.int64(), "metric": pa.string()}
    return _table(rows, {**types, "column": pa.string(), "score": pa.float64()})


def _comparisons(run: Run) -> pa.Table:
    import pyarrow as pa

    rows = [
        [
            *(family.name, family.declared, family.exploratory, test.a, test.b, test.metric, test.target),
            *(test.mean_a, test.mean_b, *asdict(test.difference).values(), test.p, test.p_holm, test.verdict),
        ]
        for family in run._families
        for test in family.tests
    ]
    types = {"family": pa.string(), "declared": pa.bool_(), "exploratory": pa.bool_()}
    types |= dict.fromkeys(("a", "b", "metric", "column"), pa.string())
    types |= dict.fromkeys(("mean_a", "mean_b", "difference", "low", "high", "p", "p_holm"), pa.float64())
    return _table(rows, {**types, "verdict": pa.string()})


def _embeddings(run: Run) -> pa.Table | None:
    import pyarrow as pa

    from mirembed.store.files import read_table

    tables = [read_table(path) for path in run._folder.embedding_files()]
    # Methods with networks of different sizes have embeddings of different types.
    variable = pa.list_(pa.float32())
    if len({table.schema.field("embedding").type for table in tables}) > 1:
        position = tables[0].schema.get_field_index("embedding")
        tables = [one.set_column(position, "embedding", one["embedding"].cast(variable)) for one in tables]
    return pa.concat_tables(tables) if tables else None


def _table(rows: list[list[Any]], types: dict[str, Any]) -> pa.Table:
    """Return rows as a table; NaN is null."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = [pa.array(column, kind, from_pandas=True) for column, kind in zip(columns, types.values(), strict=True)]
    return pa.table(arrays, names=list(types))
