"""The report on a run, or on all runs of an experiment: what it shows, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mirembed.compare.families import Family
from mirembed.compare.paired_tests import best_of, n_tested
from mirembed.config.approaches import Method
from mirembed.differences import made_with
from mirembed.errors import MirembedError, StoreWriteError
from mirembed.hookspecs import Regression
from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.reports.captions import best_marks
from mirembed.reports.comparisons import (
    compare_methods,
    declared_tests,
    learners_section,
    shown_parameters,
    significance_section,
)
from mirembed.reports.curves import curves_section
from mirembed.reports.embeddings import embedding_sections
from mirembed.reports.page import Cell, RunPart, Section, Table, render
from mirembed.reports.predictions import main_method, predictions_section, probabilities_section
from mirembed.reports.scores import retrieval_section, scores_section
from mirembed.reports.train_sizes import train_sizes_section
from mirembed.reports.trainings import cost_section, selection_section
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import RunRecord, read_members, read_run
from mirembed.runs.scores import lines
from mirembed.specs import Spec
from mirembed.statistics.metrics import metric_named
from mirembed.store import Store
from mirembed.store.files import check_writable, writing
from mirembed.store.recordings import durations
from mirembed.store.rows import task_to_json

_GENERATOR = '<meta name="generator" content="mirembed">'

_SETTINGS = (
    *("epochs", "batch", "optimizer", "excerpt", "deltas", "normalize", "ensemble", "engine", "device"),
    *("train_size", "select", "inner_cv", "bootstrap"),
)
"""Settings that the table of provenance repeats."""

_MANY_NOTES = 12
_Column: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Approach, learner, network and features. The name of a method also depends on how many of each its run has."""

