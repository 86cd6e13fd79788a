"""Shared by the tests of `mirembed.testing`: which checks a plugin fails, and with which messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from mirembed.registry import Kind
from mirembed.testing import AudioFolder, ConformanceError, checks


def failures(kind: Kind, factory: Callable[..., Any], audio: AudioFolder | None = None) -> dict[str, str]:
    """Return the messages of the checks that fail, by the checks' names."""
    failed = {}
    for check in checks(kind, factory, audio):
        try:
            check()
        except SkipTest:
            continue
        except ConformanceError as error:
            failed[check.promise.name] = str(error)
    return failed


def assert_breaks(failed: dict[str, str], names: str, *fragments: str) -> None:
    """Assert that exactly these promises are broken, and that the first message is complete and has the fragments."""
    assert list(failed) == names.split(), failed
    message = next(iter(failed.values()))
    _, given, cause = message.split("\n")
    assert given.startswith("  given: ")
    assert cause.startswith("  usual cause: ")
    for fragment in fragments:
        assert fragment in message
