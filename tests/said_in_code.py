"""The sentences that modules can say, found in their source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_WORDS = re.compile(r"[a-z]{2,}[,:]? [a-z(]")


def templates(files: Iterable[Path]) -> dict[str, list[str]]:
    """Return the texts in modules that hold several words, each with where it is; docstrings do not count.

    A value in a text is ``{}``.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for text, line in _texts(tree):
            if _WORDS.search(text):
                found.setdefault(text, []).append(f"{file.name}:{line}")
    return found


def _texts(node: ast.AST) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in child.values]
            yield "".join(map(str, parts)), child.lineno
            for one in child.values:
                if isinstance(one, ast.FormattedValue):
                    yield from _texts(one)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value, child.lineno
        else:
            yield from _texts(child)


def never_said(found: Iterable[str], said: Iterable[str]) -> list[str]:
    """Return the templates that no text has filled in."""
    everything = "\n\n".join(said)
    return [
        text for text in found if not re.search("[^\n]*?".join(map(re.escape, text.split("{}"))), everything, re.DOTALL)
    ]
