"""Experiment files: the settings of one or several evaluations, in TOML.

::

    epochs = 400                       # for all evaluations
    approach = ["nn", "fl", "rbf-sl"]

    [[evaluation]]                     # where there are several
    name = "cross-validation"
    dataset = ["gtzan", "emotify"]
    cv = 10

The keys are the flags of ``mirembed evaluate``.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mirembed.config.settings import EvaluationSettings
from mirembed.errors import SpecError

EXPERIMENT_FILE = "experiment.toml"
"""Of a run: what repeats it."""


def read_experiment(path: Path) -> list[EvaluationSettings]:
    """Read an experiment file, or the one in the folder of a run.

    Raises
    ------
    SpecError
        If there is none, or it is malformed.
    """
    if path.is_dir():
        path = path / EXPERIMENT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(
            f"--config {path}: it cannot be read ({error.strerror}); give an experiment file or a run"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"--config {path}: it is no text in UTF-8; give an experiment file or a run") from error
    return parse_experiment(text, str(path))


def read_preset(name: str) -> list[EvaluationSettings]:
    """Read an experiment file that comes with the package.

    Raises
    ------
    SpecError
        If there is none of that name.
    """
    known = presets()
    if name not in known:
        raise SpecError(f"--preset {name}: there is no such preset; there are {', '.join(known)}")
    return parse_experiment(known[name], f"preset {name}")


def presets() -> dict[str, str]:
    """Return the texts of the experiment files that come with the package, by their names."""
    folder = importlib.resources.files("mirembed.config") / "presets"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def parse_experiment(text: str, where: str) -> list[EvaluationSettings]:
    """Read the text of an experiment file.

    Returns
    -------
    list of EvaluationSettings
        One for each ``[[evaluation]]``; one where there is none.

    Raises
    ------
    SpecError
        If it is malformed.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where} is not TOML: {error}") from error
    tables = content.pop("evaluation", [{}])
    if not (isinstance(tables, list) and tables and all(isinstance(table, Mapping) for table in tables)):
        raise SpecError(f"{where}: evaluation is {tables!r}; write [[evaluation]] above the settings of each")
    common = EvaluationSettings().updated(content, where)
    named = [
        {"name": f"evaluation-{number}", **table} if len(tables) > 1 else table
        for number, table in enumerate(tables, 1)
    ]
    settings = [common.updated(table, f"{where}, evaluation {number}") for number, table in enumerate(named, 1)]
    names = [one.name for one in settings]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{where}: {names.count(name)} evaluations have the name {name!r}; give each its own")
    return settings


def write_experiment(settings: Sequence[EvaluationSettings]) -> str:
    """Return the text of the experiment file that repeats these evaluations."""
    import tomli_w

    tables = [one.to_toml() for one in settings]
    content: dict[str, Any] = tables[0] if len(tables) == 1 else {"evaluation": tables}
    return tomli_w.dumps(content)
