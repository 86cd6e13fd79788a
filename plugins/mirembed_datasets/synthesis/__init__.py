"""Music for the ``demo`` dataset, from a seed to samples.

Three steps, one module each: `styles` defines eight styles, `composition` draws the parameters of a clip and writes its
notes and drum hits, `synthesizer` turns those into samples.
"""
