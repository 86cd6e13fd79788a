"""Measure the results in docs/reproduction.md, and write them into the page.

::

    python benchmarks/reproduction.py --store STORE --gtzan GTZAN

``GTZAN`` is a folder with all or some of GTZAN; without it, only the demo is measured. Every number comes from the real
command. Finished evaluations are not repeated, so an interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mirembed
from mirembed.specs import Spec

PAGE = Path(__file__).parents[1] / "docs" / "reproduction.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

METHODS = ("nn", "fl", "rbf-sl", "cosine-sl", "polynomial-sl", "chance", "stats", "untrained")
KERNELS = ("svm", "svm:kernel=rbf,gamma=1", "svm:kernel=cosine", "svm:kernel=polynomial")

EFFECTS = {
    "gamma of the similarity (1)": [f"--similarity rbf:gamma={gamma}" for gamma in (0.25, 0.5, 1, 2, 4)],
    "c of the polynomial (0)": [f"--similarity polynomial:c={c}" for c in (0, 1)],
    "d of the polynomial (2)": [f"--similarity polynomial:d={d}" for d in (2, 3)],
    "gamma of the SVM (`scale`)": [f"--similarity rbf --learner svm:gamma={gamma}" for gamma in ("scale", "match")],
    "C of the SVM (1)": [f"--similarity rbf --learner svm:C={C}" for C in (0.1, 1, 10)],
    "similarity of the labels (as of the embeddings)": [
        f"--similarity rbf --label-similarity {spec}" for spec in ("rbf", "cosine", "rbf:gamma=0.25")
    ],
    "tracks that normalize the bands (`training`)": [
        f"--similarity rbf --normalize {tracks}" for tracks in ("training", "dataset")
    ],
    "batch (32)": [f"--similarity rbf --batch {batch}" for batch in (16, 32, 64)],
}
"""Choices that the paper leaves open, with the default in parentheses: the flags to compare."""


def main() -> None:
    """Run the evaluations and put their tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="created if it does not exist")
    parser.add_argument("--gtzan", type=Path, help="a folder of GTZAN")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--cv", type=int, default=10)
    parser.add_argument("--decisions", metavar="TEXT", default="", help="only choices whose name contains this text")
    arguments = parser.parse_args()
    datasets = {"demo": ["--folds", "grouped"]}
    run(arguments.store, "extract", "--dataset", "demo")
    if arguments.gtzan:
        datasets["gtzan"] = []
        run(arguments.store, "extract", "--dataset", "gtzan", "--audio", arguments.gtzan, codes=(0, 2))
    text = ""
    for name, folds in datasets.items():
        text += section(arguments, name, folds)
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def section(arguments: argparse.Namespace, dataset: str, folds: list[str]) -> str:
    """Return the tables of one dataset."""
    shared = ["--dataset", dataset, *folds, "--cv", arguments.cv, "--epochs", arguments.epochs, "--checkpoint-every", 0]
    words = [word for name in METHODS for word in ("--approach", name)]
    words += [word for name in KERNELS for word in ("--learner", name)]
    scored = evaluate(arguments.store, *shared, *words)
    lines = [
        f"\n### {dataset}\n\n",
        f"{scored['n_tracks']} tracks, {arguments.cv} {scored['folds']} folds, {arguments.epochs} epochs, seed 0; "
        "accuracy with its 95 % interval over folds.\n\n",
        f"| Approach | {' | '.join(f'`{kernel}`' for kernel in KERNELS)} |\n|---|{'---|' * len(KERNELS)}\n",
    ]
    for name in METHODS:
        cells = [
            cell(scored, name if name in ("nn", "chance") else f"{name}+{Spec.parse(kernel)}") for kernel in KERNELS
        ]
        shown = [cells[0], *[""] * (len(KERNELS) - 1)] if name in ("nn", "chance") else cells
        lines.append(f"| `{name}` | {' | '.join(shown)} |\n")
    lines += ["\n| Decision | Setting | Accuracy |\n|---|---|---|\n"]
    for decision, settings in EFFECTS.items():
        if arguments.decisions not in decision:
            continue
        for setting in settings:
            effect = evaluate(arguments.store, *shared, *setting.split())
            [scores] = effect["approaches"].values()
            lines.append(f"| {decision} | `{setting}` | {interval(scores)} |\n")
    return "".join(lines)


def cell(scored: dict[str, Any], method: str) -> str:
    """Return the accuracy of a method."""
    return interval(scored["approaches"][method])


def interval(scores: dict[str, Any]) -> str:
    """Return an accuracy with its interval."""
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**scores["accuracy"])


def evaluate(store: Path, *words: object) -> dict[str, Any]:
    """Return the output of ``mirembed evaluate --json``, from an earlier measurement if there is one."""
    name = hashlib.sha256(" ".join([mirembed.__version__, *map(str, words)]).encode()).hexdigest()[:16]
    kept = store / "reproduction" / f"{name}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(run(store, "evaluate", *words, "--json"))
    content: dict[str, Any] = json.loads(kept.read_text())
    return content


def run(store: Path, *words: object, codes: tuple[int, ...] = (0,)) -> str:
    """Run the command and return its output."""
    command = [sys.executable, "-m", "mirembed", *map(str, words), "--store", str(store)]
    print(" ".join(command[2:]), file=sys.stderr)
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if completed.returncode not in codes:
        sys.exit(f"the command failed with exit code {completed.returncode}")
    return completed.stdout


if __name__ == "__main__":
    main()
