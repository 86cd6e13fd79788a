"""The extension points, and the types that pass through them.

A plugin is a module, found through the entry-point group ``mirembed``, that implements one or more of the hooks below.
Each ``register`` hook receives ``register`` and calls it once for every dataset, features, network, similarity or
learner that it provides::

    from mirembed import hookimpl

    @hookimpl
    def mirembed_register_similarities(register):
        register("laplacian", Laplacian, summary="exp(-gamma * L1 distance)")

The factory (``Laplacian``) is called only when its name is used. Users set its keyword parameters on the command line
(``--similarity laplacian:gamma=2``); their annotations may be ``int``, ``float``, ``str``, ``bool``, ``pathlib.Path``,
``Literal``, and unions of these.

Features, networks, similarities and learners may have two more attributes, which the methods section that ``mirembed
report`` writes for a paper takes over:

``description`` : str
    What it computes, as a phrase such as ``two GRU layers [@cho2014] of 100 and 50 units``: Markdown with ``$...$`` for
    mathematics, and the keys of cited entries as ``[@key]``. Of a learner, it may be a method that takes the task.
``citation`` : str
    The BibTeX entries that ``description`` cites; each ends with a brace on a line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import typer
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
class Tags:
    """The task of predicting, for each of several tags, whether a track has it; a track may have any, or none.

    Attributes
    ----------
    classes : tuple of str
        The tags, in the order of the label vector: it is 1 at index ``i`` if the track has the tag ``classes[i]``, and
        0 otherwise.
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


Task: TypeAlias = Classification | Tags | Regression

