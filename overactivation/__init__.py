"""Does this ONNX model hide a backdoor?

    from overactivation import Settings, scan

    result = scan("model.onnx", references=["clean.onnx"], settings=Settings(images=200))
    print(result.verdict, result.reason)

This is the name to import. The code lies in the package `scanner`, a name that another
distribution may own as well; `scan doctor` tells if one does. Importing this package loads nothing
heavy: each name is fetched when it is first used.
"""

from typing import TYPE_CHECKING, Any

import scanner

__all__ = scanner.__all__

if TYPE_CHECKING:
    from scanner import *  # noqa: F403 - exactly the names in __all__
else:  # a checker that saw this function would let every name pass

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'overactivation' has no attribute {name!r}")
        return getattr(scanner, name)


def __dir__() -> list[str]:
    return sorted(__all__)
