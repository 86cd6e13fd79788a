"""Markdown with citations, as Pandoc has it, and as LaTeX; and BibTeX entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

from mirembed.reports.latex import breakable, escape_latex

_MARKUP = re.compile(r"(?P<math>\$[^$]+\$)|(?P<space> ?)\[(?P<keys>@[^\]]+)\]|`(?P<code>[^`]+)`")
_ENTRY = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,.*?^\}", re.MULTILINE | re.DOTALL)


def to_latex(text: str) -> str:
    r"""Turn a paragraph into LaTeX.

    >>> to_latex("50 % of `rbf-sl` [@a; @b], with $x_1$ and --cv")
    '50 \\% of \\texttt{rbf-sl}~\\cite{a,b}, with $x_1$ and {-}{-}cv'
    """
    parts, end = [], 0
    for found in _MARKUP.finditer(text):
        parts.append(_escaped(text[end : found.start()]))
        if found["math"]:
            parts.append(found["math"])
        elif found["keys"]:
            parts.append(("~" if found["space"] else "") + rf"\cite{{{','.join(cited_keys(found[0]))}}}")
        else:
            parts.append(rf"\texttt{{{breakable(found['code'])}}}")
        end = found.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    """Escape a part of a paragraph; spaces at its ends stay."""
    left, right = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
    return " " * bool(left) + escape_latex(text) + " " * bool(right and text.strip())


def cited_keys(text: str) -> list[str]:
    """Return the keys of the entries that a paragraph cites, in order."""
    found = [match["keys"] for match in _MARKUP.finditer(text) if match["keys"]]
    return [key.strip().lstrip("@") for keys in found for key in keys.split(";")]


def entries_of(bibtex: str) -> dict[str, str]:
    r"""Return BibTeX entries by their keys; each ends with a brace on a line of its own.

    >>> list(entries_of("@misc{one,\n  year = 1\n}\n@misc{two,\n  year = 2\n}"))
    ['one', 'two']
    """
    return {found[1]: found[0] for found in _ENTRY.finditer(bibtex)}


def shared_entries() -> Mapping[str, str]:
    """Return the entries that come with mirembed, by their keys."""
    text = files("mirembed.reports").joinpath("templates/references.bib").read_text(encoding="utf-8")
    return entries_of(text)
