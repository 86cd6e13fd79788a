"""One audio file → samples, block by block, or one clear `AudioError`.

soundfile decodes what it can open, because it does not crash on damaged files; Essentia, where it is installed,
decodes the rest (M4A, WMA) and the MP3s that libsndfile may have cut short.
"""

from mirembed.audio.decoding import LONGEST, Audio, Sound, decode, decode_into
from mirembed.audio.headers import PADDING
from mirembed.audio.tally import Decoder, Receiver

__all__ = ["LONGEST", "PADDING", "Audio", "Decoder", "Receiver", "Sound", "decode", "decode_into"]
