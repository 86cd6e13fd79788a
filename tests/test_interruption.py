"""However the program ends, the store stays valid and the same command resumes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import RATE, clean_environment, run_here, tone, wait_until, write_tones
from small_store import evaluate, experiment, open_tracks, workers_run
from third_party import install

from mirembed.errors import MismatchError, StoreBusyError
from mirembed.fit import fit
from mirembed.interruption import InterruptHandler, interruptible
from mirembed.inventory import verify
from mirembed.registry import Registry
from mirembed.store import Store

pytestmark = pytest.mark.slow

N_SHORT, N_LONG = 24, 2
SHARD_ROWS = 4
"""Tracks in a shard of an extraction that is interrupted: few, so that there are several shards."""

Start = Callable[..., subprocess.Popen]

PATCHED = f"""
import os, signal, sys
from mirembed.extract import extraction
from mirembed.interruption import interruptible, was_interrupted
from mirembed.store import FeatureShards

append, appended = FeatureShards.append, []

class Swallows:
    def __del__(self):
        with interruptible():
            signal.raise_signal(signal.SIGINT)

def patched(self, rows, part):
    append(self, rows, part)
    appended.append(rows)
    {{patch}}

extraction.SHARD_ROWS = {SHARD_ROWS}
FeatureShards.append = patched
sys.argv[0] = "mirembed"
from mirembed.__main__ import main
main()
"""
STOP_AT_FIRST_SHARD = "if len(appended) == 1: os.kill(os.getpid(), signal.SIGSTOP)"
INTERRUPT_IN_DEL = "if len(appended) == 1: Swallows()"
HANG_ON_INTERRUPT = """
    if len(appended) > 1: return
    os.kill(os.getpid(), signal.SIGSTOP)
    while not was_interrupted(): pass
    print("hanging", file=sys.stderr, flush=True)
    while True: signal.pause()
"""


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many short tracks, and long ones that are extracted last."""
    folder = tmp_path_factory.mktemp("music")
    for name in ("short", "tall"):
        (folder / name).mkdir()
    for number in range(N_SHORT):
        soundfile.write(folder / "short" / f"{number:03d}.wav", tone(220, 0.1, seed=number), RATE)
    for number in range(N_LONG):
        soundfile.write(folder / "tall" / f"{number}.flac", tone(880, 20, seed=number), RATE)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store ``s`` of nine tones."""
    folder = tmp_path_factory.mktemp("trained")
    write_tones(folder / "tones", n_tracks=3, seconds=1.0)
    mirembed(folder, "extract", "--dataset", "folder", "--audio", "tones", "--store", "s")
    return folder


def command(*arguments: object, patch: str | None = None) -> list[str]:
    """The command; ``patch`` is done whenever a shard has been written."""
    program = ["-m", "mirembed"] if patch is None else ["-c", PATCHED.format(patch=patch)]
    return [sys.executable, *program, *map(str, arguments)]


def mirembed(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in this process."""
    completed = run_here(folder, list(map(str, arguments)))
    assert completed.returncode == code, completed.stderr
    return completed


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command in a session of its own, which is killed when the test ends."""
    started: list[subprocess.Popen] = []

    def run(folder: Path, *arguments: object, patch: str | None = None) -> subprocess.Popen:
        process = subprocess.Popen(
            command(*arguments, patch=patch),
            cwd=folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        if patch is not None and "SIGSTOP" in patch:
            wait_until(lambda: is_stopped(process))
        return process

    yield run
    for process in started:
        if living(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def living(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end in the meantime
            state, number = status(int(process.name))
            if number == session and state not in "ZX":
                found.append(int(process.name))
    return found


def status(process: int) -> tuple[str, int]:
    """The state and the session of a process."""
    # After the name, which may contain anything: state, parent, group, session.
    state, _, _, session, *_ = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return state, int(session)


def is_stopped(process: subprocess.Popen) -> bool:
    assert process.poll() is None, process.communicate()
    return status(process.pid)[0] == "T"


def interrupt(process: subprocess.Popen) -> tuple[str, str]:
    """Press ctrl-C; return standard output, and standard error without its last line. Nothing is left running."""
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    wait_until(lambda: not living(process.pid))
    *before, last = errors.splitlines()
    assert last.startswith("interrupted")
    return output, "\n".join(before)


def kill(process: subprocess.Popen) -> None:
    """Kill the program and all its workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def stages(errors: str) -> list[str]:
    """The lines of the standard error output, but for what it says about the labels."""
    return [line for line in errors.splitlines() if " classes from " not in line]


