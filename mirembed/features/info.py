"""What features are: their plugins with all parameters, the shape of their frames, and the digest that names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mirembed.errors import MismatchError, PluginError, SpecError
from mirembed.hookspecs import Features
from mirembed.provenance import content_digest
from mirembed.registry import Registry
from mirembed.specs import Spec

# A "+" stacks features only before "name", "name:..." or "name+...", so that values such as file names may hold one.
_NEXT_PART = re.compile(r"\+(?=[A-Za-z][\w-]*(?:/[A-Za-z][\w-]*)?(?::|\+|$))")


@dataclass(frozen=True)
class FeaturesPart:
    """The features of one plugin with all its parameters.

    Attributes
    ----------
    spec : str
        As given: ``logmel:bands=80``.
    plugin : mapping
        See `mirembed.registry.Registry.provenance`.
    values : int
        Values per frame.
    hop : float or None
        Seconds from frame to frame; None if a recording has a single frame.
    digest : str
        32 hexadecimal digits that name the frames: equal for equal plugin code and parameters.
    """

    spec: str
    plugin: Mapping[str, Any] = field(hash=False)
    values: int
    hop: float | None
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {**asdict(self), "plugin": dict(self.plugin)}

    @property
    def origin(self) -> str:
        """Their name for error messages: ``features chroma of mirembed-extra 1.0``."""
        return f"features {self.spec} of {self.plugin['distribution']} {self.plugin['version']}"


@dataclass(frozen=True)
class FeaturesInfo:
    """Features as a network sees them: one part, or several whose frames are stacked.

    Attributes
    ----------
    spec : str
        As given: ``logmel+chroma``.
    parts : tuple of FeaturesPart
        With the same hop.
    """

    spec: str
    parts: tuple[FeaturesPart, ...]

    @property
    def values(self) -> int:
        """Values per frame, of all parts together."""
        return sum(part.values for part in self.parts)

    @property
    def hop(self) -> float | None:
        """Seconds from frame to frame; None if a recording has a single frame."""
        return self.parts[0].hop

    @property
    def digests(self) -> list[str]:
        """The digests of the parts, which together name the frames."""
        return [part.digest for part in self.parts]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {"spec": self.spec, "parts": [part.to_json() for part in self.parts]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FeaturesInfo:
        """Read what `to_json` returned."""
        return cls(content["spec"], tuple(FeaturesPart(**part) for part in content["parts"]))


def distinct_parts(features: Iterable[FeaturesInfo]) -> tuple[FeaturesPart, ...]:
    """Return the parts of several features, each once, in the order in which they first occur."""
    return tuple({part.digest: part for one in features for part in one.parts}.values())


def split_spec(text: str) -> list[Spec]:
    """Read the specs of stacked features.

    >>> [str(spec) for spec in split_spec("logmel:bands=80+chroma")]
    ['logmel:bands=80', 'chroma']

    Raises
    ------
    SpecError
        If a part is malformed or given twice.
    """
    specs = [Spec.parse(part) for part in _NEXT_PART.split(text)]
    for spec in specs:
        if specs.count(spec) > 1:
            raise SpecError(f"--features {text}: {spec} is given twice")
    return specs


def resolve_features(registry: Registry, text: str) -> FeaturesInfo:
    """Create the features that a spec names, and describe them.

    Raises
    ------
    SpecError
        If the spec is malformed, or its parts cannot be stacked because their hops differ.
    PluginError
        If a plugin is unknown, rejects its parameters, or does not say its values and hop.
    """
    parts = [describe_features(registry, spec, registry.create("features", spec)) for spec in split_spec(text)]
    for part in parts:
        if part.hop != parts[0].hop:
            raise SpecError(
                f"--features {text}: {parts[0].spec} has {_hop(parts[0])} and {part.spec} has {_hop(part)}; only "
                "features with the same hop can be stacked"
            )
    return FeaturesInfo("+".join(part.spec for part in parts), tuple(parts))


STACKED_SECONDS = 1.0
"""The frames of stacked features are cut to the shortest if they differ by no more than this."""


def common_length(features: FeaturesInfo, lengths: Sequence[int], name: str) -> int:
    """Return the number of frames that the stacked features of a recording are cut to.

    Parameters
    ----------
    features : FeaturesInfo
    lengths : sequence of int
        Frames of each part.
    name : str
        Of the track or file, for the message.

    Raises
    ------
    MismatchError
        They differ too much.
    """
    apart = (max(lengths) - min(lengths)) * (features.hop or 0)
    if apart > STACKED_SECONDS:
        frames = [f"{length} of {part.spec}" for length, part in zip(lengths, features.parts, strict=True)]
        raise MismatchError(
            f"{features.spec}: the frames of {name} differ by {apart:.1f} s ({', '.join(frames)}); only "
            f"{STACKED_SECONDS:g} s can be cut off to stack them; report it to the authors of the plugins"
        )
    return min(lengths)


def describe_features(registry: Registry, spec: Spec, features: Features) -> FeaturesPart:
    """Describe features that were created from a spec.

    Raises
    ------
    PluginError
        The plugin does not say its values and hop.
    """
    name = registry.find("features", spec.name).with_origin(spec)
    values, hop = getattr(features, "values", None), getattr(features, "hop", 0)
    if not isinstance(values, int) or values < 1:
        raise PluginError(f"{name}: values is {values!r}; expected the number of values per frame, 1 or more")
    if hop is not None and not (isinstance(hop, int | float) and 0 < hop < 3600):
        raise PluginError(f"{name}: hop is {hop!r}; expected seconds above 0, or None for one vector per recording")
    plugin = registry.provenance("features", spec)
    neutral: Sequence[str] = getattr(features, "neutral", ())
    digest = content_digest(
        {
            "plugin": f"{plugin['distribution']}/{plugin['name']}",
            "parameters": {key: value for key, value in plugin["parameters"].items() if key not in neutral},
            "version": getattr(features, "version", None) or plugin["code"],
            "content": getattr(features, "digest", ""),
            **({"files": plugin["files"]} if "files" in plugin else {}),
        },
        32,
    )
    return FeaturesPart(str(spec), plugin, values, None if hop is None else float(hop), digest)


def _hop(part: FeaturesPart) -> str:
    return "one vector per recording" if part.hop is None else f"a hop of {part.hop:g} s"
