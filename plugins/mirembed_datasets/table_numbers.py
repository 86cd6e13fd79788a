"""Numbers as people write them in tables: decimal commas, thousands separators; dates that were numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal

Use = Literal["plain", "decimal .", "decimal ,", "thousands .", "thousands ,"]
"""The meaning of a point or comma in a number."""

_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d+,\d+|,\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_GROUPS: Mapping[Use, re.Pattern[str]] = {
    "thousands ,": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII),
    "thousands .": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?", re.ASCII),
}
_SPACED = re.compile(r"[+-]?\d{1,3}(?P<space>[ \u00a0\u2009\u202f\u2019'])\d{3}((?P=space)\d{3})*([.,]\d+)?", re.ASCII)
"""Groups of three digits with spaces or apostrophes between them, as in French and in Swiss spreadsheets."""

_MONTHS = (
    "jan|ene|gen|jän|sty|feb|fév|fev|lut|mar|mär|mrz|mrt|apr|abr|avr|kwi|may|mai|maj|mag|mei|jun|juin|giu|cze|"
    "jul|juil|lug|lip|aug|aoû|ago|sie|sep|set|wrz|oct|okt|out|ott|paź|nov|lis|dec|dez|déc|dic|gru"
)
_DATE = re.compile(
    rf"\d{{1,2}}[.\-/ ]\s?({_MONTHS})[^\W\d]?\.?([.\-/ ]\s?\d{{2,4}})?|({_MONTHS})[^\W\d]?\.?[.\-/ ]\s?\d{{1,4}}|"
    r"\d{1,4}([./-])\d{1,2}\4\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2})?)?",
    re.IGNORECASE,
)


def looks_like_date(text: str) -> bool:
    """Whether a text is a date into which a spreadsheet may have turned a number or a fraction.

    >>> looks_like_date("03.May"), looks_like_date("3.5.2026"), looks_like_date("3.5"), looks_like_date("90 bpm")
    (True, True, False, False)
    """
    return _DATE.fullmatch(text) is not None


class NumberFormat:
    """What points and commas mean in the numbers of a table.

    A number that could be read in two ways is read only if other numbers of the table settle which.

    Parameters
    ----------
    texts : iterable of str
        All cells that hold numbers.

    Examples
    --------
    >>> numbers = NumberFormat(["3,5", "0,25", "7"])
    >>> numbers.read("3,5"), numbers.read("1,234")
    (3.5, 1.234)
    >>> NumberFormat(["7", "1,234"]).read("1,234")
    Traceback (most recent call last):
    ValueError: may be 1.234 or 1234
    """

    def __init__(self, texts: Iterable[str]) -> None:
        found = [readings for text in texts if (readings := _readings(text))]
        self._clear = {use for readings in found if len(readings) == 1 for use in _implied(readings)}
        self.used: dict[Use, str] = {}

    def read(self, text: str) -> float:
        """Return a number; the attribute ``used`` keeps an example of each meaning of a point or comma.

        Raises
        ------
        ValueError
            It is not a finite number, or may be either of two. The message says so.
        """
        readings = _readings(text)
        if not readings:
            raise ValueError("looks like a date" if looks_like_date(text) else "not a number")
        use = next(iter(readings)) if len(readings) == 1 else self._settled(readings)
        if not math.isfinite(readings[use]):
            raise ValueError("not a finite number")
        self.used.setdefault(use, text)
        return readings[use]

    def _settled(self, readings: Mapping[Use, float]) -> Use:
        decimal, thousands = readings
        other: Use = "decimal ," if decimal == "decimal ." else "decimal ."
        if thousands in self._clear and decimal not in self._clear:
            return thousands
        # A point without any sign of commas is what every program writes.
        settled = decimal in self._clear or decimal == "decimal ."
        if settled and thousands not in self._clear and other not in self._clear:
            return decimal
        low, high = sorted(readings.values())
        raise ValueError(f"may be {low:g} or {high:.15g}")


def _readings(text: str) -> dict[Use, float]:
    """Return the numbers that a text may stand for: the decimal reading first; none if it is no number."""
    text = text.replace("\u2212", "-")
    spaced = _SPACED.fullmatch(text)
    if spaced:
        text = text.replace(spaced["space"], "")
    found: dict[Use, float] = {}
    if _POINT.fullmatch(text):
        found["decimal ." if "." in text else "plain"] = float(text)
    elif _COMMA.fullmatch(text):
        found["decimal ,"] = float(text.replace(",", "."))
    if spaced:
        return found
    for use, pattern in _GROUPS.items():
        if pattern.fullmatch(text):
            whole, _, decimals = text.partition("." if use == "thousands ," else ",")
            found[use] = float(f"{whole.replace(use[-1], '')}.{decimals or 0}")
    return found


def _implied(readings: Mapping[Use, float]) -> set[Use]:
    """Return the meanings in a number with one reading; where commas group digits before a point, the point's too."""
    (use,) = readings
    other: Use = "decimal ." if use == "thousands ," else "decimal ,"
    return {use, other} if use.startswith("thousands") and not readings[use].is_integer() else {use}
