"""Write the report on a run, or on all runs of an experiment, to a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirembed.errors import StoreWriteError
from mirembed.progress import Progress, Silent, counted
from mirembed.registry import Registry
from mirembed.reports.contents import overview_sections, run_part, run_title
from mirembed.reports.page import RunPart, Section, render
from mirembed.reports.score_tables import compare_methods
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import read_members, read_run
from mirembed.store.files import writing

_GENERATOR = '<meta name="generator" content="mirembed">'


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report.

    Attributes
    ----------
    page : pathlib.Path
    figures, tables : tuple of pathlib.Path
    progress : tuple of str
        For each unfinished run, how far it has come.
    """

    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    progress: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the paths and the progress as JSON."""
        return {
            "page": str(self.page),
            "figures": [str(path) for path in self.figures],
            "tables": [str(path) for path in self.tables],
            "progress": list(self.progress),
        }


def write_report(folder: Path, out: Path | None, registry: Registry, progress: Progress | None = None) -> WrittenReport:
    """Write the report on a run, or on all runs of an experiment.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run or experiment.
    out : pathlib.Path or None
        A new folder, or that of an earlier report, which is replaced. None: ``report`` in ``folder``.
    registry : Registry
        Creates the learned similarities, which the report computes again.
    progress : Progress or None

    Raises
    ------
    StoreError
        The run is damaged or has nothing to report yet, or the report cannot be written.
    """
    progress = progress or Silent()
    out = out or folder / "report"
    _check_replaceable(out)
    names = read_members(folder)
    folders = [folder] if names is None else [folder / name for name in names if RunFolder(folder / name).has_folds]
    progress.start(f"writing the report on {folder.name}", len(folders))
    runs, parts = [], []
    for number, member in enumerate(folders, 1):
        run = read_run(member)
        runs.append((run, compare_methods(run)))
        parts.append(run_part(*runs[-1], registry))
        progress.update(number)
    overview = [] if names is None else overview_sections(runs, len(names))
    about = [run_title(run) for run, _ in runs] if names is None else [f"{len(runs)} of {counted(len(names), 'run')}."]
    about.append(
        "All numbers are computed from the stored predictions. Figures and tables are also saved next to this page."
    )
    html = render(f"Report on {folder.name}", about, overview, parts)
    with writing(out) as temporary:
        _write_files(temporary, html, overview, parts)
        if out.exists():
            shutil.rmtree(out)
    return WrittenReport(
        out / "index.html",
        tuple(sorted(out.glob("figures/*"))),
        tuple(sorted(out.glob("tables/*"))),
        tuple(f"{part.heading}: {part.progress}" for part in parts if part.progress),
    )


def _check_replaceable(out: Path) -> None:
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
            (folder / "tables" / f"{prefix}{table.name}.tex").write_text(table.to_latex(), encoding="utf-8")
        for figure in section.figures:
            (folder / "figures" / f"{prefix}{figure.name}.svg").write_bytes(figure.svg)
            (folder / "figures" / f"{prefix}{figure.name}.png").write_bytes(figure.png)


def _sections(overview: Sequence[Section], parts: Sequence[RunPart]) -> Iterator[tuple[str, Section]]:
    """Yield each section with the prefix of its files' names."""
    yield from (("", section) for section in overview)
    for part in parts:
        prefix = f"{part.name}-" if len(parts) > 1 else ""
        yield from ((prefix, section) for section in part.sections)
