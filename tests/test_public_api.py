"""The public interface for third parties: the names exported by ``mirembed`` and ``mirembed.testing``.

A change here is a change that plugins notice: see "Versions and compatibility" in CONTRIBUTING.md.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from conftest import clean_environment

import mirembed
import mirembed.testing
from mirembed import hookspecs

MIREMBED = """
AUDIO_SUFFIXES = frozenset
Archive(url: str, checksum: str, folder: str = '.')
Audio
    blocks(self, rate: int | None = None) -> Iterator[NDArray[np.float32]]
AudioError(MirembedError)
AudioFiles(files: Mapping[str, Path], others: int, notes: tuple[str, ...])
Card(title: str, n_tracks: int, labels: str, license: str, citation: str, source: str, tree: str,
    archives: tuple[Archive, ...] = (), rate: int | None = None, seconds: tuple[float, float] | None = None,
    folds: tuple[str, ...] = ())
Classification(classes: tuple[str, ...])
Dataset
    listing(self, audio: Path) -> Listing
DatasetError(MirembedError)
Estimator
    fit(self, X: NDArray[np.floating], y: NDArray[Any]) -> Any
    predict(self, X: NDArray[np.floating]) -> NDArray[Any]
Features
    extract(self, audio: Audio) -> NDArray[np.float32]
FileTags(title: str | None = None, artists: tuple[str, ...] = (), album: str | None = None,
    album_artist: str | None = None, genres: tuple[str, ...] = (), moods: tuple[str, ...] = (),
    year: int | None = None, rating: float | None = None, track: int | None = None, disc: int | None = None)
Learner
    estimator(self, task: Task) -> Estimator
Listing(task: Task | None, tracks: Sequence[Track], absent: int = 0, notes: Sequence[str] = (),
    schemes: Mapping[str, Sequence[Split]] = <factory>,
    labels_from: str = '', groups_from: str = '')
MirembedError(Exception)
Network
    module(self, inputs: int) -> NetworkModule
NetworkModule
    __call__(self, frames: Tensor, inside: Tensor) -> Tensor
PlaylistEntry(location: str, path: Path | None, title: str | None = None)
Register
    __call__(self, name: str, factory: Callable[..., Any], *, summary: str = '') -> None
Regression(targets: tuple[Target, ...])
SamplesAudio
    blocks(self, rate: int | None = None) -> Iterator[NDArray[np.float32]]
Similarity
    __call__(self, x: Tensor) -> Tensor
Split(train: frozenset[str], test: frozenset[str], inner: tuple[frozenset[str], ...] = ())
Store
    task(self, dataset: str | None = None) -> Task | None
    tracks(self, dataset: str | None = None) -> pa.Table
    features(self, dataset: str | None = None, features: str | None = None) -> Frames
    embeddings(self, model: PathLike, dataset: str | None = None) -> Embeddings
Tags(classes: tuple[str, ...])
Target(name: str, low: float | None = None, high: float | None = None)
Task = Classification | Tags | Regression
Track(id: str, path: Path, label: str | frozenset[str] | tuple[float, ...] | None, group: str | None = None)
counted(number: int, thing: str) -> str
essentia_algorithm(name: str, **parameters: object) -> Any
essentia_error() -> str | None
evaluate(dataset: str | Sequence[str] | None = None, *, store: StoreLike = None,
    config: PathLike | Run | None = None, preset: str | None = None, cv: int | None = None,
    folds: PathLike | None = None, splits: int | None = None, test_size: float | None = None,
    against: str | None = None, train_size: float | Sequence[float] | None = None,
    features: str | Sequence[str] | None = None, network: str | Sequence[str] | None = None,
    similarity: str | Sequence[str] | None = None, approach: str | Sequence[str] | None = None,
    label_similarity: str | None = None, learner: str | Sequence[str] | None = None,
    from_: PathLike | Sequence[PathLike] | None = None, combine: str | Sequence[str | Sequence[str]] | None = None,
    epochs: int | None = None, batch: int | None = None,
    optimizer: str | None = None, excerpt: int | None = None, deltas: bool | None = None,
    ensemble: int | None = None, seed: int | Sequence[int] | None = None, metric: str | None = None,
    normalize: str | None = None, select: str | Sequence[str] | None = None, inner_cv: int | None = None,
    checkpoint_every: int | None = None, keep_models: bool | None = None, keep_embeddings: bool | None = None,
    exclude: str | None = None, jobs: int | None = None, executor: str = 'local', scheduler: str | None = None,
    device: str | None = None, engine: str | None = None, progress: bool | Progress = True,
    command: str | None = None) -> Run
extract(dataset: str | None = None, *, audio: PathLike | None = None, store: StoreLike = None,
    features: str | Sequence[str] | None = None, limit: int | None = None, jobs: int | None = None,
    executor: str = 'local', scheduler: str | None = None, backend: str = 'auto', timeout: float | None = None,
    max_failures: int | str | None = None, retry_failed: bool = False, accept_failures: bool | None = None,
    prune: bool = False,
    yes: bool | Callable[[str], None] = False, progress: bool | Progress = True) -> Extraction
