"""The headline score of every method beside the reference: the figure at the top of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from mirembed.compare.answer import Answer
from mirembed.compare.families import Family
from mirembed.compare.paired_tests import PairedTest, p_in_text
from mirembed.config.approaches import Method
from mirembed.progress import decimals
from mirembed.reports import style
from mirembed.reports.comparisons import declared_tests
from mirembed.reports.page import Section
from mirembed.runs.record import RunRecord
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named

_LONG_NAME = 20
"""Names with more characters stand above their rows, not at the left of them."""

_LOOKS: dict[str, dict[str, Any]] = {
    "reference": {"color": style.INK, "marker": "D", "markersize": 5.5},
    "better": {"color": style.COLORS[0], "marker": "o", "markersize": 6.5},
    "worse": {"color": style.COLORS[1], "marker": "v", "markersize": 6.5},
    "open": {"color": style.COLORS[6], "marker": "o", "markersize": 6.5, "markerfacecolor": style.PAPER},
}


def headline_section(run: RunRecord, families: Sequence[Family], found: Answer) -> Section:
    """Return the figure of all methods, and what each of them is."""
    explained = {method.approach.name: method.approach.explain() for method in run.methods}
    for name, values in _parts(run.methods).items():
        explained[name] = ", ".join(values)
    with style.styled():
        figures = [_draw(run, families, found)] if found.best else []
    return Section("Methods", figures=figures, definitions=explained)


def _parts(methods: Sequence[Method]) -> dict[str, list[str]]:
    """Return the learners, networks and features of methods."""
    parts = {
        "learner": [None if method.learner is None else str(method.learner) for method in methods],
        "network": [method.network for method in methods],
        "features": [method.features for method in methods],
    }
    found = {name: list(dict.fromkeys(filter(None, values))) for name, values in parts.items()}
    plural = {"learner": "learners", "network": "networks", "features": "features"}
    return {plural[name] if len(values) > 1 else name: values for name, values in found.items() if values}


def _draw(run: RunRecord, families: Sequence[Family], found: Answer) -> style.Figure:
    metric, reference = metric_named(run.headline), found.reference if len(run.predictions) > 1 else None
    tests = _against(families, reference)
    scores = {method: run.interval(method, (metric.name, None)) for method in found.ranked}
    statuses = {method: _status(method, tests.get(method), reference) for method in scores}
    long = max(map(len, scores)) > _LONG_NAME
    figure, axes = style.axes(height=1.15 + (0.44 if long else 0.29) * len(scores))
    for row, (method, one) in enumerate(scores.items()):
        if one.mean is not None:
            look = _LOOKS[statuses[method]]
            ends = (one.mean, one.mean) if one.low is None or one.high is None else (one.low, one.high)
            axes.plot(ends, [row, row], color=look["color"], linewidth=1.8, solid_capstyle="butt")
            axes.plot([one.mean], [row], linestyle="", **look)
    _name_rows(axes, list(scores), long=long)
    labels = [_result(one, tests.get(method), is_reference=method == reference) for method, one in scores.items()]
    _label_rows(axes, labels)
    lines = _draw_lines(run, axes, None if reference is None else scores[reference])
    better = "" if metric.higher_is_better else " (lower is better)"
    axes.set(xlabel=f"{metric.label}{better}")
    _keep_in_range(axes, metric.range)
    legend = _legend(statuses, reference)
    for text, look in legend.items():
        axes.plot([], [], linestyle="", label=text, **look)
    if legend:
        style.legend(figure)
    return style.draw(figure, "headline", f"{metric.title} of all methods", _caption(run, tests, lines))


def _against(families: Sequence[Family], reference: str | None) -> dict[str, PairedTest]:
    """Return the declared test of each method with the reference."""
    tests = declared_tests(families)
    return {(test.a if test.b == reference else test.b): test for test in tests if reference in (test.a, test.b)}


def _status(method: str, test: PairedTest | None, reference: str | None) -> str:
    if method == reference:
        return "reference"
    if test is None or test.better is None:
        return "open"
    return "better" if test.better == method else "worse"


def _result(one: Interval, test: PairedTest | None, *, is_reference: bool) -> str:
    """Return a score and its p-value as text at the right of a row."""
    if one.mean is None:
        return "undefined"
    right = "reference" if is_reference else "" if test is None else p_in_text(test.p_holm)
    return f"{decimals(one.mean)}  {right}".rstrip()


def _name_rows(axes: Axes, names: Sequence[str], *, long: bool) -> None:
    rows = range(len(names))
    axes.set_ylim(len(names) - 0.4, -0.9 if long else -0.6)
    axes.set_yticks(rows, [""] * len(names) if long else names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    if long:
        for row, name in enumerate(names):
            look: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "va": "center",
                "ha": "left",
                "fontsize": 8,
            }
            box = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1}  # covers the vertical lines
            axes.text(0, row - 0.42, name, bbox=box, **look)


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(range(len(labels)), labels)
    right.tick_params(axis="y", length=0)
    right.grid(visible=False)
    right.spines["left"].set_visible(False)


def _draw_lines(run: RunRecord, axes: Axes, reference: Interval | None) -> list[str]:
    """Draw the score of the reference and that of a constant guess; return what they are."""
    about = []
    if reference is not None and reference.mean is not None:
        axes.axvline(reference.mean, color=style.INK, linewidth=0.8, zorder=0)
        about.append("Vertical line: the reference.")
    chance = run.configuration["chance"]
    if chance is not None:
        axes.axvline(chance, color=style.INK, linewidth=0.9, linestyle=style.dashes(2), zorder=0)
        about.append("Dotted line: the score of a constant guess.")
    return about


def _keep_in_range(axes: Axes, limits: tuple[float, float]) -> None:
    (low, high), (lowest, highest) = axes.get_xlim(), limits
    margin = 0.02 * (high - low)
    axes.set_xlim(max(low, lowest - margin), min(high, highest + margin))


def _legend(statuses: Mapping[str, str], reference: str | None) -> dict[str, dict[str, Any]]:
    """Return the meaning of the marks that occur, if there are tests to tell them apart."""
    if reference is None:
        return {}
    texts = {
        "better": f"better than {reference}",
        "worse": f"worse than {reference}",
        "open": f"not significantly different from {reference}",
    }
    return {text: _LOOKS[status] for status, text in texts.items() if status in statuses.values()}


def _caption(run: RunRecord, tests: Mapping[str, PairedTest], lines: Sequence[str]) -> str:
    means = f"Means over {run.n_folds} folds with 95 % intervals." if run.n_folds > 1 else "Scores on a single fold."
    sentences = [means, *lines]
    if any(test.p is not None for test in tests.values()):
        sentences.append(
            "p: Holm-corrected, for the paired difference from the reference. Methods are compared fold by fold, so "
            "they can differ significantly even if their intervals overlap."
        )
    return " ".join(sentences)
