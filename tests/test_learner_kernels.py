"""Similarities as kernels of a learner, against scikit-learn: values, models and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import blocks, invoke, read
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import cosine_similarity, laplacian_kernel, polynomial_kernel, rbf_kernel
from sklearn.svm import SVC, SVR
from small_store import (
    CLASSES,
    TARGETS,
    evaluate,
    experiment,
    job,
    open_tracks,
    workers_run,
    write_classes,
    write_targets,
)
from third_party import install

from mirembed import Task
from mirembed.config.approaches import Approach
from mirembed.errors import ModelError, PluginError, SpecError
from mirembed.fit import transfer
from mirembed.fit.job import fit_models
from mirembed.fit.resolve import describe_plugins
from mirembed.models.learners import FittedLearner, Kernel, fit_learner
from mirembed.models.model import Model
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_json
from mirembed.training.labels import TargetScale

pytestmark = pytest.mark.slow


class Laplacian:
    """exp(-gamma * L1 distance), without ``cross``."""

    def __init__(self, gamma: float = 0.1) -> None:
        self.gamma = gamma

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (-self.gamma * (x[..., :, None, :] - x[..., None, :, :]).abs().sum(-1)).exp()


class Weighted(torch.nn.Module):
    """A scalar product with weights, which torch keeps in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.linspace(0.5, 1.5, 50).diag(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weights @ x.mT


def similarity(name: str, factory: Callable[..., Any], version: str = "1.0") -> Plugin:
    return Plugin("similarity", name, factory, "", f"mirembed-{name}", version)


STRANGERS = [
    similarity("laplacian", Laplacian),
    similarity("weighted", Weighted),
    similarity("distance", lambda: lambda x: torch.cdist(x, x)),
    similarity("lopsided", lambda: lambda x: x[..., :, None, 0] + 2 * x[..., None, :, 0]),
    similarity("endless", lambda: lambda x: (x @ x.mT) / 0),
]
REGISTRY = Registry([*Registry.discover().plugins, *STRANGERS])


def draw(n: int, seed: int = 0) -> np.ndarray:
    """Return n embeddings about as long as learned ones."""
    return (0.2 * np.random.default_rng(seed).normal(size=(n, 50))).astype(np.float32)


TRAINING, OTHERS = draw(40), draw(15, seed=1)
LABELS = {
    CLASSES: np.arange(40) % 3,
    TARGETS: np.random.default_rng(2).uniform([-100, 0], [300, 9], (40, 2)),
}


def fitted(
    learner: str, task: Task = CLASSES, approach: str = "rbf-sl", registry: Registry = REGISTRY
) -> FittedLearner:
    labels = LABELS[task]
    scale = TargetScale.fit(task, labels) if task is TARGETS else None
    return fit_learner(
        registry, Spec.parse(learner), Approach.parse(approach), task, TRAINING, labels, scale, seed=(0, 0)
    )


def expected(task: Task, kernel: Callable[..., np.ndarray], **parameters: float) -> np.ndarray:
    """Return the predictions of scikit-learn's SVC or SVRs for OTHERS with a kernel of its own, in float64."""
    x, y = TRAINING.astype(np.float64), LABELS[task]
    train, test = kernel(x, x, **parameters), kernel(OTHERS.astype(np.float64), x, **parameters)
    if task is CLASSES:
        return SVC(kernel="precomputed").fit(train, y).predict(test)
    scaled = TargetScale.fit(task, y).scale(y)
    return np.stack([SVR(kernel="precomputed").fit(train, each).predict(test) for each in scaled.T], axis=1)


def predicted(learner: FittedLearner, embeddings: np.ndarray = OTHERS) -> np.ndarray:
    return learner.estimator.predict(learner.kernel.gram(embeddings))


# Values


@pytest.mark.parametrize("task", [CLASSES, TARGETS])
@pytest.mark.parametrize(
    ("learner", "approach", "reference", "parameters"),
    [
        ("svm:kernel=match", "rbf-sl", rbf_kernel, {"gamma": 1}),
        ("svm:kernel=match", "rbf:gamma=2.5-sl", rbf_kernel, {"gamma": 2.5}),
        ("svm:kernel=match", "polynomial-sl", polynomial_kernel, {"gamma": 1, "coef0": 0, "degree": 2}),
        ("svm:kernel=match", "cosine-sl", cosine_similarity, {}),
        ("svm:gamma=match", "polynomial:gamma=0.5-sl", rbf_kernel, {"gamma": 0.5}),
        ("svm:kernel=laplacian,gamma=match", "rbf-sl", laplacian_kernel, {"gamma": 1}),
        ("svm:kernel=cosine", "fl", cosine_similarity, {}),
        ("svm:kernel=polynomial", "fl", polynomial_kernel, {"gamma": 1, "coef0": 0, "degree": 2}),
        ("svm:kernel=polynomial:c=1:d=3,gamma=0.5", "fl", polynomial_kernel, {"gamma": 0.5, "coef0": 1, "degree": 3}),
        ("svm:kernel=laplacian", "fl", laplacian_kernel, {"gamma": 0.1}),
    ],
)
def test_predictions_agree_with_scikit_learn_for_the_same_kernel(task, learner, approach, reference, parameters):
    np.testing.assert_allclose(
        predicted(fitted(learner, task, approach)), expected(task, reference, **parameters), rtol=0, atol=1e-6
    )


def test_a_matching_rbf_kernel_agrees_with_the_native_one_of_the_same_gamma():
    matching, native = fitted("svm:kernel=match"), fitted("svm:gamma=1")
    assert native.kernel is None
    np.testing.assert_allclose(
        matching.estimator.decision_function(matching.kernel.gram(OTHERS)),
        native.estimator.decision_function(OTHERS),
        rtol=0,
        atol=1e-3,  # the tolerance of the solver
    )
    np.testing.assert_array_equal(matching.estimator.support_, native.estimator.support_)


def test_a_torch_module_is_computed_in_float64():
    gram = fitted("svm:kernel=weighted").kernel.gram(OTHERS)
    reference = OTHERS.astype(np.float64) * np.linspace(0.5, 1.5, 50) @ TRAINING.T.astype(np.float64)
    np.testing.assert_allclose(gram, reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf:gamma=1", "cosine", "polynomial:c=1:d=3", "laplacian", "weighted"])
def test_a_row_of_the_gram_matrix_is_the_same_to_the_bit_alone_and_among_others(kernel):
    learner = fitted(f"svm:kernel={kernel}")
    gram = learner.kernel.gram(OTHERS)
    assert (gram.shape, gram.dtype) == ((15, 40), np.float64)
    for row in range(15):
        np.testing.assert_array_equal(learner.kernel.gram(OTHERS[row : row + 1]), gram[row : row + 1])
        np.testing.assert_array_equal(
            learner.estimator.predict(gram[row : row + 1]), learner.estimator.predict(gram)[row : row + 1]
        )
    assert learner.kernel.gram(OTHERS[:0]).shape == (0, 40)


# Gram matrices of other functions than kernels


def test_an_indefinite_gram_matrix_is_reported_with_its_eigenvalues():
    eigenvalues = np.linalg.eigvalsh(np.linalg.norm(TRAINING[:, None] - TRAINING.astype(np.float64), axis=-1))
    [note] = fitted("svm:kernel=distance").notes
    assert "distance is not positive semi-definite" in note
    assert f"smallest eigenvalue {eigenvalues[0]:.3g}, largest {eigenvalues[-1]:.3g}" in note


@pytest.mark.parametrize("kernel", ["rbf:gamma=1", "cosine", "polynomial", "laplacian"])
def test_nothing_is_reported_about_a_kernel_even_of_equal_tracks(kernel):
    assert fitted(f"svm:kernel={kernel}").notes == []
    described = REGISTRY.provenance("similarity", Spec.parse(kernel))
    doubled = Kernel.create(REGISTRY, described, np.repeat(TRAINING, 2, axis=0))
    assert doubled.notes(doubled.training_gram()) == []


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("lopsided", r"lopsided of mirembed-lopsided 1\.0 is not a kernel.* 0\.\d+"),
        ("endless", r"endless of mirembed-endless 1\.0 .*not finite"),
    ],
)
def test_a_similarity_that_cannot_be_a_kernel_is_an_error(kernel, message):
    with pytest.raises(PluginError, match=message):
        fitted(f"svm:kernel={kernel}")


