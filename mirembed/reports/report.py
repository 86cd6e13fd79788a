"""The report of a run or of a grid, written to a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirembed.errors import StoreWriteError
from mirembed.progress import Progress, Silent
from mirembed.registry import Registry
from mirembed.reports import contents
from mirembed.reports.overview import overview_sections
from mirembed.reports.page import Part, Section, render
from mirembed.reports.scoring import RunScores
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import read_members, read_run
from mirembed.store.files import writing

_MARK = '<meta name="generator" content="mirembed">'


@dataclass(frozen=True)
class Written:
    """A report on disk.

    Attributes
    ----------
    page : pathlib.Path
    figures, tables : tuple of pathlib.Path
    progress : tuple of str
        What is to be said of runs that are going on.
    """

    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    progress: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the paths as JSON."""
        return {
            "page": str(self.page),
            "figures": [str(path) for path in self.figures],
            "tables": [str(path) for path in self.tables],
            "progress": list(self.progress),
        }


def write_report(folder: Path, out: Path | None, registry: Registry, progress: Progress | None = None) -> Written:
    """Write the report of a run, or of all runs of a grid.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run or grid.
    out : pathlib.Path or None
        A new folder, or that of an earlier report, which is replaced. None: ``report`` in ``folder``.
    registry : Registry
        The similarities that were learned are computed again.

    Raises
    ------
    StoreError
        The run is damaged or has nothing to report yet, or the report cannot be written.
    """
    progress = progress or Silent()
    out = out or folder / "report"
    _check_replaceable(out)
    names = read_members(folder)
    members = [folder / name for name in names or []]
    folders = [member for member in members if RunFolder(member).has_folds] if members else [folder]
    progress.start(f"drawing the report of {folder.name}", len(folders))
    scores, parts = [], []
    for number, member in enumerate(folders, 1):
        scores.append(RunScores(read_run(member)))
        parts.append(contents.part(scores[-1], registry))
        progress.update(number)
    overview = [] if names is None else overview_sections(scores, len(names))
    html = render(f"Report of {folder.name}", _introduction(scores, names), overview, parts)
    with writing(out) as temporary:
        _write(temporary, html, overview, parts)
        if out.exists():
            shutil.rmtree(out)
    return Written(
        out / "index.html",
        tuple(sorted(out.glob("figures/*"))),
        tuple(sorted(out.glob("tables/*"))),
        tuple(f"{part.heading}: {part.progress}" for part in parts if part.progress),
    )


def _introduction(scores: Sequence[RunScores], names: Sequence[str] | None) -> list[str]:
    said = [contents.title(one.run) for one in scores] if names is None else [f"{len(scores)} of {len(names)} runs."]
    return [*said, "Every number is computed from the stored predictions; figures and tables lie beside this page."]


def _check_replaceable(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    page = out / "index.html"
    if not page.is_file() or _MARK not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise StoreWriteError(f"{out} is there already, and is no report of mirembed; choose another --out")


def _write(folder: Path, html: str, overview: Sequence[Section], parts: Sequence[Part]) -> None:
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True)
    (folder / "index.html").write_text(html, encoding="utf-8")
    for prefix, section in _sections(overview, parts):
        for table in (*section.tables, *section.folded):
            (folder / "tables" / f"{prefix}{table.name}.csv").write_text(table.to_csv(), encoding="utf-8")
            (folder / "tables" / f"{prefix}{table.name}.tex").write_text(table.to_latex(), encoding="utf-8")
        for figure in section.figures:
            (folder / "figures" / f"{prefix}{figure.name}.svg").write_bytes(figure.svg)
            (folder / "figures" / f"{prefix}{figure.name}.png").write_bytes(figure.png)


def _sections(overview: Sequence[Section], parts: Sequence[Part]) -> Iterator[tuple[str, Section]]:
    """Yield all sections with the beginning of their files' names."""
    yield from (("", section) for section in overview)
    for part in parts:
        prefix = f"{part.name}-" if len(parts) > 1 else ""
        yield from ((prefix, section) for section in part.sections)
