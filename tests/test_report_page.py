"""The page of ``mirembed report``, its files, and the command."""

from __future__ import annotations

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

from mirembed import Classification, Regression, Target
from mirembed.errors import StoreError, StoreWriteError
from mirembed.reports import Written, reading
from mirembed.reports.tables import Cell, Table
from mirembed.store.files import read_table, write_table

NASTY = "<script>alert('1')</script>"
SMALL = {"rbf-sl": 0.9, "nn": 0.5}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> Written:
    """The report of a run whose every name would be code if it were not escaped."""
    folder = tmp_path_factory.mktemp("runs") / "folder-1"
    classes = Classification((NASTY, "R&B 100% $5 $6", "_hidden"))
    ids = [f"{NASTY}/{number}.wav" for number in range(30)]
    notes = [f"a note of {NASTY}"]
    write_report_run(folder, classes, skill=SMALL, n_tracks=30, ids=ids, notes=notes, versions={"python": NASTY})
    (folder / "experiment.toml").write_text(f"dataset = '{NASTY}'")
    return report(folder)


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Written:
    """The report of a grid of both tasks."""
    folder = tmp_path_factory.mktemp("runs") / "grid-1"
    write_report_run(folder / "one", CLASSES, skill=SMALL, n_tracks=30)
    write_report_run(folder / "two", TARGETS, skill=SMALL, n_tracks=30)
    return report(write_grid(folder, ["one", "two"]))


# The page


def test_warnings_and_what_guessing_scores_stand_between_the_title_and_the_table_of_the_scores(tmp_path):
    notes = ["warning: 7 test tracks have copies", "a class is rare"]
    write_report_run(tmp_path / "folder-1", CLASSES, skill=SMALL, n_tracks=30, notes=notes)
    page = Page.of(report(tmp_path / "folder-1"))
    told = page.texts("h2", "h3", "p", "table")
    begin = told.index("Scores")
    assert told[begin + 1 : begin + 4] == [
        "Majority-class accuracy: 0.250",
        "warning: 7 test tracks have copies",
        "Scores of each method",
    ]
    assert told[told.index("Notes") + 1] == "a class is rare"
    assert page.texts("p").count(notes[0]) == 1


def test_nothing_of_the_page_comes_from_elsewhere(grid):
    page = Page.of(grid)
    assert {tag for tag, _, _ in page.elements} & {"link", "img", "iframe", "object", "embed"} == set()
    assert [attributes for tag, attributes, _ in page.elements if tag == "script" and attributes] == []
    references = page.attributes("href") + page.attributes("xlink:href") + page.attributes("src")
    assert references
    assert [r for r in references if not r.startswith("#")] == []
    styles = " ".join([*page.texts("style"), *page.attributes("style")])
    assert re.findall(r"@import|url\((?!#)", styles) == []


def test_the_page_is_well_formed_and_no_two_elements_share_an_id(grid):
    page = Page.of(grid)
    assert page.unclosed == []
    assert [name for name, count in Counter(page.attributes("id")).items() if count > 1] == []
    referred = {r[1:] for r in page.attributes("href") + page.attributes("xlink:href")}
    referred |= set(re.findall(r"url\(#([^)]+)\)", grid.page.read_text()))
    assert referred <= set(page.attributes("id"))


def test_headings_go_down_step_by_step_from_a_single_first(grid, nasty):
    for written in (grid, nasty):
        levels = [int(tag[1]) for tag, _, _ in Page.of(written).elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_tables_and_figures_say_what_they_are(grid):
    page = Page.of(grid)
    counts = Counter(tag for tag, _, _ in page.elements)
    assert counts["table"] == counts["caption"] > 0
    assert counts["svg"] == counts["figure"] == counts["figcaption"] > 0
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes, _ in page.elements if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes, _ in page.elements if tag == "svg")


def test_whatever_a_dataset_calls_its_classes_and_tracks_is_text(nasty):
    html = nasty.page.read_text()
    page = Page.of(nasty)
    assert len([tag for tag, _, _ in page.elements if tag == "script"]) == 1
    assert html.count("alert(") > 30
    assert NASTY not in html
    assert [row[0] for row in page.tables["Confusion: nn"][1:] if "script" in row[0]] == [NASTY]
    assert any(text.startswith(f"{NASTY}/0.wav: ") for text in page.texts("title"))
    assert f"a note of {NASTY}" in page.texts("p")
    assert f"dataset = '{NASTY}'" in page.texts("pre")


