"""The tracks that are most similar to one, in the store or in a folder.

Comparing stored embeddings needs no network and, with the built-in similarities, no torch. Files whose frames are in
the store are not decoded.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import audio_files, printable
from mirembed.errors import AudioError, MirembedError, StoreError
from mirembed.models.model import Model, read_provenance
from mirembed.models.saved import find_model
from mirembed.progress import Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.recordings import KnownRecordings
from mirembed.training.similarity import UNLEARNED, PluginSimilarity

if TYPE_CHECKING:
    from mirembed.models.inference import EmbeddedFiles


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
    """Rank tracks by their similarity to ``track``, which itself is left out.

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
    files, notes = ([], ()) if inside is None else audio_files([inside])
    for note in notes:
        progress.note(note)
    provenance = read_provenance(folder)
    load = functools.cache(lambda: Model.load(folder, registry))
    is_file = Path(track).is_file()
    itself, failures = {track}, []
    query = None
    if inside is None or not is_file:
        stored = store.find(dataset or Spec.parse(provenance["dataset"]["spec"])).tracks()
        vectors = store.embeddings(folder.name).read(provenance["digest"])
        if lacking := {one.recording for one in stored if one.recording is not None} - vectors.keys():
            vectors |= _embed_stored(load, store, lacking, progress)
        having = [one for one in stored if one.recording in vectors]
        if not having:
            raise StoreError(
                f"the store {store.root} has neither embeddings of the model {folder.name} nor frames that it takes; "
                "search a folder with --in DIR, or fit the model on this store"
            )
        if len(having) < len(stored):
            progress.note(f"leaving out {counted(len(stored) - len(having), 'track')} without the model's features")
        names = [one.id for one in having]
        candidates = np.array([vectors[one.recording] for one in having if one.recording is not None])
        if not is_file:
            query = candidates[_index_of(track, names)]
        else:
            recording = KnownRecordings(store).of(Path(track))
            itself = {one.id for one in stored if recording is not None and one.recording == recording}
            itself |= {one.id for one in stored if Path(one.path).resolve() == Path(track).resolve()}
            query = None if recording is None else vectors.get(recording)
    if query is None:
        embedded = _embed_files(load, [Path(track)], registry, store, jobs, progress)
        if embedded.failures:
            raise AudioError(f"{printable(Path(track))}: {embedded.failures[0][1]}")
        query = embedded.embeddings[0]
    if inside is not None:
        embedded = _embed_files(load, files, registry, store, jobs, progress)
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


def _embed_stored(
    load: Callable[[], Model], store: Store, recordings: Collection[str], progress: Progress
) -> dict[str, NDArray[np.float32]]:
    from mirembed.models.inference import embed_recordings

    progress.start("embedding", len(recordings))
    return embed_recordings(load(), store, recordings, progress)


def _embed_files(
    load: Callable[[], Model],
    paths: Sequence[Path],
    registry: Registry,
    store: Store,
    jobs: int | None,
    progress: Progress,
) -> EmbeddedFiles:
    from mirembed.models.inference import embed_files
    from mirembed.workers import available_jobs

    return embed_files(load(), paths, registry, store, jobs or available_jobs(), progress)


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
