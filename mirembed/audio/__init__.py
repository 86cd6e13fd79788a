"""Find audio files, and decode one into samples, block by block, or fail with one clear `AudioError`.

soundfile decodes whatever it can open, because damaged files do not crash it. Essentia, where it is installed, decodes
the rest (M4A, WMA) and the MP3s that libsndfile may have cut short.
"""
