"""The program ``mirembed``: its commands, and what becomes of errors."""

from __future__ import annotations

import gc
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mirembed import MirembedError, __version__
from mirembed.cli import compare, datasets, embed, evaluate, extract, fit, plugins, predict, report, similar, store

TYPER_INTERRUPTED = 130
"""What Typer returns after ctrl-C, which it does not pass on."""

app = typer.Typer(
    name="mirembed",
    help="Music embeddings that copy the similarity between labels.",
    epilog="A first run: mirembed extract, mirembed fit --similarity rbf, mirembed evaluate --cv 10. "
    "Without --dataset they use music that mirembed synthesises itself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("extract")(extract.extract)
app.command("fit")(fit.fit)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("embed")(embed.embed)
app.command("predict")(predict.predict)
app.command("similar")(similar.similar)
app.add_typer(datasets.app, name="datasets")
app.add_typer(plugins.app, name="plugins")
app.add_typer(store.app, name="store")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mirembed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Do not load this distribution or entry point; repeatable."),
    ] = None,
    plugins_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Load the Python files of this folder as plugins too. Environment: MIREMBED_PLUGINS_DIR.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from mirembed.registry.selection import selecting

    context.with_resource(selecting(no_plugin or [], plugins_dir))


def main() -> None:
    """Run the program; every error becomes one or two lines on standard error and the exit code 1."""
    _keep_stdout_for_results()
    # What torch and scikit-learn make when they are imported, a million objects, lives until the end: to look for
    # garbage among it again and again, and once more at the end, would take a second.
    gc.set_threshold(50_000, 20, 100)
    code = _run()
    gc.freeze()
    sys.exit(code)


def _keep_stdout_for_results() -> None:
    """Send to standard error what native code and worker processes write to the standard output that they know."""
    stdout, stderr = sys.stdout, sys.__stderr__
    if stdout is not sys.__stdout__ or not isinstance(stdout, io.TextIOWrapper) or stderr is None:
        return  # standard output is closed, or is caught by whoever runs us
    stdout.flush()
    results = os.dup(stdout.fileno())
    os.dup2(stderr.fileno(), stdout.fileno())
    # Names of files need not be valid text; what cannot be printed is escaped.
    sys.stdout = os.fdopen(results, "w", encoding=stdout.encoding, errors="backslashreplace")


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        if code == TYPER_INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:  # a usage error
        show = getattr(error, "show", None)
        if show is not None:
            show()
        else:
            _say(f"error: {error}")
    except MirembedError as error:
        _say(f"error: {error}")
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; what is finished is kept, and the same command goes on from there")
    except BrokenPipeError:
        # The reader of our output (head, say) has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _say(f"error: cannot use {error.filename or 'a file'}: {error.strerror or error}; check its permissions")
    except Exception as error:
        if os.environ.get("MIREMBED_DEBUG"):
            raise
        _say(f"error: this is a bug in mirembed: {type(error).__name__}: {error}")
        _say("please report it, with what MIREMBED_DEBUG=1 shows for the same command")
    return 1


def _say(text: str) -> None:
    typer.echo(text, err=True)
