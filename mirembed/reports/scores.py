"""The scores of a run's methods: tables of scores, learners and significance, the tests behind them, and predictions.

Predictions are shown as confusion matrices for classes, and as scatter plots of predicted against true values for
targets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from mirembed.compare.families import Family, run_families
from mirembed.compare.paired_tests import PairedTest, RunMethod, best_of, corrected, n_tested, p_text, paired_test
from mirembed.config.approaches import Method, columns
from mirembed.hookspecs import Classification, Regression, Tags
from mirembed.progress import counted
from mirembed.reports import style
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import Line, line_label, lines
from mirembed.runs.summary import describe_chance
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named, metrics_for
from mirembed.statistics.target_metrics import pearson_r
from mirembed.store.root import slug

_FEW_CLASSES = 12
"""With at most this many classes, the cells of a confusion matrix have room for their counts."""

_MANY_POINTS = 1500
"""With more points than this, a scatter plot stores them as a bitmap."""

_UNTESTABLE = "the variance of a difference cannot be estimated from a single split, or if it is the same in every fold"

_LearnerCells: TypeAlias = Mapping[tuple[str, str], tuple[Interval, str]]
"""The headline score and the match of the kernel, by `Method.label` and learner; every combination occurs."""


def compare_methods(run: RunRecord) -> tuple[Family, ...]:
    """Test the methods of a run; an unfinished run is not tested."""
    return run_families(run) if run.finished else ()


def declared_tests(families: Iterable[Family]) -> list[PairedTest]:
    """Return the tests of the families that were declared before training."""
    return [test for family in families if not family.exploratory for test in family.tests]


def scores_section(run: RunRecord, families: Sequence[Family]) -> Section:
    """Return the tables of scores, below the chance level and the run's warnings."""
    compared = {name for name, _ in lines(run.task, run.headline)}
    title = metric_named(run.headline).title if len(compared) == 1 else "Scores"
    declared = declared_tests(families)
    shown, remark = lines(run.task, run.headline), best_marks(n_tested(declared))
    tables = [_table_by_line(run, "scores", f"{title} of each method", shown, remark, best_of(declared))]
    targets = [target for name, target in shown if name == run.headline]
    folded = [
        _table_by_line(
            run,
            metric.own_table,
            f"{metric.title} of each method",
            [(metric.name, target) for target in targets],
            metric.remark,
        )
        for metric in metrics_for(run.task)
        if metric.own_table
    ]
    folded.append(_metrics_table(run))
    chance = describe_chance(run.headline, run.configuration["chance"])
    return Section("Scores", [chance, *run.warnings], tables=tables, folded_tables=folded)


def learners_section(run: RunRecord) -> Section:
    """Return the scores of each network with each learner; empty for a run with a single learner."""
    if len(run.learners) < 2:
        return Section("Learners")
    kernels = {str(plugin["parameters"].get("kernel")) for plugin in run.configuration["learners"].values()}
    title = "Does the kernel have to match?" if len(kernels) > 1 else "Learners"
    headline = lines(run.task, run.headline)[0]
    cells = {
        (method.label, str(method.learner)): (run.interval(method.name, headline), _kernel_match(run, method))
        for method in run.methods
        if method.learner is not None
    }
    pairs = [(one.name, other.name) for one, other in combinations(run.methods, 2) if one.label == other.label]
    methods = [(RunMethod(run, one), RunMethod(run, other)) for one, other in pairs if run.finished]
    tests = corrected(paired_test(*pair, headline) for pair in methods)
    family = (
        f"exploratory, over the {counted(n_tested(tests), 'test')} of every pair of learners on the same network, in "
        f"{metric_named(headline[0]).label}."
    )
    tables = [_tests_table(run, "kernels-significance", "Learners on the same network", tests, family)] if tests else []
    return Section(
        title, tables=[_learner_table(run, cells)], figures=[_learner_figure(run, cells)], folded_tables=tables
    )


