"""The extension points, and the types that cross them.

A plugin is a module, found through the entry-point group ``mirembed``, with one or more of the three hooks below.
Each hook is handed ``register`` and calls it once for each thing it brings::

    from mirembed import hookimpl

    @hookimpl
    def mirembed_register_similarities(register):
        register("laplacian", Laplacian, summary="exp(-gamma * L1 distance)")

The factory (``Laplacian``) is called when its name is used and not before. Its keyword parameters, with their
annotations, are what ``--similarity laplacian:gamma=2`` may set: ``int``, ``float``, ``str``, ``bool``,
``pathlib.Path``, ``Literal``, and unions of these.
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
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Classification:
    """One of ``classes`` for each track.

    Attributes
    ----------
    classes : tuple of str
        In the order of the label vector: class ``classes[i]`` is the one-hot vector with 1 at ``i``.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One regressed quantity and the range of values that its annotators could give.

    Attributes
    ----------
    name : str
    low, high : float or None
        The declared range, mapped to [0, 1] for training. None: the range of the training tracks is taken.
    """

    name: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Regression:
    """A vector of numbers for each track, one for each of ``targets``."""

    targets: tuple[Target, ...]


Task: TypeAlias = Classification | Regression


@dataclass(frozen=True)
class Track:
    """One piece of music that a dataset lists.

    Attributes
    ----------
    id : str
        Unique in the dataset and stable between machines: a path relative to the audio folder, or the dataset's
        own number. Never an absolute path.
    path : pathlib.Path
        The audio file.
    label : str or tuple of float
        A class of the task, or one value for each target, in the dataset's own units.
    group : str or None
        What must not stand on both sides of a grouped split; usually the artist.
    """

    id: str
    path: Path
    label: str | tuple[float, ...]
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a dataset finds in an audio folder.

    Attributes
    ----------
    task : Classification or Regression
    tracks : sequence of Track
    absent : int
        Annotated tracks whose audio is not there. Counted and said, and no failure.
    notes : sequence of str
        Further things that a user should be told, one line each.
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
        ``sha256:...`` or ``md5:...``, of the file.
    folder : str
        Where in the audio folder its content goes.
    """

    url: str
    checksum: str
    folder: str = "."


@dataclass(frozen=True)
class Card:
    """What a dataset is, for people; and what its audio should be, for ``mirembed datasets check``.

    Attributes
    ----------
    title : str
    n_tracks : int
        Of a complete copy.
    labels : str
        Such as ``10 genres``.
    license : str
    citation : str
        A BibTeX entry.
    source : str
        Where to get it, in a sentence.
    tree : str
        The expected folders and files.
    archives : tuple of Archive
        What can be fetched; empty where no address is known.
    rate : int or None
        Sampling rate in Hz, where all files have the same.
    seconds : (float, float) or None
        The shortest and the longest track that a sound copy has.
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
    """One fold of an official scheme: ids of tracks to fit on, and to score on."""

    train: frozenset[str]
    test: frozenset[str]


class Dataset(Protocol):
    """Lists tracks.

    Four more members are looked for, and may be left out:

    ``synthesize(audio)``
        Writes the audio files that are not there yet; ``extract`` calls it when no audio folder is given.
    ``card``
        A `Card`.
    ``schemes()``
        A mapping of names, for ``--folds``, to official splits: a sequence of `Split`.
    ``known_faults()``
        A mapping of track ids to the published reason why ``--exclude known-faults`` leaves them out.
    """

    def listing(self, audio: Path) -> Listing:
        """Return the tracks of the folder ``audio``; raise ``DatasetError`` when it is not this dataset's."""


class Similarity(Protocol):
    """A kernel on vectors, differentiable.

    A similarity may have a method ``cross(x, y)`` for ``[..., n, d]`` and ``[..., m, d]`` giving ``[..., n, m]``;
    without it the host stacks x and y and slices.

    It may also have a method ``cross_numpy(x, y)``, the same for float64 arrays ``[n, d]`` and ``[m, d]`` of numpy:
    ``mirembed similar`` then ranks stored embeddings without importing torch.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return the ``[..., n, n]`` similarities of the n vectors ``x : Tensor [..., n, d]``."""


class Estimator(Protocol):
    """What mirembed needs of a scikit-learn estimator."""

    def fit(self, X: NDArray[np.floating], y: NDArray[Any]) -> Any:
        """Fit to embeddings ``X [n, units]``, float32, and labels ``y``, see `Learner`."""

    def predict(self, X: NDArray[np.floating]) -> NDArray[Any]:
        """Predict labels in the form that ``y`` had."""


class Learner(Protocol):
    """Builds the scikit-learn estimator that turns embeddings into predictions.

    One more member is looked for, and may be left out:

    ``kernel_similarity``
        The spec of a registered similarity, such as ``polynomial:d=3``, that is to be the estimator's kernel, or
        None. With one, the estimator is given a Gram matrix in place of embeddings, float64: `Estimator.fit` the
        similarities ``[n_train, n_train]`` of the training tracks, and `Estimator.predict` those ``[n, n_train]``
        of other tracks to them (scikit-learn's ``kernel="precomputed"``). ``match`` is the similarity that was
        learned, and as value of a parameter (``rbf:gamma=match``) the learned similarity's value.
    """

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted estimator for ``task``.

        Classification: ``y`` is an int64 array ``[n]`` of indices into ``task.classes``. Regression: ``y`` is
        a float64 array ``[n, n_targets]`` of targets scaled to [0, 1].
        """


class Register(Protocol):
    """The callback that a hook receives."""

    def __call__(self, name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        """Register ``factory`` under ``name``; ``summary`` is the line that ``mirembed plugins`` shows."""


@hookspec
def mirembed_register_datasets(register: Register) -> None:
    """Register datasets: factories of objects with the methods of `Dataset`."""


@hookspec
def mirembed_register_similarities(register: Register) -> None:
    """Register similarities: factories of callables with the signature of `Similarity`."""


@hookspec
def mirembed_register_learners(register: Register) -> None:
    """Register learners: factories of objects with the methods of `Learner`."""
