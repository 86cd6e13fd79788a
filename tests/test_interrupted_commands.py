"""Every command, killed or interrupted at random moments: how often, MIREMBED_KILLS says (``make torture``: 200)."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from archive_server import card_of, noise, serving, zip_of
from conftest import RATE, clean_environment, run_here, tone, wait_until, write_tones
from small_store import evaluate as evaluate_here
from small_store import experiment, open_tracks, workers_run
from test_interruption import living
from third_party import install

from mirembed.fit import fit
from mirembed.inventory import verify
from mirembed.registry import Registry
from mirembed.store import Store

pytestmark = pytest.mark.slow

N_KILLS = int(os.environ.get("MIREMBED_KILLS", "1"))
"""How often commands are killed, and how often they are interrupted."""

SECONDS = float(os.environ.get("MIREMBED_SECONDS", "inf"))
"""In which an interrupted command must end: ``make torture`` says so, the other tests do not depend on the machine."""

TESTED_ELSEWHERE = 3
"""How many of the first cases test_kills.py and test_interruption.py test too: few trials begin after them."""

PROGRAM = """
import os, pathlib, sys
from mirembed.__main__ import main
from mirembed.interruption import handle_interrupts
handle_interrupts()
pathlib.Path(f"begun-{os.getpid()}").touch()
sys.argv[0] = "mirembed"
main()
"""

PLUGIN = """
from pathlib import Path
from mirembed import Archive, Card, hookimpl
from mirembed.store.files import write_json

class Tiny:
    card = {card!r}

def work():
    for number in range(300):
        write_json(Path("s") / "numbers.json", list(range(10_000)))

@hookimpl
def mirembed_register_datasets(register):
    register("tiny", Tiny)

@hookimpl
def mirembed_register_commands(app):
    app.command("work")(work)
"""


@dataclass
class Case:
    """A command, and what is needed to try it again and again.

    Attributes
    ----------
    arguments : str
    says : str
        Part of what an interrupted command says, once it has started to work.
    resumes : bool
        Whether it is tried again where it was interrupted, so that it starts from scratch at every fourth trial only.
    writes : bool
    seconds : float
        About how long it takes; corrected by each trial.
    """

    arguments: str
    says: str = ""
    resumes: bool = False
    writes: bool = True
    seconds: float = field(default=4.0, compare=False)


RESUMES, STARTS_OVER = "the same command resumes from there", "the same command starts from the beginning"
CASES = (
    Case("extract --dataset folder --audio music --store s --jobs 2", RESUMES, resumes=True),
    Case("fit --store s --epochs 200 --jobs 1 --engine torch", RESUMES, resumes=True),
    Case("evaluate --store s --cv 2 --epochs 60 --jobs 2", RESUMES, resumes=True),
    Case("predict m others --store s --out others.csv --force --jobs 2", RESUMES, resumes=True),
    Case("report folder --store s", STARTS_OVER),
    Case("store rm model:m run:folder dataset:folder unused cache --yes --store s", "removed before stays removed"),
    Case("datasets fetch tiny --audio tiny", RESUMES, resumes=True),
    Case("similar m others/0.wav --in others --store s", writes=False),
    Case("embed m others --store s --out others.parquet --force --jobs 1", RESUMES, resumes=True),
    Case("map m --store s --out map.html --force", STARTS_OVER),
    Case("store compact --store s", RESUMES, resumes=True),
    Case("datasets check folder --audio music --store s", RESUMES, resumes=True),
    Case("update m --dataset library:label=none --audio others --store s --jobs 2", RESUMES, resumes=True),
    Case("fit --from m --store s", STARTS_OVER),
    Case("tag m others --min-score 0 --write --store s", RESUMES, resumes=True),
    Case("duplicates m --store s --out copies.csv --force", RESUMES, resumes=True),
    Case("work"),
    Case(
        "evaluate --store s --cv 2 --epochs 20 --train-size 0.5|1 --ensemble 2 --keep-models --jobs 2",
        RESUMES,
        resumes=True,
    ),
    Case("export m --onnx m.onnx --card m.md --force --store s", STARTS_OVER),
    Case("playlist m --seed low/low-0.wav --store s --out list.m3u8 --force"),
    Case("similar m low/low-0.wav --store s --out similar.parquet --force"),
    Case("extract --dataset folder --audio music --store s --features logmel:bands=20 --jobs 1", RESUMES, resumes=True),
    Case("compare folder --store s", writes=False),
    Case("store verify --store s", writes=False),
    Case("plugins check rbf", writes=False),
    Case("evaluate --store s --cv 2 --dry-run", STARTS_OVER),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A folder with music, and a store with a model and a run; and the environment of a plugin."""
    folder = tmp_path_factory.mktemp("world")
    write_tones(folder / "music", n_tracks=4, seconds=0.5)
    with serving() as server:
        card = card_of(server.serve("clips.zip", zip_of({"a.wav": noise(2_000_000), "b/c.wav": noise(2_000_000)})))
        environment = clean_environment(install(folder.parent / "site", "mirembed-tiny", PLUGIN.format(card=card)))
        assert run_here(folder, CASES[0].arguments.split()).returncode == 0
        store, registry = Store(folder / "s"), Registry.discover()
        with workers_run():
            fit(open_tracks(store), store, experiment(), registry, store.models, seed=0, jobs=1, name="m")
            evaluate_here(open_tracks(store), experiment("rbf-sl", "nn", cv=2, epochs=2), registry, store.runs)
        [run] = store.runs.iterdir()
        run.rename(run.with_name("folder"))
        (folder / "others").mkdir()
        for number in range(4):
            soundfile.write(folder / "others" / f"{number}.wav", tone(500, 2.0, seed=number), RATE)
        yield folder, environment


