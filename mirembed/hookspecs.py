"""The extension points, and the types that pass through them.

A plugin is a module, found through the entry-point group ``mirembed``, that implements one or more of the three hooks
below. Each hook receives ``register`` and calls it once for every dataset, similarity or learner that it provides::

    from mirembed import hookimpl

    @hookimpl
    def mirembed_register_similarities(register):
        register("laplacian", Laplacian, summary="exp(-gamma * L1 distance)")

The factory (``Laplacian``) is called only when its name is used. Users set its keyword parameters on the command line
(``--similarity laplacian:gamma=2``); their annotations may be ``int``, ``float``, ``str``, ``bool``, ``pathlib.Path``,
``Literal``, and unions of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

PROJECT = "mirembed"
"""The name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Classification:
    """The task of predicting one of several classes for each track.

    Attributes
    ----------
    classes : tuple of str
        In the order of the label vector: the one-hot vector of ``classes[i]`` has its 1 at index ``i``.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One quantity to predict, and the range of values that its annotators could give.

    Attributes
    ----------
    name : str
    low, high : float or None
        The declared range, which is mapped to [0, 1] for training. If None, the range of the training tracks is used.
    """

    name: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Regression:
    """The task of predicting one number per target for each track."""

    targets: tuple[Target, ...]


Task: TypeAlias = Classification | Regression


@dataclass(frozen=True)
class Track:
    """One piece of music in a dataset.

    Attributes
    ----------
    id : str
        Unique within the dataset and the same on every machine: a path relative to the audio folder, or the dataset's
        own number. Never an absolute path.
    path : pathlib.Path
        The audio file.
    label : str or tuple of float
        A class of the task, or one value per target, in the dataset's own units.
    group : str or None
        Tracks of the same group, usually an artist, are kept on the same side of a grouped split.
    """

    id: str
    path: Path
    label: str | tuple[float, ...]
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """The tracks that a dataset finds in an audio folder.

    Attributes
    ----------
    task : Classification or Regression
    tracks : sequence of Track
    absent : int
        The number of annotated tracks whose audio is missing. It is reported, and is not an error.
    notes : sequence of str
        Anything else the user should know, one line each.
    """

    task: Task
    tracks: Sequence[Track]
    absent: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Archive:
    """A file that ``mirembed datasets fetch`` downloads and unpacks.

    Attributes
    ----------
    url : str
    checksum : str
        ``sha256:...`` or ``md5:...`` of the file.
    folder : str
        The folder within the audio folder to unpack it to.
    """

    url: str
    checksum: str
    folder: str = "."


@dataclass(frozen=True)
class Card:
    """A description of a dataset for its users, and of its audio for ``mirembed datasets check``.

    Attributes
    ----------
    title : str
    n_tracks : int
        The number of tracks in a complete copy.
    labels : str
        What the labels are, such as ``10 genres``.
    license : str
    citation : str
        A BibTeX entry.
    source : str
        A sentence on where to get the dataset.
    tree : str
        The expected folders and files.
    archives : tuple of Archive
        What ``mirembed datasets fetch`` can download; empty if there is no public address.
    rate : int or None
        The sampling rate of all files in Hz, or None if they differ.
    seconds : (float, float) or None
        The durations of the shortest and the longest track in an intact copy.
    """

    title: str
    n_tracks: int
    labels: str
    license: str
    citation: str
    source: str
    tree: str
    archives: tuple[Archive, ...] = ()
    rate: int | None = None
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Split:
    """One fold of an official scheme: the ids of its training tracks and of its test tracks."""

    train: frozenset[str]
    test: frozenset[str]


class Dataset(Protocol):
    """Lists the tracks in an audio folder.

    Four more members are optional:

    ``synthesize(audio)``
        Writes any missing audio files; ``mirembed extract`` calls it if no audio folder is given.
    ``card``
        A `Card`.
    ``schemes()``
        A mapping of names, for ``--folds``, to official folds: a sequence of `Split`.
    ``known_faults()``
        A mapping of track ids to the published reasons for excluding them with ``--exclude known-faults``.
    """

    def listing(self, audio: Path) -> Listing:
        """Return the tracks in the folder ``audio``; raise ``DatasetError`` if it does not hold this dataset."""


class Similarity(Protocol):
    """A differentiable similarity of vectors.

    Two more members are optional:

    ``cross(x, y)``
        Returns the similarities ``[..., n, m]`` of ``x [..., n, d]`` and ``y [..., m, d]``. Without it, mirembed stacks
        x and y and slices the result.
    ``cross_numpy(x, y)``
        Returns the similarities ``[n, m]`` of float64 numpy arrays ``x [n, d]`` and ``y [m, d]``. With it,
        ``mirembed similar`` ranks stored embeddings without importing torch.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of the vectors ``x [..., n, d]``."""


class Estimator(Protocol):
    """The part of scikit-learn's estimator interface that mirembed uses."""

    def fit(self, X: NDArray[np.floating], y: NDArray[Any]) -> Any:
        """Fit to embeddings ``X [n, units]``, float32, and labels ``y``; see `Learner`."""

    def predict(self, X: NDArray[np.floating]) -> NDArray[Any]:
        """Predict labels in the same form as ``y``."""


class Learner(Protocol):
    """Builds the scikit-learn estimator that predicts labels from embeddings.

    One more member is optional:

    ``kernel_similarity``
        The spec of a registered similarity to use as the estimator's kernel, such as ``polynomial:d=3``, or None. If
        there is one, the estimator receives float64 Gram matrices instead of embeddings: `Estimator.fit` the
        similarities ``[n_train, n_train]`` of the training tracks, and `Estimator.predict` the similarities
        ``[n, n_train]`` of other tracks to them (scikit-learn's ``kernel="precomputed"``). ``match`` stands for the
        similarity that was learned, and as the value of a parameter (``rbf:gamma=match``) for its value there.
    """

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted estimator for ``task``.

        For a classification, ``y`` is an int64 array ``[n]`` of indices into ``task.classes``; for a regression, a
        float64 array ``[n, n_targets]`` of targets scaled to [0, 1].
        """


class Register(Protocol):
    """The callback that a hook receives."""

    def __call__(self, name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        """Register ``factory`` under ``name``; ``mirembed plugins`` shows the one-line ``summary``."""


@hookspec
def mirembed_register_datasets(register: Register) -> None:
    """Register datasets: factories of objects with the methods of `Dataset`."""


@hookspec
def mirembed_register_similarities(register: Register) -> None:
    """Register similarities: factories of callables with the signature of `Similarity`."""


@hookspec
def mirembed_register_learners(register: Register) -> None:
    """Register learners: factories of objects with the methods of `Learner`."""
