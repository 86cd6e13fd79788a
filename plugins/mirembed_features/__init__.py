"""The built-in features."""

from __future__ import annotations

from mirembed import Register, hookimpl


@hookimpl
def mirembed_register_features(register: Register) -> None:
    """Register the built-in features."""
