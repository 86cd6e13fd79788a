"""The built-in plugins pass the checks in `mirembed.testing`."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_ballroom_dataset as ballroom
import test_emotify_dataset as emotify
import test_gtzan_dataset as gtzan
import test_lastfm_dataset as lastfm
import test_magnatagatune_dataset as magnatagatune
import test_mediaeval2013_dataset as mediaeval2013
import test_mtg_jamendo_dataset as mtg_jamendo
from tagged_files import tagged, write_sound

from mirembed.registry import HOST, Registry
from mirembed.specs import Spec
from mirembed.testing import checks, features_checks, learner_checks, network_checks, similarity_checks


def write_folder(folder: Path) -> Path:
    return lastfm.make_files(folder, "low/0.wav", "low/1.wav", "high/0.wav")


def write_tags(folder: Path) -> Path:
    write_folder(folder)
    (folder / "labels.csv").write_text("path,tags\nlow/0.wav,calm;slow\nlow/1.wav,\nhigh/0.wav,slow\n")
    return folder


def write_demo(folder: Path) -> Path:
    return lastfm.make_files(folder, "waltz/waltz-00.wav", "jig/jig-03.wav")


def write_library(folder: Path) -> Path:
    tagged(folder / "a" / "1.flac", artist="Ann", album="Ten", genre=["Rock", "Jazz"], mood="calm", date="1999")
    tagged(folder / "b" / "2.ogg", artist="Bob", album="Two", genre="rock", mood="warm", date="2009")
    write_sound(folder / "3.wav")
    (folder / "mix.m3u").write_text("a/1.flac\nb/2.ogg\n")
    return folder


COPIES = {
    "ballroom": lambda folder: ballroom.make_copy(folder, most=2),
    "demo": write_demo,
    "demo:task=regression": write_demo,
    "demo:task=tags": write_demo,
    "emotify": emotify.make_copy,
    "emotify:task=tags,threshold=0.5": emotify.make_copy,
    "folder": write_folder,
    "folder:labels=labels.csv,tags=tags": write_tags,
    **{
        f"library:label={label},min_tracks=1": write_library
        for label in ("genre", "artist", "album", "year", "mood", "folder", "playlists", "none")
    },
    "gtzan": gtzan.make_copy,
    "lastfm": lambda folder: lastfm.make_files(folder, *lastfm.SONGS),
    "magnatagatune": magnatagatune.make_copy,
    "mediaeval2013": mediaeval2013.make_copy,
    "mtg_jamendo": mtg_jamendo.make_copy,
}
SIMILARITIES = ("rbf", "rbf:gamma=2.5", "cosine", "polynomial", "polynomial:gamma=0.5,c=1,d=3")
LEARNERS = ("svm", "svm:C=10,gamma=0.5,epsilon=0.01", "svm:class_weight=balanced")
FEATURES = (
    *("chroma", "chroma:size=36", "descriptors", "logmel", "logmel:backend=scipy"),
    *("semitones", "semitones:bands=36"),
    "logmel:bands=80,frame=0.03,hop=0.01,scale=htk,low=0,high=8000",
)
NETWORKS = (
    *("gru", "gru:cell=lstm,hidden=9,units=7,layers=3,dropout=0.3", "gru:bidirectional=true,hidden=9,units=7"),
    *("gru:pooling=mean+std", "gru:pooling=attention", "crnn:maps=3,hidden=9,units=7", "mlp", "mlp:layers=4,units=7"),
)


@features_checks(*FEATURES)
def test_the_built_in_features_pass_every_check(check):
    check()


@network_checks(*NETWORKS)
def test_the_built_in_networks_pass_every_check(check):
    check()


@similarity_checks(*SIMILARITIES)
def test_the_built_in_similarities_pass_every_check(check):
    check()


@learner_checks(*LEARNERS)
def test_the_built_in_learners_pass_every_check(check):
    check()


# Without dataset_checks, which takes only one audio folder.
@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=str(check)) for spec, copy in COPIES.items() for check in checks("dataset", spec, copy)],
)
def test_the_built_in_datasets_pass_every_check(check):
    check()


def test_every_built_in_plugin_is_checked():
    own = {(plugin.kind, plugin.name) for plugin in Registry.discover().plugins if plugin.distribution == HOST}
    specs = {
        **{"similarity": SIMILARITIES, "learner": LEARNERS, "dataset": COPIES},
        # The last two read a file, with which their own tests check them.
        **{"features": (*FEATURES, "vectors", "onnx"), "network": NETWORKS},
    }
    assert own == {(kind, Spec.parse(spec).name) for kind, texts in specs.items() for spec in texts}
