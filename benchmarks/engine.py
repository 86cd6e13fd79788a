"""mirembed's side of the comparison: its own scheduler, training loop and engines, with a clock in the workers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import Problem
from mirembed.approaches import Approach
from mirembed.engine import make_engine
from mirembed.excerpts import Normalisation
from mirembed.network import one_thread, seeded_network
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.schedule import run_trainings
from mirembed.train import PluginSimilarity, Settings, TrainingData, train


@dataclass(frozen=True)
class Task:
    """What a worker is to do: the training of one fold, or with ``fold`` None the embedding of every track."""

    problem: Problem
    engine: str
    fold: int | None = None


@dataclass(frozen=True)
class Span:
    """When a worker did it, in seconds of the system's clock, and the mean loss of a track in the last epoch."""

    begin: float
    end: float
    loss: float = 0.0


@dataclass(frozen=True)
class Measured:
    """All workers together.

    Attributes
    ----------
    seconds : float
        From the first worker's begin to the last one's end.
    start_up : float
        Seconds for all else: to start processes, import torch, and load the kernel.
    loss : float
        Mean loss of a track in the last epoch, over the folds.
    """

    seconds: float
    start_up: float
    loss: float


def run_training(task: Task, on_epoch: Callable[[int], None]) -> Span:
    """Train one fold. Runs in a worker."""
    problem = task.problem
    assert task.fold is not None
    rows = problem.folds[task.fold].train
    settings = Settings(
        epochs=problem.epochs, batch=problem.batch, seed=problem.seed, fold=task.fold, engine=task.engine
    )
    approach = Approach.parse(problem.approach)
    similarity = None
    if approach.similarity is not None:
        similarity = PluginSimilarity.create(Registry.discover(), approach.similarity)
    with one_thread():
        few = _training_data(problem, rows[: problem.batch])
        train(few, replace(settings, epochs=1), similarity)  # loads the kernel
        begin = time.perf_counter()
        data = _training_data(problem, rows)
        trained = train(data, settings, similarity, on_epoch=on_epoch)
    return Span(begin, time.perf_counter(), trained.losses[-1])


def _training_data(problem: Problem, rows: NDArray[np.int64]) -> TrainingData:
    frames, places = problem.frames.open(), problem.frames
    return TrainingData(
        frames=frames,
        starts=places.starts[rows],
        lengths=places.lengths[rows],
        label_vectors=problem.label_vectors[rows],
        classes=None if problem.classes is None else problem.classes[rows],
        normalisation=Normalisation.fit(frames, places.starts, places.lengths, rows),
    )


def run_embedding(task: Task, _on_epoch: Callable[[int], None]) -> Span:
    """Embed every track. Runs in a worker."""
    frames, places = task.problem.frames.open(), task.problem.frames
    normalisation = Normalisation.fit(frames, places.starts, places.lengths, range(len(places.starts)))
    with one_thread():
        engine = make_engine(task.engine, seeded_network(2 * frames.shape[1], (0, 0)))
        engine.embed_tracks(frames, places.starts[:16], places.lengths[:16], normalisation)
        begin = time.perf_counter()
        engine.embed_tracks(frames, places.starts, places.lengths, normalisation)
    return Span(begin, time.perf_counter())


def train_folds(problem: Problem, engine: str, jobs: int) -> Measured:
    """Train the networks of all folds."""
    return _measure(run_training, [Task(problem, engine, fold) for fold in range(len(problem.folds))], jobs)


def embed_on_cores(problem: Problem, engine: str, jobs: int) -> Measured:
    """Embed every track once on each of ``jobs`` cores at the same time."""
    return _measure(run_embedding, [Task(problem, engine)] * jobs, jobs)


def _measure(function: Callable[[Task, Callable[[int], None]], Span], tasks: Sequence[Task], jobs: int) -> Measured:
    begin = time.perf_counter()
    spans = [span for _, span in run_trainings(function, tasks, tasks[0].problem.epochs, jobs, Silent(), "")]
    whole = time.perf_counter() - begin
    seconds = max(span.end for span in spans) - min(span.begin for span in spans)
    return Measured(seconds, whole - seconds, float(np.mean([span.loss for span in spans])))


def evaluate_command(store: str, dataset: str, problem: Problem, engine: str, jobs: int, every: int) -> list[str]:
    """Return the words of the whole evaluation as a user would type it."""
    return [
        *(sys.executable, "-m", "mirembed", "evaluate", "--json"),
        *("--store", store, "--dataset", dataset),
        *("--cv", str(len(problem.folds)), "--seed", str(problem.seed)),
        *("--approach", problem.approach, "--batch", str(problem.batch)),
        *("--epochs", str(problem.epochs), "--checkpoint-every", str(every)),
        *("--jobs", str(jobs), "--engine", engine),
    ]


def run_command(words: Sequence[str]) -> tuple[float, str]:
    """Run a command; return seconds, and what it printed.

    Raises
    ------
    SystemExit
        If it fails, with what it said.
    """
    begin = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words[1:])}\n{done.stderr}")
    return time.perf_counter() - begin, done.stdout
