"""The map as one HTML page that works offline: its template, style and scripts, and the packed tracks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import interruptible
from mirembed.library.map import FOLDER, Column, LibraryMap, folders_of
from mirembed.store.files import writing

N_COLORS = 10
"""The most frequent values of a column have a color each, from ``map.css``; the others are gray."""

_SCRIPTS = ("map-data.js", "map-scatter.js", "map-page.js")

_TITLES = {"album": "Album", "artist": "Artist", "folder": "Folder", "genre": "Genre", "label": "Label"}

_MOST_VALUES = 255
"""The most values of one track in one column, because their number is stored in a byte."""


def write_page(path: Path, drawn: LibraryMap) -> None:
    """Write a map as an HTML page.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    with interruptible():
        page = render(drawn).encode("utf-8", "backslashreplace")
    with writing(path) as temporary:
        temporary.write_bytes(page)


def render(drawn: LibraryMap) -> str:
    """Return the page; it depends only on the map."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mirembed.library"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, theme_script = _template("map.css"), _template("map-theme.js")
    script = "\n".join(_template(name) for name in _SCRIPTS)
    return environment.get_template("map.html").render(
        title=f"Map of {Path(drawn.audio).name or drawn.dataset}",
        style=style,
        theme_script=theme_script,
        script=script,
        style_hash=_hash(style),
        script_hashes=f"{_hash(theme_script)} {_hash(script)}",
        blocks=blocks_of(drawn),
    )


def blocks_of(drawn: LibraryMap) -> dict[str, str]:
    """Return the data of the page by name: JSON, or arrays of little-endian numbers in Base64."""
    n, k = drawn.neighbors.shape
    blocks: dict[str, str] = {}
    root, folders, files = folders_of(drawn.paths, drawn.audio)
    described = []
    tables: dict[str, list[str]] = {}
    columns = [*drawn.columns, Column(FOLDER, [(folder,) for folder in folders])]
    for number, column in enumerate(columns):
        described.append(_pack_column(column, number, tables, blocks))
    low, high = (float(drawn.similarities.min()), float(drawn.similarities.max())) if k else (0.0, 1.0)
    shares = (drawn.similarities - low) / ((high - low) or 1.0)
    seconds = np.nan_to_num(drawn.durations)
    neighbor_type = _integer_type(n)
    about = {
        "n": n,
        "k": k,
        "fileName": _file_name(drawn),
        "model": drawn.model,
        "dataset": drawn.dataset,
        "notes": drawn.notes(),
        "root": root,
        "urls": drawn.urls,
        "color": drawn.color,
        "palette": list(range(N_COLORS)),
        "columns": described,
        "similarity": {"low": low, "high": high},
        "neighborWidth": neighbor_type.itemsize,
    }
    blocks |= {
        "about": _json(about),
        "positions": _base64(drawn.positions, np.float32),
        "titles": _json(drawn.titles),
        "files": _json(files),
        "seconds": _base64(np.clip(np.rint(seconds), 0, 65535), np.uint16),
        "neighbors": _base64(drawn.neighbors, neighbor_type),
        "similarities": _base64(np.rint(65535 * shares), np.uint16),
    }
    return blocks


def _pack_column(column: Column, number: int, tables: dict[str, list[str]], blocks: dict[str, str]) -> dict[str, Any]:
    """Add the blocks of a column, and return its description.

    Texts become codes: positions in a table that begins with the most frequent text. Predictions get the codes of
    labels, and so their colors.
    """
    title = _TITLES.get(column.name, column.name[0].upper() + column.name[1:])
    described = {"name": column.name, "title": title}
    if isinstance(column.values, np.ndarray):
        blocks[f"numbers-{number}"] = _base64(column.values, np.float32)
        return described | {"kind": "numbers"}
    rows = [texts[:_MOST_VALUES] for texts in column.values]
    counts = Counter(text for texts in rows for text in texts)
    of_labels = tables.get("label", []) if column.name == "prediction" else []
    table = of_labels + sorted(counts.keys() - set(of_labels), key=lambda text: (-counts[text], text))
    tables[column.name] = table
    code_of = {text: code for code, text in enumerate(table)}
    code_type = _integer_type(len(table))
    several = any(len(texts) != 1 for texts in rows)
    blocks[f"values-{number}"] = _json(table)
    blocks[f"codes-{number}"] = _base64(np.array([code_of[text] for texts in rows for text in texts]), code_type)
    if several:
        blocks[f"counts-{number}"] = _base64(np.array([len(texts) for texts in rows]), np.uint8)
    return described | {"kind": "texts", "several": several, "width": code_type.itemsize}


def _file_name(drawn: LibraryMap) -> str:
    return f"{drawn.model}-selection"


def _integer_type(count: int) -> np.dtype[Any]:
    """Return the smallest type for numbers from 0 to ``count``."""
    return np.min_scalar_type(count) if count < 2**32 else np.dtype(np.uint64)


def _base64(values: NDArray[Any], to: Any) -> str:
    little = np.dtype(to).newbyteorder("<")
    return base64.b64encode(np.ascontiguousarray(values).astype(little).tobytes()).decode()


def _json(content: Any) -> str:
    """Return JSON for a script element: without ``<``, which could end it, and without line separators."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in ("<", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(name: str) -> str:
    return resources.files("mirembed.library").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash by which the page's Content-Security-Policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
