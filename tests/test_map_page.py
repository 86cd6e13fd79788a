"""The map in a browser: seen, searched, clicked and selected as a reader does it, at the size of a desk and a phone."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, wait_until
from small_map import ARTISTS, AUDIO, TITLES, YEARS, library_map, write

from benchmarks.browser import DESKTOP, PHONE, Browser, Page, chromium, find_chromium
from mirembed.library.map import Column, LibraryMap

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
]

Place = tuple[float, float]
Opener = Callable[..., Page]

SIZES = pytest.mark.parametrize(("size", "touch"), [(DESKTOP, False), (PHONE, True)], ids=["desk", "phone"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as started:
        yield started


@pytest.fixture(scope="module")
def windows(browser: Browser) -> dict[object, Page]:
    """The windows that are open, by their size and the other options: a new one takes longer than a new page."""
    return {}


@pytest.fixture
def opened(browser: Browser, windows: dict[object, Page], tmp_path: Path) -> Iterator[Opener]:
    """Open the page of a map; nothing may have gone wrong in it when the test ends, unless the test says so."""
    pages: set[Page] = set()
    expected = ["willReadFrequently"]  # said of the tests, which look at pixels

    def check(page: Page) -> None:
        assert [error for error in page.errors if not any(part in error for part in expected)] == []

    def open_map(drawn: LibraryMap | None = None, size: tuple[int, int] = DESKTOP, **options: object) -> Page:
        address = write(tmp_path / f"map-{len(pages)}.html", drawn or library_map())
        window = size, *sorted(options.items())
        if window in windows:
            page = windows[window]
            if page in pages:
                check(page)
            page.load(address, tmp_path)
        else:
            page = windows[window] = browser.open(
                address, size, downloads=tmp_path, **{"reduced_motion": True, **options}
            )
        pages.add(page)
        play_when_chosen(page, False)
        return page

    open_map.expected = expected
    yield open_map
    for page in pages:
        page("localStorage.clear()")
        check(page)


def play_when_chosen(page: Page, on: bool) -> None:
    page(f"document.getElementById('autoplay').checked = {str(on).lower()}")


def point(row: int) -> str:
    """Return a script for where a point is, by the color that the legend gives to its label; false if unseen."""
    return f"""(() => {{
      const canvas = document.getElementById("points"), box = canvas.getBoundingClientRect();
      const {{ data }} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const entry = [...document.querySelectorAll("#legend button")].find((one) => one.title === "kind {row}");
      const [r, g, b] = getComputedStyle(entry.querySelector(".swatch")).backgroundColor.match(/\\d+/g).map(Number);
      let count = 0, x = 0, y = 0;
      for (let i = 0; i < data.length; i += 4) {{
        if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) > 36) continue;
        count++;
        x += (i / 4) % canvas.width;
        y += Math.floor(i / 4 / canvas.width);
      }}
      const ratio = canvas.width / box.width;
      return count > 10 && [box.x + x / count / ratio, box.y + y / count / ratio];
    }})()"""


def place_of(page: Page, row: int) -> Place:
    """Wait until a point is painted, and return where it is."""
    x, y = page.until(point(row))
    return x, y


def text(page: Page, selector: str) -> str:
    return page(f"document.querySelector({selector!r}).innerText")


def texts(page: Page, selector: str) -> list[str]:
    return page(f"[...document.querySelectorAll({selector!r})].map((one) => one.innerText)")


def is_shown(page: Page, selector: str) -> bool:
    return page(f"document.querySelector({selector!r}).checkVisibility()")


def focused(page: Page) -> str:
    return page("document.activeElement.id")


def paper(page: Page) -> list[int]:
    """The color of the map's background."""
    return page("[...document.getElementById('points').getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)")


def listed(page: Page, name: str) -> list[str]:
    return texts(page, f"#{name} .title")


def lasso(page: Page, rows: list[int], *, touch: bool = False) -> None:
    """Draw a line around points with the lasso."""
    places = np.array([place_of(page, row) for row in rows])
    (left, top), (right, bottom) = (places.min(axis=0) - 15).tolist(), (places.max(axis=0) + 15).tolist()
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    page.click("#lasso")
    page.touch(corners) if touch else page.drag(corners)


