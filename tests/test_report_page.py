"""The page of ``mirembed report``, its files, and the command."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pages import invoke
from report_pages import Page, records, report
from small_reports import CLASSES, TARGETS, write_grid, write_report_run
from small_store import give_files, write_classes

from benchmarks.browser import PHONE, chromium, find_chromium
from mirembed import Classification, Regression, Target
from mirembed.compare.answer import answer
from mirembed.compare.families import run_families
from mirembed.compare.misses import missed_by_all
from mirembed.errors import StoreError, StoreWriteError
from mirembed.registry import Registry
from mirembed.reports import style
from mirembed.reports.report import WrittenReport, write_report
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import read_run
from mirembed.store.files import read_table, write_table

pytestmark = pytest.mark.slow

NASTY = "<script>alert('1')</script>"
SMALL = {"rbf-sl": 0.9, "nn": 0.5}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> WrittenReport:
    """The report on a run whose names would all run as code if they were not escaped."""
    folder = tmp_path_factory.mktemp("runs") / "folder-1"
    classes = Classification((NASTY, "R&B 100% $5 $6", "_hidden"))
    ids = [f"{NASTY}/{number}.wav" for number in range(30)]
    notes = [f"a note of {NASTY}"]
    write_report_run(folder, classes, skill=SMALL, n_tracks=30, ids=ids, notes=notes, versions={"python": NASTY})
    (folder / "experiment.toml").write_text(f"dataset = '{NASTY}'")
    return report(folder, drawn=True)


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> WrittenReport:
    """The report on an experiment with a run of each task."""
    folder = tmp_path_factory.mktemp("runs") / "grid-1"
    write_report_run(folder / "one", CLASSES, skill=SMALL, n_tracks=30)
    write_report_run(folder / "two", TARGETS, skill=SMALL, n_tracks=30)
    return report(write_grid(folder, ["one", "two"]), drawn=True)


# The page


def test_the_top_has_the_answer_the_warnings_and_every_method(tmp_path):
    notes = ["warning: 7 test tracks have duplicates; run `mirembed datasets check`", "a class is rare"]
    folder = write_report_run(tmp_path / "folder-1", skill={**SMALL, "chance": 0.0}, n_tracks=30, notes=notes)
    written, run = report(folder), read_run(folder)
    page, found = Page.of(written), answer(run, run_families(run))
    texts = page.texts("h1", "h2", "p", "li", "dt", "table")
    top = texts[: texts.index("Learning curves", texts.index("Methods"))]
    assert top[1] == f"folder: {found.verdict}"
    assert {" ".join(found.evidence), found.compared} <= set(top)
    assert "warning: 7 test tracks have duplicates; run mirembed datasets check" in top
    assert "mirembed datasets check" in page.texts("code")
    assert {"rbf-sl", "nn", "chance", "learner", "network", "features"} <= set(page.texts("dt"))
    assert "headline" in {path.stem for path in written.figures}
    assert not [text for text in top if page.is_table(text)]
    assert notes[1] in page.texts("p")


def test_the_title_is_what_was_found_and_not_the_name_of_the_run(grid, nasty):
    for written in (grid, nasty):
        page = Page.of(written)
        name = written.page.parents[1].name
        assert page.texts("title")[0]
        assert name not in page.text("h1") + page.texts("title")[0]
        assert any(name in text for text in page.texts("p"))


def test_what_a_caption_explains_is_there(nasty):
    page = Page.of(nasty)
    assert ("star" in page.captions["scores"]) == ("★" in nasty.page.read_text())
    assert "Horizontal lines" not in page.text("p")
    assert "matching" not in page.text("caption")


def test_tracks_that_every_method_misses_link_to_their_files(tmp_path):
    store = write_classes(tmp_path / "store", n_tracks=30)
    give_files(store, tmp_path / "a b")
    folder = write_report_run(store.runs / "folder-1", skill={"nn": 0.2, "rbf-sl": 0.2}, n_tracks=30)
    gone, *others = [miss.track for miss in missed_by_all(read_run(folder))]
    (tmp_path / "a b" / f"{gone}.wav").unlink()
    written = report(folder)
    page = Page.of(written)
    assert [record["track"] for record in records(written, "errors")] == [gone, *others]
    assert [row[0] for row in page.tables["errors"][1:]] == [gone, *others][:20]
    links = [link for link in page.attributes("href") if link.startswith("file:")]
    assert links == [(tmp_path / "a b" / f"{track}.wav").as_uri() for track in others[:19]]


def test_the_page_loads_nothing_from_elsewhere(grid):
    page = Page.of(grid)
    assert {tag for tag, _, _ in page.elements} & {"link", "img", "iframe", "object", "embed"} == set()
    assert [attributes for tag, attributes, _ in page.elements if tag == "script" and attributes] == []
    references = page.attributes("href") + page.attributes("xlink:href") + page.attributes("src")
    assert references
    assert [r for r in references if not r.startswith("#")] == []
    styles = " ".join([*page.texts("style"), *page.attributes("style")])
    assert re.findall(r"@import|url\((?!#)", styles) == []


def test_the_page_is_well_formed_and_its_ids_are_unique(grid):
    page = Page.of(grid)
    assert page.unclosed == []
    assert [name for name, count in Counter(page.attributes("id")).items() if count > 1] == []
    referred = {r[1:] for r in page.attributes("href") + page.attributes("xlink:href")}
    referred |= set(re.findall(r"url\(#([^)]+)\)", grid.page.read_text()))
    assert referred <= set(page.attributes("id"))


def test_headings_skip_no_level_below_a_single_first(grid, nasty):
    for written in (grid, nasty):
        levels = [int(tag[1]) for tag, _, _ in Page.of(written).elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_tables_and_figures_are_labeled(grid):
    page = Page.of(grid)
    counts = Counter(tag for tag, _, _ in page.elements)
    assert counts["table"] == counts["caption"] > 0
    assert counts["svg"] == counts["figure"] == counts["figcaption"] > 0
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes, _ in page.elements if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes, _ in page.elements if tag == "svg")


def test_names_of_classes_and_tracks_are_escaped(nasty):
    html = nasty.page.read_text()
    page = Page.of(nasty)
    assert len([tag for tag, _, _ in page.elements if tag == "script"]) == 1
    assert html.count("alert(") > 30
    assert NASTY not in html
    assert [row[0] for row in page.tables["confusion-nn"][1:] if "script" in row[0]] == [NASTY]
    assert any(text.startswith(f"{NASTY}/0.wav: ") for text in page.texts("title"))
    assert f"a note of {NASTY}" in page.texts("p")
    assert f"dataset = '{NASTY}'" in page.texts("pre")


def test_a_report_counts_its_figures_and_tables_and_not_their_files(nasty):
    for files, formats in ((nasty.figures, [".png", ".svg"]), (nasty.tables, [".csv", ".tex"])):
        assert [path.suffix for path in files] == formats * (len(files) // 2) != []


def test_figures_show_class_names_unchanged(nasty):
    (svg,) = [path for path in nasty.figures if path.name == "map-rbf-sl.svg"]
    words = {text.text for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {NASTY, "R&B 100% $5 $6", "_hidden"} <= words


def test_the_page_has_two_themes_and_its_figures_follow_them(grid):
    html = grid.page.read_text()
    assert "prefers-color-scheme: dark" in html
    assert "color: currentColor" in html or "fill: currentColor" in html
    assert "#23272d" not in html


def test_the_provenance_names_command_plugins_and_dataset(nasty):
    facts = dict(Page.of(nasty).tables["provenance"][1:])
    assert facts["command"] == "mirembed evaluate --cv 5"
    assert facts["dataset digest"] == "0123abcd"
    assert facts["seeds"] == "0"
    assert facts["engine"] == "torch"
    assert facts["versions"] == f"python {NASTY}"
    assert facts["rbf-sl, similarity"] == "rbf of mirembed 0.1.0 (gamma=1.0)"


# Files


def test_figures_are_saved_as_png_and_svg_and_tables_as_csv_and_latex(grid):
    stems = {}
    for path in (*grid.figures, *grid.tables):
        stems.setdefault((path.parent.name, path.stem), set()).add(path.suffix)
    assert all(
        found == ({".png", ".svg"} if kind == "figures" else {".csv", ".tex"}) for (kind, _), found in stems.items()
    )
    methods = {"one-methods.md", "one-methods.tex", "two-methods.md", "two-methods.tex", "references.bib"}
    assert {path.name for path in grid.methods} == methods
    names = {name for _, name in stems}
    assert {
        "one-curve",
        "one-confusion-nn",
        "one-map-nn",
        "two-scatter-arousal",
        "one-similarity-rbf-sl",
        "two-loss",
    } <= names
    assert {"overview", "datasets", "one-scores", "two-significance", "two-curves"} <= names
    for path in grid.figures:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(PNG)
        else:
            assert ElementTree.parse(path).getroot().get("viewBox")


def test_the_same_run_gives_the_same_report_to_the_byte(tmp_path):
    folder = write_report_run(tmp_path / "run", TARGETS, skill={"rbf-sl": 0.9}, n_tracks=30)
    contents = [
        {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        for out in (tmp_path / "a", tmp_path / "b")
        if report(folder, out, drawn=True)
    ]
    assert len(contents[0]) > 10
    assert contents[0] == contents[1]


def test_a_latex_table_has_the_cells_of_the_page(grid):
    (path,) = [path for path in grid.tables if path.name == "one-scores.tex"]
    lines = [line.removesuffix(r" \\") for line in path.read_text().splitlines() if line.endswith(r"\\")]
    assert [name for line in lines if (name := line.split(" & ")[0])] == ["approach", "rbf-sl", "nn"]
    assert {line.count(" & ") for line in lines} == {2}


# Unfinished runs


def test_the_report_on_an_unfinished_run_shows_its_progress_and_tests_nothing(tmp_path):
    written = report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=2))
    page = Page.of(written)
    (progress,) = written.progress
    assert "4 of 10 trainings" in progress
    assert "4 of 10 trainings" in page.text("p")
    assert "significance" not in page.tables
    assert "2 folds that every method has finished" in page.captions["scores"]
    assert all(record["best"] == "False" for record in records(written, "scores"))


def test_only_folds_finished_by_every_method_are_scored(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=3)
    before = records(report(folder), "scores")
    for path in (folder / "parts" / "nn-seed0-fold2").iterdir():
        path.unlink()
    after = report(folder)
    assert "2 folds" in Page.of(after).captions["scores"]
    assert records(after, "scores") != before


def test_a_run_without_finished_trainings_shows_its_dataset(tmp_path):
    written = report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=0))
    assert "0 of 10 trainings" in written.progress[0]
    assert "no scores" in written.progress[0]
    assert Page.of(written).texts("h2") == ["Methods", "Dataset", "Provenance"]


def test_a_run_may_finish_while_it_is_read(tmp_path, monkeypatch):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=3)

    def finish_meanwhile(run):
        monkeypatch.setattr(RunFolder, "read_curves", read_curves)
        shutil.rmtree(folder / "parts")
        write_report_run(folder, skill=SMALL, n_tracks=30)
        raise StoreError("a part is gone")

    read_curves = RunFolder.read_curves
    monkeypatch.setattr(RunFolder, "read_curves", finish_meanwhile)
    assert read_run(folder).finished


# Runs that lack something


def test_a_single_split_has_no_intervals_and_no_tests(tmp_path):
    written = report(write_report_run(tmp_path / "run", TARGETS, skill=SMALL, n_tracks=30, official="mediaeval"))
    page = Page.of(written)
    assert "[" not in page.cell("scores", "valence", "nn")
    assert "single fold" in page.captions["scores"]
    assert "single split" in page.captions["significance"]
    assert "Nadeau" not in page.text("caption", "figcaption")
    assert {test["verdict"] for test in records(written, "significance")} == {"not tested"}


def test_a_similarity_without_its_plugin_loses_only_its_figure(tmp_path):
    folder = write_report_run(tmp_path / "run", skill={"gone-sl": 0.5, "rbf-sl": 0.7}, n_tracks=30)
    written = report(folder)
    assert any("gone-sl" in text and "'gone'" in text for text in Page.of(written).texts("p"))
    names = {path.name for path in written.figures}
    assert "similarity-rbf-sl.svg" in names
    assert "similarity-gone-sl.svg" not in names


def test_a_single_target_without_a_declared_range_is_reported(tmp_path):
    task = Regression((Target("tempo"),))
    written = report(write_report_run(tmp_path / "run", task, skill=SMALL, n_tracks=30))
    heading, *rows = Page.of(written).tables["scores"]
    assert heading[:2] == ["approach", "r, mean"]
    assert "tempo" not in heading
    assert [row[0] for row in rows] == list(SMALL)


def test_a_damaged_table_is_an_error_that_names_it(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"predictions\.parquet"):
        report(folder)
    assert not (folder / "report").exists()


def test_a_manifest_without_configuration_is_an_error_that_names_the_file(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["configuration"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest\.json.* configuration"):
        report(folder)


def test_a_missing_run_of_a_finished_experiment_is_an_error_that_names_it(tmp_path):
    write_report_run(tmp_path / "grid" / "one", skill=SMALL, n_tracks=30)
    grid = write_grid(tmp_path / "grid", ["one", "two"], finished=True)
    with pytest.raises(StoreError, match=r"lacks two\b"):
        report(grid)


@pytest.mark.parametrize("members", [["one", "two"], None])
def test_a_run_that_has_not_started_is_an_error_with_the_command_that_resumes_it(members, tmp_path):
    folder = tmp_path / "run"
    if members:
        write_grid(folder, members)
    else:
        write_report_run(folder, skill=SMALL, n_tracks=30, done=0)
        (folder / "folds.parquet").unlink()
    with pytest.raises(StoreError, match=r"nothing to report.* mirembed evaluate"):
        report(folder)
    assert not (folder / "report").exists()


@pytest.mark.parametrize("name", ["folds.parquet", "predictions.parquet"])
def test_a_missing_table_of_a_finished_run_is_an_error_that_names_it(name, tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    (folder / name).unlink()
    with pytest.raises(StoreError, match=name):
        report(folder)


def test_missing_predictions_of_a_method_are_an_error(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    table = pq.read_table(folder / "predictions.parquet")
    pq.write_table(table.filter(pc.equal(table["method"], "nn")), folder / "predictions.parquet")
    with pytest.raises(StoreError, match=r"predictions\.parquet has 0 predictions of rbf-sl"):
        report(folder)


def test_a_report_replaces_an_earlier_report_and_nothing_else(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    out = tmp_path / "out"
    report(folder, out)
    (out / "figures" / "old.svg").write_text("of another run")
    report(folder, out)
    assert not (out / "figures" / "old.svg").exists()

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("<p>my own</p>")
    with pytest.raises(StoreWriteError, match=r"mine already exists.*--out"):
        report(folder, mine)
    assert (mine / "index.html").read_text() == "<p>my own</p>"


# The command


def test_the_command_writes_the_report_into_the_run(mirembed):
    folder = write_report_run(mirembed.folder / "mirembed-store" / "runs" / "folder-1", skill=SMALL, n_tracks=30)
    done = mirembed("report", "folder", "--width", "3", "--font-size", "7")
    page = Path("mirembed-store/runs/folder-1/report/index.html")
    assert str(page) in done.stdout
    assert "8 figures, 13 tables" in done.stdout
    assert len(list((folder / "report" / "figures").glob("*-3in.pdf"))) == 8
    assert (folder / "report" / "index.html").is_file()


def test_the_command_writes_elsewhere_and_lists_the_files_as_json(tmp_path, monkeypatch, capsys):
    write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=2)
    monkeypatch.chdir(tmp_path)
    invoke("report", "run", "--out", "elsewhere", "--json")
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert content["page"] == "elsewhere/index.html"
    assert "elsewhere/tables/scores.csv" in content["tables"]
    assert all(Path(name).is_file() for name in [*content["figures"], *content["tables"], *content["methods"]])
    assert {"elsewhere/figures/loss-3.5in.pdf", "elsewhere/figures/loss-7in.pdf"} <= set(content["figures"])
    assert "4 of 10 trainings" in content["progress"][0]
    assert "4 of 10 trainings" in printed.err
    assert not Path("run", "report").exists()


def test_an_unknown_run_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    invoke("report", "no-run", code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error:")
    assert "'no-run'" in line


def test_a_single_checkpoint_makes_no_curve(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    checkpoints = read_table(folder / "checkpoints.parquet")
    write_table(folder / "checkpoints.parquet", checkpoints.filter(pc.equal(checkpoints["epoch"], 30)))
    written = report(folder)
    names = {path.stem for path in written.page.parent.rglob("*.svg")}
    assert "loss" in names
    assert not {name for name in names if name.startswith("curve")}
    assert any("epoch 30" in text and "--checkpoint-every" in text for text in Page.of(written).texts("p"))


def test_the_provenance_has_gamma_as_a_user_would_set_it(tmp_path):
    page = Page.of(report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)))
    assert "gamma=scale" in dict(page.tables["provenance"][1:])["learner svm"]


@pytest.mark.parametrize(
    ("labels", "n_columns"),
    [(["nn", "fl", "rbf-sl"], 3), (["rbf-sl@gru@logmel"] * 4, 2), (["rbf-sl@gru@logmel+chroma"] * 4, 1)],
)
def test_a_legend_has_as_many_columns_as_fit_into_the_figure(labels: list[str], n_columns: int) -> None:
    with style.styled():
        figure, axes = style.axes()
        for position, label in enumerate(labels):
            axes.plot([0, 1], [position, position], style.marker(position), label=label)
        style.legend(figure)
        figure.savefig(io.BytesIO(), format="png")
    [legend] = figure.legends
    assert legend._ncols == n_columns
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


# In a browser


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
def test_the_page_fits_a_phone_says_where_a_table_goes_on_and_shows_the_band_of_a_selected_curve(tmp_path):
    skill = {"nn": 0.5, "fl": 0.5, "rbf-sl": 0.9, "cosine-sl": 0.7}
    run = write_report_run(tmp_path / "run", TARGETS, skill=skill, n_tracks=30)
    written = write_report(run, None, Registry.discover())
    with chromium(tmp_path / "profile") as browser:
        page = browser.open(written.page.as_uri(), PHONE, touch=True, marker="first-contentful-paint")
        assert page.errors == []
        assert page("document.documentElement.scrollWidth") <= PHONE[0]
        # Sections are laid out when they are scrolled to.
        page("document.querySelectorAll('section').forEach((one) => { one.style.contentVisibility = 'visible' })")
        shown = "[...document.querySelectorAll('.scroll')].filter((one) => one.checkVisibility())"
        cut = f"{shown}.filter((one) => one.scrollWidth > one.clientWidth + 1)"
        page.until(f"{cut}.length > 0 && {cut}.every((one) => one.parentElement.matches('.table.more'))")
        band = "getComputedStyle(document.querySelector('#learning-curves .band[data-curve=\"2\"] use')).fillOpacity"
        assert page(band) == "0"
        page.click("#learning-curves .key[data-curve='2']")
        assert float(page(band)) > 0.1
        page.click("#learning-curves .key[data-curve='2']")
        assert page(band) == "0"