def significance_section(run: RunRecord, families: Sequence[Family]) -> Section:
    """Return the tests of the methods, those that were declared first; empty for an unfinished run."""
    declared = [family for family in families if not family.exploratory]
    others = [family for family in families if family.exploratory]
    tables = [_families_table(run, "significance", "Declared comparisons", declared)] if declared else []
    folded = [_families_table(run, "exploratory", "Exploratory comparisons", others)] if others else []
    return Section("Significance", tables=tables, folded_tables=folded)


def _families_table(run: RunRecord, name: str, title: str, families: Sequence[Family]) -> Table:
    tests = [test for family in families for test in family.tests]
    described = ". ".join(family.describe() for family in families)
    of_test = [family.name for family in families for _ in family.tests]
    table = _tests_table(run, name, title, tests, f"{described}.")
    rows = [[Cell(family), *row] for family, row in zip(of_test, table.rows, strict=True)]
    records = [{"family": family, **record} for family, record in zip(of_test, table.records, strict=True)]
    return replace(table, columns=["family", *table.columns], rows=rows, records=records)


def predictions_section(run: RunRecord) -> Section:
    """Return the confusion matrix of each method except chance; for targets, scatter plots of one method."""
    if isinstance(run.task, Regression):
        method = main_method(run)
        return Section("Predictions", figures=[] if method is None else _scatter_figures(run, run.task, method))
    if isinstance(run.task, Tags):
        return Section("Predictions")
    with style.styled():
        confusions = [_confusion(run, run.task, method) for method in _shown_methods(run)]
    figures, tables = [figure for figure, _ in confusions], [table for _, table in confusions]
    return Section("Predictions", figures=figures, folded_tables=tables)


def main_method(run: RunRecord) -> Method | None:
    """Return the method of the first approach that learns a similarity, or else the first that is not chance."""
    methods = _shown_methods(run)
    learned = [method for method in methods if method.approach.similarity is not None]
    return next(iter([*learned, *methods]), None)


def best_marks(n_tests: int) -> str:
    """Return the sentence of a caption that explains which scores are marked."""
    if not n_tests:
        return "No declared comparison was tested, so no score is marked."
    return (
        "Bold with a star: significantly better in every comparison of the method that was declared before training, "
        "after Holm's correction. Other scores are not marked."
    )


def shown_parameters(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a plugin's parameters as a user would set them: for an RBF kernel ``gamma=scale`` rather than None."""
    parameters: Mapping[str, Any] = plugin.get("parameters") or {}
    if plugin.get("name") == "svm" and parameters.get("kernel") == "rbf" and parameters.get("gamma") is None:
        return {**parameters, "gamma": "scale"}
    return parameters


def _table_by_line(
    run: RunRecord, name: str, title: str, all_lines: Sequence[Line], remark: str, best: Collection[str] = ()
) -> Table:
    methods = run.first_methods
    cells: dict[Line, list[Cell]] = {}
    records = []
    for line in all_lines:
        cells[line] = []
        for method in methods:
            interval, is_best = run.interval(method.name, line), line == (run.headline, None) and method.name in best
            cells[line].append(Cell.of(interval, best=is_best))
            records.append(_record(line, method, interval) | {"best": is_best})
    caption = f"{_means(run)}. {remark}{_first_learner(run)}"
    labels = [line_label(line) for line in all_lines]
    if _methods_are_rows(run):
        headings = columns(methods)
        of_methods = zip(*headings.values(), *cells.values(), strict=True)
        rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in of_methods]
        return Table(name, title, caption, [*headings, *labels], rows, records)
    first = "target" if len({metric for metric, _ in all_lines}) == 1 else "metric"
    rows = [[Cell(label), *of_line] for label, of_line in zip(labels, cells.values(), strict=True)]
    return Table(name, title, caption, [first, *(method.name for method in methods)], rows, records)


