"""Built-in datasets."""

from __future__ import annotations

from mirembed import hookimpl
from mirembed.hookspecs import Register
from mirembed_datasets.demo import Demo
from mirembed_datasets.folder import Folder
from mirembed_datasets.gtzan import Gtzan


@hookimpl
def mirembed_register_datasets(register: Register) -> None:
    """Register the built-in datasets."""
    register("demo", Demo, summary="Synthesised music in eight styles, made on the spot")
    register("folder", Folder, summary="Your own files: one folder a class, or a table of labels")
    register("gtzan", Gtzan, summary="Genre, 10 classes, 1000 clips")
