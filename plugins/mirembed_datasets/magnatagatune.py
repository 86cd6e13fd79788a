"""MagnaTagATune: tags that players of a game gave, 25,863 clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from mirembed import Card, DatasetError, Listing, Split, Tags, Track, counted
from mirembed_datasets.copies import files_by_class, find_copy, notes_on_copy
from mirembed_datasets.tables import find_table, read_rows

N_CLIPS = 25_863
FOLDERS = "0123456789abcdef"
VALIDATION, TEST = "c", "def"
TOP_50 = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient"),
    *("beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals"),
    *("harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo"),
    *("man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello"),
    *("no voice", "weird", "country", "metal", "female voice", "choral"),
)
"""The 50 tags with the most clips, on which published results are reported."""
EMPTY = ("35644", "55753", "57881")
"""Clips whose files in the archive have no bytes."""
ANNOTATIONS, INFO = "annotations_final.csv", "clip_info_final.csv"
SITE = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"

CARD = Card(
    title="MagnaTagATune",
    n_tracks=N_CLIPS,
    labels="the 50 most frequent tags, or all 188",
    license="CC BY-NC-SA 3.0",
    citation="""\
@inproceedings{law2009,
  author    = {Law, Edith and West, Kris and Mandel, Michael and Bay, Mert and Downie, J. Stephen},
  title     = {Evaluation of algorithms using games: The case of music tagging},
  booktitle = {Proceedings of the 10th International Society for Music Information Retrieval Conference},
  pages     = {387--392},
  year      = {2009}
}""",
    source=f"{SITE}: join mp3.zip.001 to mp3.zip.003 (cat mp3.zip.* > mp3.zip) and unpack the result; "
    f"{ANNOTATIONS}, and for the artists {INFO}",
    tree="""\