def _methods_are_rows(run: RunRecord) -> bool:
    """Whether the methods of a run differ in network or features, so that their names would be too long for columns."""
    return len(columns(run.first_methods)) > 1


def _metrics_table(run: RunRecord) -> Table:
    """Return all metrics of each method, over folds and pooled."""
    scores = {one.method: one for one in run.scores}
    by_method = [scores[method.name] for method in run.methods]
    means = [name for name, column in by_method[0].intervals if column is None]
    labels = {name: metric_named(name).label for name in means}
    headings = columns(run.methods)
    if len(headings) == 1:
        headings = {"method": [one.method for one in by_method]}
    names = [*headings, *labels.values(), *(f"pooled {label}" for label in labels.values())]
    rows = [
        [
            *(Cell(heading) for heading in heading_of),
            *(Cell.of(one.intervals[name, None]) for name in labels),
            *(Cell.of(one.pooled[name, None]) for name in labels),
        ]
        for one, *heading_of in zip(by_method, *headings.values(), strict=True)
    ]
    units = "tracks" if run.groups is None else "groups"
    caption = (
        f"{_means(run)}. Pooled: over the predictions of all folds together, with 95 % bootstrap intervals over "
        f"{units}."
    )
    if any(run.headline in one.undefined for one in by_method):
        metric = metric_named(run.headline)
        names.append(f"undefined {metric.label}")
        counts = [sum(one.undefined.get(run.headline, {}).values()) for one in by_method]
        rows = [[*row, Cell(str(count))] for row, count in zip(rows, counts, strict=True)]
        caption += (
            f" Where {metric.label} is undefined ({' or '.join(metric.reasons)}), it is left out of the mean; the last "
            f"column counts these folds and {metric.column}s."
        )
    records = [
        _record(line, method, interval) | {"over": over}
        for method, one in zip(run.methods, by_method, strict=True)
        for over, intervals in (("folds", one.intervals), ("pooled", one.pooled))
        for line, interval in intervals.items()
    ]
    return Table("metrics", "All metrics", caption, names, rows, records)


def _learner_table(run: RunRecord, cells: _LearnerCells) -> Table:
    metric = run.headline
    rows = []
    for label in dict.fromkeys(label for label, _ in cells):
        row = [Cell(label)]
        for learner in run.learners:
            interval, match = cells[label, learner]
            shown = Cell.of(interval)
            row.append(Cell(shown.text, f"{shown.detail} {match}".strip()))
        rows.append(row)
    records = [
        {**_parts(method), "kernel": match, "metric": metric, **asdict(interval)}
        for method in run.methods
        if method.learner is not None
        for interval, match in [cells[method.label, str(method.learner)]]
    ]
    caption = (
        f"{_means(run, ' of ' + metric_named(metric).label)}. Rows: what the network learned. Columns: what predicts "
        "from its embeddings. “matching”: the kernel is the learned similarity with the same parameters; “same kind”: "
        "with other parameters."
    )
    return Table("kernels", "Learned similarity and kernel", caption, ["approach", *run.learners], rows, records)


def _learner_figure(run: RunRecord, cells: _LearnerCells) -> style.Figure:
    labels = list(dict.fromkeys(label for label, _ in cells))
    means = np.array([[cells[label, learner][0].mean for learner in run.learners] for label in labels], np.float64)
    defined = means[~np.isnan(means)]
    low, high = (float(defined.min()), float(defined.max())) if len(defined) else (0.0, 1.0)
    span = (high - low) or 1.0
    with style.styled():
        figure, axes = style.axes(height=1.6 + 0.5 * len(labels))
        style.draw_cells(axes, means, (low - 0.3 * span, high + 0.3 * span), run.learners, labels)
        for (label, learner), (interval, match) in cells.items():
            i, j = labels.index(label), run.learners.index(learner)
            text = str(interval).replace(" ", "\n", 1)
            shade = 0.0 if interval.mean is None else (interval.mean - low) / span * 0.8
            style.write_cell(axes, i, j, text, shade, fontsize=7)
            if match:
                frame = [j, j + 1, j + 1, j, j], [i, i, i + 1, i + 1, i]
                axes.plot(*frame, color=style.COLORS[1], linewidth=2.2, clip_on=False)
        axes.set(xlabel="learner", ylabel="approach")
        over = "mean and 95 % interval over the folds" if run.n_folds > 1 else "on a single fold"
        caption = (
            f"Scores ({metric_named(run.headline).label}, {over}); darker is higher. Framed: the kernel is the learned "
            "similarity, with the same or other parameters."
        )
        return style.draw(figure, "kernels", "Learned similarity and kernel", caption)


