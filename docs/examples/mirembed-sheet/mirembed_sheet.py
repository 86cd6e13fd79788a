"""The command ``mirembed sheet``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed import MirembedError, counted, find_audio, hookimpl, require_folder

if TYPE_CHECKING:
    from collections.abc import Mapping


def sheet(
    audio: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of audio files.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table, a CSV file.")] = Path("labels.csv"),
) -> None:
    """Write a table of labels to fill in, with a row for each audio file of a folder."""
    require_folder(audio)
    if out.exists():
        raise MirembedError(f"{out} already exists; choose another file with --out")
    files = find_audio(audio).files
    if not files:
        raise MirembedError(f"{audio} contains no audio files")
    write(files, out)
    typer.echo(f"{out}: {counted(len(files), 'row')}; correct the labels, then run:")
    typer.echo(f"mirembed extract --dataset folder:labels={out} --audio {audio}")


def write(files: Mapping[str, Path], out: Path) -> None:
    """Write a row for each file, with the name of its folder as its label."""
    with out.open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "label"])
        rows.writerows([name, path.parent.name] for name, path in files.items())


@hookimpl
def mirembed_register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sheet)
