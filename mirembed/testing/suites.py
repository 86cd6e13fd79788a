"""All checks of one kind of plugin, to be run at once or as pytest tests."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from mirembed.registry import Kind, Registry
from mirembed.specs import Spec
from mirembed.testing.checks import AudioFolder, Broken, Check, Outcome, Promise, Subject

if TYPE_CHECKING:
    import pytest

_MODULES: dict[Kind, str] = {
    "similarity": "mirembed.testing.similarities",
    "dataset": "mirembed.testing.datasets",
    "learner": "mirembed.testing.learners",
}


def promises(kind: Kind) -> tuple[Promise, ...]:
    """Return the promises of a kind of plugin; a plugin that breaks the first one cannot be used at all."""
    # Imported here, so that importing this package costs neither torch nor scikit-learn.
    functions: tuple[Callable[[Subject], None], ...] = importlib.import_module(_MODULES[kind]).PROMISES
    return tuple(map(Promise.of, functions))


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
    _run(checks("similarity", similarity))


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
    _run(checks("learner", learner))


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
    subject = Subject.of("dataset", dataset, audio)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(subject.audio_folder())
        except Broken as broken:
            raise promises("dataset")[0].error(subject, broken) from broken.__cause__
        _run(checks("dataset", dataset, folder))


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
    kind : {"dataset", "similarity", "learner"}
    registry : Registry
    spec : Spec
    audio : pathlib.Path or None
        The audio folder of a dataset; None if it synthesizes its own.

    Raises
    ------
    UnknownNameError, NameClashError
        If the spec matches no plugin, or several.
    DatasetError
        If a dataset needs its audio folder.
    """
    registry.find(kind, spec.name)
    first, *others = promises(kind)
    with contextlib.ExitStack() as stack:
        subject = Subject(kind, registry, spec, audio)
        if kind == "dataset":
            try:
                subject = replace(subject, audio=stack.enter_context(subject.audio_folder()))
            except Broken as broken:
                return [first.failed(broken)]
        outcome = first.outcome(subject)
        if outcome.status == "failed":
            return [outcome]
        return [outcome, *(promise.outcome(subject) for promise in others)]


def _run(checks: Iterable[Check]) -> None:
    for check in checks:
        with contextlib.suppress(SkipTest):
            check()


def _parametrize(
    kind: Kind, plugins: Iterable[str | Callable[..., Any]], audio: AudioFolder | None = None
) -> pytest.MarkDecorator:
    import pytest

    parameters = [pytest.param(check, id=str(check)) for plugin in plugins for check in checks(kind, plugin, audio)]
    return pytest.mark.parametrize("check", parameters)
