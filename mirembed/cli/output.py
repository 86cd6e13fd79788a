"""What the user sees: results on standard output; progress, notes and errors on standard error."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import typer

from mirembed.audio.files import printable
from mirembed.errors import JOBLIB_WARNINGS, MirembedError, SystemWarning
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.progress import TimeLeft, duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from mirembed.library.seeds import LibraryTrack

_ESTIMATE_AFTER = 8.0
"""Seconds of work after which the remaining time is estimated."""

_EVENT_INTERVAL = 5.0
"""Seconds between two progress events."""

_PIPE_WIDTH = 200
"""Columns of a table that is not printed on a terminal, unless `COLUMNS` says another number."""

_PLAIN_TERMINALS = ("dumb", "unknown")

_LONG_WORD = 16
"""Longer words, such as paths, may be broken to fit a table on the terminal."""

_LONG_CELL = 40
"""Longer text is wrapped even in a table that is wider than the terminal."""


class ConsoleProgress:
    """Progress as a bar on a terminal and as a few lines elsewhere. Use it in a ``with`` block."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._bar: Bar | None = None
        self._began = 0.0
        self._left = TimeLeft(0)
        self._estimated = False

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def start(self, description: str, total: float) -> None:
        """Start a stage."""
        raise_if_interrupted()
        self._stop()
        self._left, self._estimated = TimeLeft(total), False
        self._began = time.monotonic()
        if total == 0:
            return
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            self.note(f"{description} ...")
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._bar.add_task(description, total=total, details="")

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Move the bar; after some seconds of work, print once how long the rest will take."""
        raise_if_interrupted()
        now = time.monotonic()
        if self._bar is not None:
            details = [f"{audio_seconds / 3600 / max(now - self._began, 1e-3):.2f} h/s"] if audio_seconds else []
            details += [f"{failed} failed"] if failed else []
            self._bar.update(self._bar.task_ids[0], completed=completed, details=", ".join(details))
        left = None if self._estimated else self._left.seconds(now, completed, _ESTIMATE_AFTER)
        if left is not None:
            self._estimated = True
            if left > _ESTIMATE_AFTER:
                self.note(f"about {duration(left)} left")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class EventProgress(ConsoleProgress):
    """Progress for programs: one JSON object per line on standard output. Notes still go to standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._total = self._printed_at = 0.0

    def start(self, description: str, total: float) -> None:
        """Start a stage."""
        raise_if_interrupted()
        self._stage, self._total = description, total
        self._began = self._printed_at = time.monotonic()
        if total:
            self.note(f"{description} ...")

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        """Print an event if the last one is some seconds old."""
        raise_if_interrupted()
        now = time.monotonic()
        if now - self._printed_at < _EVENT_INTERVAL:
            return
        self._printed_at = now
        elapsed = now - self._began
        print_event(
            {
                "event": "progress",
                "stage": self._stage,
                "done": completed,
                "total": self._total,
                "failed": failed,
                "hours_per_second": audio_seconds / 3600 / elapsed,
                "seconds_elapsed": elapsed,
                "seconds_left": elapsed * (self._total - completed) / completed if completed else None,
            }
        )


class Table(NamedTuple):
    """A table to print: see `print_table`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str | None = None


def print_result(as_json: bool, content: Callable[[], Any], text: Iterable[str | Table]) -> None:
    """Print the result of a command on standard output.

    Parameters
    ----------
    as_json : bool
        The flag ``--json``.
    content : callable
        Returns the result for JSON.
    text : iterable of str or Table
        The result for people: lines and tables.
    """
    if as_json:
        print_json(content())
        return
    for block in text:
        if isinstance(block, Table):
            print_table(*block)
        else:
            typer.echo(block)


def confirm(what: str, yes: bool) -> None:
    """Ask whether to go on, unless the user said ``--yes``.

    Parameters
    ----------
    what : str
        What is about to happen, such as ``remove 3.4 MiB from mirembed-store``.
    yes : bool

    Raises
    ------
    MirembedError
        The answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise MirembedError(f"nothing was removed: give --yes to {what}")
    with interruptible():
        confirmed = typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True)
    if not confirmed:
        raise MirembedError("nothing was removed")


def ask_which(text: str, tracks: Sequence[LibraryTrack]) -> int | None:
    """Ask on the terminal which of the tracks that match a text is meant.

    Returns
    -------
    int or None
        The position of the track; None if there is nobody to ask.

    Raises
    ------
    typer.Abort
        The user gives no answer.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return None
    typer.echo(f"{text!r} matches several tracks:", err=True)
    for number, track in enumerate(tracks, 1):
        typer.echo(f"{number:4}  {one_line(track.label)}", err=True)

    def position(answer: str) -> int:
        if not re.fullmatch("[0-9]{1,4}", answer) or not 1 <= int(answer) <= len(tracks):
            raise typer.BadParameter(f"expected a number from 1 to {len(tracks)}")
        return int(answer) - 1

    with interruptible():
        return int(typer.prompt("Number", value_proc=position, err=True))


def print_event(content: dict[str, Any]) -> None:
    """Print one line of JSON and flush it: a program waits for it."""
    sys.stdout.write(json.dumps(content, ensure_ascii=not _is_unicode(sys.stdout)) + "\n")
    sys.stdout.flush()


def print_json(content: Any) -> None:
    """Print JSON on standard output; a path is a string.

    Raises
    ------
    TypeError
        If anything else is not JSON.
    """
    text = json.dumps(content, indent=2, ensure_ascii=not _is_unicode(sys.stdout), default=os.fspath)
    sys.stdout.write(text + "\n")


def _is_unicode(stream: TextIO) -> bool:
    """Whether a stream takes all characters; the escapes of JSON are not those that it would write instead."""
    return (stream.encoding or "utf-8").lower().startswith("utf")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table on standard output.

    Numbers are aligned to the right and never wrapped, floats have three decimals, None is empty, and control
    characters are escaped. Text is wrapped to fit the terminal; in a table that cannot fit, only long text is wrapped.
    """
    from rich.console import Console
    from rich.table import Table as RichTable

    texts = [[one_line(_text(value)) for value in row] for row in rows]
    columns = [one_line(column) for column in columns]
    numeric = [_holds_numbers([row[index] for row in texts]) for index in range(len(columns))]
    # A cell may hold any text: "[dask]" is no markup, and ":note:" no emoji.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    frame = 3 * len(columns) + 1
    widths = _column_widths([columns, *texts], numeric, console.width - frame)
    table = RichTable(width=sum(widths) + frame)
    for column, is_number, width in zip(columns, numeric, widths, strict=True):
        table.add_column(_broken(column, width), justify="right" if is_number else "left", overflow="fold", width=width)
    for row in texts:
        table.add_row(*map(_broken, row, widths))
    if title is not None:
        console.print(one_line(title), style="bold", soft_wrap=True)
    console.print(table, crop=False)


