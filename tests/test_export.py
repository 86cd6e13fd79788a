"""``mirembed export``: networks as ONNX files, and the cards of models."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pages import invoke
from small_networks import REGISTRY, Odd, network, seeded, with_network
from small_store import evaluate, experiment, open_tracks, workers_run, write_classes
from torch import Tensor, nn

from mirembed import Classification
from mirembed.errors import ModelError
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.fit import fit
from mirembed.model_card import write_card
from mirembed.models.model import Model
from mirembed.models.onnx import export_onnx
from mirembed.models.saved import model_faults
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.network import PluginNetwork
from mirembed.training.weights import Ensemble, NetworkWeights

FRAMES = resolve_features(REGISTRY, "logmel:bands=4")
VECTOR = FeaturesInfo(FRAMES.spec, tuple(replace(part, hop=None) for part in FRAMES.parts))
EXCERPT = 10


def model_of(*networks: NetworkWeights, features: FeaturesInfo = FRAMES) -> Model:
    rng = np.random.default_rng(1)
    mean, std = rng.normal(-40, 3, 4).astype(np.float32), rng.uniform(5, 10, 4).astype(np.float32)
    return Model(
        task=Classification(("a", "b")),
        network=networks[0] if len(networks) == 1 else Ensemble(networks),
        normalization=Normalization(mean, std),
        form=InputForm.of(features.hop, EXCERPT, None),
        head=None,
        estimator=None,
        scale=None,
        features=features,
    )


def weights(spec: str, inputs: int = 8, seed: int = 0) -> NetworkWeights:
    return NetworkWeights.of(seeded(spec, inputs, [seed, 0]), network(spec).choice, inputs, REGISTRY)


def run(path: Path, frames: np.ndarray, lengths: list[int]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"frames": frames, "lengths": np.array(lengths)})[0]


# ONNX


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            lambda: model_of(weights("gru:hidden=6,units=3"), weights("gru:hidden=6,units=3", seed=1)), id="gru"
        ),
        pytest.param(lambda: model_of(weights("gru:hidden=5,units=3,bidirectional=true,cell=lstm")), id="lstm"),
        pytest.param(lambda: model_of(weights("crnn:maps=2,hidden=5,units=3,planes=2")), id="crnn"),
        pytest.param(lambda: model_of(weights("mlp:hidden=6,units=3", inputs=4), features=VECTOR), id="mlp"),
    ],
)
def test_an_exported_network_embeds_tracks_of_any_length_as_the_model_does(model, tmp_path):
    model = model()
    written = export_onnx(model, tmp_path / "network.onnx")
    assert (written.values, written.units) == (4, model.network.units)
    assert written.difference < 1e-5
    lengths = [1, 1] if model.features.hop is None else [37, 4, 21]
    frames = np.full((len(lengths), max(lengths), 4), np.nan, np.float32)  # what lies after a track is ignored
    tracks = [np.random.default_rng(n).normal(-40, 8, (n + 1, 4)).astype(np.float32)[:n] for n in lengths]
    for row, track in enumerate(tracks):
        frames[row, : len(track)] = track
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    expected = model.embed(np.concatenate(tracks), starts, np.array(lengths))
    np.testing.assert_allclose(run(written.path, frames, lengths), expected, rtol=0, atol=1e-5)
    for track, embedding in zip(tracks, expected, strict=True):
        np.testing.assert_allclose(run(written.path, track[None], [len(track)])[0], embedding, rtol=0, atol=1e-5)


class Mixing(nn.Module):
    """Lets the embedding of a track depend on its batch, which no network may do."""

    units = 8

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        pooled = (frames * inside[:, :, None]).sum(dim=1)
        return pooled + pooled.mean(dim=0)


class Unknown(nn.Module):
    """Uses what ONNX does not have."""

    units = 8

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        return torch.special.bessel_j0(frames).mean(dim=1)


@pytest.mark.parametrize("module", [Mixing, Unknown])
def test_a_network_that_onnx_does_not_express_is_refused_and_nothing_is_written(module, tmp_path):
    registry = with_network(lambda: Odd(lambda inputs: module()))
    choice = PluginNetwork.create(registry, Spec("odd")).choice
    with pytest.raises(ModelError, match=r"odd of mirembed-odd 1\.0"):
        export_onnx(model_of(NetworkWeights(choice, 8, 8, {}, registry)), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


# The command and the card


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A store with a model that was evaluated, and one that was not."""
    store = write_classes(tmp_path_factory.mktemp("store"))
    tracks = open_tracks(store)
    with workers_run():
        for approach in ("rbf-sl", "nn"):
            settings = experiment(approach, epochs=1, network=("gru:hidden=4,units=3",))
            fit(
                tracks, store, settings, REGISTRY, store.models, seed=3, jobs=1, name=approach, command="mirembed fit x"
            )
        evaluate(tracks, replace(settings, approach=("rbf-sl",), cv=2), REGISTRY, store.runs)
    return store


