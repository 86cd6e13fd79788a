"""``mirembed similar``: seeds, ranking, limits, copies, files that are gone, and every output."""

from __future__ import annotations

import csv
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import clean_environment
from small_library import At, SmallLibrary, latin1, write_library

from mirembed.library.neighbors import rank
from mirembed.store.files import read_table


@pytest.fixture
def line(tmp_path) -> SmallLibrary:
    """Tracks on a line, at 0.0, 0.1 ... 0.9, three of each artist and two of each album."""
    tracks = {
        f"{number}.mp3": At(
            (number / 10, 0.0), f"Title {number}", (f"Artist {number // 3}",), f"Album {number // 2}", "Various"
        )
        for number in range(10)
    }
    return write_library(tmp_path, tracks)


def test_tracks_are_ranked_by_the_learned_similarity(line):
    found = line.similar("0.mp3", "--top", 3)
    assert found["similarity"] == "rbf"
    assert [row["track"] for row in found["neighbors"]] == ["1.mp3", "2.mp3", "3.mp3"]
    values = [row["similarity"] for row in found["neighbors"]]
    np.testing.assert_allclose(values, [math.exp(-(distance**2)) for distance in (0.1, 0.2, 0.3)], rtol=1e-6)


def test_several_seeds_rank_a_track_by_its_lowest_similarity(line):
    """From 0.0 and 0.8, 0.4 is equally far; 0.3 and 0.5 are 0.5 away from one of the seeds, and tie."""
    found = line.similar("0.mp3", "8.mp3", "--top", 3)
    assert [row["track"] for row in found["neighbors"]] == ["4.mp3", "3.mp3", "5.mp3"]
    first = found["neighbors"][0]
    np.testing.assert_allclose(first["similarity_to_seeds"], [math.exp(-0.16)] * 2, rtol=1e-6)
    assert first["similarity"] == min(first["similarity_to_seeds"])


def test_ties_are_broken_by_the_mean_similarity_and_then_by_the_order_of_tracks():
    values = np.array([[0.5, 0.5, 0.9, 0.5], [0.6, 0.9, 0.5, 0.9]])
    assert rank(values).tolist() == [1, 2, 3, 0]
    assert rank(np.array([[0.1, 0.3, 0.3]])).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    "text",
    ["title 4", "TITLE 4", "artist 1 title 4", "4 artist 1", "Artist 1 – Title 4", "Artist 1 - Title 4", "4.mp3", "4"],  # noqa: RUF001
)
def test_a_seed_may_be_words_from_artist_title_and_file_name(line, text):
    [seed] = line.similar(text)["seeds"]
    assert (seed["seed"], seed["track"], seed["path"]) == (text, "4.mp3", str(line.music / "4.mp3"))
    assert (seed["title"], seed["artist"], seed["album"]) == ("Title 4", "Artist 1", "Album 2")


def test_accents_and_typographic_signs_need_not_be_typed(tmp_path):
    names = {"a.mp3": "Björk’s Jóga", "b.mp3": "Sigur Rós", "c.mp3": "Жить"}  # noqa: RUF001
    library = write_library(tmp_path, {name: At((len(name), ord(name[0])), title) for name, title in names.items()})
    for text, track in (("bjork's joga", "a.mp3"), ("SIGUR ROS", "b.mp3"), ("жить", "c.mp3")):
        assert library.similar(text)["seeds"][0]["track"] == track


def test_an_exact_title_is_preferred_to_a_longer_one(tmp_path):
    titles = ("Help", "Help Me", "No Help")
    library = write_library(tmp_path, {f"{n}.mp3": At((n, 0), title) for n, title in enumerate(titles)})
    assert library.similar("help")["seeds"][0]["track"] == "0.mp3"


def test_an_ambiguous_seed_is_an_error_that_lists_the_matches(line):
    said = line.failure("similar", "model", "artist 1")
    assert "'artist 1'" in said
    assert [number for number in range(10) if f"{number}.mp3" in said] == [1, 3, 4, 5]  # a word may be anywhere
    assert "Artist 1 – Title 3" in said  # noqa: RUF001
    assert "more than 20" in write_many(line).failure("similar", "model", "song")


def write_many(line: SmallLibrary) -> SmallLibrary:
    return write_library(line.folder / "many", {f"{n:02d}.mp3": At((n, 0), f"Song {n}") for n in range(30)})