def heading(text: str) -> str:
    """Return a text in bold, for terminals that have bold."""
    return text if os.environ.get("TERM") in _PLAIN_TERMINALS else typer.style(text, bold=True)


def _holds_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers, intervals, shares or sizes; some may be empty, or a score that is undefined."""
    return any(cells) and all(re.fullmatch(r"undefined|<?[0-9.,+\[\] %-]*( [KMG]iB)?", cell) for cell in cells)


def _column_widths(rows: Sequence[Sequence[str]], numeric: Sequence[bool], room: int) -> list[int]:
    """Return the width of each column: that of its longest cell, or less for text if all columns need more than room.

    The first row has the headings, which are text in any column. Text is narrowed to the width of its longest word, or
    to `_LONG_WORD` if that is less. If this is not enough, it is only narrowed to `_LONG_CELL`.
    """
    from rich.cells import cell_len

    cells = list(zip(*rows, strict=True))
    natural = [max(1, *map(cell_len, column)) for column in cells]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in cells]
    least = [
        max(min(word, _LONG_WORD), *(map(cell_len, column[1:]) if is_number else ()), 1)
        for column, word, is_number in zip(cells, words, numeric, strict=True)
    ]
    if sum(least) > room:
        return [min(width, max(_LONG_CELL, low)) for width, low in zip(natural, least, strict=True)]
    widths = list(natural)
    while sum(widths) > room:
        _, widest = max((width, index) for index, width in enumerate(widths) if width > least[index])
        widths[widest] -= 1
    return widths


def _broken(text: str, width: int) -> str:
    """Break words that are longer than a column before one of ``+@|,/``, as names of methods and paths have them.

    >>> _broken("rbf:gamma=2-sl+svm:C=1@logmel and nn", 16)
    'rbf:gamma=2-sl +svm:C=1@logmel and nn'
    """
    from rich.cells import cell_len

    words: list[str] = []
    for word in text.split(" "):
        words.append("")
        for piece in re.split(r"(?<=.)(?=[+@|,/])", word) if cell_len(word) > width else [word]:
            if words[-1] and cell_len(words[-1] + piece) > width:
                words.append("")
            words[-1] += piece
    return " ".join(words)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def shown_path(path: Path | str) -> str:
    """Return a path as a table shows it: relative to the current folder if it is in it."""
    text, here = printable(path), printable(Path.cwd())
    return text.removeprefix(f"{here}/")


def one_line(text: str) -> str:
    r"""Escape control characters and line ends, which file names may contain.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: found[0].encode("unicode_escape").decode(), text)


class _Results(io.FileIO):
    """The file behind standard output. After a write that failed or was interrupted, it discards everything."""

    def write(self, data: Any) -> int:
        """Write bytes.

        Raises
        ------
        BrokenPipeError
            If the reader (``head``, say) is gone.
        MirembedError
            If the file cannot be written for another reason.
        """
        try:
            with interruptible():  # the reader of a pipe may make it wait
                return super().write(data)
        except KeyboardInterrupt:
            self._discard()
            raise
        except OSError as error:
            self._discard()
            if isinstance(error, BrokenPipeError):
                raise
            raise MirembedError(f"cannot write to standard output ({error.strerror})") from error

    def _discard(self) -> None:
        """Discard what is written from now on: at exit, Python would try again, and complain or wait once more."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def open_closed_streams() -> None:
    """Discard what is written to standard output or standard error if the caller closed them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def show_warnings() -> None:
    """Print a `SystemWarning` as one line, whatever Python does with other warnings."""
    warnings.filterwarnings("ignore", module=JOBLIB_WARNINGS)
    show = warnings.showwarning

    def show_line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, SystemWarning):
            typer.echo(f"warning: {message}", err=True)
        else:
            show(message, category, *place, **options)

    warnings.showwarning = show_line


def keep_stdout_for_results() -> None:
    """Redirect what native code, plugins and workers write to file descriptor 1 to standard error."""
    stdout = sys.stdout
    if stdout is not sys.__stdout__ or not isinstance(stdout, io.TextIOWrapper):
        return  # closed, or captured by the caller
    stdout.flush()
    results = _Results(os.dup(stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), stdout.fileno())
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(results),
        encoding=stdout.encoding,
        errors="backslashreplace",  # file names need not be valid text
        line_buffering=results.isatty(),
    )