def saved_playlist(page: Page, folder: Path) -> str:
    page.click("#save")
    path = folder / "rbf-sl-selection.m3u8"
    wait_until(lambda: path.exists() and path.read_text(encoding="utf-8").endswith("\n"))
    return path.read_text(encoding="utf-8")


# ---- What is there when it opens


@SIZES
def test_the_page_shows_every_track_and_asks_nothing_of_any_network(opened: Opener, size: Place, touch: bool) -> None:
    page = opened(size=size, touch=touch, ratio=2 if touch else 1)
    assert len({place_of(page, row) for row in range(len(TITLES))}) == len(TITLES)
    assert page("document.title") == "Map of Music"
    assert [address for address in page.requests if not address.startswith("data:")] == [page("location.href")]


@SIZES
def test_nothing_is_wider_than_the_window(opened: Opener, size: Place, touch: bool) -> None:
    page = opened(size=size, touch=touch)
    page.click(place_of(page, 2))
    assert page("document.documentElement.scrollWidth") <= size[0]
    assert page("[...document.querySelectorAll('#sections *')].every((one) => one.scrollWidth <= innerWidth)")


def test_it_says_that_axes_mean_nothing_and_how_well_neighbors_are_kept(opened: Opener) -> None:
    page = opened()
    assert "axes" in text(page, "#hint")
    page.click("summary")
    notes = text(page, "#notes")
    assert re.search(r"\b75 ?%", notes)
    assert "0.88" in notes
    assert "rbf:gamma=1" in notes


def test_a_map_of_one_track_and_one_of_tracks_at_one_place_open(opened: Opener) -> None:
    drawn = library_map()
    one = dataclasses.replace(
        drawn,
        ids=drawn.ids[:1],
        paths=drawn.paths[:1],
        titles=drawn.titles[:1],
        albums=drawn.albums[:1],
        durations=drawn.durations[:1],
        columns=[Column(column.name, column.values[:1]) for column in drawn.columns],
        positions=drawn.positions[:1],
        neighbors=np.zeros((1, 0), np.int32),
        similarities=np.zeros((1, 0)),
        trust=None,
    )
    page = opened(one)
    page.click(place_of(page, 0))
    assert text(page, "#track-title") == TITLES[0]
    assert listed(page, "neighbors") == []
    page = opened(library_map(positions=np.ones((10, 2))))
    page.press("0")
    lasso_all = [(80.0, 30.0), (880.0, 30.0), (880.0, 740.0), (80.0, 740.0)]
    page.click("#lasso")
    page.drag(lasso_all)
    assert text(page, "#selection-count") == "10 tracks selected"


# ---- A track


@SIZES
def test_a_click_on_a_point_shows_the_track_and_its_neighbors(opened: Opener, size: Place, touch: bool) -> None:
    page = opened(size=size, touch=touch)
    place = place_of(page, 2)
    page.touch([place]) if touch else page.click(place)
    assert text(page, "#track-title") == "Étoile"
    assert text(page, "#track-artist") == "Björk Ilves · Album 1"
    assert text(page, "#track-path") == f"{AUDIO}/Björk Ilves/02 Étoile.mp3"
    facts = dict(zip(texts(page, "#facts dt"), texts(page, "#facts dd"), strict=True))
    assert facts == {"Label": "kind 2", "Prediction": "kind 2", "Year": "1980", "Folder": "Björk Ilves"}
    neighbors = library_map().neighbors[2]
    assert listed(page, "neighbors") == [TITLES[row] for row in neighbors]
    assert float(texts(page, "#neighbors .number")[0]) == pytest.approx(np.exp(-3), abs=1e-3)


def test_a_neighbor_can_be_clicked(opened: Opener) -> None:
    page = opened()
    page.click(place_of(page, 0))
    page.click("#neighbors li:nth-child(1) button")
    assert text(page, "#track-title") == TITLES[library_map().neighbors[0][0]]


