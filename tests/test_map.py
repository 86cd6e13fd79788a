"""The map of a library: where tracks are, their neighbors, and what is written."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import CLASSES, RATE, Command, run_here, tone
from mutagen.id3 import TALB, TCON, TDRC, TIT2, TPE1
from mutagen.wave import WAVE
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from small_map import library_map
from small_store import experiment, open_tracks, workers_run, write_tags, write_targets

from mirembed import errors
from mirembed.fit import fit
from mirembed.library.collection import Collection
from mirembed.library.map import draw_map, folders_of
from mirembed.library.map_page import N_COLORS, render
from mirembed.library.nearest import nearest
from mirembed.library.projection import principal_components, trustworthiness, umap_positions
from mirembed.models.model import Model, named_predictions
from mirembed.registry import Registry
from mirembed.registry.discovery import selecting
from mirembed.specs import Spec
from mirembed.store import Store

STYLE = Path(sys.modules["mirembed"].__file__).parent / "library" / "templates" / "map.css"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of 18 files with file tags, in ``music``, and a store with a model of it."""
    folder = tmp_path_factory.mktemp("library")
    for position, (name, frequency) in enumerate(CLASSES.items()):
        (folder / "music" / name).mkdir(parents=True)
        for number in range(6):
            path = folder / "music" / name / f"{name}-{number}.wav"
            soundfile.write(path, tone(frequency, 3, 100 * position + number), RATE, subtype="PCM_16")
            if number:
                tag(path, f"{name.title()} {number}", f"Band {number % 2}", name, 1990 + number)
    for words in ("extract --dataset folder --audio music", "fit --similarity rbf --epochs 2 --network mlp --name m"):
        completed = run_here(folder, words.split())
        assert completed.returncode == 0, completed.stderr
    return folder


def tag(path: Path, title: str, artist: str, genre: str, year: int) -> None:
    file = WAVE(path)
    file.add_tags()
    for frame in (TIT2, TPE1, TALB, TCON, TDRC):
        text = {TIT2: title, TPE1: artist, TALB: "First", TCON: genre, TDRC: str(year)}[frame]
        file.tags.add(frame(encoding=3, text=[text]))
    file.save()


def drawn(folder: Path, *options: str, code: int = 0) -> SimpleNamespace:
    """Run ``mirembed map m`` in a folder."""
    completed = run_here(folder, ["map", "m", *map(str, options)])
    assert completed.returncode == code, completed.stderr
    return completed


# ---- Neighbors


LOPSIDED = """
from mirembed import hookimpl

def lopsided(x):
    differences = (x[..., :, None, :] - x[..., None, :, :]).abs()
    return (-differences[..., 0] - 0.1 * differences.sum(dim=-1)).exp()

@hookimpl
def mirembed_register_similarities(register):
    register("lopsided", lambda: lopsided, summary="of one value more than of the others")
"""
"""A similarity that no matrix product ranks like, with only what every similarity must have."""


def expected_order(similarity: str, vectors: np.ndarray) -> np.ndarray:
    """The similarities of all pairs in float64."""
    x = vectors.astype(np.float64)
    products = x @ x.T
    squares = np.square(x[:, None] - x).sum(axis=2)
    norms = np.sqrt(products.diagonal() + 1e-8)
    absolute = np.abs(x[:, None] - x)
    return {
        "cosine": products / norms / norms[:, None],
        "rbf": np.exp(-squares),
        "rbf:gamma=0.01": np.exp(-0.01 * squares),
        "polynomial": products**2,
        "polynomial:d=3,c=1": (products + 1) ** 3,
        "lopsided": np.exp(-absolute[..., 0] - 0.1 * absolute.sum(axis=2)),
    }[similarity]


