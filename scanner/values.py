"""Frozen values, and their JSON.

A value is a dataclass like those of `dataclass(frozen=True, kw_only=True)`. The standard decorator
writes and compiles the methods of each class, which takes half a millisecond; for forty classes
that would cost a scan more than its model does. Here all classes share the same methods, and
benchmarks/scan.py checks how long a scan takes to start.
"""

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, TypeVar, cast

T = TypeVar("T")

_LONGEST_REPR = 120  # characters of one field


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(kind: type[T]) -> type[T]:
    """Return a class as a frozen dataclass whose arguments are named."""
    made = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(kind)
    for method in (__init__, __repr__, __eq__, __hash__, __setattr__, __delattr__):
        if method is not __repr__ or "__repr__" not in vars(kind):  # a large value has its own
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
    names, defaults, factories = _declared(cast("Any", type(self)))
    made = {name: factory() for name, factory in factories if name not in given}
    content = {**defaults, **made, **given}
    if content.keys() != names:
        unknown = next((name for name in given if name not in names), None)
        if unknown is not None:
            raise TypeError(f"{type(self).__name__}() has no argument {unknown!r}")
        missing = next(name for name in names if name not in content)
        raise TypeError(f"{type(self).__name__}() is missing the argument {missing!r}")
    vars(self).update(content)
    if hasattr(self, "__post_init__"):
        self.__post_init__()


@functools.cache
def _declared(
    kind: Any,
) -> tuple[AbstractSet[str], Mapping[str, Any], Sequence[tuple[str, Callable[[], Any]]]]:
    """Return the fields' names, their defaults, and their factories.

    Once a class, as a scan makes thousands of values. The names keep their order.
    """
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    return (
        dict.fromkeys(f.name for f in fields).keys(),
        {f.name: f.default for f in fields if f.default is not missing},
        [(f.name, f.default_factory) for f in fields if f.default_factory is not missing],
    )


def __repr__(self: Any) -> str:  # noqa: N807
    contents = ", ".join(f"{name}={content!r}" for name, content in _contents(self))
    return f"{type(self).__qualname__}({contents})"


def brief(value: Any, *names: str) -> str:
    """Return a value's `repr` with some fields only, and of these what is not the default."""
    shown = [
        f"{field.name}={_cut(repr(content))}"
        for field in dataclasses.fields(value)
        if field.name in names
        and (content := getattr(value, field.name)) != _default(field, dataclasses.MISSING)
    ]
    return f"{type(value).__qualname__}({', '.join(shown)})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REPR else f"{text[: _LONGEST_REPR - 3]}..."


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


_AS_IT_IS = frozenset({str, int, float, bool, types.NoneType})
"""Types of which nearly all values are, and which are JSON data already."""


