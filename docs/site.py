"""What `make docs` adds to the pages of this folder: the help of every command, notebooks, and the list of changes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./|examples/)[^)]*)\)")
"""A link to a file of the repository that is no page."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the program, and the notebooks."""
    files.append(File.generated(config, "commands.md", content=commands()))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changes.md", content=re.sub(r"\]\(docs/", "](", changes)))
    for notebook in sorted((ROOT / "docs").glob("*.ipynb")):
        if (listed := files.get_file_from_path(notebook.name)) is not None:
            files.remove(listed)
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = []
        for number, cell in enumerate(cells):
            source = "".join(cell["source"])
            text.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
            for place, output in enumerate(cell.get("outputs", [])):
                text.append(shown(output, f"{notebook.stem}-{number}-{place}", files, config))
        files.append(File.generated(config, f"{notebook.stem}.md", content="\n\n".join(text)))
    return files


def shown(output: dict[str, Any], name: str, files: Files, config: MkDocsConfig) -> str:
    """Return an output of a notebook as Markdown; a picture becomes a file of the site."""
    if "text" in output:
        return f"```text\n{''.join(output['text'])}\n```"
    data = output.get("data", {})
    if "image/png" in data:
        files.append(File.generated(config, f"{name}.png", content=base64.b64decode(data["image/png"])))
        return f"![]({name}.png)"
    if "text/html" in data:
        return f"<div>\n{''.join(data['text/html'])}\n</div>"
    return f"```text\n{''.join(data.get('text/plain', []))}\n```"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name the files of the repository that are not part of the site, instead of linking to them."""
    return OUTSIDE.sub(lambda link: f"{link[1]} (`{repository(link[2])}`)", markdown)


def repository(target: str) -> str:
    """Return the path of a linked file from the root of the repository."""
    return target.partition("#")[0].removeprefix("../") if target.startswith("../") else f"docs/{target}"


def commands() -> str:
    """Return the exit codes of the README, and the help of all commands as the program prints it at 80 columns."""
    import typer
    from typer.testing import CliRunner

    from mirembed.cli.main import app

    def below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, (*path, name))

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (codes,) = re.findall(r"^## Exit codes and environment variables\n.*?(?=^## )", readme, re.MULTILINE | re.DOTALL)
    text = ["# Commands", "Exit codes, environment variables, and what every command prints with `--help`."]
    text.append(codes.replace("](docs/", "](").strip())
    for path in below(typer.main.get_command(app)):
        printed = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}, prog_name="mirembed").output
        text += [f"## {' '.join(('mirembed', *path))}", f"```text\n{printed.strip()}\n```"]
    return "\n\n".join(text)