def _kernel_match(run: RunRecord, method: Method) -> str:
    """Return ``matching`` if a method's kernel is the similarity that its network learned.

    ``same kind`` if only its parameters differ; otherwise an empty string.
    """
    learned = run.configuration["approaches"][method.approach.name].get("similarity")
    kernel = _kernel(run.configuration["learners"][str(method.learner)], method.approach.name)
    if learned is None or any(kernel.get(key) != learned[key] for key in ("distribution", "name")):
        return ""
    return "matching" if kernel["parameters"] == learned["parameters"] else "same kind"


def _kernel(learner: Mapping[str, Any], approach: str) -> Mapping[str, Any]:
    """Return the manifest's description of the similarity that is a learner's kernel; empty if there is none."""
    described: Mapping[str, Any] = learner.get("kernels", {}).get(approach, {})
    parameters = shown_parameters(learner)
    if described or parameters.get("kernel") != "rbf":
        return described
    # Scikit-learn's RBF kernel is the same function as the similarity rbf of the learner's distribution.
    gamma = {"gamma": parameters.get("gamma")}
    return {"distribution": learner["distribution"], "name": "rbf", "parameters": gamma}


def _tests_table(run: RunRecord, name: str, title: str, tests: Sequence[PairedTest], family: str) -> Table:
    several_lines = len({test.line for test in tests}) > 1
    rows, records = [], []
    for test in tests:
        content = test.to_json()
        columns = {"A": Cell(test.a), "B": Cell(test.b)}
        if several_lines:
            columns["score"] = Cell(test.target or metric_named(test.metric).label)
        verdict = {"A is higher": f"{test.a} is higher", "B is higher": f"{test.b} is higher"}
        content["verdict"] = verdict.get(test.verdict, test.verdict)
        columns |= {
            "A - B": Cell.of(test.difference),
            "p (Holm)": Cell(p_text(test.p_holm)),
            "verdict": Cell(content["verdict"]),
            "mean of A": Cell(_score(test.mean_a)),
            "mean of B": Cell(_score(test.mean_b)),
            "t": _number(content["t"]),
            "p": Cell(p_text(test.p)),
            **({"p (Welch)": Cell(p_text(test.p_welch))} if run.repeated else {}),
            "effect": _number(content["effect"]),
        }
        rows.append(list(columns.values()))
        del content["difference"]
        records.append(content | {f"difference_{name}": value for name, value in asdict(test.difference).items()})
    return Table(name, title, _tests_caption(run, tests, family), list(columns), rows, records)


def _tests_caption(run: RunRecord, tests: Sequence[PairedTest], family: str) -> str:
    tested = n_tested(tests)
    if not tested:
        return f"Nothing could be tested: {_UNTESTABLE}."
    caption = (
        "Paired differences over the folds; 95 % intervals and t-tests use the variance of Nadeau and Bengio. Holm's "
        f"correction: {family} Effect: Hedges' g of the paired "
        "differences. A difference that is not significant does not show that the methods are equal."
    )
    if tested < len(tests):
        caption += f" Not tested: {_UNTESTABLE}."
    if run.repeated:
        caption += (
            " Welch's test is the one in the paper: it treats overlapping splits as independent and finds too many "
            "differences, so no verdict rests on it."
        )
    return caption


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _number(value: float | None) -> Cell:
    return Cell("" if value is None else f"{value:.2f}")


