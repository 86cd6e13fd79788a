"""A music library: audio files in any folders, labeled by their file tags, folders or playlists."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, TypeAlias
from unicodedata import normalize

from mirembed import (
    AUDIO_SUFFIXES,
    AudioFiles,
    Card,
    Classification,
    DatasetError,
    FileTags,
    Listing,
    Regression,
    Tags,
    Target,
    Task,
    Track,
    counted,
    find_audio,
    find_playlists,
    playlist_matcher,
    read_file_tags,
    read_playlist,
)

LabelKind: TypeAlias = Literal["genre", "artist", "album", "year", "mood", "folder", "playlists", "none"]
Label: TypeAlias = str | frozenset[str] | tuple[float, ...]
GroupKind: TypeAlias = Literal["artist", "album", "none"]

_NOBODY = frozenset({"variousartists", "various", "va", "unknownartist", "unknown", "<unknown>"})
"""What programs write for an unknown artist, in the form of `_key`."""

_GUESTS = re.compile(r"\s+[(\[]?(?:feat\.?|ft\.|featuring)\s", re.IGNORECASE)


@dataclass(frozen=True)
class _File:
    """An audio file: its id, path and file tags."""

    id: str
    path: Path
    tags: FileTags


@dataclass(frozen=True)
class _Name:
    """A class or tag that a file has.

    Attributes
    ----------
    text : str
        As the file spells it.
    key : str
        The same for all spellings.
    place : str
        Distinguishes albums, or playlists in different folders, with the same name.
    """

    text: str
    key: str
    place: str = ""

    @functools.cached_property
    def id(self) -> tuple[str, str]:
        """The same for all names of one class or tag."""
        return self.key, self.place


_Named: TypeAlias = Mapping[str, Sequence[_Name]]
"""The classes or tags of the files that have any, by the id of the file."""


class Library:
    """A music library: all audio files of a folder, in any layout.

    The labels come from the file tags, the folders or playlists. A track without this information is unlabeled: models
    do not learn from it, but it is embedded and recommended like any other.

    Parameters
    ----------
    label : {"genre", "artist", "album", "year", "mood", "folder", "playlists", "none"}
        What the labels are. ``genre`` and ``mood``: tags, of which a track may have several. ``playlists``: tags, one
        for each playlist that contains the track. ``artist`` and ``album``: classes. ``folder``: classes, the folders
        directly in the audio folder. ``year``: the target of a regression. ``none``: all tracks are unlabeled.
        Spellings that differ only in case, spaces, hyphens and the like are merged under the most frequent one. Artists
        after "feat." are left out, and so are "Various Artists" and "Unknown Artist".
    group : {"artist", "album", "none"}, optional
        What a fold must not have in both its training and test part. Default: the artist; for ``label=artist``, the
        album; for ``label=album``, nothing.
    min_tracks : int
        Classes and tags with fewer tracks are left out; a track that has no other is unlabeled.
    playlists : pathlib.Path, optional
        Folder with playlists (M3U, M3U8, PLS, XSPF), relative to the current folder or else to the audio folder.
        Default: the audio folder.

    Raises
    ------
    DatasetError
        ``playlists`` is given with another label, or ``min_tracks`` is less than 1.
    """

    card: ClassVar[Card] = Card(
        title="Your music library, labeled by the tags in its files or by your playlists",
        n_tracks=0,
        labels="genres, artists, albums, years, moods, folders, playlists, or none",
        license="that of your music",
        citation="",
        source="your disk",
        tree="any folders of .mp3, .flac, .ogg, .opus, .m4a, .wma, .wav, .aiff ...,\nwith .m3u, .m3u8, .pls or .xspf",
    )
    takes_file_tags: ClassVar[bool] = True

    def __init__(
        self,
        *,
        label: LabelKind = "genre",
        group: GroupKind | None = None,
        min_tracks: int = 3,
        playlists: Path | None = None,
    ) -> None:
        if min_tracks < 1:
            raise DatasetError(f"min_tracks={min_tracks}: expected a whole number from 1")
        if playlists is not None and label != "playlists":
            raise DatasetError(f"playlists={playlists} needs label=playlists; give that too, or leave it out")
        default: dict[LabelKind, GroupKind] = {"artist": "album", "album": "none"}
        self.label: LabelKind = label
        self.group: GroupKind = default.get(label, "artist") if group is None else group
        self.min_tracks = min_tracks
        self.playlists = playlists

    def listing(self, audio: Path, file_tags: Callable[[Path], FileTags] = read_file_tags) -> Listing:
        """List all audio files of a folder.

        Raises
        ------
        DatasetError
            There is no such folder, it contains no audio, or no file has a label of this kind.
        """
        found = find_audio(audio)
        if not found.files:
            why = "; ".join(found.notes) or "no visible file in it"
            raise DatasetError(
                f"no audio files in {str(audio)!r} ({why}); "
                f"expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}"
            )
        files = [_File(name, path, file_tags(path)) for name, path in found.files.items()]
        task, labels, notes = self._labels(audio, found, files)
        if self.label != "none" and not labels:
            raise DatasetError(self._without_labels(audio, found, files))
        groups = self._groups(files)
        tracks = [Track(file.id, file.path, labels.get(file.id), groups.get(file.id)) for file in files]
        if self.group != "none" and (ungrouped := sum(track.group is None for track in tracks)):
            each = "" if ungrouped == 1 else "each "
            notes.append(f"{counted(ungrouped, 'track')} without {_ONE[self.group]}, {each}a group of its own")
        sources = {kind: f"the files' {kind}s" for kind in ("genre", "artist", "album", "mood", "year")}
        return Listing(
            task,
            tracks,
            notes=[*found.notes, *notes],
            labels_from=sources.get(self.label, "the first folder" if self.label == "folder" else "playlists"),
            groups_from=sources.get(self.group, ""),
        )

    def _labels(
        self, audio: Path, found: AudioFiles, files: Sequence[_File]
    ) -> tuple[Task | None, Mapping[str, Label], list[str]]:
        """Return the task, the labels of the labeled tracks by id, and notes about them."""
        if self.label == "none":
            return None, {}, []
        if self.label == "year":
            years = {file.id: (float(file.tags.year),) for file in files if file.tags.year is not None}
            return Regression((Target("year"),)), years, []
        notes: list[str] = []
        if self.label == "playlists":
            named, notes = _in_playlists(_folder_of_playlists(self.playlists, audio), found)
        else:
            named = _named(files, _NAMES[self.label])
        texts = self._frequent(named)
        if rare := len(_numbers(named)) - len(frozenset[str]().union(*texts.values())):
            which = f"{counted(rare, self.label.removesuffix('s'))} with fewer than {self.min_tracks} tracks"
            lost = len(named) - len(texts)
            only = f", which leaves {counted(lost, 'track')} without any" if lost else ""
            notes.append(f"left out {which}{only}; min_tracks=1 keeps all")
        classes = tuple(sorted(frozenset[str]().union(*texts.values())))
        if self.label in ("genre", "mood", "playlists"):
            return Tags(classes), texts, notes
        return Classification(classes), {file: next(iter(one)) for file, one in texts.items()}, notes

    def _frequent(self, named: _Named) -> dict[str, frozenset[str]]:
        """Return the classes or tags with enough tracks, in their usual spelling, for the files that have any."""
        spelled = _usual_spellings(named, [one for one, number in _numbers(named).items() if number >= self.min_tracks])
        texts = {
            file: frozenset(spelled[one.id] for one in names if one.id in spelled) for file, names in named.items()
        }
        return {file: of_file for file, of_file in texts.items() if of_file}

    def _groups(self, files: Sequence[_File]) -> dict[str, str]:
        """Return the groups of files by id."""
        if self.group == "none":
            return {}
        named = _named(files, _NAMES[self.group])
        spelled = _usual_spellings(named, _numbers(named).keys())
        return {file: spelled[names[0].id] for file, names in named.items()}

    def _without_labels(self, audio: Path, found: AudioFiles, files: Sequence[_File]) -> str:
        """Say that no track has such a label, or that no label has enough tracks, and which labels there are."""
        named = {kind: _named(files, names_of) for kind, names_of in _NAMES.items()}
        named["playlists"] = _in_playlists(_folder_of_playlists(self.playlists, audio), found)[0]
        of_kind = {kind: len(self._frequent(of_files)) for kind, of_files in named.items()}
        of_kind["year"] = sum(file.tags.year is not None for file in files)
        whole = f"the {counted(len(files), 'track')} in {str(audio)!r}"
        what = f"none of {whole} has {'a year' if self.label == 'year' else _ONE[self.label]}"
        if rare := named.get(self.label):
            things = counted(len(_numbers(rare)), self.label.removesuffix("s"))
            what = f"none of the {things} of {whole} has at least {self.min_tracks} tracks; min_tracks=1 keeps all"
        others = [f"label={kind} ({counted(number, 'track')})" for kind, number in of_kind.items() if number]
        having = f"labels found: {', '.join(others)}; or " if others else ""
        return f"{what}\n{having}use label=none"


def _genres(file: _File) -> list[_Name]:
    return [_name(text) for text in file.tags.genres]


def _moods(file: _File) -> list[_Name]:
    return [_name(text) for text in file.tags.moods]


def _artist(file: _File) -> list[_Name]:
    """Return the first artist, without guests."""
    found = _name(_GUESTS.split(file.tags.artist or "", maxsplit=1)[0])
    return [found] if found.text and found.key not in _NOBODY else []


def _album(file: _File) -> list[_Name]:
    """Return the album. Albums with the same name are distinguished by the album artist, or else by the folder."""
    if file.tags.album is None:
        return []
    place = file.tags.album_artist
    if place is None:
        folder = PurePosixPath(file.id).parent
        place = str(folder.parent if re.fullmatch(r"(cd|dis[ck])[ _-]*\d+", folder.name, re.IGNORECASE) else folder)
    return [_Name(file.tags.album, _key(file.tags.album), place)]


def _folder(file: _File) -> list[_Name]:
    folder, slash, _ = file.id.partition("/")
    return [_Name(folder.strip(), folder.strip())] if slash and folder.strip() else []


_NAMES: Mapping[str, Callable[[_File], list[_Name]]] = {
    "genre": _genres,
    "artist": _artist,
    "album": _album,
    "mood": _moods,
    "folder": _folder,
}
"""Functions that return the classes or tags of a file; those from playlists are not in the file."""

_ONE = {
    "genre": "a genre",
    "artist": "an artist",
    "album": "an album",
    "mood": "a mood",
    "folder": "a folder",
    "playlists": "a playlist",
}


@functools.lru_cache(maxsize=2**16)  # many tracks have the same artist or genre
def _name(text: str) -> _Name:
    return _Name(text, _key(text))


def _key(text: str) -> str:
    """Return a key that is the same for all spellings of a name.

    >>> _key("Hip-Hop") == _key("hip hop"), _key("AC/DC") == _key("ACDC"), _key("C#") == _key("C")
    (True, True, False)
    """
    folded = normalize("NFKC", text).casefold()
    return re.sub(r"[\s_./'\u2019\u2010\u2011-]+", "", folded) or folded


def _named(files: Iterable[_File], names_of: Callable[[_File], list[_Name]]) -> dict[str, list[_Name]]:
    """Return the classes or tags of the files that have any, by id."""
    return {file.id: names for file in files if (names := names_of(file))}


def _numbers(named: _Named) -> Counter[tuple[str, str]]:
    """Return how many files have each class or tag."""
    return Counter(one for names in named.values() for one in dict.fromkeys(name.id for name in names))


def _usual_spellings(named: _Named, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the most frequent spelling of each class or tag in ``wanted``, with its place if the name has several."""
    spellings: dict[tuple[str, str], Counter[str]] = {one: Counter() for one in wanted}
    for names in named.values():
        for name in names:
            if name.id in spellings:
                spellings[name.id][name.text] += 1
    usual = {one: min(texts, key=lambda text: (-texts[text], text)) for one, texts in spellings.items()}
    n_places = Counter(key for key, _ in usual)
    return {(key, place): f"{text} ({place})" if n_places[key] > 1 else text for (key, place), text in usual.items()}


