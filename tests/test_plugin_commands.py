"""Commands of plugins: shown in the help, run like mirembed's own, and blamed for their errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import clean_environment
from test_architecture import HEAVY, PLUGINS, run_in_process
from third_party import install

COMMANDS = """
    import typer

    from mirembed import MirembedError, hookimpl

    more = typer.Typer(help="A group of commands.")

    @more.command()
    def one():
        print("one")

    @more.command()
    def two():
        raise KeyError("x")

    def shout(word: str = "hello", fail: str = ""):
        "Say a word."
        errors = {
            "own": MirembedError("nothing to say; give --word"), "any": ValueError("a\\nb"),
            "exit": SystemExit(3), "text": SystemExit("no voice"), "typer": typer.Exit(4), "abort": typer.Abort(),
            "interrupt": KeyboardInterrupt(), "missing": FileNotFoundError(2, "No such file", "x.csv"),
        }
        if fail:
            raise errors[fail]
        print(word.upper())
        return 5

    @hookimpl
    def mirembed_register_commands(app):
        app.command("shout")(shout)
        app.add_typer(more, name="more")
"""
HOOK = "\nfrom mirembed import hookimpl\n@hookimpl\ndef mirembed_register_commands(app):\n    "


@pytest.fixture
def env(tmp_path) -> dict[str, str]:
    return install(tmp_path / "site", "mirembed-shout", COMMANDS)


def test_the_help_shows_commands_in_a_panel_that_names_the_distribution(mirembed, env):
    text = mirembed("--help", env=env).stdout
    assert text.index(" similar ") < text.index("Commands of mirembed-shout") < text.index(" shout ")
    assert "Say a word." in text
    assert "A group of commands." in text
    assert "shout" not in mirembed("--help").stdout
    assert "shout" not in mirembed("--no-plugin", "mirembed-shout", "--help", env=env).stdout
    assert "shout" not in mirembed("--help", env={**env, "MIREMBED_PLUGINS": ""}).stdout


def test_commands_and_groups_run_and_what_they_return_is_no_exit_code(mirembed, env):
    assert mirembed("shout", "--word", "yes", env=env).stdout == "YES\n"
    assert mirembed("more", "one", env=env).stdout == "one\n"
    assert "--word" in mirembed("shout", "--help", env=env).stdout


def test_a_file_in_the_folder_of_plugins_may_add_commands(mirembed, tmp_path):
    install(tmp_path, "mine", COMMANDS)
    assert "Commands of mine.py" in mirembed("--plugins-dir", tmp_path, "--help").stdout
    assert mirembed("--plugins-dir", tmp_path, "shout").stdout == "HELLO\n"


@pytest.mark.parametrize(
    ("fail", "code", "facts"),
    [
        ("own", 1, ["error: nothing to say; give --word"]),
        ("any", 1, ["error: ", "command shout of mirembed-shout 1.0", "ValueError: a b", "MIREMBED_DEBUG=1"]),
        ("missing", 1, ["error: ", "command shout of mirembed-shout 1.0", "FileNotFoundError", "x.csv"]),
        ("exit", 3, []),
        ("text", 1, ["error: no voice"]),
        ("typer", 4, []),
        ("abort", 1, ["interrupted"]),
        ("interrupt", 1, ["interrupted"]),
    ],
)
def test_an_error_is_reported_in_one_or_two_lines(mirembed, env, fail, code, facts):
    done = mirembed("shout", "--fail", fail, env=env, code=code)
    assert len(done.stderr.splitlines()) <= 2
    for fact in facts:
        assert fact in done.stderr
    assert ("shout" in done.stderr) == (fail in ("any", "missing"))


def test_an_error_in_a_group_names_the_plugin_and_the_traceback_is_shown_on_request(mirembed, env):
    assert "command more of mirembed-shout 1.0" in mirembed("more", "two", env=env, code=1).stderr
    done = subprocess.run(
        [sys.executable, "-m", "mirembed", "more", "two"],
        env=clean_environment({**env, "MIREMBED_DEBUG": "1"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mirembed_shout.py" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: ")


def test_a_name_that_is_taken_is_left_out_and_reported(mirembed, env, tmp_path):
    install(tmp_path / "site", "mirembed-taken", HOOK + "app.command('extract')(lambda: None)")
    install(tmp_path / "site", "mirembed-twin", HOOK + "app.command('shout')(lambda: print('twin'))")
    done = mirembed("--help", env=env)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    for name, distribution, owner in (("extract", "mirembed-taken", "mirembed "), ("shout", "mirembed-twin", "shout")):
        [line] = [line for line in warnings if distribution in line]
        assert f"command {name} of" in line
        assert owner in line.partition("because")[2]
    assert "Commands of mirembed-t" not in done.stdout
    assert mirembed("shout", env=env).stdout == "HELLO\n"
    assert "--dataset" in mirembed("extract", "--help", env=env).stdout
    listed = json.loads(mirembed("plugins", "--json", env=env).stdout)
    assert len(listed["clashes"]) == 2
    names = {(command["name"], command["distribution"]) for command in listed["commands"]}
    assert names == {("shout", "mirembed-shout"), ("more", "mirembed-shout")}


@pytest.mark.parametrize(
    ("body", "fact"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("app.callback()(lambda: None)", "callback"),
        ("pass", "no command"),
    ],
)
def test_a_hook_that_fails_takes_nothing_else_down(mirembed, env, tmp_path, body, fact):
    source = HOOK + body + "\n"
    source += "\n@hookimpl\ndef mirembed_register_learners(register):\n    register('kept', dict)\n"
    install(tmp_path / "site", "mirembed-failing", source)
    done = mirembed("--help", env=env)
    [warning] = [line for line in done.stderr.splitlines() if "mirembed-failing" in line]
    assert fact in warning
    assert "shout" in done.stdout
    assert mirembed("shout", env=env).stderr == ""
    listed = json.loads(mirembed("plugins", "--json", env=env).stdout)
    assert [broken["distribution"] for broken in listed["broken"]] == ["mirembed-failing"]
    assert "kept" in {plugin["name"] for plugin in listed["plugins"]}


def test_what_a_hook_prints_is_no_result(mirembed, env, tmp_path):
    install(tmp_path / "site", "mirembed-chatty", HOOK + "print('noise')\n    app.command('other')(lambda: None)\n")
    done = mirembed("shout", env=env)
    assert done.stdout == "HELLO\n"
    assert "noise" in done.stderr
    assert "noise" not in mirembed("plugins", "--json", env=env).stdout


def test_an_unknown_command_is_a_usage_error_that_says_what_failed_to_load(mirembed, env, tmp_path):
    install(tmp_path / "site", "mirembed-broken", "1 / 0")
    done = mirembed("nonsense", env=env, code=1)
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ") and "mirembed-broken" in line]
    assert "'nonsense'" in done.stderr


def test_plugins_lists_commands_by_kind_or_hook(mirembed, env):
    for hook in ("command", "mirembed_register_commands"):
        listed = json.loads(mirembed("plugins", "--hook", hook, "--json", env=env).stdout)
        assert (listed["plugins"], len(listed["commands"])) == ([], 2)
    assert json.loads(mirembed("plugins", "--hook", "learner", "--json", env=env).stdout)["commands"] == []


def test_plugins_are_not_loaded_for_a_command_of_mirembed(mirembed, tmp_path):
    source = "import sys\nsys.stderr.write('loaded')\n" + COMMANDS.replace("\n    ", "\n")
    env = install(tmp_path / "site", "mirembed-loud", source)
    assert "loaded" not in mirembed("extract", "--help", env=env).stderr
    assert "loaded" in mirembed("shout", env=env).stderr


def test_the_help_with_commands_of_plugins_imports_nothing_that_mirembed_computes_with(env):
    printed, packages = run_in_process(["--help"], env=env)
    assert " shout " in printed
    assert packages & {*HEAVY, *PLUGINS} == set()
