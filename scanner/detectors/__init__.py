"""The detectors, in the order of the report. To add one: a file here, a row in `FAMILY`, a row in the test table.

A detector's module is loaded when the detector is asked for: gradients alone cost as much start-up
as NumPy.
"""

import importlib
from collections.abc import Collection

from scanner.instruments.detector import Detector

# Rule id and class; the module is called as the rule. Those that read the file come first: a model
# that never ends may cost what comes after them.
FAMILY = {
    "integrity": "Integrity",
    "graph_logic": "GraphLogic",
    "neural_cleanse": "NeuralCleanse",
    "mm_bd": "MmBd",
    "overactivation": "Overactivation",
    "layerwise": "Layerwise",
    "channel_lipschitz": "ChannelLipschitz",
    "head": "Head",
    "not-the-file": "Translation",  # last: it checks what the others measured
}
_MODULES = {"not-the-file": "translation"}  # where the module is not called as the rule


def load(names: Collection[str] = ()) -> tuple[Detector, ...]:
    """Return the detectors of these rule ids, or all of them for none, in the order of the report."""
    chosen = [(rule, kind) for rule, kind in FAMILY.items() if not names or rule in names]
    return tuple(
        getattr(importlib.import_module(f"{__name__}.{_MODULES.get(rule, rule)}"), kind)()
        for rule, kind in chosen
    )
