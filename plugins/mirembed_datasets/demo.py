"""The ``demo`` dataset: music that the program makes itself, so that everything can be tried without any data."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mirembed import Card, Classification, DatasetError, Listing, Regression, Target, Task, Track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mirembed_datasets.synthesis.clips import Clip


class Demo:
    """120 clips of ten seconds in eight styles, fifteen a style, by forty invented bands.

    Waltz, jig, swing, bossa, house, trance, rock and reggae: `mirembed_datasets.synthesis.styles` says what each
    is made of. Every clip is drawn by its own generator from fixed seeds, so the audio is the same everywhere,
    but for a rounding of the last bit. The group of a track is its band, whose instruments, tuning and room
    run through its three clips.

    Parameters
    ----------
    task : {"classification", "regression"}
        The style, or arousal and valence in [1, 9]; the audio is the same. No listener was asked: with
        ``pace = log2(tempo / 110) / 0.75``, with ornaments, loudness and brightness in [-1, 1], and with mode 1 for
        major, 0.5 for mixolydian, -0.5 for dorian and -1 for minor,

        - arousal = 5 + 4 (0.45 pace + 0.2 ornaments + 0.2 loudness + 0.15 brightness),
        - valence = 5 + 4 (0.4 mode + 0.25 pace + 0.35 brightness).
    """

    card: ClassVar[Card] = Card(
        title="Synthesized music in eight styles",
        n_tracks=120,
        labels="8 styles, or arousal and valence from 1 to 9",
        license="that of mirembed: the program is the music",
        citation="",
        source="mirembed extract makes it",
        tree="<style>/<style>-00.wav to <style>-14.wav",
        rate=22050,
        seconds=(9.9, 10.1),
    )

    def __init__(self, *, task: Literal["classification", "regression"] = "classification") -> None:
        self.task = task

    def synthesize(self, audio: Path) -> int:
        """Write the clips that are not yet in the folder ``audio``.

        Each appears whole or not at all: 16-bit mono WAV at 22 050 Hz, such as ``waltz/waltz-03.wav``.

        Returns
        -------
        written : int
            Number of clips that were missing.

        Raises
        ------
        DatasetError
            When a clip cannot be written.
        """
        # Inside, because discovery imports this module and must not wait for numpy and scipy.
        from mirembed_datasets.synthesis.clips import draw_clips
        from mirembed_datasets.synthesis.synth import SAMPLE_RATE, render

        missing = [clip for clip in draw_clips() if not (audio / clip.id).is_file()]
        for clip in missing:
            _write_wav(audio / clip.id, render(clip), SAMPLE_RATE)
        return len(missing)

    def listing(self, audio: Path) -> Listing:
        """Return the clips that are in the folder ``audio``; their samples are not read.

        Raises
        ------
        DatasetError
            When there is none.
        """
        from mirembed_datasets.synthesis.clips import draw_clips

        clips = draw_clips()
        present = [clip for clip in clips if (audio / clip.id).is_file()]
        if not present:
            raise DatasetError(
                f"{audio} holds no clip of the demo dataset, such as {clips[0].id}; "
                "run `mirembed extract --dataset demo` without --audio, and they are made; "
                "your own music is --dataset folder"
            )
        tracks = [Track(clip.id, audio / clip.id, self._label(clip), clip.band.name) for clip in present]
        return Listing(self._listed_task(), tracks, absent=len(clips) - len(present))

    def _listed_task(self) -> Task:
        if self.task == "regression":
            return Regression((Target("arousal", low=1, high=9), Target("valence", low=1, high=9)))
        from mirembed_datasets.synthesis.styles import STYLES

        return Classification(tuple(style.name for style in STYLES))

    def _label(self, clip: Clip) -> str | tuple[float, ...]:
        return (clip.arousal, clip.valence) if self.task == "regression" else clip.style.name


def _write_wav(path: Path, samples: NDArray[np.int16], sample_rate: int) -> None:
    """Write mono ``samples`` under another name beside ``path``, then give them theirs."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file, wave.open(file) as wav:
                wav.setparams((1, 2, sample_rate, len(samples), "NONE", "not compressed"))
                wav.writeframes(samples.astype("<i2").tobytes())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"cannot write {path}: {error.strerror}; choose a folder that can be written to, or make room"
        ) from error
