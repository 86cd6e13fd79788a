"""Settings, experiment files and presets: every flag is a key of a file, and every key a flag."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from mirembed.api.fitting import fit_settings
from mirembed.cli import evaluate as command
from mirembed.config import Settings, presets, read_experiment, read_preset, write_experiment
from mirembed.config.files import parse_experiment
from mirembed.errors import SpecError


def test_every_flag_that_decides_the_numbers_is_a_key_and_every_key_is_a_flag():
    how = {"store", "config", "preset", "jobs", "executor", "scheduler", "dry_run", "json"}
    flags = set(inspect.signature(command.evaluate).parameters) - {"context", *how}
    keys = {field.name for field in fields(Settings)} - {"name", "primary"}
    assert flags == keys


def test_keys_are_spelled_like_the_flags():
    [settings] = parse_experiment('test-size = 0.2\nsplits = 5\nlabel-similarity = "cosine"\n', "x.toml")
    assert (settings.test_size, settings.splits, settings.label_similarity) == (0.2, 5, "cosine")


def test_a_single_value_stands_for_a_list():
    [settings] = parse_experiment('dataset = "gtzan"\nseed = 3\napproach = ["nn", "fl"]\n', "x.toml")
    assert (settings.dataset, settings.seed, settings.approach) == (("gtzan",), (3,), ("nn", "fl"))


def test_settings_above_the_tables_apply_to_all_evaluations():
    text = 'epochs = 7\n[[evaluation]]\nname = "a"\ncv = 3\n[[evaluation]]\nname = "b"\nsplits = 9\nepochs = 8\n'
    a, b = parse_experiment(text, "x.toml")
    assert (a.name, a.epochs, a.cv, a.splits) == ("a", 7, 3, None)
    assert (b.name, b.epochs, b.cv, b.splits) == ("b", 8, None, 9)


def test_unnamed_evaluations_are_numbered():
    assert [one.name for one in parse_experiment("[[evaluation]]\n[[evaluation]]\ncv = 3\n", "x")] == [
        "evaluation-1",
        "evaluation-2",
    ]


def test_written_settings_are_read_back_unchanged():
    settings = [
        Settings(
            name="c", features=("logmel", "a+b:x=1"), network=("gru:hidden=20",), from_=("demo-fl",), deltas=False
        ),
        Settings(name="a", dataset=("demo:task=regression",), approach=("rbf:gamma=2-sl",), cv=4, seed=(1, 2)),
        Settings(name='b "quoted"', splits=3, test_size=0.25, keep_models=True, learner=("svm", "svm:C=2")),
    ]
    assert parse_experiment(write_experiment(settings), "x") == settings
    assert parse_experiment(write_experiment(settings[:1]), "x") == settings[:1]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("epoch = 3", ["x: ", "'epoch'", "'epochs'"]),
        ("epochs = '3'", ["x: epochs is '3'", "integer"]),
        ("epochs = true", ["x: epochs is True", "integer"]),
        ("epochs = 0", ["--epochs is 0", "at least 1"]),
        ("test-size = 'a'", ["x: test-size is 'a'", "number"]),
        ("approach = [1]", ["x: approach is 1", "string"]),
        ("keep-models = 1", ["x: keep-models is 1", "true or false"]),
        ("learner = []", ["--learner is empty"]),
        ("epochs = ", ["x is not", "TOML"]),
        ("seed = [0, 1, 0]", ["--seed 0", "2 times"]),
        ("learner = ['svm', 'svm']", ["--learner svm", "2 times"]),
        ("seed = -1", ["--seed is -1", "from 0 to 4294967295"]),
        ("normalize = 'all'", ["--normalize all", "training or dataset"]),
        ("[[evaluation]]\nname='..'", ["evaluation", "named '..'"]),
        ("[[evaluation]]\nname='report'", ["evaluation", "named 'report'"]),
        ("evaluation = 3", ["x: evaluation is 3", "[[evaluation]]"]),
        ("[[evaluation]]\nname='a'\n[[evaluation]]\nname='a'", ["x: 2 evaluations", "'a'"]),
        ("[[evaluation]]\nfold = 'a'", ["x, evaluation 1: ", "'fold'", "'folds'"]),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where_and_what(text, facts):
    with pytest.raises(SpecError) as error:
        parse_experiment(text, "x")
    assert [fact for fact in facts if fact not in str(error.value)] == []


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"approach": ("rbf",)}, ["'rbf'", "nn, fl, chance, stats, untrained", "rbf-sl"]),
        ({"approach": ("rbf:gamma-sl",)}, ["'gamma'", "param=value"]),
        ({"approach": ("nn", "nn")}, ["nn", "2 times"]),
        ({"approach": ("rbf-sl",), "similarity": ("rbf",)}, ["rbf-sl", "2 times"]),
        ({"approach": ("nn", "stats"), "label_similarity": "cosine"}, ["--label-similarity cosine", "nn, stats"]),
        ({"learner": ("a b",)}, ["'a b'", "plugin"]),
        ({"network": ("a b",)}, ["'a b'", "plugin"]),
        ({"optimizer": "adam:"}, ["''", "'adam:'"]),
        ({"approach": ("stats",), "network": ("mlp",)}, ["--network mlp", "stats"]),
        ({"approach": ("chance",), "features": ("chroma",)}, ["--features chroma", "chance"]),
        ({"from_": ("m",), "features": ("chroma",)}, ["--features chroma", "from-m"]),
        ({"from_": ("a/m", "b/m")}, ["from-m", "2 times"]),
    ],
)
def test_wrong_approaches_and_learners_are_errors_before_any_work(settings, facts):
    with pytest.raises(SpecError) as error:
        Settings(**settings).check()
    assert [fact for fact in facts if fact not in str(error.value)] == []


def test_approaches_and_similarities_add_up_and_rbf_is_the_default():
    names = [one.name for one in Settings(approach=("nn",), similarity=("rbf:gamma=2", "cosine")).approaches]
    assert names == ["nn", "rbf:gamma=2-sl", "cosine-sl"]
    assert [one.name for one in Settings().approaches] == ["rbf-sl"]


def test_models_are_approaches_and_replace_the_default():
    assert [one.name for one in Settings(from_=("runs/x/models/fl-seed0-fold0",)).approaches] == ["from-fl-seed0-fold0"]
    both = Settings(approach=("nn",), from_=("a", "b")).approaches
    assert [(one.name, one.model, one.trains, one.learns) for one in both] == [
        ("nn", None, True, False),
        ("from-a", "a", False, True),
        ("from-b", "b", False, True),
    ]


def test_a_method_is_named_after_what_there_is_several_of():
    settings = Settings(
        approach=("rbf-sl", "nn", "stats", "untrained", "chance"),
        features=("logmel", "chroma"),
        network=("gru", "mlp"),
        from_=("m",),
    )
    assert [method.name for method in settings.methods] == [
        *("rbf-sl@gru@logmel", "rbf-sl@gru@chroma", "rbf-sl@mlp@logmel", "rbf-sl@mlp@chroma"),
        *("nn@gru@logmel", "nn@gru@chroma", "nn@mlp@logmel", "nn@mlp@chroma"),
        *("stats@logmel", "stats@chroma"),
        *("untrained@gru@logmel", "untrained@gru@chroma", "untrained@mlp@logmel", "untrained@mlp@chroma"),
        *("chance", "from-m"),
    ]
    assert len(settings.trainings) == len(settings.methods)
    assert [len(group) for group in Settings(approach=("nn", "fl"), network=("gru", "mlp")).trainings] == [2, 2]


@pytest.mark.parametrize("learners", [("svm",), ("svm", "svm:C=2")])
def test_the_label_of_a_method_is_its_name_without_the_learner(learners):
    settings = Settings(approach=("fl", "nn"), network=("gru", "mlp"), learner=learners)
    assert {method.label for method in settings.methods} == {"fl@gru", "fl@mlp", "nn@gru", "nn@mlp"}


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml.*No such file or directory"):
        read_experiment(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"binary\.toml.*UTF-8"):
        read_experiment(tmp_path / "binary.toml")


def test_an_unknown_preset_is_an_error_that_lists_them():
    with pytest.raises(SpecError, match=r"--preset papers: .* best or paper$"):
        read_preset("papers")


def test_the_paper_preset_has_all_approaches_and_the_repeated_splits():
    assert list(presets()) == ["best", "paper"]
    cross_validation, splits = read_preset("paper")
    assert {"nn", "fl", "rbf-sl", "cosine-sl", "polynomial-sl"} < set(cross_validation.approach)
    assert (cross_validation.cv, cross_validation.epochs, cross_validation.checkpoint_every) == (10, 400, 10)
    assert len(cross_validation.dataset) == 5
    assert (splits.splits, splits.test_size, splits.folds) == (100, 0.1, "random")
    assert splits.approach == ("rbf-sl", "nn", "fl")
    assert set(splits.dataset) == {"emotify", "mediaeval2013", "gtzan", "ballroom"}


def test_the_best_preset_combines_networks_with_statistics_whose_learner_is_chosen():
    [settings] = read_preset("best", "regression")
    networks, statistics, combined = settings.methods
    assert combined.approach.members == (networks.name, statistics.name)
    assert (networks.approach.name, networks.features, str(networks.learner)) == ("rbf:gamma=2-sl", "logmel", "svm:C=1")
    assert (statistics.approach.name, statistics.features) == ("stats", "logmel+semitones+chroma")
    assert (settings.ensemble, settings.epochs, settings.checkpoint_every) == (5, 100, 0)
    settings.check()
    for kind in ("classification", "tags"):
        assert [one.methods[0].approach.name for one in read_preset("best", kind)] == ["rbf-sl"]


def test_a_fit_takes_a_preset_of_one_evaluation_which_its_flags_override():
    settings = fit_settings({"epochs": 3}, "the command line", transfers=False, preset="best")
    assert (settings.epochs, settings.ensemble) == (3, 5)
    with pytest.raises(SpecError, match="--preset paper"):
        fit_settings({}, "the command line", transfers=False, preset="paper")
    with pytest.raises(SpecError, match="--preset"):
        fit_settings({}, "the command line", transfers=True, preset="best")


def test_folds_given_later_replace_splits_given_before():
    settings = Settings(splits=9, test_size=0.2)
    assert settings.updated({"cv": 3}, "x") == Settings(cv=3)
    assert Settings(cv=3).updated({"splits": 9}, "x") == Settings(splits=9)
    assert Settings(approach=("nn",)).updated({"similarity": "rbf"}, "x").approach == ()
