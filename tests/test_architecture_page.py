"""The paths on the architecture page, checked against the program as it runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import write_tones
from pages import invoke, read, sections
from small_store import workers_run

import mirembed

CORE = Path(mirembed.__file__).parent
STEP = re.compile(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`", re.MULTILINE)
"""A numbered step of a path: the file below ``mirembed/``, and the function in it."""

Call = tuple[str, str]


def steps(heading: str) -> list[Call]:
    found = STEP.findall(sections(read("docs/architecture.md"), 3)[heading])
    assert len(found) >= 8
    return found


def calls_of(run: Callable[[], None]) -> list[Call]:
    """The functions of the core that are called, in the order of their first call."""
    calls: dict[Call, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(CORE)):
            path = Path(frame.f_code.co_filename).relative_to(CORE).as_posix()
            calls.setdefault((path, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return list(calls)


@pytest.fixture
def work(tmp_path, monkeypatch) -> Iterator[Path]:
    write_tones(tmp_path / "tones", n_tracks=3, seconds=1.0)
    monkeypatch.chdir(tmp_path)
    with workers_run():
        yield tmp_path


def test_the_path_of_a_track(work):
    path = steps("A track's audio")
    calls = calls_of(lambda: invoke("extract", "--dataset", "folder", "--audio", "tones"))
    assert [call for call in calls if call in path] == path


@pytest.mark.parametrize("heading", ["A fold", "An excerpt"])
def test_the_paths_of_a_fold_and_an_excerpt(work, heading):
    invoke("extract", "--dataset", "folder", "--audio", "tones")
    path = steps(heading)
    options = ["--cv", "3", "--epochs", "1", "--engine", "torch"]
    calls = calls_of(lambda: invoke("evaluate", "--dataset", "folder", *options))
    assert [call for call in calls if call in path] == path