# Errors


@pytest.mark.parametrize(
    ("learner", "approaches", "reasons"),
    [
        ("svm:kernel=match", ["rbf-sl", "nn", "fl"], "nn, fl: no similarity is learned"),
        ("svm:gamma=match", ["fl"], "fl: no similarity is learned"),
        (
            "svm:gamma=match,kernel=polynomial:d=3",
            ["cosine-sl", "fl", "rbf-sl"],
            "cosine-sl: the similarity cosine has no gamma; fl: no similarity is learned",
        ),
    ],
)
def test_the_error_about_a_kernel_that_cannot_match_lists_the_approaches(learner, approaches, reasons):
    with pytest.raises(SpecError) as error:
        describe_plugins(experiment(*approaches, learner=learner), REGISTRY)
    assert f"learner {learner} " in str(error.value)
    assert f"({reasons})" in str(error.value)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("svm:kernel=poly", "similarity.*'poly'.*polynomial"),
        ("svm:kernel=cosine,gamma=2", "cosine.*'gamma'"),
        ("svm:kernel=polynomial:d=0", "d is 0"),
        ("svm:kernel=polynomial:gamma=2,gamma=3", "'gamma'.*twice"),
        ("svm:kernel=match:gamma=2", "'match:gamma=2'"),
        ("svm:kernel=a b", "'a b'"),
    ],
)
def test_an_invalid_kernel_is_refused_before_anything_is_trained(learner, message):
    with pytest.raises((SpecError, PluginError), match=message):
        describe_plugins(experiment("rbf-sl", learner=learner), REGISTRY)


