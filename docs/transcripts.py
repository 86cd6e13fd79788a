"""Run the commands in the documentation's console blocks again and write down what they print.

    python docs/transcripts.py README.md docs/music-folder.md

Each page runs from top to bottom in a new folder that holds what the pages assume: ``music`` (the first twelve demo
clips of three styles), ``new`` (the other three of each) and ``moods.csv`` (their band, arousal and valence). A block
whose commands show no output is only run, and one that does not call mirembed is left alone. Output that a page cuts
short with ``…`` is cut again after as many lines. The name of a run in a command becomes that of the newest run.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STYLES = ("rock", "swing", "waltz")
N_MUSIC = 12
"""Clips of each style in ``music``."""
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"\b[a-z]+-\d{8}-\d{6}\b")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def prepare(folder: Path) -> None:
    """Write ``music``, ``new`` and ``moods.csv``."""
    from mirembed_datasets.demo import Demo

    demo = Demo(task="regression")
    demo.synthesize(folder / "clips")
    rows = []
    for track in demo.listing(folder / "clips").tracks:
        style, _, name = track.id.partition("/")
        if style in STYLES:
            known = int(track.path.stem.rpartition("-")[2]) < N_MUSIC
            path = folder / "music" / track.id if known else folder / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            track.path.rename(path)
            if known:
                rows.append([track.id, track.group, *(f"{value:.1f}" for value in track.label)])
    with (folder / "moods.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["path", "artist", "arousal", "valence"], *sorted(rows)])


def run(command: str, folder: Path) -> str:
    """Run a command as a shell does; return what it prints on both streams."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    completed = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "160", "MIREMBED_STORE": "mirembed-store"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return re.sub(r"^about .* left\n", "", completed.stdout, flags=re.MULTILINE)  # it depends on the machine


def with_newest_run(command: str, folder: Path) -> str:
    """Replace the name of a run by that of the newest run, without the digest at its end."""
    if RUN.search(command) is None:
        return command
    newest = max((folder / "mirembed-store" / "runs").glob("[!.]*"), key=lambda run: run.stat().st_mtime)
    return RUN.sub(newest.name.rpartition("-")[0], command)


def cut(printed: str, before: str) -> str:
    """Shorten new output where the page shortens the old one."""
    if not before.endswith("…\n"):
        return printed
    return "".join(printed.splitlines(keepends=True)[: before.count("\n") - 1]) + "…\n"


def rewrite(page: Path) -> None:
    """Run the console blocks of a page in order and write their output into it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)

        def again(block: re.Match[str]) -> str:
            commands = COMMAND.findall(block[0])
            if "mirembed " not in block[0] or "--plugins-dir" in block[0]:
                return block[0]
            shown = any(before for _, before in commands)
            lines = []
            for command, before in commands:
                print(f"{page}: {command}", file=sys.stderr)
                if "RUN" in command or "GTZAN" in command or "HOST" in command or "paper" in command:
                    return block[0]
                command = with_newest_run(command, folder)
                printed = run(command, folder)
                lines.append(f"$ {command}\n{cut(printed, before) if shown else before}")
            return "".join(lines)

        page.write_text(BLOCK.sub(again, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rewrite(Path(argument).resolve())