def shards(store: Path) -> list[Path]:
    return sorted(store.glob("features/*/*.parquet"))


def content(store: Path) -> dict[str, dict]:
    """The tracks by id, with the rows of their recordings; fails when one has two, or when anything else lies there."""
    rows = [row for shard in shards(store) for row in pq.read_table(shard).to_pylist()]
    recordings = {row["recording"]: {**row, "frames": np.array(row["frames"], np.float32).tobytes()} for row in rows}
    assert len(recordings) == len(rows)
    [folder] = (store / "features").iterdir()
    names = {path.name for path in shards(store)}
    assert {path.name for path in folder.iterdir()} == {".lock", "_features.json", *names}
    folder = store / "datasets" / "folder"
    tables = {f"{name}.parquet" for name in ("failures", "file_tags", "folders", "tracks")}
    assert {path.name for path in folder.iterdir()} == {".lock", "dataset.json", *tables}
    tracks = pq.read_table(folder / "tracks.parquet").to_pylist()
    return {track["id"]: {**track, **recordings[track["recording"]]} for track in tracks if track["recording"]}


# Extraction


EXTRACT = ("extract", "--dataset", "folder", "--jobs", 2, "--audio")


@pytest.fixture(scope="module")
def uninterrupted(music: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The content of a store that was extracted at a stroke."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    mirembed(folder, *EXTRACT, music, "--store", "s")
    found = content(folder / "s")
    assert len(found) == N_SHORT + N_LONG
    return found


def test_an_extraction_that_is_killed_keeps_the_shards_that_it_wrote(music, uninterrupted, start, tmp_path):
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=STOP_AT_FIRST_SHARD)
    kill(process)
    kept = {path: path.read_bytes() for path in shards(tmp_path / "s")}
    completed = mirembed(tmp_path, *EXTRACT, music, "--store", "s", "--json")
    assert json.loads(completed.stdout.splitlines()[-1])["unchanged"] == SHARD_ROWS
    assert content(tmp_path / "s") == uninterrupted
    assert {path: path.read_bytes() for path in kept} == kept


def test_workers_die_with_the_program(music, start, tmp_path):
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=STOP_AT_FIRST_SHARD)
    assert len(living(process.pid)) > 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not living(process.pid))


def test_ctrl_c_ends_an_extraction_with_one_line_and_keeps_what_is_done(music, uninterrupted, start, tmp_path):
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=STOP_AT_FIRST_SHARD)
    output, errors = interrupt(process)
    assert (output, stages(errors)) == ("", ["extracting ..."])
    done = len(content(tmp_path / "s"))
    assert SHARD_ROWS <= done < N_SHORT + N_LONG
    completed = mirembed(tmp_path, *EXTRACT, music, "--store", "s", "--json")
    assert json.loads(completed.stdout.splitlines()[-1])["unchanged"] == done
    assert content(tmp_path / "s") == uninterrupted


def test_ctrl_c_ends_an_extraction_even_if_python_swallows_it_once(music, start, tmp_path):
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=INTERRUPT_IN_DEL)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, "")
    assert [line.partition(";")[0] for line in stages(errors)] == ["extracting ...", "interrupted"]
    assert SHARD_ROWS <= len(content(tmp_path / "s")) < N_SHORT + N_LONG


