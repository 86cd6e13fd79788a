"""Find a copy of a published dataset under a folder, and list its clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirembed import Classification, DatasetError, Listing, Track, counted, is_audio, is_hidden, require_folder


@dataclass(frozen=True)
class Copy:
    """A copy of a published dataset.

    Attributes
    ----------
    home : pathlib.Path
        The folder in which the copy starts.
    files : mapping of str to pathlib.Path
        One audio file for each clip, by the id of the clip.
    skipped : tuple of str
        Which audio files were skipped and why, one line per reason.
    """

    home: Path
    files: Mapping[str, Path]
    skipped: tuple[str, ...]


def find_copy(
    audio: Path,
    candidates: Callable[[Path], Iterable[tuple[str | None, Path]]],
    *,
    original: str,
    title: str,
    expected: str,
    parts: Collection[str] = (),
    depth: int = 2,
) -> Copy:
    """Find a copy of a published dataset and choose one file for each clip.

    Parameters
    ----------
    audio : pathlib.Path
        Where to start.
    candidates : callable
        Returns the audio files of a copy that starts in a folder, each with the id of its clip; None for a file that
        is not a clip of the dataset.
    original : str
        File name suffix in the published archive, such as ``.wav``. If a clip has several files, the one with this
        suffix is chosen, or else the first by suffix and name; shorter names come first.
    title, expected, parts, depth
        See `find_home`.

    Raises
    ------
    DatasetError
        There is no such folder, no copy, or more than one at the same depth.
    """

    def is_home(folder: Path) -> bool:
        return any(clip is not None for clip, _ in candidates(folder))

    home = find_home(audio, is_home, title=title, expected=expected, parts=parts, depth=depth)
    files, skipped = choose_files(candidates(home), original)
    return Copy(home, files, skipped)


def choose_files(
    candidates: Iterable[tuple[str | None, Path]], original: str
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Choose one file for each clip, see `find_copy`; return them by id, and notes on the files that were skipped."""
    files: dict[str, list[Path]] = {}
    unknown = 0
    for clip, file in candidates:
        if clip is None:
            unknown += 1
        else:
            files.setdefault(clip, []).append(file)

    def preference(file: Path) -> tuple[bool, str, int, str]:
        suffix = file.suffix.lower()
        return suffix != original, suffix, len(file.name), file.name

    notes = []
    if spare := sum(len(several) - 1 for several in files.values()):
        notes.append(
            f"skipped {counted(spare, 'file')} (the same clip in another format or spelling; {original} comes first)"
        )
    if unknown:
        notes.append(f"skipped {counted(unknown, 'audio file')} (not named like a clip of this dataset)")
    return {clip: min(several, key=preference) for clip, several in files.items()}, tuple(notes)


def find_home(
    audio: Path,
    is_home: Callable[[Path], bool],
    *,
    title: str,
    expected: str,
    parts: Collection[str] = (),
    depth: int = 2,
) -> Path:
    """Find the folder in which a copy of a published dataset starts.

    Parameters
    ----------
    audio : pathlib.Path
        Where to start.
    is_home : callable
        Says whether a copy starts in a folder.
    title, expected : str
        The dataset, and what its copies look like, for messages.
    parts : collection of str, optional
        Names of the folders in a copy, in lower case. If ``audio`` has such a name, its parent is tried too.
    depth : int, optional
        How many levels below ``audio`` to try.

    Raises
    ------
    DatasetError
        There is no such folder, no copy, or more than one at the same depth.
    """
    require_folder(audio)
    folders = [audio]
    for _ in range(depth + 1):
        homes = [folder for folder in folders if is_home(folder)]
        if len(homes) > 1:
            found = ", ".join(repr(str(home)) for home in homes)
            raise DatasetError(f"{str(audio)!r} holds more than one copy of {title}; give one of {found}")
        if homes:
            return homes[0]
        folders = [below for folder in folders for below in subfolders(folder)]
    here = audio.absolute()
    if here.name.lower() in parts and is_home(here.parent):
        return here.parent
    raise DatasetError(f"no {title} clips in {str(audio)!r}, which contains {_contents(audio)}; expected {expected}")


