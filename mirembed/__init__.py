"""mirembed: music embeddings that copy the similarity between labels.

The names below are what plugins are written against; the command line is ``mirembed --help``.
"""

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

__all__ = [
    "Archive",
    "AudioError",
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
    "hookimpl",
]
__version__ = "0.1.0"
