"""A fitted model: network, normalization, learner and provenance; in memory and on disk.

On disk a model is a folder::

    model.json             task, approach, learner, spectrogram parameters, provenance, digests of the files
    network.safetensors    weights, normalization, target scale, the training tracks' embeddings for a kernel
    learner.skops          the scikit-learn estimator; absent for the approach nn

Nothing in it can run code when it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.errors import ModelError, PluginError, StoreError
from mirembed.hookspecs import Classification, Estimator, Task
from mirembed.models.baselines import MelStatistics, NoFeatures
from mirembed.models.estimators import dump_estimator, load_estimator
from mirembed.models.kernels import Kernel
from mirembed.models.saved import LEARNER, MANIFEST, NETWORK
from mirembed.registry import Registry, plugin_code
from mirembed.store.files import read_json, write_json, writing
from mirembed.store.rows import task_from_json, task_to_json
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import Normalization
from mirembed.training.labels import TargetScale
from mirembed.training.network import EmbeddingNetwork, one_thread

FORMAT = 2


@dataclass
class Model:
    """Everything between a spectrogram and a prediction.

    Attributes
    ----------
    task : Classification or Regression
    network : EmbeddingNetwork, or the features of a baseline
        Only a model with a network can be saved.
    normalization : Normalization
    head : torch.nn.Linear or None
        The network's own output layer, for the approach ``nn``.
    estimator : Estimator or None
        The fitted learner, for all other approaches.
    scale : TargetScale or None
        None for classification.
    parameters : mapping
        Of the spectrogram.
    provenance : mapping
        Approach, plugins, seed, versions, command; of a model that was saved or loaded also name and digest.
    kernel : Kernel or None
        The similarity whose Gram matrix the estimator takes; None: it takes embeddings.
    engine : {"auto", "numba", "torch"}
        What computes embeddings. A loaded model takes the engine that it was trained with, where that one runs: its
        embeddings are then the same to the bit.
    """

    task: Task
    network: EmbeddingNetwork | MelStatistics | NoFeatures
    normalization: Normalization
    head: nn.Linear | None
    estimator: Estimator | None
    scale: TargetScale | None
    parameters: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    kernel: Kernel | None = None
    engine: str = "torch"

    def embed(
        self, frames: NDArray[np.float32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Embed full tracks: ndarray ``[n_tracks, units]``. None depends on its companions, to the bit."""
        if not isinstance(self.network, EmbeddingNetwork):
            return self.network.embed(frames, starts, lengths)
        with one_thread():
            engine = make_engine(self.engine, self.network)
            return engine.embed_tracks(frames, starts, lengths, self.normalization)

    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        """Predict from embeddings.

        Parameters
        ----------
        embeddings : ndarray [n_tracks, units]

        Returns
        -------
        ndarray
            Classification: ``[n_tracks]`` int64, indices of the classes. Regression: ``[n_tracks, n_targets]``
            float64, original units.
        """
        outputs = self._head_outputs(embeddings) if self.estimator is None else self._learner_outputs(embeddings)
        if isinstance(self.task, Classification):
            return np.asarray(outputs, np.int64)
        assert self.scale is not None  # noqa: S101
        return self.scale.unscale(outputs)

    def _head_outputs(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        assert self.head is not None  # noqa: S101
        weight = self.head.weight.detach().cpu().numpy()
        bias = self.head.bias.detach().cpu().numpy()
        # One track at a time: a product's rounding may depend on the number of its rows.
        outputs = np.array([weight @ embedding + bias for embedding in embeddings]).reshape(-1, len(bias))
        return outputs.argmax(axis=1) if isinstance(self.task, Classification) else outputs

    def _learner_outputs(self, embeddings: NDArray[np.float32]) -> NDArray[Any]:
        assert self.estimator is not None  # noqa: S101
        estimator = self._blamed_estimator()
        n = len(embeddings)
        expected = (n,) if isinstance(self.task, Classification) else (n, len(self.task.targets))
        if n == 0:  # which scikit-learn refuses
            return np.zeros(expected)
        X = embeddings if self.kernel is None else self.kernel.gram(embeddings)
        with plugin_code(f"{estimator} fails to predict {n} tracks"):
            outputs = np.asarray(self.estimator.predict(X))
        if isinstance(self.task, Classification):
            expected_values = f"class indices from 0 to {len(self.task.classes) - 1}"
        else:
            expected_values = "finite values"
        if outputs.shape != expected or outputs.dtype.kind not in "iuf":
            raise PluginError(
                f"{estimator} predicted an array of shape {outputs.shape} "
                f"and type {outputs.dtype}; expected {expected_values} in the shape {expected}"
            )
        if isinstance(self.task, Classification):
            wrong = ~np.isin(outputs, range(len(self.task.classes)))
        else:
            wrong = ~np.isfinite(outputs)
        if wrong.any():
            first = tuple(int(place) for place in np.argwhere(wrong)[0])
            raise PluginError(
                f"{estimator} predicted {outputs[first]} for track {first[0]}, and {int(wrong.sum())} such values in "
                f"all; expected {expected_values}"
            )
        return outputs

    def _blamed_estimator(self) -> str:
        name = type(self.estimator).__name__
        learner = self.provenance.get("learner") or {}
        if "distribution" not in learner:
            return f"the learner's {name}"
        return f"the {name} of learner {learner['name']} of {learner['distribution']} {learner['version']}"

    def save(self, folder: Path) -> None:
        """Write the model as a new folder.

        Raises
        ------
        StoreWriteError
            If the disk is full or the place cannot be written.
        ModelError
            If skops cannot store the learner's estimator.
        """
        from safetensors.torch import save

        network = self.network
        assert isinstance(network, EmbeddingNetwork)  # noqa: S101
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / NETWORK).write_bytes(save(self._tensors(network)))
            if self.estimator is not None:
                (temporary / LEARNER).write_bytes(dump_estimator(self.estimator))
            write_json(
                temporary / MANIFEST,
                {
                    "format": FORMAT,
                    "task": task_to_json(self.task),
                    "network": {"hidden": network.hidden, "units": network.units},
                    "spectrogram": dict(self.parameters),
                    "kernel": None if self.kernel is None else dict(self.kernel.described),
                    "provenance": dict(self.provenance),
                    "files": {path.name: _digest(path) for path in sorted(temporary.iterdir())},
                },
            )
        self.provenance = {**self.provenance, **_identity(folder)}

    @classmethod
    def load(cls, folder: Path, registry: Registry) -> Model:
        """Read a model.

        Parameters
        ----------
        folder : pathlib.Path
        registry : Registry
            Only types of scikit-learn, numpy, scipy and of the installed plugin of the model's learner are loaded.

        Raises
        ------
        ModelError
            If the folder is not a model, is damaged, has another format, or holds a learner of unknown types.
        """
        manifest = _read_manifest(folder)
        tensors = _read_tensors(folder / NETWORK)
        try:
            return cls._assemble(folder, manifest, tensors, registry)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ModelError(f"the model {folder} is damaged ({reason}); fit it again") from error

    @classmethod
    def _assemble(
        cls, folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], registry: Registry
    ) -> Model:
        task = task_from_json(manifest["task"])
        network = EmbeddingNetwork(2 * int(manifest["spectrogram"]["bands"]), **manifest["network"])
        network.load_state_dict(_part(tensors, "network"))
        head_weights = _part(tensors, "head")
        head = None
        if head_weights:
            head = nn.Linear(head_weights["weight"].shape[1], head_weights["weight"].shape[0])
            head.load_state_dict(head_weights)
        elif LEARNER not in manifest["files"]:
            raise KeyError(LEARNER)
        normalization = {name: tensor.numpy() for name, tensor in _part(tensors, "normalization").items()}
        scale = {name: tensor.numpy() for name, tensor in _part(tensors, "scale").items()}
        kernel = None
        if manifest["kernel"] is not None:
            training = tensors["kernel.embeddings"].numpy()
            kernel = Kernel.load(registry, manifest["kernel"], training, f"the model {folder}")
        return cls(
            task=task,
            network=network,
            normalization=Normalization(**normalization),
            head=head,
            estimator=load_estimator(folder / LEARNER, manifest, registry) if LEARNER in manifest["files"] else None,
            scale=TargetScale(**scale) if scale else None,
            parameters=manifest["spectrogram"],
            provenance={**manifest["provenance"], **_identity(folder)},
            kernel=kernel,
            engine="auto" if manifest["provenance"]["settings"].get("engine") == "numba" else "torch",
        )

    def _tensors(self, network: EmbeddingNetwork) -> dict[str, Tensor]:
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        if self.head is not None:
            tensors |= {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        arrays: dict[str, NDArray[Any]] = {
            "normalization.mean": self.normalization.mean,
            "normalization.std": self.normalization.std,
        }
        if self.scale is not None:
            arrays |= {"scale.low": self.scale.low, "scale.high": self.scale.high}
        if self.kernel is not None:
            arrays["kernel.embeddings"] = self.kernel.embeddings
        tensors |= {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def find_model(models: Path, name: str) -> Path:
    """Return the folder of a model given as a path or as a name in the store.

    Raises
    ------
    ModelError
        If there is none; the message lists those in the store.
    """
    for folder in (Path(name), models / name):
        if (folder / MANIFEST).is_file():
            return folder
    known = sorted(path.parent.name for path in models.glob(f"*/{MANIFEST}"))
    raise ModelError(
        f"{name!r} is neither a model's folder nor one of the store's models ({', '.join(known) or 'none yet'}); "
        "`mirembed fit` makes one"
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise ModelError(
                f"the model {folder} has format {manifest.get('format')}, this mirembed reads format {FORMAT}; "
                "use the version of mirembed that wrote it, or fit it again"
            )
        for name in (NETWORK, *manifest["files"]):
            if _digest(folder / name) != manifest["files"][name]:
                raise ModelError(f"{folder / name} is not the file that was saved; fit the model again")
    except StoreError as error:
        raise ModelError(f"{folder} is not a model: {error}") from error
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the model {folder} is damaged ({type(error).__name__}: {error}); fit it again") from error
    return manifest


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); fit the model again") from error


def _identity(folder: Path) -> dict[str, str]:
    """Return what a model on disk is known by: its folder's name, and the digest of its network."""
    return {"name": folder.name, "digest": _digest(folder / NETWORK)}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named_predictions(task: Task, outputs: NDArray[Any]) -> list[dict[str, Any]]:
    """Return what `Model.predict` gives as one mapping a track: ``label``, or each target's name, to its value."""
    if isinstance(task, Classification):
        return [{"label": name} for name in class_names(task, outputs)]
    names = [target.name for target in task.targets]
    return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]


def class_names(task: Task, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Return the names of class indices."""
    assert isinstance(task, Classification)  # noqa: S101
    return [task.classes[int(index)] for index in indices]
