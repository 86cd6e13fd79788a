"""The report on a run, or on all runs of an experiment: what it shows, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mirembed.compare.answer import answer
from mirembed.compare.families import Family
from mirembed.compare.paired_tests import best_of
from mirembed.config.approaches import Method
from mirembed.differences import made_with
from mirembed.errors import StoreWriteError
from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.reports.captions import best_marks
from mirembed.reports.combined import combined_section
from mirembed.reports.comparisons import (
    compare_methods,
    declared_tests,
    learners_section,
    shown_parameters,
    significance_section,
)
from mirembed.reports.curves import curves_section
from mirembed.reports.embeddings import embedding_sections
from mirembed.reports.headline import headline_section
from mirembed.reports.latex import latex_table
from mirembed.reports.methods import MethodsText, bibliography, describe_methods
from mirembed.reports.page import Cell, RunPart, Section, Table, render
from mirembed.reports.paper import FONT_SIZE, figure_pdf
from mirembed.reports.predictions import main_method, probabilities_section
from mirembed.reports.scores import columns_section, retrieval_section, scores_section
from mirembed.reports.tracks import dataset_table, errors_section
from mirembed.reports.train_sizes import train_sizes_section
from mirembed.reports.trainings import cost_section, selection_section
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import RunRecord, read_members, read_run
from mirembed.runs.scores import lines
from mirembed.specs import Spec
from mirembed.statistics.metrics import metric_named
from mirembed.store.files import check_writable, writing

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
        Each figure as SVG and PNG, and as PDF in every width; each table as CSV and LaTeX.
    methods : tuple of pathlib.Path
        What each run did, in the words of a paper, as Markdown and LaTeX; and the BibTeX of what it used.
    progress : tuple of str
        For each unfinished run, how far it got.
    """

    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    methods: tuple[Path, ...]
    progress: tuple[str, ...]


def write_report(
    folder: Path,
    out: Path | None,
    registry: Registry,
    progress: Progress = NO_PROGRESS,
    *,
    widths: Sequence[float] = (),
    font_size: float = FONT_SIZE,
) -> WrittenReport:
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
    widths : sequence of float
        Of the figures as PDF, in inches; each is drawn anew in each of them.
    font_size : float
        Of the figures as PDF, in points; see `mirembed.reports.paper.figure_pdf`.

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
    overview = [] if names is None else _overview(runs, len(names))
    with interruptible():
        html = render(folder.name, overview, parts)
        texts = [describe_methods(run, registry) for run, _ in runs]
        pdfs = _pdfs(overview, parts, widths, font_size)
    with writing(out, replace_folder=True) as temporary:
        _write_files(temporary, html, overview, parts)
        for name, content in pdfs.items():
            (temporary / "figures" / name).write_bytes(content)
        _write_methods(temporary, parts, texts)
    return WrittenReport(
        out / "index.html",
        tuple(sorted(out.glob("figures/*"))),
        tuple(sorted(out.glob("tables/*"))),
        tuple(sorted(path for path in out.iterdir() if path.suffix in (".md", ".tex", ".bib"))),
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
    for prefix, section in _sections(overview, parts):
        for table in (*section.tables, *section.folded_tables):
            (folder / "tables" / f"{prefix}{table.name}.csv").write_text(table.to_csv(), encoding="utf-8")
            (folder / "tables" / f"{prefix}{table.name}.tex").write_text(latex_table(table, prefix), encoding="utf-8")
        for figure in section.figures:
            (folder / "figures" / f"{prefix}{figure.name}.svg").write_bytes(figure.svg)
            (folder / "figures" / f"{prefix}{figure.name}.png").write_bytes(figure.png)


def _sections(overview: Sequence[Section], parts: Sequence[RunPart]) -> list[tuple[str, Section]]:
    """Return all sections, with what the names of their files begin with."""
    of_parts = [(_prefix(part, parts), section) for part in parts for section in part.sections]
    return [("", section) for section in overview] + of_parts


def _prefix(part: RunPart, parts: Sequence[RunPart]) -> str:
    return f"{part.name}-" if len(parts) > 1 else ""


def _pdfs(
    overview: Sequence[Section], parts: Sequence[RunPart], widths: Sequence[float], font_size: float
) -> dict[str, bytes]:
    """Return all figures as PDF in each width, by the names of their files."""
    return {
        f"{prefix}{figure.name}-{width:g}in.pdf": figure_pdf(figure, width, font_size)
        for prefix, section in _sections(overview, parts)
        for figure in section.figures
        for width in widths
    }


def _write_methods(folder: Path, parts: Sequence[RunPart], texts: Sequence[MethodsText]) -> None:
    for part, text in zip(parts, texts, strict=True):
        name = f"{_prefix(part, parts)}methods"
        (folder / f"{name}.md").write_text(text.to_markdown(), encoding="utf-8")
        (folder / f"{name}.tex").write_text(text.to_latex(), encoding="utf-8")
    (folder / "references.bib").write_text(bibliography(texts), encoding="utf-8")


def _run_part(run: RunRecord, families: Sequence[Family], registry: Registry) -> RunPart:
    """Return the part of the page about a run; ``families`` are those of `compare_methods`."""
    found = answer(run, families)
    sections = [headline_section(run, families, found), curves_section(run)]
    if run.predictions:
        sections += [scores_section(run, families), significance_section(run, families)]
        sections += [combined_section(run)]
        sections += [columns_section(run), learners_section(run), retrieval_section(run), probabilities_section(run)]
        sections += [selection_section(run), cost_section(run)]
        method = main_method(run)
        sections += embedding_sections(run, registry, method.label if method else "")
        sections += [errors_section(run)]
    else:
        sections.append(cost_section(run))
    sections += [Section("Dataset", tables=[dataset_table([run])]), _notes_section(run), _provenance_section(run)]
    spec = run.configuration["dataset"]["spec"]
    return RunPart(
        run.folder.name,
        Spec.parse(spec).name,
        f"{spec}: {run.sizes.describe(run.describe_folds())}",
        found,
        _progress(run),
        run.warnings,
        [one for one in sections if not one.empty],
    )


def _overview(runs: Sequence[tuple[RunRecord, tuple[Family, ...]]], n_runs: int) -> list[Section]:
    """Return the sections on all runs of an experiment together; ``n_runs`` also counts those that have not started."""
    records = [run for run, _ in runs]
    sections = [
        Section("Scores", tables=[_overview_table(runs, n_runs)]),
        train_sizes_section(records),
        Section("Datasets", tables=[dataset_table(records, named=True)]),
        Section("Differences", _made_differently(records)),
    ]
    return [section for section in sections if not section.empty]


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
    marks = best_marks(any(record["best"] for record in records))
    caption = f"{means}, each method with the first learner of its run.{marks}"
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
        if "digest" not in name and (not name.endswith((".tracks", ".frames")) or _same_dataset(run, first))
    ]


def _same_dataset(run: RunRecord, other: RunRecord) -> bool:
    one, another = (each.configuration["dataset"]["spec"] for each in (run, other))
    return bool(one == another)


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
    notes = [note for note in run.notes if note not in run.warnings]  # these are at the top
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
    rows = [[Cell(name), Cell(text)] for name, text in facts.items() if text]
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
