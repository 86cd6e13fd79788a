"""What a check is: one promise of one plugin, and what is said when it is broken."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest import SkipTest

from mirembed.errors import ConformanceError, DatasetError, MirembedError
from mirembed.registry import Kind, Plugin, Registry
from mirembed.specs import Spec, bind, parameters_of

AudioFolder: TypeAlias = Path | Callable[[Path], object]
"""The audio of a dataset: its folder, or a function that writes a small copy into the empty folder it is given."""


class Broken(Exception):  # noqa: N818 - no error of its own: `Check` makes a ConformanceError of it
    """A promise is not kept.

    Parameters
    ----------
    what : str
        What the plugin did, with the values.
    given : str
        The input.
    cause : str
        What usually causes it.
    """

    def __init__(self, what: str, *, given: str, cause: str) -> None:
        super().__init__(what, given, cause)
        self.what, self.given, self.cause = what, given, cause


@dataclass(frozen=True)
class Subject:
    """The plugin under test, reached as the host reaches it.

    Attributes
    ----------
    kind : {"dataset", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : AudioFolder or None
        Of a dataset; None for one that synthesizes its own.
    """

    kind: Kind
    registry: Registry
    spec: Spec
    audio: AudioFolder | None = None

    @classmethod
    def of(cls, kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None) -> Subject:
        """Take an installed plugin by its spec, or a factory as if it were installed.

        Raises
        ------
        MirembedError
            If the spec cannot be read, or names no plugin, or several.
        """
        if isinstance(plugin, str):
            subject = cls(kind, Registry.discover(), Spec.parse(plugin), audio)
            subject.registry.find(kind, subject.spec.name)
            return subject
        name = name_of(plugin)
        return cls(
            kind, Registry([Plugin(kind, name, plugin, "", "the distribution under test", "")]), Spec(name), audio
        )

    @property
    def factory(self) -> Callable[..., Any]:
        """What the plugin registers."""
        return self.registry.find(self.kind, self.spec.name).factory

    def create(self) -> Any:
        """Call the factory with the parameters of the spec."""
        try:
            return self.registry.create(self.kind, self.spec)
        except MirembedError as error:
            reason = error if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"
            raise Broken(
                f"cannot be made: {reason}",
                given=f"the spec {self.spec}",
                cause="a factory that raises, or a parameter without a default that the spec does not give",
            ) from error

    @contextlib.contextmanager
    def audio_folder(self) -> Iterator[Path]:
        """Give the audio of a dataset; what had to be made for it is deleted afterwards.

        Raises
        ------
        DatasetError
            If there is none.
        Broken
            If the dataset fails to synthesize it.
        """
        if isinstance(self.audio, Path):
            yield self.audio
            return
        if self.audio is None and not hasattr(self.create(), "synthesize"):
            raise DatasetError(f"the dataset {self.spec} is checked on a copy of its audio: give the folder (--audio)")
        fill = self.audio or self._synthesize
        with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
            fill(Path(folder))
            yield Path(folder)

    def _synthesize(self, audio: Path) -> None:
        try:
            self.create().synthesize(audio)
        except Exception as error:
            raise Broken(
                f"cannot synthesize its audio: {type(error).__name__}: {error}",
                given="an empty folder",
                cause="a folder of its own that it does not make: use mkdir(parents=True, exist_ok=True)",
            ) from error


def name_of(factory: Callable[..., Any]) -> str:
    """Return what a factory without a registered name is called: ``Laplacian``."""
    return getattr(factory, "__name__", type(factory).__name__).strip("<_>")


@dataclass(frozen=True)
class Promise:
    """What every plugin of a kind has to do.

    Attributes
    ----------
    name : str
        Such as ``symmetric``.
    text : str
        The promise in a sentence.
    function : callable
        Raises `Broken` when a subject does not keep it, and ``unittest.SkipTest`` where it does not apply.
    """

    name: str
    text: str
    function: Callable[[Subject], None]

    @classmethod
    def of(cls, function: Callable[[Subject], None]) -> Promise:
        """Take the name and the sentence from a function's."""
        return cls(function.__name__.replace("_", "-"), " ".join((function.__doc__ or "").split()), function)

    def check(self, subject: Subject) -> None:
        """Raise `Broken`, or ``unittest.SkipTest`` where the promise does not apply."""
        try:
            self.function(subject)
        except (Broken, SkipTest, MirembedError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a plugin may even try to leave the program
            raise Broken(
                f"cannot be judged: {type(error).__name__}: {error}",
                given="what it returned",
                cause="another promise that is broken; see the other checks first",
            ) from error


@dataclass(frozen=True)
class Check:
    """One promise of one plugin, checked when it is called without arguments.

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
        By the call, if the promise is broken.
    unittest.SkipTest
        By the call, if the promise does not apply; pytest reports the test as skipped.
    """

    promise: Promise
    kind: Kind
    plugin: str | Callable[..., Any]
    audio: AudioFolder | None = None

    def __call__(self) -> None:
        """Check the promise."""
        subject = Subject.of(self.kind, self.plugin, self.audio)
        try:
            self.promise.check(subject)
        except Broken as broken:
            raise failure(subject, self.promise, broken) from broken.__cause__

    def __str__(self) -> str:
        plugin = self.plugin if isinstance(self.plugin, str) else name_of(self.plugin)
        return f"{plugin}-{self.promise.name}"


def failure(subject: Subject, promise: Promise, broken: Broken) -> ConformanceError:
    """Say all that is to be said of a broken promise."""
    return ConformanceError(
        f"{subject.kind} {subject.spec}, {promise.name}: {broken.what}\n"
        f"  on: {broken.given}\n"
        f"  usual cause: {broken.cause}"
    )


def parameters(subject: Subject) -> None:
    """Annotate each parameter with a type that a spec can fill, and that its default has."""
    cause = "an annotation that is missing, or is not int, float, str, bool, Path, Literal or a union of these"
    try:
        declared = parameters_of(subject.factory)
    except Exception as error:
        raise Broken(
            f"its parameters cannot be read: {type(error).__name__}: {error}",
            given="the signature of the factory",
            cause="an annotation of something that is imported for the type checker only",
        ) from error
    for parameter in declared:
        # A default of None cannot be written, and need not be; a parameter without a default has nothing to compare.
        if parameter.default is None or parameter.default is inspect.Parameter.empty:
            continue
        spec = Spec(subject.spec.name, {**subject.spec.parameters, parameter.name: str(parameter.default)})
        try:
            value = bind(spec, subject.factory)[parameter.name]
        except MirembedError as error:
            raise Broken(
                f"its default cannot be given in a spec: {error}", given=f"the spec {spec}", cause=cause
            ) from error
        if value != parameter.default:
            raise Broken(
                f"{parameter.name} is {value!r} when a spec gives the default, {parameter.default!r}",
                given=f"the spec {spec}",
                cause=cause,
            )
