"""Run the commands in the documentation's console blocks again and write down what they print.

    python docs/transcripts.py README.md docs/first-steps.md docs/music-folder.md docs/labels.md docs/audio-files.md

Each page runs from top to bottom in a new folder that holds what the pages assume, made from the clips of the demo:

- ``library``: a music library of 120 files with tags, as ``Artist/Album/01 Title.flac`` (or .ogg, .mp3), each band with
  an album of three titles; one band in five has files without a genre. Besides, ``Incoming`` has a file without tags
  and another copy of a track, and ``Playlists`` a playlist.
- ``downloads``: three files of a new band.
- ``music``: the first twelve clips of three styles; ``new``: the other three of each; ``moods.csv``: the band, arousal
  and valence of those in ``music``.

A block whose commands show no output is only run, and one that does not call mirembed is left alone. Output that a page
cuts short with ``…`` is cut again after as many lines. The name of a run in a command becomes that of the newest run.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mirembed import Track

STYLES = ("rock", "swing", "waltz")
N_MUSIC = 12
"""Clips of each style in ``music``."""
COLUMNS = 80
SUFFIXES = (".flac", ".ogg", ".mp3")
"""Formats of the albums in ``library``, in turn."""
ADJECTIVES = (
    "Blue",
    "Slow",
    "Paper",
    "Silver",
    "Hidden",
    "Early",
    "Northern",
    "Borrowed",
    "Salt",
    "Winter",
    "Quiet",
    "Long",
)
NOUNS = ("Harbor", "Letters", "Orchard", "Engine", "Window", "River", "Lanterns", "Station", "Garden", "Mirror")
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"\b[a-z]+-\d{8}-\d{6}\b")
UNDO = re.compile(r"\bmirembed-store-undo-\d{8}-\d{6}\b")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def prepare(folder: Path) -> None:
    """Write what the pages assume."""
    from mirembed_datasets.demo import Demo

    demo = Demo(task="regression")
    demo.synthesize(folder / "clips")
    tracks = list(demo.listing(folder / "clips").tracks)
    write_library(folder, tracks)
    write_music(folder, tracks)


def write_music(folder: Path, tracks: Sequence[Track]) -> None:
    """Move clips to ``music`` and ``new``, and write ``moods.csv``."""
    rows = []
    for track in tracks:
        style, _, name = track.id.partition("/")
        if style in STYLES:
            known = int(track.path.stem.rpartition("-")[2]) < N_MUSIC
            path = folder / "music" / track.id if known else folder / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            track.path.rename(path)
            if known and isinstance(track.label, tuple):
                rows.append([track.id, track.group, *(f"{value:.1f}" for value in track.label)])
    with (folder / "moods.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["path", "artist", "arousal", "valence"], *sorted(rows)])


def write_library(folder: Path, tracks: Sequence[Track]) -> None:
    """Write ``library`` and ``downloads``."""
    library, bands = folder / "library", dict[str, list[Track]]()
    for track in tracks:
        bands.setdefault(str(track.group), []).append(track)
    written: dict[str, list[tuple[Path, dict[str, str]]]] = {}
    for number, (band, clips) in enumerate(bands.items()):
        suffix, album = SUFFIXES[number % 3], f"At the {NOUNS[number % 10]}"
        for place, clip in enumerate(clips, 1):
            count = 3 * number + place - 1
            title = f"{ADJECTIVES[count % 12]} {NOUNS[(count // 12 + count) % 10]}"
            style = clip.id.partition("/")[0].capitalize()
            values = {"title": title, "artist": band, "album": album, "tracknumber": str(place)}
            if number % 5 != 4:
                values["genre"] = style
            root = folder / "downloads" if number == len(bands) - 1 else library
            path = root / band / album / f"{place:02} {title}{suffix}"
            convert(clip.path, path)
            write_tags(path, values)
            written.setdefault(style, []).append((path, values))
    (library / "Incoming").mkdir()
    (library / "Playlists").mkdir()
    convert(tracks[0].path, library / "Incoming" / "unknown.wav")
    first, values = written["Swing"][0]
    copy = library / "Incoming" / f"{first.stem}.mp3"
    convert(first, copy)
    write_tags(copy, values)
    entries = [written[style][place][0] for style, place in (("Bossa", 0), ("Bossa", 4), ("Swing", 7))]
    lines = "".join(f"../{entry.relative_to(library)}\n" for entry in entries)
    (library / "Playlists" / "dinner.m3u8").write_text(lines, encoding="utf-8")


def convert(source: Path, path: Path) -> None:
    """Write the samples of a file in the format that the name of another says."""
    import soundfile

    samples, rate = soundfile.read(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)


def write_tags(path: Path, values: dict[str, str]) -> None:
    """Write file tags, by the names that mutagen's simple interface has for them."""
    import mutagen

    file = mutagen.File(path, easy=True)  # type: ignore[attr-defined]
    if file.tags is None:
        file.add_tags()
    for name, value in values.items():
        file[name] = value
    file.save()


def run(command: str, folder: Path) -> str:
    """Run a command as a shell does; return what it prints on both streams."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    completed = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "MIREMBED_STORE": "mirembed-store"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # What depends on the machine, and the folder, which is a temporary one.
    return re.sub(rf"^about .* left\n|{re.escape(str(folder))}/", "", completed.stdout, flags=re.MULTILINE)


def with_newest_run(command: str, folder: Path) -> str:
    """Replace the name of an undo file or of a run by that of the newest, for a run without the digest at its end."""
    if UNDO.search(command) is not None:
        return UNDO.sub(max(folder.glob("mirembed-store-undo-*.jsonl")).stem, command)
    if RUN.search(command) is None:
        return command
    newest = max((folder / "mirembed-store" / "runs").glob("[!.]*"), key=lambda run: run.stat().st_mtime)
    return RUN.sub(newest.name.rpartition("-")[0], command)


def cut(printed: str, before: str) -> str:
    """Shorten new output where the page shortens the old one."""
    if not before.endswith("…\n"):
        return printed
    return "".join(printed.splitlines(keepends=True)[: before.count("\n") - 1]) + "…\n"


def rewrite(page: Path) -> None:
    """Run the console blocks of a page in order and write their output into it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)

        def again(block: re.Match[str]) -> str:
            commands = COMMAND.findall(block[0])
            if "mirembed " not in block[0] or "--plugins-dir" in block[0]:
                return block[0]
            shown = any(before for _, before in commands)
            lines = []
            for command, before in commands:
                print(f"{page}: {command}", file=sys.stderr)
                if "RUN" in command or "GTZAN" in command or "HOST" in command or "paper" in command:
                    return block[0]
                command = with_newest_run(command, folder)
                printed = run(command, folder)
                lines.append(f"$ {command}\n{cut(printed, before) if shown else before}")
            return "".join(lines)

        page.write_text(BLOCK.sub(again, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rewrite(Path(argument).resolve())
