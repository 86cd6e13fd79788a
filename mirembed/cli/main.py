"""The program ``mirembed``: its commands, and what becomes of errors."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from mirembed import MirembedError, __version__
from mirembed.cli import compare, datasets, embed, evaluate, extract, fit, plugins, predict, similar, store

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
app.command("embed")(embed.embed)
app.command("predict")(predict.predict)
app.command("similar")(similar.similar)
app.add_typer(datasets.app, name="datasets")
app.add_typer(store.app, name="store")
app.command("plugins")(plugins.plugins)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mirembed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the program; every error becomes one or two lines on standard error and the exit code 1."""
    sys.exit(_run())


def _run() -> int:
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files need not be valid text; what cannot be printed is escaped.
            sys.stdout.reconfigure(errors="backslashreplace")
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
