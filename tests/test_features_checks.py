"""The checks of features find what is wrong with them, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from broken_promises import assert_breaks, failures

from mirembed import Audio, AudioError
from mirembed.testing import check_features, promises


class Loudness:
    """The energy of frames of 0.1 s: a sound plugin, which the others change."""

    values, hop = 1, 0.1
    floor = 1e-10

    def extract(self, audio: Audio) -> np.ndarray:
        samples = np.concatenate([*audio.blocks()])
        return self.frames(samples, audio.rate)

    def frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        size = self.hop * rate
        edges = np.arange(int(len(samples) / size) + 1) * size
        energy = [np.mean(samples[int(a) : int(a + size)] ** 2, dtype=np.float64) for a in edges if a < len(samples)]
        with np.errstate(divide="ignore"):
            return np.log(np.array(energy)[:, None] + self.floor).astype(np.float32)


class Vector(Loudness):
    """One vector a recording."""

    hop = None

    def frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return np.array([[samples.std()]], np.float32)


def changed(**members: object) -> type:
    return type("Changed", (Loudness,), members)


def after(change: Callable[[np.ndarray], object]) -> type:
    """A plugin that changes the frames."""
    return changed(extract=lambda self, audio: change(Loudness.extract(self, audio)))


def by_block(self: Loudness, audio: Audio) -> np.ndarray:
    return np.concatenate([self.frames(block, audio.rate) for block in audio.blocks()])


def first_block(self: Loudness, audio: Audio) -> np.ndarray:
    return self.frames(next(audio.blocks()), audio.rate)


def for_one_rate(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    return Loudness.frames(self, samples, 22050)


def of_whole_frames(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    return Loudness.frames(self, samples, rate)[: int(len(samples) / rate / self.hop)]


def of_at_least_a_frame(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    return (
        samples[: int(0.1 * rate)].reshape(1, int(0.1 * rate))[:, :1]
        if len(samples) < 0.1 * rate
        else (Loudness.frames(self, samples, rate))
    )


def normalized(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return Loudness.frames(self, samples / np.abs(samples).max(), rate)


def clipped(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    frames = Loudness.frames(self, samples, rate)
    with np.errstate(divide="ignore"):
        return frames - np.log(1 - np.minimum(np.abs(samples).max(), 1)).astype(np.float32)


class Counting(Loudness):
    def __init__(self) -> None:
        self.calls = 0

    def frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        self.calls += 1
        return super().frames(samples, rate) + np.float32(1e-6 * self.calls)


class Drawn(Loudness):
    def __init__(self) -> None:
        self.offset = random.uniform(1, 2)

    def frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return (super().frames(samples, rate) + self.offset).astype(np.float32)


class Untyped(Loudness):
    def __init__(self, window=0.1) -> None:
        self.window = window


class Neutral(Loudness):
    neutral = ("path",)


def refuses(self: Loudness, samples: np.ndarray, rate: int) -> np.ndarray:
    if not samples.any() or len(samples) < 0.2 * rate or rate < 16000:
        raise AudioError("too short or too quiet")
    return Loudness.frames(self, samples, rate)


BROKEN: dict[str, tuple[Callable[[], object], str, str]] = {
    "no values": (changed(values=None), "declares frames", "values is None"),
    "a hop of 0": (changed(hop=0, frames=lambda s, x, r: Loudness().frames(x, r)), "declares hop", "hop is 0"),
    "a version that is no text": (changed(version=2), "declares", "version 2"),
    "neutral names no parameter": (Neutral, "declares", "('path',)"),
    "parameter without annotation": (Untyped, "parameters", "window is '0.1'"),
    "another width than declared": (changed(values=2), "frames", "[40, 1], expected an array [n_frames, 2]"),
    "a list": (after(lambda x: x.tolist()), "frames dtype", "list, expected an array"),
    "several frames without a hop": (
        changed(hop=None, frames=lambda self, s, r: np.ones((2, 1))),
        "frames dtype",
        "[1, 1]",
    ),
    "float64": (after(lambda x: x.astype(np.float64)), "dtype", "float64, expected float32"),
    "NaN for clipped audio": (changed(frames=clipped), "finite", "a clipped sine"),
    "NaN for silence": (changed(frames=normalized), "silence", "nan in "),
    "minus infinity for silence": (changed(floor=0.0), "finite silence", "-inf in"),
    "an error for short audio": (
        changed(frames=of_at_least_a_frame),
        "short",
        "ValueError: cannot reshape array",
    ),
    "no frame for short audio": (changed(frames=of_whole_frames), "short", "no frame\n  given: 1 sample"),
    "another hop than declared": (changed(hop=0.2, frames=lambda s, x, r: Loudness().frames(x, r)), "hop", "expected"),
    "a fixed number of frames": (after(lambda x: np.resize(x, (40, 1))), "hop", "returns 40 and 40 frames"),
    "made for one rate": (changed(frames=for_one_rate), "rates", "at 8000 Hz and"),
    "frames that end with a block": (changed(extract=by_block), "blocks", "in blocks of "),
    "only the first block": (changed(extract=first_block), "blocks", "the shape is"),
    "a state between calls": (Counting, "deterministic", "a second call"),
    "random numbers in the factory": (Drawn, "deterministic", "a second object"),
}
"""Broken features, the promises that they break, and a fact in the first message."""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_nothing_else_is_reported(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("features", factory), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("features")}


@pytest.mark.parametrize("correct", [Loudness, Vector, changed(frames=refuses)])
def test_correct_features_pass_every_check(correct):
    assert failures("features", correct) == {}
    check_features(correct)


def test_features_that_refuse_the_audio_of_the_checks_are_not_blamed():
    """Such as vectors that somebody computed elsewhere."""

    def extract(self: object, audio: Audio) -> np.ndarray:
        raise AudioError(f"no vector for {audio.path}")

    assert set(failures("features", changed(extract=extract))) <= {"rates"}
