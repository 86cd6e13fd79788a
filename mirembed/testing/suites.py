"""The checks of each kind of plugin: all at once, or as tests of pytest."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from mirembed.registry import Kind
from mirembed.testing.checks import AudioFolder, Broken, Check, Promise, Subject, failure

if TYPE_CHECKING:
    import pytest

_MODULES: dict[Kind, str] = {
    "similarity": "mirembed.testing.similarities",
    "dataset": "mirembed.testing.datasets",
    "learner": "mirembed.testing.learners",
}


def promises(kind: Kind) -> tuple[Promise, ...]:
    """Return what every plugin of a kind has to do; a plugin that breaks the first cannot be used at all."""
    # Not at the top: importing this package should cost neither torch nor scikit-learn.
    functions: tuple[Callable[[Subject], None], ...] = importlib.import_module(_MODULES[kind]).PROMISES
    return tuple(map(Promise.of, functions))


def check_similarity(similarity: str | Callable[..., Any]) -> None:
    """Run all checks of a similarity.

    Parameters
    ----------
    similarity : str or callable
        The spec of one that is installed, such as ``laplacian:gamma=2``, or its factory.

    Raises
    ------
    ConformanceError
        At the first promise that is broken: which, on what input, and what usually causes it.
    UnknownNameError, NameClashError
        If the spec names none, or several.
    """
    _run(checks("similarity", similarity))


def check_learner(learner: str | Callable[..., Any]) -> None:
    """Run all checks of a learner.

    Parameters
    ----------
    learner : str or callable
        The spec of one that is installed, such as ``forest:trees=50``, or its factory.

    Raises
    ------
    ConformanceError
        At the first promise that is broken: which, on what input, and what usually causes it.
    UnknownNameError, NameClashError
        If the spec names none, or several.
    """
    _run(checks("learner", learner))


def check_dataset(dataset: str | Callable[..., Any], audio: AudioFolder | None = None) -> None:
    """Run all checks of a dataset.

    Parameters
    ----------
    dataset : str or callable
        The spec of one that is installed, such as ``csvmood``, or its factory.
    audio : pathlib.Path, callable or None
        A copy of its audio: the folder, or a function that writes a small copy into the empty folder it is given.
        None for a dataset that synthesizes its own.

    Raises
    ------
    ConformanceError
        At the first promise that is broken: which, on what input, and what usually causes it.
    UnknownNameError, NameClashError
        If the spec names none, or several.
    DatasetError
        If there is no audio.
    """
    subject = Subject.of("dataset", dataset, audio)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(subject.audio_folder())
        except Broken as broken:
            raise failure(subject, promises("dataset")[0], broken) from broken.__cause__
        _run(checks("dataset", dataset, folder))


def similarity_checks(*similarities: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Make a test of each check of each similarity: decorates a test with one argument, ``check``, that it calls.

    Parameters
    ----------
    *similarities : str or callable
        As for `check_similarity`.
    """
    return _parametrised(check for each in similarities for check in checks("similarity", each))


def learner_checks(*learners: str | Callable[..., Any]) -> pytest.MarkDecorator:
    """Make a test of each check of each learner: decorates a test with one argument, ``check``, that it calls.

    Parameters
    ----------
    *learners : str or callable
        As for `check_learner`.
    """
    return _parametrised(check for each in learners for check in checks("learner", each))


def dataset_checks(*datasets: str | Callable[..., Any], audio: AudioFolder | None = None) -> pytest.MarkDecorator:
    """Make a test of each check of each dataset: decorates a test with one argument, ``check``, that it calls.

    Parameters
    ----------
    *datasets : str or callable
    audio : pathlib.Path, callable or None
        As for `check_dataset`.
    """
    return _parametrised(check for each in datasets for check in checks("dataset", each, audio))


def checks(kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None) -> list[Check]:
    """Return the checks of a plugin."""
    return [Check(promise, kind, plugin, audio) for promise in promises(kind)]


def _run(checks: Iterable[Check]) -> None:
    for check in checks:
        with contextlib.suppress(SkipTest):
            check()


def _parametrised(checks: Iterable[Check]) -> pytest.MarkDecorator:
    import pytest

    return pytest.mark.parametrize("check", [pytest.param(check, id=str(check)) for check in checks])
