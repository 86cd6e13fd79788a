"""mirembed: music embeddings that copy the similarity between labels.

`extract`, `fit`, `evaluate`, `load`, `open_run` and `Store` are for notebooks and programs; see `mirembed.api`. Plugins
are written against the other names below. The command line is ``mirembed --help``.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mirembed.api import Store, evaluate, extract, fit, load, open_run
    from mirembed.audio.by_essentia import essentia_algorithm, essentia_error
    from mirembed.audio.file_tags import FileTags, read_file_tags
    from mirembed.audio.files import AUDIO_SUFFIXES, AudioFiles, find_audio, is_audio, is_hidden, require_folder
    from mirembed.audio.playlists import PlaylistEntry, find_playlists, playlist_matcher, read_playlist
    from mirembed.audio.samples import SamplesAudio
    from mirembed.errors import AudioError, DatasetError, MirembedError
    from mirembed.hookspecs import (
        Archive,
        Audio,
        Card,
        Classification,
        Dataset,
        Estimator,
        Features,
        Learner,
        Listing,
        Network,
        NetworkModule,
        Register,
        Regression,
        Similarity,
        Split,
        Tags,
        Target,
        Task,
        Track,
        hookimpl,
    )
    from mirembed.interruption import uninterruptible
    from mirembed.progress import counted

__all__ = [
    "AUDIO_SUFFIXES",
    "Archive",
    "Audio",
    "AudioError",
    "AudioFiles",
    "Card",
    "Classification",
    "Dataset",
    "DatasetError",
    "Estimator",
    "Features",
    "FileTags",
    "Learner",
    "Listing",
    "MirembedError",
    "Network",
    "NetworkModule",
    "PlaylistEntry",
    "Register",
    "Regression",
    "SamplesAudio",
    "Similarity",
    "Split",
    "Store",
    "Tags",
    "Target",
    "Task",
    "Track",
    "counted",
    "essentia_algorithm",
    "essentia_error",
    "evaluate",
    "extract",
    "find_audio",
    "find_playlists",
    "fit",
    "hookimpl",
    "is_audio",
    "is_hidden",
    "load",
    "open_run",
    "playlist_matcher",
    "read_file_tags",
    "read_playlist",
    "require_folder",
    "uninterruptible",
]
__version__ = "0.1.0"

_MODULES = {
    "api": ("Store", "evaluate", "extract", "fit", "load", "open_run"),
    "audio.by_essentia": ("essentia_algorithm", "essentia_error"),
    "audio.file_tags": ("FileTags", "read_file_tags"),
    "audio.files": ("AUDIO_SUFFIXES", "AudioFiles", "find_audio", "is_audio", "is_hidden", "require_folder"),
    "audio.playlists": ("PlaylistEntry", "find_playlists", "playlist_matcher", "read_playlist"),
    "audio.samples": ("SamplesAudio",),
    "errors": ("AudioError", "DatasetError", "MirembedError"),
    "interruption": ("uninterruptible",),
    "progress": ("counted",),
}
"""The module of each public name that is not in ``hookspecs``. Each is imported only when a name of it is used: the
program handles ctrl-C before it imports anything that takes time."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = next((module for module, names in _MODULES.items() if name in names), "hookspecs")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # so that the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(type(sys)):  # type: ignore[misc]
    """Keeps the functions `evaluate`, `extract` and `fit`, although there are packages of the same names.

    Python sets a package as an attribute of this one when it is first imported. It stays importable without that.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, type(sys)) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