def test_class_names_stand_in_the_figures_as_they_are(nasty):
    (svg,) = [path for path in nasty.figures if path.name == "map-rbf-sl.svg"]
    words = {text.text for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {NASTY, "R&B 100% $5 $6", "_hidden"} <= words


def test_the_page_has_both_themes_and_its_figures_follow_them(grid):
    html = grid.page.read_text()
    assert "prefers-color-scheme: dark" in html
    assert "color: currentColor" in html or "fill: currentColor" in html
    assert "#23272d" not in html


def test_the_provenance_names_the_command_the_plugins_and_the_dataset(nasty):
    said = dict(row for row in Page.of(nasty).tables["Where the numbers come from"][1:])
    assert said["command"] == "mirembed evaluate --cv 5"
    assert said["dataset digest"] == "0123abcd"
    assert said["seeds"] == "0"
    assert said["engine"] == "torch"
    assert said["versions"] == f"python {NASTY}"
    assert said["rbf-sl, similarity"] == "rbf of mirembed 0.1.0 (gamma=1.0)"


# Files


def test_figures_come_as_png_and_svg_and_tables_as_csv_and_latex(grid):
    stems = {}
    for path in (*grid.figures, *grid.tables):
        stems.setdefault((path.parent.name, path.stem), set()).add(path.suffix)
    assert all(
        found == ({".png", ".svg"} if kind == "figures" else {".csv", ".tex"}) for (kind, _), found in stems.items()
    )
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
    folder = write_report_run(tmp_path / "run", TARGETS, skill=SMALL, n_tracks=30)
    contents = [
        {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        for out in (tmp_path / "a", tmp_path / "b")
        if report(folder, out)
    ]
    assert len(contents[0]) > 10
    assert contents[0] == contents[1]


def test_latex_is_escaped_and_has_as_many_cells_in_every_row():
    rows = [[Cell("R&B_50%"), Cell("0.5", "[0.1, 0.9]", best=True)], [Cell(r"a\b{c}~^#$"), Cell("0.4")]]
    latex = Table("t", "T", "Says.", ["class", "r²"], rows, []).to_latex()
    assert r"R\&B\_50\% & \textbf{0.5} {\scriptsize [0.1, 0.9]} \\" in latex
    assert r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$ & 0.4 \\" in latex
    assert r"class & r\textsuperscript{2} \\" in latex
    assert r"\begin{tabular}{lr}" in latex
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index(r"\bottomrule")


def test_a_table_in_latex_has_the_cells_of_the_page(grid):
    (path,) = [path for path in grid.tables if path.name == "one-scores.tex"]
    lines = [line.removesuffix(r" \\") for line in path.read_text().splitlines() if line.endswith(r"\\")]
    assert [line.split(" & ")[0] for line in lines] == ["metric", "accuracy", "macro-F1"]
    assert {line.count(" & ") for line in lines} == {2}


# Runs that are going on


def test_a_run_that_is_going_on_says_how_far_it_is_and_tests_nothing(tmp_path):
    written = report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=2))
    page = Page.of(written)
    (said,) = written.progress
    assert "4 of 10 trainings are done" in said
    assert any("4 of 10 trainings are done" in text for text in page.texts("p"))
    assert not any("ignificance" in text or "Differences" in text for text in page.texts("h2", "h3"))
    assert "Means over 2 folds that every method has finished" in " ".join(page.texts("caption"))
    assert all(record["best"] == "False" for record in records(written, "scores"))


def test_only_folds_that_every_method_has_finished_are_scored(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=3)
    before = records(report(folder), "scores")
    for path in (folder / "parts" / "nn-seed0-fold2").iterdir():
        path.unlink()
    after = report(folder)
    assert "Means over 2 folds" in " ".join(Page.of(after).texts("caption"))
    assert records(after, "scores") != before


def test_a_run_that_has_finished_nothing_shows_its_dataset(tmp_path):
    written = report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=0))
    assert "There are no scores before every method has finished the same fold" in written.progress[0]
    assert Page.of(written).texts("h2") == ["Dataset", "Provenance"]


def test_a_run_may_finish_while_it_is_read(tmp_path, monkeypatch):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=3)

    def finish_meanwhile(run):
        monkeypatch.setattr(reading, "read_curves", read_curves)
        shutil.rmtree(folder / "parts")
        write_report_run(folder, skill=SMALL, n_tracks=30)
        raise StoreError("a part is gone")

    read_curves = reading.read_curves
    monkeypatch.setattr(reading, "read_curves", finish_meanwhile)
    assert reading.read_run(folder).finished


# What a run may lack


def test_a_run_of_one_split_has_no_intervals_and_no_tests(tmp_path):
    written = report(write_report_run(tmp_path / "run", TARGETS, skill=SMALL, n_tracks=30, official="mediaeval"))
    assert Page.of(written).cell("Pearson's r of each method", "valence", "nn").count("[") == 0
    captions = " ".join(Page.of(written).texts("caption", "figcaption"))
    assert "Scores in 1 fold without intervals: they need several folds" in captions
    assert "Nothing is tested: a single split" in captions
    assert "Nadeau" not in captions
    assert {test["verdict"] for test in records(written, "significance")} == {"not tested"}


