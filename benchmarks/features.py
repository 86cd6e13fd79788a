"""Measure the built-in features: seconds of one core and peak memory (``make bench-features``).

Each measurement runs in a process of its own, on a WAV file of generated music at 44.1 kHz, and includes decoding.
``--basic-pitch`` also downloads a pretrained model of 230 kB, Spotify's Basic Pitch (Apache-2.0), with pip to a
temporary folder, and checks that ``onnx`` recognizes the notes of a scale with it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 44_100
FEATURES = (
    "logmel",
    "logmel:backend=scipy",
    "logmel:bands=128,high=16000",
    "semitones",
    "chroma",
    "chroma:size=36",
    "descriptors",
)
BASIC_PITCH = "basic-pitch==0.4.0"
SCALE = (57, 60, 62, 64, 65, 67, 69, 72)
"""MIDI notes of the scale that Basic Pitch must recognize."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[30, 600, 1800], help="lengths of the recordings")
    parser.add_argument("--basic-pitch", action="store_true", help="download the model, and check and measure it")
    parser.add_argument("--one", nargs=2, metavar=("SPEC", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], Path(options.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        specs = list(FEATURES)
        if options.basic_pitch:
            model = download(Path(folder))
            specs.append(f"onnx:model={model},rate=22050,output={note_output(model)}")
            check_scale(specs[-1])
        files = [Path(folder, f"{seconds:g}.wav") for seconds in options.seconds]
        for file, seconds in zip(files, options.seconds, strict=True):
            soundfile.write(file, music(seconds), RATE)
        print(f"{'features':32} {'audio':>7} {'values':>7} {'hop':>7} {'frames':>7} {'CPU':>8} {'memory':>8}")
        for spec in specs:
            for file in files:
                command = [sys.executable, "-m", "benchmarks.features", "--one", spec, str(file)]
                subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def measure(spec: str, file: Path) -> None:
    """Print the CPU time of features, without importing and creating them, and the peak memory of this process."""
    from mirembed import SamplesAudio
    from mirembed.audio.decoding import read_recording
    from mirembed.registry import Registry
    from mirembed.specs import Spec

    features = Registry.discover().create("features", Spec.parse(spec))
    features.extract(SamplesAudio(music(2), RATE))
    start = time.process_time()
    frames, sound = read_recording(file, features.extract)
    assert sound is not None
    spent = time.process_time() - start
    hop = "-" if features.hop is None else f"{1000 * features.hop:.0f} ms"
    name = spec if len(spec) < 33 else f"{spec[:29]}..."
    print(
        f"{name:32} {sound.duration:5.0f} s {frames.shape[1]:7} {hop:>7} {len(frames):7} {spent:6.2f} s "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:4.0f} MiB",
        flush=True,
    )


def music(seconds: float) -> np.ndarray:
    """Return chords that change twice a second, in noise: float32."""
    rng = np.random.default_rng(0)
    time_ = np.arange(RATE // 2, dtype=np.float32) / RATE
    samples = np.empty((round(2 * seconds), len(time_)), np.float32)
    for row in samples:
        pitches = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
        row[:] = sum(np.sin(2 * np.pi * pitch * time_) for pitch in pitches) * 0.1 * np.exp(-3 * time_)
        row += rng.normal(0, 0.003, len(row)).astype(np.float32)
    return samples.reshape(-1)


def download(folder: Path) -> Path:
    """Download Basic Pitch, and return its model."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), BASIC_PITCH]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(".onnx"))
        return Path(wheel.extract(member, folder))


def note_output(model: Path) -> str:
    """Return the name of the output that tells which notes sound: 88 keys, and not their beginnings."""
    import onnxruntime

    outputs = onnxruntime.InferenceSession(model).get_outputs()
    return str(min(one.name for one in outputs if one.shape[-1] == 88))


def check_scale(spec: str) -> None:
    """Exit with an error unless the loudest key of each note of a scale, two seconds each, is the one played."""
    from mirembed import SamplesAudio
    from mirembed.registry import Registry
    from mirembed.specs import Spec

    features = Registry.discover().create("features", Spec.parse(spec))
    rate = 22_050
    length = round(features.hop * rate)
    time_ = np.arange(length) / rate
    tones = [440 * 2 ** ((note - 69) / 12) for note in SCALE]
    samples = np.concatenate([sum(0.3 / k * np.sin(2 * np.pi * k * tone * time_) for k in (1, 2, 3)) for tone in tones])
    heard = features.extract(SamplesAudio(samples, rate)).argmax(axis=1) + 21
    if heard.tolist() != list(SCALE):
        sys.exit(f"Basic Pitch heard {heard.tolist()}, not {list(SCALE)}")
    print(f"Basic Pitch hears the scale {list(SCALE)}")


if __name__ == "__main__":
    main()
