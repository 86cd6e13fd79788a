"""The trainings of a run: what was chosen inside their folds, and what they cost."""

from __future__ import annotations

from mirembed.progress import duration, size
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.cost import MethodsCost, total
from mirembed.runs.record import RunRecord
from mirembed.runs.selection import chosen_counts
from mirembed.statistics.metrics import metric_named


def selection_section(run: RunRecord) -> Section:
    """Return what was chosen inside the folds; empty if nothing was."""
    if not run.selection:
        return Section("Selection")
    metric = metric_named(run.headline).label
    about = (
        f"Chosen inside each fold by the mean {metric} over {_inner_folds(run)} of its training tracks; the test "
        "tracks of the fold are not used. The scores of all candidates are in selection.parquet."
    )
    return Section("Selection", [about], tables=[_counts_table(run)], folded_tables=[_choices_table(run, metric)])


def _inner_folds(run: RunRecord) -> str:
    """Say how many inner folds there are; a table of folds or official splits may have their own."""
    return f"{run.configuration['inner_cv']} inner folds" if run.configuration["cv"] else "inner folds"


def _counts_table(run: RunRecord) -> Table:
    rows, records = [], []
    for method, values, count, n_folds in chosen_counts(run.selection):
        rows.append([Cell(method), Cell(values), Cell(str(count)), Cell(str(n_folds))])
        records.append({"method": method, "values": values, "folds": count, "of": n_folds})
    caption = "In how many folds, of all seeds, each combination was chosen."
    return Table("selection", "What was chosen", caption, ["method", "chosen", "folds", "of"], rows, records)


def _choices_table(run: RunRecord, metric: str) -> Table:
    """Return what was chosen in each fold."""
    choices = list(dict.fromkeys(name for one in run.selection for name in one.values))
    several_seeds = run.n_seeds > 1
    rows, records = [], []
    for one in run.selection:
        score = "undefined" if one.score is None else f"{one.score:.3f}"
        place = [str(one.seed), str(one.fold)] if several_seeds else [str(one.fold)]
        values = [one.values.get(name, "") for name in choices]
        rows.append(list(map(Cell, [one.method, *place, *values, score, str(one.n_candidates)])))
        of_fold = dict(zip(choices, values, strict=True))
        end = {"score": one.score, "candidates": one.n_candidates}
        records.append({"method": one.method, "seed": one.seed, "fold": one.fold, **of_fold, **end})
    names = ["method", *(["seed"] if several_seeds else []), "fold", *choices, f"inner {metric}", "candidates"]
    caption = (
        f"Inner {metric}: the mean of the chosen candidate over the inner folds, which is likely to be higher than its "
        "score on new tracks."
        if metric_named(run.headline).higher_is_better
        else f"Inner {metric}: the mean of the chosen candidate over the inner folds, which is likely to be lower than "
        "its score on new tracks."
    )
    return Table("selection-folds", "What was chosen in each fold", caption, names, rows, records)


def cost_section(run: RunRecord) -> Section:
    """Return what the trainings cost; empty if none is finished."""
    if not run.costs:
        return Section("Cost")
    rows = [_cost_row(", ".join(one.methods), one) for one in run.costs]
    rows += [_cost_row("all", total(run.costs))] if len(run.costs) > 1 else []
    records = [
        {
            "methods": ", ".join(one.methods),
            "network": one.network,
            "features": one.features,
            "trainings": one.trainings,
            "resumed": one.resumed,
            "cpu_seconds": one.cost.cpu_seconds,
            "wall_seconds": one.cost.wall_seconds,
            "peak_memory": one.cost.peak_memory,
            "processors": ", ".join(one.processors),
        }
        for one in run.costs
    ]
    resumed = " What interrupted trainings lost between checkpoints may be missing." if _resumed(run) else ""
    caption = (
        "A training is one fold of one seed: its network, with the inner folds, learners and predictions of the "
        "methods that share it. Times are summed over the trainings, even those that ran in parallel; CPU "
        "time is that of all cores. Memory: the most physical memory that the process of a training used, "
        f"libraries included.{resumed}"
    )
    names = ["methods", "trainings", *(["resumed"] if _resumed(run) else []), "CPU time", "wall time", "memory"]
    if not _resumed(run):
        rows = [[*row[:2], *row[3:]] for row in rows]
    return Section("Cost", tables=[Table("cost", "Time and memory", caption, [*names, "processor"], rows, records)])


def _resumed(run: RunRecord) -> int:
    return sum(one.resumed for one in run.costs)


def _cost_row(name: str, part: MethodsCost) -> list[Cell]:
    times = [_time(part.cost.cpu_seconds), _time(part.cost.wall_seconds)]
    counts = [str(part.trainings), str(part.resumed)]
    return list(map(Cell, [name, *counts, *times, size(part.cost.peak_memory), ", ".join(part.processors)]))


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{seconds:.1g} s"
