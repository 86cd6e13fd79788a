"""What is wrong with a file or folder of a store, as ``mirembed store verify`` lists it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from mirembed.errors import StoreError
from mirembed.store.files import read_json, read_table


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes
    ----------
    path : str
        The file or folder.
    what, advice : str
        What is wrong, and what to do.
    """

    path: str
    what: str
    advice: str

    @classmethod
    def of(cls, path: Path, error: Exception | str, advice: str) -> Fault:
        """Turn an error into a fault, with other advice than the error's own."""
        what = str(error).partition("; ")[0].removeprefix(f"{path} ")
        return cls(str(path), what, advice)

    def to_json(self) -> dict[str, str]:
        """Return the fault as JSON."""
        return asdict(self)


def unreadable(path: Path, advice: str) -> list[Fault]:
    """Read a Parquet or JSON file; return a fault if it is missing or damaged, else nothing."""
    try:
        (read_json if path.suffix == ".json" else read_table)(path)
    except StoreError as error:
        return [Fault.of(path, error if path.exists() else "is missing", advice)]
    return []
