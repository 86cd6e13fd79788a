"""Conformance checks for plugins, used in their tests and by ``mirembed plugins check``.

In a plugin's test file::

    from mirembed.testing import similarity_checks

    @similarity_checks("laplacian", "laplacian:gamma=2")
    def test_laplacian(check):
        check()

Each check becomes one pytest test. Without pytest, ``check_similarity("laplacian")`` runs them all. A plugin is given
as a spec if it is installed, or as its factory. A failed check raises `ConformanceError`, which names the broken
promise, says what happened on which input, and gives the usual cause.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from unittest import SkipTest

from mirembed.errors import ConformanceError, DatasetError, MirembedError, ParameterError
from mirembed.interruption import interruptible, raise_if_interrupted
from mirembed.registry import Kind, Plugin, Registry
from mirembed.registry.plugins import one_line
from mirembed.specs import Spec, bind, parameters_of

if TYPE_CHECKING:
    import pytest

__all__ = [
    "Check",
    "ConformanceError",
    "check_dataset",
    "check_features",
    "check_learner",
    "check_network",
    "check_similarity",
    "dataset_checks",
    "features_checks",
    "learner_checks",
    "network_checks",
    "similarity_checks",
]

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


@contextlib.contextmanager
def broken_by_errors(what: str, *, given: str, cause: str) -> Iterator[None]:
    """Raise `Broken` if the plugin's code in a ``with`` block raises an error, which is quoted after ``what``."""
    try:
        with interruptible():
            yield
    except Exception as error:
        raise Broken(f"{what}: {one_line(error)}", given=given, cause=cause) from error


@dataclass(frozen=True)
class Subject:
    """The plugin under test, used in the same way as mirembed uses it.

    Attributes
    ----------
    kind : {"dataset", "features", "network", "similarity", "learner"}
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

    def create(self) -> Any:
        """Call the factory with the parameters of the spec."""
        try:
            return self.registry.create(self.kind, self.spec)
        except MirembedError as error:
            raise Broken(
                f"cannot be created: {one_line(error.__cause__ or error)}",
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
        with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
            if self.audio is not None:
                self.audio(Path(folder))
            elif not hasattr(dataset := self.create(), "synthesize"):
                what = f"to check the dataset {self.spec}, give the folder with a copy of its audio (--audio)"
                raise DatasetError(what)
            else:
                with broken_by_errors(
                    "cannot synthesize its audio",
                    given="an empty folder",
                    cause="a subfolder that does not exist yet: use mkdir(parents=True, exist_ok=True)",
                ):
                    dataset.synthesize(Path(folder))
            yield Path(folder)


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
                f"cannot be checked: {one_line(error)}",
                given="what it returned",
                cause="another broken promise; see the other checks first",
            ) from error

    def outcome(self, subject: Subject) -> Outcome:
        """Check the promise and return the outcome."""
        raise_if_interrupted()
        try:
            self.check(subject)
        except SkipTest as skip:
            return Outcome(self.name, self.text, "skipped", str(skip))
        except Broken as broken:
            return Outcome(self.name, self.text, "failed", broken.what, broken.given, broken.cause)
        return Outcome(self.name, self.text, "passed")


@dataclass(frozen=True)
class Check:
    """A check of one promise of one plugin, run by calling it without arguments.

    Attributes
    ----------
    promise : Promise
    kind : {"dataset", "features", "network", "similarity", "learner"}
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
            raise ConformanceError(
                f"{subject.kind} {subject.spec}, {self.promise.name}: {broken.what}\n"
                f"  given: {broken.given}\n"
                f"  usual cause: {broken.cause}"
            ) from broken.__cause__

    def __str__(self) -> str:
        plugin = self.plugin if isinstance(self.plugin, str) else name_of(self.plugin)
        return f"{plugin}-{self.promise.name}"


def parameters(subject: Subject) -> None:
    """Annotate every parameter with a type that a spec can express and that matches its default."""
    cause = "a missing annotation, or one other than int, float, str, bool, Path, Literal or a union of these"
    factory = subject.registry.find(subject.kind, subject.spec.name).factory
    with broken_by_errors(
        "its parameters cannot be read",
        given="the signature of the factory",
        cause="an annotation that is imported only for type checking",
    ):
        declared = parameters_of(factory)
    for parameter in declared:
        # A default of None need not be expressible in a spec; without a default there is nothing to compare.
        if parameter.default is None or parameter.default is inspect.Parameter.empty:
            continue
        spec = Spec(subject.spec.name, {**subject.spec.parameters, parameter.name: str(parameter.default)})
        with broken_by_errors("a spec cannot express its default", given=f"the spec {spec}", cause=cause):
            value = bind(spec, factory)[parameter.name]
        if value != parameter.default:
            raise Broken(
                f"{parameter.name} is {value!r} when the spec gives its default, {parameter.default!r}",
                given=f"the spec {spec}",
                cause=cause,
            )


def promises(kind: Kind) -> tuple[Promise, ...]:
    """Return the promises of a kind of plugin; a plugin that breaks the first one cannot be used at all."""
    # Imported only here, because these modules import torch and scikit-learn.
    with interruptible():
        module = importlib.import_module(f"mirembed.testing.{kind}")
    functions: list[Any] = [member for member in vars(module).values() if inspect.isfunction(member)]
    first, *others = [f for f in functions if f.__module__ == module.__name__ and not f.__name__.startswith("_")]
    return tuple(map(Promise.of, (first, parameters, *others)))


def checks(kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None) -> list[Check]:
    """Return the checks of a plugin."""
    return [Check(promise, kind, plugin, audio) for promise in promises(kind)]


