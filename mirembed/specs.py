"""Specs, ``name:param=value,param=value``: how a plugin and its parameters are written everywhere."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirembed.errors import ParameterError, SpecError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_KEY = r"[^\W\d]\w*"
# A comma starts a new parameter only before "word=", so that values may hold commas.
_NEXT_PARAMETER = re.compile(rf",(?={_KEY}=)")


@dataclass(frozen=True)
class Spec:
    """A plugin's name and the parameters given for it, as text.

    Attributes
    ----------
    name : str
        Bare (``rbf``) or full (``mirembed-extra/rbf``).
    parameters : mapping of str to str
        Only those that were given.

    Examples
    --------
    >>> spec = Spec.parse("polynomial:d=3,c=1")
    >>> spec.name, spec.parameters
    ('polynomial', {'d': '3', 'c': '1'})
    >>> str(spec)
    'polynomial:c=1,d=3'
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        given = ",".join(f"{key}={self.parameters[key]}" for key in sorted(self.parameters))
        return f"{self.name}:{given}"

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a spec.

        Raises
        ------
        SpecError
            If the text is not ``name`` or ``name:param=value,param=value``.
        """
        name, colon, rest = text.partition(":")
        if not _NAME.fullmatch(name):
            raise SpecError(f"invalid plugin spec {text!r}; write name or name:param=value,param=value")
        parameters: dict[str, str] = {}
        for item in _NEXT_PARAMETER.split(rest) if colon else []:
            key, equals, value = item.partition("=")
            if not (equals and re.fullmatch(_KEY, key) and value):
                raise SpecError(f"{item!r} in {text!r} is not of the form param=value")
            if key in parameters:
                raise SpecError(f"{key!r} is given twice in {text!r}")
            parameters[key] = value
        return cls(name, parameters)


@dataclass(frozen=True)
class Parameter:
    """A keyword parameter of a factory."""

    name: str
    annotation: Any
    default: Any

    @property
    def type_name(self) -> str:
        """The annotation for display: ``float``, ``uniform | distance``."""
        return _type_name(self.annotation)

    @property
    def required(self) -> bool:
        """Whether a spec must give it."""
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        text = f"{self.name}: {self.type_name}"
        return text if self.required else f"{text} = {self.default}"


def parameters_of(factory: Callable[..., Any]) -> list[Parameter]:
    """Return the keyword parameters of a factory, in the order of its signature."""
    function = factory.func if isinstance(factory, functools.partial) else factory
    # Resolves strings and drops the metadata of Annotated, inside unions too.
    annotations = typing.get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    return [
        Parameter(p.name, annotations.get(p.name, str), p.default)
        for p in inspect.signature(factory).parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def bind(spec: Spec, factory: Callable[..., Any]) -> dict[str, Any]:
    """Convert the text of a spec to keyword arguments for a factory.

    Raises
    ------
    ParameterError
        If a parameter is unknown, missing, or its value has the wrong type; the message lists the valid parameters.

    Examples
    --------
    >>> def factory(gamma: float, c: int = 0): ...
    >>> bind(Spec.parse("polynomial:gamma=2"), factory)
    {'gamma': 2.0}
    """
    known = {parameter.name: parameter for parameter in parameters_of(factory)}
    valid = ", ".join(map(str, known.values())) or "none"
    arguments: dict[str, Any] = {}
    for name, text in spec.parameters.items():
        if name not in known:
            raise ParameterError(f"{spec.name} has no parameter {name!r}; its parameters: {valid}")
        try:
            arguments[name] = _coerce(text, known[name].annotation)
        except ValueError:
            expected = _type_name(known[name].annotation)
            raise ParameterError(
                f"invalid {name}={text} for {spec.name}; expected {expected}; its parameters: {valid}"
            ) from None
    for parameter in known.values():
        if parameter.required and parameter.name not in arguments:
            raise ParameterError(f"{spec.name} needs {parameter.name}=...; its parameters: {valid}")
    return arguments


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _coerce(text: str, annotation: Any) -> Any:
    """Convert text to the first alternative of an annotation that it fits; raise `ValueError` if it fits none."""
    for alternative in _alternatives(annotation):
        try:
            if alternative in (int, float, str, Path):
                return alternative(text)
            if typing.get_origin(alternative) is typing.Literal:
                return {str(choice): choice for choice in typing.get_args(alternative)}[text]
            if alternative is bool:
                return {"true": True, "false": False}[text.lower()]
            if alternative is types.NoneType:
                return {"none": None}[text.lower()]
        except (KeyError, ValueError):
            continue
    raise ValueError(text)


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    if len(_alternatives(annotation)) > 1:
        return " | ".join(_type_name(m) for m in _alternatives(annotation) if m is not type(None))
    return getattr(annotation, "__name__", str(annotation))


def near_names(name: str, known: Iterable[str], n: int = 2) -> list[str]:
    """Return up to ``n`` known names that begin with a name or are spelled like it, ignoring case.

    >>> near_names("COSIN", ["rbf", "cosine", "polynomial"])
    ['cosine']
    >>> near_names("acc", ["ccc", "accuracy"], n=1)
    ['accuracy']
    """
    by_folded, folded = {one.casefold(): one for one in known}, name.casefold()
    begun = [one for one in by_folded if len(folded) > 2 and one.startswith(folded)]
    near = dict.fromkeys([*begun, *difflib.get_close_matches(folded, by_folded, n=n)])
    return [by_folded[one] for one in near][:n]
