"""Ensembles: several networks from different seeds that are trained, kept and used as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import invoke
from small_store import evaluate, experiment, job, open_tracks, workers_run, write_classes, write_targets

from mirembed.errors import SpecError
from mirembed.evaluate.estimate import estimate
from mirembed.evaluate.experiment import plan_experiment
from mirembed.fit import fit, transfer
from mirembed.fit.job import Fitted, fit_models
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_json, read_table
from mirembed.store.tracks import Tracks
from mirembed.training.excerpts import Stream

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_classes(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tracks(store) -> Tracks:
    return open_tracks(store)


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> Tracks:
    return open_tracks(write_targets(tmp_path_factory.mktemp("targets")))


def fitted(tracks: Tracks, *approaches: str, **settings: Any) -> Fitted:
    return fit_models(job(tracks, *approaches, **settings), REGISTRY)


def embeddings_of(model: Model, tracks: Tracks) -> np.ndarray:
    frames = tracks.frames["logmel"]
    return model.embed(frames.open(), frames.starts, frames.lengths)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_the_first_network_is_the_one_that_would_be_trained_alone(tracks, engine):
    alone, together = (fitted(tracks, "nn", "fl", ensemble=n, engine=engine) for n in (1, 3))
    first, *others = together.models["fl"].members
    for name, array in alone.models["fl"].network.arrays.items():
        np.testing.assert_array_equal(first.arrays[name], array)
        assert not any(np.array_equal(other.arrays[name], array) for other in others)
    np.testing.assert_array_equal(together.embeddings[:, :50], alone.embeddings)
    assert together.embeddings.shape == (18, 150)


@pytest.mark.parametrize("approach", ["rbf-sl", "untrained"])
def test_members_differ_and_depend_on_seed_fold_and_number_alone(tracks, approach):
    two, three = (fitted(tracks, approach, ensemble=n).models[approach].members for n in (2, 3))
    for ours, theirs in zip(two, three, strict=False):
        for name, array in ours.arrays.items():
            np.testing.assert_array_equal(theirs.arrays[name], array)
    described = job(tracks, approach, ensemble=2)
    moved = replace(described, settings=replace(described.settings, fold=1))
    for ours, theirs in zip(two, fit_models(moved, REGISTRY).models[approach].members, strict=True):
        name = next(iter(ours.arrays))
        assert not np.array_equal(ours.arrays[name], theirs.arrays[name])


def test_no_member_draws_what_another_stream_draws():
    streams = {(0, 0, stream) for stream in Stream if stream != Stream.MEMBER}
    members = {(0, 0, int(Stream.MEMBER), number, stream) for number in range(1, 9) for stream in range(4)}
    states = {tuple(np.random.SeedSequence(entropy).generate_state(4)) for entropy in streams | members}
    assert len(states) == len(streams) + len(members)


@pytest.mark.parametrize("data", ["tracks", "targets"])
def test_the_outputs_of_nn_are_the_mean_of_those_of_its_networks(request, data):
    tracks = request.getfixturevalue(data)
    model = fitted(tracks, "nn", ensemble=3).models["nn"]
    embeddings = embeddings_of(model, tracks)
    members = [replace(model, network=member) for member in model.members]
    n_outputs = len(model.head.bias)
    weights = np.split(model.head.weight * 3, 3, axis=1)  # of the mean: a third of each network's own
    assert all(weight.shape == (n_outputs, 50) for weight in weights)
    parts = [embeddings_of(member, tracks) @ weight.T for member, weight in zip(members, weights, strict=True)]
    expected = np.mean(parts, axis=0) + model.head.bias
    np.testing.assert_allclose(model.head(embeddings), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("learner", ["svm", "svm:kernel=match"])
def test_a_loaded_ensemble_embeds_and_predicts_as_the_saved_one_to_the_bit(tracks, tmp_path, learner):
    model = fitted(tracks, "rbf-sl", ensemble=2, learner=learner, engine="torch").models["rbf-sl"]
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", REGISTRY)
    embeddings = embeddings_of(model, tracks)
    assert embeddings.shape == (18, 100)
    np.testing.assert_array_equal(embeddings_of(loaded, tracks), embeddings)
    np.testing.assert_array_equal(loaded.predict(embeddings), model.predict(embeddings))
    np.testing.assert_array_equal(loaded.probabilities(embeddings), model.probabilities(embeddings))
    assert read_json(tmp_path / "model" / "model.json")["network"]["members"] == 2


def interrupting(epochs: int) -> Callable[[int], None]:
    def on_epoch(epoch: int) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    return on_epoch


@pytest.mark.parametrize("epochs", [9, 23, 31])
def test_a_resumed_ensemble_equals_an_uninterrupted_one_to_the_bit(tracks, tmp_path, epochs):
    """Interrupted in the first and the second network, before and after checkpoints."""
    described = job(tracks, "nn", "fl", ensemble=2, epochs=21, checkpoint_every=7)
    checkpoints: dict[int, np.ndarray] = {}
    scored: dict[int, np.ndarray] = {}

    def into(found: dict[int, np.ndarray]) -> Callable[[int, Fitted], None]:
        return lambda epoch, models: found.__setitem__(epoch, models.embeddings)

    whole = fit_models(described, REGISTRY, on_checkpoint=into(checkpoints))
    kept = replace(described, checkpoint=tmp_path / "kept.safetensors")
    with pytest.raises(KeyboardInterrupt):
        fit_models(kept, REGISTRY, interrupting(epochs), into(scored))
    resumed = fit_models(kept, REGISTRY, on_checkpoint=into(scored))
    assert resumed.losses == whole.losses
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    assert scored.keys() == checkpoints.keys() == {7, 14}
    for epoch, embeddings in checkpoints.items():
        np.testing.assert_array_equal(scored[epoch], embeddings)


def test_an_evaluation_with_ensembles_keeps_and_resumes_them(tracks, tmp_path):
    settings = experiment("nn", "fl", epochs=3, cv=2, ensemble=2, checkpoint_every=1, keep_models=True)
    with workers_run():
        run, scores = evaluate(tracks, settings, REGISTRY, tmp_path)
    assert len(scores) == 2
    model = Model.load(run.models / "fl-seed0-fold0", REGISTRY)
    assert len(model.members) == 2
    assert set(read_table(run.folder / "checkpoints.parquet")["epoch"].to_pylist()) == {1, 2, 3}
    assert len(read_table(run.folder / "curves.parquet")) == 3 * 2 * 2
    assert len(read_table(run.folder / "embeddings" / "baseline-seed0-fold0.parquet")["embedding"][0]) == 100
    assert run.manifest["configuration"]["ensemble"] == 2


def test_a_fitted_ensemble_is_one_model_whose_networks_can_be_reused(store, tracks, tmp_path):
    with workers_run():
        settings = experiment("fl", epochs=2, ensemble=2)
        [entry] = fit(tracks, store, settings, REGISTRY, tmp_path, seed=0, jobs=1)
    assert len(read_table(entry.embeddings)["vector"][0]) == 100
    again = transfer(tracks, store, entry.folder, Spec("svm"), REGISTRY, tmp_path)
    assert len(Model.load(again.folder, REGISTRY).members) == 2


def test_a_dry_run_counts_all_networks(store):
    with workers_run():
        planned = plan_experiment([experiment("fl", "stats", cv=3, ensemble=4)], store, REGISTRY)
        [cost] = estimate(planned, jobs=1).costs
    assert cost.trainings == 12
    assert [(part.trainings, part.ensemble) for part in cost.parts] == [(3, 4), (3, 1)]


@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize("number", [0, -1])
def test_an_ensemble_of_no_network_is_refused(command, number, capsys):
    invoke(command, "--ensemble", str(number), code=1)
    assert f"--ensemble is {number}" in capsys.readouterr().err


def test_an_ensemble_without_a_network_to_train_is_refused():
    with pytest.raises(SpecError, match="--ensemble 3"):
        experiment("stats", "chance", ensemble=3).check()


def test_the_ensemble_of_an_experiment_file_is_read(tmp_path, capsys):
    path = Path(tmp_path / "experiment.toml")
    path.write_text("ensemble = 0\n")
    invoke("evaluate", "--config", str(path), code=1)
    assert "--ensemble is 0" in capsys.readouterr().err