@contextlib.contextmanager
def command(case: Case, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own, none of whose processes outlives the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *case.arguments.split()],
        cwd=folder,
        env={name: value for name, value in environment.items() if not name.startswith("COV")},
        start_new_session=True,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: (folder / f"begun-{process.pid}").exists() or process.poll() is not None)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def trials(world: Path, folder: Path, *, writing: bool) -> Iterator[tuple[int, Case, Path]]:
    """Yield cases in turn, each with its folder: that of the last trial where the command resumes, else a new one."""
    cases = [case for case in CASES if case.writes or not writing]
    turns = itertools.islice(itertools.cycle(cases), TESTED_ELSEWHERE, None)
    for number, case in zip(range(N_KILLS), turns, strict=False):
        place = folder / str(CASES.index(case))
        if not (case.resumes and number // len(cases) % 4 and place.exists()):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(world, place)
            if case is CASES[0]:
                shutil.rmtree(place / "s")
        yield number, case, place


def wait_for_a_moment(case: Case, process: subprocess.Popen[str], share: float) -> bool:
    """Wait for this share of the time that a command takes; return whether it still runs."""
    began = time.monotonic()
    try:
        process.wait(share * case.seconds)
    except subprocess.TimeoutExpired:
        if share > 0.9:
            case.seconds *= 1.2
        return True
    case.seconds = time.monotonic() - began
    return False


def assert_sound(folder: Path, *, killed: bool) -> None:
    """The store has no fault, and other files are whole; only a killed process leaves unfinished files."""
    leftovers = [path for path in folder.rglob("*") if ".tmp-" in path.name or path.name.startswith(".others")]
    assert killed or not leftovers
    for path in folder.glob("*.parquet"):
        assert pq.read_table(path).num_rows
    for path in [*folder.glob("*.csv"), *folder.glob("*.m3u8"), *folder.glob("*.md")]:
        assert path.read_text().endswith("\n")
    pages = [*folder.glob("s/runs/*/report/index.html")]
    for page in [*pages, *folder.glob("*.html")]:
        assert page.read_text().rstrip().endswith("</html>")
    for page in pages:
        assert {path.suffix for path in page.parent.rglob("*.*")} >= {".png", ".svg", ".csv", ".tex"}
    for path in folder.glob("others/*.wav"):
        assert soundfile.info(path).duration == 2.0
    if (folder / "s").exists():
        assert [fault for fault in verify(Store(folder / "s")) if ".tmp-" not in fault.path] == []


def assert_ends(case: Case, folder: Path, environment: Mapping[str, str]) -> None:
    """The same command does the rest."""
    done = run_here(folder, case.arguments.split(), environment)
    assert done.returncode == 0, (case.arguments, done.stderr)
    assert_sound(folder, killed=False)


def test_every_command_that_writes_may_be_killed_at_any_moment(world, tmp_path):
    rng = np.random.default_rng(8)
    last: dict[str, tuple[Case, Path]] = {}
    for _, case, folder in trials(world[0], tmp_path, writing=True):
        with command(case, folder, world[1]) as process:
            wait_for_a_moment(case, process, rng.uniform(0, 1.1))
        assert_sound(folder, killed=True)
        if not case.arguments.startswith("store rm"):
            last[case.arguments] = case, folder
    for case, folder in last.values():
        assert_ends(case, folder, world[1])


def test_every_command_may_be_interrupted_at_any_moment(world, tmp_path):
    """It ends with the exit code 1 and one line that is true, and leaves neither processes nor half a file."""
    rng = np.random.default_rng(N_KILLS)
    last: dict[str, tuple[Case, Path]] = {}
    slowest = dict.fromkeys((case.arguments for case in CASES), 0.0)
    n_interrupted = 0
    for number, case, folder in trials(world[0], tmp_path, writing=False):
        with command(case, folder, world[1]) as process:
            wait_for_a_moment(case, process, rng.uniform(0, 1.1))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            pressed = time.monotonic()
            process.wait(timeout=120)
            seconds = time.monotonic() - pressed
            _, errors = process.communicate(timeout=120)
            wait_until(lambda session=process.pid: not living(session))
        about = (number, case.arguments, seconds, errors)
        assert_sound(folder, killed=False)
        if process.returncode == 0:  # it was about to end
            continue
        n_interrupted += 1
        assert process.returncode == 1, about
        assert "Traceback" not in errors, about
        assert [line for line in errors.splitlines()[:-1] if line.startswith("interrupted")] == [], about
        said = errors.splitlines()[-1]
        assert said == "interrupted" or (said.startswith("interrupted; ") and case.says in said), about
        assert seconds < SECONDS, about
        slowest[case.arguments] = max(seconds, slowest[case.arguments])
        if not case.arguments.startswith("store rm"):
            last[case.arguments] = case, folder
    assert n_interrupted
    print(n_interrupted, "interruptions; the most seconds:", slowest)
    for case, folder in last.values():
        assert_ends(case, folder, world[1])
