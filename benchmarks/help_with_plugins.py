"""Measure the cost of installed plugins: the time of ``mirembed --help`` and ``mirembed plugins``, with and without.

    python benchmarks/help_with_plugins.py --plugins 50 --runs 5

Prints the best of several runs in seconds, and the ratio. The module of each plugin imports only mirembed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = """\
from mirembed import hookimpl


@hookimpl
def mirembed_register_similarities(register):
    register("similarity-{number}", lambda: lambda x: x @ x.mT, summary="A plugin of the benchmark")
"""


def install(folder: Path, number: int) -> None:
    """Write a distribution as pip would install it."""
    information = folder / f"mirembed_bench{number}-1.0.dist-info"
    information.mkdir()
    (folder / f"mirembed_bench{number}.py").write_text(SOURCE.format(number=number))
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mirembed-bench{number}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[mirembed]\nplugin = mirembed_bench{number}\n")


def best_time(words: list[str], runs: int, folder: Path | None) -> float:
    """Return the shortest processor time in seconds; unlike elapsed time, other programs hardly change it."""
    paths = [str(folder) if folder else "", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    times = []
    for _ in range(runs + 1):  # the first one compiles the modules
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "mirembed", *words], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times[1:])


def main() -> None:
    """Measure according to the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plugins", type=int, default=50, help="number of plugins to install")
    parser.add_argument("--runs", type=int, default=5, help="runs of each command, of which the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.plugins):
            install(folder, number)
        print(f"{time.strftime('%Y-%m-%d')}, {options.plugins} plugins, best of {options.runs}, CPU time")
        for words in (["--help"], ["plugins"]):
            bare, full = best_time(words, options.runs, None), best_time(words, options.runs, folder)
            print(f"mirembed {' '.join(words):8}{bare:6.3f} s without, {full:6.3f} s with: {full / bare:.2f} times")


if __name__ == "__main__":
    main()
