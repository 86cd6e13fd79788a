"""The examples in docstrings are correct."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from pages import ROOT
from small_store import workers_run

FILES = [path for folder in ("mirembed", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("plugins.").removesuffix(".__init__")
    for path in FILES
    if ">>> " in path.read_text(encoding="utf-8")
]
"""The modules with examples; the others need not be imported."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_correct(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with workers_run():
        for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            runner.run(example, out=report.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(report)
