"""Small libraries whose embeddings are placed by hand: nothing is trained, and nothing is decoded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from test_commands import Result, run

from mirembed import Classification, FileTags
from mirembed.audio.files import file_hash, file_stamp, printable
from mirembed.models.saved import FORMAT, MANIFEST, NETWORK
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, Store, StoredTrack
from mirembed.store.embeddings import EmbeddingRows, RecordingFacts
from mirembed.store.files import write_json
from mirembed.store.rows import StoredFileTags

TASK = Classification(("jazz", "rock"))


@dataclass(frozen=True)
class At:
    """A track: where its embedding is, and what its file says of itself.

    ``content`` makes files with equal bytes; ``seconds`` differ from track to track by default.
    """

    place: tuple[float, ...]
    title: str | None = None
    artists: tuple[str, ...] = ()
    album: str | None = None
    album_artist: str | None = None
    content: str | None = None
    audio_hash: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class SmallLibrary:
    """A library in ``folder``: its files in ``music``, its store in ``store``, and the model ``model``."""

    folder: Path

    @property
    def music(self) -> Path:
        return self.folder / "music"

    def run(self, *words: object, code: int = 0) -> Result:
        """Run a command on the store."""
        return run(*words, "--store", self.folder / "store", code=code)

    def similar(self, *words: object) -> dict[str, Any]:
        return self.run("similar", "model", *words, "--json").json

    def ids(self, *words: object) -> list[str]:
        """The ids of the neighbors, the most similar first."""
        return [row["track"] for row in self.similar(*words)["neighbors"]]

    def playlist(self, *words: object) -> list[dict[str, Any]]:
        return self.run("playlist", "model", *words, "--json").json["tracks"]

    def failure(self, *words: object) -> str:
        return self.run(*words, code=1).err


def write_library(folder: Path, tracks: Mapping[str, At], similarity: str = "rbf") -> SmallLibrary:
    """Write files, store and model; an id may have bytes that are not UTF-8, as `os.fsdecode` gives them."""
    store, library = Store(folder / "store"), SmallLibrary(folder)
    store.create()
    dataset = store.dataset(Spec("folder"))
    paths = {name: library.music / name for name in tracks}
    for name, track in tracks.items():
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(track.content or printable(Path(name)))
    info = DatasetInfo("folder", {"name": "folder"}, TASK, str(library.music), len(tracks), 0)
    dataset.write_info(info)
    ids = {name: printable(Path(name)) for name in tracks}
    stored = [
        StoredTrack(ids[name], file_hash(path), "jazz", None, printable(path), *file_stamp(path))
        for name, path in paths.items()
    ]
    dataset.write_tracks(stored, info)
    dataset.write_file_tags(
        StoredFileTags(
            ids[name], *file_stamp(paths[name]), FileTags(one.title, one.artists, one.album, one.album_artist)
        )
        for name, one in tracks.items()
    )
    write_model(store, similarity)
    seconds = [one.seconds or 100.0 + 10 * number for number, one in enumerate(tracks.values())]
    rows = EmbeddingRows(
        [one.recording for one in stored if one.recording],
        np.array([one.place for one in tracks.values()], np.float32),
        [True] * len(tracks),
        [
            RecordingFacts(audio_hash=one.audio_hash, duration=length)
            for one, length in zip(tracks.values(), seconds, strict=True)
        ],
    )
    store.embeddings("model").write("digest", rows)
    return library


def write_model(store: Store, similarity: str) -> None:
    """Write what is read of a model that is not loaded."""
    recorded = Registry.discover().provenance("similarity", Spec.parse(similarity))
    provenance = {
        "approach": "learned-sl",
        "settings": {"approaches": {"learned-sl": {"similarity": recorded}}},
        "dataset": {"spec": "folder", "n_tracks": 2},
    }
    manifest = {"format": FORMAT, "provenance": provenance, "files": {NETWORK: "digest"}, "recordings": []}
    write_json(store.models / "model" / MANIFEST, manifest)


def latin1(name: str) -> str:
    """A file name in Latin-1, which is not UTF-8."""
    return os.fsdecode(name.encode("latin-1"))
