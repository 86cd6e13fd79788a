"""Similarities of plugins, with checked results and errors that name the plugin. This module imports no torch."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config.approaches import Approach
from mirembed.errors import PluginError
from mirembed.hookspecs import Similarity
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor

UNLEARNED = Spec("cosine")
"""Ranks tracks by the embeddings of approaches that learn no similarity."""

BLOCK = 16
"""Number of candidates stacked with a query: more would waste time on pairs of candidates, fewer on calls."""


_CACHED = 1024
"""Candidates that numpy compares at a time: arrays that fit in the processor's cache are several times as fast."""


@dataclass(frozen=True)
class PluginSimilarity:
    """A similarity whose results are checked, and whose plugin is named in errors.

    Attributes
    ----------
    similarity : Similarity
    name : str
        Its name in error messages.
    """

    similarity: Similarity
    name: str

    @classmethod
    def create(cls, registry: Registry, spec: Spec, device: str = "cpu") -> PluginSimilarity:
        """Create the similarity that a spec names.

        Raises
        ------
        PluginError
            If the plugin is unknown, rejects its parameters, or creates a module with trainable weights.
        """
        plugin = registry.find("similarity", spec.name)
        created = cls(registry.create("similarity", spec), f"{spec} of {plugin.distribution} {plugin.version}")
        if _is_module(created.similarity):
            module: Any = created.similarity
            if trainable := [name for name, parameter in module.named_parameters() if parameter.requires_grad]:
                raise created._untrainable(f" ({', '.join(trainable)})")
            module.to(device)
        return created

    @classmethod
    def of_approach(
        cls, registry: Registry, approach: Approach, device: str
    ) -> tuple[PluginSimilarity | None, PluginSimilarity | None]:
        """Create the similarities of embeddings and of labels that an approach names; None for one that it does not."""
        ours, of_labels = (
            None if spec is None else cls.create(registry, spec, device)
            for spec in (approach.similarity, approach.label_similarity)
        )
        return ours, of_labels

    def _untrainable(self, which: str = "") -> PluginError:
        return PluginError(
            f"the similarity {self.name} has trainable weights{which}, but a similarity is never trained: give them "
            "requires_grad=False, or register them as buffers"
        )

    def double(self) -> PluginSimilarity:
        """Convert the similarity's own parameters, if it has any, to float64."""
        if _is_module(self.similarity):
            self.similarity.double()  # type: ignore[attr-defined]
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        return self._call(self.similarity, x)

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` and ``y [..., m, d]``."""
        import torch

        own = getattr(self.similarity, "cross", None)
        if own is not None:
            return self._call(own, x, y)
        n = x.shape[-2]
        return self(torch.cat([x, y], dim=-2))[..., :n, n:]

    def similarities_to(
        self, query: NDArray[np.floating[Any]], candidates: NDArray[np.floating[Any]]
    ) -> NDArray[np.floating[Any]]:
        """Return the similarities ``[n]`` of ``query [d]`` to each of ``candidates [n, d]``, computed by torch.

        A similarity without ``cross`` computes all pairs of its input, so it receives a few candidates at a time.

        Raises
        ------
        PluginError
            If the similarity fails.
        """
        import torch

        from mirembed.training.network import one_thread

        x = torch.from_numpy(query[None])  # [1, d]
        y = torch.from_numpy(candidates)  # [n, d]
        blocks = [y] if hasattr(self.similarity, "cross") else torch.split(y, BLOCK)
        with one_thread(), torch.inference_mode():
            return np.concatenate([self.cross(x, block)[0].numpy() for block in blocks])

    def ranking_similarities(
        self, query: NDArray[np.float32], candidates: NDArray[np.float32]
    ) -> NDArray[np.floating[Any]]:
        """Return similarities in float64, without torch if the similarity has ``cross_numpy``.

        The values agree with `similarities_to` but for rounding. Use them to rank tracks.

        Parameters
        ----------
        query : ndarray [d] or [k, d]
        candidates : ndarray [n, d]

        Returns
        -------
        ndarray [n] or [k, n], float64

        Raises
        ------
        PluginError
            If the similarity fails.
        """
        x = np.atleast_2d(query).astype(np.float64)
        own = getattr(self.similarity, "cross_numpy", None)
        if own is None:
            double, y = self.double(), candidates.astype(np.float64)
            values = np.array([double.similarities_to(one, y) for one in x]).reshape(len(x), len(y))
            return values if query.ndim == 2 else values[0]
        values = np.empty((len(x), len(candidates)))
        for first in range(0, len(candidates), _CACHED):
            y = candidates[first : first + _CACHED].astype(np.float64)
            values[:, first : first + _CACHED] = self._by_numpy(own, x, y)
        return values if query.ndim == 2 else values[0]

    def _by_numpy(
        self, own: Callable[..., Any], x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]:
        with plugin_code(f"the similarity {self.name} fails for arrays {x.shape} and {y.shape}"):
            values = np.asarray(own(x, y))
        if values.shape != (len(x), len(y)) or not np.isfinite(values).all():
            raise PluginError(
                f"the similarity {self.name} returned an array of the shape {values.shape} for arrays {x.shape} "
                f"and {y.shape}; expected finite values in the shape {(len(x), len(y))}"
            )
        return values

    def differentiating(self) -> contextlib.AbstractContextManager[None]:
        """Name this similarity in the errors of a ``with`` block that computes its gradient."""
        return plugin_code(f"the gradient of the similarity {self.name} fails")

    def _call(self, function: Callable[..., Tensor], *vectors: Tensor) -> Tensor:
        import torch

        shapes = " and ".join(str(tuple(each.shape)) for each in vectors)
        with plugin_code(f"the similarity {self.name} fails for vectors {shapes}"):
            result = function(*vectors)
        expected = (*vectors[0].shape[:-1], vectors[-1].shape[-2])
        returned = f"the similarity {self.name} returned"
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            kind = result.dtype if isinstance(result, torch.Tensor) else type(result).__name__
            raise PluginError(f"{returned} {kind} for vectors {shapes}; expected a floating-point tensor")
        if tuple(result.shape) != expected:
            raise PluginError(f"{returned} the shape {tuple(result.shape)} for vectors {shapes}; expected {expected}")
        if result.requires_grad and not any(v.requires_grad for v in vectors):
            raise self._untrainable()
        if vectors[0].requires_grad and not result.requires_grad:
            raise PluginError(
                f"{returned} a tensor without gradient for vectors {shapes}; compute it with torch alone, "
                "without detach() or numpy()"
            )
        # On a GPU this check would wait for the device; there the loss shows it after each epoch. A finite sum, which
        # is faster than a look at each value, means finite values; the sum of finite values may overflow.
        if (
            result.device.type == "cpu"
            and not math.isfinite(result.detach().sum().item())
            and not result.isfinite().all()
            and all(v.isfinite().all() for v in vectors)
        ):
            raise PluginError(
                f"{returned} values that are not finite for finite vectors {shapes}; "
                "`mirembed plugins check` shows for which"
            )
        return result


def _is_module(similarity: Any) -> bool:
    """Return whether a similarity is a torch module. As long as nothing has imported torch, none can be."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(similarity, torch.nn.Module)
