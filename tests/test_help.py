"""The help of every command at 80 columns, and what the program suggests for a flag that it does not have."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from mirembed.cli.help import MEANT
from mirembed.cli.main import app

HELP = {"COLUMNS": "80"}


def commands(command: typer.core.TyperCommand, *path: str) -> dict[tuple[str, ...], typer.core.TyperCommand]:
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, *path, name)
    return found


COMMANDS = commands(typer.main.get_command(app))


def shown(*words: str) -> str:
    return CliRunner().invoke(app, [*words, "--help"], env=HELP).output


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_names_every_parameter_once_with_its_description_in_80_columns(path):
    text = shown(*path)
    assert max(map(len, text.splitlines())) <= 80
    squeezed = "".join(text.split())
    for parameter in COMMANDS[path].params:
        first = f"--[no-]{parameter.opts[0][2:]}" if parameter.secondary_opts else parameter.opts[0]
        name = first if parameter.param_type_name == "option" else parameter.metavar
        described = "".join((parameter.help or "").split())
        assert described, name
        value = "" if getattr(parameter, "is_flag", True) else f"{parameter.metavar or ''}"
        assert squeezed.count("".join(f"{name}{value}{described}".split())) == 1, name


def test_the_longest_help_is_at_most_two_screens_of_44_lines():
    assert len(shown("evaluate").splitlines()) <= 88


def test_a_long_help_has_sections_and_a_short_one_has_none():
    sections = re.findall(r"^(\w+):$", shown("evaluate"), re.MULTILINE)
    assert sections == ["Data", "Method", "Training", "Evaluation", "Machine", "Output"]
    assert re.findall(r"^(\w+):$", shown("report"), re.MULTILINE) == ["Arguments", "Options"]


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_every_command_ends_its_help_with_an_example_that_has_its_flags(path):
    *_, last = shown(*path).strip().split("\n\n")
    label, example = " ".join(last.split()).split(": ", 1)
    assert label == "Example"
    words = shlex.split(example)
    assert tuple(words[1 : len(path) + 1]) == path
    known = {flag for parameter in COMMANDS[path].params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["fit", "--lr", "0.01"], "--optimizer adam:lr=0.001"),
        (["fit", "--n-mels=80"], "--features logmel:bands=80"),
        (["evaluate", "--n_jobs", "2"], "--jobs N"),
        (["evaluate", "--gpu"], "--device cuda"),
        (["predict", "m", "a.wav", "--output", "x.csv"], "--out FILE"),
        (["similar", "m", "s", "--k", "3"], "--top N"),
        (["playlist", "m", "--overwrite"], "--force"),
        (["evaluate", "--epoch", "3"], "--epochs"),  # spelled nearly right
    ],
)
def test_a_wrong_flag_names_the_one_that_was_meant(words, meant):
    failed = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert failed.exit_code == 2
    assert meant in failed.output


def test_flags_are_suggested_that_exist_and_only_by_commands_that_have_them():
    known = {flag for command in COMMANDS.values() for parameter in command.params for flag in parameter.opts}
    assert {flag.split()[0] for flag in MEANT} <= known
    assert "--device" not in CliRunner().invoke(app, ["similar", "m", "s", "--gpu"]).output
