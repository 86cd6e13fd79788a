"""mirembed's side of the comparison: its own workers, training loop and engines, timed inside the workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import Problem
from mirembed.config.approaches import Approach
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.tracks import Tracks
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.loop import TrainingData, TrainingSettings, train
from mirembed.training.network import PluginNetwork, one_thread
from mirembed.training.similarity import PluginSimilarity
from mirembed.workers.executor import run_trainings


@dataclass(frozen=True)
class Task:
    """The task of a worker: train on one fold or, if ``fold`` is None, embed every track.

    ``in_memory``: use a copy of the frames in memory instead of the mapped file.
    """

    problem: Problem
    engine: str
    fold: int | None = None
    in_memory: bool = False


@dataclass(frozen=True)
class Span:
    """When a worker did its task, in seconds of the system's clock, and the outcome.

    ``loss``: mean per track in the last epoch. ``processor``: seconds of processor time, user and system. ``worker``:
    process id.
    """

    begin: float
    end: float
    loss: float = 0.0
    processor: float = 0.0
    worker: int = field(default_factory=os.getpid)


@dataclass(frozen=True)
class Measured:
    """All workers together.

    Attributes
    ----------
    seconds : float
        Time of the busiest worker for all its tasks, once its data are open and its engine is loaded.
    others : float
        Seconds for everything else: starting processes, imports, the engine, statistics of the bands, idle workers.
    loss : float
        Mean loss per track in the last epoch, over the folds.
    processor : float
        Processor time of all workers in seconds. Unlike elapsed time, it hardly depends on other programs.
    """

    seconds: float
    others: float
    loss: float
    processor: float


def run_training(task: Task, on_epoch: Callable[[int], None]) -> Span:
    """Train on one fold, in a worker."""
    problem = task.problem
    assert task.fold is not None
    rows = problem.folds[task.fold].train
    settings = TrainingSettings(
        epochs=problem.epochs, batch=problem.batch, seed=problem.seed, fold=task.fold, engine=task.engine
    )
    approach = Approach.parse(problem.approach)
    registry = Registry.discover()
    network = PluginNetwork.create(registry, Spec("gru"))
    similarity = None
    if approach.similarity is not None:
        similarity = PluginSimilarity.create(registry, approach.similarity)
    with one_thread():
        few = _training_data(task, rows[: problem.batch])
        train(few, network, replace(settings, epochs=1), similarity)  # loads the engine
        data = _training_data(task, rows)
        begin, used = time.perf_counter(), time.process_time()
        trained = train(data, network, settings, similarity, on_epoch=on_epoch)
    return Span(begin, time.perf_counter(), trained.losses[-1], time.process_time() - used)


def _training_data(task: Task, rows: NDArray[np.int64]) -> TrainingData:
    problem = task.problem
    frames, places = problem.frames.open(), problem.frames
    if task.in_memory:
        last = places.starts[rows[-1]] + places.lengths[rows[-1]]
        frames = np.array(frames[:last])
    return TrainingData(
        frames=frames,
        starts=places.starts[rows],
        lengths=places.lengths[rows],
        task=problem.task,
        label_vectors=problem.label_vectors[rows],
        normalization=Normalization.fit(places.take(rows).moments()),
    )


def run_embedding(task: Task, _on_epoch: Callable[[int], None]) -> Span:
    """Embed every track, in a worker."""
    frames, places = task.problem.frames.open(), task.problem.frames
    normalization = Normalization.fit(places.moments())
    with one_thread():
        form = InputForm()
        network = PluginNetwork.create(Registry.discover(), Spec("gru"))
        module = network.seeded(form.inputs(frames.shape[1]), (0, 0))
        engine = make_engine(task.engine, module, form, network.choice)
        engine.embed_tracks(frames, places.starts[:16], places.lengths[:16], normalization)
        begin = time.perf_counter()
        engine.embed_tracks(frames, places.starts, places.lengths, normalization)
    return Span(begin, time.perf_counter())


def train_folds(problem: Problem, engine: str, jobs: int, *, in_memory: bool = False) -> Measured:
    """Train the networks of all folds."""
    tasks = [Task(problem, engine, fold, in_memory) for fold in range(len(problem.folds))]
    return _measure(run_training, tasks, jobs)


def embed_on_cores(problem: Problem, engine: str, jobs: int) -> Measured:
    """Embed every track once on each of ``jobs`` cores at the same time."""
    return _measure(run_embedding, [Task(problem, engine)] * jobs, jobs)


def _measure(function: Callable[[Task, Callable[[int], None]], Span], tasks: Sequence[Task], jobs: int) -> Measured:
    begin = time.perf_counter()
    spans = [
        span for _, span in run_trainings(function, tasks, [task.problem.epochs for task in tasks], jobs, Silent(), "")
    ]
    whole = time.perf_counter() - begin
    by_worker: dict[int, float] = {}
    for span in spans:
        by_worker[span.worker] = by_worker.get(span.worker, 0.0) + span.end - span.begin
    seconds = max(by_worker.values())
    processor = sum(span.processor for span in spans)
    return Measured(seconds, whole - seconds, float(np.mean([span.loss for span in spans])), processor)


def evaluate_command(
    store: Store, tracks: Tracks, problem: Problem, *, jobs: int, engine: str, every: int
) -> list[str]:
    """Return the command of the whole evaluation as a user would type it; it scores after every ``every`` epochs."""
    return [
        *(sys.executable, "-m", "mirembed", "evaluate", "--json"),
        *("--store", str(store.root), "--dataset", tracks.info.spec),
        *("--cv", str(len(problem.folds)), "--seed", str(problem.seed)),
        *("--approach", problem.approach, "--batch", str(problem.batch)),
        *("--epochs", str(problem.epochs), "--checkpoint-every", str(every)),
        *("--jobs", str(jobs), "--engine", engine),
    ]


def run_command(words: Sequence[str]) -> tuple[float, str]:
    """Run a command; return the seconds it took and its output.

    Raises
    ------
    SystemExit
        If it fails, with its error messages.
    """
    begin = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words[1:])}\n{done.stderr}")
    return time.perf_counter() - begin, done.stdout
