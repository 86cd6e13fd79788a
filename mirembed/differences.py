"""How two runs or fits differ, judged by what they recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mirembed.provenance import recorded_plugins

_MADE_WITH = re.compile(
    r"(code|version) of .*|versions\..*|engine|device|processor|folds_digest|dataset\.(digest|tracks)"
    r"|features\..*\.(frames|backends)(\..*)?|.*\.files\..*"
)
"""Names of what decides the numbers of a run besides its settings."""

_FOLLOWS = frozenset(
    {
        *("code", "version", "versions", "file_hash", "files", "processor", "engine", "device", "backends"),
        *("digest", "tracks", "frames", "folds_digest", "n_tracks", "n_used", "n_train", "n_test", "chance"),
    }
)
"""Names of entries that follow from plugins, store and machine, and not from the command."""


def differing_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two configurations differ; those that only one has are left out.

    The code of plugins that both use comes last, as the first digits of its digest.

    >>> differing_settings({"epochs": 9, "dataset": {"spec": "gtzan"}}, {"seeds": [0], "dataset": {"spec": "demo"}})
    {'dataset.spec': ('gtzan', 'demo')}
    """
    one, other = _flatten(a) | _code(a), _flatten(b) | _code(b)
    return {name: (one[name], other[name]) for name in one if name in other and one[name] != other[name]}


def made_with(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return how two configurations differ in code, versions, frames, engine and processor, as `differing_settings`.

    For experiments of several runs, that is how any of the runs differ. A version that only one has is None in the
    other.
    """
    if "evaluations" in a and "evaluations" in b:
        pairs = [(one, b["evaluations"].get(name, {})) for name, one in a["evaluations"].items()]
        return {name: values for pair in pairs for name, values in made_with(*pair).items()}
    one, other = a.get("versions", {}), b.get("versions", {})
    only_one = {*one} ^ {*other} if one and other else set()
    missing = {f"versions.{name}": (one.get(name), other.get(name)) for name in sorted(only_one)}
    return missing | {name: values for name, values in differing_settings(a, b).items() if _MADE_WITH.fullmatch(name)}


def ask_the_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two configurations come from one command, and differ at most in code, versions, frames and machine."""
    return bool(_asked(a) == _asked(b))


def describe(differences: Mapping[str, tuple[Any, Any]], most: int = 3) -> str:
    """Return differences as a list in one line, "then" before "now".

    >>> describe({"epochs": (9, 10), "engine": ("numba", "torch")})
    'epochs was 9 and is 10; engine was numba and is torch'
    """
    texts = [f"{name} was {then} and is {now}" for name, (then, now) in differences.items()]
    return "; ".join([*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])])


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, and lists of mappings by their specs; the names of levels are joined by dots."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        if (
            isinstance(value, list | tuple)
            and value
            and all(isinstance(one, Mapping) and "spec" in one for one in value)
        ):
            value = {one["spec"]: one for one in value}
        if name in ("code", "version", "file_hash", "kind") and ("distribution" in content or "versions" in content):
            continue  # see _code
        values |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return values


def _code(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of all plugins, and the first digits of the digests of their source and of mirembed's."""
    values = {"code of mirembed": configuration["code"]} if "code" in configuration else {}
    for plugin in recorded_plugins(configuration):
        name = f"{plugin['kind']} {plugin['distribution']}/{plugin['name']}"
        values[f"code of {name}"] = plugin["code"]
        if "file_hash" not in plugin:  # the version of a file is its hash
            values[f"version of {name}"] = plugin["version"]
    return {
        name: value.removeprefix("sha256:")[:12] if name.startswith("code") else value for name, value in values.items()
    }


def _asked(content: Any) -> Any:
    """Return a configuration without what follows from plugins, store and machine."""
    if isinstance(content, list | tuple):
        return [_asked(value) for value in content]
    if not isinstance(content, Mapping):
        return content
    return {
        name: value if name == "parameters" else _asked(value)
        for name, value in content.items()
        if name not in _FOLLOWS
    }
