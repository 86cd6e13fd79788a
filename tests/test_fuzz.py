"""A small version of ``make fuzz``."""

from __future__ import annotations

import pytest
from fuzz import WRITTEN, fuzz

pytestmark = pytest.mark.slow


def test_damaged_files_of_every_format_are_extracted_or_refused(tmp_path):
    n_formats = len(WRITTEN) + 19
    report = fuzz(tmp_path, n_files=5 * n_formats, seed=3, jobs=1)
    assert (report.unaccounted, report.unclear) == ([], [])
    assert report.peak < 300 * 2**20
    assert len(report.outcomes) == n_formats
    for name, kinds in report.outcomes.items():
        assert sum(kinds.values()) == 5, name
    assert sum(kinds["refused"] for kinds in report.outcomes.values()) > 50
    assert sum(kinds["extracted"] for kinds in report.outcomes.values()) > 20