def test_copies_of_one_recording_are_not_ambiguous(tmp_path):
    same = At((0, 0), "Sinnerman", content="same")
    library = write_library(tmp_path, {"a.mp3": same, "b.mp3": same, "c.mp3": At((1, 0), "Other")})
    assert library.similar("sinnerman")["seeds"][0]["track"] == "a.mp3"
    assert library.ids("sinnerman") == ["c.mp3"]


def test_an_unknown_seed_names_similar_ones(line):
    said = line.failure("similar", "model", "Titel 4")
    assert "'Titel 4'" in said
    assert "Title 4" in said
    assert line.failure("similar", "model", "x" * 5000)
    assert line.failure("similar", "model", "")


def test_on_a_terminal_an_ambiguous_seed_is_a_question(line):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mirembed", "similar", "model", "artist 1", "--json"]
    environment = clean_environment({"MIREMBED_STORE": str(line.folder / "store")})
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        asked = b""
        while b"Number" not in asked:
            asked += os.read(ours, 4096)
        os.write(ours, b"9\n3\n")  # the first answer is none of the numbers
        printed = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"4.mp3" in asked
    assert b'"track": "4.mp3"' in printed.partition(b"neighbors")[0]


def test_copies_of_a_seed_and_of_each_other_are_left_out_and_counted(tmp_path):
    tracks = {
        "seed.mp3": At((0, 0), content="same"),
        "same bytes.mp3": At((0, 0), content="same"),
        "same samples.flac": At((0.001, 0), audio_hash="of the samples"),
        "same samples.wav": At((0.001, 0), audio_hash="of the samples"),
        **{f"{n}.mp3": At((n, n)) for n in range(1, 6)},
    }
    library = write_library(tmp_path, tracks)
    done = library.run("similar", "model", "seed.mp3", "--json")
    assert [row["track"] for row in done.json["neighbors"]][:2] == ["same samples.flac", "1.mp3"]
    assert len(done.json["neighbors"]) == 6
    assert done.json["left_out"]["copy"] == 1
    assert "1 copy" in done.err


def test_equally_long_tracks_of_one_title_and_artist_are_copies_however_they_sound(tmp_path):
    tracks = {
        "seed.flac": At((0, 0), "Sinnerman", ("Nina Simone",), seconds=622.0),
        "quiet.mp3": At((1, 0), "SINNERMAN", ("Nina Simone",), seconds=622.6),
        "live.mp3": At((2, 0), "Sinnerman", ("Nina Simone",), seconds=610.0),
        "cover.mp3": At((3, 0), "Sinnerman", ("Felix da Housecat",), seconds=622.0),
    }
    assert write_library(tmp_path, tracks).ids("seed.flac") == ["live.mp3", "cover.mp3"]


def test_missing_files_are_never_shown(line):
    for number in (1, 3):
        (line.music / f"{number}.mp3").unlink()
    done = line.run("similar", "model", "0.mp3", "--top", 3, "--json")
    assert [row["track"] for row in done.json["neighbors"]] == ["2.mp3", "4.mp3", "5.mp3"]
    assert done.json["left_out"]["missing"] == 2
    assert "mirembed update model" in done.err
    assert line.similar("title 2", "--top", 1)["seeds"][0]["track"] == "2.mp3"


