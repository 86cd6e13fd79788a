"""Similarities as kernels of a learner: any registered one, through its precomputed Gram matrix.

A learner that wants one names it, see `mirembed.hookspecs.Learner`. Its estimator is then given similarities to the
training tracks in place of embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mirembed.config.approaches import Approach
from mirembed.errors import MirembedError, ModelError, PluginError, SpecError
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.loop import PluginSimilarity
from mirembed.training.network import one_thread

MATCH = "match"
"""As a kernel: the similarity that was learned; as value of a kernel's parameter: the learned similarity's."""

TOLERANCE = 1e-6
"""What rounding may do to a Gram matrix, in proportion to its largest eigenvalue or value."""

BLOCK = 16
"""Candidates that are stacked with a query: more would waste time on pairs of candidates, fewer on calls."""


@dataclass(frozen=True)
class Kernel:
    """A similarity, and the training tracks that others are compared with.

    Attributes
    ----------
    described : mapping
        Name, distribution, version and all parameters of the similarity, as `Registry.provenance` has them.
    similarity : PluginSimilarity
    embeddings : ndarray [n_train, units], float32
    """

    described: Mapping[str, Any]
    similarity: PluginSimilarity
    embeddings: NDArray[np.float32]

    @classmethod
    def create(cls, registry: Registry, described: Mapping[str, Any], embeddings: NDArray[np.float32]) -> Kernel:
        """Make the kernel that a description names, with the very parameters that stand there."""
        similarity = PluginSimilarity.create(registry, _exact_spec(described))
        if isinstance(similarity.similarity, nn.Module):
            similarity.similarity.double()
        return cls(described, similarity, embeddings)

    @classmethod
    def load(
        cls, registry: Registry, described: Mapping[str, Any], embeddings: NDArray[np.float32], model: str
    ) -> Kernel:
        """Make the kernel of a saved model.

        Raises
        ------
        ModelError
            If its similarity is not installed, or in a version that does not take its parameters.
        """
        try:
            return cls.create(registry, described, embeddings)
        except PluginError as error:
            raise ModelError(
                f"{model} needs the similarity {described['name']!r} as the kernel of its learner ({error}); "
                f"install {described['distribution']}=={described['version']}"
            ) from error

    def gram(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities of tracks to the training tracks.

        A track's row is the same to the bit whichever other tracks it comes with.

        Parameters
        ----------
        embeddings : ndarray [n, units]

        Returns
        -------
        ndarray [n, n_train], float64

        Raises
        ------
        PluginError
            If the similarity fails, or its values are not finite.
        """
        candidates = self.embeddings.astype(np.float64)
        rows = [nearest(self.similarity, query, candidates) for query in embeddings.astype(np.float64)]
        gram = np.array(rows, np.float64).reshape(-1, len(candidates))
        if not np.isfinite(gram).all():
            raise PluginError(
                f"the similarity {self.similarity.name} returned values that are not finite for embeddings of tracks; "
                "check its parameters"
            )
        return gram

    def training_gram(self) -> NDArray[np.float64]:
        """Return the similarities ``[n_train, n_train]`` of the training tracks, symmetric to the bit.

        Raises
        ------
        PluginError
            If the similarity fails, or its values are not finite or not symmetric.
        """
        gram = self.gram(self.embeddings)
        difference = float(np.abs(gram - gram.T).max())
        if difference > TOLERANCE * np.abs(gram).max():
            raise PluginError(
                f"the similarity {self.similarity.name} is no kernel: S(x, y) and S(y, x) differ by up to "
                f"{difference:.3g}; report it to its plugin's authors"
            )
        return (gram + gram.T) / 2


