"""Helpers for the tests of the documentation: reading pages, and running the code on them."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirembed.cli.main import main

ROOT = Path(__file__).parents[1]
MADE = {"commands.md", "changes.md"}
"""Pages that are made when the site is built; `make docs` checks the links to them."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sections(text: str, level: int) -> dict[str, str]:
    """Return the text under each heading of a level, up to the next heading of that level or above.

    Lines of code that begin with ``#`` are not headings.
    """
    prose = re.sub(r"^```.*?^```$", lambda code: code[0].replace("\n#", "\n "), text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(rf"^(#{{1,{level}}}) (.*)$", prose, flags=re.MULTILINE)
    return {
        title: body
        for marks, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if len(marks) == level
    }


def table(text: str) -> list[list[str]]:
    """Return the rows of the first table without its heading, and the first cells without backticks."""
    rows = re.search(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [[first.strip("`"), *others] for first, *others in cells]


def transcripts(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the words after ``mirembed`` and the output of every command in the console blocks."""
    for block in blocks(text, "console"):
        for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
            if "mirembed" in words:
                words = shlex.split(re.split(r" [;|>]|;", command)[0])
                yield words[words.index("mirembed") + 1 :], printed


def invoke(*words: str, code: int = 0) -> None:
    """Run a command in this process, which has imported torch already, and check its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["mirembed", *words])
        main()
    assert end.value.code == code


def named_files(text: str) -> list[tuple[str, str]]:
    """Return names and contents of the code blocks that follow a file name."""
    found = re.findall(r"^`([\w/-]+\.\w+)`:\n\n(`{3,})\w+\n(.*?)^\2$", text, re.MULTILINE | re.DOTALL)
    return [(name, code) for name, _, code in found]


def write_examples(text: str, folder: Path) -> list[Path]:
    """Write the code blocks that follow a file name, install the distributions among them, and return their folders."""
    for name, code in named_files(text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    projects = sorted(folder.glob("*/pyproject.toml"))
    for path in projects:
        project = tomllib.loads(path.read_text())["project"]
        information = path.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["mirembed"].items())
        (information / "entry_points.txt").write_text(f"[mirembed]\n{points}")
    return [path.parent for path in projects]
