"""Does this ONNX model hide a backdoor?

    from overactivation import Settings, scan

    result = scan("model.onnx", references=["clean.onnx"], settings=Settings(images=200))
    print(result.verdict, result.reason)

`overactivation` is the name to import; this package is where the code lives. Importing either loads
nothing heavy: each name is fetched when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

_ROOMS = {
    "scanner.batch": ("lanes", "scan_many"),
    "scanner.cache": ("Cache",),
    "scanner.calibration": ("calibrate",),
    "scanner.errors": (
        "BaselineError", "DeviceError", "GraphError", "MalformedModelError", "ModelError",
        "NoGradientError", "NoLayerError", "NoLogitsError", "ScannerError", "UnsafeModelError",
        "UnsupportedModelError", "UsageError", "ValueNotFoundError", "WorkerCrashedError",
        "WorkerError", "WorkerTimeoutError",
    ),
    "scanner.judging.population": ("Baseline", "read_baseline", "write_baseline"),
    "scanner.pipeline": (
        "check", "diagnose", "diff", "judge", "layers", "measure", "rules", "scan",
    ),
    "scanner.repairs": ("repair",),
    "scanner.report.frame": ("results_frame",),
    "scanner.report.json": ("read_results", "write_results"),
    "scanner.results": ("Finding", "ScanResult", "Verdict"),
    "scanner.screening": ("InputFilter", "screen_inputs", "triggers_of"),
    "scanner.settings": ("Budget", "Device", "Noise", "Settings"),
}  # fmt: skip
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Baseline", "BaselineError", "Budget", "Cache", "Device", "DeviceError", "Finding",
    "GraphError", "InputFilter", "MalformedModelError", "ModelError", "NoGradientError",
    "NoLayerError", "NoLogitsError", "Noise", "ScanResult", "ScannerError", "Settings",
    "UnsafeModelError", "UnsupportedModelError", "UsageError", "ValueNotFoundError", "Verdict",
    "WorkerCrashedError", "WorkerError", "WorkerTimeoutError", "calibrate", "check", "diagnose",
    "diff", "judge", "lanes", "layers", "measure", "read_baseline", "read_results", "repair",
    "results_frame", "rules", "scan", "scan_many", "screen_inputs", "triggers_of",
    "write_baseline", "write_results",
]  # fmt: skip

if TYPE_CHECKING:
    from scanner.batch import lanes, scan_many
    from scanner.cache import Cache
    from scanner.calibration import calibrate
    from scanner.errors import (
        BaselineError,
        DeviceError,
        GraphError,
        MalformedModelError,
        ModelError,
        NoGradientError,
        NoLayerError,
        NoLogitsError,
        ScannerError,
        UnsafeModelError,
        UnsupportedModelError,
        UsageError,
        ValueNotFoundError,
        WorkerCrashedError,
        WorkerError,
        WorkerTimeoutError,
    )
    from scanner.judging.population import Baseline, read_baseline, write_baseline
    from scanner.pipeline import check, diagnose, diff, judge, layers, measure, rules, scan
    from scanner.repairs import repair
    from scanner.report.frame import results_frame
    from scanner.report.json import read_results, write_results
    from scanner.results import Finding, ScanResult, Verdict
    from scanner.screening import InputFilter, screen_inputs, triggers_of
    from scanner.settings import Budget, Device, Noise, Settings
else:  # a checker that saw this function would let every name pass

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'scanner' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
