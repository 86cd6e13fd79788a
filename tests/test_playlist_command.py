"""``mirembed playlist``: from seeds, along a path, continuing a playlist; and the files, as players read them."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_library import At, SmallLibrary, latin1, write_library

from mirembed.library.playlist import even_path, short_path


def play(playlist: Path) -> list[Path]:
    """Return the files that a player plays, which reads lines of UTF-8 and takes paths as they are."""
    content = playlist.read_bytes().decode("utf-8")
    assert content.startswith("#EXTM3U\n")
    lines = [line for line in content.split("\n") if line and not line.startswith("#")]
    return [Path(os.path.normpath(playlist.parent / line)) for line in lines]


def titles(playlist: Path) -> list[tuple[int, str]]:
    """Return seconds and name of each track, as players show them."""
    lines = playlist.read_text(encoding="utf-8").split("\n")
    found = [line.removeprefix("#EXTINF:").partition(",") for line in lines if line.startswith("#EXTINF:")]
    return [(int(seconds), name) for seconds, _, name in found]


def ids(tracks: list[dict]) -> list[str]:
    return [track["track"] for track in tracks]


@pytest.fixture
def grid(tmp_path) -> SmallLibrary:
    """Tracks ``x-y.mp3`` at (x, y), 6 by 6, a tenth apart; each column is of one artist."""
    places = [(x, y) for x in range(6) for y in range(6)]
    return write_library(
        tmp_path, {f"{x}-{y}.mp3": At((x / 10, y / 10), f"Song {x}-{y}", (f"Artist {x}",)) for x, y in places}
    )


# The order


def test_a_short_path_visits_every_point_once_and_begins_with_the_first():
    """Taking the nearest point each time would go from 0 to -1 and cross the line again."""
    line = np.array([[0.0], [-1.0], [2.0], [4.0], [6.0], [-4.0]])
    path = short_path(line)
    assert sorted(path) == list(range(6))
    steps = np.abs(np.diff(line[path, 0]))
    assert path[0] == 0
    assert steps.sum() <= 1 + 3 + 6 + 4  # the best: to -4 and back to 6


def test_a_short_path_is_never_longer_than_by_nearest_neighbors_and_close_to_the_best():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7):
        points = rng.normal(size=(n, 2))
        length = np.linalg.norm(np.diff(points[short_path(points)], axis=0), axis=1).sum()
        best = best_length(points)
        assert best - 1e-9 <= length <= 1.2 * best + 1e-9


def best_length(points: np.ndarray) -> float:
    paths = ((0, *rest) for rest in itertools.permutations(range(1, len(points))))
    return min(np.linalg.norm(np.diff(points[list(path)], axis=0), axis=1).sum() for path in paths)


def test_an_even_path_has_the_smallest_largest_step():
    """Beside the line there are points that would be nearer to one place, and leave a large step to the next."""
    points = np.array([[1.0, 0.3], [1.4, 0.0], [2.0, -0.3], [1.6, 0.0]])
    assert even_path(points, np.array([[0.0, 0.0], [3.0, 0.0]]), [[0, 1], [2, 3]]) == [0, 2]


def test_no_point_is_on_a_path_twice_and_a_path_may_be_refused_points():
    points, ends = np.array([[1.0], [1.5], [2.0]]), np.array([[0.0], [3.0]])
    assert sorted(even_path(points, ends, [[0, 1, 2]] * 3)) == [0, 1, 2]
    assert even_path(points, ends, [[0, 1, 2]] * 3, lambda path, row: row != 1) == [0, 2]
    assert even_path(points, ends, [[1], [1]]) == [1]


def test_an_even_path_between_two_ends_at_one_place_is_short():
    """The unit of its steps cannot be the distance of its ends."""
    points, ends = np.array([[1.0], [1e-3], [2e-3], [5.0]]), np.zeros((2, 1))
    assert even_path(points, ends, [[0, 1, 3], [2, 0, 3]]) == [1, 2]
    assert even_path(points[:0], ends, [[]]) == []
    assert len(even_path(np.zeros((2, 1)), ends, [[0, 1], [0, 1]])) == 2


# The tracks


def test_a_playlist_from_a_seed_has_the_tracks_nearest_to_it(grid):
    tracks = grid.playlist("--seed", "2-2.mp3", "--length", 5, "--max-per-artist", 0)
    assert tracks[0]["track"] == "2-2.mp3"
    assert set(ids(tracks)) == {"2-2.mp3", "1-2.mp3", "3-2.mp3", "2-1.mp3", "2-3.mp3"}
    assert [track["position"] for track in tracks] == [1, 2, 3, 4, 5]
    assert tracks[0]["why"] == "seed"
    assert all("Song 2-2" in track["why"] and "0.990" in track["why"] for track in tracks[1:])


def test_tracks_from_several_seeds_agree_with_all_of_them(grid):
    tracks = grid.playlist("--seed", "0-0.mp3", "--seed", "0-4.mp3", "--length", 3, "--max-per-artist", 0)
    assert ids(tracks) == ["0-0.mp3", "0-2.mp3", "0-4.mp3"]
    assert tracks[1]["why"].count("0.961") == 2
    assert [track["step"] for track in tracks] == [None, pytest.approx(0.2), pytest.approx(0.2)]


def test_the_order_goes_in_short_steps_from_the_first_seed(tmp_path):
    library = write_library(tmp_path, {f"{n}.mp3": At((n / 10, 0)) for n in range(9)})
    tracks = library.playlist("--seed", "0.mp3", "--length", 9)
    assert ids(tracks) == [f"{n}.mp3" for n in range(9)]
    assert max(track["step"] for track in tracks[1:]) == pytest.approx(0.1)


def test_three_tracks_of_an_artist_are_the_default_limit_and_seeds_count(grid):
    tracks = grid.playlist("--seed", "2-2.mp3", "--length", 18)
    assert set(Counter(track["artist"] for track in tracks).values()) == {3}
    alone = grid.playlist("--seed", "2-2.mp3", "--length", 6, "--max-per-artist", 1)
    assert len({track["artist"] for track in alone}) == 6


def test_a_path_leads_from_one_track_to_another_in_even_steps(grid):
    tracks = grid.playlist("--from", "0-0.mp3", "--to", "5-5.mp3", "--length", 6)
    assert ids(tracks) == [f"{n}-{n}.mp3" for n in range(6)]
    np.testing.assert_allclose([track["step"] for track in tracks[1:]], np.sqrt(0.02), rtol=1e-5)
    assert [track["why"].partition(" ")[0] for track in tracks] == ["start", "20", "40", "60", "80", "end"]


def test_the_largest_step_of_a_path_is_smaller_than_by_taking_the_nearest_to_each_place(tmp_path):
    rng = np.random.default_rng(5)
    places = rng.uniform(0, 1, (60, 2))
    library = write_library(tmp_path, {f"{n:02d}.mp3": At(tuple(place)) for n, place in enumerate(places)})
    tracks = library.playlist("--from", "00.mp3", "--to", "01.mp3", "--length", 8)
    naive, used = [0], {0, 1}
    for share in np.linspace(0, 1, 8)[1:-1]:
        target = places[0] + share * (places[1] - places[0])
        nearest = [n for n in np.argsort(np.linalg.norm(places - target, axis=1)) if n not in used]
        naive.append(int(nearest[0]))
        used.add(nearest[0])
    steps = np.linalg.norm(np.diff(places[[*naive, 1]], axis=0), axis=1)
    assert max(track["step"] for track in tracks[1:]) < steps.max()


def test_a_path_respects_limits_and_leaves_out_missing_files(grid):
    (grid.music / "2-2.mp3").unlink()
    tracks = grid.playlist("--from", "0-0.mp3", "--to", "5-5.mp3", "--length", 6, "--exclude", "3-3.mp3")
    assert len(tracks) == 6
    assert {"2-2.mp3", "3-3.mp3"} & set(ids(tracks)) == set()
    tracks = grid.playlist("--from", "0-0.mp3", "--to", "0-5.mp3", "--length", 6, "--max-per-artist", 2)
    assert max(Counter(track["artist"] for track in tracks).values()) == 2
    assert len(tracks) == 6


def test_distances_are_between_directions_where_the_similarity_is_cosine(tmp_path):
    angles = np.linspace(0, np.pi / 2, 5)
    tracks = {
        f"{n}.mp3": At((float(size * np.cos(angle)), float(size * np.sin(angle))))
        for n, (angle, size) in enumerate(zip(angles, (1, 9, 2, 7, 3), strict=True))
    }
    library = write_library(tmp_path, tracks, "cosine")
    found = library.playlist("--from", "0.mp3", "--to", "4.mp3", "--length", 5)
    assert ids(found) == [f"{n}.mp3" for n in range(5)]
    np.testing.assert_allclose([track["step"] for track in found[1:]], 2 * np.sin(np.pi / 16), rtol=1e-4)


def test_a_playlist_is_continued_from_its_existing_files(grid, tmp_path):
    old = tmp_path / "old.m3u8"
    (tmp_path / "other.mp3").write_text("not in the library")
    lines = ["music/0-0.mp3", "music/gone.mp3", "http://radio.example/", "other.mp3", "music/0-1.mp3"]
    old.write_text("\n".join(lines))
    done = grid.run("playlist", "model", "--extend", old, "--length", 2, "--json")
    tracks = done.json["tracks"]
    assert ids(tracks)[:3] == ["0-0.mp3", str(tmp_path / "other.mp3"), "0-1.mp3"]
    assert [track["why"] for track in tracks[:3]] == ["in old.m3u8"] * 3
    assert set(ids(tracks)[3:]) == {"1-0.mp3", "1-1.mp3"}
    assert "Song 0-" in tracks[3]["why"]
    assert done.json["entries"] == {"missing": 1, "remote": 1, "unknown": 1}
    assert len([line for line in done.err.splitlines() if str(old) in line]) == 3


def test_a_playlist_of_a_library_that_moved_is_recognized(grid, tmp_path):
    old = tmp_path / "old.m3u8"
    old.write_text("C:\\Users\\me\\music\\0-0.mp3\n")
    assert ids(grid.playlist("--extend", old, "--length", 1))[0] == "0-0.mp3"


def test_a_playlist_has_no_copies(tmp_path):
    tracks = {f"{n}{copy}.mp3": At((n / 10, 0), content=str(n)) for n in range(5) for copy in "ab"}
    library = write_library(tmp_path, tracks)
    for words in (("--seed", "0a.mp3"), ("--from", "0a.mp3", "--to", "4b.mp3")):
        found = ids(library.playlist(*words, "--length", 9))
        assert sorted(name[0] for name in found) == list("01234")


def test_fewer_tracks_than_asked_for_are_explained(grid):
    for words in (("--seed", "0-0.mp3"), ("--from", "0-0.mp3", "--to", "0-1.mp3")):
        done = grid.run("playlist", "model", *words, "--length", 40, "--max-per-artist", 2)
        assert len(done.cells) == 12
        assert "left out by --max-per-artist 2" in done.err


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ([], "--seed"),
        (["--seed", "0-0.mp3", "--from", "0-0.mp3", "--to", "0-1.mp3"], "exactly one"),
        (["--from", "0-0.mp3"], "--to"),
        (["--from", "0-0.mp3", "--to", "Song 0-0"], "same track"),
        (["--seed", "0-0.mp3", "--seed", "0-1.mp3", "--length", 1], "--length 1"),
        (["--extend", "nothing.m3u8"], "nothing.m3u8"),
        (["--extend", "strange.m3u8"], "strange.m3u8"),
        (["--seed", "0-0.mp3", "--out", "list.txt"], ".m3u8"),
        (["--seed", "0-0.mp3", "--out", "mine.m3u8"], "--force"),
        (["--seed", "0-0.mp3", "--paths", "absolute"], "--out"),
        (["--seed", "0-0.mp3", "--out", "x.m3u8", "--paths", "absolute", "--relative-to", "."], "--relative-to"),
        (["--seed", "0-0.mp3", "--out", "x.m3u8", "--relative-to", "elsewhere"], "elsewhere"),
        (["--seed", "gone.mp3"], "gone.mp3"),
    ],
    ids=str,
)
def test_an_impossible_playlist_is_refused_and_nothing_is_written(tmp_path, monkeypatch, words, fact):
    places = [(x, y) for x in range(2) for y in range(3)]
    library = write_library(tmp_path, {f"{x}-{y}.mp3": At((x, y), f"Song {x}-{y}") for x, y in places})
    monkeypatch.chdir(tmp_path)
    Path("mine.m3u8").write_text("mine")
    Path("strange.m3u8").write_text("/nowhere/a.mp3\n")
    Path("elsewhere").mkdir()
    assert fact in library.failure("playlist", "model", *words)
    assert Path("mine.m3u8").read_text() == "mine"
    assert not Path("x.m3u8").exists()


def test_a_seed_whose_file_is_missing_is_refused(grid):
    (grid.music / "0-0.mp3").unlink()
    assert "0-0.mp3" in grid.failure("playlist", "model", "--seed", "0-0.mp3")


# The file


def test_a_playlist_file_has_relative_paths_titles_lengths_and_reasons(grid, tmp_path):
    out = tmp_path / "lists" / "mine.m3u8"
    out.parent.mkdir()
    words = ("playlist", "model", "--seed", "0-0.mp3", "--length", 3, "--max-per-artist", 0)
    done = grid.run(*words, "--out", out)
    assert (done.out, str(out) in done.err) == ("", True)
    expected = grid.playlist(*words[2:])
    assert play(out) == [grid.music / track["track"] for track in expected]
    assert titles(out)[0] == (100, "Artist 0 - Song 0-0")
    lines = out.read_text().split("\n")
    assert "../music/0-0.mp3" in lines
    assert [line for line in lines if line.startswith("# ")] == [f"# mirembed: {track['why']}" for track in expected]


def test_paths_are_absolute_or_relative_to_a_folder_on_request(grid, tmp_path):
    words = ("playlist", "model", "--seed", "0-0.mp3", "--length", 2, "--out", tmp_path / "x.m3u", "--force")
    grid.run(*words, "--paths", "absolute")
    assert str(grid.music / "0-0.mp3") in (tmp_path / "x.m3u").read_text().split("\n")
    grid.run(*words, "--relative-to", grid.music)
    assert "0-0.mp3" in (tmp_path / "x.m3u").read_text().split("\n")
    link = tmp_path / "mpd"
    link.symlink_to(grid.music)
    grid.run(*words, "--relative-to", link)
    assert "0-0.mp3" in (tmp_path / "x.m3u").read_text().split("\n")


def test_relative_paths_lead_to_the_files_from_a_folder_that_is_a_link(grid, tmp_path):
    real = tmp_path / "far" / "away" / "lists"
    real.mkdir(parents=True)
    (tmp_path / "lists").symlink_to(real)
    out = tmp_path / "lists" / "x.m3u8"
    grid.run("playlist", "model", "--seed", "0-0.mp3", "--length", 2, "--out", out)
    line = next(line for line in out.read_text().split("\n") if line.endswith("0-0.mp3"))
    assert (out.parent / line).samefile(grid.music / "0-0.mp3")


HOSTILE = {
    "#1 hit.mp3": "A\nB\rC\x1b[31m\u2028D\u202e",
    " space/ x.mp3": "EXTVLCOPT:sout=file",
    "http:/x.mp3": "#EXTINF:1,x",
    "naïve – ünïcödé ❤.mp3": "  ",  # noqa: RUF001
    "back\\slash.mp3": None,
    "100%25 a&b;c'd\".mp3": "a",
}


def test_every_name_that_a_line_can_hold_is_read_back(tmp_path):
    library = write_library(tmp_path, {name: At((n / 10, 0), title) for n, (name, title) in enumerate(HOSTILE.items())})
    out = library.music / "all.m3u8"
    library.run("playlist", "model", "--seed", "#1 hit.mp3", "--length", 6, "--out", out)
    assert sorted(play(out)) == sorted(library.music / name for name in HOSTILE)
    lines = out.read_bytes().decode("utf-8").splitlines()  # at every kind of line end
    assert len(lines) == 1 + 3 * 6
    for line in lines[1::3]:
        assert line.startswith("# mirembed: ")
    assert (100, "A B C [31m D") in titles(out)
    assert all(not line.startswith(" ") for line in lines)


def test_names_that_no_line_can_hold_are_left_out_and_counted(tmp_path):
    tracks = {"seed.mp3": At((0, 0)), "a\nb.mp3": At((0.1, 0)), latin1("café.mp3"): At((0.2, 0)), "c.mp3": At((0.3, 0))}
    library = write_library(tmp_path, tracks)
    out = tmp_path / "x.m3u8"
    done = library.run("playlist", "model", "--seed", "seed.mp3", "--length", 2, "--out", out)
    assert play(out) == [library.music / "seed.mp3", library.music / "c.mp3"]
    assert "left out 2 tracks" in done.err
    done = library.run("playlist", "model", "--seed", r"caf\xe9.mp3", "--length", 2, "--out", out, "--force")
    assert len(play(out)) == 1
    assert r"caf\xe9.mp3" in done.err


def test_neighbors_can_be_written_as_a_playlist(grid, tmp_path):
    grid.run("similar", "model", "0-0.mp3", "--top", 2, "--out", tmp_path / "x.m3u8")
    assert set(play(tmp_path / "x.m3u8")) == {grid.music / "0-1.mp3", grid.music / "1-0.mp3"}