annotations_final.csv
clip_info_final.csv
mp3/
  0/ ... 9/ a/ ... f/
    american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3 ...""",
    rate=16000,
    seconds=(28.0, 30.0),
    folds=("folders",),
)


class MagnaTagATune:
    """Clips from Magnatune, with the tags on which two players of the game TagATune agreed.

    Ids are the clip ids of ``annotations_final.csv``. The group is the artist in ``clip_info_final.csv``. The official
    folds ``folders`` are the usual split by the folders of the archive: 0 to b to train on, c to validate on, d to f to
    test on. The validation part belongs to the training part, and is its inner fold for ``--select``.

    Parameters
    ----------
    tags : {"top50", "all"}
        The 50 most frequent tags, or all 188.
    untagged : bool
        Whether clips without any of these tags are listed. Many published results leave them out.

    References
    ----------
    E. Law, K. West, M. Mandel, M. Bay and J. S. Downie, "Evaluation of algorithms using games: The case of music
    tagging", ISMIR 2009.
    """

    card = CARD

    def __init__(self, *, tags: Literal["top50", "all"] = "top50", untagged: bool = True) -> None:
        self.tags = tags
        self.untagged = untagged

    def listing(self, audio: Path) -> Listing:
        """List the annotated clips of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the folders 0 to f, one of its two parents, or one of these folders. The annotations must be
            in that folder or in one of its two parents.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or ``annotations_final.csv`` is missing or malformed.
        """
        copy = find_copy(
            audio,
            lambda home: _candidates(files_by_class(home, {folder: folder for folder in FOLDERS})),
            original=".mp3",
            title="MagnaTagATune",
            expected="the folders 0 to f of mp3.zip, with files such as f/ARTIST-ALBUM-01-TITLE-30-59.mp3",
            parts=FOLDERS,
        )
        file = find_table(ANNOTATIONS, copy.home, source=f"get {ANNOTATIONS} from {SITE}")
        task, clips = self._annotations(file)
        artists, notes_on_artists = _artists(file.with_name(INFO))
        present = {clip: copy.files[path] for clip, (path, _) in clips.items() if path in copy.files}
        if not present:
            raise DatasetError(
                f"{file} has no tags for the {counted(len(copy.files), 'clip')} in {str(copy.home)!r}; check that both "
                "are MagnaTagATune's"
            )
        listed = [clip for clip in sorted(present, key=int) if self.untagged or clips[clip][1]]
        tracks = [Track(clip, present[clip], clips[clip][1], artists.get(clip)) for clip in listed]
        notes = [*notes_on_copy(audio, copy.home, len(present), N_CLIPS), *notes_on_artists]
        if len(clips) != N_CLIPS:
            notes.append(f"{file} has {counted(len(clips), 'clip')}, the published one has {N_CLIPS}")
        if unlisted := len(present) - len(listed):
            notes.append(f"skipped {counted(unlisted, 'clip')} (none of the {counted(len(task.classes), 'tag')})")
        if unknown := len(copy.files) - len(present):
            notes.append(f"skipped {counted(unknown, 'clip')} (not in {file})")
        if artists and (ungrouped := sum(track.group is None for track in tracks)):
            notes.append(f"{counted(ungrouped, 'clip')} without a group: no artist in {INFO}")
        absent = sum(clip not in present and (self.untagged or bool(tags)) for clip, (_, tags) in clips.items())
        folder_of = {clip: path[0] for clip, (path, tags) in clips.items() if self.untagged or tags}
        return Listing(task, tracks, absent, [*notes, *copy.skipped], _schemes(folder_of))

    def known_faults(self) -> dict[str, str]:
        """Return the three clips whose files are empty."""
        return dict.fromkeys(EMPTY, "an empty file in the archive")

    def _annotations(self, file: Path) -> tuple[Tags, dict[str, tuple[str, frozenset[str]]]]:
        """Return the tags, and by clip the path without its suffix and the tags of the clip."""
        tags: tuple[str, ...] = ()
        clips: dict[str, tuple[str, frozenset[str]]] = {}
        for row in read_rows(file):
            if not tags:
                wanted = TOP_50 if self.tags == "top50" else ()
                if lacking := [name for name in ("clip_id", "mp3_path", *wanted) if name not in row.values]:
                    raise DatasetError(f"{file} has no column {lacking[0]!r}; get {ANNOTATIONS} from {SITE}")
                tags = wanted or tuple(name for name in row.values if name not in ("clip_id", "mp3_path"))
            clip, path = row.text("clip_id"), row.text("mp3_path")
            if not clip.isdecimal() or path[:1] not in FOLDERS or path[1:2] != "/":
                raise DatasetError(f"{row}: expected a clip_id such as 2 and an mp3_path such as f/NAME.mp3")
            if clip in clips:
                raise DatasetError(f"{row}: clip {clip} is listed twice; get {ANNOTATIONS} from {SITE}")
            clips[clip] = path.removesuffix(".mp3"), frozenset(tag for tag in tags if row.yes_or_no(tag))
        return Tags(tags), clips


def _candidates(files: Iterable[tuple[str, Path]]) -> list[tuple[str | None, Path]]:
    """Return files with their paths from the folder of the copy, without their suffix."""
    return [(f"{folder}/{file.stem}", file) for folder, file in files]


def _schemes(folder_of: Mapping[str, str]) -> dict[str, list[Split]]:
    """Return the split by folders; none if one of its parts is empty."""
    test = frozenset(clip for clip, folder in folder_of.items() if folder in TEST)
    train = frozenset(folder_of) - test
    validation = frozenset(clip for clip in train if folder_of[clip] == VALIDATION)
    return {"folders": [Split(train, test, (validation,) if validation else ())]} if train and test else {}


def _artists(file: Path) -> tuple[Mapping[str, str], list[str]]:
    """Return the artist by clip, or a note on why there are none; labels do not depend on this file."""
    artists: dict[str, str] = {}
    try:
        for row in read_rows(file):
            if missing := [name for name in ("clip_id", "artist") if name not in row.values]:
                raise DatasetError(f"{file} has no column {missing[0]!r}")
            artists[row.values["clip_id"]] = " ".join(row.values["artist"].split())
    except DatasetError as error:
        return {}, [f"clips without a group, because the artists cannot be read: {error}"]
    return {clip: artist for clip, artist in artists.items() if artist}, []
