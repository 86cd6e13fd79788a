"""Decoding a file gives all of its samples or one clear error."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import flash_bytes, loud_then_quiet, mp4_bytes, music, wav_bytes, write_mp3

from mirembed.audio import by_essentia
from mirembed.audio.decode_state import silenced
from mirembed.audio.decoding import decode
from mirembed.errors import AudioError

RATE = 22_050
PADDING = 0.1
"""Seconds that encoders may add before and after the music."""


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=buffered)


# Formats


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.caf", "a.w64"])
def test_a_lossless_file_keeps_its_samples_and_its_rate(tmp_path, name):
    samples = music(1, RATE)
    soundfile.write(tmp_path / name, samples, RATE, subtype="PCM_16")
    audio = decode(tmp_path / name)
    assert (audio.rate, audio.decoder, audio.decoder_messages) == (RATE, "soundfile", 0)
    assert audio.samples.dtype == np.float32
    np.testing.assert_allclose(audio.samples, samples, atol=2**-15)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.caf"])
def test_16_bit_samples_are_to_the_bit_those_of_libsndfile(tmp_path, name, channels):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (2**19 // channels + 999, channels), np.int16)
    values[:2] = [[-(2**15)], [2**15 - 1]]
    soundfile.write(tmp_path / name, values, RATE, subtype="PCM_16")
    expected, _ = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
    digest = hashlib.blake2b(f"{RATE} Hz, {channels} channels".encode() + expected.tobytes(), digest_size=16)
    audio = decode(tmp_path / name)
    assert audio.audio_hash == digest.hexdigest()
    total = sum(expected.T[1:], expected.T[0])
    np.testing.assert_array_equal(audio.samples, total / np.float32(channels))


def test_samples_whose_sum_is_too_large_for_a_float_are_not_taken_for_infinite(tmp_path):
    samples = np.full(1000, 3e38, np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decode(tmp_path / "a.wav").samples, samples)


FORMATS = {
    "WAV": ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "IMA_ADPCM", "MS_ADPCM", "ULAW"],
    "WAVEX": ["PCM_24"],
    "RF64": ["PCM_16"],
    "AIFF": ["PCM_24", "FLOAT"],
    "AU": ["PCM_16"],
    "FLAC": ["PCM_24"],
    "OGG": ["VORBIS", "OPUS"],
    "MP3": ["MPEG_LAYER_III"],
}
"""Containers and codecs that soundfile can write."""

EACH_FORMAT = pytest.mark.parametrize(
    ("container", "codec"), [(container, codec) for container, codecs in FORMATS.items() for codec in codecs]
)


@EACH_FORMAT
def test_every_format_is_decoded_completely(tmp_path, container, codec):
    samples = np.stack([music(2, 48_000), 0.5 * music(2, 48_000)], axis=1)
    soundfile.write(tmp_path / "a", samples, 48_000, format=container, subtype=codec)
    audio = decode(tmp_path / "a")
    assert (audio.decoder, audio.rate) == ("soundfile", 48_000)
    assert len(audio.samples) == pytest.approx(2 * 48_000, abs=PADDING * 48_000)
    assert np.corrcoef(audio.samples[: 2 * 48_000], samples[: len(audio.samples), 0])[0, 1] > 0.99


@EACH_FORMAT
@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_a_missing_end_is_noticed_in_every_format(tmp_path, container, codec, kept):
    soundfile.write(tmp_path / "a", loud_then_quiet(4, 48_000), 48_000, format=container, subtype=codec)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(AudioError, match=r"part of it is missing|was cut:|truncated|of constant bit rate"):
        decode(tmp_path / "a")


def test_essentia_decodes_an_m4a_and_a_missing_end_is_noticed(tmp_path):
    samples = loud_then_quiet(3, 44_100)
    mp3 = write_mp3(tmp_path / "a.mp3", samples, 44_100, "CONSTANT").read_bytes()
    path = tmp_path / "a.m4a"
    path.write_bytes(mp4_bytes(mp3, 44_100))
    audio = decode(path)
    assert (audio.decoder, audio.rate) == ("essentia", 44_100)
    assert len(audio.samples) == pytest.approx(len(samples), abs=PADDING * 44_100)
    path.write_bytes(path.read_bytes()[: len(mp3) // 2])
    with pytest.raises(AudioError, match=r"states 3\.\d+ s, the file has room for 1\.\d+ s"):
        decode(path)


def test_essentia_decodes_the_same_samples_to_disk_as_in_memory(tmp_path, monkeypatch):
    mp3 = write_mp3(tmp_path / "a.mp3", loud_then_quiet(3, 44_100), 44_100, "CONSTANT").read_bytes()
    path = tmp_path / "a.m4a"
    path.write_bytes(mp4_bytes(mp3, 44_100))
    in_memory = decode(path)
    monkeypatch.setattr(by_essentia, "LONG_SECONDS", 1)
    np.testing.assert_array_equal(decode(path).samples, in_memory.samples)


def test_tags_and_junk_around_an_mp3_do_not_matter(tmp_path):
    samples = loud_then_quiet(4, 44_100)
    path = write_mp3(tmp_path / "a.mp3", samples, 44_100, "VARIABLE")
    tag = b"ID3\x04\0\0\0\0\x0f\x76" + b"TIT2\0\0\0\x06\0\0\3title" + bytes(2038 - 16)
    path.write_bytes(tag + path.read_bytes() + b"TAG" + bytes(125))
    assert len(decode(path).samples) == pytest.approx(len(samples), abs=PADDING * 44_100)


def test_a_playlist_is_not_followed(tmp_path):
    (tmp_path / "secret.wav").write_bytes(wav_bytes(bytes(32_000)))
    for text in ("#EXTM3U\n#EXTINF:1,\nsecret.wav\n", "ffconcat version 1.0\nfile secret.wav\n"):
        (tmp_path / "a.m4a").write_text(text)
        with pytest.raises(AudioError, match="playlist"):
            decode(tmp_path / "a.m4a")


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6, 8])
def test_the_samples_are_the_mean_of_the_channels(tmp_path, n_channels):
    channels = np.random.default_rng(1).uniform(-1, 1, (2000, n_channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav").samples, channels.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_with_a_header_has_its_exact_number_of_samples(tmp_path, rate, mode):
    samples = loud_then_quiet(4, rate)
    audio = decode(write_mp3(tmp_path / "a.mp3", samples, rate, mode))
    assert audio.decoder == "soundfile"
    assert len(audio.samples) == len(samples)


def test_soundfile_decodes_an_mp3_of_constant_bit_rate_without_a_header(tmp_path):
    samples = loud_then_quiet(4, 44_100)
    audio = decode(write_mp3(tmp_path / "a.mp3", samples, 44_100, "CONSTANT", header=False))
    assert audio.decoder == "soundfile"
    assert len(audio.samples) == pytest.approx(len(samples), abs=PADDING * 44_100)


def test_an_mp3_of_variable_bit_rate_without_a_header_is_decoded_completely(tmp_path):
    samples = loud_then_quiet(8, 44_100)
    path = write_mp3(tmp_path / "a.mp3", samples, 44_100, "VARIABLE", header=False)
    assert len(soundfile.read(path)[0]) < len(samples) / 2, "libsndfile no longer cuts such a file short"
    audio = decode(path)
    assert audio.decoder == "essentia"
    assert len(audio.samples) == pytest.approx(len(samples), abs=PADDING * 44_100)


def test_two_mp3s_in_one_file_are_both_decoded(tmp_path):
    samples = loud_then_quiet(3, 44_100)
    path = write_mp3(tmp_path / "a.mp3", samples, 44_100, "CONSTANT")
    path.write_bytes(path.read_bytes() * 2)
    assert len(soundfile.read(path)[0]) == len(samples), "libsndfile no longer stops after the first"
    assert len(decode(path).samples) == pytest.approx(2 * len(samples), abs=PADDING * 44_100)


def test_junk_inside_an_mp3_is_skipped_and_messages_about_it_are_counted(tmp_path, capfd):
    samples = loud_then_quiet(4, 44_100)
    path = write_mp3(tmp_path / "a.mp3", samples, 44_100, "CONSTANT")
    data = path.read_bytes()
    junk = np.random.default_rng(2).bytes(20_000)
    path.write_bytes(data[: len(data) // 2] + junk + data[len(data) // 2 :])
    audio = decode(path)
    assert len(audio.samples) == pytest.approx(len(samples), abs=PADDING * 44_100)
    assert audio.decoder_messages > 0
    assert capfd.readouterr() == ("", "")


def test_essentia_decodes_what_soundfile_cannot_open(tmp_path):
    samples = loud_then_quiet(3, 44_100)
    mp3 = write_mp3(tmp_path / "a.mp3", samples, 44_100, "CONSTANT", header=False)
    path = tmp_path / "a.flv"
    path.write_bytes(flash_bytes(mp3.read_bytes()))
    with pytest.raises(soundfile.SoundFileError):
        soundfile.info(path)
    audio = decode(path)
    assert (audio.decoder, audio.rate) == ("essentia", 44_100)
    assert len(audio.samples) == pytest.approx(len(samples), abs=PADDING * 44_100)


def test_a_flac_without_a_stated_length_is_decoded_completely(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, music(2, RATE), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36-bit number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert len(decode(path).samples) == 2 * RATE


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF - 36])
def test_a_wav_written_to_a_pipe_is_decoded_completely(tmp_path, stated):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(bytes(32_000), stated=stated))
    assert len(decode(path).samples) == 16_000


def test_damaged_tags_do_not_prevent_decoding(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(bytes(32_000)) + b"id3 \xff\xff\x00\x00ID3\x09\x09\x09")
    assert len(decode(path).samples) == 16_000


# The hash


def test_the_same_sound_has_the_same_hash_in_another_container(tmp_path):
    samples = (2**15 * music(1, RATE)).astype(np.int16)
    hashes = set()
    for name in ("a.wav", "b.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, samples, RATE)
        hashes.add(decode(tmp_path / name).audio_hash)
    (digest,) = hashes
    assert len(bytes.fromhex(digest)) == 16


def test_the_hash_depends_on_the_samples_the_rate_and_the_channels(tmp_path):
    samples = music(1, RATE)
    other = samples.copy()
    other[1000] += 0.01
    sounds = [(samples, RATE), (other, RATE), (samples, RATE + 1), (np.stack([samples, samples], 1), RATE)]
    hashes = []
    for number, (sound, rate) in enumerate(sounds):
        soundfile.write(tmp_path / f"{number}.wav", sound, rate)
        hashes.append(decode(tmp_path / f"{number}.wav").audio_hash)
    assert len(set(hashes)) == len(sounds)


# Refused files


def test_a_wav_shorter_than_its_header_states_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, music(3, RATE), RATE)
    path.write_bytes(path.read_bytes()[:-RATE])
    with pytest.raises(AudioError, match=r"states 3\.0\d* s, .* room for 2\.5\d* s, but 2\.5\d* s"):
        decode(path)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_shorter_than_its_header_states_is_refused(tmp_path, mode):
    path = write_mp3(tmp_path / "a.mp3", loud_then_quiet(4, RATE), RATE, mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"states 4\.0\d* s, .* room for \d"):
        decode(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_counted(tmp_path, value):
    channels = np.zeros((1000, 2))
    channels[3:5, 1] = channels[7, 0] = value
    channels[9] = (np.inf, -np.inf)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"^5 of 2000 samples"):
        decode(tmp_path / "a.wav")


def test_a_file_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="no samples"):
        decode(tmp_path / "a.wav")


def test_a_rate_that_only_a_damaged_header_states_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(32_000), rate=10**9))
    with pytest.raises(AudioError, match=r"1000000000 Hz.*768000"):
        decode(tmp_path / "a.wav")


def test_a_file_longer_than_twelve_hours_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(13 * 3600 * 100), 100, subtype="PCM_U8")
    with pytest.raises(AudioError, match=r"13\.0 hours.*12"):
        decode(tmp_path / "a.wav")


def test_samples_that_do_not_fit_into_memory_are_an_audio_error(tmp_path, monkeypatch):
    def read(*_, **__):
        raise MemoryError

    soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE)
    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(AudioError, match="memory"):
        decode(tmp_path / "a.wav")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp3").touch()
    with pytest.raises(AudioError, match="empty file"):
        decode(tmp_path / "a.mp3")


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.ogg", "a.m4a", "a"])
@pytest.mark.parametrize("content", [b"Not a note of music.\n" * 50, np.random.default_rng(3).bytes(5000)])
def test_other_kinds_of_content_are_refused(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=r"soundfile.*Essentia"):
        decode(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        decode(tmp_path / "a.wav")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(AudioError, match="directory"):
        decode(tmp_path)


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    for path in (tmp_path / "a.wav", Path("/dev/zero")):
        with pytest.raises(AudioError, match="pipe"):
            decode(path)


def test_an_unknown_codec_neither_crashes_the_process_nor_breaks_the_next_file(tmp_path):
    (tmp_path / "bad.wav").write_bytes(wav_bytes(bytes(32_000), tag=0x0042))
    good = write_mp3(tmp_path / "a.mp3", loud_then_quiet(8, 44_100), 44_100, "VARIABLE", header=False)
    script = """
