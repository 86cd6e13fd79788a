"""Which plugins the user wants.

The choice stands in the environment, which worker processes inherit: they discover plugins anew.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import UnknownNameError

ALLOWED, REFUSED, FOLDER = "MIREMBED_PLUGINS", "MIREMBED_NO_PLUGINS", "MIREMBED_PLUGINS_DIR"


@dataclass(frozen=True)
class Selection:
    """What to load besides the built-in plugins. Names are of distributions or of entry points.

    Attributes
    ----------
    allowed : tuple of str or None
        The only installed plugins to load; None for all.
    refused : tuple of str
        Not to be loaded, whatever is allowed.
    folder : pathlib.Path or None
        Its files are loaded as plugins, whether or not they are allowed.
    """

    allowed: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    folder: Path | None = None

    @classmethod
    def from_environment(cls) -> Selection:
        """Read ``MIREMBED_PLUGINS``, ``MIREMBED_NO_PLUGINS`` and ``MIREMBED_PLUGINS_DIR``."""
        allowed, folder = os.environ.get(ALLOWED), os.environ.get(FOLDER)
        return cls(
            None if allowed is None else _names(allowed),
            _names(os.environ.get(REFUSED, "")),
            Path(folder) if folder else None,
        )

    def why_not(self, distribution: str, entry_point: str, *, installed: bool) -> str | None:
        """Return why a plugin of a third party is not loaded, or None if it is."""
        known = {canonical(distribution), canonical(entry_point)}
        if known & set(map(canonical, self.refused)):
            return "--no-plugin"
        if installed and self.allowed is not None and not known & set(map(canonical, self.allowed)):
            return f"not in {ALLOWED}"
        return None

    def check(self, known: Collection[str]) -> None:
        """Refuse names that choose nothing.

        Parameters
        ----------
        known : collection of str
            Distributions and entry points of third parties.

        Raises
        ------
        UnknownNameError
        """
        canonical_names = set(map(canonical, known))
        for source, names in ((ALLOWED, self.allowed or ()), ("--no-plugin", self.refused)):
            for name in names:
                if canonical(name) not in canonical_names:
                    near = difflib.get_close_matches(name, known, n=2) or sorted(known) or ["none"]
                    raise UnknownNameError(
                        f"{source} {name}: no third party's plugin is called so; there are {', '.join(near)}"
                    )


@contextlib.contextmanager
def selecting(refused: Sequence[str], folder: Path | None) -> Iterator[None]:
    """Leave plugins out, and add those of a folder, for this process and its workers until the block ends."""
    before = {name: os.environ.get(name) for name in (REFUSED, FOLDER)}
    if refused:
        os.environ[REFUSED] = ",".join([*_names(before[REFUSED] or ""), *refused])
    if folder is not None:
        os.environ[FOLDER] = str(folder.absolute())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def canonical(name: str) -> str:
    """Return a distribution's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, text.split(",")) if name)
