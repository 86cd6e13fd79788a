"""``mirembed datasets fetch``: from a dataset's name to its audio folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from archive_server import CLIPS, QUICK, Notes, Server, card_of, noise, serving, sha256, tar_of, zip_of
from conftest import clean_environment, run_here, wait_until

from mirembed import Archive, DatasetError
from mirembed.datasets.fetch import Fetched, FetchOptions, fetch
from mirembed.errors import PluginError, SpecError, StoreBusyError

LABELS = b"track, mood\n1, calm\n"
PACKED = tar_of(CLIPS)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def archives(server: Server) -> tuple[Archive, Archive]:
    """Clips in a tar archive, and labels that have their own folder."""
    return server.serve("genres.tar.gz", PACKED), server.serve("labels.csv", LABELS, "labels")


def paths(server: Server) -> list[str]:
    return [request["path"] for request in server.asked]


def get(archives: tuple[Archive, ...], audio: Path, **options: object) -> list[Fetched]:
    return fetch("tiny", card_of(*archives), audio, FetchOptions(**options), policy=QUICK)


def test_archives_are_fetched_in_order_each_into_its_folder(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path
) -> None:
    assert get(archives, tmp_path / "new" / "audio") == [
        Fetched("genres.tar.gz", sha256(PACKED), 2, before=False),
        Fetched("labels.csv", sha256(LABELS), 1, before=False),
    ]
    assert paths(server) == ["/genres.tar.gz", "/labels.csv"]
    audio = tmp_path / "new" / "audio"
    assert {name: (audio / name).read_bytes() for name in CLIPS} == CLIPS
    assert (audio / "labels" / "labels.csv").read_bytes() == LABELS
    assert (audio / "genres.tar.gz").read_bytes() == PACKED


def test_license_citation_and_source_are_shown_before_any_request(tmp_path: Path) -> None:
    notes = Notes()
    gone = Archive("http://127.0.0.1:9/genres.tar.gz", sha256(PACKED))
    with pytest.raises(DatasetError):
        fetch("tiny", card_of(gone), tmp_path, None, notes, QUICK)
    shown = " ".join(notes.said[:4])
    assert all(text in shown for text in ("Tiny: two clips", "license: unknown", "Ask its authors.", "@article{tiny}"))


def test_a_second_command_does_nothing(server: Server, archives: tuple[Archive, Archive], tmp_path: Path) -> None:
    get(archives, tmp_path)
    (tmp_path / "genres.tar.gz").unlink()
    server.asked.clear()
    assert [one.before for one in get(archives, tmp_path)] == [True, True]
    assert server.asked == []


def test_the_next_command_resumes_with_the_archive_that_failed(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path
) -> None:
    del server.files["/labels.csv"]
    with pytest.raises(DatasetError, match="404"):
        get(archives, tmp_path)
    server.files["/labels.csv"] = LABELS
    assert [one.before for one in get(archives, tmp_path)] == [True, False]
    assert paths(server) == ["/genres.tar.gz", "/labels.csv", "/labels.csv"]


def test_a_lost_file_is_restored(server: Server, archives: tuple[Archive, Archive], tmp_path: Path) -> None:
    get(archives, tmp_path)
    clip = tmp_path / "genres" / "pop" / "pop.00000.wav"
    clip.unlink()
    assert [one.before for one in get(archives, tmp_path)] == [False, True]
    assert clip.read_bytes() == CLIPS["genres/pop/pop.00000.wav"]
    assert len(server.asked) == 2


def test_a_changed_file_is_named_and_kept(archives: tuple[Archive, Archive], tmp_path: Path) -> None:
    get(archives, tmp_path)
    clip = tmp_path / "genres" / "pop" / "pop.00000.wav"
    clip.write_bytes(b"remixed")
    with pytest.raises(DatasetError, match=str(clip)):
        get(archives, tmp_path)
    assert clip.read_bytes() == b"remixed"


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {}}'])
def test_with_a_damaged_marker_the_archive_is_unpacked_again(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path, damage: str
) -> None:
    get(archives[:1], tmp_path)
    (tmp_path / ".genres.tar.gz.fetched").write_text(damage)
    assert [one.before for one in get(archives[:1], tmp_path)] == [False]
    assert [one.before for one in get(archives[:1], tmp_path)] == [True]
    assert len(server.asked) == 1


def test_a_new_version_in_the_card_is_fetched(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path
) -> None:
    get(archives[:1], tmp_path)
    (tmp_path / "genres.tar.gz").unlink()
    newer = server.serve("genres.tar.gz", tar_of({**CLIPS, "genres/rock/rock.00000.wav": b"loud"}))
    assert get((newer,), tmp_path)[0].n_files == 3


def test_an_archive_that_is_already_there_is_used(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path
) -> None:
    (tmp_path / "genres.tar.gz").write_bytes(PACKED)
    get(archives[:1], tmp_path)
    assert (tmp_path / "genres" / "pop" / "pop.00000.wav").is_file()
    assert server.asked == []


def test_a_different_file_with_the_name_of_an_archive_is_an_error(
    server: Server, archives: tuple[Archive, Archive], tmp_path: Path
) -> None:
    (tmp_path / "genres.tar.gz").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=rf"genres.tar.gz has {sha256(b'mine')}, expected {sha256(PACKED)}"):
        get(archives, tmp_path)
    assert (tmp_path / "genres.tar.gz").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("card", [None, card_of()])
def test_a_dataset_without_archives_is_an_error(tmp_path: Path, card: object) -> None:
    with pytest.raises(DatasetError, match="tiny has no archives"):
        fetch("tiny", card, tmp_path)


def test_two_archives_with_one_name_are_the_plugins_fault(server: Server, tmp_path: Path) -> None:
    archive = server.serve("labels.csv", LABELS)
    with pytest.raises(PluginError, match=r"tiny.*same file name.*authors"):
        get((archive, archive), tmp_path)


def test_only_one_process_fetches_into_a_folder(archives: tuple[Archive, Archive], tmp_path: Path) -> None:
    class Another(Notes):
        def start(self, description: str, total: float) -> None:
            with pytest.raises(StoreBusyError, match=f"another process.*{tmp_path}"):
                get(archives, tmp_path)
            self.note("tried")

    another = Another()
    fetch("tiny", card_of(*archives), tmp_path, None, another, QUICK)
    assert "tried" in another.said


class TestCopiesFromElsewhere:
    def test_a_local_archive_replaces_the_host(
        self, server: Server, archives: tuple[Archive, Archive], tmp_path: Path
    ) -> None:
        copy = tmp_path / "from a friend"
        copy.write_bytes(PACKED)
        get(archives[:1], tmp_path / "audio", urls=[str(copy)])
        assert (tmp_path / "audio" / "genres" / "pop" / "pop.00000.wav").is_file()
        assert copy.read_bytes() == PACKED
        assert not (tmp_path / "audio" / "genres.tar.gz").exists()
        assert server.asked == []

    def test_each_replaces_the_archive_with_its_name(
        self, server: Server, archives: tuple[Archive, Archive], tmp_path: Path
    ) -> None:
        (tmp_path / "genres.tar.gz").write_bytes(PACKED)
        server.files["/mirror/labels.csv"] = server.files.pop("/labels.csv")
        mirror = f"{server.address}/mirror/labels.csv?download=1"
        server.files["/mirror/labels.csv?download=1"] = LABELS
        get(archives, tmp_path / "audio", urls=[mirror, str(tmp_path / "genres.tar.gz")])
        assert paths(server) == ["/mirror/labels.csv?download=1"]

    def test_a_different_checksum_is_an_error_that_gives_both(
        self, archives: tuple[Archive, Archive], tmp_path: Path
    ) -> None:
        copy = tmp_path / "genres.tar.gz"
        copy.write_bytes(b"damaged")
        with pytest.raises(DatasetError) as caught:
            get(archives[:1], tmp_path / "audio", urls=[str(copy)])
        found = sha256(b"damaged")
        assert f"{copy} has {found}, expected {sha256(PACKED)}" in str(caught.value)
        assert f"--url {copy} --checksum {found}" in str(caught.value)
        assert copy.read_bytes() == b"damaged"

    def test_an_archive_in_another_format_is_unpacked_according_to_its_own_name(
        self, archives: tuple[Archive, Archive], tmp_path: Path
    ) -> None:
        copy = tmp_path / "genres.zip"
        copy.write_bytes(zip_of(CLIPS))
        get(archives[:1], tmp_path / "audio", urls=[str(copy)], checksum=sha256(zip_of(CLIPS)))
        assert (tmp_path / "audio" / "genres" / "pop" / "pop.00000.wav").is_file()

    def test_one_archive_can_be_chosen(self, server: Server, archives: tuple[Archive, Archive], tmp_path: Path) -> None:
        (tmp_path / "copy").write_bytes(LABELS)
        get(archives, tmp_path / "audio", archive="labels.csv", urls=[str(tmp_path / "copy")])
        assert (tmp_path / "audio" / "labels" / "labels.csv").read_bytes() == LABELS
        assert server.asked == []

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"archive": "genre.zip"}, r"'genre.zip'.* genres.tar.gz, labels.csv"),
            ({"urls": ["http://host/x"]}, r"--url http://host/x .*genres.tar.gz, labels.csv.*--archive"),
            (
                {"urls": ["http://a/labels.csv", "http://b/labels.csv"]},
                "http://a/labels.csv .*http://b/labels.csv .*labels.csv",
            ),
            ({"checksum": sha256(b"")}, r"--checksum .*genres.tar.gz, labels.csv.*--archive"),
            ({"archive": "labels.csv", "urls": ["nowhere"]}, "nowhere is neither a file nor"),
        ],
    )
    def test_options_that_do_not_fit_the_dataset_are_errors(
        self, archives: tuple[Archive, Archive], tmp_path: Path, options: dict[str, object], expected: str
    ) -> None:
        with pytest.raises(SpecError, match=expected):
            get(archives, tmp_path / "audio", **options)
        assert not (tmp_path / "audio").exists()


class TestTheCommand:
    @pytest.fixture
    def plugin(self, server: Server, tmp_path: Path) -> dict[str, str]:
        """The environment in which the dataset ``tiny`` is installed; its archive is half a megabyte."""
        archive = server.serve("clips.zip", zip_of({"a.wav": noise(500_000)}))
        folder = tmp_path / "site"
        (folder / "mirembed_tiny-1.0.dist-info").mkdir(parents=True)
        (folder / "mirembed_tiny-1.0.dist-info" / "METADATA").write_text("Name: mirembed-tiny\nVersion: 1.0\n")
        (folder / "mirembed_tiny-1.0.dist-info" / "entry_points.txt").write_text("[mirembed]\ntiny = mirembed_tiny\n")
        source = f"""
            from mirembed import Archive, Card, hookimpl

            class Tiny:
                card = {card_of(archive)!r}

            class Bare:
                pass

            @hookimpl
            def mirembed_register_datasets(register):
                register("tiny", Tiny)
                register("bare", Bare)
        """
        (folder / "mirembed_tiny.py").write_text(dedent(source))
        environment = clean_environment()
        return {**environment, "PYTHONPATH": f"{folder}:{environment.get('PYTHONPATH', '')}"}

    def start(self, environment: dict[str, str], *arguments: object, before: str = "") -> subprocess.Popen[str]:
        program = f"{before}from mirembed.__main__ import main\nmain()"
        command = [sys.executable, "-c", program, "datasets", "fetch", *map(str, arguments)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, environment: dict[str, str], *arguments: object, code: int = 0, before: str = "") -> tuple[str, str]:
        if before:
            process = self.start(environment, *arguments, before=before)
            out, err = process.communicate(timeout=120)
            ended = process.returncode
        else:
            done = run_here(Path.cwd(), ["datasets", "fetch", *map(str, arguments)], environment)
            out, err, ended = done.stdout, done.stderr, done.returncode
        assert ended == code, err
        assert "Traceback" not in err
        return out, err

    def test_progress_and_the_next_command_are_shown(self, plugin: dict[str, str], tmp_path: Path) -> None:
        out, err = self.run(plugin, "tiny", "--audio", tmp_path / "audio")
        assert out.startswith("1 file of tiny ")
        assert f"mirembed datasets check tiny --audio {tmp_path}/audio" in out
        assert err.index("license: unknown") < err.index("downloading clips.zip") < err.index("unpacking clips.zip")
        assert (tmp_path / "audio" / "a.wav").read_bytes() == noise(500_000)

    def test_json_goes_to_standard_output_and_everything_else_to_standard_error(
        self, server: Server, plugin: dict[str, str], tmp_path: Path
    ) -> None:
        out, _ = self.run(plugin, "tiny", "--audio", tmp_path / "audio", "--json")
        checksum = sha256(server.files["/clips.zip"])
        assert json.loads(out) == {
            "dataset": "tiny",
            "audio": f"{tmp_path}/audio",
            "archives": [{"name": "clips.zip", "checksum": checksum, "n_files": 1, "before": False}],
        }

    def test_a_dataset_without_a_card_cannot_be_fetched(self, plugin: dict[str, str], tmp_path: Path) -> None:
        _, err = self.run(plugin, "bare", "--audio", tmp_path / "audio", code=1)
        assert err.startswith("error: dataset bare has no archives")

    @pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
    def test_after_being_killed_or_interrupted_the_same_command_resumes(
        self, server: Server, plugin: dict[str, str], tmp_path: Path, end: signal.Signals
    ) -> None:
        server.stops, server.stalls = [300_000], True
        part = tmp_path / "audio" / "clips.zip.part"
        with self.start(plugin, "tiny", "--audio", tmp_path / "audio") as process:
            try:
                wait_until(lambda: part.exists() and part.stat().st_size == 300_000)
                process.send_signal(end)
                _, err = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode != 0
        assert "Traceback" not in err
        assert sorted(visible(tmp_path / "audio")) == ["clips.zip.part", "clips.zip.part.version"]
        self.run(plugin, "tiny", "--audio", tmp_path / "audio")
        assert [request.get("Range") for request in server.asked] == [None, "bytes=300000-"]
        assert sorted(visible(tmp_path / "audio")) == ["a.wav", "clips.zip"]

    def test_after_a_full_disk_the_same_command_resumes(
        self, server: Server, plugin: dict[str, str], tmp_path: Path
    ) -> None:
        small = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        _, err = self.run(plugin, "tiny", "--audio", tmp_path / "audio", before=small, code=1)
        assert f"error: cannot write {tmp_path}/audio/clips.zip.part: File too large; free some space and run" in err
        self.run(plugin, "tiny", "--audio", tmp_path / "audio")
        assert [request.get("Range") for request in server.asked] == [None, "bytes=300000-"]

    def test_a_disk_that_fills_while_unpacking_leaves_no_partial_files(
        self, server: Server, plugin: dict[str, str], tmp_path: Path
    ) -> None:
        content = zip_of({"zeros.wav": bytes(400_000)})
        (tmp_path / "zeros.zip").write_bytes(content)
        options = ("--url", tmp_path / "zeros.zip", "--checksum", sha256(content))
        small = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        _, err = self.run(plugin, "tiny", "--audio", tmp_path / "audio", *options, before=small, code=1)
        assert "zeros.wav: File too large; free some space" in err
        assert visible(tmp_path / "audio") == []
        assert [path.name for path in (tmp_path / "audio").iterdir()] in ([], [".lock"])

    def test_an_archive_may_unpack_to_the_size_that_is_allowed(
        self, server: Server, plugin: dict[str, str], tmp_path: Path
    ) -> None:
        _, err = self.run(plugin, "tiny", "--audio", tmp_path / "audio", "--max-size", "0.0004", code=1)
        assert re.search("more than 0.4 MB.*--max-size", err)
        self.run(plugin, "tiny", "--audio", tmp_path / "audio", "--max-size", "0.0005")


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
