"""Approaches and methods: how predictions are made, and which of them share a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mirembed.errors import SpecError
from mirembed.progress import joined
from mirembed.specs import Spec, near_names

NETWORK_BASELINES = ("nn", "fl")
"""Both train a network to predict labels: ``nn`` uses its predictions, ``fl`` gives its embeddings to a learner."""

UNTRAINED_BASELINES = ("chance", "stats", "untrained")
"""What a trained network has to beat: no features, statistics of its input over time, an untrained network."""

FROM = "from-"
"""Before the name of a model: the approach that uses its network without training it."""

_BASELINES = {
    "nn": "a network trained to predict the labels, and its own predictions",
    "fl": "the embeddings of the network that nn trains, given to a learner",
    "chance": "no audio: the most frequent class, the majority for each tag, or the mean of each target",
    "stats": "mean and standard deviation of the features over time, given to a learner: no network",
    "untrained": "the embeddings of a network with random weights, given to a learner",
}

Training: TypeAlias = tuple[str | None, str | None, str]
"""Features, network and what it is trained for: methods with the same training share it."""


@dataclass(frozen=True)
class Approach:
    """A way to make predictions: ``nn``, ``fl``, similarity learning, a baseline, a saved network, or a combination.

    Attributes
    ----------
    name : str
        As typed: ``nn``, ``fl``, ``rbf-sl``, ``rbf:gamma=2-sl``, ``chance``, ``stats``, ``untrained``; of a saved
        network, ``from-`` and the name of its model; of a combined method, its own name.
    similarity : Spec or None
        Compares embeddings; None for the baselines.
    label_similarity : Spec or None
        Compares labels; None for the baselines.
    model : str or None
        The model whose network and normalization are used as they are: a folder, or a name in the store.
    members : tuple of str
        Of a combined method: the names of the methods whose predictions it averages; otherwise empty.
    stacked : bool
        Whether inner folds of the training tracks determine the weights of the members; otherwise they are equal.
    """

    name: str
    similarity: Spec | None = None
    label_similarity: Spec | None = None
    model: str | None = None
    members: tuple[str, ...] = ()
    stacked: bool = False

    @classmethod
    def parse(cls, text: str, label_similarity: Spec | None = None) -> Approach:
        """Read an approach.

        >>> Approach.parse("rbf:gamma=2-sl").similarity
        Spec(name='rbf', parameters={'gamma': '2'})

        Raises
        ------
        SpecError
            If it is neither a baseline nor a similarity followed by ``-sl``.
        """
        baselines = NETWORK_BASELINES + UNTRAINED_BASELINES
        if text in baselines:
            return cls(text)
        if not text.endswith("-sl"):
            near = near_names(text, baselines, n=1)
            hint = f"did you mean {near[0]}? Expected" if near else "expected"
            raise SpecError(
                f"unknown approach {text!r}: {hint} {', '.join(baselines)}, or a similarity followed by -sl, such as "
                "rbf-sl or rbf:gamma=2-sl"
            )
        similarity = Spec.parse(text.removesuffix("-sl"))
        return cls(f"{similarity}-sl", similarity, label_similarity or similarity)

    @classmethod
    def of_model(cls, model: str, similarity: Spec | None = None) -> Approach:
        """Return the approach that gives the embeddings of a saved network to a learner.

        >>> Approach.of_model("mirembed-store/models/demo-rbf-sl").name
        'from-demo-rbf-sl'

        Parameters
        ----------
        model : str
            Its folder, or its name in the store.
        similarity : Spec or None
            What the network learned, if that is known.
        """
        return cls(f"{FROM}{Path(model).name}", similarity, model=model)

    def with_parameters(
        self, similarity: Mapping[str, str], label_similarity: Mapping[str, str], *, labels_follow: bool
    ) -> Approach:
        """Return the approach with other parameters of its similarities.

        >>> Approach.parse("rbf-sl").with_parameters({"gamma": "2"}, {}, labels_follow=True).name
        'rbf:gamma=2-sl'

        Parameters
        ----------
        similarity, label_similarity : mapping of str to str
            The parameters that change.
        labels_follow : bool
            Whether labels are compared as embeddings are, because the user did not say otherwise.
        """
        if self.similarity is None or self.label_similarity is None:
            return self
        changed = Spec(self.similarity.name, {**self.similarity.parameters, **similarity})
        labels = changed if labels_follow else self.label_similarity
        labels = Spec(labels.name, {**labels.parameters, **label_similarity})
        return Approach(f"{changed}-sl", changed, labels)

    def explain(self) -> str:
        """Say in a line what the approach is.

        >>> Approach.parse("rbf-sl").explain()
        'embeddings whose similarity (rbf) copies that of the labels, given to a learner'
        """
        if self.model is not None:
            return "the embeddings of a saved network, which is not trained here, given to a learner"
        if self.members:
            weights = "weights from inner folds" if self.stacked else "equal weights"
            return f"the mean of the predictions of {joined(self.members)}, with {weights}"
        if self.similarity is None:
            return _BASELINES[self.name]
        labels = "" if self.label_similarity in (None, self.similarity) else f" ({self.label_similarity})"
        return f"embeddings whose similarity ({self.similarity}) copies that of the labels{labels}, given to a learner"

    @property
    def training(self) -> str:
        """What a network is trained for: approaches with the same value, such as ``nn`` and ``fl``, share a network."""
        if self.name in NETWORK_BASELINES:
            return "baseline"
        if self.model is not None or self.similarity is None:
            return self.name
        return f"{self.similarity} | {self.label_similarity}"

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return self.name not in UNTRAINED_BASELINES and self.model is None and not self.members

    @property
    def learns(self) -> bool:
        """Whether a learner makes the predictions."""
        return self.name not in ("nn", "chance") and not self.members

    @property
    def takes_features(self) -> bool:
        """Whether it takes ``--features``: ``chance`` needs none, and saved networks and members have their own."""
        return self.name != "chance" and self.model is None and not self.members

    @property
    def takes_network(self) -> bool:
        """Whether it takes ``--network``; ``untrained`` does too."""
        return self.takes_features and self.name != "stats"


@dataclass(frozen=True)
class Method:
    """One row of a table of results: an approach with the features, the network and the learner that it uses.

    Attributes
    ----------
    name : str
        ``APPROACH+LEARNER@NETWORK@FEATURES``; each part but the first only where there are several to tell apart.
    features : str or None
        None for ``chance``, which has none. A saved network has its model's, which are known once the model is read.
    network : str or None
        None for ``stats`` and ``chance``, and for a saved network.
    approach : Approach
    learner : Spec or None
        None for approaches without a learner: ``nn``, ``chance``. A combined method has none of the three.
    """

    name: str
    features: str | None
    network: str | None
    approach: Approach
    learner: Spec | None

    @property
    def training(self) -> Training:
        """Identifies the embeddings: methods with the same value share one training."""
        return self.features, self.network, self.approach.training

    @property
    def training_name(self) -> str:
        """`training` as text, for the names of files."""
        return self.approach.training + self.told_apart

    @property
    def label(self) -> str:
        """The name without the learner: ``APPROACH@NETWORK@FEATURES``."""
        return self.approach.name + self.told_apart

    @property
    def told_apart(self) -> str:
        """The end of the name, ``@NETWORK@FEATURES``; each part only where there are several to tell apart."""
        with_learner = f"{self.approach.name}+{self.learner}"
        return self.name.removeprefix(with_learner if self.name.startswith(with_learner) else self.approach.name)


def cross(
    features: Sequence[str], networks: Sequence[str], approaches: Iterable[Approach], learners: Sequence[Spec]
) -> tuple[Method, ...]:
    """Cross every approach with every learner, network and features that it takes.

    >>> svm, knn = Spec("svm"), Spec("knn")
    >>> [method.name for method in cross(["logmel"], ["gru"], [Approach("nn"), Approach("fl")], [svm, knn])]
    ['nn', 'fl+svm', 'fl+knn']
    >>> approaches = [Approach("fl"), Approach("stats"), Approach("chance")]
    >>> [method.name for method in cross(["logmel", "chroma"], ["gru"], approaches, [svm])]
    ['fl@logmel', 'fl@chroma', 'stats@logmel', 'stats@chroma', 'chance']
    """

    def apart(sign: str, value: str | Spec | None, several: Sequence[object]) -> str:
        return f"{sign}{value}" if value is not None and len(several) > 1 else ""

    return tuple(
        Method(
            approach.name + apart("+", learner, learners) + apart("@", network, networks) + apart("@", one, features),
            one,
            network,
            approach,
            learner,
        )
        for approach in approaches
        for learner in (learners if approach.learns else [None])
        for network in (networks if approach.takes_network else [None])
        for one in (features if approach.takes_features else [None])
    )


def columns(methods: Sequence[Method]) -> dict[str, list[str]]:
    """Return what tells methods apart in a table, by the heading of a column: an entry for each method.

    Their names, unless they differ in network or features; then a column for each part in which some differ.

    >>> columns(cross(["logmel"], ["gru"], [Approach("fl"), Approach("chance")], [Spec("svm")]))
    {'approach': ['fl', 'chance']}
    >>> columns(cross(["logmel", "chroma"], ["gru"], [Approach("fl"), Approach("chance")], [Spec("svm")]))
    {'approach': ['fl', 'fl', 'chance'], 'features': ['logmel', 'chroma', '']}
    """
    parts: dict[str, list[Spec | str | None]] = {
        "learner": [method.learner for method in methods],
        "network": [method.network for method in methods],
        "features": [method.features for method in methods],
    }
    several = {name: values for name, values in parts.items() if len(set(map(str, values)) - {"None"}) > 1}
    if not several.keys() & {"network", "features"}:
        return {"method" if "learner" in several else "approach": [method.name for method in methods]}
    shown = {name: ["" if value is None else str(value) for value in values] for name, values in several.items()}
    return {"approach": [method.approach.name for method in methods], **shown}


def by_training(methods: Iterable[Method]) -> list[tuple[Method, ...]]:
    """Group methods by the training that they share; combined methods have none."""
    groups: dict[Training, list[Method]] = {}
    for method in methods:
        if not method.approach.members:
            groups.setdefault(method.training, []).append(method)
    return [tuple(group) for group in groups.values()]


def learners_of(methods: Iterable[Method]) -> list[Spec]:
    """Return the learners of methods, each once."""
    return list({str(one.learner): one.learner for one in methods if one.learner is not None}.values())
