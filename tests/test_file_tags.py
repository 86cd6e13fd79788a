"""What audio files say about themselves: every container, several values, other encodings, damage."""

from __future__ import annotations

import os
import struct
import tracemalloc
import unicodedata
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.apev2 import APEv2
from mutagen.id3 import (
    ID3,
    POPM,
    TALB,
    TCON,
    TDRC,
    TIT2,
    TMOO,
    TPE1,
    TPE2,
    TPOS,
    TRCK,
    TXXX,
    TYER,
)
from mutagen.mp4 import MP4FreeForm
from tagged_files import TYPES, tagged, write_sound

from mirembed import FileTags, read_file_tags

COMMENTS = {
    "title": "Anti-Hero",
    "artist": ["Ann", "Björk"],
    "album": "Ten",
    "albumartist": "Ann",
    "genre": ["Rock", "Jazz"],
    "mood": ["calm", "warm"],
    "date": "1997-05-20",
    "rating": "80",
    "tracknumber": "3/12",
    "discnumber": "2",
}
ITEMS = {
    "Title": "Anti-Hero",
    "Artist": ["Ann", "Björk"],
    "Album": "Ten",
    "Album Artist": "Ann",
    "Genre": ["Rock", "Jazz"],
    "Mood": ["calm", "warm"],
    "Year": "1997",
    "Rating": "4",
    "Track": "3/12",
    "Disc": "2/2",
}
FRAMES = {
    frame.FrameID: frame
    for frame in (
        TIT2(3, ["Anti-Hero"]),
        TPE1(3, ["Ann", "Björk"]),
        TPE2(3, ["Ann"]),
        TALB(3, ["Ten"]),
        TCON(3, ["Rock", "Jazz"]),
        TMOO(3, ["calm", "warm"]),
        TDRC(3, ["1997-05-20"]),
        POPM("a@b", 196, 0),
        TRCK(3, ["3/12"]),
        TPOS(3, ["2/2"]),
    )
}
ATOMS = {
    "\xa9nam": ["Anti-Hero"],
    "\xa9ART": ["Ann", "Björk"],
    "\xa9alb": ["Ten"],
    "aART": ["Ann"],
    "\xa9gen": ["Rock", "Jazz"],
    "\xa9day": ["1997-05-20T07:00:00Z"],
    "trkn": [(3, 12)],
    "disk": [(2, 2)],
    "----:com.apple.iTunes:MOOD": [MP4FreeForm(b"calm"), MP4FreeForm(b"warm")],
    "----:com.apple.iTunes:RATING": [MP4FreeForm(b"80")],
}
ATTRIBUTES = {
    "Title": "Anti-Hero",
    "Author": ["Ann", "Björk"],
    "WM/AlbumTitle": "Ten",
    "WM/AlbumArtist": "Ann",
    "WM/Genre": ["Rock", "Jazz"],
    "WM/Mood": ["calm", "warm"],
    "WM/Year": "1997",
    "WM/SharedUserRating": 75,
    "WM/TrackNumber": "3",
    "WM/PartOfSet": "2/2",
}
VALUES = {
    **dict.fromkeys((".flac", ".ogg", ".opus", ".spx"), COMMENTS),
    **dict.fromkeys((".mp3", ".wav", ".aiff"), FRAMES),
    **{".ape": ITEMS, ".m4a": ATOMS, ".wma": ATTRIBUTES},
}
EXPECTED = FileTags(
    title="Anti-Hero",
    artists=("Ann", "Björk"),
    album="Ten",
    album_artist="Ann",
    genres=("Rock", "Jazz"),
    moods=("calm", "warm"),
    year=1997,
    rating=0.8,
    track=3,
    disc=2,
)


def of_frames(tmp_path: Path, *frames: object, version: int = 4, v1: int = 0) -> FileTags:
    """Return the file tags of an MP3 with these frames of ID3v2.``version``."""
    path = write_sound(tmp_path / "a.mp3")
    tags = ID3()
    for frame in frames:
        tags.add(frame)
    if version == 3:
        tags.update_to_v23()
    tags.save(path, v1=v1, v2_version=version)
    return read_file_tags(path)


def of_comments(tmp_path: Path, **comments: object) -> FileTags:
    return read_file_tags(tagged(tmp_path / "a.flac", **comments))


