"""The root folder of a store: its format, and where everything is in it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from mirembed.errors import StoreError, StoreWriteError
from mirembed.features.info import FeaturesPart
from mirembed.provenance import versions
from mirembed.specs import Spec, near_names
from mirembed.store.datasets import DatasetStore
from mirembed.store.embeddings import StoredEmbeddings
from mirembed.store.features import INFO as FEATURES_INFO
from mirembed.store.features import FeatureShards
from mirembed.store.files import check_writable, read_json, write_json

FORMAT = 2
"""Version of the store's layout; a store of another version is refused."""


class Store:
    """A folder with features, datasets, embeddings, models and runs.

    Parameters
    ----------
    root : pathlib.Path
        May not exist yet; `create` makes it.

    Raises
    ------
    StoreError
        The folder holds a store of another version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._marker = root / "store.json"
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file, not a folder; choose a folder with --store")
        if self._marker.exists():
            content = read_json(self._marker)
            version = content.get("format") if isinstance(content, dict) else None
            if version != FORMAT:
                raise StoreError(
                    f"the store {root} has format {version}, this mirembed reads format {FORMAT}; use the version of "
                    "mirembed that wrote it, or another --store and run `mirembed extract` again"
                )

    @classmethod
    def writable(cls, root: Path) -> Store:
        """Return a store; refuse one that cannot be written, before any work is done.

        Raises
        ------
        StoreError
            It cannot be written, or is a store of another version.
        """
        try:
            check_writable(root / "store.json", "--store")
        except StoreWriteError:
            with contextlib.suppress(OSError):
                cls(root)  # a file in place of the store is what is wrong, then
            raise
        return cls(root)

    def create(self) -> None:
        """Make the folder and its marker unless they are there."""
        if not self._marker.exists():
            write_json(self._marker, {"format": FORMAT, "created_by": f"mirembed {versions()['mirembed']}"})

    @property
    def models(self) -> Path:
        """The folder of the models."""
        return self.root / "models"

    @property
    def runs(self) -> Path:
        """The folder of the evaluation runs."""
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        """The folder of everything that is rebuilt when missing."""
        return self.root / "cache"

    def audio(self, spec: Spec) -> Path:
        """Return where a dataset that synthesizes its audio keeps it, whatever its parameters."""
        return self.root / "audio" / slug(spec.name)

    def features(self, part: FeaturesPart) -> FeatureShards:
        """Return the frames by one features plugin, which may not have been extracted yet."""
        name = slug(str(part.plugin["name"]))
        return FeatureShards(self.root / "features" / f"{name}-{part.digest[:12]}")

    def all_features(self) -> list[FeatureShards]:
        """Return all features that have been extracted into this store."""
        return [FeatureShards(path.parent) for path in sorted(self.root.glob(f"features/*/{FEATURES_INFO}"))]

    def embeddings(self, model: str) -> StoredEmbeddings:
        """Return the embeddings that a model made; there may be none."""
        return StoredEmbeddings(self.root / "embeddings" / model)

    def all_embeddings(self) -> list[StoredEmbeddings]:
        """Return the embeddings of all models, whether these still exist or not."""
        folders = {path.parent for path in self.root.glob("embeddings/[!.]*/*.parquet")}
        return [StoredEmbeddings(folder) for folder in sorted(folders)]

    def dataset(self, spec: Spec) -> DatasetStore:
        """Return a dataset, which may not have been extracted yet."""
        return DatasetStore(self.root / "datasets" / slug(str(spec)))

    def datasets(self) -> list[DatasetStore]:
        """Return the datasets that have been extracted into this store."""
        return [DatasetStore(path.parent) for path in sorted(self.root.glob("datasets/*/dataset.json"))]

    def only_spec(self) -> Spec:
        """Return the spec of the only dataset of the store, or ``demo`` if the store is empty.

        Raises
        ------
        StoreError
            There are several.
        """
        return Spec.parse(self.find(None).info().spec) if self.datasets() else Spec("demo")

    def find(self, spec: Spec | None) -> DatasetStore:
        """Return the dataset that the user means.

        Parameters
        ----------
        spec : Spec or None
            A bare name also finds the only dataset extracted with that name and some parameters. None: the only
            dataset of the store.

        Raises
        ------
        StoreError
            There is none, or more than one.
        """
        if spec is not None and (exact := self.dataset(spec)).exists:
            return exact
        stored = self.datasets()
        specs = [dataset.info().spec for dataset in stored]
        found = [
            dataset
            for dataset, known in zip(stored, specs, strict=True)
            if spec is None or (not spec.parameters and Spec.parse(known).name == spec.name)
        ]
        if len(found) == 1:
            return found[0]
        datasets = "dataset" if len(specs) == 1 else "datasets"
        listed = f"the store {self.root} contains the {datasets} {', '.join(specs)}"
        if not specs:
            listed = f"the store {self.root} is empty"
        if found:
            raise StoreError(f"{listed}; choose one with --dataset")
        if spec is None:
            raise StoreError(f"{listed}; run `mirembed extract` first")
        near = near_names(spec.name, [Spec.parse(known).name for known in specs], n=1)
        hint = f"did you mean {near[0]}? Otherwise run" if near else "run"
        absent = f", not {spec}" if specs else ""
        raise StoreError(f"{listed}{absent}; {hint} `mirembed extract --dataset {spec}` first")


def slug(text: str) -> str:
    """Turn a spec into the name of a folder, readable and without characters that file systems reject.

    Different specs give different names: a name that had to be changed ends in a digest of the original.

    >>> slug("folder"), slug("rbf:gamma=2")
    ('folder', 'rbf_gamma=2-2056c451')
    """
    clean = re.sub(r"[^\w.=+,@-]+", "_", text)[:60]  # at most 240 bytes
    return clean if clean == text else f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def require_store(root: Path) -> None:
    """Refuse a folder without a store.

    Raises
    ------
    StoreError
        There is none.
    """
    if not any((root / name).exists() for name in ("store.json", "features", "datasets", "models", "runs")):
        raise StoreError(f"there is no store in {root}; create one with `mirembed extract`, or choose another --store")