find_audio(root: Path) -> AudioFiles
find_playlists(folder: Path) -> list[Path]
fit(dataset: str | None = None, *, store: StoreLike = None, preset: str | None = None,
    features: str | Sequence[str] | None = None,
    network: str | Sequence[str] | None = None, similarity: str | Sequence[str] | None = None,
    approach: str | Sequence[str] | None = None, label_similarity: str | None = None,
    learner: str | None = None, from_: PathLike | None = None,
    combine: str | Sequence[str | Sequence[str]] | None = None,
    epochs: int | None = None, batch: int | None = None,
    optimizer: str | None = None, excerpt: int | None = None, deltas: bool | None = None,
    ensemble: int | None = None, seed: int | None = None, normalize: str | None = None,
    select: str | Sequence[str] | None = None, inner_cv: int | None = None, folds: str | None = None,
    metric: str | None = None, checkpoint_every: int | None = None, name: str | None = None,
    exclude: str | None = None, jobs: int | None = None, device: str | None = None, engine: str | None = None,
    progress: bool | Progress = True, command: str | None = None) -> Model
hookimpl = HookimplMarker
is_audio(path: Path) -> bool
is_hidden(path: Path) -> bool
load(model: PathLike, *, store: StoreLike = None) -> Model
open_run(run: PathLike, *, store: StoreLike = None) -> Run
playlist_matcher(files: Iterable[Path]) -> Callable[[PlaylistEntry], Path | None]
read_file_tags(path: Path) -> FileTags
read_playlist(path: Path) -> list[PlaylistEntry]
require_folder(root: Path) -> None
uninterruptible() -> Iterator[None]
"""
TESTING = """
Check(promise: Promise, kind: Kind, plugin: str | Callable[..., Any], audio: AudioFolder | None = None)
    __call__(self) -> None
ConformanceError(PluginError)
check_dataset(dataset: str | Callable[..., Any], audio: AudioFolder | None = None) -> None
check_features(features: str | Callable[..., Any]) -> None
check_learner(learner: str | Callable[..., Any]) -> None
check_network(network: str | Callable[..., Any]) -> None
check_similarity(similarity: str | Callable[..., Any]) -> None
dataset_checks(*datasets: str | Callable[..., Any], audio: AudioFolder | None = None) -> pytest.MarkDecorator
features_checks(*features: str | Callable[..., Any]) -> pytest.MarkDecorator
learner_checks(*learners: str | Callable[..., Any]) -> pytest.MarkDecorator
network_checks(*networks: str | Callable[..., Any]) -> pytest.MarkDecorator
similarity_checks(*similarities: str | Callable[..., Any]) -> pytest.MarkDecorator
"""
HOOKS = """
mirembed_register_commands(app: typer.Typer) -> None
mirembed_register_datasets(register: Register) -> None
mirembed_register_features(register: Register) -> None
mirembed_register_learners(register: Register) -> None
mirembed_register_networks(register: Register) -> None
mirembed_register_similarities(register: Register) -> None
"""


def signature(function: Any) -> str:
    """Return the parameters and the result, with annotations unquoted."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def described(name: str, value: Any) -> list[str]:
    """Return a name with its signature and, for a class, the methods that others write or call."""
    value = inspect.unwrap(value)
    if inspect.isfunction(value):
        return [name + signature(value)]
    if not inspect.isclass(value):
        shown = str(value) if "|" in str(value) else type(value).__name__
        return [f"{name} = {shown.replace('mirembed.hookspecs.', '')}"]
    if issubclass(value, BaseException):
        return [f"{name}({value.__base__.__name__})"]
    head = name + signature(value).removesuffix(" -> None") if dataclasses.is_dataclass(value) else name
    methods = [
        f"    {method}{signature(function)}"
        for method, function in vars(value).items()
        if inspect.isfunction(function) and (method == "__call__" or not method.startswith("_"))
    ]
    return [head, *methods]


@pytest.mark.parametrize(("module", "expected"), [(mirembed, MIREMBED), (mirembed.testing, TESTING)])
def test_the_public_names_and_signatures_are_these(module: ModuleType, expected: str):
    assert list(module.__all__) == sorted(module.__all__)
    lines = [line for name in module.__all__ for line in described(name, getattr(module, name))]
    assert lines == re.sub(r",\n +", ", ", expected).strip().splitlines()


def test_the_hooks_and_their_signatures_are_these():
    specs = {name: value for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}
    assert [name + signature(specs[name]) for name in sorted(specs)] == HOOKS.strip().splitlines()


@pytest.mark.parametrize("module", [mirembed, mirembed.testing])
def test_every_public_name_is_documented(module: ModuleType):
    undocumented = [
        name
        for name in module.__all__
        if name not in ("AUDIO_SUFFIXES", "Task", "hookimpl")  # which have the docstrings of their types
        and (doc := getattr(module, name).__doc__) is not None
        and (not doc or doc.startswith(f"{name}("))  # written by dataclass
    ]
    assert undocumented == []


def test_importing_mirembed_is_cheap():
    code = """
import sys, mirembed
assert ".wav" in mirembed.AUDIO_SUFFIXES
assert not {"numpy", "soundfile", "torch"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = mirembed.nothing
