"""What headers state, what files have room for and what was decoded agree, or a failure says all that is known."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import loud_then_quiet, mp4_bytes, music, wav_bytes, write_mp3
from test_audio import run_python

from mirembed.audio.decoding import decode
from mirembed.audio.files import default_timeout, file_stamp
from mirembed.audio.headers import read_header, riff
from mirembed.audio.headers.blocks import wavpack_header
from mirembed.audio.headers.flac import flac_header
from mirembed.errors import AudioError

RATE = 44_100
SECONDS = 4
FORMATS = {
    "a.wav": ("WAV", "PCM_16"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}
SIZES = {
    "a.wav": (b"data", 4, "<I", 0),
    "a.rf64": (b"ds64", 16, "<Q", 0),
    "a.w64": (b"data", 16, "<Q", 24),
    "a.aiff": (b"SSND", 4, ">I", 8),
    "a.au": (b".snd", 8, ">I", 0),
    "a.caf": (b"data", 4, ">q", 4),
}
"""Where the size of the samples stands, how it is packed, and the bytes that it counts beside them."""

ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
LENGTHS = re.compile(
    r"(?:(?P<by>.*?) states (?P<stated>[\d.]+) s, )?(?:the file has room for (?P<room>[\d.]+) s, )?"
    r"but (?P<decoded>[\d.]+) s were decoded"
)


def written(name: str, seconds: float = SECONDS, rate: int = RATE, channels: int = 2) -> bytes:
    """Return the bytes of a file of a format."""
    container, codec = FORMATS[name]
    rate = 48_000 if codec == "OPUS" else rate
    samples = np.stack([music(seconds, rate)] * channels, axis=1)
    with tempfile.NamedTemporaryFile() as file:
        soundfile.write(file.name, samples, rate, format=container, subtype=codec)
        return Path(file.name).read_bytes()


def with_size(name: str, size: int, data: bytes | None = None) -> bytes:
    """Return a file whose header states another size of its samples in bytes."""
    mark, offset, code, more = SIZES[name]
    changed = bytearray(data or written(name))
    at = changed.index(mark) + offset
    changed[at : at + struct.calcsize(code)] = struct.pack(code, size + more)
    return bytes(changed)


def flac_with_total(total: int) -> bytes:
    data = bytearray(written("a.flac"))
    data[21] = data[21] & 0xF0 | total >> 32
    data[22:26] = struct.pack(">I", total % 2**32)
    return bytes(data)


def ogg_checksum(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def without_end_flag(data: bytes) -> bytes:
    changed = bytearray(data)
    at = changed.rfind(b"OggS\0")
    changed[at + 5] &= ~4
    changed[at + 22 : at + 26] = bytes(4)
    changed[at + 22 : at + 26] = struct.pack("<I", ogg_checksum(changed[at:]))
    return bytes(changed)


def mp3(
    tmp_path: Path, seconds: float = SECONDS, rate: int = RATE, *, mono: bool = False, header: bool = False
) -> bytes:
    samples = loud_then_quiet(seconds, rate)
    return write_mp3(
        tmp_path / "raw.mp3", samples[:, :1] if mono else samples, rate, "CONSTANT", header=header
    ).read_bytes()


def put(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def failure(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        decode(path)
    return str(caught.value)


def lengths(path: Path) -> tuple[float, float, float]:
    """Return the stated length, the room and the decoded length that the failure of a file gives; 0 if not given."""
    found = LENGTHS.search(failure(path))
    assert found, failure(path)
    return tuple(float(found[name] or 0) for name in ("stated", "room", "decoded"))


# Sizes of chunks


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("stated", [1, 3])
def test_an_outdated_size_is_refused_with_all_three_lengths(tmp_path, name, stated):
    found = lengths(put(tmp_path, name, with_size(name, 4 * RATE * stated)))
    assert found[:2] == pytest.approx((stated, SECONDS), abs=0.01)
    assert any(found[2] == pytest.approx(length, abs=0.01) for length in (stated, SECONDS))


@pytest.mark.parametrize("name", SIZES)
def test_a_size_beyond_the_end_of_the_file_is_refused_with_all_three_lengths(tmp_path, name):
    assert lengths(put(tmp_path, name, with_size(name, 4 * RATE * 60))) == pytest.approx(
        (60, SECONDS, SECONDS), abs=0.01
    )


@pytest.mark.parametrize("name", SIZES)
def test_an_unfinished_recording_without_a_size_is_read_to_its_end_with_a_note(tmp_path, name):
    whole = decode(put(tmp_path, name, written(name)))
    sound = decode(put(tmp_path, name, with_size(name, 0)))
    assert sound.audio_hash == whole.audio_hash
    assert whole.notes == ()
    if name != "a.aiff":  # its chunk COMM states the length too
        assert "states no length" in sound.notes[0]


def test_a_wav_past_4_gib_whose_size_wrapped_is_read_to_its_end(tmp_path):
    path = put(tmp_path, "a.wav", with_size("a.wav", 4 * RATE, written("a.wav")))
    with path.open("r+b") as file:
        file.truncate(2**32 + 44 + 4 * RATE)
    header = read_header(path)
    assert header.stated == header.room == 2**32 / 4 / RATE + 1
    assert "4 GiB" in header.notes[0]
    assert [part.start - before.end for before, part in itertools.pairwise(header.parts)] == [0, 0]
    assert (header.parts[0].start, header.parts[-1].end) == (44, path.stat().st_size)


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_samples_that_do_not_fit_the_sizes_of_a_wav_are_read_in_pieces(tmp_path, monkeypatch, endian):
    soundfile.write(tmp_path / "a.wav", loud_then_quiet(2, RATE), RATE, format="WAV", endian=endian)
    whole = decode(tmp_path / "a.wav")
    monkeypatch.setattr(riff, "_LARGEST", 100_001)
    assert len(read_header(tmp_path / "a.wav").parts) == 8
    assert decode(tmp_path / "a.wav").audio_hash == whole.audio_hash


def test_a_wav_past_4_gib_of_another_size_is_refused_at_once(tmp_path):
    path = put(tmp_path, "a.wav", with_size("a.wav", 4 * RATE, written("a.wav")))
    with path.open("r+b") as file:
        file.truncate(2**32 + 44 + 8 * RATE)
    assert lengths(path) == pytest.approx((1, (2**32 / 4 + 2 * RATE) / RATE, 1), abs=0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_tags_at_both_ends_do_not_change_the_length(tmp_path, name):
    data = written(name)
    whole = decode(put(tmp_path, name, data))
    assert decode(put(tmp_path, name, data + ID3V1)).audio_hash == whole.audio_hash
    tag = b"ID3\x03\0\0\0\0\x07\x76" + b"TIT2\0\0\0\x06\0\0\0title" + bytes(1014 - 16)
    assert decode(put(tmp_path, name, tag + data)).audio_hash == whole.audio_hash


@pytest.mark.parametrize("name", ["a.wav", "a.rf64", "a.w64", "a.aiff", "a.au", "a.caf"])
def test_a_second_file_after_the_first_is_not_ignored_silently(tmp_path, name):
    stated, room, _ = lengths(put(tmp_path, name, written(name) * 2))
    assert (stated, room) == pytest.approx((SECONDS, 2 * SECONDS), abs=0.01)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_joined_files_of_one_kind_are_read_to_the_end(tmp_path, name):
    one = decode(put(tmp_path, name, written(name)))
    both = decode(put(tmp_path, name, written(name) * 2))
    assert both.n_samples == pytest.approx(2 * one.n_samples, abs=4 * 1152)
    np.testing.assert_allclose(both.samples[: one.n_samples - 2000], one.samples[:-2000], atol=1e-4)


def test_chunks_after_the_samples_are_not_read_as_samples(tmp_path):
    for more in (b"LIST" + struct.pack("<I", 50_000) + bytes(50_000), b"ABCD" + struct.pack("<I", 4) + b"more"):
        assert decode(put(tmp_path, "a.wav", written("a.wav") + more)).notes == ()


# FLAC


def test_a_flac_whose_header_states_too_few_samples_is_refused_with_all_three_lengths(tmp_path):
    assert lengths(put(tmp_path, "a.flac", flac_with_total(RATE))) == pytest.approx((1, SECONDS, 1), abs=0.01)


def test_a_flac_whose_header_states_too_many_samples_is_refused_with_all_three_lengths(tmp_path):
    found = lengths(put(tmp_path, "a.flac", flac_with_total(10**9)))
    assert found == pytest.approx((10**9 / RATE, SECONDS, SECONDS), abs=0.1)


def test_a_second_flac_behind_much_padding_is_found(tmp_path):
    data = written("a.flac")
    assert data[4] == 0
    padded = data[:42] + b"\1" + (700_000).to_bytes(3, "big") + bytes(700_000) + data[42:]
    assert decode(put(tmp_path, "a.flac", padded)).n_samples == SECONDS * RATE
    assert decode(put(tmp_path, "a.flac", padded + padded)).n_samples == 2 * SECONDS * RATE


@pytest.mark.parametrize("junk", [bytes(50_000), np.random.default_rng(1).bytes(50_000)])
def test_junk_after_a_flac_costs_no_sample(tmp_path, junk):
    whole = decode(put(tmp_path, "a.flac", written("a.flac")))
    assert decode(put(tmp_path, "a.flac", written("a.flac") + junk)).audio_hash == whole.audio_hash


def test_joined_flac_files_of_different_kinds_are_refused(tmp_path):
    data = written("a.flac") + written("a.flac", rate=48_000)
    assert re.search(r"44100 Hz.*48000 Hz", failure(put(tmp_path, "a.flac", data)))


def test_a_flac_header_of_another_rate_than_its_frames_is_refused(tmp_path):
    data = bytearray(written("a.flac"))
    data[18:21] = struct.pack(">I", 48_000 << 12 | data[20] << 8 & 0xF00)[:3]
    message = failure(put(tmp_path, "a.flac", bytes(data)))
    assert "48000 Hz, but frames state 44100 Hz" in message


def test_sound_that_looks_like_a_frame_of_a_flac_is_none():
    data = bytearray(written("a.flac"))
    like_a_frame = bytes.fromhex("fff87662753253527f6b43ae238edaae6a438849")  # as found in a file: 8 bits per sample
    last = data.rfind(data[data.index(b"\xff\xf8") :][:2])
    for place in (data.index(b"\xff\xf8") + 1000, last + 100):
        data[place : place + len(like_a_frame)] = like_a_frame
    header = flac_header(io.BytesIO(data), 0)
    assert header is not None
    assert (header.refusal, header.room) == ("", SECONDS)


# Ogg


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_a_whole_ogg_without_the_end_flag_is_read_with_a_note(tmp_path, name):
    whole = decode(put(tmp_path, name, written(name)))
    sound = decode(put(tmp_path, name, without_end_flag(written(name))))
    assert sound.n_samples == pytest.approx(whole.n_samples, abs=1152)
    assert ["no end flag" in note for note in sound.notes] == [True]


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_an_ogg_whose_last_page_is_cut_is_called_truncated(tmp_path, name):
    assert failure(put(tmp_path, name, written(name)[:-100])).startswith("truncated")


@pytest.mark.parametrize("n_bytes", [3, 10])
def test_an_ogg_that_is_cut_in_the_header_of_a_page_is_called_truncated(tmp_path, n_bytes):
    data = written("a.ogg")
    assert failure(put(tmp_path, "a.ogg", data[: data.rfind(b"OggS\0") + n_bytes])).startswith("truncated")


def test_missing_pages_of_an_ogg_are_counted(tmp_path):
    pages = [b"OggS\0" + page for page in written("a.ogg", 20).split(b"OggS\0")[1:]]
    assert len(pages) > 6
    assert f"2 of {len(pages)} pages are missing" in failure(put(tmp_path, "a.ogg", b"".join(pages[:4] + pages[6:])))


def test_ogg_streams_of_different_kinds_are_refused(tmp_path):
    message = failure(put(tmp_path, "a.ogg", written("a.ogg") + written("a.ogg", rate=48_000)))
    assert re.search(r"2 streams.*44100 Hz.*48000 Hz.*8\.0 s", message)
    assert re.search(r"2 streams.*Vorbis.*Opus", failure(put(tmp_path, "a.ogg", written("a.ogg") + written("a.opus"))))


def test_ogg_streams_side_by_side_are_refused(tmp_path):
    first = [b"OggS\0" + page for page in written("a.ogg").split(b"OggS\0")[1:]]
    second = [b"OggS\0" + page for page in written("a.ogg").split(b"OggS\0")[1:]]
    for number, page in enumerate(second):
        changed = bytearray(page)
        changed[14:18], changed[22:26] = b"\1\2\3\4", bytes(4)
        changed[22:26] = struct.pack("<I", ogg_checksum(changed))
        second[number] = bytes(changed)
    data = b"".join(one + two for one, two in zip(first, second, strict=True))
    assert failure(put(tmp_path, "a.ogg", data)).startswith("2 audio streams side by side")


# MP3


@pytest.mark.parametrize("header", [False, True])
def test_an_mp3_that_changes_rate_or_channels_is_refused_and_the_place_named(tmp_path, header):
    first = mp3(tmp_path, 3, header=header)
    slow = failure(put(tmp_path, "a.mp3", first + mp3(tmp_path, 2, 22_050)))
    assert re.search(r"sampling rate changes from 44100 to 22050 at 3\.[01] s", slow)
    mono = failure(put(tmp_path, "a.mp3", first + mp3(tmp_path, 2, mono=True)))
    assert re.search(r"number of channels changes from 2 to 1 at 3\.[01] s", mono)


def test_the_length_in_a_tag_is_noted_if_it_is_longer_and_the_header_states_none(tmp_path):
    def tagged(ms: int, data: bytes) -> bytes:
        frame = b"TLEN" + struct.pack(">I", len(str(ms)) + 1) + b"\0\0\0" + str(ms).encode()
        return b"ID3\x03\0\0\0\0\0" + bytes([len(frame)]) + frame + data

    sound = decode(put(tmp_path, "a.mp3", tagged(20_000, mp3(tmp_path))))
    assert sound.duration == pytest.approx(SECONDS, abs=0.06)
    assert "TLEN states 20.0 s" in sound.notes[0]
    assert decode(put(tmp_path, "a.mp3", tagged(4000, mp3(tmp_path)))).notes == ()
    # A header that agrees with the frames is better evidence.
    assert decode(put(tmp_path, "a.mp3", tagged(20_000, mp3(tmp_path, header=True)))).notes == ()


def test_an_mp3_of_constant_bit_rate_that_was_cut_inside_a_frame_is_read_with_a_note(tmp_path):
    data = mp3(tmp_path)
    sound = decode(put(tmp_path, "a.mp3", data[: len(data) // 2]))
    assert sound.duration == pytest.approx(SECONDS / 2, abs=0.06)
    assert "incomplete" in sound.notes[0]


@pytest.mark.parametrize("frames", [20, 5000])
def test_a_header_of_the_wrong_number_of_frames(tmp_path, frames):
    data = bytearray(mp3(tmp_path, header=True))
    at = data.index(b"Info") + 8
    data[at : at + 4] = struct.pack(">I", frames)
    path = put(tmp_path, "a.mp3", bytes(data))
    if frames == 20:  # all frames can be read
        assert decode(path).duration == pytest.approx(SECONDS, abs=0.06)
    else:
        assert lengths(path)[1:] == pytest.approx((SECONDS, SECONDS), abs=0.06)


def test_a_tag_that_overstates_its_size_hides_no_music(tmp_path):
    data = mp3(tmp_path)
    whole = decode(put(tmp_path, "a.mp3", data))
    for size in (bytes([0, 1, 0, 0]), bytes([127] * 4)):
        sound = decode(put(tmp_path, "a.mp3", b"ID3\x03\0\0" + size + b"TIT2\0\0\0\x06\0\0\0title" + data))
        assert sound.audio_hash == whole.audio_hash


def test_tags_and_junk_between_frames_are_not_taken_for_frames(tmp_path):
    data = mp3(tmp_path)
    tag = b"ID3\x03\0\0\0\0\x07\x76" + np.random.default_rng(2).bytes(1014)
    for more in (tag, b"\x12\x34" * 30_000, np.random.default_rng(3).bytes(60_000)):
        assert decode(put(tmp_path, "a.mp3", data + more + data)).duration == pytest.approx(2 * SECONDS, abs=0.2)


# MP4


def test_an_edit_list_is_followed(tmp_path):
    frames = mp3(tmp_path)
    whole = decode(put(tmp_path, "a.m4a", mp4_bytes(frames, RATE)))
    sound = decode(put(tmp_path, "a.m4a", mp4_bytes(frames, RATE, [(RATE, 1105)])))
    assert sound.n_samples == RATE
    np.testing.assert_array_equal(sound.samples, whole.samples[1105 : 1105 + RATE])


def test_an_edit_list_of_several_pieces_is_refused(tmp_path):
    data = mp4_bytes(mp3(tmp_path), RATE, [(RATE, 0), (RATE, 3 * RATE)])
    assert "edit list of 2 pieces" in failure(put(tmp_path, "a.m4a", data))


def test_the_stated_length_of_an_mp4_is_compared_with_its_frames(tmp_path):
    data = bytearray(mp4_bytes(mp3(tmp_path), RATE))
    at = data.index(b"mdhd") + 4 + 16
    data[at : at + 4] = struct.pack(">I", 10 * RATE)
    assert lengths(put(tmp_path, "a.m4a", bytes(data))) == pytest.approx((10, SECONDS, SECONDS), abs=0.06)


def test_several_audio_tracks_in_an_mp4_are_noted(tmp_path):
    sound = decode(put(tmp_path, "a.m4a", mp4_bytes(mp3(tmp_path), RATE, n_tracks=2)))
    assert sound.notes == ("2 audio tracks: only the first was read",)


def test_mp4_files_that_were_joined_are_refused(tmp_path):
    assert "2 indexes (boxes moov)" in failure(put(tmp_path, "a.m4a", 2 * mp4_bytes(mp3(tmp_path), RATE)))


def test_an_mp4_without_its_index_is_called_that(tmp_path):
    data = mp4_bytes(mp3(tmp_path), RATE)
    start = data.index(b"moov") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    assert "no index" in failure(put(tmp_path, "a.m4a", data[:start] + data[start + length :]))


# Contradictions, and channels that cancel


@pytest.mark.parametrize(("offset", "value"), [(12, 6), (14, 24), (2, 2)])
def test_a_wav_header_that_contradicts_itself_is_refused(tmp_path, offset, value):
    data = bytearray(wav_bytes(bytes(32_000)))
    at = data.index(b"fmt ") + 8 + offset
    data[at : at + 2] = value.to_bytes(2, "little")
    assert "contradicts itself" in failure(put(tmp_path, "a.wav", bytes(data)))


@pytest.mark.parametrize(("second", "noted"), [(-1, True), (1, False), (0, False), (-0.95, True), (-0.5, False)])
def test_loud_channels_that_cancel_are_noted(tmp_path, second, noted):
    left = music(3, RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, second * left], axis=1), RATE)
    assert any("cancel" in note for note in decode(tmp_path / "a.wav").notes) is noted


def test_silent_channels_do_not_count_as_canceling(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    assert decode(tmp_path / "a.wav").notes == ()


# Attributes of files


@pytest.mark.parametrize("seconds", [-(10**9), -(10**10), 9_400_000_000, 15_000_000_000])
def test_a_date_that_64_bits_of_nanoseconds_do_not_hold_is_the_nearest(tmp_path, seconds):
    path = put(tmp_path, "a.wav", b"x")
    try:
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9))
    except (OSError, OverflowError):
        pytest.skip("this file system does not hold the date")
    assert file_stamp(path) == (1, max(-(2**63), min(2**63 - 1, path.stat().st_mtime_ns)))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "zeros.mp3", "zeros.wav", "zeros.aac"])
def test_a_sparse_file_of_100_gb_is_refused_in_a_moment_and_in_little_memory(tmp_path, name):
    data = b"" if name.startswith("zeros") else mp3(tmp_path) if name == "a.mp3" else b""
    if name == "a.m4a":
        data = mp4_bytes(mp3(tmp_path), RATE)
    elif name in ("a.wav", "a.flac", "a.ogg"):
        data = written(name)
    path = put(tmp_path, name, data)
    try:
        os.truncate(path, 10**11)
    except OSError:
        pytest.skip("this file system has no sparse files")
    script = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from mirembed.audio.decoding import decode
from mirembed.audio.headers import read_header
from mirembed.errors import AudioError
try:
    decode(Path(sys.argv[1]))
except AudioError as error:
    print("refused")
    # Unlike ru_maxrss, this does not count the memory of the process that started this one.
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
    refused, _, peak, unit = run_python(script, path).stdout.split()
    assert refused == "refused"
    assert unit == "kB"
    assert int(peak) < 600_000
    assert default_timeout(path) <= 3600


# Every failure is true


def _nan_wav(tmp_path: Path) -> bytes:
    samples = np.zeros(4000, np.float32)
    samples[5:8] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    return (tmp_path / "nan.wav").read_bytes()


def _cut_wav(_: Path) -> bytes:
    return written("a.wav")[: 44 + 4 * RATE]


TRUE: dict[str, tuple[str, Callable[[Path], bytes], str, Callable[[bytes, str], bool]]] = {
    "empty": ("a.wav", lambda _: b"", r"empty file \(0 bytes\)", lambda data, _: len(data) == 0),
    "zeros": ("a.au", lambda _: bytes(5000), r"first 5000 bytes are zeros", lambda data, _: data == bytes(5000)),
    "playlist": ("a.m4a", lambda _: b"#EXTM3U\na.wav\n", r"playlist", lambda data, _: b"a.wav" in data),
    "no header": ("a.au", lambda _: music(1, RATE).tobytes(), r"no header", lambda data, _: b".snd" not in data),
    "cut wav": ("a.wav", _cut_wav, r"states 4\.0.* room for 1\.0", lambda data, _: len(data) == 44 + 4 * RATE),
    "nan": (
        "a.wav",
        _nan_wav,
        r"^3 of 4000 samples are NaN",
        lambda data, _: data.count(struct.pack("<f", np.nan)) == 3,
    ),
    "codec": (
        "a.wav",
        lambda _: wav_bytes(bytes(32_000), tag=0x42),
        r"neither soundfile nor Essentia",
        lambda data, _: data[20] == 0x42,
    ),
    "rate": (
        "a.wav",
        lambda _: wav_bytes(bytes(32_000), rate=10**9),
        r"1000000000 Hz",
        lambda data, _: struct.unpack("<I", data[24:28])[0] == 10**9,
    ),
    "nothing": ("a.wav", lambda _: wav_bytes(b""), r"no samples", lambda data, _: len(data) == 44),
    "ogg page": (
        "a.ogg",
        lambda _: written("a.ogg")[:-50],
        r"the last page is incomplete",
        lambda data, _: not _is_whole_page(data),
    ),
}


def _is_whole_page(data: bytes) -> bool:
    at = data.rfind(b"OggS\0")
    return len(data) == at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])


@pytest.mark.parametrize("case", TRUE)
def test_failure_messages_are_true(tmp_path, case):
    name, build, said, is_so = TRUE[case]
    data = build(tmp_path)
    message = failure(put(tmp_path, name, data))
    assert re.search(said, message)
    assert is_so(data, message)


def test_a_flac_that_a_decoder_does_not_read_is_not_called_damaged(tmp_path):
    if not (shutil.which("flac") and shutil.which("sox")):
        pytest.skip("needs flac and sox")
    subprocess.run(
        ["sox", "-n", "-b", "32", "-r", "44100", tmp_path / "a.wav", "synth", "2", "sine", "440"], check=True
    )
    subprocess.run(["flac", "-s", "-f", "-o", tmp_path / "a.flac", tmp_path / "a.wav"], check=True)
    subprocess.run(["flac", "-s", "-t", tmp_path / "a.flac"], check=True)
    message = failure(tmp_path / "a.flac")
    assert "FLAC of 32 bits" in message
    assert "damaged" not in message


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_the_lengths_in_a_failure_are_those_that_ffmpeg_finds(tmp_path, name, share):
    if not shutil.which("ffmpeg"):
        pytest.skip("needs ffmpeg")
    data = written(name)
    path = put(tmp_path, name, data[: int(share * len(data))])
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "-"]
    samples = len(subprocess.run(command, capture_output=True, check=False).stdout) / 4
    message = failure(path)
    found = LENGTHS.search(message)
    rate = 48_000 if name == "a.opus" else RATE
    said = float(found["decoded"]) if found else float(re.search(r"([\d.]+) s", message)[1])
    assert said == pytest.approx(samples / rate, abs=0.1)


# Tags at both ends


def ape_tag(n_bytes: int = 500, *, head: bool = True) -> bytes:
    flags = 0x80000000 if head else 0
    both = [b"APETAGEX" + struct.pack("<IIII", 2000, n_bytes + 32, 1, flags | one) + bytes(8) for one in (2**29, 0)]
    return (both[0] if head else b"") + bytes(n_bytes) + both[1]


@pytest.mark.parametrize("name", FORMATS)
def test_ape_tags_at_both_ends_change_nothing(tmp_path, name):
    data = written(name)
    whole = decode(put(tmp_path, name, data))
    for tagged in (ape_tag() + data, data + ape_tag(), data + ape_tag(head=False) + ID3V1):
        assert decode(put(tmp_path, name, tagged)).audio_hash == whole.audio_hash


@pytest.mark.parametrize(
    "tag",
    [
        b"ID3\x04\0\x10\0\0\x07\x76" + bytes(1014) + b"3DI\x04\0\x10\0\0\x07\x76",
        b"LYRICSBEGIN" + b"la " * 300 + b"LYRICSEND" + ID3V1,
        b"LYRICSBEGIN" + b"LYR00900" + b"la " * 300 + b"000919LYRICS200" + ID3V1,
    ],
)
def test_tags_behind_an_mp3_are_no_frames(tmp_path, tag):
    data = mp3(tmp_path)
    whole = decode(put(tmp_path, "a.mp3", data))
    assert decode(put(tmp_path, "a.mp3", data + tag)).audio_hash == whole.audio_hash
    assert decode(put(tmp_path, "a.mp3", data + tag)).notes == ()


# Codecs in WAV, Wave64 and CAF


def block_file(container: str, codec: str, name: str, tmp_path: Path) -> bytes:
    soundfile.write(
        tmp_path / name, np.stack([music(SECONDS, RATE)] * 2, axis=1), RATE, format=container, subtype=codec
    )
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("container", ["WAV", "W64"])
@pytest.mark.parametrize("codec", ["MS_ADPCM", "IMA_ADPCM"])
def test_a_file_of_adpcm_that_was_cut_or_joined_is_refused(tmp_path, container, codec):
    name = f"a.{container.lower()}"
    data = block_file(container, codec, name, tmp_path)
    assert decode(put(tmp_path, name, data)).duration == pytest.approx(SECONDS, abs=0.1)
    assert lengths(put(tmp_path, name, data[: len(data) // 2]))[:2] == pytest.approx((SECONDS, SECONDS / 2), abs=0.1)
    assert lengths(put(tmp_path, name, data * 2))[:2] == pytest.approx((SECONDS, 2 * SECONDS), abs=0.1)


def test_an_mp3_in_a_wav_that_was_cut_or_joined_is_refused(tmp_path):
    data = wav_bytes(mp3(tmp_path), tag=0x55, rate=RATE)
    assert decode(put(tmp_path, "a.wav", data)).duration == pytest.approx(SECONDS, abs=0.1)
    assert lengths(put(tmp_path, "a.wav", data[: len(data) // 2]))[:2] == pytest.approx((SECONDS, SECONDS / 2), abs=0.1)
    assert lengths(put(tmp_path, "a.wav", data * 2))[:2] == pytest.approx((SECONDS, 2 * SECONDS), abs=0.1)


def test_the_bytes_per_second_of_a_flac_in_a_wav_are_not_believed(tmp_path):
    flac = written("a.flac")
    at, last = 4, False
    while not last:
        last, at = bool(flac[at] & 128), at + 4 + int.from_bytes(flac[at + 1 : at + 4], "big")
    fmt = struct.pack("<HHIIHHH", 0xF1AC, 2, RATE, 1000, 4, 16, 34) + flac[8:42]
    chunks = ((b"fmt ", fmt), (b"fact", struct.pack("<I", SECONDS * RATE)), (b"data", flac[at:]))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for name, content in chunks
    )
    data = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
    assert decode(put(tmp_path, "a.wav", data)).n_samples == SECONDS * RATE
    assert lengths(put(tmp_path, "a.wav", data[: len(data) // 2]))[0] == pytest.approx(SECONDS)


def test_the_delay_in_the_table_of_a_caf_is_not_heard(tmp_path):
    data = bytearray(block_file("CAF", "ALAC_16", "a.caf", tmp_path))
    whole = decode(put(tmp_path, "a.caf", bytes(data)))
    at = data.index(b"pakt") + 12
    data[at + 8 : at + 20] = struct.pack(">qi", 4 * RATE - 1105, 1105)
    sound = decode(put(tmp_path, "a.caf", bytes(data)))
    np.testing.assert_array_equal(sound.samples, whole.samples[1105 : 4 * RATE])
    data[at - 12 : at - 8] = b"free"
    assert "pakt" in failure(put(tmp_path, "a.caf", bytes(data)))


# Blocks that state their own lengths


def wavpack_blocks(n_blocks: int, *, rate_code: int = 9) -> bytes:
    return b"".join(
        b"wvpk"
        + struct.pack("<IHBBIIIII", 24 + 100, 0x410, 0, 0, n_blocks * RATE, n * RATE, RATE, flags, 0)
        + bytes(100)
        for n in range(n_blocks)
        for flags in [rate_code << 23 | 0x800 | 1]
    )


def test_the_blocks_of_a_wavpack_file_are_counted(tmp_path):
    data = wavpack_blocks(3)
    for tag in (b"", ape_tag()):
        header = read_header(put(tmp_path, "a.wv", data + tag + data + tag))
        assert (header.stated, header.room) == (3, 6)
        assert header.disagreement(3.0)
    assert "lacks 60 bytes" in failure(put(tmp_path, "a.wv", data[:-60]))
    assert "rate changes" in failure(put(tmp_path, "a.wv", data + wavpack_blocks(1, rate_code=10)))


def test_no_part_of_a_wavpack_file_is_read_over_and_over():
    class Counted(io.BytesIO):
        n_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.n_read += len(data)
            return data

    file = Counted(wavpack_blocks(200))
    header = wavpack_header(file, 0)
    assert header is not None
    assert header.room == 200
    assert file.n_read < 3 * len(file.getvalue())


def tta_file(seconds: int, n_bytes: int = 50) -> bytes:
    n_frames = -(-seconds * RATE // (RATE * 256 // 245))
    head = b"TTA1" + struct.pack("<HHHIII", 1, 2, 16, RATE, seconds * RATE, 0)
    frame = bytes(n_bytes - 4) + struct.pack("<I", zlib.crc32(bytes(n_bytes - 4)))
    return head + struct.pack("<I", n_bytes) * n_frames + bytes(4) + frame * n_frames


def test_the_frames_of_a_tta_file_are_counted(tmp_path):
    data = tta_file(4)
    assert read_header(put(tmp_path, "a.tta", data)).room == 4
    assert read_header(put(tmp_path, "a.tta", data[:-1])).room == pytest.approx(3 * 256 / 245, abs=1e-4)
    assert "joined" in failure(put(tmp_path, "a.tta", data + ape_tag() + data))


def test_a_voc_file_that_was_cut_or_joined_is_refused(tmp_path):
    data = block_file("VOC", "PCM_16", "a.voc", tmp_path)
    assert decode(put(tmp_path, "a.voc", data)).duration == pytest.approx(SECONDS, abs=0.01)
    assert lengths(put(tmp_path, "a.voc", data[: len(data) // 2]))[:2] == pytest.approx((4, 2), abs=0.01)
    assert lengths(put(tmp_path, "a.voc", data * 2))[:2] == pytest.approx((4, 8), abs=0.01)


@pytest.mark.parametrize("codec", ["PCM_U8", "PCM_16", "ALAW", "ULAW"])
def test_the_blocks_of_a_voc_file_are_read_one_after_the_other(tmp_path, codec):
    sound = loud_then_quiet(SECONDS, RATE)
    channels = 1 if codec == "PCM_U8" else 2  # a stereo file of 8 bits has blocks of another kind
    soundfile.write(tmp_path / "a.voc", sound[:, :channels], RATE, format="VOC", subtype=codec)
    data = (tmp_path / "a.voc").read_bytes()
    width = channels * (2 if codec == "PCM_16" else 1)
    silence = b"\3\3\0\0" + struct.pack("<HB", 999, 211)
    more = b"\5\6\0\0hello\0" + silence + b"\2" + (40_000).to_bytes(3, "little") + data[-40_001:-1] + b"\0"
    whole = decode(put(tmp_path, "a.voc", data))
    sound = decode(put(tmp_path, "a.voc", data[:-1] + more))
    n_silent = round(1000 * 45 / 1e6 * whole.rate)
    assert sound.n_samples == whole.n_samples + n_silent + 40_000 // width
    again = sound.samples[whole.n_samples :]
    np.testing.assert_allclose(again[:n_silent], 0, atol=1e-3)
    np.testing.assert_array_equal(again[n_silent:], whole.samples[-40_000 // width :])
    stated, room, _ = lengths(put(tmp_path, "a.voc", data[:-1] + more[:-20_001]))
    assert stated - room == pytest.approx(20_000 / width / RATE, abs=0.06)


def test_blocks_of_different_kinds_in_a_voc_file_are_refused(tmp_path):
    data = block_file("VOC", "PCM_16", "a.voc", tmp_path)
    other = b"\1" + (1002).to_bytes(3, "little") + bytes([211, 0]) + bytes(1000)
    assert "22222 Hz, 1 channels" in failure(put(tmp_path, "a.voc", data[:-1] + other + b"\0"))


def ac3_frames(n_frames: int, *, rate_code: int = 1, mode: int = 2) -> bytes:
    size = {0: 2 * 192, 1: 2 * 208, 2: 2 * 288}[rate_code]
    head = b"\x0b\x77\0\0" + bytes([rate_code << 6 | 12, 8 << 3, mode << 5, 0])
    return (head + bytes(size - len(head))) * n_frames


def test_an_ac3_that_changes_its_rate_or_channels_is_refused_and_the_place_said(tmp_path):
    data = ac3_frames(100)
    header = read_header(put(tmp_path, "a.ac3", data))
    assert (header.room, header.kind) == (100 * 1536 / RATE, "AC-3")
    assert "from 44100 to 48000 at 3.5 s" in failure(put(tmp_path, "a.ac3", data + ac3_frames(50, rate_code=0)))
    assert "from 2 to 1 at 3.5 s" in failure(put(tmp_path, "a.ac3", data + ac3_frames(50, mode=1)))


def test_repeated_pages_of_an_ogg_are_noted(tmp_path):
    pages = [b"OggS\0" + page for page in written("a.ogg", 20).split(b"OggS\0")[1:]]
    sound = decode(put(tmp_path, "a.ogg", b"".join([*pages[:5], *pages[3:]])))
    assert any(note.startswith("2 pages repeat") for note in sound.notes)