def test_files_that_cannot_be_reached_are_left_out(line, monkeypatch):
    real = os.stat

    def stat(path, *args, **options):
        if os.fspath(path) == str(line.music / "1.mp3"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert line.ids("0.mp3", "--top", 2) == ["2.mp3", "3.mp3"]


def test_files_that_have_changed_are_counted(line):
    (line.music / "1.mp3").write_text("another song in its place")
    done = line.run("similar", "model", "0.mp3", "--top", 3)
    assert "1 file of these has changed since the last update" in done.err
    assert "mirembed update model" in done.err
    assert "changed" not in line.run("similar", "model", "9.mp3", "--top", 3).err
    assert "1 file of these has changed" in line.run("playlist", "model", "--seed", "0.mp3", "--length", 4).err


def test_a_missing_audio_folder_is_an_error_and_not_an_empty_result(line):
    line.music.rename(line.folder / "away")
    assert str(line.music) in line.failure("similar", "model", "0.mp3")
    line.music.mkdir()  # the mount point of a drive that is away
    assert str(line.music) in line.failure("similar", "model", "0.mp3")
    assert str(line.music) in line.failure("duplicates", "model")


def test_tracks_per_artist_and_album_can_be_limited(line):
    assert line.ids("0.mp3", "--max-per-artist", 1) == ["1.mp3", "3.mp3", "6.mp3", "9.mp3"]
    assert line.ids("0.mp3", "--max-per-album", 1) == ["1.mp3", "2.mp3", "4.mp3", "6.mp3", "8.mp3"]
    assert len(line.ids("0.mp3", "--max-per-artist", 0)) == 9


def test_each_artist_of_a_track_counts_and_tracks_without_artist_are_not_limited(tmp_path):
    artists = [(), ("Ann",), ("Bob", "ANN"), ("Bob",), (), ()]
    library = write_library(tmp_path, {f"{n}.mp3": At((n, 0), artists=names) for n, names in enumerate(artists)})
    assert library.ids("0.mp3", "--max-per-artist", 1) == ["1.mp3", "3.mp3", "4.mp3", "5.mp3"]


def test_albums_with_one_name_are_distinguished_by_artist_or_folder(tmp_path):
    tracks = {
        "0.mp3": At((0, 0)),
        "a/1.mp3": At((1, 0), album="Greatest Hits"),
        "b/2.mp3": At((2, 0), album="Greatest Hits"),
        "b/3.mp3": At((3, 0), album="Greatest Hits"),
        "b/4.mp3": At((4, 0), album="Greatest Hits", album_artist="Queen"),
        "c/5.mp3": At((5, 0), album="GREATEST HITS", album_artist="Queen"),
    }
    library = write_library(tmp_path, tracks)
    assert library.ids("0.mp3", "--max-per-album", 1) == ["a/1.mp3", "b/2.mp3", "b/4.mp3"]


def test_fewer_tracks_than_asked_for_are_explained(line):
    done = line.run("similar", "model", "0.mp3", "--max-per-artist", 1, "--exclude", "9.mp3", "--top", 8)
    said = done.err.splitlines()[-1]
    assert "3 of 8" in said
    assert "1 left out by --exclude" in said
    assert "5 left out by --max-per-artist 1" in said


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("1.mp3", "23456789"),
        ("music/1.mp3", "23456789"),
        ("Title 1", "23456789"),
        ("artist 0", "3456789"),
        ("album 1", "1456789"),
        ("played.m3u8", "12345678"),
        ("music", ""),
    ],
)
def test_tracks_artists_albums_folders_and_playlists_are_excluded(line, monkeypatch, what, left):
    monkeypatch.chdir(line.folder)
    Path("played.m3u8").write_text("music/9.mp3\nmusic/gone.mp3\nhttp://radio.example/stream\n")
    assert line.ids("0.mp3", "--exclude", what) == [f"{number}.mp3" for number in left]


def test_a_folder_of_the_library_is_excluded_from_anywhere(tmp_path):
    tracks = {"rock/a.mp3": At((0, 0)), "rock/b.mp3": At((1, 0)), "rocksteady/c.mp3": At((2, 0))}
    library = write_library(tmp_path, tracks)
    assert library.ids("rock/a.mp3", "--exclude", "rock") == ["rocksteady/c.mp3"]


def test_an_excluded_recording_is_excluded_under_all_names(tmp_path):
    tracks = {"0.mp3": At((0, 0)), "a.mp3": At((1, 0), content="x"), "b.mp3": At((1, 0), content="x")}
    assert write_library(tmp_path, tracks).ids("0.mp3", "--exclude", "b.mp3") == []


def test_an_exclusion_that_matches_nothing_is_an_error(line):
    said = line.failure("similar", "model", "0.mp3", "--exclude", "Tytle 4")
    assert "--exclude" in said
    assert "Title 4" in said
    assert "'artist'" in line.failure("similar", "model", "0.mp3", "--exclude", "artist")


def test_a_link_to_a_file_of_the_library_is_that_file(line, tmp_path):
    (tmp_path / "link.mp3").symlink_to(line.music / "0.mp3")
    assert line.ids(tmp_path / "link.mp3", "--top", 2) == ["1.mp3", "2.mp3"]


