"""Combined methods: which methods a combination names, and the mean of their predictions."""

from __future__ import annotations

import numpy as np
import pytest

from mirembed.cli.app import with_values
from mirembed.config import Settings, write_experiment
from mirembed.config.comparisons import Comparisons
from mirembed.config.files import parse_experiment
from mirembed.errors import SpecError
from mirembed.fit.resolve import resolve_settings
from mirembed.hookspecs import Classification, Regression, Tags, Target
from mirembed.models.averaging import Outputs, average, equal_weights
from mirembed.registry import Registry

CLASSES = Classification(("a", "b", "c"))


def names(**settings) -> list[str]:
    return [method.name for method in Settings(**settings).methods]


def members(**settings) -> dict[str, tuple[str, ...]]:
    return {one.name: one.approach.members for one in Settings(**settings).methods if one.approach.members}


def test_all_methods_but_chance_are_members_unless_some_are_named():
    approaches = ("nn", "chance", "stats", "fl")
    assert members(approach=approaches, combine=("all",)) == {"combined": ("nn", "stats", "fl")}
    assert members(approach=approaches, combine=("fl|nn",)) == {"combined": ("fl", "nn")}
    assert names(approach=approaches, combine=("fl|nn",)) == [*approaches, "combined"]


def test_the_methods_are_the_members_alone_where_no_approach_is_given():
    assert names(combine=("nn|stats",)) == ["nn", "stats", "combined"]
    assert names(combine=("nn|stats", "x=fl|nn")) == ["nn", "stats", "fl", "combined", "x"]
    assert names(combine=("nn|stats",), approach=("fl",)) == ["fl", "nn", "stats", "combined"]
    assert names(combine=("nn|stats", "all")) == ["rbf-sl", "nn", "stats", "combined-1", "combined-2"]


def test_members_in_full_have_features_networks_and_learners_of_their_own():
    text = "best=rbf:gamma=2-sl@logmel|stats+svm:C=3@logmel+chroma|fl@mlp"
    methods = Settings(combine=(text,), network=("mlp",), features=("chroma",)).methods
    parts = [(one.name, one.network, one.features, str(one.learner)) for one in methods[:-1]]
    assert parts == [
        ("rbf:gamma=2-sl@logmel", "mlp", "logmel", "svm"),
        ("stats+svm:C=3@logmel+chroma", None, "logmel+chroma", "svm:C=3"),
        ("fl@mlp", "mlp", "chroma", "svm"),
    ]
    assert methods[-1].approach.members == tuple(one.name for one in methods[:-1])


def test_a_member_in_full_that_the_flags_name_too_is_one_method():
    given = {"approach": ("fl", "stats"), "features": ("logmel", "chroma"), "learner": ("svm", "svm:C=2")}
    found = members(**given, combine=("fl+svm@logmel|stats+svm:C=2@chroma",))["combined"]
    assert found == ("fl+svm@logmel", "stats+svm:C=2@chroma")
    assert len(names(**given, combine=("all",))) == 9
    assert members(approach=("fl", "nn"), combine=("fl+svm@gru@logmel|nn",)) == {"combined": ("fl", "nn")}


def test_a_combined_method_neither_trains_nor_learns_nor_has_features():
    settings = Settings(combine=("stacked:nn|stats",))
    combined = settings.methods[-1]
    assert (combined.features, combined.network, combined.learner, combined.approach.stacked) == (
        None,
        None,
        None,
        True,
    )
    assert not (combined.approach.trains or combined.approach.learns or combined.approach.takes_network)
    assert [[method.name for method in group] for group in settings.trainings] == [["nn"], ["stats"]]


def test_combinations_are_written_to_experiment_files_and_read_as_lists():
    text = 'combine = [["rbf-sl", "stats"], "stacked:nn|stats"]\napproach = "nn"\n'
    [settings] = parse_experiment(text, "x")
    assert settings.combine == ("rbf-sl|stats", "stacked:nn|stats")
    assert parse_experiment(write_experiment([settings]), "x") == [settings]
    assert parse_experiment("combine = 'stacked'", "x")[0].combine == ("stacked",)


def test_a_flag_without_a_value_means_all():
    assert with_values([]) == []
    assert with_values(["--combine"]) == ["--combine", "all"]
    assert with_values(["--combine", "nn|fl", "--combine", "--cv", "2"]) == [
        *("--combine", "nn|fl", "--combine", "all", "--cv", "2"),
    ]


def test_features_of_members_get_their_usual_form():
    registry = Registry.discover()
    text = "x=rbf-sl@logmel:hop=0.02,bands=40|stats@semitones+chroma"
    settings, features = resolve_settings(Settings(combine=(text,)), registry)
    assert [one.spec for one in features] == ["logmel", "logmel:bands=40,hop=0.02", "semitones+chroma"]
    assert [one.features for one in settings.methods] == ["logmel:bands=40,hop=0.02", "semitones+chroma", None]
    again, _ = resolve_settings(settings, registry)
    assert again == settings


