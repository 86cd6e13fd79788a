"""The tracks that are most similar to one, in the store or in a folder.

Among stored embeddings this needs no network, and with the built-in similarities no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mirembed.audio.files import audio_files, file_hash, printable
from mirembed.errors import AudioError, MirembedError
from mirembed.models.embeddings import read_embeddings
from mirembed.models.model import Model, find_model, read_provenance
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import FeatureStore, Store
from mirembed.training.similarity import PluginSimilarity

UNLEARNED = Spec("cosine")
"""Ranks the embeddings of models that learned no similarity (``nn``, ``fl``)."""


@dataclass(frozen=True)
class Neighbors:
    """Tracks by descending similarity.

    Attributes
    ----------
    query : str
    similarity : str
        Spec of the similarity that ranks them.
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
    jobs: int | None,
    progress: Progress,
) -> Neighbors:
    """Rank tracks by their similarity to ``track``, which is left out itself.

    Parameters
    ----------
    model : str
        The folder of a model, or its name in the store.
    track : str
        An id among the stored embeddings, or an audio file.
    inside : pathlib.Path or None
        Search this folder of audio files in place of the store.
    dataset : Spec or None
        The dataset of the store to search; by default the one that the model was fitted to.
    jobs : int or None
        Worker processes; by default one per core.

    Raises
    ------
    MirembedError
        If model, track or embeddings do not exist.
    """
    folder = find_model(store.models, model)
    files = [] if inside is None else audio_files([inside])
    provenance = read_provenance(folder)
    is_file = Path(track).is_file()
    itself, failures = {track}, []
    query = None
    if is_file or inside is not None:
        from mirembed.models.inference import embed_files
        from mirembed.workers import available_jobs

        n_jobs = jobs or available_jobs()
        loaded = Model.load(folder, registry)
        if is_file:
            embedded = embed_files(loaded, [Path(track)], n_jobs, progress)
            if embedded.failures:
                raise AudioError(f"{printable(Path(track))}: {embedded.failures[0][1]}")
            query = embedded.embeddings[0]
    if inside is None or query is None:
        features = store.find(dataset or Spec.parse(provenance["dataset"]["spec"]))
        names, candidates = read_embeddings(features.embeddings / f"{folder.name}.parquet", provenance)
        if query is None:
            query = candidates[_index_of(track, names)]
        else:
            itself = _ids_of(features, Path(track))
    if inside is not None:
        embedded = embed_files(loaded, files, n_jobs, progress)
        names, candidates = [printable(path) for path in embedded.paths], embedded.embeddings
        failures = embedded.failures
        if is_file:
            itself |= {printable(path) for path in embedded.paths if path.samefile(track)}
    similarity = _learned_similarity(provenance, registry)
    if similarity is None:
        similarity = UNLEARNED
        progress.note(f"{folder.name} learned no similarity; ranking by the {UNLEARNED} similarity of its embeddings")
    values = PluginSimilarity.create(registry, similarity).ranking_similarities(query, candidates)
    order = np.argsort(-values, kind="stable")
    ranked = [(names[i], float(values[i])) for i in order if names[i] not in itself]
    return Neighbors(track, str(similarity), ranked[:top], failures)


def _ids_of(features: FeatureStore, path: Path) -> set[str]:
    """Return the ids of the tracks whose audio is this file or a copy of it."""
    index = features.index().select(["id", "path", "file_hash"]).to_pylist()
    resolved, content = path.resolve(), file_hash(path)
    return {row["id"] for row in index if Path(row["path"]).resolve() == resolved or row["file_hash"] == content}


def _index_of(track: str, names: list[str]) -> int:
    if track not in names:
        near = difflib.get_close_matches(track, names) or names[:3]
        raise MirembedError(
            f"{track!r} is neither an audio file nor one of the {len(names)} tracks with stored embeddings, "
            f"such as {', '.join(near)}"
        )
    return names.index(track)


def _learned_similarity(provenance: Mapping[str, Any], registry: Registry) -> Spec | None:
    """Return the similarity that a model learned, by its full name if another plugin has the short one now."""
    entry = provenance["settings"]["approaches"].get(provenance["approach"], {})
    if "similarity" not in entry:
        return None
    spec = Spec.parse(entry["similarity"]["spec"])
    plugin = registry.require("similarity", entry["similarity"], f"the model {provenance['name']}")
    return Spec(registry.shown_name(plugin), spec.parameters)
