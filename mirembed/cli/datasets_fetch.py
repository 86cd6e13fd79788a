"""``mirembed datasets fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import Json


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset: name or name:param=value.")],
    audio: Annotated[Path, typer.Option(metavar="DIR", help="The dataset's audio folder; made if there is none.")],
    url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL|FILE", help="Take an archive from this address, or from a file; repeatable."),
    ] = None,
    archive: Annotated[str | None, typer.Option(metavar="FILE", help="Fetch only the archive of this name.")] = None,
    checksum: Annotated[
        str | None,
        typer.Option(metavar="SUM", help="Expect sha256:... or md5:... instead of what the dataset says."),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, help="Unpack at most this much of an archive. Default: 100 times its own size."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Download, check and unpack a dataset, or unpack a copy that you have.

    Interrupted, the same command goes on where it stopped. What is there already is neither fetched again nor changed.
    """
    from dataclasses import asdict

    from mirembed.cli.console import ConsoleProgress, print_json
    from mirembed.datasets.catalog import card_of
    from mirembed.datasets.fetch import FetchOptions
    from mirembed.datasets.fetch import fetch as run
    from mirembed.progress import counted
    from mirembed.specs import Spec

    card = card_of(options.discover(), Spec.parse(name))
    choices = FetchOptions(archive, tuple(url or ()), checksum, None if max_size is None else max_size * 1e9)
    with ConsoleProgress() as progress:
        fetched = run(name, card, audio, choices, progress)
    if json:
        print_json({"dataset": name, "audio": str(audio), "archives": [asdict(one) for one in fetched]})
    else:
        n_files = sum(one.n_files for one in fetched)
        typer.echo(
            f"{counted(n_files, 'file')} of {name} in {audio}; next: mirembed datasets check {name} --audio {audio}"
        )
