"""A value behaves as one of the standard frozen dataclasses."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from scanner.results import Rule
from scanner.settings import Settings
from scanner.values import UnfitError, from_json, frozen, to_json


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
