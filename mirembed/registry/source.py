"""The source of a plugin: the files that make up its code, and their digest.

A plugin's source is that of the module whose hook registers it, that of its factory, and of every module that these
import, directly or not, as far as it belongs to the same distribution or is not installed at all (an editable install,
``PYTHONPATH``). What other installed distributions contain is known by their versions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from mirembed.errors import PluginError
from mirembed.provenance import files_digest, folder_files

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#;]+))|import[ \t]+([^\n#;]+))", re.MULTILINE
)
"""``from ORIGIN import NAMES``, or ``import NAMES``. Finding too much does no harm: it must also be importable."""


_HOST = "mirembed"


@dataclass(frozen=True)
class _Unit:
    """A module, or a package with all its modules, that lies in one place.

    Attributes
    ----------
    name : str
        As imported; with dots inside a namespace package.
    path : pathlib.Path
        The module's file, the package's folder, or the archive that contains it.
    """

    name: str
    path: Path

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield its files with their names, which do not depend on where it lies."""
        if self.path.is_dir():
            yield from ((f"{self.name}/{name}", path) for name, path in folder_files(self.path))
        else:
            yield f"{self.name}{self.path.suffix}", self.path

    def imports(self) -> Iterator[str]:
        """Yield the names of modules that it may import."""
        for _, path in self.files():
            if path.suffix == ".py":
                for origin, *names in _IMPORT.findall(path.read_text(encoding="utf-8", errors="replace")):
                    listed = re.findall(r"(?:^|,)\s*([\w.]+)", "".join(names))
                    origin = self._absolute(origin)
                    yield from [origin, *(f"{origin}.{name}" for name in listed)] if origin else listed

    def _absolute(self, name: str) -> str:
        """Return the full name of what a relative import names; inside a package, that is the package."""
        relative = name.lstrip(".")
        dots = len(name) - len(relative)
        if dots == 0:
            return name
        return self.name if self.path.is_dir() else ".".join([*self.name.split(".")[:-dots], *filter(None, [relative])])


@functools.cache
def source_digest(modules: tuple[str, ...], distribution: str, file_hash: str = "") -> str:
    """Return ``sha256:...`` of a plugin's source; empty if it has none.

    It is computed once in a process, where a module that is imported does not change.

    Parameters
    ----------
    modules : tuple of str
        The imported module whose hook registers the plugin, and that of its factory.
    distribution : str
    file_hash : str
        Of a file in ``--plugins-dir``, which is loaded anew when it changes.

    Raises
    ------
    PluginError
        If a file cannot be read.
    """
    try:
        units = _units(modules, distribution)
        return files_digest(file for name in sorted(units) for file in units[name].files()) if units else ""
    except OSError as error:
        raise PluginError(
            f"cannot read the source of a plugin of {distribution}: {error.filename}: {error.strerror}; check its "
            "permissions"
        ) from error


def _units(modules: tuple[str, ...], distribution: str) -> dict[str, _Unit]:
    """Return the units of modules, and of what they import, by name."""
    own = _recorded_files(distribution)
    units: dict[str, _Unit] = {}
    waiting = [*modules]
    seen = {*modules}
    while waiting:
        name = waiting.pop()
        unit = _unit(name)
        if unit is None or unit.name in units:
            continue
        if name == modules[0] or unit.path in own or not _is_installed(unit.path):
            units[unit.name] = unit
            # A built-in plugin imports nothing but mirembed.
            imported = {*unit.imports()} - seen if distribution != _HOST else set()
            seen |= imported
            waiting += imported
    return units


def _unit(module: str) -> _Unit | None:
    """Return the outermost regular package that contains a module, or the module itself; None if there is no file."""
    parts = module.split(".")
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        spec = _find(name)
        if name in ("", "__main__", "mirembed") or spec is None:
            return None
        if archive := getattr(spec.loader, "archive", None):
            return _Unit(name, Path(archive))
        if spec.origin is not None and spec.has_location:
            path = Path(spec.origin)
            return _Unit(name, path.parent if path.stem == "__init__" else path)
    return None


def _find(name: str) -> ModuleSpec | None:
    """Return where a module lies, without importing it."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _is_installed(path: Path) -> bool:
    """Whether a module is installed by a package manager, or part of Python."""
    library = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return bool({"site-packages", "dist-packages"} & {*path.parts} or library & {*path.parents})


def _recorded_files(distribution: str) -> set[Path]:
    """Return the files and folders of a distribution, as its installer recorded them."""
    try:
        files = importlib.metadata.files(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return set()
    located = {Path(str(file.locate())) for file in files if file.suffix != ".pyc"}
    return located | {path.parent for path in located if path.stem == "__init__"}
