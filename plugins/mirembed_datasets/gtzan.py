"""GTZAN: genre, 10 classes, 1000 clips."""

from __future__ import annotations

import re
from pathlib import Path

from mirembed import Archive, Card, Listing, Split
from mirembed_datasets.copies import list_class_folders
from mirembed_datasets.tables import DATA, Row, read_table

N_CLIPS = dict.fromkeys(
    ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"), 100
)
"""Number of clips in each genre, in the order of the label vector."""
CLIP = re.compile(r"(?P<genre>[a-z]+)[._](?P<number>000[0-9]{2})", re.IGNORECASE)
CORRUPT = "jazz.00054"

CARD = Card(
    title="GTZAN genre collection",
    n_tracks=sum(N_CLIPS.values()),
    labels="10 genres",
    license="unknown",
    citation="""\
@article{tzanetakis2002,
  author  = {Tzanetakis, George and Cook, Perry},
  title   = {Musical genre classification of audio signals},
  journal = {IEEE Transactions on Speech and Audio Processing},
  volume  = {10},
  number  = {5},
  pages   = {293--302},
  year    = {2002},
  doi     = {10.1109/TSA.2002.800560}
}""",
    source="Bring your own copy: the host of the archive has been down for years.",
    tree="""\
genres/
  blues/
    blues.00000.wav ... blues.00099.wav
  classical/ country/ disco/ hiphop/ jazz/ metal/ pop/ reggae/ rock/""",
    archives=(
        Archive(
            "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
            "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
        ),
    ),
    rate=22050,
    seconds=(29.0, 31.0),
)


class Gtzan:
    """The genre collection of Tzanetakis and Cook (2002).

    Ids are ``blues.00000`` to ``rock.00099``, whatever the audio format of a copy and the spelling of its file names.

    The group of a clip is its artist, as a number, for the 948 clips in the artist-filtered split of Foleiss and
    Tavares (2020).

    References
    ----------
    G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions on Speech
    and Audio Processing 10(5), 2002, doi 10.1109/TSA.2002.800560. For its faults see B. L. Sturm, "The
    GTZAN dataset: Its contents, its faults, their effects on evaluation, and its future use", 2013,
    arXiv 1306.1461.
    """

    card = CARD

    def listing(self, audio: Path) -> Listing:
        """List the clips of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the genre folders, one of its two parents, or one of the genre folders.

        Raises
        ------
        DatasetError
            There is no copy, or more than one.
        """
        groups = {row.text("id"): row.values["group"] or None for row in _published()}
        return list_class_folders(
            audio,
            _id,
            groups.__getitem__,
            folders={genre: genre for genre in N_CLIPS},
            n_clips=N_CLIPS,
            title="GTZAN",
            expected="a folder 'genres' or 'genres_original' with files such as blues/blues.00000.wav",
        )

    def schemes(self) -> dict[str, list[Split]]:
        """Return the published splits.

        ``kereliuk``
            The fault-filtered split of Kereliuk, Sturm and Larsen (2015): 640 clips of its training and validation
            parts to train on, 290 clips of its test part.
        ``sturm3``
            The stratified, artist-filtered three folds of Foleiss and Tavares (2020): 948 clips.
        """
        part = {row.text("id"): row.values["kereliuk"] for row in _published()}
        fold = {row.text("id"): row.values["fold"] for row in _published()}
        return {
            "kereliuk": [_split(part, test="test")],
            "sturm3": [_split(fold, test=number) for number in ("1", "2", "3")],
        }

    def known_faults(self) -> dict[str, str]:
        """Return the 70 clips missing from the fault-filtered split, and one that is corrupt in many copies.

        That split keeps one of several clips that repeat each other. Excluding what other lists exclude as well would
        remove all of them.
        """
        reason = "left out of the fault-filtered split of Kereliuk et al. (2015)"
        faults = {row.text("id"): reason for row in _published() if not row.values["kereliuk"]}
        return {**faults, CORRUPT: "corrupt in many copies"}


def _published() -> tuple[Row, ...]:
    """Return what was published about each clip."""
    return read_table(DATA / "gtzan.csv").rows


def _split(parts: dict[str, str], test: str) -> Split:
    """Return the split that tests on the part ``test`` and trains on the others; "" is not a part."""
    return Split(
        train=frozenset(clip for clip, part in parts.items() if part not in ("", test)),
        test=frozenset(clip for clip, part in parts.items() if part == test),
    )


def _id(genre: str, file: Path) -> str | None:
    match = CLIP.fullmatch(file.stem)
    return f"{genre}.{match['number']}" if match and match["genre"].lower() == genre else None