import sys
from pathlib import Path
from mirembed.audio.decoding import decode
from mirembed.errors import AudioError
try:
    decode(Path(sys.argv[1]))
except AudioError as error:
    print(error)
print(decode(Path(sys.argv[2])).decoder)
"""
    result = run_python(script, tmp_path / "bad.wav", good)
    reason, decoder = result.stdout.splitlines()
    assert "Unsupported codec" in reason
    assert (decoder, result.stderr, result.returncode) == ("essentia", "", 0)


def test_samples_without_a_header_are_refused(tmp_path):
    (tmp_path / "a.raw").write_bytes(music(1, RATE).tobytes())
    with pytest.raises(AudioError, match=r"soundfile.*Essentia"):
        decode(tmp_path / "a.raw")


@pytest.mark.parametrize("name", [b"caf\xe9", b"-v", b"a\nb", "Ärger 音楽".encode(), b"concat:a|b", b"file:x"])
@pytest.mark.parametrize("suffix", [b".wav", b".m4a"])
def test_files_of_any_name_are_decoded(tmp_path, monkeypatch, name, suffix):
    mp3 = write_mp3(tmp_path / "a.mp3", loud_then_quiet(3, 44_100), 44_100, "CONSTANT").read_bytes()
    content = {b".wav": wav_bytes(bytes(32_000)), b".m4a": mp4_bytes(mp3, 44_100)}[suffix]
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name + suffix))
    path.write_bytes(content)
    audio = decode(path)
    assert audio.decoder == {b".wav": "soundfile", b".m4a": "essentia"}[suffix]
    assert audio.duration == pytest.approx({b".wav": 1, b".m4a": 3}[suffix], abs=PADDING)


def test_an_impossible_file_name_is_an_audio_error():
    with pytest.raises(AudioError, match="embedded null"):
        decode(Path("a\0.wav"))


# Native output


def test_lines_from_native_libraries_are_counted_and_not_shown(capfd):
    with silenced() as output:
        os.write(1, b"one\ntwo\n")
        os.write(2, b"three without a line end")
    assert len(output) == 3
    assert capfd.readouterr() == ("", "")


def test_the_terminal_is_restored_after_an_error(capfd):
    with pytest.raises(ZeroDivisionError), silenced():
        os.write(2, b"lost\n")
        _ = 1 / 0
    os.write(2, b"shown\n")
    assert capfd.readouterr() == ("", "shown\n")


def test_silenced_blocks_can_be_nested(capfd):
    with silenced() as outer:
        os.write(2, b"outer\n")
        with silenced() as inner:
            os.write(2, b"inner\n")
        os.write(2, b"outer\n")
    assert (len(outer), len(inner)) == (2, 1)
    assert capfd.readouterr() == ("", "")


def test_earlier_output_of_python_is_shown():
    script = """
import os, sys
from mirembed.audio.decode_state import silenced
print("before", end=" ")
with silenced():
    os.write(1, b"hidden")
print("after")
"""
    result = run_python(script)
    assert (result.stdout, result.stderr) == ("before after\n", "")


# Real files


@pytest.fixture
def real_data() -> Path:
    if "MIREMBED_REAL_DATA" not in os.environ:
        pytest.skip("needs real data: set MIREMBED_REAL_DATA")
    return Path(os.environ["MIREMBED_REAL_DATA"])


def test_soundfile_decodes_the_real_mp3s_completely(real_data):
    paths = sorted(real_data.glob("emotify_mini/emotifymusic/*/*.mp3"))
    assert paths
    for path in paths:
        audio = decode(path)
        seconds = 8 * path.stat().st_size / 128_000
        assert audio.decoder == "soundfile"
        assert len(audio.samples) / audio.rate == pytest.approx(seconds, abs=PADDING)


def test_the_real_wavs_are_decoded_without_messages(real_data):
    for path in sorted(real_data.glob("*_mini/**/*.wav")):
        audio = decode(path)
        assert (audio.decoder, audio.decoder_messages) == ("soundfile", 0)
        assert len(audio.samples) == soundfile.info(path).frames