def list_class_folders(
    audio: Path,
    clip_id: Callable[[str, Path], str | None],
    group_of: Callable[[str], str | None],
    *,
    folders: Mapping[str, str],
    n_clips: Mapping[str, int],
    title: str,
    expected: str,
) -> Listing:
    """List a dataset that was published as a folder of WAV files for each class.

    Parameters
    ----------
    audio : pathlib.Path
        The folder with the class folders, one of its two parents, or one of the class folders.
    clip_id : callable
        Returns the id of a clip for the class and the path of a file; None if it is not a clip of the dataset.
    group_of : callable
        Returns the group of a clip for its id.
    folders : mapping of str to str
        Class by the name of its folder in lower case.
    n_clips : mapping of str to int
        Number of published clips by class, in the order of the label vector.
    title, expected : str
        See `find_home`.

    Raises
    ------
    DatasetError
        There is no copy, more than one, or a clip is in the folders of two classes.
    """

    def candidates(home: Path) -> list[tuple[str | None, Path]]:
        clips = [(name, clip_id(name, file), file) for name, file in files_by_class(home, folders)]
        return [(None if clip is None else f"{name}/{clip}", file) for name, clip, file in clips]

    copy = find_copy(audio, candidates, original=".wav", title=title, expected=expected, parts=folders)
    tracks: dict[str, Track] = {}
    for key, file in copy.files.items():
        name, clip = key.split("/")
        other = tracks.setdefault(clip, Track(clip, file, name, group_of(clip)))
        if other.path != file:
            raise DatasetError(
                f"clip {clip} is in the classes {other.label} and {name}; remove {str(other.path)!r} or {str(file)!r}"
            )
    found = Counter(track.label for track in tracks.values())
    notes = notes_on_copy(audio, copy.home, len(tracks), sum(n_clips.values()))
    if missing := [name for name in n_clips if name not in found]:
        notes.append(f"classes without clips in this copy: {', '.join(missing)}")
    return Listing(
        Classification(tuple(name for name in n_clips if name in found)),
        sorted(tracks.values(), key=lambda track: track.id),
        absent=sum(max(0, n - found[name]) for name, n in n_clips.items()),
        notes=[*notes, *copy.skipped],
    )


def notes_on_copy(audio: Path, home: Path, n_tracks: int, n_clips: int) -> list[str]:
    """Note where a copy was found, unless that is ``audio``, and how many clips it has, unless it is complete."""
    notes = [] if home == audio else [f"clips found in {str(home)!r}"]
    return notes if n_tracks >= n_clips else [*notes, f"{n_tracks} of {n_clips} clips"]


def class_folders(home: Path, folders: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return the class folders in ``home``, each with its class; ``folders`` has the class by lower-case name."""
    return [(folders[folder.name.lower()], folder) for folder in subfolders(home) if folder.name.lower() in folders]


def files_by_class(home: Path, folders: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return the audio files that are directly in the class folders of ``home``, each with its class."""
    return [(name, file) for name, folder in class_folders(home, folders) for file in audio_in(folder)]


def audio_in(folder: Path) -> list[Path]:
    """Return the audio files directly in ``folder``, sorted by name."""
    return sorted(filter(is_audio, folder.glob("*")))


def number_of(file: Path, largest: int) -> str | None:
    """Return the number from 1 to ``largest`` that ``file`` is named after, without leading zeros, or None.

    >>> number_of(Path("007.mp3"), 400), number_of(Path("401.mp3"), 400)
    ('7', None)
    """
    if not (file.stem.isascii() and file.stem.isdecimal()):
        return None
    number = int(file.stem)
    return str(number) if 1 <= number <= largest else None


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, sorted by name; none if it cannot be read."""
    return sorted(path for path in folder.glob("*/") if not is_hidden(path))


def _contents(folder: Path) -> str:
    """Describe what ``folder`` holds, for a message about a wrong folder."""
    folders = [path.name for path in subfolders(folder)]
    files = sorted(path.name for path in folder.glob("*") if path.is_file())
    return f"{counted(len(folders), 'folder')}{_some(folders)} and {counted(len(files), 'file')}{_some(files)}"


def _some(names: list[str]) -> str:
    """Return the first three names in parentheses; nothing if there are none."""
    if not names:
        return ""
    return f" ({', '.join(map(repr, names[:3]))}{', …' if len(names) > 3 else ''})"