def test_a_second_ctrl_c_ends_the_program_at_once(music, start, tmp_path):
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=HANG_ON_INTERRUPT)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    while "hanging" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith("interrupted")
    wait_until(lambda: not living(process.pid))
    [shard] = shards(tmp_path / "s")
    assert len(pq.read_table(shard)) == SHARD_ROWS


def test_ctrl_c_does_not_reach_a_program_that_was_started_to_ignore_it(music, uninterrupted, start, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, as with nohup
    process = start(tmp_path, *EXTRACT, music, "--store", "s", patch=INTERRUPT_IN_DEL)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, stages(errors)) == (0, ["extracting ..."])
    assert content(tmp_path / "s") == uninterrupted


def test_only_the_program_handles_ctrl_c_and_not_its_workers(music, uninterrupted, start, tmp_path):
    process, n_signals = start(tmp_path, *EXTRACT, music, "--store", "s"), 0
    while process.poll() is None:
        for worker in set(living(process.pid)) - {process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGINT)
                n_signals += 1
        time.sleep(0.05)
    assert n_signals
    assert stages(process.communicate(timeout=120)[1]) == ["extracting ..."]
    assert process.returncode == 0
    assert content(tmp_path / "s") == uninterrupted


def test_a_second_extraction_into_the_same_store_is_refused_and_harms_nothing(music, uninterrupted, start, tmp_path):
    first = start(tmp_path, *EXTRACT, music, "--store", "s", patch=STOP_AT_FIRST_SHARD)
    [error] = stages(mirembed(tmp_path, *EXTRACT, music, "--store", "s", code=1).stderr)
    assert "another process" in error
    assert "s/datasets/folder" in error
    os.killpg(first.pid, signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert content(tmp_path / "s") == uninterrupted


def test_two_datasets_of_the_same_music_may_be_extracted_at_once(music, uninterrupted, start, tmp_path):
    ids = sorted(path.relative_to(music).as_posix() for path in music.rglob("*.*"))
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *(f"{track},{number % 2}" for number, track in enumerate(ids))]))
    first = start(tmp_path, *EXTRACT, music, "--store", "s", patch=STOP_AT_FIRST_SHARD)
    flags = ("--dataset", f"folder:labels={table}", "--audio", music, "--store", "s", "--json")
    completed = mirembed(tmp_path, "extract", *flags)
    summary = json.loads(completed.stdout.splitlines()[-1])
    assert (summary["known"], summary["stored"]) == (N_SHORT + N_LONG - summary["extracted"], N_SHORT + N_LONG)
    assert summary["known"] >= SHARD_ROWS
    os.killpg(first.pid, signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert content(tmp_path / "s") == uninterrupted
    assert verify(Store(tmp_path / "s")) == []


# Training


EPOCHS = 15
SETTINGS = (
    "--store",
    "s",
    "--epochs",
    EPOCHS,
    "--jobs",
    1,
    "--engine",
    "torch",
    "--network",
    "mlp",
    "--similarity",
    "held",
)

HELD = """
import time
from pathlib import Path
from mirembed import hookimpl

def is_held():
    try:
        hold = Path("hold")
        written = [path.stat().st_mtime_ns for path in Path().glob(hold.read_text())]
        return max(written, default=0) > hold.stat().st_mtime_ns
    except FileNotFoundError:
        return False

def similarity(x):
    while is_held():
        time.sleep(0.01)
    return (-((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)).exp()

@hookimpl
def mirembed_register_similarities(register):
    register("held", lambda: similarity)
"""
"""A similarity that waits once a file has been written that the file ``hold`` describes and that is newer."""


@pytest.fixture(autouse=True, scope="module")
def _held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        found = install(tmp_path_factory.mktemp("site"), "mirembed-held", HELD)
        patch.setenv("PYTHONPATH", found["PYTHONPATH"])
        patch.syspath_prepend(found["PYTHONPATH"].split(os.pathsep)[0])
        yield


@pytest.fixture
def start_and_hold(trained: Path, start: Start) -> Iterator[Start]:
    """Start a training in ``trained``, and hold it where it has written a checkpoint, after the 10th epoch."""
    hold = trained / "hold"

    def run(*arguments: object, checkpoint: str) -> subprocess.Popen:
        began = time.time_ns()
        hold.write_text(checkpoint)
        process = start(trained, *arguments)
        wait_until(lambda: [path for path in trained.glob(checkpoint) if path.stat().st_mtime_ns > began])
        return process

    yield run
    hold.unlink()


def test_a_fit_that_is_interrupted_ends_with_the_same_weights(trained, start_and_hold, tmp_path):
    tracks, registry = open_tracks(Store(trained / "s")), Registry.discover()
    with workers_run():
        settings = experiment("held-sl", epochs=EPOCHS)
        (at_a_stroke,) = fit(tracks, Store(tmp_path), settings, registry, tmp_path / "models", seed=0, jobs=1)
    checkpoint = "s/models/.checkpoints/*.safetensors"

    process = start_and_hold("fit", *SETTINGS, checkpoint=checkpoint)
    assert interrupt(process) == ("", f"training for {EPOCHS} epochs ...")
    (kept,) = trained.glob(checkpoint)
    (trained / "hold").write_text("nothing")

    mirembed(trained, "fit", *SETTINGS)
    resumed = trained / "s" / "models" / "folder-held-sl"
    assert (resumed / "network.safetensors").read_bytes() == (at_a_stroke.folder / "network.safetensors").read_bytes()
    assert not kept.exists()


def test_an_evaluation_that_is_killed_ends_with_the_same_numbers(trained, start_and_hold, tmp_path):
    """Its workers ignore ctrl-C and die with the program; meanwhile, no other process takes over its run."""
    tracks, registry, runs = open_tracks(Store(trained / "s")), Registry.discover(), trained / "s" / "runs"

    def evaluate_here(place: Path) -> Path:
        with workers_run():
            settings = experiment("held-sl", epochs=EPOCHS, cv=3, checkpoint_every=10)
            run, _ = evaluate(tracks, settings, registry, place)
        return run.folder

    at_a_stroke = evaluate_here(tmp_path)
    words = ("evaluate", "--cv", 3, *SETTINGS)
    process = start_and_hold(*words, checkpoint="s/runs/*/checkpoints/*-fold1.safetensors")
    with pytest.raises(StoreBusyError, match="another process"):
        evaluate_here(runs)
    helpers = set(living(process.pid)) - {process.pid}
    assert len(helpers) >= 2
    for helper in helpers:
        os.kill(helper, signal.SIGINT)
    time.sleep(0.5)
    assert helpers <= set(living(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not living(process.pid))

    (resumed,) = runs.iterdir()
    (trained / "hold").write_text("nothing")
    completed = mirembed(trained, *words, "--json")
    [resuming] = [line for line in completed.stderr.splitlines() if f"s/runs/{resumed.name}" in line]
    assert "1 of 3" in resuming
    assert json.loads(completed.stdout)["run"] == f"s/runs/{resumed.name}"
    for name in ("predictions.parquet", "checkpoints.parquet", "curves.parquet", "folds.parquet", "scores.json"):
        assert (resumed / name).read_bytes() == (at_a_stroke / name).read_bytes()
    names = {path.name for path in at_a_stroke.iterdir()}
    assert {path.name for path in resumed.iterdir()} == {*names, "experiment.toml"}
    assert len(pq.read_table(resumed / "predictions.parquet")) == len(tracks.ids)


# While the program starts


INTERRUPTED_IMPORT = """
import signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
from mirembed.__main__ import main
main()
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["mirembed.interruption", "mirembed.cli.main"])
def test_ctrl_c_while_the_program_is_imported_ends_it_with_one_line(module):
    done = python(INTERRUPTED_IMPORT.format(module=module))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "interrupted\n")


def test_nothing_of_mirembed_is_imported_before_ctrl_c_is_handled():
    done = python("import sys, mirembed.__main__; print(*(name for name in sys.modules if 'mirembed' in name))")
    assert done.stdout.split() == ["mirembed", "mirembed.__main__"]


# Where ctrl-C need not wait


HANGING = """
import contextlib, signal, sys
from mirembed import interruption, uninterruptible
interruption._ELSEWHERE = 0.3
interruption.handle_interrupts()
interruption.say_when_interrupted("interrupted, and so on")
with {block}:
    signal.raise_signal(signal.SIGINT)
    signal.sigtimedwait([], 1.0)
    print("finished", flush=True)
signal.sigtimedwait([], 60)
"""


@pytest.mark.parametrize(("block", "output"), [("contextlib.nullcontext()", ""), ("uninterruptible()", "finished\n")])
def test_ctrl_c_ends_what_does_not_check_for_it_unless_it_is_uninterruptible(block, output):
    done = python(HANGING.format(block=block))
    assert (done.returncode, done.stdout, done.stderr) == (1, output, "interrupted, and so on\n")


PLUGIN = """
import ctypes, threading, time
from pathlib import Path
from mirembed import hookimpl, uninterruptible
from mirembed.interruption import raise_if_interrupted, was_interrupted

def rest():
    Path("begun").touch()
    time.sleep(600)

def write():
    with uninterruptible():
        Path("begun").touch()
        while not was_interrupted():
            time.sleep(0.01)
        time.sleep(0.5)
        Path("written").touch()
    time.sleep(600)

def native():
    lock, acquire = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    acquire(lock)
    Path("begun").touch()
    acquire(lock)

def deaf():
    Path("begun").touch()
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            pass

def fill():
    Path("begun").touch()
    print(10**6 * "x")

def think():
    with uninterruptible():
        Path("begun").touch()
        while not was_interrupted():
            time.sleep(0.01)
        thread = threading.Thread(target=lambda: raise_if_interrupted() or Path("written").touch())
        thread.start()
        thread.join()

@hookimpl
def mirembed_register_commands(app):
    for command in (rest, write, native, deaf, fill, think):
        app.command()(command)
"""


@pytest.fixture
def begin(start, tmp_path, monkeypatch) -> Start:
    """Start a command of a plugin, and wait until it has begun."""
    monkeypatch.setenv("PYTHONPATH", install(tmp_path / "site", "mirembed-slow", PLUGIN)["PYTHONPATH"])

    def run(name: str) -> subprocess.Popen:
        process = start(tmp_path, name)
        wait_until((tmp_path / "begun").exists)
        return process

    return run


@pytest.mark.parametrize("error", [MismatchError, SystemExit, ValueError])
def test_ctrl_c_is_not_hidden_by_the_error_that_foreign_code_makes_of_it(error):
    signal.signal(signal.SIGINT, InterruptHandler())
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise error from interrupt


@pytest.mark.parametrize("name", ["rest", "native", "deaf"])
def test_ctrl_c_ends_a_command_of_a_plugin_whatever_it_does(begin, name):
    """At once, or after two seconds if native code does not return or the exception is swallowed."""
    assert interrupt(begin(name)) == ("", "")


@pytest.mark.parametrize("name", ["write", "think"])
def test_ctrl_c_waits_until_a_plugin_has_written_and_leaves_other_threads_alone(begin, name, tmp_path):
    assert interrupt(begin(name)) == ("", "")
    assert (tmp_path / "written").exists()


def test_ctrl_c_ends_a_command_whose_output_nobody_reads(begin):
    process = begin("fill")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 1
    assert process.communicate()[1] == "interrupted\n"


def test_ctrl_c_answers_a_question(trained, tmp_path):
    shutil.copytree(trained / "s", tmp_path / "s")
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        command("store", "rm", "dataset:folder", "--store", "s"),
        cwd=tmp_path,
        env=clean_environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    asked = ""
    while "?" not in asked:
        asked += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    os.close(keyboard)
    os.close(terminal)
    assert (process.returncode, output.strip()) == (1, "")
    assert errors.split()[-1] == "interrupted"
    assert (tmp_path / "s" / "datasets" / "folder" / "tracks.parquet").exists()