def to_json(value: Any) -> Any:
    """Return dataclasses, enums, mappings and sequences as plain JSON data."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: to_json(getattr(value, name)) for name in _declared(cast("Any", type(value)))[0]
        }
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(v) for v in value]
    return value


# What JSON data may hold wherever no closer bound is declared. A text beyond the bound is cut:
# names are a model's own, and may be as long as its file. Anything else beyond one is refused.
LONGEST_TEXT = 2**16  # characters
LARGEST_NUMBER = 1e100  # so that sums and products of numbers are numbers
LARGEST_INTEGER = 2**63 - 1
DEEPEST = 16  # levels of lists and mappings in data of no declared type


class UnfitError(ValueError):
    """Data is not that of a type.

    Args:
        problem: What is wrong with it, in words of ours: nothing of the data is quoted.
        field: Which part of it, such as `suspect.measurements[3].rule`; empty for the whole.
    """

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.problem = problem
        self.field = field

    def inside(self, outer: str) -> "UnfitError":
        """Return the same error, of a field of something larger."""
        gap = "." if self.field and not self.field.startswith("[") else ""
        return UnfitError(self.problem, f"{outer}{gap}{self.field}")


class Within(typing.NamedTuple):
    """In an annotation: the lowest and highest number allowed."""

    low: float
    high: float


class Matching(typing.NamedTuple):
    """In an annotation: the form that a whole text must have, and its most characters."""

    pattern: str
    longest: int


class Most(typing.NamedTuple):
    """In an annotation: the most elements."""

    elements: int


Count = Annotated[int, Within(0, LARGEST_INTEGER)]
Index = Annotated[int, Within(0, 2**31 - 1)]
Share = Annotated[float, Within(0.0, 1.0)]
# Of a rule or an observation: names made by this program or by a detector's author, never by a
# model. Evidence files bear them.
Identifier = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_-]*", 64)]
Sha256 = Annotated[str, Matching("[0-9a-f]{64}", 64)]
# The length is asked first, 4,096 characters at a time: by fours it takes twenty times as long.
Base64 = Annotated[
    str,
    Matching(
        r"(?=(?:[A-Za-z0-9+/=]{4096})*(?:[A-Za-z0-9+/=]{4}){0,1023}$)[A-Za-z0-9+/]*={0,2}", 2**26
    ),
]

_Read = Callable[[Any], Any]


def from_json(kind: type[T], data: Any) -> T:
    """Rebuild a frozen value, or a tuple of them, from the data that `to_json` returned.

    The data may be hostile. Each part must be of its declared type, within the bounds that the
    annotation declares (`Within`, `Matching`, `Most`) and those of this module; numbers are finite.

    Raises:
        UnfitError: The data is not that of a `kind`.
    """
    return cast("T", _reader(cast("Any", kind))(data))


def checked(value: T) -> T:
    """Return a frozen value if it would survive a trip through JSON.

    Raises:
        UnfitError: A part of it is not of its declared type, or out of bounds.
    """
    from_json(type(value), to_json(value))
    return value


@functools.cache
def _reader(kind: Any) -> _Read:
    """Return a function that rebuilds a value of a type from JSON data.

    It is worked out once for each type, since a baseline holds thousands of values.

    Raises:
        TypeError: JSON data is never read as such a type.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        readers = {f.name: _reader(cast("Any", f.type)) for f in dataclasses.fields(kind)}
        return functools.partial(_built, kind, readers)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return functools.partial(_member, {member.value: member for member in kind})
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return functools.partial(_record, {name: _reader(hint) for name, hint in hints.items()})
    return _reader_of_parts(kind, typing.get_origin(kind), typing.get_args(kind))


def _reader_of_parts(kind: Any, origin: Any, arguments: tuple[Any, ...]) -> _Read:
    """Return the reader of a type that is made of others."""
    if origin is Annotated:
        return _bounded(arguments[0], arguments[1:])
    if origin is tuple:
        return _sequence(arguments)
    if origin is Mapping:
        return functools.partial(_mapping, _reader(arguments[1]))
    if origin not in (types.UnionType, typing.Union):
        raise TypeError(f"JSON data is never read as {kind!r}")
    options = [_reader(argument) for argument in arguments if argument is not types.NoneType]
    read = options[0] if len(options) == 1 else functools.partial(_one_of, options)
    return functools.partial(_optional, read) if types.NoneType in arguments else read


def _bounded(kind: Any, bounds: Sequence[Any]) -> _Read:
    """Return the reader of an annotated type."""
    bound = next(b for b in bounds if isinstance(b, Within | Matching | Most))
    if isinstance(bound, Matching):
        return functools.partial(_matching, bound.longest, _whole(bound.pattern))
    if isinstance(bound, Within):
        return functools.partial(_within, _reader(kind), bound)
    return functools.partial(_counted, _reader(kind), bound)


def _whole(pattern: str) -> Callable[[str], object]:
    """Return a check for texts of a form, whose expression is compiled when it is first needed."""

    @functools.cache
    def expression() -> Any:
        import re  # noqa: PLC0415 - as above

        return re.compile(pattern)

    return lambda text: expression().fullmatch(text)


def _matching(longest: int, fits: Callable[[str], object], data: Any) -> str:
    if not isinstance(data, str) or len(data) > longest or not fits(data):
        raise UnfitError("not a text of the form that is needed")
    return data


def _within(read: _Read, bound: Within, data: Any) -> Any:
    value = read(data)
    if not bound.low <= value <= bound.high:
        raise UnfitError("a number out of bounds")
    return value


def _counted(read: _Read, bound: Most, data: Any) -> Any:
    if isinstance(data, list | tuple | dict) and len(data) > bound.elements:
        raise UnfitError(f"more than {bound.elements} elements")
    return read(data)


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise UnfitError("not a text")
    if len(data) <= LONGEST_TEXT:
        return data
    half = (LONGEST_TEXT - 1) // 2
    return f"{data[:half]}…{data[-half:]}"


