"""What `extract` and `datasets check` say about the labels that they found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mirembed import Classification, Listing, Regression, Tags, Target, Track
from mirembed.datasets.labels import described
from mirembed.hookspecs import Task


def lines(task: Task | None, labels: Sequence[object], groups: Sequence[str | None] = (), **sources: str) -> list[str]:
    groups = [*groups, *[None] * (len(labels) - len(groups))]
    tracks = [
        Track(str(n), Path(f"{n}.wav"), label, group)  # type: ignore[arg-type]
        for n, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    return described(Listing(task, tracks, **sources))


def test_classes_come_with_the_number_of_their_tracks_and_the_column():
    (line,) = lines(
        Classification(("Trax", "Verve", "Warp")), ["Warp", "Trax", "Warp", "Verve"], labels_from="column 'label'"
    )
    assert line == "3 classes from column 'label': Trax 1, Verve 1, Warp 2"


def test_of_many_classes_the_most_frequent_are_named():
    names = tuple(f"c{n:02}" for n in range(14))
    (line,) = lines(Classification(names), [*names, "c13"])
    assert "14 classes: c13 2, c00 1," in line
    assert line.endswith(" and 2 more")


def test_groups_are_counted():
    (line,) = lines(Classification(("a",)), ["a", "a", "a"], ["Nina", "Sun Ra", None], groups_from="column 'artist'")
    assert line.endswith("; 2 groups from column 'artist'")


def test_tags_and_tracks_without_one_are_counted():
    (line,) = lines(Tags(("calm", "rock")), [frozenset({"rock"}), frozenset(), frozenset({"calm", "rock"}), None])
    assert line == "2 tags: calm 1, rock 2; 1 track without a tag; 1 track unlabeled"


def test_targets_come_with_their_range():
    task = Regression((Target("valence"), Target("arousal")))
    (line,) = lines(task, [(1.0, -0.5), None, (3.5, 2.0)], labels_from="columns 'valence', 'arousal'")
    assert line == "2 targets from columns 'valence', 'arousal': valence 1 to 3.5, arousal -0.5 to 2; 1 track unlabeled"


def test_without_labels_and_groups_nothing_is_said():
    assert lines(None, [None, None]) == []


@pytest.mark.parametrize(
    "names",
    [("Rock", "rock"), ("Hip Hop", "Hip-Hop"), ("Drum'n'Bass", "Drum\u2019n\u2019Bass"), ("Jazz", "Ja\u200bzz")],
)
def test_names_that_differ_only_in_case_spaces_or_hyphens_are_pointed_out(names):
    _, warning = lines(Classification(tuple(sorted(names))), list(names))
    assert warning.startswith("warning: classes ")
    assert all(repr(name) in warning for name in names)
    _, warning = lines(Classification(("a",)), ["a", "a"], names)
    assert warning.startswith("warning: groups ")


@pytest.mark.parametrize("names", [("C", "C#"), ("+", "-"), ("A-", "A"), ("Pop", "Poppy")])
def test_names_that_differ_otherwise_are_not(names):
    assert len(lines(Classification(tuple(sorted(names))), list(names))) == 1
