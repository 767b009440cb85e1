"""The detectors, in the order of the report.

To add one: a file here, a row in `FAMILY`, a row in tests/scanner/detectors/test_table.py, and a
section in docs/detectors.md. Another distribution may bring detectors too, in the entry-point group
`overactivation.detectors`: the name of the entry point is the rule id, its object the class.

A detector's module is loaded when the detector is asked for: gradients alone cost as much start-up
as NumPy. One of another distribution is loaded only where it is asked for by name, and, like all of
them, only inside the sandbox.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from scanner.errors import UsageError
from scanner.instruments.detector import Detector

GROUP = "overactivation.detectors"
# Rule id and class. In which order they are measured, `scanner.measuring.in_turn` says.
FAMILY = {
    "integrity": "Integrity",
    "graph_logic": "GraphLogic",
    "dormant": "Dormant",
    "diff": "Diff",
    "neural_cleanse": "NeuralCleanse",
    "data_free_inversion": "DataFreeInversion",
    "source_dependent": "SourceDependent",
    "universal_perturbation": "UniversalPerturbation",
    "universal_warp": "UniversalWarp",
    "patch_sweep": "PatchSweep",
    "wave_sweep": "WaveSweep",
    "mm_bd": "MmBd",
    "overactivation": "Overactivation",
    "layerwise": "Layerwise",
    "channel_lipschitz": "ChannelLipschitz",
    "head": "Head",
    "classifier": "Classifier",
    "invariance": "Invariance",
    "not-the-file": "Translation",
}
_MODULES = {"not-the-file": "translation"}  # the others' modules are called as their rules


def load(names: Sequence[str] = ()) -> tuple[Detector, ...]:
    """Return the detectors of these rule ids, in the order of the report; for none, all of ours.

    Those of other distributions come last, in the order of their names.

    Raises:
        UsageError: There is no such detector, or another distribution's cannot be loaded.
    """
    own = [rule for rule in FAMILY if not names or rule in names]
    others = dict.fromkeys(name for name in names if name not in FAMILY)
    return (*map(_own, own), *map(_other, others))


def _own(rule: str) -> Detector:
    module = importlib.import_module(f"{__name__}.{_MODULES.get(rule, rule)}")
    detector: Detector = getattr(module, FAMILY[rule])()
    return detector


def known() -> tuple[str, ...]:
    """Return the rule ids of all detectors, those of other distributions last; loads none."""
    return (*FAMILY, *_others())


def _others() -> dict[str, Any]:
    # Only for a detector that is not of this package: the import costs as much as a small model.
    from importlib import metadata  # noqa: PLC0415

    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def _other(name: str) -> Detector:
    found = _others()
    if name not in found:
        raise _unknown(name, [*FAMILY, *found])
    try:
        detector: Detector = found[name].load()()
    except Exception as error:
        raise UsageError(
            f"the detector {name!r} cannot be loaded ({type(error).__name__}: {error})",
            remedy="repair or remove the package that brings it",
        ) from error
    if detector.rule.id != name:
        raise UsageError(
            f"the detector {name!r} calls itself {detector.rule.id!r}",
            remedy="name its entry point after its rule id",
        )
    return detector


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    import difflib  # noqa: PLC0415 - only for a name that is misspelt

    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return UsageError(f"there is no detector {name!r}", remedy=remedy)
