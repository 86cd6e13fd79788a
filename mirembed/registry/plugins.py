"""Plugins that work, are broken or were left out; what is known about one before it is used; how its code is run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mirembed.errors import MirembedError, PluginError
from mirembed.interruption import interruptible
from mirembed.registry.source import source_digest
from mirembed.specs import Spec, parameters_of

if TYPE_CHECKING:
    import typer

Kind = Literal["dataset", "features", "network", "similarity", "learner"]

HOOKS: dict[Kind, str] = {
    "dataset": "mirembed_register_datasets",
    "features": "mirembed_register_features",
    "network": "mirembed_register_networks",
    "similarity": "mirembed_register_similarities",
    "learner": "mirembed_register_learners",
}
COMMANDS_HOOK = "mirembed_register_commands"
HOST = "mirembed"
"""The distribution of the built-in plugins, whose bare names always refer to them."""


@dataclass(frozen=True)
class Plugin:
    """One registered name and where it comes from.

    Attributes
    ----------
    kind : {"dataset", "features", "network", "similarity", "learner"}
    name : str
    factory : callable
    summary : str
    distribution, version : str
        For a file in ``--plugins-dir``: its name, and the first digits of its hash.
    entry_point : str
    file_hash : str
        ``sha256:...`` for a file in ``--plugins-dir``; empty for an installed distribution.
    hook_module : str
        The module whose hook registered it.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    summary: str
    distribution: str
    version: str
    entry_point: str = ""
    file_hash: str = ""
    hook_module: str = ""

    @property
    def full_name(self) -> str:
        """``distribution/name``, which is unique among plugins of a kind."""
        return f"{self.distribution}/{self.name}"

    @property
    def hook(self) -> str:
        """The hook that registered it."""
        return HOOKS[self.kind]

    @property
    def parameters(self) -> str:
        """The parameters that a spec can set, with types and defaults."""
        try:
            return ", ".join(map(str, parameters_of(self.factory)))
        except Exception as error:
            return f"unknown ({one_line(error)})"

    @property
    def module(self) -> str:
        """The module that defines the factory."""
        factory = self.factory
        while isinstance(factory, functools.partial):
            factory = factory.func
        return str(getattr(factory, "__module__", None) or type(factory).__module__)

    @property
    def file(self) -> str:
        """The file that defines the factory; empty if unknown."""
        try:
            return inspect.getsourcefile(inspect.unwrap(self.factory)) or ""
        except TypeError:
            return ""

    @property
    def hook_file(self) -> str:
        """The file of the module whose hook registered it; empty if unknown."""
        return getattr(sys.modules.get(self.hook_module), "__file__", None) or ""

    @property
    def code(self) -> str:
        """``sha256:...`` of its source (see `mirembed.registry.source`); empty if it has none."""
        modules = filter(None, [self.hook_module, self.module])
        return source_digest(tuple(dict.fromkeys(modules)), self.distribution, self.file_hash)

    def with_origin(self, spec: Spec) -> str:
        """Return the plugin's name for error messages: ``similarity rbf:gamma=2 of mirembed-extra 1.0``."""
        return f"{self.kind} {spec} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class CommandHook:
    """A plugin's ``mirembed_register_commands``, which is not called before a command of its own may be meant.

    Attributes
    ----------
    entry_point, distribution, version : str
    call : callable
        Adds the commands to a ``typer.Typer``.
    """

    entry_point: str
    distribution: str
    version: str
    call: Callable[[typer.Typer], None]

    def broken(self, error: BaseException) -> BrokenPlugin:
        """Record why it failed."""
        details = "".join(traceback.format_exception(error))
        text = f"{COMMANDS_HOOK} raised {one_line(error)}"
        return BrokenPlugin(self.entry_point, self.distribution, self.version, text, details)


@dataclass(frozen=True)
class BrokenPlugin:
    """An entry point, or a file in ``--plugins-dir``, that failed to load.

    Attributes
    ----------
    entry_point, distribution, version : str
    error : str
        One line.
    details : str
        The traceback, shown by ``mirembed plugins --verbose``.
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
        """What the user can do about it."""
        return f"fix or uninstall it, or leave it out with --no-plugin {self.distribution}"


@dataclass(frozen=True)
class LeftOut:
    """A plugin that was not imported because the user left it out.

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


@dataclass(frozen=True)
class ParameterDescription:
    """A parameter that a spec can set.

    Attributes
    ----------
    name, type : str
    default : str or None
        None if the parameter is required.
    doc : str
        From the ``Parameters`` section of the factory's docstring; empty if it has none.
    """

    name: str
    type: str
    default: str | None
    doc: str


@dataclass(frozen=True)
class Description:
    """A registered name.

    Attributes
    ----------
    plugin : Plugin
    name : str
        Its shortest unambiguous name.
    parameters : list of ParameterDescription
    problem : str
        Why the parameters cannot be read; empty if they can.
    """

    plugin: Plugin
    name: str
    parameters: list[ParameterDescription]
    problem: str

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON."""
        facts = {key: getattr(self.plugin, key) for key in _FACTS}
        parameters = [asdict(parameter) for parameter in self.parameters]
        return {**facts, "name": self.name, "parameters": parameters, "problem": self.problem}


_FACTS = ("kind", "hook", "name", "summary", "distribution", "version", "entry_point", "module", "file", "file_hash")


def describe(plugin: Plugin, name: str) -> Description:
    """Describe a plugin without calling its factory; ``name`` is its shortest unambiguous name."""
    parameters: list[ParameterDescription] = []
    problem = ""
    try:
        docs = parameter_docs(plugin.factory)
        for parameter in parameters_of(plugin.factory):
            default = None if parameter.required else str(parameter.default)
            doc = docs.get(parameter.name, "")
            parameters.append(ParameterDescription(parameter.name, parameter.type_name, default, doc))
    except Exception as error:
        problem = one_line(error)
    return Description(plugin, name, parameters, problem)


def parameter_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """Return the documentation of each parameter of a factory, one line each.

    It is read from the numpydoc section ``Parameters`` of the class, or else of its ``__init__``.
    """
    for documented in (factory, getattr(factory, "__init__", None)):
        section = re.search(
            r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)",
            inspect.getdoc(documented) or "",
            re.MULTILINE | re.DOTALL,
        )
        if section is not None:
            entries = re.findall(r"^(\S.*)\n((?:[ \t]+\S.*\n?|\s*\n)*)", section[1] + "\n", re.MULTILINE)
            return {
                name.strip(" *"): " ".join(text.split())
                for names, text in entries
                for name in names.partition(":")[0].split(",")
            }
    return {}


@contextlib.contextmanager
def plugin_code(failure: str) -> Iterator[None]:
    """Run a plugin's code in a ``with`` block, sending what it prints to standard error. It is `interruptible`.

    Parameters
    ----------
    failure : str
        What failed, if it fails: ``learner knn of mirembed-knn 1.0 fails to fit 15 tracks``.

    Raises
    ------
    PluginError
        If the code raises anything, including `SystemExit`. Two exceptions pass through: `MirembedError`, which tells
        the user what to fix, and `KeyboardInterrupt`, which is the user's ctrl-C.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), interruptible():
            yield
    except (MirembedError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{failure}: {one_line(error)}; report it to that plugin's authors") from error


def one_line(error: BaseException) -> str:
    r"""Return an error on one line, with its type unless it is one of mirembed's own.

    >>> one_line(ValueError("a number\nwas expected"))
    'ValueError: a number was expected'
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, MirembedError) else f"{type(error).__name__}: {text}".rstrip(": ")
