"""A library with a store and a model of its folders, which each test gets as it was made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from conftest import run_here


def untouched(library: Path) -> Path:
    """Where a copy of the library is, from which each test gets it back."""
    return library.with_name(f"{library.name}-untouched")


def make_model(library: Path, epochs: int) -> Path:
    """Extract the folder ``audio`` of a library into the store ``s``, fit the model ``m``, and keep a copy of all."""
    for words in (
        ["extract", "--dataset", "folder", "--audio", "audio"],
        ["fit", "--approach", "nn", "--epochs", str(epochs), "--name", "m", "--engine", "torch"],
    ):
        assert run_here(library, [*words, "--store", "s"]).returncode == 0
    shutil.copytree(library, untouched(library))
    return library


def lent(library: Path, folder: Path) -> Iterator[Path]:
    """Yield the audio of a library, whose store is ``s`` in ``folder``, and put both back afterwards."""
    (folder / "s").symlink_to(library / "s")
    yield library / "audio"
    for name in ("audio", "s"):
        shutil.rmtree(library / name)
        shutil.copytree(untouched(library) / name, library / name)
