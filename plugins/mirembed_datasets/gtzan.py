"""GTZAN: genre, 10 classes, 1000 clips."""

from __future__ import annotations

import re
from pathlib import Path

from mirembed import Classification, DatasetError, Listing, Track
from mirembed_datasets.audio_files import contents, counted, require_folder, subfolders

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
FORMATS = ("wav", "au", "flac", "mp3")
"""Suffixes of the copies in circulation; the first there is of a clip is taken."""
N_CLIPS = 1000
CLIP = re.compile(rf"(?P<genre>[a-z]+)[._](?P<number>000[0-9]{{2}})\.(?i:{'|'.join(FORMATS)})")


class Gtzan:
    """The genre collection of Tzanetakis and Cook (2002).

    Ids are ``blues.00000`` to ``rock.00099``, whatever the format of a copy and the spelling of its names.

    References
    ----------
    G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions on Speech
    and Audio Processing 10(5), 2002, doi 10.1109/TSA.2002.800560. For its faults see B. L. Sturm, "The
    GTZAN dataset: Its contents, its faults, their effects on evaluation, and its future use", 2013,
    arXiv 1306.1461.
    """

    def listing(self, audio: Path) -> Listing:
        """Return the clips of a whole or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the genre folders, one of its two parents, or one of the genre folders.

        Raises
        ------
        DatasetError
            There is no copy, or more than one.
        """
        require_folder(audio)
        home = _find_copy(audio)
        clips = _clips(home)
        tracks = [Track(clip, files[0], clip.split(".")[0]) for clip, files in sorted(clips.items())]
        genres = {track.label for track in tracks}
        notes = []
        if home != audio:
            notes.append(f"genre folders found in {str(home)!r}")
        if len(tracks) < N_CLIPS:
            notes.append(f"{len(tracks)} of {N_CLIPS} clips")
        if missing := [genre for genre in GENRES if genre not in genres]:
            notes.append(f"classes left out, without a clip in this copy: {', '.join(missing)}")
        if spare := sum(len(files) - 1 for files in clips.values()):
            notes.append(
                f"{counted(spare, 'file')} left out, a clip in a further format or spelling: "
                f"the first of {', '.join(FORMATS)} is taken"
            )
        task = Classification(tuple(genre for genre in GENRES if genre in genres))
        return Listing(task, tracks, absent=N_CLIPS - len(tracks), notes=notes)


def _clips(home: Path) -> dict[str, list[Path]]:
    """Return the files of each clip in the genre folders of ``home``, the preferred one first."""
    clips: dict[str, list[Path]] = {}
    for genre in GENRES:
        for file in (home / genre).glob("*"):
            match = CLIP.fullmatch(file.name)
            if match and match["genre"] == genre and file.is_file():
                clips.setdefault(f"{genre}.{match['number']}", []).append(file)
    for files in clips.values():
        files.sort(key=lambda file: (FORMATS.index(file.suffix[1:].lower()), file.name))
    return clips


def _find_copy(audio: Path) -> Path:
    """Return the folder with the genre folders: ``audio``, one at most two levels below, or the one above."""
    folders = [audio]
    for _ in range(3):
        copies = [folder for folder in folders if _clips(folder)]
        if len(copies) > 1:
            raise DatasetError(
                f"{str(audio)!r} holds more than one copy of GTZAN: give one of "
                f"{', '.join(repr(str(copy)) for copy in copies)}"
            )
        if copies:
            return copies[0]
        folders = [below for folder in folders for below in subfolders(folder)]
    above = audio.absolute().parent
    if audio.absolute().name in GENRES and _clips(above):
        return above
    raise DatasetError(
        f"no GTZAN clips in {str(audio)!r}, which holds {contents(audio)}: "
        "the folder 'genres' or 'genres_original' is expected, with files such as blues/blues.00000.wav"
    )
