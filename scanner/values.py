"""Frozen values: dataclasses as `dataclass(frozen=True, kw_only=True)` makes them, without a compiler run for each.

The standard decorator writes and compiles its methods for each class, half a millisecond; thirty classes cost a scan
more than its model does. Here all classes share the same methods. Type checkers see the standard decorator.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**_options: bool) -> Callable[[type[T]], type[T]]:
        """Return the decorator; its options are there for type checkers, and always the same."""
        return _frozen


def _frozen(kind: type[T]) -> type[T]:
    made = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(kind)
    for method in (__init__, __repr__, __eq__, __hash__, __setattr__, __delattr__):
        setattr(made, method.__name__, method)
    return made


def __init__(self: Any, **given: Any) -> None:  # noqa: N807 - these are methods
    for field in dataclasses.fields(self):
        if field.name in given:
            content = given.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            content = field.default
        elif field.default_factory is not dataclasses.MISSING:
            content = field.default_factory()
        else:
            raise TypeError(f"{type(self).__name__}() lacks the argument {field.name!r}")
        object.__setattr__(self, field.name, content)
    if given:
        raise TypeError(f"{type(self).__name__}() has no argument {next(iter(given))!r}")
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def __repr__(self: Any) -> str:  # noqa: N807
    return f"{type(self).__qualname__}({', '.join(f'{name}={content!r}' for name, content in _contents(self))})"


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
