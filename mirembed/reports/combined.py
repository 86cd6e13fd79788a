"""What each member adds to a combined method."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from mirembed.compare.paired_tests import RunMethod, paired_test
from mirembed.config.approaches import Method
from mirembed.models.averaging import equal_weights
from mirembed.progress import decimals
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.combined import average_predictions, member_weights
from mirembed.runs.record import RunRecord
from mirembed.runs.tables import table_rows
from mirembed.statistics.metrics import metric_named
from mirembed.store.root import slug


def combined_section(run: RunRecord) -> Section:
    """Return what each member adds to each combined method; empty if there is none, and for an unfinished run."""
    methods = [method for method in run.methods if method.approach.members and run.finished]
    return Section("What each member adds", tables=[_members_table(run, method) for method in methods])


def _members_table(run: RunRecord, method: Method) -> Table:
    """Compare a combined method with each of its members, and with the mean of its other members."""
    line, members = (run.headline, None), method.approach.members
    weights = {one.member: one for one in member_weights(run.weights) if one.method == method.name}
    without = _without_each(run, method) if len(members) > 2 else {}
    rows, records = [], []
    for name in members:
        score = run.interval(name, line)
        gain = paired_test(RunMethod(run, method.name), RunMethod(run, name), line).difference
        found = {"score": score, "combined_minus_member": gain}
        if without:
            others = without[name]
            found["without"] = others.interval(_WITHOUT, line)
            found["combined_minus_without"] = paired_test(
                RunMethod(others, method.name), RunMethod(others, _WITHOUT), line
            ).difference
        weight = (
            [Cell(f"{weights[name].mean:.2f}", f"{weights[name].low:.2f} to {weights[name].high:.2f}")]
            if weights
            else []
        )
        rows.append([Cell(name), *weight, *map(Cell.of, found.values())])
        numbers = {f"{of}_{part}": value for of, one in found.items() for part, value in asdict(one).items()}
        of_weight = (
            {f"weight_{part}": getattr(weights[name], part) for part in ("mean", "low", "high")} if weights else {}
        )
        records.append({"method": method.name, "member": name, "metric": run.headline, **of_weight, **numbers})
    label = metric_named(run.headline).label
    columns = ["member", *(["weight"] if weights else []), label, f"{method.name} - member"]
    columns += [f"{label} without it", f"{method.name} - without it"] if without else []
    title = f"Members of {method.name}"
    return Table(f"members-{slug(method.name)}", title, _caption(run, method, bool(without)), columns, rows, records)


_WITHOUT = "without it"


def _without_each(run: RunRecord, method: Method) -> dict[str, RunRecord]:
    """Return, for each member, a run of the combined method and of one without that member."""
    members, whole = method.approach.members, run.predictions[method.name]
    found = {}
    for left_out in members:
        others = [run.predictions[name] for name in members if name != left_out]
        mean = average_predictions(run.task, others, _weights_without(run, method, left_out))
        found[left_out] = replace(run, predictions={method.name: whole, _WITHOUT: mean})
    return found


def _weights_without(run: RunRecord, method: Method, left_out: str) -> NDArray[np.float64]:
    """Return the weights of the other members ``[n_others]``, or ``[n_rows, n_others]`` of a stacked method."""
    others = [name for name in method.approach.members if name != left_out]
    if not method.approach.stacked:
        return equal_weights(len(others))
    rows = table_rows(run.weights, "method", "member", "seed", "fold", "weight")
    found = {(member, seed, fold): weight for name, member, seed, fold, weight in rows if name == method.name}
    places = [(seed, fold) for seed, fold, _ in run.predictions[method.name].tests]
    weights = np.array([[found[name, *place] for name in others] for place in places])
    sums = weights.sum(axis=1, keepdims=True)
    return np.where(sums > 0, weights / np.where(sums > 0, sums, 1), 1 / len(others))


def _caption(run: RunRecord, method: Method, without: bool) -> str:
    mean = run.interval(method.name, (run.headline, None)).mean
    score = "is undefined" if mean is None else decimals(mean)
    text = f"{metric_named(run.headline).label} of {method.name}: {score}. Differences are paired over the folds"
    text += (
        ", with 95 % intervals (Nadeau and Bengio) that are not corrected for their number." if run.n_folds > 1 else "."
    )
    if without:
        text += " Without it: the same method without this member"
        text += ", with the other weights scaled to sum to 1." if method.approach.stacked else "."
    if method.approach.stacked:
        text += " Weight: the mean over the folds, and the smallest and largest."
    return text
