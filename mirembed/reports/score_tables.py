"""The tables of scores: by target, by metric, and learned similarity against kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mirembed.compare import n_tested
from mirembed.config.approaches import Method
from mirembed.progress import counted
from mirembed.reports.scoring import RunScores
from mirembed.reports.tables import Cell, Table, interval_record
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, Scores, line_label, lines, score
from mirembed.statistics import Interval, metric_named


def best_table(scores: RunScores) -> Table:
    """Lines are targets, or metrics; columns are methods; the best of a line is marked only where it is tested so."""
    tested = n_tested(scores.tests)
    marked = (
        "A mark and bold type: better than every other method of the line, baselines included, after Holm's correction "
        f"over the {counted(tested, 'test')} of this table: all pairs of its methods, on each of its lines."
    )
    return _by_line(
        scores,
        "scores",
        "Pearson's r of each method" if scores.run.headline == "r" else "Scores of each method",
        lines(scores.run.task),
        marked if tested else "Nothing is tested, and no best is marked.",
    )


def squared_table(scores: RunScores) -> Table | None:
    """Return r² of each target, the paper's measure; None for classification."""
    if scores.run.headline != "r":
        return None
    said = "The paper's coefficient of determination. The tests are of r: no best is marked here."
    return _by_line(scores, "scores-squared", "r² of each method", lines(scores.run.task, "r_squared"), said)


def _by_line(scores: RunScores, name: str, title: str, all_lines: Sequence[Line], remark: str) -> Table:
    methods = [method.name for method in scores.run.first_methods]
    rows, records = [], []
    for line in all_lines:
        cells = [Cell(line_label(line))]
        for method in methods:
            interval = scores.interval(method, line)
            best = scores.best.get(line) == method
            cells.append(Cell.of(interval, best=best))
            records.append(_record(line, method, interval) | {"best": best})
        rows.append(cells)
    caption = f"{_means(scores.run)}. {remark}{first_learners(scores.run)}"
    return Table(name, title, caption, ["target" if scores.run.headline == "r" else "metric", *methods], rows, records)


def metrics_table(scores: RunScores) -> Table:
    """Lines are methods; columns are all metrics, over folds and pooled."""
    run = scores.run
    by_method = {one.method: one for one in score(run.predictions, run.task, run.n_train, official=run.official)}
    computed = [_over_folds(scores, by_method[method.name]) for method in run.methods]
    names = list(computed[0].intervals)
    undefined = any(one.undefined for one in computed)
    columns = [
        "method",
        *(metric_named(name).label for name in names),
        *(f"pooled {metric_named(name).label}" for name in names),
    ]
    rows = [
        [
            Cell(one.method),
            *(Cell.of(one.intervals[name]) for name in names),
            *(Cell.of(one.pooled[name]) for name in names),
            *([Cell(str(one.undefined))] if undefined else []),
        ]
        for one in computed
    ]
    records = [record for one in computed for record in _metric_records(one)]
    said = " r is undefined for a constant prediction: such folds and targets are counted, and scored 0."
    return Table(
        "metrics",
        "All metrics",
        f"{_means(run)}; pooled: over the predictions of all folds together, with 95 % bootstrap intervals over "
        f"tracks.{said * undefined}",
        [*columns, "undefined r"] if undefined else columns,
        rows,
        records,
    )


def _over_folds(scores: RunScores, one: Scores) -> Scores:
    """Take the means over folds from where all tables of the report have them."""
    intervals = {name: scores.interval(one.method, (name, None)) for name in one.intervals}
    headline = scores.run.headline
    targets = {target: scores.interval(one.method, (headline, target)) for target in one.targets}
    return replace(one, intervals=intervals, targets=targets)


def first_learners(run: RunRecord) -> str:
    """Say which learner the methods of a table have, where the run has several."""
    if len(run.learners) < 2:
        return ""
    return (
        f" Each approach with its first learner, {run.learners[0]}; the table of all metrics has the methods with the "
        "other learners."
    )


