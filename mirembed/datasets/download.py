"""One file over HTTP, continued after any interruption, in this process or in a later one."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from mirembed.datasets.fetch_files import CHUNK, MEGABYTE, Checksum, disk_errors
from mirembed.errors import DatasetError
from mirembed.progress import Progress

# Why the standard library: pooch starts an interrupted download anew, and its unpacking trusts the archive. What
# is left of it, a checksum, needs no dependency; urllib.request brings redirects, proxies and TLS.

WORTH_ANOTHER_TRY = {408, 429, 500, 502, 503, 504}
"""HTTP statuses of a server that may answer later."""
HEADWAY = 1 << 20
"""A connection that brought this many bytes before it broke is not counted as a failure."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes
    ----------
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    tries : int
        Connections in a row that may fail.
    pause : float
        Seconds before the second try; they double with each further one.
    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 1.0


class _BrokenError(Exception):
    """The server sent less than the file, and may send the rest when it is asked again."""


class _Partial:
    """What has come of a file: ``NAME.part``; beside it, the address and the version that these bytes are of.

    Attributes
    ----------
    path : pathlib.Path
    resumed : bool
        The bytes come from more than one connection, and so perhaps not from one version of the file.
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
        """Return the request headers that ask for what is missing."""
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        with disk_errors(self._version):
            text = self._version.read_text(encoding="utf-8", errors="replace") if self._version.exists() else ""
        address, _, version = text.partition("\n")
        # Another host has other version tags; whether its file is the same one, the checksum will tell.
        if address == url and version:
            headers["If-Range"] = version
        return headers

    def begin(self, url: str, version: str) -> None:
        """Start at the first byte."""
        self.discard()
        with disk_errors(self._version):
            self._version.write_text(f"{url}\n{version}", encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        with disk_errors(self.path), self.path.open("ab") as file:
            file.write(chunk)

    def sync(self) -> None:
        with disk_errors(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())

    def move(self, target: Path) -> None:
        """Give what has come its name."""
        with disk_errors(target):
            self.path.replace(target)
            self._version.unlink(missing_ok=True)

    def discard(self) -> None:
        self.resumed = False
        for path in (self.path, self._version):
            with disk_errors(path):
                path.unlink(missing_ok=True)


def download(url: str, target: Path, checksum: Checksum, progress: Progress, patience: Patience) -> None:
    """Download a file; ``target`` appears when all of it is there and its checksum is right.

    Raises
    ------
    DatasetError
        If the server cannot be reached or refuses, or if the file is not the one that was expected.
    StoreWriteError
        If the file cannot be written.
    """
    one = _Download(url, target, checksum, progress, patience)
    one.complete()
    found = checksum.of(one.partial.path, progress)
    if found != checksum and one.partial.resumed:
        progress.note(f"what came of {target.name} in pieces is not the expected file; downloading it anew")
        one.partial.discard()
        one.complete()
        found = checksum.of(one.partial.path, progress)
    if found != checksum:
        aside = target.with_name(f"{target.name}.mismatch")
        one.partial.move(aside)
        raise DatasetError(
            f"{url} has {found}, expected {checksum}; it was not unpacked, and lies in {aside}\n"
            f"{elsewhere(checksum)}; if you trust this one: --url {aside} --checksum {found}"
        )
    one.partial.move(target)


def elsewhere(checksum: Checksum) -> str:
    """Say how a copy that does not come from its host is used."""
    return f"get a copy with {checksum} elsewhere and give it with --url URL or --url FILE"


class _Download:
    """One file on its way from a server to its partial file."""

    def __init__(self, url: str, target: Path, checksum: Checksum, progress: Progress, patience: Patience) -> None:
        self.partial = _Partial(target)
        self._url, self._name, self._advice = url, target.name, elsewhere(checksum)
        self._progress, self._patience = progress, patience

    def complete(self) -> None:
        """Connect until all of the file is there."""
        failures = 0
        while True:
            before = self.partial.size
            try:
                self._receive()
                return
            except (_BrokenError, OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 1 if self.partial.size >= before + HEADWAY else failures + 1
            if failures >= self._patience.tries:
                size = self.partial.size
                kept = f"; {_megabytes(size)} are kept, and the same command goes on from there" if size else ""
                raise DatasetError(
                    f"cannot download {self._url}: {reason} ({failures} tries){kept}\n"
                    f"if the host is gone, {self._advice}"
                )
            pause = self._patience.pause * 2 ** (failures - 1)
            self._progress.note(f"{reason}; trying again in {pause:g} s")
            time.sleep(pause)

    def _receive(self) -> None:
        """Connect once and append what comes to the partial file.

        Raises
        ------
        _BrokenError, OSError, http.client.HTTPException
            If it is worth trying again.
        DatasetError
            If it is not.
        """
        try:
            headers = {"User-Agent": "mirembed", **self.partial.headers(self._url)}
            request = urllib.request.Request(_quoted(self._url), headers=headers)  # noqa: S310 - see _opener
            with _opener().open(request, timeout=self._patience.timeout) as response:
                self._append(response)
        except HTTPError as error:
            error.close()
            self._judge(error)
        except (http.client.InvalidURL, ValueError) as error:
            raise DatasetError(f"{self._url} is not an address: {error}; write http://... or https://...") from error
        except URLError as error:
            if isinstance(error.reason, OSError):
                raise
            raise DatasetError(f"cannot download {self._url}: {error.reason}\n{self._advice}") from error

    def _append(self, response: http.client.HTTPResponse) -> None:
        start, total = _extent(response)
        if start == 0:
            if self.partial.size:
                self._progress.note(f"the server does not continue {self._name}; it starts from the beginning")
            self.partial.begin(self._url, _version(response))
        elif start == self.partial.size:
            self.partial.resumed = True
        else:
            self.partial.discard()
            raise _BrokenError("the server sent another part of the file than it was asked for")
        self._progress.start(f"downloading {self._name} (MB)", (total or 0) / MEGABYTE)
        size = start
        try:
            while chunk := response.read1(CHUNK):
                self.partial.append(chunk)
                size += len(chunk)
                self._progress.update(size / MEGABYTE)
        finally:
            self.partial.sync()
        if total is not None and size < total:
            raise _BrokenError(f"the connection broke after {_megabytes(size)} of {_megabytes(total)}")

    def _judge(self, error: HTTPError) -> None:
        """Return if the error says that all is there; raise `_BrokenError` if another try may help."""
        size = self.partial.size
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
            if error.headers.get("Content-Range", f"bytes */{size}") == f"bytes */{size}":
                self.partial.resumed = True
                return
            self.partial.discard()
            raise _BrokenError("the file on the server is shorter than what is here of it")
        says = f"the server says {error.code} {error.reason}"
        if error.code in WORTH_ANOTHER_TRY:
            raise _BrokenError(says)
        raise DatasetError(f"cannot download {self._url}: {says}\n{self._advice}")


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for HTTP and HTTPS, and for nothing else that an address or a redirect may name."""
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
    """Return an address as it is sent: a space or an umlaut as ``%20`` or ``%C3%BC``."""
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return the position of the first byte that comes (-1: unknown), and the size of the file where it is known."""
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
    """Return what ``If-Range`` may ask for: a strong entity tag, or else a date."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"
