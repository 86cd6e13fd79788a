"""What discovery finds: plugins, broken ones, and those that the user left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mirembed.registry.isolation import one_line
from mirembed.specs import Spec, parameters_of

Kind = Literal["dataset", "similarity", "learner"]

HOOKS: dict[Kind, str] = {
    "dataset": "mirembed_register_datasets",
    "similarity": "mirembed_register_similarities",
    "learner": "mirembed_register_learners",
}
HOST = "mirembed"
"""The distribution whose plugins keep their bare names."""


@dataclass(frozen=True)
class Plugin:
    """One registered name and where it comes from.

    Attributes
    ----------
    kind : {"dataset", "similarity", "learner"}
    name : str
    factory : callable
    summary : str
    distribution, version : str
        Of a file of ``--plugins-dir`` its name, and the beginning of its hash.
    entry_point : str
    file_hash : str
        ``sha256:...`` of a file of ``--plugins-dir``; empty for an installed distribution.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    summary: str
    distribution: str
    version: str
    entry_point: str = ""
    file_hash: str = ""

    @property
    def full_name(self) -> str:
        """``distribution/name``, which no other plugin has."""
        return f"{self.distribution}/{self.name}"

    @property
    def parameters(self) -> str:
        """The parameters that a spec may set, with types and defaults."""
        try:
            return ", ".join(map(str, parameters_of(self.factory)))
        except Exception as error:
            return f"unknown ({one_line(error)})"

    @property
    def module(self) -> str:
        """The module that defines the factory."""
        return str(getattr(self.factory, "__module__", None) or type(self.factory).__module__)

    @property
    def file(self) -> str:
        """The file that defines the factory; empty where it cannot be told."""
        try:
            return inspect.getsourcefile(inspect.unwrap(self.factory)) or ""
        except TypeError:
            return ""

    def blame(self, spec: Spec) -> str:
        """Return what errors call the plugin: ``similarity rbf:gamma=2 of mirembed-extra 1.0``."""
        return f"{self.kind} {spec} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class BrokenPlugin:
    """An entry point, or a file of ``--plugins-dir``, that could not be used.

    Attributes
    ----------
    entry_point, distribution, version : str
    error : str
        One line.
    details : str
        The traceback, for ``mirembed plugins --verbose``.
    """

    entry_point: str
    distribution: str
    version: str
    error: str
    details: str

    def __str__(self) -> str:
        return f"plugin {self.entry_point!r} of {self.distribution} {self.version}: {self.error}"

    @property
    def remedy(self) -> str:
        """What a user can do."""
        return f"mend or uninstall it, or leave it out with --no-plugin {self.distribution}"


@dataclass(frozen=True)
class LeftOut:
    """A plugin that the user did not want; it was not imported.

    Attributes
    ----------
    entry_point, distribution : str
    reason : str
        ``--no-plugin``, or ``not in MIREMBED_PLUGINS``.
    """

    entry_point: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.entry_point!r} of {self.distribution} ({self.reason})"