@pytest.mark.parametrize("suffix", sorted(VALUES))
def test_every_container_is_read(tmp_path: Path, suffix: str) -> None:
    assert set(VALUES) == set(TYPES)
    assert read_file_tags(tagged(tmp_path / f"a{suffix}", **VALUES[suffix])) == EXPECTED


@pytest.mark.parametrize("suffix", sorted(VALUES))
def test_a_file_without_tags_has_none(tmp_path: Path, suffix: str) -> None:
    assert read_file_tags(write_sound(tmp_path / f"a{suffix}")) == FileTags()


def test_a_file_that_is_not_audio_has_no_tags(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "text.mp3").write_text("TAG ID3 fLaC OggS")
    for name in ("pipe.mp3", "folder.mp3", "text.mp3", "nothing.mp3"):
        assert read_file_tags(tmp_path / name) == FileTags()


def test_a_file_name_need_not_be_valid_text(tmp_path: Path) -> None:
    path = tagged(tmp_path / "a.flac", title="One")
    renamed = path.rename(tmp_path / os.fsdecode(b"caf\xe9.flac"))
    assert read_file_tags(renamed).title == "One"


def test_the_artist_is_the_first_one_or_that_of_the_album() -> None:
    assert FileTags(artists=("a", "b"), album_artist="c").artist == "a"
    assert FileTags(album_artist="c").artist == "c"
    assert FileTags().artist is None


class TestID3:
    def test_version_2_3_has_other_frames(self, tmp_path: Path) -> None:
        frames = (TIT2(1, ["One"]), TYER(0, ["1997"]), TXXX(1, "MOOD", ["calm"]), TXXX(1, "Rating", ["4"]))
        assert of_frames(tmp_path, *frames, version=3) == FileTags(title="One", year=1997, moods=("calm",), rating=0.8)

    def test_version_2_2_has_shorter_names(self, tmp_path: Path) -> None:
        def frame(name: bytes, text: bytes) -> bytes:
            return name + len(b"\0" + text).to_bytes(3, "big") + b"\0" + text

        frames = [(b"TT2", b"One"), (b"TP1", b"Ann"), (b"TAL", b"Ten"), (b"TCO", b"(17)"), (b"TYE", b"1997")]
        body = b"".join(frame(*one) for one in [*frames, (b"TRK", b"3/12"), (b"TPA", b"2")])
        size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
        path = write_sound(tmp_path / "a.mp3")
        path.write_bytes(b"ID3\x02\0\0" + size + body + path.read_bytes())
        assert read_file_tags(path) == FileTags("One", ("Ann",), "Ten", None, ("Rock",), (), 1997, None, 3, 2)

    def test_id3_version_1_is_read_where_version_2_has_nothing(self, tmp_path: Path) -> None:
        tag = b"TAG" + b"One".ljust(30, b"\0") + b"Ann".ljust(30) + b"Ten".ljust(30, b"\0") + b"1997"
        path = write_sound(tmp_path / "a.mp3")
        path.write_bytes(path.read_bytes() + tag + bytes(28) + b"\0\x05" + bytes([8]))
        assert read_file_tags(path) == FileTags("One", ("Ann",), "Ten", None, ("Jazz",), (), 1997, None, 5)
        tags = ID3()
        tags.add(TIT2(3, ["Another, longer title"]))
        tags.save(path, v1=1)
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(b"TAG")] + tag + bytes(30) + b"\xff")
        assert read_file_tags(path) == FileTags("Another, longer title", ("Ann",), "Ten", year=1997)

    @pytest.mark.parametrize(
        ("texts", "genres"),
        [
            (["(17)"], ("Rock",)),
            (["17"], ("Rock",)),
            (["(17)(8)"], ("Rock", "Jazz")),
            (["(17)Rock"], ("Rock",)),
            (["(4)Eurodisco"], ("Disco", "Eurodisco")),
            (["Rock/Jazz"], ("Rock", "Jazz")),
            (["Rock; Jazz"], ("Rock", "Jazz")),
            (["Rock", "17", "rock"], ("Rock",)),
            (["(255)"], ()),
            (["R&B"], ("R&B",)),
        ],
    )
    @pytest.mark.parametrize("version", [3, 4])
    def test_genres_may_be_numbers_or_lists(
        self, tmp_path: Path, texts: list[str], genres: tuple[str, ...], version: int
    ) -> None:
        assert of_frames(tmp_path, TCON(3, texts), version=version).genres == genres

    @pytest.mark.parametrize(("value", "rating"), [(0, None), (1, 0.2), (64, 0.4), (128, 0.6), (196, 0.8), (255, 1)])
    def test_ratings_are_those_that_players_show(self, tmp_path: Path, value: int, rating: float | None) -> None:
        assert of_frames(tmp_path, POPM("Windows Media Player 9 Series", value, 0)).rating == rating

    def test_the_list_of_artists_takes_precedence_over_the_credit(self, tmp_path: Path) -> None:
        frames = (TPE1(3, ["Ann feat. Bob"]), TXXX(3, "ARTISTS", ["Ann", "Bob"]))
        assert of_frames(tmp_path, *frames).artists == ("Ann", "Bob")

    def test_a_text_that_expands_to_hundreds_of_megabytes_is_left_out(self, tmp_path: Path) -> None:
        def size(number: int) -> bytes:
            return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))

        def frame(name: bytes, text: bytes, length: int) -> bytes:
            content = size(length) + text
            return name + size(len(content)) + b"\x00\x09" + content  # compressed, with the length before

        bomb = zlib.compress(b"\0" + bytes(100_000_000), 9)
        small = zlib.compress(b"\3One")
        body = frame(b"TIT2", small, 4) + frame(b"TALB", bomb, 100_000_001)
        path = tmp_path / "a.mp3"
        path.write_bytes(b"ID3\x04\0\0" + size(len(body)) + body)
        tracemalloc.start()
        try:
            assert read_file_tags(path) == FileTags(title="One")
            assert tracemalloc.get_traced_memory()[1] < 50e6
        finally:
            tracemalloc.stop()

    def test_apev2_adds_what_id3_lacks(self, tmp_path: Path) -> None:
        path = tagged(tmp_path / "a.mp3", one=TIT2(3, ["One"]))
        tags = APEv2()
        tags["Title"], tags["Genre"] = "Two", "Rock"
        tags.save(path)
        assert read_file_tags(path) == FileTags(title="One", genres=("Rock",))

    def test_vorbis_comments_take_precedence_over_id3_in_flac(self, tmp_path: Path) -> None:
        path = tagged(tmp_path / "a.flac", title="Flac")
        tags = ID3()
        tags.add(TIT2(3, ["Id3"]))
        tags.add(TALB(3, ["Ten"]))
        tags.save(path)
        assert read_file_tags(path) == FileTags(title="Flac", album="Ten")


