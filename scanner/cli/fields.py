"""What an option is: a field of an option class, and what the field fills.

From the field come the command's parameter, its panel in the help, the setting that it fills, and
the words that stand for that setting in sentences (`scanner.cli.wording`).
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args

import typer

from scanner.cli import policy
from scanner.settings import Settings

COMPARE = "Compare with"
REGISTRY = "Many models"
MEASURE = "What to measure"
IMAGES = "Images and range"
SEARCH = "Search"
LIMITS = "Limits"
OUTPUT = "Output"
DISPLAY = "Display"
PANELS = (COMPARE, REGISTRY, MEASURE, IMAGES, SEARCH, LIMITS, OUTPUT, DISPLAY)


class Call:
    """What a call of `scan` takes beside its settings: `references`, `baseline`, `evidence`.

    With the baseline goes `baseline_sha256`, which pins its file.
    """


class Fills:
    """What an option fills.

    Args:
        name: A field of `of`.
        of: `Settings`, `Limits`, or `Call` for what the command itself passes on.
        read: Makes the value from the option's name and what was typed.
    """

    def __init__(
        self, name: str, of: type = Settings, *, read: Callable[[str, Any], Any] | None = None
    ) -> None:
        self.name = name
        self.of = of
        self.read = read or (lambda _, typed: typed)


def option(panel: str, *flags: str, **more: Any) -> Any:
    """Return what Typer knows of an option: its panel, its flags, its environment variable."""
    variable = policy.ENVIRONMENT + flags[0].removeprefix("--").replace("-", "_").upper()
    return typer.Option(*flags, rich_help_panel=panel, envvar=variable, show_envvar=False, **more)


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one parameter for each field of the option classes in its signature.

    Typer builds a command from a function's parameters. This writes them: a parameter `options:
    ScanOptions` becomes one parameter per option, in the order of the panels.
    """
    options: dict[str, Any] = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        options[parameter.name] = kind
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=field.type,
                default=inspect.Parameter.empty if _is_required(field) else field.default,
            )
            for field in dataclasses.fields(kind)
        ]
    parameters.sort(key=lambda parameter: _panel(parameter.annotation))

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        gathered = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in options.items()
        }
        command(**given, **gathered)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def flag(field: "dataclasses.Field[Any]") -> str:
    """Return the option that an option class's field is."""
    # In an annotation, Typer keeps the first flag where a default would stand.
    return str(_info(field).default)


def help_of(field: "dataclasses.Field[Any]") -> str:
    """Return what the help says of the option that an option class's field is."""
    return _info(field).help or ""


def _info(field: "dataclasses.Field[Any]") -> "typer.models.OptionInfo":
    parts = get_args(field.type)
    return next(part for part in parts if isinstance(part, typer.models.OptionInfo))


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING


def _panel(annotation: Any) -> int:
    """Return where in the help a parameter stands; arguments come first."""
    panels = [getattr(part, "rich_help_panel", None) for part in get_args(annotation)]
    return next((PANELS.index(panel) for panel in panels if panel in PANELS), -1)


def filling(kind: type) -> Iterator[tuple[str, str, Fills]]:
    """Yield field, option and what it fills for every option of a class that fills something."""
    for field in dataclasses.fields(kind):
        parts = get_args(field.type)
        for fills in parts:
            if isinstance(fills, Fills):
                yield field.name, flag(field), fills


def filled(options: Any, of: type) -> dict[str, Any]:
    """Return what the options fill in `Settings`, `Limits` or `Call`; what was not typed is absent.

    Raises:
        UsageError: An option's value makes no sense.
    """
    return {
        fills.name: fills.read(flag, typed)
        for name, flag, fills in filling(type(options))
        if fills.of is of and (typed := getattr(options, name)) not in (None, [])
    }