def nearest(
    similarity: PluginSimilarity, query: NDArray[np.floating], candidates: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the similarities of ``query [units]`` to ``candidates [n, units]``: ndarray ``[n]``.

    A similarity without ``cross`` computes all pairs of what it is given, and so gets a few candidates at a time.

    Raises
    ------
    PluginError
        If the similarity fails.
    """
    x = torch.from_numpy(query[None])  # [1, units]
    y = torch.from_numpy(candidates)  # [n, units]
    blocks = [y] if hasattr(similarity.similarity, "cross") else torch.split(y, BLOCK)
    with one_thread(), torch.inference_mode():
        return np.concatenate([similarity.cross(x, block)[0].numpy() for block in blocks])


def indefinite_notes(kernel: Kernel, gram: NDArray[np.float64]) -> list[str]:
    """Return what a user should be told of a Gram matrix that is not positive semi-definite; nothing of any other."""
    eigenvalues = np.linalg.eigvalsh(gram)  # rising
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest >= -TOLERANCE * abs(largest):
        return []
    return [
        f"the Gram matrix of {kernel.described['spec']} is not positive semi-definite: smallest eigenvalue "
        f"{smallest:.3g}, largest {largest:.3g}; a kernel machine need not find the best solution for it"
    ]


def describe_learner(registry: Registry, learner: Spec, approaches: Sequence[Approach]) -> dict[str, Any]:
    """Say what a learner resolves to, as `Registry.provenance` does, and under ``kernels`` its kernel by approach.

    A learner that takes embeddings has no ``kernels``.

    Raises
    ------
    PluginError
        If learner or kernel is unknown, or refuses its parameters.
    SpecError
        If a kernel cannot be the similarity that an approach learns; the message names all such approaches.
    """
    kernels = describe_kernels(registry, learner, approaches)
    for described in kernels.values():
        registry.create("similarity", _exact_spec(described))
    return {**registry.provenance("learner", learner), **({"kernels": kernels} if kernels else {})}


def describe_kernels(registry: Registry, learner: Spec, approaches: Sequence[Approach]) -> dict[str, Any]:
    """Return the description of a learner's kernel for each approach, by name; empty for one that takes embeddings.

    Raises
    ------
    PluginError, SpecError
        See `describe_learner`.
    """
    wanted = _wanted(registry, learner)
    if wanted is None:
        return {}
    kernels: dict[str, Any] = {}
    refused: dict[str, list[str]] = {}
    for approach in approaches:
        spec = _resolve(registry, wanted, approach)
        if isinstance(spec, str):
            refused.setdefault(spec, []).append(approach.name)
        else:
            kernels[approach.name] = registry.provenance("similarity", spec)
    if refused:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
        raise SpecError(
            f"the kernel of the learner {learner} cannot match every approach ({reasons}); "
            "leave them out, or name the kernel and its parameters"
        )
    return kernels


def _wanted(registry: Registry, learner: Spec) -> Spec | None:
    """Return the similarity that a learner asks for, before ``match`` is resolved."""
    plugin = registry.find("learner", learner.name)
    blamed = f"learner {learner} of {plugin.distribution} {plugin.version}"
    try:
        wanted = getattr(registry.create("learner", learner), "kernel_similarity", None)
    except MirembedError:
        raise
    except Exception as error:
        raise PluginError(f"{blamed} fails to name its kernel: {type(error).__name__}: {error}") from error
    if wanted is None:
        return None
    if not isinstance(wanted, str):
        raise PluginError(f"kernel_similarity of {blamed} is {wanted!r}; expected the spec of a similarity, or None")
    spec = Spec.parse(wanted)
    if spec.name == MATCH and spec.parameters:
        raise SpecError(f"{wanted!r} as a kernel: {MATCH} takes the parameters of the learned similarity; give none")
    return spec


def _resolve(registry: Registry, wanted: Spec, approach: Approach) -> Spec | str:
    """Put what an approach learns in the place of ``match``; return the reason where that cannot be done."""
    matched = [name for name, value in wanted.parameters.items() if value == MATCH]
    if wanted.name != MATCH and not matched:
        return wanted
    if approach.similarity is None:
        return "no similarity is learned"
    if wanted.name == MATCH:
        return approach.similarity
    learned = registry.provenance("similarity", approach.similarity)["parameters"]
    if missing := [name for name in matched if name not in learned]:
        return f"the similarity {approach.similarity} has no {' and no '.join(missing)}"
    return Spec(wanted.name, {**wanted.parameters, **{name: str(learned[name]) for name in matched}})


def _exact_spec(described: Mapping[str, Any]) -> Spec:
    """Return the spec of a described similarity, whatever defaults another version of its plugin has."""
    values = {name: str(value) for name, value in described["parameters"].items() if value is not None}
    given = Spec.parse(described["spec"]).parameters
    return Spec(f"{described['distribution']}/{described['name']}", {**values, **given})
