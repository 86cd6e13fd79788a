"""Specs: ``name:param=value,param=value``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirembed import hookspecs
from mirembed.errors import ParameterError, SpecError
from mirembed.specs import Spec, bind, parameters_of

names = st.from_regex(r"[A-Za-z0-9][\w.-]{0,5}(/[A-Za-z0-9][\w.-]{0,5})?", fullmatch=True)
keys = st.from_regex(r"[^\W\d]\w{0,2}", fullmatch=True) | st.sampled_from(["gamma", "labels", "C"])
values = st.text(st.sampled_from("ab=,:+/. é0") | st.characters(codec="utf-8"), min_size=1, max_size=8)


@st.composite
def written_specs(draw: st.DrawFn) -> str:
    """A spec as a user may type it: parameters in any order, values with any characters."""
    name = draw(names)
    parameters = draw(st.dictionaries(keys, values, max_size=4))
    return f"{name}:{','.join(f'{key}={value}' for key, value in parameters.items())}" if parameters else name


def factory(
    *,
    required: int,
    number: float = 1.0,
    count: int = 2,
    text: str = "a",
    flag: bool = False,
    folder: Path = Path("here"),
    choice: Literal["near", "far", 3] = "near",
    gamma: float | Literal["scale"] = "scale",
    limit: Optional[float] = None,  # noqa: UP045 - plugins may write it so
    untyped=None,
) -> None: ...


VALID = (
    "required: int, number: float = 1.0, count: int = 2, text: str = a, flag: bool = False, folder: Path = here, "
    "choice: near | far | 3 = near, gamma: float | scale = scale, limit: float = None, untyped: str = None"
)


def bound(text: str) -> dict[str, Any]:
    return bind(Spec.parse(f"plugin:{text}"), factory)


@given(written_specs())
def test_a_spec_survives_being_written_and_parsed(text):
    try:
        spec = Spec.parse(text)
    except SpecError:
        assume(False)  # a value that looks like a second occurrence of a parameter
    assert Spec.parse(str(spec)) == spec
    assert str(Spec.parse(str(spec))) == str(spec)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("rbf", Spec("rbf")),
        ("rbf:gamma=2", Spec("rbf", {"gamma": "2"})),
        ("mirembed-extra/rbf:gamma=2,c=1", Spec("mirembed-extra/rbf", {"gamma": "2", "c": "1"})),
        ("folder:labels=a,b.csv,target=x+y", Spec("folder", {"labels": "a,b.csv", "target": "x+y"})),
        ("folder:labels=C:/music/labels=1.csv", Spec("folder", {"labels": "C:/music/labels=1.csv"})),
    ],
)
def test_a_spec_is_a_name_and_its_parameters(text, spec):
    assert Spec.parse(text) == spec


def test_the_order_of_parameters_does_not_matter():
    assert str(Spec.parse("polynomial:d=3,c=1")) == str(Spec.parse("polynomial:c=1,d=3")) == "polynomial:c=1,d=3"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "''"),
        (":gamma=2", "':gamma=2'"),
        ("r b f", "'r b f'"),
        ("a/b/c", "'a/b/c'"),
        ("rbf:", "'' in 'rbf:'"),
        ("rbf:gamma", "'gamma' in 'rbf:gamma'"),
        ("rbf:gamma=", "'gamma=' in 'rbf:gamma='"),
        ("rbf:2=gamma", "'2=gamma' in 'rbf:2=gamma'"),
        ("rbf:gamma=1,gamma=2", "'gamma' is given twice"),
    ],
)
def test_the_error_about_a_malformed_spec_quotes_it(text, fault):
    with pytest.raises(SpecError) as error:
        Spec.parse(text)
    assert fault in str(error.value)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("required=7", "required", 7),
        ("required=1,number=2", "number", 2.0),
        ("required=1,number=1e-3", "number", 1e-3),
        ("required=1,text=a,b", "text", "a,b"),
        ("required=1,flag=TRUE", "flag", True),
        ("required=1,flag=false", "flag", False),
        ("required=1,folder=a/b.csv", "folder", Path("a/b.csv")),
        ("required=1,choice=far", "choice", "far"),
        ("required=1,choice=3", "choice", 3),
        ("required=1,gamma=0.5", "gamma", 0.5),
        ("required=1,gamma=scale", "gamma", "scale"),
        ("required=1,limit=2.5", "limit", 2.5),
        ("required=1,limit=none", "limit", None),
        ("required=1,untyped=2", "untyped", "2"),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(text, name, value):
    assert bound(text)[name] == value
    assert type(bound(text)[name]) is type(value)


def test_only_the_given_parameters_are_passed():
    assert bound("required=1") == {"required": 1}


@pytest.mark.parametrize(
    ("text", "fault", "expected"),
    [
        ("required=1,color=red", "'color'", VALID),
        ("number=2", "required=", VALID),
        ("required=1.5", "required=1.5", "expected int;"),
        ("required=1,number=big", "number=big", "expected float;"),
        ("required=1,flag=1", "flag=1", "expected bool;"),
        ("required=1,choice=middle", "choice=middle", "expected near | far | 3;"),
        ("required=1,gamma=auto", "gamma=auto", "expected float | scale;"),
        ("required=1,limit=much", "limit=much", "expected float;"),
    ],
)
def test_the_error_about_a_wrong_parameter_lists_the_valid_ones(text, fault, expected):
    with pytest.raises(ParameterError) as error:
        bound(text)
    for fact in (fault, expected, VALID):
        assert fact in str(error.value)
    assert "\n" not in str(error.value)


def test_the_error_about_a_factory_without_parameters_says_none():
    class Plain:
        """Takes nothing."""

    assert parameters_of(Plain) == []
    with pytest.raises(ParameterError, match=r"plain .*'gamma'.* none"):
        bind(Spec.parse("plain:gamma=1"), Plain)


def test_a_class_has_the_parameters_of_its_constructor():
    class Kernel:
        def __init__(self, gamma: float = 1.0, *rest: int, **more: int) -> None: ...

    assert [str(parameter) for parameter in parameters_of(Kernel)] == ["gamma: float = 1.0"]


def test_annotations_are_resolved_wherever_they_are_strings_or_carry_metadata():
    def factory(
        *,
        gamma: Annotated[float, "w"] = 1.0,
        limit: Optional["float"] = None,  # noqa: UP037, UP045 - plugins may write it so
        number: Annotated[int, []] = 0,  # metadata that cannot be hashed
    ) -> None: ...

    assert [str(parameter) for parameter in parameters_of(factory)] == [
        "gamma: float = 1.0",
        "limit: float = None",
        "number: int = 0",
    ]
    for made in (factory, functools.partial(factory, number=3)):
        arguments = bind(Spec.parse("factory:gamma=2,limit=0.5,number=4"), made)
        assert arguments == {"gamma": 2.0, "limit": 0.5, "number": 4}


def test_an_annotation_that_no_text_fits_is_a_parameter_error():
    def factory(*, gamma: [1] = 1) -> None: ...  # cannot be hashed

    with pytest.raises(ParameterError, match=r"gamma=2 .*\[1\]"):
        bind(Spec.parse("factory:gamma=2"), factory)


@pytest.mark.parametrize("annotation", ["int", "float", "str", "bool", "pathlib.Path", "Literal"])
def test_the_documentation_of_the_hooks_names_every_type(annotation):
    assert f"``{annotation}``" in hookspecs.__doc__
