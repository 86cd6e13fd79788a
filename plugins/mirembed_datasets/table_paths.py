"""Find the audio files that the paths in a table name, in whatever form: relative, absolute, from another computer."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

from mirembed import AudioFiles, counted
from mirembed_datasets.tables import same

_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
"""How a byte of a name that is not UTF-8 is written, in ids and by ``mirembed predict --out``."""

_DRIVE = re.compile(r"/?([a-z]:)(?=/)", re.IGNORECASE)


class Located:
    """The audio files of the paths in a table.

    A path is relative to the audio folder, to the current folder or to the folder of the table, or absolute; the suffix
    may be missing. Failing that, what comes before the audio folder's own name in a path is left out, or what all paths
    of a table begin with, and at last case, spaces, invisible characters and the codes of URLs (``%20``) are ignored.

    Parameters
    ----------
    found : AudioFiles
    audio, table : pathlib.Path
        The audio folder, and the table.
    texts : iterable of str
        The paths in the table.

    Attributes
    ----------
    ids : dict of str to str
        The id of the audio file by the text of its path; without an audio file, a normalized form of the path.
    ambiguous : dict of str to list of str
        The ids of the files that a path may name, if these are several.
    notes : list of str
        Which paths were matched only in part.
    """

    def __init__(self, found: AudioFiles, audio: Path, table: Path, texts: Iterable[str]) -> None:
        self._files = found.files
        self._tops = list(dict.fromkeys([_text(audio.absolute()), _text(audio.resolve())]))
        self._bases = list(dict.fromkeys([_text(Path.cwd()), _text(table.absolute().parent)]))
        self._own_names = {same(posixpath.basename(top)) for top in self._tops}
        self.ids: dict[str, str] = {}
        self.ambiguous: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self._inexact: defaultdict[str, list[str]] = defaultdict(list)
        for text in dict.fromkeys(texts):
            if text in self._files:
                self.ids[text] = text
            elif (file := self._find(text)) is not None:
                self.ids[text] = file
            elif text not in self.ambiguous:
                self.ids[text] = _posix(text)
        if not any(file in self._files for file in self.ids.values()) and not self.ambiguous:
            self._leave_out_common_part()
        for how, ones in self._inexact.items():
            example = f"such as {ones[0]!r} to {self.ids[ones[0]]!r}"
            self.notes.append(f"matched {counted(len(ones), 'path')} {how}, {example}")

    @functools.cached_property
    def _by_stem(self) -> Mapping[str, list[str]]:
        """The audio files by their paths without the suffix."""
        return _several((posixpath.splitext(file)[0], file) for file in self._files)

    @functools.cached_property
    def _by_spelling(self) -> Mapping[str, list[str]]:
        """The audio files by their paths without regard to case and spaces, with and without the suffix."""
        both = ((path, file) for file in self._files for path in (file, posixpath.splitext(file)[0]))
        return _several((_spelling(path), file) for path, file in both)

    def _find(self, text: str) -> str | None:
        if (composed := normalize("NFC", text)) in self._files:
            return composed
        if _ESCAPED.search(text):  # else each backslash is one of Windows
            path = normalize("NFC", posixpath.normpath(text))
            for one in (*self._relative(path), *self._after_own_name(path)):
                if one in self._files:
                    return one
        path = _posix(text)
        tried = []
        for how, paths in (
            ("", self._relative(path)),
            ("by ignoring the folders before the audio folder", self._after_own_name(path)),
        ):
            for one in paths:
                tried.append(one)
                files = [one] if one in self._files else self._by_stem.get(one, [])
                if found := self._only(files, text, how):
                    return found
        for path in [*tried, *([unquote(one) for one in tried] if "%" in text else [])]:
            files = self._by_spelling.get(_spelling(path), [])
            if found := self._only(files, text, "by ignoring case, spaces and character codes"):
                return found
        return None

    def _only(self, files: Sequence[str], text: str, how: str) -> str | None:
        if len(files) > 1:
            self.ambiguous.setdefault(text, sorted(files))
            return None
        if not files:
            return None
        self.ambiguous.pop(text, None)
        if how:
            self._inexact[how].append(text)
        return files[0]

    def _relative(self, path: str) -> Iterator[str]:
        """Yield what a path may be relative to the audio folder."""
        if not posixpath.isabs(path) and not path.startswith("../"):
            yield path
        for base in self._bases:
            full = posixpath.normpath(posixpath.join(base, path))
            for top in self._tops:
                if full.startswith(f"{top}/"):
                    yield full.removeprefix(f"{top}/")

    def _after_own_name(self, path: str) -> Iterator[str]:
        parts = path.split("/")
        for number, part in enumerate(parts[:-1], 1):
            if same(part) in self._own_names:
                yield "/".join(parts[number:])

    def _leave_out_common_part(self) -> None:
        """Match paths without the folders that all of them begin with, if they match then."""
        paths = {text: _posix(text).split("/") for text in self.ids}
        levels = zip(*(parts[:-1] for parts in paths.values()), strict=False)
        common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
        for number in range(1, len(common) + 1):
            shorter = {text: self._find("/".join(parts[number:])) for text, parts in paths.items()}
            if found := {text: file for text, file in shorter.items() if file is not None}:
                self.ids |= found
                self._inexact.clear()
                self._inexact[f"without {'/'.join(common[:number]) + '/'!r}, with which all paths begin"] = list(found)
                return


def _several(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        if value not in found[key]:
            found[key].append(value)
    return dict(found)


def _spelling(path: str) -> str:
    return "/".join(same(part) for part in path.split("/"))


def _text(path: Path) -> str:
    return normalize("NFC", os.fsencode(path).decode("utf-8", "backslashreplace"))


def _posix(text: str) -> str:
    r"""Return a path, which may be a Windows path or a file URL, in the form ``folder/file``.

    >>> _posix(r".\a\b.wav"), _posix("file:///C:/a%20b.wav")
    ('a/b.wav', 'C:/a b.wav')
    """
    if text.lower().startswith("file:"):
        text = unquote(re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE))
    text = _DRIVE.sub(r"\1", text.replace("\\", "/"), count=1)
    return normalize("NFC", posixpath.normpath(text))
