"""Copies of one recording in a library, by what is stored of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mirembed.library.collection import Collection
from mirembed.library.distances import near_pairs, typical_distance
from mirembed.library.duplicates import copies_of, copy_groups, linked
from mirembed.library.index import make_index
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store

N = 30


def library(
    folder: Path, vectors: np.ndarray, recordings=None, audio_hashes=None, durations=None, paths=None
) -> Collection:
    """A collection of tracks with these embeddings; nothing else of it is on disk."""
    n = len(vectors)
    recordings = recordings or [f"recording {row}" for row in range(n)]
    store = Store(folder)
    seconds = [200.0] * n if durations is None else list(durations)
    columns = {"id": [f"{row:03d}" for row in range(n)], "recording": recordings, "duration": seconds}
    columns |= {"audio_hash": audio_hashes} if audio_hashes else {}
    columns |= {"path": paths} if paths else {}
    return Collection(
        store=store,
        registry=Registry.discover(),
        model="model",
        folder=store.models / "model",
        provenance={"digest": "digest"},
        dataset=store.dataset(Spec("library")),
        spec="library",
        audio=folder,
        task=None,
        index=make_index(columns, np.asarray(vectors, np.float32)),
    )


def apart(scale: float = 1.0) -> np.ndarray:
    """Embeddings of different tracks: none is much nearer to another than most are."""
    return scale * np.random.default_rng(3).normal(size=(N, 20))


def test_tracks_with_equal_bytes_or_samples_are_copies(tmp_path):
    recordings = [f"recording {row}" for row in range(N)]
    recordings[7] = recordings[2]
    hashes = [f"hash {row}" for row in range(N)]
    hashes[9] = hashes[5] = hashes[7]
    hashes[11] = hashes[12] = None  # unknown, and not the same
    collection = library(tmp_path, apart(), recordings, hashes)
    assert copy_groups(collection, [0, 2, 5, 7, 9, 11, 12]).tolist() == [0, 1, 1, 1, 1, 5, 6]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_near_embeddings_of_equal_length_are_copies_whatever_their_scale(tmp_path, scale):
    vectors = apart(scale)
    vectors[8] = vectors[3] + 1e-3 * scale
    vectors[9] = vectors[4] + 1e-3 * scale
    vectors[10] = vectors[5] + 1e-3 * scale
    durations = np.full(N, 200.0)
    durations[9], durations[10] = 203.0, np.nan
    collection = library(tmp_path, vectors, durations=durations)
    groups = copy_groups(collection, np.arange(N))
    assert groups[8] == groups[3] == 3
    assert groups.tolist() == [3 if row == 8 else row for row in range(N)]


def test_the_groups_are_numbered_by_the_first_of_the_given_rows(tmp_path):
    vectors = apart()
    vectors[1] = vectors[20]
    collection = library(tmp_path, vectors)
    assert copy_groups(collection, [20, 4, 1]).tolist() == [0, 1, 0]
    assert copy_groups(collection, []).tolist() == []


def test_a_recording_from_elsewhere_has_copies_in_the_collection(tmp_path):
    vectors = apart()
    collection = library(tmp_path, vectors, audio_hashes=[f"hash {row}" for row in range(N)])
    vector = np.asarray(vectors[5] + 1e-3, np.float32)
    assert copies_of(collection, [4, 5, 6], vector, 200.4).tolist() == [False, True, False]
    assert copies_of(collection, [4, 5, 6], vector, 100.0).tolist() == [False, False, False]
    assert copies_of(collection, [4, 5, 6], vector, np.nan, "hash 6").tolist() == [False, False, True]


def test_a_few_copies_of_every_track_do_not_change_what_is_near():
    vectors = np.asarray(apart(), np.float32)
    copied = np.concatenate([vectors + np.float32(step) for step in (0, 1e-4, 2e-4)])
    distances = np.sort(cdist(vectors, vectors), axis=1)
    assert typical_distance(vectors) == pytest.approx(np.median(distances[:, 4]), rel=1e-4)
    assert 0.9 * np.median(distances[:, 1]) < typical_distance(copied) < np.median(distances[:, 4])


@pytest.mark.parametrize("n", [0, 1, 2, 15])
def test_with_few_tracks_embeddings_do_not_tell_copies(n):
    assert typical_distance(apart()[:n]) == 0


def test_near_pairs_are_those_of_all_distances():
    vectors = np.asarray(np.random.default_rng(1).normal(loc=5, size=(400, 6)), np.float32)
    distances = cdist(vectors.astype(np.float64), vectors.astype(np.float64))
    expected = {(int(i), int(j)) for i, j in zip(*np.nonzero(distances <= 1.2), strict=True) if i < j}
    found = {}
    for one, other, apart_by in near_pairs(vectors, 1.2):
        found |= {(int(i), int(j)): d for i, j, d in zip(one, other, apart_by, strict=True)}
    assert found.keys() == expected
    assert all(d == pytest.approx(distances[i, j], rel=1e-6) for (i, j), d in found.items())


def test_items_are_linked_through_others():
    assert linked(6, [(5, 4), (4, 2), (1, 0), (2, 5)]).tolist() == [0, 0, 2, 3, 2, 2]


def test_many_near_pairs_take_little_memory():
    vectors = np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32)
    tracemalloc.start()
    n_pairs = sum(len(one) for one, _, _ in near_pairs(vectors, np.inf))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_pairs == 4000 * 3999 // 2
    assert peak < 200e6
