"""Comparisons of a run's methods: the declared families of tests and the exploratory ones, and those of learners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from mirembed.compare.families import Family, run_families
from mirembed.compare.paired_tests import PairedTest, RunMethod, corrected, n_tested, p_text, paired_test
from mirembed.config.approaches import Method
from mirembed.config.selection import Choice
from mirembed.progress import counted
from mirembed.reports import style
from mirembed.reports.captions import describe_means
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import lines
from mirembed.runs.tables import TRAINED, network_of
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named

_UNTESTABLE = (
    "the variance of a difference cannot be estimated from a single split, from undefined scores, or if the difference "
    "is the same in every fold"
)

_LearnerCells: TypeAlias = Mapping[tuple[str, str], tuple[Interval, str]]
"""The headline score and the match of the kernel, by `Method.label` and learner, for those that occur."""


def compare_methods(run: RunRecord) -> tuple[Family, ...]:
    """Test the methods of a run; an unfinished run is not tested."""
    return run_families(run) if run.finished else ()


def declared_tests(families: Iterable[Family]) -> list[PairedTest]:
    """Return the tests of the families that were declared before training."""
    return [test for family in families if not family.exploratory for test in family.tests]


def learners_section(run: RunRecord) -> Section:
    """Return the scores of each network with each learner; empty for a run with a single learner."""
    if len(run.learners) < 2:
        return Section("Learners")
    kernels = {str(plugin["parameters"].get("kernel")) for plugin in run.configuration["learners"].values()}
    title = "Kernels" if len(kernels) > 1 else "Learners"
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
        f"Holm's correction: exploratory, over the {counted(n_tested(tests), 'test')} of every pair of learners on the "
        f"same network, in {metric_named(headline[0]).label}."
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
    described = " ".join(f"{text[0].upper()}{text[1:]}." for text in (family.describe() for family in families))
    of_test = [family.name for family in families for _ in family.tests]
    table = _tests_table(run, name, title, tests, described)
    rows = [[Cell(family), *row] for family, row in zip(of_test, table.rows, strict=True)]
    records = [{"family": family, **record} for family, record in zip(of_test, table.records, strict=True)]
    return replace(table, columns=["family", *table.columns], rows=rows, records=records)


def _learner_table(run: RunRecord, cells: _LearnerCells) -> Table:
    metric = run.headline
    rows = []
    for label in dict.fromkeys(label for label, _ in cells):
        row = [Cell(label)]
        for learner in run.learners:
            if (label, learner) not in cells:
                row.append(Cell(""))
                continue
            interval, match = cells[label, learner]
            shown = Cell.of(interval)
            row.append(Cell(shown.text, f"{shown.detail} {match}".strip()))
        rows.append(row)
    records = [
        {**dict(zip(TRAINED, network_of(method), strict=True)), "kernel": match, "metric": metric, **asdict(interval)}
        for method in run.methods
        if method.learner is not None
        for interval, match in [cells[method.label, str(method.learner)]]
    ]
    caption = (
        f"{describe_means(run, ' of ' + metric_named(metric).label)}. Rows: what the network learned. Columns: what "
        "predicts from its embeddings."
    )
    matches = {match for _, match in cells.values()}
    if "matching" in matches:
        caption += " “matching”: the kernel is the learned similarity with the same parameters."
    if "same kind" in matches:
        caption += " “same kind”: the kernel is the learned similarity with other parameters."
    return Table("kernels", "Learned similarity and kernel", caption, ["approach", *run.learners], rows, records)


def _learner_figure(run: RunRecord, cells: _LearnerCells) -> style.Figure:
    labels = list(dict.fromkeys(label for label, _ in cells))
    nothing = Interval(None, None, None), ""
    means = np.array(
        [[cells.get((label, learner), nothing)[0].mean for learner in run.learners] for label in labels], np.float64
    )
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
        caption = f"Scores ({metric_named(run.headline).label}, {over}); darker is higher."
        if any(match for _, match in cells.values()):
            caption += " Framed: the kernel is the learned similarity, with the same or other parameters."
        return style.draw(figure, "kernels", "Learned similarity and kernel", caption)


def _kernel_match(run: RunRecord, method: Method) -> str:
    """Return ``matching`` if a method's kernel is the similarity that its network learned.

    ``same kind`` if only its parameters differ; otherwise an empty string.
    """
    learned = run.configuration["approaches"][method.approach.name].get("similarity")
    learner = run.configuration["learners"][str(method.learner)]
    kernel = _kernel(learner, method.approach.name)
    if learned is None or any(kernel.get(key) != learned[key] for key in ("distribution", "name")):
        return ""
    follows = "match" in [shown_parameters(learner).get(name) for name in ("kernel", "gamma")]
    chosen = [Choice.parse(text) for text in run.configuration["select"]]
    of_kernel = {"kernel", *kernel["parameters"]}
    if not follows and any(
        c.part == "similarity" or (c.part == "learner" and c.parameter in of_kernel) for c in chosen
    ):
        return "same kind"  # in some folds at least
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
        "Paired differences over the folds; 95 % intervals and t-tests use the variance of Nadeau and Bengio. "
        f"{family} Effect: Hedges' g of the paired differences. A difference that is not significant does not show "
        "that the methods are equal."
    )
    if tested < len(tests):
        caption += f" Not tested: {_UNTESTABLE}."
    if run.repeated:
        caption += (
            " Welch's test is the paper's: it treats overlapping splits as independent, so its p-values are too small; "
            "no verdict depends on it."
        )
    return caption


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _number(value: float | None) -> Cell:
    return Cell("" if value is None else f"{value:.2f}")


def shown_parameters(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a plugin's parameters as a user would set them: for an RBF kernel ``gamma=scale`` rather than None."""
    parameters: Mapping[str, Any] = plugin.get("parameters") or {}
    if plugin.get("name") == "svm" and parameters.get("kernel") == "rbf" and parameters.get("gamma") is None:
        return {**parameters, "gamma": "scale"}
    return parameters
