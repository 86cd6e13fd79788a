"""``mirembed datasets``: the list, what each dataset says about itself, and checks of one in the store."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from archive_server import Notes
from conftest import Command, write_tones
from small_store import write_classes
from third_party import install

from mirembed import Archive, Card, Classification, Listing, Split, Track
from mirembed.datasets.catalog import describe, list_dataset, overview
from mirembed.errors import DatasetError, PluginError, UnknownNameError
from mirembed.progress import Silent
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import Store

BUILT_IN = [
    *("ballroom", "demo", "emotify", "folder", "gtzan", "lastfm", "library", "magnatagatune", "mediaeval2013"),
    "mtg_jamendo",
]
PUBLISHED = sorted({*BUILT_IN} - {"demo", "folder", "library"})


class Bells:
    """A third-party dataset with everything."""

    card = Card(
        title="Bells of the valley",
        n_tracks=3,
        labels="2 metals",
        license="CC0",
        citation="@misc{bells, title = {Bells}}",
        source="Climb the towers.",
        tree="<tower>/<bell>.wav",
        archives=(Archive("https://bells.example/bells.zip", "sha256:00"),),
        rate=48_000,
        seconds=(4.0, 12.5),
    )

    def __init__(self, *, tower: str = "all") -> None:
        self.tower = tower

    def listing(self, audio: Path) -> Listing:
        files = sorted(audio.rglob("*.wav"))
        return Listing(Classification(("bronze", "iron")), [Track(file.stem, file, "bronze") for file in files])

    def schemes(self) -> dict[str, list[Split]]:
        return {"by-tower": [Split(frozenset("a"), frozenset("b"))] * 2}

    def known_faults(self) -> dict[str, str]:
        return {"c": "cracked"}


class Bare:
    """A third-party dataset with only the required method."""

    def listing(self, audio: Path) -> Listing:
        return Listing(Classification(("a", "b")), [Track("x", audio / "x.wav", "no class")])


def registry(**datasets: type) -> Registry:
    """Return a registry of the built-in datasets and third-party ones."""
    third = [Plugin("dataset", name, factory, f"summary of {name}", "mirembed-bells", "1.0")
             for name, factory in datasets.items()]  # fmt: skip
    return Registry([*Registry.discover().plugins, *third])


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, str]:
    """The environment in which a third-party dataset is installed."""
    source = """
        from mirembed import Classification, Listing, Track, hookimpl

        class Bells:
            def listing(self, audio):
                return Listing(Classification(("bronze",)), [Track("x", audio / "x.wav", "no metal")])

        @hookimpl
        def mirembed_register_datasets(register):
            register("bells", Bells, summary="Bells of the valley")
    """
    return install(tmp_path / "site", "mirembed-bells", source)


def cells(output: str) -> list[list[str]]:
    """Return the rows of a table without the header, with the lines of each cell joined."""
    rows: list[list[str]] = []
    for line in output.splitlines():
        if "│" not in line:
            continue
        row = [cell.strip() for cell in line.split("│")[1:-1]]
        if row[0]:
            rows.append(row)
        else:
            rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], row, strict=True)]
    return rows


# The list


def test_every_registered_dataset_is_listed_with_its_card(mirembed: Command, plugins: dict[str, str]) -> None:
    rows = json.loads(mirembed("datasets", "--json", env=plugins).stdout)
    assert [row["name"] for row in rows] == sorted(["bells", *BUILT_IN])
    by_name = {row["name"]: row for row in rows}
    facts = ("title", "n_tracks", "labels", "license", "stored")
    assert [by_name["gtzan"][fact] for fact in facts[:3]] == ["GTZAN genre collection", 1000, "10 genres"]
    assert [by_name["bells"][fact] for fact in facts] == ["Bells of the valley", 0, "", "", ""]
    for name in PUBLISHED:
        assert all(by_name[name][fact] for fact in ("title", "n_tracks", "labels", "license", "source", "citation"))
        assert by_name[name]["stored"] == ""


def test_the_table_says_the_same(mirembed: Command) -> None:
    output = mirembed("datasets").stdout
    table = {row[0]: row[1:] for row in cells(output)}
    rows = overview(Registry.discover(), Store(Path("nowhere")))
    assert list(table) == BUILT_IN
    for row in rows:
        card = row.card
        assert table[row.name] == [card.title, str(card.n_tracks or ""), card.labels, card.license, ""]
    assert "mirembed datasets show NAME" in output.splitlines()[-1]


def test_the_list_says_how_much_is_in_the_store(tmp_path: Path) -> None:
    dataset = write_classes(tmp_path, n_tracks=18).find(None)
    shown = {row.name: row.stored for row in overview(registry(), Store(tmp_path))}
    assert shown == {**dict.fromkeys(BUILT_IN, ""), "folder": "18 of 18"}
    dataset.write_info(replace(dataset.info(), n_listed=20, n_absent=5))
    Store(tmp_path).dataset(Spec.parse("demo")).write_info(replace(dataset.info(), spec="demo:task=regression"))
    shown = {row.name: row.stored for row in overview(registry(), Store(tmp_path))}
    assert (shown["folder"], shown["demo"], shown["gtzan"]) == ("18 of 25", "0 of 25", "")


def test_all_forms_of_a_dataset_in_the_store_are_counted(tmp_path: Path) -> None:
    store = write_classes(tmp_path, n_tracks=3)
    info = store.find(None).info()
    for spec, n_listed in (("bells", 3), ("bells:tower=north", 2), ("mirembed-bells/bells", 1)):
        store.dataset(Spec.parse(spec)).write_info(replace(info, spec=spec, n_listed=n_listed))
    shown = {row.name: row.stored for row in overview(registry(bells=Bells), store)}
    assert sorted(shown["bells"].split(", ")) == ["0 of 1", "0 of 2", "0 of 3"]


def test_a_dataset_with_the_name_of_a_built_in_one_is_listed_by_its_full_name(tmp_path: Path) -> None:
    rows = overview(registry(gtzan=Bells), Store(tmp_path))
    assert [(row.name, row.card.title) for row in rows if "gtzan" in row.name] == [
        ("gtzan", "GTZAN genre collection"),
        ("mirembed-bells/gtzan", "Bells of the valley"),
    ]


def test_without_a_card_the_summary_is_the_title(tmp_path: Path) -> None:
    (row,) = [row for row in overview(registry(bare=Bare), Store(tmp_path)) if row.name == "bare"]
    card = row.card
    assert (card.title, card.n_tracks, card.labels, card.license, card.archives) == ("summary of bare", 0, "", "", ())


# One dataset


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_dataset_says_where_it_comes_from_and_what_is_expected(name: str) -> None:
    description = describe(registry(), Spec(name))
    paragraphs = dict(description.paragraphs())
    assert paragraphs[name] == description.card.title
    assert {"Labels", "Tracks", "License", "Where to get it", "Expected files", "Checked", "Cite"} <= {*paragraphs}
    assert paragraphs["Cite"].startswith("@")
    assert paragraphs["Cite"].count("{") == paragraphs["Cite"].count("}")
    assert all(scheme in paragraphs["Official folds"] for scheme in description.schemes)


def test_everything_a_dataset_says_about_itself_is_shown() -> None:
    description = describe(registry(bells=Bells), Spec("bells"))
    assert description.paragraphs() == [
        ("bells", "Bells of the valley"),
        ("Labels", "2 metals"),
        ("Tracks", "3"),
        ("License", "CC0"),
        ("Where to get it", "Climb the towers.\nhttps://bells.example/bells.zip"),
        ("Expected files", "<tower>/<bell>.wav"),
        (
            "Checked",
            "sampling rate 48000 Hz\nduration 4 to 12.5 s\n"
            "missing, unexpected, unreadable and truncated files; silence, clipping, duplicates, labels, groups",
        ),
        ("Cite", "@misc{bells, title = {Bells}}"),
        ("Parameters", "tower: str = all"),
        ("Official folds", "--folds by-tower: 2 splits"),
        ("Known faults (1; --exclude known-faults leaves them out)", "c: cracked"),
    ]


def test_what_a_dataset_does_not_say_is_left_out() -> None:
    assert describe(registry(bare=Bare), Spec("bare")).paragraphs() == [("bare", "summary of bare")]


def test_the_command_shows_tree_citation_folds_and_faults(mirembed: Command) -> None:
    lines = mirembed("datasets", "show", "gtzan").stdout.splitlines()
    assert lines[0] == "gtzan"
    assert "    blues/" in lines
    assert "  @article{tzanetakis2002," in lines
    assert "  --folds kereliuk: 1 split" in lines
    assert "  --folds sturm3: 3 splits" in lines
    assert "  jazz.00054: corrupt in many copies" in lines


def test_the_json_holds_the_same(mirembed: Command) -> None:
    shown = json.loads(mirembed("datasets", "show", "gtzan", "--json").stdout)
    description = describe(registry(), Spec("gtzan"))
    assert shown == json.loads(json.dumps(asdict(description)))
    assert (shown["name"], shown["card"]["n_tracks"]) == ("gtzan", 1000)
    assert shown["schemes"] == {"kereliuk": 1, "sturm3": 3}
    assert len(shown["faults"]) == 71


def test_a_plugin_that_fails_is_named() -> None:
    class Broken(Bare):
        def schemes(self) -> dict[str, list[Split]]:
            raise KeyError("fold")

    with pytest.raises(PluginError, match=r"dataset broken of mirembed-bells 1\.0 .*KeyError: 'fold'"):
        describe(registry(broken=Broken), Spec("broken"))


# Errors


@pytest.mark.parametrize("command", ["show", "check"])
def test_an_unknown_name_is_an_error_that_suggests_similar_ones(mirembed: Command, command: str) -> None:
    completed = mirembed("datasets", command, "gtzen", code=1)
    assert completed.stderr.startswith("error: ")
    assert "'gtzen'" in completed.stderr
    assert "gtzan?" in completed.stderr
    assert completed.stdout == ""


def test_without_a_similar_name_all_are_listed() -> None:
    with pytest.raises(UnknownNameError, match=f"'zyx'.*{', '.join(BUILT_IN)}"):
        describe(registry(), Spec("zyx"))


def test_a_wrong_parameter_is_an_error_that_lists_the_right_ones(mirembed: Command) -> None:
    completed = mirembed("datasets", "show", "demo:mood=happy", code=1)
    assert "'mood'" in completed.stderr
    assert "task: classification | tags | regression" in completed.stderr


def test_a_listing_that_breaks_a_promise_is_an_error_before_anything_is_measured(
    mirembed: Command, plugins: dict[str, str], tmp_path: Path
) -> None:
    completed = mirembed("datasets", "check", "bells", "--audio", tmp_path, env=plugins, code=1)
    assert all(fact in completed.stderr for fact in ("dataset bells of mirembed-bells 1.0", "'x'", "'no metal'"))


@pytest.mark.parametrize(
    ("audio", "message"), [("nowhere", "nowhere does not exist"), ("a.wav", "a.wav is not a folder")]
)
def test_the_audio_folder_must_exist(tmp_path: Path, audio: str, message: str) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(DatasetError, match=f"--audio .*{message}"):
        list_dataset(registry(), Spec("folder"), tmp_path / audio, Store(tmp_path / "store"), Silent())


# The audio folder of a check


def test_a_dataset_in_the_store_is_checked_where_it_was_extracted_from(mirembed: Command, tmp_path: Path) -> None:
    tones = write_tones(tmp_path / "tones", n_tracks=2)
    mirembed("extract", "--dataset", "folder", "--audio", tones)
    (tones / "low" / "low-0.wav").write_bytes(b"")
    report = json.loads(mirembed("datasets", "check", "folder", "--json", code=1).stdout)
    assert (report["audio"], report["n_tracks"]) == (str(tones), 6)
    assert [(finding["kind"], finding["tracks"]) for finding in report["findings"]] == [
        ("unreadable", ["low/low-0.wav"])
    ]


class Chimes:
    """A dataset that synthesizes its only track."""

    def synthesize(self, audio: Path) -> None:
        audio.mkdir(parents=True, exist_ok=True)
        (audio / "chime.wav").touch()

    def listing(self, audio: Path) -> Listing:
        files = sorted(audio.glob("*.wav"))
        tracks = [Track(file.stem, file, "bronze") for file in files]
        return Listing(Classification(("bronze", "iron")), tracks, absent=1 - len(files))


def test_synthesis_is_announced_only_if_audio_is_missing(tmp_path: Path) -> None:
    plugins, store = registry(chimes=Chimes), Store(tmp_path)

    def said() -> list[str]:
        progress = Notes()
        listing, folder = list_dataset(plugins, Spec.parse("chimes"), None, store, progress)
        assert [track.path for track in listing.tracks] == [folder / "chime.wav"]
        return [text for text in progress.said if str(tmp_path) in text]

    [announced] = said()
    assert said() == []
    (store.audio(Spec.parse("chimes")) / "chime.wav").unlink()
    assert said() == [announced]


def test_a_dataset_that_is_not_in_the_store_needs_its_audio_folder(mirembed: Command) -> None:
    completed = mirembed("datasets", "check", "gtzan", code=1)
    assert completed.stderr.startswith("error: dataset gtzan ")
    assert "--audio" in completed.stderr
    assert not (mirembed.folder / "mirembed-store").exists()
