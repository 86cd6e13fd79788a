"""The tracks that are most similar to one, in the store or in a folder."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import audio_files, file_hash, printable
from mirembed.errors import AudioError, MirembedError
from mirembed.models.embeddings import ModelKey, read_embeddings
from mirembed.models.inference import embed_files
from mirembed.models.kernels import nearest
from mirembed.models.model import Model, find_model
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import FeatureStore, Store
from mirembed.training.loop import PluginSimilarity

UNLEARNED = Spec("cosine")
"""Ranks the embeddings of models that learned no similarity (``nn``, ``fl``)."""


@dataclass(frozen=True)
class Neighbors:
    """Tracks by falling similarity.

    Attributes
    ----------
    query : str
    similarity : str
        The spec that ranks them.
    tracks : list of (str, float)
    failures : list of (pathlib.Path, str)
        Files of the searched folder that could not be read.
    """

    query: str
    similarity: str
    tracks: list[tuple[str, float]]
    failures: list[tuple[Path, str]]

    def to_json(self) -> dict[str, Any]:
        """Return the neighbors as JSON."""
        return {
            "query": self.query,
            "similarity": self.similarity,
            "neighbors": [{"track": name, "similarity": value} for name, value in self.tracks],
            "failures": [{"path": printable(path), "reason": reason} for path, reason in self.failures],
        }


def neighbors(
    store: Store,
    registry: Registry,
    model: str,
    track: str,
    *,
    top: int,
    inside: Path | None,
    dataset: Spec | None,
    jobs: int,
    progress: Progress,
) -> Neighbors:
    """Rank tracks by their similarity to ``track``, which is itself left out.

    Parameters
    ----------
    model : str
        A folder, or a name in the store.
    track : str
        An id among the embeddings of the store, or an audio file.
    inside : pathlib.Path or None
        Search in this folder of audio files, not in the store.
    dataset : Spec or None
        Which dataset of the store to search; by default the one that the model was fitted to.

    Raises
    ------
    MirembedError
        If model, track or embeddings are not there.
    """
    folder = find_model(store.models, model)
    loaded = Model.load(folder, registry)
    failures: list[tuple[Path, str]] = []
    itself = {track}
    query = None
    if Path(track).is_file():
        query = _embed_one(loaded, Path(track), jobs, progress)
    if inside is None or query is None:
        features = store.find(dataset or Spec.parse(loaded.provenance["dataset"]["spec"]))
        names, candidates = read_embeddings(features.embeddings / f"{folder.name}.parquet", ModelKey.of(loaded))
        if query is None:
            query = _stored(track, names, candidates)
        else:
            itself = _tracks_of(features, Path(track))
    if inside is not None:
        embedded = embed_files(loaded, audio_files([inside]), jobs, progress)
        names, candidates = [printable(path) for path in embedded.paths], embedded.embeddings
        failures = embedded.failures
        if Path(track).is_file():
            itself |= {printable(path) for path in embedded.paths if path.samefile(track)}
    similarity = _similarity(loaded, registry)
    if similarity is None:
        similarity = UNLEARNED
        progress.note(f"{folder.name} learned no similarity: {UNLEARNED} of its embeddings ranks the tracks")
    values = nearest(PluginSimilarity.create(registry, similarity), query, candidates)
    order = np.argsort(-values, kind="stable")
    ranked = [(names[i], float(values[i])) for i in order if names[i] not in itself]
    return Neighbors(track, str(similarity), ranked[:top], failures)


def _embed_one(model: Model, path: Path, jobs: int, progress: Progress) -> NDArray[np.float32]:
    embedded = embed_files(model, [path], jobs, progress)
    if embedded.failures:
        raise AudioError(f"{printable(path)}: {embedded.failures[0][1]}")
    return np.asarray(embedded.embeddings[0])


def _tracks_of(features: FeatureStore, path: Path) -> set[str]:
    """Return the ids of the tracks whose audio is this file, or a copy of it."""
    index = features.index().select(["id", "path", "file_hash"]).to_pylist()
    place, content = path.resolve(), file_hash(path)
    return {row["id"] for row in index if Path(row["path"]).resolve() == place or row["file_hash"] == content}


def _stored(track: str, names: list[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    if track not in names:
        near = difflib.get_close_matches(track, names) or names[:3]
        raise MirembedError(
            f"{track!r} is neither an audio file nor one of the {len(names)} tracks of the store, "
            f"such as {', '.join(near)}"
        )
    return np.asarray(embeddings[names.index(track)])


def _similarity(model: Model, registry: Registry) -> Spec | None:
    """Return the similarity that a model learned, by its full name: what is installed may have changed."""
    entry = model.provenance["settings"]["approaches"].get(model.provenance["approach"], {})
    if "similarity" not in entry:
        return None
    spec = Spec.parse(entry["similarity"]["spec"])
    plugin = registry.require("similarity", entry["similarity"], f"the model {model.provenance['name']}")
    return Spec(registry.shown_name(plugin), spec.parameters)
