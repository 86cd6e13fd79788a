"""Measure a music library of 100 000 made-up tracks: processor time, wall time and memory of each command.

    python -m benchmarks.library --tracks 100000

The files are empty, but have names, lengths, file tags and embeddings as real ones do: tracks of an album lie near each
other, albums of an artist and artists of a genre a little farther apart, and one track in a hundred is a copy. Nothing
is decoded: `update` finds embeddings that are there, and `duplicates` fingerprints that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.browser import chromium, find_chromium
from benchmarks.machine import describe
from mirembed import FileTags, Tags
from mirembed.library.fingerprints import FingerprintCache
from mirembed.models.saved import read_identity
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, Store, StoredTrack
from mirembed.store.embeddings import EmbeddingRows, RecordingFacts
from mirembed.store.rows import StoredFileTags

MODEL = "library"
DATASET = "library:label=genre"
GENRES = ("ambient", "blues", "classical", "country", "disco", "folk", "jazz", "metal", "pop", "reggae", "rock", "soul")
PER_ALBUM, PER_ARTIST, UNITS = 10, 30, 50
SPREAD = {"genre": 0.6, "artist": 0.3, "album": 0.15, "track": 0.1}
"""Standard deviation of the part of an embedding that tracks of one genre, artist or album share, in each dimension."""

MARKS = "map-painted", "map-indexed"
"""Moments that the page of a map records."""

COPIES = 100
"""One track in so many is a copy of the one before it."""

LAUNCHER = """
import os, sys
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(process, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
"""Starts a program and prints its exit code, processor time and memory. On Linux, the memory of a process is at least
that of the one that started it, so this one is small."""


@dataclass(frozen=True)
class Made:
    """A made-up track.

    Attributes
    ----------
    stored : StoredTrack
    tags : StoredFileTags
    """

    stored: StoredTrack
    tags: StoredFileTags


def make_track(number: int, genre: str, audio: Path) -> Made:
    """Make an empty file with a track's name, and what the store knows about it."""
    artist, album, place = number // PER_ARTIST, number // PER_ALBUM, number % PER_ALBUM + 1
    name, title = f"Artist {artist:05}", f"Title {number:06}"
    track = f"{name}/Album {album:05}/{place:02} {title}.mp3"
    file = audio / track
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    stamp = (0, file.stat().st_mtime_ns)
    recording = hashlib.blake2b(track.encode(), digest_size=16).hexdigest()
    tags = FileTags(
        title=title, artists=(name,), album=f"Album {album:05}", genres=(genre,), year=1960 + album * 7 % 65
    )
    return Made(
        StoredTrack(track, recording, frozenset({genre}), name, str(file), *stamp), StoredFileTags(track, *stamp, tags)
    )


def make_vectors(rng: np.random.Generator, genres: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return embeddings ``[n_tracks, UNITS]``; see `SPREAD`. ``genres`` has one entry per track."""
    numbers = np.arange(len(genres))
    parts = {"genre": genres, "artist": numbers // PER_ARTIST, "album": numbers // PER_ALBUM, "track": numbers}
    vectors = np.zeros((len(genres), UNITS))
    for name, codes in parts.items():
        vectors += SPREAD[name] * rng.normal(size=(codes.max() + 1, UNITS))[codes]
    copies = numbers[COPIES::COPIES]
    vectors[copies] = vectors[copies - 1] + rng.normal(0, 1e-3, (len(copies), UNITS))
    return vectors.astype(np.float32)


def make_library(store: Store, audio: Path, n_tracks: int) -> None:
    """Make up the files of a library, a dataset of them, its embeddings and the fingerprints of the copies."""
    rng = np.random.default_rng(0)
    codes = rng.integers(len(GENRES), size=n_tracks // PER_ARTIST + 1)[np.arange(n_tracks) // PER_ARTIST]
    made = [make_track(number, GENRES[code], audio) for number, code in enumerate(codes)]
    info = DatasetInfo(
        spec=DATASET,
        plugin=Registry.discover().provenance("dataset", Spec.parse(DATASET)),
        task=Tags(GENRES),
        audio=str(audio),
        n_listed=n_tracks,
        n_absent=0,
    )
    dataset = store.dataset(Spec.parse(DATASET))
    with dataset.lock():
        dataset.write_info(info)
        dataset.write_tracks([one.stored for one in made], info)
        dataset.write_file_tags([one.tags for one in made])
    recordings = [str(one.stored.recording) for one in made]
    seconds = np.round(rng.lognormal(np.log(230), 0.35, n_tracks), 1)
    copies = np.arange(n_tracks)[COPIES::COPIES]
    seconds[copies] = seconds[copies - 1]
    facts = [RecordingFacts(name, duration, 0) for name, duration in zip(recordings, seconds.tolist(), strict=True)]
    _, provenance = read_identity(store.models, MODEL)
    rows = EmbeddingRows(recordings, make_vectors(rng, codes), [False] * n_tracks, facts)
    store.embeddings(MODEL).write(provenance["digest"], rows)
    words = {}
    for copy in copies:
        fingerprint = rng.integers(1, 2**24, int(20 * seconds[copy]), np.uint32).tobytes()
        words[recordings[copy]] = words[recordings[copy - 1]] = fingerprint
    FingerprintCache(store).add(words)


def mirembed(words: Sequence[str], store: Path) -> tuple[float, float, float]:
    """Run a command; return its processor time and wall time in seconds, and its memory at most in MiB."""
    start = time.perf_counter()
    command = [sys.executable, "-S", "-c", LAUNCHER, sys.executable, "-m", "mirembed", *words, "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    code, cpu, kibibytes = done.stdout.split()
    if code != "0":
        raise SystemExit(f"mirembed {' '.join(words)} ended with {code}:\n{done.stderr}")
    return float(cpu), seconds, int(kibibytes) / 1024


def open_map(file: Path, text: str) -> None:
    """Open a map in Chromium and search a text; print how long that took."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        page = browser.open(file.as_uri())
        page.until("performance.getEntriesByName('map-indexed').length > 0")
        painted, indexed = (page(f"performance.getEntriesByName('{name}')[0].startTime") for name in MARKS)
        page.click("input[type=search]")
        page.type(text)
        page.until("performance.getEntriesByName('map-search').length > 0")
        searched = page("Math.max(...performance.getEntriesByName('map-search').map(one => one.duration))")
        page.close()
    size = file.stat().st_size / 1e6
    print(f"the map in Chromium: {size:.1f} MB, painted after {painted / 1000:.2f} s, ", end="")
    print(f"ready to search after {indexed / 1000:.2f} s, answers a letter within {searched / 1000:.2f} s")


def main(words: Sequence[str] | None = None) -> None:
    """Measure according to the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the library in this folder, and keep it")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        root, audio = folder / "store", folder / "music"
        print(f"{describe()}\n{options.tracks} tracks")
        if not audio.exists():
            mirembed(["extract", "--dataset", "demo"], root)
            mirembed(["fit", "--dataset", "demo", "--similarity", "rbf", "--epochs", "1", "--name", MODEL], root)
            make_library(Store(root), audio, options.tracks)
        middle = options.tracks // 2
        commands = {
            "update, first time": ["update"],
            "update, nothing new": ["update"],
            "similar, one seed": ["similar", f"Title {middle:06}", "--json"],
            "similar, three seeds": ["similar", *(f"Title {middle + step:06}" for step in (0, 7, 400)), "--json"],
            "playlist, two seeds": ["playlist", "--seed", f"Title {middle:06}", "--seed", "Title 000007"],
            "playlist, a path": ["playlist", "--from", f"Title {middle:06}", "--to", "Title 000007"],
            "duplicates": ["duplicates"],
            "map, Parquet": ["map", "--out", str(folder / "map.parquet"), "--force"],
            "map, HTML": ["map", "--out", str(folder / "map.html"), "--force"],
        }
        print(f"{'command':24}{'CPU':>10}{'wall':>10}{'memory':>12}")
        for shown, (command, *arguments) in commands.items():
            cpu, seconds, memory = mirembed([command, MODEL, *arguments, "--dataset", DATASET], root)
            print(f"{shown:24}{cpu:8.2f} s{seconds:8.2f} s{memory:8.0f} MiB", flush=True)
        if find_chromium() is None:
            print("Chromium is not installed: the map was not opened")
        else:
            open_map(folder / "map.html", f"Title {middle:06}")


if __name__ == "__main__":
    main()