def _record(line: Line, method: Method, interval: Interval) -> dict[str, Any]:
    return {"method": method.name, **_parts(method), "metric": line[0], "target": line[1], **asdict(interval)}


def _parts(method: Method) -> dict[str, str | None]:
    learner = None if method.learner is None else str(method.learner)
    return {
        "approach": method.approach.name,
        "learner": learner,
        "network": method.network,
        "features": method.features,
    }


def _means(run: RunRecord, of: str = "") -> str:
    """Say what the numbers of a table are; a single fold has neither means nor intervals."""
    kind = "split" if run.repeated else "fold"
    finished = "" if run.finished else " that every method has finished"
    seeds = ", each averaged over its seeds" if run.official and len(run.configuration["seeds"]) > 1 else ""
    if run.n_folds == 1:
        return f"Scores{of} on a single {kind}{finished}{seeds.replace('each ', '')}; intervals need several {kind}s"
    return f"Means{of} over {counted(run.n_folds, kind)}{finished}{seeds}, with 95 % intervals (Nadeau and Bengio)"


def _first_learner(run: RunRecord) -> str:
    """Return the sentence of a caption that says which learner is shown; empty if the run has only one."""
    if len(run.learners) < 2:
        return ""
    return f" Each method is shown with its first learner, {run.learners[0]}; “All metrics” has the other learners too."


def _shown_methods(run: RunRecord) -> list[Method]:
    return [method for method in run.first_methods if method.approach.name != "chance"]


def _confusion(run: RunRecord, task: Classification, method: Method) -> tuple[style.Figure, Table]:
    """Count a method's predictions, with one row for each true class, as a figure and as a table."""
    predictions, classes = run.predictions[method.name], task.classes
    n_classes = len(classes)
    pairs = predictions.truth[:, 0] * n_classes + predictions.predicted[:, 0]
    counts = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = style.axes(height=3.9)
    style.draw_cells(axes, shares, (0.0, 1.0), classes, classes)
    if n_classes <= _FEW_CLASSES:
        for (i, j), count in np.ndenumerate(counts):
            style.write_cell(axes, i, j, str(count), shares[i, j])
    axes.set(xlabel="prediction", ylabel="label")
    name, title = f"confusion-{slug(method.label)}", f"Confusion: {method.name}"
    caption = "Predictions for the tracks of each label, counted over all folds and seeds. Shade: share of the label."
    drawn = style.draw(figure, name, title, caption)
    rows = [[Cell(label), *(Cell(str(count)) for count in row)] for label, row in zip(classes, counts, strict=True)]
    records = [
        {"method": method.name, "label": classes[i], "prediction": classes[j], "count": int(count)}
        for (i, j), count in np.ndenumerate(counts)
    ]
    caption = "Rows: labels. Columns: predictions. Counts over all folds and seeds."
    return drawn, Table(name, title, caption, ["label", *classes], rows, records)


def _scatter_figures(run: RunRecord, task: Regression, method: Method) -> list[style.Figure]:
    predictions = run.predictions[method.name]
    figures = []
    with style.styled():
        for column, target in enumerate(task.targets):
            truth, predicted = predictions.truth[:, column], predictions.predicted[:, column]
            figure, axes = style.axes(height=3.6)
            ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
            axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1))
            axes.plot(truth, predicted, "o", color=style.COLORS[0], markersize=3.2, alpha=0.45, markeredgewidth=0)
            axes.lines[-1].set_rasterized(len(truth) > _MANY_POINTS)
            axes.set(xlabel=f"annotated {target.name}", ylabel=f"predicted {target.name}")
            r = pearson_r(truth, predicted)
            caption = f"Each point is a track in a test fold, predicted by {method.name}. Pooled r = {r:.3f}."
            figures.append(style.draw(figure, f"scatter-{slug(target.name)}", f"Prediction of {target.name}", caption))
    return figures
