"""The tracks of a run: their number, labels and folds, and those that every method gets wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from mirembed.compare.misses import missed_by_all
from mirembed.errors import MirembedError
from mirembed.hookspecs import Classification, Regression, Tags
from mirembed.progress import counted
from mirembed.reports.page import Cell, Section, Table
from mirembed.runs.record import RunRecord
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.recordings import durations, real_path
from mirembed.store.rows import task_to_json

_LISTED = 20
"""Of more tracks that every method gets wrong, only the first are on the page."""

_HEADINGS = {Tags: ["track", "tag", "has it", "predicted"], Regression: ["track", "target", "label", "closest"]}

_ABOUT_PREDICTED = {
    Classification: "Predicted: the classes, with counts over methods and seeds. Unanimous errors come first.",
    Tags: "A row for each tag that every method gets wrong. Tracks with the most such tags come first.",
    Regression: "Closest: the prediction nearest to the label. Those farthest off, in standard deviations, come first.",
}


def dataset_table(runs: Sequence[RunRecord], *, named: bool = False) -> Table:
    """Return the size, labels and folds of each run, with the runs' names if ``named``."""
    rows, records = [], []
    for run in runs:
        task, configuration = run.task, run.configuration
        labels = [target.name for target in task.targets] if isinstance(task, Regression) else task.classes
        hours = _hours(run)
        record = {
            **({"run": run.folder.name} if named else {}),
            "dataset": configuration["dataset"]["spec"],
            "tracks": configuration["n_tracks"],
            "excluded": len(configuration["excluded"]),
            "hours": hours,
            "task": task_to_json(task)["kind"],
            "n_labels": len(labels),
            "labels": ", ".join(labels),
            "folds": run.describe_folds(),
        }
        shown = record | {"hours": "unknown" if hours is None else f"{hours:.2f}"}
        rows.append([Cell(str(value)) for value in shown.values()])
        records.append(record)
    columns = ["number of labels" if name == "n_labels" else name for name in records[0]]
    return Table(
        "datasets", "Tracks, labels and folds", "Tracks and hours are counted after exclusions.", columns, rows, records
    )


def _hours(run: RunRecord) -> float | None:
    """Return the hours of the run's tracks; None unless the store around the run still has all of them."""
    try:
        store = _store_around(run)
        if store is None:
            return None
        known = durations(store)
        tracks = store.dataset(Spec.parse(run.configuration["dataset"]["spec"])).tracks()
    except MirembedError:
        return None
    labeled = [track for track in tracks if track.label is not None]
    stored = {track.id: known[track.recording] for track in labeled if track.recording in known}
    used = [seconds for track, seconds in stored.items() if track not in run.configuration["excluded"]]
    if len(used) != run.configuration["n_tracks"] or not {track for *_, track in run.tests} <= stored.keys():
        return None
    return sum(used) / 3600


def errors_section(run: RunRecord) -> Section:
    """Return the tracks that every method gets wrong, with links to their files; empty if there are none."""
    missed = missed_by_all(run)
    if not missed:
        return Section("Errors")
    files = _files(run, {one.track for one in missed})
    headings = ["track", "label", "predicted"] if isinstance(run.task, Classification) else _HEADINGS[type(run.task)]
    rows = []
    for one in missed[:_LISTED]:
        what = [] if isinstance(run.task, Classification) else [one.what]
        link = files[one.track].as_uri() if one.track in files else ""
        rows.append([Cell(one.track, link=link), *map(Cell, [*what, one.truth, one.predicted])])
    records = [{**asdict(one), "path": str(files.get(one.track, ""))} for one in missed]
    n_tracks, n_missed = len({track for _, _, track in run.tests}), len({one.track for one in missed})
    kind = " by more than its standard deviation" if isinstance(run.task, Regression) else ""
    about = (
        f"{n_missed} of {counted(n_tracks, 'tested track')} {'is' if n_missed == 1 else 'are'} missed{kind} by every "
        "method except chance, whenever tested. Their labels may be wrong, or the features may not contain what tells "
        "them apart."
    )
    shown = f"The first {_LISTED} of {len(missed)}; the CSV file has all. " if len(missed) > _LISTED else ""
    caption = shown + _ABOUT_PREDICTED[type(run.task)]
    if files:
        caption += " Click a track to open its file."
    table = Table("errors", "Tracks that every method misses", caption, headings, rows, records)
    return Section("Errors", [about], tables=[table])


def _files(run: RunRecord, tracks: Collection[str]) -> dict[str, Path]:
    """Return the files of tracks that are still where the store around the run has them."""
    try:
        store = _store_around(run)
        known = {} if store is None else store.dataset(Spec.parse(run.configuration["dataset"]["spec"])).paths()
    except MirembedError:
        return {}
    paths = {track: real_path(known[track]) for track in tracks if known.get(track)}
    return {track: path for track, path in paths.items() if path.is_absolute() and path.is_file()}


def _store_around(run: RunRecord) -> Store | None:
    root = next((folder for folder in run.folder.absolute().parents if (folder / "store.json").exists()), None)
    return None if root is None else Store(root)
