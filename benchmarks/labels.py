"""Compare the labels that a library can have: are the neighbors of a new track of its genre?

    python -m benchmarks.labels music --labels genre,artist --epochs 100

The files of the folder have genres and artists. The artists are divided into parts. For each part and each kind of
label, a network learns from the tracks of all other artists; then the tracks of the part look for their neighbors among
the tracks of all other artists. So no network has seen the tracks that look for neighbors, or others of their artists.
The score is precision at 5: the share of the five nearest tracks that have a genre of the track.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed import FileTags, read_file_tags
from mirembed.config.settings import Settings
from mirembed.features import resolve_features
from mirembed.fit.job import Job, fit_models
from mirembed.fit.resolve import choose_engine_for, resolve_settings
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.statistics.retrieval import PRECISION, retrieve
from mirembed.store import Store
from mirembed.store.tracks import Tracks, open_tracks

ALL = "library:label=genre,min_tracks=1"
"""The dataset whose tracks look for neighbors."""


def open_labeled(store: Store, audio: Path, spec: str, jobs: int) -> Tracks:
    """Extract a dataset and return its labeled tracks."""
    words = ["extract", "--dataset", spec, "--audio", str(audio), "--store", str(store.root), "--jobs", str(jobs)]
    subprocess.run([sys.executable, "-m", "mirembed", *words], check=True, stdout=subprocess.DEVNULL)
    registry = Registry.discover()
    return open_tracks(store, store.find(Spec.parse(spec)), [resolve_features(registry, "logmel")])


def parts_of(artists: Sequence[str], n_parts: int, seed: int) -> NDArray[np.int64]:
    """Return the part of each track. All tracks of an artist are in one part; the parts are about equally large."""
    names, codes, sizes = np.unique(artists, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    part, filled = np.empty(len(names), np.int64), np.zeros(n_parts)
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        part[name] = np.argmin(filled)
        filled[part[name]] += sizes[name]
    return part[codes]


def networks(approach: str, tracks: Tracks, train: Sequence[frozenset[str]], epochs: int, seed: int) -> Iterator[Model]:
    """Train an approach on the tracks with some ids, once for each set of ids."""
    registry = Registry.discover()
    settings, _ = resolve_settings(Settings(approach=(approach,), epochs=epochs, device="cpu"), registry)
    methods = tuple(replace(method, learner=None) for method in settings.methods)
    engine = choose_engine_for(settings, registry, methods, tracks.features, lambda note: None)
    settings = replace(settings, engine=engine)
    for fold, ids in enumerate(train):
        rows = np.flatnonzero([one in ids for one in tracks.ids])
        job = Job.of(tracks, rows, methods, settings, seed, fold, {}, None)
        yield fit_models(replace(job, calibrate=False), registry).models[methods[0].name]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide vectors by their lengths."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def precision(vectors: NDArray[np.float32], tracks: Tracks, artists: Sequence[str]) -> NDArray[np.float64]:
    """Return precision at 5 of each track, NaN if no other artist has its genre."""

    def similarities_to(query: int) -> NDArray[np.float64]:
        distances: NDArray[np.float64] = np.linalg.norm(vectors - vectors[query], axis=1)
        return -distances

    _, groups = np.unique(artists, return_inverse=True)
    return retrieve(similarities_to, tracks.label_array, groups)[PRECISION]


def compare(
    audio: Path, labels: Sequence[str], store: Store, epochs: int, n_parts: int, seeds: int, jobs: int
) -> list[tuple[str, int, list[float]]]:
    """Return the kind of label, the number of tracks that have one, and precision at 5 by seed."""
    everything = open_labeled(store, audio, ALL, jobs)
    tags: list[FileTags] = [read_file_tags(audio / one) for one in everything.ids]
    artists = [of_track.artist or one for of_track, one in zip(tags, everything.ids, strict=True)]
    frames = everything.frames["logmel"]
    frames_of = frames.open(), frames.starts, frames.lengths
    methods = [("stats", everything, "stats"), ("untrained", everything, "untrained")]
    methods += [(label, open_labeled(store, audio, f"library:label={label}", jobs), "rbf-sl") for label in labels]
    rows = []
    for name, tracks, approach in methods:
        scores = []
        for seed in range(seeds if approach != "stats" else 1):
            part = parts_of(artists, n_parts, seed)
            train = [
                frozenset(one for one, own in zip(everything.ids, part, strict=True) if own != number)
                for number in range(n_parts)
            ]
            score = np.full(len(part), np.nan)
            for number, model in enumerate(networks(approach, tracks, train, epochs, seed)):
                vectors = model.embed(*frames_of)
                found = precision(vectors if approach == "rbf-sl" else unit(vectors), everything, artists)
                score[part == number] = found[part == number]
            scores.append(float(np.nanmean(score)))
        rows.append((name, len(tracks.ids), scores))
        print(rows[-1], np.isfinite(score).sum(), file=sys.stderr)
    anywhere = np.random.default_rng(0).random((50, len(artists), 3), np.float32)
    chance = [float(np.nanmean(precision(vectors, everything, artists))) for vectors in anywhere]
    return [("by chance", len(artists), chance), *rows]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--labels", default="genre,artist", help="separated by commas; default: genre,artist")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        labels = given.labels.split(",")
        rows = compare(given.audio, labels, store, given.epochs, given.parts, given.seeds, given.jobs)
    print("| Label | labeled tracks | precision at 5 |\n|---|---:|---:|")
    for name, n_tracks, scores in rows:
        print(f"| {name} | {n_tracks} | {np.mean(scores):.2f} |")


if __name__ == "__main__":
    main()
