"""Single fields of file tags: the right one of each container, and nothing else of the file changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from audio_files import wav_bytes
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3, TALB, TCON, TDRC, TIT2, TMOO, TORY, TPE1, TXXX, TYER
from mutagen.mp4 import MP4
from mutagen.wave import WAVE
from tagged_files import TYPES, write_sound

from mirembed import read_file_tags
from mirembed.audio.decoding import decode
from mirembed.audio.tag_fields import TagFields, field_name
from mirembed.errors import AudioError, SpecError

VORBIS = {"genre": "GENRE", "mood": "MOOD", "VALENCE": "VALENCE"}
FREE = "----:com.apple.iTunes:"
KEYS = {
    **dict.fromkeys((".flac", ".ogg", ".opus", ".spx"), VORBIS),
    ".m4a": {"genre": "\xa9gen", "mood": f"{FREE}MOOD", "VALENCE": f"{FREE}VALENCE"},
    ".wma": {"genre": "WM/Genre", "mood": "WM/Mood", "VALENCE": "VALENCE"},
    ".ape": {"genre": "Genre", "mood": "Mood", "VALENCE": "VALENCE"},
    **{suffix: {"genre": "TCON", "mood": "TMOO", "VALENCE": "TXXX:VALENCE"} for suffix in (".mp3", ".wav", ".aiff")},
}
HEARD = sorted(set(KEYS) - {".ape", ".spx", ".wma"})
"""Containers whose test files have sound."""


def stored(path: Path) -> dict[str, list[str]]:
    """The fields of a file as mutagen shows them."""
    tags = TYPES[path.suffix](path)
    tags = getattr(tags, "tags", None) or tags
    found = {}
    for key in tags.keys():  # noqa: SIM118
        value = tags[key]
        texts = value.text if hasattr(value, "text") else value
        found[key.upper() if suffix_is_vorbis(path) else key] = [
            text.decode() if isinstance(text, bytes) else str(text) for text in texts
        ]
    return found


def suffix_is_vorbis(path: Path) -> bool:
    return KEYS[path.suffix] is VORBIS


@pytest.mark.parametrize("suffix", sorted(KEYS))
def test_a_field_is_written_where_its_container_has_it(tmp_path, suffix):
    path = write_sound(tmp_path / f"a{suffix}")
    values = {"genre": ["Rock", "Jazz"], "mood": ["calm", "warm"], "VALENCE": ["0.25"]}
    TagFields(path).write(values)
    assert {name: stored(path)[key] for name, key in KEYS[suffix].items()} == values
    assert {name: TagFields(path).get(name) for name in values} == values
    tags = read_file_tags(path)
    assert (tags.genres, tags.moods) == (("Rock", "Jazz"), ("calm", "warm"))


@pytest.mark.parametrize("suffix", sorted(KEYS))
def test_a_field_without_values_is_removed(tmp_path, suffix):
    path = write_sound(tmp_path / f"a{suffix}")
    TagFields(path).write({"genre": ["Rock"], "VALENCE": ["1"], "mood": ["calm"]})
    TagFields(path).write({"genre": [], "VALENCE": []})
    assert {name: TagFields(path).get(name) for name in KEYS[suffix]} == {"genre": [], "mood": ["calm"], "VALENCE": []}
    TagFields(path).write({"genre": []})


@pytest.mark.parametrize("suffix", HEARD)
def test_the_audio_is_unchanged(tmp_path, suffix):
    path = write_sound(tmp_path / f"a{suffix}", seconds=1.0)
    before = decode(path)
    for values in ({"genre": ["Rock"] * 5}, {"genre": ["x" * 5000], "mood": ["calm"]}, {"genre": [], "mood": []}):
        TagFields(path).write(values)
        assert decode(path).audio_hash == before.audio_hash


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT"])
def test_the_audio_of_wav_files_of_any_length_is_unchanged(tmp_path, subtype):
    path = tmp_path / "odd.wav"
    soundfile.write(path, [0.1, -0.2, 0.3] * 3001, 22050, subtype=subtype)  # an odd number of bytes as 8 or 24 bits
    before = decode(path).audio_hash
    TagFields(path).write({"genre": ["Rock"]})
    assert decode(path).audio_hash == before
    assert WAVE(path).tags["TCON"].text == ["Rock"]


def test_id3_of_version_2_3_keeps_its_version_and_takes_a_mood_as_free_text(tmp_path):
    path = write_sound(tmp_path / "a.mp3")
    tags = ID3()
    for frame in (TYER(0, ["1997"]), TORY(0, ["1970"]), TPE1(1, ["Ann", "Bo"]), TXXX(0, "Mood", ["old"])):
        tags.add(frame)
    tags.save(path, v2_version=3, v23_sep=None)
    fields = TagFields(path)
    assert fields.get("mood") == ["old"]
    fields.write({"genre": ["Rock", "Jazz"], "mood": ["calm"]})
    after = ID3(path, translate=False)
    assert after.version == (2, 3, 0)
    assert {key: after[key].text for key in ("TYER", "TORY", "TPE1", "TCON", "TXXX:Mood")} == {
        "TYER": ["1997"],
        "TORY": ["1970"],
        "TPE1": ["Ann", "Bo"],
        "TCON": ["Rock/Jazz"],
        "TXXX:Mood": ["calm"],
    }
    assert "TMOO" not in after
    assert "TDRC" not in after
    assert read_file_tags(path).genres == ("Rock", "Jazz")


def test_id3_of_version_2_4_keeps_its_frames(tmp_path):
    path = write_sound(tmp_path / "a.mp3")
    tags = ID3()
    for frame in (TDRC(3, ["1997-05-20"]), TIT2(3, ["Cafe\u0301"]), TMOO(3, ["old"]), TXXX(3, "mood", ["other"])):
        tags.add(frame)
    tags.save(path)
    assert TagFields(path).get("mood") == ["old", "other"]
    TagFields(path).write({"mood": ["calm"]})
    after = ID3(path, translate=False)
    assert after.version == (2, 4, 0)
    assert sorted(after.keys()) == ["TDRC", "TIT2", "TMOO"]
    assert (after["TMOO"].text, after["TIT2"].text, str(after["TDRC"].text[0])) == (
        ["calm"],
        ["Cafe\u0301"],
        "1997-05-20",
    )


def test_an_old_tag_at_the_end_of_an_mp3_stays_to_the_byte(tmp_path):
    path = write_sound(tmp_path / "a.mp3")
    old = b"TAG" + "Кино".encode("cp1251").ljust(30, b"\0") + bytes(94) + b"\xff"
    path.write_bytes(path.read_bytes() + old)
    TagFields(path).write({"genre": ["Rock"]})
    assert path.read_bytes()[-128:] == old
    assert ID3(path)["TCON"].text == ["Rock"]


def test_tags_of_another_kind_in_the_same_file_stay(tmp_path):
    path = write_sound(tmp_path / "a.mp3")
    items = APEv2()
    items["Title"] = "Ten"
    items.save(path)
    TagFields(path).write({"genre": ["Rock"]})
    assert (APEv2(path)["Title"], ID3(path)["TCON"].text) == ("Ten", ["Rock"])


def test_names_of_fields_are_found_whatever_their_case(tmp_path):
    path = write_sound(tmp_path / "a.m4a")
    file = MP4(path)
    file[f"{FREE}Mood"] = [b"old"]
    file.save()
    assert TagFields(path).get("mood") == ["old"]
    TagFields(path).write({"mood": ["calm"]})
    assert [key for key in MP4(path) if key.lower().endswith("mood")] == [f"{FREE}Mood"]


def test_texts_of_any_script_are_shown(tmp_path):
    for suffix in KEYS:
        path = write_sound(tmp_path / f"a{suffix}")
        TagFields(path).write({"genre": ["ロック", "=1+1", "<b>"], "VALENCE": ["-1 \u202edesrever"]})
        assert TagFields(path).get("genre") == ["ロック", "=1+1", "<b>"]
        assert TagFields(path).get("VALENCE") == ["-1 \u202edesrever"]


@pytest.mark.parametrize("name", ["a.au", "a.txt", "empty.mp3"])
def test_a_file_that_cannot_have_tags_is_refused_and_unchanged(tmp_path, name):
    path = tmp_path / name
    if name == "a.au":
        soundfile.write(path, [0.0] * 1000, 22050)
    else:
        path.write_bytes(b"words" if name == "a.txt" else b"")
    before = path.read_bytes()
    with pytest.raises(AudioError):
        TagFields(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("stated", [2**32 - 1, 0, 40_000])
def test_a_wav_file_with_a_wrong_header_is_refused_and_unchanged(tmp_path, stated):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(bytes(32_000), stated=stated)[:-100])
    before = path.read_bytes()
    with pytest.raises(AudioError, match=str(len(before))):
        TagFields(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "name"),
    [("Genre", "genre"), ("MOOD", "mood"), ("valence", "VALENCE"), ("my field (new)", "MY_FIELD_NEW")],
)
def test_a_field_name_is_valid_in_every_container(text, name):
    assert field_name(text) == name


@pytest.mark.parametrize("text", ["artist", "Title", "date", "replaygain_track_gain", "?", "é", ""])
def test_a_field_name_with_another_meaning_is_refused(text):
    with pytest.raises(SpecError):
        field_name(text)


def test_damaged_tags_are_refused_and_nothing_is_written(tmp_path):
    path = write_sound(tmp_path / "a.flac")
    path.write_bytes(path.read_bytes()[:60])
    before = path.read_bytes()
    with pytest.raises(AudioError):
        TagFields(path).write({"genre": ["Rock"]})
    assert path.read_bytes() == before


def test_pictures_and_albums_of_aiff_stay(tmp_path):
    path = write_sound(tmp_path / "a.aiff")
    file = AIFF(path)
    file.add_tags()
    file.tags.add(TALB(3, ["Ten"]))
    file.tags.add(TCON(3, ["(17)"]))
    file.save()
    assert TagFields(path).get("genre") == ["(17)"]
    TagFields(path).write({"mood": ["calm"]})
    assert (AIFF(path).tags["TALB"].text, TagFields(path).get("genre")) == (["Ten"], ["(17)"])
