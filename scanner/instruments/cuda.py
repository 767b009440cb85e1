"""Why no CUDA device is usable: what is installed, what is missing, which library did not load.

Nothing here loads anything; `scanner.instruments.runtime` gathers the facts.
"""

import re
from collections.abc import Mapping

from scanner.sandbox.driver import NO_DEVICE
from scanner.values import frozen

# `onnxruntime.preload_dlls` prints this for each library; it prints nothing for cuDNN.
# A line with a path is about a package's file, after which the system's is tried by its name.
_FAILED = re.compile(
    r"^Failed to load (?P<library>[^/\\:]+?\.(?:so|dll)[\w.]*): (?P<reason>.+)$", re.MULTILINE
)
_OTHERWISE = "give the setting `device` the value 'cpu'"


@frozen
class Facts:
    """What bears on CUDA in an installation.

    Attributes:
        runtimes: Versions of the installed ONNX Runtime distributions, by name.
        built: Whether the ONNX Runtime that was imported has a CUDA provider.
        version: The CUDA that it was built for, such as "13.0"; empty where it does not say.
        printed: What ONNX Runtime printed while it loaded CUDA's libraries.
        driver: Why the driver's library cannot be loaded; None where it can be.
        cudnn: The same of cuDNN.
        error: What the driver answers when it is started: 0, or the number of its error.
        trial: Why a small model does not run on the GPU; empty where it does, or there is none.
    """

    runtimes: Mapping[str, str]
    built: bool
    version: str = ""
    printed: str = ""
    driver: str | None = None
    cudnn: str | None = None
    error: int = 0
    trial: str = ""


@frozen
class Obstacle:
    """Why no CUDA device is usable, and what helps, in words."""

    problem: str
    remedy: str


def failed_libraries(printed: str) -> dict[str, str]:
    """Return the libraries that ONNX Runtime says it could not load, and why."""
    return {
        found["library"]: found["reason"].strip().removeprefix(f"{found['library']}: ")
        for found in _FAILED.finditer(printed)
    }


def installed(facts: Facts) -> str:
    """Say what of CUDA is installed."""
    runtimes = ", ".join(f"{name} {version}" for name, version in facts.runtimes.items())
    if not facts.built:
        return f"not in this ONNX Runtime ({runtimes or 'of unknown origin'})"
    known = runtimes or "ONNX Runtime of unknown origin"
    return f"{known}, built with a CUDA provider{_for(facts.version)}"


def _for(version: str) -> str:
    return f" (CUDA {version})" if version else ""


def obstacle(facts: Facts, *, seen: bool = False) -> Obstacle:
    """Say why no device is usable, given that none is, or none beyond being `seen`."""
    if len(facts.runtimes) > 1:
        return Obstacle(
            problem="onnxruntime and onnxruntime-gpu are both installed, and overwrite each "
            "other's files",
            remedy=f"uninstall both, then install overactivation[gpu], or {_OTHERWISE}",
        )
    if not facts.built:
        return Obstacle(
            problem=f"CUDA is {installed(facts)}",
            remedy="install overactivation[gpu] in place of overactivation[cpu], on a machine with "
            f"an NVIDIA driver, or {_OTHERWISE}",
        )
    missing = failed_libraries(facts.printed)
    if facts.cudnn is not None:
        missing["cuDNN"] = facts.cudnn
    if missing:
        told = "; ".join(f"{library} ({reason})" for library, reason in missing.items())
        driver = "" if facts.driver is None else f"; nor does the NVIDIA driver ({facts.driver})"
        return Obstacle(
            problem=f"libraries of CUDA do not load: {told}{driver}",
            remedy=f"install overactivation[gpu] again, which brings them, or {_OTHERWISE}",
        )
    if facts.driver is not None:
        return Obstacle(
            problem=f"the NVIDIA driver does not load: {facts.driver}",
            remedy=f"install the driver on a machine with an NVIDIA GPU, or {_OTHERWISE}",
        )
    if facts.error not in {0, NO_DEVICE}:
        problem = f"the NVIDIA driver loads but does not start (cuInit: error {facts.error})"
        remedy = "check that nvidia-smi works on this machine"
    elif facts.trial:
        problem = f"no model runs on the GPU in the process that opens models ({facts.trial})"
        remedy = (
            "for models that you trust, turn on the setting `unconfined`, without which that "
            "process may lack a right"
        )
    elif seen:
        problem = "the libraries of CUDA and the NVIDIA driver load"
        remedy = "check that driver and GPU are new enough for this ONNX Runtime" + _for(
            facts.version
        )
    else:
        problem = "the libraries of CUDA and the NVIDIA driver load, but the driver sees no GPU"
        remedy = "check that nvidia-smi lists one and that CUDA_VISIBLE_DEVICES does not hide it"
    return Obstacle(problem=problem, remedy=f"{remedy}, or {_OTHERWISE}")
