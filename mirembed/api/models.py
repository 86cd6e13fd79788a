"""`mirembed.load`: a saved model, which embeds and predicts audio files and finds similar tracks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.api.progress import note_failures, reporting
from mirembed.api.results import Embeddings, Neighbors, Predictions
from mirembed.api.tables import facts_html
from mirembed.api.words import (
    PathLike,
    Paths,
    StoreLike,
    dataset_of,
    discover,
    number_of,
    path_of,
    paths_of,
    plain,
    store_of,
    text_of,
)
from mirembed.audio.files import audio_files
from mirembed.errors import SpecError
from mirembed.hookspecs import Task
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.models.base import AnyModel
    from mirembed.models.inference import EmbeddedFiles


class Model:
    """A saved model. Get one with `mirembed.load` or `mirembed.fit`.

    Attributes
    ----------
    path : pathlib.Path
        Its folder.
    provenance : mapping
        How it was made: dataset, approach, learner, settings, seed, versions, command.
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any], store: Store, registry: Registry) -> None:
        self.path = path
        self.provenance = provenance
        self._store, self._registry = store, registry

    @classmethod
    def open(cls, model: PathLike, store: Store, registry: Registry) -> Model:
        """Find a model by its folder, or its name in a store; see `load`."""
        from mirembed.models.saved import read_identity

        return cls(*read_identity(store.models, str(plain(model))), store, registry)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def dataset(self) -> str:
        """The dataset that it was fitted to."""
        return str(self.provenance["dataset"]["spec"])

    @property
    def approach(self) -> str:
        """Its approach: ``rbf-sl``, ``nn``, ``stats``; of a combined model, its method, such as ``combined``."""
        return str(self.provenance["approach"])

    @property
    def learner(self) -> str | None:
        """What predicts from its embeddings; None for ``nn``, whose network predicts, and for combined models."""
        described = self.provenance["learner"]
        return None if described is None else str(described["spec"])

    @property
    def loss(self) -> float | None:
        """Mean loss per track in the last epoch; None if nothing was trained."""
        found: float | None = self.provenance.get("loss")
        return found

    @property
    def notes(self) -> list[str]:
        """Warnings about the model."""
        return list(self.provenance["notes"])

    @cached_property
    def loaded(self) -> AnyModel:
        """Networks and learners, which are read when they are first needed.

        Raises
        ------
        ModelError
            It is damaged.
        """
        from mirembed.models.combined import load_model

        return load_model(self.path, self._registry)

    @property
    def task(self) -> Task:
        """What it predicts: a `Classification`, `Tags` or `Regression`."""
        return self.loaded.task

    @property
    def features(self) -> str:
        """The features that it needs; several, of a combined model, are separated by commas."""
        return ", ".join(one.spec for one in self.loaded.feature_sets)

    @property
    def units(self) -> int:
        """The number of values of an embedding."""
        return self.loaded.units

    @property
    def member_weights(self) -> dict[str, float]:
        """The weights of the members' predictions, by the members' names; empty unless the model is combined."""
        return self.loaded.member_weights

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of the tracks of its dataset, from the store."""
        from mirembed.api.store import stored_embeddings

        return stored_embeddings(self._store, self.path, None)

    def embed(self, paths: Paths, *, jobs: int | None = None, progress: bool | Progress = True) -> Embeddings:
        """Compute the embeddings of audio files. They need no labels.

        Files whose features or embeddings are in the store are not decoded. If interrupted, the same call resumes.

        Parameters
        ----------
        paths : path or sequence of path
            Audio files, or folders of them.
        jobs : int, optional
            Worker processes. Default: one per core.
        progress : bool
            Show a line of text, and the files that fail.

        Returns
        -------
        Embeddings

        Raises
        ------
        MirembedError
            A path does not exist, or the model's features cannot be computed here.
        """
        with reporting(progress) as reported:
            files = self._embed(paths, jobs, reported)
        return Embeddings.of_files(files)

    def predict(
        self,
        paths: Paths,
        *,
        top: int | None = None,
        min_score: float | None = None,
        skip_known: bool = False,
        jobs: int | None = None,
        progress: bool | Progress = True,
    ) -> Predictions:
        """Predict the class, the tags or the targets of audio files.

        Parameters
        ----------
        paths : path or sequence of path
            Audio files, or folders of them.
        top : int, optional
            Name this many of the most probable classes or tags, with their probabilities.
        min_score : float, optional
            Name only classes or tags of at least this probability, from 0 to 1.
        skip_known : bool
            Leave out the recordings that the model was fitted to.
        jobs : int, optional
            Worker processes. Default: one per core.
        progress : bool
            Show a line of text, and the files that fail.

        Returns
        -------
        Predictions

        Raises
        ------
        MirembedError
            A path does not exist, the model has no probabilities, or its features cannot be computed here.
        """
        from mirembed.models.predictions import Ranking, prediction_notes

        ranking = Ranking.of(
            self.loaded, number_of("top", top), number_of("min_score", min_score, least=0, whole=False)
        )
        with reporting(progress) as reported:
            files = self._embed(paths, jobs, reported)
            used = files.without(self.loaded.trained_on) if skip_known else files
            n_left_out = len(files.paths) - len(used.paths) if skip_known else None
            for note in prediction_notes(self.loaded, ranking, n_left_out):
                reported.note(note)
        return Predictions(self.loaded, used, ranking)

    def similar(
        self,
        seeds: PathLike | Iterable[PathLike],
        *,
        top: int = 10,
        dataset: str | None = None,
        inside: PathLike | None = None,
        exclude: str | Sequence[str] = (),
        max_per_artist: int | None = None,
        max_per_album: int | None = None,
        jobs: int | None = None,
        progress: bool | Progress = True,
    ) -> Neighbors:
        """List the tracks of a library that are most similar to one or more seeds.

        With several seeds, a track is ranked by its similarity to the seed that it is least similar to. The seeds
        themselves, copies of a recording and missing files are left out.

        Parameters
        ----------
        seeds : path or str, or a sequence of them
            Audio files, track ids, or words from artist and title.
        top : int
            Number of neighbors.
        dataset : str, optional
            The library. Default: the dataset that the model was fitted to.
        inside : path, optional
            Search this folder of audio files instead of the library; the command's ``--in``.
        exclude : str or sequence of str
            Leave out a track, an artist, an album, a folder, or the tracks of a playlist file.
        max_per_artist, max_per_album : int, optional
            Maximum number of tracks by one artist, or from one album; 0: no limit.
        jobs : int, optional
            Worker processes. Default: one per core.
        progress : bool
            Show a line of text, and notes about what was left out.

        Returns
        -------
        Neighbors

        Raises
        ------
        MirembedError
            A seed matches no track or several, the tracks have no embeddings, or the audio folder is missing.
        """
        from mirembed.library.neighbors import neighbors

        given = [seeds] if isinstance(seeds, str) or not isinstance(seeds, Iterable) else list(seeds)
        excluded = [exclude] if isinstance(exclude, str) else list(exclude)
        if not given:
            raise SpecError("seeds is empty: expected audio files, track ids, or words from artist and title")
        with reporting(progress) as reported:
            found = neighbors(
                self._store,
                self._registry,
                str(self.path),
                [str(path_of("seeds", seed)) if not isinstance(seed, str) else seed for seed in given],
                top=number_of("top", top),
                choose=lambda text, tracks: None,  # a text that matches several is an error
                progress=reported,
                exclude=[text_of("exclude", text) for text in excluded],
                max_per_artist=number_of("max_per_artist", max_per_artist, least=0),
                max_per_album=number_of("max_per_album", max_per_album, least=0),
                inside=None if inside is None else path_of("inside", inside),
                dataset=dataset_of(dataset),
                jobs=number_of("jobs", jobs),
            )
            note_failures(found.failures, reported)
        return Neighbors(found)

    def _embed(self, paths: Paths, jobs: int | None, progress: Progress) -> EmbeddedFiles:
        from mirembed.models.inference import embed_files
        from mirembed.workers import available_jobs

        workers = number_of("jobs", jobs) or available_jobs()
        model = self.loaded
        files, notes = audio_files(paths_of("paths", paths))
        for note in notes:
            progress.note(note)
        found = embed_files(model, files, self._registry, self._store, workers, progress)
        note_failures(found.failures, progress)
        return found

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {self.approach} fitted to {self.dataset}, in {self.path})"

    def _repr_html_(self) -> str:
        made = self.provenance
        return facts_html(
            [
                ("model", self.name),
                ("fitted to", f"{made['dataset']['n_tracks']} tracks of {self.dataset}"),
                ("approach", self.approach),
                ("learner", self.learner),
                ("epochs", made["settings"].get("epochs")),
                ("loss per track", self.loss),
                ("notes", "; ".join(self.notes)),
                ("folder", str(self.path)),
            ]
        )


def load(model: PathLike, *, store: StoreLike = None) -> Model:
    """Open a saved model.

    Parameters
    ----------
    model : path
        The folder of a model, or its name in the store.
    store : path or Store, optional
        Has the embeddings and the features of known files. Default: the environment variable MIREMBED_STORE, or else
        ``mirembed-store`` in the current folder.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        There is no such model, or another version of mirembed wrote it.
    SpecError
        ``model`` is not a path.
    """
    return Model.open(path_of("model", model), store_of(store), discover(NO_PROGRESS.note))