def _folder_of_playlists(given: Path | None, audio: Path) -> Path:
    if given is None:
        return audio
    for folder in (given, audio / given):
        if folder.is_dir():
            return folder
    raise DatasetError(
        f"there is no folder {str(given)!r} in the current folder or in {str(audio)!r}; check playlists=DIR"
    )


def _in_playlists(folder: Path, found: AudioFiles) -> tuple[dict[str, list[_Name]], list[str]]:
    """Return the playlists that each file is in, and notes about the playlists."""
    ids = {path: name for name, path in found.files.items()}
    match = playlist_matcher(ids)
    named: dict[str, list[_Name]] = {}
    notes = []
    n_read, n_entries, n_remote, n_dead = 0, 0, 0, 0
    seen = set()
    for path in find_playlists(folder):
        try:
            entries = read_playlist(path)
        except DatasetError as error:
            notes.append(f"skipped a playlist: {error}")
            continue
        inside = [ids[file] for entry in entries if (file := match(entry)) is not None]
        same = (path.with_suffix(""), frozenset(inside))
        if same in seen:  # the same playlist in another format
            continue
        seen.add(same)
        remote = sum(entry.path is None for entry in entries)
        n_read, n_entries = n_read + 1, n_entries + len(entries)
        n_remote, n_dead = n_remote + remote, n_dead + len(entries) - remote - len(inside)
        place = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        text = PurePosixPath(place).stem
        for track in dict.fromkeys(inside):
            named.setdefault(track, []).append(_Name(text, text, place))
    counts = {"not in the library": n_dead, "remote": n_remote}
    but = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    read = f"read {counted(n_read, 'playlist')} with {n_entries} {'entry' if n_entries == 1 else 'entries'}"
    return named, [f"{read} ({but})" if but else read, *notes]