_SIGNS = ("", "+", "@", "@")
"""Before each part of a column in its label."""


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report.

    Attributes
    ----------
    page : pathlib.Path
    figures, tables : tuple of pathlib.Path
        Each in two formats.
    progress : tuple of str
        For each unfinished run, how far it got.
    """

    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    progress: tuple[str, ...]


def write_report(folder: Path, out: Path | None, registry: Registry, progress: Progress = NO_PROGRESS) -> WrittenReport:
    """Write the report on a run, or on all runs of an experiment.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run or experiment.
    out : pathlib.Path or None
        A new folder, or that of an earlier report, which is replaced. None: ``report`` in ``folder``.
    registry : Registry
        Creates the learned similarities, which the report computes again.
    progress : Progress

    Raises
    ------
    StoreError
        The run is damaged or has nothing to report yet, or the report cannot be written.
    """
    out = out or folder / "report"
    _check_replaceable(out)
    names = read_members(folder)
    folders = [folder] if names is None else [folder / name for name in names if RunFolder(folder / name).has_folds]
    progress.start(f"writing the report on {folder.name}", len(folders))
    runs, parts = [], []
    for number, member in enumerate(folders, 1):
        with interruptible():
            run = read_run(member)
            runs.append((run, compare_methods(run)))
            parts.append(_run_part(*runs[-1], registry))
        progress.update(number)
    if names is None:
        about, overview = parts[0].title, []
    else:
        about = f"{len(runs)} of {counted(len(names), 'run')}."
        datasets = _dataset_table([run for run, _ in runs], named=True)
        overview = [Section("Datasets", tables=[datasets])]
        overview.append(Section("Scores", tables=[_overview_table(runs, len(names))]))
        overview.append(train_sizes_section([run for run, _ in runs]))
        differences = Section("Differences", _made_differently([run for run, _ in runs]))
        overview = [section for section in [*overview, differences] if not section.empty]
    source = "All numbers come from the stored predictions. Figures and tables are also saved next to this page."
    with interruptible():
        html = render(f"Report on {folder.name}", [about, source], overview, parts)
    with writing(out, replace_folder=True) as temporary:
        _write_files(temporary, html, overview, parts)
    return WrittenReport(
        out / "index.html",
        tuple(sorted(out.glob("figures/*"))),
        tuple(sorted(out.glob("tables/*"))),
        tuple(f"{part.heading}: {part.progress}" for part in parts if part.progress),
    )


def _check_replaceable(out: Path) -> None:
    check_writable(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    page = out / "index.html"
    if not page.is_file() or _GENERATOR not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise StoreWriteError(f"{out} already exists and is not a mirembed report; choose another folder with --out")


def _write_files(folder: Path, html: str, overview: Sequence[Section], parts: Sequence[RunPart]) -> None:
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True)
    (folder / "index.html").write_text(html, encoding="utf-8")
    sections = [("", section) for section in overview]
    for part in parts:
        prefix = f"{part.name}-" if len(parts) > 1 else ""
        sections += [(prefix, section) for section in part.sections]
    for prefix, section in sections:
        for table in (*section.tables, *section.folded_tables):
            (folder / "tables" / f"{prefix}{table.name}.csv").write_text(table.to_csv(), encoding="utf-8")
            (folder / "tables" / f"{prefix}{table.name}.tex").write_text(table.to_latex(), encoding="utf-8")
        for figure in section.figures:
            (folder / "figures" / f"{prefix}{figure.name}.svg").write_bytes(figure.svg)
            (folder / "figures" / f"{prefix}{figure.name}.png").write_bytes(figure.png)


def _run_part(run: RunRecord, families: Sequence[Family], registry: Registry) -> RunPart:
    """Return the part of the page about a run; ``families`` are those of `compare_methods`."""
    sections = [Section("Dataset", tables=[_dataset_table([run])])]
    if run.predictions:
        sections += [scores_section(run, families), significance_section(run, families), retrieval_section(run)]
        sections += [selection_section(run), curves_section(run), learners_section(run)]
        sections += [predictions_section(run), probabilities_section(run)]
        method = main_method(run)
        sections += embedding_sections(run, registry, method.label if method else "")
    else:
        sections.append(curves_section(run))
    sections += [cost_section(run), _notes_section(run), _provenance_section(run)]
    title = f"{run.configuration['dataset']['spec']}: {run.sizes.describe(run.describe_folds())}"
    return RunPart(run.folder.name, title, _progress(run), [one for one in sections if not one.empty])


def _dataset_table(runs: Sequence[RunRecord], *, named: bool = False) -> Table:
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
    root = next((folder for folder in run.folder.absolute().parents if (folder / "store.json").exists()), None)
    if root is None:
        return None
    try:
        store = Store(root)
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


def _overview_table(runs: Sequence[tuple[RunRecord, tuple[Family, ...]]], n_runs: int) -> Table:
    """Return the headline score of each run and method.

    Parameters
    ----------
    runs : sequence of (RunRecord, tuple of Family)
        Those that have started, with the tests of their methods.
    n_runs : int
        Runs of the experiment.
    """
    columns = _columns([run for run, _ in runs])
    rows, records = [], []
    for run, families in runs:
        line, name = lines(run.task, run.headline)[0], run.folder.name
        best = best_of(declared_tests(families))
        methods = {_column(method): method.name for method in run.first_methods if run.predictions}
        unfinished = "" if run.finished else " (unfinished)"
        cells = [
            Cell(name),
            Cell(f"{run.configuration['dataset']['spec']}{unfinished}"),
            Cell(metric_named(line[0]).label),
        ]
        for column, label in columns.items():
            if column not in methods:
                cells.append(Cell(""))
                continue
            interval, is_best = run.interval(methods[column], line), methods[column] in best
            cells.append(Cell.of(interval, best=is_best))
            parts = dict(zip(("approach", "learner", "network", "features"), column, strict=True))
            keys = {"run": name, "metric": line[0], "method": label, **parts}
            records.append({**keys, **asdict(interval), "best": is_best})
        rows.append(cells)
    several = any(run.n_folds > 1 for run, _ in runs)
    means = "Means over the folds with 95 % intervals (Nadeau and Bengio)" if several else "Scores on single folds"
    missing = n_runs - len(runs)
    tests = [test for _, families in runs for test in declared_tests(families)]
    caption = f"{means}, each method with the first learner of its run. {best_marks(n_tested(tests))}"
    if missing:
        caption += f" {missing} of {counted(n_runs, 'run')} {'has' if missing == 1 else 'have'} not started."
    title = "Scores of each method on each dataset"
    return Table("overview", title, caption, ["run", "dataset", "metric", *columns.values()], rows, records)


def _made_differently(runs: Sequence[RunRecord]) -> list[str]:
    """Describe how runs differ from the first in code, versions, engine and processor; frames differ by dataset."""
    first, *others = runs
    found = {run: made_with(first.configuration, run.configuration) for run in others}
    return [
        f"{run.folder.name} differs from {first.folder.name} in {name}: {there} instead of {here}."
        for run, differences in found.items()
        for name, (here, there) in differences.items()
        if "digest" not in name
    ]


def _columns(runs: Sequence[RunRecord]) -> dict[_Column, str]:
    """Return the columns of the overview with their labels: the approach, and what tells its columns apart."""
    columns = dict.fromkeys(_column(method) for run in runs if run.predictions for method in run.first_methods)
    labels = {}
    for column in columns:
        of_approach = [other for other in columns if other[0] == column[0]]
        several = [len(set(values)) > 1 for values in zip(*of_approach, strict=True)]
        parts = zip(_SIGNS, column, several, strict=True)
        labels[column] = column[0] + "".join(f"{sign}{part}" for sign, part, tells in parts if tells and part)
    return labels


def _column(method: Method) -> _Column:
    learner = None if method.learner is None else str(method.learner)
    return method.approach.name, learner, method.network, method.features


def _notes_section(run: RunRecord) -> Section:
    # The section of the scores, if there is one, has the warnings.
    notes = [note for note in run.notes if not run.predictions or note not in run.warnings]
    more = notes[_MANY_NOTES:]
    folded = {counted(len(more), "more note"): "\n".join(more)} if more else {}
    return Section("Notes", notes[:_MANY_NOTES], folded_texts=folded)


def _provenance_section(run: RunRecord) -> Section:
    configuration = run.configuration
    facts = {
        "command": run.manifest.get("command", ""),
        "run": run.folder.name,
        "started": run.manifest.get("started", ""),
        "finished": run.manifest["finished"] or "not yet",
        "processor": configuration.get("processor", ""),
        "code of mirembed": _short(configuration.get("code", "")),
        "dataset digest": configuration["dataset"]["digest"],
        "seeds": ", ".join(map(str, configuration["seeds"])),
        **{name: _setting(configuration.get(name)) for name in _SETTINGS},
        "metric": run.headline,
        "versions": ", ".join(f"{name} {version}" for name, version in configuration.get("versions", {}).items()),
        **_plugins(configuration),
    }
    rows = [[Cell(name), Cell(text)] for name, text in facts.items()]
    records = [{"what": name, "value": text} for name, text in facts.items()]
    title, caption = "Where the numbers come from", "From the run's manifest.json."
    table = Table("provenance", title, caption, ["what", "value"], rows, records)
    folded = {} if run.experiment is None else {"experiment.toml": run.experiment}
    return Section("Provenance", tables=[table], folded_texts=folded)


def _setting(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plugins(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Describe every plugin that the run used, with its distribution and parameters."""
    plugins = {"dataset": configuration["dataset"].get("plugin") or {}}
    for features in configuration["features"].values():
        plugins |= {f"features {part['spec']}": part["plugin"] for part in features["parts"]}
    plugins |= {f"network {spec}": network["plugin"] for spec, network in configuration["networks"].items()}
    for name, roles in configuration["approaches"].items():
        plugins |= {f"{name}, {role.replace('_', ' ')}": plugin for role, plugin in roles.items() if plugin}
    plugins |= {f"learner {spec}": plugin for spec, plugin in configuration["learners"].items() if plugin}
    described = {}
    for role, plugin in plugins.items():
        if plugin.get("name"):
            parameters = ", ".join(f"{name}={value}" for name, value in shown_parameters(plugin).items())
            origin = f"{plugin.get('distribution', 'unknown')} {plugin.get('version', '')}".strip()
            if plugin.get("code") and not plugin.get("file_hash"):
                origin += f", code {_short(plugin['code'])}"
            described[role] = f"{plugin['name']} of {origin}" + (f" ({parameters})" if parameters else "")
    return described


def _short(code: str) -> str:
    """Return the first digits of a digest of source."""
    return code.removeprefix("sha256:")[:12]


def _progress(run: RunRecord) -> str:
    """Describe how far an unfinished run got; empty for a finished one."""
    if run.finished:
        return ""
    scores = (
        f"The scores are those of the {counted(run.n_folds, 'fold')} that every method has finished, and will change."
        if run.n_folds
        else "There are no scores until every method has finished the same fold."
    )
    return (
        f"This run is unfinished: {run.n_done} of {counted(run.n_trainings, 'training')} done. {scores} Significance "
        "is tested once the run is finished."
    )
