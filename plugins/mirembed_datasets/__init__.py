"""Built-in datasets."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_datasets.ballroom import Ballroom
from mirembed_datasets.demo import Demo
from mirembed_datasets.emotify import Emotify
from mirembed_datasets.folder import Folder
from mirembed_datasets.gtzan import Gtzan
from mirembed_datasets.lastfm import Lastfm
from mirembed_datasets.library import Library
from mirembed_datasets.magnatagatune import MagnaTagATune
from mirembed_datasets.mediaeval2013 import Mediaeval2013
from mirembed_datasets.mtg_jamendo import MtgJamendo


@hookimpl
def mirembed_register_datasets(register: Register) -> None:
    """Register the built-in datasets."""
    register("ballroom", Ballroom, summary="Dance style, 8 classes, 698 clips")
    register("demo", Demo, summary="Synthesized music in eight styles, made on demand")
    register("emotify", Emotify, summary="Induced emotion, 9 values or tags, 400 clips")
    register("folder", Folder, summary="Your own files: one folder per class, or a table of labels")
    register("gtzan", Gtzan, summary="Genre, 10 classes, 1000 clips")
    register("lastfm", Lastfm, summary="Mood, 4 classes, your copy of up to 2904 clips")
    register("library", Library, summary="Your music library, labeled by its own file tags or playlists")
    register("magnatagatune", MagnaTagATune, summary="Tags from a game, 25863 clips")
    register("mediaeval2013", Mediaeval2013, summary="Valence and arousal, 744 clips")
    register("mtg_jamendo", MtgJamendo, summary="Genres, instruments, moods and themes, 55609 tracks")
