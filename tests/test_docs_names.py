"""Every path, module, command and flag that the documentation names exists."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
from pages import MADE, ROOT, blocks, named_files, read

import mirembed
from mirembed.cli.main import app

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")) if ".venv" not in path.parts),
]
FOLDERS = "mirembed|plugins|tests|docs|benchmarks"
PATH = re.compile(rf"(?:(?:{FOLDERS})/)?[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|md|toml|txt|cff|yaml|svg))")
MODULE = re.compile(r"(mirembed(?:_\w+)?)((?:\.\w+)*)")
OTHER_FLAGS = {
    "CONTRIBUTING.md": {"--durations"},
    "docs/performance.md": {"--steps"},
}
"""Flags of other programs, by page."""
COMMANDS_OF_EXAMPLES = {"sheet"}
"""Commands that the plugins in docs/examples add."""
METADATA_KEYS = {"mirembed.features", "mirembed.network"}
"""Keys of metadata that look like modules."""
NOT_OURS = {"pyproject.toml", "README.md"}
"""Files that every distribution has, so that a page may mean those of a plugin."""


def prose(page: str) -> str:
    return re.sub(r"^(`{3,}).*?^\1$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def code_spans(page: str) -> list[str]:
    """The code in the text of a page, with line breaks as spaces."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def console_commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(read(page), "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(re.split(r" [|>;]|;", line[2:])[0]) for line in lines]


@functools.cache
def program() -> typer.core.TyperCommand:
    return typer.main.get_command(app)


def find(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """Return the command that words name, and what is left of them."""
    command = program()
    while words and not words[0].startswith("-") and (below := getattr(command, "commands", {}).get(words[0])):
        command, words = below, words[1:]
    return command, words


@functools.cache
def flags(command: typer.core.TyperCommand) -> set[str]:
    """The flags of a command and of those below it."""
    own = {flag for parameter in command.params for flag in [*parameter.opts, *parameter.secondary_opts]}
    return own.union({"--help"}, *(flags(below) for below in getattr(command, "commands", {}).values()))


def exists(name: str, page: str) -> bool:
    """Whether a file or folder exists: from the root, the page, ``mirembed/`` or the examples."""
    folders = (ROOT, (ROOT / page).parent, ROOT / "mirembed", ROOT / "docs" / "examples")
    return any((folder / name).exists() for folder in folders)


@pytest.mark.parametrize("page", PAGES)
def test_every_linked_file_exists(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", prose(page))
    names = [name for pair in targets for name in pair if name and "://" not in name and name not in MADE]
    assert [name for name in names if not ((ROOT / page).parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_the_repository_exists(page):
    """A path counts if it begins with a folder of the repository, or is a file of Python or at the root."""
    written = {name for name, _ in named_files(read(page))}
    for code in code_spans(page):
        if not PATH.fullmatch(code) or code in NOT_OURS or code in written:
            continue
        top = code.partition("/")[0]
        if (re.fullmatch(FOLDERS, top) and "/" in code) or code.endswith(".py"):
            known = exists(code, page) or any(Path(name).name == code for name in written)
            assert known, f"{page} names {code}"


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_attribute_exists(page):
    for code in code_spans(page):
        match = MODULE.fullmatch(code.removesuffix("()"))
        if match is None or not match[2] or code in METADATA_KEYS:
            continue
        if match[1] != "mirembed" and importlib.util.find_spec(match[1]) is None:
            continue  # a plugin in an example
        module, *attributes = match[1], *match[2][1:].split(".")
        found = importlib.import_module(module)
        for attribute in attributes:
            name = f"{module}.{attribute}"
            if hasattr(found, "__path__") and importlib.util.find_spec(name) is not None:
                module, found = name, importlib.import_module(name)
            else:
                assert hasattr(found, attribute), f"{page} names {code}"
                found = getattr(found, attribute)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_command_of_mirembed_exists_with_its_flags(page):
    consoles = [words for words in console_commands(page) if "mirembed" in words and words[0] != "pip"]
    commands = [words for words in map(str.split, code_spans(page)) if words[0] == "mirembed"]
    commands += [words[words.index("mirembed") :] for words in consoles]
    for words in commands:
        rest = words[1:]
        while rest and rest[0].startswith("--"):  # options of the program, which take a value or are alone
            assert rest[0] in flags(program()), f"{page}: {' '.join(words)}"
            rest = rest[1:] if len(rest) == 1 or rest[0] in ("--help", "--version") else rest[2:]
        if rest and rest[0] in COMMANDS_OF_EXAMPLES:
            continue
        command, left = find(rest)
        if rest and not re.fullmatch(r"[A-Z…]+|\W*", rest[0]):
            assert left != rest, f"{page}: no command {' '.join(words)}"
        unknown = {word for word in left if re.fullmatch(r"--[a-z][\w-]*", word)} - flags(command)
        assert not unknown, f"{page}: {' '.join(words)}"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_flag_in_the_text_exists(page):
    known = flags(program()) | OTHER_FLAGS.get(page, set())
    found = {code.split()[0] for code in code_spans(page) if re.match(r"--[a-z]", code)}
    assert {flag.partition("=")[0] for flag in found} - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    named = {words[1] for words in map(str.split, code_spans(page)) if words[0] == "make" and len(words) > 1}
    named |= {words[1] for words in console_commands(page) if words[0] == "make" and len(words) > 1}
    assert named - targets == set()


@functools.cache
def python_files() -> str:
    files = (path for folder in ("mirembed", "tests") for path in (ROOT / folder).rglob("*.py"))
    return "".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("page", PAGES)
def test_every_environment_variable_exists(page):
    named = set(re.findall(r"\bMIREMBED_[A-Z_]+\b", read(page)))
    assert {name for name in named if name not in python_files()} == set()


def test_the_program_is_the_one_that_is_documented():
    assert Path(mirembed.__file__).is_relative_to(ROOT)