Label: TypeAlias = str | frozenset[str] | tuple[float, ...]


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
    label : str, frozenset of str, tuple of float or None
        A class of the task; its tags, which may be none; or one value per target, in the dataset's own units. None if
        the track is unlabeled, as where its tags or any of its targets are unknown: nothing is trained or tested on
        it, but it can be embedded like any other.
    group : str or None
        Tracks of the same group, usually an artist, are kept on the same side of a grouped split.
    """

    id: str
    path: Path
    label: str | frozenset[str] | tuple[float, ...] | None
    group: str | None = None


@dataclass(frozen=True)
class Split:
    """One fold of an official scheme.

    Attributes
    ----------
    train, test : frozenset of str
        The ids of its training tracks and of its test tracks.
    inner : tuple of frozenset of str
        The test parts of its inner folds, on which ``--select`` makes its choices; a validation part is a single one.
        Their tracks belong to ``train``, too; an inner fold trains on the others. Empty if choices are made on inner
        folds that mirembed draws.
    """

    train: frozenset[str]
    test: frozenset[str]
    inner: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class Listing:
    """The tracks that a dataset finds in an audio folder.

    Attributes
    ----------
    task : Classification, Tags, Regression or None
        None if the dataset has no labels; all of its tracks are then unlabeled.
    tracks : sequence of Track
    absent : int
        The number of annotated tracks whose audio is missing. It is reported, and is not an error.
    notes : sequence of str
        Anything else the user should know, one line each.
    schemes : mapping of str to sequence of Split
        By their names for ``--folds``: official folds whose lists come with the audio. The store keeps them.
    labels_from, groups_from : str
        Where labels and groups come from, such as ``column 'genre'``, if the user should know which of several.
    """

    task: Task | None
    tracks: Sequence[Track]
    absent: int = 0
    notes: Sequence[str] = ()
    schemes: Mapping[str, Sequence[Split]] = field(default_factory=dict)
    labels_from: str = ""
    groups_from: str = ""


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
    folds : tuple of str
        The names of the official folds whose lists come with the audio; see `Listing`.
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
    folds: tuple[str, ...] = ()


class Dataset(Protocol):
    """Lists the tracks in an audio folder.

    Five more members are optional:

    ``takes_file_tags``
        Whether `listing` also receives ``file_tags`` by keyword: True or False. It is a function that takes the path of
        an audio file and returns what the file's own tags say: title, artists, album, genres and so on. The store
        answers for a file that it knows, so ask for all files, every time.
    ``synthesize(audio)``
        Writes any missing audio files; ``mirembed extract`` calls it if no audio folder is given.
    ``card``
        A `Card`.
    ``schemes()``
        A mapping of names, for ``--folds``, to official folds: a sequence of `Split`. It is called without an audio
        folder; folds whose lists come with the audio are in the `Listing`.
    ``known_faults()``
        A mapping of track ids to the published reasons for excluding them with ``--exclude known-faults``.
    """

    def listing(self, audio: Path) -> Listing:
        """Return the tracks in the folder ``audio``; raise ``DatasetError`` if it does not hold this dataset."""


class Audio(Protocol):
    """The audio of one recording, as `Features.extract` receives it."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids under which the dataset lists the file; empty for files that no dataset lists."""

    @property
    def rate(self) -> int:
        """Sampling rate of the file in Hz."""

    @property
    def channels(self) -> int:
        """Number of channels of the file."""

    @property
    def duration(self) -> float:
        """Seconds that the header states; 0 if it states none. Only `blocks` gives the true number of samples."""

    def blocks(self, rate: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in order: ndarray ``[n_samples]``, the mean of the channels; full scale is 1.

        The blocks have any length, so hours of audio need no more memory than seconds, and are read-only: copy one to
        change it. Each call starts at the beginning; a second one may decode the file again. A file that is never
        asked for its blocks is not decoded.

        Parameters
        ----------
        rate : int or None
            Resample to this rate, in Hz, with soxr; None for the rate of the file.

        Raises
        ------
        AudioError
            The file cannot be decoded, or is damaged. Do not catch it.
        """


class Features(Protocol):
    """Turns the audio of a recording into frames.

    Attributes
    ----------
    values : int
        Number of values in a frame.
    hop : float or None
        Seconds from one frame to the next, the same at every sampling rate; None if a recording has one vector, which
        is a single frame.

    Four more attributes are optional:

    ``version`` : str
        A promise: as long as it stays the same, so do the frames. Without it, after any change to the plugin's source,
        mirembed computes the features again.
    ``digest`` : str
        Digest of anything else that the frames depend on besides the parameters and the files that they name, such as a
        folder.
    ``neutral`` : tuple of str
        Names of parameters that do not change the frames: the number of threads, or the path of a file whose content is
        in ``digest``.
    ``backend`` : str
        The library that computes the frames, where there is a choice. It is recorded with each recording.

    One method is optional:

    ``unmatched(tracks)``
        Receives the `Track` objects of a dataset before anything is computed, and returns the names of whatever matches
        none of them, such as rows of a table; the user is told.
    """

    values: int
    hop: float | None

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the frames of a recording: ndarray ``[n_frames, values]``, finite; frame ``i`` begins at ``i * hop``.

        Raises
        ------
        AudioError
            If this recording cannot have such features, for example because it is too short. The message is listed with
            the failures, and the extraction continues.
        """


class Network(Protocol):
    """Builds the torch module that turns the frames of tracks into embeddings.

    Two more members are optional:

    ``initialize(module, rng)``
        Draws the initial weights of ``module`` with the ``numpy.random.Generator`` ``rng``. Without it, they are the
        ones that torch draws, with a seed from the same source.
    ``fused``
        ``(hidden, units)`` if the module is exactly a GRU from ``inputs`` to ``hidden``, a GRU from ``hidden`` to
        ``units`` and the mean over time, with torch's parameters in torch's order: the fused engine may compute it.
    """

    def module(self, inputs: int) -> NetworkModule:
        """Return a new network for frames of ``inputs`` values."""


class NetworkModule(Protocol):
    """A `torch.nn.Module` from frames to embeddings.

    Attributes
    ----------
    units : int
        Size of an embedding.

    A module may also process tracks of any length piece by piece, with the same result as in one piece:

    ``stream(frames, inside, state)``
        Takes the next ``frames [batch, time, inputs]`` with ``inside [batch, time]`` and returns the new state; the
        first ``state`` is None. For a track that has ended ``inside`` is 0 throughout.
    ``finish(state)``
        Returns the embeddings ``[batch, units]``.

    Without these, a full track is embedded in consecutive windows as long as an excerpt, and its embedding is the mean
    of theirs, weighted by their frames.
    """

    units: int

    def __call__(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Embed a batch of sequences: Tensor ``[batch, units]``.

        Parameters
        ----------
        frames : Tensor [batch, time, inputs]
        inside : Tensor [batch, time]
            1 for frames of the track; 0 for the padding at the end of a short one, which must not change its embedding.
            No embedding depends on the other tracks of the batch.
        """


class Similarity(Protocol):
    """A differentiable similarity of vectors. It has no trainable weights; buffers and frozen parameters are fine.

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

    Two more members are optional:

    ``takes_groups``
        Whether `Estimator.fit` also receives ``groups``, an int64 array ``[n_train]``, by keyword: True or False.
        Tracks with the same number are of the same group, usually an artist; a track without a group has a number of
        its own. With them, a learner that selects parameters by inner cross-validation can keep groups apart, as
        ``GridSearchCV`` of scikit-learn does with ``GroupKFold``.
    ``kernel_similarity``
        The spec of a registered similarity to use as the estimator's kernel, such as ``polynomial:d=3``, or None. If
        there is one, the estimator receives float64 Gram matrices instead of embeddings: `Estimator.fit` the
        similarities ``[n_train, n_train]`` of the training tracks, and `Estimator.predict` the similarities
        ``[n, n_train]`` of other tracks to them (scikit-learn's ``kernel="precomputed"``). ``match`` stands for the
        similarity that was learned, and as the value of a parameter (``rbf:gamma=match``) for its value there.
    """

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted estimator for ``task``.

        For classes, ``y`` is an int64 array ``[n]`` of indices into ``task.classes``. For tags, it is an int64 array
        ``[n, n_tags]`` of 0 and 1; ``task.classes`` has only the tags that some training tracks have and others lack,
        as nothing can be learned about the rest. For a regression, it is a float64 array ``[n, n_targets]`` of targets
        scaled to [0, 1].

        Tags are ranked by the estimator's ``decision_function``, or else by its ``predict_proba``, or else by its
        predictions.
        """


class Register(Protocol):
    """The callback that a hook receives."""

    def __call__(self, name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        """Register ``factory`` under ``name``; ``mirembed plugins`` shows the one-line ``summary``."""


@hookspec
def mirembed_register_datasets(register: Register) -> None:
    """Register datasets: factories of objects with the methods of `Dataset`."""


@hookspec
def mirembed_register_features(register: Register) -> None:
    """Register features: factories of objects with the methods of `Features`."""


@hookspec
def mirembed_register_networks(register: Register) -> None:
    """Register networks: factories of objects with the methods of `Network`."""


@hookspec
def mirembed_register_similarities(register: Register) -> None:
    """Register similarities: factories of callables with the signature of `Similarity`."""


@hookspec
def mirembed_register_learners(register: Register) -> None:
    """Register learners: factories of objects with the methods of `Learner`."""


@hookspec
def mirembed_register_commands(app: typer.Typer) -> None:
    """Add commands to the command line: ``@app.command()``."""