def test_a_track_without_a_title_is_called_by_its_file(opened: Opener) -> None:
    page = opened(library_map(titles=[None, *TITLES[1:]]))
    page.click(place_of(page, 0))
    assert text(page, "#track-title") == "00 Aube"


def test_the_mouse_over_a_point_names_the_track(opened: Opener) -> None:
    page = opened()
    page.move(place_of(page, 2))
    assert text(page, "#tip").split("\n") == ["Étoile", "Björk Ilves", "Album 1", "Label: kind 2"]
    page.move((600, 30))
    assert not is_shown(page, "#tip")


def test_a_click_beside_the_points_closes_the_track(opened: Opener) -> None:
    page = opened()
    page.click(place_of(page, 2))
    page.click((600, 60))
    assert not is_shown(page, "#track")


# ---- Search


@SIZES
def test_a_search_lists_tracks_and_leads_to_one(opened: Opener, size: Place, touch: bool) -> None:
    page = opened(size=size, touch=touch)
    page.click("#query")
    page.type("dora")
    assert text(page, "#found-count") == "2 tracks found"
    assert listed(page, "results") == ["Falaise", "Givre"]
    page.click("#results li:nth-child(2) button")
    assert text(page, "#track-title") == "Givre"


QUERIES = {
    "etoile": [2],
    "ÉTOILE BJORK": [2],
    "album jardin": [9],
    "chorus/03": [3],
    "ada brume": [1],
    "i": [8, 2, 5, 6, 9, 0, 1, 3, 4, 7],  # titles that begin with it, then those that contain it
    "nothing like it": [],
}


def test_every_word_of_a_search_may_be_in_another_field(opened: Opener) -> None:
    page = opened()
    for query, rows in QUERIES.items():
        page.press("Escape")
        page("document.activeElement.blur()")
        page.press("/")
        page.type(query)
        assert listed(page, "results") == [TITLES[row] for row in rows], query


def test_tracks_that_a_search_does_not_find_fade(opened: Opener) -> None:
    page = opened()
    place = place_of(page, 0)
    page.press("/")
    page.type("dora")
    page.until(f"!{point(0)}")
    page.click(place)
    assert not is_shown(page, "#track")
    page.click(place_of(page, 5))
    assert text(page, "#track-title") == "Falaise"


def test_all_results_can_be_selected(opened: Opener) -> None:
    page = opened()
    page.press("/")
    page.type("ema")
    page.click("#select-found")
    assert listed(page, "selected") == ["Houle", "Île"]


# ---- Selections


@SIZES
def test_a_lasso_selects_tracks_and_saves_them_as_a_playlist(
    opened: Opener, tmp_path: Path, size: Place, touch: bool
) -> None:
    page = opened(size=size, touch=touch)
    lasso(page, [2, 5], touch=touch)
    assert listed(page, "selected") == ["Étoile", "Falaise"]
    assert saved_playlist(page, tmp_path).splitlines() == [
        "#EXTM3U",
        "#EXTINF:182,Björk Ilves - Étoile",
        f"{AUDIO}/Björk Ilves/02 Étoile.mp3",
        "#EXTINF:185,Dora - Falaise",
        f"{AUDIO}/Dora/05 Falaise.mp3",
    ]


def test_dragging_with_shift_selects_a_box_and_dragging_alone_moves_the_map(opened: Opener) -> None:
    page = opened()
    x, y = place_of(page, 8)
    page.drag([(x - 20, y - 20), (x + 20, y + 20)], shift=True)
    assert listed(page, "selected") == ["Île"]
    page.drag([(x - 30, y - 15), (x - 70, y + 25)])
    assert place_of(page, 8) == pytest.approx((x - 40, y + 40), abs=1.5)


def test_paths_can_be_copied(opened: Opener) -> None:
    page = opened()
    page("(navigator.clipboard.writeText = async (text) => { window.copied = text; }) && 0")
    lasso(page, [8])
    page.click("#copy")
    assert page("window.copied") == f"{AUDIO}/Ema/08 Île.mp3\n"