def test_the_command_writes_the_network_with_what_its_users_need(store, tmp_path, capsys):
    path = tmp_path / "rbf.onnx"
    invoke("export", "rbf-sl", "--store", str(store.root), "--onnx", str(path), "--json")
    content = json.loads(capsys.readouterr().out)["onnx"]
    assert (content["values"], content["units"]) == (40, 3)
    assert content["difference"] < 1e-5
    facts = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert (facts["mirembed.model"], facts["mirembed.features"]) == ("rbf-sl", "logmel")
    assert facts["mirembed.digest"] == Model.load(store.models / "rbf-sl", REGISTRY).provenance["digest"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--onnx FILE"),
        (["--onnx", "model.txt"], r"--onnx model\.txt: expected .*\.onnx"),
        (["--card", "model.txt"], r"--card model\.txt: expected .*\.md"),
        (["--onnx", "nowhere/model.onnx"], "nowhere does not exist"),
        (["--onnx", "taken.onnx"], r"taken\.onnx already exists.*--force"),
    ],
)
def test_wrong_files_are_refused_before_the_model_is_read(store, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    Path("taken.onnx").write_text("mine")
    monkeypatch.setattr(Model, "load", None)
    invoke("export", "rbf-sl", "--store", str(store.root), *flags, code=1)
    assert re.search(words, capsys.readouterr().err)
    assert Path("taken.onnx").read_text() == "mine"


def test_a_card_states_data_scores_licenses_and_use(store, tmp_path, capsys):
    path = tmp_path / "card.md"
    invoke("export", "rbf-sl", "--store", str(store.root), "--card", str(path))
    card = path.read_text(encoding="utf-8")
    (run,) = store.runs.iterdir()
    score = json.loads((run / "scores.json").read_text())["rbf-sl"]["accuracy"]["mean"]
    assert f"| {run.name} | 2 stratified folds | accuracy | {score:.3f} [" in card
    facts = ("18 tracks", "3 classes", "1 epoch", "gru:hidden=4,units=3", "mirembed fit x", "AGPL-3.0-or-later")
    facts += ('mirembed.load("rbf-sl")', "mirembed embed rbf-sl", "3 values")
    assert [fact for fact in facts if fact not in card] == []


def test_a_model_that_was_not_evaluated_in_the_same_way_has_no_scores(store):
    text = write_card(store.models / "nn", store, REGISTRY).read_text(encoding="utf-8")
    assert "| run |" not in text
    assert "mirembed evaluate" in text


def test_a_card_lists_the_code_of_every_plugin(store, tmp_path):
    folder = shutil.copytree(store.models / "rbf-sl", tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    manifest["network"]["plugin"]["distribution"] = "third-party"
    (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "- Code of third-party: " in write_card(folder, store, REGISTRY).read_text(encoding="utf-8")


def test_a_card_may_be_edited_or_deleted_and_the_model_stays_sound(store):
    folder = store.models / "nn"
    card = write_card(folder, store, REGISTRY)
    change: Callable[[], Any]
    for change in (lambda: card.write_text("mine"), card.unlink):
        change()
        assert list(model_faults(folder)) == []
        assert Model.load(folder, REGISTRY).provenance["approach"] == "nn"
