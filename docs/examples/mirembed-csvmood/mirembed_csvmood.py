"""Music with mood ratings in a CSV file as a dataset for mirembed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed import Card, DatasetError, Listing, Regression, Target, Track, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


class CsvMood:
    """Audio files and a CSV file with the columns file and artist, and one column per mood.

    Parameters
    ----------
    table : str
        The CSV file in the audio folder.
    low, high : float
        The range of the ratings.
    """

    card = Card(
        title="Your music with mood ratings",
        n_tracks=0,
        labels="one rating per mood",
        license="the license of your music",
        citation="",
        source="your own files",
        tree="annotations.csv\n*.wav, *.mp3, ... at any depth",
    )

    def __init__(self, table: str = "annotations.csv", low: float = 1.0, high: float = 9.0) -> None:
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}; expected low below high")
        self.table = table
        self.low = low
        self.high = high

    def listing(self, audio: Path) -> Listing:
        """Return the rated tracks whose audio exists; raise `DatasetError` if the table cannot be used."""
        table = audio / self.table
        if not table.is_file():
            raise DatasetError(f"no file {table}; give the folder that contains it with --audio")
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            moods = [column for column in columns if column not in ("file", "artist")]
            if not {"file", "artist"} <= {*columns} or not moods:
                raise DatasetError(
                    f"{table} has the columns {', '.join(columns)}; expected file, artist and at least one mood"
                )
            tracks = [self._track(audio, row, moods, f"{table}, line {rows.line_num}") for row in rows]
        present = [track for track in tracks if track.path.is_file()]
        if not present:
            raise DatasetError(f"{audio} contains none of the files listed in {table} ({len(tracks)})")
        task = Regression(tuple(Target(mood, self.low, self.high) for mood in moods))
        return Listing(task, present, absent=len(tracks) - len(present))

    def _track(self, audio: Path, row: dict[str, str], moods: list[str], where: str) -> Track:
        try:
            ratings = tuple(float(row[mood]) for mood in moods)
        except (TypeError, ValueError):
            raise DatasetError(f"{where}: {', '.join(moods)} must be numbers") from None
        if not all(self.low <= rating <= self.high for rating in ratings):
            raise DatasetError(
                f"{where}: ratings must be from {self.low:g} to {self.high:g}; csvmood:low=,high= sets another range"
            )
        return Track(id=row["file"], path=audio / row["file"], label=ratings, group=row["artist"] or None)


@hookimpl
def mirembed_register_datasets(register: Callable[..., None]) -> None:
    """Register the dataset."""
    register("csvmood", CsvMood, summary="Your music with mood ratings in a CSV file")