class TestText:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("Motörhead".encode("latin-1"), "Motörhead"),
            ("Björk".encode(), "Björk"),
            ("Кино".encode("cp1251"), "Кино"),
            ("DJ Грув".encode("cp1251"), "DJ Грув"),
            ("Don\u2019t".encode("cp1252"), "Don\u2019t"),
            ("椎名林檎".encode(), "椎名林檎"),
        ],
    )
    def test_mislabeled_latin_1_is_decoded_in_its_real_encoding(
        self, tmp_path: Path, content: bytes, text: str
    ) -> None:
        assert of_frames(tmp_path, TIT2(0, [content.decode("latin-1")])).title == text

    def test_what_cannot_be_decoded_is_kept_as_far_as_it_is_readable(self, tmp_path: Path) -> None:
        path = tagged(tmp_path / "a.flac", title="Xaver Y", artist="Ann")
        path.write_bytes(path.read_bytes().replace(b"Xaver", b"Xav\xe9r"))
        assert read_file_tags(path) == FileTags(title="Xav\ufffdr Y", artists=("Ann",))

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("  One ", "One"),
            ("Cafe\u0301", "Café"),
            ("one\r\ntwo", "one two"),
            ("\x1b[31mred\x07", "[31mred"),
            ("\u202egpj.exe\u2066", "gpj.exe"),
            ("<script>alert(1)</script>", "<script>alert(1)</script>"),
            ("=HYPERLINK(1)", "=HYPERLINK(1)"),
            ("שלום", "שלום"),
            (" \x00 ", None),
            ("a" * 5000, "a" * 1000),
        ],
    )
    def test_text_is_normalized_and_without_control_characters(
        self, tmp_path: Path, written: str, read: str | None
    ) -> None:
        assert of_comments(tmp_path, title=written).title == read

    @given(st.text())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
    def test_any_text_can_be_stored(self, tmp_path: Path, text: str) -> None:
        found = of_comments(tmp_path, title=text.encode("utf-8", "replace").decode()).title
        assert found is None or (found.encode() and unicodedata.is_normalized("NFC", found) and found == found.strip())
        assert not any(unicodedata.category(one) in ("Cc", "Cs") for one in found or "")

    @pytest.mark.parametrize(
        ("written", "artists"),
        [
            (["AC/DC"], ("AC/DC",)),
            (["Ann; Bob"], ("Ann", "Bob")),
            (["Ann / Bob"], ("Ann", "Bob")),
            (["Ann", "ann", "Bob"], ("Ann", "Bob")),
        ],
    )
    def test_artists_are_separated(self, tmp_path: Path, written: list[str], artists: tuple[str, ...]) -> None:
        assert of_comments(tmp_path, artist=written).artists == artists

    @pytest.mark.parametrize(("name", "value"), [("ALBUM ARTIST", "Ann"), ("AlbumArtist", "Ann")])
    def test_names_of_comments_are_in_any_case(self, tmp_path: Path, name: str, value: str) -> None:
        assert of_comments(tmp_path, **{name: value}).album_artist == value


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("1997", 1997),
        ("1997-05-20", 1997),
        ("19970520", 1997),
        ("20.5.1997", 1997),
        ("97", None),
        ("0000", None),
        ("unknown", None),
    ],
)
def test_the_year_is_that_of_a_date(tmp_path: Path, date: str, year: int | None) -> None:
    assert of_comments(tmp_path, date=date).year == year