# Learners of others


@pytest.fixture
def ridge() -> Callable[..., Any]:
    """The learner of docs/plugin-authors.md that names its kernel."""
    [code] = [code for code in blocks(read("docs/plugin-authors.md"), "python") if "kernel_similarity" in code]
    defined: dict[str, Any] = {}
    exec(code, defined)
    return defined["Ridge"]


class Naming:
    """A learner that only names a kernel."""

    def __init__(self, kernel_similarity: Any) -> None:
        self.kernel_similarity = kernel_similarity


class Mistaken:
    @property
    def kernel_similarity(self) -> str:
        raise RuntimeError("no kernel today")


def with_learner(factory: Callable[[], Any]) -> Registry:
    return Registry([*REGISTRY.plugins, Plugin("learner", "ridge", factory, "", "mirembed-ridge", "1.0")])


@pytest.mark.parametrize("learner", ["ridge:alpha=0.5", "ridge:alpha=0.5,kernel=rbf:gamma=2"])
def test_a_third_party_learner_may_use_a_similarity_as_its_kernel(ridge, learner):
    learned = fitted(learner, TARGETS, "rbf:gamma=2-sl", with_learner(ridge))
    y = TargetScale.fit(TARGETS, LABELS[TARGETS]).scale(LABELS[TARGETS])
    reference = KernelRidge(alpha=0.5, kernel="rbf", gamma=2).fit(TRAINING.astype(np.float64), y)
    np.testing.assert_allclose(predicted(learned), reference.predict(OTHERS.astype(np.float64)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("factory", [lambda: Naming(None), object], ids=["none", "no member"])
def test_a_third_party_learner_need_not_name_a_kernel(factory):
    described = describe_plugins(experiment("fl", learner="ridge"), with_learner(factory))
    assert "kernels" not in described["learners"]["ridge"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: Naming(3), r"learner ridge of mirembed-ridge 1\.0 .*kernel_similarity is 3\b"),
        (Mistaken, r"ridge of mirembed-ridge 1\.0 .*no kernel today"),
    ],
)
def test_the_error_names_a_learner_with_an_invalid_kernel(factory, message):
    with pytest.raises(PluginError, match=message):
        describe_plugins(experiment(learner="ridge"), with_learner(factory))


