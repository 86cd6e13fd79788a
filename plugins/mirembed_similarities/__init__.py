"""The built-in similarities."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_similarities.similarities import Cosine, Polynomial, Rbf


@hookimpl
def mirembed_register_similarities(register: Register) -> None:
    """Register the built-in similarities."""
    register("rbf", Rbf, summary="exp(-gamma |x - y|^2)")
    register("cosine", Cosine, summary="x.y / (|x| |y|)")
    register("polynomial", Polynomial, summary="(gamma x.y + c)^d")