def check_similarity(similarity: str | Callable[..., Any]) -> None:
    """Run all checks of a similarity.

    Parameters
    ----------
    similarity : str or callable
        The spec of an installed similarity, such as ``laplacian:gamma=2``, or a factory.

    Raises
    ------
    ConformanceError
        At the first broken promise: what happened, on which input, and the usual cause.
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    """
    _check("similarity", similarity)


def check_learner(learner: str | Callable[..., Any]) -> None:
    """Run all checks of a learner.

    Parameters
    ----------
    learner : str or callable
        The spec of an installed learner, such as ``forest:trees=50``, or a factory.

    Raises
    ------
    ConformanceError
        At the first broken promise: what happened, on which input, and the usual cause.
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    """
    _check("learner", learner)


def check_features(features: str | Callable[..., Any]) -> None:
    """Run all checks of features.

    Parameters
    ----------
    features : str or callable
        The spec of installed features, such as ``loudness:window=0.1``, or a factory.

    Raises
    ------
    ConformanceError
        At the first broken promise: what happened, on which input, and the usual cause.
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    """
    _check("features", features)


def check_network(network: str | Callable[..., Any]) -> None:
    """Run all checks of a network.

    Parameters
    ----------
    network : str or callable
        The spec of an installed network, such as ``tcn:units=20``, or a factory.

    Raises
    ------
    ConformanceError
        At the first broken promise: what happened, on which input, and the usual cause.
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    """
    _check("network", network)


def check_dataset(dataset: str | Callable[..., Any], audio: AudioFolder | None = None) -> None:
    """Run all checks of a dataset.

    Parameters
    ----------
    dataset : str or callable
        The spec of an installed dataset, such as ``csvmood``, or a factory.
    audio : pathlib.Path, callable or None
        A copy of its audio: the folder, or a function that writes a small copy to the empty folder it is given.
        None for a dataset that synthesizes its own.

    Raises
    ------
    ConformanceError
        At the first broken promise: what happened, on which input, and the usual cause.
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    DatasetError
        If there is no audio.
    """
    _check("dataset", dataset, audio)


def similarity_checks(*similarities: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Turn a test that calls its argument ``check`` into one pytest test per check of each similarity.

    Parameters
    ----------
    *similarities : str or callable
        As for `check_similarity`.
    """
    return _parametrize("similarity", similarities)


def learner_checks(*learners: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Turn a test that calls its argument ``check`` into one pytest test per check of each learner.

    Parameters
    ----------
    *learners : str or callable
        As for `check_learner`.
    """
    return _parametrize("learner", learners)


def features_checks(*features: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Turn a test that calls its argument ``check`` into one pytest test per check of all features.

    Parameters
    ----------
    *features : str or callable
        As for `check_features`.
    """
    return _parametrize("features", features)


def network_checks(*networks: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Turn a test that calls its argument ``check`` into one pytest test per check of each network.

    Parameters
    ----------
    *networks : str or callable
        As for `check_network`.
    """
    return _parametrize("network", networks)


def dataset_checks(*datasets: str | Callable[..., Any], audio: AudioFolder | None = None) -> pytest.MarkDecorator:
    """Turn a test that calls its argument ``check`` into one pytest test per check of each dataset.

    Parameters
    ----------
    *datasets : str or callable
    audio : pathlib.Path, callable or None
        As for `check_dataset`.
    """
    return _parametrize("dataset", datasets, audio)


def run_checks(kind: Kind, registry: Registry, spec: Spec, audio: Path | None = None) -> list[Outcome]:
    """Run all checks of an installed plugin for ``mirembed plugins check``.

    If the first check fails, the plugin cannot be used at all, and the other checks are not run.

    Parameters
    ----------
    kind : {"dataset", "features", "network", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : pathlib.Path or None
        The audio folder of a dataset; None if it synthesizes its own.

    Raises
    ------
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    ParameterError
        If the spec gives a parameter that the plugin does not have or a value of the wrong type, or omits one that it
        needs.
    DatasetError
        If a dataset needs its audio folder.
    """
    plugin = registry.find(kind, spec.name)
    try:
        bind(spec, plugin.factory)
    except ParameterError:
        raise
    except Exception:  # noqa: S110 - parameters that cannot be read break a promise, which a check reports
        pass
    first, *others = promises(kind)
    with _written_once(Subject(kind, registry, spec, audio)) as subject:
        outcomes = [first.outcome(subject)]
        if outcomes[0].status != "failed":
            outcomes += [promise.outcome(subject) for promise in others]
    return outcomes


def _check(kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None) -> None:
    with _written_once(Subject.of(kind, plugin, audio)) as subject:
        for check in checks(kind, plugin, subject.audio):
            with contextlib.suppress(SkipTest):
                check()


@contextlib.contextmanager
def _written_once(subject: Subject) -> Iterator[Subject]:
    """Let all checks of a dataset share a folder of audio, so that it is written only once."""
    with contextlib.ExitStack() as stack:
        if subject.kind == "dataset":
            with contextlib.suppress(Broken):  # the first check will report it
                subject = replace(subject, audio=stack.enter_context(subject.audio_folder()))
        yield subject


def _parametrize(
    kind: Kind, plugins: Iterable[str | Callable[..., Any]], audio: AudioFolder | None = None
) -> pytest.MarkDecorator:
    import pytest

    parameters = [pytest.param(check, id=str(check)) for plugin in plugins for check in checks(kind, plugin, audio)]
    return pytest.mark.parametrize("check", parameters)
