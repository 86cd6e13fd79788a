"""Reading playlists as players of all systems write them, and finding their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirembed import DatasetError, PlaylistEntry, find_playlists, playlist_matcher, read_playlist

XSPF = """<?xml version="1.0" encoding="UTF-8"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>{}</trackList></playlist>"""


def entries(folder: Path, content: str | bytes, name: str = "mix.m3u8") -> list[PlaylistEntry]:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_playlist(path)


def paths(folder: Path, content: str | bytes, name: str = "mix.m3u8") -> list[str | None]:
    """Return the paths in a playlist, those in its folder relative to it."""
    found = [entry.path for entry in entries(folder, content, name)]
    return [None if path is None else str(path).removeprefix(f"{folder}/") for path in found]


class TestM3U:
    def test_lines_are_paths_and_comments_may_have_titles(self, tmp_path: Path) -> None:
        text = '#EXTM3U\n#EXTINF:123,Ann - One, two\na/1.mp3\n\n# other\nb/2.mp3\n#EXTINF:-1 x="y",Café\n/c/3.mp3\n'
        assert entries(tmp_path, text) == [
            PlaylistEntry("a/1.mp3", tmp_path / "a/1.mp3", "Ann - One, two"),
            PlaylistEntry("b/2.mp3", tmp_path / "b/2.mp3"),
            PlaylistEntry("/c/3.mp3", Path("/c/3.mp3"), "Café"),
        ]

    @pytest.mark.parametrize(
        "content",
        [
            "Café.mp3\nb.mp3\n".encode("utf-8-sig"),
            "Café.mp3\r\nb.mp3\r\n".encode(),
            "Café.mp3\rb.mp3\r".encode(),
            "Café.mp3\r\nb.mp3".encode("cp1252"),
            "Café.mp3\nb.mp3".encode("utf-16"),
        ],
        ids=["mark", "CRLF", "CR", "cp1252", "UTF-16"],
    )
    @pytest.mark.parametrize("name", ["mix.m3u", "mix.m3u8", "mix.M3U"])
    def test_encodings_and_line_ends_do_not_matter(self, tmp_path: Path, content: bytes, name: str) -> None:
        assert paths(tmp_path, content, name) == ["Café.mp3", "b.mp3"]

    def test_a_file_whose_name_is_not_valid_text_is_found(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"caf\xe9.mp3")).touch()
        assert paths(tmp_path, b"caf\xe9.mp3\n") == [os.fsdecode(b"caf\xe9.mp3")]

    @pytest.mark.parametrize(
        ("line", "path"),
        [
            (r"a\b.mp3", "a/b.mp3"),
            (r"C:\Music\a\b.mp3", "/C:/Music/a/b.mp3"),
            ("C:/Music/a/b.mp3", "/C:/Music/a/b.mp3"),
            (r"\Music\b.mp3", "/Music/b.mp3"),
            ("./a/../b.mp3", "b.mp3"),
            ("file:///Music/Caf%C3%A9%20%23.mp3", "/Music/Café #.mp3"),
            ("file://localhost/Music/b.mp3", "/Music/b.mp3"),
            ("file:///C:/Music/b.mp3", "/C:/Music/b.mp3"),
            ("FILE:///b.mp3", "/b.mp3"),
            ("100%25.mp3", "100%25.mp3"),
            ("http://radio.example/stream", None),
            ("spotify://track", None),
        ],
    )
    def test_paths_of_every_kind(self, tmp_path: Path, line: str, path: str | None) -> None:
        assert paths(tmp_path, f"{line}\n") == [path]

    def test_a_backslash_in_an_existing_name_does_not_separate_folders(self, tmp_path: Path) -> None:
        (tmp_path / r"a\b.mp3").touch()
        assert paths(tmp_path, "a\\b.mp3\n") == [r"a\b.mp3"]


def test_pls_has_numbered_files_and_titles(tmp_path: Path) -> None:
    text = "[playlist]\r\nFile2=b.mp3\r\nTitle2=B\r\nfile1 = a.mp3\r\nFile10=http://x.example/\r\nNumberOfEntries=3\r\n"
    assert entries(tmp_path, text, "mix.pls") == [
        PlaylistEntry("a.mp3", tmp_path / "a.mp3"),
        PlaylistEntry("b.mp3", tmp_path / "b.mp3", "B"),
        PlaylistEntry("http://x.example/", None),
    ]


def test_xspf_has_urls(tmp_path: Path) -> None:
    tracks = (
        "<track><location>file:///Music/Caf%C3%A9.mp3</location><title>Caf&#233; &lt;b&gt;</title></track>"
        "<track><location>a%20b/c.mp3</location></track>"
        "<track><location>https://x.example/a.mp3</location></track>"
        "<track><title>nowhere</title></track>"
    )
    assert [(one.path, one.title) for one in entries(tmp_path, XSPF.format(tracks), "mix.xspf")] == [
        (Path("/Music/Café.mp3"), "Café <b>"),
        (tmp_path / "a b/c.mp3", None),
        (None, None),
    ]


def test_xspf_does_not_read_other_files_or_expand_without_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    entities = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{tmp_path}/secret">]>'
    text = XSPF.format("<track><location>&e;</location></track>").replace("?>", f"?>{entities}", 1)
    with pytest.raises(DatasetError):
        entries(tmp_path, text, "mix.xspf")
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]>'
    with pytest.raises(DatasetError):
        entries(
            tmp_path, XSPF.format("<track><location>&l9;</location></track>").replace("?>", f"?>{bomb}", 1), "b.xspf"
        )


@pytest.mark.parametrize("name", ["text.txt", "nothing.m3u", "folder.m3u", "bad.xspf", "pipe.m3u"])
def test_a_file_that_is_not_a_playlist_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.m3u").mkdir()
    os.mkfifo(tmp_path / "pipe.m3u")
    (tmp_path / "bad.xspf").write_text("<playlist>")
    (tmp_path / "text.txt").write_text("a.mp3")
    with pytest.raises(DatasetError, match=name):
        read_playlist(tmp_path / name)


@pytest.mark.parametrize("suffix", [".m3u", ".pls", ".xspf"])
@given(content=st.binary() | st.text().map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    for whole in (content, b"[playlist]\nFile1=" + content, XSPF.encode().replace(b"{}", b"<track>" + content)):
        try:
            found = entries(tmp_path, whole, f"mix{suffix}")
        except DatasetError:
            continue
        for entry in found:
            assert entry.path is None or entry.path.is_absolute()
            assert entry.location.encode()
            assert entry.title is None or entry.title.encode()


def test_playlists_are_found_at_any_depth_but_not_hidden_ones(tmp_path: Path) -> None:
    for name in ("a.m3u", "b/c/d.PLS", "b/e.txt", ".trash/f.m3u", "b/._a.m3u"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_playlists(tmp_path) == [tmp_path / "a.m3u", tmp_path / "b/c/d.PLS"]


class TestMatching:
    FILES = ("/music/Ann/Ten/1 One.mp3", "/music/Ann/Two/1 One.mp3", "/music/Björk/Café.flac", "/music/loose.mp3")

    @pytest.mark.parametrize(
        ("path", "file"),
        [
            ("/music/Ann/Ten/1 One.mp3", 0),
            ("/C:/Users/me/Music/Ann/Two/1 One.mp3", 1),
            ("/old/music/ANN/two/1 one.MP3", 1),
            ("/old/Bjo\u0308rk/Cafe\u0301.flac", 2),
            ("/other/Ann/1 One.mp3", None),
            ("/other/loose.mp3", None),
            ("/old/music/loose.mp3", 3),
            ("/gone.mp3", None),
            (None, None),
        ],
    )
    def test_an_entry_is_found_after_the_library_has_moved(self, path: str | None, file: int | None) -> None:
        match = playlist_matcher([Path(name) for name in self.FILES])
        found = match(PlaylistEntry("", None if path is None else Path(path)))
        assert found == (None if file is None else Path(self.FILES[file]))

    def test_equal_ends_match_nothing(self) -> None:
        match = playlist_matcher([Path("/a/x/1.mp3"), Path("/b/x/1.mp3")])
        assert match(PlaylistEntry("", Path("/c/x/1.mp3"))) is None

    def test_links_to_the_folder_do_not_matter(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        (tmp_path / "real" / "1.mp3").touch()
        match = playlist_matcher([tmp_path / "link" / "1.mp3"])
        assert match(PlaylistEntry("", tmp_path / "real" / "1.mp3")) == tmp_path / "link" / "1.mp3"
