"""Frozen values, and their JSON.

A value is a dataclass like those of `dataclass(frozen=True, kw_only=True)`. The standard decorator
writes and compiles the methods of each class, which takes half a millisecond; for forty classes
that would cost a scan more than its model does. Here all classes share the same methods, and
benchmarks/scan.py checks how long a scan takes to start.
"""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

T = TypeVar("T")


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(kind: type[T]) -> type[T]:
    """Return a class as a frozen dataclass whose arguments are named."""
    made = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(kind)
    for method in (__init__, __repr__, __eq__, __hash__, __setattr__, __delattr__):
        setattr(made, method.__name__, method)
    made.__signature__ = _Signature()  # type: ignore[attr-defined]  # read by inspect alone
    return made


class _Signature:
    """What `inspect.signature` says of a value's class: its fields, listed only when asked."""

    def __get__(self, _value: object, kind: type) -> Any:
        import inspect  # noqa: PLC0415 - takes as long to import as a value to read; for people only

        return inspect.Signature(
            [
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=_default(field, inspect.Parameter.empty),
                    annotation=field.type,
                )
                for field in dataclasses.fields(kind)
            ]
        )


def _default(field: dataclasses.Field[Any], none: Any) -> Any:
    """Return what a field holds if it is not given, or `none` if it must be given."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return none if field.default_factory is dataclasses.MISSING else field.default_factory()


def __init__(self: Any, **given: Any) -> None:  # noqa: N807 - these are methods
    for field in dataclasses.fields(self):
        if field.name in given:
            content = given.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            content = field.default
        elif field.default_factory is not dataclasses.MISSING:
            content = field.default_factory()
        else:
            raise TypeError(f"{type(self).__name__}() is missing the argument {field.name!r}")
        object.__setattr__(self, field.name, content)
    if given:
        raise TypeError(f"{type(self).__name__}() has no argument {next(iter(given))!r}")
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def __repr__(self: Any) -> str:  # noqa: N807
    contents = ", ".join(f"{name}={content!r}" for name, content in _contents(self))
    return f"{type(self).__qualname__}({contents})"


def __eq__(self: Any, other: object) -> bool:  # noqa: N807
    return _contents(self) == _contents(other) if type(other) is type(self) else NotImplemented


def __hash__(self: Any) -> int:  # noqa: N807
    return hash(_contents(self))


def __setattr__(_self: Any, name: str, _content: Any) -> None:  # noqa: N807
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(_self: Any, name: str) -> None:  # noqa: N807
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _contents(self: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


def to_json(value: Any) -> Any:
    """Return dataclasses, enums, mappings and sequences as plain JSON data."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(v) for v in value]
    return value


def from_json(kind: type[T], data: Any) -> T:
    """Rebuild a frozen value, or a tuple of them, from the data that `to_json` returned.

    Numbers and texts are taken as they are; what has fields or elements must have these.

    Raises:
        KeyError, TypeError, ValueError: The data is not that of a `kind`.
    """
    return cast("T", _reader(cast("Any", kind))(data))


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return a function that rebuilds a value of a type from JSON data.

    It is worked out once for each type, since a baseline holds thousands of values.
    """
    arguments = typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return functools.partial(
            _built, kind, {f.name: _reader(cast("Any", f.type)) for f in dataclasses.fields(kind)}
        )
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    if typing.get_origin(kind) is tuple:
        inner = _reader(arguments[0])
        return tuple if inner is _unchanged else lambda data: tuple(map(inner, data))
    options = [a for a in arguments if a is not types.NoneType]
    if typing.get_origin(kind) in (types.UnionType, typing.Union) and len(options) == 1:
        inner = _reader(options[0])
        return lambda data: None if data is None else inner(data)
    return _unchanged


def _unchanged(data: Any) -> Any:
    return data


def _built(kind: type, readers: Mapping[str, Callable[[Any], Any]], data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"expected the fields of {kind.__name__}, not {type(data).__name__}")
    unknown = data.keys() - readers.keys()
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)} for {kind.__name__}")
    return kind(**{name: readers[name](item) for name, item in data.items()})
