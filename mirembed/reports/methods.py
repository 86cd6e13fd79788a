"""What a run did, in the words of a paper's methods section, with the BibTeX entries of everything that it used.

The text is Pandoc's Markdown, with citations as ``[@key]`` and mathematics as ``$...$``; `to_latex` makes LaTeX of it.
Plugins describe themselves: see `mirembed.hookspecs`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirembed.compare.families import declared_kinds
from mirembed.config.approaches import FROM, Method
from mirembed.config.selection import Choice
from mirembed.datasets.catalog import card_of
from mirembed.errors import MirembedError
from mirembed.hookspecs import Card, Classification, Regression, Tags, Task
from mirembed.models.learners import exact_spec
from mirembed.progress import counted, joined
from mirembed.registry import Registry, plugin_code
from mirembed.registry.plugins import Kind
from mirembed.reports.citations import cited_keys, entries_of, shared_entries, to_latex
from mirembed.reports.comparisons import shown_parameters
from mirembed.runs.record import RunRecord
from mirembed.runs.scores import column_kind, column_names
from mirembed.specs import Spec
from mirembed.statistics.metrics import metric_named

_OPTIMIZERS = {
    "adadelta": "Adadelta [@zeiler2012]",
    "adam": "Adam [@kingma2015]",
    "adamw": "AdamW [@loshchilov2019]",
    "sgd": "stochastic gradient descent",
    "rmsprop": "RMSprop",
}
_SOFTWARE = {
    "torch": "PyTorch {} [@paszke2019]",
    "scikit-learn": "scikit-learn {} [@pedregosa2011]",
    "numba": "Numba {} [@lam2015]",
    "essentia": "Essentia {} [@bogdanov2013]",
    "numpy": "NumPy {} [@harris2020]",
    "scipy": "SciPy {} [@virtanen2020]",
}
_FEW = 8
"""At most so many classes or targets are named."""


@dataclass(frozen=True)
class MethodsText:
    """The methods of a run in words.

    Attributes
    ----------
    paragraphs : tuple of str
        Pandoc's Markdown.
    entries : mapping of str to str
        BibTeX entries by their keys, those that are cited.
    """

    paragraphs: tuple[str, ...]
    entries: Mapping[str, str]

    def to_markdown(self) -> str:
        """Return the text as Markdown, for ``pandoc --citeproc --bibliography references.bib``."""
        return "\n\n".join(self.paragraphs) + "\n"

    def to_latex(self) -> str:
        r"""Return the text as LaTeX, to be included with ``\input``."""
        needs = r"% cites references.bib; needs \bibliography{references} and \bibliographystyle{...}"
        return "\n\n".join([needs, *map(to_latex, self.paragraphs)]) + "\n"


def describe_methods(run: RunRecord, registry: Registry) -> MethodsText:
    """Describe the data, the methods, the evaluation and the software of a run.

    Parameters
    ----------
    run : RunRecord
    registry : Registry
        Plugins that are missing or fail are described by their recorded names and parameters.
    """
    described = _Plugins(registry, run.task)
    paragraphs = [
        _data(run, described),
        _embeddings(run, described),
        _predictions(run, described),
        _evaluation(run),
        _software(run, described),
    ]
    paragraphs = [text for text in paragraphs if text]
    known = {**_own_entries(run.configuration.get("versions", {}).get("mirembed", "")), **described.entries}
    cited = {key: known[key] for text in paragraphs for key in cited_keys(text) if key in known}
    return MethodsText(tuple(paragraphs), cited)


def bibliography(texts: Iterable[MethodsText]) -> str:
    """Return the BibTeX entries of texts, each once, sorted by key."""
    entries = {key: entry for text in texts for key, entry in text.entries.items()}
    return "\n\n".join(entries[key] for key in sorted(entries)) + "\n"


def _own_entries(version: str) -> dict[str, str]:
    """Return the shared entries, and that of mirembed."""
    lines = [
        "@misc{mirembed,",
        "  author = {{mirembed contributors}},",
        "  title  = {mirembed: Music Embeddings That Copy the Similarity Between Labels},",
        f"  note   = {{Version {version or 'unknown'}}}",
        "}",
    ]
    return {**shared_entries(), "mirembed": "\n".join(lines)}


class _Plugins:
    """Describes plugins as they describe themselves, and collects the entries that they cite."""

    def __init__(self, registry: Registry, task: Task) -> None:
        self._registry, self._task = registry, task
        self.entries: dict[str, str] = {}
        self.backends: set[str] = set()

    def card(self, spec: str) -> Card | None:
        """Return the card of a dataset, if it has one."""
        try:
            card = card_of(self._registry, Spec.parse(spec))
        except MirembedError:
            return None
        if card is not None:
            self.entries |= entries_of(card.citation)
        return card

    def __call__(self, kind: Kind, spec: str, plugin: Mapping[str, Any]) -> str:
        """Return a noun phrase for what a spec names."""
        phrase = citation = None
        with contextlib.suppress(MirembedError):
            created = self._registry.create(kind, exact_spec({**plugin, "spec": spec}))
            with plugin_code(f"the {kind} {spec} fails to describe itself"):
                self.backends.add(str(getattr(created, "backend", "")))
                phrase, citation = (getattr(created, name, None) for name in ("description", "citation"))
                phrase = phrase(self._task) if callable(phrase) else phrase
        if isinstance(citation, str):
            self.entries |= entries_of(citation)
        if isinstance(phrase, str) and phrase:
            return phrase
        parameters = [f"{name} = {value}" for name, value in shown_parameters(plugin).items() if value is not None]
        origin = f"{plugin.get('distribution', 'unknown')} {plugin.get('version', '')}".strip()
        return f"{_code(spec)} ({', '.join([*parameters, origin])})"


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """Return a text that a user chose without signs that mean something in Markdown here."""
    return re.sub(r"[`$*\[\]@]", "", text)


def _listed(texts: Sequence[str]) -> str:
    """Join phrases: ``a, b and c``, with semicolons if they contain commas.

    >>> _listed(["a", "b, or c", "d"])
    'a; b, or c; and d'
    """
    if len(texts) < 2 or not any("," in text for text in texts):
        return joined(texts)
    return f"{'; '.join(texts[:-1])}; and {texts[-1]}"


# ---- data -----------------------------------------------------------------------------------------------------------


def _data(run: RunRecord, described: _Plugins) -> str:
    configuration = run.configuration
    spec = configuration["dataset"]["spec"]
    card = described.card(spec)
    title = _code(spec) if card is None or not card.n_tracks else _plain(card.title)  # not of the user's own files
    keys = [] if card is None else list(entries_of(card.citation))
    cite = f" [{'; '.join(f'@{key}' for key in keys)}]" if keys else ""
    n_tracks, n_all = configuration["n_tracks"], 0 if card is None else card.n_tracks
    tracks = f"{n_tracks} of the {counted(n_all, 'track')}" if n_tracks < n_all else counted(n_tracks, "track")
    sentences = [f"The data are {tracks} of the dataset {title}{cite}, {_task(run)}."]
    if excluded := len(configuration["excluded"]):
        sentences.append(f"We excluded {counted(excluded, 'track')} with known faults.")
    used = [one for one in run.methods if one.features is not None]
    features = [configuration["features"][spec] for spec in dict.fromkeys(one.features for one in used)]
    if features:
        sentences.append(_features(features, described))
    if any(one.network is not None or one.approach.name == "stats" for one in used):
        sentences.append(_input(run, features))
    return " ".join(sentences)


def _features(features: Sequence[Mapping[str, Any]], described: _Plugins) -> str:
    """Describe each features once; if there are several, with the names that the tables use."""
    parts = {part["spec"]: part for one in features for part in one["parts"]}
    phrases = [
        described("features", spec, part["plugin"]) + (f" ({_code(spec)})" if len(parts) > 1 else "")
        for spec, part in parts.items()
    ]
    text = f"From the audio we computed {_listed(phrases)}."
    if stacked := [_code(one["spec"]) for one in features if len(one["parts"]) > 1]:
        text += f" In {_listed(stacked)}, their values are stacked frame by frame."
    return text


def _task(run: RunRecord) -> str:
    """Say how many classes, tags or targets there are, and name them unless there are many."""
    names = column_names(run.task)
    number = counted(len(names), column_kind(run.task))
    named = f" ({_listed([_plain(name) for name in names])})" if len(names) <= _FEW else ""
    kind = {
        Classification: "each labeled with one of",
        Tags: "each labeled with any number of",
        Regression: "annotated with",
    }[type(run.task)]
    return f"{kind} {number}{named}"


def _input(run: RunRecord, features: Sequence[Mapping[str, Any]]) -> str:
    configuration = run.configuration
    of = "the training tracks of each fold" if configuration["normalize"] == "training" else "all tracks of the dataset"
    text = f"Each value was standardized with its mean and standard deviation over the frames of {of}"
    framed = any(part["hop"] is not None for one in features for part in one["parts"])
    if framed and configuration["deltas"] is not False:
        text += ", and its first difference from frame to frame was appended"
    return text + "."


# ---- methods --------------------------------------------------------------------------------------------------------


def _embeddings(run: RunRecord, described: _Plugins) -> str:
    """Describe the networks, what they were trained for, and how."""
    trained = [method for method in run.methods if method.approach.trains]
    networks = dict.fromkeys(method.network for method in run.methods if method.network is not None)
    sentences = []
    if networks:
        found = run.configuration["networks"]
        phrases = [described("network", spec, found[spec]["plugin"]) for spec in networks]
        sentences.append(f"The embedding of a track was computed by {_listed(phrases)}.")
    approaches = list(dict.fromkeys(method.approach.name for method in run.methods))
    learned = [name for name in approaches if run.configuration["approaches"].get(name, {}).get("label_similarity")]
    if learned:
        sentences.append(_similarity_learning(run, learned, described))
    if "nn" in approaches or "fl" in approaches:
        losses = {Classification: "softmax cross-entropy", Tags: "binary cross-entropy", Regression: "squared error"}
        sentences.append(
            "As a baseline, the network was trained with a linear output layer to predict the labels; its loss was the "
            f"{losses[type(run.task)]}, summed over the batch."
        )
    if trained:
        sentences.append(_training(run, trained))
    return " ".join(sentences)


def _similarity_learning(run: RunRecord, learned: Sequence[str], described: _Plugins) -> str:
    vectors = {
        Classification: "one-hot vectors of the classes",
        Tags: "binary vectors of the tags",
        Regression: "targets scaled to [0, 1]",
    }[type(run.task)]
    text = (
        "For similarity learning [@jakubik2018], the network was trained so that the similarity of the embeddings of "
        "two tracks copies the similarity of their labels: the loss of a batch is "
        f"$\\sum_{{i,j}} (S(f_i, f_j) - S(a_i, a_j))^2$, where $f_i$ is the embedding of track $i$ and "
        f"$a_i$ its label vector ({vectors})."
    )
    phrases = []
    for name in learned:
        roles = run.configuration["approaches"][name]
        phrase, labels = (
            described("similarity", roles[role]["spec"], roles[role]) for role in ("similarity", "label_similarity")
        )
        phrases.append(phrase + ("" if phrase == labels else f", for labels {labels}") + f" ({_code(name)})")
    return f"{text} $S$ was {_listed(phrases)}."


def _training(run: RunRecord, trained: Sequence[Method]) -> str:
    configuration = run.configuration
    optimizer = Spec.parse(configuration["optimizer"])
    name = _OPTIMIZERS.get(optimizer.name, _code(optimizer.name))
    given = ", ".join(f"{key} = {value}" for key, value in optimizer.parameters.items() if key != "clip")
    clip = optimizer.parameters.get("clip", "inf")
    spec = trained[0].features
    framed = spec is None or configuration["features"][spec]["parts"][0]["hop"] is not None
    excerpt = (
        f", each with one excerpt of {configuration['excerpt']} consecutive frames, drawn anew in every epoch"
        if framed
        else ""
    )
    name += f" ({given})" if given else ""
    if clip != "inf":
        name += f", with gradients clipped to a norm of {clip} [@pascanu2013],"
    epochs, batch = counted(configuration["epochs"], "epoch"), counted(configuration["batch"], "track")
    text = f"Networks were trained with {name} for {epochs} in batches of {batch}{excerpt}."
    if (ensemble := configuration.get("ensemble", 1)) > 1:
        text += f" {ensemble} networks with different initial weights were trained, and their embeddings concatenated."
    return text


def _predictions(run: RunRecord, described: _Plugins) -> str:
    """Describe what makes the predictions, and the baselines without training."""
    sentences = []
    learners = [spec for spec, plugin in run.configuration["learners"].items() if plugin]
    if any(method.approach.learns for method in run.methods) and learners:
        phrases = dict.fromkeys(described("learner", spec, run.configuration["learners"][spec]) for spec in learners)
        sentences.append(f"Predictions were made from the embeddings of full tracks by {_listed([*phrases])}.")
    meanings = {
        "nn": "the predictions of the network's own output layer",
        "fl": "the embeddings of the network that was trained to predict the labels",
        "stats": "mean and standard deviation over time of the network's input, without a network",
        "untrained": "the embeddings of the network with its initial weights",
        "chance": {
            Classification: "the most frequent class of the training tracks",
            Tags: "the tags of most training tracks",
            Regression: "the mean of the training tracks",
        }[type(run.task)],
    }
    found = dict.fromkeys(method.approach.name for method in run.methods)
    named = [f"{_code(name)} stands for {meanings[name]}" for name in found if name in meanings]
    named += [f"{_code(name)} stands for the embeddings of a saved network" for name in found if name.startswith(FROM)]
    if named:
        sentences.append(f"In the tables, {_listed(named)}.")
    sentences += _combined(run)
    probable = [method for method in run.methods if _has_probabilities(run, method)]
    if any(method.approach.learns for method in probable):
        sentences.append(
            "Probabilities of learners were calibrated with Platt scaling [@platt1999; @lin2007] on inner folds of the "
            "training tracks."
        )
    if any(method.approach.name == "nn" for method in probable):
        output = "softmax" if isinstance(run.task, Classification) else "sigmoid"
        sentences.append(f"Probabilities of the network are the {output} of its outputs and were not calibrated.")
    return " ".join(sentences)


def _combined(run: RunRecord) -> list[str]:
    """Describe the combined methods, and what is averaged."""
    combined = [method for method in run.methods if method.approach.members]
    if not combined:
        return []
    phrases = [
        f"{_code(one.name)} averages the predictions of {_listed([_code(name) for name in one.approach.members])}"
        for one in combined
    ]
    averaged, predicted = {
        Classification: ("probabilities of each class", ", and the most probable class was predicted"),
        Tags: ("probabilities of each tag", ", and tags with a mean of at least 0.5 were predicted"),
        Regression: ("predictions of each target", ""),
    }[type(run.task)]
    weights = "with equal weights"
    if any(one.approach.stacked for one in combined):
        which = "" if all(one.approach.stacked for one in combined) else " for the stacked ones; otherwise equal"
        weights = f"with weights from inner folds of the training tracks [@wolpert1992; @breiman1996]{which}"
    return [f"{_listed(phrases)}.", f"Their {averaged} were averaged {weights}{predicted}."]


def _has_probabilities(run: RunRecord, method: Method) -> bool:
    predictions = run.predictions.get(method.name)
    return predictions is not None and predictions.probabilities is not None


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _evaluation(run: RunRecord) -> str:
    configuration = run.configuration
    sizes = f"{run.sizes.n_train:.0f} training tracks and {run.sizes.n_test:.0f} test tracks"
    sentences = [f"We evaluated on {_plain(run.describe_folds())}{_how(run)}, with {sizes} on average."]
    if run.n_groups and run.groups is None and not run.official:
        sentences.append("Tracks of one group (artist) may be on both sides of a split.")
    if configuration["normalize"] == "training":
        sentences.append("Everything was fitted and chosen on the training tracks of each fold alone.")
    if len(run.methods) > 1:
        sentences.append(_shared(run))
    if configuration["select"]:
        choices = [Choice.parse(text).name for text in configuration["select"]]
        inner = f"{configuration['inner_cv']} inner folds" if configuration["cv"] else "inner folds"
        chosen = [*dict.fromkeys(one.method for one in run.selection)]
        is_every = {method.name for method in run.methods if method.approach.learns} <= {*chosen}
        of = f" of {_listed([_code(name) for name in chosen])}" if chosen and not is_every else ""
        sentences.append(
            f"We chose {_listed([_code(name) for name in choices])}{of} in each fold by the mean "
            f"{metric_named(run.headline).label} over {inner} of its training tracks."
        )
    sentences.append(f"The main metric is {_measure(run)}.")
    if run.n_folds > 1:
        sentences.append(
            "Means over the folds have 95 % intervals with the variance of Nadeau and Bengio [@nadeau2003], which "
            "corrects for the overlap of the training sets."
        )
    units = "tracks" if configuration.get("bootstrap") != "groups" else "groups"
    sentences.append(f"Scores of all folds together have percentile bootstrap intervals over {units} [@efron1993].")
    if tests := _tests(run):
        sentences.append(tests)
    return " ".join(sentences)


def _shared(run: RunRecord) -> str:
    """Say what the methods have in common besides the folds."""
    inputs = [(method.features, method.network) for method in run.methods if method.approach.trains]
    if len(inputs) < 2:
        return "All methods shared the folds."
    if len(set(inputs)) == 1:
        which = "they" if len(inputs) == len(run.methods) else "those that were trained"
        return f"All methods shared the folds, and {which} also shared the excerpts and the initial weights."
    return (
        "All methods shared the folds; those with the same features and network also shared the excerpts and the "
        "initial weights."
    )


def _how(run: RunRecord) -> str:
    scheme = run.configuration["folds"]
    if run.official:
        return ""
    if scheme == "grouped":
        return ", with no group (artist) on both sides of a split"
    return (
        " (iterative stratification [@sechidis2011])" if scheme == "stratified" and isinstance(run.task, Tags) else ""
    )


def _measure(run: RunRecord) -> str:
    metric = metric_named(run.headline)
    name = metric.name_in_text
    return name if metric.column is None else f"{name}, the mean over the {metric.column}s"


def _tests(run: RunRecord) -> str:
    declared = run.comparisons
    n_tests = len(declared.primary) + len(declared.baselines)
    if not n_tests or run.n_folds < 2:
        return ""
    pairs = (
        f"every other method with {_code(declared.reference)}"
        if declared.reference
        else _listed([f"{_code(a)} with {_code(b)}" for a, b in declared.primary])
    )
    families = [len(family) for family in (declared.primary, declared.baselines) if family]
    kind = f"the family of {counted(families[0], 'test')}"
    if len(families) > 1:
        first, second = declared_kinds(run)
        kind = f"each of two families: {counted(families[0], 'test')} of {first}, and {families[1]} of {second}"
    return (
        f"Before training, we declared the comparison of {pairs}. Paired differences over the folds were tested with "
        "the corrected resampled $t$-test [@nadeau2003] at a significance level of 0.05, with Holm's "
        f"correction [@holm1979] in {kind}; effect sizes are Hedges' $g$ [@hedges1981]."
    )


def _software(run: RunRecord, described: _Plugins) -> str:
    versions: Mapping[str, str] = run.configuration.get("versions", {})
    used: dict[str, Callable[[], bool]] = {
        "numba": lambda: run.configuration.get("engine") == "numba",
        "essentia": lambda: any(one.startswith("essentia") for one in described.backends),
    }
    named = [f"mirembed {versions.get('mirembed', '')}".strip() + " [@mirembed]"]
    named += [f"Python {versions['python']}"] if "python" in versions else []
    named += [
        text.format(versions[name])
        for name, text in _SOFTWARE.items()
        if name in versions and used.get(name, lambda: True)()
    ]
    processor = run.configuration.get("processor", "")
    return f"The experiments were run with {_listed([_plain_but_cited(one) for one in named])}" + (
        f", on {_plain(processor)}." if processor else "."
    )


def _plain_but_cited(text: str) -> str:
    """Return the name of a program with its version, of which only the citation has signs that mean something."""
    name, bracket, rest = text.partition(" [@")
    return _plain(name) + bracket + rest
