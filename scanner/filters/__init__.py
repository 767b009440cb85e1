"""The filters: published methods that tell from a model's answers whether one input is odd.

To add one: a file here, a row in `FILTERS`, a row in tests/scanner/filters/test_table.py, and a
section in docs/inputs.md. Filters do not import one another; what two of them need is an
instrument.
"""

import importlib
from collections.abc import Sequence

from scanner.instruments.filter import Filter
from scanner.instruments.scene import Scene

# Rule id, which is the module's name too, and class.
FILTERS = {
    "strip": "Strip",
    "transplant": "Transplant",
    "disturbance": "Disturbance",
    "detail": "Detail",
    "inverted": "Inverted",
    "scale_up": "ScaleUp",
}
_OF_TRIGGERS = frozenset({"inverted"})  # which have nothing to do without a trigger


def load(scene: Scene) -> tuple[Filter, ...]:
    """Return the filters that apply to a scene, in the order of the report."""
    names = [name for name in FILTERS if scene.triggers or name not in _OF_TRIGGERS]
    return tuple(_made(name, scene) for name in names)


def _made(name: str, scene: Scene) -> Filter:
    module = importlib.import_module(f"{__name__}.{name}")
    made: Filter = getattr(module, FILTERS[name])(scene)
    return made


def passes(filters: Sequence[Filter]) -> int:
    """Return how many images a model is shown for one input, the input itself included."""
    return 1 + sum(each.passes for each in filters)