def _integer(data: Any) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise UnfitError("not an integer")
    if not -LARGEST_INTEGER - 1 <= data <= LARGEST_INTEGER:
        raise UnfitError("an integer of more than 64 bits")
    return data


def _number(data: Any) -> float:
    if not isinstance(data, float | int) or isinstance(data, bool):
        raise UnfitError("not a number")
    # Not a number is not within these bounds either.
    if not -LARGEST_NUMBER <= data <= LARGEST_NUMBER:
        raise UnfitError("not a finite number")
    return data


def _truth(data: Any) -> bool:
    if not isinstance(data, bool):
        raise UnfitError("neither true nor false")
    return data


def _nothing(data: Any) -> None:
    if data is not None:
        raise UnfitError("something where nothing is expected")


def _anything(data: Any, depth: int = 0) -> Any:
    """Read data of no declared type: plain JSON, finite and not too deep."""
    if depth > DEEPEST:
        raise UnfitError("nested too deeply")
    if isinstance(data, str):
        return _text(data)
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int):
        return _integer(data)
    if isinstance(data, float):
        return _number(data)
    if isinstance(data, list | tuple):
        return type(data)(_anything(item, depth + 1) for item in data)
    if isinstance(data, Mapping):
        return {_text(name): _anything(item, depth + 1) for name, item in data.items()}
    raise UnfitError("not JSON data")


_PLAIN: dict[Any, _Read] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _truth,
    types.NoneType: _nothing,
    Any: _anything,
    object: _anything,
}


def _member(members: Mapping[Any, Any], data: Any) -> Any:
    if not isinstance(data, str | int) or isinstance(data, bool) or data not in members:
        raise UnfitError("not one of the known words")
    return members[data]


def _sequence(arguments: Sequence[Any]) -> _Read:
    readers = [_reader(argument) for argument in arguments if argument is not Ellipsis]
    if Ellipsis not in arguments:
        return functools.partial(_fixed, readers)
    return functools.partial(_elements, readers[0])


def _fixed(readers: Sequence[_Read], data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple) or len(data) != len(readers):
        raise UnfitError(f"not a list of {len(readers)}")
    return tuple(read(item) for read, item in zip(readers, data, strict=True))


def _elements(read: _Read, data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise UnfitError("not a list")
    if read is _number and _all_numbers(data):
        return tuple(data)
    elements: list[Any] = []
    try:
        for item in data:
            elements.append(read(item))  # noqa: PERF401 - so that an error knows its place
    except UnfitError as error:
        raise error.inside(f"[{len(elements)}]") from None
    return tuple(elements)


def _all_numbers(data: Sequence[Any]) -> bool:
    """Whether a list holds numbers within bounds: in few calls, since profiles are long."""
    return not data or (
        {*map(type, data)} <= {float, int}
        and min(data) >= -LARGEST_NUMBER
        and max(data) <= LARGEST_NUMBER
        and not math.isnan(sum(data))  # which is smaller than nothing, and larger
    )


def _mapping(read: _Read, data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise UnfitError("not an object")
    return {_text(name): read(item) for name, item in data.items()}


def _optional(read: _Read, data: Any) -> Any:
    return None if data is None else read(data)


def _one_of(readers: Sequence[_Read], data: Any) -> Any:
    """Read data by the first reader that takes it; a complaint is the first one's."""
    complaint: UnfitError | None = None
    for read in readers:
        try:
            return read(data)
        except UnfitError as error:
            complaint = complaint or error
    raise complaint or UnfitError("not of any type")


def _fields(readers: Mapping[str, _Read], data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise UnfitError("not an object")
    found = {}
    for name, item in data.items():
        if name not in readers:
            raise UnfitError("an unknown field")
        try:
            found[name] = readers[name](item)
        except UnfitError as error:
            raise error.inside(name) from None
    return found


def _record(readers: Mapping[str, _Read], data: Any) -> dict[str, Any]:
    found = _fields(readers, data)
    if len(found) < len(readers):
        raise UnfitError("a field is missing")
    return found


def _built(kind: type, readers: Mapping[str, _Read], data: Any) -> Any:
    found = _fields(readers, data)
    try:
        return kind(**found)
    except (TypeError, ValueError) as error:
        raise UnfitError(str(error)) from error
