"""A small map whose points can be told apart by their colors."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mirembed.library.map import Column, LibraryMap
from mirembed.library.projection import Trustworthiness

AUDIO = "/home/ada/Music"

TITLES = ["Aube", "Brume", "Étoile", "Dune", "Écho", "Falaise", "Givre", "Houle", "Île", "Jardin"]
ARTISTS = ["Ada Vale", "Ada Vale", "Björk Ilves", "Chorus", "Chorus", "Dora", "Dora", "Ema", "Ema", "Fado Trio"]
YEARS = [1960, 1970, 1980, 1990, 2000, 2010, np.nan, 1975, 1985, 1995]
PLACES = [(0, 0), (4, 0), (8, 0), (0, 3), (4, 3), (8, 3), (0, 6), (4, 6), (8, 6), (4, 4.5)]
"""From the lower left to the upper right: three columns and three rows, and one point more."""


def library_map(**changes: Any) -> LibraryMap:
    """Return a map of ten tracks, each with a label of its own; ``changes`` replace its attributes."""
    n = len(TITLES)
    distances = np.linalg.norm(np.array(PLACES, float)[:, None] - np.array(PLACES, float), axis=2)
    np.fill_diagonal(distances, np.inf)
    neighbors = np.argsort(distances, axis=1, kind="stable")[:, : n - 1].astype(np.int32)
    drawn = LibraryMap(
        model="rbf-sl",
        dataset="library:label=genre",
        audio=AUDIO,
        ids=[f"{ARTISTS[row]}/{row}.mp3" for row in range(n)],
        paths=[f"{AUDIO}/{ARTISTS[row]}/{row:02d} {TITLES[row]}.mp3" for row in range(n)],
        urls={},
        titles=list(TITLES),
        albums=[f"Album {row // 2}" for row in range(n)],
        durations=np.array([180.4 + row for row in range(n)]),
        columns=[
            Column("label", [(f"kind {row}",) for row in range(n)]),
            Column("prediction", [(f"kind {row // 2 * 2}",) for row in range(n)]),
            Column("artist", [(artist,) for artist in ARTISTS]),
            Column("album", [(f"Album {row // 2}",) for row in range(n)]),
            Column("genre", [("Folk", "Jazz") if row % 2 else () for row in range(n)]),
            Column("year", np.array(YEARS, float)),
        ],
        color="label",
        positions=np.array(PLACES, float),
        neighbors=neighbors,
        similarities=np.exp(-np.take_along_axis(distances, neighbors.astype(int), axis=1)),
        similarity="rbf:gamma=1",
        method="pca",
        explained=np.array([0.5, 0.25]),
        trust=Trustworthiness(0.875, 4, n),
        missing=0,
        trained_on=4,
    )
    return dataclasses.replace(drawn, **changes)


def write(path: Path, drawn: LibraryMap) -> str:
    """Write the page of a map, and return its address."""
    from mirembed.library.map_page import write_page

    write_page(path, drawn)
    return path.as_uri()
