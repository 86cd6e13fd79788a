"""A local web server with the faults of real ones, and archives for it to serve."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mirembed import Archive, Card
from mirembed.datasets.download import RetryPolicy
from mirembed.progress import Silent

QUICK = RetryPolicy(timeout=30, tries=3, pause=0.001)
"""Does not pause, and waits long enough for a server on a busy machine."""

CLIPS = {"genres/blues/blues.00000.wav": b"low and slow" * 1000, "genres/pop/pop.00000.wav": b"hey" * 500}
"""The content of most archives in the tests."""


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def noise(size: int) -> bytes:
    """Incompressible bytes that are the same in every run."""
    return hashlib.shake_256(b"mirembed").digest(size)


def tar_of(files: Mapping[str, bytes], *special: tarfile.TarInfo, compression: str = "gz") -> bytes:
    """A tar archive of files, followed by members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in special:
            tar.addfile(entry)
    return buffer.getvalue()


def zip_of(files: Mapping[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            if isinstance(name, str):  # without the time, so that equal files make equal archives
                name, mode = zipfile.ZipInfo(name), 0o600
                name.compress_type, name.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            bundle.writestr(name, content)
    return buffer.getvalue()


def card_of(*archives: Archive) -> Card:
    return Card(
        title="Tiny: two clips",
        n_tracks=2,
        labels="2 genres",
        license="unknown",
        citation="@article{tiny}",
        source="Ask its authors.",
        tree="genres/",
        archives=archives,
    )


class Notes(Silent):
    """Records the notes for the user."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Interrupted(Silent):
    """Presses ctrl-C as soon as the stage with this description makes progress."""

    def __init__(self, stage: str) -> None:
        self._stage, self._description = stage, ""

    def start(self, description: str, total: float) -> None:
        self._description = description

    def update(self, completed: float, **_: float) -> None:
        if self._description.startswith(self._stage):
            raise KeyboardInterrupt


@dataclass
class Server:
    """What to serve and how, and the requests so far."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str | None = '"1"'
    """The entity tag of all files."""
    date: str | None = None
    """The modification date of all files."""
    ranges: bool = True
    """Whether parts of a file are served."""
    statuses: list[int] = field(default_factory=list)
    """Statuses that answer the next requests instead of a file."""
    stops: list[int] = field(default_factory=list)
    """Number of bytes after which the next connections break."""
    stalls: bool = False
    """Whether connections stall instead of breaking."""
    length: bool = True
    """Whether the length of a file is announced."""
    redirects: dict[str, str] = field(default_factory=dict)
    content_range: str | None = None
    """Sent instead of the correct header."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """The path, and the headers Range and If-Range, of each request."""
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, name: str, content: bytes, folder: str = ".") -> Archive:
        """Serve a file, and return its archive for a card."""
        self.files[f"/{name}"] = content
        return Archive(f"{self.address}/{name}", sha256(content), folder)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.state = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield http.state
    finally:
        http.state.closing.set()
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        state: Server = self.server.state
        headers = {name: self.headers[name] for name in ("Range", "If-Range") if name in self.headers}
        state.asked.append({"path": self.path, **headers})
        if state.statuses:
            self._finish(state.statuses.pop(0))
        elif self.path in state.redirects:
            self._finish(302, Location=state.redirects[self.path])
        elif self.path not in state.files:
            self._finish(404)
        else:
            self._send(state, state.files[self.path])

    def _send(self, state: Server, content: bytes) -> None:
        start = 0
        unchanged = self.headers.get("If-Range", state.tag) in (state.tag, state.date)
        if state.ranges and "Range" in self.headers and unchanged:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self._finish(416, Content_Range=f"bytes */{len(content)}")
            return
        self.send_response(206 if start else 200)
        if start:
            right = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", state.content_range or right)
        if state.length:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in (("ETag", state.tag), ("Last-Modified", state.date)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        stop = state.stops.pop(0) if state.stops else len(content)
        with contextlib.suppress(OSError):  # the client may be killed
            self.wfile.write(content[start : start + stop])
        if state.stalls and start + stop < len(content):
            state.closing.wait()

    def _finish(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