def test_names_that_are_not_utf8_are_found_and_shown_as_text(tmp_path):
    library = write_library(tmp_path, {latin1("café.mp3"): At((0, 0)), "b.mp3": At((1, 0)), "c.mp3": At((3, 0))})
    assert library.ids("b.mp3") == [r"caf\xe9.mp3", "c.mp3"]
    assert library.ids(r"caf\xe9.mp3") == ["b.mp3", "c.mp3"]
    assert library.ids(library.music / latin1("café.mp3")) == ["b.mp3", "c.mp3"]


def test_json_has_full_paths_and_file_tags(line):
    [row] = line.similar("0.mp3", "--top", 1)["neighbors"]
    assert row == {
        "rank": 1,
        "track": "1.mp3",
        "path": str(line.music / "1.mp3"),
        "title": "Title 1",
        "artist": "Artist 0",
        "album": "Album 0",
        "duration": 110.0,
        "similarity": pytest.approx(math.exp(-0.01)),
        "similarity_to_seeds": [row["similarity"]],
    }


def test_the_table_shows_artist_and_title_or_the_id(tmp_path):
    tracks = {"a.mp3": At((0, 0)), "b.mp3": At((1, 0), "Song", ("Ann", "Bob")), "c/c.mp3": At((2, 0), None, ("Ann",))}
    cells = write_library(tmp_path, tracks).run("similar", "model", "a.mp3").cells
    assert cells == [["1", "Ann – Song", "0.3679"], ["2", "c/c.mp3", "0.0183"]]  # noqa: RUF001


def test_a_very_long_title_is_shortened_in_the_table_only(tmp_path):
    library = write_library(tmp_path, {"0.mp3": At((0, 0), "Start"), "1.mp3": At((1, 0), "T" * 1000, ("A" * 1000,))})
    shown = library.run("similar", "model", "Start").out
    assert f"{'A' * 79}… – {'T' * 79}…" in " ".join(shown.split())  # noqa: RUF001
    assert library.similar("Start")["neighbors"][0]["title"] == "T" * 1000


def test_tables_have_the_same_columns_and_values_in_csv_and_parquet(line, tmp_path):
    for name in ("t.csv", "t.parquet"):
        line.run("similar", "model", "0.mp3", "8.mp3", "--out", tmp_path / name)
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    stored = read_table(tmp_path / "t.parquet").to_pylist()
    assert list(rows[0]) == list(stored[0])
    names = ["rank", "track", "path", "title", "artist", "album", "duration", "similarity"]
    assert list(rows[0])[:8] == names
    assert [{key: str(value) for key, value in row.items()} for row in stored] == rows
    assert rows[0]["path"] == str(line.music / "4.mp3")
    assert len(rows) == 8


HOSTILE = {
    "=1+1.mp3": '=HYPERLINK("http://x")',
    "b.mp3": "[bold]Rich[/bold] :smile:",
    "c.mp3": "<script>alert(1)</script>",
    "d.mp3": "עברית \u200f123",
}


def test_hostile_titles_are_shown_as_text_in_every_output(tmp_path):
    tracks = {name: At((number, 0), title) for number, (name, title) in enumerate(HOSTILE.items())}
    library = write_library(tmp_path, {"seed.mp3": At((0, 1)), **tracks})
    shown = library.run("similar", "model", "seed.mp3")
    assert [row[1] for row in shown.cells] == list(HOSTILE.values())
    library.run("similar", "model", "seed.mp3", "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["title"].removeprefix("'") for row in rows] == list(HOSTILE.values())
    assert rows[0]["title"].startswith("'=")


def test_out_never_overwrites_without_force(line, tmp_path):
    out = tmp_path / "t.csv"
    out.write_text("mine")
    assert "--force" in line.failure("similar", "model", "0.mp3", "--out", out)
    assert out.read_text() == "mine"
    line.run("similar", "model", "0.mp3", "--out", out, "--force")
    assert out.read_text().startswith("rank,track,path,")
    assert ".m3u8" in line.failure("similar", "model", "0.mp3", "--out", tmp_path / "t.txt")
    assert "--bom" in line.failure("similar", "model", "0.mp3", "--out", tmp_path / "t.m3u8", "--bom")
