"""mirembed: music embeddings that copy the similarity between labels.

Plugins are written against the names below. The command line is ``mirembed --help``.
"""

from __future__ import annotations

from mirembed.audio.files import AUDIO_SUFFIXES, AudioFiles, find_audio, is_audio, require_folder
from mirembed.errors import AudioError, DatasetError, MirembedError
from mirembed.hookspecs import (
    Archive,
    Card,
    Classification,
    Dataset,
    Estimator,
    Learner,
    Listing,
    Register,
    Regression,
    Similarity,
    Split,
    Target,
    Task,
    Track,
    hookimpl,
)
from mirembed.progress import counted

__all__ = [
    "AUDIO_SUFFIXES",
    "Archive",
    "AudioError",
    "AudioFiles",
    "Card",
    "Classification",
    "Dataset",
    "DatasetError",
    "Estimator",
    "Learner",
    "Listing",
    "MirembedError",
    "Register",
    "Regression",
    "Similarity",
    "Split",
    "Target",
    "Task",
    "Track",
    "counted",
    "find_audio",
    "hookimpl",
    "is_audio",
    "require_folder",
]
__version__ = "0.1.0"