def test_a_similarity_whose_plugin_is_gone_is_said_and_costs_its_figure_only(tmp_path):
    folder = write_report_run(tmp_path / "run", skill={"gone-sl": 0.5, "rbf-sl": 0.7}, n_tracks=30)
    written = report(folder)
    assert any("no similarities of gone-sl: no similarity is called 'gone'" in t for t in Page.of(written).texts("p"))
    assert "similarity-rbf-sl.svg" in {path.name for path in written.figures}


def test_a_target_without_a_declared_range_and_a_constant_prediction_are_no_obstacle(tmp_path):
    task = Regression((Target("tempo"),))
    written = report(write_report_run(tmp_path / "run", task, skill=SMALL, n_tracks=30))
    assert [row[0] for row in Page.of(written).tables["Pearson's r of each method"][1:]] == ["r, mean"]


def test_a_damaged_run_is_an_error_of_one_line(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"predictions\.parquet cannot be read"):
        report(folder)
    assert not (folder / "report").exists()


def test_a_manifest_without_configuration_is_an_error_that_says_so(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["configuration"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest\.json has no configuration\); evaluate again"):
        report(folder)


def test_a_finished_experiment_that_lacks_a_run_is_an_error_that_names_it(tmp_path):
    write_report_run(tmp_path / "grid" / "one", skill=SMALL, n_tracks=30)
    grid = write_grid(tmp_path / "grid", ["one", "two"], finished=True)
    with pytest.raises(StoreError, match=r"lacks two, .*; put back what was moved or deleted, or evaluate again"):
        report(grid)


@pytest.mark.parametrize("members", [["one", "two"], None])
def test_what_has_not_begun_to_train_has_no_report(members, tmp_path):
    folder = tmp_path / "run"
    if members:
        write_grid(folder, members)
    else:
        write_report_run(folder, skill=SMALL, n_tracks=30, done=0)
        (folder / "folds.parquet").unlink()
    with pytest.raises(StoreError, match="nothing to report; this goes on with it: mirembed evaluate"):
        report(folder)
    assert not (folder / "report").exists()


@pytest.mark.parametrize("name", ["folds.parquet", "predictions.parquet"])
def test_a_finished_run_that_lacks_a_table_is_an_error(name, tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    (folder / name).unlink()
    with pytest.raises(StoreError, match=name):
        report(folder)


def test_a_finished_run_that_lacks_the_predictions_of_a_method_is_an_error(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    table = pq.read_table(folder / "predictions.parquet")
    pq.write_table(table.filter(pc.equal(table["method"], "nn")), folder / "predictions.parquet")
    with pytest.raises(StoreError, match="no fold has predictions of every method"):
        report(folder)


def test_a_report_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    out = tmp_path / "out"
    report(folder, out)
    (out / "figures" / "old.svg").write_text("of another run")
    report(folder, out)
    assert not (out / "figures" / "old.svg").exists()

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("<p>my own</p>")
    with pytest.raises(StoreWriteError, match="is no report of mirembed"):
        report(folder, mine)
    assert (mine / "index.html").read_text() == "<p>my own</p>"


# The command


def test_the_command_writes_the_report_into_the_run(mirembed):
    folder = write_report_run(mirembed.folder / "mirembed-store" / "runs" / "folder-1", skill=SMALL, n_tracks=30)
    done = mirembed("report", "folder")
    page = Path("mirembed-store/runs/folder-1/report/index.html")
    assert done.stdout == f"report: {page}\n7 figures and 8 tables beside it\n"
    assert (folder / "report" / "index.html").is_file()


def test_the_command_writes_elsewhere_and_lists_the_files_as_json(tmp_path, monkeypatch, capsys):
    write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, done=2)
    monkeypatch.chdir(tmp_path)
    invoke("report", "run", "--out", "elsewhere", "--json")
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["page"] == "elsewhere/index.html"
    assert "elsewhere/tables/scores.csv" in said["tables"]
    assert all(Path(name).is_file() for name in [*said["figures"], *said["tables"]])
    assert "4 of 10 trainings are done" in said["progress"][0]
    assert "4 of 10 trainings are done" in printed.err
    assert not Path("run", "report").exists()


def test_the_command_says_what_is_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    invoke("report", "no-run", code=1)
    assert capsys.readouterr().err.startswith("error: 'no-run' is neither a run's folder nor the beginning")


def test_a_single_checkpoint_makes_no_curve(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)
    checkpoints = read_table(folder / "checkpoints.parquet")
    write_table(folder / "checkpoints.parquet", checkpoints.filter(pc.equal(checkpoints["epoch"], 30)))
    written = report(folder)
    names = {path.stem for path in written.page.parent.rglob("*.svg")}
    assert "loss" in names
    assert not {name for name in names if name.startswith("curve")}
    assert "Scores were taken after epoch 30 alone, and a single point is no curve" in " ".join(
        Page.of(written).texts("p")
    )


def test_provenance_has_the_gamma_that_one_would_type(tmp_path):
    page = Page.of(report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30)))
    rows = dict(page.tables["Where the numbers come from"][1:])
    assert "gamma=scale" in rows["learner svm"]
