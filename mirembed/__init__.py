"""mirembed: music embeddings that copy the similarity between labels.

`extract`, `fit`, `evaluate`, `load`, `open_run` and `Store` are for notebooks and programs; see `mirembed.api`. Plugins
are written against the other names below. The command line is ``mirembed --help``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mirembed.audio.file_tags import FileTags, read_file_tags
from mirembed.audio.files import AUDIO_SUFFIXES, AudioFiles, find_audio, is_audio, is_hidden, require_folder
from mirembed.audio.playlists import PlaylistEntry, find_playlists, playlist_matcher, read_playlist
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

if TYPE_CHECKING:
    from mirembed.api import Store, evaluate, extract, fit, load, open_run
    from mirembed.audio.by_essentia import essentia_algorithm, essentia_error
    from mirembed.audio.samples import SamplesAudio

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
    "SamplesAudio": "mirembed.audio.samples",
    "essentia_algorithm": "mirembed.audio.by_essentia",
    "essentia_error": "mirembed.audio.by_essentia",
    **dict.fromkeys(("Store", "evaluate", "extract", "fit", "load", "open_run"), "mirembed.api"),
}
"""Where the public names are that are imported only when they are used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # so that the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


class _Package(ModuleType):
    """Keeps the functions `evaluate`, `extract` and `fit`, although there are packages of the same names.

    Python sets a package as an attribute of this one when it is first imported. It stays importable without that.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
