"""Measure what short commands cost: the processor time of each, from a store of the demo dataset.

    python -m benchmarks.startup --runs 5

Prints the best of several runs in seconds. pyarrow imports pandas in some of its functions where pandas is installed,
so the result depends on that, too. On a busy machine, processor time is up to twice what it is on an idle one.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.help_with_plugins import best_time


def make_store(store: Path) -> None:
    """Extract the demo dataset, fit a model and evaluate two approaches, with as little training as possible."""
    approaches = ["--similarity", "rbf", "--similarity", "cosine"]
    for words in (
        ["extract"],
        ["fit", "--similarity", "rbf", "--epochs", "1", "--name", "startup"],
        ["evaluate", *approaches, "--cv", "2", "--epochs", "1"],
    ):
        command = [sys.executable, "-m", "mirembed", *words, "--dataset", "demo", "--store", str(store)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def commands(store: Path) -> dict[str, list[str]]:
    """Return the commands to measure, by the name to print."""
    [run] = (path for path in (store / "runs").iterdir() if path.is_dir() and not path.name.startswith("."))
    audio = min((store / "audio" / "demo").rglob("*.wav"))
    place = ["--store", str(store)]
    return {
        "--help": ["--help"],
        "plugins": ["plugins"],
        "datasets": ["datasets", *place],
        "store info": ["store", "info", *place],
        "similar, stored embeddings": ["similar", "startup", "waltz/waltz-00.wav", *place],
        "compare": ["compare", str(run), *place],
        "predict, one file": ["predict", "startup", str(audio), *place],
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each command, of which the best counts")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        make_store(store)
        pandas = "with" if importlib.util.find_spec("pandas") else "without"
        print(f"{time.strftime('%Y-%m-%d')}, {pandas} pandas, best of {options.runs}, CPU time")
        for shown, command in commands(store).items():
            print(f"{shown:28}{best_time(command, options.runs, None):6.2f} s")


if __name__ == "__main__":
    main()
