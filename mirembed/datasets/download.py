"""Download one file over HTTP, resuming after any interruption, in this process or a later one.

This uses urllib, which handles redirects, proxies and TLS, because pooch restarts interrupted downloads.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from mirembed.errors import DatasetError, SpecError
from mirembed.interruption import interruptible
from mirembed.progress import Progress
from mirembed.store.files import write_error

CHUNK = 1 << 18
"""Bytes to read at a time."""
MEGABYTE = 1e6

TRANSIENT = {408, 429, 500, 502, 503, 504}
"""HTTP statuses after which another try may succeed."""
HEADWAY = 1 << 20
"""A connection that delivered this many bytes before it broke does not count as a failure."""


def parse_checksum(text: str) -> str:
    """Read a checksum, ``sha256:...`` or ``md5:...``, and return it in lower case.

    >>> parse_checksum("MD5:0CC175B9C0F1B6A831C399E269772661")
    'md5:0cc175b9c0f1b6a831c399e269772661'

    Raises
    ------
    SpecError
        If the text is not a checksum.
    """
    checksum = text.strip().lower()
    if not re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum):
        raise SpecError(
            f"{text!r} is not a checksum; expected sha256: and 64 hexadecimal digits, or md5: and 32 of them"
        )
    return checksum


def checksum_of(path: Path, expected: str, progress: Progress) -> str:
    """Compute the checksum of a file with the algorithm of the expected one.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    """
    algorithm = expected.partition(":")[0]
    # Some datasets were published with MD5 only, which is enough to detect a damaged copy.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        progress.start(f"checking {path.name} (MB)", path.stat().st_size / MEGABYTE)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                progress.update(file.tell() / MEGABYTE)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    return f"{algorithm}:{digest.hexdigest()}"


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server.

    Attributes
    ----------
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    tries : int
        Consecutive connections that may fail.
    pause : float
        Seconds before the second try; the pause doubles with each further one.
    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 1.0


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's error about writing ``path`` into a `StoreWriteError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error, "--audio") from error


def download(url: str, target: Path, checksum: str, progress: Progress, policy: RetryPolicy) -> None:
    """Download a file; ``target`` appears once the file is complete and its checksum is right.

    Raises
    ------
    DatasetError
        If the server cannot be reached or refuses, or if the file is not the expected one.
    StoreWriteError
        If the file cannot be written.
    """
    part = _PartialFile(target)
    transfer = _Transfer(url, target.name, part, advice=elsewhere(checksum), progress=progress, policy=policy)
    transfer.complete()
    found = checksum_of(part.path, checksum, progress)
    if found != checksum and part.resumed:
        progress.note(f"{target.name} was downloaded in pieces that do not fit together; downloading it again")
        part.discard()
        transfer.complete()
        found = checksum_of(part.path, checksum, progress)
    if found != checksum:
        mismatch = target.with_name(f"{target.name}.mismatch")
        part.rename(mismatch)
        raise DatasetError(
            f"{url} has {found}, expected {checksum}; it was kept as {mismatch} and not unpacked\n"
            f"{elsewhere(checksum)}; if you trust this one: --url {mismatch} --checksum {found}"
        )
    part.rename(target)


def elsewhere(checksum: str) -> str:
    """Say how to use a copy from somewhere else."""
    return f"get a copy with {checksum} elsewhere and give it with --url URL or --url FILE"


class _PartialFile:
    """The bytes of a file received so far, ``NAME.part``, and ``NAME.part.version``: their URL and version.

    Attributes
    ----------
    path : pathlib.Path
    resumed : bool
        Whether the bytes come from several connections, and so perhaps from several versions of the file.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.resumed = False
        self._version = target.with_name(f"{target.name}.part.version")

    @property
    def size(self) -> int:
        with disk_errors(self.path):
            return self.path.stat().st_size if self.path.exists() else 0

    def headers(self, url: str) -> dict[str, str]:
        """Return the request headers that ask for the missing bytes."""
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        with disk_errors(self._version):
            text = self._version.read_text(encoding="utf-8", errors="replace") if self._version.exists() else ""
        address, _, version = text.partition("\n")
        # Another host has other version tags; the checksum will tell whether its file is the same.
        if address == url and version:
            headers["If-Range"] = version
        return headers

    def begin(self, url: str, version: str) -> None:
        """Start from the first byte."""
        self.discard()
        with disk_errors(self._version):
            self._version.write_text(f"{url}\n{version}", encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        with disk_errors(self.path), self.path.open("ab") as file:
            file.write(chunk)

    def sync(self) -> None:
        with disk_errors(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())

    def rename(self, target: Path) -> None:
        """Give the complete file its name."""
        with disk_errors(target):
            self.path.replace(target)
            self._version.unlink(missing_ok=True)

    def discard(self) -> None:
        self.resumed = False
        for path in (self.path, self._version):
            with disk_errors(path):
                path.unlink(missing_ok=True)


class _RetryError(Exception):
    """The server sent less than the file, but may send the rest if asked again."""


@dataclass(frozen=True)
class _Transfer:
    """The transfer of a file from a server to a partial file."""

    url: str
    name: str
    part: _PartialFile
    advice: str
    progress: Progress
    policy: RetryPolicy

    def complete(self) -> None:
        """Connect until the file is complete."""
        failures = 0
        while True:
            before = self.part.size
            try:
                self._receive()
                return
            except (_RetryError, OSError, http.client.HTTPException) as error:
                reason = _reason(error, urlsplit(self.url).hostname)
            failures = 1 if self.part.size >= before + HEADWAY else failures + 1
            if failures >= self.policy.tries:
                size = self.part.size
                kept = f"; {_megabytes(size)} were kept, run the same command again to resume" if size else ""
                raise DatasetError(
                    f"cannot download {self.url}: {reason} ({failures} tries){kept}\n"
                    f"check the internet connection; if the host is gone, {self.advice}"
                )
            pause = self.policy.pause * 2 ** (failures - 1)
            self.progress.note(f"{reason}; retrying in {pause:g} s")
            with interruptible():
                time.sleep(pause)

    def _receive(self) -> None:
        """Connect once and append what the server sends to the partial file.

        Raises
        ------
        _RetryError, OSError, http.client.HTTPException
            If another try may help.
        DatasetError
            If not.
        """
        try:
            headers = {"User-Agent": "mirembed", **self.part.headers(self.url)}
            request = urllib.request.Request(_quoted(self.url), headers=headers)  # noqa: S310 - see _opener
            with interruptible():
                response = _opener().open(request, timeout=self.policy.timeout)
            with response:
                self._append(response)
        except HTTPError as error:
            error.close()
            self._handle_status(error)
        except (http.client.InvalidURL, ValueError) as error:
            raise DatasetError(f"{self.url} is not a valid URL: {error}; give http://... or https://...") from error
        except URLError as error:
            if isinstance(error.reason, OSError):
                raise
            raise DatasetError(f"cannot download {self.url}: {error.reason}\n{self.advice}") from error

    def _append(self, response: http.client.HTTPResponse) -> None:
        start, total = _extent(response)
        if start == 0:
            if self.part.size:
                self.progress.note(f"the server cannot resume {self.name}; starting from the beginning")
            self.part.begin(self.url, _version(response))
        elif start == self.part.size:
            self.part.resumed = True
        else:
            self.part.discard()
            raise _RetryError("the server sent a different part of the file than requested")
        self.progress.start(f"downloading {self.name} (MB)", (total or 0) / MEGABYTE)
        size = start
        try:
            while chunk := _read(response):
                self.part.append(chunk)
                size += len(chunk)
                self.progress.update(size / MEGABYTE)
        finally:
            self.part.sync()
        if total is not None and size < total:
            raise _RetryError(f"the connection broke after {_megabytes(size)} of {_megabytes(total)}")

    def _handle_status(self, error: HTTPError) -> None:
        """Return if the error means that the file is complete; raise `_RetryError` if another try may help."""
        size = self.part.size
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
            if error.headers.get("Content-Range", f"bytes */{size}") == f"bytes */{size}":
                self.part.resumed = True
                return
            self.part.discard()
            raise _RetryError("the file on the server is shorter than the part downloaded so far")
        answer = f"the server answered {error.code} {error.reason}"
        if error.code in TRANSIENT:
            raise _RetryError(answer)
        raise DatasetError(f"cannot download {self.url}: {answer}\n{self.advice}")


def _reason(error: Exception, host: str | None) -> str:
    """Say why a connection failed; of an error of the network, which host was meant."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"the connection to {host} timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return f"no connection to {host}: {cause.strerror}"
    return str(cause) or type(cause).__name__


@interruptible()
def _read(response: http.client.HTTPResponse) -> bytes:
    """Wait for some bytes, and return them; none at the end."""
    return response.read1(CHUNK)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that refuses every scheme but HTTP and HTTPS, in redirects too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _quoted(url: str) -> str:
    """Return a URL as it is sent.

    >>> _quoted("https://host/für alle/a.zip")
    'https://host/f%C3%BCr%20alle/a.zip'
    """
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return the offset of the first byte sent (-1: unknown), and the size of the whole file if known."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, response.length
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    start = int(match[1])
    if match[2] != "*":
        return start, int(match[2])
    return start, None if response.length is None else start + response.length


def _version(response: http.client.HTTPResponse) -> str:
    """Return a value for ``If-Range``: a strong entity tag, or else a date."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"