@pytest.mark.parametrize(
    "similarity", ["cosine", "rbf", "rbf:gamma=0.01", "polynomial", "polynomial:d=3,c=1", "lopsided"]
)
@pytest.mark.parametrize("n", [2, 7, 300, 700])
def test_neighbors_are_the_most_similar_tracks_exactly(tmp_path: Path, similarity: str, n: int) -> None:
    (tmp_path / "lopsided.py").write_text(LOPSIDED)
    with selecting([], tmp_path):
        registry = Registry.discover()
    vectors = np.random.default_rng(n).normal(0.3, 0.4, (n, 5)).astype(np.float32)
    rows, values = nearest(registry, Spec.parse(similarity), vectors, 10)
    expected = expected_order(similarity, vectors)
    np.fill_diagonal(expected, -np.inf)
    k = min(10, n - 1)
    assert rows.shape == values.shape == (n, k)
    assert np.allclose(values, -np.sort(-expected, axis=1)[:, :k], rtol=1e-6, atol=1e-12)
    assert np.allclose(np.take_along_axis(expected, rows.astype(int), axis=1), values, rtol=1e-6, atol=1e-12)
    assert all(len(set(row)) == k for row in rows.tolist())


def test_copies_are_neighbors_of_each_other_and_no_track_is_its_own(registry: Registry) -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(0, 1, (20, 4)), 3, axis=0).astype(np.float32)
    rows, values = nearest(registry, Spec("cosine"), vectors, 2)
    assert [sorted(row) for row in rows.tolist()] == [
        sorted({3 * (row // 3), 3 * (row // 3) + 1, 3 * (row // 3) + 2} - {row}) for row in range(60)
    ]
    assert np.allclose(values, 1)


def test_neighbors_are_ranked_even_if_similarities_vanish_in_float32(registry: Registry) -> None:
    vectors = np.arange(100, dtype=np.float32)[:, None] * 11 + np.zeros((1, 3), np.float32)
    rows, values = nearest(registry, Spec("rbf"), vectors, 2)
    assert sorted(rows[50].tolist()) == [49, 51]
    assert np.allclose(values[50], np.exp(-363.0), rtol=1e-6, atol=0)


def test_one_track_has_no_neighbors(registry: Registry) -> None:
    rows, values = nearest(registry, Spec("rbf"), np.ones((1, 3), np.float32), 10)
    assert rows.shape == values.shape == (1, 0)


# ---- Positions


def test_pca_gives_the_first_two_principal_components() -> None:
    vectors = np.random.default_rng(0).normal(0, [5, 3, 1, 0.5], (50, 4)).astype(np.float32)
    positions, shares = principal_components(vectors)
    reference = PCA(2, svd_solver="full").fit(vectors.astype(np.float64))
    expected = reference.transform(vectors.astype(np.float64))
    assert np.allclose(np.abs(positions), np.abs(expected), atol=1e-5)
    assert np.allclose(shares, reference.explained_variance_ratio_, atol=1e-6)
    assert (positions[np.abs(positions).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (5, 1), (3, 2)])
def test_pca_of_few_tracks_or_units_has_two_columns(shape: tuple[int, int]) -> None:
    positions, shares = principal_components(np.ones(shape, np.float32))
    assert positions.tolist() == [[0, 0]] * shape[0]
    assert shares.tolist() == [0, 0]


def test_trustworthiness_is_that_of_scikit_learn(registry: Registry) -> None:
    vectors = np.random.default_rng(0).normal(0, 1, (100, 6)).astype(np.float32)
    positions, _ = principal_components(vectors)
    found = trustworthiness(registry, Spec("rbf", {"gamma": "0.1"}), vectors, positions, seed=0)
    assert found.value == pytest.approx(sklearn_trustworthiness(vectors, positions, n_neighbors=10), abs=1e-9)
    assert (found.neighbors, found.sample) == (10, 100)


def test_trustworthiness_of_many_tracks_is_measured_on_a_sample(registry: Registry) -> None:
    vectors = np.random.default_rng(0).normal(0, 1, (2500, 2)).astype(np.float32)
    found = trustworthiness(registry, Spec("rbf"), vectors, vectors.astype(np.float64), seed=0)
    assert found.sample == 2000
    assert found.value == pytest.approx(1, abs=1e-6)
    assert trustworthiness(registry, Spec("rbf"), vectors[:2], vectors[:2].astype(np.float64), seed=0) is None


@pytest.mark.slow
def test_umap_keeps_neighbors_together_and_a_seed_repeats_it(registry: Registry, fitted: Path) -> None:
    """In a library too. All in one test, because UMAP is compiled when it is used for the first time."""
    rng = np.random.default_rng(0)
    vectors = (np.repeat(rng.normal(0, 4, (3, 8)), 20, axis=0) + rng.normal(0, 0.3, (60, 8))).astype(np.float32)
    rows, values = nearest(registry, Spec("rbf", {"gamma": "0.05"}), vectors, 14)
    positions = umap_positions(vectors, rows, values, seed=0)
    groups = positions.reshape(3, 20, 2)
    centers = groups.mean(axis=1)
    spread = np.linalg.norm(groups - centers[:, None], axis=2).max()
    assert all(np.linalg.norm(a - b) > spread for a, b in itertools.combinations(centers, 2))
    assert np.array_equal(positions, umap_positions(vectors, rows, values, seed=0))
    assert not np.array_equal(positions, umap_positions(vectors, rows, values, seed=1))
    printed = json.loads(drawn(fitted, "--out", "u.html", "--method", "umap", "--random-seed", "3", "--json").stdout)
    assert (printed["method"], printed["explained_variance"]) == ("umap", None)


def test_umap_needs_some_tracks() -> None:
    with pytest.raises(errors.MirembedError, match="--method pca"):
        umap_positions(np.ones((3, 2), np.float32), np.zeros((3, 2), np.int32), np.ones((3, 2)), seed=0)


# ---- The page as a file


def block(page: str, name: str) -> str:
    return re.search(rf'<script type="text/plain" id="data-{name}">(.*?)</script>', page, re.DOTALL)[1]


def test_the_page_holds_the_numbers_of_the_map() -> None:
    one = library_map()
    page = render(one)
    about = json.loads(block(page, "about"))
    positions = np.frombuffer(base64.b64decode(block(page, "positions")), "<f4").reshape(-1, 2)
    assert np.allclose(positions, one.positions)
    neighbors = np.frombuffer(base64.b64decode(block(page, "neighbors")), f"<u{about['neighborWidth']}")
    assert neighbors.reshape(-1, about["k"]).tolist() == one.neighbors.tolist()
    assert json.loads(block(page, "titles")) == one.titles
    assert page == render(library_map())


def test_no_text_of_a_file_is_markup() -> None:
    hostile = ['</script><script>alert("run")</script>', "<!--<script>", "\u2028\u2029", "]]>", "<b>&amp;</b>"]
    titles = hostile * 2
    page = render(library_map(titles=titles, model="<i>m</i>", dataset="</title><script>", audio="/music/<b>x</b>"))
    assert json.loads(block(page, "titles")) == titles
    assert "alert" not in re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"<script(?! type=\"text/plain\" id=\"data-[\w-]+\")[^>]*>", page) == [
        "<script>",
        '<script type="module">',
    ]
    assert not re.search("[\u2028\u2029]", page)
    assert set(re.findall(r"(?:src|href)=(\S+)", page.partition("<script>")[0])) == {'"data:,">'}


def test_folders_are_relative_to_what_all_files_share() -> None:
    assert folders_of(["/a/b/x.mp3", "/a/c/y.mp3"], "/a/b") == ("/a", ["b", "c"], ["x.mp3", "y.mp3"])
    assert folders_of(["/a/x.mp3", "/b/y.mp3"], "/a") == ("", ["a", "b"], ["x.mp3", "y.mp3"])


# ---- Colors

PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
TRITAN = [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
"""What is left of linear RGB without one kind of cone.
Source: Machado, Oliveira & Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009."""


def linear(colors: Sequence[str]) -> np.ndarray:
    rgb = np.array([[int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)] for color in colors])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB in Oklab, where distances are about as large as differences look.

    Source: https://bottosson.github.io/posts/oklab/.
    """
    cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    cones.append([0.0883024619, 0.2817188376, 0.6299787005])
    lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    lab.append([0.0259040371, 0.7827717662, -0.8086757660])
    return np.cbrt(np.clip(rgb, 0, 1) @ np.array(cones).T) @ np.array(lab).T


def theme(name: str) -> dict[str, str]:
    blocks = re.findall(r"^:root(.*?) \{(.*?)\}", STYLE.read_text(), re.MULTILINE | re.DOTALL)
    [content] = [content for selector, content in blocks if (name == "dark") == ("dark" in selector)]
    return dict(re.findall(r"--([\w-]+): (#\w{6});", content))


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("sight", [np.eye(3), PROTAN, DEUTAN, TRITAN], ids=["all cones", "protan", "deutan", "tritan"])
def test_colors_differ_for_the_color_blind(name: str, sight: np.ndarray) -> None:
    colors = theme(name)
    seen = oklab(linear([colors[f"color-{number + 1}"] for number in range(N_COLORS)]) @ np.array(sight).T)
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.1


@pytest.mark.parametrize("name", ["light", "dark"])
def test_the_scale_of_numbers_is_even_and_its_lightness_only_rises_or_falls(name: str) -> None:
    lightness = oklab(linear([theme(name)[f"ramp-{number}"] for number in range(1, 6)]))[:, 0]
    steps = np.diff(lightness)
    assert (steps < 0).all() if name == "light" else (steps > 0).all()
    assert np.abs(steps).max() < 2 * np.abs(steps).min()


# ---- What is known of tracks


@pytest.mark.slow
@pytest.mark.parametrize(("write", "names"), [(write_targets, ["height", "depth"]), (write_tags, [])])
def test_files_without_labels_have_the_predictions_of_any_model(
    tmp_path: Path, registry: Registry, write: Callable[[Path], Store], names: list[str]
) -> None:
    store = write(tmp_path / "store")
    with workers_run():
        fit(open_tracks(store), store, experiment(epochs=1), registry, store.models, seed=0, jobs=1, name="m")
    embedded = Collection.open(store, registry, "m")
    paths = [tmp_path / f"{row}.wav" for row in range(len(embedded))]
    for path in paths[1:]:
        path.touch()
    files = Collection.of_files(store, registry, "m", tmp_path, paths, embedded.recordings, embedded.vectors)
    one = draw_map(files)
    model = Model.load(embedded.folder, registry)
    predicted = named_predictions(model.task, model.predict(embedded.vectors[1:]))
    assert one.missing == 1
    assert one.trained_on == len(one) == len(paths) - 1
    assert [column.name for column in one.columns] == ([f"prediction {name}" for name in names] or ["prediction"])
    if names:
        values = np.column_stack([column.values for column in one.columns])
        assert np.allclose(values, [[row[name] for name in names] for row in predicted])
        assert one.color == "prediction height"
        assert draw_map(files, color="prediction").color == "prediction height"
    else:
        assert one.columns[0].values == [tuple(sorted(row["label"])) for row in predicted]
    with pytest.raises(errors.MirembedError, match="--color label"):
        draw_map(files, color="label")


# ---- The command


@pytest.mark.slow
def test_map_writes_a_page_with_the_properties_of_each_track(fitted: Path) -> None:
    printed = json.loads(drawn(fitted, "--out", "map.html", "--json").stdout)
    page = (fitted / "map.html").read_text(encoding="utf-8")
    about = json.loads(block(page, "about"))
    assert printed["tracks"] == about["n"] == 18
    assert printed["bytes"] == (fitted / "map.html").stat().st_size
    assert 0 < sum(printed["explained_variance"]) <= 1 + 1e-9
    assert 0 <= printed["trustworthiness"] <= 1
    assert [column["name"] for column in about["columns"]] == [
        *("label", "prediction", "artist", "album", "genre", "year", "folder"),
    ]
    assert about["color"] == "label"
    titles = json.loads(block(page, "titles"))
    assert titles[:2] == [None, "High 1"]
    assert about["root"] == str(fitted / "music")


@pytest.mark.slow
def test_map_writes_a_table_that_embedding_atlas_reads(fitted: Path) -> None:
    drawn(fitted, "--out", "map.parquet")
    table = pq.read_table(fitted / "map.parquet")
    names = ["track", "path", "title", "artist", "album", "label", "prediction", "x", "y", "neighbors"]
    assert table.column_names == names
    rows = table.to_pylist()
    assert rows[7]["artist"] == "Band 1"
    assert rows[7]["label"] == "low"
    assert rows[0]["title"] is None
    assert Path(rows[0]["path"]).is_file()
    for row, one in enumerate(rows):
        ids, distances = one["neighbors"]["ids"], one["neighbors"]["distances"]
        assert len(ids) == len(distances) == 10
        assert row not in ids
        assert distances == sorted(distances)
    positions = np.array([[row["x"], row["y"]] for row in rows])
    assert np.allclose(positions.mean(axis=0), 0, atol=1e-5)


@pytest.mark.slow
def test_tracks_with_missing_files_are_not_on_the_map(fitted: Path) -> None:
    gone = fitted / "music" / "low" / "low-3.wav"
    aside = gone.rename(fitted / "aside.wav")
    try:
        completed = drawn(fitted, "--out", "fewer.html", "--json")
        printed = json.loads(completed.stdout)
        assert (printed["tracks"], printed["missing"]) == (17, 1)
        assert "1 missing file" in completed.stderr
        assert "changed" not in completed.stderr
        assert "Low 3" not in (fitted / "fewer.html").read_text(encoding="utf-8")
        (fitted / "music").rename(fitted / "away")
        assert "update" in drawn(fitted, "--out", "none.html", code=1).stderr
        assert not (fitted / "none.html").exists()
    finally:
        if (fitted / "away").exists():
            (fitted / "away").rename(fitted / "music")
        aside.rename(gone)


@pytest.mark.slow
def test_files_that_have_changed_in_place_are_counted(fitted: Path) -> None:
    file = fitted / "music" / "low" / "low-3.wav"
    before = file.read_bytes(), file.stat()
    try:
        file.write_bytes(before[0] + b"more")
        assert "1 file has changed since the last update" in drawn(fitted, "--out", "changed.html").stderr
    finally:
        file.write_bytes(before[0])
        os.utime(file, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))


@pytest.mark.slow
def test_map_colors_by_the_given_column_or_lists_those_that_exist(fitted: Path) -> None:
    assert json.loads(drawn(fitted, "--out", "y.html", "--color", "year", "--json").stdout)["color"] == "year"
    said = drawn(fitted, "--out", "n.html", "--color", "mood", code=1).stderr
    assert all(name in said for name in ("mood", "label", "artist", "folder"))


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "map.csv"],
        ["--out", "nowhere/map.html"],
        ["--out", "there.html"],
        ["--out", "map.html", "--method", "tsne"],
    ],
)
def test_invalid_options_are_refused_before_the_store_is_read(mirembed: Command, options: list[str]) -> None:
    (mirembed.folder / "there.html").write_text("mine")
    said = mirembed("map", "m", *options, code=1).stderr
    assert "store" not in said
    assert any(word in said for word in (options[1], options[-1]))
    assert (mirembed.folder / "there.html").read_text() == "mine"


def test_umap_that_is_not_installed_is_named(mirembed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "mirembed[map]" in mirembed("map", "m", "--out", "map.html", "--method", "umap", code=1).stderr


@pytest.mark.slow
def test_the_wheel_contains_the_page(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(STYLE.parents[3])).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"mirembed/library/templates/{path.name}" for path in STYLE.parent.iterdir()} <= set(names)
