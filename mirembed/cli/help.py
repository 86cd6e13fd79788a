"""The help of commands in two plain columns, and hints on flags that a command does not have."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_SECTIONS = {
    "Data": ("dataset", "audio", "store", "exclude", "limit", "train_size"),
    "Method": (
        *("preset", "config", "features", "network", "similarity", "approach", "label_similarity", "learner", "from_"),
        *("ensemble", "combine", "select", "inner_cv"),
    ),
    "Training": ("epochs", "batch", "optimizer", "excerpt", "deltas", "normalize", "seed"),
    "Evaluation": ("cv", "folds", "splits", "test_size", "metric", "against", "checkpoint_every"),
    "Machine": ("jobs", "executor", "scheduler", "device", "engine", "backend", "timeout"),
    "Output": ("name", "out", "force", "bom", "keep_models", "keep_embeddings", "dry_run", "json", "help"),
}
"""The sections of a long help, and the parameters of each. Others come first, as "Options"."""

_LONG = 12
"""A command with at least this many options has sections in its help."""

_NAMES = 20
"""Columns for the names of options and commands, at most."""

MEANT = {
    "--optimizer adam:lr=0.001": ("lr", "learning-rate", "adam", "sgd", "weight-decay"),
    "--optimizer adam:lr=0.001,clip=10": ("clip", "clip-norm", "grad-clip", "gradient-clip", "max-grad-norm"),
    "--network gru:hidden=200": ("hidden", "units", "layers", "model", "dropout", "architecture"),
    "--features logmel:bands=80": (
        "bands",
        "mels",
        "n-mels",
        "n-fft",
        "hop",
        "hop-length",
        "sr",
        "sample-rate",
        "mfcc",
    ),
    "--similarity rbf:gamma=2": ("gamma", "loss", "kernel", "distance", "metric-learning"),
    "--learner svm:C=10": ("c", "svm", "svc", "classifier", "regressor", "estimator"),
    "--dataset folder:labels=TABLE": ("labels", "label", "targets", "target", "annotations", "metadata", "csv"),
    "--audio DIR": ("input", "folder", "dir", "directory", "path", "data", "music", "root"),
    "--store DIR": ("cache", "output-dir", "db", "database", "workdir", "features-dir"),
    "--epochs N": ("n-epochs", "max-epochs", "iterations", "iters"),
    "--batch N": ("batch-size", "bs"),
    "--seed N": ("random-state", "random-seed", "seeds"),
    "--cv N": ("k", "n-folds", "kfold", "k-fold", "n-splits"),
    "--folds grouped": ("group", "groups", "groupkfold", "artist-filter", "split"),
    "--combine": ("fuse", "fusion", "average", "stack", "stacking", "vote", "blend"),
    "--select learner.C=0.1|1|10": ("grid", "tune", "search", "grid-search"),
    "--jobs N": ("workers", "n-jobs", "threads", "num-workers", "processes", "cores", "cpus", "parallel"),
    "--device cuda": ("gpu", "cuda", "cpu"),
    "--top N": ("n", "count", "number", "k", "results", "neighbors", "limit"),
    "--length N": ("n", "count", "number", "size", "tracks", "top"),
    "--out FILE": ("output", "o", "file", "save", "to", "csv", "parquet", "html", "export"),
    "--force": ("overwrite", "replace", "clobber", "f"),
    "--write": ("apply", "save", "no-dry-run"),
    "--yes": ("y", "assume-yes", "no-confirm", "force"),
    "--min-score P": ("threshold", "min-probability", "confidence", "cutoff"),
    "--exclude WHAT": ("ignore", "skip", "without", "not"),
    "--retry-failed": ("retry", "again"),
    "--prune": ("delete", "clean", "remove", "purge"),
}
"""Flags, and words by which people who know other programs look for them."""


def write_help(command: TyperCommand | TyperGroup, context: Any, formatter: Any) -> None:
    """Write the help: options by section, in two columns."""
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    sections = list(_sections(command, context))
    options = [name for _, rows in sections for name, _ in rows if name.startswith("-")]
    for title, rows in sections:
        aligned = options if rows[0][0].startswith("-") else [name for name, _ in rows]
        indent = " " * (4 + max(len(name) for name in aligned if len(name) <= _NAMES))
        formatter.write(f"\n{title}:\n")
        for name, text in rows:
            lead = f"  {name}".ljust(len(indent))
            if len(name) > _NAMES:
                formatter.write(f"{lead}\n")
                lead = indent
            wrapped = textwrap.fill(
                text, formatter.width, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False
            )
            formatter.write(f"{wrapped}\n")
    if command.epilog:
        formatter.write(f"\n{textwrap.fill(command.epilog, formatter.width, break_on_hyphens=False)}\n")


def _sections(command: TyperCommand | TyperGroup, context: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield titles, and rows of names and descriptions: arguments, options, subcommands."""
    shown = [parameter for parameter in command.get_params(context) if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if isinstance(parameter, TyperArgument)]
    if arguments:
        yield "Arguments", [(argument.metavar or argument.name or "", argument.help or "") for argument in arguments]
    options = {parameter.name: parameter for parameter in shown if isinstance(parameter, TyperOption)}
    sections = _SECTIONS if len(options) >= _LONG else {}
    placed = {name for names in sections.values() for name in names}
    for title, names in {"Options": [name for name in options if name not in placed], **sections}.items():
        if rows := [_row(options[name]) for name in names if name in options]:
            yield title, rows
    by_panel: dict[str, list[tuple[str, str]]] = {}
    group: Any = command  # with commands, if it is one
    for name in command.list_commands(context) if isinstance(command, TyperGroup) else ():
        below = group.get_command(context, name)
        if below is not None and not below.hidden:
            panel = below.rich_help_panel if isinstance(below.rich_help_panel, str) else "Commands"
            by_panel.setdefault(panel, []).append((name, below.get_short_help_str(limit=200)))
    yield from by_panel.items()


def _row(option: TyperOption) -> tuple[str, str]:
    pair = option.secondary_opts == [f"--no-{option.opts[0][2:]}"]
    names = f"--[no-]{option.opts[0][2:]}" if pair else ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count else f" {option.metavar or 'TEXT'}"
    text = option.help or ""
    if option.show_default and not option.is_flag and option.default is not None and not callable(option.default):
        text += f" Default: {option.default}."
    if option.envvar:
        text += f" Environment: {option.envvar}."
    return names + value, text


def with_hint(command: Any, parse: Callable[[], list[str]]) -> list[str]:
    """Call ``parse``; the error of an unknown flag names the one that was probably meant."""
    try:
        return parse()
    except typer.TyperException as error:
        wrong = getattr(error, "option_name", None)
        if isinstance(wrong, str) and hasattr(error, "possibilities"):
            own = {name for parameter in command.params for name in parameter.opts}
            word = wrong.lstrip("-").lower().replace("_", "-")
            meant = [flag for flag, words in MEANT.items() if word in words and flag.partition(" ")[0] in own]
            error.possibilities = meant or error.possibilities
        raise