def kernel_table(scores: RunScores) -> Table | None:
    """Lines are approaches, columns the learners; None of a run with a single learner."""
    run, line = scores.run, lines(scores.run.task)[0]
    if len(run.learners) < 2:
        return None
    by_place = {(m.approach.name, str(m.learner)): m for m in run.methods if m.learner is not None}
    approaches = list(dict.fromkeys(approach for approach, _ in by_place))
    rows, records = [], []
    for approach in approaches:
        cells = [Cell(approach)]
        for learner in run.learners:
            method = by_place.get((approach, learner))
            if method is None:
                cells.append(Cell(""))
                continue
            interval = scores.interval(method.name, line)
            kind, cell = matching(run, method), Cell.of(interval)
            cells.append(Cell(cell.text, f"{cell.detail} {kind}".strip()))
            place = {"approach": approach, "learner": learner, "kernel": kind}
            records.append({**place, "metric": line[0], **interval_record(interval)})
        rows.append(cells)
    return Table(
        "kernels",
        "Learned similarity against kernel",
        f"{_means(run, ' of ' + metric_named(line[0]).label)}. Lines: what the network learned; columns: "
        "what predicts from its embeddings. Matching: the kernel is the similarity that was learned, with its "
        "parameters; same kind: it has other parameters.",
        ["approach", *run.learners],
        rows,
        records,
    )


def matching(run: RunRecord, method: Method) -> str:
    """Return whether a method's kernel is the similarity that its network learned.

    ``matching`` if it is, with the same parameters; ``same kind`` if its parameters are others; else nothing.
    """
    learned = run.configuration["approaches"][method.approach.name].get("similarity")
    kernel = _kernel(run.configuration["learners"][str(method.learner)], method.approach.name)
    if learned is None or any(kernel.get(key) != learned[key] for key in ("distribution", "name")):
        return ""
    return "matching" if kernel["parameters"] == learned["parameters"] else "same kind"


def _kernel(learner: Mapping[str, Any], approach: str) -> Mapping[str, Any]:
    """Return the similarity that is a learner's kernel for an approach, as the manifest describes one; or nothing."""
    described: Mapping[str, Any] = learner.get("kernels", {}).get(approach, {})
    parameters = typed_parameters(learner)
    if described or parameters.get("kernel") != "rbf":
        return described
    # Scikit-learn's own is the same function as the similarity that the learner's distribution calls rbf.
    gamma = {"gamma": parameters.get("gamma")}
    return {"distribution": learner["distribution"], "name": "rbf", "parameters": gamma}


def typed_parameters(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a plugin's parameters as one would type them: ``gamma=scale`` for scikit-learn's RBF kernel, not None."""
    parameters: Mapping[str, Any] = plugin.get("parameters") or {}
    if plugin.get("name") == "svm" and parameters.get("kernel") == "rbf" and parameters.get("gamma") is None:
        return {**parameters, "gamma": "scale"}
    return parameters


def _metric_records(one: Scores) -> list[dict[str, Any]]:
    over_folds = {(name, None, "folds"): interval for name, interval in one.intervals.items()}
    targets = {("r", name, "folds"): interval for name, interval in one.targets.items()}
    pooled = {(name, None, "pooled"): interval for name, interval in one.pooled.items()}
    return [
        {**_record((metric, target), one.method, interval), "over": over}
        for (metric, target, over), interval in (over_folds | targets | pooled).items()
    ]


def _record(line: Line, method: str, interval: Interval) -> dict[str, Any]:
    return {"method": method, "metric": line[0], "target": line[1], **interval_record(interval)}


def _means(run: RunRecord, of: str = "") -> str:
    """Say over what the means of a table are; a single fold has neither means nor intervals."""
    kind = "split" if run.repeated else "fold"
    every = "" if run.finished else " that every method has finished"
    seeds = ", each the mean of its seeds," if run.official and len(run.configuration["seeds"]) > 1 else ""
    if run.n_folds == 1:
        return f"Scores{of} in 1 {kind}{every}{seeds.replace('each ', '')} without intervals: they need several {kind}s"
    return f"Means{of} over {counted(run.n_folds, kind)}{every}{seeds} with 95 % intervals after Nadeau and Bengio"