def test_a_track_and_its_neighbors_can_be_selected(opened: Opener) -> None:
    page = opened()
    page.click(place_of(page, 4))
    page.click("#select-neighbors")
    assert text(page, "#selection-count") == "10 tracks selected"


# ---- Colors


def test_the_legend_isolates_values(opened: Opener) -> None:
    page = opened()
    hidden = place_of(page, 0)
    for name in ("kind 2", "kind 4"):
        page.click(f"#legend button[title='{name}']")
    place_of(page, 2), place_of(page, 4)
    page.click(hidden)
    assert not is_shown(page, "#track")
    page.click("#show-all")
    page.click(place_of(page, 0))
    assert text(page, "#track-title") == "Aube"


def choose_color(page: Page, name: str) -> None:
    page(f"(() => {{ const color = document.getElementById('color'); color.value = {name!r};"
         " color.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.settle()


def test_a_legend_counts_tracks_the_most_frequent_value_first(opened: Opener) -> None:
    page = opened()
    choose_color(page, "artist")
    shown = [line.split("\n") for line in texts(page, "#legend button")]
    assert shown[0] == ["Ada Vale", "2"]
    assert {name: int(count) for name, count in shown} == {name: ARTISTS.count(name) for name in ARTISTS}
    choose_color(page, "genre")
    assert [line.split("\n") for line in texts(page, "#legend button")] == [["Folk", "5"], ["Jazz", "5"], ["none", "5"]]


def test_rare_values_are_gray_together(opened: Opener) -> None:
    n, drawn = 12, library_map()
    wide = [(f"value {row}",) for row in range(n)]
    page = opened(
        dataclasses.replace(
            drawn,
            ids=[str(row) for row in range(n)],
            paths=[f"{AUDIO}/{row}.mp3" for row in range(n)],
            titles=[str(row) for row in range(n)],
            albums=[None] * n,
            durations=np.ones(n),
            columns=[Column("genre", wide)],
            color="genre",
            positions=np.random.default_rng(0).random((n, 2)),
            neighbors=np.zeros((n, 0), np.int32),
            similarities=np.zeros((n, 0)),
        )
    )
    lines = texts(page, "#legend button")
    assert len(lines) == 11
    assert lines[-1].split("\n") == ["2 others", "2"]


def test_numbers_have_a_scale(opened: Opener) -> None:
    page = opened()
    choose_color(page, "year")
    assert texts(page, "#legend .ends span") == ["1960", "2010"]
    known = sum(not np.isnan(year) for year in YEARS)
    assert [line.split("\n") for line in texts(page, "#legend button")] == [["known", str(known)], ["unknown", "1"]]


def test_labels_and_predictions_have_the_same_colors(opened: Opener) -> None:
    page = opened()
    read = "Object.fromEntries([...document.querySelectorAll('#legend button[title]')].map((one) => [one.title, "
    read += "getComputedStyle(one.querySelector('.swatch')).backgroundColor]))"
    labels = page(read)
    choose_color(page, "prediction")
    predictions = page(read)
    assert predictions == {name: labels[name] for name in predictions}
    assert len(set(predictions.values())) == len(predictions)


# ---- Themes


def test_the_page_follows_the_theme_of_the_system_and_has_a_switch(opened: Opener) -> None:
    light, dark = opened(), opened(dark=True)
    assert min(paper(light)) > 240
    assert max(paper(dark)) < 50
    dark.click("#theme")
    assert min(paper(dark)) > 240
    dark.click("#theme")
    assert max(paper(dark)) < 50


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_background(opened: Opener, dark: bool) -> None:
    page = opened(dark=dark)
    style = "getComputedStyle(document.documentElement)"
    pairs = [("ink", "paper"), ("ink", "panel"), ("soft", "panel"), ("soft", "paper"), ("on-accent", "accent")]
    for ink, below in pairs:
        a, b = (luminance(page(f"{style}.getPropertyValue('--{name}')")) for name in (ink, below))
        assert (max(a, b) + 0.05) / (min(a, b) + 0.05) >= 4.5, (ink, below)


def luminance(color: str) -> float:
    """The relative luminance of ``#rrggbb``, as WCAG 2 defines it."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


# ---- Keys, wheel and fingers


def test_the_map_can_be_used_with_keys_alone(opened: Opener) -> None:
    page = opened()
    page.press("Tab")
    assert focused(page) == "marks"
    x, y = place_of(page, 4)
    page.press("ArrowRight", "ArrowDown")
    moved = place_of(page, 4)
    assert moved[0] < x - 20
    assert moved[1] < y - 20
    page.press("0", "+")
    spread = place_of(page, 4)[1] - place_of(page, 9)[1]
    page.press("-")
    assert spread == pytest.approx(1.5 * (place_of(page, 4)[1] - place_of(page, 9)[1]), abs=2)
    page.press("0", "Enter")
    assert text(page, "#track-title") in TITLES
    page.press("Escape")
    assert not is_shown(page, "#track")


def test_search_and_results_can_be_used_with_keys_alone(opened: Opener) -> None:
    page = opened()
    page.press("/")
    assert focused(page) == "query"
    page.type("chorus")
    page.press("ArrowDown", "ArrowDown", "Enter")
    assert text(page, "#track-title") == "Écho"
    page.press("Escape")
    assert page("document.getElementById('query').value") == ""
    page.press("/")
    page.type("fado")
    page.press("Enter")
    assert text(page, "#track-title") == "Jardin"
    page.press("Tab", "Tab")
    assert page("document.activeElement.closest('#results') !== null")


def test_the_wheel_zooms_at_the_mouse(opened: Opener) -> None:
    page = opened()
    place = place_of(page, 4)
    before = place[1] - place_of(page, 9)[1]
    page.wheel(place, -200)
    assert place_of(page, 4) == pytest.approx(place, abs=1.5)
    assert place[1] - place_of(page, 9)[1] > 1.2 * before


def test_two_fingers_zoom_and_one_moves(opened: Opener) -> None:
    page = opened(size=PHONE, touch=True)
    x, y = place_of(page, 4)
    before = place_of(page, 4)[1] - place_of(page, 9)[1]
    page.touch([(x, y - 40 - 4 * step) for step in range(10)], [(x, y + 40 + 4 * step) for step in range(10)])
    assert place_of(page, 4)[1] - place_of(page, 9)[1] > 1.5 * before
    at = place_of(page, 4)
    page.touch([(at[0] + 3 * step, at[1] + 25) for step in range(11)])
    assert place_of(page, 4) == pytest.approx((at[0] + 30, at[1]), abs=1.5)


def test_the_panel_of_a_phone_folds(opened: Opener) -> None:
    page = opened(size=PHONE, touch=True)
    height = page("document.getElementById('stage').clientHeight")
    page.click("#fold")
    assert page("document.getElementById('stage').clientHeight") > height + 100
    assert not is_shown(page, "#sections")
    page.touch([place_of(page, 1)])
    assert text(page, "#track-title") == "Brume"


# ---- Playing


def test_a_chosen_track_plays(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "my #1 100% music"
    folder.mkdir()
    soundfile.write(folder / "été?.wav", tone(440, 3, 0), RATE, subtype="PCM_16")
    paths = [f"{folder}/été?.wav", *library_map().paths[1:]]
    page = opened(library_map(audio="/", paths=paths))
    play_when_chosen(page, True)
    page.click(place_of(page, 0))
    page.until("document.getElementById('player').currentTime > 0.05")
    assert page("document.getElementById('player').duration") == pytest.approx(3, abs=0.1)
    page.press("Escape")
    assert page("document.getElementById('player').paused")


def test_the_page_says_that_a_file_cannot_be_played(opened: Opener) -> None:
    opened.expected.append("ERR_FILE_NOT_FOUND")
    page = opened()
    play_when_chosen(page, True)
    page.click(place_of(page, 0))
    page.until("!document.getElementById('player-note').hidden")
    assert listed(page, "neighbors")


def test_a_page_from_a_server_shows_everything_and_says_that_it_cannot_play(
    browser: Browser, opened: Opener, tmp_path: Path
) -> None:
    opened()  # writes map-0.html
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.open(f"http://127.0.0.1:{server.server_port}/map-0.html", reduced_motion=True)
        page.click(place_of(page, 0))
        assert is_shown(page, "#player-note")
        assert not is_shown(page, "#player")
        assert [address for address in page.requests if not address.startswith("data:")] == [page("location.href")]
        assert page.errors == []
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


# ---- Hostile texts

HOSTILE = [
    '</script><script>document.title = "run"</script>',
    "<img src=x onerror=\"document.title = 'run'\">",
    "{{ 7 * 7 }} ${7 * 7} &lt;b&gt; <!-- <script>",
    '"><svg onload="document.title=1">',
    "line\u2028separator\u2029 and \x00 control \x1b[31m",
    "\u202eright to left\u2066 marks",
    '=HYPERLINK("http://example.org")',
    "ends\r\n#EXTINF:0,forged\r\n/etc/passwd",
    "שלום 123 עולם",
    "x" * 5000,
]


def test_hostile_texts_are_shown_as_text(opened: Opener, tmp_path: Path) -> None:
    own = [(text,) for text in HOSTILE]
    columns = [
        Column("label", library_map().columns[0].values),
        Column("genre", own),
        Column("artist", own),
        Column("album", own),
    ]
    paths = [f"{AUDIO}/{row} {text.replace('/', '_')}/a.mp3" for row, text in enumerate(HOSTILE)]
    names = {"dataset": HOSTILE[0], "model": HOSTILE[1], "titles": HOSTILE, "albums": HOSTILE}
    page = opened(library_map(columns=columns, paths=paths, **names))
    choose_color(page, "genre")
    shown = page("[...document.querySelectorAll('#legend bdi')].map((one) => one.textContent)")
    assert sorted(shown) == sorted(HOSTILE)
    choose_color(page, "label")
    for row in range(len(HOSTILE)):
        page.click(place_of(page, row))
        assert page("document.getElementById('track-title').textContent") == HOSTILE[row]
        assert page("document.getElementById('track-title').firstChild.localName") == "bdi"
        assert page("document.getElementById('track-path').textContent") == paths[row]
    page.press("Escape")
    page("document.getElementById('query').value = ''")
    page.press("/")
    page.type("script")
    assert page("document.querySelectorAll('#results li').length") == 2  # of tracks 0 and 2
    assert page("document.title") == "Map of Music"
    assert page("document.querySelectorAll('img, #sections svg[onload], script:not([type])').length") == 1


def test_hostile_texts_add_no_lines_to_a_playlist(opened: Opener, tmp_path: Path) -> None:
    drawn = library_map(titles=HOSTILE, columns=library_map().columns[:1])
    paths = [f"{AUDIO}/{row}.mp3" for row in range(10)]
    paths[3] = f"{AUDIO}/two\nlines.mp3"
    paths[4] = f"{AUDIO}/\\xe9.mp3"
    page = opened(dataclasses.replace(drawn, paths=paths, urls={4: "file:///home/ada/Music/%E9.mp3"}))
    page.press("/")
    page.type("music")
    page.click("#select-found")
    lines = saved_playlist(page, tmp_path).split("\n")
    assert lines[2::2] == [path for row, path in enumerate(paths) if row not in (3, 4)]
    assert all(line.startswith("#EXTINF:") for line in lines[1:-1:2])
    assert re.search(r"\b2 files\b", text(page, "#selection-note"))


def test_only_the_script_of_the_page_may_run(opened: Opener) -> None:
    opened.expected.append("Content Security Policy")
    page = opened()
    page("(() => { const one = document.createElement('script'); one.textContent = 'document.title = 1';"
         " document.body.append(one); })()")  # fmt: skip
    assert page("document.title") == "Map of Music"
    assert page("fetch('data:text/plain,x').then(() => 'sent', () => 'refused')") == "refused"