def test_a_combined_method_is_the_reference_and_is_compared_with_all_its_members():
    methods = Settings(approach=("nn", "fl", "stats", "untrained", "chance"), combine=("nn|stats",)).methods
    found = Comparisons.of(methods)
    assert found.reference == "combined"
    assert found.primary == (("combined", "nn"), ("combined", "fl"), ("combined", "stats"))
    assert found.baselines == (("combined", "untrained"), ("combined", "chance"))
    assert Comparisons.of(methods, "nn").primary == (("fl", "nn"), ("combined", "nn"))


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"combine": ("nn",)}, ["--combine nn", "two"]),
        ({"combine": ("nn|",)}, ["--combine nn|", "two"]),
        ({"combine": ("nn|nn",)}, ["nn", "2 times"]),
        ({"combine": ("nn|fl|nn@logmel",)}, ["nn", "once"]),
        ({"combine": ("all",)}, ["rbf-sl", "two"]),
        ({"combine": ("nn|chance",)}, ["chance", "member"]),
        ({"combine": ("nn|rbf",)}, ["'rbf'", "rbf-sl"]),
        ({"combine": ("x=nn|fl", "x=nn|stats")}, ["2", "x"]),
        ({"combine": ("x=nn|fl", "nn|x")}, ["|x", "member"]),
        ({"combine": ("nn|fl", "x=fl|nn")}, ["x=fl|nn", "combined"]),
        ({"combine": ("x y=nn|fl",)}, ["'x y'"]),
        ({"combine": ("=nn|fl",)}, ["''"]),
        ({"combine": ("nn|from-other",)}, ["--from other"]),
        ({"combine": ("nn=nn|fl",)}, ["named nn"]),
        ({"combine": ("nn|fl",) * 2}, ["nn|fl", "2 times"]),
        ({"combine": ("nn+svm|fl",)}, ["nn", "no learner", "svm"]),
        ({"combine": ("stats@gru@logmel|fl",)}, ["stats", "no network", "gru"]),
        ({"combine": ("nn|fl",), "learner": ("svm", "knn")}, ["fl", "which learner", "svm, knn"]),
        ({"combine": ("nn@a@b@c|fl",)}, ["nn@a@b@c", "APPROACH"]),
        ({"combine": ("nn@chroma|fl@chroma",), "features": ("logmel:bands=80",)}, ["--features logmel:bands=80"]),
        ({"combine": ("nn|stats",), "label_similarity": "cosine"}, ["--label-similarity cosine", "nn, stats"]),
    ],
)
def test_wrong_combinations_are_errors_before_any_work(settings, facts):
    with pytest.raises(SpecError) as error:
        Settings(**settings).check()
    assert [fact for fact in facts if fact not in str(error.value)] == []


def test_targets_are_averaged():
    task = Regression((Target("x", 0, 1), Target("y", 0, 1)))
    a, b = np.array([[0.0, 1.0], [4.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 6.0]])
    found = average(task, [Outputs(a), Outputs(b)], np.array([0.25, 0.75]))
    np.testing.assert_allclose(found.predicted, [[0.75, 1.0], [1.0, 5.0]])
    assert found.scores is found.probabilities is None


def test_classes_are_those_with_the_highest_mean_probability():
    a, b = np.array([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3]]), np.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
    found = average(CLASSES, [Outputs(one.argmax(axis=1), None, one) for one in (a, b)], equal_weights(2))
    np.testing.assert_allclose(found.probabilities, (a + b) / 2)
    assert found.predicted.tolist() == [1, 1]


def test_tags_are_those_that_are_probable_and_are_ranked_by_their_mean_probabilities():
    a, b = np.array([[0.9, 0.2], [0.5, 0.4]]), np.array([[0.3, 0.1], [0.5, 0.9]])
    members = [Outputs((one > 0.7).astype(int), one * 9, one) for one in (a, b)]
    found = average(Tags(("x", "y")), members, equal_weights(2))
    assert found.predicted.tolist() == [[1, 0], [1, 1]]
    np.testing.assert_allclose(found.scores, (a + b) / 2)
    np.testing.assert_allclose(found.probabilities, (a + b) / 2)


def test_a_member_without_probabilities_counts_with_its_prediction():
    probable = Outputs(np.array([0]), None, np.array([[0.5, 0.2, 0.3]]))
    found = average(CLASSES, [probable, Outputs(np.array([2]))], equal_weights(2))
    np.testing.assert_allclose(found.probabilities, [[0.25, 0.1, 0.65]])
    assert found.predicted.tolist() == [2]
    assert average(CLASSES, [Outputs(np.array([2]))] * 2, equal_weights(2)).probabilities is None
