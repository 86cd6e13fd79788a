"""The program ``mirembed``: its commands, and how errors are reported."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mirembed import MirembedError, __version__
from mirembed.cli import (
    apply,
    datasets,
    duplicates,
    evaluate,
    export,
    extract,
    fit,
    playlist,
    plugins,
    runs,
    similar,
    store,
    tag,
    update,
)
from mirembed.cli import map as library_map
from mirembed.cli.app import App
from mirembed.cli.output import keep_stdout_for_results, open_closed_streams, show_warnings
from mirembed.cli.plugin_commands import CommandGroup
from mirembed.interruption import end_quietly, raise_if_interrupted, take_interruption_message, was_interrupted
from mirembed.store.files import advice_on

_TYPER_INTERRUPTED = 130
"""Typer catches `KeyboardInterrupt` and returns this."""

app = App(
    name="mirembed",
    cls=CommandGroup,
    help="Music embeddings that copy the similarity between labels.",
    epilog="To start: mirembed extract, mirembed fit --similarity rbf, mirembed evaluate --cv 10. "
    "Without --dataset, they use demo music that mirembed synthesizes.",
    no_args_is_help=True,
)
for panel, commands in {
    "Train and evaluate": (
        (extract.extract, "mirembed extract --dataset gtzan --audio GTZAN"),
        (fit.fit, "mirembed fit --similarity rbf --epochs 100"),
        (evaluate.evaluate, "mirembed evaluate --cv 10 --approach rbf-sl --approach stats"),
        (runs.compare, "mirembed compare demo-20261129 --against stats"),
        (runs.report, "mirembed report demo-20261129 --out report"),
        (apply.embed, "mirembed embed demo-rbf-sl Music --out embeddings.parquet"),
        (apply.predict, "mirembed predict demo-rbf-sl Music --top 3 --out styles.csv"),
        (export.export, "mirembed export demo-rbf-sl --onnx network.onnx"),
    ),
    "Use a music library": (
        (update.update, "mirembed update library-rbf-sl"),
        (similar.similar, 'mirembed similar library-rbf-sl "slow harbor" --max-per-artist 2'),
        (playlist.playlist, 'mirembed playlist library-rbf-sl --from "slow harbor" --to house --out x.m3u8'),
        (duplicates.duplicates, "mirembed duplicates library-rbf-sl --out copies.csv"),
        (library_map.map, "mirembed map library-rbf-sl --out map.html"),
        (tag.tag, "mirembed tag library-rbf-sl Music --min-score 0.8"),
    ),
}.items():
    for command, example in commands:
        app.command(command.__name__, rich_help_panel=panel, epilog=f"Example: {example}")(command)
app.add_typer(datasets.app, name="datasets", rich_help_panel="Manage")
app.add_typer(plugins.app, name="plugins", rich_help_panel="Manage")
app.add_typer(store.app, name="store", rich_help_panel="Manage")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mirembed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", is_eager=True, help="Do not load this distribution or entry point; repeatable."),
    ] = None,
    plugins_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            is_eager=True,
            help="Also load the Python files of this folder as plugins. Environment: MIREMBED_PLUGINS_DIR.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # The first two options are eager because the help shows the commands of the selected plugins.
    from mirembed.registry.discovery import selecting

    context.with_resource(selecting(no_plugin or [], plugins_dir))


def main() -> None:
    """Run the program. Every error becomes one or two lines on standard error and exit code 1."""
    open_closed_streams()
    keep_stdout_for_results()
    show_warnings()
    # Importing torch and scikit-learn makes a million objects that live until the end. Looking for garbage among them
    # again and again, and once more at exit, would take a second.
    gc.set_threshold(50_000, 20, 100)
    code = _run(_command)
    if not was_interrupted():
        code = _run(sys.stdout.flush) or code
    # Nothing is left to interrupt but threads that hang; libraries would print tracebacks while they shut down.
    end_quietly(code)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    sys.exit(code)


def _command() -> object:
    raise_if_interrupted()  # while this was imported
    return app(standalone_mode=False)


def _run(step: Callable[[], object]) -> int:
    """Call ``step``; report an error in one or two lines. Return the exit code."""
    try:
        code = step()
        if code == _TYPER_INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        pass
    except Exception as error:
        if not was_interrupted():  # otherwise it is what a library made of ctrl-C
            return _report(error)
    _say(take_interruption_message())
    return 1


def _report(error: Exception) -> int:
    """Say what went wrong and return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of our output (head, say) has enough
        return 0
    if isinstance(error, (typer.TyperException, MirembedError)):
        show = getattr(error, "show", None)  # a usage error shows the help, too
        if show is not None:
            show()
        else:
            _say(f"error: {error}")
    elif isinstance(error, OSError):
        advice = advice_on(error) or "check that it exists and that you may use it"
        _say(f"error: cannot use {error.filename or 'a file'}: {error.strerror or error}; {advice}")
    else:
        if os.environ.get("MIREMBED_DEBUG"):
            raise error
        _say(f"error: this is a bug in mirembed: {type(error).__name__}: {error}")
        _say("please report it, with the output of the same command under MIREMBED_DEBUG=1")
    return 1


def _say(text: str) -> None:
    typer.echo(text, err=True)
