"""Unpacking for ``mirembed datasets fetch``: hostile archives, damaged ones, and files that exist already."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_server import CLIPS, Interrupted, card_of, sha256, tar_of, zip_of
from hypothesis import given
from hypothesis import strategies as st

from mirembed import Archive, DatasetError
from mirembed.datasets.fetch import Fetched, FetchOptions, fetch
from mirembed.progress import NO_PROGRESS, Progress

OUTSIDE = b"nobody may write here"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """An audio folder that does not exist yet, next to a file that hostile archives try to overwrite."""
    (tmp_path / "outside").write_bytes(OUTSIDE)
    return tmp_path / "audio"


def unpack(
    content: bytes, name: str, audio: Path, max_bytes: int | None = None, progress: Progress = NO_PROGRESS
) -> list[Fetched]:
    """Fetch an archive that is a local file."""
    copy = audio.parent / name
    copy.write_bytes(content)
    card = card_of(Archive(f"http://127.0.0.1:9/{name}", sha256(content)))
    return fetch("tiny", card, audio, FetchOptions(urls=[str(copy)], max_bytes=max_bytes), progress)


def refusal(content: bytes, name: str, audio: Path, max_bytes: int | None = None) -> str:
    """Return the error message of an archive, after checking that nothing was unpacked anywhere."""
    before = tree(audio)
    with pytest.raises(DatasetError) as caught:
        unpack(content, name, audio, max_bytes)
    assert tree(audio) == before
    assert sorted(path.name for path in audio.parent.iterdir()) == sorted(["audio", "outside", name])
    assert (audio.parent / "outside").read_bytes() == OUTSIDE
    return str(caught.value)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file in a folder except the lock and the markers."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".lock", ".fetched"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("genres.tar.gz", tar_of(CLIPS)),
        ("genres.TGZ", tar_of(CLIPS)),
        ("genres.tar", tar_of(CLIPS, compression="")),
        ("genres.tar.bz2", tar_of(CLIPS, compression="bz2")),
        ("genres.tar.xz", tar_of(CLIPS, compression="xz")),
        ("genres.zip", zip_of(CLIPS)),
    ],
)
def test_archives_of_every_kind_are_unpacked(audio: Path, name: str, content: bytes) -> None:
    (fetched,) = unpack(content, name, audio)
    assert tree(audio) == CLIPS
    assert (fetched.name, fetched.checksum, fetched.n_files) == (name, sha256(content), 2)


def test_any_other_file_is_copied(audio: Path) -> None:
    unpack(b"song_id, valence\n", "labels.csv", audio)
    assert tree(audio) == {"labels.csv": b"song_id, valence\n"}


def test_folders_and_dots_in_names_are_accepted(audio: Path) -> None:
    folders = [special(".", tarfile.DIRTYPE), special("./empty", tarfile.DIRTYPE)]
    unpack(tar_of({"./genres/a.wav": b"a"}, *folders), "genres.tar.gz", audio)
    assert tree(audio) == {"genres/a.wav": b"a"}
    assert (audio / "empty").is_dir()


def test_a_hard_link_within_the_archive_becomes_a_copy(audio: Path) -> None:
    unpack(tar_of({"a.wav": b"a"}, special("b.wav", tarfile.LNKTYPE, "a.wav")), "genres.tar.gz", audio)
    assert tree(audio) == {"a.wav": b"a", "b.wav": b"a"}
    assert (audio / "b.wav").stat().st_nlink == 1


class TestHostileArchives:
    NAMES = ("../outside", "genres/../../outside", "/tmp/outside", "C:outside", "C:/outside", "..\\outside", "a\nb")

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("pack", [tar_of, zip_of])
    def test_names_outside_the_folder(self, audio: Path, pack: Callable[[dict[str, bytes]], bytes], name: str) -> None:
        message = refusal(pack({**CLIPS, name: b"gotcha"}), "genres.zip" if pack is zip_of else "genres.tar.gz", audio)
        assert f"not safe to unpack, and nothing was unpacked: {name!r} " in message

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices_in_a_tar(self, audio: Path, kind: bytes) -> None:
        message = refusal(tar_of(CLIPS, special("x", kind, "genres")), "genres.tar.gz", audio)
        assert "'x' is a symbolic link" if kind == tarfile.SYMTYPE else "'x' is a device" in message

    @pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "nowhere", "genres", "x"])
    def test_hard_links_to_anything_but_a_file_in_the_archive(self, audio: Path, target: str) -> None:
        entries = [special("genres", tarfile.DIRTYPE), special("x", tarfile.LNKTYPE, target)]
        assert "cannot unpack" in refusal(tar_of(CLIPS, *entries), "genres.tar.gz", audio)

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
    def test_links_and_devices_in_a_zip(self, audio: Path, kind: int) -> None:
        message = refusal(zip_of({**CLIPS, zip_entry("x", kind | 0o777): b"../outside"}), "genres.zip", audio)
        assert f"'x' is a {'symbolic link' if kind == stat.S_IFLNK else 'device'}" in message

    @pytest.mark.parametrize(("name", "pack"), [("zeros.zip", zip_of), ("zeros.tar.gz", tar_of)])
    def test_bombs(self, audio: Path, name: str, pack: Callable[[dict[str, bytes]], bytes]) -> None:
        content = pack({f"{number}.wav": bytes(4_000_000) for number in range(3)})
        message = refusal(content, name, audio)
        assert "more than 10 MB" in message
        assert "--max-size" in message
        unpack(content, name, audio, max_bytes=12_000_000)
        assert sum(map(len, tree(audio).values())) == 12_000_000

    def test_more_than_the_user_allows(self, audio: Path) -> None:
        assert "more than 0.01 MB" in refusal(zip_of(CLIPS), "genres.zip", audio, max_bytes=10_000)

    def test_too_many_members(self, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mirembed.datasets.unpack.MAX_MEMBERS", 1)
        assert "more than 1 member" in refusal(zip_of(CLIPS), "genres.zip", audio)

    def test_endless_folders(self, audio: Path) -> None:
        assert "not a valid file name" in refusal(zip_of({"a/" * 2000 + "a": b""}), "genres.zip", audio)

    @pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/")])
    def test_one_name_twice(self, audio: Path, names: tuple[str, str]) -> None:
        entries = [special(name, tarfile.REGTYPE) for name in names]
        message = refusal(tar_of({}, *entries), "genres.tar.gz", audio)
        assert f"{names[1]!r} twice" in message

    @given(names=st.sets(st.text(st.sampled_from("a./\\: \0"), min_size=1, max_size=8), min_size=1, max_size=3))
    def test_no_name_escapes_the_folder(self, tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
        around = tmp_path_factory.mktemp("around")
        content = tar_of(dict.fromkeys(sorted(names), b"x"))
        try:
            (fetched,) = unpack(content, "names.tar.gz", around / "audio")
            assert len(tree(around / "audio")) == fetched.n_files == len(names)
        except DatasetError:
            assert tree(around / "audio") == {}
        assert {path.name for path in around.iterdir()} == {"audio", "names.tar.gz"}


class TestDamagedArchives:
    @pytest.mark.parametrize("name", ["genres.tar.gz", "genres.tar", "genres.tar.bz2", "genres.tar.xz", "genres.zip"])
    def test_a_file_that_is_not_an_archive(self, audio: Path, name: str) -> None:
        assert "genres" in refusal(b"<html>moved</html>" * 99, name, audio)

    @pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
    def test_a_truncated_archive(self, audio: Path, compression: str) -> None:
        content = tar_of({"a.wav": os.urandom(50_000), "b.wav": os.urandom(50_000)}, compression=compression)
        assert "cannot unpack" in refusal(content[:70_000], f"genres.tar.{compression}", audio)

    def test_an_archive_with_wrong_content(self, audio: Path) -> None:
        content = zip_of(CLIPS).replace(b"blues.00000.wav", b"blues.00000.wax", 1)
        assert "File name in directory" in refusal(content, "genres.zip", audio)

    def test_an_encrypted_archive(self, audio: Path) -> None:
        content = zip_of({"a.wav": b"a"})
        local, central = content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8
        locked = bytearray(content)
        locked[local] |= 1
        locked[central] |= 1
        assert "password required" in refusal(bytes(locked), "genres.zip", audio)

    def test_an_archive_without_files(self, audio: Path) -> None:
        assert "contains no files" in refusal(tar_of({}, special("genres", tarfile.DIRTYPE)), "genres.tar.gz", audio)


class TestFilesThatAreThere:
    def test_identical_files_are_kept(self, audio: Path) -> None:
        clip = audio / "genres" / "blues" / "blues.00000.wav"
        clip.parent.mkdir(parents=True)
        clip.write_bytes(CLIPS["genres/blues/blues.00000.wav"])
        (audio / "genres" / "notes.txt").write_bytes(b"mine")
        before = clip.stat()
        unpack(zip_of(CLIPS), "genres.zip", audio)
        assert tree(audio) == {**CLIPS, "genres/notes.txt": b"mine"}
        assert (clip.stat().st_ino, clip.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_different_content_is_never_overwritten(self, audio: Path) -> None:
        for name in CLIPS:
            (audio / name).parent.mkdir(parents=True)
            (audio / name).write_bytes(b"mine")
        message = refusal(zip_of({"a.wav": b"a", **CLIPS}), "genres.zip", audio)
        assert f"{audio}/genres/blues/blues.00000.wav and 1 more would be overwritten" in message

    def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(self, audio: Path) -> None:
        (audio / "a").mkdir(parents=True)
        (audio / "b").write_bytes(b"")
        message = refusal(zip_of({"a": b"", "b/c": b""}), "genres.zip", audio)
        assert f"{audio}/a and 1 more would be overwritten" in message

    @pytest.mark.parametrize("target", ["..", "nowhere"])
    def test_an_existing_link_is_not_followed(self, audio: Path, target: str) -> None:
        audio.mkdir()
        (audio / "genres").symlink_to(target)
        assert f"{audio}/genres would be overwritten" in refusal(zip_of(CLIPS), "genres.zip", audio)
        assert (audio / "genres").is_symlink()


class TestInterruptions:
    def test_an_interruption_leaves_no_partial_files(self, audio: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            unpack(zip_of(CLIPS), "genres.zip", audio, progress=Interrupted("unpacking"))
        assert tree(audio) == {}
        unpack(zip_of(CLIPS), "genres.zip", audio)
        assert tree(audio) == CLIPS

    def test_leftovers_of_a_killed_process_are_removed(self, audio: Path) -> None:
        unpacking = audio / ".genres.zip.unpacking"
        unpacking.mkdir(parents=True)
        (unpacking / "half.wav").write_bytes(b"ha")
        unpack(zip_of(CLIPS), "genres.zip", audio)
        assert tree(audio) == CLIPS

    def test_an_interruption_between_two_moves_is_repaired_by_the_next_command(self, audio: Path) -> None:
        content = zip_of({"a.wav": b"a", "b.wav": b"b"})
        audio.mkdir()
        (audio / "a.wav").write_bytes(b"a")
        unpack(content, "clips.zip", audio)
        assert tree(audio) == {"a.wav": b"a", "b.wav": b"b"}
