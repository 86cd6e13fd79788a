"""The ``demo`` dataset: synthesized music, to try everything without any data."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mirembed import (
    Card,
    Classification,
    DatasetError,
    Listing,
    Regression,
    Tags,
    Target,
    Task,
    Track,
    uninterruptible,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mirembed_datasets.synthesis.composition import Clip


class Demo:
    """120 clips of ten seconds: eight styles with fifteen clips each, by forty invented bands.

    Waltz, jig, swing, bossa, house, trance, rock and reggae are defined in `mirembed_datasets.synthesis.styles`. Every
    clip has its own random generator with a fixed seed, so the audio is the same everywhere, except for rounding of the
    last bit. The group of a track is its band, whose three clips share instruments, tuning and room.

    Parameters
    ----------
    task : {"classification", "tags", "regression"}
        The label is the style; or the instruments of bass, chords and melody, with ``fast`` (120 beats per minute or
        more), ``minor`` (or dorian), ``bright`` and ``loud`` (brightness or loudness above 0.3) as further tags; or
        arousal and valence in [1, 9]. The audio is the same. No listeners were involved: with
        ``pace = log2(tempo / 110) / 0.75``, with ornaments, loudness and brightness in [-1, 1], and with mode 1 for
        major, 0.5 for mixolydian, -0.5 for dorian and -1 for minor,

        - arousal = 5 + 4 (0.45 pace + 0.2 ornaments + 0.2 loudness + 0.15 brightness),
        - valence = 5 + 4 (0.4 mode + 0.25 pace + 0.35 brightness).
    """

    card: ClassVar[Card] = Card(
        title="Synthesized music in eight styles",
        n_tracks=120,
        labels="8 styles, or 20 tags, or arousal and valence from 1 to 9",
        license="that of mirembed, which synthesizes it",
        citation="",
        source="mirembed extract synthesizes it",
        tree="<style>/<style>-00.wav to <style>-14.wav",
        rate=22050,
        seconds=(9.9, 10.1),
    )

    def __init__(self, *, task: Literal["classification", "tags", "regression"] = "classification") -> None:
        self.task = task

    def synthesize(self, audio: Path) -> int:
        """Write the clips that are missing from the folder ``audio``.

        They are 16-bit mono WAV files at 22 050 Hz, such as ``waltz/waltz-03.wav``; none is ever incomplete.

        Returns
        -------
        written : int
            Number of clips that were missing.

        Raises
        ------
        DatasetError
            A clip cannot be written.
        """
        # Imported here because plugin discovery imports this module and must not wait for numpy and scipy.
        from mirembed_datasets.synthesis.composition import draw_clips
        from mirembed_datasets.synthesis.synthesizer import SAMPLE_RATE, render

        missing = [clip for clip in draw_clips() if not (audio / clip.id).is_file()]
        for clip in missing:
            _write_wav(audio / clip.id, render(clip), SAMPLE_RATE)
        return len(missing)

    def listing(self, audio: Path) -> Listing:
        """List the clips in the folder ``audio``, without reading them.

        Raises
        ------
        DatasetError
            There are none.
        """
        from mirembed_datasets.synthesis.composition import draw_clips

        clips = draw_clips()
        present = [clip for clip in clips if (audio / clip.id).is_file()]
        if not present:
            raise DatasetError(
                f"{audio} holds no clips of the demo dataset, such as {clips[0].id}; run "
                "`mirembed extract --dataset demo` without --audio to synthesize them, or give --dataset folder for "
                "your own music"
            )
        tracks = [Track(clip.id, audio / clip.id, self._label(clip), clip.band.name) for clip in present]
        return Listing(self._listed_task(), tracks, absent=len(clips) - len(present))

    def _listed_task(self) -> Task:
        if self.task == "regression":
            return Regression((Target("arousal", low=1, high=9), Target("valence", low=1, high=9)))
        from mirembed_datasets.synthesis.styles import PITCHED, STYLES

        if self.task == "tags":
            instruments = (name for style in STYLES for part in PITCHED for name in style.instruments[part])
            return Tags((*dict.fromkeys(instruments), "fast", "minor", "bright", "loud"))
        return Classification(tuple(style.name for style in STYLES))

    def _label(self, clip: Clip) -> str | frozenset[str] | tuple[float, ...]:
        if self.task == "regression":
            return clip.arousal, clip.valence
        return _tags(clip) if self.task == "tags" else clip.style.name


def _tags(clip: Clip) -> frozenset[str]:
    from mirembed_datasets.synthesis.styles import PITCHED

    traits = {
        "fast": clip.tempo >= 120,
        "minor": clip.mode in ("minor", "dorian"),
        "bright": clip.brightness > 0.3,
        "loud": clip.loudness > 0.3,
    }
    instruments = (clip.band.instruments[part] for part in PITCHED)
    return frozenset([*instruments, *(name for name, present in traits.items() if present)])


def _write_wav(path: Path, samples: NDArray[np.int16], sample_rate: int) -> None:
    """Write mono ``samples`` to a temporary file next to ``path``, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with uninterruptible():
            try:
                with temporary.open("wb") as file, wave.open(file) as wav:
                    wav.setparams((1, 2, sample_rate, len(samples), "NONE", "not compressed"))
                    wav.writeframes(samples.astype("<i2").tobytes())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"cannot write {path}: {error.strerror}; choose a writable folder, or free some space"
        ) from error
