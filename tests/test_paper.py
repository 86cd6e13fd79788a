"""What the report writes for a paper: figures as PDF, the methods in words, and the BibTeX of what was used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure as MatplotlibFigure
from small_networks import REGISTRY
from small_reports import TAGS, TARGETS, write_report_run

from mirembed.registry import Plugin, Registry
from mirembed.reports import style
from mirembed.reports.citations import entries_of
from mirembed.reports.methods import MethodsText, bibliography, describe_methods
from mirembed.reports.paper import figure_pdf
from mirembed.runs.record import read_run

SMALL = {"rbf-sl": 0.9, "nn": 0.5, "chance": 0.0}


def drawn() -> style.Figure:
    with style.styled():
        figure, axes = style.axes()
        for number in range(3):
            axes.plot([0, 1], [0, number], label=f"a method with the number {number}")
        axes.set(xlabel="epoch", ylabel="accuracy")
        style.legend(figure)
        return style.draw(figure, "curve", "Curve", "Caption.")


def described(folder: Path, registry: Registry = REGISTRY, **settings) -> MethodsText:
    return describe_methods(read_run(write_report_run(folder, skill=SMALL, n_tracks=30, **settings)), registry)


# Figures


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_a_pdf_has_its_width_and_embedded_truetype_fonts(width):
    content = figure_pdf(drawn(), width, font_size=6)
    (right,) = re.findall(rb"/MediaBox \[\s*0 0 ([\d.]+) [\d.]+\s*\]", content)
    assert float(right) == pytest.approx(72 * width, abs=0.5)
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_the_text_of_a_pdf_has_the_size_that_was_asked_for_at_every_width():
    figure = drawn()
    assert isinstance(figure.drawing, MatplotlibFigure)
    contents = [figure_pdf(figure, width, font_size=6) for width in (3.5, 7, 3.5)]
    assert figure.drawing.axes[0].xaxis.label.get_fontsize() == pytest.approx(6)
    assert figure.drawing.legends[0].get_texts()[0].get_fontsize() < 6
    assert contents[0] == contents[2]


# The methods


def test_the_methods_state_data_features_network_folds_tests_and_versions(tmp_path):
    text = described(tmp_path / "run", versions={"python": "3.11.9", "mirembed": "0.1.0", "torch": "2.13.0"})
    words = text.to_markdown()
    facts = (
        "30 tracks",
        "3 classes",
        "40 bands",
        "25 ms",
        "100 and 50 units",
        "30 epochs",
        "batches of 32",
        "100 consecutive frames",
    )
    facts += ("5 stratified folds", "24 training", "6 test", "accuracy", r"\gamma = 1", "0.1.0", "3.11.9", "2.13.0")
    assert [fact for fact in facts if fact not in words] == []
    cited = {"jakubik2018", "cho2014", "cortes1995", "zeiler2012", "nadeau2003", "holm1979", "mirembed", "paszke2019"}
    assert cited <= text.entries.keys()
    assert not {"sechidis2011", "bogdanov2013", "kingma2015"} & text.entries.keys()


def test_stacked_features_are_described_once_each(tmp_path):
    run = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, features=("logmel", "logmel+semitones"))
    words = describe_methods(read_run(run), REGISTRY).to_markdown()
    assert words.count("log-mel spectrograms") == 1
    assert "84 bands a semitone apart" in words
    assert "In `logmel+semitones`" in words
    assert "those with the same features and network" in words


def test_a_part_of_a_published_dataset_is_called_a_part(tmp_path):
    part = described(tmp_path / "gtzan", dataset={"spec": "gtzan", "plugin": {}, "digest": "0"})
    assert "30 of the 1000 tracks" in part.to_markdown()
    assert "those that were trained also shared the excerpts and the initial weights" in part.to_markdown()


def test_only_probabilities_of_learners_are_said_to_be_calibrated(tmp_path):
    both = described(tmp_path / "both", probabilities=True)
    assert "guo2017" in both.entries
    assert "softmax of its outputs" in both.to_markdown()
    run = write_report_run(tmp_path / "nn", skill={"nn": 0.5, "chance": 0.0}, n_tracks=30, probabilities=True)
    alone = describe_methods(read_run(run), REGISTRY)
    assert "guo2017" not in alone.entries
    tags = described(tmp_path / "tags", task=TAGS, probabilities=True)
    assert {"platt1999", "lin2007"} <= tags.entries.keys()
    assert "softmax of its outputs" in alone.to_markdown()


def test_everything_that_is_cited_has_an_entry_and_every_entry_is_cited(tmp_path):
    texts = [
        described(
            tmp_path / "tags", task=TAGS, probabilities=True, engine="numba", versions={"numba": "1", "scipy": "2"}
        ),
        described(
            tmp_path / "targets", task=TARGETS, optimizer="adam:lr=0.001,clip=7.5", networks=("gru:cell=lstm", "crnn")
        ),
        described(tmp_path / "gtzan", dataset={"spec": "gtzan", "plugin": {}, "digest": "0"}, select=["learner.C=1|2"]),
    ]
    for text in texts:
        latex = text.to_latex()
        cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", latex) for key in keys.split(",")}
        assert cited == text.entries.keys()
        prose = re.sub(r"\\texttt\{[^}]*(\{\}[^}]*)*\}|\$[^$]*\$|\\_", "", latex.partition("\n")[2])
        assert not re.search(r"[`@_^#]", prose)
    assert {"sechidis2011", "platt1999", "lam2015", "virtanen2020"} <= texts[0].entries.keys()
    assert {"kingma2015", "pascanu2013", "hochreiter1997", "choi2017"} <= texts[1].entries.keys()
    assert "7.5" in texts[1].to_markdown()
    assert "clip =" not in texts[1].to_markdown()
    assert "tzanetakis2002" in texts[2].entries
    assert "learner.C" in texts[2].to_markdown()


def test_entries_have_the_fields_that_bibtex_needs_and_stand_once():
    needed = {"article": "journal", "inproceedings": "booktitle", "incollection": "booktitle", "book": "publisher"}
    needed |= {"phdthesis": "school", "techreport": "institution", "misc": "title"}
    plugins = [getattr(plugin.factory, "citation", "") for plugin in REGISTRY.plugins]
    shared = (Path(style.__file__).parent / "templates" / "references.bib").read_text(encoding="utf-8")
    entries = entries_of(shared) | entries_of("\n".join(one for one in plugins if isinstance(one, str)))
    assert len(entries) > 20
    for key, entry in entries.items():
        kind = re.match(r"@(\w+)", entry)[1]
        fields = re.findall(r"^ +(\w+) +=", entry, re.MULTILINE)
        assert {"author", "title", "year", needed[kind]} <= set(fields), key
        assert len(fields) == len(set(fields))
        assert entry.count("{") == entry.count("}")
    text = MethodsText((), entries)
    assert len(entries_of(bibliography([text, text]))) == len(entries)


def test_a_plugin_describes_itself_and_a_silent_or_failing_one_is_named(tmp_path):
    class Told:
        units = 3
        description = "a network of our own [@me2026]"
        citation = "@misc{me2026,\n  author = {Me},\n  title = {Ours},\n  year = {2026}\n}"

    class Failing:
        @property
        def description(self) -> str:
            raise ValueError("no words")

    def text_of(factory) -> MethodsText:
        plugins = [plugin for plugin in REGISTRY.plugins if (plugin.kind, plugin.name) != ("network", "gru")]
        registry = Registry([*plugins, Plugin("network", "gru", factory, "", "mirembed", "0.1.0")])
        return described(tmp_path / factory.__name__, registry)

    told = text_of(Told)
    assert "a network of our own [@me2026]" in told.to_markdown()
    assert "title = {Ours}" in told.entries["me2026"]
    assert "`gru` (mirembed 0.1.0)" in text_of(Failing).to_markdown()
