"""Digests: stored runs, models and frames are found again by them, so they must not change."""

from __future__ import annotations

import pytest

from mirembed import Classification
from mirembed.provenance import content_digest

PARAMETERS = {"version": 1, "frame_seconds": 0.05, "window": "hamming", "bands": 40}
CONFIGURATION = {"b": 1, "a": [1.5, None, "ä"], "c": {"z": 1, "y": 2}}


def test_the_digest_of_settings_is_always_the_same():
    assert content_digest(CONFIGURATION) == content_digest(dict(reversed(CONFIGURATION.items()))) == "32ab99cbcebb"


def test_the_digest_of_tracks_is_always_the_same():
    tracks = [str(Classification(("a", "b"))), PARAMETERS, ["x"], [None, "g"], [0.5]]
    assert content_digest(tracks, 16, sort_keys=False) == "8824db8d0329d1c4"


def test_content_that_is_not_json_has_no_digest():
    with pytest.raises(TypeError, match="Classification"):
        content_digest([Classification(("a", "b"))])
