"""The parts of a conformance check: the plugin under test, a promise that it makes, and the outcome."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import SkipTest

from mirembed.errors import ConformanceError, DatasetError, MirembedError
from mirembed.registry import Kind, Plugin, Registry
from mirembed.specs import Spec, bind, parameters_of

AudioFolder: TypeAlias = Path | Callable[[Path], object]
"""The audio of a dataset: its folder, or a function that writes a small copy to the empty folder it is given."""


class Broken(Exception):  # noqa: N818 - never reaches users: `Check` turns it into a ConformanceError
    """A promise is broken.

    Parameters
    ----------
    what : str
        What the plugin did, with the values.
    given : str
        The input.
    cause : str
        The usual cause.
    """

    def __init__(self, what: str, *, given: str, cause: str) -> None:
        super().__init__(what, given, cause)
        self.what, self.given, self.cause = what, given, cause


@dataclass(frozen=True)
class Subject:
    """The plugin under test, used in the same way as mirembed uses it.

    Attributes
    ----------
    kind : {"dataset", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : AudioFolder or None
        For a dataset; None if it synthesizes its own audio.
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
            If the spec cannot be read, or matches no plugin or several.
        """
        if isinstance(plugin, str):
            subject = cls(kind, Registry.discover(), Spec.parse(plugin), audio)
            subject.registry.find(kind, subject.spec.name)
            return subject
        name = name_of(plugin)
        registry = Registry([Plugin(kind, name, plugin, "", "the distribution under test", "")])
        return cls(kind, registry, Spec(name), audio)

    @property
    def factory(self) -> Callable[..., Any]:
        """The factory that the plugin registers."""
        return self.registry.find(self.kind, self.spec.name).factory

    def create(self) -> Any:
        """Call the factory with the parameters of the spec."""
        try:
            return self.registry.create(self.kind, self.spec)
        except MirembedError as error:
            reason = error if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"
            raise Broken(
                f"cannot be created: {reason}",
                given=f"the spec {self.spec}",
                cause="a factory that raises, or a required parameter missing from the spec",
            ) from error

    @contextlib.contextmanager
    def audio_folder(self) -> Iterator[Path]:
        """Provide the audio of a dataset, and delete it afterwards if it was written for the check.

        Raises
        ------
        DatasetError
            If there is no audio.
        Broken
            If the dataset fails to synthesize it.
        """
        if isinstance(self.audio, Path):
            yield self.audio
            return
        if self.audio is None and not hasattr(self.create(), "synthesize"):
            raise DatasetError(f"to check the dataset {self.spec}, give the folder with a copy of its audio (--audio)")
        write = self.audio or self._synthesize
        with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
            write(Path(folder))
            yield Path(folder)

    def _synthesize(self, audio: Path) -> None:
        try:
            self.create().synthesize(audio)
        except Exception as error:
            raise Broken(
                f"cannot synthesize its audio: {type(error).__name__}: {error}",
                given="an empty folder",
                cause="a subfolder that does not exist yet: use mkdir(parents=True, exist_ok=True)",
            ) from error


def name_of(factory: Callable[..., Any]) -> str:
    """Return a name for a factory that is not registered: ``Laplacian``."""
    return getattr(factory, "__name__", type(factory).__name__).strip("<_>")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        Its name, such as ``symmetric``.
    promise : str
        What it checks, in a sentence.
    status : {"passed", "failed", "skipped"}
    reason : str
        What went wrong, with the values; or why the check does not apply. Empty if it passed.
    given : str
        The input on which it failed.
    cause : str
        The usual cause.
    """

    check: str
    promise: str
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""
    given: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Promise:
    """Something that every plugin of a kind must do.

    Attributes
    ----------
    name : str
        Such as ``symmetric``.
    text : str
        The promise in a sentence.
    function : callable
        Raises `Broken` if a subject breaks the promise, and ``unittest.SkipTest`` if the promise does not apply to it.
    """

    name: str
    text: str
    function: Callable[[Subject], None]

    @classmethod
    def of(cls, function: Callable[[Subject], None]) -> Promise:
        """Take the name and the sentence from a function's name and docstring."""
        return cls(function.__name__.replace("_", "-"), " ".join((function.__doc__ or "").split()), function)

    def check(self, subject: Subject) -> None:
        """Raise `Broken` if the promise is broken, or ``unittest.SkipTest`` if it does not apply."""
        try:
            self.function(subject)
        except (Broken, SkipTest, MirembedError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a plugin may raise anything, even SystemExit
            raise Broken(
                f"cannot be checked: {type(error).__name__}: {error}",
                given="what it returned",
                cause="another broken promise; see the other checks first",
            ) from error

    def outcome(self, subject: Subject) -> Outcome:
        """Check the promise and return the outcome."""
        try:
            self.check(subject)
        except SkipTest as skip:
            return Outcome(self.name, self.text, "skipped", str(skip))
        except Broken as broken:
            return self.failed(broken)
        return Outcome(self.name, self.text, "passed")

    def failed(self, broken: Broken) -> Outcome:
        """Return the outcome of a check that failed."""
        return Outcome(self.name, self.text, "failed", broken.what, broken.given, broken.cause)

    def error(self, subject: Subject, broken: Broken) -> ConformanceError:
        """Return the error that describes a broken promise in full."""
        return ConformanceError(
            f"{subject.kind} {subject.spec}, {self.name}: {broken.what}\n"
            f"  given: {broken.given}\n"
            f"  usual cause: {broken.cause}"
        )


@dataclass(frozen=True)
class Check:
    """A check of one promise of one plugin, run by calling it without arguments.

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
        When called, if the promise does not apply; pytest reports the test as skipped.
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
            raise self.promise.error(subject, broken) from broken.__cause__

    def __str__(self) -> str:
        plugin = self.plugin if isinstance(self.plugin, str) else name_of(self.plugin)
        return f"{plugin}-{self.promise.name}"


def parameters(subject: Subject) -> None:
    """Annotate every parameter with a type that a spec can express and that matches its default."""
    cause = "a missing annotation, or one other than int, float, str, bool, Path, Literal or a union of these"
    try:
        declared = parameters_of(subject.factory)
    except Exception as error:
        raise Broken(
            f"its parameters cannot be read: {type(error).__name__}: {error}",
            given="the signature of the factory",
            cause="an annotation that is imported only for type checking",
        ) from error
    for parameter in declared:
        # A default of None need not be expressible in a spec; without a default there is nothing to compare.
        if parameter.default is None or parameter.default is inspect.Parameter.empty:
            continue
        spec = Spec(subject.spec.name, {**subject.spec.parameters, parameter.name: str(parameter.default)})
        try:
            value = bind(spec, subject.factory)[parameter.name]
        except MirembedError as error:
            raise Broken(
                f"a spec cannot express its default: {error}", given=f"the spec {spec}", cause=cause
            ) from error
        if value != parameter.default:
            raise Broken(
                f"{parameter.name} is {value!r} when the spec gives its default, {parameter.default!r}",
                given=f"the spec {spec}",
                cause=cause,
            )
