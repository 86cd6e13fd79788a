"""What a check is: one promise of one plugin, and what is said when it is broken."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import SkipTest

from mirembed.errors import ConformanceError, MirembedError, PluginError
from mirembed.registry import Kind, Plugin, Registry
from mirembed.specs import Spec

AudioFolder: TypeAlias = Path | Callable[[Path], object]
"""The audio of a dataset: its folder, or a function that fills an empty folder with a small copy."""


@dataclass(frozen=True)
class Subject:
    """The plugin under test, as the host would reach it.

    Attributes
    ----------
    kind : {"dataset", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : AudioFolder or None
        Of a dataset.
    """

    kind: Kind
    registry: Registry
    spec: Spec
    audio: AudioFolder | None = None

    @classmethod
    def of(cls, kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None) -> Subject:
        """Take an installed plugin by its spec, or register a factory as if it were installed."""
        if isinstance(plugin, str):
            return cls(kind, Registry.discover(), Spec.parse(plugin), audio)
        spec = Spec(name_of(plugin))
        return cls(kind, Registry([Plugin(kind, spec.name, plugin, "", "the plugin under test", "")]), spec, audio)

    def create(self) -> Any:
        """Call the factory with the parameters of the spec."""
        return self.registry.create(self.kind, self.spec)

    @property
    def factory(self) -> Callable[..., Any]:
        """What the plugin registered."""
        return self.registry.find(self.kind, self.spec.name).factory

    def __str__(self) -> str:
        return f"{self.kind} {self.spec}"


@dataclass(frozen=True)
class Promise:
    """What every plugin of a kind has to do.

    Attributes
    ----------
    name : str
        Such as ``zero-vectors``.
    text : str
        The promise in a sentence.
    function : callable
        Raises `Broken` when a subject does not keep it, and `unittest.SkipTest` where it does not apply.
    """

    name: str
    text: str
    function: Callable[[Subject], None]

    @classmethod
    def of(cls, function: Callable[[Subject], None]) -> Promise:
        """Take name and sentence from a function."""
        assert function.__doc__ is not None  # noqa: S101
        text = " ".join(function.__doc__.partition("\n\n")[0].split())
        return cls(function.__name__.replace("_", "-"), text, function)


class Broken(Exception):  # noqa: N818 - caught by `Check`, which makes a ConformanceError of it
    """A promise is not kept.

    Parameters
    ----------
    what : str
        What the plugin did, with the values, as the end of a sentence about it: ``is not symmetric: ...``.
    given : str
        The input.
    cause : str
        What usually causes it.
    """

    def __init__(self, what: str, *, given: str, cause: str) -> None:
        super().__init__(what, given, cause)
        self.what, self.given, self.cause = what, given, cause


@dataclass(frozen=True)
class Check:
    """One promise of one plugin. Call it without arguments.

    Attributes
    ----------
    promise : Promise
    kind : {"dataset", "similarity", "learner"}
    plugin : str or callable
        A spec, or a factory.
    audio : AudioFolder or None

    Raises
    ------
    ConformanceError
        When called, if the promise is broken.
    unittest.SkipTest
        When called, if the promise does not apply; pytest reports a skipped test.
    """

    promise: Promise
    kind: Kind
    plugin: str | Callable[..., Any]
    audio: AudioFolder | None = None

    @property
    def name(self) -> str:
        """The name of the promise."""
        return self.promise.name

    def __call__(self) -> None:
        """Run the check."""
        self.run(Subject.of(self.kind, self.plugin, self.audio))

    def __str__(self) -> str:
        plugin = self.plugin if isinstance(self.plugin, str) else name_of(self.plugin)
        return f"{plugin}-{self.name}"
