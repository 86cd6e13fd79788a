"""What each member adds to a combined method."""

from __future__ import annotations

from dataclasses import asdict, replace

from mirembed.compare.paired_tests import RunMethod, paired_test
from mirembed.config.approaches import Method
from mirembed.models.averaging import equal_weights
from mirembed.progress import decimals
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.combined import average_predictions
from mirembed.runs.record import RunRecord
from mirembed.statistics.metrics import metric_named
from mirembed.store.root import slug


def combined_section(run: RunRecord) -> Section:
    """Return what each member adds to each combined method; empty if there is none."""
    methods = [method for method in run.methods if method.approach.members]
    return Section("What each member adds", tables=[_members_table(run, method) for method in methods])


def _members_table(run: RunRecord, method: Method) -> Table:
    """Compare a combined method with each of its members, and with the mean of its other members."""
    line, members = (run.headline, None), method.approach.members
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
        rows.append([Cell(name), *map(Cell.of, found.values())])
        numbers = {f"{of}_{part}": value for of, one in found.items() for part, value in asdict(one).items()}
        records.append({"method": method.name, "member": name, "metric": run.headline, **numbers})
    label = metric_named(run.headline).label
    columns = ["member", label, f"{method.name} minus it"]
    columns += [f"{label} of the others combined", f"{method.name} minus these"] if without else []
    title = f"Members of {method.name}"
    return Table(f"members-{slug(method.name)}", title, _caption(run, method, bool(without)), columns, rows, records)


_WITHOUT = "the others combined"


def _without_each(run: RunRecord, method: Method) -> dict[str, RunRecord]:
    """Return, for each member, a run of the combined method and of one without that member."""
    members, whole = method.approach.members, run.predictions[method.name]
    found = {}
    for left_out in members:
        others = [run.predictions[name] for name in members if name != left_out]
        mean = average_predictions(run.task, others, equal_weights(len(others)))
        found[left_out] = replace(run, predictions={method.name: whole, _WITHOUT: mean})
    return found


def _caption(run: RunRecord, method: Method, without: bool) -> str:
    mean = run.interval(method.name, (run.headline, None)).mean
    score = "is undefined" if mean is None else decimals(mean)
    text = f"{metric_named(run.headline).label} of {method.name}: {score}. Differences are paired over the folds"
    text += (
        ", with 95 % intervals (Nadeau and Bengio) that are not corrected for their number." if run.n_folds > 1 else "."
    )
    if without:
        text += " The others combined: the same method without this member."
    return text
