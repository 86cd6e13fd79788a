"""Downloading for ``mirembed datasets fetch``: servers that break off, change a file, or are gone."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_server import QUICK, Interrupted, Notes, Server, card_of, noise, serving, sha256

from mirembed import Archive, DatasetError
from mirembed.datasets.download import RetryPolicy
from mirembed.datasets.fetch import FetchOptions, fetch
from mirembed.errors import SpecError, StoreWriteError
from mirembed.progress import NO_PROGRESS, Progress

LABELS = noise(300_000)
"""A file that arrives in more than one piece; it needs no unpacking."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a proxy that does not exist, except for servers on this machine."""
    for name in ("HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def labels(server: Server) -> Archive:
    return server.serve("labels.csv", LABELS)


def run(
    archive: Archive,
    audio: Path,
    progress: Progress = NO_PROGRESS,
    options: FetchOptions | None = None,
    policy: RetryPolicy = QUICK,
):
    """Fetch one archive and return its content."""
    fetch("tiny", card_of(archive), audio, options, progress, policy)
    return (audio / "labels.csv").read_bytes()


def failure(archive: Archive, audio: Path, policy: RetryPolicy = QUICK) -> str:
    """Return the error message of a fetch, after checking that it left no file with the final name."""
    with pytest.raises(DatasetError) as caught:
        run(archive, audio, policy=policy)
    assert not (audio / "labels.csv").exists()
    return str(caught.value)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


class TestContinuing:
    def test_a_broken_connection_is_resumed_where_it_broke(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.stops = [150_000, 100_000]
        notes = Notes()
        assert run(labels, tmp_path, notes) == LABELS
        assert server.asked == [
            {"path": "/labels.csv"},
            {"path": "/labels.csv", "Range": "bytes=150000-", "If-Range": '"1"'},
            {"path": "/labels.csv", "Range": "bytes=250000-", "If-Range": '"1"'},
        ]
        assert any("0.1 MB of 0.3 MB" in note and "0.001 s" in note for note in notes.said)
        assert visible(tmp_path) == ["labels.csv"]

    def test_an_interrupted_download_is_resumed_by_the_next_command(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.stops, server.stalls = [100_000], True
        with pytest.raises(KeyboardInterrupt):
            run(labels, tmp_path, Interrupted("downloading"))
        came = (tmp_path / "labels.csv.part").read_bytes()
        assert 0 < len(came) <= 100_000
        assert LABELS.startswith(came)
        assert run(labels, tmp_path) == LABELS
        assert server.asked[1:] == [{"path": "/labels.csv", "Range": f"bytes={len(came)}-", "If-Range": '"1"'}]

    def test_a_server_that_ignores_ranges_sends_everything_again(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.stops, server.ranges = [100_000], False
        notes = Notes()
        assert run(labels, tmp_path, notes) == LABELS
        assert len(server.asked) == 2
        assert any("cannot resume labels.csv" in note for note in notes.said)

    def test_a_file_that_changed_in_the_meantime_is_downloaded_from_the_beginning(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        (tmp_path / "labels.csv.part").write_bytes(b"of the old version")
        (tmp_path / "labels.csv.part.version").write_text(f'{labels.url}\n"0"')
        assert run(labels, tmp_path) == LABELS
        assert server.asked == [{"path": "/labels.csv", "Range": "bytes=18-", "If-Range": '"0"'}]

    @pytest.mark.parametrize("date", [None, "Tue, 01 Jul 2014 10:00:00 GMT"])
    def test_a_date_identifies_a_version_but_a_weak_tag_does_not(
        self, server: Server, labels: Archive, tmp_path: Path, date: str | None
    ) -> None:
        server.stops, server.tag, server.date = [100_000], 'W/"1"', date
        assert run(labels, tmp_path) == LABELS
        assert server.asked[1].get("Range") == "bytes=100000-"
        assert server.asked[1].get("If-Range") == date

    @pytest.mark.parametrize("size", [18, len(LABELS), len(LABELS) + 1])
    def test_pieces_that_do_not_fit_together_are_downloaded_again(
        self, server: Server, labels: Archive, tmp_path: Path, size: int
    ) -> None:
        (tmp_path / "labels.csv.part").write_bytes(bytes(size))
        assert run(labels, tmp_path) == LABELS
        assert server.asked == [{"path": "/labels.csv", "Range": f"bytes={size}-"}, {"path": "/labels.csv"}]

    def test_a_file_that_was_complete_before_a_power_cut_is_not_downloaded_again(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        (tmp_path / "labels.csv.part").write_bytes(LABELS)
        assert run(labels, tmp_path) == LABELS
        assert server.asked == [{"path": "/labels.csv", "Range": "bytes=300000-"}]

    @pytest.mark.parametrize("wrong", ["bytes 5-299999/300000", "pages 1-2/3"])
    def test_a_different_part_than_requested_is_not_appended(
        self, server: Server, labels: Archive, tmp_path: Path, wrong: str
    ) -> None:
        server.stops, server.content_range = [100_000], wrong
        assert run(labels, tmp_path) == LABELS
        assert [request.get("Range") for request in server.asked] == [None, "bytes=100000-", None]

    def test_a_mirror_resumes_a_download_from_another_host(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.stops, server.stalls = [100_000], True
        with pytest.raises(KeyboardInterrupt):
            run(labels, tmp_path, Interrupted("downloading"))
        size = (tmp_path / "labels.csv.part").stat().st_size
        with serving() as mirror:
            mirror.files["/copy"], mirror.tag = LABELS, '"of the mirror"'
            assert run(labels, tmp_path, options=FetchOptions(urls=[f"{mirror.address}/copy"])) == LABELS
            assert mirror.asked == [{"path": "/copy", "Range": f"bytes={size}-"}]

    def test_a_long_download_may_break_often_if_it_makes_progress(self, server: Server, tmp_path: Path) -> None:
        content = noise(8 << 20)
        archive = server.serve("labels.csv", content)
        server.stops = [(1 << 20) + 1] * 7
        assert run(archive, tmp_path) == content
        assert len(server.asked) == 8 > QUICK.tries


class TestServersThatFail:
    def test_a_missing_file_is_an_immediate_error_that_says_what_to_do(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.files.clear()
        message = failure(labels, tmp_path)
        assert all(text in message for text in (labels.url, "404 Not Found", sha256(LABELS), "--url FILE"))
        assert len(server.asked) == 1

    def test_a_busy_server_is_tried_again(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        server.statuses = [503, 429]
        assert run(labels, tmp_path) == LABELS
        assert len(server.asked) == 3

    def test_a_server_that_stays_busy_is_an_error(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        server.statuses = [503] * 9
        message = failure(labels, tmp_path)
        assert all(text in message for text in ("503 Service Unavailable (3 tries)", sha256(LABELS), "--url FILE"))
        assert len(server.asked) == 3

    def test_bytes_that_came_before_the_server_stalled_are_kept(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.stops, server.stalls = [100_000, 100_000, 0], True
        message = failure(labels, tmp_path, replace(QUICK, timeout=1))
        assert re.search(r"timed out \(3 tries\).*0\.2 MB.*same command", message)
        assert (tmp_path / "labels.csv.part").read_bytes() == LABELS[:200_000]

    def test_a_host_that_is_gone_is_an_error(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        message = failure(Archive(f"http://127.0.0.1:{port}/labels.csv", sha256(LABELS)), tmp_path)
        assert "127.0.0.1: Connection refused (3 tries)" in message
        assert "--url FILE" in message

    def test_a_premature_end_is_detected_without_a_length(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.length, server.stops = False, [100_000]
        assert f"has {sha256(LABELS[:100_000])}, expected {labels.checksum}" in failure(labels, tmp_path)

    def test_a_file_without_a_length_is_downloaded(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        server.length = False
        assert run(labels, tmp_path) == LABELS


class TestChecksums:
    def test_an_unexpected_file_is_set_aside(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        server.files["/labels.csv"] = b"this domain is for sale"
        message = failure(labels, tmp_path)
        found = sha256(b"this domain is for sale")
        aside = tmp_path / "labels.csv.mismatch"
        assert f"{labels.url} has {found}, expected {labels.checksum}" in message
        assert f"--url {aside} --checksum {found}" in message
        assert visible(tmp_path) == ["labels.csv.mismatch"]
        assert len(server.asked) == 1

    def test_the_advice_of_the_message_works_for_a_trusted_file(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.files["/labels.csv"] = b"a later version"
        failure(labels, tmp_path)
        options = FetchOptions(urls=[str(tmp_path / "labels.csv.mismatch")], checksum=sha256(b"a later version"))
        assert run(labels, tmp_path, options=options) == b"a later version"

    def test_a_file_with_the_checksum_that_was_given_is_downloaded(
        self, server: Server, labels: Archive, tmp_path: Path
    ) -> None:
        server.files["/labels.csv"] = b"a later version"
        assert run(labels, tmp_path, options=FetchOptions(checksum=sha256(b"a later version"))) == b"a later version"

    def test_md5_is_accepted(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        # as printed by md5sum
        server.files["/labels.csv"] = b"a"
        assert run(Archive(labels.url, "md5:0cc175b9c0f1b6a831c399e269772661"), tmp_path) == b"a"

    @pytest.mark.parametrize("text", ["sha1:0cc175b9c0f1b6a831c399e269772661", "md5:", "abc", "md5:" + "g" * 32])
    def test_a_malformed_checksum_is_an_error(self, labels: Archive, tmp_path: Path, text: str) -> None:
        with pytest.raises(SpecError, match=rf"{text!r} is not a checksum.*sha256:.*md5:"):
            run(labels, tmp_path, options=FetchOptions(checksum=text))


class TestAddresses:
    def test_a_redirect_is_followed(self, server: Server, labels: Archive, tmp_path: Path) -> None:
        server.redirects["/old/labels.csv"] = "/labels.csv"
        assert run(Archive(f"{server.address}/old/labels.csv", labels.checksum), tmp_path) == LABELS

    @pytest.mark.parametrize("elsewhere", ["file:///etc/passwd", "ftp://127.0.0.1/labels.csv"])
    def test_a_redirect_to_anything_but_http_is_refused(self, server: Server, tmp_path: Path, elsewhere: str) -> None:
        server.redirects["/labels.csv"] = elsewhere
        message = failure(Archive(f"{server.address}/labels.csv", sha256(LABELS)), tmp_path)
        assert "not allowed" in message or "unknown url type: ftp" in message
        assert len(server.asked) == 1

    @pytest.mark.parametrize(
        "url", ["ftp://host/labels.csv", "file:///labels.csv", "http:///labels.csv", "http://[", "http://host:port/"]
    )
    def test_only_http_and_https_are_accepted(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(SpecError, match=re.escape(url) + " cannot be downloaded.*https://"):
            fetch("tiny", card_of(Archive(url, sha256(LABELS))), tmp_path)

    @pytest.mark.parametrize("host", ["127..0.0.1", "user:word@127.0.0.1"])
    def test_an_invalid_url_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
        monkeypatch.setenv("no_proxy", "*")
        message = failure(Archive(f"http://{host}/labels.csv", sha256(LABELS)), tmp_path)
        assert f"http://{host}/labels.csv is not a valid URL: " in message

    def test_spaces_and_umlauts_are_percent_encoded(self, server: Server, tmp_path: Path) -> None:
        server.files["/f%C3%BCr%20alle/labels.csv"] = LABELS
        assert run(Archive(f"{server.address}/für alle/labels.csv", sha256(LABELS)), tmp_path) == LABELS

    def test_the_proxy_in_the_environment_is_used(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", server.address)
        server.files["http://far.invalid/labels.csv"] = LABELS
        assert run(Archive("http://far.invalid/labels.csv", sha256(LABELS)), tmp_path) == LABELS


def test_a_folder_that_cannot_be_created_is_an_error(labels: Archive, tmp_path: Path) -> None:
    (tmp_path / "audio").write_text("a file")
    with pytest.raises(StoreWriteError, match=r"cannot write .*/audio: File exists.*--audio"):
        run(labels, tmp_path / "audio")
