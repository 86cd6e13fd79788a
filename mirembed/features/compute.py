"""Compute the features of a recording with their plugins, and check what these return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio.decoding import FileAudio, Sound, read_recording
from mirembed.errors import AudioError, MirembedError, MismatchError, PluginError
from mirembed.features.info import FeaturesPart, describe_features
from mirembed.hookspecs import Audio, Features, Track
from mirembed.progress import first_names
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Computed:
    """The features of one recording, each by the digest of its `FeaturesPart`.

    Attributes
    ----------
    frames : dict of str to ndarray [n_frames, values], float32
    failures : dict of str to str
        Why other features could not be computed.
    sound : Sound or None
        None if the file was not decoded, or cannot be.
    """

    frames: dict[str, NDArray[np.float32]]
    failures: dict[str, str]
    sound: Sound | None


def create_features(registry: Registry, part: FeaturesPart, backend: str = "auto") -> Features:
    """Create the plugin that computes features.

    Parameters
    ----------
    registry : Registry
    part : FeaturesPart
    backend : str
        Value for its parameter ``backend``, if it has one that the spec does not set and that does not change the
        frames (see ``neutral`` in `mirembed.hookspecs.Features`).

    Raises
    ------
    UnknownNameError
        It is missing; the message says what to install.
    PluginError
        It cannot be created here.
    MismatchError
        It is no longer the plugin that ``part`` describes.
    """
    spec = Spec.parse(part.spec)
    registry.require("features", part.plugin, "this command")
    features: Features = registry.create("features", spec)
    if backend != "auto" and "backend" not in spec.parameters and "backend" in getattr(features, "neutral", ()):
        features = registry.create("features", Spec(spec.name, {**spec.parameters, "backend": backend}))
    if describe_features(registry, spec, features).digest != part.digest:
        raise MismatchError(
            f"{part.origin}: its code, or a file that it reads, has changed since the command started; run the same "
            "command again"
        )
    return features


def unmatched_notes(registry: Registry, parts: Sequence[FeaturesPart], tracks: Sequence[Track]) -> list[str]:
    """Return a note for each features that have something no track matches, such as rows of a table.

    Raises
    ------
    PluginError
        A plugin fails to tell.
    """
    notes = []
    for part in parts:
        spec = Spec.parse(part.spec)
        factory = registry.find("features", spec.name).factory
        if isinstance(factory, type) and not hasattr(factory, "unmatched"):
            continue  # creating it may take long, as it may read a model
        features = registry.create("features", spec)
        if hasattr(features, "unmatched"):
            with plugin_code(f"{part.origin} fails to compare what it has with the tracks"):
                names = [str(name) for name in features.unmatched(tracks)]
            if names:
                notes.append(f"{part.spec}: no track matches {first_names(names, 3)}")
    return notes


def compute(features: Sequence[tuple[FeaturesPart, Features]], path: Path, ids: tuple[str, ...] = ()) -> Computed:
    """Compute features of one file, which is decoded once for all of them, or not at all if none needs it.

    Features that fail, or that the plugin returns wrongly, do not affect the others.

    Parameters
    ----------
    features : sequence of (FeaturesPart, Features)
    path : pathlib.Path
    ids : tuple of str
        The ids under which a dataset lists the file.

    Raises
    ------
    AudioError
        The file cannot be decoded, and all of the features need that.
    """
    found: dict[str, NDArray[np.float32] | str] = {}
    hearing: set[str] = set()

    def use(audio: FileAudio) -> None:
        for part, plugin in features:
            n_reads = audio.n_reads
            try:
                found[part.digest] = extract_frames(part, plugin, audio)
            except MirembedError as error:
                found[part.digest] = str(error)
            if audio.n_reads > n_reads:
                hearing.add(part.digest)

    sound = None
    try:
        _, sound = read_recording(path, use, ids, keep=len(features) > 1)
    except AudioError as error:
        deaf = {digest for digest in found if digest not in hearing}
        if all(isinstance(found[digest], str) for digest in deaf):
            raise
        found |= dict.fromkeys(hearing, str(error))
    return Computed(
        {digest: result for digest, result in found.items() if not isinstance(result, str)},
        {digest: result for digest, result in found.items() if isinstance(result, str)},
        sound,
    )


def extract_frames(part: FeaturesPart, features: Features, audio: Audio) -> NDArray[np.float32]:
    """Call a plugin on the audio of a recording, and check what it returns.

    Returns
    -------
    ndarray [n_frames, values], float32, C-contiguous

    Raises
    ------
    PluginError
        The plugin fails, or returns anything but what it declared.
    MirembedError
        Whatever the plugin raises on purpose: usually `AudioError`, for a recording that cannot have these features.
    """
    with plugin_code(f"{part.origin} fails"):
        try:
            frames = features.extract(audio)
        except MemoryError as error:
            raise PluginError(f"{part.origin} needs more memory than there is") from error
    return check_frames(part, frames)


def check_frames(part: FeaturesPart, frames: Any) -> NDArray[np.float32]:
    """Return a plugin's frames as float32, C-contiguous.

    Raises
    ------
    PluginError
        They are not a finite array ``[n_frames, values]`` of floats, or not one frame for features without a hop.
    """
    import numpy as np

    report = "; report it to that plugin's authors"
    rows = "1" if part.hop is None else "n_frames"
    if not isinstance(frames, np.ndarray):
        raise PluginError(
            f"{part.origin} returns a {type(frames).__name__}; expected an array [{rows}, {part.values}]{report}"
        )
    if frames.ndim != 2 or frames.shape[1] != part.values or (part.hop is None and len(frames) != 1):
        raise PluginError(
            f"{part.origin} returns an array of shape {list(frames.shape)}; expected [{rows}, {part.values}]{report}"
        )
    if not len(frames):
        raise PluginError(f"{part.origin} returns no frames; expected one or more, or an AudioError{report}")
    if not np.issubdtype(frames.dtype, np.floating):
        raise PluginError(f"{part.origin} returns values of type {frames.dtype}; expected float32{report}")
    with np.errstate(over="ignore"):  # values too large for float32 are counted instead
        checked: NDArray[np.float32] = np.ascontiguousarray(frames, np.float32)
    if not np.isfinite(checked).all():
        n_bad = checked.size - np.count_nonzero(np.isfinite(checked))
        raise PluginError(f"{part.origin} returns {n_bad} of {checked.size} values that are NaN or infinite{report}")
    return checked