def test_the_original_date_stands_in_for_the_date(tmp_path: Path) -> None:
    assert of_comments(tmp_path, originaldate="1969").year == 1969
    assert of_comments(tmp_path, originaldate="1969", date="2009").year == 2009


@pytest.mark.parametrize(
    ("name", "value", "rating"),
    [
        ("rating", "0.8", 0.8),
        ("rating", "4", 0.8),
        ("rating", "80", 0.8),
        ("rating", "100", 1.0),
        ("rating", "196", 0.8),
        ("rating", "0", None),
        ("rating", "good", None),
        ("rating", "-1", None),
        ("rating", "1000", None),
        ("fmps_rating", "1", 1.0),
    ],
)
def test_a_rating_is_from_0_to_1_whatever_its_scale(
    tmp_path: Path, name: str, value: str, rating: float | None
) -> None:
    assert of_comments(tmp_path, **{name: value}).rating == rating


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def test_the_info_list_of_a_wav_is_read(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav")
    texts = {
        b"INAM": b"Caf\xe9\0",
        b"IART": b"Ann",
        b"IPRD": b"Ten",
        b"IGNR": b"Rock",
        b"ICRD": b"1997-05-20",
        b"ITRK": b"3",
    }
    info = chunk(b"LIST", b"INFO" + b"".join(chunk(name, text) for name, text in texts.items()))
    path.write_bytes(path.read_bytes() + info)
    assert read_file_tags(path) == FileTags("Café", ("Ann",), "Ten", None, ("Rock",), (), 1997, None, 3)
    cut = path.read_bytes()[: -len(info) + 40]
    path.write_bytes(cut)
    assert read_file_tags(path).title == "Café"


def test_an_aiff_has_a_name_and_an_author(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.aiff")
    path.write_bytes(path.read_bytes() + chunk(b"NAME", b"One", ">") + chunk(b"AUTH", b"Ann", ">"))
    assert read_file_tags(path) == FileTags(title="One", artists=("Ann",))


@pytest.mark.parametrize("suffix", sorted(VALUES))
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_damaged_tags_never_raise(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"a{suffix}"
    content = bytearray(tagged(path, **VALUES[suffix]).read_bytes())
    # Most tags are near the beginning or the end.
    near = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(near, min_size=1, max_size=8)):
        content[place % len(content)] = data.draw(st.integers(0, 255))
    size = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    path.write_bytes(content[:size])
    found = read_file_tags(path)
    assert isinstance(found, FileTags)
    for text in (found.title, found.album, *found.artists, *found.genres):
        assert text is None or (text and text.encode() and len(text) <= 1000)
