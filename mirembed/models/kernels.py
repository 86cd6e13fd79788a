"""Similarities as kernels of a learner: any registered similarity, through its precomputed Gram matrix.

A learner names the similarity, see `mirembed.hookspecs.Learner`. Its estimator then receives similarities to the
training tracks in place of embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import PluginError
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.similarity import PluginSimilarity

TOLERANCE = 1e-6
"""Rounding error allowed in a Gram matrix, relative to its largest eigenvalue or value."""


@dataclass(frozen=True)
class Kernel:
    """A similarity together with the training tracks that others are compared with.

    Attributes
    ----------
    described : mapping
        Name, distribution, version and all parameters of the similarity, from `Registry.provenance`.
    similarity : PluginSimilarity
    embeddings : ndarray [n_train, units], float32
    """

    described: Mapping[str, Any]
    similarity: PluginSimilarity
    embeddings: NDArray[np.float32]

    @classmethod
    def create(cls, registry: Registry, described: Mapping[str, Any], embeddings: NDArray[np.float32]) -> Kernel:
        """Create the kernel of a description, with exactly the parameters that it lists."""
        similarity = PluginSimilarity.create(registry, exact_spec(described))
        return cls(described, similarity.double(), embeddings)

    def gram(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities of tracks to the training tracks.

        To the bit, a track's row does not depend on the other tracks.

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
        rows = [self.similarity.similarities_to(query, candidates) for query in embeddings.astype(np.float64)]
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
                f"the similarity {self.similarity.name} is not a kernel: S(x, y) and S(y, x) differ by up to "
                f"{difference:.3g}; report it to that plugin's authors"
            )
        return (gram + gram.T) / 2

    def notes(self, gram: NDArray[np.float64]) -> list[str]:
        """Return a note for the user if the training tracks' Gram matrix is not positive semi-definite, else none."""
        eigenvalues = np.linalg.eigvalsh(gram)  # in ascending order
        smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        if smallest >= -TOLERANCE * abs(largest):
            return []
        return [
            f"the Gram matrix of {self.described['spec']} is not positive semi-definite (smallest eigenvalue "
            f"{smallest:.3g}, largest {largest:.3g}), so a kernel machine may not find the best solution"
        ]


def exact_spec(described: Mapping[str, Any]) -> Spec:
    """Return the spec of a described similarity with all its parameters, whatever defaults its plugin has now."""
    values = {name: str(value) for name, value in described["parameters"].items() if value is not None}
    given = Spec.parse(described["spec"]).parameters
    return Spec(f"{described['distribution']}/{described['name']}", {**values, **given})
