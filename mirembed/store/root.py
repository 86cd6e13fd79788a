"""The store's root folder: its format, and where things are in it."""

from __future__ import annotations

import re
from pathlib import Path

from mirembed.errors import StoreError
from mirembed.specs import Spec, near_names
from mirembed.store.features import FeatureStore
from mirembed.store.files import read_json, write_json

FORMAT = 1
"""Version of the store's layout; a store of another version is refused."""


class Store:
    """A folder with spectrograms, embeddings, models and runs.

    Parameters
    ----------
    root : pathlib.Path
        May not exist yet; `create` makes it.

    Raises
    ------
    StoreError
        If the folder holds a store of another version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        marker = root / "store.json"
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file, not a folder; choose another place with --store")
        if marker.exists():
            found = read_json(marker)
            version = found.get("format") if isinstance(found, dict) else None
            if version != FORMAT:
                raise StoreError(
                    f"the store {root} has format {version}, this mirembed reads format {FORMAT}; "
                    "use the version of mirembed that wrote it, or another --store"
                )

    def create(self) -> None:
        """Make the folder and its marker if they are not there."""
        marker = self.root / "store.json"
        if not marker.exists():
            from mirembed import __version__

            write_json(marker, {"format": FORMAT, "created_by": f"mirembed {__version__}"})

    @property
    def models(self) -> Path:
        """The folder of the models."""
        return self.root / "models"

    @property
    def runs(self) -> Path:
        """The folder of the evaluation runs."""
        return self.root / "runs"

    def audio(self, spec: Spec) -> Path:
        """Return where a dataset that synthesizes its audio keeps it, whatever the parameters."""
        return self.root / "audio" / slug(spec.name)

    def dataset(self, spec: Spec) -> FeatureStore:
        """Return the place of a dataset, which may not have been extracted yet."""
        return FeatureStore(self.root / "datasets" / slug(str(spec)))

    def datasets(self) -> list[FeatureStore]:
        """Return the datasets that were extracted into this store."""
        folders = sorted(path.parent for path in self.root.glob("datasets/*/dataset.json"))
        return [FeatureStore(folder) for folder in folders]

    def only_spec(self) -> Spec:
        """Return the spec of the only dataset of the store; of an empty store, ``demo``.

        Raises
        ------
        StoreError
            If there are several.
        """
        specs = [dataset.info().spec for dataset in self.datasets()]
        if len(specs) > 1:
            raise StoreError(f"the store {self.root} holds {', '.join(specs)}; say which with --dataset")
        return Spec.parse(specs[0]) if specs else Spec("demo")

    def find(self, spec: Spec | None) -> FeatureStore:
        """Return the dataset that the user means.

        Parameters
        ----------
        spec : Spec or None
            A bare name also finds the only dataset extracted with that name and some parameters. None: the only
            dataset of the store.

        Raises
        ------
        StoreError
            If there is none, or more than one.
        """
        stored = self.datasets()
        if spec is not None and (exact := self.dataset(spec)).exists:
            return exact
        specs = [dataset.info().spec for dataset in stored]
        named = [
            dataset
            for dataset, known in zip(stored, specs, strict=True)
            if spec is None or (not spec.parameters and Spec.parse(known).name == spec.name)
        ]
        if len(named) == 1:
            return named[0]
        listed = ", ".join(specs) or "nothing"
        wanted = "" if spec is None else f" --dataset {spec}"
        if not named:
            near = [] if spec is None else near_names(spec.name, [Spec.parse(known).name for known in specs], n=1)
            raise StoreError(
                f"the store {self.root} holds {listed}"
                + (f", not {spec}" if spec is not None else "")
                + (f"; did you mean {near[0]}? Otherwise" if near else ";")
                + f" run `mirembed extract{wanted}` first"
            )
        raise StoreError(f"the store {self.root} holds {listed}; say which with --dataset")


def slug(text: str) -> str:
    """Turn a spec into a folder's name, readable and without characters that file systems refuse.

    Different specs give different names: one that had to be changed ends in a digest of the original.
    """
    import hashlib

    clean = re.sub(r"[^\w.=+,-]+", "_", text)[:60]  # at most 240 bytes
    if clean == text:
        return clean
    return f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
