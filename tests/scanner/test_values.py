"""A value behaves as one of the standard frozen dataclasses."""

import contextlib
import copy
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner import values
from scanner.results import Rule
from scanner.sandbox.endpoint import Endpoint
from scanner.settings import Settings
from scanner.values import (
    Base64,
    Count,
    Identifier,
    Most,
    Share,
    UnfitError,
    checked,
    from_json,
    frozen,
    to_json,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What the standard library makes."""

    name: str
    size: int = 3
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(self.size)


@frozen
class Ours:
    """The same of ours."""

    name: str
    size: int = 3
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(self.size)


KINDS: tuple[Any, ...] = (Standard, Ours)


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_its_fields_by_name(kind: Any) -> None:
    assert (kind(name="a").size, kind(name="a").notes, kind(name="a", size=5).size) == (3, {}, 5)
    assert kind(name="a").notes is not kind(name="a").notes
    for wrong in ({}, {"name": "a", "other": 1}):
        with pytest.raises(TypeError):
            kind(**wrong)
    with pytest.raises(TypeError):
        kind("a")
    with pytest.raises(ValueError, match="0"):
        kind(name="a", size=0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_cannot_be_changed(kind: Any) -> None:
    one = kind(name="a")
    for name in ("name", "other"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(one, name, "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.name


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_its_contents(kind: Any) -> None:
    one = kind(name="a", notes=())
    assert one == kind(name="a", notes=())
    assert one != kind(name="b", notes=())
    assert one != "a"
    assert hash(one) == hash(kind(name="a", notes=()))
    assert repr(one) == f"{kind.__name__}(name='a', size=3, notes=())"


def test_another_class_is_another_value() -> None:
    ours, standard = (kind(name="a") for kind in KINDS)
    assert ours != standard


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_replaced_copied_pickled_and_listed(kind: Any) -> None:
    one = kind(name="a")
    assert dataclasses.replace(one, size=9) == kind(name="a", size=9)
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own
    assert dataclasses.asdict(one) == {"name": "a", "size": 3, "notes": {}}
    assert [field.name for field in dataclasses.fields(kind)] == ["name", "size", "notes"]


def test_its_signature_shows_the_fields() -> None:
    shown, standard = inspect.signature(Ours), inspect.signature(Standard)
    assert list(shown.parameters) == list(standard.parameters)
    for name, parameter in shown.parameters.items():
        assert parameter.kind is standard.parameters[name].kind
        assert parameter.annotation == standard.parameters[name].annotation
    assert str(shown) == (
        "(*, name: str, size: int = 3, notes: collections.abc.Mapping[str, typing.Any] = {})"
    )
    assert inspect.signature(Settings).parameters["images"].default == 200


def test_a_signature_costs_nothing_before_it_is_asked_for() -> None:
    code = (
        "import sys, dataclasses; kept = sys.modules.pop('inspect')\n"
        "import scanner.settings; assert 'inspect' not in sys.modules\n"
        "import inspect; assert 'images' in inspect.signature(scanner.settings.Settings).parameters"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


RULE = Rule(id="r", name="R", summary="s", source="p")


@pytest.mark.parametrize(
    "data", [{"id": "r"}, {**to_json(RULE), "extra": 1}], ids=["missing field", "unknown field"]
)
def test_data_of_another_shape_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(Rule, data)


@pytest.mark.parametrize("data", ["x", ["x"], 1, None], ids=repr)
def test_data_without_fields_is_refused(data: object) -> None:
    with pytest.raises(UnfitError, match="not an object"):
        from_json(Rule, data)


@frozen
class Bounded:
    """A value of every kind of field."""

    id: Identifier = "a"
    count: Count = 0
    share: Share = 0.0
    figures: tuple[float, ...] = ()
    pair: tuple[int, float] = (0, 0.0)
    few: Annotated[tuple[int, ...], Most(2)] = ()
    size: int | str | None = None
    by_name: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    data: Base64 = ""
    anything: Any = None


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "content"),
    [
        *(("id", text) for text in ("", "../x", "/x", "a/b", "a\n", "x" * 65, "\x1b", 3)),
        *(("count", number) for number in (-1, 2**63, 1.0, True, None, "1", NAN)),
        *(("share", number) for number in (-0.1, 1.1, NAN, INFINITY, True, "1", None)),
        *(("figures", figures) for figures in ([NAN], [1, -INFINITY], [1e101], [True], "12")),
        *(("figures", figures) for figures in ([10**400, NAN], [NAN, 10**400], None, {"a": 1})),
        *(("pair", pair) for pair in ([1], [1, 2.0, 3], [1.5, 2.0], "ab", None)),
        *(("few", few) for few in ([1, 2, 3], [1, None])),
        *(("size", size) for size in [1.5, [], 2**64, True]),
        *(("by_name", mapping) for mapping in [[], {"a": NAN}, {"a": "b"}, {1: 1.0}]),
        *(("data", data) for data in ("A", "====", "AA==AA==", "AA=A", "a b=", None)),
        *(("anything", data) for data in (NAN, 10**30, [[INFINITY]], {"a": {"b": -INFINITY}})),
        ("anything", json.loads("[" * 20 + "]" * 20)),
        ("anything", {1}),
    ],
)  # fmt: skip
def test_what_is_out_of_type_or_bounds_is_refused_by_its_field(field: str, content: Any) -> None:
    with pytest.raises(UnfitError) as caught:
        from_json(Bounded, {field: content})
    assert caught.value.field.startswith(field)
    assert "\x1b" not in str(caught.value)


def test_what_is_within_bounds_comes_back() -> None:
    value = Bounded(
        id="not-the-file", count=2**63 - 1, share=1, figures=(1, -2.5, 1e100), pair=(1, 2.0),
        few=(1, 2), size="N", by_name={"a": None, "b": 1.5}, data="AAA=", anything={"x": [None, 1]},
    )  # fmt: skip
    assert from_json(Bounded, json.loads(json.dumps(to_json(value)))) == value
    assert checked(value) is value


def test_a_field_deep_inside_is_named() -> None:
    with pytest.raises(UnfitError, match=r"^\[1\]\.figures\[2\]: not a finite number$"):
        from_json(tuple[Bounded, ...], [{}, {"figures": [0.0, 1.0, NAN]}])


def test_a_long_text_is_cut_in_its_middle() -> None:
    read = from_json(tuple[str, ...], ["a" * 10**6 + "b"])[0]
    assert len(read) < 2**16 + 1
    assert (read[0], read[-1]) == ("a", "b")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_json_is_a_value_or_refused(data: Any) -> None:
    for kind in (Bounded, Settings, tuple[Bounded, ...], Mapping[str, Any]):
        with contextlib.suppress(UnfitError):
            json.dumps(to_json(from_json(kind, data)), allow_nan=False)


def test_every_type_that_crosses_a_pipe_can_be_read() -> None:
    from scanner import protocol  # noqa: PLC0415 - only here

    for endpoint in vars(protocol).values():
        if isinstance(endpoint, Endpoint):
            for kind in (endpoint.answer, endpoint.request):
                assert callable(values._reader(cast("Any", kind)))