# Models


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Store:
    return write_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> Store:
    return write_targets(tmp_path_factory.mktemp("targets"))


@pytest.fixture
def kernel_model(classes, tmp_path) -> Iterator[tuple[Model, Path]]:
    """A model of ``rbf-sl`` whose learner has a third-party kernel, and its folder."""
    model = fit_models(job(open_tracks(classes), learner="svm:kernel=laplacian"), REGISTRY).models["rbf-sl"]
    model.save(tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize("learner", ["svm:kernel=match", "svm:kernel=laplacian"])
@pytest.mark.parametrize("task", ["classes", "targets"])
def test_a_loaded_model_predicts_as_the_saved_one_to_the_bit_alone_and_among_others(request, tmp_path, task, learner):
    tracks = open_tracks(request.getfixturevalue(task))
    model = fit_models(job(tracks, "rbf-sl", learner=learner), REGISTRY).models["rbf-sl"]
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", REGISTRY)
    embeddings = model.embed(
        tracks.frames["logmel"].open(), tracks.frames["logmel"].starts, tracks.frames["logmel"].lengths
    )
    predictions = loaded.predict(embeddings)
    np.testing.assert_array_equal(predictions, model.predict(embeddings))
    assert np.ptp(predictions) > 0
    np.testing.assert_array_equal(loaded.predict(embeddings[5:6]), predictions[5:6])
    np.testing.assert_array_equal(loaded.kernel.embeddings, embeddings)


def test_a_model_stores_the_name_and_parameters_of_its_kernel_and_no_code(kernel_model):
    _, folder = kernel_model
    assert {path.name for path in folder.iterdir()} == {"model.json", "network.safetensors", "learner.skops"}
    kernel = read_json(folder / "model.json")["kernel"]
    assert kernel.pop("code").startswith("sha256:")
    assert kernel == {
        "kind": "similarity",
        "spec": "laplacian",
        "name": "laplacian",
        "distribution": "mirembed-laplacian",
        "version": "1.0",
        "parameters": {"gamma": 0.1},
    }


def test_the_error_about_a_missing_kernel_says_what_to_install(kernel_model):
    _, folder = kernel_model
    with pytest.raises(ModelError, match=f"{folder} needs the similarity 'laplacian' .*mirembed-laplacian==1.0$"):
        Model.load(folder, Registry.discover())


def test_a_model_keeps_its_kernels_parameters_when_the_plugins_defaults_change(kernel_model):
    model, folder = kernel_model

    def later(gamma: float = 7.0, scale: float | None = None) -> Laplacian:
        return Laplacian(gamma)

    changed = similarity("laplacian", later, version="2.0")
    loaded = Model.load(folder, Registry([*Registry.discover().plugins, changed]))
    assert loaded.kernel.similarity.similarity.gamma == 0.1
    np.testing.assert_array_equal(loaded.predict(OTHERS), model.predict(OTHERS))


def test_a_kernel_can_match_the_similarity_of_a_reused_network(classes, targets, tmp_path):
    models = fit_models(job(open_tracks(classes), "rbf:gamma=2-sl"), REGISTRY).models
    models |= fit_models(job(open_tracks(classes), "fl"), REGISTRY).models
    for name, model in models.items():
        model.provenance = {**model.provenance, "seed": 0, "dataset": {"digest": ""}, "settings": {"epochs": 2}}
        model.save(tmp_path / name)

    def reuse(network: str) -> Path:
        tracks, learner = open_tracks(targets), Spec.parse("svm:kernel=match")
        return transfer(tracks, targets, tmp_path / network, learner, REGISTRY, tmp_path).folder

    taken = Model.load(reuse("rbf:gamma=2-sl"), REGISTRY)
    assert taken.kernel.described["parameters"] == {"gamma": 2.0}
    assert taken.provenance["learner"]["kernels"]["rbf:gamma=2-sl"]["spec"] == "rbf:gamma=2"
    assert len(taken.kernel.embeddings) == 24
    with pytest.raises(SpecError, match="fl: no similarity is learned"):
        reuse("fl")


# Evaluating


def test_a_run_records_the_kernel_of_each_approach_and_keeps_models_that_have_it(classes, tmp_path):
    with workers_run():
        settings = experiment(
            "rbf:gamma=2-sl", "cosine-sl", epochs=2, learner="svm:kernel=match", cv=2, keep_models=True
        )
        run, _ = evaluate(open_tracks(classes), settings, REGISTRY, tmp_path)
    kernels = run.manifest["configuration"]["learners"]["svm:kernel=match"]["kernels"]
    assert {name: kernel["spec"] for name, kernel in kernels.items()} == {
        "rbf:gamma=2-sl": "rbf:gamma=2",
        "cosine-sl": "cosine",
    }
    model = Model.load(run.folder / "models" / "cosine-sl-seed0-fold1", REGISTRY)
    assert (model.kernel.described["name"], len(model.kernel.embeddings)) == ("cosine", 9)
    assert [note for note in read_json(run.folder / "notes.json") if not note.startswith("warning: ")] == []


DISTANCE = """
    import torch
    from mirembed import hookimpl

    @hookimpl
    def mirembed_register_similarities(register):
        register("distance", lambda: lambda x: torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"))
"""


NOTE = "the Gram matrix of distance is not positive semi-definite (smallest eigenvalue -"


def test_a_warning_about_an_indefinite_gram_matrix_reaches_user_and_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install(tmp_path / "site", "mirembed-distance", DISTANCE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    write_classes(tmp_path / "mirembed-store", n_tracks=12)
    with workers_run():
        invoke(
            "fit", "--approach", "nn", "--approach", "fl", "--learner", "svm:kernel=distance", "--epochs=1", "--json"
        )
    printed = capsys.readouterr()
    baseline, model = json.loads(printed.out)["models"]
    [note] = read_json(Path(model["model"]) / "model.json")["provenance"]["notes"]
    assert note.startswith(NOTE)
    assert (baseline["notes"], model["notes"]) == ([], [note])
    assert f"warning: fl: {note}\n" in printed.err


def test_a_warning_about_an_indefinite_gram_matrix_reaches_user_and_run(mirembed, tmp_path):
    write_classes(mirembed.folder / "mirembed-store", n_tracks=12)
    site = install(tmp_path / "site", "mirembed-distance", DISTANCE)
    chosen = ["--similarity", "rbf", "--approach", "fl", "--learner", "svm:kernel=distance"]
    run = mirembed(
        "evaluate", *chosen, "--cv", "3", "--network", "mlp", "--epochs", "1", "--jobs", "1", "--json", env=site
    )
    notes = read_json(mirembed.folder / json.loads(run.stdout)["run"] / "notes.json")
    assert sum(NOTE in note for note in notes) == 6
    for approach in ("fl", "rbf-sl"):
        of_approach = [note for note in notes if note.startswith(f"{approach}: {NOTE}")]
        assert [note.rpartition(" (")[2] for note in of_approach] == [f"seed 0, fold {fold})" for fold in range(3)]
        assert f"warning: {of_approach[0]}; the run's notes.json has 2 more of these\n" in run.stderr
    assert run.stderr.count(NOTE) == 2


def test_matching_fails_at_once_where_no_similarity_is_learned(mirembed):
    write_classes(mirembed.folder / "mirembed-store", n_tracks=12)
    chosen = ["--approach", "rbf-sl", "--approach", "nn", "--approach", "fl", "--learner", "svm:kernel=match"]
    failed = mirembed("evaluate", *chosen, code=1)
    assert failed.stderr.startswith("error: ")
    assert "svm:kernel=match" in failed.stderr
    assert "(nn, fl: no similarity is learned)" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_files_are_predicted_with_a_matching_kernel(tones, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with workers_run():
        invoke("extract", "--dataset", "folder", "--audio", str(tones))
        invoke("fit", "--learner", "svm:kernel=match", "--network", "mlp", "--epochs", "5", "--name", "mine")
        capsys.readouterr()
        invoke("predict", "mine", str(tones / "low"), "--json")
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    assert len(predictions) == 6
    assert {row["label"] for row in predictions} <= {"low", "middle", "high"}
