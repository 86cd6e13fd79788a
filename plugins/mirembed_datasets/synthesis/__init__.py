"""Music for the ``demo`` dataset, from a seed to samples.

Four steps, one module each: `styles` writes down how eight kinds of music go, `clips` draws the particulars of one
clip, `score` turns them into notes and drum hits, `synth` turns those into samples.
"""
