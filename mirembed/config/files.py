"""Experiment files: the settings of one or several evaluations, in TOML.

::

    epochs = 400                       # for all evaluations
    approach = ["nn", "fl", "rbf-sl"]

    [[evaluation]]                     # one table for each evaluation, if there are several
    name = "cross-validation"
    dataset = ["gtzan", "emotify"]
    cv = 10

The keys are the flags of ``mirembed evaluate``. Presets are experiment files that come with the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirembed.config.settings import Settings, is_folds_file
from mirembed.errors import SpecError

EXPERIMENT_FILE = "experiment.toml"
"""In the folder of a run: the settings that repeat it."""


def read_experiment(path: Path) -> list[Settings]:
    """Read an experiment file; for the folder of a run, the one in it.

    A table of folds is looked for from the folder of the file.

    Raises
    ------
    SpecError
        If it cannot be read, or is malformed.
    """
    if path.is_dir():
        path = path / EXPERIMENT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"--config {path}: cannot be read ({reason}); expected an experiment file or a run") from error
    return [
        replace(one, folds=str(path.parent / one.folds)) if one.folds is not None and is_folds_file(one.folds) else one
        for one in parse_experiment(text, str(path))
    ]


def read_preset(name: str, kind: str | None = None) -> list[Settings]:
    """Read a preset.

    Parameters
    ----------
    name : str
    kind : {"classification", "tags", "regression"} or None
        The task: a preset may have settings for some, in tables such as ``[task.tags]``.

    Raises
    ------
    SpecError
        If there is none of that name.
    """
    known = presets()
    if name not in known:
        raise SpecError(f"--preset {name}: unknown preset; expected {' or '.join(known)}")
    content = _parse(known[name], f"preset {name}")
    of_kind = content.pop("task", {}).get(kind, {})
    return _settings(content | of_kind, f"preset {name}")


def presets() -> dict[str, str]:
    """Return the text of each preset, by name."""
    import importlib.resources

    folder = importlib.resources.files("mirembed.config") / "presets"
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".toml")}
    return {name.removesuffix(".toml"): texts[name] for name in sorted(texts)}


def parse_experiment(text: str, where: str) -> list[Settings]:
    """Parse the text of an experiment file.

    Returns
    -------
    list of Settings
        One for each ``[[evaluation]]``; a single one where there is no such table.

    Raises
    ------
    SpecError
        If it is malformed.
    """
    return _settings(_parse(text, where), where)


def _parse(text: str, where: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where} is not valid TOML: {error}") from error


def _settings(content: dict[str, Any], where: str) -> list[Settings]:
    tables = content.pop("evaluation", [{}])
    if not (isinstance(tables, list) and tables and all(isinstance(table, Mapping) for table in tables)):
        raise SpecError(f"{where}: evaluation is {tables!r}; write [[evaluation]] above the settings of each")
    common = Settings().updated(content, where)
    settings = []
    for number, table in enumerate(tables, 1):
        named = {"name": f"evaluation-{number}", **table} if len(tables) > 1 else table
        settings.append(common.updated(named, f"{where}, evaluation {number}"))
    names = [one.name for one in settings]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{where}: {names.count(name)} evaluations are named {name!r}; give each its own name")
    return settings


def write_experiment(settings: Sequence[Settings]) -> str:
    """Return the text of the experiment file that repeats these evaluations."""
    import tomli_w

    tables = [one.to_toml() for one in settings]
    content: dict[str, Any] = tables[0] if len(tables) == 1 else {"evaluation": tables}
    return tomli_w.dumps(content)
