"""The checks of features: every public function is one.

The audio is synthetic: a few seconds of tones in noise, silence and clicks, at several sampling rates. A check is
skipped if the features refuse its audio with an `AudioError`, for example because they need an entry in a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.samples import SamplesAudio
from mirembed.errors import MirembedError
from mirembed.features import describe_features
from mirembed.progress import counted
from mirembed.registry.plugins import one_line
from mirembed.specs import parameters_of
from mirembed.testing import Broken, Subject, broken_by_errors

if TYPE_CHECKING:
    from mirembed.hookspecs import Features

RATE, SECONDS = 22050, 4.0
"""Of the audio, unless a check says otherwise."""

RATES = (8000, 16000, 22050, 44100, 48000)
TOLERANCE = 1e-3
"""The largest accepted difference, relative to the largest value."""

_MUSIC = f"{SECONDS:g} s of tones in noise at {RATE} Hz"
_UNFORESEEN = "a case that the author did not consider"


def declares(subject: Subject) -> None:
    """Have values and hop, and version, digest, backend and neutral of the right types if it has them."""
    features = _create(subject)
    given, cause = "the object that the factory returns", "a missing attribute, or a numpy number: use int() or float()"
    try:
        describe_features(subject.registry, subject.spec, features)
    except MirembedError as error:
        raise Broken(one_line(error).partition(": ")[2], given=given, cause=cause) from error
    for name in ("version", "digest", "backend"):
        if not isinstance(value := getattr(features, name, ""), str):
            raise Broken(f"has the {name} {value!r}, expected a string", given=given, cause=cause)
    known = {
        parameter.name for parameter in parameters_of(subject.registry.find("features", subject.spec.name).factory)
    }
    neutral = getattr(features, "neutral", ())
    if isinstance(neutral, str) or not {*neutral} <= known:
        raise Broken(
            f"has neutral = {neutral!r}, expected names of its parameters ({', '.join(sorted(known)) or 'none'})",
            given=given,
            cause="a parameter that was renamed, or a string instead of a tuple of strings",
        )


def frames(subject: Subject) -> None:
    """Return an array [n_frames, values] with the values that it declares, and one frame if it declares no hop."""
    features = _create(subject)
    for given, audio in {_MUSIC: _music(), "10 s of noise": SamplesAudio(_noise(10.0), RATE)}.items():
        found = _extract(features, audio, given)
        rows = 1 if features.hop is None else "n_frames"
        right = isinstance(found, np.ndarray) and found.ndim == 2 and found.shape[1] == features.values
        if not right or len(found) == 0 or (features.hop is None and len(found) != 1):
            what = f"the shape {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
            raise Broken(
                f"returns {what}, expected an array [{rows}, {features.values}]",
                given=given,
                cause="time along the second axis (return x.T), a vector instead of one frame (return x[None, :]), "
                "or a list",
            )


def dtype(subject: Subject) -> None:
    """Return float32."""
    found = _frames(_create(subject), _music(), _MUSIC)
    if found.dtype != np.float32:
        cause = "numpy's default, float64: return x.astype(np.float32)"
        raise Broken(f"returns {found.dtype}, expected float32", given=_MUSIC, cause=cause)


def finite(subject: Subject) -> None:
    """Be finite for loud, quiet, clipped and constant audio."""
    features = _create(subject)
    t = np.arange(int(SECONDS * RATE)) / RATE
    click = np.zeros(len(t))
    click[len(t) // 2] = 1
    for given, samples in {
        _MUSIC: _tones(SECONDS, RATE),
        "noise of full scale": _noise(SECONDS),
        "noise of 1e-6 of full scale": 1e-6 * _noise(SECONDS),
        "a clipped sine, most samples at -1 and 1": np.clip(20 * np.sin(2 * np.pi * 440 * t), -1, 1),
        "a constant of 0.5": np.full(len(t), 0.5),
        "a click in silence": click,
    }.items():
        _require_finite(_frames(features, SamplesAudio(samples, RATE), given), given)


def silence(subject: Subject) -> None:
    """Be finite for silence, or refuse it with an AudioError."""
    features = _create(subject)
    silent, half = np.zeros(int(SECONDS * RATE)), _tones(SECONDS, RATE)
    half[len(half) // 4 :] = 0
    for given, samples in {
        f"{SECONDS:g} s of silence": silent,
        f"{SECONDS / 4:g} s of tones, then silence": half,
    }.items():
        _frames_unless_refused(features, SamplesAudio(samples, RATE), given)


def short(subject: Subject) -> None:
    """Return at least one finite frame for very short audio, or refuse it with an AudioError."""
    features = _create(subject)
    for n_samples in (1, 2, 100, RATE // 100, RATE // 10):
        audio = SamplesAudio(_tones(1.0, RATE)[:n_samples], RATE)
        cause = "a frame longer than the audio: pad it with zeros, or raise AudioError"
        _frames_unless_refused(features, audio, counted(n_samples, "sample"), cause)


def hop(subject: Subject) -> None:
    """Return the number of frames that follows from the duration and the declared hop."""
    features = _create(subject)
    if features.hop is None:
        raise SkipTest("it declares no hop, but one frame per recording")
    seconds = max(3.0, 6 * features.hop)
    if seconds > 60:
        raise SkipTest(f"its hop of {features.hop:g} s needs audio that is too long for a check")
    counts = [len(_frames(features, SamplesAudio(_noise(n * seconds), RATE), _MUSIC)) for n in (1, 2)]
    expected = seconds / features.hop
    given = f"{seconds:g} and {2 * seconds:g} s of noise"
    if abs(counts[1] - counts[0] - expected) > 1.5 or counts[0] > expected + 2.5:
        raise Broken(
            f"returns {counts[0]} and {counts[1]} frames, expected {expected:.0f} more for {seconds:g} s more",
            given=given,
            cause="a hop in samples that is rounded at this sampling rate, a hop in milliseconds, or a fixed number of "
            "frames",
        )


def rates(subject: Subject) -> None:
    """Return the same number of frames at every sampling rate, or refuse a rate with an AudioError."""
    features = _create(subject)
    counts: dict[int, int] = {}
    for rate in RATES:
        given = f"{SECONDS:g} s of tones in noise at {rate} Hz"
        cause = "a size in samples for one rate only: use audio.rate, or audio.blocks(rate)"
        found = _frames_unless_refused(features, SamplesAudio(_tones(SECONDS, rate), rate), given, cause)
        if found is not None:
            counts[rate] = len(found)
    if not counts:
        raise Broken("refuses every sampling rate", given=", ".join(f"{rate} Hz" for rate in RATES), cause=_UNFORESEEN)
    if max(counts.values()) - min(counts.values()) > 1:
        rate, other = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        raise Broken(
            f"returns {counts[rate]} frames at {rate} Hz and {counts[other]} at {other} Hz",
            given=f"{SECONDS:g} s of tones in noise",
            cause="a hop in samples: compute it from audio.rate, or ask for audio.blocks(rate)",
        )


def blocks(subject: Subject) -> None:
    """Return the same frames, whatever the lengths of the blocks of samples."""
    features = _create(subject)
    expected = _frames(features, _music(), _MUSIC)
    for block in (100_000, 1000, 77):
        given = f"{_MUSIC}, in blocks of {block} samples"
        found = _frames(features, SamplesAudio(_tones(SECONDS, RATE), RATE, block=block), given)
        cause = "frames that end with a block: keep the rest of a block for the next one, or join the blocks first"
        _require_same(found, expected, "differs from the result for one block", given, cause, TOLERANCE)


def deterministic(subject: Subject) -> None:
    """Return the same frames every time, to the bit, whatever it was called with in between."""
    features = _create(subject)
    expected = _frames(features, _music(), _MUSIC)
    _frames(features, SamplesAudio(_noise(SECONDS), RATE), "noise")
    cause = "unseeded random numbers, or statistics kept between calls"
    for again, which in ((features, "a second call"), (_create(subject), "a second object")):
        found = _frames(again, _music(), _MUSIC)
        _require_same(found, expected, f"does not return the same from {which}", _MUSIC, cause, 0.0)


def _tones(seconds: float, rate: int) -> NDArray[np.float64]:
    """Return three tones that come and go, in noise."""
    t = np.arange(int(seconds * rate)) / rate
    swell = [0.2 * (1 + np.sin(2 * np.pi * f * t)) for f in (0.5, 0.8, 1.3)]
    tones = [np.sin(2 * np.pi * f * t) for f in (220.0, 660.0, 2750.0)]
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    samples: NDArray[np.float64] = 0.7 * sum(a * tone for a, tone in zip(swell, tones, strict=True)) + noise
    return samples


def _noise(seconds: float) -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(-1, 1, int(seconds * RATE))


def _music() -> SamplesAudio:
    return SamplesAudio(_tones(SECONDS, RATE), RATE)


def _create(subject: Subject) -> Features:
    features: Features = subject.create()
    return features


def _extract(features: Features, audio: SamplesAudio, given: str, cause: str = _UNFORESEEN) -> Any:
    """Call the plugin.

    Raises
    ------
    unittest.SkipTest
        It refuses the audio, so that nothing can be checked.
    """
    if not callable(getattr(features, "extract", None)):
        raise Broken("has no method extract", given="the object that the factory returns", cause="another name for it")
    with broken_by_errors("raises an error", given=given, cause=cause):
        try:
            return features.extract(audio)
        except MirembedError as error:
            refusal = str(error)
    raise SkipTest(f"it refuses {given}: {refusal}")


def _frames(features: Features, audio: SamplesAudio, given: str) -> NDArray[Any]:
    return np.asarray(_extract(features, audio, given))


def _frames_unless_refused(
    features: Features, audio: SamplesAudio, given: str, cause: str = _UNFORESEEN
) -> NDArray[Any] | None:
    """Return the frames, which must be finite; None if the plugin refuses the audio."""
    try:
        found = np.asarray(_extract(features, audio, given, cause))
    except SkipTest:
        return None
    if found.size == 0:
        raise Broken("returns no frame", given=given, cause=cause)
    _require_finite(found, given)
    return found


def _require_finite(found: NDArray[Any], given: str) -> None:
    strange = found[~np.isfinite(found)]
    if len(strange):
        raise Broken(
            f"returns {strange[0]} in {len(strange)} of {found.size} places",
            given=given,
            cause="log(0) or a division by an energy of 0: add a small constant",
        )


def _require_same(
    found: NDArray[Any], expected: NDArray[Any], what: str, given: str, cause: str, tolerance: float
) -> None:
    """Raise `Broken` if two arrays differ in shape, or in a value by more than the tolerance."""
    if found.shape != expected.shape:
        shapes = f"the shape is {list(found.shape)}, expected {list(expected.shape)}"
        raise Broken(f"{what}: {shapes}", given=given, cause=cause)
    gap = np.where(found == expected, 0, np.abs(np.asarray(found, np.float64) - expected))
    if not np.nan_to_num(gap, nan=np.inf).max() <= tolerance * np.abs(expected).max():
        index = tuple(int(i) for i in np.unravel_index(np.nan_to_num(gap, nan=np.inf).argmax(), gap.shape))
        place = f"{found[index]:.6g} at {list(index)}, expected {expected[index]:.6g}"
        raise Broken(f"{what}: {place}", given=given, cause=cause)
